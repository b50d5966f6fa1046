"""Pictures of the conditional modes: intervals by level, quantiles, shrinkage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FitError
from ..typing import AxesLike, Fitted
from . import axes as _axes

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


@_axes.of_fit
def caterpillar_frame(
    fit: Fitted, group: str | None = None, *, level: float = 0.95
) -> pd.DataFrame:
    """Conditional modes with intervals.

    Parameters
    ----------
    fit : LMMFit or GLMMFit
        Of `lmmfast.lmer` or `lmmfast.glmer`.
    group : str, optional
        A grouping factor. Default: all.
    level : float, default 0.95
        Coverage of the intervals.

    Returns
    -------
    pandas.DataFrame
        One row a level and column: ``group``, ``level``, ``column``, ``mode``, ``condsd``,
        ``lower``, ``upper``. The intervals are those of normal distributions, given the parameters.

    Raises
    ------
    FitError
        When the fit has no random effects.
    ValueError
        For another group.

    Examples
    --------
    >>> from lmmfast import datasets, lmer, plots
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> plots.caterpillar_frame(fit).loc[0, ["level", "column"]].tolist()
    ['308', 'Intercept']
    """
    one: Any = fit
    import pandas as pd
    from scipy.special import ndtri

    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level!r}")
    groups = list(dict.fromkeys(term.group for term in _axes.terms_of(fit, group)))
    frames, modes = [], one.ranef(cond_var=True)
    for name in groups:
        table = modes[name]
        values, sd = table["condval"], table["condsd"]
        m, k = values.shape
        columns = {
            "group": name,
            "level": np.repeat(np.asarray(table.index, dtype=object), k),
            "column": np.tile(np.asarray(values.columns, dtype=object), m),
            "mode": values.to_numpy().ravel(),
            "condsd": sd.to_numpy().ravel(),
        }
        frames.append(pd.DataFrame(columns))
    found = pd.concat(frames, ignore_index=True)
    half = ndtri((1 + level) / 2) * found["condsd"]
    return found.assign(lower=found["mode"] - half, upper=found["mode"] + half)


@_axes.of_fit
def caterpillar(
    fit: Fitted,
    group: str | None = None,
    *,
    level: float = 0.95,
    order: str | None = "first",
    axes: AxesLike | None = None,
) -> np.ndarray:
    """Conditional modes with intervals, one panel a column; R's ``dotplot(ranef(fit))``.

    Parameters
    ----------
    fit : LMMFit or GLMMFit
        Of `lmmfast.lmer` or `lmmfast.glmer`.
    group : str, optional
        A grouping factor. Default: all.
    level : float, default 0.95
        Coverage of the intervals.
    order : str or None, default "first"
        Column by whose modes the levels are sorted, in all panels of its factor; "first": the first
        column; None: as they are in the fit.
    axes : sequence of matplotlib axes, optional
        One a column. Default: a new figure.

    Returns
    -------
    (k,) array of matplotlib axes

    Raises
    ------
    FitError
        When the fit has no random effects.
    ValueError
        For another group or order, or too few axes.
    %(matplotlib)s

    See Also
    --------
    caterpillar_frame : The numbers.
    """
    frame = caterpillar_frame(fit, group, level=level)
    panels = _panels(frame)
    if order not in (None, "first", *frame["column"]):
        raise ValueError(f"order must be a column of the random effects, not {order!r}")
    if axes is None:
        most = max(len(part) for part in panels.values())
        size = (3.2, _axes.height_of(most))
        drawn = _axes.new_axes("caterpillar", len(panels), columns=4, size=size)
    else:
        drawn = _axes.given_axes(axes, len(panels), "columns of random effects")
    several = frame["group"].nunique() > 1
    for ax, ((name, column), part) in zip(drawn, panels.items(), strict=True):
        by = _order_of(panels, name, order)
        part = part if by is None else part.iloc[by[::-1]]
        place = np.arange(len(part))
        ax.axvline(0, color=_axes.GREY, linewidth=0.8)
        few = len(part) <= _axes.LEGIBLE
        ax.errorbar(
            part["mode"].to_numpy(), place, xerr=(part["upper"] - part["mode"]).to_numpy(),
            fmt="o", color="C0", markersize=4 if few else 2, elinewidth=1.2 if few else 0.6,
        )  # fmt: skip
        first = next(iter(key for key in panels if key[0] == name)) == (name, column)
        _axes.label_levels(ax, part["level"].tolist(), name if first else "")
        if not first and few:
            ax.tick_params(labelleft=False)
        if not first and not few:
            ax.set_ylabel("")
        ax.set_xlabel(_axes.broken(f"{column} | {name}" if several else column))
    return drawn


def _panels(frame: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Rows by group and column, in their order."""
    groups: Any = frame.groupby(["group", "column"], sort=False, observed=True)
    return dict(iter(groups))


