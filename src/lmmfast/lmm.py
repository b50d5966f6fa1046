"""LMM: the model as users hold it, whose fits are `LMMFit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from numpy.typing import ArrayLike

from .data.design import Design
from .engine import autoregression
from .engine.estimates import Evaluation
from .engine.free import Free
from .engine.model import Model
from .engine.options import MAX_EVALS, Options
from .engine.residual import ResidualModel
from .given import PathLike
from .many.fits import ManyFits
from .results import LMMFit
from .sources.cross import CrossProducts
from .summary import model_line
from .typing import Client, Hypothesis, Responses, Storage, Term


class LMM(Model):
    __doc__ = Model.__doc__

    @classmethod
    def from_arrays(
        cls,
        y: ArrayLike,
        X: ArrayLike,
        terms: Sequence[Term],
        weights: ArrayLike | None = None,
        offset: ArrayLike | None = None,
        *,
        names: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        storage: Storage = "auto",
        threads: int = 1,
    ) -> LMM:
        """A model from arrays, without a formula and without pandas.

        Parameters
        ----------
        y : (n,) array
            Response.
        X : (n, p) array
            Fixed-effects columns, the intercept included.
        terms : sequence of (codes, columns) or (codes, columns, structure)
            Random terms: ``codes`` (n,) are the levels 0 .. m-1, ``columns`` (n, k) the random
            columns (None: an intercept), ``structure`` "full" (default), "diag", or the name of a
            covariance structure of two columns or more, as in formulas: "cs", "homcs", "ar1", ...
        weights : (n,) array, optional
            Positive; the residual variance of a row is sigma^2 / weight.
        offset : (n,) array, optional
            Added to the linear predictor.
        names : sequence of str, optional
            Of the columns of X, for tables; random columns equal to one of them have its name.
            Default: x0, x1, ...
        groups : sequence of str, optional
            Name of the grouping factor of each term. Default: g0, g1, ...
        storage, threads : optional
            As for ``LMM``.

        Returns
        -------
        LMM

        Raises
        ------
        DataError
            When shapes differ, values are not finite, weights not positive or codes have gaps.

        Examples
        --------
        >>> import numpy as np
        >>> from lmmfast import LMM
        >>> rng = np.random.default_rng(1)
        >>> codes = np.repeat(np.arange(10), 5)
        >>> y = rng.normal(size=10)[codes] + rng.normal(size=50)
        >>> fit = LMM.from_arrays(y, np.ones((50, 1)), [(codes, None)]).fit()
        >>> fit.converged
        True
        """
        from .data.arrays import design_of

        design = design_of(y, X, terms, weights, offset, names=names, groups=groups)
        return cls(design, storage=storage, threads=threads)

    @classmethod
    def from_cross_products(
        cls, cross: CrossProducts, *, storage: Storage = "auto", threads: int = 1
    ) -> LMM:
        """The model of cross-products; its rows are not needed.

        Parameters
        ----------
        cross : CrossProducts
            Of all rows, or of a part of them.
        storage, threads : optional
            As for ``LMM``.

        Returns
        -------
        LMM

        Raises
        ------
        DataError
            When there are no rows, or a grouping factor has fewer than two levels.

        Examples
        --------
        >>> from lmmfast import LMM, CrossProducts, Spec, datasets
        >>> data = datasets.load("sleepstudy")
        >>> spec = Spec.from_data("Reaction ~ Days + (Days | Subject)", data)
        >>> fit = LMM.from_cross_products(CrossProducts.from_frame(data, spec)).fit()
        >>> round(fit.objective, 4)
        1743.6283
        """
        from .sources.design import design_of

        return cls(design_of(cross), storage=storage, threads=threads)

    def __repr__(self) -> str:
        return model_line(self)

    def with_design(self, design: Design) -> LMM:
        """A model of another design that is stored and run as this one."""
        return lmm_of(design, **self._options())

    def fit(
        self,
        *,
        reml: bool = True,
        start: ArrayLike | None = None,
        verbose: bool = False,
        callback: Callable[[Evaluation], object] | None = None,
        max_seconds: float | None = None,
        max_evals: int = MAX_EVALS,
        starts: int = 0,
        free: Free | None = None,
    ) -> LMMFit:
        """Minimizes the REML criterion or the deviance.

        Parameters
        ----------
        reml : bool, default True
            Restricted likelihood; False for the likelihood.
        start : (ntheta,) array, optional
            First theta; the nearest that `free` allows. Default: moment estimates, and with `free`
            the optimum of all parameters.
        verbose : bool, default False
            One line an evaluation on stderr.
        callback : callable, optional
            Called with an ``Evaluation`` after each; a true result stops the fit.
        max_seconds : float, optional
            Stop after this time with the best so far.
        max_evals : int, default 500
            Of each start.
        starts : int, default 0
            So many more starts at random theta, always the same ones. The best end is the fit;
            ``fit.starts`` says where the others ended.
        free : Free, optional
            Covariance parameters that are held or tied to each other. The fit moves the others, its
            certificate is within the constraint, and everything that follows (number of parameters,
            tests, intervals) counts them alone. Default: all are free.

        Returns
        -------
        LMMFit
            Marked not converged when it was stopped.

        Raises
        ------
        FitError
            When the objective is not finite at the start, or its derivatives are not.
        TypeError, ValueError
            When an option means nothing, in words.
        KeyboardInterrupt
            On Ctrl-C, between two evaluations.
        """
        options = Options(reml, start, verbose, callback, max_seconds, max_evals, starts, free)
        return self.fitted(options)

    def fitted(self, options: Options) -> LMMFit:
        """The fit that checked options ask for."""
        moving = autoregression.moving_term(self.design)
        if moving is not None:
            profile = autoregression.profile_of(self, moving, options)
            estimates, model, _ = autoregression.minimum(profile)
            return LMMFit(estimates, model.design, model)
        return LMMFit(self.minimize(options), self.design, self)

    def fit_many(
        self,
        Y: Responses,
        *,
        contrasts: Hypothesis | None = None,
        ddf: Literal["satterthwaite", "kenward-roger", "z"] = "satterthwaite",
        reml: bool = True,
        threads: int = 1,
        max_evals: int = MAX_EVALS,
        weights: ArrayLike | None = None,
        client: Client | None = None,
        checkpoint: PathLike | None = None,
    ) -> ManyFits:
        """Fits the model to many responses; see `lmmfast.fit_many`.

        Parameters
        ----------
        Y : (n, m) array, or table with m columns, or iterable of these
            One column a response.
        contrasts, ddf, reml, threads, max_evals, client, checkpoint : optional
            As for `lmmfast.fit_many`.
        weights : (n, m) array, optional
            By response, as `Y`. Default: those of the model.

        Returns
        -------
        ManyFits
            A row for each response.
        """
        from .many.asked import asked
        from .many.run import fit_all

        want = asked(self.design, contrasts, ddf, reml, max_evals)
        how: dict[str, Any] = {"threads": threads, "client": client, "checkpoint": checkpoint}
        return fit_all(self, Y, want, weights=weights, **how)

    def refit(
        self, fit: LMMFit, y: ArrayLike | None = None, *, weights: ArrayLike | None = None
    ) -> LMMFit:
        """The same model fitted to another response or with other weights, from a fit of it.

        As ``fit.refit(y, weights=weights)`` of a fit of this model.

        Parameters
        ----------
        fit : LMMFit
            Where the fit starts.
        y, weights : (n,) array, optional
            As for `LMMFit.refit`.

        Returns
        -------
        LMMFit
            Of this model.
        """
        return replace(fit, design=self.design, model=self).refit(y, weights=weights)

    def at(self, theta: ArrayLike, *, reml: bool = True) -> LMMFit:
        """The model at a given theta: estimates, modes and criterion without minimizing.

        Parameters
        ----------
        theta : (ntheta,) array
            Relative Cholesky parameters, in the order of ``theta_names``.
        reml : bool, default True
            Restricted likelihood; False for the likelihood.

        Returns
        -------
        LMMFit
            Its ``certificate`` is what a step of length one (in units of the curvature) is
            predicted to gain; it is called converged when that is below 1e-6.

        Raises
        ------
        FitError
            When the criterion is not finite at theta.
        """
        return LMMFit(self.estimates_at(theta, reml=reml), self.design, self)


class ResidualLMM(ResidualModel, LMM):
    """A linear mixed model whose residuals have variances and correlations of their own.

    `lmmfast.lmer` makes it where it is given ``dispersion=`` or ``residual=``.
    """


def lmm_of(design: Design, storage: str, threads: int) -> LMM:
    """The model of a design, whatever its residuals are."""
    make = LMM if design.residual is None else ResidualLMM
    return make(design, storage=storage, threads=threads)
