"""Repeated measures: which visit of which subject each row is, and the design of such a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OneRowPerLevelWarning, SpacingWarning, silenced, warn
from ..formula.column import Codes
from ..formula.covariances import LAGGED
from ..formula.plan import Plan, plan_of
from ..formula.repeated import STRUCTURES, VisitCovariance, covariance_of
from ..formula.tree import unquoted
from ..freeze import Frozen
from .columns import Table
from .design import Design, Given, build
from .term_structure import NEIGHBOURS, label_numbers, misplaced, unseen_between
from .units import Units

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Visits(
    Frozen, arrays=("visit", "subject", "group", "labels", "subjects", "groups", "places")
):
    """Visits and subjects of the rows used; every visit once a subject."""

    covariance: VisitCovariance
    visit: Codes  # (n,) visit of each row
    subject: Codes  # (n,) subject of each row
    group: Codes  # (subjects,) group of each subject; zeros where there are no groups
    labels: NDArray[Any]  # (m,) names of the visits; of sp_exp places, one number each
    subjects: NDArray[Any]  # names of the subjects
    groups: NDArray[Any]  # (g,) names of the groups; one, empty, where there are none
    places: Matrix | None  # (m, d) coordinates of the visits, of sp_exp
    absent: tuple[str, ...] = ()  # subjects of the data without a row that could be used

    @property
    def m(self) -> int:
        """Number of visits."""
        return len(self.labels)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The rows by subject, and by visit within each."""
        return np.lexsort((self.visit, self.subject))

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """(subjects + 1,) where the rows of each subject begin in `order`."""
        count = np.bincount(self.subject, minlength=len(self.subjects))
        return np.concatenate([[0], np.cumsum(count)]).astype(np.int64)

    @cached_property
    def patterns(self) -> list[tuple[int, NDArray[np.int32], NDArray[np.int64]]]:
        """Subjects with the same visits and group: group, visits (k,), and their rows (count, k);
        in the order of groups."""
        return patterns_of(self.subject, self.visit, self.group, self.order, self.first)


Pattern = tuple[int, "NDArray[np.int32]", "NDArray[np.int64]"]


def patterns_of(
    subject: Codes,
    visit: Codes,
    group: Codes,
    order: NDArray[np.int64],
    first: NDArray[np.int64],
) -> list[Pattern]:
    """`Visits.patterns` of some rows; every subject has some, `group` is that of subjects."""
    count = np.diff(first)
    key = np.full((len(group), int(count.max()) + 1), -1, np.int32)
    key[:, 0] = group
    key[subject[order], 1 + np.arange(len(order)) - np.repeat(first[:-1], count)] = visit[order]
    which = np.unique(key.view(np.dtype((np.void, 4 * key.shape[1]))), return_inverse=True)[1]
    found: list[Pattern] = []
    by = np.argsort(which.ravel(), kind="stable")
    for own in np.split(by, np.cumsum(np.bincount(which.ravel()))[:-1]):
        visits = key[own[0], 1 : 1 + count[own[0]]].copy()
        rows = order[first[own][:, None] + np.arange(len(visits))]
        found.append((int(group[own[0]]), visits, rows))
    found.sort(key=lambda own: own[0])
    return found


@dataclass(frozen=True, eq=False)
class PatternSums:
    """Sums of products by pattern of visits, of rows that are not in memory."""

    units: Units  # of z = (x, y)
    log_weights: float  # sum of logarithms of the weights
    n: int
    patterns: list[tuple[int, NDArray[np.int32], int]]  # group, visits (k,), subjects; by group
    sums: list[Matrix]  # of z'z of the subjects of each, (k (p + 1), k (p + 1))


@dataclass(frozen=True, eq=False)
class RepeatedDesign(Design):
    """A design without random terms, whose rows are visits of subjects."""

    visits: Visits | None = None  # never None: fields before it have defaults
    patterned: PatternSums | None = None  # of rows that are not in memory

    @property
    def seen(self) -> Visits:
        """Visits and subjects of the rows."""
        assert self.visits is not None
        return self.visits

    @property
    def plan(self) -> Plan:
        """What the fixed part of the formula needs."""
        return plan_beside(self.seen.covariance)


