"""Pictures that question a model: influence, collinearity, responses drawn from it; all in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LmmError
from ..given import Data, IntoDataFrame
from ..typing import Axes, AxesLike, Fitted
from . import axes as _axes
from .drawn import Checked
from .modes import qq_ranef_frame
from .rows import draw_quantiles, draw_residuals, draw_sizes, residuals_frame

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

NAMED = 3  # levels that are named in a picture of influence
MOST_MODES = 8  # columns of random effects that a legend tells apart


@_axes.of_fit
def influence_frame(fit: Fitted, by: str | None = None) -> pd.DataFrame:
    """Cook's distance of each level of a grouping factor, or of each row.

    Parameters
    ----------
    fit : LMMFit or GLMMFit
        Of `lmmfast.lmer` or `lmmfast.glmer`.
    by : str, optional
        A grouping factor. Default: the first; "rows": each row.

    Returns
    -------
    pandas.DataFrame
        ``level``, ``cooks_d``.

    Raises
    ------
    DataError
        For what is not a grouping factor of the model; without rows (a fit of a stream).
    FitError
        When the fit has no random effects, and `by` is not "rows".
    """
    one: Any = fit
    import pandas as pd

    by = _axes.terms_of(fit, None)[0].group if by is None else by
    found = one.influence(None if by == "rows" else by)
    return pd.DataFrame({"level": list(found.index), "cooks_d": found["cooks_d"].to_numpy()})


@_axes.of_fit
def influence(fit: Fitted, by: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Cook's distance of each level of a grouping factor, the largest named.

    Parameters
    ----------
    fit, by : various
        As for `influence_frame`.
    %(ax)s

    Returns
    -------
    matplotlib axes

    Raises
    ------
    DataError, FitError
        As for `influence_frame`.
    %(matplotlib)s
    """
    by = _axes.terms_of(fit, None)[0].group if by is None else by
    frame = influence_frame(fit, by)
    ax = _axes.new_axes("influence")[0] if ax is None else ax
    draw_influence(ax, frame, by)
    return ax


def draw_influence(ax: Any, frame: pd.DataFrame, by: str) -> None:
    """Distances as stems, the largest named."""
    place, height = np.arange(len(frame)), frame["cooks_d"].to_numpy()
    ax.vlines(place, 0, height, color="C0", linewidth=1 if len(frame) < 200 else 0.4)
    if len(frame) < 200:
        ax.plot(place, height, "o", color="C0", markersize=3)
    ax.margins(y=0.15)
    ax.set_ylim(bottom=0)
    largest = np.argsort(np.where(np.isnan(height), -1, height), kind="stable")[::-1][:NAMED]
    known = [i for i in largest if np.isfinite(height[i])]
    _axes.name_points(ax, place[known], height[known], frame["level"].iloc[known].astype(str))
    ax.set_xticks([])
    ax.set(xlabel=f"{_axes.literal(by)} ({len(frame)})", ylabel="Cook's distance")


@_axes.of_fit
def collinearity_frame(fit: Fitted) -> pd.DataFrame:
    """Variance inflation of the terms.

    Parameters
    ----------
    fit : LMMFit, GLMMFit or MMRMFit
        Of `lmmfast.lmer`, `lmmfast.glmer` or `lmmfast.mmrm`.

    Returns
    -------
    pandas.DataFrame
        ``term``, and ``gvif``, ``df``, ``per_df`` of ``fit.vif()``.

    Raises
    ------
    FitError
        When there is nothing besides an intercept.
    """
    one: Any = fit
    found = one.vif()
    frame: pd.DataFrame = found.reset_index(names="term")
    return frame


