"""Pictures of profile likelihoods: zeta, densities, contours of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..typing import AxesLike
from . import axes as _axes
from .drawn import Profiled

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

DRAWN = (
    0.5,
    0.8,
    0.9,
    0.95,
    0.99,
)  # levels of intervals and contours, as far as they were followed
CURVE = 101  # points of a contour
CLOSE = 1e-3  # zeta by which a profile may end before the end of an interval


def profile_frame(
    profile: Profiled | pd.DataFrame, which: str | list[str] | tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Smooth profiles of parameters.

    Parameters
    ----------
    profile : Profile or pandas.DataFrame
        ``fit.profile()``; of a model for repeated measures that is a frame.
    which : str or list of str, optional
        Parameters, as for ``fit.profile``. Default: all that were profiled.

    Returns
    -------
    pandas.DataFrame
        ``parameter``, ``value``, ``zeta``: places along each profile, in its order.
        ``profile.frame`` has the points that were computed.

    Raises
    ------
    ValueError
        When none of the parameters has a profile.
    """
    given: Any = profile
    is_frame = hasattr(profile, "columns")
    frame: pd.DataFrame = given if is_frame else given.curves(which)
    if is_frame and which is not None:
        frame = frame[frame["parameter"].isin([which] if isinstance(which, str) else which)]
    if not len(frame):
        raise ValueError("none of these parameters has a profile")
    return frame


@_axes.pictured
def profile(
    profile: Profiled | pd.DataFrame,
    which: str | list[str] | tuple[str, ...] | None = None,
    *,
    axes: AxesLike | None = None,
) -> np.ndarray:
    """zeta against the value of each parameter; a straight line is a quadratic deviance.

    Dashed lines lead from zeta to the ends of the 50, 80, 90, 95 and 99 % intervals.

    Parameters
    ----------
    profile : Profile
        ``fit.profile()``.
    which : str or list of str, optional
        Parameters, as for ``fit.profile``. Default: all that were profiled.
    axes : sequence of matplotlib axes, optional
        One a parameter. Default: a new figure.

    Returns
    -------
    (k,) array of matplotlib axes

    Raises
    ------
    ValueError
        When none of the parameters has a profile, or there are fewer axes than that.
    %(matplotlib)s
    """
    parts = _parts(profile_frame(profile, which))
    drawn = _axes_of(axes, "profile", len(parts))
    for ax, (name, part) in zip(drawn, parts.items(), strict=True):
        ax.plot(part["value"], part["zeta"], color="C0")
        ax.axhline(0, color=_axes.GREY, linewidth=0.8)
        value, zeta = part["value"].to_numpy(), part["zeta"].to_numpy()
        for height in _heights():
            if zeta[0] - CLOSE <= height <= zeta[-1] + CLOSE:
                end = np.interp(height, zeta, value)
                ax.plot([end, end], [0, height], color=_axes.GREY, lw=0.8, ls="--")
        ax.set(xlabel=_axes.broken(name), ylabel="zeta")
    return drawn


def _heights() -> list[float]:
    """zeta at the ends of the intervals that are drawn."""
    from scipy.special import ndtri

    return [float(sign * ndtri((1 + level) / 2)) for level in DRAWN for sign in (-1, 1)]


def _parts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return dict(iter(frame.groupby("parameter", sort=False)))  # type: ignore[arg-type]


def _axes_of(axes: Any, function: str, count: int) -> np.ndarray:
    if axes is None:
        return _axes.new_axes(function, count, size=(3.2, 2.6))
    return _axes.given_axes(axes, count, "profiles")


