"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import warnings

import pytest

import lmmfast

MODULES = [
    found.name
    for found in pkgutil.walk_packages(lmmfast.__path__, "lmmfast.")
    if not found.name.endswith(("__main__", ".marginal"))
]
OPTIONAL = ("lmmfast.maketables", "lmmfast.sklearn")  # named as the packages that they need


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name in OPTIONAL:
        pytest.importorskip(name.removeprefix("lmmfast."))
    module = importlib.import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
