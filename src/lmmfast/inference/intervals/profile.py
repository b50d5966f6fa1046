"""Profile likelihood of standard deviations, correlations, sigma and fixed effects.

zeta(v) = sign(v - estimate) sqrt(D(v) - D(estimate)), D(v) the criterion with a parameter held at v
and minimized over all others; the walk along it is in `trace`.

References
----------
Bates, Mächler, Bolker & Walker (2015), *J. Stat. Softw.* 67(1), section 5.1 (lme4's profiles of the
deviance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...engine.criterion import Criterion, PhiCriterion
from ...engine.families import Family
from ...engine.free import Free
from ...engine.model import Model
from ...engine.psi import PsiCriterion, XiCriterion
from ...errors import ConvergenceWarning, FitError, silenced, warn
from ...fit import Fit
from ...plots import profiles as _pictures
from ...tables import Printed, Summary, Table, column, formula_text, wrapped
from ...typing import AxesLike
from ..ddf import check_choice, check_level, without_residual_structure
from ..refits import model_of, refitted
from .held import (
    Correlation,
    Deviation,
    DeviationOfPhi,
    Effect,
    Held,
    ParameterOfPhi,
    Sigma,
    lower_root,
)
from .held_psi import (
    CorrelationOfPsi,
    DeviationOfXi,
    Entry,
    EntryOfRoot,
    Extra,
    ParameterOfXi,
    Threshold,
    psi_in,
)
from .parameters import (
    Parameter,
    chosen,
    natural_extra,
    normal_quantile,
    parameters_of,
    value_of,
    values_in,
)
from .trace import Trace, TracePoint

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd


LOWER = 1e-6  # criterion below the fit's that is worth a warning, deviance units


# ---- the profiles of a fit -----------------------------------------------------------------------


Columns = tuple[tuple[int, ...], ...]  # of each random term, in the order of a model


@dataclass(frozen=True, eq=False)
class _Curve:
    """A parameter's profile."""

    trace: Trace
    columns: Columns


