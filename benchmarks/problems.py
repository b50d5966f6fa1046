"""The problems of the benchmarks: real data kept with the tests, and simulated designs.

Every problem is one model: where the data come from, lme4's formula, REML or ML, and what its
random effects look like. The simulated designs have fixed seeds: all engines fit the same numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from reference_data import data as reference_frame  # noqa: E402

__all__ = ["PROBLEMS", "Problem"]


@dataclass(frozen=True)
class Problem:
    """One model to be fitted by every engine.

    Attributes
    ----------
    load : callable
        Gives the data frame; grouping factors and other factors are pandas categoricals of strings.
    formula : str
        lme4's formula.
    reml : bool
        REML criterion or (False) deviance.
    structure : str
        What the random effects look like, for the reader of the table.
    repeats : int
        How many timed calls, of which the median counts.
    """

    load: Callable[[], pd.DataFrame]
    formula: str
    reml: bool
    structure: str
    repeats: int = 3


def _factor(codes: np.ndarray) -> pd.Categorical:
    """Level labels "0", "1", ... in numerical order, only those that occur."""
    levels, dense = np.unique(codes, return_inverse=True)
    return pd.Categorical.from_codes(dense, categories=[str(level) for level in levels])


def _real(name: str, columns: Sequence[str]) -> Callable[[], pd.DataFrame]:
    return lambda: reference_frame(name)[list(columns)].dropna().reset_index(drop=True)


def megastudy(subjects: int, items: int, per: int, seed: int = 1) -> pd.DataFrame:
    """Log reaction times of a megastudy: every subject sees `per` random items, once each."""
    rng = np.random.default_rng(seed)
    subj = np.repeat(np.arange(subjects), per)
    item = np.concatenate([rng.choice(items, per, replace=False) for _ in range(subjects)])
    freq = rng.normal(size=items)
    length = rng.integers(3, 12, items) - 7.0
    prior = rng.integers(0, 2, len(subj)) - 0.5
    cov = [[0.04, 0.01, 0.002], [0.01, 0.01, 0], [0.002, 0, 0.004]]
    by_subj = rng.multivariate_normal([0, 0, 0], cov, subjects)
    by_item = rng.normal(0, 0.15, items)
    by_item_prior = rng.normal(0, 0.05, items)
    y = 6.4 - 0.05 * freq[item] + 0.01 * length[item] + 0.03 * prior
    y = y + by_subj[subj, 0] + by_subj[subj, 1] * freq[item] * 0.3 + by_subj[subj, 2] * prior
    y = y + by_item[item] + by_item_prior[item] * prior + rng.normal(0, 0.3, len(subj))
    columns = {"freq": freq[item], "length": length[item], "prior": prior, "lrt": y}
    return pd.DataFrame({"subj": _factor(subj), "item": _factor(item), **columns})


def ratings(users: int, movies: int, n: int, seed: int = 2) -> pd.DataFrame:
    """Movie ratings: users and movies crossed at random, popularities of very different sizes."""
    rng = np.random.default_rng(seed)
    by_user = rng.pareto(1.6, users) + 0.4
    by_user /= by_user.sum()
    by_movie = rng.pareto(1.4, movies) + 0.2
    by_movie /= by_movie.sum()
    u = rng.choice(users, int(n * 2.6), p=by_user)
    m = rng.choice(movies, int(n * 2.6), p=by_movie)
    key = np.unique(u.astype(np.int64) * movies + m)
    rng.shuffle(key)
    u, m = np.divmod(key[:n], movies)
    y = 3.5 + rng.normal(0, 0.4, users)[u] + rng.normal(0, 0.6, movies)[m]
    y = y + rng.normal(0, 0.9, len(u))
    return pd.DataFrame({"u": _factor(u), "m": _factor(m), "y": y})


def small_factors(n: int, sizes: Sequence[int], seed: int = 3) -> pd.DataFrame:
    """Several crossed factors with few levels each, every one with a random intercept."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = 1.0 + 0.5 * x + rng.normal(size=n)
    frame = {}
    for number, size in enumerate(sizes):
        codes = rng.integers(0, size, n)
        y = y + rng.normal(0, 0.2 + 0.1 * number, size)[codes]
        frame[f"f{number + 1}"] = _factor(codes)
    return pd.DataFrame({**frame, "x": x, "y": y})


def schools(number: int, classes: int, pupils: int, seed: int = 4) -> pd.DataFrame:
    """Pupils in classes in schools, balanced; class labels are unique."""
    rng = np.random.default_rng(seed)
    cls = np.repeat(np.arange(number * classes), pupils)
    school = cls // classes
    x = rng.normal(size=len(cls))
    y = (
        50.0
        + 2.0 * x
        + rng.normal(0, 3.0, number)[school]
        + rng.normal(0, 2.0, number * classes)[cls]
    )
    y = y + rng.normal(0, 5.0, len(cls))
    return pd.DataFrame({"school": _factor(school), "cls": _factor(cls), "x": x, "y": y})


