"""What the tests need is there: without it many would be skipped, and nobody would notice."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest

NEEDED = [
    "dask.dataframe",
    "distributed",
    "duckdb",
    "hypothesis",
    "matplotlib",
    "polars",
    "pyarrow.parquet",
    "seaborn",
    "statsmodels",
    "xdist",
]


@pytest.mark.parametrize("name", NEEDED)
def test_packages_of_the_tests_are_installed(name: str) -> None:
    assert find_spec(name) is not None


def test_cholmod_is_there() -> None:
    """scikit-sparse is compiled against SuiteSparse: apt install libsuitesparse-dev."""
    import_module("sksparse.cholmod")
