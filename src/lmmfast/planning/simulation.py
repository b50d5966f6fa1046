"""One study simulated at one size after the other."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.generalized import GeneralizedModel
from ..engine.options import MAX_EVALS
from ..engine.residual import linear_model
from ..errors import DataError, IdentifiabilityWarning, RankDeficientWarning, silenced
from ..many.asked import Asked
from ..many.columns import AnyModel
from ..many.generalized import GeneralizedSimulator
from ..many.jobs import run_job
from ..many.parameters import Parameters
from ..many.simulate import Simulator
from ..many.streams import Streams
from .extend import extended, levels_of
from .frames import table_of
from .joint import MOST, Joint
from .replicates import Replicates
from .replicates_generalized import GeneralizedReplicates
from .study import Study
from .tested import Tested

if TYPE_CHECKING:
    from ..many.checkpoint import Checkpoint
    from ..many.job import Columns
    from ..many.parameters import Assumed

Sizes = dict[str, Any]  # numbers of levels by column, or arguments of a function that makes data


@dataclass(frozen=True, eq=False)
class Outcome:
    """What simulated studies of one size found, for E effects."""

    sizes: Sizes
    nobs: int
    label: str  # of what was tested
    effects: np.ndarray  # E  true distances from the hypothesis; NaN where it has several rows
    scales: np.ndarray  # E  multiples of the tested coefficients that are assumed
    drawn: float  # the effect that was drawn, of which `found` has the estimates
    # a row each: p (n, E), fitted, converged, singular; estimate, se, df; of generalized models
    # all of them (n, E), and separated: the coefficients without a finite estimate
    found: Columns


@dataclass(frozen=True, eq=False)
class Simulation:
    """How studies are simulated and tested."""

    study: Study
    make: Callable[..., Any] | None  # data of a size; None: levels of the study's are repeated
    test: Any
    method: str
    reml: bool
    effect: tuple[float, ...] | None
    scale: tuple[float, ...] | None
    seed: int
    threads: int
    client: Any

    def at(self, sizes: Sizes, n: int, *, branch: int = 0, quiet: bool = False) -> Outcome:
        """n studies of one size; quiet: what its warnings say was said of another one."""
        return self.run(*self.prepared(sizes, n, branch=branch, quiet=quiet))

    def prepared(
        self, sizes: Sizes, n: int, *, branch: int = 0, quiet: bool = False
    ) -> tuple[Replicates, Outcome]:
        """What there is to do for a size, and its outcome but for what is found."""
        with silenced() if quiet else nullcontext():
            study = self.sized(sizes)
            model = self._model(study)
        assumed, tested = self._assumed(study, model)
        betas, effects, scales = self._alternatives(tested, assumed.beta)
        joint = self._joint(tested, model)
        own: dict[str, Any] = {
            "count": n,
            "design": study.design,
            "streams": Streams(self.seed, branch),
            "tested": tested,
            "want": self._want(tested.L if joint is None else joint.contrasts),
            "shifts": betas - assumed.beta,
            "joint": joint,
            "by_likelihood": self.method == "lrt",
            "spare": [model],
        }
        job: Replicates
        if isinstance(model, GeneralizedModel):
            drawing = GeneralizedSimulator.of_rows(study.design, assumed, model.family)
            job = GeneralizedReplicates(**own, simulator=drawing, like=model._options())
        else:
            delta, scale = study.delta()
            assumed = assumed._replace(sigma=assumed.sigma * scale)
            simulator = Simulator.of_design(study.design, assumed, delta)
            job = Replicates(**own, simulator=simulator)
        drawn = float(tested.effect(assumed.beta)[0]) if len(tested.L) == 1 else np.nan
        return job, Outcome(sizes, study.design.n, tested.label, effects, scales, drawn, {})

    def run(
        self, job: Replicates, outcome: Outcome, kept: Checkpoint | None = None, before: int = 0
    ) -> Outcome:
        """The outcome, with what is found. before: replicates of other sizes in the checkpoint."""
        how: dict[str, Any] = {"threads": self.threads, "client": self.client}
        with silenced(IdentifiabilityWarning, RankDeficientWarning):
            found = run_job(job, checkpoint=kept, done=before, what="power", **how)
        return replace(outcome, found=found)

    def of_one(self, place: int) -> Simulation:
        """Of one of the effects."""
        if self.effect is not None:
            return replace(self, effect=(self.effect[place],))
        return self if self.scale is None else replace(self, scale=(self.scale[place],))

    def count(self, along: str) -> int:
        """Levels of a column of the study's data."""
        if self.make is not None:
            raise ValueError(f"along: {along!r} is no argument that the function was called with")
        return len(levels_of(self._table, along)[0])

    def __getstate__(self) -> dict[str, Any]:
        """Pickles are without workers, and without a function that has no name."""
        state = vars(self) | {"client": None}
        try:
            pickle.dumps(self.make)
        except (pickle.PicklingError, AttributeError, TypeError):
            state["make"] = _lost
        return state

    def sized(self, sizes: Sizes) -> Study:
        """The study of this size."""
        if self.make is not None:
            return self.study.with_data(_made(self.make, sizes))
        if not sizes:
            return self.study
        frame = self._table
        for name, count in sizes.items():
            frame = extended(frame, name, int(count), self.study.groups)
        return self.study.with_data(frame)

    @cached_property
    def _table(self) -> Any:
        return self.study.table()

    def _model(self, study: Study) -> AnyModel:
        if study.family is not None:
            how: dict[str, Any] = {"nagq": study.nagq, "information": study.information}
            return GeneralizedModel(study.design, study.family, reml=self.reml, **how)
        model = linear_model(study.design)
        model._check_identified(self.reml)
        return model

    def _assumed(self, study: Study, model: AnyModel) -> tuple[Assumed, Tested]:
        design = study.design
        if study.estimates is not None and len(study.estimates.beta) != len(design.x_names):
            raise DataError(
                f"the model of this size has the coefficients {', '.join(design.x_names)}: others "
                "than the fit whose estimates are assumed"
            )
        tested = Tested.read(self.test, design, model._core.keep)
        params = _complete(study, tested, self.effect is not None)
        return params.of(design, model.theta_entries, study.estimates, study.family), tested

    def _alternatives(
        self, tested: Tested, beta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(E, p) coefficients of each effect, and how large it is."""
        if self.effect is not None:
            betas = [tested.moved(beta, value) for value in self.effect]
        else:
            betas = [tested.scaled(beta, value) for value in self.scale or (1.0,)]
        many = len(tested.L) > 1
        effects = [np.nan if many else float(tested.effect(moved)[0]) for moved in betas]
        scales = np.full(len(betas), np.nan) if self.effect is not None else self.scale or (1.0,)
        return np.array(betas), np.array(effects), np.array(scales, dtype=float)

    def _joint(self, tested: Tested, model: AnyModel) -> Joint | None:
        """How rows are tested together, where there are several."""
        r = len(tested.L)
        if r == 1 or self.method == "lrt":
            return None
        if self.method == "kenward-roger" or (self.method == "satterthwaite" and r > MOST):
            most = MOST if self.method == "satterthwaite" else 1
            raise ValueError(
                f'{tested.label!r} has {r} rows, and method="{self.method}" tests {most} together '
                'at most: use method="lrt" or "z"'
            )
        return Joint.of(tested.L, _rough_covariance(model.design.X))

    def _want(self, L: np.ndarray) -> Asked:
        """What is asked of each fit. It begins at moments of its response, where fits begin: they
        are closer to its optimum than the parameters that are assumed are."""
        ddf = "z" if self.method == "lrt" else self.method
        none = (0.0,) * len(L), ("",) * len(L)
        own = np.ascontiguousarray(L), *none, ddf, self.reml, MAX_EVALS
        return Asked(*own, errors=self.method != "lrt")


def _rough_covariance(X: np.ndarray) -> np.ndarray:
    """(X'X)^+: of coefficients as if rows were independent."""
    length = np.sqrt((X * X).sum(axis=0))
    unit = X / np.where(length > 0, length, 1.0)
    length = np.where(length > 0, length, np.inf)
    return np.asarray(np.linalg.pinv(unit.T @ unit, hermitian=True) / np.outer(length, length))


def _complete(study: Study, tested: Tested, moved: bool) -> Parameters:
    """Fixed effects that are not named and not tested are zero: power does not depend on them. Of
    generalized models it does, and all are needed but the one that `effect` gives."""
    params = study.params
    if study.estimates is not None or not isinstance(params.beta, (Mapping, type(None))):
        return params
    names = [str(name) for name in study.design.x_names]
    given = dict(params.beta or {})
    if study.family is not None:
        place = tested.coefficient
        known = {} if place is None or not moved else {names[place]: 0.0}
        return replace(params, beta=known | given)
    needed = [names[j] for j in np.flatnonzero(tested.L.any(axis=0))]
    left = [name for name in needed if name not in given]
    if left and not moved and set(given) <= set(names):
        raise ValueError(
            f"params: beta lacks {', '.join(left)}, which {tested.label!r} tests; give "
            'params={"beta": {...}, ...} or effect='
        )
    return replace(params, beta=dict.fromkeys(names, 0.0) | given)


def _lost(**sizes: Any) -> Any:
    raise DataError(
        "the function that makes the data of a size was not in the pickle: a function of a module "
        "can be"
    )


def _made(make: Callable[..., Any], sizes: Sizes) -> Any:
    try:
        return table_of(make(**sizes))
    except TypeError as error:
        named = ", ".join(f"{name}={value!r}" for name, value in sizes.items())
        raise DataError(f"data({named}) could not be called: {error}") from error


def grid(along: Mapping[str, Sequence[Any]]) -> list[Sizes]:
    """All combinations of sizes, the last one changing first."""
    cells: list[Sizes] = [{}]
    for name, values in along.items():
        cells = [{**cell, name: value} for cell in cells for value in values]
    return cells
