"""Covariance structures: definitions, derivatives, roots, boundaries, starts and trials."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest

from lmmfast import _core

KERNELS = {
    "exp": lambda u: np.exp(-u),
    "gau": lambda u: np.exp(-(u**2)),
    "mat32": lambda u: (1 + 3**0.5 * u) * np.exp(-(3**0.5) * u),
    "mat52": lambda u: (1 + 5**0.5 * u + 5 * u**2 / 3) * np.exp(-(5**0.5) * u),
}
HOMOGENEOUS = {"homdiag", "homcs", "ar1", "homtoep", "homad", *KERNELS}
SERIAL = ("cs", "hetar1", "ar1", "toep", "homtoep", "ad", "homad")
NAMES = ("us", "rr", "diag", "homdiag", "homcs", *SERIAL, *KERNELS)
CASES = [(name, p) for name in NAMES for p in (1, 2, 3, 6, 11)]

# eighth-order central differences
OFFSETS = np.arange(-4, 5)
STENCIL = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])


def points(p: int, dimension: int = 2) -> np.ndarray:
    return np.random.default_rng(p).normal(size=(p, dimension))


def structure(name: str, p: int, dimension: int = 2) -> _core.Structure:
    places = points(p, dimension) if name in KERNELS else None
    return _core.Structure(name, p, places, min(p, 2) if name == "rr" else 0)


def random_phi(s: _core.Structure, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sizes = {"deviation": (0.3, 1.5), "angle": (-1.2, 1.2), "logarithm": (-2.0, 0.5)}
    return np.array([rng.uniform(*sizes[kind]) for kind in s.kinds])


def symmetric(p: int, seed: int = 1) -> np.ndarray:
    S = np.random.default_rng(seed).normal(size=(p, p))
    return S + S.T


def slopes(f: Callable, x: np.ndarray, h: float = 0.01) -> np.ndarray:
    """df / dx_i, one for each i."""
    steps = [(k * h, c) for k, c in zip(OFFSETS, STENCIL, strict=True) if c]
    return np.array([sum(c * f(x + k * e) for k, c in steps) / h for e in np.eye(len(x))])


def autocorrelations(pacf: np.ndarray) -> np.ndarray:
    """Lags 0, 1, .. of partial autocorrelations: Durbin and Levinson."""
    a: np.ndarray = np.zeros(0)
    r, v = [1.0], 1.0
    for s in pacf:
        r.append(float(a @ r[:0:-1]) + s * v)
        a = np.append(a - s * a[::-1], s)
        v *= 1 - s * s
    return np.array(r)


def expected(name: str, p: int, phi: np.ndarray, dimension: int = 2) -> np.ndarray:
    """Sigma by its definition."""
    lag = np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
    if name in ("us", "rr"):
        T = np.zeros((p, p if name == "us" else min(p, 2)))
        T[np.tril_indices_from(T)] = 0
        at = [(r, c) for c in range(T.shape[1]) for r in range(c, p)]
        for (r, c), value in zip(at, phi, strict=True):
            T[r, c] = value
        return T @ T.T
    if name == "homcs" and p > 1:
        J = np.full((p, p), 1 / p)
        return phi[0] ** 2 * (np.eye(p) - J) + phi[1] ** 2 * J
    sd, x = np.split(phi, [1 if name in HOMOGENEOUS else p])
    R = np.eye(p)
    if p == 1 or name in ("diag", "homdiag"):
        pass
    elif name == "cs":
        rho = 1 - p / (p - 1) * np.cos(x[0]) ** 2
        R = np.where(lag == 0, 1.0, rho)
    elif name in ("ar1", "hetar1"):
        R = np.sin(x[0]) ** lag
    elif name in ("toep", "homtoep"):
        R = autocorrelations(np.sin(x))[lag]
    elif name in ("ad", "homad"):
        for i in range(p):
            for j in range(i):
                R[i, j] = R[j, i] = np.prod(np.sin(x[j:i]))
    else:
        xy = points(p, dimension)
        distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
        R = KERNELS[name](distance / distance.max() / np.exp(x[0]))
    sd = np.broadcast_to(sd, p)
    return R * np.outer(sd, sd)


@pytest.mark.parametrize("name, p", CASES)
def test_sigma_is_its_definition(name: str, p: int) -> None:
    s = structure(name, p)
    for seed in range(3):
        phi = random_phi(s, seed)
        np.testing.assert_allclose(s.sigma(phi), expected(name, p, phi), rtol=1e-12, atol=1e-13)
        root = s.root(phi)
        np.testing.assert_allclose(root @ root.T, s.sigma(phi), rtol=0, atol=0)


@pytest.mark.parametrize("name, p", CASES)
def test_derivatives(name: str, p: int) -> None:
    s = structure(name, p)
    S = symmetric(p)
    for seed in range(2):
        phi = random_phi(s, seed)
        found = s.derivatives(phi)
        np.testing.assert_array_equal(found, found.swapaxes(1, 2))
        np.testing.assert_allclose(found, slopes(s.sigma, phi), rtol=1e-9, atol=1e-11)

        def gradient(x: np.ndarray) -> np.ndarray:
            return np.einsum("iab,ab->i", s.derivatives(x), S)

        bend = s.bend(phi, S)
        np.testing.assert_array_equal(bend, bend.T)
        np.testing.assert_allclose(bend, slopes(gradient, phi), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name, p", CASES)
def test_parameters(name: str, p: int) -> None:
    s = structure(name, p)
    assert len(s.kinds) == len(s.rows) == s.nphi
    heterogeneous = name in ("cs", "hetar1", "toep", "ad") and p > 1
    assert s.nbound == (p if heterogeneous else 0)
    phi, scale = random_phi(s), np.random.default_rng(2).uniform(0.2, 5, p)
    if name in HOMOGENEOUS:
        scale = np.full(p, scale[0])
    in_units = [scale[row] if row is not None else 1.0 for row in s.rows]
    np.testing.assert_allclose(
        s.sigma(phi * in_units), s.sigma(phi) * np.outer(scale, scale), rtol=1e-12, atol=1e-13
    )
    again = pickle.loads(pickle.dumps(s))
    np.testing.assert_array_equal(again.sigma(phi), s.sigma(phi))
    assert (again.name, again.p, again.kinds, again.rows) == (name, p, s.kinds, s.rows)


# ---- boundaries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ar1", "hetar1", "homad", "ad", "homtoep", "toep", "cs"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_perfect_correlation(name: str, sign: int) -> None:
    """|rho| = 1 is a point like others: Sigma is singular, and even about it."""
    p = 5
    s = structure(name, p)
    phi = random_phi(s)
    own = [i for i, kind in enumerate(s.kinds) if kind == "angle"]
    phi[own] = sign * np.pi / 2 if name != "cs" else (0 if sign < 0 else np.pi / 2)
    root, sd = s.root(phi), np.broadcast_to(phi[: own[0]], p)
    R = root @ root.T / np.outer(sd, sd)
    lag = np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
    want = np.where(lag == 0, 1, -1 / (p - 1)) if name == "cs" and sign < 0 else float(sign) ** lag
    np.testing.assert_allclose(R, want, atol=1e-15)
    rank = p - 1 if name == "cs" and sign < 0 else 1
    assert np.linalg.matrix_rank(root, tol=1e-12) == rank
    np.testing.assert_allclose(s.derivatives(phi)[own], 0, atol=1e-14)
    for h in (1e-3, 0.2):
        one, two = phi.copy(), phi.copy()
        one[own[0]] += h
        two[own[0]] -= h
        np.testing.assert_allclose(s.sigma(one), s.sigma(two), atol=1e-14)


def test_roots_keep_digits_near_boundaries() -> None:
    """What is left of the last column given the others: cos x, however small, to full accuracy."""
    for x in (1e-3, 1e-6, 1e-9, 1e-12):
        phi = np.array([2.0, np.pi / 2 - x])
        sine = np.sin(x - (np.pi / 2 - phi[1]) + (np.pi / 2 - phi[1]))  # of the x that phi holds
        for name in ("ar1", "homtoep"):
            root = _core.Structure(name, 2).root(phi)
            assert np.linalg.det(root) == pytest.approx(4 * sine, rel=1e-12 + 1e-16 / x)
    for x in (1e-3, 1e-9, 1e-12):
        a, b = np.cos(x) * (5 / 4) ** 0.5, np.sin(x) * 5**0.5
        found = np.linalg.svd(_core.Structure("cs", 5).root([1.0] * 5 + [x]))[1]
        np.testing.assert_allclose(found, [a] * 4 + [b], rtol=1e-12)
        found = np.linalg.svd(_core.Structure("homcs", 5).root([x, 1.0]))[1]
        assert np.prod(found) == pytest.approx(x**4, rel=1e-9)
    line = np.array([0.0, 1.0, 1.5, 4.0])
    s = _core.Structure("exp", 4, line)
    for x in (2.0, 10.0, 25.0):
        gaps = np.diff(line) / 4 * np.exp(-x)
        innovations = np.prod(np.sqrt(-np.expm1(-2 * gaps)))
        assert abs(np.linalg.det(s.root([1.0, x]))) == pytest.approx(innovations, rel=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_zero_standard_deviations(name: str) -> None:
    s = structure(name, 4)
    phi = random_phi(s)
    phi[[kind == "deviation" for kind in s.kinds]] = 0
    assert (s.root(phi) == 0).all()
    assert np.isfinite(s.derivatives(phi)).all()
    assert np.isfinite(s.bend(phi, symmetric(4))).all()


def test_homcs_boundaries() -> None:
    s, p = _core.Structure("homcs", 4), 4
    np.testing.assert_allclose(s.sigma([0, 1.5]), np.full((p, p), 1.5**2 / p), rtol=1e-15)
    np.testing.assert_allclose(s.sigma([1.5, 0]).sum(0), 0, atol=1e-15)
    for signs in ([1, -1], [-1, 1], [-1, -1]):
        np.testing.assert_allclose(
            s.sigma(np.multiply(signs, [0.7, 1.2])), s.sigma([0.7, 1.2]), rtol=1e-14, atol=1e-15
        )


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dimension", [1, 2])
def test_kernels_of_all_ranges(name: str, dimension: int) -> None:
    """Singular to rounding at long ranges; nothing is added to the diagonal."""
    places = points(40, dimension)
    places[7] = places[3]
    s = _core.Structure(name, 40, places)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    for x in (-40, -6, -1, 0, 1, 3, 6, 40, 400, -400):
        want = KERNELS[name](np.minimum(distance / distance.max() * np.exp(-x), 1e4))
        np.testing.assert_allclose(s.sigma([1.0, x]), want, atol=5e-14)
        found = s.derivatives([1.0, x])
        assert np.isfinite(found).all() and np.isfinite(s.bend([1.0, x], symmetric(40))).all()
        root = s.root([1.0, x])
        np.testing.assert_allclose(root[7], root[3], atol=2e-7)


def test_semidefinite_roots_are_of_least_rank() -> None:
    B = np.random.default_rng(3).normal(size=(30, 4))
    A = B @ B.T
    own = _core.OwnStructure(30, 1, lambda phi: (phi[0] * A, A[None], np.zeros((1, 1, 30, 30))))
    root = own.root([2.0])
    np.testing.assert_allclose(root @ root.T, 2 * A, rtol=0, atol=1e-12)
    assert (np.abs(root).max(axis=0) > 0).sum() == 4


# ---- where fits begin ----------------------------------------------------------------------------


@pytest.mark.parametrize("name, p", CASES)
def test_nearest_finds_its_own(name: str, p: int) -> None:
    """A covariance of the structure, not near a boundary, is found again; kernels: about."""
    s = structure(name, p)
    for seed in range(3):
        phi = random_phi(s, seed)
        if name in ("us", "rr"):
            phi = np.where([i < p for i in range(s.nphi)], phi + 0.5, phi * 0.3)
            sigma = s.sigma(phi) + (np.diag(np.full(p, 0.2)) if name == "us" else 0)
        else:
            phi = np.where([kind == "angle" for kind in s.kinds], phi * 0.6, phi)
            sigma = s.sigma(phi)
        found = s.sigma(s.nearest(sigma))
        close = 0.3 * np.max(np.diag(sigma)) if name in KERNELS else 0.05 * np.abs(sigma).max()
        if name not in ("rr", "cs"):
            np.testing.assert_allclose(found, sigma, rtol=0, atol=close)


@pytest.mark.parametrize("name, p", CASES)
def test_nearest_is_inside(name: str, p: int) -> None:
    s = structure(name, p)
    one = np.ones((p, p))
    for target in (np.zeros((p, p)), one, np.eye(p), one - np.eye(p), np.diag(np.arange(p) * 1.0)):
        phi = s.nearest(target)
        sd = np.array([k == "deviation" for k in s.kinds])
        angle = np.array([k == "angle" for k in s.kinds])
        assert np.isfinite(phi).all()
        if name not in ("us", "rr"):
            assert (phi[sd] >= 0.09).all()
        assert (np.abs(np.cos(phi[angle])) > 0.1).all()
        sigma = s.sigma(phi)
        if name not in KERNELS:
            rank = np.linalg.matrix_rank(sigma, tol=1e-6 * np.max(np.diag(sigma)))
            assert rank == (min(p, 2) if name == "rr" else p)


# ---- trials --------------------------------------------------------------------------------------


def lowers(s: _core.Structure, phi: np.ndarray, S: np.ndarray) -> int:
    """The number of trials, which all lower tr(S Sigma)."""
    before = np.sum(S * s.sigma(phi))
    trials = s.trials(phi, S)
    for to in trials:
        assert np.sum(S * s.sigma(to)) < before
        assert (to[: s.nbound] >= 0).all()
    return len(trials)


@pytest.mark.parametrize("name", NAMES)
def test_no_trials_inside(name: str) -> None:
    s = structure(name, 4)
    if name != "rr":
        assert s.trials(random_phi(s), -np.eye(4)) == []


@pytest.mark.parametrize("name", NAMES)
def test_trials_out_of_zero(name: str) -> None:
    """No variance at all: out of there with any S that has a direction for it, else not."""
    s = structure(name, 4)
    phi = random_phi(s)
    phi[[kind == "deviation" for kind in s.kinds]] = 0
    assert s.trials(phi, np.eye(4)) == []
    assert lowers(s, phi, -np.eye(4)) >= 3
    # columns that want to be opposite, or alike, whatever correlations are where phi is
    for sign in (-1, 1):
        S = np.eye(4) + sign * 0.9 * (np.ones((4, 4)) - np.eye(4))
        S = S - 0.5 * np.eye(4)
        if name not in ("diag", "homdiag", *KERNELS):
            assert lowers(s, phi, S) >= 1, sign


@pytest.mark.parametrize("name", ["cs", "hetar1", "toep", "ad"])
def test_trials_out_of_one_bound(name: str) -> None:
    """A deviation is zero, with no negative slope as long as correlations have this sign."""
    s = structure(name, 3)
    for turn in (-1, 1):
        phi = random_phi(s)
        phi[:3] = [1, 0, 0]
        S = np.array([[0.0, turn, 0], [turn, 0.1, 0], [0, 0, 0.1]])
        for sign in (-1, 1):
            phi[3:] = sign * 0.4 if name != "cs" else np.pi / 4 + sign * 0.4
            assert lowers(s, phi, S) >= 1


@pytest.mark.parametrize("name", ["ar1", "hetar1", "toep", "homtoep", "ad", "homad", "cs"])
def test_trials_out_of_perfect_correlation(name: str) -> None:
    s = structure(name, 4)
    phi = random_phi(s)
    phi[[kind == "angle" for kind in s.kinds]] = np.pi / 2
    assert lowers(s, phi, np.ones((4, 4))) >= 3
    assert s.trials(phi, -np.ones((4, 4))) == []


def test_trials_of_a_toeplitz_descend() -> None:
    """Caught at a partial autocorrelation of one: the steps lead down, however short they are."""
    s = _core.Structure("homtoep", 6)
    found = 0
    for seed in range(40):
        phi = np.append(1.0, np.random.default_rng(seed).uniform(-1.2, 1.2, 5))
        phi[1 + seed % 4] = np.pi / 2
        found += lowers(s, phi, symmetric(6, seed)) > 0
    assert found >= 30


def test_trials_of_homcs() -> None:
    s = _core.Structure("homcs", 3)
    J = np.full((3, 3), 1 / 3)
    assert lowers(s, np.array([0.0, 1.0]), -(np.eye(3) - J)) == 4
    assert lowers(s, np.array([1.0, 0.0]), -J) == 4
    assert s.trials([0.0, 1.0], np.eye(3)) == []


@pytest.mark.parametrize("name", NAMES)
def test_trials_are_in_units(name: str) -> None:
    """Columns in other units: the same trials, in these."""
    s = structure(name, 4)
    unit = np.random.default_rng(4).uniform(0.001, 300, 4)
    if name in HOMOGENEOUS:
        unit = np.full(4, 0.02)
    scale = np.array([1.0 if row is None else unit[row] for row in s.rows])
    S = symmetric(4) - np.eye(4)
    phi = random_phi(s)
    phi[[kind == "deviation" for kind in s.kinds]] = 0
    before = s.trials(phi, S)
    after = s.trials(phi * scale, S / np.outer(unit, unit), unit)
    assert len(before) == len(after) > 0
    for one, two in zip(before, after, strict=True):
        np.testing.assert_allclose(s.sigma(one * scale), s.sigma(two), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["diag", "us", "cs", "hetar1", "toep", "ad"])
def test_nearest_keeps_small_deviations(name: str) -> None:
    """Columns in different units have deviations of different sizes."""
    s = structure(name, 4)
    sd = np.array([1e-4, 1.0, 300.0, 0.02])
    found = s.sigma(s.nearest(np.diag(sd**2)))
    np.testing.assert_allclose(np.sqrt(np.diag(found)), sd, rtol=1e-12)


def test_trials_of_triangles_without_a_zero_column() -> None:
    """Sigma has rank 1 though no column of T is zero."""
    s = _core.Structure("us", 2)
    phi = np.array([0.0, 1.0, 2.0])
    assert lowers(s, phi, np.diag([-1.0, 0.0])) == 4
    assert s.trials(phi, np.diag([1.0, 0.0])) == []


# ---- structures of users -------------------------------------------------------------------------


def jets(phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ar1 of three columns."""
    s = _core.Structure("ar1", 3)
    second = np.zeros((2, 2, 3, 3))
    for a in range(3):
        for b in range(a + 1):
            E = np.zeros((3, 3))
            E[a, b] += 0.5
            E[b, a] += 0.5
            second[:, :, a, b] = second[:, :, b, a] = s.bend(phi, E)
    return s.sigma(phi), s.derivatives(phi), second


