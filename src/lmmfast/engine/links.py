"""Links of generalized models: mu = g^-1(eta), and what its means over normal effects are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

PI = float(np.pi)
EDGE = 38.0  # standard deviations beyond which a normal density is zero in floating point
BLOCK = 2_000_000  # numbers of one block of a quadrature


@dataclass(frozen=True)
class Link:
    """A link function.

    Attributes
    ----------
    name : str
        "logit", "log", ...; what `find_family` and the compiled core call it.
    linkfun, linkinv, mu_eta : functions of an array
        eta = g(mu), mu = g^-1(eta) and its derivative dmu / deta.
    domain : {"real", "positive", "nonzero"}
        Where eta must be for mu to be valid.
    latent : float
        Variance of the latent distribution of a binary link: pi^2 / 3 of the logistic, 1 of the
        normal, pi^2 / 6 of the extreme value one; NaN for others.
    strip : float
        Half width of the strip about the real line where g^-1 is analytic and bounded, which says
        how fine a quadrature must be.
    log_tails : function of an array, or None
        (log F, log(1 - F)) of a binary link, neither by cancellation.
    """

    name: str
    linkfun: Function
    linkinv: Function
    mu_eta: Function
    domain: str = "real"
    latent: float = float("nan")
    strip: float = float("inf")
    log_tails: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None

    def __reduce__(self) -> tuple[Callable[[str], Link], tuple[str]]:
        return link_named, (self.name,)

    def valid(self, eta: np.ndarray) -> np.ndarray:
        """Whether eta is in the domain (bool, shape of eta)."""
        eta = np.asarray(eta, dtype=float)
        if self.domain == "positive":
            return np.asarray(eta > 0)
        return np.asarray(eta != 0) if self.domain == "nonzero" else np.isfinite(eta)

    def marginal(self, eta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """E g^-1(eta + sqrt(v) Z) for standard normal Z: the mean over normal random effects.

        Parameters
        ----------
        eta, v : arrays that broadcast
            Linear predictor and variance of the random effects in it.

        Returns
        -------
        array
            Exact for identity, log, sqrt and probit; else by the trapezoidal rule, whose error
            falls exponentially (Trefethen and Weideman 2014), below 1e-13 here.

        Raises
        ------
        ValueError
            For "inverse" and "1/mu^2": the integral does not exist.
        """
        eta, v = np.broadcast_arrays(np.asarray(eta, dtype=float), np.asarray(v, dtype=float))
        if self.name in CLOSED:
            return np.asarray(CLOSED[self.name](eta, v))
        if not np.isfinite(self.strip):
            raise ValueError(
                f"link {self.name!r}: a mean over normal random effects does not exist, "
                "because the linear predictor may come near zero; use another link, "
                "or predict at given random effects"
            )
        return normal_mean(self.linkinv, eta, v, self.strip)


def normal_mean(
    function: Function, eta: np.ndarray, v: np.ndarray, strip: float, reach: float = 8.5
) -> np.ndarray:
    """E f(eta + sqrt(v) Z) by the trapezoidal rule, for f bounded and analytic in |Im| < strip.

    Parameters
    ----------
    function : function of an array
        f, called with (nodes, m); it may put further axes in front of these.
    eta, v : (n,) arrays or of any one shape
    strip : float
        Half width of the strip, in units of eta.
    reach : float, default 8.5
        The nodes are within this many standard deviations.

    Returns
    -------
    array of the shape of eta, behind the axes that `function` adds
    """
    shape, flat, sd = eta.shape, eta.reshape(-1), np.sqrt(v).reshape(-1)
    wide = float(sd.max(initial=0.0))
    step = min(0.4, 2 * PI * strip / (EDGE * wide) if wide > 0 else 0.4)
    half = int(np.ceil(reach / step))
    z = step * np.arange(-half, half + 1)
    weight = step * np.exp(-z * z / 2) / np.sqrt(2 * PI)
    rows = max(1, BLOCK // len(z))
    parts = []
    for i in range(0, max(len(flat), 1), rows):
        values = function(flat[i : i + rows] + np.outer(z, sd[i : i + rows]))
        parts.append(np.einsum("k,...km->...m", weight, values))
    whole = np.concatenate(parts, axis=-1)
    return np.asarray(whole.reshape(whole.shape[:-1] + shape))


def _expit(eta: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return np.asarray(expit(eta))


def _logit(mu: np.ndarray) -> np.ndarray:
    from scipy.special import logit

    return np.asarray(logit(mu))


def _ndtr(eta: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return np.asarray(ndtr(eta))


def _ndtri(mu: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    return np.asarray(ndtri(mu))


def _normal_density(eta: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.square(eta) / 2) / np.sqrt(2 * PI))


def _exp(eta: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(np.minimum(eta, 700.0)))


def _gumbel(eta: np.ndarray) -> np.ndarray:
    return np.asarray(-np.expm1(-_exp(eta)))


def _gumbel_density(eta: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(np.minimum(eta, 700.0) - _exp(eta)))


def _cauchy(eta: np.ndarray) -> np.ndarray:
    """F(eta) = 1/2 + atan(eta) / pi, without cancellation where eta is far below zero."""
    low = np.arctan(1 / np.maximum(np.abs(eta), 1)) / PI  # 1 - F at |eta| >= 1
    middle = 0.5 + np.arctan(eta) / PI
    return np.asarray(np.where(eta < -1, low, np.where(eta > 1, 1 - low, middle)))


def _logistic_tails(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.special import log_expit

    return log_expit(eta), log_expit(-eta)


def _normal_tails(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.special import log_ndtr

    return log_ndtr(eta), log_ndtr(-eta)


def _gumbel_tails(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u = _exp(eta)
    F = -np.expm1(-u)
    with np.errstate(divide="ignore", invalid="ignore"):
        low = eta + np.log(np.where(u > 0, F / u, 1.0))
        return np.where(u < 0.5, low, np.log1p(-np.exp(-np.maximum(u, 0.5)))), -u


def _cauchy_tails(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    far = np.log(_cauchy(-np.abs(eta)))  # the smaller of the two
    near = np.log1p(-np.exp(far))
    return np.where(eta < 0, far, near), np.where(eta < 0, near, far)


def _marginal_log(eta: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _exp(eta + v / 2)


def _loglog_tails(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _gumbel_tails(-eta)[::-1]


def _log_tails(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of probabilities e^eta; NaN where they are not below 1."""
    with np.errstate(invalid="ignore", divide="ignore"):
        small, large = np.log1p(-np.exp(np.minimum(eta, 0))), np.log(-np.expm1(np.minimum(eta, 0)))
    return eta, np.where(eta < 0, np.where(eta < -0.7, small, large), np.nan)


