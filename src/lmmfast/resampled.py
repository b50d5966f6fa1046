"""What a fit says of responses drawn from it: simulation, bootstrap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .hints import hinted
from .many import simulate as _simulate
from .rowwise import Rowwise

if TYPE_CHECKING:
    import pandas as pd


class Resampled(Rowwise):
    """The part of a fit that draws random numbers."""

    @hinted
    def simulate(
        self,
        n: int = 1,
        seed: int | None = None,
        *,
        re: str = "new",
        params: Any = None,
        newdata: Any = None,
    ) -> pd.DataFrame:
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
        return _simulate.simulate(self, n, seed, re, params, newdata)
