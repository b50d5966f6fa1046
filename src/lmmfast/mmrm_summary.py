"""What a fit for repeated measures looks like on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .formula.repeated import IN_WORDS
from .inference.intervals.repeated import covariances_of
from .inference.rows.predict import fitted_of
from .inference.rows.repeated import scaled
from .summary import (
    MAX_CORRELATED,
    correlation_table,
    criteria,
    dropped_rows,
    fixed_notes,
    fixed_table,
    proof,
    unidentified_lines,
)
from .tables import Summary, Table, column, fixed, formula_text, wrapped

if TYPE_CHECKING:
    from .fit import Fit


MOST_VISITS = 12  # whose covariance matrix is shown


def summarize(fit: Fit, correlation: bool | None, ddf: str | None) -> Summary:
    """Summary of a fit, as ``MMRMFit.summary`` documents it."""
    kept = int(np.sum(fit.estimates.fixed_kept))
    if correlation is None:
        correlation = kept <= MAX_CORRELATED
    sections: list[tuple[str | Table, ...]] = [
        (_title(fit), *wrapped(f"Formula: {formula_text(fit.formula)}")),
        criteria(fit),
        *([("Normalized residuals:", _residuals(fit))] if fit.design.is_held else []),
        *_covariances(fit),
        (*unidentified_lines(fit), *_counts(fit), *dropped_rows(fit.design)),
    ]
    if fit.design.x_names:
        sections.append(("Fixed effects:", fixed_table(fit, ddf), *fixed_notes(fit, ddf)))
    if correlation and kept > 1:
        sections.append(("Correlation of fixed effects:", correlation_table(fit)))
    sections.append((*wrapped(proof(fit)), *_bounded(fit)))
    return Summary(tuple(sections))


def _title(fit: Fit) -> str:
    method = "REML" if fit.reml else "maximum likelihood"
    given = [
        ("weights", fit.design.sums.is_weighted),
        ("an offset", fit.design.sums.has_offset),
    ]
    extras = " and ".join(name for name, there in given if there)
    return f"Mixed model for repeated measures fit by {method}" + f", with {extras}" * bool(extras)


def _residuals(fit: Fit) -> Table:
    values = scaled(fit, fit.design.y - fitted_of(fit), True)
    quartiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    cells = tuple(f"{value:.4f}" for value in quartiles)
    return Table(("Min", "1Q", "Median", "3Q", "Max"), (cells,), 0)


def _covariances(fit: Fit) -> list[tuple[str | Table, ...]]:
    """Deviations and correlations of the visits, by group; of structures with few parameters
    these too."""
    own: Any = fit
    visits = own.design.seen
    structure = visits.covariance.structure
    out: list[tuple[str | Table, ...]] = []
    several = len(visits.groups) > 1
    for g, name in enumerate(visits.groups):
        where = f", {visits.covariance.group} {name}" * several
        lines: list[str | Table] = [f"Covariance of visits{where}: {IN_WORDS[structure]}"]
        if structure != "us" or visits.m > MOST_VISITS:
            lines.append(_parameters(fit, g))
        if visits.m <= MOST_VISITS:
            lines.append(_matrix(visits.labels, own.estimates.Sigma[g]))
        out.append(tuple(lines))
    return out


def _parameters(fit: Fit, g: int) -> Table:
    own = covariances_of(fit)
    chosen = np.flatnonzero(own.group == g)
    names = [own.parameters[k].label for k in chosen]
    values, se = own.values[chosen], own.se[chosen]
    cells = zip(names, column(values, by=se), column(se), strict=True)
    return Table(("", "Estimate", "Std. Error"), tuple(cells), 1)


def _matrix(labels: Any, Sigma: np.ndarray) -> Table:
    sd = np.sqrt(Sigma.diagonal())
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = Sigma / sd[:, None] / sd
    m = len(sd)
    names = [str(label) for label in labels]
    rows = tuple(
        (names[i], cell, *[fixed(c, 3) for c in corr[i, :i]], *[""] * (m - 1 - i))
        for i, cell in enumerate(column(sd))
    )
    return Table(("", "Std.Dev.", "Corr", *[""] * (m - 2)), rows, 1)


def _counts(fit: Fit) -> list[str]:
    """Rows, subjects, visits; subjects without rows."""
    own: Any = fit
    visits = own.design.seen
    groups = f", in {len(visits.groups)} groups" if len(visits.groups) > 1 else ""
    said = (
        f"Number of obs: {fit.nobs}, subjects ({visits.covariance.subject}): "
        f"{len(visits.subjects)}{groups}, visits: {visits.m}, patterns of visits: "
        f"{own.model.n_patterns}"
    )

    return [*wrapped(said), *_absent(fit)]


def _absent(fit: Fit) -> list[str]:
    own: Any = fit
    absent = own.design.seen.absent
    if not absent:
        return []
    shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
    one = "subject has no row that can be used"
    several = "subjects have no row that can be used"
    return wrapped(f"{len(absent)} {one if len(absent) == 1 else several}: {shown}")


def _bounded(fit: Fit) -> list[str]:
    own: Any = fit
    if not own.estimates.bounded:
        return []
    if own.design.seen.places is not None:
        return wrapped("The range is zero, its bound: different places are not correlated.")
    return wrapped("A standard deviation of the covariance matrix is zero: it is at its bound.")
