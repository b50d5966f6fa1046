"""Whether a saved fit is that of some data: its criterion there, slope and curvature, the rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data.design import Design, Given
from ..data.relationship import Precision
from ..data.rows import Rows
from ..engine.model import CERTIFIED
from ..errors import DataError, silenced
from ..fit import Fit
from ..inference.ddf import is_repeated
from ..sources.given import design_from
from .lean import digest_of, fingerprint
from .repeated import evaluated_repeated, repeated_again

SAME = 1e-8  # by which criteria of the same data may differ, relative to their size


@dataclass(frozen=True)
class Verification:
    """What `lmmfast.verify` found; true where the optimum holds and the data are the same.

    Attributes
    ----------
    optimum : bool
        Whether no local step from the stored estimates lowers the criterion of these data by more
        than 1e-6.
    same_data : bool
        Whether the rows used are as many, have the same responses (in any order), and give the
        stored criterion.
    n, n_saved : int
        Rows used, here and when the fit was saved.
    same_responses : bool or None
        Whether the responses are the same numbers in any order; None where the fit, of a stream,
        does not know.
    objective, objective_saved : float
        Criterion at the stored estimates here, and as it was stored.
    gain : float
        How far the criterion can still fall near the stored estimates: by its slope and curvature,
        or by a fit that starts there.
    slope : float
        Largest absolute slope of the criterion in a parameter; NaN where it was not needed.
    """

    optimum: bool
    same_data: bool
    n: int
    n_saved: int
    same_responses: bool | None
    objective: float
    objective_saved: float
    gain: float
    slope: float

    def __bool__(self) -> bool:
        return self.optimum and self.same_data

    def __str__(self) -> str:
        rows = f"{self.n} rows used, {self.n_saved} when the fit was saved"
        answers = {True: "the same responses", False: "other responses", None: "responses unknown"}
        data = "The data are the same" if self.same_data else "The data are NOT the same"
        holds = (
            "The optimum holds" if self.optimum else "The estimates are NO optimum of these data"
        )
        return (
            f"{data}: {rows}; {answers[self.same_responses]}.\n"
            f"Criterion at the stored estimates: {self.objective:.6f} (stored: "
            f"{self.objective_saved:.6f}).\n"
            f"{holds}: near them it can fall by {self.gain:.2g}."
        )


def verify(fit: Fit, data: Any, make: Any) -> Verification:
    """As `lmmfast.verify`; `make` makes the model of a design."""
    with silenced():  # what is to be said of the fit was said
        design = design_of_data(fit, data)
        _check_columns(fit, design)
        value, gain, slope = _evaluated(fit, design, make)
    sums: Any = design.sums
    known = fingerprint(fit)
    responses = None
    if known is not None and isinstance(sums, Rows):
        responses = digest_of(sums) == known
    close = abs(value - fit.objective) <= SAME * max(1.0, abs(fit.objective))
    return Verification(
        optimum=bool(gain <= CERTIFIED),
        same_data=bool(design.n == fit.nobs and responses is not False and close),
        n=design.n,
        n_saved=fit.nobs,
        same_responses=responses,
        objective=value,
        objective_saved=fit.objective,
        gain=gain,
        slope=slope,
    )


def design_of_data(fit: Fit, data: Any) -> Design:
    """The design that the fit's formula and arguments make of data."""
    own = fit.design
    if is_repeated(fit):
        return repeated_again(fit, data)
    if own.recipe is None:
        raise DataError("a fit from arrays has no formula, by which data could be read")
    given = own.given or Given(None, own.recipe.weights, own.recipe.offset, None)
    for name, is_there in (
        ("weights", own.sums.is_weighted),
        ("offset", own.recipe.offset_is_array),
    ):
        told = name == "weights" and (given.weights or fit.family is not None)
        if is_there and not told:
            raise DataError(f"{name}= was an array, which the data do not carry", variable=name)
    related = {
        term.group: Precision(term.relation.matrix(), term.relation.levels.tolist())
        for term in own.terms
        if term.relation is not None
    }
    kind = None if fit.family is None else fit.family.response
    return design_from(
        fit.formula,
        data,
        given.weights,
        given.offset,
        given.contrasts,
        related or None,
        kind,
        given.dispersion,
        given.residual,
    )


def _check_columns(fit: Fit, design: Design) -> None:
    """The estimates are of these columns and levels."""
    if design.x_names != fit.design.x_names:
        raise DataError(
            f"the data give other fixed effects than the fit has: {', '.join(design.x_names[:8])}, "
            f"not {', '.join(fit.design.x_names[:8])}"
        )
    columns = [(term.label, term.columns) for term in design.terms]
    if columns != [(term.label, term.columns) for term in fit.design.terms]:
        raise DataError("the data give other columns of random terms than the fit has")


def _evaluated(fit: Fit, design: Design, make: Any) -> tuple[float, float, float]:
    """The criterion at the stored estimates, what it can gain, and its largest slope."""
    own: Any = fit.estimates
    if is_repeated(fit):
        at, promised, steepest, search = evaluated_repeated(fit, design, make)
        return at, _gain(promised, at, search), steepest
    if fit.family is not None:
        model = _generalized(fit, design, make)
        found = model.estimates_at(own.psi)
        slope = np.abs(found.point.gradient[model.free(found.psi)]).max(initial=0.0)
        value = float(found.objective)
        again = lambda: model.fit(start=own.psi).objective  # noqa: E731
        return value, _gain(float(found.certificate), value, again), float(slope)
    model = make(design, storage="auto", threads=1)
    again = lambda: model.fit(reml=fit.reml, start=fit.theta, free=own.free).objective  # noqa: E731
    if own.free is None and own.phi is None and own.delta is None:
        value, g, _ = model.objective(fit.theta, reml=fit.reml, gradient=True, hessian=True)
        certificate = float(model.estimates_at(fit.theta, reml=fit.reml).certificate)
        return (
            float(value),
            _gain(certificate, float(value), again),
            float(np.abs(g).max(initial=0.0)),
        )
    moved: Any = replace(fit, design=design, model=model)
    value = (
        model.criterion(fit.theta, fit.reml, own.free) if own.delta is None else moved.point.value
    )
    return float(value), _gain(np.inf, float(value), again), float("nan")


def _gain(certificate: float, value: float, again: Any) -> float:
    """What slope and curvature promise; where that is much, what a fit from here on finds."""
    if certificate <= CERTIFIED:
        return certificate
    return max(float(value - again()), 0.0)


def _generalized(fit: Fit, design: Design, make: Any) -> Any:
    model: Any = fit.model
    names = ("nagq", "information", "accuracy", "reml")
    how = {name: getattr(model, name) for name in names}
    return make(design, fit.family, storage="auto", threads=1, prior=model.prior or None, **how)
