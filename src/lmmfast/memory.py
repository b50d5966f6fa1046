"""How much memory may be taken: of the machine, of the container, of the process; and files in the
place of memory."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

V2 = Path("/sys/fs/cgroup")
V1 = Path("/sys/fs/cgroup/memory")


def available() -> float:
    """Bytes that this process can still take; infinity where there is no way to know.

    The least of what the machine has available, what is left of the limit of a container (control
    groups) and what is left of the process's own limits (``ulimit -v``, ``ulimit -d``).
    """
    return max(0.0, min(_machine(), _container(), _process()))


def in_file(size: int, what: str) -> NDArray[np.uint8]:
    """Zeros (size,) in a temporary file without a name, of which the system keeps in memory what
    there is room for; the file goes when the array does.

    Raises
    ------
    MemoryError
        When the disk has not so much room; `what` says what it is for.
    """
    size = max(int(size), 1)
    with tempfile.TemporaryFile(prefix="lmmfast-") as file:
        try:
            _reserve(file, size)
            whole = mmap.mmap(file.fileno(), size)
        except (OSError, OverflowError) as error:
            raise MemoryError(
                f"{what}: {size / 1e9:.3g} GB do not fit in memory, nor in a file in "
                f"{tempfile.gettempdir()!r} ({error}): set TMPDIR to a directory on a larger disk"
            ) from error
    return np.frombuffer(whole, np.uint8)


def _reserve(file: Any, size: int) -> None:
    """Makes a file so long, with the disk space for it: writing to it later cannot fail."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < size:
        raise OSError(f"{free / 1e9:.3g} GB are free")
    file.truncate(size)


def _machine() -> float:
    try:
        with open("/proc/meminfo", encoding="ascii") as info:
            for line in info:
                if line.startswith("MemAvailable:"):
                    return 1024 * float(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _container() -> float:
    """What is left of the control group's limit; file cache that can be dropped counts as free."""
    for limit, used, cache in (
        (V2 / "memory.max", V2 / "memory.current", "inactive_file"),
        (V1 / "memory.limit_in_bytes", V1 / "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most = float(limit.read_text())  # "max": no limit
            taken = float(used.read_text())
            stat = dict(
                line.split() for line in (limit.parent / "memory.stat").read_text().splitlines()
            )
        except (OSError, ValueError):
            continue
        return most - taken + float(stat.get(cache, 0))
    return math.inf


def _process() -> float:
    """What is left of the address space, and of the data in it; Linux says how much is in use."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as sizes:
            pages = [int(size) for size in sizes.read().split()]
        used = {resource.RLIMIT_AS: pages[0], resource.RLIMIT_DATA: pages[5]}
        limits = {kind: resource.getrlimit(kind)[0] for kind in used}
        unlimited = resource.RLIM_INFINITY
        left = [
            float(limit - used[kind] * resource.getpagesize())
            for kind, limit in limits.items()
            if limit != unlimited
        ]
        return min(left, default=math.inf)
    except (ImportError, OSError, ValueError):
        return math.inf
