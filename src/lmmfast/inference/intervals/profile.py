"""Profile likelihood of standard deviations, correlations, sigma and fixed effects.

A parameter is held at a value v and the criterion D is minimized over all others; the profile is
zeta(v) = sign(v - estimate) sqrt(D(v) - D(estimate)). Gradients are exact, and so is dD/dv, which
at the minimum is the partial derivative. The curvature is the average information, corrected by
what the steps show (symmetric rank one). Ends of intervals are roots of zeta found by Newton's
method, not interpolated.

References
----------
Bates, Mächler, Bolker & Walker (2015), *J. Stat. Softw.* 67(1), section 5.1 (lme4's profiles of the
deviance); Venzon & Moolgavkar (1988), *Appl. Stat.* 37 (ends of intervals by Newton's method).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ConvergenceWarning, FitError, LmmWarning, warn
from ...linalg import trust_step
from ...tables import Printed, Summary, Table, column, formula_text, wrapped
from ..ddf import check_level
from ..refits import model_of, refitted
from .held import Correlation, Criterion, Deviation, Effect, Held, Local, Sigma, lower_root
from .parameters import Parameter, chosen, normal_quantile, parameters_of, values_of

if TYPE_CHECKING:
    import pandas as pd

    from ...engine.model import Model
    from ...fit import Fit

__all__ = ["Profile", "base_of", "profile"]

SPACING = 0.6  # of the points of a profile, in zeta
BEYOND = 0.02  # how far beyond the quantile the last point is aimed at, in zeta
MAX_POINTS = 60  # a side
MAX_EVALS = 200  # a point
BAD = 10.0  # rise of the criterion from one point to a guess of the next that is too much
TOLERANCE = 1e-9  # predicted decrease at which a point is done, deviance units
PRECISION = 1e-8  # of zeta at the ends of intervals
DRAWN = (0.5, 0.8, 0.9, 0.95, 0.99)  # levels shown in plots, as far as they were followed
LOWER = 1e-6  # criterion below the fit's that is worth a warning, deviance units


# ---- minimization over the others ----------------------------------------------------------------


def _minimize(
    held: Held, w: float, z: np.ndarray, here: Local, learnt: np.ndarray
) -> tuple[np.ndarray, Local, np.ndarray]:
    """z and the criterion at the minimum with w held, and what was learnt about the curvature.

    Newton's method in a trust region; the curvature is the average information plus a matrix that
    is corrected by the rank-one formula after every step, so that the convergence is superlinear.
    ``here`` is the criterion at z.
    """
    free = held.free(w)
    both = np.ix_(free, free)
    radius = 1.0
    for _ in range(MAX_EVALS):
        curvature = here.curvature[both]
        size = np.abs(np.diag(curvature))
        unit = 1 / np.sqrt(np.maximum(size, max(1e-12 * size.max(initial=0.0), 1e-300)))
        step, gain = trust_step(
            unit * here.slope[free], unit[:, None] * (curvature + learnt[both]) * unit, radius
        )
        if gain <= max(TOLERANCE, 1e-14 * abs(here.f)):
            break
        trial_z = z.copy()
        trial_z[free] += unit * step
        trial = _try(held, w, trial_z)
        decrease = here.f - trial.f if trial is not None else -np.inf
        if trial is not None:
            learnt = _learn(learnt, here, trial, trial_z - z, free, unit)
        length = float(np.linalg.norm(step))
        if decrease > 0.75 * gain:
            radius = max(radius, 2 * length)
        elif decrease < 0.25 * gain:
            radius = length / 4
        if trial is not None and decrease > 0:
            z, here = trial_z, trial
        elif gain < 1e-12 * max(abs(here.f), 1.0):  # the rest is rounding
            break
    return z, here, learnt


def _try(held: Held, w: float, z: np.ndarray) -> Local | None:
    try:
        return held.local(w, z)
    except FitError:
        return None


def _learn(
    learnt: np.ndarray,
    here: Local,
    there: Local,
    step: np.ndarray,
    free: np.ndarray,
    unit: np.ndarray,
) -> np.ndarray:
    """The symmetric rank-one correction that explains the change of the slope along a step."""
    mean = (here.curvature + there.curvature) / 2 + learnt
    missing = (there.slope - here.slope - mean @ step)[free] * unit
    along = step[free] / unit
    product = float(missing @ along)
    if abs(product) <= 1e-6 * np.linalg.norm(missing) * np.linalg.norm(along):
        return learnt
    scaled = missing / unit
    out = learnt.copy()
    out[np.ix_(free, free)] += np.outer(scaled, scaled) / product
    return out


# ---- the profile of one parameter ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Point:
    """One point of a profile."""

    w: float
    zeta: float
    slope: float  # d zeta / d w; NaN at the estimate
    f: float
    z: np.ndarray


@dataclass(eq=False)
class _Trace:
    """The profile of one parameter, followed as far as it was asked for.

    ``sides[-1]`` and ``sides[1]`` are its points below and above the estimate, outwards; both
    begin with the estimate. ``lowest`` is the lowest criterion met.
    """

    held: Held
    minimum: float
    sides: dict[int, list[_Point]] = field(init=False)
    ends: dict[tuple[int, float], _Point | None] = field(init=False, default_factory=dict)
    learnt: dict[int, np.ndarray] = field(init=False)
    tangent: np.ndarray = field(init=False)
    first: float = field(init=False)

    def __post_init__(self) -> None:
        held = self.held
        start = _Point(held.best, 0.0, np.nan, self.minimum, held.z)
        size = len(held.z)
        self.sides = {-1: [start], 1: [start]}
        self.learnt = {-1: np.zeros((size, size)), 1: np.zeros((size, size))}
        self.tangent, self.first = _first_step(held)

    @property
    def lowest(self) -> float:
        """The lowest criterion met."""
        return min(point.f for side in self.sides.values() for point in side)

    def end(self, sign: int, target: float) -> _Point | None:
        """The first point on a side where |zeta| is the target; None where it never gets there."""
        key = (sign, target)
        if key not in self.ends:
            self._follow(sign, target)
            side = self.sides[sign]
            beyond = next((i for i, p in enumerate(side) if abs(p.zeta) >= target), None)
            found = None if beyond is None else self._refine(sign, target, beyond)
            self.ends[key] = found
        return self.ends[key]

    def limit(self, sign: int) -> float:
        """The parameter's bound on a side."""
        return self.held.high if sign > 0 else self.held.low

    def _follow(self, sign: int, target: float) -> None:
        """Extends a side until |zeta| reaches the target or the parameter its bound."""
        side, limit = self.sides[sign], self.limit(sign)
        while abs(side[-1].zeta) < target and side[-1].w != limit and len(side) < MAX_POINTS:
            w = side[-1].w + sign * self._step(side, target)
            if (limit - w) * sign <= 0.25 * abs(w - side[-1].w):
                w = limit
            point = self._solve(sign, w, self._guess(side, w), side[-1])
            if point is None:
                return
            side.append(point)

    def _step(self, side: list[_Point], target: float) -> float:
        """How far to go for the next point, from the slope at the last one: not far beyond the
        target."""
        if len(side) == 1:
            return self.first
        last = abs(side[-1].w - side[-2].w)
        slope = abs(side[-1].slope)
        rise = min(SPACING, target - abs(side[-1].zeta) + BEYOND)
        return min(rise / slope, 3 * last) if slope > 0 else 3 * last

    def _guess(self, side: list[_Point], w: float) -> np.ndarray:
        """The others at w: the tangent at the estimate, later a parabola through three points."""
        if len(side) == 1:
            return side[0].z + self.tangent * (w - side[0].w)
        known = side[-3:]
        out = np.zeros_like(side[0].z)
        for i, point in enumerate(known):
            rest = [other.w for k, other in enumerate(known) if k != i]
            out += point.z * np.prod([(w - other) / (point.w - other) for other in rest])
        return out

    def _solve(self, sign: int, w: float, guess: np.ndarray, near: _Point) -> _Point | None:
        """The point at w, from a guess or, where that is bad, from a near point."""
        held = self.held
        z = held.entering(w, guess)
        here = _try(held, w, z)
        if here is None or here.f > near.f + BAD:
            other = held.entering(w, near.z)
            there = _try(held, w, other)
            if there is not None and (here is None or there.f < here.f):
                z, here = other, there
        if here is None:
            return None
        z, here, self.learnt[sign] = _minimize(held, w, z, here, self.learnt[sign])
        zeta = sign * np.sqrt(max(here.f - self.minimum, 0.0))
        slope = here.slope_held / (2 * zeta) if zeta != 0 else np.nan
        return _Point(w, float(zeta), float(slope), here.f, z)

    def _refine(self, sign: int, target: float, beyond: int) -> _Point:
        """Newton's method for |zeta| = target between two points; bisection where it fails."""
        side = self.sides[sign]
        inner, outer = side[beyond - 1], side[beyond]
        here = outer
        for _ in range(60):
            if abs(abs(here.zeta) - target) <= max(PRECISION, 1e-13 * abs(here.f)):
                break
            w = here.w - (here.zeta - sign * target) / here.slope if here.slope else np.nan
            low, high = sorted((inner.w, outer.w))
            if not low < w < high:
                w = (low + high) / 2
            if w in (inner.w, outer.w):
                break
            known = side[max(beyond - 2, 0) : beyond + 1]
            found = self._solve(sign, w, self._guess(known, w), inner)
            if found is None:
                break
            here = found
            inner, outer = (inner, here) if abs(here.zeta) >= target else (here, outer)
        return here


