"""The guide's examples run as they stand, and its tables are those of the code."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lmmfast

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs/guide"


def blocks(page: str) -> list[str]:
    text = (GUIDE / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_example_of_repeated_measures(capsys: pytest.CaptureFixture[str]) -> None:
    import pandas

    data = pandas.read_csv(ROOT / "tests" / "reference" / "mmrm" / "fev.csv.gz")
    example = blocks("repeated-measures")[0]
    exec(compile(example, "guide", "exec"), {**vars(lmmfast), "data": data})
    out = capsys.readouterr().out
    assert "Kenward-Roger" in out
    assert "Optimum certified" in out


def test_generalized_example(capsys: pytest.CaptureFixture[str]) -> None:
    example = blocks("generalized-models")[0]
    exec(compile(example, "guide", "exec"), {})
    out = capsys.readouterr().out
    assert "Family: binomial (logit)" in out
    assert "averaged over random effects" in out


def test_example_of_ordered_classes(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("generalized-models")[1], "guide", "exec"), {})
    out = capsys.readouterr().out
    assert "Probabilities of the classes: fast < middle < slow" in out
    assert "Averaged over random effects" in out


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The files and names that the examples of streams speak of."""
    pytest.importorskip("duckdb")
    pytest.importorskip("dask.dataframe")
    import dask.dataframe
    import duckdb
    import pandas
    import pyarrow.dataset

    from lmmfast import CrossProducts, Spec, lmer

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    n = 2400
    data = pandas.DataFrame({"subj": rng.integers(0, 30, n), "item": rng.integers(0, 20, n)})
    data["cond"] = np.array(["a", "b"])[rng.integers(0, 2, n)]
    data["w"] = rng.uniform(0.5, 2, n)
    effects = rng.normal(size=30)[data["subj"]] + rng.normal(size=20)[data["item"]]
    data["rt"] = 600 + 20 * effects + 30 * rng.normal(size=n)
    days = [data[i : i + 400] for i in range(0, n, 400)]
    data.to_parquet("trials.parquet")
    data.to_csv("trials.csv")
    (tmp_path / "trials").mkdir()
    for i, day in enumerate(days):
        day.to_parquet(f"trials/{i}.parquet")
    return {
        "formula": "rt ~ cond + (cond | subj) + (1 | item)",
        "january": data[:1000],
        "february": data[1000:],
        "days": days,
        "today": data[:300].assign(subj=99),
        "withdrawn": data[:100],
        "data": data,
        **{"lmer": lmer, "Spec": Spec, "CrossProducts": CrossProducts},
        **{"pyarrow": pyarrow, "duckdb": duckdb, "dask": dask, "pandas": pandas},
    }


def test_examples_of_streams(trials: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """They run as they stand, and every source gives the fit of the data in memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=lmmfast.IdentifiabilityWarning)
        wanted = lmmfast.lmer(trials["formula"], trials["data"])
        for example in blocks("large-data"):
            for step in ast.parse(example).body:
                line = ast.unparse(step)
                exec(compile(line, "guide", "exec"), trials)
                if line.startswith("fit") and "total" not in line:
                    assert trials["fit"].objective == pytest.approx(wanted.objective, rel=1e-10)
    assert trials["fit"].nobs == 2400 - 100
    assert len(capsys.readouterr().out.split()) >= 1
