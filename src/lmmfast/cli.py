"""The command line: ``lmmfast fit FORMULA DATA``, ``plan``, ``verify`` and ``datasets``."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import __version__
from .errors import LmmWarning
from .sources.paths import MISSING, Text, TextFormatError, columns_of, expand, kind_of, read_text
from .typing import Ddf

if TYPE_CHECKING:
    import pandas as pd

    from .glmm_fit import GLMMFit
    from .results import LMMFit


DESCRIPTION = "Fit linear and generalized linear mixed models with lme4's formulas."
EPILOG = """\
examples:
  lmmfast fit "Reaction ~ Days + (Days | Subject)" --data sleepstudy
  lmmfast fit "rt ~ cond + (1 + cond | subj) + (1 | item)" trials.csv --contrasts cond=sum
  lmmfast fit "rt ~ cond + (1 | subj) + (1 | item)" trials.parquet --stream
  lmmfast fit "rt ~ cond + (1 | subj)" versuche.csv --sep ";" --decimal , --encoding latin-1
  lmmfast fit "cbind(hits, n - hits) ~ cond + (1 | subj)" trials.csv --family binomial
  lmmfast fit "hit ~ cond + (1 | subj)" trials.parquet --family binomial --stream
  lmmfast plan "rt ~ cond + (cond | subj) + (cond | item)" trials.csv
