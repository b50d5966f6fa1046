"""The design of what `lmer` is given, whatever it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.design import Design, Given, build


def design_from(
    formula: Any,
    data: Any,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    relationship: Mapping[str, Any] | None = None,
    kind: str | None = None,
    dispersion: str | None = None,
    residual: str | None = None,
) -> Design:
    """The design of what `lmer` is given: a frame, a source that is streamed, cross-products.

    `kind`: of the response of a generalized model (see `Outcome`), whose rows are kept.
    `dispersion` and `residual`: as `lmer` has them.
    """
    given = Given(data, weights, offset, contrasts, relationship, dispersion, residual)
    usual = type(data).__module__.partition(".")[0] in ("pandas", "polars") or type(data) is dict
    if usual and isinstance(formula, str) and type(data).__name__ != "LazyFrame":
        try:
            how = {"weights": weights, "offset": offset, "contrasts": contrasts}
            more: dict[str, Any] = {"kind": kind, "dispersion": dispersion, "residual": residual}
            made = build(formula, data, **how, **more, relationship=relationship)
        except MemoryError as error:
            raise MemoryError(
                f"no memory for the columns of {formula!r} ({error}): files and lists of frames "
                "are read in chunks, as in lmer(formula, 'trials.parquet')"
            ) from error
        return made.made_of(given)
    from .streamed import any_design

    structure = dispersion, residual
    made = any_design(formula, data, weights, offset, contrasts, kind, relationship, structure)
    return made if data is None else made.made_of(given)