def _first_step(held: Held) -> tuple[np.ndarray, float]:
    """How the others move with w at the estimate, and the step in w that changes zeta by SPACING.

    From the curvature of the profile there, h_ww - h_wz H^-1 h_zw.
    """
    local, free = held.local(held.best, held.z), held.free(held.best)
    tangent = np.zeros(len(held.z))
    H = local.curvature[np.ix_(free, free)]
    unit = 1 / np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    inverse = np.linalg.pinv(unit[:, None] * H * unit, rcond=1e-10, hermitian=True)
    tangent[free] = -unit * (inverse @ (unit * local.mixed[free]))
    curvature = local.curvature_held + float(local.mixed @ tangent)
    if curvature <= 1e-6 * local.curvature_held or not np.isfinite(curvature):
        curvature = max(local.curvature_held, 1e-300)
    step = SPACING / np.sqrt(curvature / 2)
    width = held.high - held.low
    return tangent, float(min(step, width / 4)) if np.isfinite(step) else 0.1


# ---- the profiles of a fit -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Curve:
    """A parameter's profile; the columns of each random term in the order of its model."""

    trace: _Trace
    columns: tuple[tuple[int, ...], ...]


class _Machine:
    """Makes the profile of each parameter; models with columns in another order are made once."""

    def __init__(self, base: Fit) -> None:
        self.base = base
        engine = base.model._engine
        self._kept = [engine.kept(i) for i in range(len(base.design.terms))]
        self._criteria: dict[tuple[tuple[int, ...], ...], Criterion] = {}
        self._curves: dict[Parameter, _Curve | None] = {}

    def curve(self, one: Parameter) -> _Curve | None:
        """None for what was dropped, and for correlations with a standard deviation of zero."""
        if one not in self._curves:
            self._curves[one] = self._make(one)
        return self._curves[one]

    def _make(self, one: Parameter) -> _Curve | None:
        base = self.base
        columns = tuple(tuple(range(len(term.columns))) for term in base.design.terms)
        if one.kind == "fixed":
            if not base.estimates.fixed_kept[one.i]:
                return None
            return self._curve(Effect(self._criterion(columns), base, one.i), columns)
        if one.kind == "sigma":
            return self._curve(Sigma(self._criterion(columns), base), columns)
        wanted: tuple[int, ...] = (one.i,) if one.kind == "sd" else (one.i, one.j)
        if not set(wanted) <= set(self._kept[one.term]):
            return None
        if one.kind == "cor" and not base.estimates.T[one.term][list(wanted)].any(axis=1).all():
            return None
        if base.design.terms[one.term].structure == "full":
            columns = tuple(
                (*wanted, *(c for c in kept if c not in wanted)) if t == one.term else tuple(kept)
                for t, kept in enumerate(self._kept)
            )
            wanted = (0, 1)[: len(wanted)]
        criterion = self._criterion(columns)
        theta = self._theta(criterion, columns)
        places = {
            (int(r), int(c)): k
            for k, (t, r, c) in enumerate(criterion.model.theta_entries)
            if t == one.term
        }
        if one.kind == "sd":
            place = places[wanted[0], wanted[0]]
            return self._curve(Deviation(criterion, theta, base.sigma, place), columns)
        three = places[0, 0], places[1, 0], places[1, 1]
        return self._curve(Correlation(criterion, theta, three), columns)

    def _curve(self, held: Held, columns: tuple[tuple[int, ...], ...]) -> _Curve:
        return _Curve(_Trace(held, self.base.objective), columns)

    def _criterion(self, columns: tuple[tuple[int, ...], ...]) -> Criterion:
        if columns not in self._criteria:
            model = self._model(columns)
            self._criteria[columns] = Criterion(model, self.base.reml)
        return self._criteria[columns]

    def _model(self, columns: tuple[tuple[int, ...], ...]) -> Model:
        """The model with the columns of its random terms chosen and in this order."""
        base = self.base
        terms = []
        for term, own in zip(base.design.terms, columns, strict=True):
            if own != tuple(range(len(term.columns))):
                term = term.chosen(own)
            terms.append(term)
        if all(a is b for a, b in zip(terms, base.design.terms, strict=True)):
            return base.model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LmmWarning)
            return type(base.model)(replace(base.design, terms=tuple(terms)))

    def _theta(self, criterion: Criterion, columns: tuple[tuple[int, ...], ...]) -> np.ndarray:
        """The estimates in that order of the columns; dependent rows make columns of zeros."""
        own = [
            lower_root(T[list(order)]) if term.structure == "full" else T
            for T, order, term in zip(
                self.base.estimates.T, columns, self.base.design.terms, strict=True
            )
        ]
        return np.array([own[t][r, c] for t, r, c in criterion.model.theta_entries])


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
    frame : pandas.DataFrame
        One row a point: ``parameter``, ``value``, ``zeta`` and the values of all parameters there.

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
        self._every = parameters_of(fit.design)
        self.conf_int(level)
        self.frame = self._frame()
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

    def _ceiling(self, one: Parameter, target: float) -> tuple[_Curve, _Point] | None:
        """Where |zeta| of a correlation ends: every value is as good as one of its two standard
        deviations being zero. None if that is not below the target."""
        if one.kind != "cor":
            return None
        lowest: tuple[_Curve, _Point] | None = None
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

    def _path(self, one: Parameter) -> list[tuple[float, float, _Curve, _Point]]:
        """Position and zeta of every point, and where the other parameters are found there."""
        curve = self._machine.curve(one)
        if curve is None:
            return []
        path = [(point.w, point.zeta, curve, point) for point in _points(curve.trace)]
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

    def _frame(self) -> pd.DataFrame:
        import pandas as pd

        rows: list[list[Any]] = []
        for one in self.parameters:
            curve = self._machine.curve(one)
            if curve is None:
                continue
            value = curve.trace.held.value
            for w, zeta, its, point in self._path(one):
                others = values_of(self._every, *self._state(its, point))
                rows.append([one.name, value(w), zeta, *others])
        names = ["parameter", "value", "zeta", *(one.name for one in self._every)]
        return pd.DataFrame(rows, columns=names)

    def _state(self, curve: _Curve, point: _Point) -> tuple[list[np.ndarray], float, np.ndarray]:
        """Relative factors by the fit's columns, sigma and fixed effects at a point."""
        held = curve.trace.held
        theta, beta, sigma = held.state(point.w, point.z)
        beta = np.where(self.fit.estimates.fixed_kept, beta, np.nan)
        T = []
        for own, order, term in zip(
            held.criterion.factors(theta), curve.columns, self.fit.design.terms, strict=True
        ):
            rows = np.zeros((len(term.columns), own.shape[1]))
            rows[list(order)] = own
            T.append(rows)
        return T, sigma, beta

    def _warn_of_lower(self) -> None:
        below = [
            (self.fit.objective - curve.trace.lowest, one.name)
            for one in self.parameters
            if (curve := self._machine.curve(one)) is not None
        ]
        most, name = max(below, default=(0.0, ""))
        if most > LOWER * max(1.0, 1e-6 * abs(self.fit.objective)):
            warn(
                ConvergenceWarning(
                    f"the profile of {name} found a criterion lower than the fit's by {most:.2g}: "
                    "the fit is not at the global optimum; fit again with other starts (start=)"
                )
            )

    def plot(self, which: Any = None, *, axes: Any = None) -> Any:
        """Draws zeta against the value of each parameter; a straight line is a quadratic deviance.

        Dashed lines lead from zeta to the ends of the 50, 80, 90, 95 and 99 % intervals.

        Parameters
        ----------
        which : str or list of str, optional
            Parameters, as for ``Fit.profile``. Default: all that were profiled.
        axes : sequence of matplotlib axes, optional
            One a parameter. Default: a new figure.

        Returns
        -------
        matplotlib.figure.Figure
        """
        drawn = [one for one in chosen(self.parameters, which) if self._path(one)]
        if not drawn:
            raise ValueError("none of these parameters has a profile")
        if axes is None:
            axes = _new_axes(len(drawn))
        axes = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        if len(axes) < len(drawn):
            raise ValueError(f"{len(drawn)} profiles need as many axes, not {len(axes)}")
        for ax, one in zip(axes, drawn, strict=False):
            ax.plot(*self._smooth(one), color="C0")
            ax.axhline(0, color="0.8", linewidth=0.8)
            for level in (at for at in DRAWN if at <= self.level):
                height = normal_quantile(level)
                ends = self._ends_of(one, height)
                for sign, end, is_open in zip((-1, 1), ends[:2], ends[2:], strict=True):
                    if np.isfinite(end) and not is_open:
                        ax.plot([end, end], [0, sign * height], color="0.6", linewidth=0.8, ls="--")
            ax.set_xlabel(one.name)
            ax.set_ylabel("zeta")
        return axes[0].figure

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

    def summary(self) -> Summary:
        """Intervals and notes on paper."""
        limits, is_open = self.conf_int(), self.open_ends()
        estimates = self._estimates()
        notes = []
        for name, ends in zip(self.names, is_open.to_numpy(), strict=True):
            sides = [side for side, at in zip(("lower", "upper"), ends, strict=True) if at]
            if sides:
                bounds = "bounds are" if len(sides) > 1 else "bound is"
                notes.append(f"{name}: the {' and '.join(sides)} {bounds} not excluded")
        columns = {
            "": self.names,
            "Estimate": column(estimates),
            "Lower 95%": column(limits["lower"]),
            "Upper 95%": column(limits["upper"]),
        }
        table = Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), 1)
        criterion = "REML criterion" if self.reml else "deviance"
        head = f"Profile of the {criterion}, {len(self.frame)} points"
        return Summary(
            ((head, *wrapped(f"Formula: {formula_text(self.fit.formula)}")), (table, *notes))
        )

    def _estimates(self) -> list[float]:
        own = self.fit.estimates
        return values_of(self.parameters, own.T, own.sigma, own.beta)

    def __repr__(self) -> str:
        return f"<Profile of {len(self.parameters)} parameters, {len(self.frame)} points>"


