"""Pictures of fitted lines: by group over the data, and of one variable alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.columns import Table
from ..data.design import aligned_to_fit
from ..errors import DataError, LmmError, silenced
from ..typing import Axes, AxesLike, Fitted
from . import axes as _axes

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

MOST = 12  # panels where none are asked for
ALONG = 40  # places along a line
MOST_PREDICTED = 2_000_000  # rows that are predicted for all lines of a picture


@_axes.of_fit
def fitted_frame(
    fit: Fitted,
    x: str | ArrayLike,
    group: str | None = None,
    *,
    levels: Sequence[object] | None = None,
) -> pd.DataFrame:
    """Response and fitted values of the rows, by the levels of a grouping factor.

    Parameters
    ----------
    fit : LMMFit or GLMMFit
        Of `lmmfast.lmer` or `lmmfast.glmer`.
    x : str, or (n,) array
        A variable of the fixed effects, or one value for each row that the fit used.
    group : str, optional
        A grouping factor. Default: the first.
    levels : sequence, optional
        Of the factor. Default: all.

    Returns
    -------
    pandas.DataFrame
        One row a row of the levels: ``level``, ``x``, ``observed``, ``fitted`` (conditional modes
        included), ``population`` (random effects of zero), on the scale of the response; of
        generalized models that of the mean. The index is that of the rows.

    Raises
    ------
    DataError
        For an unknown variable or level; without rows (a fit of a stream); for an ordered response.
    FitError
        When the fit has no random effects.

    Examples
    --------
    >>> from lmmfast import datasets, lmer, plots
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> plots.fitted_frame(fit, "Days", levels=["308"]).shape
    (10, 5)
    """
    one: Any = fit
    import pandas as pd

    if one.family is not None and one.family.response == "ordered":
        raise DataError("fitted values of an ordered response are probabilities of its classes")
    term = _axes.terms_of(fit, group)[0]
    values = variable_of(fit, x)
    conditional = one.fittedvalues
    form = {"type": "response"} if one.family is not None else {}
    columns = {
        "level": np.asarray(term.levels, dtype=object)[term.codes],
        "x": values,
        "observed": np.asarray(one.design.y, dtype=float),
        "fitted": conditional.to_numpy(),
        "population": np.asarray(one.predict(re_form="none", **form)),
    }
    frame = pd.DataFrame(columns, conditional.index)
    if levels is None:
        return frame
    known = set(term.levels)
    for level in levels:
        if level not in known:
            raise DataError(f"{term.group!r} has no level {level!r}", variable=term.group)
    return frame[frame["level"].isin(list(levels))]


def averaged(fit: Any, x: Any, term: Any, levels: Sequence[Any]) -> pd.DataFrame | None:
    """Fitted values at each value of x, averaged over what else the rows of a level have: other
    variables and levels of other factors are then the same along a line.

    None where they are anyway, or the rows cannot be put together again (columns: ``level``, ``x``,
    ``fitted``, ``population``).
    """
    import pandas as pd

    design = fit.design
    if not isinstance(x, str) or (len(design.variables) < 2 and len(fit.n_levels) < 2):
        return None
    rows = _rows_again(fit)
    if rows is None:
        return None
    codes = term.codes
    grid = _grid(variable_of(fit, x), len(codes))
    form = {"type": "response"} if fit.family is not None else {}
    known = {level: i for i, level in enumerate(term.levels)}
    parts = []
    try:
        for level in levels:
            own = rows[codes == known[level]]
            again = own.iloc[np.tile(np.arange(len(own)), len(grid))]
            again = again.assign(**{x: np.repeat(grid, len(own))})
            with silenced():
                values = [
                    np.asarray(fit.predict(again, re_form=part, **form)).reshape(len(grid), -1)
                    for part in ("all", "none")
                ]
            fitted, population = (np.nanmean(own, axis=1) for own in values)
            line = {"level": level, "x": grid, "fitted": fitted, "population": population}
            parts.append(pd.DataFrame(line))
    except LmmError:  # an offset that was an array, say
        return None
    return pd.concat(parts, ignore_index=True)


def _grid(values: np.ndarray, n: int) -> np.ndarray:
    """Values of a variable along a line: all, or of many numbers some from first to last."""
    distinct = np.array(list(dict.fromkeys(np.sort(values).tolist())))
    most = int(np.clip(MOST_PREDICTED // max(n, 1), 2, ALONG))
    if distinct.dtype.kind in "OUb" or len(distinct) <= most:
        return distinct
    return np.linspace(distinct[0], distinct[-1], most)


def _rows_again(fit: Any) -> pd.DataFrame | None:
    """The rows that the fit used, as new data: from what is kept of them."""
    import pandas as pd

    recipe, design = fit.design.recipe, fit.design
    if recipe is None:
        return None
    columns = {
        name: own.values if own.numeric else np.asarray(own.levels, dtype=object)[own.codes]
        for name, own in design.variables.items()
    }
    for term, grouping in zip(design.terms, recipe.groupings, strict=True):
        names = {name for atom in grouping.atoms for name in atom.names}
        if len(names) == 1 and grouping.atoms[0].is_name and isinstance(term.codes, np.ndarray):
            columns[names.pop()] = np.asarray(term.levels, dtype=object)[term.codes]
    layouts = (recipe.fixed_layout, *recipe.random_layouts)
    atoms = [*recipe.offset_terms, *(atom for layout in layouts for atom in layout.atoms)]
    atoms += [atom for grouping in recipe.groupings for atom in grouping.atoms]
    needed = {name for atom in atoms for name in atom.names} & recipe.names
    columns |= _of_given(fit, needed - columns.keys())
    return pd.DataFrame(columns) if needed <= columns.keys() else None


def _of_given(fit: Any, names: set[str]) -> dict[str, np.ndarray]:
    """Columns of the rows used that the design does not keep, of the table that the fit was given;
    none where it was no table, or has other rows by now."""
    given = fit.design.given
    data: Any = None if given is None else given.data
    if not names or not (isinstance(data, Mapping) or hasattr(data, "columns")):
        return {}
    if not all(map(Table.of(data).has, names)):
        return {}
    table: Any = data
    found = {name: np.asarray(table[name]) for name in names}
    if any(own.shape != (fit.design.n_rows,) for own in found.values()):
        return {}
    return {name: own[fit.design.rows] for name, own in found.items()}


def variable_of(fit: Any, x: Any) -> np.ndarray:
    """Values of a variable in the rows used (n): numbers, or labels."""
    n = fit.nobs
    if not isinstance(x, str):
        values = np.asarray(aligned_to_fit(x, fit.design, "x"))
        if values.shape != (n,):
            raise DataError(f"x has shape {values.shape}, the fit used {n} rows")
        return values
    columns = fit.design.variables
    if x not in columns:
        known = ", ".join(columns) or "none"
        raise DataError(
            f"{x!r} is no variable of the fixed effects in memory ({known}): give its values, one "
            "for each row that the fit used",
            variable=x,
        )
    own = columns[x]
    if own.numeric:
        return np.asarray(own.values, dtype=float)
    labels: np.ndarray = np.asarray(own.levels, dtype=object)[own.codes]
    return labels


def places_of(fit: Any, x: Any, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Places on the axis, and labels of levels there; no labels for numbers."""
    if np.issubdtype(values.dtype, np.number):
        return values.astype(float), []
    order = list(dict.fromkeys(values))
    if isinstance(x, str) and x in fit.design.variables:
        order = [one for one in fit.design.variables[x].levels if one in set(order)]
    at = {value: i for i, value in enumerate(order)}
    return np.array([at[value] for value in values], dtype=float), [str(one) for one in order]