def profile_density_frame(
    profile: Profiled | pd.DataFrame, which: str | list[str] | tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Densities of which the profile's zeta are the normal scores: phi(zeta) d zeta / d value.

    Parameters
    ----------
    profile, which : various
        As for `profile_frame`.

    Returns
    -------
    pandas.DataFrame
        ``parameter``, ``value``, ``density``. Where a bound is not excluded, less than one lies
        below the curve.

    Raises
    ------
    ValueError
        When none of the parameters has a profile.
    """
    import pandas as pd

    given: Any = profile
    points, frames = _parts(getattr(given, "frame", given)), []
    for name, part in _parts(profile_frame(profile, which)).items():
        value, zeta, slope = _slopes(points[name], part)
        height = np.exp(-(zeta**2) / 2) / np.sqrt(2 * np.pi) * slope
        frames.append(pd.DataFrame({"parameter": name, "value": value, "density": height}))
    return pd.concat(frames, ignore_index=True)


def _slopes(points: pd.DataFrame, curve: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, zeta and its slope: of the spline through the points that were computed, whose slope
    has no corners; where it is not monotone, of the curve that is drawn."""
    from scipy.interpolate import CubicSpline

    own = points.drop_duplicates("value").sort_values("value")
    value = np.unique(curve["value"].to_numpy())
    if len(own) >= 4:
        spline = CubicSpline(own["value"].to_numpy(), own["zeta"].to_numpy())
        slope = spline(value, 1)
        if (slope >= 0).all():
            return value, spline(value), slope
    zeta = np.interp(value, curve["value"], curve["zeta"])
    return value, zeta, np.gradient(zeta, value)


def profile_density(
    profile: Profiled | pd.DataFrame,
    which: str | list[str] | tuple[str, ...] | None = None,
    *,
    axes: AxesLike | None = None,
) -> np.ndarray:
    """Densities of the parameters that the profiles stand for; lme4's ``densityplot``.

    Parameters
    ----------
    profile, which, axes : various
        As for `profile`.

    Returns
    -------
    (k,) array of matplotlib axes

    Raises
    ------
    ValueError, ImportError
        As for `profile`.
    """
    parts = _parts(profile_density_frame(profile, which))
    drawn = _axes_of(axes, "profile_density", len(parts))
    for ax, (name, part) in zip(drawn, parts.items(), strict=True):
        ax.plot(part["value"], part["density"], color="C0")
        ax.fill_between(part["value"], 0, part["density"], color="C0", alpha=0.2, linewidth=0)
        ax.set(xlabel=_axes.broken(name), ylabel="density")
        ax.set_ylim(bottom=0)
    return drawn


# ---- pairs ----------------------------------------------------------------------------------


def profile_contours_frame(
    profile: Profiled,
    which: str | list[str] | tuple[str, ...] | None = None,
    *,
    levels: tuple[float, ...] = DRAWN,
) -> pd.DataFrame:
    """Contours of the profile likelihood of pairs of parameters, from the profiles of each.

    Parameters
    ----------
    profile, which : various
        As for `profile_frame`.
    levels : sequence of float
        Coverage of joint regions (two degrees of freedom). Default: 0.5, 0.8, 0.9, 0.95, 0.99.
        Those beyond the level of the profiles are left out.

    Returns
    -------
    pandas.DataFrame
        ``x``, ``y`` (names), ``level``, ``x_value``, ``y_value``: a closed curve each. Where a
        profile ends at a bound before the contour there is none.

    Raises
    ------
    ValueError
        When fewer than two of the parameters have a profile.

    References
    ----------
    Bates & Watts (1988), *Nonlinear Regression Analysis and Its Applications*, appendix 6.
    """
    import pandas as pd

    if hasattr(profile, "columns"):
        raise ValueError(
            "contours need the other parameters along each profile, which those of models for "
            "repeated measures do not have"
        )
    curves = _parts(profile_frame(profile, which))
    names = list(curves)
    if len(names) < 2:
        raise ValueError("contours need the profiles of two parameters")
    given: Any = profile
    points = _parts(given.frame)
    frames = []
    for i, second in enumerate(names):
        for first in names[:i]:
            for level in levels:
                reach = float(np.sqrt(-2 * np.log1p(-level)))  # of chi-squared with two df
                found = _contour(curves, points, first, second, reach)
                if found is not None:
                    own = {"x": first, "y": second, "level": level}
                    frames.append(pd.DataFrame({**own, "x_value": found[0], "y_value": found[1]}))
    columns = ["x", "y", "level", "x_value", "y_value"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _contour(
    curves: Any, points: Any, first: str, second: str, reach: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """A contour by polar interpolation of the angles at which the traces meet it."""
    from scipy.interpolate import CubicSpline

    angles = []
    for one, other, swapped in ((first, second, False), (second, first, True)):
        for sign in (1, -1):
            cosine = _met(curves, points, one, other, sign * reach)
            if cosine is None:
                return None
            own, its = (0.0 if sign > 0 else np.pi), float(np.arccos(cosine))
            angles.append((its, own) if swapped else (own, its))
    middle, apart = [], []
    for x, y in angles:
        half, difference = (x + y) / 2, x - y
        middle.append(half if difference > 0 else -half)
        apart.append(abs(difference))
    order = np.argsort(middle)
    a, d = np.array(middle)[order], np.array(apart)[order]
    if (np.diff(a) <= 1e-9).any():
        return None
    spline = CubicSpline(np.append(a, a[0] + 2 * np.pi), np.append(d, d[0]), bc_type="periodic")
    at = np.linspace(a[0], a[0] + 2 * np.pi, CURVE)
    zetas = [reach * np.cos(at + sign * spline(at) / 2) for sign in (1, -1)]
    values = [
        _value_at(curves[name], zeta) for name, zeta in zip((first, second), zetas, strict=True)
    ]
    return None if any(np.isnan(own).any() for own in values) else (values[0], values[1])


def _met(curves: Any, points: Any, one: str, other: str, zeta: float) -> float | None:
    """zeta of the other parameter, over the reach, where that of one is zeta along its profile;
    None where it was not followed so far."""
    path = points[one]
    if not path["zeta"].min() <= zeta <= path["zeta"].max():
        return None
    value = np.interp(zeta, path["zeta"], path[other])
    curve = curves[other]
    met = np.interp(value, curve["value"], curve["zeta"])
    return float(np.clip(met / abs(zeta), -1, 1))


def _value_at(curve: pd.DataFrame, zeta: np.ndarray) -> np.ndarray:
    """Values with these zeta; NaN beyond the profile."""
    own = curve["zeta"].to_numpy()
    slack = 1e-6 + 0.01 * np.abs(own).max()
    if (zeta < own[0] - slack).any() or (zeta > own[-1] + slack).any():
        return np.full(len(zeta), np.nan)
    return np.asarray(np.interp(zeta, own, curve["value"].to_numpy()))


def profile_contours(
    profile: Profiled,
    which: str | list[str] | tuple[str, ...] | None = None,
    *,
    levels: tuple[float, ...] = DRAWN,
    axes: AxesLike | None = None,
) -> np.ndarray:
    """Contours of pairs of parameters with the traces of both profiles; lme4's ``splom``.

    A trace is where the other parameter is best along a parameter's profile. Straight traces and
    ellipses are a quadratic deviance; traces that cross at a small angle are parameters that are
    hard to tell apart.

    Parameters
    ----------
    profile, which : various
        As for `profile`; three or four parameters can be looked at.
    levels : sequence of float
        As for `profile_contours_frame`.
    axes : sequence of matplotlib axes, optional
        One a pair. Default: a new figure.

    Returns
    -------
    array of matplotlib axes

    Raises
    ------
    ValueError, ImportError
        As for `profile`.
    """
    frame = profile_contours_frame(profile, which, levels=levels)
    given: Any = profile
    points = _parts(given.frame)
    names = list(_parts(profile_frame(profile, which)))
    pairs = [(first, second) for i, second in enumerate(names) for first in names[:i]]
    if axes is None:
        drawn = _axes.new_axes("profile_contours", len(pairs), size=(3.0, 2.8))
    else:
        drawn = _axes.given_axes(axes, len(pairs), "pairs")
    for ax, (x, y) in zip(drawn, pairs, strict=True):
        own = frame[(frame["x"] == x) & (frame["y"] == y)]
        for _, curve in own.groupby("level"):
            ax.plot(curve["x_value"], curve["y_value"], color="C0", linewidth=1)
        ax.plot(points[x][x], points[x][y], color="C1", linewidth=1)
        ax.plot(points[y][x], points[y][y], color="C2", linewidth=1)
        ax.set(xlabel=_axes.literal(x), ylabel=_axes.literal(y))
    return drawn
