"""A test from its arguments to its result: the data, the permutations, the clusters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.columns import Table
from ..data.design import Design
from ..engine.model import Model
from ..many.job import checked_count, checked_threads
from ..many.jobs import run_job
from ..many.streams import Streams
from .arguments import (
    check,
    chosen,
    factors,
    fewest,
    responses,
    rule_of,
    unfolded,
    without_response,
)
from .components import clusters
from .exchange import SIGNS, Arrangements, Exchange, exchange_of
from .flips import Flips, effects_of
from .hypothesis import Tested, tested
from .neighbours import neighbours, shape_of
from .null import Null, known_of
from .permutations import Permutations
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
    exchange = _exchange(design, table, hypotheses, how)
    points = responses(Y, design)
    graph = neighbours(shape_of(shape, len(points.names)), place["adjacency"])
    want = hypotheses.asked(fits["reml"], fits["max_evals"])
    whole = Model(design, storage=fits["storage"])
    found = points_of(whole, points.values, want)
    known, streams = known_of(found, hypotheses), Streams(how["seed"])
    own = design, hypotheses, points.values, want, fits["storage"]
    job: Null
    if exchange is None:
        maps = rule_of(rule, hypotheses, fewest(design) - 1), graph, known, streams
        job = Flips(*own, *maps, n, effects_of(whole, points.values, known, want.reml))
    else:
        maps = rule_of(rule, hypotheses, exchange[1].size - 1), graph, known, streams
        arrangements = Arrangements(exchange[1], streams, n)
        job = Permutations(*own, *maps, arrangements.count, exchange[0], arrangements)
    null = run_job(job, **{**work, "threads": threads}, unit="permutations")
    return _result(job, found, points.names, null, began)


def _exchange(
    design: Design, table: Table, hypotheses: Tested, how: Arguments
) -> tuple[Shuffled, Exchange] | None:
    """What is shuffled, and how; None for sign flips."""
    by, together, shuffle = how["by"], how["together"], how["shuffle"]
    if how["permute"] == SIGNS:
        for name in ("by", "together", "shuffle"):
            if how[name] is not None:
                raise ValueError(f"{name}={how[name]!r}: permute='signs' shuffles nothing")
        return None
    shuffled = Shuffled.of(design, table, chosen(hypotheses, shuffle))
    among = factors(design, table, (by, together), shuffled.variables)
    own = shuffled.values(), shuffled.words
    return shuffled, exchange_of(how["permute"], by, among, *own, together)


def _result(
    job: Null, fits: Points, names: Any, null: dict[str, np.ndarray], began: float
) -> ClusterTest:
    """The data beside the null distribution."""
    statistic = job.tested.of(fits)
    return ClusterTest(
        formula=f"~ {' '.join(job.design.formula.partition('~')[2].split())}",
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
        exhaustive=job.is_exhaustive,
        untested=job.untested,
        scheme=job.words,
        seed=job.streams.seed,
        seconds=time.perf_counter() - began,
    )


def _found(job: Null, statistic: np.ndarray, null: np.ndarray) -> dict[str, Any]:
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
