"""Where the responses of a bootstrap come from: drawn by normal numbers, or by resampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.design import Design
from ..engine.estimates import Estimates
from ..engine.relations import refuse_related
from ..many.checkpoint import fingerprint
from ..many.simulate import Simulator
from ..many.streams import Shared, Streams

FAINT = 1e-12  # share of the largest variance below which modes have none


class Drawn:
    """Responses that a simulator draws: nothing travels but the replicate's number."""

    def __init__(self, simulator: Simulator, streams: Streams) -> None:
        self._simulator, self._streams = simulator, streams

    def part(self, first: int, stop: int) -> Any:
        return None

    def columns(self, first: int, stop: int, part: Any) -> tuple[np.ndarray, np.ndarray | None]:
        return self._simulator.draw(self._streams, first, stop), None

    def fingerprint(self) -> str:
        streams = self._streams.seed, self._streams.branch
        return fingerprint("drawn", self._simulator.facts(), *streams)


class WithReplacement:
    """Responses from modes and residuals that are drawn with replacement.

    Modes of a term and residuals are centred and scaled first, so that their covariances are the
    estimated ones: conditional modes are shrunken (Carpenter, Goldstein & Rasbash 2003, *JRSS C*
    52, section 3.2). Terms of one factor are drawn together. Residuals with a structure are made
    independent and of equal variance, drawn, and given it back.
    """

    def __init__(self, design: Design, estimates: Estimates, streams: Streams) -> None:
        rows = design.rows_for("resampled residuals need the rows")
        refuse_related(design, "a bootstrap that draws modes with replacement")
        beta = np.nan_to_num(estimates.beta, nan=0.0)
        self._streams, self._mean = streams, design.fixed.times(beta)
        root = np.ones(rows.n) if rows.weights is None else np.sqrt(rows.weights)
        e = rows.response() - self._mean
        factors: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        for term, b, T in zip(design.terms, estimates.b, estimates.T, strict=True):
            e -= np.einsum("ij,ij->i", term.z, b[term.codes])
            own = term.codes, term.z, reflated(b, estimates.sigma * T)
            factors.setdefault(id(term.codes), []).append(own)
        self._factors = list(factors.values())
        self._structure, self._delta = design.residual, estimates.delta
        if self._structure is not None:
            assert self._delta is not None
            root = root / self._structure.deviation(self._delta)
        e *= root
        if self._structure is not None:
            assert self._delta is not None
            e = self._structure.correlate(self._delta, e[:, None], inverse=True)[:, 0]
        e -= e.mean()
        self._residuals = e * (estimates.sigma / np.sqrt((e * e).mean()))
        self._root = root

    def part(self, first: int, stop: int) -> Any:
        return None

    def columns(self, first: int, stop: int, part: Any) -> tuple[np.ndarray, np.ndarray | None]:
        shared = self._streams.shared()
        out = np.empty((stop - first, len(self._mean)))
        for i in range(first, stop):
            out[i - first] = self._one(shared, i)
        return out.T, None

    def _one(self, shared: Shared, i: int) -> np.ndarray:
        generator, n = shared.at(i), len(self._mean)
        y = self._residuals[generator.integers(0, n, n)]
        if self._structure is not None:
            assert self._delta is not None
            y = self._structure.correlate(self._delta, y[:, None])[:, 0]
        y = y / self._root
        y += self._mean
        for terms in self._factors:
            m = len(terms[0][2])
            drawn = generator.integers(0, m, m)
            for codes, z, b in terms:
                y += np.einsum("ij,ij->i", z, b[drawn][codes])
        return np.asarray(y)

    def fingerprint(self) -> str:
        streams = self._streams.seed, self._streams.branch
        return fingerprint(
            "resampled",
            self._mean,
            self._residuals,
            self._root,
            self._factors,
            () if self._structure is None else (*self._structure.facts(), self._delta),
            *streams,
        )


def reflated(b: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Modes (m, k), centred and scaled so that b'b / m = factor factor'.

    Directions in which no mode varies stay without variance.
    """
    centred = b - b.mean(axis=0)
    w, V = np.linalg.eigh(centred.T @ centred / len(b))
    varies = w > FAINT * max(float(w[-1]), 0.0)
    white = (centred @ V[:, varies]) / np.sqrt(w[varies])  # covariance 1
    target = V[:, varies].T @ factor @ factor.T @ V[:, varies]
    u, U = np.linalg.eigh(target)
    root = (U * np.sqrt(np.maximum(u, 0))) @ U.T
    return np.asarray(white @ root @ V[:, varies].T)
