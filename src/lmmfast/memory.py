"""How much memory may be taken: of the machine, of the container, of the process."""

from __future__ import annotations

import math
import os
from pathlib import Path

V2 = Path("/sys/fs/cgroup")
V1 = Path("/sys/fs/cgroup/memory")


def available() -> float:
    """Bytes that this process can still take; infinity where there is no way to know.

    The least of what the machine has available, what is left of the limit of a container (control
    groups) and what is left of the process's own limit (``ulimit -v``).
    """
    return max(0.0, min(_machine(), _container(), _process()))


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
    """What is left of the address space; Linux says how much is in use."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return math.inf
        with open("/proc/self/statm", encoding="ascii") as sizes:
            return float(limit - int(sizes.read().split()[0]) * resource.getpagesize())
    except (ImportError, OSError, ValueError):
        return math.inf
