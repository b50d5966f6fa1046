"""The command line: ``lmmfast fit FORMULA DATA``, ``lmmfast plan`` and ``lmmfast datasets``."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from .errors import LmmError, LmmWarning

if TYPE_CHECKING:
    import pandas as pd

    from .results import LMMFit

__all__ = ["main", "read_table", "record", "write_json"]

DESCRIPTION = "Fit linear mixed models with lme4's formulas."
EPILOG = """\
examples:
  lmmfast fit "Reaction ~ Days + (Days | Subject)" --data sleepstudy
  lmmfast fit "rt ~ cond + (1 + cond | subj) + (1 | item)" trials.csv --contrasts cond=sum
  lmmfast fit "rt ~ cond + (1 | subj) + (1 | item)" trials.parquet --stream
  lmmfast plan "rt ~ cond + (cond | subj) + (cond | item)" trials.csv
"""
MISSING = ["", "NA", "N/A", "#N/A", "NaN"]  # not "null", "None" or "nan": words of experiments
GAPS = ["nan", "null", "None", "none", "NULL"]  # missing where all the rest are numbers
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = {".parquet", ".pq"}
PACKED = {".gz", ".bz2", ".xz", ".zst"}
CHUNK = 200_000  # rows of a text file that are read at a time with --stream


class CommandError(Exception):
    """A mistake in the command or its files, told in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name. Default: those of the process.

    Returns
    -------
    int
        Exit code: 0, 2 for errors in the command, formula or data, 130 for Ctrl-C.
    """
    args = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], None] = args.run
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", LmmWarning)
            warnings.showwarning = show_warning
            run(args)
            sys.stdout.flush()
    except MemoryError as error:  # with the table of what each way would take
        print(f"lmmfast: error: {error or 'out of memory'}", file=sys.stderr)
        return 2
    except (CommandError, LmmError) as error:
        print(f"lmmfast: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lmmfast: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, say
        print(f"lmmfast: error: cannot write: {one_line(error)}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    top = argparse.ArgumentParser(
        prog="lmmfast",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    listing = commands.add_parser("datasets", help="list the bundled data sets")
    listing.set_defaults(run=list_datasets)
    fit = commands.add_parser(
        "fit",
        help="fit one model and print its summary",
        description=f"Fit one model and print its summary. Missing values in text files: "
        f"empty fields and {', '.join(MISSING[1:])}.",
    )
    fit.set_defaults(run=fit_command)
    add_model_arguments(fit)
    add_fit_arguments(fit)
    planning = commands.add_parser(
        "plan",
        help="print how a model would be stored and what that takes",
        description="Print how a model would be stored, and the memory and seconds an evaluation "
        "would take. Nothing is fitted.",
    )
    planning.set_defaults(run=plan_command)
    add_model_arguments(planning)
    return top


def add_model_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments that say which model, of which data."""
    add = command.add_argument
    add("formula", metavar="FORMULA", help='lme4\'s syntax: "y ~ x + (1 + x | g)"')
    files = "CSV, TSV (also .gz) or Parquet file, or a directory of Parquet files"
    add("path", metavar="DATA", nargs="?", help=files)
    add("--data", metavar="NAME", help="a bundled data set instead of a file")
    add("--stream", action="store_true", help="read in chunks, twice: data need not fit in memory")
    add("--weights", metavar="COL", help="column of prior weights")
    add("--offset", metavar="COL", help="column added to the predictor")
    add(
        "--contrasts",
        metavar="VAR=CODING",
        nargs="+",
        action="extend",
        default=[],
        help="coding of factors: treatment, sum, helmert or poly, as in cond=sum",
    )
    add(
        "--storage",
        choices=["auto", "dense", "sparse", "iterative"],
        default="auto",
        help="how the trailing matrix is held (default: the fastest way that fits; see plan)",
    )


def add_fit_arguments(fit: argparse.ArgumentParser) -> None:
    """The arguments of ``lmmfast fit`` beside those of the model."""
    add = fit.add_argument
    add("--ml", action="store_true", help="maximum likelihood (default: REML)")
    add("--threads", metavar="N", type=int, default=1, help="threads of the fit (default: 1)")
    add(
        "--starts",
        metavar="K",
        type=int,
        default=0,
        help="more starts at random, to look for other optima (default: 0)",
    )
    add(
        "--ddf",
        choices=["satterthwaite", "kenward-roger", "residual", "z"],
        default="satterthwaite",
        help="degrees of freedom of the tests (default: satterthwaite)",
    )
    add("--anova", action="store_true", help="also print the type III table of the terms")
    add("--json", metavar="FILE", help="write all results to FILE as JSON")
    add("--verbose", action="store_true", help="show every evaluation")


