"""Bias of estimates and coverage of intervals of generalized models by simulation.

    OPENBLAS_NUM_THREADS=1 python benchmarks/generalized_bias.py     # 100 responses each
    OPENBLAS_NUM_THREADS=1 python benchmarks/generalized_bias.py --setting one --simulations 2000
    OPENBLAS_NUM_THREADS=1 python benchmarks/generalized_bias.py --simulations 50 --profile

Responses of 0 and 1 are drawn from known parameters in two small designs, where approximations of
the likelihood matter: 30 subjects by 20 items, once each, and 60 subjects with six rows. Every way
to fit sees the same responses. Of each parameter: the mean estimate with its Monte-Carlo standard
error, the bias as a share of it, the root mean squared error, and how often the 95 % interval holds
the truth (Wald's, and with --profile the profile likelihood's). Fits with separated responses are
left out, for all ways, and counted.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmmfast import GLMM, GLMMFit
from lmmfast.data.design import build
from lmmfast.engine.families import find_family


@dataclass(frozen=True)
class Setting:
    """One design, its true parameters, and the ways to fit it."""

    title: str
    formula: str
    levels: Mapping[str, int]
    per: int  # rows of a cell
    sd: Mapping[str, float]  # of the intercepts, by factor
    beta: tuple[float, ...]  # intercept, x
    ways: Mapping[str, Mapping[str, Any]]  # options of a model

    @property
    def truth(self) -> dict[str, float]:
        """By the names of intervals."""
        sds = {f"sd(Intercept | {factor})": sd for factor, sd in self.sd.items()}
        return {"Intercept": self.beta[0], "x": self.beta[1], **sds}


LAPLACE = {"Laplace": {"nagq": 1}, "second order": {"accuracy": "second-order"}}
SETTINGS = {
    "crossed": Setting(
        "30 subjects x 20 items, one row a cell", "y ~ x + (1 | subj) + (1 | item)",
        {"subj": 30, "item": 20}, 1, {"subj": 1.5, "item": 1.0}, (0.5, 0.8), LAPLACE,
    ),
    "one": Setting(
        "60 subjects, six rows each", "y ~ x + (1 | subj)", {"subj": 60}, 6, {"subj": 1.5},
        (0.5, 0.8), LAPLACE | {f"quadrature, {k} nodes": {"nagq": k} for k in (5, 15)},
    ),
}  # fmt: skip


def frame(setting: Setting, rng: np.random.Generator) -> pd.DataFrame:
    """All cells, with a covariate of rows."""
    index = pd.MultiIndex.from_product(
        [*map(range, setting.levels.values()), range(setting.per)], names=[*setting.levels, "row"]
    )
    table = index.to_frame(index=False)
    return table.assign(x=rng.normal(size=len(table)))


def response(setting: Setting, data: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """A draw of random effects and rows."""
    eta = setting.beta[0] + setting.beta[1] * data["x"].to_numpy()
    for factor, sd in setting.sd.items():
        eta = eta + rng.normal(0, sd, setting.levels[factor])[data[factor].to_numpy()]
    return (rng.random(len(data)) < 1 / (1 + np.exp(-eta))).astype(float)


class Counts:
    """What one way said of every response."""

    def __init__(self, names: list[str]) -> None:
        self.estimates: dict[str, list[float]] = {name: [] for name in names}
        self.held: dict[str, dict[str, list[bool]]] = {}
        self.singular = 0
        self.seconds = 0.0

    def add(self, fit: GLMMFit, truth: dict[str, float], methods: list[str]) -> None:
        """One fit: its estimates, and which intervals hold the truth."""
        self.singular += fit.is_singular
        found = dict(zip(fit.params.index, fit.params, strict=True))
        found |= {
            f"sd(Intercept | {term.group})": float(abs(T[0, 0]))
            for term, T in zip(fit.design.terms, fit.estimates.T, strict=True)
        }
        for name in truth:
            self.estimates[name].append(float(found[name]))
        for method in methods:
            ends = fit.conf_int(method=method, parameters="all")
            held = self.held.setdefault(method, {name: [] for name in truth})
            for name, value in truth.items():
                low, high = ends.loc[name, ["lower", "upper"]]
                if not np.isnan([low, high]).any():  # Wald has none on the boundary
                    held[name].append(bool(low <= value <= high))


def simulate(
    setting: Setting, simulations: int, methods: list[str], seed: int
) -> tuple[dict[str, Counts], int]:
    """Every way on the same responses; and how many responses were left out."""
    rng = np.random.default_rng(seed)
    data = frame(setting, rng)
    counts = {way: Counts(list(setting.truth)) for way in setting.ways}
    left_out = 0
    family = find_family("binomial")
    for _ in range(simulations):
        data["y"] = response(setting, data, rng)
        design = build(setting.formula, data, kind=family.response)
        fits = {}
        for way, options in setting.ways.items():
            began = time.process_time()
            fits[way] = GLMM(design, family, **options).fit()
            counts[way].seconds += time.process_time() - began
        if any(fit.separation or not fit.converged for fit in fits.values()):
            left_out += 1
            continue
        for way, fit in fits.items():
            counts[way].add(fit, setting.truth, methods)
    return counts, left_out


def rows(way: str, counts: Counts, truth: dict[str, float], methods: list[str]) -> list[str]:
    """The lines of one way."""
    lines = []
    for name, value in truth.items():
        x = np.array(counts.estimates[name])
        error = x.std(ddof=1) / np.sqrt(len(x))
        bias, rmse = x.mean() - value, np.sqrt(np.mean((x - value) ** 2))
        held = [f"{100 * np.mean(counts.held[m][name]):.1f} %" for m in methods]
        cells = [f"{value:g}", f"{x.mean():.4f} ({error:.4f})", f"{100 * bias / value:+.1f} %"]
        label = name.replace("|", "\\|")
        lines.append(f"| {way} | {label} | {' | '.join([*cells, f'{rmse:.3f}', *held])} |")
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--setting", choices=[*SETTINGS, "all"], default="all")
    parser.add_argument("--profile", action="store_true", help="profile intervals too")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    methods = ["wald", "profile"] if asked.profile else ["wald"]
    error = 100 * np.sqrt(0.05 * 0.95 / asked.simulations)
    print(f"{asked.simulations} responses; Monte-Carlo standard error at 95 %: {error:.2f} %")
    for name in SETTINGS if asked.setting == "all" else [asked.setting]:
        setting = SETTINGS[name]
        counts, left_out = simulate(setting, asked.simulations, methods, asked.seed)
        print(f"\n{setting.title}: {setting.formula}; {left_out} responses left out\n")
        print(
            "| fit | parameter | truth | mean (s.e.) | bias | RMSE | " + " | ".join(methods) + " |"
        )
        print("|---" * (6 + len(methods)) + "|")
        for way, own in counts.items():
            print("\n".join(rows(way, own, setting.truth, methods)))
            each = 1e3 * own.seconds / asked.simulations
            print(
                f"| {way} | {own.singular} singular, {each:.1f} ms a fit"
                + " |" * (5 + len(methods))
            )


if __name__ == "__main__":
    main()
