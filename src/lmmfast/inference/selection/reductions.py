"""Smaller random parts of a model: what can be taken out, and the fit without it.

A `Deletion` takes a random effect out for a test, whether a formula can say so or not; a
`Reduction` leaves a model that has a formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ... import tables
from ...errors import DataError, IdentifiabilityWarning, RankDeficientWarning, silenced
from ...linalg import triangular_root
from ..refits import model_of_part, refitted, without_random
from ..rows.quality import columns_of_terms
from .structured import simpler, term_text, with_kind

if TYPE_CHECKING:
    from ...data.design import Design
    from ...data.encode import Layout
    from ...data.recipe import Recipe
    from ...data.terms import RandomTerm
    from ...engine.free import Free
    from ...engine.model import Model
    from ...fit import Fit


LIFT = 0.1  # standard deviation over sigma at which a refit starts what was zero


# ---- single random effects -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Deletion:
    """A random term, and which of its columns stay."""

    label: str
    term: int
    stay: tuple[int, ...]  # columns that stay
    constant: bool  # whether an intercept takes the place of the others
    beside: int | None  # covariances that go with one variance; None where several variances go
    note: str = ""  # why it is no test; then there is nothing to take out
    kind: str = ""  # the simpler structure that its covariance gets; all columns stay


def deletions(design: Design, reduce: bool) -> Iterator[Deletion]:
    """What `ranova` takes out: columns of one term at a time, or whole terms (reduce=False)."""
    for i, term in enumerate(design.terms):
        groups = _column_groups(design, i)
        if term.covariance is not None:
            yield from _structured_deletions(design, i, reduce)
        elif term.structure == "diag":
            yield from _diagonal_deletions(term, i, groups)
        elif not reduce or list(groups) == [()]:
            beside = 0 if len(term.columns) == 1 else None
            yield Deletion(f"({term.label})", i, (), False, beside)
        else:
            for atoms in groups:
                if atoms and not any(set(atoms) < set(other) for other in groups):
                    yield _column_deletion(design, i, groups, atoms)


def allowed_deletions(fit: Fit, reduce: bool) -> Iterator[Deletion]:
    """The same for a fit: a term whose parameters are held or tied goes as a whole."""
    free, places = fit.estimates.free, fit.model.theta_entries
    done: set[int] = set()
    for deletion in deletions(fit.design, reduce):
        mine = [k for k, (t, _, _) in enumerate(places) if t == deletion.term]
        if free is None or free.is_free(mine):
            yield deletion
        elif deletion.term not in done:
            done.add(deletion.term)
            label, lost = f"({fit.design.terms[deletion.term].label})", free.lost(mine)
            none = f"{label} has no parameter of its own (held or tied): it is not tested"
            beside = 0 if lost == 1 else None
            yield Deletion(label, deletion.term, (), False, beside, "" if lost else none)


def _column_groups(design: Design, i: int) -> dict[tuple[str, ...], list[int]]:
    """Columns of a random term by the term of its left-hand side, () for the intercept."""
    keys: list[tuple[str, ...]]
    if design.recipe is None:
        term = design.terms[i]
        pairs = zip(term.source.constant(), term.columns, strict=True)
        keys = [() if constant else (name,) for constant, name in pairs]
    else:
        columns = design.recipe.random_layouts[i].columns
        keys = [tuple(atom for atom, _, _ in factors) for factors in columns]
    groups: dict[tuple[str, ...], list[int]] = {}
    for j, key in enumerate(keys):
        groups.setdefault(key, []).append(j)
    return groups


def _diagonal_deletions(
    term: RandomTerm, i: int, groups: dict[tuple[str, ...], list[int]]
) -> Iterator[Deletion]:
    for atoms, columns in groups.items():
        stay = tuple(j for j in range(len(term.columns)) if j not in columns)
        name = f"0 + {':'.join(atoms)}" if atoms else "1"
        sign, beside = ("|", 0) if len(columns) == 1 else ("||", None)
        yield Deletion(f"({name} {sign} {term.group})", i, stay, False, beside)


def _structured_deletions(design: Design, i: int, reduce: bool) -> Iterator[Deletion]:
    """Simpler structures, and the whole term: its columns cannot go one by one."""
    label, stay = design.terms[i].label, tuple(range(len(design.terms[i].columns)))
    for kind in simpler(design.terms[i]) if reduce else ():
        yield Deletion(f"{label} to {kind}", i, stay, False, None, kind=kind)
    yield Deletion(label, i, (), False, None)


def _column_deletion(
    design: Design, i: int, groups: dict[tuple[str, ...], list[int]], atoms: tuple[str, ...]
) -> Deletion:
    """A random term without the columns of one term of its left-hand side."""
    term = design.terms[i]
    label = f"{':'.join(atoms)} in ({term.label})"
    stay = tuple(j for j in range(len(term.columns)) if j not in groups[atoms])
    constant = () not in groups and _leaves_constant(design, i, atoms, list(groups))
    beside = len(stay) if len(groups[atoms]) == 1 and not constant else None
    return Deletion(label, i, stay, constant, beside)


def _leaves_constant(
    design: Design, i: int, atoms: tuple[str, ...], groups: list[tuple[str, ...]]
) -> bool:
    """Whether (0 + f | g) goes over to (1 | g), or (0 + f1 + f2 | g) to all levels of f2."""
    recipe, term = design.recipe, design.terms[i]
    if recipe is None:
        return False
    factors = [name for name, coding in recipe.codings.items() if coding.levels is not None]
    rest = [group for group in groups if group != atoms]
    if not set(atoms) <= set(factors) or (rest and not any(set(g) <= set(factors) for g in rest)):
        return False
    factor = term.source.factor
    others = (one for j, one in enumerate(design.terms) if j != i and one.source.factor == factor)
    return not any("Intercept" in one.columns for one in others)


# ---- parts of a model ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """What is kept of a random term: some of its columns, with or without correlations."""

    term: int
    columns: tuple[int, ...]
    structure: str  # "full" | "diag"
    constant: bool = False  # an intercept in place of all columns: (0 + f | g) -> (1 | g)
    kind: str = ""  # a simpler structure, of a term that has one; empty: its own


@dataclass(frozen=True)
class Reduction:
    """A smaller random part of a model."""

    parts: tuple[Part, ...]
    removed: str  # in words
    kind: str  # "no variance" | "correlations" | "column" | "structure"


def whole(design: Design) -> tuple[Part, ...]:
    """All there is."""
    return tuple(
        Part(i, tuple(range(len(term.columns))), term.structure)
        for i, term in enumerate(design.terms)
    )


def units(design: Design, i: int) -> dict[str, tuple[int, ...]]:
    """What formulas can take out of term i: its terms, with their columns; a structure is one."""
    term = design.terms[i]
    if term.covariance is not None:
        return {term.label: tuple(range(len(term.columns)))}
    if design.recipe is None:
        return {"1" if name == "Intercept" else name: (j,) for j, name in enumerate(term.columns)}
    own = columns_of_terms(design.plan.random[i], design.recipe.random_layouts[i])
    return {label: tuple(columns) for label, columns in own.items()}


def columns_text(design: Design, part: Part) -> str:
    """The columns of a part as a formula writes them."""
    if part.constant:
        return "1"
    term = design.terms[part.term]
    if design.recipe is None:
        return " + ".join(term.columns[j] for j in part.columns)
    if len(part.columns) == len(term.columns):
        return design.plan.formula.random[part.term].columns
    terms = design.plan.random[part.term]
    kept = [
        ":".join(terms.atoms[atom].text for atom in one.atoms) or "1"
        for one, columns in zip(terms.terms, units(design, part.term).values(), strict=True)
        if set(columns) <= set(part.columns)
    ]
    return " + ".join(kept if kept[0] == "1" else ["0", *kept])


def expressible(design: Design, part: Part) -> bool:
    """Whether a formula with these columns would code them as they are (factors may change)."""
    return design.recipe is None or _arranged(design, design.recipe, part) is not None


def _arranged(design: Design, recipe: Recipe, part: Part) -> tuple[Layout, list[int]] | None:
    """The layout of a formula with the part's columns, and the place of each in the whole term. A
    product may be written in another order where a variable appears later than it did."""
    from ...data.encode import layout_of
    from ...formula.redundancy import in_patsys_order
    from ...formula.terms import read_sum

    def identities(layout: Layout) -> list[Any]:
        labels = [atom.label for atom in layout.atoms]
        coded = {label for label in labels if recipe.codings[label].levels is not None}
        return [
            frozenset((name, dummy and name in coded, j) for name, dummy, j in factors)
            for factors in layout.columns
        ]

    patsy, codings = recipe.memory.patsy, recipe.codings
    terms = read_sum(columns_text(design, part), patsy)
    if patsy:
        terms = in_patsys_order(terms, lambda a: codings[a.label].levels is not None)
    layout = layout_of(terms, codings)
    known = {key: j for j, key in enumerate(identities(recipe.random_layouts[part.term]))}
    found = [known.get(key, -1) for key in identities(layout)]
    return (layout, found) if set(found) == set(part.columns) else None


def reduced_design(design: Design, parts: tuple[Part, ...]) -> Design:
    """The design with a smaller random part; it encodes new data as the whole one does."""
    from ...data.encode import layout_of
    from ...formula.terms import read_sum

    recipe = design.recipe
    terms, layouts = [], []
    for part in parts:
        if design.terms[part.term].covariance is not None:
            kind = part.kind
            terms.append(with_kind(design, part.term, kind) if kind else design.terms[part.term])
            layouts += [] if recipe is None else [recipe.random_layouts[part.term]]
            continue
        if recipe is None:
            names = [design.terms[part.term].columns[j] for j in part.columns]
            terms.append(_reduced_term(design, part, part.columns, names))
            continue
        if part.constant:
            layouts.append(layout_of(read_sum("1", recipe.memory.patsy), recipe.codings))
            terms.append(_constant_term(design, part.term))
            continue
        arranged = _arranged(design, recipe, part)
        assert arranged is not None, f"{part} cannot be written as a formula"
        layout, columns = arranged
        terms.append(_reduced_term(design, part, columns, layout.names))
        layouts.append(layout)
    if recipe is None:
        return replace(design, terms=tuple(terms))
    groupings = tuple(recipe.groupings[part.term] for part in parts)
    smaller = replace(recipe, random_layouts=tuple(layouts), groupings=groupings)
    return replace(design, formula=formula_of(design, parts), terms=tuple(terms), recipe=smaller)


def _constant_term(design: Design, i: int) -> RandomTerm:
    """An intercept in place of the columns of a term."""
    term = _narrowed(design, Deletion("", i, (), True, None))
    return replace(term, label=f"1 | {term.group}", structure="full")


def _reduced_term(
    design: Design, part: Part, columns: Sequence[int], names: Sequence[str]
) -> RandomTerm:
    term = design.terms[part.term]
    structure = part.structure if len(columns) > 1 else "full"
    bar = "|" if structure == "full" else "||"
    return replace(
        term,
        label=f"{columns_text(design, part)} {bar} {term.group}",
        columns=tuple(names),
        structure=structure,
        source=term.source.chosen(columns),
    )


def formula_of(design: Design, parts: tuple[Part, ...], fixed: str = "") -> str:
    """The formula with these random terms, and with another fixed part."""
    formula = design.plan.formula
    pieces = [fixed or formula.fixed, *(f"offset({offset})" for offset in formula.offsets)]
    for part in parts:
        if design.terms[part.term].covariance is not None:
            group = ":".join(formula.random[part.term].group)
            pieces.append(term_text(design, part.term, part.kind, group))
            continue
        bar = "||" if part.structure == "diag" and len(part.columns) > 1 else "|"
        group = ":".join(formula.random[part.term].group)
        pieces.append(f"({columns_text(design, part)} {bar} {group})")
    return f"{formula.response} ~ {' + '.join(pieces)}"


# ---- which reductions there are ------------------------------------------------------------------


def costless(fit: Fit) -> Reduction | None:
    """Columns with no variance taken out; None when there are none that a formula can take out."""
    design, varying = fit.design, _varying(fit)
    parts: list[Part] = []
    removed: list[str] = []
    for part in whole(design):
        term, T = design.terms[part.term], fit.estimates.T[part.term]
        others = term.group in varying or any(_group(design, p) == term.group for p in parts)
        if not T.any() and others:
            removed.append(term.term)
            continue
        kept, names = _without_zero_units(design, part, T)
        if names:
            removed.append(f"{tables.joined(names)} of ({term.label})")
        parts.append(kept)
    if not removed:
        return None
    return Reduction(distinct(design, parts), f"{', '.join(removed)}: no variance", "no variance")


def _varying(fit: Fit) -> set[str]:
    """Grouping factors that have some variance."""
    terms = zip(fit.design.terms, fit.estimates.T, strict=True)
    return {term.group for term, T in terms if T.any()}


def _group(design: Design, part: Part) -> str:
    return design.terms[part.term].group


def _without_zero_units(design: Design, part: Part, T: np.ndarray) -> tuple[Part, list[str]]:
    """The part without columns of variance zero, as far as a formula can say so; never empty."""
    removed: list[str] = []
    for label, columns in reversed(units(design, part.term).items()):
        rest = tuple(j for j in part.columns if j not in columns)
        smaller = replace(part, columns=rest)
        if rest and not T[list(columns)].any() and expressible(design, smaller):
            part = smaller
            removed.insert(0, "Intercept" if label == "1" else label)
    return part, removed


def distinct(design: Design, parts: list[Part]) -> tuple[Part, ...]:
    """Without parts that have become the same as an earlier one: one would be left unidentified."""
    seen: dict[tuple[str, ...], Part] = {}
    for part in parts:
        term = design.terms[part.term]
        names = ("Intercept",) if part.constant else tuple(term.columns[j] for j in part.columns)
        if term.covariance is not None:
            names = (part.kind or term.covariance.kind, *names)
        seen.setdefault((term.group, *names), part)
    return tuple(seen.values())


def without_factors(fit: Fit) -> Reduction | None:
    """The model without the grouping factors that have no variance at all, if one has some."""
    design, varying = fit.design, _varying(fit)
    parts = tuple(part for part in whole(design) if _group(design, part) in varying)
    if len(parts) in (0, len(design.terms)):
        return None
    gone = [group for group in fit.n_levels if group not in varying]
    return Reduction(parts, f"all terms of {tables.joined(gone)}: no variance", "no variance")


def costly(fit: Fit, every: bool = False) -> list[Reduction]:
    """Ways to reduce each singular term where nothing can be taken out for free, or every term."""
    zero = {item.term: len(item.zero) for item in fit.estimates.singular}
    out: list[Reduction] = []
    for i, term in enumerate(fit.design.terms):
        if i not in zero and not every:
            continue
        parts, label = list(whole(fit.design)), term.label
        if term.covariance is not None:
            for kind in simpler(term):
                parts[i] = replace(parts[i], kind=kind)
                out.append(Reduction(tuple(parts), f"{label} ({kind} instead)", "structure"))
            continue
        dependent = int(np.sum(fit.estimates.T[i].diagonal() == 0)) > zero.get(i, 0)
        if dependent or (every and term.structure == "full" and len(term.columns) > 1):
            parts[i] = replace(parts[i], structure="diag")
            out.append(Reduction(tuple(parts), f"correlations of ({label})", "correlations"))
        least = _least_important(fit, i)
        if least is not None:
            name, parts[i] = least
            smaller = distinct(fit.design, parts)
            out.append(Reduction(smaller, f"{name} of ({label})", "column"))
    return out


def _least_important(fit: Fit, i: int) -> tuple[str, Part] | None:
    """The term's highest-order effect with the smallest variance over the rows."""
    design, T = fit.design, fit.estimates.T[i]
    part, own = whole(design)[i], units(design, i)
    variance = (T * T).sum(axis=1) * _mean_squares(design, i)
    best: tuple[float, str, Part] | None = None
    for label, columns in own.items():
        smaller = replace(part, columns=tuple(j for j in part.columns if j not in columns))
        mine = set(label.split(":"))
        inside = any(mine < set(other.split(":")) for other in own)  # of an interaction
        if label == "1" or inside or not smaller.columns:
            continue
        size = float(variance[list(columns)].sum())
        if (best is None or size < best[0]) and expressible(design, smaller):
            best = (size, label, smaller)
    return None if best is None else best[1:]


