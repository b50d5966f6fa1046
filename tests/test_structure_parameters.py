"""Structures of terms: natural parameters, fewer columns, and covariances of users."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import lmmfast
from lmmfast.data.structures import KERNELS, STRUCTURES, Structure
from lmmfast.engine.custom_covariance import CustomCovariance
from lmmfast.engine.structures import compiled
from lmmfast.errors import FitError, FormulaError

CASES = [(kind, p) for kind in STRUCTURES for p in (1, 2, 5)]
OFFSETS = np.arange(-4, 5)
STENCIL = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])


def structure(kind: str, p: int) -> Structure:
    places = np.random.default_rng(p).normal(size=(p, 2)) if kind in KERNELS else None
    names = tuple("abcdefgh"[:p])
    return Structure(kind, names, places, min(p, 2) if kind == "rr" else 0)


def random_phi(s: Structure, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kinds = compiled(s).kinds
    sizes = {"deviation": (0.3, 1.5), "angle": (-1.2, 1.2), "logarithm": (-2.0, 0.5)}
    return np.array([rng.uniform(*sizes[kind]) for kind in kinds])


def correlations(sigma: np.ndarray) -> np.ndarray:
    sd = np.sqrt(np.diag(sigma))
    return sigma / np.outer(sd, sd)


@pytest.mark.parametrize("kind, p", CASES)
def test_natural_parameters_are_those_of_sigma(kind: str, p: int) -> None:
    s = structure(kind, p)
    core = compiled(s)
    assert (core.p, core.nphi, core.nbound) == (s.p, s.nphi, s.nbound)
    assert len(s.names) == len(s.kinds) == s.nphi == len(set(s.names))
    phi = random_phi(s)
    sigma = core.sigma(phi)
    R, sd = correlations(sigma), np.sqrt(np.diag(sigma))
    value = dict(zip(s.names, s.natural(phi).values, strict=True))
    for name, column in zip(s.columns, range(p), strict=True):
        if f"sd {name}" in value:
            assert value[f"sd {name}"] == pytest.approx(sd[column], rel=1e-13)
        elif "sd" in value:
            assert value["sd"] == pytest.approx(sd[column], rel=1e-13)
    if kind == "us":
        for i in range(p):
            for j in range(i):
                found = value[f"cor {s.columns[i]}, {s.columns[j]}"]
                assert found == pytest.approx(R[i, j], abs=1e-13)
    elif "rho" in value:
        assert value["rho"] == pytest.approx(R[1, 0], abs=1e-13)
    elif "rho 1" in value:
        where = [(k + 1, 0) if "toep" in kind else (k + 1, k) for k in range(p - 1)]
        for k, at in enumerate(where):
            assert value[f"rho {k + 1}"] == pytest.approx(R[at], abs=1e-13)
    elif "range" in value:
        gap = np.linalg.norm(s.coordinates[0] - s.coordinates[1]) / value["range"]
        u = {"exp": gap, "gau": gap**2, "mat32": 3**0.5 * gap, "mat52": 5**0.5 * gap}[kind]
        growth = {"mat32": 1 + u, "mat52": 1 + u + u**2 / 3}.get(kind, 1.0)
        assert growth * np.exp(-u) == pytest.approx(R[1, 0], abs=1e-13)


@pytest.mark.parametrize("kind, p", CASES)
def test_there_and_back(kind: str, p: int) -> None:
    s = structure(kind, p)
    core = compiled(s)
    for seed in range(4):
        phi = random_phi(s, seed)
        found = s.natural(phi)
        again = s.phi(found.values)
        np.testing.assert_allclose(core.sigma(again), core.sigma(phi), rtol=1e-10, atol=1e-12)
        numeric = (
            sum(
                c * np.array([s.natural(phi + k * 0.01 * e).values for e in np.eye(s.nphi)])
                for k, c in zip(OFFSETS, STENCIL, strict=True)
            ).T
            / 0.01
        )
        np.testing.assert_allclose(found.jacobian, numeric, rtol=1e-8, atol=1e-9)
        # the other sign of deviations that have none
        turned = -phi if s.nbound == 0 and "angle" not in core.kinds else phi
        if kind not in KERNELS:
            np.testing.assert_allclose(core.sigma(s.phi(s.natural(turned).values)), core.sigma(phi))


@pytest.mark.parametrize("kind, p", CASES)
def test_nothing_depends_on_flat_parameters(kind: str, p: int) -> None:
    """With every other column without variance, and with all of them."""
    s = structure(kind, p)
    core = compiled(s)
    phi = random_phi(s)
    assert not s.flat(phi).any()
    zero = np.array([kind == "deviation" for kind in core.kinds])
    every = np.where(zero & (np.arange(s.nphi) % 2 == 0) & (s.nbound > 0), 0, phi)
    for at in (every, np.where(zero, 0, phi)):
        flat = s.flat(at)
        if kind not in ("us", "rr", "homcs"):
            to_phi = np.linalg.inv(s.natural(at).jacobian)
            slopes = np.einsum("iab,ij->jab", core.derivatives(at), to_phi)
            found = np.abs(slopes).max(axis=(1, 2)) < 1e-12
            np.testing.assert_array_equal(found[~zero], flat[~zero])
        assert not flat[[one in ("sd", "loading") for one in s.kinds]].any()
        if np.array_equal(at, np.where(zero, 0, phi)):
            others = [one in ("correlation", "range") for one in s.kinds]
            assert flat[others].all()
            back = s.phi(s.natural(at).values)
            np.testing.assert_array_equal(core.sigma(back), np.zeros((p, p)))


@pytest.mark.parametrize("kind", ["ar1", "toep", "homtoep", "cs", "homcs", "us", "ad"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_perfect_correlations_go_there_and_back(kind: str, sign: float) -> None:
    s = structure(kind, 4)
    core, phi = compiled(s), random_phi(structure(kind, 4))
    phi[[one == "angle" for one in core.kinds]] = sign * np.pi / 2
    if kind == "homcs":
        phi[0 if sign > 0 else 1] = 0
    if kind == "us":
        phi[4:] = 0
    if kind == "cs" and sign < 0:
        phi[-1] = 0
    natural = s.natural(phi).values
    np.testing.assert_allclose(core.sigma(s.phi(natural)), core.sigma(phi), atol=1e-7)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_fewer_columns(kind: str) -> None:
    """Some columns have the covariance that they had among others."""
    s = structure(kind, 5)
    for kept in ([0, 1, 2, 3, 4], [1, 2, 3], [0, 2, 4], [3]):
        fewer = s.with_columns(kept)
        assert fewer.columns == tuple(s.columns[i] for i in kept)
        target = compiled(s).sigma(random_phi(s))[np.ix_(kept, kept)]
        core = compiled(fewer)
        if kind in KERNELS and len(kept) > 1:  # nearest() looks at few ranges
            phi = fewer.phi(s.natural(random_phi(s)).values)
        else:
            phi = core.nearest(target)
        if kind != "rr":
            np.testing.assert_allclose(core.sigma(phi), target, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["ar1", "hetar1", "toep", "homtoep"])
@pytest.mark.parametrize("kept, left", [([0, 2, 3], "columns b, e"), ([2, 1, 0, 3], "column e")])
def test_columns_that_cannot_go(kind: str, kept: list[int], left: str) -> None:
    with pytest.raises(FormulaError, match=f"without {left}:") as raised:
        structure(kind, 5).with_columns(kept)
    assert raised.value.variable == left.split()[1].strip(",")


def test_impossible_values() -> None:
    for kind, values, message in (
        ("ar1", [1, 1.5], "from -1 to 1"),
        ("ar1", [-1, 0.5], "0 or more"),
        ("homcs", [1, -0.6], "from -0.5 to 1"),
        ("cs", [1, 1, 1, -0.6], "from -0.5 to 1"),
        ("homtoep", [1, 0.9, -0.9], "lag 2 is between 0.62 and 1"),
        ("us", [1, 1, 1, 0.9, 0.9, -0.9], "no covariance"),
        ("exp", [1, 0], "above 0"),
        ("ar1", [1], "2 values"),
        ("ar1", [np.inf, 0], "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            structure(kind, 3).phi(values)


def test_structures_that_there_are_not() -> None:
    ab = ("a", "b")
    for arguments, message in (
        (("ar2", ab), "there are us, diag"),
        (("ar1", ()), "needs columns"),
        (("exp", ab), "needs coordinates"),
        (("exp", ab, np.array([1.0])), "2 columns"),
        (("exp", ab, np.array([1.0, 1.0])), "equal"),
        (("rr", ab, None, 3), "from 1 to 2"),
        (("custom", ab), "not none"),
    ):
        with pytest.raises(FormulaError, match=message):
            Structure(*arguments)


def test_structures_compare_and_pickle() -> None:
    for kind in STRUCTURES:
        s = structure(kind, 3)
        again = pickle.loads(pickle.dumps(s))
        assert again == s and hash(again) == hash(s)
        assert s != replace(s, columns=("a", "b", "z"))
        if s.coordinates is not None:
            assert s != replace(s, coordinates=s.coordinates + np.eye(3)[:, :2])
            with pytest.raises(ValueError):
                s.coordinates[0] = 1


def test_the_listing_is_complete() -> None:
    table = lmmfast.structures()
    assert list(table.index) == list(STRUCTURES)
    assert (table != "").all(axis=None)


# ---- covariances of users ------------------------------------------------------------------------


def sigma(phi: np.ndarray) -> np.ndarray:
    """ar1 of three columns, in the core's parameters."""
    lag = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    return phi[0] ** 2 * np.sin(phi[1]) ** lag


