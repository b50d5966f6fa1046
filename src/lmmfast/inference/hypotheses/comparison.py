"""Fits of the same rows side by side: what may be compared, and likelihood-ratio tests.

References
----------
Self & Liang (1987), *JASA* 82 (variances on the boundary).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables as _tables
from ...errors import DataError, FitError
from ..refits import by_likelihood
from .nesting import kept_columns, nesting
from .regression import Regression, comparable_fit

if TYPE_CHECKING:
    from ...data.design import Design

EQUAL = 1e-5  # difference of deviances that is none: ten times what certified fits leave open


@dataclass(frozen=True, eq=False)
class Comparison:
    """Fits by one criterion to the same rows in the same order, by their number of parameters."""

    fits: tuple[Any, ...]  # Fit or Regression
    names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def criterion(self) -> str:
        """By what the fits were made, for titles: "REML" or "maximum likelihood"."""
        return criterion_name(self.fits[0])

    @property
    def models(self) -> tuple[str, ...]:
        """Their names and formulas, for the head of a table; families where they differ."""
        families = [_family(fit) for fit in self.fits]
        said = families if len(set(families)) > 1 else [""] * len(families)
        return tuple(
            f"{name}: {_tables.formula_text(fit.formula)}{_structure(fit)}{family}"
            for name, fit, family in zip(self.names, self.fits, said, strict=True)
        )

    def test(self, small: int, large: int) -> tuple[tuple[float, float, float], list[str]]:
        """Chisq, Df and p of two fits, NaN where there is no test, and what to say about them."""
        pair = f"{self.names[large]} against {self.names[small]}"
        return _ratio_test(self.fits[small], self.fits[large], pair)


def compared(fits: Sequence[Any], refit: bool, names: Sequence[str] | None) -> Comparison:
    """The fits as they can be compared.

    DataError where they differ in the response or the rows, FitError where criteria cannot be
    compared, TypeError for what is no fit.
    """
    own = [f"m{i + 1}" for i in range(len(fits))] if names is None else [str(n) for n in names]
    if len(own) != len(fits) or len(set(own)) != len(own):
        raise ValueError(f"names must be {len(fits)} different names, one for each fit: {own}")
    taken = [comparable_fit(fit) for fit in fits]
    if all(isinstance(fit, Regression) for fit in taken):
        raise TypeError("one of the fits at least must be one of lmer")
    orders, said = _orders(taken, own)
    taken, notes = _comparable(taken, own, refit, orders)
    order = sorted(range(len(taken)), key=lambda i: taken[i].n_params)
    return Comparison(tuple(taken[i] for i in order), tuple(own[i] for i in order), (*said, *notes))


def _structure(fit: Any) -> str:
    """What a model has besides its formula."""
    residual = getattr(fit.design, "residual", None)
    return "" if residual is None else f" (residuals: {residual.text})"


def _family(fit: Any) -> str:
    """The distribution and link of a generalized fit."""
    family = getattr(fit, "family", None)
    return "" if family is None else f" ({family.name}, {family.link.name})"


def criterion_name(fit: Any) -> str:
    """By what the fit was made, for titles."""
    return "REML" if fit.reml else "maximum likelihood"


# ---- the same rows -------------------------------------------------------------------------------


def _orders(fits: Sequence[Any], names: Sequence[str]) -> tuple[list[Any], list[str]]:
    """For each fit where the rows of the first one are among its rows (None: in the same order),
    and what to say; DataError when they differ in the response or the rows."""
    first = fits[0].design
    orders: list[Any] = [None]
    for fit, name in zip(fits[1:], names[1:], strict=True):
        orders.append(_order(first, fit.design, f"{names[0]} and {name}"))
    other = [name for name, order in zip(names, orders, strict=True) if order is not None]
    which = ", ".join(other)
    return orders, [f"{which}: rows in another order, compared by their labels"] * bool(other)


def _order(first: Design, own: Design, pair: str) -> Any:
    """Where the rows of the first design are in another, None where they are in the same order."""
    if own.n != first.n:
        missing = sorted({**own.dropped, **first.dropped})
        hint = f" (rows were dropped for {', '.join(missing)})" if missing else ""
        rows = f"{first.n} and {own.n} rows{hint}: fit both to the rows that both can use"
        raise DataError(f"{pair} were fitted to {rows}")
    if not own.is_held or not first.is_held:  # sums of the response and of its squares
        moments = own.sums.response_moments(), first.sums.response_moments()
        if not np.allclose(*moments, rtol=1e-9, atol=0):
            raise _other_response(own, first, pair, "their means or variances differ")
        return None
    order = _by_labels(first.index, own.index)
    y = own.y if order is None else own.y[order]
    other = np.flatnonzero(y != first.y)
    if len(other):
        if np.array_equal(np.sort(own.y), np.sort(first.y)):
            raise DataError(
                f"{pair} have the same values of {own.response!r} in another order, and no labels "
                "that say which row is which: fit both to the rows in the same order",
                variable=own.response,
                rows=other[:10].tolist(),
            )
        what = f"they differ in {len(other)} of {len(own.y)} rows"
        raise _other_response(own, first, pair, what, other[:10].tolist())
    if order is None and own.n_rows == first.n_rows and not np.array_equal(own.rows, first.rows):
        raise DataError(f"{pair} were fitted to different rows of the data")
    return order


def _by_labels(first: Any, own: Any) -> Any:
    """Where rows with these labels are, when the same labels stand in another order; else None."""
    if first is None or own is None or first is own or len(first) != len(own):
        return None
    if first.equals(own) or not (first.is_unique and own.is_unique):
        return None
    order = own.get_indexer(first)
    return None if (order < 0).any() else order


def _arranged(fit: Any, order: Any) -> Any:
    """The fit with its rows in another order, to be compared row by row."""
    if order is None:
        return fit
    design = fit.design
    if getattr(design, "residual", None) is not None:
        raise FitError(
            "fits with a residual structure are compared with fits of the same data in the same "
            "order of the rows"
        )
    w, offset = (None if v is None else v[order] for v in (design.weights, design.offset))
    sums = replace(design.sums, y=design.y[order], weights=w, offset=offset, positions=order)
    terms = tuple(term.with_rows(term.codes[order], term.z[order]) for term in design.terms)
    own = replace(design, sums=sums, terms=terms, fixed=design.fixed.taken(order))
    if isinstance(fit, Regression):
        fit.design = own
        return fit
    return replace(fit, design=own)


def _other_response(
    own: Design, first: Design, pair: str, what: str, rows: Sequence[int] = ()
) -> DataError:
    responses = f"{first.response!r} and {own.response!r}"
    message = f"{pair} have different responses, {responses}: {what}"
    return DataError(message, variable=own.response, rows=rows)


def _comparable(
    given: Sequence[Any], names: Sequence[str], refit: bool, orders: Sequence[Any]
) -> tuple[list[Any], list[str]]:
    """Fits by one criterion that can be compared, their rows in the same order."""
    fits = [fit if not (refit and fit.reml) else by_likelihood(fit) for fit in given]
    fits = [_arranged(fit, order) for fit, order in zip(fits, orders, strict=True)]
    reml = [fit.reml for fit in given]
    if refit and any(reml):
        which = ", ".join(name for name, one in zip(names, reml, strict=True) if one)
        note = f"{which}: refitted by maximum likelihood (instead of REML)"
        return fits, [note]
    if not any(reml):
        return fits, []
    if not all(reml):
        raise FitError("some fits are by REML, others by maximum likelihood: use refit=True")
    if not all(fit.design.is_held for fit in fits):
        raise FitError(
            "REML criteria can only be compared when the fixed effects are the same, and rows of a "
            "stream are not in memory to tell: use refit=True"
        )
    first = kept_columns(fits[0])
    for fit, name in zip(fits[1:], names[1:], strict=True):
        own = kept_columns(fit)
        if own.shape != first.shape or not np.allclose(own, first, rtol=1e-10, atol=0):
            raise FitError(
                f"REML criteria of {names[0]} and {name} cannot be compared: their fixed effects "
                "differ, or are coded differently; use refit=True"
            )
    return fits, ["REML criteria are compared: the models have the same fixed effects"]


def _ratio_test(small: Any, large: Any, pair: str) -> tuple[tuple[float, float, float], list[str]]:
    """Chisq, Df and p of two fits, and what to say about them."""
    df = large.n_params - small.n_params
    chisq = small.objective - large.objective
    if df == 0:
        return (np.nan, 0, np.nan), [f"{pair}: equally many parameters, so there is no test"]
    found = nesting(small, large)
    notes = [f"{pair}: {found.note}"] if found.note else []
    if found.reason:
        note = f"{pair}: no p-value, the models are not nested: {found.reason}"
        return (chisq, df, np.nan), [note]
    error = math.hypot(small.objective_se, large.objective_se)
    if error > 0:
        notes.append(
            f"{pair}: criteria are estimated (storage='iterative'): Chisq is known to {error:.2g} "
            "or better (one standard error)"
        )
    if chisq < -EQUAL - 4 * error:
        notes.append(
            f"{pair}: the smaller model has the higher likelihood, so the larger one is at another "
            "optimum or was not fitted to the end"
        )
    if found.boundary:
        notes.append(
            f"{pair}: {_at_boundary(small, large, found.where)} in the smaller model, on the "
            "boundary: the p-value is conservative (too large)"
        )
    return (max(chisq, 0.0), df, chi2_tail(chisq, df)), notes


def _at_boundary(small: Any, large: Any, where: str) -> str:
    """What is on the boundary of the larger model."""
    one, two = (getattr(fit, "family", None) for fit in (small, large))
    if one is None or two is None or one.core_name == two.core_name:
        return where
    return "there is no overdispersion"


def chi2_tail(chisq: float, df: int) -> float:
    """Upper tail of chi-squared; all of it is at zero without degrees of freedom."""
    from scipy.special import chdtrc

    return float(chdtrc(df, max(chisq, 0.0)) if df else chisq <= 0)