class _Machine:
    """Makes the profile of each parameter; models with columns in another order are made once."""

    def __init__(self, base: Fit) -> None:
        self.base = base
        engine = base.model._engine
        self._kept = [engine.kept(i) for i in range(len(base.design.terms))]
        self._plain = tuple(tuple(range(len(term.columns))) for term in base.design.terms)
        self._criteria: dict[Columns, Any] = {}
        self._curves: dict[Parameter, _Curve | None] = {}

    def curve(self, one: Parameter) -> _Curve | None:
        """None for what was dropped, and for correlations with a standard deviation of zero."""
        if one not in self._curves:
            self._curves[one] = self._make(one)
        return self._curves[one]

    def _make(self, one: Parameter) -> _Curve | None:
        base, columns = self.base, self._plain
        if one.kind == "fixed" and not base.estimates.fixed_kept[one.i]:
            return None
        if base.family is not None and one.kind in ("fixed", "extra"):
            return self._entry(one, base.family)
        if one.kind == "fixed":
            return self._curve(Effect(self._criterion(columns, None), base, one.i), columns)
        if one.kind == "sigma":
            return self._curve(Sigma(self._criterion(columns, None), base), columns)
        if base.estimates.phi is not None:
            held = self._held_in_phi(one)
            return None if held is None else self._curve(held, columns)
        wanted: tuple[int, ...] = (one.i,) if one.kind == "sd" else (one.i, one.j)
        if not set(wanted) <= set(self._kept[one.term]) or self._is_held(one):
            return None
        if one.kind == "cor" and not base.estimates.T[one.term][list(wanted)].any(axis=1).all():
            return None
        if base.design.terms[one.term].structure == "full":
            columns = tuple(
                (*wanted, *(c for c in kept if c not in wanted)) if t == one.term else tuple(kept)
                for t, kept in enumerate(self._kept)
            )
            wanted = (0, 1)[: len(wanted)]
        criterion = self._criterion(columns, one.term)
        theta = self._theta(criterion.model, columns)
        places = {(r, c): k for k, (t, r, c) in enumerate(criterion.entries) if t == one.term}
        three = places[wanted[0], wanted[0]], places.get((1, 0), -1), places.get((1, 1), -1)
        if base.family is not None:
            return self._curve(_held_in_psi(one, criterion, psi_in(base, theta), three), columns)
        if one.kind == "sd":
            return self._curve(Deviation(criterion, theta, base.sigma, three[0]), columns)
        return self._curve(Correlation(criterion, theta, three), columns)

    def _held_in_phi(self, one: Parameter) -> Held | None:
        """A parameter of a term in a model with covariance structures; None where it follows from
        several parameters, as a correlation of unstructured columns does there."""
        own: Any = self.base.model.structured
        phi, t = self.base.estimates.phi, one.term
        assert phi is not None
        criterion = self._criterion(self._plain, None)
        T = self.base.estimates.T[t]
        if one.kind == "loading" or not T[[one.i, max(one.j, one.i)]].any(axis=1).all():
            return None
        e = own.alone(t, phi, [(one.i, one.i if one.kind == "sd" else one.j)])
        if e is None:
            return None
        if one.kind == "sd":
            same = np.isclose(np.linalg.norm(T[one.i]), abs(phi[e]), rtol=1e-9)
            if self.base.family is not None:
                return DeviationOfXi(criterion, criterion.xi, e) if same else None
            return DeviationOfPhi(criterion, phi, self.base.sigma, e) if same else None
        if own.own(t) is None:
            return None

        start = phi if self.base.family is None else criterion.xi

        def natural(w: float) -> float:
            there = start.copy()
            there[e] = w
            return value_of(one, criterion.factors(there), 1.0, self.base.estimates.beta)

        if self.base.family is not None:
            return ParameterOfXi(criterion, start, e, natural, own.bounds(t, e))
        return ParameterOfPhi(criterion, phi, e, natural, own.bounds(t, e))

    def _entry(self, one: Parameter, family: Family) -> _Curve | None:
        """A fixed effect, or a parameter of the distribution, of a generalized model."""
        criterion: Any = self._criterion(self._plain, None)
        psi = psi_in(self.base, self.base.theta)
        first = len(self.base.theta)
        if self.base.estimates.phi is not None:
            psi, first = criterion.xi, len(self.base.estimates.phi)
        if one.kind == "fixed":
            held = Entry(criterion, psi, first + one.i)
            return self._curve(held, self._plain)
        J = natural_extra(self.base.estimates, family)[1]
        if np.count_nonzero(J[one.i]) > 1:  # made of several entries
            return self._curve(Threshold(criterion, psi, one.i), self._plain)
        at = first + len(self.base.estimates.beta) + one.i
        if family.response == "ordered":
            return self._curve(Entry(criterion, psi, at), self._plain)
        return self._curve(Extra(criterion, psi, at, family), self._plain)

    def _curve(self, held: Held, columns: Columns) -> _Curve:
        return _Curve(Trace(held, self.base.objective), columns)

    def _criterion(self, columns: Columns, term: int | None) -> Any:
        """Of the model with its columns in this order, for a parameter of a term."""
        changed = None if term is None or columns[term] == self._kept[term] else term
        if columns not in self._criteria:
            model = self._model(columns)
            if self.base.estimates.phi is not None:
                self._criteria[columns] = self._criterion_of_phi(model, self.base.estimates.phi)
                return self._criteria[columns]
            if self.base.family is not None:
                generalized: Any = model
                theta = self._theta(generalized, columns)
                self._criteria[columns] = PsiCriterion(generalized, psi_in(self.base, theta))
                return self._criteria[columns]
            free = self._free_of(model, columns, changed)
            self._criteria[columns] = Criterion(model, self.base.reml, free)
        return self._criteria[columns]

    def _criterion_of_phi(self, model: Any, phi: np.ndarray) -> Any:
        if self.base.family is None:
            return PhiCriterion(model, self.base.reml, phi)
        return XiCriterion(model, psi_in(self.base, self.base.theta), phi)

    def _is_held(self, one: Parameter) -> bool:
        """Whether a standard deviation or correlation was held; FitError if it is neither this nor
        free, because some of the parameters it is made of are held or tied."""
        free = self.base.estimates.free
        if free is None:
            return False
        entries = self.base.model.theta_entries
        mine = [k for k, (t, _, _) in enumerate(entries) if t == one.term]
        rows = [k for k in mine if entries[k][1] in (one.i, one.j)]
        if not free.moving[rows].any():
            return True
        diagonal = self.base.design.terms[one.term].structure == "diag"
        if free.is_free(mine) or (diagonal and free.is_multiple(rows[0])):
            return False
        raise FitError(
            f"{one.name} has no profile in this fit: some of the parameters it is made of were "
            "held or tied"
        )

    def _free_of(self, model: Model, columns: Columns, changed: int | None) -> Free | None:
        """What moves, in the model with its columns in this order; the term that is changed was
        free."""
        free = self.base.estimates.free
        if free is None:
            return None
        places = {entry: k for k, entry in enumerate(self.base.model.theta_entries)}
        return free.at(
            [
                None if t == changed else places[t, columns[t][r], columns[t][c]]
                for t, r, c in model.theta_entries
            ]
        )

    def _model(self, columns: Columns) -> Model:
        """The model with the columns of its random terms chosen and in this order."""
        base = self.base
        if columns == self._plain:
            return base.model
        three = zip(base.design.terms, columns, self._plain, strict=True)
        terms = tuple(term if new == old else term.chosen(new) for term, new, old in three)
        with silenced():
            return base.model.with_design(replace(base.design, terms=terms))

    def _theta(self, model: Any, columns: Columns) -> np.ndarray:
        """The estimates in that order of the columns; dependent rows make columns of zeros."""
        base, own = self.base, list(self.base.estimates.T)
        for t, term in enumerate(base.design.terms):
            if term.structure == "full":
                own[t] = lower_root(own[t][list(columns[t])])
        return np.array([own[t][r, c] for t, r, c in model.theta_entries])


