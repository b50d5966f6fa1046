"""Singular fits: what has no variance, what it would cost, and smaller models that have all of it.

The criterion f depends on a term through its relative covariance T T'. Where columns of T are zero
its slope S in T T' is zero along the range of T: S = N A N', N a basis of the combinations without
variance. The curvature of f in a zero column of T is 2 S, exactly (f is even there), which gives A.
At an optimum A is positive semidefinite: variance along u raises f by u'S u per unit.

References
----------
Bates, Kliegl, Vasishth & Baayen (2015), arXiv:1506.04967 (principal components, the path to a
parsimonious model); Matuschek, Kliegl, Vasishth, Baayen & Bates (2017), *J. Mem. Lang.* 94
(selection by likelihood ratio with alpha = 0.2); Stram & Lee (1994), *Biometrics* 50 (tests of
variances at the boundary).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ... import tables
from ...effects import term_covariance
from ...engine.estimates import Singular
from ...engine.psi import PsiCriterion
from ...errors import FitError
from ...fit import Fit
from ...hints import hinted
from ..ddf import check_choice, fit_of
from ..hypotheses.comparison import chi2_tail
from ..refits import model_of
from .reductions import Reduction, costless, costly, refit_reduced, without_factors

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd


NEGLIGIBLE = 0.005  # share of a zero combination below which a column is not worth naming
NO_VARIANCE = 1e-4  # standard deviation, relative, below which a combination is zero (as lme4)
MOST_NAMED = 4  # columns of a combination that a sentence holds, where it is one of several
BOUNDARY = (
    "p-values are from chi-squared distributions; variances are tested at the boundary, where "
    "these are conservative (Stram & Lee 1994)"
)


# ---- in words -----------------------------------------------------------------------------------


def singular_sentences(fit: Fit) -> list[str]:
    """One plain sentence per singular term: which combination of its effects has no variance."""
    return [
        f"{fit.design.terms[item.term].term}: {no_variance(fit, item)}."
        for item in fit.estimates.singular
    ]


def no_variance(fit: Fit, item: Any) -> str:
    """What has no variance in one singular term."""
    columns = fit.design.terms[item.term].columns
    zero = set(item.zero)
    parts = []
    if zero:
        names = tables.joined([columns[j] for j in sorted(zero)])
        parts.append(f"the variance{'s' * (len(zero) > 1)} of {names} {tables.be(len(zero))} zero")
    _, sd, _ = term_covariance(fit.estimates, item.term)
    rest = [j for j in range(len(columns)) if j not in zero]
    size = len(rest) - rank(fit.estimates.T[item.term][rest])
    if size > 0 and fit.design.terms[item.term].covariance is not None:
        parts.append("its correlations are at their bound")
    elif size > 0:
        share = np.asarray(item.direction) * sd  # of zero columns: nothing
        parts.append(_without_variance_in_words(columns, item.direction, share, len(rest), size))
    return ", and ".join(parts)


def _without_variance_in_words(
    columns: Sequence[str], direction: Any, share: np.ndarray, count: int, size: int
) -> str:
    """The combination without variance; how many there are, where each would be a long sum.

    count: columns that have a variance. size: how many combinations of them have none.
    """
    named = np.abs(share) >= NEGLIGIBLE * np.abs(share).max()
    if size > 1 and named.sum() > MOST_NAMED:
        return f"{size} of the {count} dimensions have no variance, as fit.rePCA() shows"
    text = combination(columns, np.asarray(direction), share)
    more = f" (one of {size} such combinations)" if size > 1 else ""
    perfect = " (random effects perfectly correlated)" if count == 2 else more
    return f"the combination {text} has no variance{perfect}"


def rank(factor: np.ndarray) -> int:
    """Numerical rank of a relative covariance factor with rows scaled to length one."""
    if len(factor) == 0:
        return 0
    unit = factor / np.linalg.norm(factor, axis=1)[:, None]
    return int(np.linalg.matrix_rank(unit, tol=NO_VARIANCE))


def combination(
    columns: Sequence[str], direction: np.ndarray, share: np.ndarray, most: int | None = None
) -> str:
    """``direction`` in words, its most important column with coefficient one; of more columns than
    `most` those with the largest shares, and how many others there are."""
    lead = int(np.argmax(np.abs(share)))
    text = ""
    inside = np.flatnonzero(np.abs(share) >= NEGLIGIBLE * abs(share[lead]))
    rest = 0 if most is None else max(len(inside) - most, 0)
    named = set(sorted(inside, key=lambda j: -abs(share[j]))[: len(inside) - rest])
    for j, name in enumerate(columns):
        if j not in named:
            continue
        value = direction[j] / direction[lead]
        size = "" if abs(abs(value) - 1) < 5e-4 else f"{tables.general(abs(value), 3)}*"
        sign = ("- " if value < 0 else "+ ") if text else ("-" if value < 0 else "")
        text += f"{' ' if text else ''}{sign}{size}{name}"
    return text + f" and {rest} smaller part{'s' * (rest > 1)}" * (rest > 0)


# ---- principal components ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class RandomEffectsPCA(tables.Printed):
    """Principal components of the random effects of each grouping factor, relative to sigma (of
    generalized models as they are).

    Attributes
    ----------
    components : dict of str to pandas.DataFrame
        Per factor: ``sd`` (over sigma), ``proportion`` and ``cumulative`` proportion of variance,
        one row per component.
    loadings : dict of str to pandas.DataFrame
        Per factor: random-effects columns x components; the largest entry of each is positive.
    """

    components: dict[str, pd.DataFrame]
    loadings: dict[str, pd.DataFrame]
    over: str = " / sigma"  # what standard deviations are relative to

    def to_frame(self) -> pd.DataFrame:
        """``components`` and ``loadings``: ``group``, ``component``, ``sd``, ``proportion``,
        ``cumulative`` and a column for each loading (NaN where a group has no such effect)."""
        import pandas as pd

        both = {
            group: pd.concat([own, self.loadings[group].T], axis=1)
            for group, own in self.components.items()
        }
        return pd.concat(both, names=["group", "component"]).reset_index()

    def summary(self) -> tables.Summary:
        """All of it on paper."""
        titles = (f"Standard deviation{self.over}", "Proportion of variance", "Cumulative")
        sections: list[tuple[str | tables.Table, ...]] = []
        for group, frame in self.components.items():
            table = _fixed(frame.T.set_axis(titles), 4)
            loadings = _fixed(self.loadings[group], 3)
            sections.append((f"Principal components of {group}:", table, "Loadings:", loadings))
        return tables.Summary(tuple(sections))


def _fixed(frame: pd.DataFrame, decimals: int) -> tables.Table:
    """Numbers with their labels."""
    pairs = zip(frame.index, frame.to_numpy(), strict=True)
    rows = [(str(name), *(tables.fixed(value, decimals) for value in row)) for name, row in pairs]
    return tables.Table(("", *frame.columns), tuple(rows), 1)


def random_pca(fit: Fit) -> RandomEffectsPCA:
    """Principal components, as ``Fit.rePCA`` documents them."""
    import pandas as pd
    from scipy.linalg import block_diag

    components, loadings = {}, {}
    for group in fit.n_levels:
        own = [i for i, term in enumerate(fit.design.terms) if term.group == group]
        names = [name for i in own for name in fit.design.terms[i].columns]
        U, sd, _ = np.linalg.svd(block_diag(*(fit.estimates.T[i] for i in own)))
        largest = U[np.abs(U).argmax(axis=0), np.arange(len(U))]
        labels = [f"PC{j + 1}" for j in range(len(sd))]
        total = float(sd @ sd)
        share = sd**2 / total if total > 0 else np.full(len(sd), np.nan)
        components[group] = pd.DataFrame(
            {"sd": sd, "proportion": share, "cumulative": np.cumsum(share)}, index=labels
        )
        loadings[group] = pd.DataFrame(U * np.sign(largest), index=names, columns=labels)
    return RandomEffectsPCA(components, loadings, " / sigma" if fit.family is None else "")


# ---- slopes at the boundary ----------------------------------------------------------------------


def boundary_slope(fit: Fit, term: int, curvature: np.ndarray) -> np.ndarray:
    """S (k, k): slope of the criterion in the relative covariance of a singular term; curvature is
    the criterion's at the fit's theta."""
    T = fit.estimates.T[term]
    place = {(r, c): e for e, (i, r, c) in enumerate(fit.model.theta_entries) if i == term}
    kept = sorted({r for r, _ in place})
    zero = [j for j in kept if T[j, j] == 0]
    if fit.design.terms[term].structure == "diag":
        S = np.zeros_like(T)
        for j in zero:
            S[j, j] = curvature[place[j, j], place[j, j]] / 2
        return S
    own = [place[j, zero[0]] for j in zero]
    basis = _without_variance(T, kept, zero)
    return np.asarray(basis @ curvature[np.ix_(own, own)] @ basis.T / 2)


def _without_variance(T: np.ndarray, kept: list[int], zero: list[int]) -> np.ndarray:
    """N (k, r) with T'N = 0, the identity in the rows of the zero columns."""
    pivots = [j for j in kept if T[j, j] != 0]
    N = np.zeros((len(T), len(zero)))
    N[zero] = np.eye(len(zero))
    N[pivots] = -np.linalg.solve(T[np.ix_(pivots, pivots)].T, T[np.ix_(zero, pivots)].T)
    return N