@_axes.of_fit
def fitted(
    fit: Fitted,
    x: str | ArrayLike,
    group: str | None = None,
    *,
    levels: Sequence[object] | None = None,
    ax: Axes | None = None,
    axes: AxesLike | None = None,
) -> Axes | np.ndarray:
    """Lines of fitted values by level of a grouping factor, over the data.

    Without `ax` a panel for each level (the first twelve, where none are asked for): the data, the
    line of the level, and dashed that of the population. With `ax` all lines in one picture, and
    the population's thick, without data. Lines are averaged over what else the rows of a level
    have, other variables and levels of other factors, which are the same all along a line.

    Parameters
    ----------
    fit, x, group, levels : various
        As for `fitted_frame`.
    ax : matplotlib axes, optional
        For all levels in one picture.
    axes : sequence of matplotlib axes, optional
        One a level. Default: a new figure.

    Returns
    -------
    array of matplotlib axes, or with `ax` matplotlib axes

    Raises
    ------
    DataError, FitError
        As for `fitted_frame`.
    ValueError
        When there are fewer axes than levels.
    %(matplotlib)s
    """
    term = _axes.terms_of(fit, group)[0]
    if levels is None and ax is None:
        levels = list(term.levels)[:MOST]
    frame = fitted_frame(fit, x, term.group, levels=levels)
    means = averaged(fit, x, term, list(dict.fromkeys(frame["level"])))
    place, labels = places_of(fit, x, frame["x"].to_numpy())
    means = frame if means is None else means
    means = means.assign(x=places_of(fit, x, means["x"].to_numpy())[0])
    frame = frame.assign(x=place)
    name = x if isinstance(x, str) else "x"
    if ax is not None:
        _draw_together(ax, means)
        _name_axes(ax, name, fit, labels)
        return ax
    parts, lines = (dict(iter(own.groupby("level", sort=False))) for own in (frame, means))
    shown: list[Any] = [level for level in levels or () if level in parts]
    if axes is None:
        size = (2.2, 2.2)
        share = {"sharex": True, "sharey": True}
        drawn = _axes.new_axes("fitted", len(shown), columns=4, size=size, **share)
    else:
        drawn = _axes.given_axes(axes, len(shown), "levels")
    for i, (own, level) in enumerate(zip(drawn, shown, strict=True)):
        part = parts[level]
        own.plot(part["x"], part["observed"], "o", color="C0", markersize=3, alpha=0.7, mew=0)
        line = lines[level]
        own.plot(*_line(line, "fitted"), color="C1", label=_axes.literal(term.group))
        own.plot(*_line(line, "population"), color=_axes.GREY, linestyle="--", label="population")
        own.set_title(_axes.literal(f"{term.group} {level}"), fontsize="medium")
        _name_axes(own, name if i >= len(shown) - 4 else "", fit, labels, i % 4 == 0, room=14)
    return drawn


