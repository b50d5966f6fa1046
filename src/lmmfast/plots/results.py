"""Pictures of results: means and contrasts, replicates, power, clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..typing import Axes, AxesLike, ParameterNames
from . import axes as _axes
from .coefficients import intervals
from .drawn import Compared, Means, Replicates, Sizes, Tested

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


# ---- means ----------------------------------------------------------------------------------


def means_frame(means: Means) -> pd.DataFrame:
    """Marginal means with intervals.

    Parameters
    ----------
    means : EMMeans or Trends
        Of `lmmfast.emmeans` or `lmmfast.emtrends`.

    Returns
    -------
    pandas.DataFrame
        ``means.table``: variables, ``emmean`` (``response``, ``trend``), ``SE``, ``df``, ``lower``,
        ``upper``.
    """
    frame: pd.DataFrame = means.table
    return frame


@_axes.pictured
def means(means: Means, x: str | None = None, *, axes: AxesLike | None = None) -> np.ndarray:
    """Marginal means with intervals, interactions as lines; R's ``emmip``.

    Parameters
    ----------
    means : EMMeans or Trends
        Of `lmmfast.emmeans` or `lmmfast.emtrends`.
    x : str, optional
        Variable of the horizontal axis. Default: the first; of probabilities of classes the
        classes. The others make a line for each of their combinations; those of ``by`` panels.
    axes : sequence of matplotlib axes, optional
        One a combination of ``by``. Default: a new figure.

    Returns
    -------
    (k,) array of matplotlib axes

    Raises
    ------
    ValueError
        For another variable, or too few axes.
    %(matplotlib)s
    """
    frame = means_frame(means)
    specs, by = list(means.specs), list(means.by)
    if not specs + by:
        specs, frame = [""], frame.assign(**{"": "all"})
    of_classes = getattr(means, "named", "") in ("prob", "cum.prob", "exc.prob")
    classes = by[-1:] if of_classes else []  # where they are specs they are the first
    x = (classes or specs or by)[0] if x is None else x
    if x not in specs + by:
        raise ValueError(f"x must be one of {', '.join(specs + by)}, not {x!r}")
    lines, panels = [v for v in specs if v != x], [v for v in by if v != x]
    parts = _parts(frame, panels)
    if axes is None:
        share = {"sharey": True}
        size = (4.4, 3.4) if len(parts) == 1 else (3.4, 3.0)
        drawn = _axes.new_axes("means", len(parts), size=size, **share)
    else:
        drawn = _axes.given_axes(axes, len(parts), "combinations of by")
    value = str(frame.columns[list(frame.columns).index("SE") - 1])
    for i, (ax, (title, part)) in enumerate(zip(drawn, parts, strict=True)):
        _draw_means(ax, part, x, lines, value)
        ax.set(xlabel=_axes.literal(x), title=_axes.literal(title))
        ax.set_ylabel(_axes.literal(_value_name(means, value)) if i == 0 else "")
        if lines and i == len(parts) - 1:
            beside = {"bbox_to_anchor": (1.02, 1), "loc": "upper left", "borderaxespad": 0}
            ax.legend(title=_axes.literal(", ".join(lines)), **(beside if axes is None else {}))
    return drawn


def _value_name(means: Any, value: str) -> str:
    name = {"emmean": "marginal mean", "trend": "slope"}.get(value, value)
    return f"{name}, {100 * means.level:g}% interval"


def _parts(frame: pd.DataFrame, names: list[str]) -> list[tuple[str, pd.DataFrame]]:
    """Rows by what these variables are; of none all rows."""
    if not names:
        return [("", frame)]
    groups = frame.groupby(names, sort=False, observed=True)
    titled = []
    for key, part in groups:
        values = key if isinstance(key, tuple) else (key,)
        titled.append((", ".join(f"{n} = {v}" for n, v in zip(names, values, strict=True)), part))
    return titled


def _draw_means(ax: Any, frame: pd.DataFrame, x: str, lines: list[str], value: str) -> None:
    numeric = np.issubdtype(np.asarray(frame[x]).dtype, np.number)
    levels = list(dict.fromkeys(frame[x]))
    groups = [("", frame)] if not lines else list(frame.groupby(lines, sort=False, observed=True))
    step = 0.0 if numeric else min(0.12, 0.5 / len(groups))
    for i, (key, part) in enumerate(groups):
        place = part[x].to_numpy(dtype=float) if numeric else None
        if place is None:
            place = np.array([levels.index(one) for one in part[x]], dtype=float)
            place += step * (i - (len(groups) - 1) / 2)
        order = np.argsort(place, kind="stable")
        part, place = part.iloc[order], place[order]
        middle = part[value].to_numpy()
        error = np.abs(np.vstack([middle - part["lower"], part["upper"] - middle]))
        names = key if isinstance(key, tuple) else (key,)
        label = _axes.literal(", ".join(map(str, names))) if lines else None
        joined = "o-" if lines or numeric else "o"
        ax.errorbar(place, middle, yerr=error, fmt=joined, color=f"C{i}", markersize=5, label=label)
    if not numeric:
        labels = [_axes.literal(one) for one in levels]
        ax.set_xticks(range(len(levels)), labels)
        ax.set_xlim(-0.5, len(levels) - 0.5)
        _axes.turn_if_long(ax, labels)


def contrasts_frame(contrasts: Compared, *, level: float | None = None) -> pd.DataFrame:
    """Contrasts with their simultaneous intervals.

    Parameters
    ----------
    contrasts : Contrasts
        Of ``emmeans(...).contrast()``.
    level : float, optional
        Coverage. Default: that of the means.

    Returns
    -------
    pandas.DataFrame
        As ``contrasts.conf_int()``, with ``p``, adjusted as the intervals are.
    """
    found: pd.DataFrame = contrasts.conf_int(level)
    return found.assign(p=contrasts.table["p"])


@_axes.pictured
def contrasts(contrasts: Compared, *, level: float | None = None, ax: Axes | None = None) -> Axes:
    """Contrasts with their simultaneous intervals, and where there is no difference.

    Parameters
    ----------
    contrasts : Contrasts
        Of ``emmeans(...).contrast()``.
    level : float, optional
        Coverage. Default: that of the means.
    %(ax)s

    Returns
    -------
    matplotlib axes

    Raises
    ------
    %(matplotlib)s
    """
    frame = contrasts_frame(contrasts, level=level)
    level = contrasts.level if level is None else level
    value = str(frame.columns[list(frame.columns).index("SE") - 1])
    places = list(frame.columns[: frame.columns.get_loc(value)])
    labels = [
        str(row[0]) + (f"  ({', '.join(map(str, row[1:]))})" if len(row) > 1 else "")
        for row in frame[places].itertuples(index=False, name=None)
    ]
    if ax is None:
        size = (_axes.wide_for(labels), _axes.height_of(len(labels)))
        ax = _axes.new_axes("contrasts", size=size)[0]
    own = frame.rename(columns={value: "estimate"})
    intervals(ax, own, np.arange(len(own)), "C0", None)
    none = 1 if contrasts.ratios else 0
    ax.axvline(none, color=_axes.GREY, linewidth=0.8, linestyle="--", zorder=0)
    if contrasts.ratios:
        _axes.ratio_axis(ax)
    _axes.label_levels(ax, labels, "")
    adjusted = "" if contrasts.adjust == "none" else f" ({contrasts.adjust})"
    ax.set_xlabel(
        f"{'ratio' if contrasts.ratios else 'contrast'}, {100 * level:g}% interval{adjusted}"
    )
    return ax


# ---- replicates -----------------------------------------------------------------------------


def bootstrap_frame(boot: Replicates, parameters: ParameterNames = "all") -> pd.DataFrame:
    """Kernel densities of the replicates of each parameter.

    Parameters
    ----------
    boot : Bootstrap
        Of ``fit.bootstrap()``.
    parameters : {"fixed", "random", "all"} or list of str, default "all"
        As for ``boot.conf_int``.

    Returns
    -------
    pandas.DataFrame
        ``parameter``, ``value``, ``density``. ``boot.to_frame()`` has the replicates themselves.
    """
    import pandas as pd

    limits = boot.conf_int(parameters=parameters)
    replicates, frames = boot.to_frame(), []
    for name in limits.index:
        value, height = _axes.density(replicates[name].to_numpy(dtype=float), bounds=_bounds(name))
        frames.append(pd.DataFrame({"parameter": name, "value": value, "density": height}))
    return pd.concat(frames, ignore_index=True)


def _bounds(name: str) -> tuple[float, float]:
    """Of standard deviations and correlations."""
    if name.startswith("cor("):
        return -1.0, 1.0
    return (0.0 if name == "sigma" or name.startswith("sd(") else -np.inf), np.inf


@_axes.pictured
def bootstrap(
    boot: Replicates,
    parameters: ParameterNames = "all",
    *,
    level: float = 0.95,
    axes: AxesLike | None = None,
    **options: object,
) -> np.ndarray:
    """Densities of the replicates, with the estimate (line) and the interval (bar).

    Parameters
    ----------
    boot : Bootstrap
        Of ``fit.bootstrap()``.
    parameters : {"fixed", "random", "all"} or list of str, default "all"
        As for ``boot.conf_int``.
    level : float, default 0.95
        Coverage of the interval.
    axes : sequence of matplotlib axes, optional
        One a parameter. Default: a new figure.
    **options
        Of ``boot.conf_int``: ``kind``.

    Returns
    -------
    (k,) array of matplotlib axes

    Raises
    ------
    ValueError
        For other parameters, or too few axes.
    %(matplotlib)s
    """
    limits = boot.conf_int(level, parameters=parameters, **options)
    frame = bootstrap_frame(boot, parameters)
    if axes is None:
        drawn = _axes.new_axes("bootstrap", len(limits), size=(3.2, 2.6))
    else:
        drawn = _axes.given_axes(axes, len(limits), "parameters")
    estimates = dict(zip(boot.names, boot.estimates, strict=True))
    for ax, (name, ends) in zip(drawn, limits.iterrows(), strict=True):
        own = frame[frame["parameter"] == name]
        ax.plot(own["value"], own["density"], color="C0")
        ax.fill_between(own["value"], 0, own["density"], color="C0", alpha=0.2, linewidth=0)
        ax.axvline(estimates[name], color="C1", linewidth=1.2)
        ax.plot(ends.to_numpy(), [0, 0], color="C1", linewidth=4, solid_capstyle="butt")
        ax.set(xlabel=_axes.literal(name), ylabel="density")
        ax.set_ylim(bottom=0)
    return drawn


# ---- power ----------------------------------------------------------------------------------


def power_frame(power: Sizes) -> pd.DataFrame:
    """Power by what varies.

    Parameters
    ----------
    power : Power
        Of `lmmfast.power`.

    Returns
    -------
    pandas.DataFrame
        ``power.to_frame()``: what varies, ``nobs``, ``power``, ``lower``, ``upper``, ...
    """
    frame: pd.DataFrame = power.to_frame()
    return frame


@_axes.pictured
def power(power: Sizes, *, ax: Axes | None = None) -> Axes:
    """Power with its intervals against the first of what varies, a line for each of the others.

    Parameters
    ----------
    power : Power
        Of `lmmfast.power`.
    %(ax)s

    Returns
    -------
    matplotlib axes

    Raises
    ------
    %(matplotlib)s
    """
    frame = power_frame(power)
    names = list(frame.columns[: frame.columns.get_loc("nobs")])
    varied = [name for name in names if frame[name].nunique() > 1] or names[:1]
    x, *others = varied
    ax = _axes.new_axes("power")[0] if ax is None else ax
    parts = [((), frame)] if not others else list(frame.groupby(others, sort=False))
    for key, part in parts:
        label = ", ".join(f"{name} = {value:g}" for name, value in zip(others, key, strict=True))
        part = part.sort_values(x)
        (line,) = ax.plot(part[x], part["power"], marker="o", markersize=4, label=label or None)
        ax.fill_between(
            part[x], part["lower"], part["upper"], color=line.get_color(), alpha=0.2, linewidth=0
        )
    ax.axhline(0.8, color=_axes.GREY, linewidth=0.8, linestyle="--")
    ax.set(xlabel=x, ylabel="power", ylim=(0, 1.02))
    if others:
        ax.legend()
    return ax


# ---- clusters -------------------------------------------------------------------------------


def clusters_frame(test: Tested) -> pd.DataFrame:
    """Statistics of the points and the clusters they are in.

    Parameters
    ----------
    test : ClusterTest
        Of `lmmfast.cluster_test`.

    Returns
    -------
    pandas.DataFrame
        ``test.to_points()``: ``point``, ``t`` or ``F``, ``cluster``, ``p``, ``status``.
    """
    frame: pd.DataFrame = test.to_points()
    return frame


@_axes.pictured
def clusters(test: Tested, ax: Axes | None = None, *, level: float = 0.05) -> Axes:
    """Statistics along the points, or as a map, with the clusters whose p-value is small.

    Parameters
    ----------
    test : ClusterTest
        Of `lmmfast.cluster_test`.
    %(ax)s
    level : float, default 0.05
        Largest p-value of the clusters that are marked.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError
        For points on more than two axes.
    %(matplotlib)s
    """
    if len(test.shape) > 2:
        raise ValueError("points on more than two axes cannot be plotted at once")
    ax = _axes.new_axes("clusters", size=(6, 3))[0] if ax is None else ax
    marked = test.point_pvalue <= level
    if len(test.shape) == 2:
        image = ax.imshow(test.statistic.reshape(test.shape), aspect="auto", origin="lower")
        ax.figure.colorbar(image, ax=ax, label=test.name)
        if marked.any() and min(test.shape) > 1:
            ax.contour(marked.reshape(test.shape), levels=[0.5], colors="black")
    else:
        _draw_course(ax, test, marked)
    ax.set_title(f"{test.test}, clusters with p ≤ {level:g}")
    return ax


def _draw_course(ax: Any, test: Any, marked: np.ndarray) -> None:
    numeric = all(isinstance(point, (int, float, np.number)) for point in test.points)
    x = test.points.astype(float) if numeric else np.arange(len(test.points))
    ax.plot(x, test.statistic, lw=1)
    ax.axhline(0, color=_axes.GREY, lw=0.8)
    if test.kind != "tfce":
        for sign in (1, -1) if test.name == "t" else (1,):
            ax.axhline(sign * test.threshold, color=_axes.GREY, lw=0.8, ls=":")
    middle = (x[1:] + x[:-1]) / 2
    step = x[1] - x[0] if len(x) > 1 else 1.0
    edges = np.concatenate([[x[0] - step / 2], middle, [x[-1] + step / 2]])
    turns = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(int), [0]])))
    for first, stop in zip(turns[::2], turns[1::2], strict=True):
        ax.axvspan(edges[first], edges[stop], color="C1", alpha=0.25, linewidth=0)
    ax.set(xlabel="point", ylabel=test.name)