def _order_of(panels: Any, group: str, order: str | None) -> np.ndarray | None:
    """Places of the levels of a factor, by the modes of a column; None where it has no such."""
    if order is None:
        return None
    own = {column: part for (name, column), part in panels.items() if name == group}
    column = next(iter(own)) if order == "first" else order
    return None if column not in own else np.argsort(own[column]["mode"].to_numpy(), kind="stable")


# ---- quantiles ------------------------------------------------------------------------------


@_axes.of_fit
def qq_ranef_frame(fit: Fitted, group: str | None = None, *, level: float = 0.95) -> pd.DataFrame:
    """Conditional modes beside the quantiles of a normal distribution.

    Parameters
    ----------
    fit, group, level : various
        As for `caterpillar_frame`.

    Returns
    -------
    pandas.DataFrame
        As `caterpillar_frame`, by column in the order of the modes, with ``theoretical``, the
        normal quantiles.
    """
    import pandas as pd

    frame = caterpillar_frame(fit, group, level=level)
    parts = []
    for part in _panels(frame).values():
        own = part.sort_values("mode", kind="stable")
        parts.append(own.assign(theoretical=_axes.normal_scores(len(own))))
    return pd.concat(parts, ignore_index=True)


@_axes.of_fit
def qq_ranef(
    fit: Fitted, group: str | None = None, *, level: float = 0.95, axes: AxesLike | None = None
) -> np.ndarray:
    """Conditional modes against normal quantiles, one panel a column; R's ``qqmath(ranef(fit))``.

    The line goes through the quartiles. Modes without variance are a flat line.

    Parameters
    ----------
    fit, group, level, axes : various
        As for `caterpillar`.

    Returns
    -------
    (k,) array of matplotlib axes

    Raises
    ------
    FitError, ValueError, ImportError
        As for `caterpillar`.
    """
    panels = _panels(qq_ranef_frame(fit, group, level=level))
    if axes is None:
        drawn = _axes.new_axes("qq_ranef", len(panels), size=(3.2, 3.0))
    else:
        drawn = _axes.given_axes(axes, len(panels), "columns of random effects")
    for ax, ((name, column), part) in zip(drawn, panels.items(), strict=True):
        x, y = part["theoretical"].to_numpy(), part["mode"].to_numpy()
        few = len(part) <= 200
        ax.axline((0, _axes.quartile_line(x, y)[0]), slope=_axes.quartile_line(x, y)[1],
                  color=_axes.GREY, linewidth=0.8)  # fmt: skip
        if few:
            ax.errorbar(
                x, y, yerr=(part["upper"] - part["mode"]).to_numpy(), fmt="o", color="C0",
                markersize=4, elinewidth=0.6,
            )  # fmt: skip
        else:
            _axes.points(ax, x, y)
        ax.set(xlabel="normal quantile", ylabel="mode", title=_axes.broken(f"{column} | {name}"))
    return drawn


