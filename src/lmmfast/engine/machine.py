"""What every model is, linear or generalized: a design, its compiled form, a lock, threads."""

from __future__ import annotations

import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..data.design import Design
from ..errors import FitError, RankDeficientWarning, warn
from .compiled import Engine
from .costs import StorageReport
from .free import Free, held, theta_names
from .ties import tied

if TYPE_CHECKING:
    from typing_extensions import Self
else:
    from ..late import Self


MOST_THREADS = 1024  # no machine gains from more, and each takes a stack
MOST_FIXED = 20_000  # columns of X: a dense cross-product of 3.2 GB
MOST_RANDOM = 2_000  # columns of one random term: two million variance parameters


class Machine:
    """A design and its compiled model. One thread at a time; any number of machines.

    Methods of one machine wait for each other; those of different ones run in parallel, without
    the GIL. A pickle holds the design, and how it was compiled.
    """

    design: Design
    _storage: str
    _engine: Engine
    _core: Any

    def _compile(self, design: Design, storage: str, threads: int, make: Any) -> None:
        """What constructors do; `make` is the compiled class."""
        self.design = design
        self._storage = storage
        self._lock = threading.RLock()
        _check_width(design)
        self._engine = Engine(design, storage, make)
        self._core = self._engine.core
        self.threads = threads
        _MACHINES.add(self)

    def _options(self) -> dict[str, Any]:
        """How this machine is run: arguments of its constructor besides the design."""
        return {"storage": self._storage, "threads": self._threads}

    def with_design(self, design: Design) -> Self:
        """A model of another design that is stored and run as this one."""
        make: Any = type(self)
        return make(design, **self._options())  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds the design; what was compiled is compiled anew."""
        return partial(type(self), **self._options()), (self.design,)

    def _after_fork(self) -> None:
        """In a forked child: what the parent's process has, too, must not be changed."""

    def read_before(self, fit: Any) -> Any:
        """What was read at the estimates of a fit, where that is all there is; else None."""
        return None

    def known_before(self, fit: Any) -> dict[Any, Any]:
        """What inference knows of a fit from the beginning, by its own keys."""
        return {}

    @property
    def ntheta(self) -> int:
        """Number of variance parameters in theta."""
        return int(self._core.ntheta)

    @property
    def theta_entries(self) -> list[tuple[int, int, int]]:
        """For each parameter of theta: its term, and its row and column in the term's factor T."""
        return self._engine.theta_entries()

    @property
    def theta_names(self) -> list[str]:
        """Names of the entries of theta: "Subject.Intercept" is on the diagonal of the factor T,
        "Subject.Days.Intercept" below it."""
        return theta_names(self.design, self.theta_entries)

    def holding(self, fixed: Any, ties: Any = None) -> Free | None:
        """What may move when entries of theta are held, and terms tied, as ``fixed=`` and ``ties=``
        of `lmmfast.lmer`."""
        diagonal = [row == column for _, row, column in self.theta_entries]
        free = held(fixed, self.theta_names, diagonal)
        return tied(ties, self.design, self.theta_entries, free)

    @property
    def storage(self) -> StorageReport:
        """How the model is stored: eliminated factors, the trailing matrix, bytes."""
        return cast(StorageReport, dict(self._core.report))

    @property
    def threads(self) -> int:
        """Threads of evaluations and fits; may be set at any time."""
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
        if not whole or not 1 <= count <= MOST_THREADS:
            raise ValueError(f"threads must be a whole number, 1 to {MOST_THREADS}, not {count!r}")
        self._core.use_threads(int(count))
        self._threads = int(count)


def _renew_locks() -> None:
    """In a forked child, where threads that held a lock are not there to give it back."""
    for machine in list(_MACHINES):
        machine._lock = threading.RLock()
        machine._core.renew_lock()
        machine._after_fork()


_MACHINES: weakref.WeakSet[Machine] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _check_width(design: Design) -> None:
    """Dense columns have a limit; more of them are levels of a grouping factor."""
    if not design.terms:
        raise FitError("the model has no random term")
    widths = [("the fixed effects", design.fixed.width, MOST_FIXED)]
    widths += [(term.term, term.source.width, MOST_RANDOM) for term in design.terms]
    for what, columns, most in widths:
        if columns > most:
            raise FitError(
                f"{what} have {columns} columns, more than the {most} that can be fitted"
            )


def note_dropped_columns(design: Design, keep: np.ndarray) -> None:
    """A warning for columns of X that depend on earlier ones."""
    if keep.all():
        return
    dropped = [name for name, kept in zip(design.x_names, keep, strict=True) if not kept]
    what = (
        f"the fixed effects are linearly dependent: {len(dropped)} of {len(keep)} columns are "
        f"dropped and reported as missing: {', '.join(dropped)}"
    )
    warn(RankDeficientWarning(what, variable=dropped[0]))
