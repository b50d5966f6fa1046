"""Replicates of a generalized fit: responses drawn from it, each fitted from its estimates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.options import MAX_EVALS
from ..inference.ddf import check_choice
from ..inference.intervals.parameters import parameters_of, values_of
from ..inference.refits import model_of
from ..many.asked import asked
from ..many.fits import fits_of
from ..many.generalized import simulator_of
from ..many.job import checked_count, checked_threads
from ..many.jobs import run_job
from ..many.run import ColumnsJob
from ..many.streams import Streams
from .bootstrap import Bootstrap, first_of, values_of_all
from .draws import Drawn

if TYPE_CHECKING:
    from ..fit import Fit


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
    more: dict[str, Any] = {"statistic": statistic, "width": 0 if first is None else len(first[1])}
    own: Any = fit
    more |= {"kind": type(fit), "start": own.psi, "errors": False}
    want = asked(fit.design, None, "z", False, MAX_EVALS, **more)
    job = ColumnsJob(model_of(fit), Drawn(simulator_of(fit, None, re), streams), want, count)
    began = time.perf_counter()
    found = run_job(job, threads=threads, client=client, checkpoint=checkpoint, what="bootstrap")
    seconds = time.perf_counter() - began
    fits = fits_of(fit.model, range(count), np.full(count, fit.nobs), want, found, seconds)
    every = parameters_of(fit)
    estimates = values_of(every, fit)
    replicates = values_of_all(every, fit, fits, found["extra"])
    names = tuple(one.name for one in every)
    if first is not None:
        names += first[0]
        estimates = np.concatenate([estimates, first[1]])
        replicates = np.hstack([replicates, found["statistic"]])
    return Bootstrap(fit, "parametric", streams.seed, fits, None, names, estimates, replicates)
