"""Covariance parameters of a fit for repeated measures: estimates, errors, Wald intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...engine.repeated import MOST_PLACES
from ...errors import FitError
from ...linalg import inverse_root
from ..repeated import information_of
from ..repeated_parameters import Natural, natural, natural_of
from .parameters import normal_quantile

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


class Covariances(NamedTuple):
    """The covariance parameters of a fit, those of its groups one after the other."""

    parameters: tuple[Natural, ...]
    group: np.ndarray  # (k,) which group each belongs to
    names: tuple[str, ...]  # "sd(VIS1)", with groups "TRT: sd(VIS1)"
    values: np.ndarray  # (k,) in the user's units
    se: np.ndarray  # (k,) NaN where there is none


def covariances_of(fit: Fit) -> Covariances:
    """Computed once a fit."""
    if Covariances not in fit._known:
        fit._known[Covariances] = _covariances(fit)
    found: Covariances = fit._known[Covariances]
    return found


def _covariances(fit: Fit) -> Covariances:
    own: Any = fit
    visits, point = own.design.seen, own.point
    structure, scale = visits.covariance.structure, point.model.units.scale
    parameters = natural(structure, visits.labels)
    values: list[np.ndarray] = []
    slopes: list[np.ndarray] = []
    names: list[str] = []
    n = point.by_group.shape[1]
    for g, phi in enumerate(point.by_group):
        found, slope = natural_of(point, phi)
        unit = np.array([scale if one.kind == "sd" else 1.0 for one in parameters])
        values.append(found * unit)
        whole = np.zeros((len(parameters), n * point.groups))
        whole[:, g * n : (g + 1) * n] = slope * unit[:, None]
        slopes.append(whole)
        prefix = f"{visits.groups[g]}: " if len(visits.groups) > 1 else ""
        names += [prefix + one.label for one in parameters]
    J = np.concatenate(slopes)
    free = information_of(fit).free
    root, unknown = inverse_root(point.hessian[np.ix_(free, free)])
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.square(J[:, free] @ root).sum(axis=1))
        lost = np.abs(J[:, free] @ unknown).max(axis=1, initial=0.0) > 1e-8
        lost |= J[:, ~free].any(axis=1)
    se[lost | ~np.isfinite(se)] = np.nan
    group = np.repeat(np.arange(point.groups), len(parameters))
    together = tuple(parameters) * point.groups
    return Covariances(together, group, tuple(names), np.concatenate(values), se)


def wald(fit: Fit, level: float, chosen: np.ndarray) -> np.ndarray:
    """Wald intervals of some covariance parameters (k, 2): standard deviations and ranges symmetric
    on the logarithmic scale, correlations on Fisher's."""
    own, width = covariances_of(fit), normal_quantile(level)
    out = np.full((len(chosen), 2), np.nan)
    for row, k in enumerate(chosen):
        value, se = own.values[k], own.se[k]
        with np.errstate(all="ignore"):
            if own.parameters[k].kind == "cor":
                half = width * se / (1 - value * value)
                out[row] = np.tanh(np.arctanh(value) + np.array([-half, half]))
            else:
                out[row] = value * np.exp(np.array([-1, 1]) * width * se / value)
    return out


def parameters_frame(fit: Fit) -> pd.DataFrame:
    """As ``MMRMFit.parameters`` documents it."""
    import pandas as pd

    own = covariances_of(fit)
    values = {"estimate": own.values, "se": own.se}
    return pd.DataFrame(values, index=list(own.names), copy=True)


def check_few(visits: Any) -> None:
    """FitError where there are more places than a matrix is made of."""
    if visits.places is not None and visits.m > MOST_PLACES:
        raise FitError(
            f"there are {visits.m} different places, too many for a matrix of all: "
            "fit.parameters() has the standard deviation and the range"
        )


def varcorr_frame(fit: Fit) -> pd.DataFrame:
    """As ``MMRMFit.varcorr`` documents it."""
    import pandas as pd

    own: Any = fit
    visits = own.design.seen
    rows: list[tuple[Any, ...]] = []
    check_few(visits)
    for name, Sigma in zip(visits.groups, own.estimates.Sigma, strict=True):
        sd = np.sqrt(Sigma.diagonal())
        labels = [str(label) for label in visits.labels]
        group = str(name) if len(visits.groups) > 1 else visits.covariance.subject
        m = len(labels)
        rows += [(group, labels[i], None, Sigma[i, i], sd[i]) for i in range(m)]
        with np.errstate(invalid="ignore", divide="ignore"):
            rows += [
                (group, labels[i], labels[j], Sigma[i, j], Sigma[i, j] / (sd[i] * sd[j]))
                for i in range(m)
                for j in range(i + 1, m)
            ]
    frame = pd.DataFrame(rows, columns=["group", "var1", "var2", "vcov", "sdcor"], dtype=object)
    return frame.astype({"vcov": float, "sdcor": float})