AR1 = compiled(Structure("ar1", ("a", "b", "c")))


@pytest.mark.parametrize("known", [False, True])
def test_derivatives_by_differences(known: bool) -> None:
    slopes = AR1.derivatives if known else None
    own = CustomCovariance(3, sigma, [1.0, 0.3], ["sd", "x"], derivatives=slopes)
    s = Structure("custom", ("a", "b", "c"), own=own)
    core = compiled(s)
    S = np.array([[1.0, 0.5, -2.0], [0.5, 3.0, 1.0], [-2.0, 1.0, 0.3]])
    for phi in ([1.0, 0.3], [0.0, 1.0], [30.0, 1.5707963], [-2.0, -1.0]):
        scale = 1 + np.square(phi[0])
        np.testing.assert_allclose(
            core.derivatives(phi), AR1.derivatives(phi), rtol=0, atol=1e-11 * scale
        )
        np.testing.assert_allclose(core.bend(phi, S), AR1.bend(phi, S), rtol=0, atol=1e-7 * scale)
    assert s.names == ("sd", "x") and s.kinds == ("own", "own")
    np.testing.assert_array_equal(s.phi(s.natural([2.0, 0.1]).values), [2.0, 0.1])
    np.testing.assert_array_equal(core.nearest(np.eye(3)), [1.0, 0.3])


