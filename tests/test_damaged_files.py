"""Files of cross-products that are not what was written: refused in words when they are loaded.

Files are mutated with all checksums right. What is loaded in spite of that (a changed digit is no
damage that anybody can see) must work or be refused in words wherever cross-products can be used.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
import zipfile
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mutations import Arrays, change_array, change_header

from lmmfast import CrossProducts, DataError, LmmError, Spec, lmer

FORMULAS = {
    "slopes": ("y ~ x + (x | g)", {}),
    "crossed": ("y ~ x * f + I(x > 0.5) + (1 | g) + (0 + x | h)", {"weights": "w"}),
    "nested": ("y ~ f + (1 | g/h) + (x || d)", {"offset": "o"}),
}


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 120
    days = pd.date_range("2024-01-01", periods=5).to_numpy()
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "o": rng.normal(size=n),
            "w": rng.uniform(0.5, 2, n),
            "f": rng.choice(["low", "mid", "high"], n),
            "g": rng.integers(0, 6, n),
            "h": rng.choice(list("abcd"), n),
            "d": days[rng.integers(0, 5, n)],
        }
    )


def whole(name: str) -> CrossProducts:
    formula, roles = FORMULAS[name]
    data = frame()
    made = CrossProducts.from_frame(data, Spec.from_data(formula, data, **roles))
    return made if name == "slopes" else made - CrossProducts.from_frame(data[:20], made.spec)


@pytest.fixture(scope="module")
def files() -> list[tuple[dict, Arrays, bytes]]:
    """Header, arrays and bytes of each model."""
    out = []
    for name in FORMULAS:
        data = whole(name).to_bytes()
        with np.load(io.BytesIO(data)) as archive:
            arrays = {key: archive[key] for key in archive.files}
        out.append((json.loads(arrays.pop("header").tobytes()), arrays, data))
    return out


def packed(header: Any, arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    np.savez(file, **{"header": np.frombuffer(text, np.uint8), **arrays})
    return file.getvalue()


def judge(data: bytes) -> bool:
    """Whether a file is loaded; everything that is refused is refused in words."""
    try:
        cross = CrossProducts.from_bytes(data)
    except DataError as error:
        assert str(error).strip()
        return False
    for use in (_fit, _again, lambda one: one + one, lambda one: one - one, repr):
        try:
            use(cross)
        except (LmmError, MemoryError):
            continue
    return True


def _fit(cross: CrossProducts) -> None:
    fit = lmer(cross, max_evals=30)
    fit.summary()
    fit.predict(frame()[:3], re_form="none")


def _again(cross: CrossProducts) -> None:
    assert CrossProducts.from_bytes(cross.to_bytes()).n == cross.n
    CrossProducts.from_frame(frame(), cross.spec)


# ---- mutations ----------------------------------------------------------------------------------


def mutated(rng: np.random.Generator, files: list) -> bytes:
    header, arrays, data = files[rng.integers(len(files))]
    if rng.random() < 0.05:
        broken = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            broken[place] = rng.integers(256)
        return bytes(broken[: len(data) - int(rng.integers(2) * rng.integers(len(data)))])
    header, arrays = copy.deepcopy(header), dict(arrays)
    for _ in range(rng.integers(1, 4)):
        change = change_array if rng.random() < 0.5 else change_header
        change(rng, header, arrays)
    return packed(header, arrays)


def run(files: list, seed: int, count: int) -> int:
    """Loaded files of so many mutated ones."""
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(judge(mutated(rng, files)) for _ in range(count))


def test_what_was_written_is_loaded(files: list) -> None:
    for header, arrays, data in files:
        assert judge(data) and judge(packed(header, arrays))


def test_mutated_files(files: list) -> None:
    loaded = run(files, 1, 200)
    assert loaded < 50  # digits that nobody can tell to be wrong


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_many_mutated_files(files: list, seed: int) -> None:
    run(files, seed, 1000)


# ---- one by one ---------------------------------------------------------------------------------


def set_at(path: str, value: Any) -> Any:
    """Changes one place of the header, as "spec.coordinates.slope"."""

    def change(header: Any, _: Arrays) -> None:
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        for step in way:
            header = header[step]
        header[last] = value

    return change


def array_of(name: str, change: Any) -> Any:
    return lambda _, arrays: arrays.update({name: change(arrays[name])})


def twice(header: dict, arrays: Arrays) -> None:
    """A pair of levels that stands there twice."""
    arrays["b_la0_1"][1], arrays["b_lc0_1"][1] = arrays["b_la0_1"][0], arrays["b_lc0_1"][0]


def other_width(header: dict, _: Arrays) -> None:
    own = header["spec"]["coordinates"]
    own["fixed"][1] = own["slope"]


DAMAGE = {
    "no numbers of levels": (array_of("b_nlev", lambda own: own[:0]), "numbers of levels"),
    "wrong numbers of levels": (array_of("b_nlev", lambda own: own + 1), "levels and blocks"),
    "numbers of levels as floats": (array_of("b_nlev", lambda own: own * 1.0), "float64"),
    "short blocks": (array_of("b_diagonal0", lambda own: own[:-1]), "shape"),
    "short edges": (array_of("b_edge1", lambda own: own[:, :, :-1]), "shape"),
    "levels out of range": (array_of("b_la0_1", lambda own: own + 1), "unknown levels"),
    "negative levels": (array_of("b_lc0_1", lambda own: own - 1), "unknown levels"),
    "large levels": (array_of("b_la0_1", lambda own: own.astype(np.int64) + 2**32), "unknown"),
    "a pair twice": (twice, "twice"),
    "one level of a pair": (array_of("b_la0_1", lambda own: own[:-1]), "pair"),
    "complex sums": (array_of("b_corner", lambda own: own * 1j), "complex128"),
    "single precision": (array_of("b_corner", lambda own: own.astype("f4")), "float32"),
    "negative squares": (array_of("b_diagonal0", lambda own: -own), "negative"),
    "products too large": (array_of("b_edge0", lambda own: own * 1e9), "larger than"),
    "not symmetric": (array_of("b_corner", np.triu), "symmetric"),
    "columns of another size": (other_width, "shape"),
    "no scale": (set_at("spec.coordinates.yscale", "0x0p+0"), "positive"),
    "text for a number": (set_at("spec.coordinates.yscale", "many"), "hexadecimal"),
    "another formula": (set_at("spec.formula", "y ~ x + (1 | g) + (1 | h)"), "damaged"),
    "a formula that cannot be read": (set_at("spec.formula", "y ~ ("), "damaged"),
    "other columns": (set_at("spec.fixed.names.1", "z"), "not those of the formula"),
    "too many columns": (set_at("spec.codings.1.dummy_names", ["a"] * 4000), "levels"),
    "a variable more": (set_at("spec.variables.q", [None, True, False]), "'q' is unknown"),
    "a level twice": (set_at("groups.1.tables.0.labels.list", ["a", "a", "b", "c"]), "twice"),
    "a level of another kind": (set_at("groups.1.tables.0.labels.list.0", {"int": "1"}), "texts"),
    "a level of no kind": (set_at("groups.1.tables.0.labels.list.0", {"eval": "1"}), "unknown"),
    "rows as truth": (set_at("n", True), "no number"),
    "rows beyond counting": (set_at("n_rows", 10**30), "no number"),
    "an unknown field": (set_at("more", 1), "'more' is unknown"),
    "weights of no rows": (set_at("weights", ["0x1p+9", "0x1p+9"]), "weights"),
    "an array of no use": (lambda _, arrays: arrays.update(more=np.ones(3)), "no use"),
    "objects": (lambda _, arrays: arrays.update(a0=np.array([{}], object)), "damaged"),
    "types without size": (lambda _, arrays: arrays.update(a0=np.zeros(9, "V0")), "damaged"),
}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_damage_is_named(files: list, name: str) -> None:
    header, arrays, _ = files[1]  # two crossed factors and weights
    header, arrays = copy.deepcopy(header), {key: own.copy() for key, own in arrays.items()}
    change, words = DAMAGE[name]
    change(header, arrays)
    with pytest.raises(DataError, match=words):
        CrossProducts.from_bytes(packed(header, arrays))


def test_archives_that_unpack_to_more_than_they_are(files: list) -> None:
    """Entries that share their bytes: each is no longer than the file, all together are."""
    data = bytearray(files[0][2])
    end = data.rindex(b"PK\x05\x06")
    count, size, start = (int.from_bytes(data[end + a : end + b], "little") for a, b in
                          ((10, 12), (12, 16), (16, 20)))  # fmt: skip
    directory = bytes(data[start : start + size])
    first = directory[: directory.index(b"PK\x01\x02", 4)]
    many = 2000
    data[start + size : start + size] = first * many
    end += len(first) * many
    data[end + 8 : end + 12] = 2 * (count + many).to_bytes(2, "little")
    data[end + 12 : end + 16] = (size + len(first) * many).to_bytes(4, "little")
    assert len(zipfile.ZipFile(io.BytesIO(data)).infolist()) == count + many
    with pytest.raises(DataError, match="twice"):
        CrossProducts.from_bytes(bytes(data))


@pytest.mark.parametrize("given", [None, "text", 3, [b"PK"]])
def test_what_are_no_bytes(given: object) -> None:
    with pytest.raises(TypeError, match="made of bytes"):
        CrossProducts.from_bytes(given)
