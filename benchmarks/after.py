"""What is asked after the fit, beside the time of the fit itself: one thread, one process each.

    OPENBLAS_NUM_THREADS=1 python benchmarks/after.py              # everything
    OPENBLAS_NUM_THREADS=1 python benchmarks/after.py models       # one section

Every line is CPU time of a call over CPU time of the fit it is asked of (best of `--best`).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd

import lmmfast
from lmmfast import LmmWarning, lmer

Problem = tuple[str, str, Callable[[], object], dict[str, Callable[[], object]]]


def least(call: Callable[[], object], best: int) -> float:
    """CPU seconds of a call, the least of several."""
    times = []
    for _ in range(best):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


# ---- models and their changes --------------------------------------------------------------------


def trials(rows: int, levels: int, seed: int = 3) -> pd.DataFrame:
    """Rows of so many people and 50 items; a factor, and numbers of which one matters."""
    rng = np.random.default_rng(seed)
    g, item = rng.integers(0, levels, rows), rng.integers(0, 50, rows)
    frame = pd.DataFrame({"g": g, "item": item, "f": rng.integers(0, 3, rows).astype(str)})
    frame["x"], frame["k"] = rng.normal(size=rows), rng.normal(size=rows)
    effects = rng.normal(size=(levels, 2)) * [1.0, 0.3], rng.normal(size=50)
    slope = (1 + effects[0][g, 1]) * frame["x"]
    frame["y"] = slope + effects[0][g, 0] + effects[1][item] + rng.normal(size=rows)
    return frame


FORMULA = "y ~ x * f + k + (x | g) + (1 | item)"


def models() -> Iterator[Problem]:
    """Changed models, elimination, comparisons."""
    for rows, levels in ((20_000, 500), (1_000_000, 100_000)):
        data = trials(rows, levels)
        yield _models(f"{rows:,} rows, {levels:,} levels", data, data, levels < 1000)
    parts = [data[at : at + 100_000] for at in range(0, rows, 100_000)]
    yield _models(f"the same in {len(parts)} chunks", parts, None, False)


def _models(where: str, data: object, frame: pd.DataFrame | None, kenward: bool) -> Problem:
    fit = lmer(FORMULA, data)
    small = fit.update(". ~ . - k")
    asked: dict[str, Callable[[], object]] = {
        "update(- k)": partial(fit.update, ". ~ . - k"),
        "update(- x slopes)": partial(fit.update, ". ~ . - (x | g) + (1 | g)"),
        "compare(small, fit)": partial(lmmfast.compare, small, fit),
        "drop1(scope)": partial(lmmfast.drop1, fit, scope="k"),
        "drop1(Chisq)": partial(lmmfast.drop1, fit, "Chisq"),
        "ranova()": partial(lmmfast.ranova, fit),
        "step()": partial(lmmfast.step, fit),
    }
    if frame is not None:
        shuffled = lmer("y ~ x * f + (x | g) + (1 | item)", frame.iloc[::-1])
        asked["anova(other order)"] = partial(lmmfast.anova, shuffled, fit)
    if kenward:
        asked["Kenward-Roger"] = lambda: _again(fit).coef_test(ddf="kenward-roger")
        asked["the same, observed"] = lambda: _again(fit).coef_test(ddf="kenward-roger-observed")
    return "models", where, partial(lmer, FORMULA, data), asked


def _again(fit: lmmfast.LMMFit) -> lmmfast.LMMFit:
    """The fit without what inference has computed."""
    return lmmfast.LMMFit(fit.estimates, fit.design, fit.model)


# ---- marginal means -----------------------------------------------------------------------------


def means() -> Iterator[Problem]:
    """Means of many levels, and all pairs of them."""
    rng = np.random.default_rng(7)
    for levels, rows in ((12, 2_000), (80, 20_000), (1_000, 200_000)):
        data = pd.DataFrame({"s": rng.integers(0, 400, rows)})
        data["t"] = [f"t{k}" for k in rng.integers(0, levels, rows)]
        data["y"] = rng.normal(size=400)[data["s"]] + rng.normal(size=rows)
        fit = lmer("y ~ t + (1 | s)", data)
        asked: dict[str, Callable[[], object]] = {
            "emmeans()": lambda fit=fit: lmmfast.emmeans(_again(fit), "t").table,
            "joint_tests()": lambda fit=fit: lmmfast.joint_tests(_again(fit)),
        }
        if levels < 1000:
            pairs = lmmfast.emmeans(fit, "t").contrast("pairwise")
            asked["p-values of all pairs"] = lambda fit=fit: lmmfast.emmeans(fit, "t").pairs().table
            asked["their intervals"] = pairs.conf_int
            asked["letters"] = lmmfast.emmeans(fit, "t").cld
        yield "means", f"{levels:,} means", partial(lmer, "y ~ t + (1 | s)", data), asked


# ---- predictions and modes ----------------------------------------------------------------------


def predictions() -> Iterator[Problem]:
    """Parts of random effects, and modes in other forms."""
    for rows, levels in ((20_000, 500), (1_000_000, 100_000)):
        data = trials(rows, levels)
        fit = lmer(FORMULA, data)
        asked: dict[str, Callable[[], object]] = {
            "predict(new)": partial(fit.predict, data),
            "part of a term": partial(fit.predict, data, re_form="~(1 | g)"),
            "coef()": fit.coef,
            "ranef_cov()": lambda fit=fit: _again(fit).ranef_cov(),
            "partial_fitted()": partial(fit.partial_fitted, "f", residuals=True),
            "shrinkage()": lambda fit=fit: _again(fit).shrinkage(),
        }
        yield "predictions", f"{rows:,} rows", partial(lmer, FORMULA, data), asked


# ---- many responses -----------------------------------------------------------------------------


def many() -> Iterator[Problem]:
    """Responses of one design; of the fit so many are the limit."""
    rng = np.random.default_rng(1)
    days = lmmfast.datasets.load("sleepstudy")
    people, items = np.repeat(np.arange(56), 32), np.tile(np.arange(32), 56)
    crossed = pd.DataFrame({"s": people, "i": items, "x": rng.choice([-0.5, 0.5], 1792)})
    genes = pd.DataFrame({"s": rng.integers(0, 30, 300), "i": rng.integers(0, 10, 300)})
    genes["x"] = rng.normal(size=300)
    designs = (
        ("Days + (Days | Subject)", days.rename(columns={"Reaction": "y"}), 10_000),
        ("x + (1 + x | s) + (1 + x | i)", crossed, 1_000),
        ("x + (1 | s) + (1 | i)", genes, 2_000),
    )
    for right, frame, count in designs:
        noise = rng.normal(size=(len(frame), count))
        if "y" in frame:
            noise = frame["y"].to_numpy()[:, None] + 30 * noise
        else:
            noise += (
                rng.normal(size=(60, count))[frame["s"]] + rng.normal(size=(40, count))[frame["i"]]
            )
        data = frame.assign(y=noise[:, 0])
        asked = {
            f"{count:,} with p-values": partial(lmmfast.fit_many, f"~ {right}", frame, noise),
            f"{count:,} without": partial(lmmfast.fit_many, f"~ {right}", frame, noise, ddf="z"),
        }
        yield "many", right, partial(lmer, f"y ~ {right}", data), asked


SECTIONS: dict[str, Callable[[], Iterator[Problem]]] = {
    "models": models,
    "means": means,
    "predictions": predictions,
    "many": many,
}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("sections", nargs="*", default=list(SECTIONS))
    reader.add_argument("--best", type=int, default=1)
    asked = reader.parse_args()
    warnings.simplefilter("ignore", LmmWarning)
    for name in asked.sections:
        for section, where, fit, calls in SECTIONS[name]():
            took = least(fit, asked.best)
            print(f"{section}, {where}: fit {took:.3f} s", flush=True)
            for what, call in calls.items():
                own = least(call, asked.best)
                print(f"  {what:24} {own:9.3f} s  {own / took:7.2f} of the fit", flush=True)


if __name__ == "__main__":
    main()
