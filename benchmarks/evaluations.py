"""Evaluations that fits take: every reference model, codings of one model, few levels.

    python benchmarks/evaluations.py

Counts do not depend on the machine. A coding is another basis of a term's columns and another
order of its levels: the same model, which should take the same steps.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from problems import PROBLEMS
from reference_data import reference_names
from structures import STRUCTURES
from test_reference import fit_reference

import lmmfast
from lmmfast import LMM

CODINGS = 4
FULL = ["single-3-full", "single-4-full", "single-8-full", "designed-3-4", "nested-three-crossed"]


def recoded(model: LMM, rng: np.random.Generator) -> LMM:
    """The model in another basis of every full term, with its levels in another order."""
    design = model.design
    terms = []
    for term in design.terms:
        z, k = term.z, term.z.shape[1]
        if term.structure == "full":
            basis = np.linalg.qr(rng.normal(size=(k, k)))[0]
            z = z @ (basis * 10.0 ** rng.uniform(-1, 1, k))
        terms.append((rng.permutation(len(term.levels))[term.codes], z, term.structure))
    return LMM.from_arrays(design.y, design.X, terms, design.weights, design.offset)


def counts(values: list[int]) -> str:
    n = np.array(values)
    return (
        f"median {np.median(n):.0f}, 90 % {np.percentile(n, 90):.0f}, most {n.max()}, sum {n.sum()}"
    )


def main() -> None:
    warnings.simplefilter("ignore", lmmfast.LmmWarning)
    fits = {name: fit_reference(name).fit for name in reference_names()}
    print(f"{len(fits)} references: {counts([fit.n_evals for fit in fits.values()])}")
    print(f"   largest certificate {max(fit.certificate for fit in fits.values()):.1e}")
    kb07 = PROBLEMS["kb07_max"]
    rng = np.random.default_rng(0)
    models = {"kb07_max": lmmfast.lmer(kb07.formula, kb07.load(), max_evals=1).model}
    models |= {name: LMM.from_arrays(*STRUCTURES[name][0].arrays) for name in FULL}
    for name, model in models.items():
        for reml in (False, True):
            one = model.fit(reml=reml)
            others = [recoded(model, rng).fit(reml=reml) for _ in range(CODINGS)]
            apart = max(abs(fit.objective - one.objective) for fit in others)
            print(
                f"{name:<22}{'REML' if reml else 'ML':<6}{one.n_evals:>3} evaluations, "
                f"in {CODINGS} codings {[fit.n_evals for fit in others]}, "
                f"objectives within {apart:.0e}"
            )


if __name__ == "__main__":
    main()
