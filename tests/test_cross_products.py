"""Cross-products are additive, can be saved, and give the fit of the rows that they are of."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import io
import itertools
import json
import os
import pickle
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streams import CASES, assert_same, in_memory, mixed, pieces, sleep, worst

import lmmfast
from lmmfast import LMM, CrossProducts, DataError, LmmWarning, Spec, emmeans, lmer
from lmmfast.data.columns import Table

FORMULA = "Reaction ~ Days + (Days | Subject)"
pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")


def parts_of(name: str, seed: int = 0) -> list[CrossProducts]:
    case = CASES[name]
    data = case.data()
    spec = Spec.from_data(case.formula, data, **case.options)
    return [CrossProducts.from_frame(part, spec) for part in pieces(data, seed)]


# ---- addition -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CASES))
def test_any_split_in_any_order_gives_the_fit(name: str) -> None:
    parts = parts_of(name, seed=11)
    random.Random(3).shuffle(parts)
    assert_same(lmer(sum(parts)), in_memory(name), flat=CASES[name].flat)


def test_addition_in_trees_and_in_place() -> None:
    parts = parts_of("factors")
    tree = (parts[0] + parts[1]) + ((parts[2] + parts[3]) + sum(parts[4:]))
    total = CrossProducts(parts[0].spec)
    for part in parts:
        total += part
    assert tree.n == total.n == 600
    assert_same(lmer(tree), in_memory("factors"))
    assert_same(lmer(total), in_memory("factors"))
    assert sum(part.n for part in parts) == 600  # they are as they were
    twice = total + total
    total += total
    assert total.n == twice.n == 1200
    assert_same(lmer(total), lmer(twice))


@pytest.mark.parametrize("name", ["factors", "nested", "gaps", "shifted", "three factors"])
def test_rows_taken_away_are_gone(name: str) -> None:
    case = CASES[name]
    data = case.data()
    gone = np.zeros(len(data), bool)
    gone[np.random.default_rng(5).choice(len(data), len(data) // 4, replace=False)] = True
    group = case.formula.split("|")[1].split("/")[0].split(")")[0].strip().split(":")[0]
    gone |= (data[group] == data[group].dropna().iloc[0]).to_numpy(dtype=bool, na_value=False)
    spec = Spec.from_data(case.formula, data, **case.options)
    whole = CrossProducts.from_frame(data, spec)
    less = whole - CrossProducts.from_frame(data[gone], spec)
    wanted = lmer(case.formula, data[~gone], **case.options)
    assert_same(lmer(less), wanted, 1e-9, CASES[name].flat)
    assert less.n_levels == wanted.n_levels
    assert worst(lmer(less).r2(), wanted.r2()) < 1e-7
    if name == "factors":
        for options in ({"weights": "proportional"}, {"by": "c"}):
            found = emmeans(lmer(less), "f", **options)
            assert str(found) == str(emmeans(wanted, "f", **options))
    back = less + CrossProducts.from_frame(data[gone], spec)
    assert_same(lmer(back), in_memory(name), 1e-9, CASES[name].flat)


def test_rows_of_combinations_are_counted_in_the_order_asked_for() -> None:
    fit, data = lmer(sum(parts_of("factors"))), CASES["factors"].data()
    variables = fit.design.variables
    f, c = (np.unique(data[name]) for name in ("f", "c"))
    wanted = pd.crosstab(data["f"], data["c"]).loc[f, c].to_numpy()
    for own in ({"f": f, "c": c}, {"f": f[::-1], "c": c[1:]}):
        there = [np.searchsorted(every, own[name]) for name, every in (("f", f), ("c", c))]
        counts = fit.design.sums.frequencies(variables, own)
        np.testing.assert_array_equal(counts, wanted[np.ix_(*there)])
        other = fit.design.sums.frequencies(variables, dict(reversed(own.items())))
        np.testing.assert_array_equal(other, counts.T)


def test_new_levels_join_by_label() -> None:
    data = mixed()
    formula = "y ~ x + (x | g) + (1 | h:g)"
    spec = Spec.from_data(formula, data[:100])
    later = data[100:].assign(g=lambda d: d["g"] + 1)
    total = CrossProducts.from_frame(data[:100], spec) + CrossProducts.from_frame(later, spec)
    assert_same(lmer(total), lmer(formula, pd.concat([data[:100], later])))


def test_a_day_of_new_rows() -> None:
    """Incremental refits: the same answer as from all rows."""
    data = mixed()
    spec = Spec.from_data("y ~ x + f + (1 | g)", data[:300])
    total = CrossProducts.from_frame(data[:300], spec)
    for a in range(300, 600, 100):
        total += CrossProducts.from_frame(data[a : a + 100], spec)
        assert_same(lmer(total), lmer("y ~ x + f + (1 | g)", data[: a + 100]))


def test_fits_do_not_change_with_their_cross_products() -> None:
    data = mixed().sort_values("g", kind="stable")
    spec = Spec.from_data("y ~ x + f + (x | g)", data)
    total = CrossProducts.from_frame(data[:300], spec)
    fit = lmer(total)
    before = str(fit.coef_test(ddf="kenward-roger")), fit.r2().tolist(), fit.nobs
    total += CrossProducts.from_frame(data[300:], spec)
    total.add(Table(data[:10]))
    assert (str(fit.coef_test(ddf="kenward-roger")), fit.r2().tolist(), fit.nobs) == before
    assert fit.design.sums.cross.n == 300
    assert total.n == 610


def many_pairs(n: int) -> tuple[pd.DataFrame, str]:
    """Two factors whose levels co-occur in so many pairs, with random slopes."""
    rng = np.random.default_rng(14)
    cell = rng.permutation(200 * 150)[:n]
    data = pd.DataFrame({"g": cell % 200, "h": cell // 200, "x": rng.normal(size=n)})
    data["y"] = rng.normal(size=200)[data["g"]] + rng.normal(size=150)[data["h"]] * data["x"]
    data["y"] += rng.normal(size=n)
    return data, "y ~ x + (x | g) + (x | h)"


@pytest.mark.parametrize("cuts", [[100], [1000, 2000], [7000]])
def test_merged_pairs_of_levels_are_as_many_as_there_are(cuts: list[int]) -> None:
    """Tables of pairs grow as often as they must, in whichever of the two most of them are."""
    data, formula = many_pairs(7900)
    spec = Spec.from_data(formula, data)
    ends = [0, *cuts, len(data)]
    parts = [CrossProducts.from_frame(data[a:b], spec) for a, b in itertools.pairwise(ends)]
    whole = LMM.from_cross_products(CrossProducts.from_frame(data, spec))
    merged = LMM.from_cross_products(sum(parts[1:], parts[0]))
    theta = [0.8, 0.1, 0.5, 0.6, -0.2, 0.7]
    for own, other in zip(
        merged.objective(theta, gradient=True), whole.objective(theta, gradient=True), strict=True
    ):
        assert np.allclose(own, other, rtol=1e-9, atol=1e-7)


def test_saved_levels_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    """Neither those of a factor, nor the pairs that co-occur."""
    rows = np.arange(60)
    data = pd.DataFrame({"g": rows % 7, "h": rows * rows % 5, "x": rows % 3, "y": rows % 13 / 4})
    spec = Spec.from_data("y ~ x + (1 | g) + (1 | h)", data)
    saved = []
    for order in (rows, rows[::-1], np.random.default_rng(1).permutation(60)):
        CrossProducts.from_frame(data.iloc[order], spec).save(tmp_path / "saved.lmm")
        with np.load(tmp_path / "saved.lmm") as file:
            saved.append({key: file[key] for key in file.files if file[key].dtype.kind == "i"})
    assert sum(len(own) == 21 for own in saved[0].values()) == 2  # the pairs
    for other in saved[1:]:
        assert other.keys() == saved[0].keys()
        assert all(np.array_equal(own, saved[0][key]) for key, own in other.items())


def test_a_column_that_is_found_to_depend_later_is_named() -> None:
    """In the sample of the spec it did not; it is the second column of the factor's second term."""
    data = mixed().assign(z1=lambda d: np.cos(np.arange(len(d))), z2=lambda d: d["x"] ** 2)
    formula = "y ~ x + (1 | g) + (0 + z1 + z2 | g)"
    spec = Spec.from_data(formula, data[:60])
    later = data.assign(z2=3 * data["z1"])
    with pytest.warns(lmmfast.RankDeficientWarning, match=r"'z2' of \(0 \+ z1 \+ z2 \| g\)"):
        fit = lmer(CrossProducts.from_frame(later, spec))
    assert fit.objective == pytest.approx(
        lmer("y ~ x + (1 | g) + (0 + z1 | g)", later).objective, rel=1e-9
    )


