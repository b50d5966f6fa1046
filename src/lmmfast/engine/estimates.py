"""What a fit is made of: arrays in the user's units, without labels and without pandas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..freeze import Frozen
from .free import Free
from .starts import Starts


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the objective during a fit, as callbacks receive it.

    Attributes
    ----------
    n : int
        Number of this evaluation, from 1.
    objective, best : float
        REML criterion or deviance here, and the lowest so far.
    radius : float
        Trust radius, in units of whitened theta.
    predicted : float
        Decrease that the local model promised for this step (nan for the first).
    seconds : float
        Time since the fit began.
    """

    n: int
    objective: float
    best: float
    radius: float
    predicted: float
    seconds: float


@dataclass(frozen=True)
class Rho:
    """What a fit says of rho of a conditional autoregression."""

    term: int  # whose levels are so related
    estimate: float
    se: float  # from the curvature of the criterion; NaN at a bound
    at_bound: bool


class Objective(NamedTuple):
    """The criterion at one theta with its derivatives.

    Attributes
    ----------
    value : float
        REML criterion or deviance.
    gradient : (ntheta,) array
    information : (ntheta, ntheta) array
        Average information: the Hessian in expectation, not exactly.
    """

    value: float
    gradient: np.ndarray
    information: np.ndarray


class ObjectiveAndGradient(NamedTuple):
    """The criterion at one theta and its gradient; as `Objective`."""

    value: float
    gradient: np.ndarray


class ObjectiveAndInformation(NamedTuple):
    """The criterion at one theta and its average information; as `Objective`."""

    value: float
    information: np.ndarray


@dataclass(frozen=True, eq=False)
class Singular(Frozen, arrays=("direction",)):
    """What has no variance in one random term."""

    term: int  # index in design.terms
    zero: tuple[int, ...]  # columns whose variance is exactly zero
    direction: np.ndarray  # (k,), of columns in the user's coordinates: what has no variance


@dataclass(frozen=True, eq=False)
class Estimates(Frozen, arrays=("theta", "beta", "vcov", "T", "b", "fixed_kept", "phi", "delta")):
    """The numbers of a fit as arrays, in the user's units and coding.

    The arrays are read-only: ``fit.theta.copy()`` can be changed.

    Attributes
    ----------
    reml : bool
    n : int
        Rows used.
    objective : float
        REML criterion or deviance (-2 log likelihood).
    theta : (ntheta,) array
        Relative Cholesky parameters: by term in the formula's order, column-major lower triangle
        (uncorrelated terms: the diagonal).
    beta, vcov : (p,) and (p, p) arrays
        Fixed effects and their covariance; NaN for dropped columns.
    sigma : float
        Residual standard deviation of a row with weight 1.
    T : tuple of (k, k) arrays
        Per term: Cov(b of a level) = sigma^2 T T'.
    b : tuple of (m, k) arrays
        Per term: conditional modes, levels x columns.
    fixed_kept : (p,) bool array
    singular : tuple of Singular
        One for each term that has a direction without variance.
    converged : bool
    certificate : float
        Decrease of the objective that its slope and curvature still predict, deviance units; at
        most 1e-6 in a converged fit.
    n_evals : int
    seconds : float
    status : str
        "converged", "stopped by callback", "out of time", "evaluation limit", "limited by
        rounding" or "flat direction".
    objective_se : float
        Monte-Carlo standard error of the objective; zero where it is computed exactly.
    starts : Starts or None
        Where several starts ended, if they were asked for.
    unidentified : tuple of str
        Covariance parameters that cannot be told apart, whatever the response: one sentence for
        each group of terms. The objective, fixed effects and predictions are not affected.
    free : Free or None
        What could move, where parameters were held or tied; None: all of them.
    phi : (nphi,) array or None
        Where a term has a covariance structure, what the fit moved in place of theta: by term,
        the parameters of the structure (`data.structures`), of other terms their part of theta.
    lost : int
        Parameters of covariance structures that no response identifies: they do not count.
    delta : (ndelta,) array or None
        Parameters of the residual structure as they are optimized (`lmmfast.data.residual`); None
        where there is none.
    rho : Rho or None
        What the fit says of rho of a conditional autoregression, where that was estimated.
    """

    reml: bool
    n: int
    objective: float
    theta: np.ndarray
    beta: np.ndarray
    vcov: np.ndarray
    sigma: float
    T: tuple[np.ndarray, ...]
    b: tuple[np.ndarray, ...]
    fixed_kept: np.ndarray
    singular: tuple[Singular, ...]
    converged: bool
    certificate: float
    n_evals: int
    seconds: float
    status: str
    objective_se: float = 0.0
    starts: Starts | None = None
    unidentified: tuple[str, ...] = ()
    free: Free | None = None
    phi: np.ndarray | None = None
    lost: int = 0
    delta: np.ndarray | None = None
    rho: Rho | None = None

    @property
    def is_sigma_known(self) -> bool:
        """Whether the residual standard deviation was held, not estimated."""
        return self.free is not None and self.free.sigma is not None

    @property
    def n_theta(self) -> int:
        """Number of covariance parameters that the fit could move."""
        if self.free is not None:
            return self.free.nz
        return len(self.theta) if self.phi is None else len(self.phi) - self.lost


def singular_directions(
    T: tuple[np.ndarray, ...], ranks: Mapping[int, int] | None = None
) -> tuple[Singular, ...]:
    """One for each term whose T has a zero on its diagonal; among the first columns, where it has
    no more by its structure (`ranks`, by term)."""
    variances = [t.diagonal() for t in T]
    for i, rank in (ranks or {}).items():
        variances[i] = variances[i][:rank]
    return tuple([_singular(i, t) for i, t in enumerate(T) if not variances[i].all()])


def _singular(i: int, T: np.ndarray) -> Singular:
    sd = np.sqrt((T * T).sum(axis=1))
    zero = np.flatnonzero(sd == 0)
    if len(zero) == np.sum(T.diagonal() == 0):
        direction = np.zeros(len(T))
        direction[zero[0]] = 1
    else:  # null vector of the correlation matrix of the columns that vary
        vary = np.flatnonzero(sd)
        rows = T[vary] / sd[vary, None]
        direction = np.zeros(len(T))
        direction[vary] = np.linalg.svd(rows)[0][:, -1] / sd[vary]
    return Singular(i, tuple(int(j) for j in zero), direction / np.abs(direction).max())
