"""Structured models against glmmTMB's results."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import reference_data

from lmmfast import LMMFit, lmer
from lmmfast.errors import SpacingWarning

FOLDER = Path(__file__).parent / "reference" / "structures"
CASES = {case["id"]: case for case in json.loads((FOLDER / "glmmTMB.json").read_text())}


def frame(name: str) -> pd.DataFrame:
    if name == "ar2000":
        data = pd.read_csv(FOLDER / "ar2000.csv.gz")
        return data.astype({"times": "category", "group": "category"})
    if name == "Ovary":
        data = pd.read_csv(FOLDER / "Ovary.csv.gz", dtype={"Mare": "category"})
        return data.assign(fk=pd.Categorical(data.groupby("Mare", observed=True).cumcount() + 1))
    data = reference_data.data(name)
    for times in {"Days", "Time"} & set(data):
        data[f"f{times}"] = pd.Categorical(data[times].astype(int))
    return data


def fitted(case: dict[str, Any]) -> LMMFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpacingWarning)  # BodyWeight: days 43, 44, 50
        return lmer(case["formula"], frame(case["data"]), reml=case["REML"])


@pytest.mark.parametrize("name", CASES)
def test_reference(name: str) -> None:
    case = CASES[name]
    fit = fitted(case)
    assert fit.converged
    assert fit.objective == pytest.approx(case["dense"], abs=1e-6)
    assert fit.objective <= case["criterion"] + 1e-6
    beta, se = (np.array(list(case[what].values())) for what in ("beta", "se"))
    assert (np.abs(fit.params - beta) < 1e-3 * se).all()
    assert fit.sigma == pytest.approx(case["sigma"], rel=1e-3)
    for term, wanted in zip(fit.design.terms, case["varcorr"].values(), strict=True):
        cov = fit.covariance(term.label).to_numpy()
        sd = np.sqrt(cov.diagonal())
        assert sd == pytest.approx(np.array(wanted["sd"]), rel=1e-3, abs=1e-2)
        if len(sd) > 1:
            corr = np.array(wanted["corr"])
            assert (cov / np.outer(sd, sd))[: len(corr)] == pytest.approx(corr, abs=1e-3)


def test_evaluations() -> None:
    """A dozen evaluations do, two starts included where a structure may have several optima."""
    counts = [fitted(case).n_evals for case in CASES.values() if case["data"] != "ar2000"]
    assert np.median(counts) <= 12
    assert max(counts) <= 40