def test_a_response_without_residuals_is_refused() -> None:
    """Known only when all rows are there: the spec has too few for coordinates of its own."""
    data = mixed().assign(y=lambda d: 1 + 2 * d["x"])
    spec = Spec.from_data("y ~ x + (1 | g)", data[:3])
    with pytest.raises(lmmfast.FitError, match="'y' is a linear combination of the fixed effects"):
        lmer(CrossProducts.from_frame(data, spec))


def test_removing_what_was_never_there_is_refused() -> None:
    data = mixed()
    spec = Spec.from_data("y ~ x + (1 | g)", data)
    some = CrossProducts.from_frame(data[:50], spec)
    other = CrossProducts.from_frame(data[50:], spec)
    for less in (other, CrossProducts.from_frame(data[:100], spec)):
        with pytest.raises(DataError, match="never added"):
            some - less
    assert_same(lmer(some + other), lmer("y ~ x + (1 | g)", data))


def test_rows_of_other_predictors_cannot_be_removed() -> None:
    """Each group has rows enough, but not with these values of the factors."""
    data = mixed()
    spec = Spec.from_data("y ~ f + (1 | g)", data)
    others = data[data["f"] != "a"]
    some = CrossProducts.from_frame(others, spec)
    row = data[(data["f"] == "a") & data["g"].isin(others["g"])][:1]
    with pytest.raises(DataError, match="never added"):
        some - CrossProducts.from_frame(row, spec)
    assert (some - CrossProducts.from_frame(others[:1], spec)).n == len(others) - 1


