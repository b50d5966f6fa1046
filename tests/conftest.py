"""Fixtures, and the one table of tolerances that the tests compare with."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

# Read when NumPy and SciPy are imported. The matrices of tests are small: more threads of BLAS only
# spin, and beside a worker of xdist for each core they took two thirds of all the time. What
# several of them do is tested where they are asked for (test_blas_threads, test_invariance).
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402


def pytest_collection_finish() -> None:
    """What is imported and collected stays: collections of garbage need not look at it."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Tolerances:
    """How closely lmmfast must agree with lme4's results, and with itself.

    Attributes
    ----------
    above : float
        The criterion may lie above the reference's by no more than this (deviance units).
    criterion : float
        Relative difference of the criterion where lme4 reached the optimum.
    better : float
        A criterion lower than the reference's by more than this (deviance units) is a better
        optimum: the parameters belong to another point then and are not compared.
    beta : float
        Fixed effects and their standard errors, in units of the standard error.
    spread : float
        sigma and the standard deviations of the random effects, relative.
    spread_singular : float
        The same on singular fits, in units of sigma.
    fitted : float
        Fitted values and conditional modes, in units of sigma.
    deviations : float
        Conditional standard deviations of the random effects, in units of sigma.
    design : float
        Entries of the design matrix, relative to the largest entry of the column.
    invariance : float
        Criterion of the same model written or measured differently, relative.
    """

    above: float = 1e-6
    criterion: float = 1e-7
    better: float = 1e-6
    beta: float = 1e-6
    spread: float = 1e-5
    spread_singular: float = 1e-4
    fitted: float = 1e-5
    deviations: float = 1e-6
    design: float = 1e-12
    invariance: float = 1e-8


TOLERANCE = Tolerances()
Case = TypeVar("Case")


def each(cases: Iterable[Case], check: Callable[[Case], object]) -> None:
    """check(case) of every case; AssertionError that names all those that fail.

    For rows of large tables, of which a test each costs ten times what is checked.
    """
    failures: list[tuple[Case, Exception]] = []
    count = 0
    for case in cases:
        count += 1
        try:
            check(case)
        except Exception as error:
            failures.append((case, error))
    assert count, "there are no cases"
    if failures:
        told = [f"{case!r:.200}: {type(error).__name__}: {error}" for case, error in failures]
        text = "\n".join([f"{len(failures)} of {count} cases fail:", *told[:20]])
        raise AssertionError(text) from failures[0][1]


def covering(cases: Iterable[Sequence[Hashable]], together: int = 1) -> list[Any]:
    """The cases as parameters: few in which every value occurs, the others marked slow.

    For grids whose axes are ways through the code that have nothing to do with each other: what
    each value does is then seen in any one case with it. With together=2 every pair of values that
    some case has occurs. Of cases that add as much the one is taken whose values occur least.
    """
    all_cases = [tuple(case) for case in cases]
    met = [set(combinations(enumerate(case), together)) for case in all_cases]
    wanted, often = set().union(*met), set()
    uses: Counter[tuple[int, Hashable]] = Counter()
    while wanted:
        best = max(
            range(len(met)),
            key=lambda i: (
                len(met[i] & wanted),
                -sum(uses[own] for own in enumerate(all_cases[i])),
            ),
        )
        often.add(best)
        wanted -= met[best]
        uses.update(enumerate(all_cases[best]))
    return [
        pytest.param(*case, marks=() if i in often else pytest.mark.slow)
        for i, case in enumerate(all_cases)
    ]


def seldom(names: Iterable[str], which: Iterable[str]) -> list[Any]:
    """The names as parameters, those of `which` marked slow."""
    every, late = list(names), set(which)
    assert late <= set(every), f"no case has the name {late - set(every)}"
    return [pytest.param(one, marks=pytest.mark.slow) if one in late else one for one in every]


# References that are themselves less precise: lme4 has only values of the criterion, and in these
# large samples their rounding hides decreases of 1e-9. Ten times the tolerances for parameters;
# test_imprecise_references shows by derivatives that the reference is the one that is off.
IMPRECISE = {"InstEval__inter_reml", "KKL__max_ml", "KWDYZ__m0_ml", "star__read_reml"}


def close(found: object, wanted: object, scale: object, tolerance: float) -> None:
    """Assert |found - wanted| <= tolerance * scale by element, and say where it is worst."""
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    assert found.shape == wanted.shape
    error = np.abs(found - wanted) / np.asarray(scale, float)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error))) if error.size else 0
    assert not error.size or error.flat[worst] <= tolerance, (
        f"entry {worst}: {found.flat[worst]!r} is not {wanted.flat[worst]!r}: "
        f"off by {error.flat[worst]:.2e} of the scale, {tolerance:.0e} allowed"
    )
