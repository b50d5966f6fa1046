"""A user's program, which mypy checks with --strict (pyproject.toml) and `test_typed` runs.

Lines that end in `type: ignore` are mistakes that a type checker must find: where it does not,
the comment is unused, which is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

import lmmfast
from lmmfast import GLMMFit, LMMFit, MMRMFit, datasets, emmeans, glmer, lmer, mmrm, plan
from lmmfast.typing import Data

FORMULA = "Reaction ~ Days + (Days | Subject)"


def fitted(data: Data, weights: np.ndarray | None = None) -> LMMFit:
    """A function of a user's own that hands data on."""
    return lmer(FORMULA, data, weights=weights, storage="auto", threads=1)


def data_of_every_kind(folder: Path) -> list[float]:
    """Tables, columns, files and chunks."""
    data = datasets.load("sleepstudy")
    path = folder / "sleepstudy.csv"
    data.to_csv(path, index=False)

    def chunks() -> Iterator[pd.DataFrame]:
        yield data[:90]
        yield data[90:]

    columns = {name: data[name].to_numpy() for name in data.columns}
    fits = [fitted(data), fitted(columns), fitted(path), fitted(str(path)), fitted([path])]
    fits += [fitted([data[:90], data[90:]]), fitted(chunks), fitted(data, np.ones(len(data)))]
    return [fit.objective for fit in fits]


def linear(folder: Path) -> float:
    """A fit, what it says, and what is saved of it."""
    data = datasets.load("sleepstudy")
    cake = datasets.load("cake")
    fit = lmer(
        FORMULA, data, fixed={"theta": {"Subject.Days.Intercept": 0.0}}, start=[1.0, 0.0, 0.2]
    )
    coded = lmer("angle ~ recipe + (1 | replicate)", cake, contrasts={"recipe": "sum"})
    means = emmeans(coded, "recipe", at=None).contrast("pairwise")
    frame = means.to_frame()
    fit.save(folder / "fit.lmm")
    again = lmmfast.load(folder / "fit.lmm")
    with ThreadPoolExecutor(2) as pool:
        many = lmmfast.fit_many(
            FORMULA, data, np.ones((len(data), 1)) * data[["Reaction"]].to_numpy(), client=pool
        )
    report = plan(FORMULA, data, storage="dense")
    assert len(frame) and len(many.to_frame()) and str(report)
    predicted = fit.predict({"Days": np.array([1.0]), "Subject": np.array(["308"])})
    return float(np.asarray(predicted)[0]) - float(np.asarray(again.predict(data[1:2]))[0])


def generalized() -> GLMMFit:
    """Names of families, links and priors."""
    data = datasets.load("sleepstudy")
    data["slow"] = (data["Reaction"] > 300).astype(float)
    prior = {"Days": (0.0, 2.5)}
    return glmer("slow ~ Days + (1 | Subject)", data, "binomial", "logit", prior=prior, nagq=1)


def repeated() -> MMRMFit:
    """Visits of subjects."""
    data = datasets.load("sleepstudy")
    few = data[data["Days"] < 3].assign(visit=lambda own: own["Days"].astype(str))
    return mmrm("Reaction ~ visit + us(visit | Subject)", few)


def mistakes(data: pd.DataFrame) -> None:
    """Never called."""
    lmer(FORMULA, 3)  # type: ignore[arg-type]
    lmer(FORMULA, data, storage="sparce")  # type: ignore[arg-type]
    lmer(FORMULA, data, weigths="w")  # type: ignore[call-arg]
    lmer(FORMULA, data, fixed={"sigma": "1"})  # type: ignore[dict-item]
    lmer(FORMULA, data, reml="ML")  # type: ignore[arg-type]
    glmer("slow ~ Days + (1 | Subject)", data, family=3)  # type: ignore[arg-type]
    glmer("slow ~ Days + (1 | Subject)", data, information="none")  # type: ignore[arg-type]
    glmer("slow ~ Days + (1 | Subject)", data, prior="wide")  # type: ignore[arg-type]
    fit: GLMMFit = lmer(FORMULA, data)  # type: ignore[assignment]
    fit.save(3)  # type: ignore[arg-type]
