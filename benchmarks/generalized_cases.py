"""The generalized models of the benchmarks: data kept with the tests, and simulated designs.

Every case is one model that every engine is given in the same form: responses are numbers (0 and 1,
shares with a column of trials, counts), factors pandas categoricals of strings. The simulated cases
have fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from problems import reference_frame

__all__ = ["CASES", "Case", "crossed_logit"]


@dataclass(frozen=True)
class Case:
    """One generalized model.

    Attributes
    ----------
    load : callable
        Gives the data frame.
    formula : str
        lme4's formula.
    family, link : str
        Names as in `lmmfast.glmer`.
    structure : str
        Rows and levels, for the reader of the table.
    weights : str, optional
        The column of trials.
    nagq : int
        Nodes of adaptive quadrature; 1: Laplace's approximation.
    calls : int
        Calls in one process, of which the median counts without the first (of one: that).
    """

    load: Callable[[], pd.DataFrame]
    formula: str
    family: str
    structure: str
    link: str = "logit"
    weights: str | None = None
    nagq: int = 1
    calls: int = 4

    @property
    def canonical(self) -> bool:
        """Whether observed and expected weights are the same."""
        return (self.family, self.link) in (("binomial", "logit"), ("poisson", "log"))


def _factor(codes: np.ndarray) -> pd.Categorical:
    """Level labels "0", "1", ... of the levels that occur."""
    levels, dense = np.unique(codes, return_inverse=True)
    return pd.Categorical.from_codes(dense, categories=levels.astype(str))


def _real(name: str, columns: str, binary: str = "") -> Callable[[], pd.DataFrame]:
    """Columns of a data set; of the factor `binary` the second level is 1."""

    def load() -> pd.DataFrame:
        frame = reference_frame(name)[columns.split()].dropna().reset_index(drop=True)
        if binary:
            frame[binary] = frame[binary].cat.codes.astype("int64")
        return frame

    return load


def crossed_logit(subjects: int, items: int, per: int, seed: int = 5) -> pd.DataFrame:
    """Correct answers: every subject sees `per` random items once; a covariate of items, one of
    rows, and subjects that differ in the effect of the first."""
    rng = np.random.default_rng(seed)
    subj = np.repeat(np.arange(subjects), per)
    item = np.concatenate([rng.permutation(items)[:per] for _ in range(subjects)])
    freq, prime = rng.normal(size=items), rng.integers(0, 2, len(subj)) - 0.5
    eta = 1.5 + 0.4 * freq[item] + 0.2 * prime + rng.normal(0, 0.8, subjects)[subj]
    eta += rng.normal(0, 0.3, subjects)[subj] * freq[item] + rng.normal(0, 0.9, items)[item]
    hit = rng.random(len(subj)) < 1 / (1 + np.exp(-eta))
    columns = {"freq": freq[item], "prime": prime, "hit": hit.astype("int64")}
    return pd.DataFrame({"subj": _factor(subj), "item": _factor(item), **columns})


def crossed_counts(n: int, sizes: Sequence[int], seed: int = 6) -> pd.DataFrame:
    """Counts by crossed factors, each with a random intercept; cells at random."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    eta, frame = 0.5 + 0.3 * x, {}
    for place, size in enumerate(sizes):
        codes = rng.integers(0, size, n)
        eta = eta + rng.normal(0, 0.3 + 0.1 * place, size)[codes]
        frame[f"f{place + 1}"] = _factor(codes)
    return pd.DataFrame({**frame, "x": x, "count": rng.poisson(np.exp(eta))})


def _logit(subjects: int, items: int, per: int) -> Callable[[], pd.DataFrame]:
    return lambda: crossed_logit(subjects, items, per)


_VERBAGG = "r2 Anger Gender btype situ mode id item"
_CONTRACEPTION = "used age urban livch district"
_TICKS = "TICKS YEAR cHEIGHT BROOD INDEX LOCATION"
_ITEMS = "r2 ~ Anger + Gender + btype + situ + mode"
_USED = "used ~ age + I(age^2) + urban + livch + (1 | district)"
_SEIZURES = "y ~ lbase * trt + lage + V4 + (1 | subject)"
_HITS = "hit ~ freq + prime + (1 | subj) + (1 | item)"
_SLOPES = "hit ~ freq + prime + (1 + freq | subj) + (1 | item)"

CASES = {
    "cbpp": Case(
        _real("cbpp", "prop size period herd"), "prop ~ period + (1 | herd)", "binomial",
        "56 shares, 15 levels", weights="size", calls=21,
    ),
    "cbpp_agq9": Case(
        _real("cbpp", "prop size period herd"), "prop ~ period + (1 | herd)", "binomial",
        "the same, 9 nodes", weights="size", nagq=9, calls=21,
    ),
    "cbpp_obs": Case(
        _real("cbpp", "prop size period herd obs"), "prop ~ period + (1 | herd) + (1 | obs)",
        "binomial", "56 shares, 15 + 56 levels, cloglog", "cloglog", weights="size", calls=21,
    ),
    "bacteria": Case(
        _real("bacteria", "yes trt late ID"), "yes ~ trt + late + (1 | ID)", "binomial",
        "220 rows, 50 levels", calls=21,
    ),
    "epil": Case(
        _real("epil", "y lbase trt lage V4 subject"), _SEIZURES, "poisson",
        "236 counts, 59 levels", "log", calls=21,
    ),
    "epil_nb": Case(
        _real("epil", "y lbase trt lage V4 subject"), _SEIZURES, "negativebinomial",
        "the same, negative binomial", "log", calls=21,
    ),
    "grouseticks": Case(
        _real("grouseticks", _TICKS),
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson",
        "403 counts, 403 + 118 + 63 levels", "log", calls=9,
    ),
    "Contraception": Case(
        _real("Contraception", _CONTRACEPTION), _USED, "binomial", "1,934 rows, 60 levels", calls=9
    ),
    "Contraception_agq9": Case(
        _real("Contraception", _CONTRACEPTION), _USED, "binomial", "the same, 9 nodes", nagq=9,
        calls=9,
    ),
    "VerbAgg": Case(
        _real("VerbAgg", _VERBAGG, "r2"), f"{_ITEMS} + (1 | id) + (1 | item)", "binomial",
        "7,584 rows, 316 x 24 levels", calls=5,
    ),
    "VerbAgg_slopes": Case(
        _real("VerbAgg", _VERBAGG, "r2"), f"{_ITEMS} + (1 + situ + mode | id) + (1 | item)",
        "binomial", "the same, 3 columns by person", calls=3,
    ),
    "logit_1e5": Case(_logit(200, 4000, 500), _HITS, "binomial", "100,000 rows, 200 x 4,000"),
    "logit_1e5_slope": Case(
        _logit(200, 4000, 500), _SLOPES, "binomial", "the same, a slope by subject"
    ),
    "poisson_1e5": Case(
        lambda: crossed_counts(100_000, (2000, 200, 50)),
        "count ~ x + (1 | f1) + (1 | f2) + (1 | f3)", "poisson",
        "100,000 counts, 2,000 x 200 x 50", "log",
    ),
    "logit_1e6": Case(_logit(800, 10_000, 1250), _HITS, "binomial", "1,000,000 rows, 800 x 10,000"),
    "elp": Case(
        _logit(814, 80_962, 3374), _HITS, "binomial", "2,746,436 rows, 814 x 80,962"
    ),
}  # fmt: skip
