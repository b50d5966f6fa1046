"""Saved fits that are not what was written: refused in words, or a fit that works.

Files are mutated with all checksums right. A changed digit is no damage that anybody can see: the
fit of such a file must answer, or refuse in words, whatever it is asked.
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

import lmmfast
from lmmfast import DataError, LmmError, load
from lmmfast.loading import _KINDS
from lmmfast.saved.container import packed, unpacked
from lmmfast.saved.files import contents, restored


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 120
    g, h = rng.integers(0, 6, n), rng.choice(list("abcd"), n)
    y = rng.normal(size=n) + 2 * rng.normal(size=6)[g]
    return pd.DataFrame(
        {
            "y": y,
            "hit": (y > 0).astype(int),
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2, n),
            "f": rng.choice(["low", "mid", "high"], n),
            "g": g,
            "h": h,
            "k": np.where(g < 3, h, "b"),
            "i": np.arange(n) // 4,
            "t": np.arange(n) % 4,
            "p": (np.arange(n) % 4) ** 1.5,
            "s": np.where(np.arange(n) < n // 2, "one", "two"),
        }
    )


DATA = frame()
FITS: dict[str, Any] = {
    "slopes": (lambda: lmmfast.lmer("y ~ scale(x) + (x | g)", DATA), False),
    "crossed": (
        lambda: lmmfast.lmer("y ~ poly(x, 2) * f + (1 | g) + (0 + x | h)", DATA, weights="w"),
        True,
    ),
    "crossed without data": (
        lambda: lmmfast.lmer("y ~ x * f + (1 | g) + (0 + x | h)", DATA, weights="w"),
        False,
    ),
    "cross-products": (lambda: lmmfast.lmer("y ~ f + (1 | g)", DATA), "cross-products"),
    "generalized": (lambda: lmmfast.glmer("hit ~ x + f + (1 | g)", DATA, "binomial"), False),
    "generalized rows": (lambda: lmmfast.glmer("hit ~ x + (1 | g)", DATA, "binomial"), True),
    "residual": (lambda: lmmfast.lmer("y ~ x + (1 | g)", DATA, dispersion="~ f"), True),
    "members": (lambda: lmmfast.lmer("y ~ x + (1 | mm(h, k))", DATA), True),
    "related": (
        lambda: lmmfast.lmer(
            "y ~ x + (1 | g)", DATA, relationship={"g": 0.8 * np.eye(6) + 0.2 * np.ones((6, 6))}
        ),
        True,
    ),
    "structure": (lambda: lmmfast.lmer("y ~ x + cs(0 + f | g)", DATA), False),
    "repeated": (lambda: lmmfast.mmrm("y ~ x + f + ar1h(t | s / i)", DATA), False),
    "repeated sums": (lambda: lmmfast.mmrm("y ~ x + us(t | i)", DATA), "cross-products"),
    "repeated rows": (lambda: lmmfast.mmrm("y ~ x + cs(t | i)", DATA, weights="w"), True),
    "places": (lambda: lmmfast.mmrm("y ~ x + sp_exp(p | i)", DATA), False),
}
File = tuple[dict[str, Any], Arrays, bytes]


@pytest.fixture(scope="module")
def files() -> list[File]:
    """Header, arrays and bytes of each fit."""
    out = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for make, data in FITS.values():
            header, arrays = contents(make(), data)
            out.append((json.loads(json.dumps(header)), arrays, packed(header, arrays)))
    return out


def judge(data: bytes) -> bool:
    """Whether a file is loaded; everything that is refused is refused in words."""
    try:
        fit = restored(data, "the bytes", {}, _KINDS)
    except DataError as error:
        assert str(error).strip()
        return False
    new = DATA[:3]
    population = {} if isinstance(fit, lmmfast.MMRMFit) else {"re_form": "none"}
    uses: list[Any] = [
        lambda: fit.predict(new),
        lambda: fit.predict(new, **population, se=True),
        lambda: fit.predict(new, se=True),
        lambda: fit.simulate(1, 1, newdata=new),
        fit.summary,
        fit.ranef,
        lambda: lmmfast.emmeans(fit, "1"),
        lambda: fit.predict(new, interval="prediction"),
        lambda: fit.conf_int(parameters="all"),
        lambda: fit.without_data(),
    ]
    for use in uses:
        try:
            use()
        except (LmmError, MemoryError, ValueError, ArithmeticError):
            continue
    return True


def sealed(header: dict[str, Any], arrays: Arrays) -> bytes:
    """A file with the right digest."""
    try:
        return packed(header, arrays)
    except ValueError:  # what JSON cannot hold
        return b"PK\x03\x04"


def mutated(rng: np.random.Generator, files: list[File]) -> bytes:
    header, arrays, data = files[rng.integers(len(files))]
    if rng.random() < 0.1:
        broken = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            broken[place] = rng.integers(256)
        return bytes(broken[: len(data) - int(rng.integers(2) * rng.integers(len(data)))])
    header, arrays = copy.deepcopy(header), dict(arrays)
    for _ in range(rng.integers(1, 4)):
        change = change_array if rng.random() < 0.5 else change_header
        change(rng, header, arrays)
    return sealed(header, arrays)


def run(files: list[File], seed: int, count: int) -> int:
    """Loaded files of so many mutated ones."""
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return sum(judge(mutated(rng, files)) for _ in range(count))


def test_what_was_written_is_loaded(files: list[File]) -> None:
    for header, arrays, data in files:
        assert judge(data) and judge(sealed(header, arrays))


def test_mutated_files(files: list[File]) -> None:
    assert run(files, 1, 300) < 150  # digits that nobody can tell to be wrong


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 32))
def test_many_mutated_files(files: list[File], seed: int) -> None:
    run(files, seed, 1000)


# ---- one by one ---------------------------------------------------------------------------------


def refused(data: bytes, why: str) -> None:
    with pytest.raises(DataError, match=why):
        restored(data, "the bytes", {}, _KINDS)


def test_a_changed_byte_is_found_by_the_digest(files: list[File]) -> None:
    header, arrays, _ = files[0]
    name = next(name for name, own in arrays.items() if own.dtype == np.float64 and own.size)
    data = packed(header, arrays)
    changed = dict(arrays)
    changed[name] = arrays[name] + 1.0
    whole, _ = unpacked(data, "x")
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(whole).encode(), np.uint8)
    np.savez(file, header=text, **changed)
    refused(file.getvalue(), "digest")


def test_other_files_are_refused(files: list[File]) -> None:
    for data in (b"", b"{}", b"{", b"PK\x03\x04", b"hello", b'{"saved": {}}', b"[" * 100_000):
        refused(data, "no saved fit|damaged")
    spec = lmmfast.Spec.from_data("y ~ x + (1 | g)", DATA)
    cross = lmmfast.CrossProducts.from_frame(DATA, spec).to_bytes()
    refused(cross, r"cross-products.*CrossProducts\.load")


def test_later_versions_say_so(files: list[File]) -> None:
    header, arrays, _ = files[0]
    refused(sealed({**header, "version": 99}, arrays), "version 99")


def test_bombs_take_no_memory() -> None:
    """Arrays that say that they are large, and archives that unpack to much."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", b"\0" * 50_000_000)
    refused(file.getvalue(), "damaged")
    huge = (
        np.lib.format.magic(1, 0)
        + b"v\0"
        + (b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000,), }").ljust(118)
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a0.npy", huge)
    refused(file.getvalue(), "damaged")


def test_names_of_members_are_names_only(files: list[File], tmp_path: Any) -> None:
    """A member "../x" is an array of that name: nothing is unpacked to files."""
    header, arrays, _ = files[0]
    path = tmp_path / "fit.lmm"
    path.write_bytes(sealed(header, {**arrays, "../outside": np.zeros(1)}))
    load(path)
    assert [one.name for one in tmp_path.parent.glob("outside*")] == []
