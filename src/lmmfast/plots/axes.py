"""What all pictures share: axes, many points, densities, labels that fit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, TypeVar

import numpy as np

from ..errors import FitError

Called = TypeVar("Called", bound=Callable[..., Any])

LARGE = 100_000  # points above which hexagons count them
BINS = 20  # of as many points each, whose means are a trend
GRID = 512  # places of a density
LEGIBLE = 60  # levels whose labels can be told apart
GREY = "0.6"  # of lines that guide the eye, on light and on dark


def new_axes(
    function: str,
    count: int = 1,
    *,
    columns: int = 3,
    size: tuple[float, float] | None = None,
    **options: Any,
) -> np.ndarray:
    """Axes (count) of a new figure, `size` in inches each; ImportError without matplotlib."""
    plt = pyplot(function)
    wide = min(columns, count)
    rows = -(-count // wide)
    if size is not None:
        options["figsize"] = (size[0] * wide, size[1] * rows)
    _, axes = plt.subplots(rows, wide, squeeze=False, layout="constrained", **options)
    for ax in axes.ravel()[count:]:
        ax.remove()
    return np.asarray(axes.ravel()[:count])


def pyplot(function: str) -> Any:
    """matplotlib.pyplot; ImportError that says what needs it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{function}() needs the package matplotlib: pip install 'lmmfast[plot]'"
        ) from error
    return plt


def given_axes(axes: Any, count: int, what: str) -> np.ndarray:
    """The axes of a caller, as many as there are pictures; ValueError for fewer."""
    found = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(found) < count:
        raise ValueError(f"{count} {what} need as many axes, not {len(found)}")
    return found[:count]


def fit_of(fit: Any) -> Any:
    """A fit, also out of the results of `mixedlm`; else TypeError."""
    own = getattr(fit, "lmm", fit)
    if not hasattr(own, "design") or not hasattr(own, "estimates"):
        raise TypeError(f"a fit as lmer gives it is needed, not {type(fit).__name__}")
    return own


# paragraphs that docstrings of pictures share
SHARED = {
    "%(ax)s": "ax : matplotlib axes, optional\n        Default: a new figure.",
    "%(matplotlib)s": "ImportError\n        Without matplotlib, when no axes are given.",
}


def pictured(function: Called) -> Called:
    """The function, whose docstring has the shared paragraphs in place of their names."""
    for name, paragraph in SHARED.items():
        function.__doc__ = (function.__doc__ or "").replace(name, paragraph)
    return function


def of_fit(function: Called) -> Called:
    """The function with what `fit_of` makes of its first argument."""

    @functools.wraps(function)
    def called(fit: Any, *args: Any, **options: Any) -> Any:
        return function(fit_of(fit), *args, **options)

    return pictured(called)  # type: ignore[return-value]


def terms_of(fit: Any, group: str | None) -> list[Any]:
    """Random terms of a grouping factor, or all; FitError where there are none."""
    terms = list(fit.design.terms)
    if not terms:
        raise FitError("this fit has no random effects, and no picture of them")
    if group is None:
        return terms
    known = list(dict.fromkeys(term.group for term in terms))
    if group not in known:
        raise ValueError(f"group must be one of {', '.join(map(repr, known))}, not {group!r}")
    return [term for term in terms if term.group == group]


# ---- points ---------------------------------------------------------------------------------


def points(ax: Any, x: np.ndarray, y: np.ndarray, **options: Any) -> Any:
    """Points; above `LARGE` hexagons whose colour counts them."""
    if len(x) > LARGE:
        return ax.hexbin(x, y, gridsize=60, mincnt=1, bins="log", linewidths=0.2)
    alpha = float(np.clip(60 / np.sqrt(max(len(x), 1)) / 8, 0.15, 0.7))
    return ax.plot(
        x, y, "o", **{"markersize": 4, "alpha": alpha, "mew": 0, "color": "C0"} | options
    )