def _draw_together(ax: Any, frame: pd.DataFrame) -> None:
    count = frame["level"].nunique()
    alpha = float(np.clip(8 / np.sqrt(count) / 2, 0.15, 0.8))
    for _, part in frame.groupby("level", sort=False):
        ax.plot(*_line(part, "fitted"), color="C0", linewidth=0.8, alpha=alpha)
    ax.plot(*_line(frame, "population"), color="C1", linewidth=2.5)


def _line(part: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    means = part.groupby("x")[column].mean()
    return means.index.to_numpy(), means.to_numpy()


def _name_axes(
    ax: Any, x: str, fit: Any, labels: list[str], left: bool = True, room: int = 40
) -> None:
    ax.set(xlabel=_axes.literal(x), ylabel=_axes.literal(fit.design.response) if left else "")
    if labels:
        ax.set_xticks(range(len(labels)), [_axes.literal(own) for own in labels])
        ax.margins(x=0.15)
        _axes.turn_if_long(ax, labels, room)


# ---- one variable ---------------------------------------------------------------------------


@_axes.of_fit
def partial_residuals_frame(fit: Fitted, x: str) -> pd.DataFrame:
    """What a variable contributes to the response, and that with the residuals.

    Parameters
    ----------
    fit : LMMFit or MMRMFit
        Of `lmmfast.lmer` or `lmmfast.mmrm`.
    x : str
        A variable of the fixed effects. All terms of it alone count, ``x`` and ``I(x**2)``;
        interactions with other variables do not.

    Returns
    -------
    pandas.DataFrame
        One row a row: ``x``, ``effect`` and ``partial``, the effect and the residual.

    Raises
    ------
    DataError
        For an unknown variable, or one that has no term of its own; without rows; for generalized
        models, whose residuals are on another scale.
    """
    one: Any = fit
    import pandas as pd

    values = variable_of(fit, x)
    names = _own_columns(fit, x)
    if not names:
        raise DataError(f"{x!r} has no term of its own in the fixed effects", variable=x)
    effect = one.partial_fitted(names)
    partial = one.partial_fitted(names, residuals=True)
    columns = {"x": values, "effect": effect.to_numpy(), "partial": partial.to_numpy()}
    return pd.DataFrame(columns, effect.index)


def _own_columns(fit: Any, x: str) -> list[str]:
    """Names of the columns that are made of this variable and of no other."""
    recipe = fit.design.recipe
    if recipe is None:
        return [name for name in fit.design.x_names if name == x]
    atoms = {atom.label: set(atom.names) for atom in recipe.fixed_layout.atoms}
    parts = zip(recipe.fixed_layout.names, recipe.fixed_layout.columns, strict=True)
    found = []
    for name, own in parts:
        used = set().union(*(atoms[label] for label, _, _ in own)) & fit.design.variables.keys()
        if used == {x}:
            found.append(name)
    return found


@_axes.of_fit
def partial_residuals(fit: Fitted, x: str, *, ax: Axes | None = None) -> Axes:
    """Partial residuals of a variable: its effect as a line, with the residuals as points.

    Where the points bend away from the line (their means are drawn, too), the effect is not what
    the formula has it.

    Parameters
    ----------
    fit, x : various
        As for `partial_residuals_frame`.
    %(ax)s

    Returns
    -------
    matplotlib axes

    Raises
    ------
    DataError
        As for `partial_residuals_frame`.
    %(matplotlib)s

    References
    ----------
    Larsen & McCleary (1972), *Technometrics* 14, 781-790.
    """
    frame = partial_residuals_frame(fit, x)
    ax = _axes.new_axes("partial_residuals")[0] if ax is None else ax
    place, labels = places_of(fit, x, frame["x"].to_numpy())
    y, effect = frame["partial"].to_numpy(), frame["effect"].to_numpy()
    if labels:
        spread = np.random.default_rng(0).uniform(-0.2, 0.2, len(place))
        _axes.points(ax, place + spread, y)
        for i in range(len(labels)):
            ax.hlines(effect[place == i].mean(), i - 0.35, i + 0.35, color="C1", linewidth=2)
    else:
        _axes.points(ax, place, y)
        _axes.draw_trend(ax, place, y, "means of the points")
        order = np.argsort(place, kind="stable")
        ax.plot(place[order], effect[order], color="C2", linewidth=2, label="effect")
        ax.legend()
    _name_axes(ax, x, fit, labels)
    ax.set_ylabel(f"effect of {_axes.literal(x)} + residual")
    return ax
