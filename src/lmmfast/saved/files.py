"""Fits to files and back: what each kind of fit writes, and how it is made again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.rows import Rows
from ..errors import DataError, LmmError, silenced
from ..fit import Fit
from ..inference.ddf import check_choice, mixed_only
from ..sources.archive import write
from ..sources.records import Arrays, Reader
from ..sources.verify import Damage, fields, text, whole
from .container import FORMAT, VERSION, damaged, packed, unpacked
from .cross import cross_of, restored_design
from .design import read_design, write_design
from .estimates import LINEAR, check_linear
from .generalized import GENERALIZED, check_generalized, read_facts, write_facts
from .lean import facts_of, fingerprint, without_data
from .model import KeptModel
from .model_records import read_model, write_model
from .rows import RowPacker

DATA = (False, True, "cross-products")
_HEADER = ("format", "version", "kind", "data", "written", "digest", "fingerprint")
_BODY = ("estimates", "design", "model", "facts")
_STORED = {False: "none", True: "rows", "cross-products": "cross-products"}


class Maker(NamedTuple):
    """How fits of one kind are made."""

    fit: Callable[..., Fit]  # of estimates, design and model
    model: Callable[..., Any]  # of a design with its data


def version() -> str:
    """That of this lmmfast."""
    from .. import __version__

    return __version__


# ---- writing ------------------------------------------------------------------------------------


def contents(fit: Fit, data: Any = False, ddf: Any = None) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a fit."""
    check_choice("data", data, DATA)
    kind = kind_of(fit)
    writer = RowPacker()
    kept = without_data(fit, ddf) if data is False else _with_data(fit)
    cross = cross_of(fit) if data == "cross-products" else None
    model: Any = kept.model
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "data": _STORED[data],
        "written": f"lmmfast {version()}",
        "fingerprint": fingerprint(fit),
        "estimates": (LINEAR if kind == "lmm" else GENERALIZED).write(kept.estimates, writer),
        "facts": write_facts(facts_of(fit), writer) if fit.family is not None else None,
    }
    if cross is not None:
        header["design"] = {"cross": writer.array(np.frombuffer(cross.to_bytes(), dtype=np.uint8))}
    else:
        header["design"] = write_design(kept.design, writer)
    lean = isinstance(model, KeptModel)
    header["model"] = write_model(model, writer) if lean else {"storage": model._storage}
    return header, writer.arrays


def kind_of(fit: Fit) -> str:
    """Its name in files; FitError for a fit for repeated measures, which cannot be saved."""
    mixed_only(fit, "saving to a file (a pickle holds any fit)")
    return "lmm" if fit.family is None else "glmm"


def _with_data(fit: Fit) -> Fit:
    """The fit, which has its data."""
    if isinstance(fit.model, KeptModel):
        raise DataError("this fit has no data: save it with data=False")
    return fit


def save(fit: Fit, path: str | os.PathLike[str], data: Any = False, ddf: Any = None) -> None:
    """Writes a fit to a file, whole or not at all."""
    write(packed(*contents(fit, data, ddf)), Path(path))


# ---- reading ------------------------------------------------------------------------------------


def load(
    path: str | os.PathLike[str], names: Mapping[str, Any] | None, kinds: Mapping[str, Maker]
) -> Fit:
    """What `save` wrote; `kinds` makes the fits."""
    return restored(Path(path).read_bytes(), repr(str(path)), names or {}, kinds)


def restored(data: bytes, name: str, names: Mapping[str, Any], kinds: Mapping[str, Maker]) -> Fit:
    """A fit of a file's bytes; messages call it `name`."""
    header, arrays = unpacked(data, name)
    try:
        with silenced(), np.errstate(all="ignore"):  # what is to be said of the fit was said
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
    kinds: Mapping[str, Maker],
) -> Fit:
    own = fields(header, (*_HEADER, *_BODY))
    reader = Reader(arrays)
    if own["kind"] not in kinds or own["data"] not in _STORED.values():
        raise Damage("the fit is of no known kind")
    maker, generalized = kinds[own["kind"]], own["kind"] == "glmm"
    stored = own["data"]
    if stored == "cross-products":
        design: Any = restored_design(own["design"], reader)
    else:
        design = read_design(own["design"], names, reader)
    if (stored == "rows") != isinstance(design.sums, Rows):
        raise Damage("the rows are missing")
    facts: dict[str, Any] = {}
    estimates: Any
    if generalized:
        facts = read_facts(own["facts"], design, names, reader)
        estimates = GENERALIZED.read(own["estimates"], "the estimates", reader)
        check_generalized(estimates, design, facts)
    else:
        estimates = LINEAR.read(own["estimates"], "the estimates", reader)
        check_linear(estimates, design)
    if stored == "none":
        kept = read_model(own["model"], design, estimates, facts, reader)
        if own["fingerprint"] is not None:
            kept.fingerprint = text(own["fingerprint"], "the fingerprint")
        return maker.fit(estimates, design, kept)
    storage = text(fields(own["model"], ("storage",))["storage"], "the storage")
    model = maker.model(design, storage=storage, threads=1, **facts)
    if generalized:
        estimates = _with_model(estimates, model)
    _check_model(model, estimates)
    return maker.fit(estimates, design, model)


def _with_model(estimates: Any, model: Any) -> Any:
    """The estimates of a generalized model, standing there."""
    psi, covariance = estimates.psi, estimates.covariance
    made = replace(estimates, point=model.point(model.checked(psi)))
    object.__setattr__(made, "covariance", covariance)
    return made


def _check_model(model: Any, estimates: Any) -> None:
    """The numbers are those of the model that was made."""
    whole(len(estimates.theta), "the length of theta", model.ntheta, model.ntheta)
    if not np.array_equal(np.asarray(model._core.keep, bool), estimates.fixed_kept):
        raise Damage("other coefficients were kept than the data allow")
