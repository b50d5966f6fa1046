"""What a fit of a generalized model is made of; as `estimates` of linear ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .estimates import Estimates
from .generalized_point import GeneralizedPoint
from .separation import Separation
from .starts import Starts


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneralizedEstimates(
    Estimates, arrays=("theta", "beta", "T", "b", "fixed_kept", "extra", "phi")
):
    """The numbers of a fit as arrays, in the user's units and coding; as `Estimates`, and:

    Attributes
    ----------
    objective : float
        -2 log-likelihood by Laplace's approximation, or quadrature, with all constants.
    theta : (ntheta,) array
        Cholesky parameters of the random effects' covariances themselves: Cov(b of a level) = T T'.
    sigma : float
        1: the residual variance is a matter of the family.
    vcov : (p, p) array
        Of the fixed effects, from the Hessian in all parameters; computed when it is first asked
        for (about an evaluation a parameter; two by quadrature and for the family's own). NaN for
        dropped columns, and everywhere when the Hessian is not positive definite.
    extra : (nextra,) array
        Parameters of the family as they are optimized: log dispersion, log size, thresholds (the
        first, and logarithms of the steps between them).
    point : GeneralizedPoint
        The model at these parameters: what is not kept is read there.
    covariance : (size, size) array
        Covariance of psi = (theta, beta, extra); computed with `vcov`, NaN where there is none.
    mode_certificate : float
        What the log-density of the random effects could still gain at their modes.
    factorizations, passes : int
        What the fit took.
    separation : Separation or ()
        Coefficients that the likelihood would move without end.
    nagq : int
        Nodes of the quadrature in each direction; 1: Laplace.
    information : str
        "observed" or "expected": the weights in the approximation.
    penalty : float
        What priors on coefficients add to the criterion that was minimized; not in `objective`.
    accuracy : str
        "laplace", or "second-order" where the objective has the next order of the approximation.
    rows : int
        Rows that the passes went over: less than n where equal rows were merged.
    outside : float
        Bytes of these that were in files, as memory had no room for them.
    """

    extra: np.ndarray
    point: GeneralizedPoint
    mode_certificate: float
    factorizations: int
    passes: int
    vcov: np.ndarray = field(init=False)
    separation: Separation | tuple[()] = ()
    nagq: int = 1
    information: str = "observed"
    penalty: float = 0.0
    accuracy: str = "laplace"
    rows: int = 0
    outside: float = 0.0

    def __getattr__(self, name: str) -> Any:
        """vcov and covariance, which take evaluations, when they are first asked for."""
        if name == "covariance":
            found = self.point.covariance
        elif name == "vcov":
            first = len(self.theta)
            own = slice(first, first + len(self.beta))
            found = self.covariance[own, own].copy()
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found.setflags(write=False)
        object.__setattr__(self, name, found)
        return found

    @property
    def psi(self) -> np.ndarray:
        """(size,) theta, beta (zero for dropped columns) and extra."""
        return self.point.psi


class Run(NamedTuple):
    """The end of a fit."""

    psi: np.ndarray
    objective: float
    certificate: float
    mode: float  # what the inner problem could still gain
    evals: int
    factorizations: int
    passes: int
    status: str
    phi: np.ndarray | None = None  # of covariance structures
    starts: Starts | None = None