def _mean_squares(design: Design, i: int) -> np.ndarray:
    """Mean over the rows of the square of each column of term i (k)."""
    columns = design.terms[i].source
    return columns.mean_squares(np.eye(columns.width))


# ---- refits --------------------------------------------------------------------------------------


class Refit(NamedTuple):
    """The criterion of a reduced model, how many parameters it lost, whether it is singular."""

    objective: float
    lost: int
    singular: bool


def refit_without(fit: Fit, deletion: Deletion) -> Refit:
    """The model with less random effects, fitted by the same criterion."""
    terms, T, i = list(fit.design.terms), list(fit.estimates.T), deletion.term
    kept = [t if t != i else None for t in range(len(terms))]
    if deletion.kind:
        terms[i] = with_kind(fit.design, i, deletion.kind)
        return _refit(fit, terms, None, kept)
    if deletion.stay or deletion.constant:
        terms[i], T[i] = _narrowed(fit.design, deletion), T[i][list(deletion.stay)]
        with suppress(DataError):  # all columns that stay are zero
            return _refit(fit, terms, None if deletion.constant else T, kept)
    del terms[i], T[i], kept[i]
    return _refit(fit, terms, T, kept)


def _narrowed(design: Design, deletion: Deletion) -> RandomTerm:
    """A term with the columns that stay."""
    term = design.terms[deletion.term]
    if not deletion.constant:
        return term.chosen(deletion.stay)
    stay = np.eye(len(term.columns))[:, list(deletion.stay)]
    M = np.column_stack([_constant_of(design, deletion.term), stay])
    names = ("Intercept", *(term.columns[j] for j in deletion.stay))
    return replace(term, columns=names, source=term.source.combined(M))


