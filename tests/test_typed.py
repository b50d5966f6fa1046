"""The programs whose types mypy checks run, too; annotations resolve, and their words are ours."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typed_program
from conftest import each
from test_docstrings import NAMES

import lmmfast
from lmmfast import datasets
from lmmfast import typing as types
from lmmfast.clusters import components
from lmmfast.inference import classes, ddf
from lmmfast.inference.hypotheses import anova
from lmmfast.inference.means import adjust, grid
from lmmfast.inference.rows import generalized, predict, repeated
from lmmfast.inference.selection import compare
from lmmfast.planning import power
from lmmfast.reports import tidy
from lmmfast.resampling import bootstrap, intervals


def test_data_of_every_kind(tmp_path: Path) -> None:
    objectives = typed_program.data_of_every_kind(tmp_path)
    assert objectives == pytest.approx([objectives[0]] * len(objectives), rel=1e-9)


def test_fits_of_every_kind(tmp_path: Path) -> None:
    assert abs(typed_program.linear(tmp_path)) < 100
    assert typed_program.generalized().converged
    assert typed_program.repeated().converged


def test_methods_of_every_kind(tmp_path: Path) -> None:
    typed_methods = methods()
    fit = typed_program.fitted(datasets.load("sleepstudy"))
    typed_methods.tests_and_intervals(fit)
    typed_methods.rows(fit)
    typed_methods.again(fit, tmp_path)
    typed_methods.pictures(fit)
    typed_methods.means(datasets.load("cake"))
    typed_methods.models()
    typed_methods.generalized(typed_program.generalized())
    typed_methods.repeated(typed_program.repeated())
    typed_methods.statsmodels(datasets.load("sleepstudy"))
    assert float(typed_methods.planning().to_frame()["power"].min()) >= 0


def methods() -> Any:
    """`typed_methods`, which has pictures and frames of polars."""
    for needed in ("matplotlib", "polars"):
        pytest.importorskip(needed)
    import typed_methods

    return typed_methods


# ---- annotations --------------------------------------------------------------------------------


def annotated(name: str) -> Iterator[Any]:
    """What has annotations of a public name: functions of properties, methods and classes."""
    found: Any = lmmfast
    for part in name.split(".")[1:]:
        found = inspect.getattr_static(found, part)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    elif not callable(found):
        found = getattr(found, "func", found)
    yield found
    if inspect.isclass(found) and inspect.isfunction(vars(found).get("__init__")):
        own = vars(found)["__init__"]
        if own.__code__.co_filename != "<string>":  # else dataclasses made it, of the fields
            yield own


def resolves(name: str) -> None:
    for own in annotated(name):
        if not inspect.ismodule(own):
            typing.get_type_hints(own)


def test_annotations_resolve() -> None:
    """typing.get_type_hints, on which validators, editors and Sphinx rely."""
    each(NAMES, resolves)


def public(function: Any) -> bool:
    return not inspect.isclass(function) and not inspect.ismodule(function)


def test_nothing_that_users_write_is_any() -> None:
    each(NAMES, has_types)


def has_types(name: str) -> None:
    for function in filter(public, annotated(name)):
        own = inspect.unwrap(function)
        found = dict(own.__annotations__)
        missing = [one for one in inspect.signature(own).parameters if one not in found]
        assert set(missing) <= {"self", "cls"}, missing
        assert "return" in found
        assert not [one for one, kind in found.items() if kind == "Any" or "[Any" in str(kind)]


def test_importing_is_not_slower_by_types() -> None:
    """Annotations alone import neither pandas nor narwhals nor polars."""
    code = "import sys, lmmfast, lmmfast.typing; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    loaded = set(run.stdout.split())
    assert "lmmfast.typing" in loaded, run.stderr
    assert not loaded & {"pandas", "narwhals", "polars", "matplotlib", "pyarrow"}


# ---- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("literal", "words"),
    [
        (types.Ddf, ddf.METHODS),
        (types.LinearDdf, ddf.METHODS.keys() - {*ddf.REPEATED}),
        (types.NewLevels, predict.NEW_LEVELS),
        (types.CellWeights, grid.WEIGHTS),
        (types.Adjustment, adjust.ADJUSTMENTS),
        (types.MeansType, ("link", "response", *classes.KINDS)),
        (types.PredictedType, ("link", "response", "class", *classes.KINDS)),
        (types.TidyEffects, tidy.EFFECTS),
        (types.BootstrapLimits, intervals.KINDS),
        (power.Test, power.METHODS),
    ],
)
def test_types_have_the_words_that_are_checked(literal: Any, words: Collection[str]) -> None:
    assert {*get_args(literal)} == {*words}


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        (lmmfast.GLMMFit.residuals, "type", generalized.RESIDUALS),
        (lmmfast.MMRMFit.residuals, "type", repeated.KINDS),
        (lmmfast.LMMFit.bootstrap, "kind", bootstrap.KINDS),
        (lmmfast.LMMFit.tidy, "scales", tidy.SCALES),
        (lmmfast.anova, "type", anova.TYPES),
        (lmmfast.compare, "criterion", compare.CRITERIA),
        (lmmfast.cluster_test, "kind", components.KINDS),
        (lmmfast.cluster_test, "tail", components.TAILS),
    ],
)
def test_arguments_have_the_words_that_are_checked(
    function: Any, argument: str, words: Collection[object]
) -> None:
    assert {*get_args(typing.get_type_hints(function)[argument])} == {*words}