def trend(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of y in parts of the order of x, which hold as many points each and never divide equal
    values."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    count = int(np.clip(len(x) // 10, 1, BINS))
    starts = np.searchsorted(x, x[np.linspace(0, len(x), count, endpoint=False).astype(int)])
    starts = np.unique(starts)
    sizes = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes


def draw_trend(ax: Any, x: np.ndarray, y: np.ndarray, label: str | None = None) -> None:
    """The trend as a line."""
    if len(x):
        ax.plot(*trend(x, y), color="C1", marker=".", linewidth=1.5, label=label)


# ---- distributions --------------------------------------------------------------------------


def normal_scores(n: int) -> np.ndarray:
    """Normal quantiles of n ordered values, at (i - 3/8) / (n + 1/4) (Blom 1958)."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25)))


def quartile_line(scores: np.ndarray, ordered: np.ndarray) -> tuple[float, float]:
    """Height at zero and slope of the line through the quartiles, as R's qqline."""
    x, y = (np.quantile(values, [0.25, 0.75]) for values in (scores, ordered))
    slope = float((y[1] - y[0]) / (x[1] - x[0])) if x[1] > x[0] else 0.0
    return float(y[0] - slope * x[0]), slope


def density(
    values: np.ndarray,
    low: float | None = None,
    high: float | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel density: places (GRID) and heights, by Silverman's width (1986, eq. 3.31).

    low, high : ends of the places; default three widths beyond the values.
    bounds : that no value passes; what the kernel lays beyond them is reflected.
    """
    from scipy.ndimage import gaussian_filter1d

    values = values[np.isfinite(values)]
    if not len(values):
        return np.zeros(0), np.zeros(0)
    quartiles = np.quantile(values, [0.25, 0.75])
    spreads = [float(np.std(values)), float(np.diff(quartiles)[0]) / 1.34]
    spread = min([own for own in spreads if own > 0], default=0.0)
    scale = max(spread, 1e-9 * float(np.abs(values).max()), 1e-300)
    width = 0.9 * scale * len(values) ** -0.2
    low = values.min() - 3 * width if low is None else low
    high = values.max() + 3 * width if high is None else high
    low, high = max(low, bounds[0]), min(high, bounds[1])
    if not high > low:
        return np.zeros(0), np.zeros(0)
    counts, edges = np.histogram(values, GRID, (low, high))
    step = edges[1] - edges[0]
    smooth = gaussian_filter1d(counts / (len(values) * step), width / step, mode="reflect")
    return (edges[:-1] + edges[1:]) / 2, np.asarray(smooth)


# ---- labels ---------------------------------------------------------------------------------


def literal(text: Any) -> str:
    """A name as a label that shows it as it is: between dollars matplotlib reads mathematics."""
    return str(text).replace("$", r"\$")


def label_levels(ax: Any, labels: Sequence[Any], name: str) -> None:
    """Levels on the vertical axis, the first at the top; where they are too many, their number."""
    count = len(labels)
    ax.set_ylim(count - 0.5, -0.5)
    if count <= LEGIBLE:
        ax.set_yticks(np.arange(count), [literal(label) for label in labels])
        if name:
            ax.set_ylabel(literal(name))
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{literal(name)} ({count} levels)")


def height_of(count: int) -> float:
    """Inches in which that many labels can be read."""
    return 5.0 if count > LEGIBLE else max(2.0, 0.9 + 0.2 * count)


def ratio_axis(ax: Any) -> None:
    """A logarithmic horizontal axis whose numbers are written as they are: 0.5, not 5e-01."""

    def minor(value: float, _: Any) -> str:
        low, high = ax.get_xlim()
        decades = np.log10(high / low)
        shown = "2345678" if decades < 0.7 else "25" if decades < 2.5 else ""
        return f"{value:g}" if f"{value:e}"[0] in shown else ""

    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(minor)


def wide_for(labels: Sequence[Any], least: float = 4.5) -> float:
    """Inches in which labels on the vertical axis leave room for the picture."""
    return float(least + min(4.0, 0.07 * max((len(str(own)) for own in labels), default=0)))


def name_points(ax: Any, x: np.ndarray, y: np.ndarray, names: Iterable[str]) -> None:
    """Names above the ends of stems, the first where they belong, the next beside or above names
    and stems that are in the way. Limits of the axes must be final; the upper one is raised where
    names need it."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    box = ax.get_position()
    wide, tall = ax.get_figure().get_size_inches() * 72 * (box.width, box.height)  # points
    at = np.column_stack([(x - left) / (right - left) * wide, (y - low) / (high - low) * tall])
    taken: list[tuple[float, float, float, float]] = []
    for i, name in enumerate(names):
        stems = [(px, px, 0.0, py) for k, (px, py) in enumerate(at) if k != i]
        length = LETTER * len(name)
        sides = {"center": -length / 2, "left": 2.0, "right": -length - 2}
        for rise, side in product(range(MOST_RISES), sides):
            first, bottom = at[i, 0] + sides[side], at[i, 1] + 3 + rise * LINE
            found = (first, first + length, bottom, bottom + LINE)
            inside = first > 0 and first + length < wide
            if inside and not any(_meet(found, other) for other in (*taken, *stems)):
                break
        else:  # there is no room: in the middle, over what is there
            side, rise = "center", 0
        taken.append(found)
        shift = {"center": 0, "left": 2, "right": -2}[side], 3 + rise * LINE
        ax.annotate(literal(name), (x[i], y[i]), shift, textcoords="offset points", ha=side)
    top = max((own[3] for own in taken), default=0.0)
    if top > tall:
        ax.set_ylim(low, low + (high - low) * top / tall)


LETTER, LINE = 6.0, 11.0  # points of a letter's width and a line's height, about
MOST_RISES = 8  # lines that a name may stand above its point


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two rectangles (left, right, bottom, top) overlap."""
    across = one[0] < other[1] + 1 and other[0] < one[1] + 1
    return across and one[2] < other[3] and other[2] < one[3]


def legend_beside(ax: Any, count: int) -> None:
    """A legend of points along the diagonal: above them where it is small, else below the axes."""
    if count <= 2:
        ax.legend(fontsize="small", loc="upper left")
        return
    labels = ax.get_legend_handles_labels()[1]
    two = 2 * max(map(len, labels)) <= 48
    where = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.2), "ncols": 1 + two}
    ax.legend(fontsize="x-small", frameon=False, handletextpad=0.1, columnspacing=0.8, **where)


def broken(name: Any, room: int = 30) -> str:
    """A name as a label (`literal`), in lines where it is longer than a panel is wide."""
    text = str(name)
    return literal(text if len(text) <= room else text.replace(":", ":\n").replace(" | ", "\n| "))


def turn_if_long(ax: Any, labels: Sequence[str], room: int = 40) -> None:
    """Turns the labels of a horizontal axis that would overlap: more than `room` letters."""
    if max(map(len, labels), default=0) * len(labels) > room:
        ax.tick_params(axis="x", rotation=45)
        for text in ax.get_xticklabels():
            text.set_horizontalalignment("right")
            text.set_rotation_mode("anchor")
