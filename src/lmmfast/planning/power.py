"""Power by simulation: `lmmfast.power`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from .. import tables
from ..fit import Fit
from ..given import NewData, PathLike, Rows
from ..hints import hinted
from ..inference.ddf import check_choice
from ..many.checkpoint import Checkpoint, fingerprint
from ..many.families import family_given
from ..many.job import checked_count, checked_threads
from ..many.parameters import Parameters
from ..many.streams import checked_seed
from ..plots import results as _pictures
from ..progress import progress
from ..typing import Axes, Client, Coding, Family, Hypothesis
from .estimate import PowerEstimate, estimates_of
from .frames import table_of
from .simulation import Outcome, Simulation, Sizes, grid
from .smallest import Smallest, smallest_effect, smallest_size
from .study import Study, study_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

# distributions of the test, and what is said of them
Test: TypeAlias = Literal["satterthwaite", "kenward-roger", "z", "lrt"]
METHODS: dict[str, str] = {
    "satterthwaite": "Satterthwaite degrees of freedom",
    "kenward-roger": "Kenward-Roger degrees of freedom",
    "z": "Wald tests, normal approximation",
    "lrt": "likelihood-ratio tests",
}
DEFAULTS: dict[str, Any] = {"nagq": 1, "information": "observed"}
OBSERVED = (
    "The effect is the estimate of the fit: this power says what its p-value says, not what a new "
    "study can find. Give effect= or params=."
)


@dataclass(frozen=True, eq=False, repr=False)
class Power(tables.Printed):
    """Shares of simulated studies that find an effect; `power` makes it.

    One row for each size of the study and each effect.

    Attributes
    ----------
    formula : str
    test : str
        What was tested.
    method : str
    alpha : float
        Level of significance.
    level : float
        Coverage of the intervals.
    n : int
        Simulated studies of each size.
    seed : int
    along : tuple of str
        What the sizes are of.
    outcomes : tuple of Outcome
        Of each size, with what every simulated study found: ``outcomes[0].found``.
    seconds : float
    """

    formula: str
    test: str
    method: str
    alpha: float
    level: float
    n: int
    seed: int
    along: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    seconds: float
    simulation: Simulation

    @cached_property
    def _rows(self) -> list[tuple[Outcome, int, PowerEstimate]]:
        return [
            (outcome, e, estimate)
            for outcome in self.outcomes
            for e, estimate in enumerate(estimates_of(outcome, self.alpha, self.level))
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __float__(self) -> float:
        """The power where there is one."""
        if len(self) != 1:
            raise TypeError(f"there are {len(self)} powers: take one of .power, or to_frame()")
        return float(self.power[0])

    @property
    def power(self) -> np.ndarray:
        """Shares of simulated studies whose test is significant, of each row."""
        return np.array([estimate.power for _, _, estimate in self._rows])

    @property
    def interval(self) -> np.ndarray:
        """Clopper and Pearson's intervals of these (rows, 2)."""
        return np.array([(estimate.lower, estimate.upper) for _, _, estimate in self._rows])

    def to_frame(self) -> pd.DataFrame:
        """One row for each size and effect.

        Returns
        -------
        pandas.DataFrame
            The sizes; ``effect`` (the true distance from the hypothesis) or ``scale``; ``nobs``
            (rows of a study); ``power`` with ``lower`` and ``upper``; ``n``; the shares of studies
            with a singular fit, a fit that is not certified (``not_converged``; it counts all the
            same) and without a p-value (``failed``, which count as not significant); of generalized
            models ``separated``, studies some coefficient of which has no finite estimate (they
            count too); ``type_S`` and ``type_M``: of significant estimates the share with the wrong
            sign, and their mean size over the true one.
        """
        import pandas as pd

        return pd.DataFrame([self._row(*row) for row in self._rows])

    def _row(self, outcome: Outcome, e: int, estimate: PowerEstimate) -> dict[str, Any]:
        name, value = "effect", outcome.effects[e]
        if np.isnan(value):
            name, value = "scale", outcome.scales[e]
        return {
            **outcome.sizes,
            name: value,
            "nobs": outcome.nobs,
            "power": estimate.power,
            "lower": estimate.lower,
            "upper": estimate.upper,
            "n": estimate.n,
            "singular": estimate.singular,
            "not_converged": estimate.not_converged,
            "failed": estimate.failed,
            **({"separated": estimate.separated} if "separated" in outcome.found else {}),
            "type_S": estimate.type_s,
            "type_M": estimate.type_m,
        }

    def summary(self) -> tables.Summary:
        """The powers on paper."""
        title = f"Power of the test of {self.test}, alpha = {self.alpha:g}, {METHODS[self.method]}"
        how = (
            f"{self.n:,} simulated studies a size, seed {self.seed}, in "
            f"{tables.duration(self.seconds)}"
        )
        model = f"Model: {tables.formula_text(self.formula)}"
        head = [line for one in (title, model, how) for line in tables.wrapped(one)]
        return tables.Summary((tuple(head), (self._table(), *self._said())))

    def _table(self) -> tables.Table:
        frame = self.to_frame()
        labels = list(frame.columns[: frame.columns.get_loc("nobs")])
        columns: dict[str, list[str]] = {name: _cells(frame[name].tolist()) for name in labels}
        columns["rows"] = [str(value) for value in frame["nobs"]]
        columns["power"] = [tables.fixed(value, 3) for value in frame["power"]]
        ends = zip(frame["lower"], frame["upper"], strict=True)
        columns[f"{self.level:.0%} interval"] = [f"{low:.3f} - {high:.3f}" for low, high in ends]
        for name in ("singular", "not_converged", "failed", "separated"):
            if name in frame and (name == "singular" or frame[name].any()):
                columns[name.replace("_", " ")] = [f"{share:.1%}" for share in frame[name]]
        for name in ("type_S", "type_M"):
            if frame[name].notna().any():
                columns[name.replace("_", " ")] = [tables.fixed(one, 3) for one in frame[name]]
        return tables.Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), len(labels))

    def _said(self) -> list[str]:
        notes = [*self.notes, *self._separations()]
        return [line for note in notes for line in tables.wrapped(note)]

    def _separations(self) -> list[str]:
        """Which coefficients had no finite estimate."""
        parts = [outcome.found.get("separated", ()) for outcome in self.outcomes]
        every = [str(names) for part in parts for names in np.ravel(part) if names]
        if not every:
            return []
        each = [name for one in every for name in one.split("; ")]
        names, counts = np.unique(each, return_counts=True)
        shown = ", ".join(f"{names[k]} ({counts[k]:,})" for k in np.argsort(-counts, kind="stable"))
        return [
            f"Separated: in {len(every):,} simulated studies the responses leave no finite "
            f'estimate of {shown}; their z is near 0, method="lrt" does not suffer from that'
        ]

    # ---- how large it must be --------------------------------------------------------------------

    def smallest(
        self,
        power: float = 0.8,
        along: str | None = None,
        *,
        at: Mapping[str, object] | None = None,
        most: int | None = None,
        by: int = 1,
        n: int | None = None,
    ) -> Smallest:
        """How many levels, or how large an effect, reach a power.

        Sizes are tried by bisection, each with simulations of its own, and a probit curve in the
        square root of the size through all that were tried says which one reaches the power, and
        how well that is known. Effects cost nothing: no fit of a linear model depends on them (of
        generalized ones only sizes are sought).

        Parameters
        ----------
        power : float, default 0.8
            To be reached.
        along : str, optional
            What is counted: a column or an argument of the function that makes data, or "effect".
            Default: what the power was computed along.
        at : dict, optional
            The others, and ``"effect"`` or ``"scale"`` where there are several. Default: what the
            power was computed for.
        most : int, optional
            Sizes that are tried, at most; default 100 times the smallest.
        by : int, default 1
            Sizes are multiples of this: lists of a Latin square times groups.
        n : int, optional
            Simulated studies of each size that is tried. Default: as many as before.

        Returns
        -------
        Smallest
            ``size``, ``lower``, ``upper``; what was tried; prints.

        Raises
        ------
        ValueError
            When no size up to `most` reaches the power, or arguments are missing.
        """
        if not 0 < power < 1:
            raise ValueError(f"power must be between 0 and 1, for example 0.8; got {power!r}")
        if along is None and len(self.along) == 1:
            along = self.along[0]
        if along is None:
            raise ValueError("say what is counted: along= a column, or along='effect'")
        if along == "effect":
            return smallest_effect(self._outcome(at or {}, None), self.alpha, self.level, power)
        outcome = self._outcome(at or {}, along)
        simulation = self.simulation.of_one(self._effect(at or {}, outcome))
        studies = checked_count(n, "n") if n is not None else self.n
        options = self.alpha, self.level, power, checked_count(by, "by"), most
        return smallest_size(simulation, outcome.sizes, along, studies, *options)

    def _outcome(self, at: Mapping[str, Any], but: str | None) -> Outcome:
        """The one that is meant."""
        for name in at:
            if name not in (*self.along, "effect", "scale"):
                raise ValueError(f"at: {name!r} is none of {', '.join(self.along) or 'effect'}")
        wanted = {name: value for name, value in at.items() if name in self.along and name != but}
        left = [outcome for outcome in self.outcomes if wanted.items() <= outcome.sizes.items()]
        others = {tuple(v for k, v in outcome.sizes.items() if k != but) for outcome in left}
        if not left or len(others) > 1:
            names = [name for name in self.along if name != but]
            raise ValueError(
                f"at= must say at which {', '.join(names)} of those that were computed"
            )
        return left[-1]

    def _effect(self, at: Mapping[str, Any], outcome: Outcome) -> int:
        values = outcome.scales if "scale" in at else outcome.effects
        wanted = at.get("scale", at.get("effect"))
        if wanted is None and len(values) == 1:
            return 0
        places = np.flatnonzero(np.isclose(values, np.nan if wanted is None else wanted))
        if len(places) != 1:
            known = ", ".join(f"{value:g}" for value in values)
            raise ValueError(f'at= must say for which effect, as in {{"effect": ...}}: {known}')
        return int(places[0])

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draws the power with its intervals, a line for each of what else varies.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Default: a new figure.

        Returns
        -------
        matplotlib axes

        Raises
        ------
        ImportError
            Without matplotlib, when no axes are given.
        """
        return _pictures.power(self, ax=ax)


@hinted
def power(
    model: str | Fit | Study,
    data: NewData | Callable[..., NewData] | None = None,
    *,
    family: Family | None = None,
    link: str | None = None,
    test: Hypothesis | None = None,
    params: Parameters | Mapping[str, object] | None = None,
    effect: float | Sequence[float] | None = None,
    scale: float | Sequence[float] | None = None,
    along: Mapping[str, Sequence[object]] | None = None,
    n: int = 1000,
    method: Test | None = None,
    alpha: float = 0.05,
    level: float = 0.95,
    reml: bool | None = None,
    weights: Rows | None = None,
    offset: Rows | None = None,
    contrasts: Mapping[str, Coding] | None = None,
    nagq: int = 1,
    information: Literal["observed", "expected"] = "observed",
    seed: int | None = None,
    threads: int = 1,
    client: Client | None = None,
    checkpoint: PathLike | None = None,
) -> Power:
    """Power of a test, by simulation: the share of studies that find an effect of some size.

    Responses are drawn from assumed parameters (new random effects each time), fitted and tested.
    The same rows serve all of them; sizes use the same streams of random numbers. What ``poly(x,
    2)`` and the like learned from the data, other sizes of these keep.

    Parameters
    ----------
    model : str, fit of `lmer` or `glmer`, or Study
        A formula, whose left side need not be a column; or a fit, whose data and estimates are
        taken; or what `extend` makes of a fit.
    data : table or callable, optional
        With a formula: the rows of a study, as `design` makes them. A function is called with the
        sizes of `along`: ``lambda subjects: design(subjects, items=24, ...)``.
    family, link : optional
        With a formula: of a generalized model, as for `glmer`.
    test : str, array, dict or list, optional
        A coefficient by its name (``"cond[T.b]"``); a term (``"cond"``), tested as ``anova`` of
        type III does; a smaller fixed part (``"~ group"``), as by comparison of models; or a
        hypothesis as for ``fit.t_test``, several rows together. Default: the only coefficient or
        term beside the intercept.
    params : Parameters or dict, optional
        Assumed values: ``{"beta": {"cond[T.b]": 20}, "sd": {"subj": 80, "item": 30}, "sigma":
        200}``. Of a fit: those that shall differ from its estimates. Without one: coefficients that
        are neither named nor tested are 0, which does not change the power; of generalized models
        it does, so that all are needed, and ``"extra"`` (``{"size": 2}``, thresholds) in place of
        sigma.
    effect : float or list, optional
        Values of the coefficient that is tested, in place of that in `params`.
    scale : float or list, optional
        The same as multiples of all coefficients that the test involves.
    along : dict, optional
        Sizes: ``{"subj": [20, 40, 60], "item": [16, 24]}``, all combinations. Levels are repeated
        or left out as by `extend`; with a function, its arguments.
    n : int, default 1000
        Simulated studies of each size.
    method : {"satterthwaite", "kenward-roger", "z", "lrt"}, default "satterthwaite"
        t and F tests with these degrees of freedom, Wald tests, or likelihood-ratio tests of fits
        by maximum likelihood. Kenward and Roger's are for one row at a time, and slower. Of
        generalized models "z" (default) or "lrt".
    alpha : float, default 0.05
        Level of significance; tests are two-sided.
    level : float, default 0.95
        Coverage of the intervals for the power, which tell of the number of simulations alone.
    reml : bool, optional
        Default: that of the fit; for a formula True, of generalized models False. Likelihood-ratio
        tests: False.
    weights, offset, contrasts : optional
        With a formula: as for `lmer`; weights are the trials of a binomial response.
    nagq, information : optional
        With a formula and a family: as for `glmer`.
    seed : int, optional
        Default: a new one, kept in the result.
    threads : int, default 1
        The result is identical for any number.
    client : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers in place of threads.
    checkpoint : path, optional
        File of the studies that are done; the same call, with the same seed, goes on from there.

    Returns
    -------
    Power
        Prints; ``to_frame()``, ``plot()``, ``smallest(power=0.8, along="subj")``.

    Raises
    ------
    FormulaError, DataError, FitError
        What is wrong with the model or the data.
    ValueError
        For arguments that mean nothing, parameters that are missing.

    See Also
    --------
    lmmfast.design : Trials of an experiment.
    lmmfast.extend : Larger samples of the data of a fit.
    lmmfast.simulate : Responses alone.

    Notes
    -----
    Estimates of the covariance parameters, standard errors and degrees of freedom do not depend on
    the fixed effects that are assumed: all values of `effect` are answered by the same fits, and
    their powers are those of the same studies. Of generalized models they do: each effect has fits
    of its own, of the same random numbers. Type S and type M errors: Gelman & Carlin (2014),
    *Perspect. Psychol. Sci.* 9. Simulation for mixed models: Green & MacLeod (2016), *Methods Ecol.
    Evol.* 7. Intervals: Clopper & Pearson (1934), *Biometrika* 26.

    Examples
    --------
    >>> from lmmfast import design, power
    >>> trials = design(subjects=20, items=16, within={"cond": ["a", "b"]})
    >>> assumed = {"sd": {"subj": 80, "item": 30}, "sigma": 200}
    >>> formula = "rt ~ cond + (1 | subj) + (1 | item)"
    >>> found = power(formula, trials, params=assumed, effect=[0, 60], n=200, seed=1)
    >>> found.to_frame()[["effect", "power"]].round(2).values.tolist()
    [[0.0, 0.06], [60.0, 0.76]]

    Yes and no: the difference of the conditions is one of log odds.

    >>> odds = {"beta": {"Intercept": 0.5}, "sd": {"subj": 1, "item": 0.5}}
    >>> found = power(formula, trials, family="binomial", params=odds, effect=0.7, n=50, seed=1)
    >>> round(float(found), 2)
    0.74
    """
    began = time.perf_counter()
    own: dict[str, Any] = {"weights": weights, "offset": offset, "contrasts": contrasts}
    own |= {"family": family, "link": link, "nagq": nagq, "information": information}
    study, make, sizes = _study(model, data, along or {}, own, params)
    study = replace(study, params=Parameters.read(params) if params is not None else study.params)
    method = _method(method, study)
    _check_share("alpha", alpha)
    _check_share("level", level)
    if effect is not None and scale is not None:
        raise ValueError("give effect= or scale=, not both")
    simulation = Simulation(
        study=study,
        make=make,
        test=test,
        method=method,
        reml=method != "lrt" and (_default_reml(study) if reml is None else bool(reml)),
        effect=_numbers("effect", effect),
        scale=_numbers("scale", scale),
        seed=checked_seed(seed),
        threads=checked_threads(threads),
        client=client,
    )
    n = checked_count(n)
    outcomes = _outcomes(simulation, sizes, n, checkpoint)
    is_observed = study.estimates is not None and effect is None and scale is None
    is_observed = is_observed and study.params.beta is None
    return Power(
        formula=study.formula,
        test=outcomes[0].label,
        method=method,
        alpha=float(alpha),
        level=float(level),
        n=n,
        seed=simulation.seed,
        along=tuple(along or {}),
        outcomes=tuple(outcomes),
        notes=(OBSERVED,) if is_observed else (),
        seconds=time.perf_counter() - began,
        simulation=simulation,
    )


def _outcomes(simulation: Simulation, sizes: list[Sizes], n: int, checkpoint: Any) -> list[Outcome]:
    """Of all sizes; those that a checkpoint has are not simulated again."""
    outcomes: list[Outcome] = []
    kept = None
    with ExitStack() as stack:
        advance = stack.enter_context(progress(len(sizes), "power", "sizes", 2))
        for cell in sizes:
            job, outcome = simulation.prepared(cell, n, quiet=bool(outcomes))
            job.is_kept = checkpoint is not None
            if job.is_kept and kept is None:
                whole = fingerprint(job.fingerprint(), [str(size) for size in sizes], n)
                kept = stack.enter_context(Checkpoint(checkpoint, whole))
            outcomes.append(simulation.run(job, outcome, kept, n * len(outcomes)))
            advance(1)
    return outcomes


def _default_reml(study: Study) -> bool:
    """Whether simulated responses are fitted by restricted likelihood."""
    return study.reml and (study.family is None or study.estimates is not None)


def _method(method: Any, study: Study) -> Test:
    """How tests are made."""
    if study.family is None:
        method = "satterthwaite" if method is None else method
        check_choice("method", method, METHODS)
        return method  # type: ignore[no-any-return]
    method = "z" if method is None else method
    if method in METHODS and method not in ("z", "lrt"):
        raise ValueError(
            f'{METHODS[method]} belong to linear models: method must be "z" or "lrt" of a '
            "generalized one"
        )
    check_choice("method", method, ("z", "lrt"))
    return method  # type: ignore[no-any-return]


def _study(
    model: Any, data: Any, along: Mapping[str, Any], own: dict[str, Any], params: Any
) -> tuple[Study, Callable[..., Any] | None, list[Sizes]]:
    """The study, the function that makes its data, and the sizes."""
    cells = grid({name: _sizes(name, values) for name, values in along.items()})
    known = study_of(model)
    if known is not None:
        for name, value in {"data": data, **own}.items():
            if value is not None and (name not in DEFAULTS or value != DEFAULTS[name]):
                raise ValueError(f"{name}= goes with a formula: a fit or a study has its own")
        return known, None, cells
    if not isinstance(model, str):
        raise TypeError(
            f"the first argument is a formula, a fit or a study, not {type(model).__name__}"
        )
    if data is None:
        raise ValueError("data= is missing: the rows of a study, as lmmfast.design makes them")
    link = own.pop("link")
    if own["family"] is not None:
        own["family"] = family_given(own["family"], link, params)
    elif link is not None or any(own[name] != value for name, value in DEFAULTS.items()):
        raise ValueError("link=, nagq= and information= are for generalized models: give family=")
    if not callable(data):
        return Study(model, table_of(data), Parameters(), **own), None, cells
    if not along:
        raise ValueError("data is a function: say with what to call it, along={...}")
    return Study(model, None, Parameters(), **own), data, cells


def _cells(values: list[Any]) -> list[str]:
    return [tables.general(one) if isinstance(one, float) else str(one) for one in values]


def _sizes(name: str, values: Any) -> list[Any]:
    found = list(values) if np.ndim(values) else [values]
    if not found:
        raise ValueError(f"along: {name!r} has no sizes")
    for value in found:
        checked_count(value, f"along: sizes of {name!r}")
    return [int(value) for value in found]


def _numbers(name: str, given: Any) -> tuple[float, ...] | None:
    if given is None:
        return None
    try:
        found = np.atleast_1d(np.asarray(given, dtype=float))
    except (TypeError, ValueError):
        found = np.array([np.nan])
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a number or a list of numbers, not {given!r}")
    return tuple(float(value) for value in found)


def _check_share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, not {value!r}")
