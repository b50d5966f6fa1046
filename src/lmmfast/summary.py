"""What a fit looks like on paper: `LMMFit.summary`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from .effects import structured_rows, term_covariance
from .engine.generalized_estimates import GeneralizedEstimates
from .engine.priors import described
from .formula.covariances import IN_WORDS
from .inference.ddf import METHODS, ddf_of
from .inference.hypotheses.tests import coef_test
from .inference.intervals.residual import parameters as residual_parameters
from .inference.rows.generalized import is_ordered, pearson, response_note
from .inference.rows.predict import fitted_of
from .inference.rows.residual_covariance import row_deviations
from .inference.selection.singular import singular_sentences
from .tables import (
    Summary,
    Table,
    column,
    df_cells,
    duration,
    fixed,
    formula_text,
    general,
    p_value,
    wrapped,
)

if TYPE_CHECKING:
    from .data.design import Design
    from .fit import Fit


MAX_CORRELATED = 8  # more fixed effects than this: their correlations are shown on request only


def summarize(fit: Fit, correlation: bool | None, ddf: str | None) -> Summary:
    """Summary of a fit, as ``LMMFit.summary`` documents it."""
    kept = int(np.sum(fit.estimates.fixed_kept))
    if correlation is None:
        correlation = kept <= MAX_CORRELATED
    sections: list[tuple[str | Table, ...]] = [
        (title(fit), *family_lines(fit), *wrapped(f"Formula: {formula_text(fit.formula)}")),
        criteria(fit),
    ]
    scaled = fit.family is None or fit.family.has_variance
    at_hand = fit.design.is_held and not (fit.design.reading and fit.design.reading.in_file)
    if at_hand and scaled and not is_ordered(fit):
        sections.append(("Scaled residuals:", residual_table(fit)))
    said = [
        *structure_lines(fit),
        *rho_lines(fit),
        *unidentified_lines(fit),
        *held_lines(fit),
        counts(fit),
    ]
    said += dropped_rows(fit.design)
    said += kept_rows(fit)
    sections.append(("Random effects:", random_table(fit), *said))
    sections += structure_sections(fit)
    if fit.design.x_names:
        sections.append(("Fixed effects:", fixed_table(fit, ddf), *fixed_notes(fit, ddf)))
    sections += extra_sections(fit)
    if correlation and kept > 1:
        sections.append(("Correlation of fixed effects:", correlation_table(fit)))
    starts = wrapped(f"{fit.starts}.") if fit.starts is not None else ()
    ends = (*starts, *singular_lines(fit), *limit_lines(fit))
    sections.append((*wrapped(proof(fit)), *ends))
    return Summary(tuple(sections))


def one_line(fit: Fit) -> str:
    """The fit in one line, for ``repr``."""
    state = fit.estimates.status + (", singular" if fit.is_singular else "")
    value = f"{'REML criterion' if fit.reml else 'deviance'} {fit.objective:.4f}"
    return f"<{type(fit).__name__} {formula_text(fit.formula)}: {value}, n = {fit.nobs}, {state}>"


def model_line(model: Any, kind: str = "") -> str:
    """A model in one line, for ``repr``; `kind` is its family."""
    design = model.design
    levels = {term.group: len(term.levels) for term in design.terms}
    groups = "".join(f", {group} {n:,}" for group, n in levels.items())
    what = f"{formula_text(design.formula)}{kind and f', {kind}'}"
    return f"<{type(model).__name__} {what}: n = {design.n:,}{groups}>"


# ---- sections -----------------------------------------------------------------------------------


def title(fit: Fit) -> str:
    """First line of a summary."""
    method = "REML" if fit.reml else "maximum likelihood"
    kind = "Linear" if fit.family is None else "Generalized linear"
    if fit.family is not None:
        penalized: Any = fit.model
        method = "penalized likelihood" if penalized.prior else method
        method = "restricted maximum likelihood" if fit.reml else method
        method += f" ({approximation(fit)})"
    sums = fit.design.sums
    trials = fit.family is not None and fit.family.response == "binomial"
    given = [("prior weights", sums.is_weighted and not trials), ("an offset", sums.has_offset)]
    extras = [name for name, is_there in given if is_there]
    return f"{kind} mixed model fit by {method}" + (f", with {' and '.join(extras)}" * bool(extras))


def approximation(fit: Fit) -> str:
    """How the integral over the random effects is approximated."""
    own: Any = fit.estimates
    if own.nagq > 1:
        return f"adaptive Gauss-Hermite quadrature, {own.nagq} nodes"
    if own.accuracy == "second-order":
        errors = "" if own.point.curves else "; standard errors without it"
        return f"Laplace approximation, second order{errors}"
    return f"Laplace approximation{', expected information' * (own.information == 'expected')}"


def family_lines(fit: Fit) -> list[str]:
    """Distribution and link, and what the response is."""
    if fit.family is None:
        return []
    model: Any = fit.model
    lines = [f"Family: {fit.family.name} ({fit.family.link.name})", *wrapped(response_note(fit))]
    return lines + (wrapped(f"Priors: {described(model.prior)}") if model.prior else [])


def criteria(fit: Fit) -> tuple[str | Table, ...]:
    """The criterion; for maximum likelihood lme4's row of five."""
    if fit.reml:
        return (f"REML criterion: {fit.objective:.4f}",)
    header = ("AIC", "BIC", "logLik", "deviance", "df.resid")
    values = [f"{value:.4f}" for value in (fit.aic, fit.bic, fit.llf, fit.objective)]
    return (Table(header, ((*values, str(fit.df_resid)),), 0),)


