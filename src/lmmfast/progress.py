"""Bars of long work: on stderr where somebody looks, of what takes more than two seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds before there is a bar

Advance = Callable[[int], object]


def silent(count: int) -> None:
    """No progress."""


@contextmanager
def progress(total: int, what: str, unit: str, least: int = 1) -> Iterator[Advance]:
    """How to say that so many of `total` are done; silent for fewer than `least`, and where stderr
    is no terminal."""
    if total < least:
        yield silent
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, delay=PATIENCE, disable=None, leave=False) as bar:
        yield bar.update
