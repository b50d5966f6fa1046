"""The core's generalized fits within the parameters of a covariance structure."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from lmmfast import glmer, lmer


def counts(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    groups, times = 25, 4
    g, t = np.repeat(np.arange(groups), times * 2), np.tile(np.arange(times), groups * 2)
    lag = np.abs(np.subtract.outer(np.arange(times), np.arange(times)))
    b = rng.normal(size=(groups, times)) @ np.linalg.cholesky(0.5 * 0.7**lag).T
    x = rng.normal(size=len(g))
    y = rng.poisson(np.exp(0.8 + 0.3 * x + b[g, t])).astype(float)
    names = pd.Categorical([f"t{i}" for i in t])
    return pd.DataFrame({"y": y, "x": x, "t": names, "g": pd.Categorical(g)})


@pytest.mark.parametrize("kind", ["ar1", "homcs", "cs", "homdiag", "toep"])
def test_minimum_is_that_of_the_criterion(kind):
    """No other minimizer finds a lower criterion over (phi, beta), from here or elsewhere."""
    data = counts(3)
    own = lmer(f"y ~ x + {kind}(0 + t | g)", data).model.structured
    core = glmer("y ~ x + (0 + t | g)", data, family="poisson").model._core
    psi, info = core.minimize(structured=own.everything())
    assert info["status"] == "converged" and info["certificate"] < 1e-6
    phi = info["z"]
    n = core.ntheta
    np.testing.assert_allclose(own.theta(phi), psi[:n], atol=1e-9)

    def criterion(v):
        return core.value(np.concatenate([own.theta(v[: own.nphi]), v[own.nphi :]]))

    end = np.concatenate([phi, psi[n:]])
    assert criterion(end) == pytest.approx(info["objective"], abs=1e-8)
    start = np.concatenate([own.typical(), psi[n:] + 0.2])
    for begin in (end, start):
        bounds = [(1e-6, None)] * own.own(0).nbound
        bounds += [(None, None)] * (len(begin) - len(bounds))
        other = minimize(criterion, begin, method="L-BFGS-B", bounds=bounds)
        assert other.fun > info["objective"] - 1e-6
    assert other.fun == pytest.approx(info["objective"], abs=1e-3)