@dataclass(frozen=True, eq=False)
class Direction:
    """A combination of the random effects of a term that has no variance.

    Its score is the slope of the criterion in its variance over sigma^2, not negative at an
    optimum; NaN for columns that were dropped because they depend on others.
    """

    term: int
    weights: np.ndarray  # (k,), the most important column's one
    score: float


def directions(fit: Fit) -> list[Direction]:
    """All directions without variance: single columns, then combinations, lowest score first."""
    if not fit.is_singular:
        return []
    if fit.estimates.is_sigma_known:
        raise FitError(
            "slopes at the boundary take sigma as estimated, but it was held in this fit: fit the "
            "smaller model and compare with anova()"
        )
    curvature = _curvature(fit)
    out: list[Direction] = []
    for item in fit.estimates.singular:
        if fit.design.terms[item.term].covariance is not None:
            continue  # what a structure allows is no cone of directions
        S = boundary_slope(fit, item.term, curvature)
        kept = {r for i, r, _ in fit.model.theta_entries if i == item.term}
        for j in item.zero:
            score = float(S[j, j]) if j in kept else np.nan
            out.append(Direction(item.term, np.eye(len(S))[j], score))
        out += _combinations(fit, item, S)
    return out


def _curvature(fit: Fit) -> np.ndarray:
    """Curvature of the criterion in theta, exact in columns of T that are zero."""
    if fit.family is None:
        how: dict[str, Any] = {"reml": fit.reml, "gradient": True, "hessian": True}
        if fit.estimates.delta is not None:
            how["delta"] = fit.estimates.delta
        found: np.ndarray = model_of(fit).objective(fit.theta, **how)[2]
        return found
    own: Any = fit
    model: Any = model_of(fit)
    count = len(fit.theta)
    return PsiCriterion(model, own.psi).curvature[:count, :count]


