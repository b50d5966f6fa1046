"""Estimated marginal means: averages of predictions over a grid of the predictors.

References
----------
Searle, Speed & Milliken (1980), *Amer. Statist.* 34, 216-221. Conventions are those documented for
R's package emmeans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ... import tables as _tables
from ...fit import Fit
from ...hints import hinted
from ...plots import results as _pictures
from ...typing import Adjustment, AxesLike, CellWeights, Contrasted, Ddf, Inverse, MeansType
from ..classes import class_kind
from ..ddf import check_choice, check_level, ddf_of, fit_of, method_of
from ..response import response_scale, total_variance
from .adjust import ADJUSTMENTS, adjustment
from .classes import class_means, response_name, roles
from .coefficients import FixedEffects
from .contrasts import Contrasts, contrasts_of
from .estimates import LinearEstimates, frame, paper
from .grid import WEIGHTS, Grid
from .letters import letters

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack
else:
    from ...late import Unpack
    from ...late import pandas as pd


class MeansOptions(TypedDict, total=False):
    """Arguments of `emmeans` by name."""

    by: str | Sequence[str] | None
    at: Mapping[str, object] | None
    contrasts: Contrasted | None
    interaction: bool | Contrasted | Mapping[str, Contrasted] | None
    ref: str | int | None
    adjust: Adjustment | None
    ddf: Ddf | None
    level: float
    weights: CellWeights
    type: MeansType
    inverse: Inverse | None
    bias_adjust: bool | None


class ContrastOptions(TypedDict, total=False):
    """Arguments of `EMMeans.contrast` by name."""

    by: str | Sequence[str] | None
    adjust: Adjustment | None
    ref: str | int | None
    interaction: bool | Contrasted | Mapping[str, Contrasted] | None


@hinted
def emmeans(
    fit: Fit,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, object] | None = None,
    contrasts: Contrasted | None = None,
    interaction: bool | Contrasted | Mapping[str, Contrasted] | None = None,
    ref: str | int | None = None,
    adjust: Adjustment | None = None,
    ddf: Ddf | None = None,
    level: float = 0.95,
    weights: CellWeights = "equal",
    type: MeansType = "link",
    inverse: Inverse | None = None,
    bias_adjust: bool | None = None,
) -> EMMeans:
    """Estimated marginal means of a fit, and contrasts among them.

    Predictions of the fixed effects on the grid of all levels of the factors, with numeric
    variables at their means (those with two values, and those that are made factors by the
    formula, at all their values), averaged over what is not asked for. A transform such as
    ``log(x)`` is taken of the mean of x. A factor whose every level occurs with one level of
    another only is nested in it: cells that cannot exist are left out, and means of the coarser
    factor are those over its own levels.

    Parameters
    ----------
    fit : Fit
        Of `lmmfast.lmer`, `lmmfast.glmer` or `lmmfast.mmrm`.
    specs : str or list of str
        Variables whose means are asked for: ``"cond"``, ``"a * b"`` or ``["a", "b"]`` for all
        combinations, ``"a | b"`` for a by b, ``"1"`` for the mean of all.
    by : str or list of str, optional
        Variables within whose levels means are compared.
    at : dict, optional
        Values of variables instead of their levels or mean: ``{"age": [8, 14]}``.
    contrasts : str, dict, list or array, optional
        Comparisons: "pairwise" and "revpairwise" (all pairs, in either direction), "trt.vs.ctrl"
        (each with the first, or with `ref`), "trt.vs.ctrlk" (with the last), "consec" (each with
        the one before), "eff" and "del.eff" (each with the mean of all, or of the others),
        "mean_chg" (all after a place with all before), "poly" (polynomials, smallest integers),
        "identity"; text about the means, ``"(b + c) / 2 - a"``; or weights for the means of
        ``specs``, rows or ``{name: weights}``, in their order or by their names
        (``{"b-a": {"b": 1, "a": -1}}``, a data frame with a column, or a row, for each mean).
    interaction : bool, str, list or dict, optional
        Contrasts of contrasts: one kind for all variables of `specs`, or one for each. True:
        `contrasts` for all.
    ref : str or int, optional
        The mean that "trt.vs.ctrl" compares with, by its label or place (from 0).
    adjust : str, optional
        For several tests, within each level of ``by``: "tukey" (all pairs), "dunnettx" (with a
        control, as if means were of equal size), "mvt" (by the correlations of the tests),
        "scheffe", "holm", "bonferroni", "sidak", "fdr" or "none". Default: "tukey" for pairs,
        "holm" for comparisons with a control, "consec" and "mean_chg", "fdr" for "eff" and
        "del.eff", else "none". Tukey's for anything but pairs becomes "sidak", as in R.
    ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
        As for ``Fit.t_test``.
    level : float, default 0.95
        Coverage of the intervals.
    weights : {"equal", "proportional", "outer", "cells", "flat"}
        Of the cells that are averaged: the same for all; the number of rows with these levels of
        the averaged variables; products of the shares of each averaged variable; the number of rows
        in the cell itself (means of the data where the model has every interaction); the same for
        all cells that have rows.
    type : {"link", "response", "prob", "cum.prob", "exc.prob", "mean.class"}
        "response": on the scale of the response itself, where the formula transforms it
        (``log(rt)``, ``-1000 / rt``, ``sqrt(y)``, ...), and that of the mean in generalized
        models; contrasts of a logarithm become ratios, those of logits odds ratios. Of an ordered
        response: probabilities of each class ("prob", or "response"), of classes up to each
        threshold ("cum.prob"), above it ("exc.prob"), or the mean number of the class, from 1
        ("mean.class"). These are means of the probabilities in the cells of the grid, not
        probabilities at a mean predictor. Which class a mean is of says the column with the name of
        the response, or ``cut``, which may stand in `specs` or `by`; default: last in `by`, so that
        contrasts compare means within each class.
    inverse : callable or dict, optional
        The way back for a transformation that the formula does not show:
        ``{"inverse": f, "derivative": g}``.
    bias_adjust : bool, optional
        With ``type="response"``: the mean of the response rather than the response of the mean. It
        is integrated over a normal distribution whose variance is that of the residuals and, on
        average over rows, of the random effects. Default: no; of generalized models yes: means
        over the random effects, with their variance at the predictors of each mean (False: those
        of a group whose random effects are zero, as R's emmeans gives them). Standard errors take
        that variance as known.

    Returns
    -------
    EMMeans
        ``table``, ``contrasts``, ``contrast()``, ``cld()``, ``vcov``, ``notes``; NaN where the data
        leave a mean open.

    Raises
    ------
    DataError
        For variables that are not in the fixed part, unknown levels or a model made from arrays.
    ValueError
        For other arguments that cannot be used.

    See Also
    --------
    lmmfast.emtrends : Slopes of a numeric variable.
    lmmfast.joint_tests : F tests of all terms.
    lmmfast.Contrasts : What comparisons come to.

    Examples
    --------
    >>> from lmmfast import datasets, emmeans, lmer
    >>> fit = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))
    >>> found = emmeans(fit, "Machine", contrasts="pairwise", ddf="kenward-roger")
    >>> found.table.round(3)[["Machine", "emmean", "SE", "df"]]
      Machine  emmean     SE     df
    0       A  52.356  2.229  5.833
    1       B  60.322  2.229  5.833
    2       C  66.272  2.229  5.833
    """
    fit = fit_of(fit)
    ddf = ddf_of(ddf, fit)
    check_level(level)
    check_choice("weights", weights, WEIGHTS)
    kind = class_kind(fit, type)
    if adjust is not None:
        check_choice("adjust", adjust, ADJUSTMENTS)
    asked: dict[str, Any] = {
        "ddf": ddf,
        "level": level,
        "kind": interaction if contrasts is None and interaction is not None else contrasts,
        "interaction": interaction,
        "ref": ref,
        "adjust": adjustment(contrasts, adjust),
        "asked": adjust,
    }
    if kind is not None:
        if inverse is not None:
            raise ValueError("inverse= is not for probabilities of classes")
        return _of_classes(fit, kind, specs, by, at, weights, bias_adjust is not False, asked)
    scale = response_scale(fit, inverse) if type == "response" else None
    if bias_adjust is None:
        bias_adjust = scale is not None and fit.family is not None
    if scale is None and (bias_adjust or inverse is not None):
        raise ValueError('bias_adjust and inverse need type="response"')
    grid = Grid.of(fit, at or {})
    wanted, within = grid.targets(specs, by)
    wanted += grid.parents(wanted + within)
    L, offset, there = grid.averages(wanted + within, weights)
    bias: Any = 0.0
    if bias_adjust:
        linear = fit.family is None
        bias = total_variance(fit) if linear else grid.variances(wanted + within, weights)[there]
    means = EMMeans(
        fit=fit,
        of=FixedEffects(fit, method_of(fit, ddf)),
        specs=tuple(wanted),
        by=tuple(within),
        cells={name: own[there] for name, own in grid.cells(wanted + within).items()},
        L=L[there],
        offset=offset[there],
        scale=scale,
        bias=bias,
        grid_notes=tuple(grid.notes(wanted, within, weights, scale is None)),
        **asked,
    )
    if means.kind is not None:
        _ = means._made  # refuses what cannot be compared now rather than when it is printed
    return means


def _of_classes(
    fit: Fit,
    kind: str,
    specs: Any,
    by: Any,
    at: Any,
    weights: str,
    averaged: bool,
    asked: dict[str, Any],
) -> EMMeans:
    """Means of what the classes of an ordered response have."""
    column = {"prob": response_name(fit), "mean.class": ""}.get(kind, "cut")
    own = roles(specs, by, column)
    grid = Grid.of(fit, at or {})
    wanted, within = grid.targets(own.specs, own.by)
    wanted += grid.parents(wanted + within)
    found = class_means(fit, grid, kind, wanted, within, weights, own.role, averaged)
    count = len(found.numbers.values)
    means = EMMeans(
        fit=fit,
        of=found.numbers,
        specs=found.specs,
        by=found.by,
        cells=found.cells,
        L=np.eye(count),
        offset=np.zeros(count),
        scale=None,
        bias=0.0,
        grid_notes=(*found.notes, *grid.notes(wanted, within, weights, False)),
        named=kind,
        **asked,
    )
    if means.kind is not None:
        _ = means._made
    return means


# ---- the result ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class EMMeans(LinearEstimates):
    """Estimated marginal means; `emmeans` makes them.

    Attributes
    ----------
    specs, by : tuple of str
        Variables whose means these are, and those within which they are compared.
    L : (k, p) array
        Weights of the fixed effects in each mean: ``fit.t_test(result.L)`` tests them.
    ddf, adjust, level : str, str, float
    """

    kind: Contrasted | None
    interaction: bool | Contrasted | Mapping[str, Contrasted] | None
    ref: str | int | None
    adjust: str
    asked: str | None
    grid_notes: tuple[str, ...]
    named: str = "emmean"  # the column of means that are not on the scale of the response

    @property
    def table(self) -> pd.DataFrame:
        """The means: variables, ``emmean`` (``response``; of classes ``prob`` and the like),
        ``SE``, ``df``, ``lower``, ``upper``."""
        return self._table.copy()

    def to_frame(self) -> pd.DataFrame:
        """As ``table``."""
        return self.table

    @cached_property
    def _table(self) -> pd.DataFrame:
        return self._with_limits(self.level, "none")

    @property
    def contrasts(self) -> Contrasts | None:
        """The contrasts: ``contrast``, variables of ``by``, ``estimate``, ``SE``, ``df``, ``t`` (or
        ``z``) and ``p``, adjusted; None if none were asked for."""
        return None if self.kind is None else self._made

    @hinted
    def contrast(
        self,
        kind: Contrasted = "pairwise",
        *,
        by: str | Sequence[str] | None = "same",
        adjust: Adjustment | None = None,
        ref: str | int | None = None,
        interaction: bool | Contrasted | Mapping[str, Contrasted] | None = None,
    ) -> Contrasts:
        """Contrasts among the means, which can be contrasted again.

        Parameters
        ----------
        kind, interaction, ref, adjust : optional
            As `contrasts`, `interaction`, `ref` and `adjust` of `emmeans`.
        by : str, list of str or None, optional
            Variables within whose levels means are compared. Default: those of the means; None: all
            are compared.

        Returns
        -------
        Contrasts
            ``table``, ``conf_int()``, ``vcov``, ``contrast()``.

        Examples
        --------
        >>> from lmmfast import datasets, emmeans, lmer
        >>> fit = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))
        >>> pairs = emmeans(fit, "Machine").contrast("pairwise")
        >>> pairs.contrast().table["contrast"][0]
        '(A - B) - (A - C)'
        """
        return contrasts_of(self, kind, by=by, adjust=adjust, ref=ref, interaction=interaction)

    def pairs(self, **arguments: Unpack[ContrastOptions]) -> Contrasts:
        """All pairs: ``contrast("pairwise", ...)``.

        Parameters
        ----------
        **arguments : optional
            The other arguments of `contrast`.

        Returns
        -------
        Contrasts
            One row a pair, within each level of ``by``.
        """
        return self.contrast("pairwise", **arguments)

    def conf_int(self, level: float | None = None, *, adjust: str | None = None) -> pd.DataFrame:
        """Intervals of the contrasts, simultaneous by ``adjust`` within each level of ``by``.

        Where no contrasts were asked for they are those of the means.

        Parameters
        ----------
        level : float, optional
            Coverage; default that of the means.
        adjust : str, optional
            Of the means' intervals, among `emmeans`' adjustments; default "none".

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper`` beside those of the table without tests.

        Raises
        ------
        ValueError
            If ``level`` is not between 0.5 and 1.
        """
        level = self.level if level is None else level
        check_level(level)
        if self.kind is not None:
            return self._made.conf_int(level)
        if adjust is not None:
            check_choice("adjust", adjust, ADJUSTMENTS)
        return self._with_limits(level, adjust or "none")

    def cld(self, alpha: float = 0.05, *, adjust: Adjustment = "tukey") -> pd.DataFrame:
        """The means with compact letters: those that share one do not differ (Piepho 2004).

        Parameters
        ----------
        alpha : float, default 0.05
            Level of the tests of all pairs.
        adjust : str, default "tukey"
            As for `emmeans`; within each level of ``by``.

        Returns
        -------
        pandas.DataFrame
            ``table`` with a column ``letters``, the means of each level of ``by`` in their order;
            missing where a mean is left open.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, not {alpha!r}")
        tests = self.contrast("pairwise", adjust=adjust)
        p, table = tests.table["p"].to_numpy(), self.table
        shown = np.full(len(table), "", dtype=object)
        order, at = [], 0
        for rows in self.families:
            count = len(rows) * (len(rows) - 1) // 2
            own, at = p[at : at + count], at + count
            order += list(rows[np.argsort(self.estimates[0][rows], kind="stable")])
            shown[rows] = _letters(self.estimates[0][rows], own <= alpha)
        return table.assign(letters=shown).iloc[order].reset_index(drop=True)

    def plot(self, x: str | None = None, *, axes: AxesLike | None = None) -> np.ndarray:
        """Draws the means with intervals, interactions as lines: `lmmfast.plots.means`.

        Parameters
        ----------
        x : str, optional
            Variable of the horizontal axis. Default: the first; the others make lines, those of
            ``by`` panels.
        axes : sequence of matplotlib axes, optional
            One a combination of ``by``. Default: a new figure.

        Returns
        -------
        (k,) array of matplotlib axes

        Raises
        ------
        ImportError
            Without matplotlib, when no axes are given.
        """
        return _pictures.means(self, x, axes=axes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was averaged and held, how degrees of freedom and p-values were computed."""
        found = [
            *self.grid_notes,
            *self._scale_notes(),
            self._method_note(),
            f"Confidence level: {self.level:g}",
        ]
        unknown = int(np.isnan(self.estimates[0]).sum())
        if unknown:
            what = f"{unknown} mean{'s are' if unknown > 1 else ' is'} not estimable"
            why = "the data have no rows for some of the cells that are averaged"
            found.insert(len(self.grid_notes), f"NA: {what}, {why}")
        return tuple(found)

    def summary(self) -> _tables.Summary:
        """The means, and the contrasts, on paper."""
        notes = [line for note in self.notes for line in _tables.wrapped(note)]
        sections: list[tuple[str | _tables.Table, ...]] = [
            ("Estimated marginal means:", paper(self._table, len(self.cells)), *notes)
        ]
        if self.kind is not None:
            sections.append(self._made.section())
        return _tables.Summary(tuple(sections))

    # ---- what these are made of

    @cached_property
    def _made(self) -> Contrasts:
        """The contrasts that were asked for with the means."""
        return contrasts_of(
            self, self.kind, adjust=self.asked, ref=self.ref, interaction=self.interaction
        )

    def _with_limits(self, level: float, adjust: str) -> pd.DataFrame:
        half = self._half_widths(level, adjust, [len(rows) for rows in self.families])
        return frame({**self.cells, **self._shown(half)})

    @property
    def _name(self) -> str:
        return self.named if self.scale is None else "response"


def _letters(means: np.ndarray, differ: np.ndarray) -> list[str]:
    """Letters of the means that are known; `differ` of all pairs, in the order of "pairwise"."""
    first, second = np.triu_indices(len(means), 1)
    known = ~np.isnan(means)
    number = np.cumsum(known) - 1
    pairs = [
        (int(number[i]), int(number[j]))
        for i, j, yes in zip(first, second, differ, strict=True)
        if yes and known[i] and known[j]
    ]
    found = iter(letters(np.argsort(means[known], kind="stable").tolist(), pairs))
    return [next(found) if own else "" for own in known]
