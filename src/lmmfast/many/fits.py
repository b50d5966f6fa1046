"""Fits of many responses, as columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import tables
from ..data.unanswered import RESPONSE
from ..inference.wald import t_pvalues
from .asked import Asked
from .columns import AnyModel
from .job import Columns

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
else:
    from ..late import pandas as pd
    from ..late import pyarrow as pa


@dataclass(frozen=True, eq=False, repr=False)
class ManyFits(tables.Printed):
    """Fits of one model to m responses, a row each; `fit_many` makes them.

    Numbers are NaN where there is no fit, and for coefficients of dropped columns. ``status`` says
    how each fit ended: "converged", or why it did not, or why there is none.

    Attributes
    ----------
    responses : (m,) array
        Names of the responses, or their numbers.
    x_names : tuple of str
        Names of the p fixed effects.
    contrast_names : tuple of str
        Names of the r contrasts.
    objective : (m,) array
        REML criterion, or deviance.
    beta, se : (m, p) arrays
        Fixed effects and their standard errors.
    theta : (m, ntheta) array
        Relative Cholesky parameters, as ``fit.theta``.
    sigma : (m,) array
        Residual standard deviations.
    converged : (m,) array of bool
    certificate : (m,) array
        What each objective can still fall, as ``fit.certificate``.
    evals : (m,) array
        Evaluations of the criterion.
    status : (m,) array of str
    estimate, contrast_se, df : (m, r) arrays
        The contrasts, their standard errors and degrees of freedom.
    reml : bool
    ddf : str
    n : (m,) array
        Rows of each response that are not missing.
    seconds : float
        Time of all fits.
    """

    formula: str
    responses: np.ndarray
    x_names: tuple[str, ...]
    contrast_names: tuple[str, ...]
    values: tuple[float, ...]  # right-hand sides of the contrasts
    objective: np.ndarray
    beta: np.ndarray
    se: np.ndarray
    theta: np.ndarray
    sigma: np.ndarray
    converged: np.ndarray
    certificate: np.ndarray
    evals: np.ndarray
    status: np.ndarray
    estimate: np.ndarray
    contrast_se: np.ndarray
    df: np.ndarray
    n: np.ndarray
    reml: bool
    ddf: str
    seconds: float

    # of each response, in frames
    _shown: ClassVar[tuple[str, ...]] = ("sigma", "objective", "converged", "status")

    def __len__(self) -> int:
        return len(self.responses)

    @cached_property
    def statistic(self) -> np.ndarray:
        """(m, r): t of each contrast against its hypothesis, z where df is infinite."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.estimate - np.array(self.values)) / self.contrast_se)

    @cached_property
    def pvalue(self) -> np.ndarray:
        """(m, r): two-sided p-values of the contrasts, not adjusted for their number."""
        return t_pvalues(self.statistic, self.df)

    def to_frame(self) -> pd.DataFrame:
        """One row for each response and contrast.

        Returns
        -------
        pandas.DataFrame
            ``response``, ``contrast``, ``estimate``, ``SE``, ``df``, ``t`` (or ``z``), ``p``, and
            of the response's fit ``sigma``, ``objective``, ``converged``, ``status``.
        """
        import pandas as pd

        m, r = self.estimate.shape
        letter = "z" if self.ddf == "z" else "t"
        flat = {"estimate": self.estimate, "SE": self.contrast_se, "df": self.df}
        tests = {letter: self.statistic, "p": self.pvalue}
        own = {name: getattr(self, name) for name in self._shown}
        return pd.DataFrame(
            {
                "response": np.repeat(self.responses, r),
                "contrast": np.tile(np.array(self.contrast_names, dtype=object), m),
                **{name: values.ravel() for name, values in (flat | tests).items()},
                **{name: np.repeat(values, r) for name, values in own.items()},
            }
        )

    def to_arrow(self) -> pa.Table:
        """The same as an arrow table; needs pyarrow."""
        try:
            import pyarrow as pa
        except ImportError as error:
            raise ImportError(
                "to_arrow() needs the package pyarrow: pip install 'lmmfast[parquet]'"
            ) from error

        return pa.Table.from_pandas(self.to_frame(), preserve_index=False)

    def summary(self) -> tables.Summary:
        """How many fits there are, and how they ended."""
        ends, counts = np.unique(self.status.astype(str), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        rows = tuple((str(ends[i]), f"{counts[i]:,}") for i in order)
        table = tables.Table(("status", "fits"), rows, 1)
        kind = "REML" if self.reml else "maximum likelihood"
        title = self._title()
        how = f"Fitted by {kind} in {tables.duration(self.seconds)}"
        return tables.Summary(((title,), (how, table)))

    def _title(self) -> str:
        formula = tables.formula_text(self.formula).removeprefix(f"{RESPONSE} ")
        return f"{len(self):,} responses, {formula}"


@dataclass(frozen=True, eq=False, repr=False)
class ManyResidualFits(ManyFits):
    """Fits of one model with a residual structure to m responses: `ManyFits`, and its parameters.

    Attributes
    ----------
    residual_names : tuple of str
    residual : (m, r) array
        The parameters of the residual structure, as in ``fit.residual_parameters``.
    """

    residual_names: tuple[str, ...] = ()
    residual: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def to_frame(self) -> pd.DataFrame:
        """One row for each response and contrast.

        Returns
        -------
        pandas.DataFrame
            As `ManyFits.to_frame`, and the parameters of the residual structure by name.
        """
        found, r = super().to_frame(), self.estimate.shape[1]
        own = zip(self.residual_names, self.residual.T, strict=True)
        return found.assign(**{name: np.repeat(values, r) for name, values in own})


@dataclass(frozen=True, eq=False, repr=False)
class ManyGeneralizedFits(ManyFits):
    """Fits of one generalized model to m responses: `ManyFits`, and what generalized models have.

    Attributes
    ----------
    objective : (m,) array
        -2 log likelihood.
    theta : (m, ntheta) array
        Cholesky parameters of the random effects' covariances themselves.
    sigma : (m,) array
        1: the distribution has its own parameters.
    family : str
        Distribution and link.
    extra_names : tuple of str
    extra : (m, r) array
        The distribution's own parameters, in the units of ``fit.extra``.
    separated : (m,) array of str
        Fixed effects without a finite estimate, because they separate the response, with "; "
        between them; "" where there are none.
    """

    family: str = ""
    extra_names: tuple[str, ...] = ()
    extra: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    separated: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))

    _shown: ClassVar[tuple[str, ...]] = ("objective", "converged", "status", "separated")

    def to_frame(self) -> pd.DataFrame:
        """One row for each response and contrast.

        Returns
        -------
        pandas.DataFrame
            ``response``, ``contrast``, ``estimate``, ``SE``, ``df``, ``z``, ``p``, and of the
            response's fit ``objective``, ``converged``, ``status``, ``separated`` and the
            parameters of the distribution by name.
        """
        found, r = super().to_frame(), self.estimate.shape[1]
        own = zip(self.extra_names, self.extra.T, strict=True)
        return found.assign(**{name: np.repeat(values, r) for name, values in own})

    def _title(self) -> str:
        return f"{super()._title()}, {self.family}"