def plan_beside(covariance: VisitCovariance) -> Plan:
    """What the fixed part of the formula needs."""
    whole = plan_of(covariance.formula)
    return replace(whole, formula=replace(whole.formula, random=()), random=(), groups=())


def build_repeated(
    formula: str,
    data: Any,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
) -> RepeatedDesign:
    """The design of a model for repeated measures of what `lmmfast.mmrm` takes.

    FormulaError where the covariance term cannot be read; DataError where a subject has a visit
    twice, or two groups.
    """
    covariance = covariance_of(formula)
    table = Table.of(data)
    _check_visits(covariance, table)
    with silenced(OneRowPerLevelWarning):  # subjects with one visit are nothing special
        given = {"weights": weights, "offset": offset, "contrasts": contrasts}
        made = build(covariance.formula, table, **given)
    visits = replace(_visits(covariance, made), absent=_absent(covariance, made, table))
    _note_unseen(visits, table)
    return repeated(made, formula, Given(data, weights, offset, contrasts), visits, None)


def repeated(
    made: Design, formula: str, given: Given, visits: Visits, patterned: PatternSums | None
) -> RepeatedDesign:
    """The design without the random terms that stand for the covariance term."""
    recipe = made.recipe
    assert recipe is not None
    fixed = {atom.label for atom in plan_beside(visits.covariance).atoms}
    codings = {label: own for label, own in recipe.codings.items() if label in fixed}
    own = vars(made) | {
        "formula": formula,
        "terms": (),
        "recipe": replace(recipe, codings=codings, random_layouts=(), groupings=()),
        "given": given,
    }
    return RepeatedDesign(**own, visits=visits, patterned=patterned)


def _check_visits(covariance: VisitCovariance, table: Table) -> None:
    """A variable of visits that is no factor of several levels, by its own name."""
    name = unquoted(covariance.visit[0])
    if covariance.is_spatial or not table.has(name):
        return
    column = table.column(name)
    levels = (column if column.levels is not None else column.as_factor()).used().levels
    if len(levels) == 1:
        raise DataError(
            f"there is only one visit, {str(levels[0])!r}, in {name!r}: nothing is repeated, and "
            f"{covariance.text} has no correlation to estimate",
            variable=name,
        )


def _absent(covariance: VisitCovariance, made: Design, table: Table) -> tuple[str, ...]:
    """Subjects of the data that have no row in the design."""
    subject = unquoted(covariance.subject)
    if made.n == made.n_rows or not table.has(subject):
        return ()
    levels = table.column(subject).as_factor().used().levels
    assert levels is not None
    used = set(map(str, made.terms[0].levels))
    return tuple(name for name in map(str, levels) if name not in used)


def _visits(covariance: VisitCovariance, made: Design) -> Visits:
    subjects, *groups = made.terms
    places = None
    if covariance.is_spatial:
        places, visit = np.unique(subjects.z, axis=0, return_inverse=True)
        labels: NDArray[Any] = np.array([" ".join(f"{x:g}" for x in own) for own in places])
    else:
        assert made.recipe is not None
        found = made.recipe.codings[f"factor({unquoted(covariance.visit[0])})"].levels
        assert found is not None
        labels, visit = found, subjects.z.argmax(axis=1)
    subject, group = subjects.codes, np.zeros(len(subjects.levels), np.int32)
    names: NDArray[Any] = np.array([""], dtype=object)
    if groups:
        names = groups[0].levels
        group[subject] = groups[0].codes
        _check_groups(covariance, groups[0].codes, group, subject, subjects.levels, names, made)
    own = Visits(
        covariance=covariance,
        visit=visit.astype(np.int32).ravel(),
        subject=subject,
        group=group,
        labels=labels.copy(),
        subjects=subjects.levels,
        groups=names,
        places=places,
    )
    twice = twice_of(subject, own.visit, own.m, own.order)
    if twice is not None:
        raise visit_twice(own, subject[twice[0]], own.visit[twice[0]], made.rows[twice])
    seen = np.zeros((len(names), own.m), bool)
    seen[group[subject], own.visit] = True
    check_structure(own, seen, int(np.bincount(subject).max()))
    return own


