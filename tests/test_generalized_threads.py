"""Threads share the passes of generalized models: every digit is that of one thread."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import lmmfast

N = 20_000  # rows, more than passes keep to themselves


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    f, h, x = rng.integers(0, 300, N), rng.integers(0, 40, N), rng.normal(size=N)
    eta = 0.4 + 0.2 * x + rng.normal(0, 0.5, 300)[f] + rng.normal(0, 0.4, 40)[h] * (1 + x)
    w = rng.integers(1, 4, N).astype(float)
    y = rng.poisson(np.exp(eta))
    hit = rng.binomial(w.astype(int), 1 / (1 + np.exp(-eta))) / w
    return pd.DataFrame(
        {"f": f, "h": h, "x": x, "y": y, "hit": hit, "w": w, "o": rng.normal(size=N) / 9}
    )


@pytest.mark.parametrize(
    ("formula", "family", "how"),
    [
        ("y ~ x + offset(o) + (1 | f) + (1 + x | h)", "negativebinomial", {}),
        ("hit ~ x + (1 + x | f) + (1 | h)", "binomial", {"weights": "w"}),
    ],
)
def test_results_do_not_depend_on_threads(
    frame: pd.DataFrame, formula: str, family: str, how: dict[str, object]
) -> None:
    one, three = (lmmfast.glmer(formula, frame, family, threads=k, **how) for k in (1, 3))
    assert one.estimates.passes == three.estimates.passes
    assert one.objective == three.objective
    np.testing.assert_array_equal(one.estimates.psi, three.estimates.psi)
    np.testing.assert_array_equal(one.estimates.covariance, three.estimates.covariance)
    np.testing.assert_array_equal(one.fittedvalues, three.fittedvalues)