@_axes.of_fit
def collinearity(fit: Fitted, *, ax: Axes | None = None) -> Axes:
    """Inflation of the standard errors of each term by the others: sqrt(VIF), or its like.

    1 is none; 2 makes an interval twice as wide as it were without the others.

    Parameters
    ----------
    fit : LMMFit, GLMMFit or MMRMFit
        Of `lmmfast.lmer`, `lmmfast.glmer` or `lmmfast.mmrm`.
    %(ax)s

    Returns
    -------
    matplotlib axes

    Raises
    ------
    FitError
        When there is nothing besides an intercept.
    %(matplotlib)s
    """
    frame = collinearity_frame(fit)
    if ax is None:
        size = (_axes.wide_for(frame["term"].tolist()), _axes.height_of(len(frame)))
        ax = _axes.new_axes("collinearity", size=size)[0]
    draw_collinearity(ax, frame)
    return ax


def draw_collinearity(ax: Any, frame: pd.DataFrame) -> None:
    """Inflations as lines from one on."""
    place = np.arange(len(frame))
    ax.hlines(place, 1, frame["per_df"], color="C0", linewidth=2)
    ax.plot(frame["per_df"], place, "o", color="C0", markersize=5)
    ax.axvline(1, color=_axes.GREY, linewidth=0.8, linestyle="--")
    _axes.label_levels(ax, frame["term"].tolist(), "")
    ax.set_xlim(0.9, max(2.0, 1.05 * float(frame["per_df"].max())))
    ax.set_xlabel("inflation of the standard error")


# ---- responses drawn from the model ---------------------------------------------------------


@_axes.of_fit
def simulated_frame(fit: Fitted, n: int = 30, seed: int = 0) -> pd.DataFrame:
    """Distributions of the response and of responses drawn from the model.

    Parameters
    ----------
    fit : LMMFit, GLMMFit or MMRMFit
        Of `lmmfast.lmer`, `lmmfast.glmer` or `lmmfast.mmrm`.
    n : int, default 30
        Responses drawn, with new random effects.
    seed : int, default 0
        Of the random numbers; default: a new one, kept in the result.

    Returns
    -------
    pandas.DataFrame
        ``draw`` (-1: the data), ``value`` and ``density``: kernel densities; of responses with at
        most 30 whole values shares of each.

    Raises
    ------
    DataError
        When the rows of the fit are not in memory.
    """
    one: Any = fit
    import pandas as pd

    y = np.asarray(one.design.y, dtype=float)
    drawn = one.simulate(n, seed).to_numpy(dtype=float)
    values = np.unique(y)
    discrete = len(values) <= 30 and bool((values == np.round(values)).all())
    whole = [y, *drawn.T]
    if discrete:
        top = np.unique(np.concatenate([values, np.unique(drawn)]))
        shares = [np.array([(own == value).mean() for value in top]) for own in whole]
        parts = [(top, share) for share in shares]
    else:
        spread = 0.1 * (y.max() - y.min())
        low, high = min(y.min(), drawn.min()) - spread, max(y.max(), drawn.max()) + spread
        parts = [_axes.density(own, low, high) for own in whole]
    frames = [
        pd.DataFrame({"draw": i - 1, "value": value, "density": height})
        for i, (value, height) in enumerate(parts)
    ]
    return pd.concat(frames, ignore_index=True)


@_axes.of_fit
def simulated(fit: Fitted, n: int = 30, seed: int = 0, *, ax: Axes | None = None) -> Axes:
    """The distribution of the response over those of responses drawn from the model.

    Parameters
    ----------
    fit, n, seed : various
        As for `simulated_frame`.
    %(ax)s

    Returns
    -------
    matplotlib axes

    Raises
    ------
    DataError
        When the rows of the fit are not in memory.
    %(matplotlib)s

    References
    ----------
    Gelman, Meng & Stern (1996), *Statistica Sinica* 6, 733-760.
    """
    one: Any = fit
    frame = simulated_frame(fit, n, seed)
    ax = _axes.new_axes("simulated")[0] if ax is None else ax
    for draw, part in frame[frame["draw"] >= 0].groupby("draw"):
        label = "drawn from the model" if draw == 0 else None
        ax.plot(part["value"], part["density"], color="C0", alpha=0.35, linewidth=0.7, label=label)
    own = frame[frame["draw"] < 0]
    ax.plot(own["value"], own["density"], color="C1", linewidth=2, label="data")
    discrete = len(own) < _axes.GRID
    if discrete and len(own) <= 12:
        ax.set_xticks(own["value"])
    ax.set(
        xlabel=_axes.literal(one.design.response or "response"),
        ylabel="share" if discrete else "density",
    )
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the legend
    ax.legend(fontsize="small", loc="upper right")
    return ax


