"""A study that is planned: a formula, its data without responses, and assumed parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import tables
from ..data.columns import Table
from ..data.design import Design, build
from ..data.residual import Residual
from ..data.unanswered import RESPONSE, without_response
from ..engine.estimates import Estimates
from ..engine.families import Family
from ..engine.relations import refuse_related
from ..errors import DataError
from ..fit import Fit
from ..formula.plan import plan_of, without_dot
from ..given import NewData, Rows
from ..inference.ddf import mixed_only
from ..many.parameters import Parameters
from ..typing import Coding
from .frames import table_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Study(tables.Printed):
    """A model and rows to simulate and fit; `lmmfast.extend` makes one of a fit.

    Attributes
    ----------
    formula : str
    data : table
        Predictors and grouping factors, a row each; a response among them is not read.
    params : Parameters
        Assumed values; what is not given is that of the fit.
    weights, offset, contrasts
        As for ``lmer``.
    reml : bool
    estimates : Estimates, optional
        Of the fit that the study is made of.
    made : Design, optional
        The rows of that fit, where the data are the same.
    learned : dict, optional
        What ``poly(x, 2)``, ``scale(x)`` and the like learned from the data that the parameters are
        meant for.
    family : Family, optional
        Of a generalized model; an ordered one with its classes.
    nagq, information
        As for ``glmer``.
    dispersion, residual : str, optional
        As for ``lmer``; their parameters are those of the fit that the study is made of.
    structure : Residual, optional
        That of the fit's rows, which its parameters belong to.
    left : str
        The formula's left side where its data have the trials of binomial counts, else "".
    """

    formula: str
    data: NewData | None
    params: Parameters
    weights: Rows | None = None
    offset: Rows | None = None
    contrasts: Mapping[str, Coding] | None = None
    reml: bool = True
    estimates: Estimates | None = None
    made: Design | None = None
    learned: Mapping[str, object] | None = None
    family: Family | None = None
    nagq: int = 1
    information: str = "observed"
    left: str = ""
    dispersion: str | None = None
    residual: str | None = None
    structure: Residual | None = None

    @classmethod
    def of_fit(cls, fit: Fit) -> Study:
        """The model of a fit, its data and estimates."""
        design = fit.design
        mixed_only(fit, "a study of the fit")
        refuse_related(design, "a study of the fit")
        if fit.estimates.free is not None:
            raise ValueError(
                "parameters of this fit were held (fixed=, sigma=): simulated responses would be "
                "fitted without that; fit without it, or give formula, data and params"
            )
        given = design.given
        model: Any = fit.model
        named: dict[str, Any] = (
            {} if given is None else {"weights": given.weights, "offset": given.offset}
        )
        if fit.family is not None:
            named |= {"family": fit.family, "nagq": model.nagq}
            named["information"] = model.information
            if design.outcome is not None and design.outcome.form == "cbind":
                named["left"] = design.response
        elif given is not None:
            named |= {"dispersion": given.dispersion, "residual": given.residual}
            named["structure"] = design.residual
        return cls(
            design.formula,
            None if given is None else given.data,
            Parameters(),
            contrasts=None if given is None else given.contrasts,
            reml=fit.reml,
            estimates=fit.estimates,
            made=design,
            **named,
        )

    def with_data(self, data: NewData) -> Study:
        """The same study of other rows."""
        for name, given in (("weights", self.weights), ("offset", self.offset)):
            if given is not None and not isinstance(given, str):
                raise DataError(
                    f"{name}= was given as an array, which other rows do not have: make it a "
                    "column of the data and give its name",
                    variable=name,
                )
        return replace(self, data=data, made=None, learned=self._memory())

    def _memory(self) -> Mapping[str, Any] | None:
        """What expressions have learned, for other rows: of its first ones."""
        if self.learned is not None or (self.data is None and self.made is None):
            return self.learned
        if self.made is None and not plan_of(self._right).learners:
            return None
        recipe = self.design.recipe
        return None if recipe is None else dict(recipe.memory)

    def table(self) -> pd.DataFrame:
        """The data as pandas has them; DataError where they are not at hand."""
        if self.data is None or not (hasattr(self.data, "columns") or isinstance(self.data, dict)):
            raise DataError(
                "the data of this fit are not at hand (it was made from files, arrays or a "
                "pickle): give formula, data and params"
            )
        frame = table_of(self.data)
        if self.made is None:
            return frame
        return frame.iloc[self.made.rows].reset_index(drop=True)  # those that the fit used

    @property
    def groups(self) -> list[str]:
        """Columns that make the grouping factors."""
        plan = plan_of(self._right)
        names = [name for group in plan.groups for atom in group for name in atom.names]
        return list(dict.fromkeys(names))

    @cached_property
    def _right(self) -> str:
        """The formula with a stand-in on its left side."""
        left, tilde, right = self.formula.partition("~")
        if not tilde:
            left, right = "", self.formula
        whole = f"{left.strip() or RESPONSE} ~ {right}"
        names = () if self.data is None else Table.of(self.data).names
        return f"{RESPONSE} ~ {without_dot(whole, lambda: names).partition('~')[2].strip()}"

    @cached_property
    def design(self) -> Design:
        """The rows, with a response that stands in for those that are drawn."""
        if self.made is not None:
            return self.made
        named: dict[str, Any] = {"weights": self.weights, "offset": self.offset}
        named["contrasts"] = self.contrasts
        named["learned"] = self.learned
        kind = None if self.family is None else self.family.response
        if self.left:
            right = self._right.partition("~")[2]
            return build(f"{self.left} ~ {right}", Table.of(self.data), kind=kind, **named)
        if self.structure is not None:
            named |= {"dispersion": self.dispersion, "residual": self.residual}
        classes = () if self.family is None else self.family.levels
        return without_response(self._right, self.data, kind=kind, classes=classes, **named)

    def delta(self) -> tuple[np.ndarray | None, float]:
        """Parameters of the residual structure in these rows, of the fit's estimates, and what
        sigma is multiplied by: it may be that of other rows."""
        if self.estimates is None or self.estimates.delta is None:
            return None, 1.0
        assert self.structure is not None and self.design.residual is not None
        return self.design.residual.from_other(self.structure, self.estimates.delta)

    def to_frame(self) -> pd.DataFrame:
        """As `table`."""
        return self.table()

    def summary(self) -> tables.Summary:
        """Formula, rows, parameters."""
        rows = Table.of(self.data).n if self.made is None else self.made.n_rows
        lines = [f"Study: {tables.formula_text(self.formula)}", f"{rows:,} rows"]
        whence = "estimates of a fit" if self.estimates is not None else "given"
        lines.append(f"Assumed parameters: {whence}")
        return tables.Summary((tuple(lines),))


def study_of(given: Any) -> Study | None:
    """A study, of a fit too; None for anything else."""
    from ..fit import Fit

    if isinstance(given, Study):
        return given
    fit = getattr(given, "lmm", given)  # results of mixedlm
    return Study.of_fit(fit) if isinstance(fit, Fit) else None
