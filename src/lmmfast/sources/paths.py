"""Files by their names: patterns, which kind they are; text files (CSV) are looked at and read."""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from ..errors import DataError, LmmError

if TYPE_CHECKING:
    import pandas as pd


MISSING = ["", "NA", "N/A", "#N/A", "NaN"]  # not "null", "None" or "nan": words of experiments
GAPS = ["nan", "null", "None", "none", "NULL"]  # missing where all the rest are numbers
KINDS = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), "text"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), "ipc"),
}
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PACKED: dict[str, str | None] = {  # modules, which a Python may lack that was built without bzip2
    ".gz": "gzip",
    ".bz2": "bz2",
    ".xz": "lzma",
    ".zst": None,
}
CHUNK = 200_000  # rows of a text file that are read at a time
LOOK = 1 << 16  # bytes of a text file that are looked at
IN_MEMORY = 4.0  # memory of a text file, in its size on the disk; packed ones ten times that
SHARE = 0.25  # of the memory that is available, which rows that could be streamed may take
NUMBER = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
MAGIC = {
    b"PK\x03\x04": "it is a zip archive or a spreadsheet: save it as CSV, or give "
    "pandas.read_excel(path)",
    b"\x1f\x8b": "it is compressed: let its name end in .gz",
    b"PAR1": "it is a Parquet file: let its name end in .parquet",
    b"ARROW1": "it is an Arrow file: let its name end in .feather",
}


@dataclass(frozen=True)
class Text:
    """How text files are written."""

    sep: str | None = None  # None: comma in .csv, tab in .tsv, tabs or white space in .txt
    decimal: str = "."
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.sep is not None and self.sep != r"\s+" and len(self.sep) != 1:
            raise DataError(f"the separator must be one character, not {self.sep!r}")
        if self.decimal not in (".", ","):
            raise DataError(f"the decimal mark must be '.' or ',', not {self.decimal!r}")
        if self.sep == self.decimal:
            raise DataError(f"separator and decimal mark are both {self.sep!r}")
        try:
            codecs.lookup(self.encoding)
        except (LookupError, ValueError):
            raise DataError(
                f"there is no encoding {self.encoding!r}; common ones are utf-8, latin-1, utf-16"
            ) from None


class TextFormatError(DataError):
    """A text file looks as if it was written in another way than it is read.

    `found` says what it looks like; `options`, fields of `Text` and pandas', would read it.
    """

    def __init__(self, path: str, found: str, options: dict[str, str], **facts: Any) -> None:
        said = ", ".join(f"{name}={value!r}" for name, value in options.items())
        self.found, self.options = f"cannot read {path!r}: {found}", options
        super().__init__(
            f"{self.found}: give pandas.read_csv({path!r}, {said}) as data",
            **facts,
        )


# ---- names --------------------------------------------------------------------------------------


def expand(given: Any) -> list[Path]:
    """The files and directories that a path, a pattern ("data/*.csv") or a list of them names."""
    paths: list[Path] = []
    for one in given if isinstance(given, (list, tuple)) else [given]:
        name = os.fspath(one)
        if not isinstance(name, str) or not name:
            raise DataError(f"{name!r} is not the name of a file: give a path as text")
        if "\0" in name:
            raise DataError(f"{name!r} is not the name of a file")
        paths += _named(name)
    return paths


def _named(name: str) -> list[Path]:
    if os.path.exists(name):
        return [Path(name)]
    home = os.path.expanduser(name)
    if home != name and os.path.exists(home):
        return [Path(home)]
    if glob.has_magic(name):
        found = sorted(path for path in glob.glob(home, recursive=True) if os.path.isfile(path))
        if not found:
            raise DataError(f"no file fits the pattern {name!r}")
        return [Path(path) for path in found]
    hint = ""
    if "://" in name:
        hint = ": of a remote place give pyarrow.dataset.dataset(...) or a table"
    elif "\n" in name or len(name) > 500:
        hint = ": give the path of a file, or a table, not the text of one"
        name = name[:40] + "..."
    raise DataError(f"there is no file or directory {name!r}{hint}")


