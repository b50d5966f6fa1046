"""Random generalized models: each fit is certified, or says why it cannot be; nothing crashes.

Every other start that is certified, too, has the same optimum. In some families the approximation
may have no maximum, or two (log-densities that are not concave, links whose means end at an edge):
these fits may end with a reason, or elsewhere from another start; the others must not.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
from random_designs import KINDS, Drawn, draw

from lmmfast import GLMM, FitError
from lmmfast.engine.endings import NOT_CERTIFIED
from lmmfast.errors import LmmWarning

# Of these, a share of the fits may end without a maximum, and few at another one.
HARD = {
    ("binomial", "cauchit"): 0.15,
    ("binomial", "log"): 0.5,
    ("poisson", "identity"): 0.3,
    ("negativebinomial", "identity"): 0.4,
    ("negativebinomial", "sqrt"): 0.1,
    ("gamma", "identity"): 0.3,
    ("inversegaussian", "log"): 0.2,
    ("inversegaussian", "identity"): 0.7,
    ("gaussian", "inverse"): 0.7,
}
SAMPLE = 2 * len(KINDS)
ALL = 2000
GONE = 15  # a dispersion of e^-15 is none: the likelihood is flat in it


def outcome(drawn: Drawn) -> str:
    """How the fit ended: "certified", "separated", "reason", or "elsewhere": certified, but
    there is another optimum; what is wrong is raised."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            model = GLMM.from_arrays(*drawn.arrays)
            fit = model.fit()
        except FitError as error:
            assert len(str(error)) > 60
            return "reason"
        found = fit.estimates
        values = [found.objective, *found.theta, *found.beta[found.fixed_kept], *found.extra]
        assert np.isfinite(values).all()
        assert np.isfinite(fit.fittedvalues.to_numpy()).all()
        assert all(np.isfinite(modes).all() for modes in found.b)
    assert all(issubclass(own.category, LmmWarning) for own in heard)
    said = " ".join(str(own.message) for own in heard)
    if not fit.converged:
        assert found.status in NOT_CERTIFIED and (found.status in said or "separated" in said)
        return "separated" if found.separation else "reason"
    assert 0 <= fit.certificate <= 1e-6
    if found.separation:
        return "separated"
    return "certified" if is_same_from_elsewhere(model, found) else "elsewhere"


def is_same_from_elsewhere(model: GLMM, found: Any) -> bool:
    """Whether another start, if it is certified, ends at the same optimum."""
    start = np.r_[found.theta * 0.3 + 0.05, found.psi[len(found.theta) :] * 0.9]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            other = model.fit(start=start)
        except FitError:
            return True
    flat = np.abs(np.r_[found.extra, other.estimates.extra]).max(initial=0) > GONE
    away = abs(other.objective - found.objective)
    return not other.converged or away < (1e-3 if flat else 1e-6)


def run(seeds: range) -> dict[tuple[str, str], Counter[str]]:
    ends = {kind: Counter[str]() for kind in KINDS}
    wrong = []
    for seed in seeds:
        drawn = draw(seed)
        try:
            ends[drawn.family, drawn.link][outcome(drawn)] += 1
        except AssertionError as error:
            wrong.append(f"{seed} {drawn.family} {drawn.link} {drawn.shape}: {error}")
    assert not wrong, "\n".join(wrong)
    return ends


def test_random_designs_are_certified_or_say_why() -> None:
    for kind, count in run(range(SAMPLE)).items():
        assert not count["reason"] + count["elsewhere"] or kind in HARD, (kind, count)


@pytest.mark.slow
def test_two_thousand_random_designs_are_certified_or_say_why() -> None:
    """As above; one in a hundred of the easy families may be a model without a maximum: variances
    that grow without end, where few rows a level are all of one kind."""
    ends = run(range(ALL))
    for kind, share in HARD.items():
        assert ends[kind]["reason"] <= share * ends[kind].total(), (kind, ends[kind])
        assert ends[kind]["elsewhere"] <= 0.05 * ends[kind].total(), (kind, ends[kind])
    easy = sum((count for kind, count in ends.items() if kind not in HARD), Counter())
    assert easy["reason"] <= 0.01 * easy.total() and not easy["elsewhere"], ends


def test_designs_are_of_all_kinds() -> None:
    """What the seeds promise, without fits."""
    drawn = [draw(seed) for seed in range(ALL)]
    binomial = [own for own in drawn if own.family == "binomial"]
    assert {(own.family, own.link) for own in drawn} == set(KINDS)
    assert {own.shape for own in drawn} == {"single", "nested", "crossed"}
    assert {len(own.terms) for own in drawn} == {1, 2, 3}
    assert 0.05 < np.mean([own.separated for own in binomial]) < 0.15
    assert any(own.weights is not None for own in drawn)
    assert any(own.offset is not None for own in drawn)
