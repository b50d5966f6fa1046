"""Covariance structures in the parameters in which they are reported: standard deviations,
correlations, ranges; and in those of SAS, variances in place of deviations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..engine.repeated import apart

LINEAR = ("us", "cs", "toep")  # Sigma is linear in SAS's parameters
ONE_DEVIATION = ("cs", "toep", "ar1", "ad", "sp_exp")
STEP = 1e-4  # of the differences of exact first derivatives, relative


class Natural(NamedTuple):
    """One parameter as it is reported: an entry of the deviations or correlations of Sigma."""

    kind: str  # "sd", "cor" or "range"
    row: int
    column: int
    label: str  # "sd(VIS1)", "cor(VIS1, VIS2)", "rho", "range"


def natural(structure: str, labels: Any) -> list[Natural]:
    """The parameters of a structure, in the order in which they are reported."""
    m = len(labels)
    one = structure in ONE_DEVIATION
    found = [Natural("sd", 0, 0, "sd")] if one else [
        Natural("sd", i, i, f"sd({labels[i]})") for i in range(m)
    ]  # fmt: skip
    if m < 2:
        return found
    if structure == "us":
        pairs = [(i, j) for i in range(m) for j in range(i + 1, m)]
        return found + [Natural("cor", i, j, f"cor({labels[i]}, {labels[j]})") for i, j in pairs]
    if structure in ("toep", "toeph"):
        return found + [Natural("cor", 0, k, f"rho({k})") for k in range(1, m)]
    if structure in ("ad", "adh"):
        adjacent = range(m - 1)
        return found + [
            Natural("cor", i, i + 1, f"cor({labels[i]}, {labels[i + 1]})") for i in adjacent
        ]
    if structure == "sp_exp":
        return [*found, Natural("range", 0, 0, "range")]
    return [*found, Natural("cor", 0, 1, "rho")]


def natural_of(point: Any, phi: np.ndarray, one: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Values (k,) and derivatives (k, n) of the natural parameters of a group, all or `one` of
    them, at its parameters phi (n,), in the core's units; ranges in the user's."""
    visits = point.model.design.seen
    chosen = natural(visits.covariance.structure, visits.labels) if one is None else [one]
    if visits.places is None:
        structure = point.model._core.structure
        return values_of(chosen, structure.sigma(phi), structure.derivatives(phi))
    own = {"sd": 0, "range": 1}
    far = point.model.range_of(phi)
    values, slopes = np.array([abs(phi[0]), far]), np.diag([np.sign(phi[0]), far])
    places = [own[parameter.kind] for parameter in chosen]
    return values[places], slopes[places]


def values_of(
    parameters: list[Natural], Sigma: np.ndarray, changes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values (k,) and derivatives (k, nphi) of standard deviations and correlations, from Sigma
    (m, m) and its derivatives (nphi, m, m)."""
    sd = np.sqrt(Sigma.diagonal())
    with np.errstate(invalid="ignore", divide="ignore"):
        dsd = np.einsum("nii->ni", changes) / (2 * sd)
        relative = dsd / sd
    values, slopes = [], []
    for kind, i, j, _ in parameters:
        if kind == "sd":
            values.append(sd[i])
            slopes.append(dsd[:, i])
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            r = Sigma[i, j] / (sd[i] * sd[j])
            dr = changes[:, i, j] / (sd[i] * sd[j]) - r * (relative[:, i] + relative[:, j])
        values.append(np.clip(r, -1, 1))
        slopes.append(dr)
    return np.array(values), np.array(slopes)


# ---- second derivatives in SAS's parameters -----------------------------------------------------


def bent(
    design: Any, point: Any, root: np.ndarray
) -> Callable[[int, np.ndarray], np.ndarray] | None:
    """Sums of W_ij times second derivatives of Sigma in SAS's parameters: a function of a group and
    some visits.

    root (g, n, l): W = root root'. None where Sigma is linear in them.
    """
    visits = design.seen
    structure = visits.covariance.structure
    if structure in LINEAR:
        return None
    psi, along = [], []
    sds = np.array([one.kind == "sd" for one in natural(structure, visits.labels)])
    for g, phi in enumerate(point.by_group):
        values, slopes = natural_of(point, phi)
        psi.append(np.where(sds, values**2, values))
        along.append(np.where(sds[:, None], 2 * values[:, None] * slopes, slopes) @ root[g])

    def over(g: int, own: np.ndarray) -> np.ndarray:
        places = None if visits.places is None else visits.places[own]
        sigma = _sigma_of(structure, visits.m if places is None else len(own), places)
        whole = sum((_second(sigma, psi[g], one) for one in along[g].T), np.zeros(()))
        return np.asarray(whole)

    if visits.places is not None:
        return over
    groups = [over(g, np.arange(visits.m)) for g in range(len(psi))]
    return lambda g, own: np.asarray(groups[g][np.ix_(own, own)])


def _second(
    sigma: Callable[[np.ndarray], np.ndarray], psi: np.ndarray, along: np.ndarray
) -> np.ndarray:
    """Second derivative of sigma along a direction: a difference of exact first derivatives, which
    are imaginary parts (complex step: Squire & Trapp 1998, *SIAM Rev.* 40)."""
    size = float(np.max(np.abs(along) / np.maximum(np.abs(psi), 0.1), initial=0.0))
    if size == 0:
        return np.zeros_like(sigma(psi).real)
    h = STEP / size
    slope = [sigma(psi + (s * h + 1e-30j) * along).imag / 1e-30 for s in (1, -1)]
    return np.asarray((slope[0] - slope[1]) / (2 * h))


def _sigma_of(structure: str, m: int, places: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Sigma of variances and correlations (or a variance and a range), also of complex ones."""
    deviations = 1 if structure in ONE_DEVIATION else m
    lag = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))

    def correlations(rest: np.ndarray) -> np.ndarray:
        if structure in ("ar1", "ar1h"):
            return np.asarray(rest[0] ** lag)
        if structure == "csh":
            return np.asarray(np.where(lag > 0, rest[0], 1.0))
        if structure == "toeph":
            return np.asarray(np.append(1.0, rest)[lag])
        if structure == "sp_exp":
            return np.asarray(np.exp(-apart(places) / rest[0]))
        out = np.eye(m, dtype=rest.dtype)
        for i in range(m):
            for j in range(i + 1, m):
                out[i, j] = out[j, i] = out[i, j - 1] * rest[j - 1]
        return out

    def sigma(psi: np.ndarray) -> np.ndarray:
        sd = np.sqrt(np.broadcast_to(psi[:deviations], (m,)) + 0j)
        return np.asarray(sd[:, None] * correlations(psi[deviations:]) * sd)

    return sigma
