"""MixedLM's likelihood, score and Hessian at given parameters, against their definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close
from scipy import stats
from test_mixedlm import simulated

from lmmfast import DataError, MixedLMParams, lmer, mixedlm

K_FE, K_RE, K_VC = 2, 2, 1  # y ~ x with (x | g) and an intercept for each class of a group
LOWER = [(0, 0), (1, 0), (1, 1)]

both = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return simulated(13, 9, 6)


def model_of(frame: pd.DataFrame, **options: Any) -> Any:
    parts = {"re_formula": "~x", "vc_formula": {"class": "0 + C(c)"}}
    return mixedlm("y ~ x", frame, groups="g", **parts, **options)


@dataclass(frozen=True)
class Definition:
    """The log likelihood from V, residual variance profiled out; analytic in its parameters."""

    y: np.ndarray
    X: np.ndarray
    group: np.ndarray  # (n, n): rows of one group
    cell: np.ndarray  # (n, n): of one class of a group
    reml: bool

    @classmethod
    def of(cls, frame: pd.DataFrame, reml: bool) -> Definition:
        g, c = frame.g.to_numpy(), frame.c.to_numpy()
        group = g[:, None] == g
        X = np.column_stack([np.ones(len(frame)), frame.x])
        return cls(frame.y.to_numpy(), X, group, group & (c[:, None] == c), reml)

    def __call__(self, beta: np.ndarray | None, cov: np.ndarray, vcomp: np.ndarray) -> Any:
        """At these fixed effects, or (None) at the best ones."""
        V = np.eye(len(self.y)) + self.group * (self.X @ cov @ self.X.T) + self.cell * vcomp[0]
        VX = np.linalg.solve(V, self.X)
        C = self.X.T @ VX
        beta = np.linalg.solve(C, VX.T @ self.y) if beta is None else beta
        r = self.y - self.X @ beta
        nu = len(self.y) - (K_FE if self.reml else 0)
        f = _logdet(V) + nu * (1 + np.log(2 * np.pi * (r @ np.linalg.solve(V, r)) / nu))
        return -(f + (_logdet(C) if self.reml else 0)) / 2

    def packed(self, given: np.ndarray, use_sqrt: bool, profile_fe: bool = False) -> Any:
        """The same of parameters in one array."""
        beta, rest = (None, given) if profile_fe else (given[:K_FE], given[K_FE:])
        T = np.zeros((K_RE, K_RE), given.dtype)
        T[tuple(np.transpose(LOWER))] = rest[:3]
        if use_sqrt:
            return self(beta, T @ T.T, rest[3:] ** 2)
        return self(beta, T + np.tril(T, -1).T, rest[3:])


def _logdet(A: np.ndarray) -> Any:
    sign, size = np.linalg.slogdet(A)
    return size + np.log(sign)


def slopes(function: Callable[[np.ndarray], Any], at: np.ndarray) -> np.ndarray:
    """Gradient by complex steps: exact to rounding."""
    return np.array([function(at + 1e-30j * axis).imag / 1e-30 for axis in np.eye(len(at))])


def point(use_sqrt: bool) -> tuple[MixedLMParams, np.ndarray]:
    """Parameters that are no optimum, and the same in one array."""
    params = MixedLMParams.from_components(
        np.array([0.8, 0.9]), cov_re_sqrt=np.array([[1.1, 0.0], [-0.4, 0.7]]), vcomp=[0.5]
    )
    return params, params.get_packed(use_sqrt, has_fe=True)


@both
def test_likelihood_beside_the_best_fixed_effects(frame: pd.DataFrame, reml: bool) -> None:
    model, wanted = model_of(frame), Definition.of(frame, reml)
    params, _ = point(True)
    model.fit(reml=reml)
    found = model.loglike(params, profile_fe=False)
    assert found == pytest.approx(wanted(params.fe_params, params.cov_re, params.vcomp), abs=1e-9)
    assert model.loglike(params) == pytest.approx(
        wanted(None, params.cov_re, params.vcomp), abs=1e-9
    )


@both
@pytest.mark.parametrize("use_sqrt", [True, False])
@pytest.mark.parametrize("profile_fe", [True, False])
def test_score_is_the_gradient(
    frame: pd.DataFrame, reml: bool, use_sqrt: bool, profile_fe: bool
) -> None:
    """In the Cholesky factor and standard deviations, or in covariances and variances."""
    model, definition = model_of(frame, use_sqrt=use_sqrt), Definition.of(frame, reml)
    model.fit(reml=reml)
    params, packed = point(use_sqrt)
    at = packed[K_FE:] if profile_fe else packed
    wanted = slopes(lambda given: definition.packed(given, use_sqrt, profile_fe), at)
    assert abs(wanted).min() > 0.05
    close(model.score(params, profile_fe=profile_fe), wanted, abs(wanted).max(), 1e-9)


@both
def test_hessian_is_the_slope_of_the_score(frame: pd.DataFrame, reml: bool) -> None:
    model, definition = model_of(frame), Definition.of(frame, reml)
    model.fit(reml=reml)
    params, at = point(False)
    step = 1e-4

    def score(given: np.ndarray) -> np.ndarray:
        return slopes(lambda z: definition.packed(z, False), given)

    wanted = np.array(
        [(score(at + step * axis) - score(at - step * axis)) / (2 * step) for axis in np.eye(6)]
    )
    found, singular = model.hessian(params)
    assert not singular
    size = np.sqrt(abs(np.outer(wanted.diagonal(), wanted.diagonal())))
    close(found, wanted, size, 1e-6)


def test_parameters_in_one_array(frame: pd.DataFrame) -> None:
    """With a covariance, so that the Cholesky factor is not the covariance's lower triangle."""
    model, result = model_of(frame), model_of(frame).fit()
    best = result.params_object
    packed = best.get_packed(use_sqrt=True, has_fe=True)
    assert abs(best.cov_re[0, 1]) > 0.01
    assert model.loglike(packed) == pytest.approx(result.llf, abs=1e-9)
    assert model.loglike(packed[K_FE:]) == pytest.approx(result.llf, abs=1e-9)
    for use_sqrt in (True, False):
        for has_fe in (True, False):
            own = best.get_packed(use_sqrt, has_fe)
            again = MixedLMParams.from_packed(own, K_FE, K_RE, use_sqrt, has_fe)
            close(again.cov_re, best.cov_re, 1, 1e-12)
            close(again.vcomp, best.vcomp, 1, 1e-12)
            close(again.fe_params, best.fe_params if has_fe else [0, 0], 1, 0)
    started = model.fit(start_params=packed)
    assert started.llf == pytest.approx(result.llf, abs=1e-9)
    assert started.lmm.n_evals <= 2 < result.lmm.n_evals


