"""Which distribution a test of fixed effects has: degrees of freedom and covariance, by method."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.repeated import RepeatedEstimates
from ..errors import FitError
from ..typing import Ddf
from .estimability import contrasts, usable_rows
from .kenward import KenwardRoger
from .repeated import repeated_method
from .satterthwaite import Satterthwaite

if TYPE_CHECKING:
    from ..fit import Fit


# What users write, and what tables say.
METHODS = {
    "satterthwaite": "Satterthwaite",
    "kenward-roger": "Kenward-Roger",
    "kenward-roger-observed": "Kenward-Roger (observed information)",
    "kenward-roger-linear": "Kenward-Roger (linear)",
    "between-within": "between-within",
    "residual": "residual",
    "z": "z",
}


SHORT = {
    "kr": "kenward-roger",
    "kr-observed": "kenward-roger-observed",
    "kr-linear": "kenward-roger-linear",
    "satt": "satterthwaite",
    "bw": "between-within",
}


@dataclass(frozen=True, eq=False)
class Constant:
    """The same degrees of freedom for every test: those of the residuals, or infinitely many."""

    fit: Fit
    denominator: float

    @property
    def vcov(self) -> np.ndarray:
        """(p, p) covariance of the fixed effects; NaN for dropped columns."""
        return self.fit.estimates.vcov

    def df(self, L: Any) -> np.ndarray:
        """(k,) degrees of freedom; NaN for contrasts that are zero or involve a dropped column."""
        own = contrasts(L, len(self.fit.estimates.beta))
        usable = usable_rows(own, self.fit.estimates.fixed_kept)
        return np.where(usable, self.denominator, np.nan)

    def f(self, L: Any) -> tuple[float, int, float]:
        """Wald statistic over its rank, the rank, the degrees of freedom."""
        from .wald import wald_test

        own = contrasts(L, len(self.fit.estimates.beta))
        test = wald_test(own, np.zeros(len(own)), self.fit.estimates.beta, self.vcov)
        return test.fvalue, test.df_num, self.denominator


REPEATED = ("kenward-roger-linear", "between-within")  # only of models for repeated measures


# Degrees of freedom of single contrasts and joint tests, and the covariance they go with.
Method = Satterthwaite | KenwardRoger | Constant


def ddf_of(name: Any, fit: Fit | None = None) -> Ddf:
    """A method of `METHODS` by its name, in any spelling: "Kenward-Roger (observed)", "kr".

    None: what is usual for the fit. FitError for one that the fit, generalized, does not have.
    """
    generalized = fit is not None and fit.family is not None
    if name is None:
        return "satterthwaite" if fit is None else fit.usual_ddf
    plain = str(name).lower().replace("_", "-").replace(" ", "-").translate({40: None, 41: None})
    found: Any = SHORT.get(plain, plain)
    check_choice("ddf", found, METHODS, name)
    if generalized and found != "z":
        raise FitError(
            f"{METHODS[found]} degrees of freedom belong to linear models: tests of a generalized "
            'model are z and chi-squared, ddf="z" (its default); for small samples see '
            "fit.bootstrap() and likelihood ratios, anova(fit0, fit)"
        )
    if found in REPEATED and fit is not None and not is_repeated(fit):
        raise FitError(
            f"{METHODS[found]} degrees of freedom belong to models for repeated measures, "
            "lmmfast.mmrm()"
        )
    known: Ddf = found
    return known


def is_repeated(fit: Fit) -> bool:
    """Whether the fit is of a model for repeated measures, with covariances of visits."""
    return isinstance(fit.estimates, RepeatedEstimates)


def method_of(fit: Fit, ddf: str | None) -> Method:
    """The method of this name for a fit; what it computes is kept with the fit.

    "residual": rows minus the rank of the fixed effects, infinitely many where sigma is known; "z":
    the normal distribution. FitError for Kenward-Roger by maximum likelihood, or with held or tied
    parameters.
    """
    ddf = ddf_of(ddf, fit)
    if ddf not in fit._known:
        fit._known[ddf] = _make(fit, ddf)
    method: Method = fit._known[ddf]
    return method


def _make(fit: Fit, ddf: str) -> Method:
    if is_repeated(fit) and ddf not in ("residual", "z"):
        return repeated_method(fit, ddf)  # type: ignore[no-any-return]
    if ddf == "satterthwaite":
        return Satterthwaite(fit)
    if ddf.startswith("kenward-roger"):
        return KenwardRoger(fit, ddf.endswith("observed"))
    if ddf == "z" or fit.estimates.is_sigma_known:
        return Constant(fit, np.inf)
    return Constant(fit, float(fit.nobs - np.sum(fit.estimates.fixed_kept)))


def fit_of(fit: Any) -> Fit:
    """A fit as `lmer` gives it, also out of the results of `mixedlm`; else TypeError."""
    from ..fit import Fit

    own = getattr(fit, "lmm", fit)
    if not isinstance(own, Fit):
        raise TypeError(f"a fit as lmer gives it is needed, not {type(fit).__name__}")
    return own


def linear_only(fit: Any, what: str) -> None:
    """FitError where `what` is for linear models and the fit is a generalized one, or one for
    repeated measures."""
    if getattr(fit, "family", None) is not None:
        raise FitError(f"{what} is for linear mixed models: this fit is a generalized one")
    mixed_only(fit, what)


def mixed_only(fit: Any, what: str) -> None:
    """FitError where `what` is for models with random effects, and the fit is of one without."""
    if isinstance(getattr(fit, "estimates", None), RepeatedEstimates):
        raise FitError(
            f"{what} is for models with random effects: this one is for repeated measures, with a "
            "covariance of visits"
        )


def check_scale(kind: Any, others: Sequence[str] = ()) -> None:
    """ValueError where ``type=`` is no scale of means, nor one of others."""
    if not others and isinstance(kind, str) and kind.lower().startswith(("prob", "class")):
        raise ValueError(
            f'type must be "link" or "response", not {kind!r}: probabilities are type="response"; '
            'those of ordered classes are type="prob"'
        )
    check_choice("type", kind, ("link", "response", *others))


def without_residual_structure(fit: Any, what: str) -> None:
    """FitError where `what` does not know of the residual structure of the fit."""
    if fit.design.residual is not None:
        raise FitError(
            f"{what} is not available for fits with a residual structure (dispersion=, residual=)"
        )


def check_choice(name: str, value: Any, known: Collection[Any], given: Any = None) -> None:
    """ValueError where an argument is none of the values that it may have."""
    if value not in known:
        *most, last = (f'"{one}"' if isinstance(one, str) else repr(one) for one in known)
        given = value if given is None else given
        raise ValueError(f"{name} must be {', '.join(most)} or {last}, not {given!r}")


def check_level(level: Any) -> float:
    """The level, if it is a coverage; 0.05 is taken for statsmodels' alpha and refused."""
    if isinstance(level, str):
        raise ValueError(
            f"level is the coverage, for example 0.95; a method has a name: method={level!r}"
        )
    if not isinstance(level, numbers.Real) or not 0.5 <= float(level) < 1:
        raise ValueError(
            f"level is the coverage, at least 0.5 and below 1, for example 0.95; got {level!r}"
        )
    return float(level)


def coverage(level: float, alpha: float | None) -> float:
    """The level of an interval, given as such or by statsmodels' alpha."""
    if alpha is None:
        return level
    if level != 0.95:
        raise TypeError("level and alpha say the same: give one of them")
    if not isinstance(alpha, numbers.Real) or not 0 < float(alpha) <= 0.5:
        raise ValueError(f"alpha is what an interval leaves out, for example 0.05; got {alpha!r}")
    return 1 - float(alpha)
