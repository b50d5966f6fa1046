"""Fits to files and back: what each kind of fit writes, and how it is made again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, LmmError
from ..fit import Fit
from ..sources.archive import write
from ..sources.records import Arrays, Reader
from ..sources.verify import Damage, fields
from .container import FORMAT, VERSION, damaged, packed, unpacked
from .design import read_design, write_design
from .estimates import LINEAR, check_linear
from .generalized import GENERALIZED, check_generalized, read_facts, write_facts
from .kinds import Packer
from .lean import without_data
from .model_records import read_model, write_model

_HEADER = ("format", "version", "kind", "data", "written", "digest")
_BODY = ("estimates", "design", "model", "facts")


def version() -> str:
    """That of this lmmfast."""
    from .. import __version__

    return __version__


def contents(fit: Fit, data: Any = False, ddf: Any = None) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a fit."""
    kind = kind_of(fit)
    lean = without_data(fit, ddf)
    model: Any = lean.model
    writer = Packer()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "data": "none",
        "written": f"lmmfast {version()}",
        "estimates": (LINEAR if kind == "lmm" else GENERALIZED).write(lean.estimates, writer),
        "design": write_design(lean.design, writer),
        "model": write_model(model, writer),
        "facts": write_facts(model.facts, writer) if model.facts else None,
    }
    return header, writer.arrays


def kind_of(fit: Fit) -> str:
    """Its name in files."""
    return "lmm" if fit.family is None else "glmm"


def save(fit: Fit, path: str | os.PathLike[str], data: Any = False, ddf: Any = None) -> None:
    """Writes a fit to a file, whole or not at all."""
    write(packed(*contents(fit, data, ddf)), Path(path))


def load(
    path: str | os.PathLike[str],
    names: Mapping[str, Any] | None,
    kinds: Mapping[str, Callable[..., Fit]],
) -> Fit:
    """What `save` wrote; `kinds` makes the fits."""
    return restored(Path(path).read_bytes(), repr(str(path)), names or {}, kinds)


def restored(
    data: bytes, name: str, names: Mapping[str, Any], kinds: Mapping[str, Callable[..., Fit]]
) -> Fit:
    """A fit of a file's bytes; messages call it `name`."""
    header, arrays = unpacked(data, name)
    try:
        return _fit_of(header, arrays, names, kinds)
    except Damage as error:
        raise damaged(name, str(error)) from error
    except DataError as error:
        raise DataError(f"{name}: {error}", variable=error.variable) from error
    except LmmError as error:
        raise damaged(name, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # whatever bytes that are not what was written lead to
        raise damaged(name, f"{type(error).__name__}: {error}") from error


def _fit_of(
    header: dict[str, Any],
    arrays: Arrays,
    names: Mapping[str, Any],
    kinds: Mapping[str, Callable[..., Fit]],
) -> Fit:
    own = fields(header, (*_HEADER, *_BODY))
    reader = Reader(arrays)
    if own["kind"] not in kinds:
        raise Damage("the fit is of no known kind")
    design = read_design(own["design"], names, reader)
    facts: dict[str, Any] = {}
    if own["kind"] == "lmm":
        estimates = LINEAR.read(own["estimates"], "the estimates", reader)
        check_linear(estimates, design)
    else:
        facts = read_facts(own["facts"], design, names, reader)
        estimates = GENERALIZED.read(own["estimates"], "the estimates", reader)
        check_generalized(estimates, design, facts)
    model = read_model(own["model"], design, estimates, facts, reader)
    return kinds[own["kind"]](estimates, design, model)