def test_only_one_spec_can_be_added() -> None:
    data = mixed()
    one, two = (Spec.from_data(f"y ~ {x} + (1 | g)", data) for x in ("x", "k"))
    with pytest.raises(DataError, match="different specs"):
        CrossProducts.from_frame(data, one) + CrossProducts.from_frame(data, two)
    with pytest.raises(TypeError):
        CrossProducts.from_frame(data, one) + 1
    same = Spec.from_data("y ~ x + (1 | g)", data)
    total = CrossProducts.from_frame(data[:300], one) + CrossProducts.from_frame(data[300:], same)
    assert_same(lmer(total), lmer("y ~ x + (1 | g)", data))


def test_predictors_must_have_the_levels_of_the_spec() -> None:
    data = mixed()
    spec = Spec.from_data("y ~ f + (1 | g)", data)
    bad = data[:20].assign(f=["a"] * 19 + ["d"])
    with pytest.raises(DataError, match="level 'd'") as caught:
        CrossProducts.from_frame(bad, spec)
    assert caught.value.rows == (19,)
    with pytest.raises(DataError, match="labels such as"):
        spec = Spec.from_data("y ~ x + (1 | g)", data)
        CrossProducts.from_frame(data.assign(x="a"), spec)


def test_cross_products_without_rows() -> None:
    spec = Spec.from_data(FORMULA, sleep())
    empty = CrossProducts(spec)
    with pytest.raises(DataError, match="no rows"):
        lmer(empty)
    whole = CrossProducts.from_frame(sleep(), spec)
    assert_same(lmer(whole + empty), in_memory("slope"))
    assert_same(lmer(empty + whole), in_memory("slope"))
    with pytest.raises(DataError, match="no rows"):
        lmer(whole - whole)
    with pytest.raises(TypeError, match="Spec"):
        CrossProducts("y ~ x + (1 | g)")


def test_what_cross_products_say_of_themselves() -> None:
    whole = sum(parts_of("gaps"))
    fit = in_memory("gaps")
    assert (whole.n, whole.n_rows, whole.dropped) == (fit.nobs, 180, fit.design.dropped)
    assert whole.n_levels == fit.n_levels
    assert whole.nbytes > 0
    assert f"{fit.nobs} rows, Subject (18)" in repr(whole)
    assert LMM.from_cross_products(whole).fit().objective == lmer(whole).objective
    with pytest.raises(TypeError, match="takes no data"):
        lmer(whole, sleep())
    with pytest.raises(TypeError, match=r"lmer\(cross\)"):
        lmer(FORMULA, whole)


