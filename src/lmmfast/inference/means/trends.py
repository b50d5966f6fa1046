"""Slopes of a numeric variable in each level of others: derivatives of marginal means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...data.design import evaluated
from ...errors import DataError
from ...fit import Fit
from ...formula.expressions import Memory, read_expression
from ...hints import hinted
from ...typing import Adjustment, CellWeights, Contrasted, Ddf
from ..ddf import check_choice, check_level, ddf_of, fit_of, method_of
from .adjust import ADJUSTMENTS, adjustment
from .coefficients import FixedEffects
from .emmeans import EMMeans
from .grid import WEIGHTS, Grid

STEP = 1e-4  # of a difference quotient, relative to the spread of the variable


class Trends(EMMeans):
    """Slopes; `emtrends` makes them. All that `EMMeans` has, of slopes in place of means."""

    @property
    def _name(self) -> str:
        return "trend"


@hinted
def emtrends(
    fit: Fit,
    specs: str | Sequence[str],
    var: str,
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, object] | None = None,
    contrasts: Contrasted | None = None,
    interaction: bool | Contrasted | Mapping[str, Contrasted] | None = None,
    ref: str | int | None = None,
    adjust: Adjustment | None = None,
    ddf: Ddf | None = None,
    level: float = 0.95,
    weights: CellWeights = "equal",
) -> Trends:
    """Slopes of a numeric variable in each combination of others, and contrasts among them.

    The derivative of the marginal mean in `var` where `var` is at its mean, or at the value that
    `at` gives, by a central difference: exact where the model is linear or quadratic in it.

    Parameters
    ----------
    fit : Fit
        Of `lmmfast.lmer`, `lmmfast.glmer` or `lmmfast.mmrm`.
    specs : str or list of str
        As for `emmeans`; ``"1"`` for the slope over all.
    var : str
        A numeric variable of the fixed part, or an increasing function of one, as ``"log(x)"``:
        the slope in that.
    by, at, contrasts, interaction, ref, adjust, ddf, level, weights : optional
        As for `emmeans`.

    Returns
    -------
    Trends
        As `EMMeans`; the column of slopes is ``trend``.

    Raises
    ------
    DataError
        For variables that are not in the fixed part or not numeric.
    ValueError
        For other arguments that cannot be used.

    See Also
    --------
    lmmfast.emmeans : Means instead of slopes.

    Examples
    --------
    >>> from lmmfast import datasets, emtrends, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> emtrends(fit, "1", "Days").table["trend"].round(3).tolist()
    [10.467]
    """
    fit = fit_of(fit)
    ddf = ddf_of(ddf, fit)
    check_level(level)
    check_choice("weights", weights, WEIGHTS)
    if adjust is not None:
        check_choice("adjust", adjust, ADJUSTMENTS)
    name, ends, width = _ends(fit, var, dict(at or {}))
    grids = [Grid.of(fit, {**(at or {}), name: [end]}) for end in ends]
    wanted, within = grids[0].targets(specs, by)
    wanted += grids[0].parents(wanted + within)
    if name in wanted + within:
        raise ValueError(f"var: {name!r} is among specs or by; its values go into at=")
    low, high = (grid.averages(wanted + within, weights) for grid in grids)
    there = low[2]
    only: Any = interaction  # of interactions alone
    trends = Trends(
        fit=fit,
        of=FixedEffects(fit, method_of(fit, ddf)),
        ddf=ddf,
        level=level,
        specs=tuple(wanted),
        by=tuple(within),
        cells={n: own[there] for n, own in grids[0].cells(wanted + within).items()},
        L=((high[0] - low[0]) / width)[there],
        offset=((high[1] - low[1]) / width)[there],
        scale=None,
        bias=0.0,
        kind=only if contrasts is None else contrasts,
        interaction=interaction,
        ref=ref,
        adjust=adjustment(contrasts, adjust),
        asked=adjust,
        grid_notes=(f"Slopes of {var}", *_notes(grids[0], name, ends, wanted, within, weights)),
    )
    if trends.kind is not None:
        _ = trends._made
    return trends


def _notes(
    grid: Grid, name: str, ends: np.ndarray, wanted: list[str], within: list[str], weights: str
) -> list[str]:
    """The grid's, with var at the place of the slope."""
    middle = replace(grid, values=grid.values | {name: np.array([ends.mean()])})
    return list(middle.notes(wanted, within, weights))


def _ends(fit: Fit, var: str, at: dict[str, Any]) -> tuple[str, np.ndarray, float]:
    """The variable, its values on both sides of the place of the slope, and what lies between
    them."""
    expression = read_expression(var)
    columns = fit.design.variables
    names = [name for name in expression.names if name in columns]
    if len(names) != 1 or not columns[names[0]].numeric:
        known = ", ".join(n for n, column in columns.items() if column.numeric) or "none"
        raise DataError(
            f"var: {var!r} must be a numeric variable of the fixed effects ({known}), or an "
            "expression of one",
            variable=var,
        )
    name = names[0]
    values = columns[name].distinct().astype(float)
    spread = float(np.nanmax(values) - np.nanmin(values)) or 1.0
    place = at.pop(name, None)
    middle = float(columns[name].mean() if place is None else np.asarray(place, float).ravel()[0])
    if place is not None and np.size(place) != 1:
        raise ValueError(f"at: {name!r} needs one value, the place of the slope")
    ends = middle + STEP * spread * np.array([-0.5, 0.5])
    if expression.is_name:
        return name, ends, float(ends[1] - ends[0])
    table = {name: type(columns[name])(name, ends)}
    value = evaluated(expression, table, Memory(None, False), range(2))
    columns_made = [value.values] if not isinstance(value, dict) else list(value.values())
    if len(columns_made) != 1 or columns_made[0] is None:
        raise DataError(f"var: {var!r} is not one column of numbers", variable=name)
    moved = np.asarray(columns_made[0], dtype=float)
    width = float(moved[1] - moved[0])
    if not np.isfinite(width) or width == 0:
        raise DataError(f"var: {var!r} does not change at {name} = {middle:g}", variable=name)
    return name, ends, width