def test_second_derivatives_of_users() -> None:
    def second(phi: np.ndarray) -> np.ndarray:
        found = np.zeros((2, 2, 3, 3))
        for a in range(3):
            for b in range(3):
                E = np.zeros((3, 3))
                E[a, b] = E[b, a] = 1 if a == b else 0.5
                found[:, :, a, b] = AR1.bend(phi, E)
        return found

    own = CustomCovariance(3, sigma, [1.0, 0.3], second_derivatives=second)
    assert own.names == ("phi 1", "phi 2")
    np.testing.assert_array_equal(own.second_derivatives([1.0, 0.2]), second(np.array([1.0, 0.2])))


def test_own_covariances_compare_and_pickle() -> None:
    own = CustomCovariance(3, sigma, [1.0, 0.3], ["sd", "x"])
    s = Structure("custom", ("a", "b", "c"), own=own)
    again = pickle.loads(pickle.dumps(s))
    assert again == s and hash(again) == hash(s)
    np.testing.assert_array_equal(compiled(again).sigma([2.0, 0.1]), compiled(s).sigma([2.0, 0.1]))
    assert own != CustomCovariance(3, sigma, [1.0, 0.2], ["sd", "x"])
    assert own != CustomCovariance(3, lambda phi: sigma(phi), [1.0, 0.3], ["sd", "x"])


def test_wrong_derivatives_are_found() -> None:
    def halved(phi: np.ndarray) -> np.ndarray:
        return AR1.derivatives(phi) * np.array([1.0, 0.5])[:, None, None]

    with pytest.raises(FitError, match=r"derivatives .* in 'x', row"):
        CustomCovariance(3, sigma, [1.0, 0.0], ["sd", "x"], derivatives=halved)
    with pytest.raises(FitError, match=r"^second_derivatives of the covariance"):
        CustomCovariance(
            3, sigma, [1, 0], ["sd", "x"], second_derivatives=lambda phi: np.zeros((2, 2, 3, 3))
        )
    with pytest.raises(FitError, match=r"must have shape \(2, 3, 3\)"):
        CustomCovariance(3, sigma, [1, 0], derivatives=lambda phi: np.zeros(2))


def test_covariances_that_are_none() -> None:
    for function, message in (
        (lambda phi: np.eye(2), r"not \(2, 2\)"),
        (lambda phi: np.full((3, 3), np.nan), "not finite"),
        (lambda phi: np.eye(3, k=1), "not symmetric"),
        (lambda phi: -np.eye(3), "an eigenvalue is -1"),
    ):
        with pytest.raises(FitError, match=message):
            CustomCovariance(3, function, [1.0])
    for arguments in ({"start": []}, {"start": [np.nan]}, {"start": [1.0], "names": ["a", "b"]}):
        with pytest.raises(FitError):
            CustomCovariance(3, sigma, **arguments)
    with pytest.raises(FitError, match="nonnegative"):
        CustomCovariance(3, sigma, [-1.0, 0.0], nonnegative=1)
    own = CustomCovariance(3, sigma, [1.0, 0.0])
    with pytest.raises(FormulaError, match="2 columns"):
        Structure("custom", ("a", "b"), own=own)
    with pytest.raises(FormulaError, match="cannot do without"):
        Structure("custom", ("a", "b", "c"), own=own).with_columns([0, 1])
