"""Cross-products in threads: any number read them, and none is torn when several change them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from streams import CASES, pieces

from lmmfast import CrossProducts, Spec, _core, lmer


def in_threads(call: Callable[[int], object]) -> list[object]:
    gate = threading.Barrier(4)

    def run(number: int) -> object:
        gate.wait(60)
        return call(number)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(run, range(4)))


def test_threads_read_the_same_cross_products() -> None:
    """Fits, sums, copies and bytes of shared parts, all at once."""
    case = CASES["factors"]
    data = case.data()
    spec = Spec.from_data(case.formula, data, **case.options)
    parts = [CrossProducts.from_frame(part, spec) for part in pieces(data, 0)]
    wanted, whole = sum(parts).to_bytes(), sum(parts)
    objective = lmer(whole).objective

    def read(number: int) -> tuple[bytes, bytes, float]:
        turned = parts[number:] + parts[:number]
        total = sum(turned[len(parts) - number :] + turned[: len(parts) - number])
        return total.to_bytes(), whole.copy().to_bytes(), lmer(whole).objective

    assert in_threads(read) == [(wanted, wanted, objective)] * 4


def test_blocks_are_changed_by_one_thread_at_a_time() -> None:
    """Additions of integers from four threads to one sum: none is lost, nothing is torn."""
    rng = np.random.default_rng(1)
    n, levels, times = 4000, 900, 60
    X, y = rng.integers(-3, 4, (2, n)).astype(float).T, rng.integers(-3, 4, n).astype(float)
    codes = rng.integers(0, levels, (2, n)).astype(np.int32)
    same = (np.zeros(1), np.eye(1))
    plain = _core.Coordinates([same, same], (np.zeros(2), np.eye(2)), np.zeros(2), 0.0, 1.0, False)
    rows = y, X, [(own, levels, np.ones((n, 1)), np.zeros(1, np.int32)) for own in codes]
    one, total = (_core.Blocks([1, 1], 3) for _ in range(2))
    one.add(plain, *rows)
    maps, sizes = [np.arange(levels, dtype=np.int32)] * 2, [levels] * 2

    def add(number: int) -> None:
        for turn in range(times):
            if (turn + number) % 2:
                total.add(plain, *rows)
            else:
                total.merge(one, maps, sizes)

    in_threads(add)
    assert (total.corner == 4 * times * one.corner).all()
    for k in range(2):
        assert (total.diagonal(k) == 4 * times * one.diagonal(k)).all()
    for found, wanted in zip(total.pairs(0, 1), one.pairs(0, 1), strict=True):
        assert (found == (wanted if found.ndim == 1 else 4 * times * wanted)).all()