"""
CHUNK = 200_000  # rows of a text file that are read at a time with --stream
TABS = ("\\t", "tab", "TAB")  # what a shell makes it easy to write


class CommandError(Exception):
    """A mistake in the command or its files, told in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Exit code: 0; 1 where `verify` finds something else than was saved;
    2 for errors in command or data; 130 for Ctrl-C, 141 where nobody reads the output any more."""
    args = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int | None] = args.run
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", LmmWarning)
            warnings.showwarning = show_warning
            code = run(args)
            sys.stdout.flush()
    except MemoryError as error:  # with the table of what each way would take
        print(f"lmmfast: error: {error or 'out of memory'}", file=sys.stderr)
        return 2
    except TextFormatError as error:
        print(f"lmmfast: error: {error.found}: give {said(error.options)}", file=sys.stderr)
        return 2
    except (CommandError, ImportError, ValueError) as error:  # LmmError is one
        print(f"lmmfast: error: {one_line(without_carets(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lmmfast: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has seen enough
            return 141
        print(f"lmmfast: error: cannot write: {one_line(error)}", file=sys.stderr)  # a full disk
        return 2
    return code or 0


class Parser(argparse.ArgumentParser):
    """Mistakes in the command are told in one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(2, f"lmmfast: error: {one_line(message)} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    top = Parser(prog="lmmfast", description=DESCRIPTION, epilog=EPILOG, formatter_class=raw)
    version, about = f"lmmfast {__version__}", "print the version and exit"
    top.add_argument("--version", action="version", version=version, help=about)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    listing = commands.add_parser("datasets", help="list the bundled data sets")
    listing.set_defaults(run=list_datasets)
    fit_help = "fit one model and print its summary"
    missing = f"Missing values in text files: empty fields and {', '.join(MISSING[1:])}."
    fit = commands.add_parser("fit", help=fit_help, description=f"F{fit_help[1:]}. {missing}")
    fit.set_defaults(run=fit_command)
    add_model_arguments(fit)
    add_fit_arguments(fit)
    what = "Print how a model would be stored, and the memory and seconds an evaluation would take."
    planning = commands.add_parser(
        "plan",
        help="print how a model would be stored and what that takes",
        description=f"{what} Nothing is fitted.",
    )
    planning.set_defaults(run=plan_command)
    add_model_arguments(planning)
    about = "say whether a saved fit is that of some data, and an optimum there"
    verifying = commands.add_parser(
        "verify",
        help=about,
        description=f"S{about[1:]}: criterion, slope and curvature are computed at the stored "
        "estimates. Exit code 1: it is not.",
    )
    verifying.set_defaults(run=verify_command)
    saved = "what --save or --json wrote, or fit.save() in Python"
    verifying.add_argument("saved", metavar="FIT", help=saved)
    add_data_arguments(verifying)
    return top


def add_model_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments that say which model, of which data."""
    add = command.add_argument
    add("formula", metavar="FORMULA", help='lme4\'s syntax: "y ~ x + (1 + x | g)"')
    add_data_arguments(command)
    add("--weights", metavar="COL", help="column of prior weights")
    add("--offset", metavar="COL", help="column added to the predictor")
    coding = (
        "coding of factors, as in cond=sum: treatment, sum, sdif, deviation, helmert, poly, SAS"
    )
    add("--contrasts", metavar="VAR=CODING", nargs="+", action="extend", default=[], help=coding)
    ways = "how the trailing matrix is held (default: the fastest way that fits; see plan)"
    known = ["auto", "dense", "sparse", "iterative"]
    add("--storage", choices=known, default="auto", help=ways)
    families = "a generalized model: binomial, poisson, negativebinomial, gamma, ordered, ..."
    add("--family", metavar="NAME", help=families)
    add("--link", metavar="NAME", help="link of the family (default: its first)")


def add_data_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments that say which data."""
    add = command.add_argument
    files = "CSV, TSV, TXT (also .gz), Parquet or Feather file, a pattern ('data/*.csv'), or a "
    files += "directory of Parquet files"
    add("path", metavar="DATA", nargs="?", help=files)
    add("--data", metavar="NAME", help="a bundled data set instead of a file")
    add("--stream", action="store_true", help="read in chunks, twice: data need not fit in memory")
    add("--sep", metavar="CHAR", help="separator of the fields of a text file: ';', '\\t', ' '")
    add("--decimal", metavar="CHAR", help="decimal mark in a text file (default: '.')")
    add("--encoding", metavar="NAME", help="encoding of a text file (default: utf-8)")


def add_fit_arguments(fit: argparse.ArgumentParser) -> None:
    """The arguments of ``lmmfast fit`` beside those of the model."""
    add = fit.add_argument
    nodes = "nodes of adaptive quadrature with --family (default: 1, Laplace's approximation)"
    add("--nagq", metavar="K", default="1", help=nodes)
    further = "the likelihood of --family: Laplace's approximation, or with its next order"
    add("--accuracy", choices=["laplace", "second-order"], default="laplace", help=further)
    criterion = fit.add_mutually_exclusive_group()
    likelihood = "maximum likelihood (default with --family)"
    criterion.add_argument("--ml", action="store_true", help=likelihood)
    restricted = "restricted likelihood (default without --family)"
    criterion.add_argument("--reml", action="store_true", help=restricted)
    add("--threads", metavar="N", default="1", help="threads of the fit (default: 1)")
    more = "more starts at random, to look for other optima (default: 0)"
    add("--starts", metavar="K", default="0", help=more)
    methods = ["satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"]
    tests = "degrees of freedom of the tests (default: satterthwaite; z with --family)"
    add("--ddf", choices=methods, help=tests)
    add("--anova", action="store_true", help="also print the type III table of the terms")
    add("--json", metavar="FILE", help="write all results to FILE as JSON")
    add("--save", metavar="FILE", help="write the fit to FILE, for lmmfast.load and verify")
    add("--verbose", action="store_true", help="show every evaluation")


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
    from .api import glmer, lmer

    model, more = model_options(args), fit_options(args)
    for option, file in (("--json", args.json), ("--save", args.save)):
        if file is not None:
            check_writable(file, option)
    data = chosen_data(args)
    fitted: Callable[..., LMMFit | GLMMFit] = lmer if args.family is None else glmer
    fit = fitted(args.formula, data, **model, **more)
    ddf: Ddf = args.ddf or ("satterthwaite" if fit.family is None else "z")
    summary: Callable[..., Any] = fit.summary  # a generalized fit has one kind of tests
    print(summary(**({"ddf": ddf} if fit.family is None else {})))
    if args.anova:
        from .inference.hypotheses.anova import anova

        print(f"\n{anova(fit, ddf=ddf)}")
    if args.json is not None:
        write_json(record(fit, ddf), args.json)
    if args.save is not None:
        fit.save(args.save)


def verify_command(args: argparse.Namespace) -> int:
    """Read both, compare, print."""
    from .loading import load, verify

    if not Path(args.saved).is_file():
        raise CommandError(f"no such file: {args.saved!r}")
    fit = load(args.saved)
    args.formula = fit.formula
    found = verify(fit, chosen_data(args))
    print(found)
    return 0 if found else 1


def fit_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `lmer`, or with --family `glmer`, takes besides data and model."""
    from .engine.generalized import MOST_NODES
    from .engine.machine import MOST_THREADS
    from .engine.options import MOST_STARTS

    threads = whole_number(args.threads, "--threads", 1, MOST_THREADS)
    starts = whole_number(args.starts, "--starts", 0, MOST_STARTS)
    nodes = whole_number(args.nagq, "--nagq", 1, MOST_NODES)
    given: dict[str, Any] = {"verbose": args.verbose, "threads": threads}
    if args.family is None:
        asked = {"--nagq": nodes > 1, "--accuracy": args.accuracy != "laplace"}
        check_linear(args.link, **asked)
        return {**given, "reml": not args.ml, "starts": starts}
    if starts:
        raise CommandError("--starts is for linear models: give one of it and --family")
    if args.ddf not in (None, "z"):
        raise CommandError(f"--ddf {args.ddf} is for linear models: with --family tests are z")
    given |= {"family": args.family, "link": args.link, "nagq": nodes}
    return {**given, "accuracy": args.accuracy, "reml": args.reml}


def check_linear(link: str | None, **asked: bool) -> None:
    """Refuses options of generalized models where there is no --family."""
    for option, is_given in {"--link": link is not None, **asked}.items():
        if is_given:
            raise CommandError(f"{option} is for generalized models: give --family too")


def plan_command(args: argparse.Namespace) -> None:
    """Read, count, print."""
    from .api import plan

    if args.family is None:
        check_linear(args.link)
    family = {"family": args.family, "link": args.link}
    print(plan(args.formula, chosen_data(args), **model_options(args), **family))


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `lmer` and `plan` take besides a formula and data."""
    given = {name: getattr(args, name) for name in ("weights", "offset", "storage")}
    return {**given, "contrasts": parse_contrasts(args.contrasts) or None}


def check_writable(path: str, option: str) -> None:
    """Refuses a file that cannot be made, before the work is done."""
    folder = Path(path).parent
    if path in ("", "-") or not folder.is_dir() or Path(path).is_dir():
        raise CommandError(f"cannot write {path!r}: give {option} the name of a file in a folder")


def whole_number(given: str, option: str, least: int, most: int) -> int:
    """The number that an option was given."""
    digits = given.strip().lstrip("+")
    if digits.isascii() and digits.isdigit() and len(digits) < 10:
        count = int(digits)
        if least <= count <= most:
            return count
    raise CommandError(f"{option} must be at least {least} and at most {most}, not {given!r}")


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
    if args.path is not None:
        return file_data(args)
    if options_of(args):
        raise CommandError(f"{said(options_of(args))} is for text files: give DATA")
    from . import datasets

    if args.data not in datasets.names() and Path(args.data).exists():
        raise CommandError(f"{args.data!r} is a file: give it without --data, behind the formula")
    return datasets.load(args.data)


def options_of(args: argparse.Namespace) -> dict[str, str]:
    """What the arguments say about how a text file is written."""
    given = {name: getattr(args, name) for name in ("sep", "decimal", "encoding")}
    if given["sep"] in TABS:
        given["sep"] = "\t"
    return {name: value for name, value in given.items() if value is not None}


def file_data(args: argparse.Namespace) -> Any:
    """The data of the files that the arguments name: a frame, or what `lmer` streams."""
    from .sources.open import files_source
    from .sources.streamed import numeric_names

    path, options = args.path, options_of(args)
    text = Text(**options)
    if not Path(path).exists() and not any(mark in path for mark in "*?["):
        raise CommandError(f"no such file: {path!r}")
    if Path(path).is_dir():
        return path
    paths = expand(path)
    kind = kind_of(paths)
    if options and kind != "text":
        raise CommandError(f"{said(options)} is for text files, which {path!r} is not")
    if kind == "text":
        numeric = numeric_names(args.formula, lambda: columns_of(paths[0], text))
        if not args.stream:
            return read_text(paths, text, numeric)
        return files_source(path, text, numeric, CHUNK)
    return path if args.stream or len(paths) > 1 else read_table(path)


def said(options: dict[str, str]) -> str:
    """Options as they are written on the command line."""
    shown = {name: "\\t" if value == "\t" else value for name, value in options.items()}
    return " ".join(f"--{name} {shlex.quote(value)}" for name, value in shown.items())


def read_table(path: str) -> pd.DataFrame:
    """A file as a data frame; the name's ending says which kind it is."""
    import pandas as pd

    from .sources.libraries import arrow_for

    paths = expand(path)
    kind = kind_of(paths)
    if kind == "text":
        return read_text(paths, Text())
    arrow_for(path, kind)
    try:
        return pd.read_parquet(path) if kind == "parquet" else pd.read_feather(path)
    except Exception as error:  # each format has exceptions of its own
        raise CommandError(f"cannot read {path!r}: {one_line(error)}") from error


# ---- results out --------------------------------------------------------------------------------


def record(fit: LMMFit | GLMMFit, ddf: Ddf) -> dict[str, Any]:
    """Everything about a fit in plain dicts, lists, numbers and strings (NaN where missing)."""
    from .inference.ddf import method_of
    from .inference.selection.singular import singular_sentences

    estimates, design = fit.estimates, fit.design
    names, test = design.x_names, fit.coef_test(ddf=ddf)
    tested = {"bse": test.sd, "df": test.df_denom, "tvalues": test.tvalue, "pvalues": test.pvalue}
    return {
        "lmmfast": __version__,
        "formula": fit.formula,
        "response": design.response,
        "reml": fit.reml,
        **family_record(fit),
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
        **{name: dict(zip(names, values, strict=True)) for name, values in tested.items()},
        "cov_params": method_of(fit, ddf).vcov,
        "dropped_columns": fit.params.index[~np.asarray(estimates.fixed_kept)].tolist(),
        "sigma": fit.sigma if fit.family is None else None,
        "theta": fit.theta,
        "varcorr": fit.varcorr.astype(object).to_dict("records"),
        "ranef": {group: frame.to_dict("split") for group, frame in fit.ranef().items()},
        "saved": saved_record(fit, ddf),
    }


def saved_record(fit: Any, ddf: str) -> dict[str, Any] | None:
    """The fit as `lmmfast.load` reads it; None where it cannot be saved."""
    from .errors import DataError
    from .saved.container import inline
    from .saved.files import contents

    try:
        return inline(*contents(fit, ddf=[fit.usual_ddf, ddf]))
    except DataError:
        return None


def family_record(fit: Any) -> dict[str, Any]:
    """What only generalized models have."""
    if fit.family is None:
        return {}
    return {
        "family": fit.family.name,
        "link": fit.link,
        "extra": fit.extra.to_dict(),
        "nagq": fit.estimates.nagq,
        "accuracy": fit.estimates.accuracy,
        "levels": list(fit.design.outcome.levels),
        "separation": list(fit.separation),
    }


def write_json(content: Any, path: str) -> None:
    """Write a file whole or not at all: to a neighbour first, then renamed."""
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
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


# ---- messages -----------------------------------------------------------------------------------


def without_carets(message: str) -> str:
    """A message that shows a place in a formula by carets, with the place in words."""
    lines = message.split("\n")
    if len(lines) != 3 or set(lines[2].strip()) != {"^"}:
        return message
    under = lines[1][lines[2].index("^") : len(lines[2])]
    return f"{lines[0]} (at {under!r})" if under else f"{lines[0]} (at its end)"


def one_line(message: object) -> str:
    """A message without line breaks."""
    return " ".join(str(message).split()) or type(message).__name__


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line on stderr."""
    print(f"lmmfast: warning: {one_line(message)}", file=sys.stderr)
