"""Families that users write: a log-density in NumPy, and what of its derivatives they know."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..errors import FitError
from . import custom_rows
from .family import Family
from .links import LINKS, Link, link_named

# What a response may be, and the link that is the default there.
USUAL = {
    "real": "identity",
    "count": "log",
    "positive count": "log",
    "positive": "log",
    "unit": "logit",
    "binomial": "logit",
}


class CustomFamily(Family):
    """A family of your own, for ``glmer`` and ``GLMM.from_arrays``: subclass it.

    `log_density` is needed; `derivatives` makes fits faster, and the others are for what is asked
    of a fit: `variance` (Pearson residuals, R2), `simulate`, `cdf` (quantile residuals, intervals).
    What is missing is refused there, in words. The log-density is called in Python, for some
    hundred rows at a time.

    Parameters
    ----------
    link : str, optional
        One of `links`; default: the first of them. A subclass with an ``__init__`` of its own calls
        this one.

    Attributes
    ----------
    name : str
        Default: the name of the class.
    response : {"real", "count", "positive count", "positive", "unit", "binomial"}
        What y must be, see `Family`. A binomial's weights are its trials.
    links : tuple of str
        Default: all links, first "identity" of a real response, "logit" of shares, else "log".
    extra : tuple of str
        Names of the family's own parameters, which are positive: x are their logarithms. Others
        override `natural` and `_unconstrained`.
    discrete : bool
        Whether y has probabilities rather than densities.
    concave : bool
        Whether the log-density is concave in eta whatever y is. If in doubt, False.

    Raises
    ------
    ValueError
        There is no such link or response.

    Examples
    --------
    >>> import numpy as np
    >>> import lmmfast
    >>> class StudentT(lmmfast.CustomFamily):
    ...     extra = ("scale",)
    ...     df = 4.0
    ...
    ...     def log_density(self, y, eta, x, weights=None):
    ...         from scipy.stats import t
    ...
    ...         return t.logpdf(y, self.df, eta, np.exp(x[0]))
    >>> data = lmmfast.datasets.load("sleepstudy")
    >>> fit = lmmfast.glmer("Reaction ~ Days + (1 | Subject)", data, StudentT())
    >>> bool(fit.converged)
    True
    """

    response = "real"
    concave: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.name or "name" not in vars(cls):
            cls.name = cls.__name__
        if cls.response not in USUAL:
            raise ValueError(
                f"response of family {cls.name!r} must be one of {', '.join(USUAL)}, not "
                f"{cls.response!r}"
            )
        if not cls.links:
            usual = USUAL[cls.response]
            cls.links = (usual, *(name for name in LINKS if name != usual))

    def __init__(self, link: str | Link | None = None) -> None:
        if type(self) is CustomFamily:
            raise TypeError("CustomFamily is to be subclassed, with a log_density of its own")
        super().__init__(link)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CustomFamily) or self._key() != other._key():
            return False
        one, two = vars(self), vars(other)
        return one.keys() == two.keys() and all(
            np.array_equal(one[name], two[name]) for name in one if name != "link"
        )

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return (type(self), *super()._key())

    @property
    def core_name(self) -> str:
        """What tells it from others: its class and what it was made with."""
        own = sorted((name, repr(value)) for name, value in vars(self).items() if name != "link")
        return f"{type(self).__module__}.{type(self).__qualname__}{own or ''}"

    @property
    def core_family(self) -> CustomFamily:
        """The compiled core takes the family itself."""
        return self

    @property
    def has_variance(self) -> bool:
        """Whether it says what its variance is, or how residuals are scaled."""
        kind = type(self)
        own = kind.pearson_residual is not Family.pearson_residual
        return own or kind.variance is not CustomFamily.variance

    def with_link(self, link: str | Link | None) -> Family:
        """The same family with another link (None: with its own)."""
        if link is None:
            return self
        other = copy.copy(self)
        Family.__init__(other, link if isinstance(link, Link) else link_named(link))
        return other

    # ---- what a subclass gives -------------------------------------------------------------------

    def log_density(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Log-density or log-probability of every y, constants included: needed.

        Parameters
        ----------
        y, eta : (n,) arrays
            Any rows, so every row by itself: n is not that of the data.
        x : (nextra,) array, or None
            The distribution's own parameters.
        weights : (n,) array, or None: ones
            Trials of a binomial; else what a row counts for, in whatever way the family has it.

        Returns
        -------
        (n,) array
            -infinity where there is no such y at eta.
        """
        raise self._lacks("log_density", "fits need it")

    def derivatives(
        self, y: np.ndarray, eta: np.ndarray, x: np.ndarray | None, weights: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Derivatives of the log-density, as many as are known; default: none.

        Returns
        -------
        dict of arrays
            (n,): "d1", "d2", "d3", "d4", of order 1 to 4 in eta; "w", the expectation of -d2 over
            y. (nextra, n): "lx", "d1x", "d2x", the derivatives of log-density, d1 and d2 in each x.
            What is missing is made by differences, of 13 points and to about ten digits, of what
            there is: d3 from d2, if that is there. When a model is made, some rows of each are
            compared with differences.
        """
        return {}

    def start_extra(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """x (nextra,) where fits begin; default: zeros."""
        return np.zeros(self.nextra)

    def variance(self, mu: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
        """Var(y) at mean mu, for weight 1."""
        raise self._lacks("variance", "the variance of y at its mean")

    def simulate(
        self,
        rng: np.random.Generator,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Responses drawn at eta."""
        raise self._lacks("simulate", "responses drawn at eta")

    def cdf(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """P(Y <= y)."""
        raise self._lacks("cdf", "the probability of y or less")

    def _lacks(self, method: str, what: str) -> FitError:
        return FitError(f"family {self.name!r} has no {method}(): define it ({what})")

    def _best_eta(self, y: np.ndarray, x: Any, weights: np.ndarray | None) -> np.ndarray:
        raise FitError(
            f"family {self.name!r} has no unit_deviance(): define it (2 (l at the best eta for y "
            'alone - l)), or ask for other residuals, as "response"'
        )

    # ---- what the compiled core asks -------------------------------------------------------------

    def begin(self, y: np.ndarray, weights: np.ndarray | None) -> tuple[float, np.ndarray, float]:
        """eta of a middling row, x, and the size of changes of eta, where fits begin."""
        y = np.asarray(y, dtype=float)
        count = float(len(y) if weights is None else np.sum(weights))
        trials = self.response == "binomial" or weights is None
        mean = float(np.sum(y if trials else weights * y)) / count
        sd = float(np.std(y)) or 1.0
        if self.response in ("binomial", "unit"):
            mean = min(max(mean, 0.5 / count), 1 - 0.5 / count)
        eta, slope = float(self.linkfun(np.array(mean))), 0.0
        if np.isfinite(eta):
            slope = abs(float(self.mu_eta(np.array(eta))))
        else:  # a real response need have no mean that the link takes
            eta = 0.0 if self.link.domain == "real" else 1.0
        has_unit = self.link.name in ("identity", "sqrt", "inverse", "inversesquared")
        x = np.array(self.start_extra(y, weights), dtype=float).reshape(-1)
        if x.shape != (self.nextra,) or not np.isfinite(x).all():
            raise FitError(
                f"start_extra() of family {self.name!r} must give {self.nextra} finite values, "
                f"not {x}"
            )
        return eta, x, sd / slope if has_unit and slope > 0 else 1.0

    def rows(
        self,
        y: np.ndarray,
        weights: np.ndarray | None,
        eta: np.ndarray,
        x: np.ndarray | None,
        want: tuple[str, ...],
    ) -> dict[str, np.ndarray]:
        """What the compiled core wants of rows, under the names of families/family.h."""
        return custom_rows.CustomRows(self, y, weights, eta, x).all(want)
