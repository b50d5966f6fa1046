"""A fit as inference takes it: the numbers, the design and the model that made them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .data.design import Design, refilled
from .engine.estimates import Estimates
from .engine.families import Family
from .engine.model import Model
from .engine.point import Point
from .engine.starts import Starts
from .hints import hinted
from .typing import Ddf

if TYPE_CHECKING:
    from typing_extensions import Self
else:
    from .late import Self


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """A fitted linear mixed model, without tables and text; `LMMFit` has its parameters."""

    estimates: Estimates
    design: Design
    model: Model

    def __getstate__(self) -> dict[str, Any]:
        """A pickle holds these three: the rows that were used are in it, the design has them.

        What inference has computed is computed again.
        """
        return {own.name: getattr(self, own.name) for own in fields(self)}

    def remade(
        self, estimates: Estimates, design: Design | None = None, model: Model | None = None
    ) -> Self:
        """Another fit of the same kind: other estimates, perhaps of another design or model."""
        design = self.design if design is None else design
        return replace(self, estimates=estimates, design=design, model=model or self.model)

    @hinted
    def refit(self, y: ArrayLike | None = None, *, weights: ArrayLike | None = None) -> Self:
        """The same model fitted to another response or with other weights.

        Parameters
        ----------
        y : (n,) array, or Series, optional
            One value for each row that the fit used, in their order. A Series goes by its labels:
            those of the rows used, or of all rows of the data. Default: the fit's response.
        weights : (n,) array, or Series, optional
            Positive; rows as for `y`. Default: the fit's weights.

        Returns
        -------
        The same kind of fit.

        Raises
        ------
        DataError
            When y or weights have another length, labels of other rows, or values that are not
            finite; when weights are not positive, or one of `y` and `weights` is not given.
        FitError
            When y leaves no residual variance, or other columns are linearly independent with the
            new weights.
        """
        design = refilled(self.design, y, weights)
        free = self.estimates.free
        start = None if free is None else self.theta  # else moments of the response are closer
        estimates = self.model.again(design.sums, reml=self.reml, start=start, free=free)
        return self.remade(estimates, design)

    def start_of(self, model: Model, theta: np.ndarray) -> np.ndarray | None:
        """Where the fit of a part of this model begins, from a theta; None: where others do."""
        return theta

    @cached_property
    def point(self) -> Point:
        """The model at the estimates: what inference reads of it is computed once."""
        read = self.model.read_before(self)
        if read is not None:
            return read  # type: ignore[no-any-return]
        sums = None if self.design is self.model.design else self.design.sums
        if self.estimates.delta is None:
            return self.model.point(self.theta, reml=self.reml, sums=sums)
        model: Any = self.model
        delta = self.estimates.delta
        return model.point(self.theta, reml=self.reml, sums=sums, delta=delta)  # type: ignore[no-any-return]

    @cached_property
    def _known(self) -> dict[Any, Any]:
        """What inference computed once, by its own keys."""
        return self.model.known_before(self)

    # ---- the model ------------------------------------------------------------------------------

    @property
    def formula(self) -> str:
        """The formula as it was written."""
        return self.design.formula

    @property
    def family(self) -> Family | None:
        """Distribution and link of a generalized model; None: a linear one."""
        return None

    @property
    def usual_ddf(self) -> Ddf:
        """Degrees of freedom of its tests where none are asked for, as ``ddf`` of `t_test`."""
        return "satterthwaite" if self.family is None else "z"

    @property
    def reml(self) -> bool:
        """Whether it is by restricted maximum likelihood, REML (else by maximum likelihood)."""
        return bool(self.estimates.reml)

    @property
    def weights(self) -> np.ndarray | None:
        """Prior weights of the rows used (n), or None."""
        return self.design.weights

    @property
    def nobs(self) -> int:
        """Number of rows used."""
        return int(self.estimates.n)

    @property
    def n_levels(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {term.group: len(term.labels) for term in self.design.terms}

    @property
    def n_params(self) -> int:
        """Number of parameters: kept fixed effects, theta and sigma (lme4's ``df`` of logLik).

        What was held does not count, and what was tied counts once.
        """
        estimates = self.estimates
        variances = estimates.n_theta + (not estimates.is_sigma_known)
        variances += 0 if estimates.delta is None else len(estimates.delta)
        variances += estimates.rho is not None
        return int(np.sum(estimates.fixed_kept)) + variances

    @property
    def df_resid(self) -> int:
        """Rows minus parameters (lme4's ``df.residual``)."""
        return self.nobs - self.n_params

    # ---- the optimum ----------------------------------------------------------------------------

    @property
    def theta(self) -> np.ndarray:
        """lme4's relative Cholesky parameters, by term in the formula's order."""
        return self.estimates.theta

    @property
    def objective(self) -> float:
        """REML criterion or deviance (-2 log likelihood) at the estimates."""
        return float(self.estimates.objective)

    @property
    def converged(self) -> bool:
        """Whether the optimum is certified."""
        return bool(self.estimates.converged)

    @property
    def certificate(self) -> float:
        """Decrease of ``objective`` that its slope and curvature still predict (deviance units)."""
        return float(self.estimates.certificate)

    @property
    def objective_se(self) -> float:
        """Monte-Carlo standard error of ``objective``; zero unless ``storage="iterative"``."""
        return float(self.estimates.objective_se)

    @property
    def n_evals(self) -> int:
        """Number of evaluations of the objective and its derivatives."""
        return int(self.estimates.n_evals)

    @property
    def starts(self) -> Starts | None:
        """Where several starts ended (``lmer(..., starts=k)``), else None.

        ``objectives``, ``thetas`` and ``converged`` of each, the usual start first; ``optima``:
        the objectives of the distinct optima; ``spread``: how far the worst is above the best.
        """
        return self.estimates.starts

    @property
    def unidentified(self) -> tuple[str, ...]:
        """Covariance parameters that cannot be told apart, whatever the response: one sentence for
        each group of terms, with what to write instead. Empty for most models. The objective, fixed
        effects and predictions are not affected; the variances in question are one choice of many.
        """
        return self.estimates.unidentified

    @property
    def is_singular(self) -> bool:
        """Whether some combination of random effects has no variance at the optimum."""
        return len(self.estimates.singular) > 0

    @property
    def llf(self) -> float:
        """Log likelihood; for a REML fit the restricted one, as lme4's ``logLik``."""
        return -self.objective / 2

    @property
    def aic(self) -> float:
        """Akaike's criterion, from the REML criterion for a REML fit (as lme4)."""
        return self.objective + 2 * self.n_params

    @property
    def bic(self) -> float:
        """Bayesian criterion with the number of rows, from the REML criterion for a REML fit."""
        return self.objective + float(np.log(self.nobs)) * self.n_params

    # ---- variances -------------------------------------------------------------------------------

    @property
    def sigma(self) -> float:
        """Residual standard deviation (of a row with weight 1)."""
        return float(self.estimates.sigma)

    @property
    def scale(self) -> float:
        """Residual variance, ``sigma ** 2``."""
        return self.sigma**2