def test_tiny_chunks() -> None:
    spec = Spec.from_data(FORMULA, sleep())
    rows = [CrossProducts.from_frame(sleep()[i : i + 1], spec) for i in range(180)]
    assert_same(lmer(sum(rows)), in_memory("slope"))


def test_a_spec_of_few_rows_is_good_enough() -> None:
    data = mixed()
    formula = "y ~ x * f + (x + f | g)"
    spec = Spec.from_data(formula, data[:12])  # fewer rows than columns
    assert_same(lmer(CrossProducts.from_frame(data, spec)), lmer(formula, data))


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CASES))
def test_bytes_are_the_whole(name: str) -> None:
    whole = sum(parts_of(name))
    again = CrossProducts.from_bytes(whole.to_bytes())
    fit = lmer(again)
    assert fit.objective == lmer(whole).objective
    assert_same(fit, in_memory(name), flat=CASES[name].flat)
    assert again.to_bytes() == whole.to_bytes()
    assert (again + whole).n == 2 * whole.n
    new = CASES[name].data().dropna()[:5]
    tolerance = 1e-7 if "shifted" in name else 1e-9
    assert worst(fit.predict(new), in_memory(name).predict(new)) < tolerance
    again = lmer(pickle.loads(pickle.dumps(whole)))
    assert_same(again, in_memory(name), flat=CASES[name].flat)


