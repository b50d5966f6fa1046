"""The compiled generalized model against the dense one: every family and link, every reading."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import close, covering
from dense_glmm import DenseGeneralized
from test_dense_glmm import LINKS, simulated

from lmmfast import _core

WAYS = [("dense", "observed"), ("sparse", "observed"), ("dense", "expected")]


def levels_of(codes: np.ndarray) -> object:
    """The level, or levels, of each row as the compiled model takes them."""
    if codes.ndim == 1:
        return codes.astype(np.int32)
    rows, level = np.nonzero(codes)
    ptr = np.searchsorted(rows, np.arange(len(codes) + 1))
    return _core.Members(ptr, level.astype(np.int32), codes[rows, level], codes.shape[1])


def compiled(dense: DenseGeneralized, **how: object) -> _core.Generalized:
    """The compiled model of the same rows."""
    factors = [
        (levels_of(codes), m, np.ascontiguousarray(z), owners.astype(np.int32))
        for codes, m, z, owners in dense.given
    ]
    family = dense.family
    made = {"family": family.name, "link": family.link, "classes": family.classes}
    model = _core.Generalized(
        dense.y, np.asfortranarray(dense.X), factors, dense.w, offset=dense.o, **made, **how
    )
    model.arrange(np.arange(dense.ntheta, dtype=np.int32))
    return model


@pytest.mark.parametrize(("storage", "information"), WAYS)
@pytest.mark.parametrize(("name", "link"), LINKS)
def test_value_and_gradient(name: str, link: str, storage: str, information: str) -> None:
    dense, psi = simulated(name, link, information)
    model = compiled(dense, storage=storage, information=information)
    wanted, slope = dense.value(psi, gradient=True)
    value, gradient = model.value(psi, gradient=True)
    close(value, wanted, 1 + abs(wanted), 1e-11)
    close(gradient, slope, 1 + np.abs(slope).max(), 1e-8)


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_readings(name: str, link: str) -> None:
    dense, psi = simulated(name, link)
    model = compiled(dense)
    dense.value(psi)
    model.value(psi)
    for found, wanted in zip(model.modes(), dense.modes(), strict=True):
        close(found, wanted, 1 + np.abs(wanted).max(), 1e-9)
    for found, wanted in zip(model.condvar(), dense.condvar(), strict=True):
        close(found, wanted, 1 + np.abs(wanted).max(), 1e-9)
    close(model.predictor(), dense.predictor(), 1.0, 1e-9)
    close(model.leverages(), dense.leverages(), 1.0, 1e-9)


@pytest.mark.parametrize(("name", "link"), covering(LINKS))
def test_the_end_of_a_fit_is_an_optimum(name: str, link: str) -> None:
    """The dense gradient vanishes there, and the dense search finds nothing lower from there."""
    dense, start = simulated(name, link)
    model = compiled(dense)
    psi, info = model.minimize(start)
    assert info["status"] == "converged"
    assert info["certificate"] < 1e-8
    dense.value(start)
    for share in (0.25, 0.5, 0.75):  # walks there: its modes must stay inside the domain
        dense.value(start + share * (psi - start))
    value, gradient = dense.value(psi, gradient=True)
    close(info["objective"], value, 1 + abs(value), 1e-10)
    H = dense.curvature(psi)
    units = 1 / np.sqrt(np.maximum(np.abs(H.diagonal()), 1e-8))
    moving = np.abs(psi[: dense.ntheta]) > 1e-3
    free = np.concatenate([moving, dense.keep, np.ones(dense.nextra, bool)])
    close((gradient * units)[free], np.zeros(free.sum()), 1.0, 1e-4)
