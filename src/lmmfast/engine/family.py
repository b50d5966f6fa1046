"""What a family of distributions is to a generalized model: parameters, probabilities, draws."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .. import _core
from .links import Link, link_named, plain

LARGE = 1e5  # a size over its count from which log Gamma has no digits for their difference
MOST_SIZE = 1e18  # a size for which every count is a Poisson count
GONE = 15.0  # |logarithm| of a parameter beyond which the likelihood hardly feels it

# how the variance on the scale of eta is approximated
LatentVariance: TypeAlias = Literal["lognormal", "delta", "trigamma"]


class Family:
    """A family of distributions with a link; two are equal if family, link and classes are.

    Parameters
    ----------
    link : str or Link, optional
        One of `links`, in any spelling; default: the first of them.

    Attributes
    ----------
    name : str
        "binomial", "poisson", ...: also what the compiled core calls it, see `core_name`.
    link : Link
    links : tuple of str
        The links there are, the default first.
    response : {"binomial", "count", "positive count", "positive", "unit", "real", "ordered"}
        What y must be: successes out of `weights` trials; whole numbers from 0; from 1; above 0;
        between 0 and 1; any; classes 0 .. K-1.
    extra : tuple of str
        Names of the family's own parameters in the user's terms: "size", "dispersion".
    discrete : bool
        Whether y has probabilities rather than densities.
    classes : int
        Classes of an ordered response; else 0.
    levels : tuple of str
        Their names, ascending; else ().
    limit : (int, str) or None
        The family that this one becomes as its parameter's logarithm goes to infinity (1) or minus
        infinity (-1), where the likelihood is flat.
    gone : float
        Logarithm (or minus it) from which that is so.

    Notes
    -----
    In all methods eta (n,) is the linear predictor, x (nextra,) the extra parameters as the core
    has them (logarithms, or thresholds by their differences; None where there are none), y (n,) the
    response as the core has it, weights (n,) or None: trials of a binomial, 1 / weights multiplies
    the dispersion of Gamma, inverse Gaussian and Gaussian. Of other families weights multiply the
    log-density and say nothing of the distribution of y.
    """

    name: str = ""
    links: tuple[str, ...] = ()
    response: str = ""
    extra: tuple[str, ...] = ()
    discrete: bool = False
    classes: int = 0
    levels: tuple[str, ...] = ()
    limit: tuple[int, str] | None = None
    gone = GONE
    link: Link

    def __init__(self, link: str | Link | None = None) -> None:
        found = link if isinstance(link, Link) else link_named(link or self.links[0])
        if found.name not in self.links:
            raise ValueError(
                f"family {self.name!r} has no link {found.name!r}; it has {', '.join(self.links)}"
            )
        self.link = found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.link.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Family) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.name, self.link.name, self.extra_names

    @property
    def core_name(self) -> str:
        """The family's name in the compiled core."""
        return plain(self.name)

    @property
    def core_family(self) -> Any:
        """What the compiled core takes as the family: its name, or a family in Python itself."""
        return self.core_name

    @property
    def has_variance(self) -> bool:
        """Whether residuals can be scaled: a user's own family need not say how."""
        return True

    @property
    def core_link(self) -> str:
        """The link's name in the compiled core."""
        return self.link.name

    @property
    def extra_names(self) -> tuple[str, ...]:
        """Names of the extra parameters, in the user's terms (nextra)."""
        return self.extra

    @property
    def nextra(self) -> int:
        """Number of extra parameters."""
        return len(self.extra_names)

    def at_limit(self, x: np.ndarray) -> np.ndarray:
        """Which extra parameters have gone to where the family is another one (nextra,) bool."""
        if self.limit is None:
            return np.zeros(self.nextra, bool)
        return np.asarray(self.limit[0] * np.asarray(x, dtype=float) > self.gone)

    def with_link(self, link: str | Link | None) -> Family:
        """The same family with another link (None: with its own)."""
        return self if link is None else type(self)(link)

    def linkfun(self, mu: np.ndarray) -> np.ndarray:
        """eta of mu."""
        return np.asarray(self.link.linkfun(np.asarray(mu, dtype=float)))

    def linkinv(self, eta: np.ndarray) -> np.ndarray:
        """mu of eta; of a binomial the probability of one success."""
        return np.asarray(self.link.linkinv(np.asarray(eta, dtype=float)))

    def mu_eta(self, eta: np.ndarray) -> np.ndarray:
        """d mu / d eta."""
        return np.asarray(self.link.mu_eta(np.asarray(eta, dtype=float)))

    def valid(self, eta: np.ndarray) -> np.ndarray:
        """Whether there is a distribution at eta (bool, shape of eta)."""
        eta = np.asarray(eta, dtype=float)
        if self.response in ("real", "unit", "ordered"):
            return self.link.valid(eta)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.link.valid(eta) & (self.linkinv(eta) > 0))

    def natural(self, x: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Extra parameters in the user's terms (nextra), and their derivatives in x (square)."""
        values = np.exp(np.asarray(() if x is None else x, dtype=float))
        return values, np.diag(values)

    def unconstrained(self, values: ArrayLike) -> np.ndarray:
        """x of extra parameters in the user's terms: the inverse of `natural`.

        Raises
        ------
        ValueError
            There are more or fewer values than parameters, or one is not positive.
        """
        found = np.atleast_1d(np.asarray(values, dtype=float))
        if found.shape != (self.nextra,):
            raise ValueError(
                f"{self.name} needs {self.nextra} values ({', '.join(self.extra_names)})"
            )
        return self._unconstrained(found)

    def _unconstrained(self, values: np.ndarray) -> np.ndarray:
        if not (values > 0).all():
            raise ValueError(f"{' and '.join(self.extra_names)} must be positive, not {values}")
        return np.asarray(np.log(values))

    def variance(self, mu: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
        """Var(y) at mean mu, for weight 1 (of a binomial: one trial)."""
        raise NotImplementedError

    def log_density(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Log-density or log-probability of every y, constants included."""
        raise NotImplementedError

    def simulate(
        self,
        rng: np.random.Generator,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Responses drawn at eta (float64, shape of eta), as the core wants them."""
        raise NotImplementedError

    def cdf(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """P(Y <= y)."""
        raise NotImplementedError

    def cdf_below(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """P(Y < y): between it and `cdf` a randomized quantile residual is drawn."""
        if not self.discrete:
            return self.cdf(y, eta, x, weights)
        y = np.asarray(y, dtype=float)
        below = self.cdf(np.maximum(y - 1, 0), eta, x, weights)
        return np.asarray(np.where(y > 0, below, 0.0))

    def unit_deviance(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """2 (l at the best eta for y alone - l) times the dispersion, not below zero.

        Where the best eta has no closed form it is found by bisection, to 1e-10.
        """
        y = np.broadcast_to(np.asarray(y, dtype=float), np.shape(eta))
        best = self._best_eta(y, x, weights)
        w = None if self.response == "binomial" else np.ones_like(best)
        trials = weights if self.response == "binomial" else None
        gain = self.log_density(y, best, x, trials) - self.log_density(y, eta, x, trials)
        return np.asarray(np.maximum(2 * gain * (1 if w is None else ones(eta, weights)), 0))

    def _best_eta(self, y: np.ndarray, x: Any, weights: np.ndarray | None) -> np.ndarray:
        """Where every row alone is most likely, within 40 of zero."""
        flat, w = np.ascontiguousarray(y, dtype=float).ravel(), None
        if weights is not None:
            w = np.ascontiguousarray(np.broadcast_to(weights, y.shape), dtype=float).ravel()
        low, high = np.full(len(flat), -40.0), np.full(len(flat), 40.0)
        for _ in range(40):
            middle = (low + high) / 2
            up = (
                _core.density(self.core_family, self.core_link, flat, w, middle, x, 0, ("d1",))[
                    "d1"
                ]
                > 0
            )
            low, high = np.where(up, middle, low), np.where(up, high, middle)
        return np.asarray((low + high) / 2).reshape(y.shape)

    def mean(
        self, eta: np.ndarray, x: np.ndarray | None = None, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Mean of y: of a binomial the number of successes, of classes 0 .. K-1 their mean."""
        return self.linkinv(eta)

    def deviance_residual(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Signed roots of the unit deviances, as in R: their squares sum to the deviance."""
        size = np.sqrt(self.unit_deviance(y, eta, x, weights))
        return np.asarray(np.sign(y - self.mean(eta, x, weights)) * size)

    def pearson_residual(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        x: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """(y - mean) / standard deviation, dispersion included, so that its square has mean 1."""
        w, variance = ones(eta, weights), self.variance(self.linkinv(eta), x)
        with np.errstate(invalid="ignore"):  # of means that are none, NaN
            return np.asarray((y - self.mean(eta, x)) * np.sqrt(w / np.maximum(variance, 1e-300)))

    def latent_variance(
        self,
        mu: np.ndarray,
        x: np.ndarray | None = None,
        method: LatentVariance = "lognormal",
    ) -> np.ndarray:
        """Variance of one observation on the scale of eta, for R2 and intraclass correlations.

        Parameters
        ----------
        mu : array
            Means of the response (of a binomial: probabilities).
        x : (nextra,) array or None
            The distribution's own parameters.
        method : {"lognormal", "delta", "trigamma"}
            "lognormal" (default): the latent variance of a binary link (pi^2 / 3 of the logit),
            the log-normal approximation of a log link; "delta": Var(y) (d eta / d mu)^2;
            "trigamma": of a log link with gamma-shaped rates. Of other links always "delta".

        Notes
        -----
        Nakagawa, Johnson and Schielzeth (2017), doi:10.1098/rsif.2017.0213, tables 1 and 2.
        """
        if method not in ("lognormal", "delta", "trigamma"):
            raise ValueError(f'method must be "lognormal", "delta" or "trigamma", not {method!r}')
        mu = np.asarray(mu, dtype=float)
        if method == "delta" or self.link.name != "log":
            slope = self.mu_eta(self.linkfun(mu))
            return np.asarray(self.variance(mu, x) / slope**2)
        relative = self.variance(mu, x) / mu**2
        if method == "lognormal":
            return np.asarray(np.log1p(relative))
        from scipy.special import polygamma

        return np.asarray(polygamma(1, 1 / relative))

    def marginal_mean(
        self, eta: np.ndarray, v: np.ndarray, x: np.ndarray | None = None
    ) -> np.ndarray:
        """Mean of `mean` (for one trial) over normal random effects of variance v.

        See `Link.marginal`; x matters for truncated families alone.
        """
        return self.link.marginal(eta, v)


def ones(eta: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The weights, or ones for every eta."""
    if weights is None:
        return np.ones_like(np.asarray(eta, dtype=float))
    return np.asarray(weights, dtype=float)


def special(name: str) -> Any:
    """A function of scipy.special, which is imported late."""
    import scipy.special

    return getattr(scipy.special, name)


def log_rising(size: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log Gamma(size + y) - log Gamma(size), which are as good as equal where size is large: there
    by the first terms in 1 / size."""
    size, y = np.broadcast_arrays(np.asarray(size, dtype=float), np.asarray(y, dtype=float))
    gammaln, far = special("gammaln"), size > LARGE * (1 + y)
    near, away = np.where(far, 1.0, size), np.where(far, size, 1.0)
    series = y * np.log(away) + y * (y - 1) / (2 * away) * (1 - (2 * y - 1) / (6 * away))
    return np.asarray(np.where(far, series, gammaln(near + y) - gammaln(near)))


def off(y: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """y log(y / mu), 0 where y is 0."""
    y, mu = np.broadcast_arrays(np.asarray(y, dtype=float), mu)
    return np.asarray(special("xlogy")(y, np.where(y > 0, y, 1) / np.where(y > 0, mu, 1)))