def held_lines(fit: Fit) -> list[str]:
    """Which parameters of the covariances were held or tied."""
    free = fit.estimates.free
    if free is None:
        return []
    names, moving = fit.model.theta_names, free.moving
    fixed = [
        f"{name} = {general(value, 4)}"
        for name, value, moves in zip(names, free.fixed, moving, strict=True)
        if not moves
    ]
    fixed = ([f"theta: {', '.join(fixed)}"] if fixed else []) + (
        [] if free.sigma is None else [f"sigma = {general(free.sigma, 4)}"]
    )
    said = [f"Held, not estimated: {'; '.join(fixed)}"] if fixed else []
    tied = [np.flatnonzero(column) for column in free.basis.T]
    pairs = [" = ".join(names[k] for k in places) for places in tied if len(places) > 1]
    said += [f"Tied, one parameter each: {'; '.join(pairs)}"] if pairs else []
    return list(chain.from_iterable(map(wrapped, said)))


def residual_table(fit: Fit) -> Table:
    """Quartiles of the residuals over sigma (times the root of the weights)."""
    if fit.family is not None:
        residuals = pearson(fit, fitted_of(fit))
    else:
        residuals = (fit.design.y - fitted_of(fit)) / (fit.sigma * row_deviations(fit))
    quartiles = np.quantile(residuals, [0, 0.25, 0.5, 0.75, 1])
    cells = tuple(f"{value:.4f}" for value in quartiles)
    return Table(("Min", "1Q", "Median", "3Q", "Max"), (cells,), 0)


def random_table(fit: Fit) -> Table:
    """Variances, standard deviations and correlations, term by term."""
    labels: list[tuple[str, str]] = []
    correlations: list[list[str]] = []
    sds: list[float] = []
    for i, term in enumerate(fit.design.terms):
        if term.covariance is not None:
            own = _structured_cells(fit, i)
            labels += own[0]
            sds += own[1]
            correlations += own[2]
            continue
        _, sd, corr = term_covariance(fit.estimates, i)
        sds += list(sd)
        labels += zip([term.group, *[""] * (len(sd) - 1)], term.columns, strict=True)
        full = term.structure == "full"
        correlations += [[fixed(c, 2) for c in corr[r, :r]] if full else [] for r in range(len(sd))]
    if fit.family is None:
        labels.append(("Residual", ""))
        correlations.append([])
        sds.append(fit.sigma)
    width = max(map(len, correlations))
    shown = [
        ["" if np.isnan(v) else cell for cell, v in zip(cells, sds, strict=True)]
        for cells in (column(np.square(sds)), column(sds))
    ]
    parts = zip(labels, *shown, correlations, strict=True)
    rows = tuple((*label, v, s, *corr, *[""] * (width - len(corr))) for label, v, s, corr in parts)
    corr_header = ["Corr", *[""] * (width - 1)] if width else []
    return Table(("Groups", "Name", "Variance", "Std.Dev.", *corr_header), rows, 2)


