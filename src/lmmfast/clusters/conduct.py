"""A test from its arguments to its result: the data, the permutations, the clusters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..engine.model import Model
from ..many.job import checked_count, checked_threads
from ..many.jobs import run_job
from ..many.streams import Streams
from .arguments import (
    check,
    chosen,
    factors,
    responses,
    rule_of,
    unfolded,
    without_response,
)
from .components import clusters
from .exchange import Arrangements, exchange_of
from .hypothesis import tested
from .neighbours import neighbours, shape_of
from .permutations import Permutations, known_of
from .points import Points, points_of
from .results import LEVEL, ClusterTest, corrected
from .shuffled import Shuffled

Arguments = Mapping[str, Any]  # arguments by name


def conduct(
    formula: Any,
    data: Any,
    Y: Any,
    test: Any,
    model: Arguments,
    fits: Arguments,
    how: Arguments,
    rule: Arguments,
    place: Arguments,
    work: Arguments,
) -> ClusterTest:
    """The test that the arguments of `cluster_test` ask for."""
    began = time.perf_counter()
    check(rule)
    n, threads = checked_count(how["n"]), checked_threads(work["threads"])
    Y, shape = unfolded(Y, place["shape"])
    design, table = without_response(formula, data, **model)
    hypotheses = tested(test, design)
    shuffled = Shuffled.of(design, table, chosen(hypotheses, how["shuffle"]))
    by, together = how["by"], how["together"]
    among = factors(design, table, (by, together), shuffled.variables)
    own = shuffled.values(), shuffled.words
    exchange = exchange_of(how["permute"], by, among, *own, together)
    points = responses(Y, design)
    graph = neighbours(shape_of(shape, len(points.names)), place["adjacency"])
    want = hypotheses.asked(fits["reml"], fits["max_evals"])
    found = points_of(Model(design, storage=fits["storage"]), points.values, want)
    arrangements = Arrangements(exchange, Streams(how["seed"]), n)
    job = Permutations(
        shuffled,
        arrangements,
        hypotheses,
        points.values,
        want,
        fits["storage"],
        rule_of(rule, hypotheses, exchange.size - 1),
        graph,
        known_of(found, hypotheses),
        arrangements.count,
    )
    null = run_job(job, **{**work, "threads": threads}, unit="permutations")
    return _result(job, found, points.names, null, began)


def _result(
    job: Permutations, fits: Points, names: Any, null: dict[str, np.ndarray], began: float
) -> ClusterTest:
    """The data beside the null distribution."""
    statistic = job.tested.of(fits)
    return ClusterTest(
        formula=f"~ {' '.join(job.shuffled.design.formula.partition('~')[2].split())}",
        test=job.tested.name,
        kind=job.rule.kind,
        tail=job.rule.tail,
        name=job.tested.statistic,
        points=np.array(names, dtype=object),
        shape=job.graph.shape,
        statistic=statistic,
        status=fits.status,
        threshold=job.rule.threshold,
        **_found(job, statistic, null["largest"]),
        null=null["largest"],
        failed=int((null["failed"] > 0).sum()),
        doubtful=int(null["doubtful"].sum()),
        exhaustive=job.arrangements.all,
        untested=_untested(job),
        scheme=f"{job.shuffled.words} {job.arrangements.exchange.words}",
        seed=job.arrangements.streams.seed,
        seconds=time.perf_counter() - began,
    )


def _untested(job: Permutations) -> tuple[str, ...]:
    """Coefficients of what is shuffled that are not in the hypothesis."""
    names = job.shuffled.design.x_names
    too = job.shuffled.columns_of() & ~job.tested.L.any(axis=0)
    return tuple(str(names[j]) for j in np.flatnonzero(too))


def _found(job: Permutations, statistic: np.ndarray, null: np.ndarray) -> dict[str, Any]:
    """The clusters of the data, beside the null distribution."""
    rule, graph, enhanced = job.rule, job.graph, None
    if rule.kind == "tfce":
        enhanced = rule.enhanced(statistic, graph)
        points = corrected(np.abs(enhanced), null)
        signs = np.where(points <= LEVEL, np.sign(enhanced), 0)
        labels = clusters(signs, graph)
        first = np.unique(labels, return_index=True)[1][int((labels == 0).any()) :]
        groups = [np.flatnonzero(labels == labels[i]) for i in first]
        mass = np.array([enhanced[own][np.argmax(np.abs(enhanced[own]))] for own in groups])
        pvalue = np.array([points[own].min() for own in groups])
    else:
        labels = rule.labels(statistic, graph)
        mass = np.bincount(labels, np.where(labels > 0, statistic, 0.0))[1:]
        pvalue = corrected(np.abs(rule.weights(statistic, labels)), null)
    size = np.bincount(labels)[1:]
    own = {"labels": labels, "sign": np.sign(mass).astype(int), "size": size, "mass": mass}
    return own | {"pvalue": pvalue, "enhanced": enhanced}