def _constant_of(design: Design, i: int) -> np.ndarray:
    """Weights of the columns of term i whose sum is one in every row: all levels of a factor."""
    assert design.recipe is not None
    columns = design.recipe.random_layouts[i].columns
    for atom in (factors[0][0] for factors in columns if len(factors) == 1):
        own = [len(factors) == 1 and factors[0][:2] == (atom, True) for factors in columns]
        coding = design.recipe.codings[atom]
        if sum(own) == len(coding.dummy_names):
            weights = np.array(own, dtype=np.float64)
            if coding.full_rank is not None:
                ones = np.ones(len(coding.full_rank) - 1)
                solved = np.linalg.lstsq(coding.full_rank[:-1], ones)[0]
                places = [f[0][2] for f, is_own in zip(columns, own, strict=True) if is_own]
                weights[own] = solved[places]
            return weights
    raise DataError(f"no columns of ({design.terms[i].label}) make a constant")


def _refit(
    fit: Fit,
    terms: Sequence[RandomTerm],
    T: Sequence[np.ndarray] | None,
    kept: Sequence[int | None],
) -> Refit:
    """The model with these random terms, from these factors of their covariance matrices; kept:
    what they are in the fit, None for one that is new."""
    if not terms:  # ordinary regression
        at = without_random(fit)
        return Refit(at, fit.estimates.n_theta, False)
    model, start = model_of_part(fit, replace(fit.design, terms=tuple(terms), recipe=None)), None
    rows = {(i, r) for i, r, _ in model.theta_entries}
    if T is not None and len(rows) == sum(len(term.columns) for term in terms):
        start = _theta(model, list(map(_factor, T, terms)))  # no columns depend on others
    small = refitted(fit, model, start, free=_free_of(fit, model, kept))
    return Refit(small.objective, fit.n_params - small.n_params, small.is_singular)