@pytest.mark.parametrize(
    "levels",
    [
        pd.date_range("2024-01-01", periods=6).to_numpy(),
        [datetime.date(2024, 1, day) for day in range(1, 7)],
        [1, 2.5, 3, 4, 5, 6],
        [1, "one", 2, "two", 3, "three"],
        [f"é\x00 {i}" for i in range(6)],
        [True, False],
    ],
    ids=["datetimes", "dates", "numbers", "mixture", "text", "flags"],
)
def test_levels_of_any_type_are_saved(levels, tmp_path: Path) -> None:
    values = np.empty(len(levels), object)
    values[:] = list(levels)
    codes = np.tile(np.arange(len(levels)), 120 // len(levels))
    y = np.random.default_rng(1).normal(size=120) + codes
    data = pd.DataFrame({"g": values[codes], "y": y})
    spec = Spec.from_data("y ~ 1 + (1 | g)", data)
    whole = CrossProducts.from_frame(data, spec)
    whole.save(tmp_path / "whole.lmm")
    again = CrossProducts.load(tmp_path / "whole.lmm")
    found, wanted = lmer(again), lmer("y ~ 1 + (1 | g)", data)
    assert_same(found, wanted)
    assert (again - whole).n == 0


@pytest.mark.parametrize("first", [2**63 + 1, 10**30], ids=["uint64", "objects"])
def test_large_integers_are_added_and_saved(first: int) -> None:
    labels = np.array([first + k for k in range(6)], dtype=object)
    codes = np.tile(np.arange(6), 30)
    y = np.random.default_rng(1).normal(size=180) + codes
    data = pd.DataFrame({"g": labels[codes], "y": y}).infer_objects()
    formula = "y ~ 1 + (1 | g)"
    spec = Spec.from_data(formula, data)
    whole = sum(CrossProducts.from_frame(data[a : a + 45], spec) for a in range(0, 180, 45))
    wanted = lmer(formula, data.assign(g=codes))
    for cross in (
        whole,
        CrossProducts.from_bytes(whole.to_bytes()),
        pickle.loads(pickle.dumps(whole)),
    ):
        found = lmer(cross)
        assert worst(found.objective, wanted.objective) < 1e-9
        assert [int(level) for level in found.design.terms[0].levels] == labels.tolist()
        assert (cross - whole).n == 0


def test_numbers_and_text_are_not_added() -> None:
    data = mixed()[["y", "x", "g"]]
    text = data.assign(g=[f"{g:03}" for g in data["g"]])
    spec = Spec.from_data("y ~ x + (1 | g)", data)
    numbers, words = (CrossProducts.from_frame(own[:300], spec) for own in (data, text))
    with pytest.raises(DataError, match=r"'g' has numbers such as \d+ .*text such as '\d+'.*str"):
        numbers + words
    with pytest.raises(DataError, match=r"'g' has numbers .*text such as '\d+'.*str"):
        CrossProducts.from_frame([data[:300], text[300:]], spec)
    assert numbers.n == 300 and lmer(numbers + CrossProducts.from_frame(data[300:], spec)).converged


def test_a_refused_addition_in_place_changes_nothing() -> None:
    data = mixed()[["y", "x", "g", "h"]]
    formula = "y ~ x + (1 | h) + (1 | g)"
    spec = Spec.from_data(formula, data)
    first = CrossProducts.from_frame(data[:300], spec)
    words = CrossProducts.from_frame(data[300:].assign(g="a", h="new"), spec)
    before = first.to_bytes()
    with pytest.raises(DataError, match="'g' has numbers"):
        first += words
    assert first.to_bytes() == before


def test_levels_that_cannot_be_saved_are_named() -> None:
    values = np.empty(6, object)
    values[:] = [(i,) for i in range(6)]
    data = pd.DataFrame({"g": np.repeat(values, 10), "y": np.random.default_rng(0).normal(size=60)})
    whole = CrossProducts.from_frame(data, Spec.from_data("y ~ 1 + (1 | g)", data))
    with pytest.raises(DataError, match="type tuple"):
        whole.to_bytes()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "cross.lmm"
    sum(parts_of("factors")).save(path)
    return path


def test_foreign_and_damaged_files(saved: Path) -> None:
    data = saved.read_bytes()
    for foreign in (b"", b"hello", pickle.dumps([1]), b"PK\x03\x04"):
        saved.write_bytes(foreign)
        with pytest.raises(DataError, match=r"not cross-products|damaged"):
            CrossProducts.load(saved)
    for size in (10, 100, len(data) // 2, len(data) - 10):
        saved.write_bytes(data[:size])
        with pytest.raises(DataError, match="damaged or cut short"):
            CrossProducts.load(saved)
    rng = np.random.default_rng(0)
    for place in rng.integers(100, len(data) - 100, 60):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        try:  # a name or a time stamp of the archive may change; numbers may not
            again = CrossProducts.from_bytes(bytes(broken))
        except DataError:
            continue
        assert again.to_bytes() == data
    other = saved.with_suffix(".npz")
    np.savez(other, x=np.zeros(3))
    with pytest.raises(DataError, match="not cross-products"):
        CrossProducts.load(other)
    with pytest.raises(FileNotFoundError):
        CrossProducts.load(saved.with_name("nothing"))


def changed(data: bytes, change) -> bytes:
    """A file whose arrays and header were changed, all checksums right."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(arrays.pop("header").tobytes())
    text = change(header, arrays) or json.dumps(header)
    file = io.BytesIO()
    np.savez(file, header=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    return file.getvalue()


def infinite(_, arrays) -> None:
    arrays["b_corner"][0, 0] = np.inf


CHANGES = {
    "negative rows": lambda header, _: header.update(n=-3),
    "more rows than levels have": lambda header, _: header.update(n=header["n"] + 1),
    "rows that are text": lambda header, _: header.update(n="many"),
    "infinite sums": infinite,
    "blocks of another shape": lambda _, arrays: arrays.update(b_corner=np.zeros((2, 2))),
    "no blocks": lambda _, arrays: arrays.__delitem__("b_corner"),
    "nested": lambda header, _: "[" * 200_000,
    "version of text": lambda header, _: header.update(version="1"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_what_rows_cannot_have_is_refused(saved: Path, change: str) -> None:
    with pytest.raises(DataError, match=r"damaged|not cross-products|version"):
        CrossProducts.from_bytes(changed(saved.read_bytes(), CHANGES[change]))


def test_archives_of_another_kind_are_damaged(saved: Path) -> None:
    data = saved.read_bytes()
    at = data.rindex(b"PK\x01\x02")  # the archive's directory: version, flags, compression
    for place, value in ((6, 0xFF), (8, 0x01), (8, 0x20), (10, 0x0C), (10, 0x63)):
        broken = bytearray(data)
        broken[at + place] = value
        with pytest.raises(DataError, match="damaged"):
            CrossProducts.from_bytes(bytes(broken))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("header.npy", "w") as item:
        shape = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
        np.lib.format.write_array_header_1_0(item, shape)
    with pytest.raises(DataError, match="damaged"):
        CrossProducts.from_bytes(file.getvalue())
    file = io.BytesIO()
    np.savez_compressed(file, header=np.zeros(10**6))
    with pytest.raises(DataError, match="damaged"):
        CrossProducts.from_bytes(file.getvalue())


def test_files_of_the_first_version_are_read() -> None:
    """There the centre was part of the slope, and nothing known of rows taken away."""
    data = sleep()
    spec = Spec.from_data(FORMULA, data)
    own = spec.coordinates
    slope = own.slope + np.array([own.shift, 0.0])
    spec = dataclasses.replace(spec, coordinates=dataclasses.replace(own, slope=slope, shift=0.0))

    def change(header, _) -> None:
        header["version"] = 1
        del header["spec"]["coordinates"]["shift"], header["numbers"]["_largest"]

    whole = CrossProducts.from_frame(data, spec)
    again = CrossProducts.from_bytes(changed(whole.to_bytes(), change))
    assert_same(lmer(again), in_memory("slope"))
    assert_same(lmer(again - whole + whole), in_memory("slope"))


def test_later_versions_are_refused(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    from lmmfast.sources import archive

    monkeypatch.setattr(archive, "VERSION", 1)
    with pytest.raises(DataError, match=r"version 3.*reads up to version 1"):
        CrossProducts.load(saved)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(
    call: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    whole = sum(parts_of("slope"))
    for path in (saved, saved.with_name("new.lmm")):
        with pytest.raises(OSError, match="No space"):
            whole.save(path)
    assert list(saved.parent.iterdir()) == [saved]
    assert saved.read_bytes() == before


def test_an_interrupt_leaves_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sum(parts_of("slope")).save(saved.with_name("new.lmm"))
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.skipif(os.name != "posix", reason="needs limits of file sizes")
def test_a_limit_of_file_sizes_leaves_nothing(saved: Path) -> None:
    import resource
    import signal

    whole = sum(parts_of("slope"))
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            whole.save(saved.with_name("new.lmm"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(saved.parent.iterdir()) == [saved]


def test_saved_files_have_the_usual_permissions(saved: Path) -> None:
    plain = saved.with_name("plain")
    plain.touch()
    assert saved.stat().st_mode == plain.stat().st_mode


# ---- digits -------------------------------------------------------------------------------------


def wild(times: float) -> tuple[pd.DataFrame, Spec]:
    """Data whose first response is far from the others, the spec of the others."""
    data = mixed()
    spec = Spec.from_data("y ~ x + f + (x | g)", data[1:])
    data.loc[0, "y"] *= times
    return data, spec


def test_digits_that_are_lost_by_taking_rows_away_are_told() -> None:
    wanted = lmer("y ~ x + f + (x | g)", mixed()[1:])
    for times in (1.0, 10.0, 1e5, 1e7):
        data, spec = wild(times)
        first = CrossProducts.from_frame(data[:1], spec)
        left = CrossProducts.from_frame(data, spec) - first
        more = CrossProducts(spec) + left  # what is known of digits goes wherever the sums go
        for cross in (
            left,
            more,
            left.copy(),
            pickle.loads(pickle.dumps(left)),
            CrossProducts.from_bytes(left.to_bytes()),
            left
            + CrossProducts.from_frame(data[10:12], spec)
            - CrossProducts.from_frame(data[10:12], spec),
        ):
            if times == 1e7:
                with pytest.raises(DataError, match=r"digits are lost.*the response y .*anew"):
                    lmer(cross)
                continue
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", LmmWarning)
                found = lmer(cross)
            told = [w for w in caught if "digits are lost" in str(w.message)]
            assert bool(told) == (times == 1e5)
            tolerance = 1e-10 if times < 1e5 else 1e-6
            assert worst(found.objective, wanted.objective) < tolerance
            assert worst(found.sigma, wanted.sigma) < tolerance


def test_rows_that_are_taken_away_and_leave_no_rows_lose_no_digits() -> None:
    data, spec = wild(1e7)
    none = CrossProducts.from_frame(data, spec) - CrossProducts.from_frame(data, spec)
    with pytest.raises(DataError, match="no rows"):
        lmer(none)


def test_columns_that_differ_only_after_the_sample_are_told() -> None:
    data = mixed()
    data["x2"] = data["x"]
    formula = "y ~ x + x2 + (1 | g)"
    for late, told in ((1e-4, True), (1.0, False)):
        data.loc[599, "x2"] = data.loc[599, "x"] + late
        whole = CrossProducts.from_frame(data, Spec.from_data(formula, data[:300]))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LmmWarning)
            lmer(whole)
        assert any("fixed effect x2 is nearly" in str(w.message) for w in caught) == told