def test_own_structure_is_the_cores() -> None:
    own = _core.OwnStructure(3, 2, jets, kinds=["deviation", "angle"])
    core, phi, S = _core.Structure("ar1", 3), np.array([1.3, 0.4]), symmetric(3)
    np.testing.assert_allclose(own.sigma(phi), core.sigma(phi), rtol=1e-14)
    np.testing.assert_array_equal(own.derivatives(phi), core.derivatives(phi))
    np.testing.assert_allclose(own.bend(phi, S), core.bend(phi, S), rtol=1e-13)
    assert own.trials(phi, S) == [] and own.rows == (0, None)
    again = pickle.loads(pickle.dumps(own))
    np.testing.assert_array_equal(again.sigma(phi), own.sigma(phi))


def test_errors_of_own_structures() -> None:
    def wrong(phi: np.ndarray) -> tuple:
        raise KeyError("mine")

    own = _core.OwnStructure(3, 2, wrong)
    with pytest.raises(KeyError, match="mine"):
        own.sigma([1, 0])
    with pytest.raises(KeyError, match="mine"):
        own.bend([1, 0], np.eye(3))
    shape = _core.OwnStructure(3, 2, lambda phi: (np.eye(3), np.eye(3), np.eye(3)))
    with pytest.raises(ValueError, match="dSigma"):
        shape.derivatives([1, 0])
    with pytest.raises(ValueError, match="d2Sigma"):
        shape.bend([1, 0], np.eye(3))
    negative = _core.OwnStructure(
        3, 1, lambda phi: (-np.eye(3), np.zeros((1, 3, 3)), np.zeros((1, 1, 3, 3)))
    )
    with pytest.raises(_core.NotPositiveDefinite):
        negative.sigma([1])
    missing = _core.OwnStructure(
        3, 1, lambda phi: (np.full((3, 3), np.nan), np.zeros((1, 3, 3)), np.zeros((1, 1, 3, 3)))
    )
    with pytest.raises(_core.NotPositiveDefinite):
        missing.sigma([1])


def test_what_there_is_not() -> None:
    for arguments in (
        ("nothing", 3),
        ("exp", 3),
        ("rr", 3, None, 4),
        ("rr", 3, None, 0),
        ("ar1", 0),
        ("exp", 3, [1, 2]),
        ("exp", 2, [1, np.nan]),
    ):
        with pytest.raises(ValueError):
            _core.Structure(*arguments)
    s = _core.Structure("ar1", 3)
    for phi in ([1.0], [1.0, 2.0, 3.0], [np.nan, 1.0]):
        with pytest.raises(ValueError):
            s.sigma(phi)
    with pytest.raises(ValueError):
        s.bend([1.0, 0.5], np.eye(2))