class Version(argparse.Action):
    """Print the version; imports the package only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from . import __version__

        print(f"lmmfast {__version__}")
        parser.exit()


# ---- commands -----------------------------------------------------------------------------------


def list_datasets(_: argparse.Namespace) -> None:
    """Names and contents of the bundled data sets."""
    from . import datasets

    known = datasets.names()
    width = max(map(len, known))
    for name in known:
        print(f"{name:<{width}}  {datasets.about(name)}")


def fit_command(args: argparse.Namespace) -> None:
    """Read, fit, print, write."""
    from .model import lmer

    contrasts = parse_contrasts(args.contrasts)
    if args.threads < 1:
        raise CommandError(f"--threads must be at least 1, not {args.threads}")
    if args.starts < 0:
        raise CommandError(f"--starts must be at least 0, not {args.starts}")
    if args.json is not None:
        check_writable(args.json)
    data = chosen_data(args)
    fit = lmer(
        args.formula,
        data,
        reml=not args.ml,
        weights=args.weights,
        offset=args.offset,
        contrasts=contrasts or None,
        verbose=args.verbose,
        storage=args.storage,
        threads=args.threads,
        starts=args.starts,
    )
    print(fit.summary(ddf=args.ddf))
    if args.anova:
        from .inference.anova import anova

        print(f"\n{anova(fit, ddf=args.ddf)}")
    if args.json is not None:
        write_json(record(fit, args.ddf), args.json)


def plan_command(args: argparse.Namespace) -> None:
    """Read, count, print."""
    from .costs import plan

    print(
        plan(
            args.formula,
            chosen_data(args),
            weights=args.weights,
            offset=args.offset,
            contrasts=parse_contrasts(args.contrasts) or None,
            storage=args.storage,
        )
    )


def check_writable(path: str) -> None:
    """Refuses a --json file that cannot be made, before the work is done."""
    folder = Path(path).parent
    if path in ("", "-") or not folder.is_dir() or Path(path).is_dir():
        raise CommandError(f"cannot write {path!r}: give --json the name of a file in a folder")


def parse_contrasts(items: Sequence[str]) -> dict[str, str]:
    """``["cond=sum"]`` as ``{"cond": "sum"}``."""
    pairs: dict[str, str] = {}
    for item in items:
        variable, equals, coding = item.partition("=")
        if not (variable and equals and coding):
            hint = " (give DATA before --contrasts)" if Path(item).suffix else ""
            raise CommandError(f"--contrasts takes VARIABLE=CODING, not {item!r}{hint}")
        pairs[variable] = coding
    return pairs


# ---- files in -----------------------------------------------------------------------------------


def chosen_data(args: argparse.Namespace) -> Any:
    """The data that the arguments name."""
    if args.stream and args.path is None:
        raise CommandError("--stream is for files: give DATA")
    if (args.path is None) == (args.data is None):
        raise CommandError("give one of DATA (a file) and --data NAME (see `lmmfast datasets`)")
    if args.path is not None and (args.stream or Path(args.path).is_dir()):
        return chunks_of(args.path)
    if args.path is not None:
        return read_table(args.path)
    from . import datasets

    return datasets.load(args.data)


def numbers_with_gaps(column: pd.Series) -> pd.Series:
    """A text column as numbers when it would be one but for "nan", "null" or "None" in it."""
    import pandas as pd

    if not pd.api.types.is_string_dtype(column.dtype):
        return column
    rest = column.mask(column.isin(GAPS))
    numbers = pd.to_numeric(rest, errors="coerce")
    gaps_only = numbers.notna().any() and (numbers.isna() == rest.isna()).all()
    return numbers if gaps_only else column


def read_table(path: str) -> pd.DataFrame:
    """A CSV, TSV or Parquet file as a data frame; the name's ending says which.

    Raises
    ------
    CommandError
        If the file is missing, of another kind, empty or cannot be read.
    """
    import pandas as pd

    kind = kind_of(path)
    with reading(path):
        if kind in PARQUET:
            return pd.read_parquet(path)
        frame: pd.DataFrame = pd.read_csv(path, **text_options(kind))
        return frame.apply(numbers_with_gaps)


def chunks_of(path: str) -> Any:
    """What `lmer` streams: Parquet files by their path, text by a function that yields frames.

    Raises
    ------
    CommandError
        If there is no such file, or it is of another kind.
    """
    if Path(path).is_dir():
        return path
    kind = kind_of(path)
    if not Path(path).exists():
        raise CommandError(f"no such file: {path!r}")
    return path if kind in PARQUET else lambda: text_chunks(path, kind)


def text_chunks(path: str, kind: str) -> Iterator[pd.DataFrame]:
    """A CSV or TSV file in chunks."""
    import pandas as pd

    with reading(path), pd.read_csv(path, chunksize=CHUNK, **text_options(kind)) as reader:
        for frame in reader:
            yield frame.apply(numbers_with_gaps)


def kind_of(path: str) -> str:
    """The ending of a file's name, without that of compression.

    Raises
    ------
    CommandError
        If it is none that can be read.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in SEPARATORS and kind not in PARQUET:
        raise CommandError(f"cannot tell what {path!r} is: name it .csv, .tsv (.gz) or .parquet")
    return kind