def _held_in_psi(one: Parameter, criterion: Any, psi: np.ndarray, three: Any) -> Held:
    """A standard deviation or correlation of a generalized model."""
    if one.kind == "sd":
        return EntryOfRoot(criterion, psi, three[0])
    return CorrelationOfPsi(criterion, psi, three)


class Profile(Printed):
    """Profile likelihood of the parameters of a fit; made by ``Fit.profile``.

    Attributes
    ----------
    fit : Fit
        The fit that is profiled: the one given, or that of the same model by the criterion that is
        profiled.
    reml : bool
        Whether the REML criterion is profiled (else the deviance).
    level : float
        Coverage to which the profiles were followed; `conf_int` follows them further where asked.

    Examples
    --------
    >>> from lmmfast import datasets, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> profile = fit.profile(["sd(Days | Subject)", "Days"])
    >>> profile.conf_int().round(3)
                        lower   upper
    sd(Days | Subject)  3.801   8.753
    Days                7.359  13.576
    """

    def __init__(self, fit: Fit, parameters: Sequence[Parameter], level: float) -> None:
        self.fit, self.reml, self.level = fit, fit.reml, level
        self.parameters = tuple(parameters)
        self._machine = _Machine(fit)
        self._every = parameters_of(fit)
        self.conf_int(level)
        self._warn_of_lower()

    @property
    def names(self) -> list[str]:
        """The parameters that were profiled."""
        return [one.name for one in self.parameters]

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Intervals of all values that a likelihood-ratio test at this level does not reject.

        Parameters
        ----------
        level : float, default 0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``. Where the criterion does not rise enough the end is the
            bound, 0 for standard deviations and -1 or 1 for correlations: see `open_ends`. A
            correlation with a standard deviation whose estimate is zero can have any value. NaN
            for dropped columns.
        """
        return self._table([(end[0], end[1]) for end in self._ends(level)])

    def open_ends(self, level: float = 0.95) -> pd.DataFrame:
        """Whether ends of the intervals are bounds that the criterion does not exclude.

        Parameters
        ----------
        level : float, default 0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper`` of booleans.
        """
        return self._table([(end[2], end[3]) for end in self._ends(level)])

    def _table(self, rows: list[tuple[Any, Any]]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(rows, index=self.names, columns=["lower", "upper"])

    def _ends(self, level: float) -> list[tuple[float, float, bool, bool]]:
        """Lower and upper end of each parameter, and whether they are open."""
        target = normal_quantile(check_level(level))
        return [self._ends_of(one, target) for one in self.parameters]

    def _ends_of(self, one: Parameter, target: float) -> tuple[float, float, bool, bool]:
        curve = self._machine.curve(one)
        ends = (np.nan, np.nan, False, False)
        if curve is not None:
            (low, a), (high, b) = (_end(curve.trace, sign, target) for sign in (-1, 1))
            ends = low, high, a, b
        return ends if self._ceiling(one, target) is None else (-1.0, 1.0, True, True)

    def _ceiling(self, one: Parameter, target: float) -> tuple[_Curve, TracePoint] | None:
        """Where |zeta| of a correlation ends: every value is as good as one of its two standard
        deviations being zero. None if that is not below the target."""
        if one.kind != "cor":
            return None
        lowest: tuple[_Curve, TracePoint] | None = None
        for sd in self._every:
            if sd.kind != "sd" or sd.term != one.term or sd.i not in (one.i, one.j):
                continue
            curve = self._machine.curve(sd)
            if curve is None:
                return None
            if curve.trace.end(-1, target) is None and curve.trace.sides[-1][-1].w == 0:
                point = curve.trace.sides[-1][-1]
                if lowest is None or point.f < lowest[1].f:
                    lowest = curve, point
        return lowest

    def _path(self, one: Parameter) -> list[tuple[float, float, _Curve, TracePoint]]:
        """Position and zeta of every point, and where the other parameters are found there."""
        curve = self._machine.curve(one)
        if curve is None:
            return []
        path = [(point.w, point.zeta, curve, point) for point in curve.trace.points]
        top = self._ceiling(one, normal_quantile(self.level))
        if top is None:
            return path
        most = abs(top[1].zeta)
        out = {at[0]: at for at in path if abs(at[1]) <= most}
        for sign in (-1, 1):
            beyond = [at[0] for at in path if at[1] * sign > most]
            for w in (*beyond, curve.trace.limit(sign)):
                out.setdefault(w, (w, sign * most, *top))
        return [out[w] for w in sorted(out)]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a point: ``parameter``, ``value``, ``zeta`` and all parameters there."""
        import pandas as pd

        rows: list[list[Any]] = []
        for one in self.parameters:
            curve = self._machine.curve(one)
            if curve is None:
                continue
            for w, zeta, its, point in self._path(one):
                state = self._state(its, point)
                others = [value_of(other, *state) for other in self._every]
                rows.append([one.name, curve.trace.held.value(w), zeta, *others])
        names = ["parameter", "value", "zeta", *(one.name for one in self._every)]
        return pd.DataFrame(rows, columns=names)

    def _state(self, curve: _Curve, point: TracePoint) -> tuple[Any, ...]:
        """Relative factors by the fit's columns, sigma and fixed effects at a point; of generalized
        models also what the distribution has."""
        held = curve.trace.held
        theta, beta, sigma = held.state(point.w, point.z)
        beta = np.where(self.fit.estimates.fixed_kept, beta, np.nan)
        T = []
        for t, own in enumerate(held.criterion.factors(theta)):
            rows = np.zeros((len(self.fit.design.terms[t].columns), own.shape[1]))
            rows[list(curve.columns[t])] = own
            T.append(rows)
        if self.fit.family is None:
            return T, sigma, beta
        criterion: Any = held.criterion
        extra = self.fit.family.natural(criterion.extra(theta))[0]
        return T, sigma, beta, np.asarray(extra)

    def _warn_of_lower(self) -> None:
        below = [
            (self.fit.objective - curve.trace.lowest, one.name)
            for one in self.parameters
            if (curve := self._machine.curve(one)) is not None
        ]
        most, name = max(below, default=(0.0, ""))
        if most > LOWER * max(1.0, 1e-6 * abs(self.fit.objective)):
            message = (
                f"the profile of {name} found a criterion lower than the fit's by {most:.2g}: "
                "the fit is not at the global optimum; fit again with other starts (start=)"
            )
            warn(ConvergenceWarning(message))

    def plot(
        self,
        which: str | list[str] | tuple[str, ...] | None = None,
        *,
        kind: Literal["zeta", "density", "contours"] = "zeta",
        axes: AxesLike | None = None,
    ) -> np.ndarray:
        """Draws the profiles: `lmmfast.plots.profile` and its likes.

        Parameters
        ----------
        which : str or list of str, optional
            Parameters, as for ``Fit.profile``. Default: all that were profiled.
        kind : {"zeta", "density", "contours"}, default "zeta"
            zeta against the value of each parameter; the densities these stand for; contours of
            each pair of parameters.
        axes : sequence of matplotlib axes, optional
            One a parameter, or pair. Default: a new figure.

        Returns
        -------
        array of matplotlib axes

        Raises
        ------
        ValueError
            When none of the parameters has a profile, or there are fewer axes than that.
        ImportError
            Without matplotlib, when no axes are given.
        """
        check_choice("kind", kind, ("zeta", "density", "contours"))
        draw: dict[str, Callable[..., np.ndarray]] = {
            "zeta": _pictures.profile,
            "density": _pictures.profile_density,
            "contours": _pictures.profile_contours,
        }
        return draw[kind](self, which, axes=axes)

    def curves(self, which: str | list[str] | tuple[str, ...] | None = None) -> pd.DataFrame:
        """Smooth curves through the points of `frame`, in each parameter's own units.

        Parameters
        ----------
        which : str or list of str, optional
            As for `plot`.

        Returns
        -------
        pandas.DataFrame
            ``parameter``, ``value``, ``zeta``, monotone; none of parameters without a profile.
        """
        import pandas as pd

        wanted = [one for one in chosen(self.parameters, which) if self._path(one)]
        frames = [
            pd.DataFrame(dict(zip(("value", "zeta"), self._smooth(one), strict=True))).assign(
                parameter=one.name
            )
            for one in wanted
        ]
        columns = ["parameter", "value", "zeta"]
        return (
            pd.concat(frames, ignore_index=True)[columns]
            if frames
            else pd.DataFrame(None, columns=columns)
        )

    def _smooth(self, one: Parameter) -> tuple[np.ndarray, np.ndarray]:
        """A monotone curve through the points, in the parameter's own units."""
        from scipy.interpolate import PchipInterpolator

        curve = self._machine.curve(one)
        assert curve is not None
        path = self._path(one)
        w, zeta = np.array([at[0] for at in path]), np.array([at[1] for at in path])
        fine = np.unique(np.concatenate([np.linspace(w[0], w[-1], 201), w]))
        value = np.array([curve.trace.held.value(at) for at in fine])
        return value, np.asarray(PchipInterpolator(w, zeta)(fine))

    def to_frame(self) -> pd.DataFrame:
        """As ``frame``."""
        return self.frame.copy()

    def summary(self) -> Summary:
        """Intervals and notes on paper."""
        limits, is_open, own = self.conf_int(), self.open_ends(), self.fit.estimates
        notes = []
        for name, ends in zip(self.names, is_open.to_numpy(), strict=True):
            sides = [side for side, at in zip(("lower", "upper"), ends, strict=True) if at]
            if sides:
                bounds = "bounds are" if len(sides) > 1 else "bound is"
                notes.append(f"{name}: the {' and '.join(sides)} {bounds} not excluded")
        missing = [one for one in self.parameters if self._follows(one)]
        if missing:
            names = ", ".join(one.name for one in missing)
            notes += wrapped(
                f"{names}: no profile (at a bound, or made of several parameters of a structure)"
            )
        values = values_in(self.parameters, own, self.fit.family)
        cells = column(values), column(limits["lower"]), column(limits["upper"])
        header = ("", "Estimate", "Lower 95%", "Upper 95%")
        table = Table(header, tuple(zip(self.names, *cells, strict=True)), 1)
        criterion = "REML criterion" if self.reml else "deviance"
        head = f"Profile of the {criterion}, {len(self.frame)} points"
        formula = wrapped(f"Formula: {formula_text(self.fit.formula)}")
        return Summary(((head, *formula), (table, *notes)))

    def _follows(self, one: Parameter) -> bool:
        """Whether it follows from several parameters of a structure, and has no profile."""
        structured = one.term >= 0 and self.fit.design.terms[one.term].covariance is not None
        return structured and self._machine.curve(one) is None

    def __repr__(self) -> str:
        return f"<Profile of {len(self.parameters)} parameters, {len(self.frame)} points>"


