"""Probabilities of the classes of an ordered response, and what is linear in them.

With thresholds a_1 < ... < a_{K-1} and a linear predictor eta, P(y <= k) = F(a_k - eta); over
normal random effects of variance v it is the mean of that. Names are those of R's emmeans and
ordinal.

References
----------
Agresti (2010), *Analysis of Ordinal Categorical Data*, 2nd ed., 3.2 (cumulative link models).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .ddf import check_scale

if TYPE_CHECKING:
    from ..fit import Fit

KINDS = ("prob", "cum.prob", "exc.prob", "mean.class")
STEP = 2e-3  # of differences of means over random effects, in units of eta


@dataclass(frozen=True, eq=False)
class ClassScale:
    """Numbers that are linear in the cumulative probabilities P(y <= k) of an ordered response.

    Attributes
    ----------
    kind : {"prob", "cum.prob", "exc.prob", "mean.class"}
        Probabilities of each class, of it or lower ones, of higher ones; the mean number of the
        class, from 1.
    names : tuple of str
        What each number is of: classes, or the thresholds between them; of a mean "mean.class".
    shift : (m,) array, and turn : (m, K - 1) array
        The numbers are shift + turn (cumulative probabilities).
    """

    kind: str
    names: tuple[str, ...]
    shift: np.ndarray
    turn: np.ndarray
    family: Any
    x: np.ndarray  # the thresholds as they were optimized

    @classmethod
    def of(cls, fit: Fit, kind: str) -> ClassScale:
        """Of a fit; DataError where its response has no ordered classes."""
        check_ordered(fit, kind)
        family: Any = fit.family
        estimates: Any = fit.estimates
        K, eye = family.classes, np.eye(family.classes - 1)
        none = np.zeros((1, K - 1))
        turn = {
            "prob": np.concatenate([eye, none]) - np.concatenate([none, eye]),
            "cum.prob": eye,
            "exc.prob": -eye,
            "mean.class": none - 1,
        }[kind]
        shift = {
            "prob": np.r_[np.zeros(K - 1), 1.0],
            "cum.prob": np.zeros(K - 1),
            "exc.prob": np.ones(K - 1),
            "mean.class": np.array([float(K)]),
        }[kind]
        names = {"prob": family.levels, "mean.class": ("mean.class",)}.get(kind, family.extra_names)
        x = np.asarray(estimates.extra, dtype=float)
        return cls(kind, tuple(names), shift, turn, family, x)

    @property
    def column(self) -> str:
        """The name of a column that says which number: "class" or "cut"; "" of one number."""
        return {"prob": "class", "mean.class": ""}.get(self.kind, "cut")

    def numbers(self, eta: np.ndarray, variance: np.ndarray, below: np.ndarray) -> np.ndarray:
        """At linear predictors (n,), or on average over normal ones, where cumulative
        probabilities are `below` (n, K - 1): (n, m). Those of classes are not differences of these
        in the tails, where no digits would be left."""
        if self.kind != "prob":
            return np.asarray(self.shift + below @ self.turn.T)
        if np.any(variance):
            return np.asarray(self.family.marginal_probabilities(eta, variance, self.x))
        return np.asarray(self.family.probabilities(eta, self.x))

    def below(self, eta: Any, variance: Any = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Cumulative probabilities (..., K - 1) at linear predictors, or on average over normal
        ones of this variance; and their derivatives in the thresholds, the negative of those in
        the predictor."""
        a, link = self.family.natural(self.x)[0], self.family.link
        eta, variance = np.broadcast_arrays(np.asarray(eta, float), np.asarray(variance, float))
        t, v = a - eta[..., None], variance[..., None]
        if not np.any(variance):
            return np.asarray(link.linkinv(t)), np.asarray(link.mu_eta(t))
        ends = [np.asarray(link.marginal(t + k * STEP, v)) for k in (2, 1, -1, -2)]
        slope = (8 * (ends[1] - ends[2]) - (ends[0] - ends[3])) / (12 * STEP)
        return np.asarray(link.marginal(t, v)), slope

    @property
    def thresholds(self) -> np.ndarray:
        """Derivatives of the thresholds in what was optimized, (K - 1, K - 1)."""
        return np.asarray(self.family.natural(self.x)[1])


def class_kind(fit: Fit, kind: Any) -> str | None:
    """The kind of numbers that ``type=`` asks for; None where it is not about classes.

    "response" and "class" are probabilities of the classes, too.

    Raises
    ------
    ValueError
        Where it is no scale of means.
    DataError
        Where there are no ordered classes.
    """
    ordered = fit.family is not None and fit.family.response == "ordered"
    if ordered and kind in ("response", "class"):
        return "prob"
    if kind not in (*KINDS, "class"):
        check_scale(kind, (*KINDS, "class") if ordered else ())
        return None
    check_ordered(fit, kind)
    return str(kind)


def check_ordered(fit: Fit, kind: str) -> None:
    """DataError where there are no ordered classes."""
    if fit.family is None or fit.family.response != "ordered":
        raise DataError(
            f"type={kind!r} is of the classes of an ordered response, and {fit.design.response!r} "
            'has none: type="response" has the mean of the response, of binomial ones the '
            "probability",
            variable=fit.design.response,
        )


def covariance_of(fit: Fit) -> np.ndarray:
    """Covariance of the fixed effects and of what the thresholds are made of; zero for dropped
    columns."""
    own: Any = fit.estimates
    first = len(own.theta)
    found = np.array(own.covariance)[first:, first:]
    kept = np.concatenate([own.fixed_kept, np.ones(len(own.extra), bool)])
    found[~kept] = found[:, ~kept] = 0.0
    return found