def ending(path: Path) -> str:
    """The ending of a file's name, without that of compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def kind_of(paths: Sequence[Path]) -> str:
    """What files that must be alike are: "text", "parquet" or "ipc"."""
    kinds: dict[str, Path] = {}
    for path in paths:
        kind = KINDS.get(ending(path))
        if kind is None or (kind != "text" and path.suffix.lower() in PACKED):
            raise DataError(
                f"cannot tell what {str(path)!r} is: only Parquet files (.parquet, .pq), Arrow "
                "files (.feather, .arrow, .ipc), text files (.csv, .tsv, .txt, also .gz) and "
                "directories of Parquet files are read by path; read others yourself and give the "
                "table, as pandas.read_excel(path)"
            )
        kinds.setdefault(kind, path)
    if len(kinds) > 1:
        both = " and ".join(repr(str(path)) for path in list(kinds.values())[:2])
        raise DataError(f"files of several kinds cannot be read together: {both}")
    return next(iter(kinds))


def fits_in_memory(paths: Sequence[Path]) -> bool:
    """Whether the rows of text files can be held, as far as their sizes tell."""
    from ..memory import available

    size = 0.0
    for path in paths:
        packed = path.suffix.lower() in PACKED
        size += path.stat().st_size * IN_MEMORY * (10 if packed else 1)
    return size <= SHARE * available()


# ---- text files ---------------------------------------------------------------------------------


def read_text(paths: Sequence[Path], text: Text, numeric: Collection[str] = ()) -> pd.DataFrame:
    """Text files with the same columns as one frame, rows in the order of the files.

    Columns that are `numeric` must not be numbers with decimal commas that were read as words.
    """
    import pandas as pd

    frames: list[pd.DataFrame] = []
    for path in paths:
        options = _options(path, text)
        with _reading(path, text):
            frames.append(pd.read_csv(path, **options).apply(numbers_with_gaps))
        _check_numbers(path, frames[-1], text, numeric)
    for path, frame in zip(paths[1:], frames[1:], strict=True):
        _check_alike(paths[0], frames[0], path, frame)
    whole = frames[0] if len(frames) == 1 else _concatenated(frames)
    return whole.set_axis(_written(whole.columns, paths[0], text), axis=1)


def _concatenated(frames: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    if int(pd.__version__.split(".")[0]) > 2:
        return pd.concat(frames, ignore_index=True)
    with catch_warnings():  # pandas 2 announces another type for columns without a value in a file
        simplefilter("ignore", FutureWarning)
        return pd.concat(frames, ignore_index=True)


def text_frames(
    paths: Sequence[Path], text: Text, numeric: Collection[str] = (), rows: int = CHUNK
) -> Iterator[pd.DataFrame]:
    """The same in chunks of so many rows."""
    import pandas as pd

    first: pd.DataFrame | None = None
    for path in paths:
        options = _options(path, text)
        with _reading(path, text), pd.read_csv(path, chunksize=rows, **options) as reader:
            for frame in reader:
                frame = frame.apply(numbers_with_gaps)
                _check_numbers(path, frame, text, numeric)
                if first is not None:
                    _check_columns(paths[0], first, path, frame)
                first = frame[:0] if first is None else first
                yield frame.set_axis(_written(frame.columns, path, text), axis=1)


def columns_of(path: Path, text: Text) -> tuple[str, ...]:
    """Names of the columns of a text file."""
    import pandas as pd

    options = _options(path, text)
    with _reading(path, text):
        names = pd.read_csv(path, nrows=0, **options).columns
    return tuple(map(str, _written(names, path, text)))


def _written(names: pd.Index[Any], path: Path, text: Text) -> list[Any]:
    """Names of columns as the file has them, so that one that stands twice is refused where used.

    pandas makes x and x.1 of two columns x.
    """
    import pandas as pd

    stems = {str(name).rpartition(".")[0] for name in names if re.search(r"\.\d+$", str(name))}
    if stems.isdisjoint(names):
        return list(names)
    options = _options(path, text) | {"dtype": str, "na_values": []}
    with _reading(path, text):
        first = pd.read_csv(path, nrows=1, header=None, **options).iloc[0].tolist()
    if len(first) != len(names):
        return list(names)
    return [own or name for own, name in zip(first, names, strict=True)]


def numbers_with_gaps(column: pd.Series) -> pd.Series:
    """A text column as numbers when it would be one but for "nan", "null" or "None" in it."""
    import pandas as pd

    if not pd.api.types.is_string_dtype(column.dtype):
        return column
    rest = column.mask(column.isin(GAPS))
    numbers = pd.to_numeric(rest, errors="coerce")
    gaps_only = numbers.notna().any() and (numbers.isna() == rest.isna()).all()
    return numbers if gaps_only else column


def _options(path: Path, text: Text) -> dict[str, Any]:
    """How pandas reads a text file, which was looked at."""
    lines = _first_lines(path, text)
    tabs = bool(lines) and "\t" in lines[0]
    sep = text.sep or SEPARATORS.get(ending(path)) or ("\t" if tabs else r"\s+")
    if text.sep is None and lines:
        _check_separator(path, lines, sep)
    encoding = "utf-8-sig" if codecs.lookup(text.encoding).name == "utf-8" else text.encoding
    rules = {"na_values": MISSING, "keep_default_na": False, "low_memory": False}
    return {"sep": sep, "decimal": text.decimal, "encoding": encoding, **rules}


def _first_lines(path: Path, text: Text) -> list[str]:
    """The first lines of a text file, at least one; none of a file that only pandas can unpack."""
    module = PACKED.get(path.suffix.lower(), "io")
    if module is None:
        return []
    with _reading(path, text), import_module(module).open(path, "rb") as file:
        start = file.read(LOOK)
    for magic, what in MAGIC.items():
        if start.startswith(magic):
            raise DataError(f"cannot read {str(path)!r}: {what}")
    if not start.strip():
        raise DataError(f"cannot read {str(path)!r}: it is empty")
    try:
        decoder = codecs.getincrementaldecoder(text.encoding)()
        lines = decoder.decode(start).lstrip("\ufeff").splitlines()
    except UnicodeError:
        raise _undecoded(path, text, start) from None
    if text.encoding.lower().startswith("utf") and "\0" in "".join(lines[:20]):
        raise _undecoded(path, text, start)
    return [line for line in lines if line.strip()][:20] or [""]


def _undecoded(path: Path, text: Text, start: bytes) -> TextFormatError:
    wide = start[:2] in (b"\xff\xfe", b"\xfe\xff") and text.encoding.lower() != "utf-16"
    found = f"it is not encoded as {text.encoding}"
    return TextFormatError(str(path), found, {"encoding": "utf-16" if wide else "latin-1"})


def _check_separator(path: Path, lines: list[str], sep: str) -> None:
    """The first line must not be a single column where others separate more."""
    if _fields(lines[0], sep) > 1:
        return
    for other, name in ((";", "semicolons"), ("\t", "tabs"), (",", "commas"), ("|", "bars")):
        if other == sep or _fields(lines[0], other) < 2:
            continue
        options = {"sep": other}
        pieces = [field for line in lines[1:] for field in _split(line, other)]
        if other != "," and any(NUMBER.fullmatch(piece) for piece in pieces):
            options["decimal"] = ","
        raise TextFormatError(str(path), f"its fields seem to be separated by {name}", options)
    alike = len({_fields(line, r"\s+") for line in lines}) == 1
    if sep != r"\s+" and len(lines) > 1 and alike and _fields(lines[0], r"\s+") > 1:
        found = "its fields seem to be separated by white space"
        raise TextFormatError(str(path), found, {"sep": r"\s+"})


def _split(line: str, sep: str) -> list[str]:
    bare = re.sub(r'"[^"]*"', '""', line)  # separators inside quotes are text
    return re.split(sep if sep == r"\s+" else re.escape(sep), bare.strip())


def _fields(line: str, sep: str) -> int:
    return len(_split(line, sep))


def _check_numbers(path: Path, frame: pd.DataFrame, text: Text, numeric: Collection[str]) -> None:
    """Columns that numbers are expected in must not be all numbers with decimal commas."""
    import pandas as pd

    if text.decimal == ",":
        return
    for name in numeric:
        if name not in frame or not pd.api.types.is_string_dtype(frame[name].dtype):
            continue
        values = frame[name].dropna().astype(str)[:1000]
        if len(values) and all(NUMBER.fullmatch(value) for value in values):
            options = {"decimal": ","} if text.sep is None else {"sep": text.sep, "decimal": ","}
            found = f"column {name!r} has numbers with decimal commas, such as {values.iloc[0]!r}"
            raise TextFormatError(str(path), found, options, variable=name)


def _check_columns(first: Path, one: pd.DataFrame, path: Path, two: pd.DataFrame) -> None:
    if set(one.columns) == set(two.columns):
        return
    odd = sorted(map(str, set(one.columns) ^ set(two.columns)))
    raise DataError(
        f"{str(first)!r} and {str(path)!r} have different columns: {', '.join(odd[:5])} "
        f"{'is' if len(odd) == 1 else 'are'} in one of them only"
    )


def _check_alike(first: Path, one: pd.DataFrame, path: Path, two: pd.DataFrame) -> None:
    """Files that stand for one table have the same columns, of the same kinds."""
    import pandas as pd

    _check_columns(first, one, path, two)
    for name in one.columns:
        parts = [frame[name].dropna() for frame in (one, two)]
        if not all(map(len, parts)):
            continue
        words = [pd.api.types.is_string_dtype(part.dtype) for part in parts]
        if words[0] != words[1]:
            which = [str(first), str(path)]
            odd = parts[words.index(True)].iloc[0]
            raise DataError(
                f"column {name!r} is text in {which[words.index(True)]!r} (such as {odd!r}) and "
                f"numbers in {which[words.index(False)]!r}: levels that are the same would be "
                "taken for different ones (7 for '007'); read the files with pandas.read_csv(path, "
                f"dtype={{{name!r}: str}}) and give the frames",
                variable=str(name),
            )


@contextmanager
def _reading(path: Path, text: Text) -> Iterator[None]:
    """Errors of reading a file, in words."""
    try:
        yield
    except LmmError:
        raise
    except UnicodeError:
        raise _undecoded(path, text, b"") from None
    except MemoryError:
        raise
    except ImportError as error:
        module = PACKED.get(path.suffix.lower())
        needs = "the package zstandard: pip install zstandard"  # by which pandas unpacks .zst
        if module is not None:
            needs = f"the module {module}, which this Python was built without: unpack it first"
        raise ImportError(f"reading {str(path)!r} needs {needs}") from error
    except Exception as error:  # each format and compression has exceptions of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {str(path)!r}: {reason}") from error
