"""Confidence intervals in models for repeated measures: Wald, profile, by replicates.

The ends of a profile interval are the extremes of a parameter h on the contour f = least + q. At an
end the gradients are parallel, g = t a. With the model f + g'd + d'B d / 2, B = H - t h'', the step
to the extreme of h + a'd on the contour is d = B^-1 (t a - g), t such that the model reaches the
contour (Venzon & Moolgavkar 1988, *Appl. Statist.* 37, 87-94): every step costs one evaluation.

A fixed effect is one more variable c: f(phi, c) = f(phi) + (c - b(phi))^2 / v(phi), the other fixed
effects at their best, where b and v are its estimate and variance at phi.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FitError
from ..hypotheses.tests import coef_test
from ..refits import by_likelihood
from ..repeated_parameters import natural, natural_of
from . import repeated as _repeated
from .parameters import Parameter, chosen, normal_quantile

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit

Local = tuple[float, np.ndarray, np.ndarray]  # value, gradient, Hessian

SHOWN = 6  # points of a profile to each side
STEPS = 60  # to an end; six or seven are usual
CLOSE = 1e-7  # deviance units from the contour, and of what a last step is worth
DIFFERENCE = 1e-5  # of phi, for second derivatives of h


def limits(
    fit: Fit, level: float, method: str, parameters: Any, ddf: str | None, n: int, seed: Any
) -> pd.DataFrame:
    """As ``MMRMFit.conf_int`` documents them."""
    import pandas as pd

    wanted = chosen(_parameters(fit), parameters)
    if method == "boot":
        own: Any = fit
        ends = (1 - level) / 2, (1 + level) / 2
        out = own.bootstrap(n, seed).quantile(ends).T.loc[[one.name for one in wanted]].to_numpy()
    elif method == "profile":
        found = Contour(by_likelihood(fit), normal_quantile(level) ** 2)
        out = np.array([found.ends(one.is_fixed, one.i) for one in wanted]).reshape(-1, 2)
    else:
        out = _wald(fit, level, wanted, ddf)
    return pd.DataFrame(out, index=[one.name for one in wanted], columns=["lower", "upper"])


def _parameters(fit: Fit) -> list[Parameter]:
    """Those of the covariance structure, then the fixed effects."""
    names = _repeated.covariances_of(fit).names
    known = [Parameter(name, "sd", i=i) for i, name in enumerate(names)]
    return known + [Parameter(name, "fixed", i=i) for i, name in enumerate(fit.design.x_names)]


def profiles(fit: Fit, which: Any, level: float) -> pd.DataFrame:
    """As ``MMRMFit.profile`` documents them."""
    import pandas as pd

    base = by_likelihood(fit)
    names = _repeated.covariances_of(base).names
    values = [*_repeated.covariances_of(base).values, *base.estimates.beta]
    steps = np.linspace(0, normal_quantile(level), SHOWN + 1)[1:]
    rows: list[tuple[str, float, float]] = []
    for one in chosen(_parameters(fit), which):
        ends = [(z, *Contour(base, z * z).ends(one.is_fixed, one.i)) for z in steps]
        low = [(one.name, low, -z) for z, low, _ in reversed(ends)]
        middle = (one.name, float(values[one.i + one.is_fixed * len(names)]), 0.0)
        rows += [*low, middle, *[(one.name, high, z) for z, _, high in ends]]
    return pd.DataFrame(rows, columns=["parameter", "value", "zeta"])


def _wald(fit: Fit, level: float, wanted: list[Parameter], ddf: str | None) -> np.ndarray:
    out = np.full((len(wanted), 2), np.nan)
    fixed = np.array([one.is_fixed for one in wanted], bool)
    places = np.array([one.i for one in wanted], int)
    if fixed.any():
        out[fixed] = coef_test(fit, ddf).conf_int(1 - level)[places[fixed]]
    if not fixed.all():
        out[~fixed] = _repeated.wald(fit, level, places[~fixed])
    return out


class Contour:
    """Where the deviance of a fit by maximum likelihood is q above its least."""

    def __init__(self, fit: Fit, q: float) -> None:
        own: Any = fit
        self.fit, self.q, self.point = fit, q, own.point
        self.phi, self.model = own.point.phi, own.point.model
        self.core = self.model._core
        self.least = float(self.core.evaluate(self.phi, False))

    def ends(self, is_fixed: bool, i: int) -> tuple[float, float]:
        """Both ends of the interval of a parameter; NaN where there is none."""
        if not is_fixed:
            own = _repeated.covariances_of(self.fit)
            own_value, shown = self._covariance(i)
            if not np.isfinite(own.values[i]):
                return np.nan, np.nan
            low, high = (self._end(self._value, own_value, self.phi, sign) for sign in (-1, 1))
            return shown(low), shown(high)
        if not self.fit.estimates.fixed_kept[i]:
            return np.nan, np.nan
        direction = self.model.units.back[i]
        b = self._coefficient(self.phi, direction)[0]
        start = np.append(self.phi, b)
        last = np.append(np.zeros(len(self.phi)), 1.0)
        shift = self.fit.estimates.beta[i] - b

        def value(x: np.ndarray) -> Local:
            return float(x[-1]), last, np.zeros((len(x), len(x)))

        def deviance(x: np.ndarray) -> Local:
            return self._with_coefficient(x, direction)

        low, high = (self._end(deviance, value, start, sign) for sign in (-1, 1))
        return low + shift, high + shift

    # ---- the functions --------------------------------------------------------------------------

    def _value(self, phi: np.ndarray) -> Local:
        with self.model._lock:
            f = float(self.core.evaluate(phi, False))
            return f, *self.core.derivatives()

    def _coefficient(self, phi: np.ndarray, direction: np.ndarray) -> tuple[float, float]:
        """Estimate and variance of a coefficient where the core stands."""
        with self.model._lock:
            self.core.evaluate(phi, False)
            beta, vcov, _ = self.core.estimates()
        return float(direction @ beta), float(direction @ vcov @ direction)

    def _with_coefficient(self, x: np.ndarray, direction: np.ndarray) -> Local:
        with self.model._lock:
            f, g, H = self._value(x[:-1])
            beta, vcov, _ = self.core.estimates()
            slopes = self.core.slopes()
        back = vcov @ direction
        b, v = float(direction @ beta), float(direction @ back)
        db = (slopes[:, :-1, -1] - slopes[:, :-1, :-1] @ beta) @ back
        dv = -np.einsum("a,nab,b->n", back, slopes[:, :-1, :-1], back)
        r = (x[-1] - b) / np.sqrt(v)
        dr = np.append(-db / np.sqrt(v) - r * dv / (2 * v), 1 / np.sqrt(v))
        whole = np.zeros((len(x), len(x)))
        whole[:-1, :-1] = H
        return f + r * r, np.append(g, 0) + 2 * r * dr, whole + 2 * np.outer(dr, dr)

    def _covariance(self, i: int) -> tuple[Callable[[np.ndarray], Local], Callable[[float], float]]:
        """A covariance parameter without bounds, as a function of phi; and the way back."""
        own = _repeated.covariances_of(self.fit)
        visits = self.model.design.seen
        count = len(own.names) // len(visits.groups)
        n = len(self.phi) // len(visits.groups)
        g, place = divmod(i, count)
        one = natural(visits.covariance.structure, visits.labels)[place]
        scale = self.model.units.scale if one.kind == "sd" else 1.0

        def first(phi: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = natural_of(self.point, phi, one)
            x = value[0]
            if one.kind == "cor":
                return float(np.arctanh(x)), slope[0] / (1 - x * x)
            return float(np.log(x)), slope[0] / x

        def value(phi: np.ndarray) -> Local:
            own = slice(g * n, (g + 1) * n)
            at = phi[own]
            found, slope = first(at)
            second = np.zeros((len(phi), len(phi)))
            steps = DIFFERENCE * np.eye(n)
            second[own, own] = [
                (first(at + e)[1] - first(at - e)[1]) / (2 * DIFFERENCE) for e in steps
            ]
            whole = np.zeros(len(phi))
            whole[own] = slope
            return found, whole, (second + second.T) / 2

        def shown(x: float) -> float:
            return float(np.tanh(x) if one.kind == "cor" else scale * np.exp(x))

        return value, shown

    # ---- the way to an end ----------------------------------------------------------------------

    def _end(
        self,
        deviance: Callable[[np.ndarray], Local],
        parameter: Callable[[np.ndarray], Local],
        start: np.ndarray,
        sign: int,
    ) -> float:
        """The largest (sign 1) or smallest value of a parameter on the contour."""
        x, t = start, 0.0
        f, g, H = deviance(x)
        for _ in range(STEPS):
            h, a, second = parameter(x)
            step, t = self._step(f, g, H, a, second, t, sign)
            if step is None:
                return np.nan
            done = abs(f - self.least - self.q) < CLOSE and abs(step @ (g - t * a)) < CLOSE
            if done:
                return h
            x, f, g, H = self._tried(deviance, x, step)
            if not np.isfinite(f):
                return np.nan
        return np.nan

    def _step(
        self, f: float, g: np.ndarray, H: np.ndarray, a: np.ndarray, second: np.ndarray, t: float,
        sign: int,
    ) -> tuple[np.ndarray | None, float]:  # fmt: skip
        for B in (H - t * second, H):
            try:
                np.linalg.cholesky(B)
            except np.linalg.LinAlgError:
                continue
            both = np.linalg.solve(B, np.column_stack([a, g]))
            left = 2 * (self.least + self.q - f) + g @ both[:, 1]
            t = sign * np.sqrt(max(left, 0.0) / (a @ both[:, 0]))
            return t * both[:, 0] - both[:, 1], t
        return None, t

    def _tried(
        self, deviance: Callable[[np.ndarray], Local], x: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
        """The point a step further, or a part of it where it would leave what there is."""
        share = 1.0
        for _ in range(20):
            try:
                found = deviance(x + share * step)
            except ArithmeticError:
                found = (np.inf, step, step)
            if found[0] < self.least + 4 * self.q + 1:
                return x + share * step, *found
            share /= 2
        raise FitError("the profile of a parameter could not be followed")