CLOSED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "identity": lambda eta, v: eta + 0 * v,
    "log": _marginal_log,
    "sqrt": lambda eta, v: eta * eta + v,
    "probit": lambda eta, v: _ndtr(eta / np.sqrt(1 + v)),
}

LINKS = {
    link.name: link
    for link in (
        Link(
            "logit",
            _logit,
            _expit,
            lambda eta: _expit(eta) * _expit(-eta),
            latent=PI**2 / 3,
            strip=PI,
            log_tails=_logistic_tails,
        ),
        Link("probit", _ndtri, _ndtr, _normal_density, latent=1.0, log_tails=_normal_tails),
        Link(
            "cloglog",
            lambda mu: np.log(-np.log1p(-mu)),
            _gumbel,
            _gumbel_density,
            latent=PI**2 / 6,
            strip=PI / 2,
            log_tails=_gumbel_tails,
        ),
        Link(
            "cauchit",
            lambda mu: np.where(mu < 0.25, -1 / np.tan(PI * mu), np.tan(PI * (mu - 0.5))),
            _cauchy,
            lambda eta: 1 / (PI * (1 + np.square(eta))),
            strip=1.0,
            log_tails=_cauchy_tails,
        ),
        Link(
            "loglog",
            lambda mu: -np.log(-np.log(mu)),
            lambda eta: np.exp(-_exp(-eta)),
            lambda eta: _gumbel_density(-eta),
            latent=PI**2 / 6,
            strip=PI / 2,
            log_tails=_loglog_tails,
        ),
        Link("log", np.log, _exp, _exp, log_tails=_log_tails),
        Link("identity", np.asarray, np.asarray, lambda eta: np.ones_like(eta, dtype=float)),
        Link("sqrt", np.sqrt, np.square, lambda eta: 2 * np.asarray(eta)),
        Link(
            "inverse",
            lambda mu: 1 / np.asarray(mu),
            lambda eta: 1 / np.asarray(eta),
            lambda eta: -1 / np.square(eta),
            domain="nonzero",
        ),
        Link(
            "inversesquared",
            lambda mu: 1 / np.square(mu),
            lambda eta: 1 / np.sqrt(eta),
            lambda eta: -0.5 * np.asarray(eta) ** -1.5,
            domain="positive",
        ),
    )
}

# Other names, of R's, statsmodels' and others; lower case, without what is not a letter or digit.
SPELLINGS = {
    "logistic": "logit",
    "normal": "probit",
    "complementaryloglog": "cloglog",
    "cauchy": "cauchit",
    "squareroot": "sqrt",
    "inversepower": "inverse",
    "reciprocal": "inverse",
    "1mu": "inverse",
    "1mu2": "inversesquared",
    "inversesquare": "inversesquared",
    "ident": "identity",
}


def plain(name: str) -> str:
    """A name in lower case, without what is not a letter or digit."""
    return "".join(c for c in name.lower() if c.isalnum())


def link_named(name: str) -> Link:
    """The link of that name, in whatever spelling.

    Raises
    ------
    ValueError
        There is none; the message lists those that there are.
    """
    key = plain(name)
    key = SPELLINGS.get(key, key)
    if key not in LINKS:
        raise ValueError(f"there is no link {name!r}; there are {', '.join(LINKS)}")
    return LINKS[key]