def _structured_cells(
    fit: Fit, i: int
) -> tuple[list[tuple[str, str]], list[float], list[list[str]]]:
    """Labels, standard deviations and correlations of a term with a structure: what all columns
    share stands beside the first, the rest in rows of its own."""
    term = fit.design.terms[i]
    labels: list[tuple[str, str]] = []
    sds: list[float] = []
    correlations: list[list[str]] = []
    for group, first, second, _, value in structured_rows(fit.estimates, i, term):
        label = "" if labels else group
        if second is None:
            labels.append((label, first))
            sds.append(value)
            correlations.append([])
        elif second == "rho":
            correlations[0] = [fixed(value, 2)]
        elif not second.startswith("factor"):
            pair = second if second.startswith(("rho", "range")) else f"{first}, {second}"
            labels.append((label, pair))
            sds.append(np.nan)
            correlations.append([general(value, 4) if second == "range" else fixed(value, 2)])
    return labels, sds, correlations


def structure_lines(fit: Fit) -> list[str]:
    """What the covariance structures are, defaults included."""
    pairs = ((term.label, term.covariance) for term in fit.design.terms)
    said = [f"{label}: {IN_WORDS.get(own.kind, 'its own')}" for label, own in pairs if own]
    return list(chain.from_iterable(map(wrapped, said)))


def rho_lines(fit: Fit) -> list[str]:
    """The rho of a conditional autoregression that was estimated."""
    rho = fit.estimates.rho
    if rho is None:
        return []
    group = fit.design.terms[rho.term].group
    error = "at its bound" if rho.at_bound else f"standard error {general(rho.se, 3)}"
    said = (
        f"{group}: conditional autoregression, rho = {general(rho.estimate, 4)} ({error}); "
        "tests of fixed effects and intervals of variances take it as known"
    )
    return list(wrapped(said))


def counts(fit: Fit) -> str:
    """Rows and levels."""
    ranks = {
        term.group: f" ({len(term.levels)} with effects of their own: K is singular)"
        for term in fit.design.terms
        if len(term.labels) > len(term.levels)
    }
    groups = "; ".join(f"{group}, {m}{ranks.get(group, '')}" for group, m in fit.n_levels.items())
    return f"Number of obs: {fit.nobs}, groups: {groups}"


def dropped_rows(design: Design) -> list[str]:
    """How many rows were dropped, and which variables were missing there."""
    count = design.n_rows - design.n
    if count == 0:
        return []
    missing = ", ".join(f"{name} ({rows})" for name, rows in design.dropped.items())
    return wrapped(f"{count} of {design.n_rows} rows dropped, missing or unusable: {missing}")


def kept_rows(fit: Fit) -> list[str]:
    """Where the rows of a generalized fit come from and are, and which are merged."""
    reading, estimates = fit.design.reading, fit.estimates
    said = []
    if isinstance(estimates, GeneralizedEstimates) and estimates.rows < fit.nobs:
        said.append(f"{fit.nobs} rows, equal ones merged: {estimates.rows}")
    if reading is not None and isinstance(estimates, GeneralizedEstimates):
        said.append(f"{reading.passes} passes over {reading.source}, {estimates.passes} over rows")
        outside = estimates.outside + reading.nbytes * reading.in_file
        said.append(f"{outside / 1e9:.2g} GB of them in files" if outside else "all in memory")
    return wrapped("; ".join(said)) if said else []


def fixed_table(fit: Fit, ddf: str | None) -> Table:
    """Estimates, standard errors, degrees of freedom, t (or z) values and p-values."""
    ddf = ddf_of(ddf, fit)
    test = coef_test(fit, ddf)
    letter = "z" if ddf == "z" else "t"
    columns: dict[str, Sequence[str]] = {
        "": fit.design.x_names,
        "Estimate": column(test.effect, by=test.sd),
        "Std. Error": column(test.sd),
    }
    if letter == "t":
        columns["df"] = df_cells(test.df_denom)
    columns[f"{letter} value"] = [
        fixed(value, 3) if abs(value) < 1e6 else general(value) for value in test.tvalue
    ]
    columns[f"Pr(>|{letter}|)"] = [p_value(p) for p in test.pvalue]
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), 1)


def extra_sections(fit: Fit) -> list[tuple[str | Table, ...]]:
    """Parameters of a generalized model's distribution."""
    if fit.family is None or not fit.family.extra_names:
        return []
    own: Any = fit
    values, se = own.extra.to_numpy(), own.extra_se.to_numpy()
    columns = {
        "": fit.family.extra_names,
        "Estimate": column(values, by=se),
        "Std. Error": column(se),
    }
    table = Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), 1)
    name = "Thresholds:" if is_ordered(fit) else "Parameters of the distribution:"
    return [(name, table)]


