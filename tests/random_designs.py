"""Generalized models drawn at random: any family and link, designs of every shape, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lmmfast.engine.families import FAMILIES, find_family

KINDS = [(name, link) for name, kind in FAMILIES.items() for link in kind.links]
EXTRA = {"size": (0.5, 20), "dispersion": (0.05, 0.5), "precision": (3, 30)}  # the range drawn from


@dataclass(frozen=True)
class Drawn:
    """What `GLMM.from_arrays` takes; `shape`: how the factors lie."""

    y: Any
    X: np.ndarray
    terms: list[tuple[np.ndarray, np.ndarray, str]]
    family: str
    link: str
    weights: np.ndarray | None
    offset: np.ndarray | None
    shape: str
    separated: bool = False

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self.y, self.X, self.terms, self.family, self.link, self.weights, self.offset


def codes(rng: np.random.Generator, n: int, shape: str) -> list[np.ndarray]:
    """The levels of one to three factors, without gaps."""

    def levels() -> np.ndarray:
        m = int(rng.integers(3, max(4, min(30, n // 6))))
        return rng.permutation(np.r_[np.arange(m), rng.integers(0, m, n - m)])

    if shape != "nested":
        return [levels() for _ in range(rng.integers(2, 4) if shape == "crossed" else 1)]
    upper = levels()
    pairs = upper * 4 + rng.integers(0, 4, n)
    return [upper, np.unique(pairs, return_inverse=True)[1]]


def within(eta: np.ndarray, family: str, link: str) -> np.ndarray:
    """A predictor of unit size, moved to where the family has its means."""
    positive = ("identity", "sqrt", "inverse", "inversesquared")
    if (family, link) == ("binomial", "log"):
        return np.minimum(-1.5 + 0.3 * eta, -0.1)
    if link in positive and (family, link) != ("gaussian", "identity"):
        return np.maximum(2.5 + 0.25 * eta, 0.5)
    return eta


def draw(seed: int) -> Drawn:
    """The design of a seed: seeds that follow each other go through the families and links.

    A third has a factor without variance; a tenth of the binomial ones have a column that sets
    five rows apart.
    """
    rng = np.random.default_rng(seed)
    name, link = KINDS[seed % len(KINDS)]
    n, k = int(rng.integers(30, 400)), int(rng.integers(1, 4))
    shape = str(rng.choice(["single", "nested", "crossed"]))
    x = rng.normal(size=(n, k))
    eta, terms = 0.3 + x @ rng.normal(size=k) * 0.3, []
    factors = codes(rng, n, shape)
    nothing = int(rng.integers(len(factors))) if rng.random() < 1 / 3 else -1
    for i, code in enumerate(factors):
        own = np.column_stack([np.ones(n), x[:, : rng.integers(0, min(2, k) + 1)]])
        sd = 0.0 if i == nothing else 0.8 * rng.choice([0.5, 1, 1.5])
        b = (
            sd
            * rng.normal(size=(code.max() + 1, own.shape[1]))
            * np.r_[1, [0.5, 0.5]][: own.shape[1]]
        )
        eta += (own * b[code]).sum(axis=1)
        terms.append((code, own, str(rng.choice(["full", "full", "diag"]))))
    offset = rng.normal(size=n) * 0.2 if rng.random() < 0.25 else None
    eta = within(eta if offset is None else eta + offset, name, link)
    X = np.column_stack([np.ones(n), x])
    drawn = Drawn(None, X, terms, name, link, None, offset, shape)
    return _answers(rng, drawn, eta)


def _answers(rng: np.random.Generator, drawn: Drawn, eta: np.ndarray) -> Drawn:
    """The same with a response, and with weights."""
    n, family = len(eta), find_family(drawn.family, drawn.link)
    if family.response == "ordered":
        latent = eta + rng.logistic(size=n)
        classes = int(rng.integers(2, 6))
        y = np.digitize(latent, np.quantile(latent, np.arange(1, classes) / classes))
        return replace(drawn, y=y, X=drawn.X[:, 1:])
    extra = np.log([rng.uniform(*EXTRA[own]) for own in family.extra])
    if family.response == "binomial":
        several = rng.random() < 0.5 or drawn.family == "betabinomial"
        trials = rng.integers(1, 8, n).astype(float) if several else np.ones(n)
        y = family.simulate(rng, eta, extra, trials)
        X, apart = drawn.X, drawn.family == "binomial" and rng.random() < 0.1
        if apart:
            X = np.column_stack([X, np.arange(n) < 5])
            y[:5] = trials[:5]
        y = np.column_stack([y, trials - y]) if several else y
        return replace(drawn, y=y, X=X, separated=apart)
    y = family.simulate(rng, eta, extra, None)
    if family.response in ("positive", "unit"):
        y = np.maximum(y, 1e-8) if family.response == "positive" else np.clip(y, 1e-8, 1 - 1e-8)
    weights = rng.uniform(0.5, 2, n) if rng.random() < 0.25 else None
    return replace(drawn, y=y, weights=weights)
