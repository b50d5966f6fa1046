"""Models whose residuals have a structure: variances by stratum or covariate, correlations within
subjects.

The structure has parameters of its own, delta (`lmmfast.data.residual`), which are fitted together
with theta. Everything that is read of the compiled model is read at one delta: readings that do not
say which are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..errors import DataError, FitError
from .estimates import Objective, ObjectiveAndGradient
from .model import _BAD_START, Model
from .point import RESIDUAL_STRUCTURE, Point, in_words

if TYPE_CHECKING:
    from ..data.design import Design
    from ..data.residual import Residual
    from .estimates import Estimates
    from .free import Free
    from .options import Watch

_VARIES = (
    "residual={text!r}: a grouping factor of the formula varies within the levels of {subject!r}: "
    "correlated residuals couple its levels, which is not supported; random effects must be "
    "constant within a subject"
)
_ITERATIVE = 'dispersion= and residual= need an exact factorization: storage="dense" or "sparse"'
_CONFOUNDED = (
    "residual={text!r} and the random intercept of ({label}) say the same: neither can be "
    "estimated beside the other; take one of them out"
)
_WIDE = (
    "dispersion= and residual= are not available beside a covariance structure of so many columns: "
    "leave out one of the two, or take fewer columns"
)
_ABSENT = "rows cannot be left out one by one of a model with a residual structure: fit it anew"


class ResidualPoint(Point):
    """A model at one theta and delta; as `Point`."""

    def __init__(
        self, model: Any, theta: Any, delta: np.ndarray, reml: bool = True, sums: Any = None
    ) -> None:
        super().__init__(model, theta, reml, sums)
        self._delta = np.array(delta, dtype=float)

    def __reduce__(self) -> tuple[Any, ...]:
        return ResidualPoint, (self._model, self._theta, self._delta, self.reml, self._sums)

    @contextmanager
    def _core(self) -> Iterator[Any]:
        with self._model._lock, in_words():
            self._model._use(self._sums)
            core = self._model._core
            core.place(self._delta)
            core.evaluate(self._theta, self.reml, value=False)
            yield core

    def slopes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gradient of the criterion in theta (ntheta,) and in delta (ndelta,); and what derivatives
        of estimates in delta are made of, (ndelta, rank + 1, rank + 1).

        With E of `basis` and (X E)'V^-1 (X E) = I, the derivative of vcov in delta_j is
        -sigma^2 E G_j E' with the first rows and columns of the j-th matrix, and that of the
        residual sum of squares its last entry.
        """
        with self._core() as core:
            found: tuple[np.ndarray, np.ndarray, np.ndarray] = core.slopes()
        return found

    @cached_property
    def directions(self) -> tuple[Any, ...]:
        """What Kenward and Roger's adjustment asks of the derivatives R_j of V in delta, for the
        columns e of X E (`basis`) and y - X beta.

        tr V^-1 R_j, (ndelta,); tr V^-1 R_j V^-1 R_k, (ndelta, ndelta); tr V^-1 R_j V^-1 G_r,
        (ndelta, ntheta), coordinates as of `traces`; the products of `slopes`; the symmetric part
        of e'V^-1 R_j V^-1 R_k V^-1 e, (ndelta, rank + 1, ndelta, rank + 1); and Z'V^-1 R_j V^-1 e,
        (m, k, ndelta (rank + 1)) by term.
        """
        with self._core() as core:
            *numbers, Z = core.directions()
        return *numbers, self._engine.by_term(Z)


