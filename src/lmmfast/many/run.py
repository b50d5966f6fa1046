"""Fits the columns of a matrix of responses: rows that are missing, blocks, threads."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.arrays import design_of
from ..data.design import Design
from ..engine.model import CERTIFIED, RESOLUTION, Model
from ..errors import LmmError
from ..inference.linear import hypothesis
from ..progress import Advance, progress
from .fits import ManyFits, joined
from .responses import Responses, chunks_of

BLOCK = 64  # columns between two looks at Ctrl-C, at most, ...
IMPATIENCE = 0.3  # ... and seconds
METHODS = ("satterthwaite", "z")
NUMBERS = ("objective", "certificate", "sigma")
MATRICES = ("theta", "beta", "se", "variance", "df")


@dataclass(frozen=True)
class Asked:
    """What is wanted of each response."""

    L: np.ndarray  # r x p
    values: tuple[float, ...]
    names: tuple[str, ...]
    ddf: str
    reml: bool
    max_evals: int
    threads: int


def asked(
    design: Design, contrasts: Any, ddf: str, reml: bool, max_evals: int, threads: int
) -> Asked:
    """The arguments, checked."""
    if ddf not in METHODS:
        raise ValueError(f"ddf must be one of {', '.join(map(repr, METHODS))}, not {ddf!r}")
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise ValueError(f"threads must be a whole number from 1 on, not {threads!r}")
    names = [str(name) for name in design.x_names]
    if contrasts is None:
        L, q, labels = np.eye(len(names)), np.zeros(len(names)), tuple(names)
    else:
        L, q, labels = hypothesis(contrasts, names, "contrasts")
    return Asked(np.ascontiguousarray(L), tuple(q), labels, ddf, reml, max_evals, threads)


def fit_all(model: Model, given: Any, want: Asked) -> ManyFits:
    """The fits of every chunk of responses."""
    parts = []
    for chunk in chunks_of(given, model.design):
        count = chunk.values.shape[1]
        with progress(count, "responses", "fit", 2 * BLOCK) as advance:
            parts.append(_fit_chunk(model, chunk, want, advance))
    if not parts:
        raise ValueError("Y has no chunks: there is nothing to fit")
    return joined(parts)


def _fit_chunk(model: Model, chunk: Responses, want: Asked, advance: Advance) -> ManyFits:
    began = time.perf_counter()
    out = _Numbers(model, want, chunk.values.shape[1])
    for columns, rows in _patterns(chunk.values):
        own = chunk.values[:, columns] if rows is None else chunk.values[np.ix_(rows, columns)]
        try:
            models = _models(model, rows, min(want.threads, len(columns)))
        except LmmError as error:
            out.refuse(columns, str(error))
            advance(len(columns))
            continue
        _fit_columns(models, np.asfortranarray(own), columns, want, out, advance)
    return out.fits(chunk, time.perf_counter() - began)


def _patterns(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Columns that are missing in the same rows, and the rows that they have (None: all)."""
    missing = np.isnan(values)
    some = missing.any(axis=0)
    if not some.all():
        yield np.flatnonzero(~some), None
    if not some.any():
        return
    incomplete = np.flatnonzero(some)
    packed = np.packbits(missing[:, incomplete], axis=0)
    _, first, back = np.unique(packed, axis=1, return_index=True, return_inverse=True)
    back = back.ravel()
    for pattern in np.argsort(first):
        columns = incomplete[back == pattern]
        yield columns, np.flatnonzero(~missing[:, columns[0]])


