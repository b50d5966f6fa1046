"""Numbers that follow from estimates alone: standard errors, z, covariances of random effects, and
what the parameters of covariance structures are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from .data.design import Design
    from .data.terms import RandomTerm
    from .engine.estimates import Estimates


def standard_errors(estimates: Estimates) -> np.ndarray:
    """Standard errors of the fixed effects (p); NaN for dropped columns."""
    return np.sqrt(np.diag(estimates.vcov))


def ratios(estimates: Estimates) -> np.ndarray:
    """Estimates over standard errors (p)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(estimates.beta / standard_errors(estimates))


def normal_pvalues(z: np.ndarray) -> np.ndarray:
    """Two-sided p-values of z statistics."""
    from scipy.special import ndtr

    return np.asarray(2 * ndtr(-np.abs(z)))


def term_covariance(estimates: Estimates, term: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance (k x k), standard deviations (k), correlations (k x k; NaN at variance 0)."""
    factor = estimates.sigma * estimates.T[term]
    cov = factor @ factor.T
    sd = np.sqrt(np.diag(cov))
    with np.errstate(divide="ignore", invalid="ignore"):
        corr = np.clip(cov / sd[:, None] / sd, -1.0, 1.0)
    return cov, sd, corr


@dataclass(frozen=True)
class Reading:
    """What one parameter of a random term's covariance is.

    A standard deviation of column i, a correlation of columns i and j, the range of a kernel as the
    correlation of columns i and j tells it, or a loading of column i on latent variable j.
    """

    name: str  # "sd(Days | Subject)", "rho(times | Subject)"
    kind: str  # "sd", "cor", "range" or "loading"
    i: int = -1
    j: int = -1


def is_custom(term: RandomTerm) -> bool:
    """Whether a user wrote the covariance of a term."""
    return term.covariance is not None and term.covariance.kind == "custom"


_ONE_SD = ("homdiag", "homcs", "ar1", "homtoep", "homad", "exp", "gau", "mat32", "mat52")
MOST_RANGES = 15.0  # between columns whose correlation still tells the range
_KERNELS = ("exp", "gau", "mat32", "mat52")


def readings(term: RandomTerm, T: np.ndarray) -> list[Reading]:
    """The parameters of a term's covariance in the user's terms, in the order of the fit's own.

    T (k, k) is a root of it: of a correlation that many pairs of columns share, two are read that
    vary.
    """
    if term.covariance is None:
        return list(_plain_readings(term))
    kind, names = term.covariance.kind, term.columns
    where = f"{columns_of(term)} | {term.group}"
    if kind == "rr":
        return [
            Reading(f"loading({names[r]}, {c + 1} | {term.group})", "loading", r, c)
            for c in range(term.covariance.rank)
            for r in range(c, len(names))
        ]
    if kind in _ONE_SD:
        found = [Reading(f"sd({where})", "sd", 0)]
    else:
        found = [Reading(f"sd({name} | {term.group})", "sd", j) for j, name in enumerate(names)]
    if kind in _KERNELS:
        return [*found, Reading(f"range({where})", "range", *_middling(T))]
    vary = np.flatnonzero(T.any(axis=1)).tolist()
    return found + [Reading(name, "cor", *_pair(lag, vary)) for name, lag in _shared(term, where)]


def _plain_readings(term: RandomTerm) -> Iterator[Reading]:
    names = term.columns
    for c, name in enumerate(names):
        yield Reading(f"sd({name} | {term.group})", "sd", c)
        if term.structure == "full":
            for r in range(c + 1, len(names)):
                yield Reading(f"cor({name}, {names[r]} | {term.group})", "cor", c, r)


def columns_of(term: RandomTerm) -> str:
    """The columns of a structured term as its formula has them: "times"."""
    inside = term.label.partition("(")[2].rpartition(" | ")[0]
    return inside.removeprefix("0 + ").removeprefix("1 + ").removesuffix(" + 0")


def _shared(term: RandomTerm, where: str) -> Iterator[tuple[str, tuple[int, int] | int | None]]:
    """The correlations of a structure: their names, and which columns have them: two, all that are
    so many places apart, or all (None)."""
    assert term.covariance is not None
    kind, names = term.covariance.kind, term.columns
    if kind in ("cs", "homcs"):
        yield f"rho({where})", None
    elif kind in ("ar1", "hetar1"):
        yield f"rho({where})", 1
    elif kind in ("toep", "homtoep"):
        for lag in range(1, len(names)):
            yield f"rho {lag}({where})", lag
    elif kind in ("ad", "homad"):
        for j in range(len(names) - 1):
            yield f"cor({names[j]}, {names[j + 1]} | {term.group})", (j, j + 1)


def _pair(which: tuple[int, int] | int | None, vary: list[int]) -> tuple[int, int]:
    """Two columns that have a correlation and, where there are such, vary."""
    if isinstance(which, tuple):
        return which
    pairs = combinations(vary, 2)
    fallback = (0, 1 if which is None else which)
    return next(((a, b) for a, b in pairs if which is None or b - a == which), fallback)


def _kernel(kind: str, u: float) -> tuple[float, float]:
    """Correlation at a distance of u ranges, and its derivative."""
    if kind == "gau":
        return math.exp(-u * u), -2 * u * math.exp(-u * u)
    if kind == "mat32":
        v = math.sqrt(3) * u
        return (1 + v) * math.exp(-v), -3 * u * math.exp(-v)
    if kind == "mat52":
        v = math.sqrt(5) * u
        return (1 + v + v * v / 3) * math.exp(-v), -5 / 3 * u * (1 + v) * math.exp(-v)
    return math.exp(-u), -math.exp(-u)


def range_of(term: RandomTerm, i: int, j: int, correlation: float) -> tuple[float, float]:
    """Range of a kernel in the units of its coordinates, from the correlation of two columns, and
    the derivative of its logarithm in that.

    Zero and infinity where no columns, or all, are correlated.
    """
    from scipy.optimize import brentq

    assert term.covariance is not None and term.covariance.coordinates is not None
    kind, places = term.covariance.kind, np.asarray(term.covariance.coordinates)
    if not _kernel(kind, MOST_RANGES)[0] < correlation < 1:
        return (np.nan if math.isnan(correlation) else 0.0 if correlation < 0.5 else np.inf), np.nan
    u = brentq(lambda u: _kernel(kind, u)[0] - correlation, 0, MOST_RANGES, xtol=1e-14, rtol=1e-14)
    slope = _kernel(kind, u)[1]
    if u == 0 or slope == 0:
        return np.inf, np.nan
    return float(np.linalg.norm(places[i] - places[j])) / u, -1 / (u * slope)


def _middling(T: np.ndarray) -> tuple[int, int]:
    """Two columns whose correlation is near one half, if there are such."""
    size = np.linalg.norm(T, axis=1)
    unit = T / np.where(size > 0, size, 1.0)[:, None]
    away = np.abs(unit @ unit.T - 0.5) + np.eye(len(T))
    i, j = np.unravel_index(np.argmin(away), away.shape)
    return int(i), int(j)


def varcorr_frame(estimates: Estimates, design: Design, residual: bool = True) -> pd.DataFrame:
    """``Fit.varcorr``, with a last row for the residuals or without it."""
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for i, term in enumerate(design.terms):
        cov, sd, corr = term_covariance(estimates, i)
        names = term.columns
        if term.covariance is not None:
            rows += structured_rows(estimates, i, term)
            continue
        rows += [(term.group, names[j], None, cov[j, j], sd[j]) for j in range(len(names))]
        if term.structure == "full":
            pairs = combinations(range(len(names)), 2)
            rows += [(term.group, names[c], names[r], cov[r, c], corr[r, c]) for c, r in pairs]
    if residual:
        rows.append(("Residual", None, None, estimates.sigma**2, estimates.sigma))
    frame = pd.DataFrame(rows, columns=["group", "var1", "var2", "vcov", "sdcor"], dtype=object)
    return frame.astype({"vcov": float, "sdcor": float})


def structured_rows(
    estimates: Estimates, i: int, term: RandomTerm
) -> Iterator[tuple[str, str, str | None, float, float]]:
    """Rows of a structured term: standard deviations, then what its correlations are made of."""
    cov, sd, corr = term_covariance(estimates, i)
    assert term.covariance is not None
    names, one = term.columns, term.covariance.kind in _ONE_SD
    for j in range(1 if one else len(names)):
        yield term.group, columns_of(term) if one else names[j], None, cov[j, j], sd[j]
    for own in readings(term, estimates.T[i]):
        label, place = own.name.partition("(")[0], (own.i, own.j)
        if own.kind == "loading":
            value = float(estimates.sigma * estimates.T[i][place])
            yield term.group, names[own.i], f"factor {own.j + 1}", np.nan, value
        elif own.kind == "range":
            value = range_of(term, own.i, own.j, float(corr[place]))[0]
            yield term.group, columns_of(term), label, np.nan, value
        elif own.kind == "cor" and label == "cor":
            yield term.group, names[own.i], names[own.j], cov[place], corr[place]
        elif own.kind == "cor":
            yield term.group, columns_of(term), label, np.nan, corr[place]
