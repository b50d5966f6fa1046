"""The calls that take a formula and many responses, or make them: `fit_many`, `simulate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .data.unanswered import without_response
from .engine.compiled import Engine
from .engine.options import MAX_EVALS
from .glmm import GLMM
from .hints import hinted
from .lmm import LMM
from .many.fits import ManyFits
from .many.parameters import Parameters
from .typing import (
    Client,
    Coding,
    Data,
    Family,
    Hypothesis,
    NewData,
    PathLike,
    Related,
    Responses,
    Rows,
    Storage,
)

if TYPE_CHECKING:
    import pandas as pd
else:
    from .late import pandas as pd


@hinted
def fit_many(
    formula: str,
    data: Data,
    Y: Responses,
    *,
    family: Family | None = None,
    link: str | None = None,
    contrasts: Hypothesis | None = None,
    ddf: Literal["satterthwaite", "kenward-roger", "z"] | None = None,
    reml: bool | None = None,
    weights: Rows | None = None,
    offset: Rows | None = None,
    codings: Mapping[str, Coding] | None = None,
    relationship: Mapping[str, Related] | None = None,
    threads: int = 1,
    client: Client | None = None,
    checkpoint: PathLike | None = None,
    storage: Storage = "auto",
    max_evals: int = MAX_EVALS,
    nagq: int = 1,
    information: Literal["observed", "expected"] = "observed",
) -> ManyFits:
    """Fit one linear, or generalized linear, mixed model to many responses.

    Everything but the response is set up once, and the fits run one after the other; none depends
    on another, on their order or on the number of threads.

    Parameters
    ----------
    formula : str
        lme4's syntax. Its left side, if it has one, is not read: ``"~ cond + (1 | subj)"``.
    data : pandas, polars or pyarrow table, dict of arrays
        The predictors and grouping factors, one row a row of `Y`.
    Y : (n, m) array, or table with m columns, or iterable of these
        One column a response. Pandas tables go by their labels. A missing value drops its row for
        that response alone; responses with the same missing rows share a model. Of an iterable
        (or a function that returns one) one chunk at a time is in memory. Of a generalized model
        as ``fit.simulate`` has them: binomial responses are successes, out of 1 or of `weights`
        trials, ordered ones classes 0 .. K - 1 of a table.
    family, link : optional
        Of a generalized model, as for ``glmer``. Default: a linear model.
    contrasts : str, array, dict, table or list, optional
        Hypotheses about the fixed effects, as for ``fit.t_test``. Default: each coefficient.
    ddf : {"satterthwaite", "kenward-roger", "z"}
        Degrees of freedom of the contrasts; "z": infinitely many, the only choice and the default
        of generalized models. Kenward and Roger's take a Python call a response, and are for REML
        fits.
    reml : bool, optional
        Restricted likelihood. Default: True of linear models, False of generalized ones.
    weights : optional
        As for ``lmer`` (``glmer``), the same for all responses; or (n, m), or a table, one column
        for each, in chunks as `Y`. A value whose weight is zero or missing is missing.
    offset : optional
        As for ``lmer``; the same for all responses.
    codings : dict, optional
        Codings of factors: what ``lmer`` calls ``contrasts``.
    relationship : dict, optional
        Of levels of grouping factors, as for ``lmer``.
    threads : int, default 1
        Threads that work; the result is identical for any number.
    client : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers in place of threads. The design travels once, a response to the worker that fits it.
    checkpoint : path, optional
        File of the fits that are done; the same call with the same file goes on from there.
    storage, max_evals : optional
        As for ``lmer``.
    nagq, information : optional
        Of generalized models, as for ``glmer``.

    Returns
    -------
    ManyFits
        Arrays with a row for each response, and ``to_frame()``; of a generalized model also the
        parameters of the distribution, ``extra``, and ``separated``. A response that cannot be
        fitted has NaN, and its ``status`` says why: nothing is raised, and no warning is given, for
        it.

    Raises
    ------
    FormulaError, DataError, FitError
        What is wrong with the model, in which variable, and what to do.
    ValueError
        For arguments that cannot be used.

    See Also
    --------
    lmmfast.cluster_test : Permutation tests over points.
    lmmfast.lmer : One response.
    lmmfast.simulate : Responses of a model.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import datasets, fit_many
    >>> data = datasets.load("sleepstudy")
    >>> Y = data["Reaction"].to_numpy()[:, None] ** np.array([1.0, 0.5, -1.0])
    >>> found = fit_many("~ Days + (Days | Subject)", data, Y, contrasts="Days")
    >>> found.statistic.ravel().round(2)
    array([ 6.77,  6.95, -7.16])

    Counts of several kinds in the same trials:

    >>> counts = np.random.default_rng(1).poisson(3, size=(180, 2))
    >>> found = fit_many("~ Days + (1 | Subject)", data, counts, family="poisson")
    >>> found.converged
    array([ True,  True])
    """
    from .many.asked import asked
    from .many.families import family_for
    from .many.run import fit_all

    flat = isinstance(weights, (list, tuple)) and all(np.isscalar(own) for own in weights)
    same = weights is None or isinstance(weights, str) or flat or getattr(weights, "ndim", 2) == 1
    named: dict[str, Any] = {"offset": offset, "contrasts": codings, "relationship": relationship}
    named["weights"] = weights if same else None
    model: Any
    if family is None:
        linear_only(link, nagq, information)
        design = without_response(formula, data, **named)
        model = LMM(design, storage=storage)
        by_reml = True if reml is None else reml
        want = asked(design, contrasts, ddf or "satterthwaite", by_reml, max_evals)
    else:
        own = family_for(family, link, Y)
        how: dict[str, Any] = {"storage": storage, "nagq": nagq, "information": information}
        how["reml"] = False if reml is None else reml
        design = without_response(formula, data, **named, kind=own.response, classes=own.levels)
        model = GLMM(design, own, **how)
        want = asked(design, contrasts, ddf or "z", model.reml, max_evals, generalized=True)
    return fit_all(
        model,
        Y,
        want,
        weights=None if same else weights,
        threads=threads,
        client=client,
        checkpoint=checkpoint,
    )


@hinted
def simulate(
    formula: str,
    data: NewData,
    params: Parameters | Mapping[str, object],
    n: int = 1,
    seed: int | None = None,
    *,
    family: Family | None = None,
    link: str | None = None,
    weights: Rows | None = None,
    offset: Rows | None = None,
    contrasts: Mapping[str, Coding] | None = None,
    relationship: Mapping[str, Related] | None = None,
) -> pd.DataFrame:
    """Responses drawn from a model and assumed parameters; nothing needs to be fitted.

    Parameters
    ----------
    formula : str
        lme4's syntax. Its left side, if it has one, is not read.
    data : pandas, polars or pyarrow table, dict of arrays
        Predictors and grouping factors, as `lmmfast.design` makes them.
    params : Parameters or dict
        ``beta``, ``sigma``, and ``sd`` (with ``corr``) or ``theta``: all of them. Of a generalized
        model ``extra``, what the distribution has, in place of ``sigma``.
    n : int, default 1
        Responses; the i-th is the same for every n.
    seed : int, optional
        From 0 on. Default: a new one each time.
    family, link : optional
        Of a generalized model, as for ``glmer``. Default: a linear model.
    weights, offset, contrasts, relationship : optional
        As for ``lmer``; of a binomial response weights are the trials.

    Returns
    -------
    pandas.DataFrame
        One row for each row that has all predictors, labelled as the data, and one column a
        response, 0 .. n - 1: of a binomial successes, of an ordered response classes 0 .. K - 1.

    Raises
    ------
    FormulaError, DataError
        What is wrong, in which variable, and what to do.
    ValueError
        For parameters that are missing or mean nothing.

    See Also
    --------
    lmmfast.design : Trials to simulate.
    lmmfast.power : Power by simulation.

    Examples
    --------
    >>> from lmmfast import datasets, simulate
    >>> data = datasets.load("sleepstudy")[["Days", "Subject"]]
    >>> assumed = {"beta": [250, 10], "sd": {"Subject": [25, 6]}, "sigma": 25}
    >>> simulate("~ Days + (Days | Subject)", data, assumed, 3, seed=1).shape
    (180, 3)

    Yes and no, with the same slopes on the scale of the logit:

    >>> assumed = {"beta": [-1, 0.3], "sd": {"Subject": [1, 0.2]}}
    >>> drawn = simulate("~ Days + (Days | Subject)", data, assumed, 3, seed=1, family="binomial")
    >>> sorted(set(drawn[0]))
    [0.0, 1.0]
    """
    from .many.families import family_given
    from .many.simulate import simulate_design

    how: dict[str, Any] = {"weights": weights, "offset": offset, "contrasts": contrasts}
    how["relationship"] = relationship
    if family is None:
        linear_only(link)
        design = without_response(formula, data, **how)
        return simulate_design(design, Engine(design), params, n, seed)
    from .many.generalized import simulate_design as draw

    own = family_given(family, link, params)
    design = without_response(formula, data, **how, kind=own.response, classes=own.levels)
    return draw(design, Engine(design), own, params, n, seed)


def linear_only(link: Any, nagq: int = 1, information: str = "observed") -> None:
    """ValueError for arguments of generalized models without a family."""
    for name, is_given in (
        ("link", link is not None),
        ("nagq", nagq != 1),
        ("information", information != "observed"),
    ):
        if is_given:
            raise ValueError(f'{name}= is for generalized models: give family= too, "binomial"')
