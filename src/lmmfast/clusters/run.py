"""`cluster_test`: arguments, the test of the data, its null distribution, the result."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..data.columns import Table
from ..data.design import Design, build
from ..engine.options import MAX_EVALS
from ..errors import DataError, FitError
from ..formula.column import first_rows
from ..hints import hinted
from ..many.responses import Responses, chunks_of
from ..many.streams import Streams
from ..progress import progress
from ..tables import joined
from .components import KINDS, TAILS, Rule, clusters
from .exchange import Arrangements, exchange_of
from .hypothesis import Tested, tested
from .neighbours import neighbours, shape_of
from .permutations import How, Permutations, points_of
from .results import LEVEL, ClusterTest, corrected
from .shuffled import Shuffled

RESPONSE = "response_"  # what the left side of the formula is called


@hinted
def cluster_test(
    formula: str,
    data: Any,
    Y: Any,
    *,
    test: Any,
    permute: str = "auto",
    by: str | None = None,
    shuffle: str | list[str] | None = None,
    kind: str = "mass",
    threshold: float | None = None,
    alpha: float = 0.05,
    tail: str = "two-sided",
    shape: Any = None,
    adjacency: Any = None,
    n: int = 1000,
    seed: int | None = None,
    extent: float = 0.5,
    height: float | None = None,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    codings: Mapping[str, Any] | None = None,
    threads: int = 1,
    storage: str = "auto",
    max_evals: int = MAX_EVALS,
) -> ClusterTest:
    """Cluster-based permutation test of an effect over time, space or both.

    A linear mixed model, crossed random effects and all, is fitted at every point: of the data, and
    of n permutations in which the predictor is shuffled and everything else stays with its row.
    Neighbouring points whose statistic is beyond a threshold are clusters; a cluster's p-value is
    the share of permutations whose largest cluster is at least as large (Maris and Oostenveld 2007,
    *J. Neurosci. Methods* 164). The error rate is that of all points together.

    Parameters
    ----------
    formula : str
        lme4's syntax; its left side, if it has one, is not read: ``"~ cond + (cond | subj) + (1 |
        item)"``.
    data : pandas, polars or pyarrow table, dict of arrays
        Predictors and grouping factors, one row a trial.
    Y : (n, T) or (n, ...) array, or table with T columns
        One row a trial and one column a point. Arrays with more axes, as (n, channels, times), say
        the `shape` of the points. A missing value drops its row at that point alone.
    test : str or hypotheses
        A term of the formula (``"cond"``), a coefficient (``"cond[b]"``), or hypotheses as for
        ``fit.t_test``. One: t is the statistic; several together, as of a factor with three levels:
        Wald's F. One test a call: other predictors are shuffled otherwise.
    permute : {"auto", "labels", "within", "between"}, default "auto"
        What is exchangeable; see Notes. "auto": "between" where the predictor is constant within
        the levels of a grouping factor, else "labels" where every unit has all of its values, else
        "within".
    by : str, optional
        The units: a grouping factor of the formula, or a column of the data. Default: the first
        factor of the formula with slopes of the predictor, or the first one; with "between" that
        with the fewest levels, within which the predictor is constant.
    shuffle : str or list of str, optional
        Columns of the data that are shuffled, together. Default: those that the tested columns are
        made of, where that is one; interactions need to say.
    kind : {"mass", "size", "tfce"}, default "mass"
        What makes a cluster large: the sum of its statistics, or its number of points. "tfce":
        threshold-free cluster enhancement (Smith and Nichols 2009), of which each point has a
        p-value; clusters are then neighbouring points with p at most 0.05.
    threshold : float, optional
        Beyond which points form clusters, t or F. Default: by `alpha`.
    alpha : float, default 0.05
        The threshold as a p-value of single points, by t or F with the number of units less one as
        degrees of freedom. It decides what kind of effect is found, not the error rate of the test.
    tail : {"two-sided", "greater", "less"}, default "two-sided"
        Two-sided: positive and negative clusters apart, each beside the largest of either sign.
    shape : int or tuple, optional
        Extents of the axes of the points, the last one varying fastest: (channels, times). Default:
        one axis.
    adjacency : matrix or pairs, optional
        Which channels (places on the first axis) are neighbours, or which of all T points: a square
        matrix, dense or of scipy.sparse, or a list of pairs. Default: neighbours are next to each
        other on an axis.
    n : int, default 1000
        Permutations. Where there are no more arrangements than that, each is tried once.
    seed : int, optional
        From 0 on. Default: a new one, which the result has. Permutation k is the same for every n.
    extent, height : float, optional
        E and H of "tfce". Default: 0.5 and 2, of F 0.5 and 1. The integral is exact: there is no
        step dh.
    reml, weights, offset, storage, max_evals
        As for ``lmer``.
    codings : dict, optional
        Codings of factors: what ``lmer`` calls ``contrasts``.
    threads : int, default 1
        The result is identical for any number.

    Returns
    -------
    ClusterTest
        Prints as a table; ``to_frame()``, ``to_points()``, ``plot()``.

    Raises
    ------
    FormulaError, DataError, FitError
        What is wrong with the model, in which variable, and what to do.
    ValueError
        For arguments that mean nothing, and where nothing can be shuffled.

    Notes
    -----
    A permutation test is exact where the null hypothesis says that the shuffled data are as
    probable as the data (Winkler, Ridgway, Webster, Smith and Nichols 2014, *NeuroImage* 92).

    - "between": values trade places among units in which they are constant (groups of subjects,
      kinds of items). Exact if units are exchangeable: with intercepts of the unit, any other
      factor's intercepts, and equally many trials; not with slopes of the predictor by another
      factor (subjects' slopes of an item's frequency), which shuffling destroys.
    - "labels": the values trade places as a whole within each unit, with two values: a swap, the
      sign of each unit's effect. Exact if units' effects are symmetric around zero: with the
      units' own slopes, and with intercepts of other factors, balanced trials presupposed; not
      with slopes by another crossed factor (items'), of which no test is exact.
    - "within": the rows of a unit trade values. Exact if trials are exchangeable within units, and
      that is a stronger hypothesis: nobody has an effect. Slopes are destroyed by it. Where slopes
      are smooth in time and vary much, observed clusters are larger than those of permutations,
      and the test says too often that there is an effect: prefer "labels".

    Where it is not exact, the statistic helps: t and F of the model with these random effects have
    nearly the same distribution at a point, whatever is shuffled. Covariates stay with their rows,
    so that shuffling unties them from the predictor (Draper and Stoneman 1966, *Technometrics* 8).
    An interaction is tested by shuffling one of its variables, whose main effect goes with it.

    Permutations of which a point cannot be fitted are counted as if they exceeded everything.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import cluster_test
    >>> rng = np.random.default_rng(0)
    >>> subj, item = (grid.ravel() for grid in np.mgrid[:12, :6])
    >>> data = {"subj": subj, "item": item, "cond": np.where((subj + item) % 2, "a", "b")}
    >>> course = np.exp(-((np.arange(15) - 8) ** 2) / 8)  # an effect around the point 8
    >>> Y = rng.normal(size=(72, 15)) + rng.normal(size=(12, 1))[subj]
    >>> Y += np.outer(data["cond"] == "b", 1.5 * course)
    >>> found = cluster_test("~ cond + (1 | subj) + (1 | item)", data, Y, test="cond", n=99, seed=1)
    >>> found.to_frame()[["sign", "first", "last", "p"]].head(1).to_string(index=False)
    """
    began = time.perf_counter()
    _check(kind, tail, alpha, threshold, n, threads)
    Y, shape = _unfolded(Y, shape)
    table = Table.of(data)
    table.add(RESPONSE, np.sin(np.arange(1.0, table.n + 1)))  # stands in for every point
    right = formula.partition("~")[2] if "~" in formula else formula
    left = f"{RESPONSE} ~ {right}"
    design = build(left, table, weights=weights, offset=offset, contrasts=codings)
    hypotheses = tested(test, design)
    shuffled = Shuffled.of(design, table, _variables(hypotheses, shuffle))
    what = joined(shuffled.variables)
    factors = _factors(design, table, by, shuffled.variables)
    exchange = exchange_of(permute, by, factors, shuffled.values(), what)
    responses = _responses(Y, design)
    extents = shape_of(shape, len(responses.names))
    if threshold is None:
        threshold = _threshold(hypotheses, alpha, tail, exchange.size - 1)
    if height is None:
        height = 2.0 if hypotheses.statistic == "t" else 1.0
    rule = Rule(kind, tail, 0.0 if kind == "tfce" else float(threshold), extent, height)
    how = How(reml, max_evals, storage)
    fits = points_of(design, responses.values, hypotheses, how)
    statistic = hypotheses.of(fits)
    if np.isnan(statistic).all():
        raise FitError(f"the model could not be fitted at any point: {fits.status[0]}")
    job = Permutations(
        shuffled,
        Arrangements(exchange, Streams(seed), n),
        hypotheses,
        responses.values,
        how,
        rule,
        neighbours(extents, adjacency),
        np.isfinite(statistic),
    )
    null = _run(job, threads)
    return ClusterTest(
        formula=f"~ {' '.join(right.split())}",
        test=hypotheses.name,
        kind=kind,
        tail=tail,
        name=hypotheses.statistic,
        points=np.array(responses.names, dtype=object),
        shape=extents,
        statistic=statistic,
        status=fits.status,
        threshold=rule.threshold,
        **_found(job, statistic, null["largest"]),
        null=null["largest"],
        failed=int((null["failed"] > 0).sum()),
        doubtful=int(null["doubtful"].sum()),
        exhaustive=job.arrangements.all,
        scheme=f"{what} {exchange.words}",
        seed=job.arrangements.streams.seed,
        seconds=time.perf_counter() - began,
    )


def _found(job: Permutations, statistic: np.ndarray, null: np.ndarray) -> dict[str, Any]:
    """The clusters of the data, beside the null distribution."""
    rule, graph, enhanced = job.rule, job.graph, None
    if rule.kind == "tfce":
        enhanced = rule.enhanced(statistic, graph)
        points = corrected(np.abs(enhanced), null)
        signs = np.where(points <= LEVEL, np.sign(enhanced), 0)
        labels = clusters(signs, graph)
        first = np.unique(labels, return_index=True)[1][int((labels == 0).any()) :]
        groups = [np.flatnonzero(labels == labels[i]) for i in first]
        mass = np.array([enhanced[own][np.argmax(np.abs(enhanced[own]))] for own in groups])
        pvalue = np.array([points[own].min() for own in groups])
    else:
        labels = rule.labels(statistic, graph)
        mass = np.bincount(labels, np.where(labels > 0, statistic, 0.0))[1:]
        pvalue = corrected(np.abs(rule.weights(statistic, labels)), null)
    size = np.bincount(labels)[1:]
    own = {"labels": labels, "sign": np.sign(mass).astype(int), "size": size, "mass": mass}
    return own | {"pvalue": pvalue, "enhanced": enhanced}


def _check(
    kind: str, tail: str, alpha: float, threshold: float | None, n: Any, threads: Any
) -> None:
    """Arguments that mean nothing are refused."""
    for name, given, known in (("kind", kind, KINDS), ("tail", tail, TAILS)):
        if given not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {given!r}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is the p-value of the threshold, between 0 and 1, not {alpha!r}")
    if threshold is not None and not (np.isfinite(threshold) and threshold > 0):
        raise ValueError(
            f"threshold is the absolute t (or F) beyond which points form clusters, a positive "
            f"number, not {threshold!r}; kind='tfce' needs none"
        )
    for name, given in (("n", n), ("threads", threads)):
        if not isinstance(given, (int, np.integer)) or isinstance(given, bool) or given < 1:
            raise ValueError(f"{name} must be a whole number from 1 on, not {given!r}")


def _unfolded(Y: Any, shape: Any) -> tuple[Any, Any]:
    """Arrays with several axes of points as one axis, and the extents of these."""
    if isinstance(Y, np.ndarray) and Y.ndim > 2:
        return Y.reshape(len(Y), -1), Y.shape[1:] if shape is None else shape
    return Y, shape


def _responses(Y: Any, design: Design) -> Responses:
    """All points, whatever chunks they come in."""
    parts = list(chunks_of(Y, design))
    if not parts or not sum(len(part.names) for part in parts):
        raise DataError("Y has no columns: there is no point to test", variable="Y")
    if len(parts) == 1:
        return parts[0]
    names = tuple(name for part in parts for name in part.names)
    return Responses(np.asfortranarray(np.hstack([part.values for part in parts])), names)


def _variables(hypotheses: Tested, shuffle: Any) -> tuple[str, ...]:
    """The columns of the data that are shuffled."""
    made_of = hypotheses.variables
    if shuffle is None:
        if len(made_of) > 1:
            raise ValueError(
                f"test={hypotheses.name!r} is made of {joined(made_of)}: say which of these is "
                f"shuffled, as in shuffle={made_of[0]!r} (the others stay with their rows), or "
                "give a list of those that are shuffled together"
            )
        return made_of
    chosen = (shuffle,) if isinstance(shuffle, str) else tuple(shuffle)
    if not chosen or not set(chosen) & set(made_of):
        raise ValueError(
            f"shuffle={shuffle!r} has none of the columns that test={hypotheses.name!r} is made "
            f"of: {joined(made_of)}"
        )
    return chosen


def _factors(
    design: Design, table: Table, by: str | None, variables: Sequence[str]
) -> dict[str, np.ndarray]:
    """Numbers of the levels in each row of what may be units, the likelier first: factors of the
    formula with slopes of what is shuffled, the other ones, and what `by` names."""
    recipe = design.recipe
    assert recipe is not None

    def has(atoms: Sequence[Any]) -> bool:
        return any(name in variables for atom in atoms for name in atom.names)

    order = sorted(
        range(len(design.terms)), key=lambda i: not has(recipe.random_layouts[i].atoms)
    )
    found = {
        design.terms[i].group: np.asarray(design.terms[i].codes, np.int64)
        for i in order
        if not has(recipe.groupings[i].atoms)
    }
    if by is not None and by not in found:
        found[by] = _numbers(by, table, design)
    if not found:
        raise ValueError(
            f"{joined(variables)} is in every grouping factor: name the units that are "
            "exchangeable by by="
        )
    return found


def _numbers(by: str, table: Table, design: Design) -> np.ndarray:
    """The levels of a column of the data, in the rows that the model uses."""
    if not isinstance(by, str) or not table.has(by):
        raise table.lacks(by, DataError, "the column for by")
    column = table.column(by).take(design.rows).as_factor()
    if column.codes.min() < 0:
        raise DataError(
            f"{by!r}, given as by, is missing in {first_rows(column.codes < 0)}", variable=by
        )
    return np.unique(column.codes, return_inverse=True)[1].ravel().astype(np.int64)


def _threshold(hypotheses: Tested, alpha: float, tail: str, df: int) -> float:
    """The quantile of single points."""
    from scipy import stats

    if hypotheses.statistic == "F":
        return float(stats.f.isf(alpha, len(hypotheses.L), df))
    return float(stats.t.isf(alpha / 2 if tail == "two-sided" else alpha, df))


def _run(job: Permutations, threads: int) -> dict[str, np.ndarray]:
    blocks = [(a, min(a + 1, job.count)) for a in range(job.count)]
    with progress(job.count, "permutations", "permutation", 2) as advance:
        lock = threading.Lock()

        def work(block: tuple[int, int]) -> dict[str, np.ndarray]:
            found = job.run(None, *block, None)
            with lock:
                advance(block[1] - block[0])
            return found

        if threads == 1:
            parts = [work(block) for block in blocks]
        else:
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(work, blocks))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