class ResidualModel(Model):
    """A linear mixed model with a residual structure, ready to be fitted; as `Model`."""

    _compiled: Any = _core.ResidualModel
    has_residual = True

    def __init__(self, design: Design, *, storage: str = "auto", threads: int = 1) -> None:
        _check_terms(design)
        super().__init__(design, storage=storage, threads=threads)
        if self.residual.n != design.n:
            raise FitError(RESIDUAL_STRUCTURE)
        if self._engine.moves:
            raise FitError(_WIDE)
        self._attach(design.sums)

    @property
    def residual(self) -> Residual:
        """The structure of the rows."""
        assert self.design.residual is not None
        return self.design.residual

    def _attach(self, sums: Any) -> None:
        """The compiled model, filled with these rows, gets the structure."""
        limit = self._engine._limit
        products = sums.strata_sources(self.design.fixed, self._engine._groups)
        if products:
            try:
                self._core.strata(products, limit)
            except _core.Unavailable:
                raise FitError(_ITERATIVE) from None
            return
        own, kind, subject, time, count = self.residual, "", None, None, 0
        stratum = columns = None
        if own.deviations is not None and own.deviations.stratum is not None:
            stratum = np.ascontiguousarray(own.deviations.stratum - 1, np.int32)
        elif own.deviations is not None:
            assert own.deviations.column is not None
            columns = np.asfortranarray(own.deviations.column[:, None])
        if own.subjects is not None:
            kind, count = own.subjects.asked.kind, own.subjects.count
            subject = np.ascontiguousarray(own.subjects.codes, np.int32)
            time = np.ascontiguousarray(own.subjects.time, np.float64)
        source = sums.source(self.design.fixed, self._engine._groups)
        try:
            self._core.structure(source, stratum, columns, kind, count, subject, time, limit)
        except _core.Unavailable:
            self._held = None
            raise FitError(self._why(sums)) from None

    def _why(self, sums: Any) -> str:
        """Why the rows cannot have the structure."""
        if self.storage["storage"] == "iterative":
            return _ITERATIVE
        if sums.weights is not None and not (sums.weights > 0).all():
            return _ABSENT
        assert self.residual.subjects is not None
        asked = self.residual.subjects.asked
        return _VARIES.format(text=asked.text, subject=asked.subject)

    def _use(self, sums: Any) -> None:
        held = self._held
        super()._use(sums)
        if self._held is not held:
            self._attach(self._held)

    # ---- fit -------------------------------------------------------------------------------------

    def _run(self, first: Any, watch: Watch, free: Free | None, how: dict[str, Any]) -> Any:
        term = _confounded(self.design) if free is None else None
        if term is not None:
            assert self.residual.subjects is not None
            text = self.residual.subjects.asked.text
            raise DataError(_CONFOUNDED.format(text=text, label=term.label), variable=term.group)
        return super()._run(first, watch, free, how)

    def _search(self, first: np.ndarray | None, how: dict[str, Any]) -> tuple[Any, Any]:
        found, delta = self._core.fit_all(self.residual.start, first, **how)
        return found, delta

    def _known_sigma(
        self, first: np.ndarray | None, watch: Watch, free: Free, how: dict[str, Any]
    ) -> Any:
        raise FitError(
            "sigma cannot be held in a model with a residual structure: give the known standard "
            "deviations as weights, without dispersion= and residual="
        )

    def _estimates(
        self, reml: bool, run: Any, evals: int, began: float, free: Free | None = None
    ) -> Estimates:
        if run.delta is None or not np.isfinite(run.delta).all():
            raise FitError(_BAD_START)
        delta = self.residual.principal(run.delta)
        self._core.place(delta)
        return replace(super()._estimates(reml, run, evals, began, free), delta=delta)

    def holding_delta(
        self, i: int, x: float, theta: np.ndarray, delta: np.ndarray, reml: bool
    ) -> float:
        """The criterion where the i-th delta is x, at the best of all others; infinite where it is
        not finite. theta and delta: where the others begin."""
        start, held = np.array(delta), np.zeros(len(delta), bool)
        start[i], held[i] = x, True
        how: dict[str, Any] = {"held": held, "reml": reml}
        with self._lock:
            self._use(None)
            first = self._engine.checked(theta)
            if self.structured is not None:
                own = self.structured
                first, how["plane"] = own.nearest(first)[own.order], own.everything()
            try:
                found, _ = self._core.fit_all(start, first, **how)
            except _core.NotPositiveDefinite:
                return np.inf
        return float(found[1])

    def criterion(self, theta: np.ndarray, reml: bool, free: Free | None) -> float:
        """The criterion at theta, at the best delta."""
        theta = self._engine.checked(theta)
        if free is not None and free.sigma is not None:
            raise FitError(RESIDUAL_STRUCTURE)
        with self._lock, in_words():
            self._use(None)
            plane = theta, np.zeros((len(theta), 0), order="F")
            how = {"reml": reml, "plane": plane}
            found, _ = self._core.fit_all(self.residual.start, np.zeros(0), **how)
        return float(found[1])

    # ---- evaluation ------------------------------------------------------------------------------

    def objective(
        self,
        theta: Any,
        *,
        reml: bool = True,
        gradient: bool = False,
        hessian: bool = False,
        delta: Any = None,
    ) -> Any:
        """REML criterion or deviance at theta and delta; as `Model.objective`.

        Parameters
        ----------
        delta : (ndelta,) array, optional
            As ``fit.estimates.delta``.
        """
        if delta is None:
            raise FitError(RESIDUAL_STRUCTURE)
        theta = self._engine.checked(theta)
        with self._lock, in_words():
            self._use(None)
            self._core.place(delta)
            value = self._core.evaluate(theta, reml)
            if not (gradient or hessian):
                return value
            g, H = self._core.derivatives(hessian)
        return Objective(value, g, H) if hessian else ObjectiveAndGradient(value, g)

    def point(self, theta: Any, *, reml: bool = True, sums: Any = None, delta: Any = None) -> Point:
        """The model at one theta and delta, to be read; as `Model.point`."""
        if delta is None:
            raise FitError(RESIDUAL_STRUCTURE)
        return ResidualPoint(self, theta, delta, reml, sums)

    def monte_carlo(self, theta: Any, *, reml: bool = True) -> tuple[float, np.ndarray]:
        """Refused: these models are exact."""
        raise FitError(RESIDUAL_STRUCTURE)

    def many(self, *args: Any, **how: Any) -> dict[str, np.ndarray]:
        """Refused: each response has a delta of its own."""
        raise FitError(RESIDUAL_STRUCTURE)

    def estimates_at(self, theta: Any, *, reml: bool = True) -> Estimates:
        """Refused: theta alone does not say where the model is."""
        raise FitError(RESIDUAL_STRUCTURE)


def linear_model(design: Design) -> Model:
    """The model of a design, whatever its residuals are."""
    return Model(design) if design.residual is None else ResidualModel(design)


def _check_terms(design: Design) -> None:
    """Random terms that residual structures do not go with are refused."""
    for term in design.terms:
        if term.several:
            raise FitError(
                "dispersion= and residual= are not available beside a random term with several "
                f"levels in a row, as {term.term}: leave out one of the two",
                variable=term.group,
            )


def _confounded(design: Design) -> Any:
    """A random term whose intercept says what compound symmetry within its levels says, or None."""
    assert design.residual is not None
    subjects = design.residual.subjects
    if subjects is None or subjects.asked.kind != "cs":
        return None
    for term in design.terms:
        if len(term.levels) != len(subjects.grouping.levels) or "Intercept" not in term.columns:
            continue
        image = np.empty(len(term.levels), np.int64)
        image[term.codes] = subjects.codes
        if (image[term.codes] == subjects.codes).all():
            return term
    return None
