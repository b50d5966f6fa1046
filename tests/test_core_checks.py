"""The compiled core checks what it is given: ValueError in words, whatever the arrays are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lmmfast import LMM, _core
from lmmfast.data.arrays import design_of
from lmmfast.engine.compiled import Engine

N = 40
NAN = float("nan")


def rows(**changes: Any) -> list[Any]:
    """Arguments of a model of two crossed factors, with some of them changed."""
    rng = np.random.default_rng(0)
    own = {
        "y": rng.normal(size=N),
        "X": np.asfortranarray(np.column_stack([np.ones(N), rng.normal(size=N)])),
        "codes": np.repeat(np.arange(8, dtype=np.int32), 5),
        "levels": 8,
        "z": np.ascontiguousarray(rng.normal(size=(N, 2))),
        "terms": np.zeros(2, np.int32),
        "weights": rng.uniform(1, 2, N),
    } | changes
    second = np.tile(np.arange(5, dtype=np.int32), 8), 5, np.ones((N, 1)), np.zeros(1, np.int32)
    first = own["codes"], own["levels"], own["z"], own["terms"]
    return [own["y"], own["X"], own.get("factors", [first, second]), own["weights"]]


def model() -> _core.Model:
    return _core.Model(*rows())


def cut(array: np.ndarray) -> np.ndarray:
    return np.require(array[:-1], requirements="C" if array.flags.c_contiguous else "F")


def spoiled(array: np.ndarray, value: float) -> np.ndarray:
    out = array.copy(order="K")
    out[-1] = value
    return out


GOOD = dict(zip(("y", "X", "factors", "weights"), rows(), strict=True))
CODES, LEVELS, Z, TERMS = GOOD["factors"][0]
BAD = {
    "no rows": {"y": np.empty(0)},
    "a row less": {"y": cut(GOOD["y"])},
    "single precision": {"y": GOOD["y"].astype("f4")},
    "missing response": {"y": spoiled(GOOD["y"], NAN)},
    "infinite response": {"y": spoiled(GOOD["y"], np.inf)},
    "every second row": {"y": np.repeat(GOOD["y"], 2)[::2]},
    "X of other rows": {"X": np.ones((N - 1, 2), order="F")},
    "X in C order": {"X": np.ones((N, 2))},
    "missing X": {"X": spoiled(GOOD["X"], NAN)},
    "no X": {"X": None},
    "codes of other rows": {"codes": cut(CODES)},
    "codes below": {"codes": spoiled(CODES, -1)},
    "codes above": {"codes": spoiled(CODES, 8)},
    "wide codes": {"codes": CODES.astype(np.int64)},
    "no codes": {"codes": None},
    "no levels": {"levels": 0},
    "negative levels": {"levels": -(2**31)},
    "too few levels": {"levels": 7},
    "too many levels": {"levels": 2**40},
    "no columns": {"z": np.empty((N, 0)), "terms": np.empty(0, np.int32)},
    "columns of other rows": {"z": cut(Z)},
    "missing columns": {"z": spoiled(Z, NAN)},
    "columns in Fortran order": {"z": np.asfortranarray(Z)},
    "one term for two columns": {"terms": cut(TERMS)},
    "weights of other rows": {"weights": cut(GOOD["weights"])},
    "zero weights": {"weights": spoiled(GOOD["weights"], 0.0)},
    "negative weights": {"weights": spoiled(GOOD["weights"], -1.0)},
    "missing weights": {"weights": spoiled(GOOD["weights"], NAN)},
    "infinite weights": {"weights": spoiled(GOOD["weights"], np.inf)},
    "no factors": {"factors": []},
    "half a factor": {"factors": [(CODES, 8)]},
    "no factor at all": {"factors": None},
}


@pytest.mark.parametrize("name", list(BAD))
@pytest.mark.parametrize("call", [_core.Model, _core.plan, model().response])
def test_rows(call: Any, name: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        call(*rows(**BAD[name]))


def test_a_response_of_other_rows() -> None:
    made = model()
    value = made.evaluate(np.ones(made.ntheta))
    shorter = [np.ascontiguousarray(one[:30]) for one in (GOOD["y"], GOOD["weights"])]
    factors = [(c[:30], m, np.ascontiguousarray(z[:30]), t) for c, m, z, t in GOOD["factors"]]
    X = np.asfortranarray(GOOD["X"][:30])
    for changed in (
        (shorter[0], X, factors, shorter[1]),
        (GOOD["y"], GOOD["X"][:, :1], GOOD["factors"], GOOD["weights"]),
        (GOOD["y"], GOOD["X"], GOOD["factors"][:1], GOOD["weights"]),
        (GOOD["y"], GOOD["X"], GOOD["factors"][::-1], GOOD["weights"]),
        rows(levels=9),
    ):
        with pytest.raises(ValueError, match="not the rows"):
            made.response(*changed)
    assert made.evaluate(np.ones(made.ntheta)) == value


@pytest.mark.parametrize("method", ["evaluate", "fit"])
@pytest.mark.parametrize(
    "theta",
    [
        np.zeros(0),
        np.ones(3),
        np.ones(5),
        np.full(4, NAN),
        np.full(4, np.inf),
        np.ones(4, "f4"),
        np.ones((4, 1)),
        np.ones(8)[::2],
    ],
    ids=["none", "short", "long", "missing", "infinite", "single", "matrix", "strided"],
)
def test_theta(method: str, theta: np.ndarray) -> None:
    made = model()
    assert made.ntheta == 4
    with pytest.raises(ValueError, match=r"\w"):
        getattr(made, method)(theta)
    if method != "fit":
        with pytest.raises((ValueError, TypeError)):
            getattr(made, method)(None)


def test_theta_in_another_order() -> None:
    """What goes in and what comes out have the order that `arrange` gave."""
    place = np.array([3, 1, 0, 2], np.int32)
    plain, arranged = model(), model()
    arranged.arrange(place)
    theta, moved = np.array([0.5, 0.2, 0.8, 0.3]), np.empty(4)
    moved[place] = theta
    assert arranged.evaluate(moved) == plain.evaluate(theta)
    (slope, H), (wanted_slope, wanted_H) = arranged.derivatives(True), plain.derivatives(True)
    np.testing.assert_array_equal(slope[place], wanted_slope)
    np.testing.assert_array_equal(H[np.ix_(place, place)], wanted_H)
    np.testing.assert_array_equal(arranged.fit(moved)[0][place], plain.fit(theta)[0])
    basis = np.eye(4, order="F")[:, :3]
    held = np.empty_like(basis)
    held[place] = basis
    plane, wanted = (moved * 0, held), (theta * 0, basis)
    np.testing.assert_array_equal(
        arranged.fit(theta[:3], plane=plane)[0][place], plain.fit(theta[:3], plane=wanted)[0]
    )


def test_arranging_forgets_the_evaluation() -> None:
    theta, made = np.array([0.5, 0.2, 0.8, 0.3]), model()
    before = made.evaluate(theta)
    made.arrange(np.array([3, 1, 0, 2], np.int32))
    assert made.evaluate(theta) != before
    made.arrange(np.arange(4, dtype=np.int32))
    assert made.evaluate(theta) == before


@pytest.mark.parametrize("place", [[0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4], [-1, 0, 1, 2]])
def test_orders_of_theta_that_are_none(place: list[int]) -> None:
    with pytest.raises(ValueError, match="each of 0"):
        model().arrange(np.array(place, np.int32))


@pytest.mark.parametrize("count", [0, -1, 1025, 2**40])
def test_threads(count: int) -> None:
    made = model()
    with pytest.raises(ValueError, match="threads"):
        made.use_threads(count)
    assert np.isfinite(made.evaluate(np.ones(4)))


def test_storage_and_graphs_that_are_none() -> None:
    with pytest.raises(ValueError, match="storage"):
        _core.Model(*rows(), storage="tape")
    ptr, row, one = np.array([0, 2, 3]), np.array([0, 1, 1], np.int32), np.ones(2, np.int32)
    assert sorted(_core.fill_reducing_order(_core.AMD, ptr, row, one)) == [0, 1]
    with pytest.raises(ValueError, match="found by"):
        _core.fill_reducing_order("guess", ptr, row, one)
    for places in (ptr[:2], ptr + 1, ptr[::-1].copy(), np.array([0, 2, 4])):
        with pytest.raises(ValueError, match="ptr"):
            _core.fill_reducing_order(_core.AMD, places, row, one)
    for other in (row - 1, row + 1):
        with pytest.raises(ValueError, match="row"):
            _core.fill_reducing_order(_core.RCM, ptr, other, one)
    for wrong in ([0, 0], [0, 1, 2], [1, 2]):
        with pytest.raises(ValueError, match="an order of 2 nodes"):
            _core.factor_flops(ptr, row, np.array(wrong))
    for weight in (one - 1, np.full(2, 2**30 + 1, np.int32)):
        with pytest.raises(ValueError, match="column"):
            _core.fill_reducing_order(_core.AMD, ptr, row, weight)


def plain(widths: tuple[int, ...] = (2, 1), p: int = 2, **changes: Any) -> _core.Coordinates:
    """Coordinates that change nothing."""
    own = {
        "factors": [(np.zeros(k), np.eye(k)) for k in widths],
        "fixed": (np.zeros(p), np.eye(p)),
        "slope": np.zeros(p),
        "center": 0.0,
        "yscale": 1.0,
        "centred": False,
    } | changes
    return _core.Coordinates(*own.values())


def chunk(values: np.ndarray, codes: list[Any], nlev: list[int]) -> list[Any]:
    """Rows [z_1 | z_2 | X y] (n, 6) as `Blocks.add` takes them."""
    values = np.asfortranarray(values)
    first = codes[0], nlev[0], np.ascontiguousarray(values[:, :2]), np.zeros(2, np.int32)
    second = codes[1], nlev[1], np.ascontiguousarray(values[:, 2:3]), np.zeros(1, np.int32)
    return [np.ascontiguousarray(values[:, 5]), values[:, 3:5], [first, second]]


def blocks() -> _core.Blocks:
    made = _core.Blocks([2, 1], 3)
    rng = np.random.default_rng(1)
    codes = [CODES, np.tile(np.arange(5, dtype=np.int32), 8)]
    made.add(plain(), *chunk(rng.normal(size=(N, 6)), codes, [8, 5]))
    return made


def test_blocks_that_were_compacted_grow_on() -> None:
    """In the tables of pairs, too, and beyond the room that they had."""
    rng = np.random.default_rng(2)
    one, other = blocks(), blocks()
    for n, levels in ((3, [8, 5]), (N, [8, 5]), (900, [70, 40])):
        one.compact()
        codes = [rng.integers(0, m, n).astype(np.int32) for m in levels]
        values = rng.normal(size=(n, 6))
        for made in (one, other):
            made.add(plain(), *chunk(values, codes, levels))
    np.testing.assert_array_equal(one.corner, other.corner)
    for found, wanted in zip(one.pairs(0, 1), other.pairs(0, 1), strict=True):
        np.testing.assert_array_equal(found, wanted)


def arrays(**changes: Any) -> list[Any]:
    own = blocks()
    pairs = {(0, 1): own.pairs(0, 1)}
    parts = {
        "widths": [2, 1],
        "border": 3,
        "nlev": [8, 5],
        "diagonals": [own.diagonal(0), own.diagonal(1)],
        "edges": [own.edge(0), own.edge(1)],
        "corner": own.corner,
        "pairs": pairs,
    }
    return list((parts | changes).values())


PAIRS = blocks().pairs(0, 1)
WRONG = {
    "no levels": {"nlev": []},
    "levels of one": {"nlev": [8]},
    "negative levels": {"nlev": [-8, 5]},
    "levels beyond numbers": {"nlev": [2**40, 5]},
    "no diagonals": {"diagonals": []},
    "diagonals of one": {"diagonals": [blocks().diagonal(0)]},
    "edges of one": {"edges": [blocks().edge(0)]},
    "a number for the corner": {"corner": 1.0},
    "a small corner": {"corner": np.eye(2)},
    "no columns": {"widths": [0, 1]},
    "negative columns": {"widths": [-2, 1]},
    "columns beyond numbers": {"widths": [2**31, 1]},
    "no border": {"border": 0},
    "factors in another order": {"pairs": {(1, 0): PAIRS}},
    "an unknown factor": {"pairs": {(0, 2): PAIRS}},
    "levels out of range": {"pairs": {(0, 1): (PAIRS[0] + 1, PAIRS[1], PAIRS[2])}},
    "levels that wrap": {"pairs": {(0, 1): (PAIRS[0].astype("i8") + 2**32, *PAIRS[1:])}},
    "levels as floats": {"pairs": {(0, 1): (PAIRS[0] * 1.0, *PAIRS[1:])}},
    "levels of one factor": {"pairs": {(0, 1): (PAIRS[0][:-1], *PAIRS[1:])}},
    "a pair twice": {"pairs": {(0, 1): (PAIRS[0] * 0, PAIRS[1] * 0, PAIRS[2])}},
    "values of fewer": {"pairs": {(0, 1): (*PAIRS[:2], PAIRS[2][:-1])}},
}


@pytest.mark.parametrize("name", list(WRONG))
def test_blocks_of_arrays(name: str) -> None:
    assert _core.Blocks.of_arrays(*arrays()).nlev == [8, 5]
    with pytest.raises(ValueError, match=r"\w"):
        _core.Blocks.of_arrays(*arrays(**WRONG[name]))


def test_additions_to_blocks() -> None:
    made, codes = blocks(), [CODES, np.tile(np.arange(5, dtype=np.int32), 8)]
    before, values = made.corner, np.ones((N, 6))
    y, X, factors = chunk(values, codes, [8, 5])
    first, second = factors
    for wrong in (
        (plain(), y, X, []),
        (plain(), y, X, factors[:1]),
        (plain(), y, X, [*factors, second]),
        (plain(), y, X, [(first[0], 7, *first[2:]), second]),
        (plain(), y, X, [(first[0], -8, *first[2:]), second]),
        (plain(), y, X, [(first[0], 2**40, *first[2:]), second]),
        (plain(), y, X, [(first[0][:-1], *first[1:]), second]),
        (plain(), y, X, [(None, *first[1:]), second]),
        (plain(), y, X[:, :1].copy(order="F"), factors),
        (plain(), y[:-1].copy(), X, factors),
        (plain((2, 2)), y, X, factors),
        (plain(p=3), y, X, factors),
    ):
        with pytest.raises((ValueError, TypeError), match=r"\w"):
            made.add(*wrong)
    for change in (
        {"yscale": 0.0},
        {"center": NAN},
        {"slope": np.zeros(3)},
        {"fixed": (np.zeros(2), np.ones((2, 2)))},
        {"fixed": (np.zeros(3), np.eye(2))},
        {"factors": [(np.full(2, NAN), np.eye(2)), (np.zeros(1), np.eye(1))]},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            plain(**change)
    identity = [np.arange(8, dtype=np.int32), np.arange(5, dtype=np.int32)]
    for wrong in (
        (made, identity, [8, 5]),
        (_core.Blocks([2, 2], 3), identity, [8, 5]),
        (blocks(), identity[:1], [8, 5]),
        (blocks(), identity, [8]),
        (blocks(), [identity[0][:-1], identity[1]], [8, 5]),
        (blocks(), [identity[0] + 1, identity[1]], [8, 5]),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            made.merge(*wrong)
    for wrong in (-1, 2, 2**40):
        with pytest.raises(IndexError):
            made.diagonal(wrong)
        with pytest.raises(IndexError):
            made.pairs(0, wrong)
    assert (made.corner == before).all()


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0},
        {"sumlogw": NAN},
        {"yscale": 0.0},
        {"yscale": NAN},
        {"terms": []},
        {"terms": [TERMS]},
        {"C": [np.eye(2)]},
        {"C": [np.eye(3), np.eye(1)]},
        {"C": [np.eye(2) * NAN, np.eye(1)]},
        {"CX": np.eye(3)},
        {"CX": np.full((2, 2), np.inf)},
        {"beta0": np.zeros(3)},
        {"beta0": np.full(2, NAN)},
        {"blocks": None},
        {"blocks": _core.Blocks([2, 1], 3)},
    ],
)
def test_models_of_blocks(change: dict[str, Any]) -> None:
    own = {
        "blocks": blocks(),
        "n": N,
        "sumlogw": 0.0,
        "terms": [TERMS, np.zeros(1, np.int32)],
        "C": [np.eye(2), np.eye(1)],
        "CX": np.eye(2),
        "beta0": np.zeros(2),
        "yscale": 1.0,
    }
    made = _core.Model(_core.Cross(*own.values()))
    assert np.isfinite(made.evaluate(np.ones(4)))
    with pytest.raises(ValueError, match="not the rows"):
        made.response(*rows())
    with pytest.raises((ValueError, TypeError)):
        _core.Cross(*(own | change).values())


# ---- designs of many factors and columns --------------------------------------------------------


def report(codes: list[np.ndarray], X: np.ndarray | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    n = len(codes[0])
    design = design_of(
        rng.normal(size=n),
        np.ones((n, 1)) if X is None else X,
        [(c, None) for c in codes],
        None,
        None,
    )
    return Engine.report(design)[0]


def merged(n: int, factors: int) -> list[np.ndarray]:
    """Each factor nested in the next: the last levels are put together, one after the other."""
    return [np.minimum(np.arange(n) // 2, n // 2 - 1 - k) for k in range(factors)]


def test_long_chains_of_nested_factors_are_ordered() -> None:
    """Of 60 factors there are more chains than can be counted; the heaviest has them all."""
    codes = merged(400, 60)
    rng = np.random.default_rng(0)
    shuffled = [codes[k] for k in rng.permutation(60)]
    assert report(shuffled)["eliminated"] == 60


def test_the_heaviest_chain_is_eliminated() -> None:
    """By the definition, over all chains of small partial orders."""
    rng = np.random.default_rng(3)
    for _ in range(40):
        n, K = 60, 6
        codes = [np.arange(n) // 2]
        for _ in range(K - 1):
            parent = codes[rng.integers(len(codes))]
            m = int(rng.integers(2, parent.max() + 2))
            coarser = rng.integers(0, m, parent.max() + 1)
            codes.append(np.unique(coarser, return_inverse=True)[1][parent])
        codes = [own for own in codes if own.max() > 0]
        found = report(codes)
        sizes = [int(own.max()) + 1 for own in codes]
        chosen = sum(sizes[k] for k in found["which"]) if not found["full"] else 0
        assert found["full"] or chosen == max(weights(codes, sizes))


def weights(codes: list[np.ndarray], sizes: list[int]) -> list[int]:
    """Columns of every maximal chain that begins with each factor."""

    def nested(a: int, c: int) -> bool:
        if a == c or (sizes[a], -a) < (sizes[c], -c):
            return False
        return len(np.unique(codes[a] * 1000 + codes[c])) == sizes[a]

    def heaviest(a: int) -> int:
        above = [heaviest(c) for c in range(len(codes)) if nested(a, c)]
        return sizes[a] + max(above, default=0)

    return [heaviest(a) for a in range(len(codes))]


def test_plans_count_the_columns_of_X() -> None:
    """The factor of X'V^-1 X alone is a third of the cube of its order."""
    rng = np.random.default_rng(0)
    codes = [np.arange(1500) % 20]
    few, many = (
        report(codes, np.column_stack([np.ones(1500), rng.normal(size=(1500, p - 1))]))
        for p in (2, 600)
    )
    assert many["flops"] - few["flops"] > 600**3 / 3
    assert many["bytes"] - few["bytes"] > 8 * 600**2


@pytest.mark.parametrize("storage", ["dense", "sparse", "iterative"])
def test_threads_come_and_go(storage: str) -> None:
    rng = np.random.default_rng(0)
    codes = [np.arange(600) % 150, np.arange(600) % 140]
    if storage == "sparse":
        pytest.importorskip("sksparse")
    model = LMM.from_arrays(
        rng.normal(size=600), np.ones((600, 1)), [(c, None) for c in codes], storage=storage
    )
    wanted = model.objective([0.5, 0.7], gradient=True)
    for count in (3, 1, 2, 5, 2):
        model.threads = count
        found = model.objective([0.5, 0.7], gradient=True)
        assert found[0] == wanted[0] and (found[1] == wanted[1]).all()
