"""What was read of a model, as records."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.design import Design
from ..inference.estimability import Openness
from ..sources.records import Reader
from ..sources.verify import Damage, fields, items, whole
from .kinds import WHOLE, Packer, Record, array, many, named, optional
from .model import Adjusted, Core, Information, KeptModel, Readings
from .values import read_value, write_value

INFORMATION = Record(
    Information,
    {
        "root": array(2),
        "unknown": array(2),
        "residual": many(array(1)),
        "products": many(array(2)),
        "slopes": optional(array(3)),
    },
)
ADJUSTED = Record(Adjusted, {"W": array(2), "adjusted": array(2), "basis": array(2), "P": array(3)})
OPENNESS = Record(Openness, {"directions": array(2), "noise": array(1)})

_MODEL = ("ntheta", "nextra", "kept", "whitening", "storage", "readings")
_READINGS = ("E", "moved", "blocks", "pairs", "information", "adjusted", "openness")


def write_model(model: KeptModel, writer: Packer) -> dict[str, Any]:
    """Where parameters are, and what was read at the estimates."""
    core, read = model._core, model.readings
    return {
        "ntheta": core.ntheta,
        "nextra": core.nextra,
        "kept": [list(map(int, own)) for own in model._engine._kept],
        "whitening": [writer.array(C) for C in model._engine.whitening()],
        "storage": write_value(core.report, writer, "the storage"),
        "readings": {
            "E": writer.array(read.E),
            "moved": optional(many(array(3))).write(read.moved, writer),
            "blocks": optional(many(array(3))).write(read.blocks, writer),
            "pairs": [
                [i, j, writer.array(levels), writer.array(blocks)]
                for (i, j), (levels, blocks) in read.pairs.items()
            ],
            "information": optional(INFORMATION.kind).write(read.information, writer),
            "adjusted": named(ADJUSTED.kind).write(read.adjusted, writer),
            "openness": optional(OPENNESS.kind).write(read.openness, writer),
        },
    }


def read_model(
    item: Any, design: Design, estimates: Any, facts: dict[str, Any], reader: Reader
) -> KeptModel:
    """What `write_model` wrote, of a fit with this design and these estimates."""
    own = fields(item, _MODEL)
    terms = design.terms
    given = items(own["kept"], "the columns of terms", len(terms))
    kept = [_kept_of(one, len(term.columns)) for one, term in zip(given, terms, strict=True)]
    names = items(own["whitening"], "the whitening", len(terms))
    C = tuple(
        _invertible(reader.finite(name, "the whitening", len(one), len(one)))
        for name, one in zip(names, kept, strict=True)
    )
    storage = read_value(own["storage"], "the storage", reader)
    if not isinstance(storage, dict) or not {"storage", "order"} <= storage.keys():
        raise Damage("the storage is no record")
    core = Core(
        WHOLE.read(own["ntheta"], "ntheta", reader),
        WHOLE.read(own["nextra"], "nextra", reader),
        estimates.fixed_kept,
        storage,
    )
    widths = [len(one) for one in kept]
    count = sum(
        k if term.structure == "diag" else k * (k + 1) // 2
        for k, term in zip(widths, terms, strict=True)
    )
    if not core.ntheta == count == len(estimates.theta):
        raise Damage(f"theta has {len(estimates.theta)} values, the terms have {count}")
    readings = _readings_of(own["readings"], design, estimates, widths, reader)
    return KeptModel(design, core, kept, C, readings, facts)


def _kept_of(item: Any, k: int) -> tuple[int, ...]:
    found = tuple(whole(j, "a column", 0, k - 1) for j in items(item, "the columns of a term"))
    if not found or list(found) != sorted(set(found)):
        raise Damage("the columns of a term are not in order")
    return found


def _invertible(C: np.ndarray) -> np.ndarray:
    size = np.abs(C).max(initial=0.0)
    if not 0 < size < 1e300 or np.linalg.matrix_rank(C / size, tol=1e-300) < len(C):
        raise Damage("the whitening of a term is singular")
    try:
        np.linalg.inv(C)
    except np.linalg.LinAlgError:
        raise Damage("the whitening of a term is singular") from None
    return C


def _readings_of(
    item: Any, design: Design, estimates: Any, widths: list[int], reader: Reader
) -> Readings:
    own, what = fields(item, _READINGS), "what was read of the model"
    p, terms = len(design.x_names), design.terms
    E = reader.finite(own["E"], what, p, None)
    moved = optional(many(array(3))).read(own["moved"], what, reader)
    blocks = optional(many(array(3))).read(own["blocks"], what, reader)
    if (moved is None) != (blocks is None):
        raise Damage(f"{what}: covariances are there in part")
    if moved is not None and blocks is not None:
        for i, term in enumerate(terms):
            m, k, w = len(term.levels), len(term.columns), widths[i]
            if i >= len(moved) or moved[i].shape != (m, k, E.shape[1]):
                raise Damage(f"{what}: shares of ({term.label[:40]}) have another shape")
            if i >= len(blocks) or blocks[i].shape != (m, w, w):
                raise Damage(f"{what}: covariances of ({term.label[:40]}) have another shape")
    information = optional(INFORMATION.kind).read(own["information"], what, reader)
    if information is not None:
        _check_information(information, design, estimates, widths)
    adjusted = named(ADJUSTED.kind).read(own["adjusted"], what, reader)
    for name, one in adjusted.items():
        _check_adjusted(name, one, p, estimates)
    openness = read_openness(own["openness"], estimates, reader)
    pairs = {} if blocks is None else _pairs_of(own["pairs"], design, widths, reader)
    return Readings(E, moved, blocks, pairs, information, adjusted, openness)


def read_openness(item: Any, estimates: Any, reader: Reader) -> Openness | None:
    """Directions of the fixed effects about which the data say nothing, one a dropped column."""
    found: Openness | None = optional(OPENNESS.kind).read(item, "open directions", reader)
    dropped = int((~estimates.fixed_kept).sum())
    shape = (len(estimates.fixed_kept), dropped)
    if found is not None and (found.directions.shape, found.noise.shape) != (shape, (dropped,)):
        raise Damage("open directions have another shape")
    return found


def _pairs_of(
    item: Any, design: Design, widths: list[int], reader: Reader
) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    what, out = "covariances of two terms", {}
    for one in items(item, what):
        i, j, levels, blocks = items(one, what, 4)
        j = whole(j, what, 0, len(widths) - 1)
        i = whole(i, what, 0, j - 1)
        own = reader.array(levels, what, "i", (None, 2))
        sizes = [len(design.terms[x].levels) for x in (i, j)]
        keys = own[:, 0].astype(np.int64) * sizes[1] + own[:, 1]
        if not len(own) or (own < 0).any() or (own >= sizes).any() or (np.diff(keys) <= 0).any():
            raise Damage(f"{what} are of unknown levels")
        values = reader.finite(blocks, what, len(own), widths[i], widths[j])
        out[i, j] = own, values
    return out


def _check_information(own: Information, design: Design, estimates: Any, widths: list[int]) -> None:
    what = "what degrees of freedom are made of"
    p = len(design.x_names)
    if len(own.residual) != len(widths) or len(own.products) != len(widths):
        raise Damage(f"{what}: a term is missing")
    for k, residual, products in zip(widths, own.residual, own.products, strict=True):
        size = k * (k + 1) // 2
        if residual.shape != (size,) or products.shape != (p * (p + 1) // 2, size):
            raise Damage(f"{what} has another shape")
    delta = 0 if estimates.delta is None else len(estimates.delta)
    if (own.slopes is None) != (delta == 0) or (
        own.slopes is not None and own.slopes.shape[:1] != (delta,)
    ):
        raise Damage(f"{what}: the parameters of the residuals differ")
    if len(own.root) != len(own.unknown) or len(own.root) > _most(estimates):
        raise Damage(f"{what} is of more parameters than there are")


def _most(estimates: Any) -> int:
    delta = 0 if estimates.delta is None else len(estimates.delta)
    own = estimates.theta if estimates.phi is None else estimates.phi
    return len(own) + delta


def _check_adjusted(name: str, own: Adjusted, p: int, estimates: Any) -> None:
    what = "what tests by Kenward and Roger are made of"
    r, rank = len(own.W), own.basis.shape[1]
    if name not in ("kenward-roger", "kenward-roger-observed") or not estimates.reml:
        raise Damage(f"{what} has no such name")
    shapes = (own.W.shape, own.adjusted.shape, own.basis.shape, own.P.shape)
    if shapes != ((r, r), (rank, rank), (p, rank), (r, rank, rank)):
        raise Damage(f"{what} has another shape")
    free = estimates.free
    if free is not None and (free.fixed.any() or free.basis.any()):
        raise Damage(f"{what} is there for a fit that has none")
