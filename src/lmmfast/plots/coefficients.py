"""Pictures of coefficients with intervals, of one model or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..typing import Axes, Fitted
from . import axes as _axes

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


def coefficients_frame(
    fits: Fitted | Sequence[Fitted] | Mapping[str, Fitted],
    *,
    level: float = 0.95,
    drop_intercept: bool = True,
    exponentiate: bool = False,
    **options: object,
) -> pd.DataFrame:
    """Fixed effects with intervals, or parameters of any kind, of one model or several.

    Parameters
    ----------
    fits : fit, list of fits, or dict of name to fit
        Of one model, a list of several, or a dict by their names.
    level : float, default 0.95
        Coverage of the intervals.
    drop_intercept : bool, default True
        Leave out the intercept, beside whose size effects can often not be seen, unless it is asked
        for by name.
    exponentiate : bool, default False
        exp of estimates and limits: odds ratios, rate ratios.
    **options
        Of ``fit.conf_int``: ``method``, ``ddf``, ``parameters`` ("random", "all", or a list of
        names, which are shown in this order).

    Returns
    -------
    pandas.DataFrame
        One row a model and coefficient: ``model``, ``name``, ``estimate``, ``lower``, ``upper``.
        Coefficients that were dropped are not in it.

    Raises
    ------
    ValueError
        When there is nothing to show.
    """
    import pandas as pd

    frames = []
    for name, fit in _named(fits).items():
        limits = fit.conf_int(level, **options)
        estimate = _estimates(fit, limits.index)
        own = pd.DataFrame({"model": name, "name": limits.index, "estimate": estimate.to_numpy()})
        frames.append(
            own.assign(lower=limits["lower"].to_numpy(), upper=limits["upper"].to_numpy())
        )
    found = pd.concat(frames, ignore_index=True).dropna(subset="estimate")
    rest = found[found["name"] != "Intercept"]
    named = not isinstance(options.get("parameters", ""), str)
    if drop_intercept and len(rest) and not named:
        found = rest
    if not len(found):
        raise ValueError("these models have no coefficients to show")
    if exponentiate:
        found[["estimate", "lower", "upper"]] = np.exp(found[["estimate", "lower", "upper"]])
    return found.reset_index(drop=True)


def _estimates(fit: Any, names: pd.Index) -> pd.Series:
    """Of fixed effects and, where one is asked for, of the random effects' parameters."""
    found: pd.Series = fit.params
    if not names.isin(found.index).all():
        import pandas as pd

        found = pd.concat([found, fit.parameters()["estimate"], getattr(fit, "extra", None)])
    return found.reindex(names)


def _named(fits: Any) -> dict[str, Any]:
    if isinstance(fits, Mapping):
        named = {str(name): fit for name, fit in fits.items()}
    elif isinstance(fits, Sequence):
        named = {f"model {i + 1}": fit for i, fit in enumerate(fits)}
    else:
        named = {"": fits}
    if not named:
        raise ValueError("give at least one fit")
    return {name: _axes.fit_of(fit) for name, fit in named.items()}


@_axes.pictured
def coefficients(
    fits: Fitted | Sequence[Fitted] | Mapping[str, Fitted],
    *,
    level: float = 0.95,
    drop_intercept: bool = True,
    exponentiate: bool = False,
    ax: Axes | None = None,
    **options: object,
) -> Axes:
    """Fixed effects with intervals, in the order of the model; several models side by side.

    Parameters
    ----------
    fits, level, drop_intercept, exponentiate
        As for `coefficients_frame`. With ``exponentiate`` the axis is logarithmic.
    %(ax)s
    **options
        Of ``fit.conf_int``: ``method``, ``ddf``, ``parameters``, ...

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError
        When there is nothing to show.
    %(matplotlib)s

    See Also
    --------
    coefficients_frame : The numbers.
    """
    frame = coefficients_frame(
        fits, level=level, drop_intercept=drop_intercept, exponentiate=exponentiate, **options
    )
    names, models = list(dict.fromkeys(frame["name"])), list(dict.fromkeys(frame["model"]))
    if ax is None:
        size = (_axes.wide_for(names), _axes.height_of(len(names) * max(1, len(models) // 2)))
        ax = _axes.new_axes("coefficients", size=size)[0]
    for i, model in enumerate(models):
        own = frame[frame["model"] == model]
        place = np.array([names.index(name) for name in own["name"]], dtype=float)
        place += 0.6 * ((i + 0.5) / len(models) - 0.5)
        intervals(ax, own, place, f"C{i}", model if len(models) > 1 else None)
    ax.axvline(1 if exponentiate else 0, color=_axes.GREY, linewidth=0.8, linestyle="--", zorder=0)
    _axes.label_levels(ax, names, "")
    if exponentiate:
        _axes.ratio_axis(ax)
    what = "exp(estimate)" if exponentiate else "estimate"
    ax.set_xlabel(f"{what}, {100 * level:g}% interval")
    if len(models) > 1:
        ax.legend()
    return ax


def intervals(
    ax: Any, frame: pd.DataFrame, place: np.ndarray, color: str, label: str | None
) -> None:
    """Horizontal intervals with their estimates."""
    ax.hlines(place, frame["lower"], frame["upper"], color=color, linewidth=1.5)
    ax.plot(
        frame["estimate"],
        place,
        "o",
        color=color,
        markersize=5,
        label=None if label is None else _axes.literal(label),
    )
