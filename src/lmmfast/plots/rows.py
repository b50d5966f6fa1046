"""Pictures of residuals: against fitted values, their size, their quantiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..given import Data, IntoDataFrame
from ..typing import Axes, Fitted
from . import axes as _axes

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


@_axes.of_fit
def residuals_frame(
    fit: Fitted, type: str | None = None, *, source: Data | Iterable[IntoDataFrame] | None = None
) -> pd.DataFrame:
    """Residuals beside fitted values.

    Parameters
    ----------
    fit : LMMFit, GLMMFit or MMRMFit
        Of `lmmfast.lmer`, `lmmfast.glmer` or `lmmfast.mmrm`.
    type : str, optional
        As for ``fit.residuals``. Default: "quantile" of generalized models, "normalized" of models
        for repeated measures and with a residual structure, else "pearson".
    source : table or source, optional
        The rows of a fit of a stream, as for ``fit.stream_residuals``; read once.

    Returns
    -------
    pandas.DataFrame
        One row a row that the fit used: ``fitted``, on the scale of the linear predictor, and
        ``residual``.

    Raises
    ------
    DataError
        When the rows are not in memory and `source` is not given.

    Examples
    --------
    >>> from lmmfast import datasets, lmer, plots
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> plots.residuals_frame(fit).round(2).iloc[0].tolist()
    [253.66, -0.16]
    """
    one: Any = fit
    import pandas as pd

    type = usual_residuals(fit) if type is None else type
    if source is not None:
        parts = list(one.stream_residuals(source, "response" if type == "response" else "pearson"))
        whole: pd.DataFrame = pd.concat(parts).rename(columns={"resid": "residual"})
        return whole
    own = one.residuals(type)
    fitted = one.fittedvalues if one.family is None else one.linear_predictor
    return pd.DataFrame({"fitted": np.asarray(fitted), "residual": own.to_numpy()}, own.index)


def usual_residuals(fit: Any) -> str:
    """The type whose distribution is nearest to standard normal where the model is right."""
    if fit.family is not None:
        return "quantile"
    repeated = hasattr(fit.design, "seen")  # visits of a model for repeated measures
    return "normalized" if repeated or fit.design.residual is not None else "pearson"


def _name_of(fit: Any, type: str | None) -> str:
    own = usual_residuals(fit) if type is None else type
    return "residual" if own == "response" else f"{own} residual"


def _fitted_name(fit: Any) -> str:
    return "fitted value" if fit.family is None else "linear predictor"


@_axes.of_fit
def residuals(
    fit: Fitted,
    type: str | None = None,
    *,
    source: Data | Iterable[IntoDataFrame] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Residuals against fitted values, with means of parts of the rows as a line.

    Above 100,000 rows hexagons count them.

    Parameters
    ----------
    fit, type, source : various
        As for `residuals_frame`.
    %(ax)s

    Returns
    -------
    matplotlib axes

    Raises
    ------
    DataError
        When the rows are not in memory and `source` is not given.
    %(matplotlib)s
    """
    frame = residuals_frame(fit, type, source=source)
    ax = _axes.new_axes("residuals")[0] if ax is None else ax
    draw_residuals(ax, frame, fit, type)
    return ax


def draw_residuals(ax: Any, frame: pd.DataFrame, fit: Any, type: str | None) -> None:
    """A frame of residuals."""
    x, y = frame["fitted"].to_numpy(), frame["residual"].to_numpy()
    _axes.points(ax, x, y)
    ax.axhline(0, color=_axes.GREY, linewidth=0.8)
    _axes.draw_trend(ax, x, y)
    ax.set(xlabel=_fitted_name(fit), ylabel=_name_of(fit, type))


@_axes.of_fit
def scale_location_frame(
    fit: Fitted, type: str | None = None, *, source: Data | Iterable[IntoDataFrame] | None = None
) -> pd.DataFrame:
    """Roots of the sizes of residuals beside fitted values.

    Parameters
    ----------
    fit, type, source : various
        As for `residuals_frame`.

    Returns
    -------
    pandas.DataFrame
        ``fitted`` and ``root``, the square root of the residual's absolute value.
    """
    frame = residuals_frame(fit, type, source=source)
    return frame[["fitted"]].assign(root=np.sqrt(np.abs(frame["residual"])))


