"""GLMM: the generalized model as users hold it, whose fits are `GLMMFit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike

from .engine.estimates import Evaluation
from .engine.families import find_family
from .engine.generalized import GeneralizedModel
from .engine.options import MAX_EVALS, Options
from .given import PathLike
from .glmm_fit import GLMMFit
from .many.fits import ManyFits
from .summary import model_line
from .typing import Client, Family, Hypothesis, Priors, Responses, Storage, Term


class GLMM(GeneralizedModel):
    __doc__ = GeneralizedModel.__doc__

    @classmethod
    def from_arrays(
        cls,
        y: ArrayLike,
        X: ArrayLike,
        terms: Sequence[Term],
        family: Family = "binomial",
        link: str | None = None,
        weights: ArrayLike | None = None,
        offset: ArrayLike | None = None,
        *,
        names: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        storage: Storage = "auto",
        threads: int = 1,
        nagq: int = 1,
        information: Literal["observed", "expected"] = "observed",
        prior: Priors | None = None,
        accuracy: Literal["laplace", "second-order"] = "laplace",
        reml: bool = False,
    ) -> GLMM:
        """A model from arrays, without a formula and without pandas.

        Parameters
        ----------
        y : (n,) array, or (n, 2) array of successes and failures
            Response: of a binomial 0 and 1, or shares with their trials as `weights`; counts;
            positive numbers; classes in increasing order.
        X : (n, p) array
            Fixed-effects columns, the intercept included (of an ordered response: without it).
        terms : sequence of (codes, columns) or (codes, columns, structure)
            Random terms: ``codes`` (n,) are the levels 0 .. m-1, ``columns`` (n, k) the random
            columns (None: an intercept), ``structure`` "full" (default), "diag", or the name of a
            covariance structure of two columns or more, as in formulas: "cs", "homcs", "ar1", ...
        family, link : optional
            As for ``lmmfast.glmer``.
        weights : (n,) array, optional
            Positive, as for ``lmmfast.glmer``.
        offset : (n,) array, optional
            Added to the linear predictor.
        names, groups : sequence of str, optional
            As for `LMM.from_arrays`.
        storage, threads, nagq, information, prior, accuracy, reml : optional
            As for ``GLMM``.

        Returns
        -------
        GLMM

        Raises
        ------
        DataError
            When shapes differ, values are none of the family's or codes have gaps.

        Examples
        --------
        >>> import numpy as np
        >>> from lmmfast import GLMM
        >>> rng = np.random.default_rng(1)
        >>> codes = np.repeat(np.arange(20), 10)
        >>> y = rng.poisson(np.exp(1 + 0.5 * rng.normal(size=20)[codes]))
        >>> model = GLMM.from_arrays(y, np.ones((200, 1)), [(codes, None)], "poisson")
        >>> model.fit().converged
        True
        """
        from .data.arrays import design_of

        found = find_family(family, link)
        design = design_of(y, X, terms, weights, offset, found.response, names, groups)
        how: dict[str, Any] = {"nagq": nagq, "information": information, "accuracy": accuracy}
        how["reml"] = reml
        return cls(design, found, storage=storage, threads=threads, prior=prior, **how)

    def __repr__(self) -> str:
        return model_line(self, f"{self.family.name} {self.family.link.name}")

    def fit(
        self,
        *,
        start: ArrayLike | Mapping[str, ArrayLike] | None = None,
        verbose: bool = False,
        callback: Callable[[Evaluation], object] | None = None,
        max_seconds: float | None = None,
        max_evals: int = MAX_EVALS,
    ) -> GLMMFit:
        """Maximizes the likelihood, by Laplace's approximation, one with its next order, or
        adaptive quadrature; or the restricted likelihood.

        Parameters
        ----------
        start : (size,) array or dict, optional
            Where the fit begins: psi = (theta, beta, parameters of the family), or some of
            ``{"theta": ..., "beta": ..., "extra": ...}``.
        verbose : bool, default False
            One line an evaluation on stderr.
        callback : callable, optional
            Called with an ``Evaluation`` after each; a true result stops the fit.
        max_seconds : float, optional
            Stop after this time with the best so far.
        max_evals : int, default 500
            Evaluations of the objective at most.

        Returns
        -------
        GLMMFit
            Marked not converged when it was stopped.

        Raises
        ------
        FitError
            When the likelihood is not finite at the start.
        TypeError, ValueError
            When an option means nothing, in words.
        KeyboardInterrupt
            On Ctrl-C, between two evaluations.
        """
        return self.fitted(Options(self.reml, start, verbose, callback, max_seconds, max_evals))

    def fitted(self, options: Options) -> GLMMFit:
        """The fit that checked options ask for."""
        return GLMMFit(self.minimize(options), self.design, self)

    def fit_many(
        self,
        Y: Responses,
        *,
        contrasts: Hypothesis | None = None,
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
        contrasts, threads, max_evals, client, checkpoint : optional
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

        want = asked(self.design, contrasts, "z", self.reml, max_evals, generalized=True)
        how: dict[str, Any] = {"threads": threads, "client": client, "checkpoint": checkpoint}
        return fit_all(self, Y, want, weights=weights, **how)

    def at(self, psi: ArrayLike | Mapping[str, ArrayLike]) -> GLMMFit:
        """The model at given parameters: modes and likelihood without maximizing.

        Parameters
        ----------
        psi : (size,) array or dict
            theta, beta and parameters of the family; a dict of all three.

        Returns
        -------
        GLMMFit
            Its ``certificate`` is what a step of length one (in units of the curvature) is
            predicted to gain; it is called converged when that is below 1e-6.

        Raises
        ------
        FitError
            When the likelihood is not finite there.
        """
        return GLMMFit(self.estimates_at(psi), self.design, self)
