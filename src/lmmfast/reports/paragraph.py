"""A fit as the paragraph of a paper that says how it was made."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import markup
from ..data.visits import RepeatedDesign
from ..engine.priors import described
from ..formula.column import label_of
from ..formula.covariances import IN_WORDS
from ..formula.hypotheses import hypothesis_text
from ..formula.repeated import IN_WORDS as OF_VISITS
from ..inference.ddf import METHODS, ddf_of
from ..inference.rows.generalized import response_note
from ..inference.selection.singular import singular_sentences
from ..summary import approximation
from ..tables import LINE, formula_text, general, joined

if TYPE_CHECKING:
    from ..data.encode import Coding
    from ..data.terms import RandomTerm
    from ..fit import Fit

CITED = {
    "satterthwaite": "Satterthwaite's degrees of freedom (Satterthwaite, 1946)",
    "kenward-roger": "Kenward and Roger's degrees of freedom (Kenward & Roger, 1997)",
}
SAID = 12  # coefficients of a factor that are listed
MOST_NAMED = 6  # columns of a random term that are named


@dataclass(frozen=True, repr=False)
class Report:
    """A paragraph on how a model was fitted. ``str()`` is plain text; notebooks show it as HTML.

    Attributes
    ----------
    sentences : tuple of str
        One fact each; to be shortened and put into the words of the paper.
    formula : str
    """

    sentences: tuple[str, ...]
    formula: str

    def __str__(self) -> str:
        return textwrap.fill(" ".join(self.sentences), LINE, break_on_hyphens=False)

    __repr__ = __str__

    def to_markdown(self) -> str:
        """The paragraph in Markdown, the formula as code."""
        quoted = "`" in self.formula  # then code has two of them around it, and spaces
        code = f"`` {self.formula} ``" if quoted else f"`{self.formula}`"
        return code.join(map(markup.markdown, self._parts()))

    def to_latex(self) -> str:
        """The paragraph in LaTeX, the formula in typewriter type."""
        code = rf"\texttt{{{markup.latex(self.formula)}}}"
        return code.join(map(markup.latex, self._parts()))

    def _parts(self) -> list[str]:
        """What is before and after the formula."""
        said = " ".join(self.sentences)
        return said.split(self.formula, 1) if self.formula else [said]

    def _repr_html_(self) -> str:
        return f"<p>{escape(' '.join(self.sentences))}</p>"


def report(fit: Any, ddf: str | None) -> Report:
    """As ``Labelled.report`` documents it."""
    formula = formula_text(fit.formula) if fit.formula else ""
    return Report(tuple(_sentences(fit, ddf)), formula)


def _sentences(fit: Any, ddf: str | None) -> Iterator[str]:
    yield _model(fit)
    yield from _response(fit)
    if isinstance(fit.design, RepeatedDesign):
        yield _visits(fit)
    else:
        yield f"Random effects: {'; '.join(_random(term) for term in fit.design.terms)}."
    yield from _more(fit)
    yield from _codings(fit)
    yield _rows(fit)
    yield _optimum(fit)
    if fit.is_singular:
        yield f"The fit is singular: {' '.join(singular_sentences(fit))}"
    elif not isinstance(fit.design, RepeatedDesign):
        yield "The fit is not singular."
    yield _tests(fit, ddf)


# ---- the model ----------------------------------------------------------------------------------


def _model(fit: Any) -> str:
    from .. import __version__

    if isinstance(fit.design, RepeatedDesign):
        kind, method = "A mixed model for repeated measures", _likelihood(fit)
    elif fit.family is None:
        kind, method = "A linear mixed model", _likelihood(fit)
    else:
        name, link = fit.family.name, fit.family.link.name
        kind = f"A generalized linear mixed model ({name} distribution, {link} link)"
        method = "penalized likelihood" if fit.model.prior else _likelihood(fit)
        method += f" ({approximation(fit)})"
    formula = formula_text(fit.formula) if fit.formula else "made from arrays"
    return f"{kind}, {formula}, was fitted by {method} with lmmfast {__version__} for Python."


def _likelihood(fit: Fit) -> str:
    return "restricted maximum likelihood (REML)" if fit.reml else "maximum likelihood"


def _response(fit: Fit) -> Iterator[str]:
    note = response_note(fit) if fit.family is not None else ""
    if note:
        yield f"{note}."


def _random(term: RandomTerm) -> str:
    """intercept and x by subject (24 levels), correlated"""
    if term.covariance is not None:
        words = IN_WORDS.get(term.covariance.kind, "a covariance of its own")
        return f"{term.label} ({len(term.levels):,} levels), {words}"
    names = ["intercept" if own == "Intercept" else own for own in term.columns]
    how = "" if len(names) == 1 else ", correlated"
    how = ", uncorrelated" if how and term.structure != "full" else how
    how += "" if term.relation is None else ", levels related as given"
    if len(names) > MOST_NAMED:
        names = [f"{names[0]}, ..., {names[-1]} ({len(names)} columns)"]
    return f"{joined(names)} by {term.group} ({len(term.levels):,} levels){how}"


def _visits(fit: Any) -> str:
    visits = fit.design.seen
    own = visits.covariance
    words = OF_VISITS[own.structure]
    each = "" if own.group is None else f", separately by {own.group}"
    count = f"{len(visits.subjects):,} levels of {own.subject}"
    return f"The observations of each of {count} had a common covariance matrix ({words}{each})."


def _more(fit: Any) -> Iterator[str]:
    """Weights, offset, structures of residuals, priors, what was held."""
    sums = fit.design.sums
    trials = fit.family is not None and fit.family.response == "binomial"
    if sums.is_weighted and not trials:
        yield "Observations had prior weights."
    if sums.has_offset:
        yield "The linear predictor had an offset."
    if fit.design.residual is not None:
        yield f"Residuals had a structure: {fit.design.residual.text}."
    if fit.family is not None and fit.model.prior:
        yield f"Priors: {described(fit.model.prior)}."
    if fit.estimates.free is not None:
        yield "Some parameters of the covariances were held or tied, not estimated."


def _codings(fit: Any) -> Iterator[str]:
    """What the coefficients of each factor compare."""
    recipe = fit.design.recipe
    if recipe is None:
        return
    layout = recipe.fixed_layout
    used = dict.fromkeys(
        atom for factors in layout.columns for atom, dummy, _ in factors if not dummy
    )
    for atom in used:
        coding = recipe.codings[atom]
        if coding.levels is not None:
            yield f"Coefficients of {atom} are {_compared(coding)}."


def _compared(coding: Coding) -> str:
    assert coding.levels is not None and coding.contrast is not None
    labels = [label_of(level) for level in coding.levels]
    C = coding.contrast[:-1]
    weights = np.linalg.pinv(np.column_stack([np.ones(len(C)), C]))
    said = [hypothesis_text(row, labels) for row in weights[1:]]
    base = hypothesis_text(weights[0], labels)
    if len(said) > SAID:
        said = [*said[: SAID - 1], f"{len(said) - SAID + 1} more"]
    return f"{joined(said)} (the intercept is {base if base in labels else f'the {base}'})"


# ---- data, optimum, tests -----------------------------------------------------------------------


def _rows(fit: Fit) -> str:
    design = fit.design
    said = f"The model was fitted to {fit.nobs:,} observations"
    count = design.n_rows - design.n
    if count:
        missing = joined([f"{name} ({rows:,})" for name, rows in design.dropped.items()])
        said += (
            f"; {count:,} of {design.n_rows:,} rows were left out, with missing or unusable values"
        )
        said += f" of {missing}"
    return f"{said}."


def _optimum(fit: Fit) -> str:
    criterion = "REML criterion" if fit.reml else "deviance"
    bound = general(max(fit.certificate, float(np.spacing(abs(fit.objective)))), 1)
    if not fit.converged:
        return (
            f"The optimization did not converge ({fit.estimates.status}): these estimates should "
            "not be reported."
        )
    if fit.objective_se > 0:
        return f"The {criterion} was minimized by a stochastic gradient (expected gap {bound})."
    return (
        f"The optimum was verified by slope and curvature of the {criterion}: no local step would "
        f"lower it by more than {bound}."
    )


def _tests(fit: Fit, ddf: str | None) -> str:
    name = ddf_of(ddf, fit)
    if name == "z":
        return "Tests of fixed effects are Wald z tests."
    method = CITED.get(name, f"{METHODS[name]} degrees of freedom")
    return f"Tests of fixed effects are t tests with {method}."
