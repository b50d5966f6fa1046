"""All parameters of a model by name, and their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from ...effects import Reading, range_of, readings

if TYPE_CHECKING:
    from ...data.residual import Residual
    from ...data.terms import RandomTerm
    from ...engine.estimates import Estimates
    from ...engine.families import Family
    from ...fit import Fit


@dataclass(frozen=True)
class Parameter:
    """One parameter of a mixed model."""

    name: str  # "sd(Days | Subject)", "cor(Intercept, Days | Subject)", "sigma", a fixed effect's
    kind: str  # "sd", "cor", "range", "loading", "sigma", "extra" (of a generalized model's
    # distribution), "residual" (of a residual structure) or "fixed"
    term: int = -1  # random term of a standard deviation or correlation
    i: int = -1  # column of the term or of X, place of an extra parameter
    j: int = -1  # second column of a correlation
    of: RandomTerm | None = field(default=None, compare=False, repr=False)  # of a range

    @property
    def reading(self) -> Reading:
        """What it is of its term, for a parameter of a random term."""
        return Reading(self.name, self.kind, self.i, self.j)

    @property
    def is_fixed(self) -> bool:
        """Whether it is a fixed effect."""
        return self.kind == "fixed"


def parameters_of(fit: Fit) -> list[Parameter]:
    """All parameters: by random term, as lme4 orders its theta, then sigma (of generalized models
    what their distribution has) and the fixed effects. Names of variance parameters that occur
    twice get a number."""
    out: list[Parameter] = []
    for t, (term, T) in enumerate(zip(fit.design.terms, fit.estimates.T, strict=True)):
        for one in readings(term, T):
            of = term if one.kind == "range" else None
            out.append(Parameter(one.name, one.kind, t, one.i, one.j, of))
    if fit.family is None:
        out.append(Parameter("sigma", "sigma"))
        if fit.design.residual is not None:
            names = fit.design.residual.names
            out += [Parameter(name, "residual", i=i) for i, name in enumerate(names)]
    else:
        out += [Parameter(name, "extra", i=i) for i, name in enumerate(fit.family.extra_names)]
    seen: dict[str, int] = {}
    for k, own in enumerate(out):
        seen[own.name] = seen.get(own.name, 0) + 1
        if seen[own.name] > 1:
            out[k] = replace(own, name=f"{own.name[:-1]}.{seen[own.name] - 1})")
    return out + [Parameter(name, "fixed", i=i) for i, name in enumerate(fit.design.x_names)]


def value_of(
    one: Parameter, T: Sequence[np.ndarray], sigma: float, beta: np.ndarray, extra: Any = ()
) -> float:
    """Its value; NaN for a correlation with a standard deviation of zero. extra: in the units that
    users see."""
    if one.kind == "fixed":
        return float(beta[one.i])
    if one.kind in ("extra", "residual"):
        return float(extra[one.i])
    if one.kind == "sigma":
        return sigma
    rows = T[one.term]
    if one.kind == "sd":
        return sigma * float(np.linalg.norm(rows[one.i]))
    if one.kind == "loading":
        return sigma * float(rows[one.i, one.j])
    a, b = rows[one.i], rows[one.j]
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    correlation = float(np.clip(a @ b / size, -1, 1)) if size > 0 else np.nan
    return correlation if one.of is None else range_of(one.of, one.i, one.j, correlation)[0]


def values_of(parameters: Sequence[Parameter], fit: Fit) -> np.ndarray:
    """The values of some parameters (r,) of a fit."""
    return values_in(parameters, fit.estimates, fit.family, fit.design.residual)


def values_in(
    parameters: Sequence[Parameter],
    estimates: Estimates,
    family: Family | None,
    residual: Residual | None = None,
) -> np.ndarray:
    """The same of bare estimates. residual: the structure of the rows that they are of."""
    T, sigma, beta = estimates.T, estimates.sigma, estimates.beta
    extra: Any = () if family is None else natural_extra(estimates, family)[0]
    if residual is not None and family is None:
        assert estimates.delta is not None
        extra = residual.natural(estimates.delta)[0]
    return np.array([value_of(one, T, sigma, beta, extra) for one in parameters])


def natural_extra(estimates: Any, family: Family) -> tuple[np.ndarray, np.ndarray]:
    """Extra parameters (r,) of a generalized model as users see them, and their derivatives (r, r)
    in those that were optimized."""
    values, slopes = family.natural(estimates.extra)
    slopes = np.asarray(slopes, dtype=float)
    return np.asarray(values, float), np.diag(slopes) if slopes.ndim == 1 else slopes


def chosen(parameters: Sequence[Parameter], which: Any) -> list[Parameter]:
    """Those asked for: "fixed", "random", "all" (or None), a name or several names."""
    if which is None or (isinstance(which, str) and which == "all"):
        return list(parameters)
    if isinstance(which, str) and which in ("fixed", "random"):
        return [one for one in parameters if one.is_fixed == (which == "fixed")]
    names = list(which) if isinstance(which, Iterable) and not isinstance(which, str) else [which]
    out: list[Parameter] = []
    for name in names:
        found = [one for one in parameters if one.name == name]
        if not found:
            known = [one.name for one in parameters]
            near = get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            several = '("fixed", "random" and "all" choose several)'
            raise ValueError(f"there is no parameter {name!r}: {hint} {several}")
        out += [one for one in found if one not in out]
    return out


def normal_quantile(level: float) -> float:
    """Half the width, in standard errors, of a normal interval of this coverage."""
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))
