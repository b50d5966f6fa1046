"""Replicates of a generalized fit: responses drawn from it, each fitted from its estimates."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.options import MAX_EVALS, Options
from ..errors import LmmError
from ..inference.ddf import check_choice
from ..inference.intervals.parameters import natural_extra, parameters_of, values_of
from ..many.asked import Asked, asked
from ..many.checkpoint import fingerprint
from ..many.columns import no_fits, numbers_of
from ..many.fits import fits_of
from ..many.generalized import GeneralizedSimulator, simulator_of
from ..many.job import Columns, Job, checked_count, checked_threads
from ..many.jobs import run_job
from ..many.run import design_fingerprint
from ..many.streams import Streams
from .bootstrap import Bootstrap, first_of, values_of_all

if TYPE_CHECKING:
    from ..engine.generalized import GeneralizedModel
    from ..fit import Fit


@dataclass(eq=False)
class Refits:
    """A generalized model that is fitted to one response after the other."""

    model: GeneralizedModel
    start: np.ndarray  # psi

    @classmethod
    def of(cls, fit: Fit) -> Refits:
        """From where a fit ended."""
        own: Any = fit
        return cls(own.model, own.psi)

    def copied(self) -> Refits:
        """It sets up a model for each response: nothing is shared."""
        return self

    def fitted(self, y: np.ndarray) -> tuple[Any, GeneralizedModel]:
        """Estimates for a response, and their model; LmmError where there are none."""
        design = self.model.design.with_rows(y=np.ascontiguousarray(y))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = self.model.with_design(design)
            return model.minimize(Options(False, self.start)), model

    def objectives(self, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-2 log likelihood of each column, and how its fit ended."""
        values = np.full(Y.shape[1], np.nan)
        status: np.ndarray = np.full(Y.shape[1], "", dtype=object)
        for i, y in enumerate(Y.T):
            try:
                estimates, _ = self.fitted(y)
                values[i], status[i] = estimates.objective, estimates.status
            except LmmError as error:
                status[i] = str(error)
        return values, status

    def fingerprint(self) -> str:
        """Of all that its objectives depend on."""
        family = self.model.family
        own = family.core_name, family.core_link, self.model.nagq, self.model.accuracy
        return fingerprint(design_fingerprint(self.model.design), *own, self.start)


class Replicates(Job):
    """Fits to responses that a simulator draws."""

    def __init__(
        self,
        fit: Fit,
        simulator: GeneralizedSimulator,
        want: Asked,
        streams: Streams,
        count: int,
    ) -> None:
        self.refits, self.simulator, self.want = Refits.of(fit), simulator, want
        self.streams, self.count = streams, count

    def begin(self) -> None:
        """Every replicate has its own model."""

    def run(self, state: None, first: int, stop: int, part: Any) -> Columns:
        model: Any = self.refits.model
        out = no_fits(model, self.want, stop - first, "")
        out["extra"] = np.full((stop - first, model.nextra), np.nan)
        Y = self.simulator.draw(self.streams, first, stop)
        for i, y in enumerate(Y.T):
            try:
                estimates, own = self.refits.fitted(y)
            except LmmError as error:
                out["status"][i] = str(error)
                continue
            self._fill(out, i, estimates, own)
        return out

    def _fill(self, out: Columns, i: int, estimates: Any, model: GeneralizedModel) -> None:
        names = "status", "objective", "sigma", "certificate", "theta", "beta"
        for name in names:
            out[name][i] = getattr(estimates, name)
        out["evals"][i] = estimates.n_evals
        out["extra"][i] = natural_extra(estimates, model.family)[0]
        if self.want.statistic is None:
            return
        try:
            fit = self.want.kind(estimates, model.design, model)  # type: ignore[arg-type]
            out["statistic"][i] = numbers_of(self.want.statistic(fit))
        except Exception as error:  # the user's own: a row that says so
            out["status"][i] = f"statistic: {type(error).__name__}: {error}"

    def fingerprint(self) -> str:
        own = self.simulator
        parts = [(one.codes, one.z, one.factor) for one in own.parts]
        streams = self.streams.seed, self.streams.branch
        facts = self.want.facts(), own.mean, parts, own.extra
        return fingerprint("generalized", self.refits.fingerprint(), *facts, *streams)


def bootstrap(
    fit: Fit,
    n: int,
    seed: Any,
    statistic: Callable[[Any], Any] | None,
    re: str,
    threads: int,
    client: Any,
    checkpoint: Any,
) -> Bootstrap:
    """As ``GLMMFit.bootstrap`` documents it."""
    count, threads = checked_count(n), checked_threads(threads)
    check_choice("re", re, ("new", "fixed"))
    streams = Streams(seed)
    first = None if statistic is None else first_of(statistic, fit)
    more = {"statistic": statistic, "width": 0 if first is None else len(first[1])}
    want = asked(fit.design, None, "z", False, MAX_EVALS, kind=type(fit), **more)
    job = Replicates(fit, simulator_of(fit, None, re), want, streams, count)
    began = time.perf_counter()
    found = run_job(job, threads=threads, client=client, checkpoint=checkpoint, what="bootstrap")
    seconds = time.perf_counter() - began
    model: Any = fit.model
    fits = fits_of(model, range(count), np.full(count, fit.nobs), want, found, seconds)
    every = parameters_of(fit)
    estimates = values_of(every, fit)
    replicates = values_of_all(every, fit, fits, found["extra"])
    names = tuple(one.name for one in every)
    if first is not None:
        names += first[0]
        estimates = np.concatenate([estimates, first[1]])
        replicates = np.hstack([replicates, found["statistic"]])
    return Bootstrap(fit, "parametric", streams.seed, fits, None, names, estimates, replicates)