def _combinations(fit: Fit, item: Singular, S: np.ndarray) -> Iterator[Direction]:
    """Of the columns that vary: axes of S among standardized combinations without variance."""
    T = fit.estimates.T[item.term]
    sd = np.linalg.norm(T, axis=1)
    vary = np.flatnonzero(sd)
    count = int(np.sum(T.diagonal() == 0)) - len(item.zero)
    if count == 0:
        return
    sd = sd[vary]
    null = np.linalg.svd(T[vary] / sd[:, None])[0][:, len(vary) - count :]
    slope = null.T @ (sd[:, None] * S[np.ix_(vary, vary)] * sd) @ null
    values, axes = np.linalg.eigh((slope + slope.T) / 2)
    for value, axis in zip(values, (null @ axes).T, strict=True):
        own = axis / sd
        lead = own[np.argmax(np.abs(axis))]
        weights = np.zeros(len(T))
        weights[vary] = own / lead
        yield Direction(item.term, weights, float(value * lead**2))


# ---- explanation ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Singularity(tables.Printed):
    """Why a fit is singular, and what can be done.

    Attributes
    ----------
    singular : bool
    sentences : tuple of str
        One for each singular term.
    directions : pandas.DataFrame
        One row per direction without variance: ``term``, ``direction`` (in words) and ``score``,
        the slope of the criterion in the variance of the direction over sigma^2: at least zero, a
        variance v would raise the criterion by about v times the score.
    reductions : pandas.DataFrame
        Smaller models, each fitted (of fits with held or tied parameters none): ``removed``,
        ``formula`` (for models from arrays the random
        terms), ``npar``, ``change`` of the criterion, ``df``, ``p``, ``aic`` (its change) and
        whether the smaller model is ``singular``.
    """

    singular: bool
    sentences: tuple[str, ...]
    directions: pd.DataFrame
    reductions: pd.DataFrame
    over: str = " (over sigma^2)"  # what variances are relative to
    # of each direction grouping factor (of several terms the term), and its largest columns
    shown: tuple[tuple[str, str], ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """As ``reductions``."""
        return self.reductions.copy()

    def summary(self) -> tables.Summary:
        """All of it on paper."""
        if not self.singular:
            return tables.Summary((("The fit is not singular: every direction has variance.",),))
        why = [line for sentence in self.sentences for line in tables.wrapped(sentence)]
        sections: list[tuple[str | tables.Table, ...]] = [tuple(why)]
        if len(self.directions):
            sections.append(self._slopes())
        if len(self.reductions):
            sections.append(("Smaller models:", *_steps_text(self.reductions)))
        return tables.Summary(tuple(sections))

    def _slopes(self) -> tuple[str | tables.Table, ...]:
        """The directions without variance by the columns that count most in each."""
        rows = [
            (*texts, tables.general(score, 4))
            for texts, score in zip(self.shown, self.directions["score"], strict=True)
        ]
        what = f"Slope of the criterion in the variance{self.over} of each direction; the steeper"
        title = tables.wrapped(f"{what} it is, the clearer that this variance is zero:")
        table = tables.Table(("", "direction", "slope"), tuple(rows), 2)
        if max(map(len, str(table).splitlines())) <= tables.LINE:
            return (*title, table)
        short, lines = [], []
        for number, (group, direction, slope) in enumerate(rows, start=1):
            short.append((group, f"({number})", slope))
            lines += tables.wrapped(f"({number}) {direction}")
        return (*title, tables.Table(table.header, tuple(short), 2), *lines)


def explain_singularity(fit: Fit) -> Singularity:
    """Explanation of a singular fit, as ``Fit.explain_singularity`` documents it."""
    import pandas as pd

    labels = [term.term for term in fit.design.terms]
    found = directions(fit)
    rows = [(labels[one.term], _in_words(fit, one), one.score) for one in found]
    frame = pd.DataFrame(rows, columns=["term", "direction", "score"])
    ways: list[Reduction | None] = []
    if fit.estimates.free is None and fit.is_singular:
        ways = [costless(fit), without_factors(fit), *costly(fit)]
    smaller = [_step(refit_reduced(fit, way), fit, way.removed) for way in ways if way]
    over = " (over sigma^2)" if fit.family is None else ""
    sentences = tuple(singular_sentences(fit))
    groups = [term.group for term in fit.design.terms]
    short = [g if groups.count(g) == 1 else label for g, label in zip(groups, labels, strict=True)]
    shown = tuple((short[one.term], _in_words(fit, one, MOST_NAMED)) for one in found)
    return Singularity(fit.is_singular, sentences, frame, _frame(smaller), over, shown)


def _in_words(fit: Fit, direction: Direction, most: int | None = None) -> str:
    columns = fit.design.terms[direction.term].columns
    sd = np.linalg.norm(fit.estimates.T[direction.term], axis=1)
    share = direction.weights * sd
    if not share.any():  # a column without variance
        share = direction.weights
    return combination(columns, direction.weights, share, most)


STEP = ("removed", "formula", "npar", "criterion", "change", "df", "p", "aic", "singular")


def _step(fit: Fit, larger: Fit | None, removed: str) -> dict[str, Any]:
    # the formula, or the random terms of a model from arrays
    text = fit.design.formula or " + ".join(term.term for term in fit.design.terms)
    change, df, p, aic = 0.0, 0, np.nan, 0.0
    if larger is not None:
        change, aic = fit.objective - larger.objective, fit.aic - larger.aic
        df = larger.n_params - fit.n_params
        p = chi2_tail(change, df) if df else 1.0
    values = removed, text, fit.n_params, fit.objective, change, df, p, aic, fit.is_singular
    return dict(zip(STEP, values, strict=True))


def _frame(steps: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(steps, columns=list(STEP))


def _steps_text(steps: pd.DataFrame) -> list[str | tables.Table]:
    header = ("", "npar", "criterion", "change", "df", "p", "AIC change", "singular")
    rows, lines = [], []
    for number, row in steps.iterrows():
        p = "" if np.isnan(row["p"]) else tables.p_value(row["p"])
        values = (tables.fixed(row["criterion"], 4), tables.fixed(row["change"], 4))
        rest = (str(row["df"]), p, tables.fixed(row["aic"], 2), "yes" if row["singular"] else "no")
        rows.append((str(number), str(row["npar"]), *values, *rest))
        without = f"without {row['removed']}" if row["removed"] else "the fit given"
        lines += tables.wrapped(f"{number}: {without}")
        lines += tables.wrapped(f"   {row['formula']}")
    return [tables.Table(header, tuple(rows), 1), *tables.wrapped(BOUNDARY), *lines]


# ---- the path to a smaller model -----------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Simplification(tables.Printed):
    """The path from a singular fit to one that is not.

    Attributes
    ----------
    fit : Fit
        The last model; singular only if a grouping factor's last term has no variance.
    steps : pandas.DataFrame
        The models from the first on: what was ``removed``, ``formula``, ``npar``, ``criterion``
        (REML criterion or deviance), its ``change`` from the step before with ``df`` and ``p``
        (chi-squared: conservative for variances, which are tested at the boundary), the change of
        ``aic``, and ``singular``.
    """

    fit: Fit
    steps: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """As ``steps``."""
        return self.steps.copy()

    def summary(self) -> tables.Summary:
        """All of it on paper."""
        last = self.steps.iloc[-1]
        if len(self.steps) == 1 and not self.fit.is_singular:
            return tables.Summary((("The fit is not singular: nothing was removed.",),))
        state = "not singular"
        if self.fit.is_singular:
            left = " ".join(singular_sentences(self.fit))
            state = f"still singular: {left} A grouping factor keeps its last term"
        end = tables.wrapped(f"Last model: {last['formula']}; {state}")
        return tables.Summary((tuple(_steps_text(self.steps)), tuple(end)))


@hinted
def simplify(
    fit: Fit,
    criterion: Literal["LRT", "AIC"] = "LRT",
    alpha: float = 0.2,
    *,
    until: Literal["not singular", "criterion"] = "not singular",
) -> Simplification:
    """Makes the random part of a fit smaller: until it is not singular, or as the criterion says.

    What has no variance goes first: it costs nothing. While random effects are still linearly
    dependent (perfectly correlated), the candidates are each such term without its correlations
    and without its least important column (highest order, smallest variance). Every grouping
    factor keeps a term, whose variance may be zero. Every step takes out columns or correlations,
    after at most two fits for each term, which start where the last ended. Factors are never
    recoded: columns whose removal would change the coding of others stay.

    Parameters
    ----------
    fit : Fit
        From a formula or from arrays; its fixed effects, rows and criterion are kept.
    criterion : {"LRT", "AIC"}
        How to choose among the candidates. "LRT": a term without correlations if its
        likelihood-ratio p-value is at least alpha (the largest), else one without a column if
        that one's is, else the candidate with the largest p. "AIC": the lowest.
    alpha : float, default 0.2
        As Matuschek et al. (2017) recommend.
    until : {"not singular", "criterion"}, default "not singular"
        Where to stop. "criterion": go on, beyond what is singular, as long as a candidate's p-value
        is at least alpha (Matuschek et al. 2017: backward selection from the maximal model), or
        its AIC is not above the present one; every random term is a candidate then.

    Returns
    -------
    Simplification
        ``fit``, ``steps``; prints as text and HTML.

    Raises
    ------
    ValueError
        For another criterion or end, or alpha not between 0 and 1.
    FitError
        For a fit with covariance parameters that were held or tied.

    See Also
    --------
    lmmfast.step : Elimination by tests, fixed effects too.
    lmmfast.ranova : Tests of one random effect at a time.

    Examples
    --------
    >>> import lmmfast
    >>> from lmmfast import datasets, lmer
    >>> data = datasets.load("kb07")
    >>> fit = lmer("RTtrunc ~ S + P + C + (S + P + C | subj) + (S + P + C | item)", data)
    >>> lmmfast.simplify(fit).fit.is_singular
    False
    >>> lmmfast.simplify(fit, until="criterion").fit.formula
    'RTtrunc ~ S + P + C + (1 | subj) + (1 + P | item)'
    """
    fit = fit_of(fit)
    check_choice("criterion", criterion, ("LRT", "AIC"))
    check_choice("until", until, ("not singular", "criterion"))
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha!r}")
    if fit.estimates.free is not None:
        raise FitError(
            "simplify() takes every covariance parameter as estimated, but some were held or tied "
            "in this fit: fit the smaller model and compare with anova()"
        )
    steps = [_step(fit, None, "")]
    while fit.is_singular or until == "criterion":
        free = costless(fit) if fit.is_singular else None
        ways = [free] if free else costly(fit, not fit.is_singular)
        found = [(way, refit_reduced(fit, way)) for way in ways]
        if not found:
            break
        rows = [_step(smaller, fit, way.removed) for way, smaller in found]
        best = _choice([way.kind for way, _ in found], rows, criterion, alpha)
        if not fit.is_singular and not _is_better(rows[best], criterion, alpha):
            break
        steps.append(rows[best])
        fit = found[best][1]
    return Simplification(fit, _frame(steps))


def _is_better(row: dict[str, Any], criterion: str, alpha: float) -> bool:
    """Whether the smaller model is to be preferred."""
    return bool(row["p"] >= alpha if criterion == "LRT" else row["aic"] <= 0)


def _choice(kinds: list[str], rows: list[dict[str, Any]], criterion: str, alpha: float) -> int:
    if criterion == "AIC":
        return min(range(len(rows)), key=lambda j: rows[j]["aic"])
    ranked = sorted(range(len(rows)), key=lambda j: -rows[j]["p"])
    for kind in ("no variance", "correlations", "structure", "column"):
        for j in ranked:
            if kinds[j] == kind and rows[j]["p"] >= alpha:
                return j
    return ranked[0]
