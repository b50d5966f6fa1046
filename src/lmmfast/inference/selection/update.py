"""The fit of a changed model: another formula, other data, another criterion."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ...data.design import Given
from ...effects import is_custom
from ...errors import DataError, FitError, LmmWarning, UnusedContrastsWarning, silenced, warn
from ...formula.plan import plan_of
from ...formula.update import updated
from ...sources.given import design_from
from ..refits import model_by

if TYPE_CHECKING:
    from ...data.design import Design
    from ...engine.free import Free
    from ...engine.model import Model
    from ...engine.options import Options
    from ...fit import Fit
    from ...formula.column import Column

AnyFit = TypeVar("AnyFit", bound="Fit")


class AsBefore:
    """The value of an argument that was not given: what the fit was given."""

    def __repr__(self) -> str:
        return "as before"


AS_BEFORE = AsBefore()


def update(
    fit: AnyFit,
    change: str | None,
    given: Given,
    options: Options,
    fixed: Any = AS_BEFORE,
    other: dict[str, Any] | None = None,
) -> AnyFit:
    """The fit of a changed model, as ``LMMFit.update`` documents it; what is given may be as
    before. other: what else is another, of a generalized model."""
    if fit.design.recipe is None or fit.design.recipe.memory.patsy:
        how = "lmer(formula, data)" if fit.design.recipe else "LMM.from_arrays(...)"
        raise FitError(
            "update() changes formulas as lmer reads them, and this fit was made in another way: "
            f"fit anew with {how}"
        )
    if any(map(is_custom, fit.design.terms)):
        raise FitError("update() does not know covariances of your own: fit anew with covariance=")
    formula = fit.formula if change is None else updated(fit.formula, change)
    now = _given(fit.design, given)
    asked: Any = given
    if asked.relationship is AS_BEFORE:
        now = now._replace(relationship=_still_there(formula, now.relationship))
    family = (other or {}).get("family", fit.family)
    kind = None if family is None else family.response
    before = asked.contrasts is AS_BEFORE  # those of factors that are gone were not asked for now
    with silenced(UnusedContrastsWarning) if before else nullcontext():
        design = design_from(formula, *now[:5], kind, *now[5:])
    if given.data is AS_BEFORE:
        _note_changes(fit.design, design)
    model = model_by(fit.model.with_design(design, **other or {}), options.reml)
    options.free = _free_before(fit, model) if fixed is AS_BEFORE else model.holding(fixed)
    return fit.remade(model.minimize(options), design, model)


def _free_before(fit: Fit, model: Model) -> Free | None:
    """What was held or tied, as far as the changed model has these parameters."""
    if fit.estimates.free is None:
        return None
    before, now = fit.model.theta_names, model.theta_names
    if len({*before}) < len(before) or len({*now}) < len(now):
        raise FitError(
            "parameters of theta were held or tied, and several have one name: write "
            "fit.update(..., fixed=...)"
        )
    free = fit.estimates.free.at([before.index(name) if name in before else None for name in now])
    moves = free.nz == len(now) and not free.fixed.any() and (free.basis.sum(axis=1) == 1).all()
    return None if moves and free.sigma is None else free


def _given(design: Design, asked: Given) -> Given:
    """What the new fit is given; DataError where what was given before is not known."""
    before = design.given
    if asked.data is not AS_BEFORE:
        values = (
            _before(design, name) if new is AS_BEFORE else new
            for name, new in zip(Given._fields[1:], asked[1:], strict=True)
        )
        return Given(asked.data, *values)
    if before is None or before.data is None:
        raise DataError(
            "this fit does not know its data (it was made of cross-products, by refit(), or read "
            "from a file or a pickle): write fit.update(..., data=...)"
        )
    pairs = zip(asked, before, strict=True)
    return Given(*(old if new is AS_BEFORE else new for new, old in pairs))


def _before(design: Design, name: str) -> Any:
    """An argument for other data: a column's name, or contrasts; values are of the old rows."""
    sums, given = design.sums, design.given
    value = None if given is None else getattr(given, name)
    has = {"weights": sums.is_weighted, "offset": sums.has_offset}.get(name, True)
    if name in ("dispersion", "residual") and (given is not None or design.residual is None):
        return value
    if name == "offset" and has:
        recipe = design.recipe
        has = recipe is None or recipe.offset is not None or recipe.offset_is_array
    known = name in ("contrasts", "relationship") and given is not None
    if not has or isinstance(value, str) or known:
        return value
    raise DataError(
        f"the {name} of this fit are not known for other data: write fit.update(..., {name}=...)",
        variable=name,
    )


def _still_there(formula: str, relationship: Any) -> Any:
    """Relationships of grouping factors that a formula still has; None: there are none."""
    groups = {bar.factor for bar in plan_of(formula).formula.random}
    kept = {group: own for group, own in (relationship or {}).items() if group in groups}
    return kept or None


def _note_changes(old: Design, new: Design) -> None:
    """A warning where the data that the fit refers to have changed since."""
    if not (old.is_held and new.is_held) or not np.array_equal(old.rows, new.rows):
        return
    changed = [
        name
        for name, column in old.variables.items()
        if name in new.variables and not _same(column, new.variables[name])
    ]
    if _is_same_response(old, new) and not np.array_equal(old.y, new.y):
        changed.insert(0, old.response)
    if changed:
        what = f"the data have changed since the fit, in {', '.join(changed)}"
        warn(LmmWarning(f"{what}: the new fit is of what they are now", variable=changed[0]))


def _is_same_response(old: Design, new: Design) -> bool:
    """Whether y should be the same: a binomial's is the number of successes of its trials."""
    if old.response != new.response or old.outcome != new.outcome:
        return False
    if old.outcome is None or old.outcome.kind != "binomial":
        return True
    one, other = (np.ones(d.n) if d.weights is None else d.weights for d in (old, new))
    return np.array_equal(one, other)


def _same(one: Column, other: Column) -> bool:
    """Whether two columns have the same values."""
    if one.numeric != other.numeric:
        return False
    if one.numeric:
        a, b = np.asarray(one.values), np.asarray(other.values)
        return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")
    if one.codes is None or other.codes is None:
        return True
    return one.labels == other.labels and np.array_equal(one.codes, other.codes)
