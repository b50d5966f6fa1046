"""Fits of structured terms: the criterion, errors and degrees of freedom of dense formulas in the
natural parameters, and what results say of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import seldom

from lmmfast import lmer
from lmmfast.inference.kenward import KenwardRoger
from lmmfast.inference.satterthwaite import Satterthwaite

P = 4  # times
PLACES = np.array([[0.0, 0.0], [0.3, 2.0], [1.0, 0.5], [2.5, 1.0]])


def lag(p: int = P) -> np.ndarray:
    return np.abs(np.subtract.outer(np.arange(p), np.arange(p)))


def data(seed: int = 2, subjects: int = 15, repeats: int = 2) -> pd.DataFrame:
    """Unbalanced rows of subjects at four times, at four places, with autocorrelated effects."""
    rng = np.random.default_rng(seed)
    n = subjects * P * repeats
    frame = pd.DataFrame(
        {
            "g": np.repeat(np.arange(subjects), P * repeats),
            "f": np.tile(np.repeat(np.arange(P), repeats), subjects),
            "x": rng.normal(size=n),
            "h": rng.integers(0, 6, n),
        }
    )
    frame["u"], frame["v"] = PLACES[frame["f"]].T
    root = np.linalg.cholesky(np.outer(*[np.linspace(0.8, 1.6, P)] * 2) * 0.6 ** lag())
    effects = rng.normal(size=(subjects, P)) @ root.T
    frame["y"] = 1 + frame["x"] + effects[frame["g"], frame["f"]] + rng.normal(size=n)
    frame["y"] += 0.5 * rng.normal(size=6)[frame["h"]]
    kept = np.sort(rng.permutation(n)[: n - 7])
    frame = frame.iloc[kept].reset_index(drop=True)
    return frame.astype({"f": "category", "g": "category", "h": "category"})


def scaled(sd: np.ndarray, R: np.ndarray) -> np.ndarray:
    return np.outer(sd, sd) * R


def neighbours(r: np.ndarray) -> np.ndarray:
    R = np.eye(len(r) + 1)
    for i in range(len(R)):
        for j in range(i):
            R[i, j] = R[j, i] = np.prod(r[j:i])
    return R


def toeplitz(r: np.ndarray) -> np.ndarray:
    return np.append(1.0, r)[lag(len(r) + 1)]


def distance() -> np.ndarray:
    return np.linalg.norm(PLACES[:, None] - PLACES[None], axis=2)


J = np.ones((P, P))
# term -> Sigma of its natural parameters, in the order of fit.parameters()
SIGMA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "homdiag(0 + f | g)": lambda t: t[0] ** 2 * np.eye(P),
    "homcs(0 + f | g)": lambda t: t[0] ** 2 * ((1 - t[1]) * np.eye(P) + t[1] * J),
    "cs(0 + f | g)": lambda t: scaled(t[:P], (1 - t[P]) * np.eye(P) + t[P] * J),
    "ar1(0 + f | g)": lambda t: t[0] ** 2 * t[1] ** lag(),
    "hetar1(0 + f | g)": lambda t: scaled(t[:P], t[P] ** lag()),
    "homtoep(0 + f | g)": lambda t: t[0] ** 2 * toeplitz(t[1:]),
    "toep(0 + f | g)": lambda t: scaled(t[:P], toeplitz(t[P:])),
    "homad(0 + f | g)": lambda t: t[0] ** 2 * neighbours(t[1:]),
    "ad(0 + f | g)": lambda t: scaled(t[:P], neighbours(t[P:])),
    "exp(0 + u + v | g)": lambda t: t[0] ** 2 * np.exp(-distance() / t[1]),
    "gau(0 + u + v | g)": lambda t: t[0] ** 2 * np.exp(-((distance() / t[1]) ** 2)),
    "mat(0 + u + v | g)": lambda t: (
        t[0] ** 2 * (1 + 3**0.5 * distance() / t[1]) * np.exp(-(3**0.5) * distance() / t[1])
    ),
    "mat(0 + u + v | g, nu=2.5)": lambda t: (
        t[0] ** 2
        * (1 + 5**0.5 * distance() / t[1] + 5 / 3 * (distance() / t[1]) ** 2)
        * np.exp(-(5**0.5) * distance() / t[1])
    ),
    "rr(0 + f | g, d=1)": lambda t: np.outer(t, t),
}


class Dense:
    """The criterion of one structured term, and (1 | h), as a function of natural parameters."""

    def __init__(self, fit: Any, sigma: Callable[[np.ndarray], np.ndarray]) -> None:
        design = fit.design
        self.y, self.X, self.reml, self.sigma = design.y, design.X, fit.reml, sigma
        self.terms = [(term.codes[:, None] == term.codes, term.z) for term in design.terms]

    def V(self, natural: np.ndarray) -> np.ndarray:
        """natural: of the structured term, then sd of (1 | h), sigma."""
        *own, other, residual = natural
        (same, z), (others, w) = self.terms
        V = same * (z @ self.sigma(np.array(own)) @ z.T) + others * (w @ w.T) * other**2
        return np.asarray(V + residual**2 * np.eye(len(z)))

    def criterion(self, natural: np.ndarray) -> float:
        V = self.V(natural)
        L = np.linalg.cholesky(V)
        X, y = np.linalg.solve(L, self.X), np.linalg.solve(L, self.y)
        Q, R = np.linalg.qr(X)
        rest = y - Q @ (Q.T @ y)
        f = 2 * np.log(np.diag(L)).sum() + rest @ rest
        count = len(y)
        if self.reml:
            f += 2 * np.log(np.abs(np.diag(R))).sum()
            count -= X.shape[1]
        return float(f + count * np.log(2 * np.pi))

    def vcov(self, natural: np.ndarray) -> np.ndarray:
        return np.linalg.inv(self.X.T @ np.linalg.solve(self.V(natural), self.X))

    def slopes(self, natural: np.ndarray, of: Callable[[np.ndarray], Any]) -> list[Any]:
        """Central differences, of fourth order."""
        out = []
        for j in range(len(natural)):
            h = 1e-3 * max(abs(natural[j]), 0.1) * np.eye(len(natural))[j]
            near, far = of(natural + h) - of(natural - h), of(natural + 2 * h) - of(natural - 2 * h)
            out.append((8 * near - far) / (12 * h[j]))
        return out

    def hessian(self, natural: np.ndarray) -> np.ndarray:
        def gradient(t: np.ndarray) -> np.ndarray:
            return np.array(self.slopes(t, self.criterion))

        H = np.array(self.slopes(natural, gradient))
        return np.asarray(H + H.T) / 2


def fitted(term: str, reml: bool = True, seed: int = 2) -> tuple[Any, Dense, np.ndarray]:
    fit = lmer(f"y ~ x + {term} + (1 | h)", data(seed), reml=reml)
    dense = Dense(fit, SIGMA[term])
    return fit, dense, fit.parameters()["estimate"].to_numpy()


# a Hessian of differences: those of many parameters are slow, their kin are not
@pytest.mark.parametrize("term", seldom(SIGMA, ["toep(0 + f | g)", "ad(0 + f | g)"]))
def test_criterion_and_errors(term: str) -> None:
    fit, dense, natural = fitted(term)
    assert fit.converged
    assert fit.objective == pytest.approx(dense.criterion(natural), abs=1e-7)
    table = fit.parameters()
    assert (table["status"] == "").all()
    assert np.abs(dense.slopes(natural, dense.criterion)).max() < 1e-4
    wanted = np.sqrt(2 * np.linalg.inv(dense.hessian(natural)).diagonal())
    assert table["se"].to_numpy() == pytest.approx(wanted, rel=1e-4)
    limits = fit.conf_int(parameters="random")
    assert (limits["lower"] < table["estimate"]).all()
    assert (limits["upper"] > table["estimate"]).all()
    assert fit.n_params == 2 + len(table)
    cov = fit.covariance("g").to_numpy()
    assert cov == pytest.approx(SIGMA[term](natural[:-2]), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("term", SIGMA)
def test_parameters_are_those_of_the_structure(term: str) -> None:
    """The readings of Sigma are the natural parameters that follow from phi."""
    fit = lmer(f"y ~ x + {term} + (1 | h)", data())
    own = fit.design.terms[0].covariance
    found = own.natural(fit.estimates.phi[: own.nphi])
    units = [fit.sigma if kind in ("sd", "loading") else 1.0 for kind in found.kinds]
    wanted = found.values * units
    assert fit.parameters()["estimate"].to_numpy()[:-2] == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("term", ["ar1(0 + f | g)", "cs(0 + f | g)", "exp(0 + u + v | g)"])
def test_degrees_of_freedom(term: str) -> None:
    """Satterthwaite's, and Kenward and Roger's without second derivatives, from dense matrices."""
    fit, dense, natural = fitted(term)
    assert (fit.parameters()["status"] == "").all()
    L = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -2.0]])
    slopes = np.array(dense.slopes(natural, dense.vcov))
    cov = 2 * np.linalg.inv(dense.hessian(natural))
    vcov = dense.vcov(natural)
    v = np.einsum("ij,jk,ik->i", L, vcov, L)
    g = np.einsum("ij,rjk,ik->ir", L, slopes, L)
    wanted = 2 * v**2 / np.einsum("ir,rs,is->i", g, cov, g)
    assert Satterthwaite(fit).df(L) == pytest.approx(wanted, rel=1e-5)

    Vi, X = np.linalg.inv(dense.V(natural)), dense.X
    G = dense.slopes(natural, dense.V)
    Pm = [-X.T @ Vi @ one @ Vi @ X for one in G]
    Q = [[X.T @ Vi @ a @ Vi @ b @ Vi @ X for b in G] for a in G]
    info = np.array(
        [
            [
                np.trace(Vi @ a @ Vi @ b)
                - 2 * np.trace(vcov @ Q[i][j])
                + np.trace(vcov @ Pm[i] @ vcov @ Pm[j])
                for j, b in enumerate(G)
            ]
            for i, a in enumerate(G)
        ]
    )
    u = np.array([[lo @ vcov @ one @ vcov @ lo / (lo @ vcov @ lo) for one in Pm] for lo in L])
    for observed, W in ((False, np.linalg.inv(info / 2)), (True, cov)):
        pairs = [(i, j) for i in range(len(G)) for j in range(len(G))]
        middle = sum(W[i, j] * (Q[i][j] - Pm[i] @ vcov @ Pm[j]) for i, j in pairs)
        own = KenwardRoger(fit, observed)
        assert own.vcov == pytest.approx(vcov + 2 * vcov @ middle @ vcov, rel=1e-5)
        assert own.df(L) == pytest.approx(2 / np.einsum("kr,rs,ks->k", u, W, u), rel=1e-5)


@pytest.mark.parametrize("term", ["cs(0 + f | g)", "ar1(0 + f | g)", "gau(0 + u + v | g)"])
def test_units_origins_and_orders_do_not_matter(term: str) -> None:
    frame = data()
    fit = lmer(f"y ~ x + {term} + (1 | h)", frame)
    changed = frame.assign(y=1e6 * frame["y"] + 3e7, u=1e4 * frame["u"], v=1e4 * frame["v"])
    other = lmer(
        f"y ~ x + {term} + (1 | h)", changed.iloc[np.random.default_rng(1).permutation(len(frame))]
    )
    shift = 2 * (len(frame) - 2) * np.log(1e6)
    assert other.objective == pytest.approx(fit.objective + shift, abs=1e-8)
    assert other.n_evals == fit.n_evals
    one, two = (own.parameters()[["estimate", "se"]] for own in (fit, other))
    kinds = one.index.str.partition("(").get_level_values(0)
    units = np.array([{"rho": 1.0, "range": 1e4}.get(kind, 1e6) for kind in kinds])
    assert two.to_numpy() == pytest.approx(one.to_numpy() * units[:, None], rel=1e-5)
