"""Tests of coefficients and of linear hypotheses, by method of degrees of freedom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import wald
from ..ddf import METHODS, ddf_of, method_of
from ..linear import hypothesis

if TYPE_CHECKING:
    from ...fit import Fit
    from ..wald import TTest, WaldTest


def coef_test(fit: Fit, ddf: str | None = None) -> TTest:
    """Every coefficient against zero; `LMMFit.coef_test`."""
    p = len(fit.design.x_names)
    return _t_test(fit, np.eye(p), np.zeros(p), fit.design.x_names, ddf_of(ddf, fit))


def t_test(fit: Fit, L: Any, ddf: str | None) -> TTest:
    """Linear hypotheses one by one; `LMMFit.t_test`."""
    ddf = ddf_of(ddf, fit)
    return _t_test(fit, *hypothesis(L, list(fit.design.x_names)), ddf)


def _t_test(fit: Fit, rows: np.ndarray, q: np.ndarray, labels: Any, ddf: str) -> TTest:
    method = method_of(fit, ddf)
    df = None if ddf == "z" else method.df(rows)
    return wald.t_test(rows, q, labels, fit.estimates.beta, method.vcov, df, METHODS[ddf])


def f_test(fit: Fit, L: Any, ddf: str | None) -> WaldTest:
    """Linear hypotheses together; `LMMFit.f_test`."""
    ddf = ddf_of(ddf, fit)
    rows, q, _ = hypothesis(L, list(fit.design.x_names))
    beta, method = fit.estimates.beta, method_of(fit, ddf)
    if ddf == "z":
        return wald.wald_test(rows, q, beta, method.vcov)
    statistic, _, denominator = method.f(rows)
    plain = wald.wald_test(rows, np.zeros(len(rows)), beta, method.vcov).fvalue
    scale = statistic / plain if plain > 0 else 1.0  # Kenward and Roger's lambda
    return wald.wald_test(rows, q, beta, method.vcov, denominator, METHODS[ddf], scale)