def _free_of(fit: Fit, model: Model, kept: Sequence[int | None]) -> Free | None:
    """What may move in a part of the fit's model."""
    if fit.estimates.free is None:
        return None
    places = {entry: k for k, entry in enumerate(fit.model.theta_entries)}
    own = [(kept[t], r, c) for t, r, c in model.theta_entries]
    return fit.estimates.free.at([None if t is None else places.get((t, r, c)) for t, r, c in own])


def refit_reduced(fit: Fit, reduction: Reduction) -> Fit:
    """The smaller model fitted, from where the larger one ended."""
    design = reduced_design(fit.design, reduction.parts)
    with silenced(
        RankDeficientWarning, IdentifiabilityWarning
    ):  # the larger model gave these already
        model = fit.model.with_design(design)
        if any(term.covariance is not None for term in design.terms):
            return refitted(fit, model, None)  # a structure has its own start
        factors = [
            _lifted(_factor(_root_of(fit, part), term), design, i)
            for i, (part, term) in enumerate(zip(reduction.parts, design.terms, strict=True))
        ]
        return refitted(fit, model, _theta(model, factors))


def _root_of(fit: Fit, part: Part) -> np.ndarray:
    """A root of the relative covariance of what is kept of a term: of an intercept in its place the
    mean standard deviation."""
    T = fit.estimates.T[part.term]
    if part.constant:
        return np.full((1, 1), np.sqrt(np.mean((T * T).sum(axis=1))))
    return np.asarray(T[_places(fit.design, part)])


def _places(design: Design, part: Part) -> list[int]:
    """Place of each column of the reduced term in the whole one."""
    arranged = design.recipe and _arranged(design, design.recipe, part)
    return arranged[1] if arranged else list(part.columns)


def _factor(root: np.ndarray, term: RandomTerm) -> np.ndarray:
    """Lower triangular T with T T' = root root', or its diagonal; root need not be square."""
    if term.structure == "diag":
        return np.diag(np.linalg.norm(root, axis=1))
    return triangular_root(root)


def _lifted(T: np.ndarray, design: Design, i: int) -> np.ndarray:
    """T with zeros on its diagonal lifted."""
    size = np.sqrt(_mean_squares(design, i))
    lifted = LIFT / np.where(size > 0, size, 1.0)
    L = T.copy()
    np.fill_diagonal(L, np.where(T.diagonal() < 1e-3 * lifted, lifted, T.diagonal()))
    return L


def _theta(model: Model, factors: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([factors[i][r, c] for i, r, c in model.theta_entries])
