"""Size of tests and coverage of intervals by simulation, on small unbalanced crossed designs.

    OPENBLAS_NUM_THREADS=1 python benchmarks/coverage.py --simulations 4000
    OPENBLAS_NUM_THREADS=1 python benchmarks/coverage.py --simulations 500 --profile

Responses are drawn from known parameters and refitted by REML. For every method: how often a true
hypothesis is rejected at 5 %, for single coefficients (t), for two together (F), and how often the
95 % interval of a coefficient holds the truth. With --profile also the profile intervals of the
fixed effects and standard deviations (ML deviance). The Monte-Carlo standard error is stated.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmmfast import LMM, LMMFit
from lmmfast.data.design import build

METHODS = ("z", "satterthwaite", "kenward-roger")


@dataclass(frozen=True)
class Setting:
    """One design and its true parameters."""

    name: str
    formula: str
    subjects: int
    items: int
    missing: float  # share of cells that are lost
    sd: dict[str, tuple[float, ...]]  # of the random effects, by factor
    sigma: float = 1.0


SETTINGS = (
    Setting("6 subjects x 5 items, intercepts", "y ~ c + g + (1 | subj) + (1 | item)", 6, 5, 0.3,
            {"subj": (1.0,), "item": (0.7,)}),
    Setting("8 subjects x 6 items, slopes", "y ~ c + g + (1 + c | subj) + (1 | item)", 8, 6, 0.3,
            {"subj": (1.0, 0.6), "item": (0.7,)}),
    Setting("12 subjects x 8 items, small variances", "y ~ c + g + (1 | subj) + (1 | item)", 12, 8,
            0.4, {"subj": (0.2,), "item": (0.1,)}),
    Setting("5 subjects x 20 items, slopes", "y ~ c + g + (1 + c | subj) + (1 + c | item)", 5, 20,
            0.2, {"subj": (0.8, 0.5), "item": (0.5, 0.4)}),
)  # fmt: skip


def frame(setting: Setting, rng: np.random.Generator) -> pd.DataFrame:
    """Rows: c varies within subjects and items, g between subjects; cells are lost at random."""
    cells = [(s, i) for s in range(setting.subjects) for i in range(setting.items)]
    kept = rng.permutation(len(cells))[: int(len(cells) * (1 - setting.missing))]
    table = pd.DataFrame([cells[k] for k in sorted(kept)], columns=["subj", "item"])
    table["c"] = np.where((table.subj + table.item) % 2 == 0, -0.5, 0.5)
    table["g"] = np.where(table.subj % 2 == 0, -0.5, 0.5)
    return table


def response(setting: Setting, data: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """A draw with all fixed effects zero."""
    y = rng.normal(0, setting.sigma, len(data))
    for factor, sds in setting.sd.items():
        codes = data[factor].to_numpy()
        for sd, column in zip(sds, (np.ones(len(data)), data.c.to_numpy()), strict=False):
            y += rng.normal(0, sd, codes.max() + 1)[codes] * column
    return y


@dataclass
class Counts:
    """What was counted over the simulations of a setting."""

    rejected: dict[tuple[str, str], int]
    covered: dict[str, int]
    singular: int = 0
    done: int = 0


def simulate(setting: Setting, simulations: int, profile: bool, seed: int) -> Counts:
    """All simulations of one setting."""
    rng = np.random.default_rng(seed)
    data = frame(setting, rng)
    counts = Counts({}, {})
    for _ in range(simulations):
        data["y"] = response(setting, data, rng)
        fit = LMM(build(setting.formula, data)).fit()
        counts.singular += fit.is_singular
        counts.done += 1
        tests(fit, counts)
        if profile:
            profiles(setting, fit, counts)
    return counts


def tests(fit: LMMFit, counts: Counts) -> None:
    """Rejections at 5 %."""
    L = np.eye(3)[1:]
    for method in METHODS:
        single = fit.coef_test(ddf=method).pvalue[1:]
        joint = fit.f_test(L, ddf=method).pvalue
        for name, p in (("t: c", single[0]), ("t: g", single[1]), ("F: c, g", joint)):
            key = (name, method)
            counts.rejected[key] = counts.rejected.get(key, 0) + int(p < 0.05)


def profiles(setting: Setting, fit: LMMFit, counts: Counts) -> None:
    """Profile intervals that hold the truth."""
    intervals = fit.conf_int(method="profile", parameters="all")
    truth = {"c": 0.0, "g": 0.0, "sigma": setting.sigma}
    for factor, sds in setting.sd.items():
        for name, sd in zip(("Intercept", "c"), sds, strict=False):
            truth[f"sd({name} | {factor})"] = sd
    for name, value in truth.items():
        low, high = intervals.loc[name, ["lower", "upper"]]
        counts.covered[name] = counts.covered.get(name, 0) + int(low <= value <= high)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    error = 100 * np.sqrt(0.05 * 0.95 / asked.simulations)
    print(f"{asked.simulations} simulations; Monte-Carlo standard error at 5 %: {error:.2f} %\n")
    print("| design | test | " + " | ".join(METHODS) + " |\n|---|---|" + "---|" * len(METHODS))
    warnings.simplefilter("ignore")
    for setting in SETTINGS:
        counts = simulate(setting, asked.simulations, asked.profile, asked.seed)
        share = 100 / counts.done
        for test in dict.fromkeys(name for name, _ in counts.rejected):
            cells = [f"{share * counts.rejected[test, m]:.1f} %" for m in METHODS]
            label = f"{setting.name} ({share * counts.singular:.0f} % singular)"
            print(f"| {label} | {test} | {' | '.join(cells)} |")
        for name, covered in counts.covered.items():
            print(f"| {setting.name} | profile interval of {name}: {share * covered:.1f} % | | | |")


if __name__ == "__main__":
    main()