def _check_groups(
    covariance: VisitCovariance,
    of_rows: Codes,
    of_subjects: Codes,
    subject: Codes,
    subjects: NDArray[Any],
    groups: NDArray[Any],
    made: Design,
) -> None:
    other = np.flatnonzero(of_subjects[subject] != of_rows)
    if len(other):
        row = int(other[0])
        one, two = groups[of_rows[row]], groups[of_subjects[subject[row]]]
        raise DataError(
            f"subject {subjects[subject[row]]!r} is in two groups of {covariance.group!r}, "
            f"{one!r} and {two!r}: a subject has one covariance matrix",
            variable=covariance.group,
            rows=made.rows[other[:10]].tolist(),
        )


def twice_of(
    subject: Codes, visit: Codes, m: int, order: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Two rows of the same subject and visit; None: there are none."""
    key = (subject.astype(np.int64) * m + visit)[order]
    again = np.flatnonzero(key[1:] == key[:-1])
    return order[[again[0], again[0] + 1]] if len(again) else None


def visit_twice(visits: Visits, subject: Any, visit: Any, rows: Any) -> DataError:
    """The error for rows of one subject and visit."""
    names = ", ".join(visits.covariance.visit)
    return DataError(
        f"subject {str(visits.subjects[subject])!r} has visit {str(visits.labels[visit])!r} of "
        f"{names} more than once: a visit is one row a subject; are rows doubled, or is a variable "
        "missing in the term?",
        variable=visits.covariance.visit[0],
        rows=sorted(np.asarray(rows).tolist()),
    )


def check_structure(visits: Visits, seen: NDArray[np.bool_], most: int) -> None:
    """What a covariance of visits needs to be known of: which visits are seen in which group
    (groups, m), and the most visits of a subject."""
    own, several = visits.covariance, len(visits.groups) > 1
    if visits.m < 2 or most < 2:
        raise DataError(
            f"no subject has two visits of {', '.join(own.visit)}: nothing is repeated, and "
            f"{own.text} has no correlation to estimate",
            variable=own.visit[0],
        )
    _note_order(visits)
    if own.is_spatial or not _own_deviations(own.structure):
        return
    for name, there in zip(visits.groups, seen, strict=True):
        if not there.all():
            where = f" in group {str(name)!r}" * several
            raise DataError(
                f"visit {str(visits.labels[~there][0])!r} has no rows{where}: its variance cannot "
                "be estimated; use a structure with one variance for all visits, or no groups",
                variable=own.visit[0],
            )


def _note_order(visits: Visits) -> None:
    """A warning where a structure goes by the order or the steps of visits, and their names say
    that these are others."""
    own = visits.covariance
    kind = STRUCTURES[own.structure]
    if kind not in LAGGED:
        return
    distances = f"sp_exp(times | {own.text.partition('|')[2].strip(' )')})"
    labels, name = [str(label) for label in visits.labels], own.visit[0]
    ordered = [labels[i] for i in np.argsort(label_numbers(labels), kind="stable")][:12]
    what = misplaced(
        labels,
        kind not in NEIGHBOURS,
        distances,
        f"declare theirs, data[{name!r}] = pandas.Categorical(data[{name!r}], {ordered})",
    )
    if what:
        text = f"{own.text}: {own.structure} {what}"
        warn(SpacingWarning(text, variable=name, term=own.text))


def _note_unseen(visits: Visits, table: Table) -> None:
    """A warning for declared visits without rows between others, over which a structure with steps
    goes as if they did not exist."""
    own = visits.covariance
    kind, name = STRUCTURES[own.structure], unquoted(own.visit[0])
    if kind not in LAGGED or kind in NEIGHBOURS or not table.has(name):
        return
    between = unseen_between(table.column(name).declared, visits.labels)
    if between:
        lacking = ", ".join(map(repr, between[:5]))
        what = (
            f"{own.text}: no row has {lacking} of {name!r}: {own.structure} takes the visits "
            "before and after as neighbours, one step apart"
        )
        warn(SpacingWarning(what, variable=name))


def _own_deviations(structure: str) -> bool:
    """Whether each visit has a standard deviation of its own."""
    return STRUCTURES[structure] in ("us", "toep", "hetar1", "cs", "ad")