def structure_sections(fit: Fit) -> list[tuple[str | Table, ...]]:
    """Parameters of a residual structure."""
    if fit.design.residual is None:
        return []
    found = residual_parameters(fit)
    columns = {
        "": list(found.index),
        "Estimate": column(found["estimate"], by=found["se"]),
        "Std. Error": column(found["se"]),
    }
    table = Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), 1)
    own = fit.design.residual
    said = f"Residuals: {own.text}" + f"; {own.reference}" * bool(own.reference)
    return [(*wrapped(said), table)]


def fixed_notes(fit: Fit, ddf: str | None) -> list[str]:
    """How p was computed, and which columns were dropped."""
    ddf = ddf_of(ddf, fit)
    method = METHODS[ddf]
    kind = "z (normal approximation)" if ddf == "z" else f"t, {method} degrees of freedom"
    notes = [f"p-values: {kind}"]
    if ddf.startswith("kenward-roger"):
        notes[0] += "; standard errors are adjusted"
    columns = zip(fit.design.x_names, fit.estimates.fixed_kept, strict=True)
    dropped = [name for name, kept in columns if not kept]
    separated: Any = getattr(fit.estimates, "separation", ())
    if separated:
        notes += wrapped(f"Separated: {separated.message}")
    if dropped:
        depend = "it depends" if len(dropped) == 1 else "they depend"
        notes += wrapped(f"Dropped: {', '.join(dropped)} ({depend} linearly on the others)")
    return notes


def correlation_table(fit: Fit) -> Table:
    """Lower triangle of the correlations of the kept fixed effects; columns are numbered."""
    kept = np.flatnonzero(fit.estimates.fixed_kept)
    cov = fit.estimates.vcov[np.ix_(kept, kept)]
    sd = np.sqrt(np.diag(cov))
    corr = cov / sd[:, None] / sd
    size = len(kept)
    rows = tuple(
        (
            str(r + 1),
            fit.design.x_names[i],
            *[fixed(c, 3) for c in corr[r, :r]],
            *[""] * (size - 1 - r),
        )
        for r, i in enumerate(kept)
    )
    return Table(("", "", *[str(c + 1) for c in range(size - 1)]), rows, 2)


# ---- what was proved ----------------------------------------------------------------------------


def proof(fit: Fit) -> str:
    """One sentence: what is known about the optimum, and what it cost."""
    evaluations = f"{fit.n_evals} evaluation{'s' * (fit.n_evals != 1)}"
    cost = f"{evaluations}, {duration(fit.estimates.seconds)}"
    bound = general(max(fit.certificate, float(np.spacing(abs(fit.objective)))), 1)
    if fit.converged and fit.estimates.objective_se > 0:
        error = general(fit.estimates.objective_se, 2)
        return (
            f"Optimum found by a stochastic gradient: the slope that was estimated promises less "
            f"than {bound}; the criterion itself is known to {error} (one standard error). ({cost})"
        )
    if fit.converged:
        many = ", along which the variances not identified are one choice of many"
        return (
            f"Optimum certified{many * bool(fit.estimates.unidentified)}: no local step lowers the "
            f"criterion by more than {bound} ({cost})."
        )
    left = "how far the optimum is, is not known"
    if math.isfinite(fit.certificate):
        left = f"the next step would lower the criterion by about {bound}"
    return f"Not converged: {fit.estimates.status} ({cost}); {left}."


def unidentified_lines(fit: Fit) -> list[str]:
    """Which variances are one choice of many, as lines of a summary."""
    said = (f"Not identified: {message}." for message in fit.estimates.unidentified)
    return list(chain.from_iterable(map(wrapped, said)))


def limit_lines(fit: Fit) -> list[str]:
    """A sentence on a family that has become another one."""
    own: Any = fit
    family: Any = getattr(fit, "family", None)
    if family is None or not family.at_limit(own.estimates.extra).any():
        return []
    sign, other = family.limit
    end = "infinity" if sign > 0 else "zero"
    return wrapped(
        f"The {family.extra_names[0]} has gone to {end}: there is no more variance than that of a "
        f"{other} model, which this fit is; standard errors are those of that model."
    )


def singular_lines(fit: Fit) -> list[str]:
    """The sentences on singular terms, as lines of a summary."""
    said = (f"Singular fit, {sentence}" for sentence in singular_sentences(fit))
    return list(chain.from_iterable(map(wrapped, said)))