# ---- all in one -----------------------------------------------------------------------------


@_axes.pictured
def check(
    checks: Checked | Fitted,
    *,
    source: Data | Iterable[IntoDataFrame] | None = None,
    axes: AxesLike | None = None,
) -> np.ndarray:
    """Residuals, their size and quantiles, those of the modes, influence, collinearity and drawn
    responses in one figure.

    Parameters
    ----------
    checks : Checks, or fit
        Of ``fit.check()``, which has the influence of levels; a fit is drawn without.
    source : table or source, optional
        The rows of a fit of a stream.
    axes : sequence of matplotlib axes, optional
        Panels that have no place are left out. Default: a new figure with all there are.

    Returns
    -------
    array of matplotlib axes

    Raises
    ------
    DataError
        When the rows are not in memory and `source` is not given.
    %(matplotlib)s
    """
    given: Any = checks
    known = hasattr(given, "verdicts")
    fit = given.fit if known else _axes.fit_of(given)
    influential = given.influence if known else None
    panels = _panels(fit, influential, source)
    if axes is None:
        columns = 4 if len(panels) > 6 else 3
        drawn = _axes.new_axes("check", len(panels), columns=columns, size=(3.8, 3.0))
    else:
        drawn = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()[: len(panels)]
    for ax, (title, draw) in zip(drawn, panels, strict=False):
        draw(ax)
        ax.set_title(title)
    return drawn


def _panels(fit: Any, influential: Any, source: Any) -> list[tuple[str, Callable[[Any], Any]]]:
    """Titles of the panels and what draws each."""
    frame = residuals_frame(fit, source=source)
    panels: list[tuple[str, Callable[[Any], Any]]] = [
        ("linearity", lambda ax: draw_residuals(ax, frame, fit, None)),
        ("equal variances", lambda ax: draw_sizes(ax, frame, fit, None)),
        ("normal residuals", lambda ax: draw_quantiles(ax, frame, fit, None)),
    ]
    if fit.design.terms:
        panels.append(("normal random effects", lambda ax: _draw_modes(ax, fit)))
    if influential is not None and len(influential):
        by = influential.attrs.get("by", "level")
        panels.append(("influence", lambda ax: draw_influence(ax, influential, by)))
    try:
        inflation = collinearity_frame(fit)
    except LmmError:
        inflation = None
    if inflation is not None and len(inflation) > 1:
        panels.append(("collinearity", lambda ax: draw_collinearity(ax, inflation)))
    if source is None:
        panels.append(("response", lambda ax: simulated(fit, ax=ax)))
    return panels


def _draw_modes(ax: Any, fit: Any) -> None:
    """Modes of every column over their spread, against normal quantiles."""
    frame = qq_ranef_frame(fit)
    number = 0
    for (group, column), part in frame.groupby(["group", "column"], sort=False):
        spread = float(part["mode"].std())
        if not spread > 1e-8 * float(fit.estimates.sigma):
            continue
        scaled = part["mode"] / spread
        label = _axes.literal(f"{column} | {group}")
        ax.plot(part["theoretical"], scaled, "o", color=f"C{number}", ms=3, mew=0, label=label)
        number += 1
    ax.axline((0, 0), slope=1, color=_axes.GREY, linewidth=0.8)
    ax.set(xlabel="normal quantile", ylabel="mode / standard deviation")
    if number == 0:
        ax.text(0.5, 0.5, "no variance", transform=ax.transAxes, ha="center")
    elif number <= MOST_MODES:
        _axes.legend_beside(ax, number)
