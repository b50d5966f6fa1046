"""Standard errors of the variance parameters, from the curvature of the criterion (see
`satterthwaite`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import memory
from ...effects import Reading, range_of, readings, varcorr_frame
from ...linalg import root_slopes
from ..ddf import method_of
from ..satterthwaite import Satterthwaite, Whitened
from ..structured import structured_of

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit

MOST = 0.5  # of the memory that is available now, which the covariance of theta may take


def vcov_theta(fit: Fit) -> pd.DataFrame:
    """Covariance of theta and sigma, as ``Fit.vcov_theta`` documents it."""
    import pandas as pd

    names = [*fit.model.theta_names, *(["sigma"] if fit.family is None else [])]
    return pd.DataFrame(covariance_parameters(fit).vcov, index=names, columns=names, copy=True)


def varcorr_se(fit: Fit) -> pd.DataFrame:
    """Standard deviations, correlations and their errors, as ``Fit.varcorr_se`` documents."""
    own = covariance_parameters(fit)
    errors: list[float] = []
    for i, term in enumerate(fit.design.terms):
        if term.covariance is not None:
            errors += _errors_of_rows(fit, own, i)
            continue
        errors += list(own.sd_se[i])
        if term.structure == "full":
            k = len(term.columns)
            errors += [own.corr_se[i][r, c] for c in range(k) for r in range(c + 1, k)]
    residual = fit.family is None
    frame = varcorr_frame(fit.estimates, fit.design, residual)
    return frame.drop(columns="vcov").assign(se=[*errors, own.sigma_se] if residual else errors)


def _errors_of_rows(fit: Fit, own: CovarianceParameters, i: int) -> list[float]:
    """Standard errors of a structured term's rows of ``varcorr``."""
    term, T = fit.design.terms[i], fit.estimates.T[i]
    found = readings(term, T)
    count = 1 if sum(one.kind == "sd" for one in found) == 1 else len(term.columns)
    rest = [own.error(fit, i, one) for one in found if one.kind != "sd"]
    return [float(se) for se in own.sd_se[i][:count]] + rest


@dataclass(frozen=True, eq=False)
class CovarianceParameters:
    """Variance parameters with their standard errors, from the curvature of the criterion.

    Standard errors are missing (NaN) for what lies on the boundary (standard deviations of zero,
    correlations of one) or is not identified; the others hold the zeros of T as they are.
    """

    sigma: float
    sigma_se: float
    sd: tuple[np.ndarray, ...]  # standard deviations of the random effects, (k) per term
    sd_se: tuple[np.ndarray, ...]
    corr: tuple[np.ndarray, ...]  # (k, k) per term; NaN where a standard deviation is zero
    corr_se: tuple[np.ndarray, ...]
    residual_se: np.ndarray | None  # of the parameters of a residual structure
    find: Callable[[], np.ndarray]  # vcov, large where covariance matrices are

    @cached_property
    def vcov(self) -> np.ndarray:
        """Covariance of (theta, sigma), (ntheta + 1, ntheta + 1); NaN for parameters at the
        boundary."""
        return self.find()

    def error(self, fit: Fit, i: int, one: Reading) -> float:
        """Standard error of a parameter of term i."""
        if one.kind == "sd":
            return float(self.sd_se[i][one.i])
        se = float(self.corr_se[i][one.i, one.j]) if one.kind != "loading" else np.nan
        if one.kind == "cor":
            return se
        if one.kind == "range":
            correlation = float(self.corr[i][one.i, one.j])
            value, slope = range_of(fit.design.terms[i], one.i, one.j, correlation)
            return abs(value * slope) * se if 0 < value < np.inf else np.nan
        place = fit.model.theta_entries.index((i, one.i, one.j))
        value, at = float(fit.estimates.T[i][one.i, one.j]), [place, len(fit.theta)]
        if fit.family is not None:
            return float(np.sqrt(self.vcov[place, place]))
        weights = np.array([self.sigma, value])
        return float(np.sqrt(weights @ self.vcov[np.ix_(at, at)] @ weights))


