"""Power by simulation: whole calls beside drawing and fitting alone, and beside other packages.

    OPENBLAS_NUM_THREADS=1 python benchmarks/power.py [--peers]

CPU seconds of `power` with 1,000 simulated studies, set-up included, the least of five calls; its
limit, the same responses drawn and the compiled fits of them with nothing around; and with
`--peers` mixedlm's `powerSim` of a fit (z tests) and a loop of statsmodels' `mixedlm`, 100 studies
of each, times ten.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lmmfast import LMM, Parameters, design, lmer, power
from lmmfast.many.simulate import Simulator
from lmmfast.many.streams import Streams

STUDIES = 1000
PEERS = 100


def problems() -> dict[str, tuple[str, pd.DataFrame, Parameters, str]]:
    """Formula, rows, assumed parameters, and what is tested."""
    rng = np.random.default_rng(0)
    covariate = design(20, within={"k": range(5)}).assign(x=rng.normal(size=100))
    two = {"cond": ["a", "b"]}
    large = design(40, 32, within=two, between={"group": ["old", "young"]})
    effects = {"cond[T.b]": 0.2, "group[T.young]": 0.3, "cond[T.b]:group[T.young]": 0.3}
    slopes = {"subj": [1, 0.3], "item": [0.6, 0.2]}
    return {
        "20 subjects x 5 rows, `(1 \\| subj)`": (
            "y ~ x + (1 | subj)",
            covariate,
            Parameters(beta={"Intercept": 0, "x": 0.3}, sd={"subj": 0.5}, sigma=1),
            "x",
        ),
        "24 x 16 Latin square, `(1 \\| subj) + (1 \\| item)`": (
            "y ~ cond + (1 | subj) + (1 | item)",
            design(24, 16, within=two),
            Parameters(
                beta={"Intercept": 0, "cond[T.b]": 0.3}, sd={"subj": 1, "item": 0.6}, sigma=1
            ),
            "cond[T.b]",
        ),
        "40 x 32, `cond * group`, slopes of both": (
            "y ~ cond * group + (cond | subj) + (cond | item)",
            large,
            Parameters(beta={"Intercept": 0, **effects}, sd=slopes, sigma=1),
            "cond[T.b]:group[T.young]",
        ),
    }


def least(call: Callable[[], object], rounds: int) -> float:
    """CPU seconds of a call."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def limit(formula: str, data: pd.DataFrame, params: Parameters, test: str) -> Callable[[], object]:
    """Responses drawn, and compiled fits of them with Satterthwaite's degrees of freedom."""
    model = lmer(formula, data.assign(y=np.sin(np.arange(len(data))))).model
    assumed = params.of(model.design, model.theta_entries)
    simulator, streams = Simulator.of_design(model.design, assumed), Streams(1)
    L = np.array([[float(name == test) for name in model.design.x_names]])

    def alone() -> object:
        Y = simulator.draw(streams, 0, STUDIES)
        return LMM.many(model, Y, L, reml=True, max_evals=500, df=True)

    return alone


def mixedlm_power(formula: str, data: pd.DataFrame, y: np.ndarray, test: str) -> float:
    """CPU seconds of mixedlm's powerSim, 1,000 studies."""
    import mixedlm

    fit = mixedlm.lmer(formula, data.assign(y=y))
    name = next(one for one in fit.matrices.fixed_names if one != "(Intercept)")
    if ":" in test:
        name = next(one for one in fit.matrices.fixed_names if ":" in one)
    began = time.process_time()
    mixedlm.powerSim(fit, name, nsim=PEERS, seed=1)
    return (time.process_time() - began) * STUDIES / PEERS


def statsmodels_loop(data: pd.DataFrame, Y: np.ndarray, test: str) -> float:
    """CPU seconds of a loop over statsmodels' fits with one grouping factor, 1,000 studies."""
    from statsmodels.formula.api import mixedlm

    began = time.process_time()
    for y in Y.T[:PEERS]:
        _ = mixedlm(f"y ~ {test}", data.assign(y=y), groups="subj").fit().pvalues[test]
    return (time.process_time() - began) * STUDIES / PEERS


def line(name: str, problem: Any, peers: bool) -> str:
    """A line of the table."""
    formula, data, params, test = problem

    def whole() -> object:
        return power(formula, data, params=params, test=test, n=STUDIES, seed=1)

    found = whole()
    alone = limit(*problem)
    alone()
    rounds = 5 if len(data) < 1000 else 2
    cells = [f"{float(found):.3f}", f"{least(whole, rounds):.3f}", f"{least(alone, rounds):.3f}"]
    if peers:
        model = LMM(found.simulation.study.design)
        simulator = Simulator.of_design(model.design, params.of(model.design, model.theta_entries))
        Y = simulator.draw(Streams(1), 0, PEERS)
        cells.append(f"{mixedlm_power(formula, data, Y[:, 0], test):.1f}")
        cells.append(f"{statsmodels_loop(data, Y, test):.1f}" if "item" not in data else "")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", action="store_true")
    peers = parser.parse_args().peers
    warnings.simplefilter("ignore")
    heads = ["problem", "power", "`power`, s", "limit, s"]
    heads += ["mixedlm's powerSim, s", "statsmodels in a loop, s"] if peers else []
    print(f"| {' | '.join(heads)} |")
    print("|" + "---|" * len(heads))
    for name, problem in problems().items():
        print(line(name, problem, peers), flush=True)


if __name__ == "__main__":
    main()
