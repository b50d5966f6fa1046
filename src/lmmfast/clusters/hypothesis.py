"""The coefficients that are tested, their statistic at each point, and what they are made of."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.design import Design
from ..inference.linear import hypothesis
from ..many.asked import Asked
from .points import Points


@dataclass(frozen=True, eq=False)
class Tested:
    """r hypotheses about coefficients: t of one, F of several together."""

    name: str
    L: np.ndarray  # (r, p)
    labels: tuple[str, ...]  # r names
    variables: tuple[str, ...]  # columns of the data that their columns are made of

    @property
    def statistic(self) -> str:
        return "t" if len(self.L) == 1 else "F"

    @property
    def height(self) -> float:
        """H of threshold-free cluster enhancement: F is as t squared."""
        return 2.0 if self.statistic == "t" else 1.0

    def asked(self, reml: bool, max_evals: int) -> Asked:
        """What is wanted of the fits: the hypotheses and, for their covariances, sums of two."""
        pairs = itertools.combinations(self.L, 2)
        L = np.array([*self.L, *(one + two for one, two in pairs)])
        return Asked(L, (0.0,) * len(L), ("",) * len(L), "z", reml, max_evals)

    def of(self, fits: Points) -> np.ndarray:
        """(T,): the statistic at each point; NaN where there is none."""
        r = len(self.L)
        if r > 1:
            return _wald(fits.estimate[:, :r], fits.variance) / r
        with np.errstate(divide="ignore", invalid="ignore"):
            found = fits.estimate[:, 0] / np.sqrt(fits.variance[:, 0])
        return np.where(np.isfinite(found), found, np.nan)


def _wald(beta: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """b' V^-1 b (T,) of r estimates; `variance`: theirs, then those of sums of two of them."""
    count, r = beta.shape
    V = np.zeros((count, r, r))
    for k, (i, j) in enumerate(itertools.combinations(range(r), 2)):
        V[:, i, j] = V[:, j, i] = (variance[:, r + k] - variance[:, i] - variance[:, j]) / 2
    V[:, range(r), range(r)] = variance[:, :r]
    out = np.full(count, np.nan)
    good = np.isfinite(V).all(axis=(1, 2)) & np.isfinite(beta).all(axis=1)
    good[good] = np.linalg.matrix_rank(V[good], hermitian=True) == r if good.any() else False
    if good.any():
        solved = np.linalg.solve(V[good], beta[good][:, :, None])[:, :, 0]
        out[good] = (beta[good] * solved).sum(axis=1)
    return out


def tested(test: Any, design: Design) -> Tested:
    """What `cluster_test` is asked to test: a term, a coefficient or hypotheses."""
    assert design.recipe is not None
    layout, names = design.recipe.fixed_layout, [str(name) for name in design.x_names]
    of_term = [
        j
        for j, parts in enumerate(layout.columns)
        if parts and isinstance(test, str) and _same(test, [label for label, _, _ in parts])
    ]
    if of_term:
        L, labels = np.eye(len(names))[of_term], tuple(names[j] for j in of_term)
    else:
        L, q, labels = hypothesis(test, names, "test")
        if q.any():
            raise ValueError(
                f"test={test!r}: shuffling shows whether there is an effect, not whether it is "
                f"{q[q != 0][0]:g}; right-hand sides must be 0"
            )
    if np.linalg.matrix_rank(L) < len(L):
        raise ValueError(f"test={test!r}: its hypotheses say the same thing twice")
    used = {label for j in np.flatnonzero(L.any(axis=0)) for label, _, _ in layout.columns[j]}
    atoms = [atom for atom in layout.atoms if atom.label in used]
    variables = dict.fromkeys(
        name for atom in atoms for name in atom.names if name in design.recipe.names
    )
    name = test if isinstance(test, str) else ", ".join(labels)
    return Tested(name, L, labels, tuple(variables))


def _same(term: str, labels: list[str]) -> bool:
    """Whether a text names the term of these variables, in whatever order."""
    bare = sorted(re.sub(r"\s+", "", label) for label in labels)
    text = re.sub(r"\s+", "", term)
    return any(":".join(order) == text for order in itertools.permutations(bare)) if bare else False