def covariance_parameters(fit: Fit) -> CovarianceParameters:
    """Standard deviations and correlations of a fit with standard errors by the delta method."""
    if fit.family is not None:
        return _generalized(fit)
    own = method_of(fit, "satterthwaite")
    assert isinstance(own, Satterthwaite)
    sigma, errors = fit.estimates.sigma, _Errors.of(own)
    if fit.estimates.phi is not None:
        return _structured(fit, own, errors)
    theta: list[np.ndarray] = []
    sd, sd_se, corr, corr_se = [], [], [], []
    for term, user in zip(own.terms, fit.estimates.T, strict=True):
        T, dT = _root_of(term, user, own.steps, len(theta))
        kept = np.ix_(term.kept, term.kept)
        slopes = _cholesky_slopes(user[kept], T[term.kept], dT[term.kept])
        theta.extend(slopes[term.row, term.column])
        length, dlog, R, dR = _spread(T, dT)
        sd.append(sigma * length)
        sd_se.append(np.where(length > 0, sigma * length * errors(dlog), np.nan))
        corr.append(R)
        corr_se.append(np.where(np.abs(R) < 1 - 1e-12, errors(dR), np.nan))
    log_sigma = np.zeros(own.steps.shape[1] + 1)
    log_sigma[-1] = 1
    vcov = errors.covariance(np.vstack([*theta, sigma * log_sigma]))
    found = tuple(sd), tuple(sd_se), tuple(corr), tuple(corr_se)
    sigma_se = float(sigma * errors(log_sigma))
    if fit.estimates.is_sigma_known:
        sigma_se, vcov[-1], vcov[:, -1] = np.nan, np.nan, np.nan
    residual = _residual_errors(fit, own, errors)
    return CovarianceParameters(sigma, sigma_se, *found, residual, lambda: vcov)


def errors_of_phi(fit: Fit) -> np.ndarray:
    """Standard errors of the parameters of covariance structures (nphi,); NaN at a boundary."""
    if fit.family is not None:
        estimates: Any = fit.estimates
        variances = estimates.point.within.covariance_of_xi.diagonal()[: len(estimates.phi)]
        return np.asarray(np.sqrt(variances))
    own = method_of(fit, "satterthwaite")
    assert isinstance(own, Satterthwaite)
    J = np.column_stack([own.steps, np.zeros(len(own.steps))])
    return np.where(J.any(axis=1), _Errors.of(own)(J), np.nan)


def _structured(fit: Fit, own: Satterthwaite, errors: _Errors) -> CovarianceParameters:
    """The same of a model with covariance structures, from how their parameters move them."""
    found = structured_of(fit)
    assert found is not None
    structured, phi = found
    sigma, engine = fit.estimates.sigma, fit.model._engine
    parts: tuple[list[np.ndarray], ...] = ([], [], [], [])
    for i, (part, user) in enumerate(zip(structured.slices, fit.estimates.T, strict=True)):
        kept = list(engine.kept(i))
        wide = np.zeros((*user.shape, own.steps.shape[1] + 1))
        slopes = np.moveaxis(structured.slopes(i, phi), 0, 2)
        wide[np.ix_(kept, kept, range(wide.shape[2] - 1))] = slopes @ own.steps[part]
        length, dlog, R, dR = _spread_of(user @ user.T, wide)
        sd_se = np.where(length > 0, sigma * length * errors(dlog), np.nan)
        corr_se = np.where(np.abs(R) < 1 - 1e-12, errors(dR), np.nan)
        for values, one in zip(parts, (sigma * length, sd_se, R, corr_se), strict=True):
            values.append(one)
    log_sigma = np.zeros(own.steps.shape[1] + 1)
    log_sigma[-1] = 1
    sd, sd_errors, corr, corr_errors = map(tuple, parts)
    sigma_se = float(sigma * errors(log_sigma))
    find = partial(_vcov_of_structures, fit, own, errors)
    residual = _residual_errors(fit, own, errors)
    return CovarianceParameters(sigma, sigma_se, sd, sd_errors, corr, corr_errors, residual, find)