@_axes.of_fit
def scale_location(
    fit: Fitted,
    type: str | None = None,
    *,
    source: Data | Iterable[IntoDataFrame] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Root of the size of residuals against fitted values: a level line where variances are equal.

    Parameters
    ----------
    fit, type, source, ax : various
        As for `residuals`.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    DataError, ImportError
        As for `residuals`.
    """
    frame = residuals_frame(fit, type, source=source)
    ax = _axes.new_axes("scale_location")[0] if ax is None else ax
    draw_sizes(ax, frame, fit, type)
    return ax


def draw_sizes(ax: Any, frame: pd.DataFrame, fit: Any, type: str | None) -> None:
    """Roots of the sizes of a frame of residuals."""
    x, y = frame["fitted"].to_numpy(), np.sqrt(np.abs(frame["residual"].to_numpy()))
    _axes.points(ax, x, y)
    _axes.draw_trend(ax, x, y)
    ax.set(xlabel=_fitted_name(fit), ylabel=f"√|{_name_of(fit, type)}|")
    ax.set_ylim(bottom=0)


@_axes.of_fit
def qq_frame(
    fit: Fitted,
    type: str | None = None,
    *,
    level: float = 0.95,
    source: Data | Iterable[IntoDataFrame] | None = None,
) -> pd.DataFrame:
    """Residuals in their order beside normal quantiles.

    Parameters
    ----------
    fit, type, source : various
        As for `residuals_frame`.
    level : float, default 0.95
        Coverage of the band, for each quantile by itself.

    Returns
    -------
    pandas.DataFrame
        ``residual``, ``theoretical``, ``lower`` and ``upper``, between which the order statistic of
        as many independent values lies with this probability, and ``line``, through the quartiles.
        Index: that of the rows.
    """
    return _quantiles(residuals_frame(fit, type, source=source), level, thinned=False)


def _quantiles(frame: pd.DataFrame, level: float, thinned: bool) -> pd.DataFrame:
    """As `qq_frame`; thinned, the tails and some of the middle."""
    from scipy.special import ndtri
    from scipy.stats import beta

    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level!r}")
    frame = frame[["residual"]].sort_values("residual", kind="stable")
    n, scores = len(frame), _axes.normal_scores(len(frame))
    height, slope = _axes.quartile_line(scores, frame["residual"].to_numpy())
    rank = np.arange(1, n + 1)
    if thinned and n > SHOWN:
        tail = SHOWN // 8
        middle = np.linspace(tail + 1, n - tail, SHOWN - 2 * tail).astype(int)
        rank = np.unique(np.concatenate([rank[:tail], middle, rank[-tail:]]))
    ends = [beta.ppf(p, rank, n + 1 - rank) for p in ((1 - level) / 2, (1 + level) / 2)]
    lower, upper = (height + slope * ndtri(end) for end in ends)
    own = frame.iloc[rank - 1]
    return own.assign(
        theoretical=scores[rank - 1],
        lower=lower,
        upper=upper,
        line=height + slope * scores[rank - 1],
    )


SHOWN = 4_000  # quantiles that are drawn of more; the tails are drawn whole


@_axes.of_fit
def qq(
    fit: Fitted,
    type: str | None = None,
    *,
    level: float = 0.95,
    source: Data | Iterable[IntoDataFrame] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Residuals against normal quantiles, with a band for each quantile by itself.

    The line goes through the quartiles. Of very many rows the middle is thinned, never the tails.

    Parameters
    ----------
    fit, type, level, source : various
        As for `qq_frame`.
    %(ax)s

    Returns
    -------
    matplotlib axes

    Raises
    ------
    DataError, ImportError
        As for `residuals`.
    """
    frame = residuals_frame(fit, type, source=source)
    ax = _axes.new_axes("qq")[0] if ax is None else ax
    draw_quantiles(ax, frame, fit, type, level)
    return ax


def draw_quantiles(
    ax: Any, frame: pd.DataFrame, fit: Any, type: str | None, level: float = 0.95
) -> None:
    """Quantiles of a frame of residuals."""
    frame = _quantiles(frame, level, thinned=True)
    x = frame["theoretical"].to_numpy()
    ax.fill_between(x, frame["lower"], frame["upper"], color=_axes.GREY, alpha=0.3, linewidth=0)
    ax.plot(x, frame["line"], color=_axes.GREY, linewidth=0.8)
    ax.plot(x, frame["residual"], "o", color="C0", markersize=3, mew=0)
    ax.set(xlabel="normal quantile", ylabel=_name_of(fit, type))