def test_masks_are_read_below_the_diagonal(frame: pd.DataFrame) -> None:
    """As statsmodels reads them; what is above counts for nothing."""
    fits = {
        text: lmer(f"y ~ x + {text}", frame).llf for text in ("(x | g)", "(1 | g) + (0 + x | g)")
    }
    assert fits["(x | g)"] > fits["(1 | g) + (0 + x | g)"] + 1e-3
    model = mixedlm("y ~ x", frame, groups="g", re_formula="~x")
    for mask, text in (([[1, 0], [1, 1]], "(x | g)"), ([[1, 1], [0, 1]], "(1 | g) + (0 + x | g)")):
        free = MixedLMParams.from_components(np.ones(2), np.array(mask))
        assert model.fit(free=free).llf == pytest.approx(fits[text], abs=1e-7)


def test_columns_that_are_dropped_take_no_degrees_of_freedom(frame: pd.DataFrame) -> None:
    with pytest.warns(Warning, match="linearly dependent"):
        result = mixedlm("y ~ x + I(2 * x)", frame, groups="g").fit()
    assert result.model.k_fe == 3
    assert result.df_resid == len(frame) - 2
    assert result.t_test("x = 0", use_t=True).df_denom.tolist() == [len(frame) - 2]


def test_options_without_effect(frame: pd.DataFrame) -> None:
    """Sparsity is always used, and theta is always a Cholesky factor."""
    wanted = model_of(frame).fit()
    for options in ({"use_sparse": True}, {"use_sqrt": False}):
        result = model_of(frame, **options).fit()
        assert result.llf == wanted.llf
        assert np.array_equal(result.params, wanted.params)
        assert np.array_equal(result.bse, wanted.bse)
        assert result.use_sqrt == options.get("use_sqrt", True)


def test_tests_with_another_covariance(frame: pd.DataFrame) -> None:
    """By the textbook's formulas."""
    result = model_of(frame).fit()
    cov, beta = np.array([[0.3, 0.1], [0.1, 0.2]]), result.fe_params.to_numpy()
    single = result.t_test("x = 0", cov_p=cov)
    assert single.sd[0] == pytest.approx(np.sqrt(0.2))
    assert single.pvalue[0] == pytest.approx(2 * stats.norm.sf(abs(beta[1]) / np.sqrt(0.2)))
    square = beta @ np.linalg.solve(cov, beta)
    joint = result.wald_test(np.eye(2), cov_p=cov)
    assert joint.statistic == pytest.approx(square)
    assert joint.pvalue == pytest.approx(stats.chi2.sf(square, 2))
    by_f = result.f_test(np.eye(2), cov_p=cov)
    assert by_f.statistic == pytest.approx(square / 2)
    assert by_f.pvalue == pytest.approx(stats.f.sf(square / 2, 2, len(frame) - 2))


def test_data_without_groups(frame: pd.DataFrame) -> None:
    for empty in (frame[:0], frame.assign(g=np.nan)):
        with pytest.raises(DataError, match="no rows"):
            mixedlm("y ~ x", empty, groups="g", vc_formula={"class": "0 + C(c)"})
