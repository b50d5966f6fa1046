"""Models with fewer terms in the fixed part, or in the random part, of the same rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...data.design import evaluated
from ...data.encode import layout_of
from ...data.fixed import fixed_columns
from ...errors import FormulaError
from ...formula.bars import signed_parts
from ...formula.parser import parse_text
from ...formula.plan import plan_of
from ...formula.terms import Sum, read_sum, sum_of
from ...formula.tree import Call, Name, walk
from .reductions import Deletion, Part, Reduction, distinct, expressible, formula_of, whole

if TYPE_CHECKING:
    from ...data.design import Design
    from ...data.encode import Layout
    from ..hypotheses.estimable import Effects


def named_terms(effects: Effects, given: Any, role: str) -> list[int]:
    """The places of terms that are given by name: ``"a"``, ``["a", "b:c"]``, ``"~ a + b:c"``.

    ``"~ ."`` are all. ValueError for what is no term of the model; `role` is the argument's name.
    """
    known = {effects.variables(i): i for i, label in enumerate(effects.labels) if label}
    places: list[int] = []
    for text in [given] if isinstance(given, str) else list(given):
        node = parse_text(str(text))
        if isinstance(node, Call) and node.function == "~":
            node = node.operands[-1]
        if any(isinstance(one, Name) and one.name == "." and not one.written for one in walk(node)):
            places += known.values()
            continue
        wanted = sum_of(signed_parts(node), str(text))
        for term in wanted.terms:
            own = frozenset(wanted.atoms[atom].label for atom in term.atoms)
            if own and own not in known:
                there, what = ", ".join(filter(None, effects.labels)), wanted.label(term)
                raise ValueError(f"{role}: {what!r} is no term of the model, which has {there}")
            places += [known[own]] if own else []
    return sorted(dict.fromkeys(places))


def without_term(design: Design, variables: frozenset[str]) -> Design:
    """The design without the term of these variables in its fixed part, of the same rows.

    Variables are coded by the formula that is left, as a fit of it would code them.
    """
    recipe = design.recipe
    assert recipe is not None, "a model from arrays has no terms"
    text = _text_without(design.plan.fixed, variables)
    layout = layout_of(read_sum(text), recipe.codings)
    formula = formula_of(design, whole(design), text)
    names = recipe.names & frozenset(plan_of(formula).names)
    return replace(
        design,
        formula=formula,
        x_names=layout.names,
        fixed=columns_of(design, layout),
        recipe=replace(recipe, fixed_layout=layout, names=names),
    )


def _text_without(terms: Sum, gone: frozenset[str]) -> str:
    """The terms but one as a formula writes them; a product may be in another order."""
    kept = [
        ":".join(terms.atoms[atom].text for atom in term.atoms)
        for term in terms.terms
        if term.atoms and frozenset(terms.atoms[atom].label for atom in term.atoms) != gone
    ]
    if not terms.intercept:
        return " + ".join(["0", *kept])
    return " + ".join(kept) or "1"


def columns_of(design: Design, layout: Layout) -> Any:
    """The columns of a smaller layout: made of the variables, or chosen where rows are not held."""
    recipe = design.recipe
    assert recipe is not None
    if design.is_held:
        atoms = {atom.label: atom for atom in layout.atoms}
        values = {
            name: evaluated(atom, design.variables, recipe.memory, design.rows)
            for name, atom in atoms.items()
        }
        return fixed_columns(design.n, layout, recipe.codings, values)
    place = {frozenset(key): j for j, key in enumerate(recipe.fixed_layout.columns)}
    try:
        return design.fixed.chosen([place[frozenset(key)] for key in layout.columns])
    except KeyError:
        raise FormulaError(
            "without this term other factors would be coded in another way, and the rows of a "
            "stream are not in memory to do so: fit the smaller formula"
        ) from None


def reduction_of(design: Design, deletion: Deletion) -> Reduction | None:
    """A deletion of random effects as a model that has a formula; None where it has none."""
    parts: list[Part] = []
    for part in whole(design):
        if part.term != deletion.term:
            parts.append(part)
        elif deletion.kind:
            parts.append(replace(part, kind=deletion.kind))
        elif deletion.constant and deletion.stay:
            return None
        elif deletion.constant:
            parts.append(replace(part, columns=(), structure="full", constant=True))
        elif deletion.stay:
            parts.append(replace(part, columns=deletion.stay))
            if not expressible(design, parts[-1]):
                return None
    return Reduction(distinct(design, parts), deletion.label, "column")
