"""Files by their names: text, Parquet and Arrow, patterns and lists, and what is said of others."""

from __future__ import annotations

import gzip
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streams import assert_same, pieces

from lmmfast import (
    CrossProducts,
    DataError,
    FormulaError,
    LmmError,
    LMMFit,
    LmmWarning,
    Spec,
    cli,
    datasets,
    lmer,
    plan,
)
from lmmfast.sources import paths as files

FORMULA = "Reaction ~ Days + (Days | Subject)"
GERMAN = {"sep": ";", "decimal": ","}


def sleep() -> pd.DataFrame:
    """With numbers as labels, which is what a text file has."""
    return datasets.load("sleepstudy").astype({"Subject": int})


@cache
def wanted() -> LMMFit:
    return lmer(FORMULA, sleep())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = sleep()
    data.to_csv(tmp_path / "whole.csv", index=False)
    data.to_csv(tmp_path / "packed.csv.gz", index=False)
    data.to_csv(tmp_path / "packed.csv.xz", index=False)
    data.to_csv(tmp_path / "tabs.tsv", index=False, sep="\t")
    data.to_csv(tmp_path / "tabs.txt", index=False, sep="\t")
    data.to_csv(tmp_path / "marked.csv", index=False, encoding="utf-8-sig")
    (tmp_path / "spaces.txt").write_text(data.to_string(index=False))
    data.to_parquet(tmp_path / "whole.parquet")
    data.to_feather(tmp_path / "whole.feather")
    data.to_feather(tmp_path / "whole.arrow", compression="uncompressed")
    (tmp_path / "parts").mkdir()
    for number, part in enumerate(pieces(data)):
        part.to_csv(tmp_path / "parts" / f"part-{number}.csv", index=False)
        part.to_parquet(tmp_path / "parts" / f"part-{number}.pq")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "whole.csv",
        "packed.csv.gz",
        "packed.csv.xz",
        "tabs.tsv",
        "tabs.txt",
        "spaces.txt",
        "marked.csv",
        "whole.parquet",
        "whole.feather",
        "whole.arrow",
        "parts/*.csv",
        "parts/part-[0-9].csv",
        "parts/*.pq",
        "**/part-*.pq",
    ],
)
@pytest.mark.parametrize("held", [True, False], ids=["held", "streamed"])
def test_files_of_every_kind(
    folder: Path, name: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr(files, "SHARE", 0.0)
    fit = lmer(FORMULA, str(folder / name))
    assert_same(fit, wanted())
    assert_same(lmer(FORMULA, folder / name), wanted())
    text = name.endswith(("csv", "gz", "xz", "tsv", "txt"))
    assert (fit.design.is_held) == (held and text)


def test_lists_of_files(folder: Path) -> None:
    found = sorted((folder / "parts").glob("*.csv"))
    assert_same(lmer(FORMULA, found), wanted())
    assert_same(lmer(FORMULA, [str(path) for path in found]), wanted())
    with pytest.raises(DataError, match="several kinds"):
        lmer(FORMULA, [found[0], folder / "whole.parquet"])
    with pytest.raises(DataError, match="one directory, or a list"):
        lmer(FORMULA, [folder / "parts", folder / "whole.parquet"])


def test_weights_may_be_an_array_where_rows_are_held(folder: Path) -> None:
    w = np.linspace(1, 2, 180)
    fit = lmer(FORMULA, folder / "whole.csv", weights=w)
    assert_same(fit, lmer(FORMULA, sleep(), weights=w))


def test_whatever_takes_a_source_takes_files(folder: Path) -> None:
    path = str(folder / "whole.csv")
    assert plan(FORMULA, path).n == 180
    spec = Spec.from_data(FORMULA, path)
    assert_same(lmer(CrossProducts.from_frame(str(folder / "parts/*.csv"), spec)), wanted())
    residuals = wanted().stream_residuals(path)
    assert sum(len(part) for part in residuals) == 180


def test_lazy_frames_of_polars(folder: Path) -> None:
    import polars as pl

    lazy = pl.scan_csv(folder / "whole.csv")
    assert_same(lmer(FORMULA, lazy), wanted())
    spec = Spec.from_data(FORMULA, lazy)
    assert CrossProducts.from_frame(lazy.filter(pl.col("Days") < 5), spec).n == 90
    with pytest.raises(DataError, match="polars LazyFrame"):
        lmer(FORMULA, pl.scan_csv(folder / "whole.csv").select("nothing"))


def test_missing_values_are_those_of_the_command_line(tmp_path: Path) -> None:
    data = sleep().astype({"Days": object})
    data.loc[[3, 5], "Days"] = ["NA", "NaN"]
    data.to_csv(tmp_path / "gaps.csv", index=False)
    assert lmer(FORMULA, tmp_path / "gaps.csv").design.dropped == {"Days": 2}


# ---- text that was written in another way -------------------------------------------------------


def written(path: Path, data: pd.DataFrame, **options: str) -> Path:
    data.to_csv(path, index=False, **options)
    return path


def looks(path: Path) -> files.TextFormatError:
    with pytest.raises(files.TextFormatError) as found:
        lmer(FORMULA, path)
    assert "pandas.read_csv" in str(found.value)
    return found.value


def test_separators_are_recognized(tmp_path: Path) -> None:
    data = sleep()
    for sep, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        error = looks(written(tmp_path / "other.csv", data, sep=sep))
        assert name in str(error) and error.options == {"sep": sep}
    assert looks(written(tmp_path / "o.tsv", data)).options == {"sep": ","}
    assert looks(written(tmp_path / "o.txt", data)).options == {"sep": ","}
    assert looks(written(tmp_path / "s.csv", data, sep=" ")).options == {"sep": r"\s+"}
    german = looks(written(tmp_path / "de.csv", data, **GERMAN))
    assert german.options == GERMAN
    assert_same(lmer(FORMULA, pd.read_csv(tmp_path / "de.csv", **german.options)), wanted())


def test_decimal_commas_are_recognized_where_numbers_are_expected(tmp_path: Path) -> None:
    data = sleep()
    text = data.assign(Reaction=data["Reaction"].map(lambda x: f"{x:.2f}".replace(".", ",")))
    error = looks(written(tmp_path / "quoted.csv", text))
    assert error.options == {"decimal": ","} and error.variable == "Reaction"
    labels = data.assign(Subject=data["Subject"].astype(str) + ",5")  # no numbers
    assert lmer(FORMULA, written(tmp_path / "labels.csv", labels)).n_levels == {"Subject": 18}


def test_encodings_are_recognized(tmp_path: Path) -> None:
    data = sleep().assign(place="Köln")
    for encoding in ("latin-1", "utf-16"):
        error = looks(written(tmp_path / "other.csv", data, encoding=encoding))
        assert error.options == {"encoding": encoding}
    late = tmp_path / "late.csv"  # beyond what is looked at
    late.write_bytes((data.drop(columns="place").to_csv(index=False) * 40 + "ö").encode("latin-1"))
    assert looks(late).options == {"encoding": "latin-1"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty"),
        ("blank.csv", b"\n \n", "empty"),
        ("header.csv", b"Reaction,Days,Subject\n", "no rows"),
        ("ragged.csv", b"Reaction,Days,Subject\n1,2,3\n1,2,3,4\n", "cannot read"),
        ("book.csv", b"PK\x03\x04xl/workbook", "spreadsheet"),
        ("packed.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "compressed"),
        ("broken.csv.gz", b"no gzip", "cannot read"),
        ("table.csv", b"PAR1PAR1", "Parquet file"),
        ("broken.parquet", b"no parquet", "cannot read"),
        ("broken.feather", b"no arrow", "cannot read"),
        ("data.xlsx", b"PK", "cannot tell what.*read_excel"),
        ("data", b"a", "cannot tell what"),
        ("one.csv", b"x\n1\n2\n", "not in the data"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, FormulaError), match=message):
        lmer(FORMULA, tmp_path / name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.csv", "no file or directory"),
        ("nowhere/*.csv", "no file fits the pattern"),
        ("s3://bucket/trials.parquet", "remote"),
        ("a,b\n1,2\n", "not the text"),
        ("nul\0.csv", "not the name"),
        ("", "not the name"),
        (["nowhere.csv", "there.csv"], "no file or directory"),
    ],
)
def test_names_of_no_files(given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        lmer(FORMULA, given)


@pytest.mark.parametrize("held", [True, False])
def test_columns_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """As in a data frame: refused where the formula names them, else they do no harm."""
    monkeypatch.setattr("lmmfast.sources.streamed.fits_in_memory", lambda paths: held)
    path, data = tmp_path / "twice.csv", sleep()
    twice = pd.DataFrame({"a": data["Reaction"] + 1, "b": "", "c": data["Days"]})
    for names in (["note", "Days.1", "note"], ["", "note", ""]):
        pd.concat([twice.set_axis(names, axis=1), data], axis=1).to_csv(path, index=False)
        assert_same(lmer(FORMULA, path), wanted())
    pd.concat([data, data[["Days"]]], axis=1).to_csv(path, index=False)
    for formula in (FORMULA, "Reaction ~ . - Subject + (1 | Subject)"):
        with pytest.raises(DataError, match="several columns named 'Days'"):
            lmer(formula, path)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("name", ["whole.csv", "whole.parquet", "parts/*.csv"])
def test_a_dot_stands_for_the_other_columns_of_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, held: bool, name: str
) -> None:
    monkeypatch.setattr("lmmfast.sources.streamed.fits_in_memory", lambda paths: held)
    assert_same(lmer("Reaction ~ . - Subject + (Days | Subject)", folder / name), wanted())
    with pytest.warns(LmmWarning, match="stands for all columns") as said:
        plan("Reaction ~ . + (Days | Subject)", folder / name)
    assert len(said) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_dot_on_the_command_line(folder: Path, capsys, stream: bool) -> None:
    words = ["--stream"] if stream else []
    formula = "Reaction ~ . - Subject + (1 | Subject)"
    assert cli.main(["fit", formula, str(folder / "whole.csv"), *words]) == 0
    assert "Days" in capsys.readouterr().out


def test_a_directory_without_parquet_files(folder: Path) -> None:
    for path in (folder / "parts").glob("*.pq"):
        path.unlink()
    with pytest.raises(DataError, match=r"no Parquet files.*parts/\*\.csv"):
        lmer(FORMULA, folder / "parts")


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    data = sleep().astype({"Subject": object})
    written(tmp_path / "1.csv", data[:90])
    written(tmp_path / "2.csv", data[90:].drop(columns="Days"))
    with pytest.raises(DataError, match="different columns: Days"):
        lmer(FORMULA, tmp_path / "*.csv")
    written(tmp_path / "2.csv", data[90:].assign(Subject="s" + data["Subject"].astype(str)))
    with pytest.raises(DataError, match=r"'Subject' is text in '[^']*2.csv' \(such as 's"):
        lmer(FORMULA, tmp_path / "*.csv")


# ---- the command line ---------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize("command", ["fit", "plan"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "held"])
def test_options_of_text_files(tmp_path: Path, capsys, command: str, stream: bool) -> None:
    data = sleep().assign(Ort="Köln")
    more = ["--stream"] if stream else []
    path = str(written(tmp_path / "de.csv", data, encoding="latin-1", **GERMAN))
    code, out, err = run(capsys, command, FORMULA, path, *more)
    assert (code, out) == (2, "") and err.endswith("give --encoding latin-1\n")
    code, out, err = run(capsys, command, FORMULA, path, *more, "--encoding", "latin-1")
    assert (code, out) == (2, "") and err.endswith("give --sep ';' --decimal ,\n")
    options = ["--encoding", "latin-1", "--sep", ";"]
    code, out, err = run(capsys, command, FORMULA, path, *more, *options)
    assert (code, out) == (2, "") and "--decimal ," in err
    code, out, err = run(capsys, command, FORMULA, path, *more, *options, "--decimal", ",")
    assert (code, err) == (0, "")
    assert ("1743.6283" in out) == (command == "fit")


def test_tabs_patterns_and_other_kinds(folder: Path, capsys) -> None:
    written(folder / "tabs.csv", sleep(), sep="\t")
    assert r"give --sep '\t'" in run(capsys, "fit", FORMULA, str(folder / "tabs.csv"))[2]
    for arguments in (
        [str(folder / "tabs.csv"), "--sep", r"\t"],
        [str(folder / "parts" / "*.csv")],
        [str(folder / "parts" / "*.pq")],
        [str(folder / "whole.feather")],
        [str(folder / "spaces.txt")],
    ):
        code, out, err = run(capsys, "fit", FORMULA, *arguments)
        assert (code, err) == (0, "")
        assert "1743.6283" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sep", ";;"],
        ["--sep", ""],
        ["--sep", ",", "--decimal", ","],
        ["--decimal", "x"],
        ["--encoding", "klingon"],
        ["--encoding", "a\0b"],
        ["--threads", "0"],
        ["--threads", "2000"],
        ["--threads", "99999999999999999999"],
        ["--threads", "-1"],
        ["--threads", "1e3"],
        ["--threads", "nan"],
        ["--threads", ""],
        ["--storage", "tape"],
        ["--ddf", "infinite"],
        ["--nothing"],
        ["--contrasts", "x"],
        ["--json", ""],
    ],
)
def test_mistakes_are_told_in_one_line(folder: Path, capsys, arguments: list[str]) -> None:
    code, out, err = run(capsys, "fit", FORMULA, str(folder / "whole.csv"), *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("lmmfast: error: ") and err.count("\n") == 1
    assert "Error" not in err and "Traceback" not in err


def test_options_of_text_files_are_for_text_files(folder: Path, capsys) -> None:
    for where in ([str(folder / "whole.parquet")], ["--data", "sleepstudy"]):
        code, _, err = run(capsys, "fit", FORMULA, *where, "--sep", ";")
        assert code == 2 and "--sep ';' is for text files" in err


def test_errors_are_of_the_package(folder: Path) -> None:
    assert issubclass(files.TextFormatError, LmmError)


WITHOUT = """
import sys
sys.modules |= {"bz2": None, "lzma": None}
import lmmfast
data = lmmfast.datasets.load("sleepstudy")
data.to_csv(sys.argv[1], index=False)
print(lmmfast.lmer("Reaction ~ Days + (Days | Subject)", sys.argv[1]).objective)
"""


def test_python_that_was_built_without_bzip2_and_xz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [sys.executable, "-c", WITHOUT, tmp_path / "sleep.csv.gz"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout) == pytest.approx(1743.6283, abs=6e-5)
    for ending, module in {".bz2": "bz2", ".xz": "lzma"}.items():
        path = tmp_path / f"packed.csv{ending}"
        path.touch()
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=f"{ending}' needs the module {module}.*unpack it"):
            files.read_text([path], files.Text())
