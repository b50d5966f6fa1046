"""Models for the tests of streams, data cut into chunks, and what equal fits have in common."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import lmmfast
from lmmfast import datasets

SAME = 1e-10  # what the same model gives in one piece and in chunks, relative


@dataclass(frozen=True)
class Case:
    """A model and its data."""

    formula: str
    data: Callable[[], pd.DataFrame]
    options: dict[str, Any] = field(default_factory=dict)
    warns: bool = False  # of dependent columns
    flat: bool = False  # variances in the user's columns are hardly determined


def sleep() -> pd.DataFrame:
    return datasets.load("sleepstudy")


def gappy() -> pd.DataFrame:
    """Missing values in every variable, weights with zeros, an offset."""
    rng = np.random.default_rng(1)
    data = sleep()
    data["w"] = rng.integers(0, 4, len(data)).astype(float)
    data["o"] = rng.normal(size=len(data)) * 10
    data["Subject"] = data["Subject"].astype(str).astype(object)
    for name, rows in (("Reaction", 3), ("Days", 5), ("w", 4), ("o", 2), ("Subject", 6)):
        if name == "Days":
            data[name] = data[name].astype(float)
        data.loc[rng.choice(len(data), rows, replace=False), name] = None
    return data


def shifted() -> pd.DataFrame:
    data = sleep()
    data["x"] = 1e6 + data["Days"] * 1e-3
    data["year"] = 2000 + data["Days"]
    return data


def far() -> pd.DataFrame:
    """A predictor so far from zero that its products with factors are nearly the factors."""
    data = mixed()
    data["far"] = 1e4 + data["x"] * 1e-2
    data["farther"] = 1e4 + data["x"] * 1e-4
    return data


def mixed() -> pd.DataFrame:
    """Factors of every kind: text, categories in an order of their own, booleans, numbers."""
    rng = np.random.default_rng(2)
    n = 600
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "f": rng.choice(list("cab"), n),
            "k": rng.integers(1, 4, n),
            "flag": rng.random(n) < 0.4,
            "g": rng.integers(0, 30, n) * 10,
            "h": rng.choice(["u", "v", "w", "z", "y", "s", "q"], n),
        }
    )
    order = ["mid", "low", "high", "never"]
    data["c"] = pd.Categorical(rng.choice(order[:3], n), categories=order)
    data["o"] = pd.Categorical(rng.choice(order[:3], n), categories=order[:3], ordered=True)
    effect = rng.normal(size=300)[data["g"] // 10] + rng.normal(size=n)
    data["y"] = 3 + data["x"] + data["k"] + (data["f"] == "a") + effect
    return data


def sloped() -> pd.DataFrame:
    """Slopes that differ between the levels of both grouping factors."""
    data = mixed()
    rng = np.random.default_rng(3)
    slopes = dict(zip("uvwzysq", rng.normal(size=7), strict=True))
    data["y"] += data["x"] * (data["h"].map(slopes) + rng.normal(size=30)[data["g"] // 10])
    return data


def dependent() -> pd.DataFrame:
    data = mixed()
    data["x2"] = 2 * data["x"] + 1
    data["x3"] = -data["x"]
    return data


CASES = {
    "slope": Case("Reaction ~ Days + (Days | Subject)", sleep),
    "double bar": Case("Reaction ~ Days + (Days || Subject)", sleep),
    "two terms": Case("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", sleep),
    "no intercept": Case("Reaction ~ 0 + Days + (0 + Days | Subject)", sleep),
    "shifted": Case("Reaction ~ x + (x | Subject)", shifted, flat=True),
    "shifted, double bar": Case(
        "Reaction ~ year + (1 | Subject) + (0 + year | Subject)", shifted, flat=True
    ),
    "shifted product": Case("Reaction ~ x * Days + (1 | Subject)", shifted),
    "far products": Case("y ~ far * f + (1 | g)", far),
    "far products of all levels": Case("y ~ 0 + c + far * f + (1 | g)", far),
    "too far": Case("y ~ 0 + c + farther * f + (1 | g)", far, warns=True),
    "far slopes": Case("y ~ far + (1 + f:far | h) + (far | g)", far, flat=True),
    "offset alone": Case("y ~ 0 + offset(x) + (1 | g) + (1 | h)", mixed),
    "small factor first": Case("y ~ x + (1 | h) + (x | g) + (0 + x | h)", sloped),
    "crossed": Case(
        "diameter ~ 1 + (1 | plate) + (1 | sample)", lambda: datasets.load("Penicillin")
    ),
    "nested": Case("strength ~ 1 + (1 | batch / cask)", lambda: datasets.load("Pastes")),
    "factor slopes": Case(
        "score ~ Machine + (0 + Machine | Worker)", lambda: datasets.load("Machines")
    ),
    "cells": Case(
        "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", lambda: datasets.load("Machines")
    ),
    "sum contrasts": Case(
        "angle ~ recipe * temperature + (1 | recipe:replicate)",
        lambda: datasets.load("cake"),
        {"contrasts": {"recipe": "sum"}},
    ),
    "maximal": Case(
        "RTtrunc ~ S * P * C + (S + P | subj) + (P || item)", lambda: datasets.load("kb07")
    ),
    "gaps": Case(
        "Reaction ~ Days + offset(Days / 2) + (Days | Subject)",
        gappy,
        {"weights": "w", "offset": "o"},
    ),
    "factors": Case("y ~ f * c + o + flag + x + (1 + f | g) + (1 | h)", mixed),
    "full factor": Case("y ~ 0 + f + x:c + (0 + flag | g) + (1 | h:f)", mixed),
    "expressions": Case(
        "log(y + 20) ~ I(x^2) + factor(k) + relevel(f, 'b') + C(h, contr.sum) + (x | factor(g))",
        mixed,
    ),
    "learned levels": Case(
        "y ~ as.numeric(factor(f)) + factor(c, labels=c('m', 'l', 'h')) + ifelse(f == 'a', x, 0) "
        "+ (1 | g)",
        mixed,
    ),
    "raw polynomial": Case("y ~ poly(x, 2, raw=True) + x:f + (1 | g) + (1 | h)", mixed),
    "dependent fixed": Case("y ~ x + x2 + f + x3 + (1 | g)", dependent, warns=True),
    "dependent random": Case("y ~ x + (x + x2 | g) + (1 | h)", dependent, warns=True),
    "three factors": Case("y ~ x + (x | g) + (1 | h) + (1 | f:k)", mixed),
}


@cache
def in_memory(name: str, reml: bool = True) -> lmmfast.LMMFit:
    """The fit of a case in one piece."""
    case = CASES[name]
    return lmmfast.lmer(case.formula, case.data(), reml=reml, **case.options)


def pieces(data: pd.DataFrame, seed: int = 0, most: int = 6) -> list[pd.DataFrame]:
    """Unequal chunks, an empty one and one of a single row among them."""
    cuts = np.random.default_rng(seed).choice(np.arange(2, len(data)), most, replace=False)
    ends = [0, 1, *sorted(cuts.tolist()), int(max(cuts)), len(data)]
    return [data.iloc[a:b] for a, b in itertools.pairwise(ends)]


def worst(found: Any, wanted: Any, scale: Any = None) -> float:
    """Largest difference over the size of what is wanted (or over a scale)."""
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    assert found.shape == wanted.shape
    assert (np.isnan(found) == np.isnan(wanted)).all()
    if not found.size or np.isnan(found).all():
        return 0.0
    size = np.nanmax(np.abs(wanted)) if scale is None else scale
    return float(np.nanmax(np.abs(found - wanted) / (size + 1e-300)))


def assert_same(
    found: lmmfast.LMMFit, wanted: lmmfast.LMMFit, tolerance: float = SAME, flat: bool = False
) -> None:
    """Two fits of the same model and rows.

    With `flat` variances and modes in the user's columns are not compared.
    """
    assert worst(found.objective, wanted.objective) <= tolerance
    assert list(found.params.index) == list(wanted.params.index)
    assert worst(found.params, wanted.params, wanted.bse.to_numpy()) <= (
        1e-6 if flat else 100 * tolerance
    )
    ones = np.where(wanted.bse.isna(), np.nan, 1.0)
    assert worst(found.bse / wanted.bse, ones) <= (1e-6 if flat else 100 * tolerance)
    assert worst(found.sigma, wanted.sigma) <= (1e-7 if flat else tolerance)
    for one, other in zip(found.estimates.T, wanted.estimates.T, strict=True):
        assert flat or worst(one @ one.T, other @ other.T) <= 1e-6  # flat at singular optima
    modes = wanted.ranef()
    for group, frame in found.ranef().items():
        assert list(frame.columns) == list(modes[group].columns)
        assert list(frame.index) == list(modes[group].index)
        assert flat or worst(frame, modes[group], wanted.sigma) <= 1e-6
    assert (found.nobs, found.n_levels) == (wanted.nobs, wanted.n_levels)
    assert (found.design.n_rows, found.design.dropped) == (
        wanted.design.n_rows,
        wanted.design.dropped,
    )
