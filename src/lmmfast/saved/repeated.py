"""Fits for repeated measures without their rows: what inference had read of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np

from ..data.units import Units, constant_of, units_of
from ..data.visits import PatternSums, RepeatedDesign
from ..engine.options import Options
from ..engine.repeated import RepeatedModel, RepeatedPoint, structure_of
from ..errors import DataError
from ..fit import Fit
from ..freeze import Frozen
from ..inference.ddf import method_of
from ..inference.estimability import Openness, openness_of
from ..inference.repeated import BetweenWithin, RepeatedKenwardRoger
from ..sources.repeated import any_repeated
from .kept import no_data
from .lean import design_without_rows, fingerprint, methods

Kind = TypeVar("Kind", bound=Fit)


# ---- the model without sums ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RepeatedReadings(
    Frozen,
    arrays=("gradient", "hessian", "beta", "vcov", "Sigma", "slopes", "deviations", "inside"),
):
    """What inference reads of the model at the estimates, in the core's units.

    Attributes
    ----------
    gradient, hessian : (nphi,) and (nphi, nphi) arrays
        Of the criterion.
    beta, vcov, Sigma, slopes : arrays
        As `RepeatedPoint` has them, Sigma of places empty; slopes (nphi, kept + 1, kept + 1).
    deviations : (nphi,) array
        Which parameters have the units of the response.
    span, closest : float
        Distances of places, of sp_exp.
    n_patterns : int
        Different sets of visits.
    adjusted : dict
        Kenward and Roger's covariance over the usual one, (kept, kept), by name of the method.
    inside : (p,) array or None
        Degrees of freedom of each coefficient, between and within subjects.
    """

    gradient: np.ndarray
    hessian: np.ndarray
    beta: np.ndarray
    vcov: np.ndarray
    Sigma: np.ndarray
    slopes: np.ndarray
    deviations: np.ndarray
    span: float
    closest: float
    n_patterns: int
    adjusted: dict[str, np.ndarray]
    inside: np.ndarray | None


class _Core(NamedTuple):
    """What is asked of the compiled model itself."""

    structure: Any  # of all visits; None: of places
    deviations: np.ndarray
    nphi: int
    local: Any = None

    def evaluate(self, *_: Any) -> NoReturn:
        """Not available."""
        raise no_data("the criterion at other parameters would be needed")


class KeptRepeated(RepeatedModel):
    """The model of a fit without data. What would evaluate it raises one clear error.

    Parameters
    ----------
    design : RepeatedDesign
        Without rows.
    units : Units
    readings : RepeatedReadings
    """

    fingerprint: str | None = None  # of the responses that were used

    def __init__(self, design: RepeatedDesign, units: Units, readings: RepeatedReadings) -> None:
        self.design, self.units, self.readings = design, units, readings
        spatial = design.seen.places is not None
        structure = None if spatial else structure_of(design.seen)
        self._core = _Core(structure, readings.deviations, len(readings.gradient))
        self.span, self.closest = readings.span, readings.closest

    def __reduce__(self) -> tuple[Any, ...]:
        own = self.design, self.units, self.readings
        return type(self), own, {"fingerprint": self.fingerprint, "known": dict(self.known)}

    @property
    def n_patterns(self) -> int:
        """Number of different sets of visits, and groups, that subjects have."""
        return self.readings.n_patterns

    def point(self, theta: Any, reml: bool) -> RepeatedPoint:
        """What was read at the estimates."""
        return KeptRepeatedPoint(self, self._start(theta), reml)

    def known_before(self, fit: Any) -> dict[Any, Any]:
        """What inference had computed of the fit."""
        found = super().known_before(fit)
        for name, adjusted in self.readings.adjusted.items():
            found[name] = RepeatedKenwardRoger(fit, name.endswith("linear"))
            vars(found[name])["_adjusted"] = adjusted
        if self.readings.inside is not None:
            found["between-within"] = BetweenWithin(fit)
            vars(found["between-within"])["of_columns"] = self.readings.inside
        return found

    # ---- what needs the model --------------------------------------------------------------------

    def _refused(self, *_: Any, **__: Any) -> NoReturn:
        raise no_data("the criterion at other parameters would be needed")

    minimize = estimates_at = criterion = _refused

    def with_design(self, *_: Any) -> NoReturn:
        """Not available."""
        raise no_data("a fit of another design would be needed")

    @property
    def patterns(self) -> NoReturn:  # type: ignore[override]
        """Not available."""
        raise no_data("the visits of each subject would be needed")


class KeptRepeatedPoint(RepeatedPoint):
    """A fit's model at the estimates, as far as it was read."""

    def __init__(self, model: KeptRepeated, phi: np.ndarray, reml: bool) -> None:
        own = model.readings
        self.model, self.phi, self.reml = model, phi, reml
        self.gradient, self.hessian = own.gradient, own.hessian
        self.beta, self.vcov, self.Sigma = own.beta, own.vcov, own.Sigma
        self._slopes = own.slopes

    def products(self, middle: Any) -> NoReturn:
        """Not available: they are sums over subjects."""
        raise no_data(
            "tests by Kenward and Roger, which were not kept: ddf= of fit.save() names what to "
            'keep, as in ddf=["kenward-roger", "kenward-roger-linear"]'
        )


