"""Curves of power."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def curve(frame: pd.DataFrame, ax: Any) -> Any:
    """Power against the first of what varies, a line for each combination of the others."""
    names = list(frame.columns[: frame.columns.get_loc("nobs")])
    varied = [name for name in names if frame[name].nunique() > 1] or names[:1]
    x, *others = varied
    ax = _new_axes() if ax is None else ax
    parts = [((), frame)] if not others else list(frame.groupby(others, sort=False))
    for key, part in parts:
        label = ", ".join(f"{name} = {value:g}" for name, value in zip(others, key, strict=True))
        part = part.sort_values(x)
        (line,) = ax.plot(part[x], part["power"], marker="o", markersize=4, label=label or None)
        ax.fill_between(
            part[x], part["lower"], part["upper"], color=line.get_color(), alpha=0.2, linewidth=0
        )
    ax.axhline(0.8, color="0.6", linewidth=0.8, linestyle="--")
    ax.set(xlabel=x, ylabel="power", ylim=(0, 1.02))
    if others:
        ax.legend()
    return ax.figure


def _new_axes() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plot() needs matplotlib: pip install 'lmmfast[plot]'") from error

    figure, ax = plt.subplots(figsize=(5.5, 3.6))
    figure.set_layout_engine("constrained")
    return ax
