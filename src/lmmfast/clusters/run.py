"""`cluster_test`, the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike

from ..engine.options import MAX_EVALS
from ..given import SparseMatrix
from ..hints import hinted
from ..typing import Client, Coding, Data, Hypothesis, PathLike, Responses, Rows
from .results import ClusterTest


@hinted
def cluster_test(
    formula: str,
    data: Data,
    Y: Responses,
    *,
    test: Hypothesis,
    permute: Literal["auto", "labels", "within", "between", "signs"] = "auto",
    by: str | None = None,
    together: str | None = None,
    shuffle: str | list[str] | None = None,
    kind: Literal["mass", "size", "tfce"] = "mass",
    threshold: float | None = None,
    alpha: float = 0.05,
    tail: Literal["two-sided", "greater", "less"] = "two-sided",
    shape: int | Sequence[int] | None = None,
    adjacency: ArrayLike | SparseMatrix | None = None,
    n: int = 1000,
    seed: int | None = None,
    extent: float = 0.5,
    height: float | None = None,
    reml: bool = True,
    weights: Rows | None = None,
    offset: Rows | None = None,
    codings: Mapping[str, Coding] | None = None,
    threads: int = 1,
    client: Client | None = None,
    checkpoint: PathLike | None = None,
    storage: str = "auto",
    max_evals: int = MAX_EVALS,
) -> ClusterTest:
    """Cluster-based permutation test of an effect over time, space or both.

    A linear mixed model, crossed random effects and all, is fitted at every point: of the data, and
    of n data sets without the effect, in which the predictor is shuffled and everything else stays
    with its row, or random effects and residuals change signs.
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
        A term of the formula (``"cond"``), a coefficient (``"cond[T.b]"``), or hypotheses as for
        ``fit.t_test``. One: t is the statistic; several together, as of a factor with three levels:
        Wald's F. One test a call: other predictors are shuffled otherwise.
    permute : {"auto", "labels", "within", "between", "signs"}, default "auto"
        What is exchangeable; see Notes. "auto": "between" where the predictor is constant within
        the levels of a grouping factor, else "labels" where every unit has all of its values, else
        "within"; and "signs" in place of these where they would destroy random slopes of the
        predictor, and for interactions, unless `by`, `together` or `shuffle` are given.
    by : str, optional
        What labels or rows are shuffled within, or the units of "between": a grouping factor of
        the formula, or a column of the data. Default: the first factor with slopes of the
        predictor, or the first one, that is not nested in another; with "between" that with the
        fewest levels, within which the predictor is constant.
    together : str, optional
        Rows that keep a common value in "within": a trial that was recorded on several channels.
        Default: the largest grouping factor of the formula that is nested in `by` and within which
        the predictor is constant; single rows if there is none.
    shuffle : str or list of str, optional
        Columns of the data that are shuffled, together. Default: those that the tested columns are
        made of, where that is one.
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
    reml, weights, offset, storage, max_evals : optional
        As for ``lmer``.
    codings : dict, optional
        Codings of factors: what ``lmer`` calls ``contrasts``.
    threads : int, default 1
        The result is identical for any number.
    client : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers in place of threads. The data travel once to each.
    checkpoint : path, optional
        File of the permutations that are done; the same call with the same file and seed goes on
        from there.

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

    See Also
    --------
    lmmfast.fit_many : The fits without permutations.

    Notes
    -----
    A permutation test is exact where the null hypothesis says that the shuffled data are as
    probable as the data (Winkler, Ridgway, Webster, Smith and Nichols 2014, *NeuroImage* 92).

    - "between": values trade places among units in which they are constant (groups of subjects,
      kinds of items). Exact if units are exchangeable: with intercepts of the unit and of other
      factors, and equally many trials; not with slopes of the predictor by another factor
      (subjects' slopes of an item's frequency).
    - "labels": the values trade places as a whole within each unit; with two values a swap, which
      changes the sign of the unit's effect. Exact if units' effects are symmetric around zero: with
      the units' own slopes, and intercepts of other factors, balanced trials presupposed; not with
      slopes by a crossed factor (items').
    - "within": the rows of a unit trade values. Exact if trials are exchangeable within units,
      which says more than that the mean effect is zero: nobody has one.
    - "signs": of the conditional modes of every point, of one level for all points and columns
      alike, and of the residuals of every row; modes are scaled to the estimated covariances
      before. It is a wild bootstrap of clusters, not exact, and good where factors have many
      levels; it keeps all slopes, needs no exchangeable predictor, and tests interactions.

    What shuffling destroys makes a test liberal, since t then has more degrees of freedom and
    clusters are smaller. Of 200 simulated data sets without an effect, 12 subjects and 6 items, so
    many had a cluster with p at most 0.05: with slopes of subjects and items 14 % by "labels", 22 %
    by "within" and 8 % by "signs"; with slopes of subjects alone 3 to 5 % by "labels" and 9 to 14 %
    by "within".

    Covariates stay with their rows, so that shuffling unties them from the predictor (Draper and
    Stoneman 1966, *Technometrics* 8). When an interaction is tested by shuffling one of its
    variables, the main effect goes with it and is noise in permutations, which is liberal too
    unless units have slopes of it.

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
    >>> print(found.to_frame()[["sign", "first", "last", "p"]].to_string(index=False))
    sign  first  last    p
       +      6    11 0.01
    """
    from .conduct import conduct

    how: dict[str, Any] = {"permute": permute, "by": by, "together": together, "shuffle": shuffle}
    how |= {"n": n, "seed": seed}
    rule = {"kind": kind, "threshold": threshold, "alpha": alpha, "tail": tail}
    rule |= {"extent": extent, "height": height}
    place = {"shape": shape, "adjacency": adjacency}
    model = {"weights": weights, "offset": offset, "codings": codings}
    fits = {"reml": reml, "max_evals": max_evals, "storage": storage}
    work = {"threads": threads, "client": client, "checkpoint": checkpoint}
    return conduct(formula, data, Y, test, model, fits, how, rule, place, work)
