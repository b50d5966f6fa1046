"""Types of what users give: for annotations of functions that call this package.

>>> from lmmfast.typing import Data
>>> def share(data: Data) -> float: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .data.relationship import Adjacency, Precision, Relationship
from .engine.family import Family as _Family
from .engine.pedigree import Pedigree
from .formula.hypotheses import Hypotheses
from .given import (
    Data,
    IntoDataFrame,
    Matrix,
    NewData,
    PandasRows,
    Parts,
    PathLike,
    Rows,
    SparseMatrix,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame
else:
    from .late import name

    Axes, DataFrame = name("axes.Axes"), name("pandas.DataFrame")

__all__ = ["Adjustment", "Axes", "AxesLike", "BootstrapLimits", "CellWeights", "Client", "Coding"]
__all__ += ["Contrasted", "Data", "Ddf", "Effects", "Family", "Fitted", "Held", "Hypothesis"]
__all__ += ["IntervalMethod", "Inverse", "LinearDdf", "Matrix", "MeansType", "NewColumns"]
__all__ += ["NewData", "NewLevels", "PandasRows", "ParameterNames", "Parts", "PathLike"]
__all__ += ["PredictedType", "Priors", "Regression", "Related", "Responses", "Rows"]
__all__ += ["SparseMatrix", "Storage", "Term", "TidyEffects"]

# many responses: a matrix or a table with a column each, several of these, what makes them
Responses: TypeAlias = (
    ArrayLike
    | IntoDataFrame
    | Iterable[ArrayLike | IntoDataFrame]
    | Callable[[], Iterable[ArrayLike | IntoDataFrame]]
)

# ---- models -------------------------------------------------------------------------------------

# how a factor is coded: a name, a matrix with a row a level, hypotheses
Coding: TypeAlias = str | ArrayLike | IntoDataFrame | Hypotheses
# how levels are related: an object, or a matrix
Related: TypeAlias = Relationship | Precision | Pedigree | Adjacency | ArrayLike | IntoDataFrame
# covariance parameters that are held: of theta by name or in order, and sigma
Held: TypeAlias = float | Mapping[str, float | None] | Sequence[float | None]
# standard deviation, or mean and standard deviation, of coefficients
Priors: TypeAlias = float | Mapping[str, float | tuple[float, float]]
# the matrix that is left when the first factor is eliminated
Storage: TypeAlias = Literal["auto", "dense", "sparse", "iterative"]
# a random term of arrays: levels, columns (None: an intercept), covariance structure
Term: TypeAlias = tuple[ArrayLike, ArrayLike | None] | tuple[ArrayLike, ArrayLike | None, str]


class _Foreign(Protocol):
    """A family of statsmodels."""

    @property
    def link(self) -> Any: ...


# of the response: a name in any package's spelling, an object, statsmodels' too
Family: TypeAlias = str | _Family | type[_Family] | _Foreign


# ---- what is asked of fits ----------------------------------------------------------------------

# degrees of freedom of a linear model, and of any model
LinearDdf: TypeAlias = Literal[
    "satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"
]
Ddf: TypeAlias = Literal[
    "satterthwaite",
    "kenward-roger",
    "kenward-roger-observed",
    "kenward-roger-linear",
    "between-within",
    "residual",
    "z",
]
# parameters of intervals and profiles: a kind of them, or names
ParameterNames: TypeAlias = Literal["fixed", "random", "all"] | list[str] | tuple[str, ...]
# parts of tidy frames
TidyEffects: TypeAlias = Literal["fixed", "ran_pars", "ran_vals", "ran_coefs"]
# how intervals are made, and how of replicates
IntervalMethod: TypeAlias = Literal["wald", "profile", "boot"]
BootstrapLimits: TypeAlias = Literal["percentile", "basic", "normal", "studentized", "bca"]
# linear hypotheses: text, weights (k, p), by name, (weights, values), several of these
Hypothesis: TypeAlias = (
    str | ArrayLike | Mapping[str, float] | Sequence[str | ArrayLike | Mapping[str, float]]
)
# contrasts of means: a kind or text, weights, texts or weights by name
Contrasted: TypeAlias = str | ArrayLike | Mapping[str, ArrayLike]
# p-values of several tests
Adjustment: TypeAlias = Literal[
    "none", "bonferroni", "holm", "fdr", "sidak", "scheffe", "tukey", "dunnettx", "mvt"
]
# weights of the cells over which means are taken
CellWeights: TypeAlias = Literal["equal", "proportional", "outer", "cells", "flat"]
# scales of means and predictions
MeansType: TypeAlias = Literal["link", "response", "prob", "cum.prob", "exc.prob", "mean.class"]
# of predictions of generalized models
PredictedType: TypeAlias = Literal[
    "link", "response", "prob", "class", "cum.prob", "exc.prob", "mean.class"
]
# the way back from a transformed response, and its derivative
Inverse: TypeAlias = (
    Callable[[np.ndarray], ArrayLike] | Mapping[str, Callable[[np.ndarray], ArrayLike]]
)
# random effects in predictions: "all", "none", a formula, grouping factors
Effects: TypeAlias = str | Sequence[str]
# what unseen levels are in predictions
NewLevels: TypeAlias = Literal["error", "population", "missing", "sample"]
# levels and columns of each random term of new rows
NewColumns: TypeAlias = Sequence[tuple[ArrayLike, ArrayLike | None]]


# ---- what pictures and others take --------------------------------------------------------------

# matplotlib's axes, as many as there are pictures
AxesLike: TypeAlias = Axes | Sequence[Axes] | np.ndarray


class Fitted(Protocol):
    """A fit of any kind, also of `mixedlm`."""

    def tidy(self) -> DataFrame:
        """One row a parameter."""

    def glance(self) -> DataFrame:
        """One row a fit."""


class Regression(Protocol):
    """Results of statsmodels' OLS or WLS."""

    @property
    def model(self) -> Any:
        """The model, with endog and exog."""

    @property
    def ssr(self) -> Any:
        """Sum of squared residuals."""


class Client(Protocol):
    """An executor of concurrent.futures, or a client of dask.distributed."""

    def submit(self, *args: Any, **options: Any) -> Any:
        """What begins a call and gives its future."""