def text_options(kind: str) -> dict[str, Any]:
    """How text files are read."""
    own = {"sep": SEPARATORS[kind], "na_values": MISSING}
    return own | {"keep_default_na": False, "low_memory": False}


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Errors of reading a file, told in one line."""
    try:
        yield
    except FileNotFoundError:
        raise CommandError(f"no such file: {path!r}") from None
    except LmmError:
        raise
    except Exception as error:  # each format and compression has exceptions of its own
        raise CommandError(f"cannot read {path!r}: {one_line(error)}") from error


# ---- results out --------------------------------------------------------------------------------


def record(fit: LMMFit, ddf: str) -> dict[str, Any]:
    """Everything about a fit in plain dicts, lists, numbers and strings (NaN where missing)."""
    from . import __version__
    from .inference.ddf import method_of
    from .show import singular_sentences

    estimates, design = fit.estimates, fit.design
    names, test = design.x_names, fit.coef_test(ddf=ddf)
    return {
        "lmmfast": __version__,
        "formula": fit.formula,
        "response": design.response,
        "reml": fit.reml,
        "n": fit.nobs,
        "n_rows": design.n_rows,
        "n_missing": design.dropped,
        "n_levels": fit.n_levels,
        "criterion": "REML criterion" if fit.reml else "deviance",
        "objective": fit.objective,
        "llf": fit.llf,
        "aic": fit.aic,
        "bic": fit.bic,
        "n_params": fit.n_params,
        "df_resid": fit.df_resid,
        "converged": fit.converged,
        "status": estimates.status,
        "certificate": fit.certificate,
        "objective_se": estimates.objective_se,
        "n_evals": fit.n_evals,
        "starts": None if fit.starts is None else fit.starts.objectives.tolist(),
        "seconds": estimates.seconds,
        "singular": singular_sentences(fit),
        "unidentified": list(fit.unidentified),
        "params": fit.params.to_dict(),
        "ddf": ddf,
        "bse": dict(zip(names, test.sd, strict=True)),
        "df": dict(zip(names, test.df_denom, strict=True)),
        "tvalues": dict(zip(names, test.tvalue, strict=True)),
        "pvalues": dict(zip(names, test.pvalue, strict=True)),
        "cov_params": method_of(fit, ddf).vcov,
        "dropped_columns": fit.params.index[~np.asarray(estimates.fixed_kept)].tolist(),
        "sigma": fit.sigma,
        "theta": fit.theta,
        "varcorr": fit.varcorr.astype(object).to_dict("records"),
        "ranef": {group: frame.to_dict("split") for group, frame in fit.ranef().items()},
    }


def write_json(content: Any, path: str) -> None:
    """Write a file whole or not at all: to a neighbour first, then renamed.

    Raises
    ------
    CommandError
        If the file cannot be written.
    """
    text = json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():  # a pipe or a device is not to be replaced
            target.write_text(text, "utf-8")
            return
        neighbour = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            neighbour.write_text(text, "utf-8")
            neighbour.replace(target)
        finally:
            neighbour.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write {path!r}: {error.strerror or error}") from error


def plain(value: Any) -> Any:
    """The value as JSON can hold it: arrays as lists, NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


# ---- messages -----------------------------------------------------------------------------------


def one_line(message: object) -> str:
    """A message without line breaks."""
    return " ".join(str(message).split()) or type(message).__name__


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line on stderr."""
    print(f"lmmfast: warning: {one_line(message)}", file=file or sys.stderr)