# ---- leaving out rows ----------------------------------------------------------------------------


def repeated_without_data(fit: Kind, ddf: Any = None) -> Kind:
    """The fit without rows and sums; ddf: as `lean.without_data`."""
    own: Any = fit
    if isinstance(own.model, KeptRepeated):
        return fit
    design = repeated_without_rows(own.design)
    model: Any = KeptRepeated(design, own.model.units, _readings_of(fit, ddf))
    model.fingerprint, model.known = fingerprint(fit), known_of(fit)
    return replace(fit, design=design, model=model)


def known_of(fit: Fit) -> dict[Any, Any]:
    """What is known of rows that will be gone: directions of dropped columns."""
    return {} if fit.estimates.fixed_kept.all() else {Openness: openness_of(fit)}


def repeated_without_rows(design: RepeatedDesign) -> RepeatedDesign:
    """The design of which rows and sums were forgotten; visits and subjects stay by name."""
    none = np.zeros(0, np.int32)
    made = replace(design, patterned=None)
    lean = design_without_rows(made)
    assert isinstance(lean, RepeatedDesign)
    return replace(lean, visits=replace(design.seen, visit=none, subject=none, group=none))


def _readings_of(fit: Fit, ddf: Any) -> RepeatedReadings:
    point: Any = fit.point
    wanted, model = methods(fit, ddf), point.model
    adjusted = {}
    for name in wanted:
        if name.startswith("kenward-roger"):
            method: Any = method_of(fit, name)
            adjusted[name] = method._adjusted
    between: Any = method_of(fit, "between-within") if fit.design.is_held else None
    return RepeatedReadings(
        point.gradient,
        point.hessian,
        point.beta,
        point.vcov,
        point.Sigma if model._core.local is None else np.zeros((0, 0, 0)),  # none of places
        point._slopes,
        np.array(model._core.deviations, dtype=bool),
        float(getattr(model, "span", 0.0)),
        float(getattr(model, "closest", 0.0)),
        model.n_patterns,
        adjusted,
        None if between is None else between.of_columns,
    )


def pattern_sums(design: RepeatedDesign) -> PatternSums:
    """Sums by pattern of visits of rows in memory, as `sources.repeated` makes them of streams."""
    visits = design.seen
    if design.patterned is not None:
        return design.patterned
    if visits.places is not None:
        raise DataError(
            f"{visits.covariance.text} has no sums by pattern of visits: save the fit with "
            "data=True"
        )
    there = design.rows_for("sums by pattern of visits would be needed")
    X, y, w = design.X, there.response(), design.weights
    units = units_of(X, y, constant_of(X))
    rows = units.rows(X, y, w)
    flat = [rows[where].reshape(len(where), -1) for _, _, where in visits.patterns]
    return PatternSums(
        units=units,
        log_weights=0.0 if w is None else float(np.log(w).sum()),
        n=len(y),
        patterns=[(g, v, len(where)) for g, v, where in visits.patterns],
        sums=[own.T @ own for own in flat],
    )


# ---- verification --------------------------------------------------------------------------------


def repeated_again(fit: Fit, data: Any) -> RepeatedDesign:
    """The design that the fit's formula and arguments make of data."""
    given = fit.design.given
    rest = () if given is None else (given.weights, given.offset, given.contrasts)
    return any_repeated(fit.formula, data, *rest)


def evaluated_repeated(fit: Fit, design: Any, make: Any) -> tuple[float, float, float, Any]:
    """Criterion at the stored estimates, what a step gains, the largest slope; a fit from there."""
    model: Any = make(design)
    found = model.estimates_at(fit.theta, fit.reml)
    slope = np.abs(model.point(fit.theta, fit.reml).gradient).max(initial=0.0)
    again = lambda: model.minimize(Options(fit.reml, fit.theta)).objective  # noqa: E731
    return float(found.objective), float(found.certificate), float(slope), again
