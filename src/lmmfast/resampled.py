"""What a fit says of responses drawn from it: simulation, bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from .given import IntoDataFrame, NewData, PandasRows, PathLike
from .hints import hinted
from .inference.rows import linear_checks as _checks
from .inference.rows.checks import Checks
from .inference.rows.given_kind import as_given
from .many import simulate as _simulate
from .many.job import checked_count
from .many.parameters import Parameters
from .many.streams import Streams
from .resampling import bootstrap as _bootstrap
from .resampling.bootstrap import Bootstrap
from .rowwise import Rowwise
from .typing import Client

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from typing_extensions import Self
else:
    from .late import Self
    from .late import pandas as pd
    from .late import polars as pl


class Resampled(Rowwise):
    """The part of a fit that draws random numbers."""

    @hinted
    def check(self, n: int = 100, seed: int = 0) -> Checks:
        """Whether the model could have made its response, by responses drawn from it.

        Residuals and modes: normal, of equal variance, without a curve or outliers. Each statistic
        of the data stands beside those of responses that are drawn with new random effects, and
        have fixed effects and modes of their own at the estimated variances. Influence of the
        levels of the largest factor and collinearity are looked at, too.

        Parameters
        ----------
        n : int, default 100
            Responses drawn, each of which takes an evaluation of the model and a sort of its rows.
        seed : int, default 0
            Of the random numbers; default: a new one, kept in the result.

        Returns
        -------
        Checks
            Prints a verdict a line; ``verdicts``, ``table``, ``plot()``.

        Raises
        ------
        DataError
            When the rows of the fit are not in memory: draw them,
            ``lmmfast.plots.residuals(fit, source=...)``.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> found = fit.check().verdicts.set_index("check")["verdict"]
        >>> found["normal residuals"], found["linearity"]
        ('look', 'fine')
        """
        seed = Streams(seed).seed
        drawn = _simulate.drawn(self, checked_count(n), seed)
        kind = "pearson" if self.design.residual is None else "normalized"
        return _checks.check(self, drawn, seed, lambda y: _checks.at_estimates(self, y), kind)

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *, re: Literal["new", "fixed"] = ...,
        params: Parameters | Mapping[str, object] | None = ...,
        newdata: PandasRows | None = ...,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *, re: Literal["new", "fixed"] = ...,
        params: Parameters | Mapping[str, object] | None = ...,
        newdata: pl.DataFrame,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *, re: Literal["new", "fixed"] = ...,
        params: Parameters | Mapping[str, object] | None = ...,
        newdata: IntoDataFrame,
    ) -> Any: ...  # fmt: skip

    @hinted
    def simulate(
        self,
        n: int = 1,
        seed: int | None = None,
        *,
        re: Literal["new", "fixed"] = "new",
        params: Parameters | Mapping[str, object] | None = None,
        newdata: NewData | None = None,
    ) -> pd.DataFrame | pl.DataFrame:
        """Responses drawn from the model.

        Parameters
        ----------
        n : int, default 1
            Responses; the i-th is the same for every n.
        seed : int, optional
            From 0 on. Default: a new one each time.
        re : {"new", "fixed"}, default "new"
            New random effects for each response, or the conditional modes of the fit (lme4's
            ``use.u=TRUE``); levels that the fit has not seen get new ones either way.
        params : Parameters or dict, optional
            Assumed values of parameters. Default: the estimates.
        newdata : table, optional
            Rows to simulate. Default: those of the fit.

        Returns
        -------
        pandas.DataFrame
            One row a row, labelled as the data, and one column a response, 0 .. n - 1: the left
            side of the formula, so that of ``log(rt) ~ ...`` logarithms are drawn.

        Raises
        ------
        ValueError
            For arguments that mean nothing.
        DataError
            When rows of `newdata` lack a value, or the rows of the fit are not in memory.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> y = fit.simulate(seed=1)[0]
        >>> bool(fit.refit(y).converged)
        True
        """
        found = _simulate.simulate(self, n, seed, re, params, newdata)
        return as_given(newdata, found)  # type: ignore[no-any-return]

    @hinted
    def bootstrap(
        self,
        n: int = 1000,
        seed: int | None = None,
        *,
        kind: Literal["parametric", "residual", "cases"] = "parametric",
        statistic: Callable[[Self], object] | None = None,
        by: str | None = None,
        re: Literal["new", "fixed"] = "new",
        threads: int = 1,
        client: Client | None = None,
        checkpoint: PathLike | None = None,
    ) -> Bootstrap:
        """Replicates of the fit, each to a response that was drawn anew.

        Parameters
        ----------
        n : int, default 1000
            Replicates.
        seed : int, optional
            The same seed gives the same replicates, whatever `n`, `threads` and `client`. Default:
            a new one, kept in the result.
        kind : {"parametric", "residual", "cases"}, default "parametric"
            "parametric": new random effects and residuals from normal distributions. "residual":
            modes and residuals drawn with replacement, scaled to the estimated covariances
            (Carpenter, Goldstein & Rasbash 2003, *JRSS C* 52). "cases": whole levels of a grouping
            factor drawn with replacement; each replicate is set up as a model of its own.
        statistic : callable, optional
            Called with each replicate's fit, it returns a number, an array, a Series or a dict; of
            these intervals can be had too. It takes a Python call for each replicate. Where it
            fails, the row says so.
        by : str, optional
            "cases": the grouping factor whose levels are drawn. Default: the first.
        re : {"new", "fixed"}, default "new"
            "parametric": as for `simulate`; "fixed" keeps the conditional modes (lme4's
            ``use.u=TRUE``), so that replicates tell of the residuals alone.
        threads : int, default 1
            Threads that work; the result is identical for any number.
        client : concurrent.futures.Executor or dask.distributed.Client, optional
            Workers in place of threads.
        checkpoint : path, optional
            File of the replicates that are done; the same call with the same file (and a seed) goes
            on from there, also to a larger `n`.

        Returns
        -------
        Bootstrap
            ``conf_int``, ``se``, ``bias``, ``to_frame``.

        Raises
        ------
        ValueError, TypeError
            For arguments that mean nothing.
        DataError
            When the rows of the fit are not in memory.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> boot = fit.bootstrap(200, seed=1)
        >>> bool(boot.conf_int(parameters="fixed").loc["Days", "lower"] > 0)
        True
        """
        how: dict[str, Any] = {
            "threads": threads,
            "client": client,
            "checkpoint": checkpoint,
            "re": re,
        }
        return _bootstrap.bootstrap(self, n, seed, kind, statistic, by, **how)