def _vcov_of_structures(fit: Fit, own: Satterthwaite, errors: _Errors) -> np.ndarray:
    """Covariance of (theta, sigma). MemoryError where it is too large."""
    found = structured_of(fit)
    assert found is not None
    size, limit = 8.0 * (len(fit.theta) + 1) ** 2, MOST * memory.available()
    if size > limit:
        raise MemoryError(
            f"the covariance of {len(fit.theta):,} entries of theta takes {size / 1e9:.1f} GB, "
            f"more than the {limit / 1e9:.1f} GB that may be used: errors of the parameters are "
            "in parameters()"
        )
    J = found[0].theta_jacobian(found[1]) @ own.steps
    slopes = np.zeros((len(J) + 1, J.shape[1] + 1))
    slopes[:-1, :-1], slopes[-1, -1] = J, fit.estimates.sigma
    return errors.covariance(slopes)


def _spread_of(
    S: np.ndarray, dS: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As `_spread`, from a relative covariance and its derivatives."""
    length = np.sqrt(np.maximum(S.diagonal(), 0.0))
    size = np.where(length > 0, length, 1.0)
    unit, dunit = S / np.outer(size, size), dS / np.outer(size, size)[:, :, None]
    dlog = np.moveaxis(dunit.diagonal(), 0, 1).copy() / 2
    dlog[length == 0] = 0.0
    R = np.clip(unit, -1, 1)
    dR = dunit - unit[:, :, None] * (dlog[:, None] + dlog[None])
    R[length == 0] = np.nan
    R[:, length == 0] = np.nan
    dlog[length > 0, -1] += 1
    return length, dlog, R, dR


def _residual_errors(fit: Fit, own: Satterthwaite, errors: _Errors) -> np.ndarray | None:
    """Standard errors of the parameters of a residual structure, as users see them."""
    residual, delta = fit.design.residual, fit.estimates.delta
    if residual is None or delta is None:
        return None
    jacobian = np.zeros((own.ndelta, own.steps.shape[1] + 1))
    jacobian[:, own.directions.shape[1] : -1] = np.diag(residual.natural(delta)[1])
    found = errors(jacobian)
    return np.asarray(np.where(jacobian.any(axis=1), found, np.nan))


def _generalized(fit: Fit) -> CovarianceParameters:
    """The same of a generalized model, from the covariance of its theta as it was optimized."""
    estimates: Any = fit.estimates
    entries, count = fit.model.theta_entries, len(fit.theta)
    vcov = estimates.covariance[:count, :count]
    root = _Known(np.where(np.isnan(vcov), 0.0, vcov), ~np.isnan(vcov.diagonal()))
    found: tuple[list[np.ndarray], ...] = ([], [], [], [])
    for i, T in enumerate(estimates.T):
        dT = np.zeros((*T.shape, count + 1))
        for place, (term, row, column) in enumerate(entries):
            if term == i:
                dT[row, column, place] = 1.0
        length, dlog, R, dR = _spread(T, dT)
        corr_se = np.where(np.abs(R) < 1 - 1e-12, root(dR[..., :count]), np.nan)
        sd_se = np.where(length > 0, length * root(dlog[..., :count]), np.nan)
        for one, values in zip(found, (length, sd_se, R, corr_se), strict=True):
            one.append(values)
    found_sd, found_sd_se, found_corr, found_corr_se = (tuple(own) for own in found)
    own = found_sd, found_sd_se, found_corr, found_corr_se
    return CovarianceParameters(1.0, np.nan, *own, None, lambda: vcov)


@dataclass(frozen=True, eq=False)
class _Known:
    """Standard errors by the delta method from a covariance; NaN for what moves with a parameter
    that has none."""

    vcov: np.ndarray
    known: np.ndarray

    def __call__(self, jacobian: np.ndarray) -> np.ndarray:
        variance = np.einsum("...i,ij,...j->...", jacobian, self.vcov, jacobian)
        lost = (jacobian[..., ~self.known] != 0).any(axis=-1)
        return np.where(lost, np.nan, np.sqrt(np.maximum(variance, 0.0)))


@dataclass(frozen=True, eq=False)
class _Errors:
    """Standard errors by the delta method, from derivatives in (free theta, log sigma)."""

    root: np.ndarray  # root root' is their covariance
    lost: np.ndarray  # directions about which the data say nothing

    @classmethod
    def of(cls, own: Satterthwaite) -> _Errors:
        root = np.vstack([own.root, own.slope @ own.root / 2])
        alone = np.zeros((len(root), 1))
        if not own.is_sigma_known:
            alone[-1] = np.sqrt(1 / (2 * own.nu))
        lost = np.vstack([own.unknown, own.slope @ own.unknown / 2])
        return cls(np.hstack([root, alone]), lost / np.linalg.norm(lost, axis=0))

    def __call__(self, jacobian: np.ndarray) -> np.ndarray:
        """NaN for what moves along a direction that is not identified."""
        blind = np.linalg.norm(jacobian @ self.lost, axis=-1)
        known = blind <= 1e-6 * np.linalg.norm(jacobian, axis=-1)
        return np.where(known, np.linalg.norm(jacobian @ self.root, axis=-1), np.nan)

    def covariance(self, jacobian: np.ndarray) -> np.ndarray:
        """NaN also for what does not move at all."""
        moved = jacobian @ self.root
        out = moved @ moved.T
        missing = np.isnan(self(jacobian)) | ~jacobian.any(axis=1)
        out[missing] = np.nan
        out[:, missing] = np.nan
        return np.asarray(out)


def _spread(T: np.ndarray, dT: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Relative standard deviations, slopes of log(sigma times them); correlations, their slopes.

    T T' is the relative covariance; dT (k, k, N + 1) the derivatives, the last in log sigma. Where
    a standard deviation is zero, slopes are zero and correlations NaN.
    """
    length = np.linalg.norm(T, axis=1)
    size = np.where(length > 0, length, 1.0)
    unit = T / size[:, None]
    dlog = np.einsum("ij,ijt->it", unit, dT) / size[:, None]
    dunit = dT / size[:, None, None] - unit[:, :, None] * dlog[:, None, :]
    half = np.einsum("ijt,kj->ikt", dunit, unit)
    R = unit @ unit.T
    R[length == 0] = np.nan
    R[:, length == 0] = np.nan
    dlog[length > 0, -1] += 1
    return length, dlog, R, half + half.swapaxes(0, 1)


def _root_of(
    term: Whitened, user: np.ndarray, directions: np.ndarray, at: int
) -> tuple[np.ndarray, np.ndarray]:
    """A square root C T of the term's relative covariance, and its derivatives (k, k, N + 1) in
    the free parameters; at: the term's first parameter."""
    k, N = len(term.kept), directions.shape[1]
    dT = np.zeros((k, k, N + 1))
    dT[term.row, term.column, :N] = directions[at : at + len(term.row)]
    root, slopes = np.zeros((len(user), k)), np.zeros((len(user), k, N + 1))
    root[term.kept] = term.C @ term.T
    slopes[term.kept] = np.tensordot(term.C, dT, axes=1)
    return root, slopes


def _cholesky_slopes(T: np.ndarray, root: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Derivatives of the lower triangular T with T T' = root root', from those of the root."""
    dS = np.einsum("ict,jc->tij", slopes, root)
    return root_slopes(T, dS + dS.swapaxes(1, 2))
