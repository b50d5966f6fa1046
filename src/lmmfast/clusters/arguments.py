"""What `cluster_test` is given: checked, and in the rows that the model uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.columns import Table
from ..data.design import Design, build
from ..errors import DataError, FormulaError
from ..formula.column import first_rows
from ..many.responses import Responses, chunks_of
from ..tables import joined
from .components import KINDS, TAILS, Rule
from .hypothesis import Tested

RESPONSE = "response_"  # what the left side of the formula is called


def check(rule: Mapping[str, Any]) -> None:
    """Arguments that mean nothing are refused."""
    for name, known in (("kind", KINDS), ("tail", TAILS)):
        if rule[name] not in known:
            words = ", ".join(map(repr, known))
            raise ValueError(f"{name} must be one of {words}, not {rule[name]!r}")
    alpha = rule["alpha"]
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is the p-value of the threshold, between 0 and 1, not {alpha!r}")
    for name in ("threshold", "extent", "height"):
        if rule[name] is not None and not (np.isfinite(rule[name]) and rule[name] > 0):
            raise ValueError(f"{name} must be a positive number, not {rule[name]!r}")
    if rule["kind"] == "tfce" and rule["threshold"] is not None:
        raise ValueError('kind="tfce" has no threshold')


def without_response(
    formula: Any, data: Any, weights: Any, offset: Any, codings: Mapping[str, Any] | None
) -> tuple[Design, Table]:
    """The design of a formula whose left side is not read, and the table that it was made of."""
    if not isinstance(formula, str):
        raise FormulaError(f"the formula must be text, not {type(formula).__name__}")
    table = Table.of(data)
    table.add(RESPONSE, np.sin(np.arange(1.0, table.n + 1)))  # stands in for every point
    right = formula.partition("~")[2] if "~" in formula else formula
    text = f"{RESPONSE} ~ {right}"
    return build(text, table, weights=weights, offset=offset, contrasts=codings), table


def unfolded(Y: Any, shape: Any) -> tuple[Any, Any]:
    """Arrays with several axes of points as one axis, and the extents of these."""
    if isinstance(Y, (list, tuple)) and Y and not hasattr(Y[0], "columns") and np.ndim(Y[0]) < 2:
        Y = _array(Y)
    if hasattr(Y, "to_frame") and not hasattr(Y, "columns"):
        Y = Y.to_frame()
    if isinstance(Y, np.ndarray) and Y.ndim > 2:
        return Y.reshape(len(Y), -1), Y.shape[1:] if shape is None else shape
    return Y, shape


def _array(rows: Any) -> np.ndarray:
    """Rows of numbers."""
    try:
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"Y has rows that are not equally many numbers ({error})") from None


def responses(Y: Any, design: Design) -> Responses:
    """All points, whatever chunks they come in."""
    parts = list(chunks_of(Y, None, design))
    if not parts or not sum(len(part.names) for part in parts):
        raise DataError("Y has no columns: there is no point to test", variable="Y")
    if all(np.isnan(part.values).all() for part in parts):
        raise DataError("Y is missing everywhere", variable="Y")
    if len(parts) == 1:
        return parts[0]
    names = tuple(name for part in parts for name in part.names)
    whole = np.asfortranarray(np.hstack([part.values for part in parts]))
    return Responses(whole, names, None)


def chosen(hypotheses: Tested, shuffle: Any) -> tuple[str, ...]:
    """The columns of the data that are shuffled."""
    made_of = hypotheses.variables
    if not made_of:
        raise ValueError(
            f"test={hypotheses.name!r} is made of no column of the data: there is nothing that "
            "could be shuffled; write permute='signs'"
        )
    if shuffle is None:
        if len(made_of) > 1:
            raise ValueError(
                f"test={hypotheses.name!r} is made of {joined(made_of)}: say which of these is "
                f"shuffled, as in shuffle={made_of[0]!r} (the others stay with their rows), or "
                "give a list of those that are shuffled together"
            )
        return made_of
    found = (shuffle,) if isinstance(shuffle, str) else tuple(shuffle)
    if not found or not set(found) & set(made_of):
        raise ValueError(
            f"shuffle={shuffle!r} has none of the columns that test={hypotheses.name!r} is made "
            f"of: {joined(made_of)}"
        )
    return found


def factors(
    design: Design, table: Table, named: Sequence[str | None], variables: Sequence[str]
) -> dict[str, np.ndarray]:
    """Numbers of the levels in each row of what may be units, the likelier first: factors of the
    formula with slopes of what is shuffled, the other ones, and those that are named."""
    recipe = design.recipe
    assert recipe is not None

    def has(atoms: Sequence[Any]) -> bool:
        return any(name in variables for atom in atoms for name in atom.names)

    order = sorted(range(len(design.terms)), key=lambda i: not has(recipe.random_layouts[i].atoms))
    found = {
        design.terms[i].group: np.asarray(design.terms[i].codes, np.int64)
        for i in order
        if not has(recipe.groupings[i].atoms)
    }
    for name in named:
        if name is not None and name not in found:
            found[name] = _numbers(name, table, design)
    if not found:
        raise ValueError(
            f"{joined(variables)} is in every grouping factor: name the units that are "
            "exchangeable by by="
        )
    return found


def fewest(design: Design) -> int:
    """Levels of the smallest grouping factor."""
    return min(len(term.levels) for term in design.terms)


def _numbers(name: str, table: Table, design: Design) -> np.ndarray:
    """The levels of a column of the data, in the rows that the model uses."""
    if not isinstance(name, str) or not table.has(name):
        raise table.lacks(name, DataError, "the column of the units")
    column = table.column(name).take(design.rows).as_factor()
    if column.codes.min() < 0:
        raise DataError(
            f"{name!r} is missing in {first_rows(column.codes < 0)}: every row needs one",
            variable=name,
        )
    return np.unique(column.codes, return_inverse=True)[1].ravel().astype(np.int64)


def rule_of(given: Mapping[str, Any], hypotheses: Tested, df: int) -> Rule:
    """How maps of the statistic are read; df: of its threshold."""
    kind, tail = given["kind"], given["tail"]
    if hypotheses.statistic == "F" and tail == "less":
        raise ValueError(f'tail="less": F, the statistic of {hypotheses.name}, is never negative')
    height = hypotheses.height if given["height"] is None else given["height"]
    threshold = given["threshold"]
    if kind == "tfce":
        threshold = 0.0
    elif threshold is None:
        threshold = _threshold(hypotheses, given["alpha"], tail, df)
    return Rule(kind, tail, float(threshold), float(given["extent"]), float(height))


def _threshold(hypotheses: Tested, alpha: float, tail: str, df: int) -> float:
    """The quantile of single points."""
    from scipy import stats

    if hypotheses.statistic == "F":
        return float(stats.f.isf(alpha, len(hypotheses.L), df))
    return float(stats.t.isf(alpha / 2 if tail == "two-sided" else alpha, df))