def _models(model: Model, rows: np.ndarray | None, count: int) -> list[Model]:
    """The model of these rows, as often as threads want it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = model if rows is None else model.with_design(_restricted(model.design, rows))
        return [first, *(first.with_design(first.design) for _ in range(count - 1))]


def _restricted(design: Design, rows: np.ndarray) -> Design:
    """The design of some of its rows; levels without rows are gone."""
    known: dict[int, np.ndarray] = {}
    terms = []
    for term in design.terms:
        codes = known.setdefault(
            id(term.codes), np.unique(term.codes[rows], return_inverse=True)[1].astype(np.int32)
        )
        terms.append((codes, term.source.at(rows), term.structure))
    y = np.arange(len(rows), dtype=float)  # replaced before anything is fitted
    weights = None if design.weights is None else design.weights[rows]
    return design_of(y, design.fixed.at(rows), terms, weights, None)


def _fit_columns(
    models: Sequence[Model],
    values: np.ndarray,
    columns: np.ndarray,
    want: Asked,
    out: _Numbers,
    advance: Advance,
) -> None:
    """Blocks of columns, on as many threads as there are models; the order does not matter.

    The first column alone says how many make a block that Ctrl-C need not wait for.
    """
    began = time.perf_counter()
    out.take(columns[:1], models[0].many(values[:, :1], want.L, **_how(want)))
    advance(1)
    each = max(time.perf_counter() - began, 1e-9)
    size = max(1, min(BLOCK, int(IMPATIENCE / each)))
    blocks = [slice(a, min(a + size, len(columns))) for a in range(1, len(columns), size)]
    if len(models) == 1:
        for block in blocks:
            out.take(columns[block], models[0].many(values[:, block], want.L, **_how(want)))
            advance(len(columns[block]))
        return
    left, lock = iter(blocks), threading.Lock()

    def work(model: Model) -> None:
        while not stopped.is_set():
            with lock:
                block = next(left, None)
            if block is None:
                return
            found = model.many(values[:, block], want.L, **_how(want))
            with lock:
                out.take(columns[block], found)
                advance(len(columns[block]))

    stopped = threading.Event()
    with ThreadPoolExecutor(len(models)) as pool:
        try:
            for done in [pool.submit(work, model) for model in models]:
                done.result()
        finally:
            stopped.set()


def _how(want: Asked) -> dict[str, Any]:
    return {"reml": want.reml, "max_evals": want.max_evals, "df": want.ddf == "satterthwaite"}


class _Numbers:
    """The numbers of all fits of a chunk, filled block by block."""

    def __init__(self, model: Model, want: Asked, count: int) -> None:
        p, r = want.L.shape[1], len(want.L)
        widths = {"theta": model.ntheta, "beta": p, "se": p, "variance": r, "df": r}
        self._model, self._want = model, want
        self._of = {name: np.full((count, width), np.nan) for name, width in widths.items()}
        self._of |= {name: np.full(count, np.nan) for name in NUMBERS}
        self.evals = np.zeros(count, dtype=np.int64)
        self.status = np.full(count, "", dtype=object)

    def refuse(self, columns: np.ndarray, why: str) -> None:
        """There is no model for these."""
        self.status[columns] = f"no model: {why}"

    def take(self, columns: np.ndarray, found: dict[str, np.ndarray]) -> None:
        """The fits of some columns."""
        for name, values in self._of.items():
            if name in found and (values.ndim == 1 or found[name].shape[1] == values.shape[1]):
                values[columns] = found[name]
        self.evals[columns] = found["evals"]
        self.status[columns] = _ends(found)

    def fits(self, chunk: Responses, seconds: float) -> ManyFits:
        """All of them."""
        want, own = self._want, self._of
        beta, L = own["beta"], want.L
        used = L != 0
        estimate = np.where(used[None], L[None] * beta[:, None, :], 0.0).sum(axis=2)
        df = np.full_like(own["df"], np.inf) if want.ddf == "z" else own["df"]
        df = np.where(np.isnan(estimate), np.nan, df)
        return ManyFits(
            formula=self._model.design.formula,
            responses=np.array(chunk.names, dtype=object),
            x_names=tuple(self._model.design.x_names),
            contrast_names=want.names,
            values=want.values,
            objective=own["objective"],
            beta=beta,
            se=own["se"],
            theta=own["theta"],
            sigma=own["sigma"],
            converged=self.status == "converged",
            certificate=own["certificate"],
            evals=self.evals,
            status=self.status,
            estimate=estimate,
            contrast_se=np.where(np.isnan(estimate), np.nan, np.sqrt(own["variance"])),
            df=df,
            n=(~np.isnan(chunk.values)).sum(axis=0),
            reml=want.reml,
            ddf=want.ddf,
            seconds=seconds,
        )


def _ends(found: dict[str, np.ndarray]) -> np.ndarray:
    """How fits ended, with what `LMM.fit` would say of them."""
    status = found["status"].copy()
    known = (found["noise"] <= CERTIFIED) & (found["resolution"] <= RESOLUTION)
    short = (status == "converged") & ~(known & (found["certificate"] <= CERTIFIED))
    status[short & known] = "flat direction"
    status[short & ~known] = "limited by rounding"
    return status