# ---- shrinkage ------------------------------------------------------------------------------


@_axes.of_fit
def shrinkage_frame(fit: Fitted, group: str | None = None) -> pd.DataFrame:
    """Least squares within the levels beside the conditional modes.

    Parameters
    ----------
    fit : LMMFit
        Of `lmmfast.lmer`.
    group : str, optional
        A grouping factor. Default: all.

    Returns
    -------
    pandas.DataFrame
        ``fit.shrinkage()``: ``group``, ``level``, ``column``, ``rows``, ``least_squares`` (NaN
        where the rows of a level leave it open), ``mode``, ``condsd``.

    Raises
    ------
    FitError
        For fits that are not linear, and those without random effects.
    """
    one: Any = fit
    _axes.terms_of(fit, group)
    if one.family is not None:
        raise FitError("shrinkage is towards least squares, which linear mixed models have alone")
    frame: pd.DataFrame = one.shrinkage()
    return frame if group is None else frame[frame["group"] == group].reset_index(drop=True)


@_axes.of_fit
def shrinkage(fit: Fitted, group: str | None = None, *, axes: AxesLike | None = None) -> np.ndarray:
    """Arrows from least squares within each level to the conditional mode.

    One panel for each pair of columns of a term; a term of one column has its modes against the
    least squares, and the line of no shrinkage.

    Parameters
    ----------
    fit : LMMFit
        Of `lmmfast.lmer`.
    group : str, optional
        A grouping factor. Default: all.
    axes : sequence of matplotlib axes, optional
        One a panel. Default: a new figure.

    Returns
    -------
    array of matplotlib axes

    Raises
    ------
    FitError
        For fits that are not linear, and those without random effects.
    ValueError
        For another group, or too few axes.
    %(matplotlib)s

    References
    ----------
    Bates, Alday & Kokandakar, *MixedModelsMakie.jl* (``shrinkageplot``).
    """
    frame = shrinkage_frame(fit, group)
    panels = []
    for name, part in frame.groupby("group", sort=False):
        columns = list(dict.fromkeys(part["column"]))
        pairs = [(a, b) for i, b in enumerate(columns) for a in columns[:i]] or [(columns[0], None)]
        panels += [(name, part, *pair) for pair in pairs]
    if axes is None:
        drawn = _axes.new_axes("shrinkage", len(panels), size=(3.8, 3.4))
    else:
        drawn = _axes.given_axes(axes, len(panels), "pairs of columns")
    for ax, (name, part, first, second) in zip(drawn, panels, strict=True):
        _draw_shrinkage(ax, part, first, second)
        ax.set_title(_axes.literal(name))
    if panels[0][-1] is not None:
        drawn[0].legend(fontsize="small")
    return drawn


def _draw_shrinkage(ax: Any, part: pd.DataFrame, first: Any, second: Any) -> None:
    wide = part.pivot_table(
        index="level", columns="column", values=["least_squares", "mode"], sort=False, dropna=False
    )
    raw, mode = wide["least_squares"], wide["mode"]
    if second is None:
        ax.axline((0, 0), slope=1, color=_axes.GREY, linewidth=0.8, linestyle="--")
        _axes.points(ax, raw[first].to_numpy(), mode[first].to_numpy())
        first = _axes.literal(first)
        ax.set(xlabel=f"{first}: least squares", ylabel=f"{first}: mode")
        return
    x, y = raw[first].to_numpy(), raw[second].to_numpy()
    u, v = mode[first].to_numpy(), mode[second].to_numpy()
    ax.plot(x, y, "o", markersize=3, color="C1", alpha=0.7, label="least squares")
    ax.quiver(
        x, y, u - x, v - y, angles="xy", scale_units="xy", scale=1, width=0.003, color=_axes.GREY
    )
    ax.plot(u, v, "o", markersize=4, color="C0", label="mode")
    ax.set(xlabel=_axes.literal(first), ylabel=_axes.literal(second))
