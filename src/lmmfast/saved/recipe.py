"""How new data are encoded, as records: codings, columns, grouping factors, what was learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.encode import Coding, Layout
from ..data.grouping import Grouping
from ..data.membership import MemberGrouping, SpannedGrouping
from ..data.recipe import Recipe
from ..errors import DataError, FormulaError
from ..formula.expressions import Expression, Kind, Memory, read_expression
from ..formula.plan import Plan
from ..formula.vocabulary import is_known
from ..sources.records import Reader, write_layout
from ..sources.verify import Damage, fields, flag, items, text, whole
from .kinds import LABELS, TEXT, Packer, Record, array, many, optional
from .values import read_value, write_value

_RECIPE = (
    *("codings", "fixed", "random", "groupings", "groups", "offset_terms", "offset"),
    *("offset_is_array", "names", "memory", "weights"),
)

CODING = Record(
    Coding,
    {
        "label": TEXT,
        "levels": optional(LABELS),
        "contrast": optional(array(2, gaps=True)),
        "names": many(TEXT),
        "dummy_names": many(TEXT),
        "full_rank": optional(array(2, gaps=True)),
    },
)


# ---- writing ------------------------------------------------------------------------------------


def write_recipe(recipe: Recipe, writer: Packer) -> dict[str, Any]:
    """All that encodes new data."""
    groupings = {grouping.label: grouping for grouping in recipe.groupings}
    return {
        "codings": [CODING.write(coding, writer) for coding in recipe.codings.values()],
        "fixed": write_layout(recipe.fixed_layout),
        "random": [write_layout(layout) for layout in recipe.random_layouts],
        "groupings": [write_grouping(one, writer) for one in groupings.values()],
        "groups": [grouping.label for grouping in recipe.groupings],
        "offset_terms": [atom.text for atom in recipe.offset_terms],
        "offset": recipe.offset,
        "offset_is_array": recipe.offset_is_array,
        "names": sorted(recipe.names),
        "memory": _memory(recipe.memory, writer),
        "weights": recipe.weights,
    }


def write_grouping(grouping: Any, writer: Packer) -> dict[str, Any]:
    """A grouping factor with its levels."""
    if isinstance(grouping, SpannedGrouping):
        spread = grouping.spread.tocsr()
        parts = (spread.indptr, spread.indices, spread.data)
        return {
            "spanned": write_grouping(grouping.inner, writer),
            "spread": [writer.array(own) for own in parts],
            "size": int(spread.shape[1]),
        }
    if isinstance(grouping, MemberGrouping):
        return {
            "label": grouping.label,
            "factors": [atom.text for atom in grouping.factors],
            "shares": [atom.text for atom in grouping.shares],
            "scale": grouping.scale,
            "levels": writer.labels(grouping.levels),
        }
    alone = len(grouping.atoms) == 1
    return {
        "label": grouping.label,
        "atoms": [atom.text for atom in grouping.atoms],
        "atom_levels": [writer.labels(levels) for levels in grouping.atom_levels],
        "pairs": [writer.array(keys) for keys in grouping.pairs],
        "levels": None if alone else writer.labels(grouping.levels),
    }


def _memory(memory: Memory, writer: Packer) -> dict[str, Any]:
    """What expressions learned, by label; names of the caller that are functions are named only."""
    learned = {
        label: write_value(state, writer, f"{label!r} of the formula")
        for label, state in memory.items()
        if state
    }
    values, functions = {}, sorted(memory.lost)
    for name, value in memory.used.items():
        if name in memory.lost:
            continue
        if callable(value):
            functions.append(name)
        else:
            values[name] = write_value(value, writer, f"the name {name!r} in the formula")
    kinds = {
        name: [
            kind.name,
            None if kind.levels is None else write_value(kind.levels, writer, repr(name)),
            kind.ordered,
        ]
        for name, kind in memory.kinds.items()
    }
    return {
        "learned": learned,
        "kinds": kinds,
        "values": values,
        "functions": functions,
        "patsy": memory.patsy,
    }


# ---- reading ------------------------------------------------------------------------------------


def read_recipe(item: Any, plan: Plan, names: Mapping[str, Any], reader: Reader) -> Recipe:
    """What `write_recipe` wrote; `names` has the functions of the caller."""
    own = fields(item, _RECIPE)
    memory = _memory_of(own["memory"], names, reader)
    python = memory.patsy
    codings = [CODING.read(one, "a variable", reader) for one in items(own["codings"], "variables")]
    by_label = {coding.label: checked(coding) for coding in codings}
    if set(by_label) != {atom.label for atom in plan.atoms} or len(by_label) < len(codings):
        raise Damage("the variables are not those of the formula")
    random = items(own["random"], "the random terms", len(plan.random))
    groupings = [read_grouping(one, python, reader) for one in items(own["groupings"], "factors")]
    known = {grouping.label: grouping for grouping in groupings}
    groups = [text(one, "a factor") for one in items(own["groups"], "factors", len(plan.random))]
    if set(groups) != set(known):
        raise Damage("the grouping factors are not those of the terms")
    for group, atoms in zip(groups, plan.groups, strict=True):
        if [atom.label for atom in known[group].atoms] != [atom.label for atom in atoms]:
            raise Damage(f"the grouping factor {group[:40]!r} is not that of the formula")
    columns = frozenset(text(one, "a column") for one in items(own["names"], "columns"))
    _check_names(plan, columns, memory)
    return Recipe(
        codings=by_label,
        fixed_layout=_layout_of(own["fixed"], by_label, python),
        random_layouts=tuple(_layout_of(one, by_label, python) for one in random),
        groupings=tuple(known[group] for group in groups),
        offset_terms=tuple(
            _atom(one, python) for one in items(own["offset_terms"], "offsets", len(plan.offsets))
        ),
        offset=_name(own["offset"], "the offset"),
        offset_is_array=flag(own["offset_is_array"], "the offset"),
        names=columns,
        memory=memory,
        weights=_name(own["weights"], "the weights"),
    )


def _check_names(plan: Plan, columns: frozenset[str], memory: Memory) -> None:
    """Every name on the right-hand side is a column, a name of the caller, or a constant."""
    groups = (atom for group in plan.groups for atom in group)
    for atom in (*plan.atoms, *plan.offsets, *groups):
        for name in atom.names:
            known = name in memory.scope or (is_known(name) and not atom.is_name)
            if name not in columns and not known:
                raise Damage(f"the column {name[:40]!r} is missing")


def _name(value: Any, what: str) -> str | None:
    return None if value is None else text(value, what)


def _atom(value: Any, python: bool) -> Expression:
    try:
        return read_expression(text(value, "an expression"), python)
    except FormulaError as error:
        raise Damage(f"an expression cannot be read ({error})") from None


def checked(coding: Coding) -> Coding:
    """A coding whose parts fit each other."""
    label, k = coding.label, len(coding.names)
    if coding.levels is None:
        if coding.contrast is not None or coding.full_rank is not None or not k:
            raise Damage(f"{label!r} is numeric and has contrasts")
        if coding.dummy_names != coding.names:
            raise Damage(f"{label!r} is numeric and has two kinds of columns")
        return coding
    size = len(coding.levels)
    if coding.contrast is None or size < 2:
        raise Damage(f"the contrasts of {label!r} are missing")
    _check_table(coding.contrast, size, k, label)
    if coding.full_rank is None and len(coding.dummy_names) != size:
        raise Damage(f"{label!r} has {size} levels and {len(coding.dummy_names)} columns for them")
    if coding.full_rank is not None:
        _check_table(coding.full_rank, size, len(coding.dummy_names), label)
    return coding


def _check_table(table: np.ndarray, size: int, k: int, label: str) -> None:
    """Numbers by level, and a last row, NaN, for missing values."""
    fits = table.shape == (size + 1, k)
    if not fits or not np.isfinite(table[:-1]).all() or not np.isnan(table[-1]).all():
        raise Damage(f"the contrasts of {label!r} do not fit its levels")


def _layout_of(item: Any, codings: dict[str, Coding], python: bool) -> Layout:
    own = fields(item, ("names", "columns", "atoms"))
    names = tuple(text(one, "a column's name") for one in items(own["names"], "columns"))
    atoms = tuple(_atom(one, python) for one in items(own["atoms"], "expressions"))
    given = items(own["columns"], "columns", len(names))
    columns = tuple(
        tuple(_factor(one, codings) for one in items(column, "a column")) for column in given
    )
    labels = {atom.label for atom in atoms}
    if not labels <= codings.keys() or any(
        label not in labels for column in columns for label, _, _ in column
    ):
        raise Damage("a column is of an unknown variable")
    return Layout(names, columns, atoms)


def _factor(item: Any, codings: dict[str, Coding]) -> tuple[str, bool, int]:
    label, dummy, j = items(item, "a column", 3)
    label, dummy = text(label, "a variable"), flag(dummy, "a column")
    if label not in codings:
        raise Damage("a column is of an unknown variable")
    return label, dummy, whole(j, "a column", 0, len(codings[label].fields(dummy)) - 1)


_GROUPING = ("label", "atoms", "atom_levels", "pairs", "levels")


def read_grouping(item: Any, python: bool, reader: Reader, inner: bool = False) -> Any:
    """What `write_grouping` wrote."""
    if isinstance(item, dict) and "spanned" in item and not inner:
        return _spanned(item, python, reader)
    if isinstance(item, dict) and "factors" in item:
        return _members(item, python, reader)
    own = fields(item, _GROUPING)
    label = text(own["label"], "a grouping factor")
    what = f"the levels of {label!r}"
    atoms = tuple(_atom(one, python) for one in items(own["atoms"], what))
    given = items(own["atom_levels"], what, len(atoms))
    atom_levels = tuple(reader.levels(one, what) for one in given)
    pairs = tuple(
        reader.array(name, what, "i", (None,)).astype(np.int64, copy=False)
        for name in items(own["pairs"], what, len(atoms) - 1)
    )
    left = len(atom_levels[0]) if atoms else 0
    for keys, levels in zip(pairs, atom_levels[1:], strict=True):
        most = left * len(levels)
        if len(keys) and (keys[0] < 0 or keys[-1] >= most or (np.diff(keys) <= 0).any()):
            raise Damage(f"{what}: a combination is of unknown levels")
        left = len(keys)
    if not left:
        raise Damage(f"{what} are missing")
    levels = atom_levels[0] if own["levels"] is None else reader.levels(own["levels"], what)
    if len(levels) != left or (own["levels"] is None) != (len(atoms) == 1):
        raise Damage(f"{what} are {len(levels)}, not {left}")
    return Grouping(label, atoms, atom_levels, pairs, levels)


def _members(item: Any, python: bool, reader: Reader) -> MemberGrouping:
    """mm(a, b): factors that share their levels."""
    own = fields(item, ("label", "factors", "shares", "scale", "levels"))
    label = text(own["label"], "a grouping factor")
    what = f"the levels of {label[:40]!r}"
    factors, shares = (
        tuple(_atom(one, python) for one in items(own[key], what)) for key in ("factors", "shares")
    )
    levels = reader.levels(own["levels"], what)
    if not factors or not len(levels) or len(shares) not in (0, len(factors)):
        raise Damage(f"{what} are missing")
    return MemberGrouping(label, factors, shares, flag(own["scale"], what), levels)


def _spanned(item: Any, python: bool, reader: Reader) -> SpannedGrouping:
    """A factor of which some levels are sums of others."""
    from scipy import sparse

    own = fields(item, ("spanned", "spread", "size"))
    inner = read_grouping(own["spanned"], python, reader, True)
    what, q = f"the levels of {inner.label[:40]!r}", len(inner.levels)
    r = whole(own["size"], what, 1, q)
    ptr, place, values = items(own["spread"], what, 3)
    starts = reader.array(ptr, what, "i", (q + 1,))
    columns = reader.array(place, what, "i", (None,))
    if starts[0] != 0 or starts[-1] != len(columns) or (np.diff(starts) < 0).any():
        raise Damage(f"{what}: sums of levels do not fit")
    if len(columns) and (columns.min() < 0 or columns.max() >= r):
        raise Damage(f"{what}: sums are of unknown levels")
    data = reader.finite(values, what, len(columns))
    return SpannedGrouping(inner, sparse.csr_matrix((data, columns, starts), shape=(q, r)))


_MEMORY = ("learned", "kinds", "values", "functions", "patsy")


def _memory_of(item: Any, names: Mapping[str, Any], reader: Reader) -> Memory:
    own = fields(item, _MEMORY)
    for key in ("learned", "kinds", "values"):
        if not isinstance(own[key], dict):
            raise Damage(f"{key} is no record")
    functions = [text(name, "a name") for name in items(own["functions"], "names")]
    missing = [name for name in functions if name not in names]
    if missing:
        said = ", ".join(f'"{name}": {name}' for name in missing)
        raise DataError(
            f"the formula uses {', '.join(map(repr, missing))} of the script that made the fit, "
            f"which a file does not hold: give it as load(path, names={{{said}}})",
            variable=missing[0],
        )
    used = {
        name: read_value(one, f"the name {name[:40]!r}", reader)
        for name, one in own["values"].items()
    }
    used |= {name: names[name] for name in functions}
    made = Memory(used, flag(own["patsy"], "patsy"))
    made.used, made.closed = used, True
    made.kinds = {name: _kind_of(name, one, reader) for name, one in own["kinds"].items()}
    for label, state in own["learned"].items():
        made[label] = read_value(state, f"{label[:40]!r} of the formula", reader)
        if not isinstance(made[label], dict):
            raise Damage(f"what {label[:40]!r} learned is no record")
    return made


def _kind_of(name: str, item: Any, reader: Reader) -> Kind:
    what = f"the kind of {name[:40]!r}"
    kind, levels, ordered = items(item, what, 3)
    if kind not in ("text", "factor", "numbers", "other"):
        raise Damage(f"{what} is unknown")
    known = None if levels is None else read_value(levels, what, reader)
    if (kind == "factor") != isinstance(known, list):
        raise Damage(f"{what} has no levels")
    return Kind(kind, known, flag(ordered, what))