def profile(fit: Fit, which: Any, level: float, reml: bool) -> Profile:
    """As `Fit.profile` documents it."""
    without_residual_structure(fit, "a profile")
    check_level(level)
    every = parameters_of(fit)
    asked = "random" if which is None and reml else which
    wanted = chosen(every, asked)
    if reml and any(one.is_fixed for one in wanted):
        raise ValueError(
            "the REML criterion does not depend on the fixed effects: profile them with reml=False "
            '(the deviance), or ask for the others with "random"'
        )
    check_sigma(fit)
    return Profile(base_of(fit, reml), wanted, level)


def check_sigma(fit: Fit) -> None:
    """FitError where sigma was held: profiles take it as estimated."""
    if fit.estimates.is_sigma_known:
        raise FitError(
            "profiles take sigma as estimated, but it was held in this fit: use Wald intervals"
        )


def base_of(fit: Fit, reml: bool) -> Fit:
    """The fit by the criterion that is profiled, with a model that holds its response."""
    model = model_of(fit)
    if fit.reml == reml:
        return fit if fit.model is model else replace(fit, model=model)
    return refitted(fit, model, reml=reml, free=fit.estimates.free)


def _end(trace: Trace, sign: int, target: float) -> tuple[float, bool]:
    """An end of an interval, and whether it is a bound; NaN where the profile could not be
    followed."""
    found = trace.end(sign, target)
    if found is not None:
        return trace.held.value(found.w), False
    if trace.sides[sign][-1].w == trace.limit(sign):
        return trace.held.value(trace.limit(sign)), True
    return np.nan, False