def fits_of(
    model: AnyModel,
    names: Sequence[Any],
    n: np.ndarray,
    want: Asked,
    found: Columns,
    seconds: float,
) -> ManyFits:
    """What fits of columns found, with names (m) and numbers of rows (m)."""
    estimate = estimates_of(found["beta"], want.L)
    known = ~np.isnan(estimate)
    with np.errstate(invalid="ignore"):
        se = np.where(known, np.sqrt(found["variance"]), np.nan)
    same = ("objective", "beta", "se", "theta", "sigma", "certificate", "evals", "status")
    kind: Any = ManyFits
    more: dict[str, Any] = {}
    if "residual" in found:
        assert model.design.residual is not None
        kind, more = ManyResidualFits, {"residual_names": tuple(model.design.residual.names)}
        more["residual"] = found["residual"]
    if "extra" in found:
        own: Any = model
        kind, more = ManyGeneralizedFits, {"family": repr(own.family)}
        more |= {"extra_names": own.family.extra_names, "extra": found["extra"]}
        more |= {"separated": found["separated"]}
    fits: ManyFits = kind(
        formula=model.design.formula,
        responses=np.array(names, dtype=object),
        x_names=tuple(model.design.x_names),
        contrast_names=want.names,
        values=want.values,
        converged=found["status"] == "converged",
        estimate=estimate,
        contrast_se=se,
        df=np.where(known, found["df"], np.nan),
        n=n,
        reml=want.reml,
        ddf=want.ddf,
        seconds=seconds,
        **{name: found[name] for name in same},
        **more,
    )
    return fits


def estimates_of(beta: np.ndarray, L: np.ndarray) -> np.ndarray:
    """Contrasts (m, r) of coefficients (m, p); missing ones matter where they are used."""
    return np.asarray(np.where((L != 0)[None], L[None] * beta[:, None, :], 0.0).sum(axis=2))


def joined(parts: Sequence[ManyFits]) -> ManyFits:
    """Fits of several chunks as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    changes: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(first).items()
        if isinstance(value, np.ndarray)
    }
    kept = {one.name: getattr(first, one.name) for one in fields(first)}
    return type(first)(**(kept | changes | {"seconds": sum(part.seconds for part in parts)}))
