"""Fits to files and back: what each kind of fit writes, and how it is made again."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeVar

import numpy as np

from ..data.rows import Rows
from ..data.visits import PatternSums
from ..errors import DataError, LmmError, silenced
from ..fit import Fit
from ..inference.ddf import check_choice, is_repeated
from ..sources.archive import write
from ..sources.records import Arrays, Reader
from ..sources.verify import Damage, fields, text, whole
from .container import FORMAT, VERSION, damaged, packed, unpacked
from .cross import cross_of, restored_design
from .design import read_design, write_design
from .estimates import LINEAR, check_linear
from .generalized import GENERALIZED, check_generalized, read_facts, write_facts
from .kept import KeptSums
from .lean import facts_of, fingerprint, without_data
from .model_records import read_model, write_model
from .repeated import pattern_sums, repeated_without_data, repeated_without_rows
from .repeated_records import (
    REPEATED,
    check_repeated,
    known_in,
    read_kept_repeated,
    read_repeated,
    write_kept_repeated,
    write_repeated,
)
from .rows import RowPacker

Kind = TypeVar("Kind", bound=Fit)
SavedTo: TypeAlias = "str | os.PathLike[str] | BinaryIO"

DATA = (False, True, "cross-products")
_HEADER = ("format", "version", "kind", "data", "written", "digest", "fingerprint")
_BODY = ("estimates", "design", "model", "facts")
_ESTIMATES = {"lmm": LINEAR, "glmm": GENERALIZED, "mmrm": REPEATED}
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
    kept = forgotten(fit, ddf) if data is False else _with_data(fit)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "data": _STORED[data],
        "written": f"lmmfast {version()}",
        "fingerprint": fingerprint(fit),
        "estimates": _ESTIMATES[kind].write(kept.estimates, writer),
    }
    body = _repeated_body if kind == "mmrm" else _mixed_body
    return header | body(kept, data, writer), writer.arrays


def _mixed_body(fit: Fit, data: Any, writer: RowPacker) -> dict[str, Any]:
    """Facts, design and model of a fit with random effects."""
    model: Any = fit.model
    cross = cross_of(fit) if data == "cross-products" else None
    facts = write_facts(facts_of(fit), writer) if fit.family is not None else None
    if cross is not None:
        as_bytes = np.frombuffer(cross.to_bytes(), dtype=np.uint8)
        design: dict[str, Any] = {"cross": writer.array(as_bytes)}
    else:
        design = write_design(fit.design, writer)
    own = {"storage": model._storage} if data is not False else write_model(model, writer)
    return {"facts": facts, "design": design, "model": own}


def _repeated_body(fit: Fit, data: Any, writer: RowPacker) -> dict[str, Any]:
    """The same of a fit for repeated measures."""
    design: Any = fit.design
    patterned: PatternSums | None = None
    if data == "cross-products":
        patterned = pattern_sums(design)
        design = repeated_without_rows(design)
    elif data is True:
        design.rows_for(
            'save it with data=False or "cross-products": data=True would need the rows'
        )
    return {
        "facts": write_repeated(fit, patterned, data is True, writer),
        "design": write_design(design, writer),
        "model": write_kept_repeated(fit.model, writer) if data is False else None,  # type: ignore[arg-type]
    }


def kind_of(fit: Fit) -> str:
    """Its name in files."""
    if is_repeated(fit):
        return "mmrm"
    return "lmm" if fit.family is None else "glmm"


def forgotten(fit: Kind, ddf: Any = None) -> Kind:
    """The fit without its data, as ``fit.without_data`` documents it."""
    return repeated_without_data(fit, ddf) if is_repeated(fit) else without_data(fit, ddf)


def _with_data(fit: Fit) -> Fit:
    """The fit, which has its data."""
    if isinstance(fit.design.sums, KeptSums) and getattr(fit.design, "patterned", None) is None:
        raise DataError("this fit has no data: save it with data=False")
    return fit


def save(fit: Fit, path: SavedTo, data: Any = False, ddf: Any = None) -> None:
    """Writes a fit to a file, whole or not at all."""
    if isinstance(path, (str, os.PathLike)):
        write(packed(*contents(fit, data, ddf)), Path(path))
    elif isinstance(path, io.TextIOBase):
        raise TypeError(f"{path!r} is open for text: open it for bytes, as in open(path, 'wb')")
    else:
        path.write(packed(*contents(fit, data, ddf)))


# ---- reading ------------------------------------------------------------------------------------


def load(path: SavedTo, names: Mapping[str, Any] | None, kinds: Mapping[str, Maker]) -> Fit:
    """What `save` wrote; `kinds` makes the fits."""
    if isinstance(path, (bytes, bytearray, memoryview)):
        raise TypeError("load takes a path or a file: lmmfast.load(io.BytesIO(data))")
    if isinstance(path, (str, os.PathLike)):
        return restored(Path(path).read_bytes(), repr(str(path)), names or {}, kinds)
    data, name = path.read(), repr(getattr(path, "name", "the file"))
    if isinstance(data, str):
        raise TypeError(f"{path!r} is open for text: open it for bytes, as in open(path, 'rb')")
    return restored(data, name, names or {}, kinds)


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
    maker = kinds[own["kind"]]
    if own["kind"] == "mmrm":
        return _repeated_of(own, names, maker, reader)
    generalized = own["kind"] == "glmm"
    stored = own["data"]
    if stored == "cross-products":
        design: Any = restored_design(own["design"], reader)
    else:
        design = read_design(own["design"], names, reader)
    _check_stored(own, design)
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
        _check_phi(kept, estimates)
        kept.fingerprint = _fingerprint_of(own)
        return maker.fit(estimates, design, kept)
    storage = text(fields(own["model"], ("storage",))["storage"], "the storage")
    model = maker.model(design, storage=storage, threads=1, **facts)
    if generalized:
        estimates = _with_model(estimates, model)
    _check_model(model.ntheta, np.asarray(model._core.keep, bool), estimates)
    _check_phi(model, estimates)
    return maker.fit(estimates, design, model)


def _repeated_of(
    own: dict[str, Any], names: Mapping[str, Any], maker: Maker, reader: Reader
) -> Fit:
    """A fit for repeated measures."""
    made = read_design(own["design"], names, reader, fixed_only=True)
    design, ddf = read_repeated(own["facts"], made, reader)
    _check_stored(own, design)
    if (own["data"] == "cross-products") != (design.patterned is not None):
        raise Damage("the sums by pattern of visits are missing")
    estimates = REPEATED.read(own["estimates"], "the estimates", reader)
    check_repeated(estimates, design)
    lean = own["data"] == "none"
    model: Any
    if lean:
        model = read_kept_repeated(own["model"], design, estimates, reader)
    else:
        model = maker.model(design)
    model.fingerprint = _fingerprint_of(own)
    model.known = known_in(own["facts"], estimates, reader)
    if lean:
        return maker.fit(estimates, design, model, ddf)
    _check_model(model.nphi, model.units.kept, estimates)
    return maker.fit(estimates, design, model, ddf)


def _fingerprint_of(own: dict[str, Any]) -> str | None:
    found = own["fingerprint"]
    return None if found is None else text(found, "the fingerprint")


def _check_stored(own: dict[str, Any], design: Any) -> None:
    if (own["data"] == "rows") != isinstance(design.sums, Rows):
        raise Damage("the rows are missing")


def _with_model(estimates: Any, model: Any) -> Any:
    """The estimates of a generalized model, standing there."""
    psi, covariance = estimates.psi, estimates.covariance
    made = replace(estimates, point=model.point(model.checked(psi)))
    object.__setattr__(made, "covariance", covariance)
    return made


def _check_model(count: int, kept: np.ndarray, estimates: Any) -> None:
    """The numbers are those of the model that was made."""
    whole(len(estimates.theta), "the length of theta", count, count)
    if not np.array_equal(kept, estimates.fixed_kept):
        raise Damage("other coefficients were kept than the data allow")


def _check_phi(model: Any, estimates: Any) -> None:
    """Parameters of covariance structures are there where the model has such structures."""
    wanted = None if model.structured is None else model.structured.nphi
    if (None if estimates.phi is None else len(estimates.phi)) != wanted:
        raise Damage("the parameters of the covariance structures are not those of the model")
