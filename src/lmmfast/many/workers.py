"""Who computes blocks of a job: threads of this process, an executor's workers, a Dask cluster."""

from __future__ import annotations

import pickle
import queue
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ..errors import FitError, LostWorkerWarning, warn

if TYPE_CHECKING:
    from .job import Columns, Job

AHEAD = 3  # blocks for each worker that are sent before results are waited for
REMEMBERED = 2  # jobs that a thread of a worker holds

Block = tuple[int, int]


class Workers:
    """Workers of one job, `with Workers(...) as workers`; blocks come back in order.

    state: what `job.begin` gave in this process.
    """

    def __init__(self, job: Job, state: Any, client: Any, threads: int) -> None:
        self._job, self._state = job, state
        self._sent: deque[tuple[Block, Any]] = deque()
        self._client: _Threads | _Executor | _Dask
        if client is None:
            self._client = _Threads(job, state, threads)
        elif _is_dask(client):
            self._client = _Dask(job, client)
        else:
            self._client = _Executor(job, client)
        self.number = self._client.number

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for _, future in self._sent:  # an error, Ctrl-C: nobody waits for these
            if future is not None:
                future.cancel()
        self._client.close(error[0] is not None)

    def results(self, blocks: Iterable[Block]) -> Iterator[Columns]:
        """What the job makes of these blocks, one after the other."""
        left, sent = iter(blocks), self._sent
        while True:
            while len(sent) < AHEAD * self.number and (block := next(left, None)) is not None:
                try:
                    sent.append((block, self._client.send(*block)))
                except BrokenExecutor as error:
                    sent.append((block, None))
                    yield from self._alone(sent, left, error)
                    return
            if not sent:
                return
            block, future = sent[0]
            try:
                found = self._client.receive(future, *block)
            except BrokenExecutor as error:
                yield from self._alone(sent, left, error)
                return
            sent.popleft()
            yield found

    def _alone(
        self, sent: Iterable[tuple[Block, Any]], left: Iterator[Block], error: Exception
    ) -> Iterator[Columns]:
        """What is left when the executor is broken."""
        again = [block for block, _ in sent]
        self._sent = deque()
        warn(
            LostWorkerWarning(
                f"a worker of the executor died ({error}): replicates from {again[0][0]} on are "
                "computed in this process"
            )
        )
        for a, b in (*again, *left):
            yield self._job.run(self._state, a, b, self._job.part(a, b))


class _Threads:
    """Threads of this process; each has its own models."""

    def __init__(self, job: Job, state: Any, number: int) -> None:
        self.number = number
        self._job, self._pool = job, ThreadPoolExecutor(number)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._idle.put(state)
        self._made, self._lock = 1, threading.Lock()

    def send(self, first: int, stop: int) -> Any:
        part = self._job.part(first, stop)
        return self._pool.submit(copy_context().run, self._run, first, stop, part)

    def _run(self, first: int, stop: int, part: Any) -> Columns:
        state = self._borrow()
        try:
            return self._job.run(state, first, stop, part)
        finally:
            self._idle.put(state)

    def _borrow(self) -> Any:
        with self._lock:
            more = self._idle.empty() and self._made < self.number
            self._made += more
        return self._job.begin() if more else self._idle.get()

    def receive(self, future: Any, first: int, stop: int) -> Columns:
        found: Columns = future.result()
        return found

    def close(self, failed: bool) -> None:
        self._pool.shutdown(wait=True, cancel_futures=failed)


class _Executor:
    """Any executor of concurrent.futures. A worker that does not have the job asks for it."""

    def __init__(self, job: Job, pool: Any) -> None:
        self._job, self._pool, self._packed = job, pool, _pack(job)
        self._token = uuid.uuid4().hex
        self.number = _number_of(pool)

    def send(self, first: int, stop: int) -> Any:
        return self._submit(None, first, stop)

    def _submit(self, packed: bytes | None, first: int, stop: int) -> Any:
        part = self._job.part(first, stop)
        return self._pool.submit(work, self._token, packed, first, stop, part)

    def receive(self, future: Any, first: int, stop: int) -> Columns:
        found: Columns | None = future.result()
        if found is None:
            found = self._submit(self._packed, first, stop).result()
        assert found is not None
        return found

    def close(self, failed: bool) -> None:
        """The executor is the user's: it is not shut down."""


def _number_of(pool: Any) -> int:
    """Workers of an executor; executors need not say."""
    import os

    number = getattr(pool, "_max_workers", None)
    return number if isinstance(number, int) and number > 0 else os.cpu_count() or 1


class _Dask:
    """The workers of a Dask cluster; it repeats what was lost."""

    def __init__(self, job: Job, client: Any) -> None:
        self._job, self._client = job, client
        self._token = uuid.uuid4().hex
        self._packed = client.scatter(_pack(job), broadcast=True, hash=False)
        self._before = self._names()
        self.number = max(1, sum(client.nthreads().values()))

    def _names(self) -> set[str]:
        return set(self._client.nthreads())

    def send(self, first: int, stop: int) -> Any:
        part = self._job.part(first, stop)
        return self._client.submit(
            work, self._token, self._packed, first, stop, part, pure=False, retries=2
        )

    def receive(self, future: Any, first: int, stop: int) -> Columns:
        from distributed import KilledWorker

        try:
            found: Columns = future.result()
        except KilledWorker as error:
            raise FitError(
                f"replicates {first} to {stop - 1} were lost with every worker that tried them: do "
                f"the workers have enough memory? ({error})"
            ) from error
        return found

    def close(self, failed: bool) -> None:
        if failed:
            return
        lost = self._before - self._names()
        if lost:
            some = f"{len(lost)} workers were" if len(lost) > 1 else "a worker was"
            warn(
                LostWorkerWarning(
                    f"{some} lost ({', '.join(sorted(lost))}): their replicates were computed again"
                )
            )


def _pack(job: Job) -> bytes:
    """The job as it travels."""
    try:
        return pickle.dumps(job, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        try:
            import cloudpickle
        except ImportError:
            raise TypeError(
                f"this cannot be sent to other processes ({error}): define functions at the top "
                "level of a module, or install cloudpickle"
            ) from error
        packed: bytes = cloudpickle.dumps(job, protocol=5)
        return packed


def check_client(client: Any) -> None:
    """TypeError for what is neither None nor somebody who works."""
    if client is not None and not callable(getattr(client, "submit", None)):
        raise TypeError(
            "client must be an executor of concurrent.futures or a Dask client, not "
            f"{type(client).__name__}"
        )


def _is_dask(client: Any) -> bool:
    return hasattr(client, "scatter") and hasattr(client, "scheduler_info")


# ---- in the worker -------------------------------------------------------------------------------

_HELD = threading.local()


def work(token: str, packed: bytes | None, first: int, stop: int, part: Any) -> Columns | None:
    """A block in another process: its rows, or None where the job has not come yet."""
    held: OrderedDict[str, tuple[Job, Any]] = _HELD.__dict__.setdefault("jobs", OrderedDict())
    if token not in held:
        if packed is None:
            return None
        while len(held) >= REMEMBERED:
            held.popitem(last=False)
        job: Job = pickle.loads(packed)
        held[token] = job, job.begin()
    job, state = held[token]
    return job.run(state, first, stop, part)
