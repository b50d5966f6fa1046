"""One thread for BLAS while the compiled core runs, whatever the process has set.

The core calls the BLAS of scipy.linalg.cython_blas from threads of its own: threads of the library
below them only get in each other's way, and results must not depend on their number.

MKL and Accelerate keep a number of threads by thread. The others have one for the process (OpenBLAS
too: where it runs on pthreads, openblas_set_num_threads_local is not local in spite of its name).
To save and restore that around every call goes wrong as soon as two calls overlap: the second saves
the 1 of the first, and restores it last of all. So the uses are counted, and only the first saves.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from scipy.linalg import cython_blas

# functions that set and get the number of threads of the process, both by value
_PROCESS = [
    *[
        (f"{prefix}openblas_set_num_threads{suffix}", f"{prefix}openblas_get_num_threads{suffix}")
        for prefix in ("scipy_", "")
        for suffix in ("", "64_", "_64")
    ],
    ("flexiblas_set_num_threads", "flexiblas_get_num_threads"),
    ("bli_thread_set_num_threads", "bli_thread_get_num_threads"),
]
_MKL = "MKL_Set_Num_Threads_Local"  # returns the number before, 0: that of the process
_ACCELERATE = "BLASSetThreading", "BLASGetThreading"  # macOS 15; 1: a single thread

Set = Callable[[int], object]
Get = Callable[[], int]
Mark = Callable[[], Any]  # of a use: gives None when nobody holds it any more


def _held() -> bool:
    """The mark of a use that only its own end can end."""
    return True


def _others(users: list[tuple[int, Mark]], mark: Mark) -> list[tuple[int, Mark]]:
    """The uses that go on when one ends; those that nobody holds have ended too."""
    if len(users) == 1 and users[0][1] is mark:  # nearly always
        return []
    left = [user for user in users if user[1]() is not None]
    own = [i for i, user in enumerate(left) if user[1] is mark]
    return left[: own[-1]] + left[own[-1] + 1 :] if own else left


class _Process:
    """A number of threads for the process: the first user sets 1, the last one restores.

    The same thread may come in again at any point (signal handlers, finalizers). An interrupt may
    fall between any two lines: what is counted is a mark that dies with its use, every line leaves
    a state from which the next `begin` or `end` goes on, and `saved` is forgotten only when it has
    been restored.
    """

    def __init__(self, set_count: Set, get_count: Get) -> None:
        self.set_count, self.get_count = set_count, get_count
        self.lock = threading.RLock()
        self.users: list[tuple[int, Mark]] = []  # with its thread: a forked child keeps its own
        self.saved: int | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget_other_threads)

    def begin(self, mark: Mark) -> None:
        """One more use; the caller holds the lock."""
        users = [user for user in self.users if user[1]() is not None] if self.users else []
        if not users:
            found = self.get_count()
            if self.saved is None or found != 1:  # else it is what an interrupt has left
                self.saved = found
            if self.saved != 1:
                self.set_count(1)
        self.users = [*users, (threading.get_ident(), mark)]

    def end(self, mark: Mark) -> None:
        """One use less, unless it has ended already; the caller holds the lock."""
        self.users = _others(self.users, mark)
        if not self.users:
            self._restore()

    def __enter__(self) -> None:
        with self.lock:
            self.begin(_held)

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.end(_held)

    def _restore(self) -> None:
        saved = self.saved
        # a number that somebody else has set in the meantime is left alone
        if saved is not None and saved != 1 and self.get_count() == 1:
            self.set_count(saved)
        self.saved = None

    def _forget_other_threads(self) -> None:
        self.lock = threading.RLock()
        if self.users:
            self.users = [user for user in self.users if user[0] == threading.get_ident()]
            if not self.users:
                self._restore()


class _Thread(threading.local):
    """A number of threads for each thread: nothing is shared, the last use restores."""

    def __init__(self, swap: Callable[[int], int], address: int) -> None:
        self.swap, self.address = swap, address  # of the function that sets it
        self.lock = threading.RLock()  # as in `_Process`
        self.users: list[tuple[int, Mark]] = []
        self.saved: int | None = None

    def begin(self, mark: Mark) -> None:
        """One more use."""
        users = [user for user in self.users if user[1]() is not None] if self.users else []
        if not users and self.saved is None:
            self.saved = 0  # that of the process, should an interrupt take what comes next
            self.saved = self.swap(1)
        elif not users:
            self.swap(1)
        self.users = [*users, (threading.get_ident(), mark)]

    def end(self, mark: Mark) -> None:
        """One use less, unless it has ended already."""
        self.users = _others(self.users, mark)
        if not self.users and self.saved is not None:
            self.swap(self.saved)
            self.saved = None

    def __enter__(self) -> None:
        self.begin(_held)

    def __exit__(self, *error: object) -> None:
        self.end(_held)


def _libraries() -> Iterator[ctypes.PyDLL]:
    """Where to look for the functions: PyDLL, because they are too short to let go of the GIL."""
    paths = [cython_blas.__file__]  # finds what the module is linked to, too
    if sys.platform == "win32":  # ... but not there: the library that comes with SciPy's wheels
        folder = Path(cython_blas.__file__).parents[2] / "scipy.libs"
        paths += [str(path) for path in sorted(folder.glob("*openblas*.dll"))]
    for path in paths:
        with suppress(OSError):  # where modules are no libraries
            yield ctypes.PyDLL(path)


def _functions(library: ctypes.PyDLL, names: tuple[str, str]) -> tuple[Set, Get] | None:
    set_count, get_count = (getattr(library, name, None) for name in names)
    if set_count is None or get_count is None:
        return None
    set_count.argtypes, set_count.restype = (ctypes.c_int,), ctypes.c_int
    get_count.argtypes, get_count.restype = (), ctypes.c_int
    return set_count, get_count


def _openblas(library: ctypes.PyDLL, set_count: Set, get_count: Get) -> Set:
    """Writes OpenBLAS's own variable where it can be seen: the function does more than is wanted.

    In a process that has forked, parent or child, it starts all threads of the pool again, which
    spin for some 0.1 s each, even if the number to set is 1; and if OpenBLAS runs on OpenMP it
    frees buffers that another thread's call may be using.
    """
    try:
        number = ctypes.c_int.in_dll(library, "blas_cpu_number")
    except ValueError:
        return set_count

    def write(count: int) -> None:
        number.value = count
        if get_count() != count:  # the variable of another copy of the library
            set_count(count)

    return write


def _process(library: ctypes.PyDLL) -> _Process | None:
    for names in _PROCESS:
        functions = _functions(library, names)
        if functions is not None:
            set_count, get_count = functions
            if "openblas" in names[0]:
                set_count = _openblas(library, set_count, get_count)
            return _Process(set_count, get_count)
    return None


def _thread(library: ctypes.PyDLL) -> _Thread | None:
    swap = getattr(library, _MKL, None)
    if swap is not None:
        swap.argtypes, swap.restype = (ctypes.c_int,), ctypes.c_int
        return _Thread(swap, _address(swap))
    functions = _functions(library, _ACCELERATE)
    if functions is not None:
        set_mode, get_mode = functions

        def swap_mode(mode: int) -> int:
            before = get_mode()
            set_mode(mode)
            return before

        return _Thread(swap_mode, _address(set_mode))
    return None


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _control() -> _Process | _Thread | None:
    for library in _libraries():
        found = _process(library) or _thread(library)
        if found is not None:
            return found
    return None  # a library without such functions goes its own way


_CONTROL = _control()


def control() -> _Process | _Thread | None:
    """Counts the uses of SciPy's BLAS; None where its number of threads cannot be set."""
    return _CONTROL


def local_setter() -> int:
    """Address of `int f(int)` that other threads have to call with 1 before they call BLAS.

    Only for libraries that keep the number of threads by thread, where the context is good for the
    thread that enters it and no other; 0: there is nothing to call.
    """
    return _CONTROL.address if isinstance(_CONTROL, _Thread) else 0