def one_factor(groups: int, per: int, seed: int = 5) -> pd.DataFrame:
    """One grouping factor with very many levels."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), per)
    x = rng.normal(size=len(g))
    y = 1.0 + 0.3 * x + rng.normal(0, 0.7, groups)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"g": _factor(g), "x": x, "y": y})


def wide(levels: int, n: int = 20_000, groups: int = 100, seed: int = 6) -> pd.DataFrame:
    """A predictor with very many levels, one numeric predictor, one grouping factor."""
    rng = np.random.default_rng(seed)
    f, g = rng.integers(0, levels, n), rng.integers(0, groups, n)
    f[:levels] = np.arange(levels)
    x = rng.normal(size=n)
    y = rng.normal(size=levels)[f] + 0.3 * x + rng.normal(size=groups)[g] + rng.normal(size=n)
    return pd.DataFrame({"f": _factor(f), "x": x, "g": _factor(g), "y": y})


def slopes(groups: int, per: int, seed: int = 6) -> pd.DataFrame:
    """One grouping factor with very many levels, which have slopes too; rows are in no order."""
    rng = np.random.default_rng(seed)
    g = rng.permutation(np.repeat(np.arange(groups), per))
    x = rng.normal(size=len(g))
    b = rng.normal(0, [0.7, 0.3], (groups, 2))
    y = 1.0 + b[g, 0] + (0.3 + b[g, 1]) * x + rng.normal(size=len(g))
    return pd.DataFrame({"g": _factor(g), "x": x, "y": y})


_KB07 = "1 + S + P + C + SP + SC + PC + SPC"
_KB07_COLUMNS = ["subj", "item", "RTtrunc", "S", "P", "C", "SP", "SC", "PC", "SPC"]
_INSTEVAL = ["y", "service", "dept", "s", "d"]
_MEGASTUDY = "lrt ~ freq + length + prior + (1 + freq + prior | subj) + (1 + prior | item)"

PROBLEMS: dict[str, Problem] = {
    "sleepstudy": Problem(
        _real("sleepstudy", ["Reaction", "Days", "Subject"]),
        "Reaction ~ Days + (Days | Subject)",
        True,
        "one factor, 2 columns",
        repeats=201,
    ),
    "kb07_max": Problem(
        _real("kb07", _KB07_COLUMNS),
        f"RTtrunc ~ {_KB07} + ({_KB07} | subj) + ({_KB07} | item)",
        False,
        "two crossed factors, 8 columns each, 72 parameters",
        repeats=7,
    ),
    "kb07_zcp": Problem(
        _real("kb07", _KB07_COLUMNS),
        f"RTtrunc ~ {_KB07} + ({_KB07} || subj) + ({_KB07} || item)",
        False,
        "the same without correlations, 16 parameters",
        repeats=7,
    ),
    "insteval3": Problem(
        _real("InstEval", _INSTEVAL),
        "y ~ service + (1 | s) + (1 | d) + (1 | dept)",
        False,
        "three partly crossed factors, 2,972 and 1,128 and 14 levels",
    ),
    "insteval2": Problem(
        _real("InstEval", _INSTEVAL),
        "y ~ service * dept + (1 | s) + (1 | d)",
        True,
        "two partly crossed factors, 28 fixed effects",
    ),
    "megastudy_100k": Problem(
        lambda: megastudy(200, 4_000, 500),
        _MEGASTUDY,
        True,
        "200 x 4,000 levels, 3 and 2 columns, 100,000 rows",
    ),
    "megastudy_1m": Problem(
        lambda: megastudy(800, 28_000, 1_250),
        _MEGASTUDY,
        True,
        "800 x 28,000 levels, 3 and 2 columns, 1,000,000 rows",
        repeats=1,
    ),
    "ratings_1m": Problem(
        lambda: ratings(6_040, 3_706, 1_000_000),
        "y ~ 1 + (1 | u) + (1 | m)",
        True,
        "6,040 x 3,706 levels, sparse crossing, 1,000,000 rows",
        repeats=1,
    ),
    "small_factors": Problem(
        lambda: small_factors(20_000, [10, 20, 30, 40, 50]),
        "y ~ x + (1 | f1) + (1 | f2) + (1 | f3) + (1 | f4) + (1 | f5)",
        True,
        "five crossed factors of 10 to 50 levels, 20,000 rows",
        repeats=5,
    ),
    "nested_100k": Problem(
        lambda: schools(10_000, 10, 5),
        "y ~ x + (1 | school) + (1 | cls)",
        True,
        "100,000 classes in 10,000 schools, 500,000 rows",
    ),
    "intercepts_125k": Problem(
        lambda: one_factor(125_000, 4),
        "y ~ x + (1 | g)",
        True,
        "one factor, 125,000 levels, 500,000 rows",
    ),
    "wide_500": Problem(
        lambda: wide(500),
        "y ~ f + x + (1 | g)",
        True,
        "a predictor with 500 levels, 20,000 rows",
    ),
    "wide_500_slopes": Problem(
        lambda: wide(500),
        "y ~ f * x + (1 | g)",
        True,
        "the same with a slope for each level",
    ),
    "wide_2000": Problem(
        lambda: wide(2_000),
        "y ~ f + x + (1 | g)",
        True,
        "a predictor with 2,000 levels, 20,000 rows",
    ),
    "slopes_125k": Problem(
        lambda: slopes(125_000, 4),
        "y ~ x + (x | g)",
        True,
        "the same with slopes, rows in no order",
    ),
}