def profile(fit: Fit, which: Any, level: float, reml: bool) -> Profile:
    """As `Fit.profile` documents it."""
    check_level(level)
    every = parameters_of(fit.design)
    asked = "random" if which is None and reml else which
    wanted = chosen(every, asked)
    if reml and any(one.is_fixed for one in wanted):
        raise ValueError(
            "the REML criterion does not depend on the fixed effects: profile them with reml=False "
            '(the deviance), or ask for the others with "random"'
        )
    return Profile(base_of(fit, reml), wanted, level)


def base_of(fit: Fit, reml: bool) -> Fit:
    """The fit by the criterion that is profiled, with a model that holds its response."""
    model = model_of(fit)
    if fit.reml == reml:
        return fit if fit.model is model else replace(fit, model=model)
    return refitted(fit, model, reml=reml, free=fit.estimates.free)


def _end(trace: _Trace, sign: int, target: float) -> tuple[float, bool]:
    """An end of an interval, and whether it is a bound; NaN where the profile could not be
    followed."""
    found = trace.end(sign, target)
    if found is not None:
        return trace.held.value(found.w), False
    if trace.sides[sign][-1].w == trace.limit(sign):
        return trace.held.value(trace.limit(sign)), True
    return np.nan, False


def _points(trace: _Trace) -> list[_Point]:
    """All points and ends in the order of the parameter."""
    ends = {sign: [p for (s, _), p in trace.ends.items() if s == sign and p] for sign in (-1, 1)}
    points = {p.w: p for sign in (-1, 1) for p in (*trace.sides[sign], *ends[sign])}
    return [points[w] for w in sorted(points)]


def _new_axes(count: int) -> Any:
    import matplotlib.pyplot as plt

    wide = min(3, count)
    rows = -(-count // wide)
    figure, axes = plt.subplots(rows, wide, figsize=(3.2 * wide, 2.6 * rows), squeeze=False)
    for ax in axes.ravel()[count:]:
        ax.remove()
    figure.set_layout_engine("constrained")
    return axes.ravel()[:count]
