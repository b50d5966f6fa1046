"""Work on many replicates: cut into blocks, done by threads or other processes, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..progress import progress
from .checkpoint import Checkpoint
from .job import Columns, Job
from .workers import Workers, check_client

IMPATIENCE = 0.3  # seconds of a block in this process: Ctrl-C waits no longer
ERRAND = 1.0  # ... in another one
MOST = 512  # replicates of a block
GROWTH = 16  # how much larger than the last one a block may be
PROBES = 2  # blocks that this process works on before others do
SHARES = 4  # blocks that each worker gets, at least
FEW = 128  # replicates that need no bar


def run_job(
    job: Job,
    *,
    threads: int = 1,
    client: Any = None,
    checkpoint: Any = None,
    done: int = 0,
    what: str = "fit",
    unit: str = "replicates",
) -> Columns:
    """All replicates of a job.

    Parameters
    ----------
    job : Job
    threads : int, default 1
        Of this process, if there is no client.
    client : concurrent.futures.Executor or dask.distributed.Client, optional
        Who works.
    checkpoint : path or Checkpoint, optional
        File that holds what is done; a later run with the same file goes on from there.
    done : int, default 0
        Replicates of earlier jobs in the same checkpoint.
    what, unit : str, defaults "fit" and "replicates"
        What bars call the work and its replicates.

    Returns
    -------
    dict of arrays
        By name, one row a replicate; the same to the last bit whoever worked.
    """
    check_client(client)
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        book: Any = nullcontext(checkpoint)
    else:
        book = Checkpoint(checkpoint, job.fingerprint())
    with book as kept, progress(job.count, what, unit, FEW) as advance:
        parts = []
        for found in _blocks(job, threads, client, kept, done):
            parts.append(found)
            advance(_rows(found))
    return joined(parts)


def joined(parts: list[Columns]) -> Columns:
    """Rows of several blocks as one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(found: Columns) -> int:
    return len(next(iter(found.values())))


def _blocks(
    job: Job, threads: int, client: Any, kept: Checkpoint | None, before: int
) -> Iterator[Columns]:
    """Results in order: those that a checkpoint has, and then the others."""
    done = 0
    while kept is not None and done < job.count:
        found = kept.next(before, done, job.count, job.part)
        if found is None:
            break
        done += _rows(found)
        yield found
    for found in _work(job, done, threads, client):
        if kept is not None:
            kept.keep(before, done, found, job.part)
        done += _rows(found)
        yield found


def _work(job: Job, first: int, threads: int, client: Any) -> Iterator[Columns]:
    """Blocks grow with what a replicate takes at best: the first one may import a library."""
    if first >= job.count:
        return
    state = job.begin()
    each, size, probes = float("inf"), 1, 0
    alone = client is None and threads == 1
    while first < job.count and (alone or probes < PROBES):
        stop = min(first + size, job.count)
        began = time.perf_counter()
        found = job.run(state, first, stop, job.part(first, stop))
        each = min(each, max(time.perf_counter() - began, 1e-9) / (stop - first))
        yield found
        first, probes = stop, probes + 1
        size = max(1, min(int(IMPATIENCE / each), MOST, GROWTH * size))
    if first >= job.count:
        return
    with Workers(job, state, client, threads) as workers:
        left = -(-(job.count - first) // (SHARES * workers.number))
        most = min(left, int((IMPATIENCE if client is None else ERRAND) / each))
        yield from workers.results(_cut(first, job.count, most))


def _cut(first: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    size = max(1, min(size, MOST))
    for a in range(first, stop, size):
        yield a, min(a + size, stop)
