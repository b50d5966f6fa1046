"""The variance parameters of a fit, their errors, and which of them lie at a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...effects import is_custom
from ..structured import moving
from .parameters import Parameter, chosen, parameters_of, values_of
from .variance_errors import CovarianceParameters, covariance_parameters, errors_of_phi

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit

AT_BOUND, NOT_ESTIMABLE, NOT_IDENTIFIED = "at bound", "not estimable", "not identified"
_BOUNDS = {"sd": (0.0,), "range": (0.0, np.inf)}
NEAR = 1e-9  # distance of a correlation from its bound that is none


def parameter_table(fit: Fit) -> pd.DataFrame:
    """As ``Fit.parameters`` documents it."""
    import pandas as pd

    found = [one for one in chosen(parameters_of(fit), "random") if one.kind != "extra"]
    values = values_of(found, fit)
    own = covariance_parameters(fit)
    errors = [_error(fit, own, one) for one in found]
    held = fit.estimates.is_sigma_known
    status = []
    for one, value, error in zip(found, values, errors, strict=True):
        said = "held" if one.kind == "sigma" and held else _status(fit, one, float(value), error)
        status.append(said)
    se = np.where([said == "" for said in status], errors, np.nan)
    columns = {"estimate": values, "se": se, "status": status}
    index = pd.Index([one.name for one in found], name="parameter")
    return pd.concat([_own_parameters(fit), pd.DataFrame(columns, index=index)])


def _error(fit: Fit, own: CovarianceParameters, one: Parameter) -> float:
    if one.kind == "sigma":
        return float(own.sigma_se)
    if one.kind == "residual":
        return float(np.asarray(own.residual_se)[one.i])
    return float(own.error(fit, one.term, one.reading))


def _own_parameters(fit: Fit) -> pd.DataFrame | None:
    """Those of covariances that a user wrote, as they are; None where there are none."""
    import pandas as pd

    phi = fit.estimates.phi
    custom = [i for i, term in enumerate(fit.design.terms) if is_custom(term)]
    if not custom or phi is None:
        return None
    structured: Any = fit.model.structured  # which not every model has
    errors, parts = errors_of_phi(fit), []
    for i in custom:
        term, part = fit.design.terms[i], structured.slices[i]
        assert term.covariance is not None
        names = [f"{name}({term.group})" for name in term.covariance.names]
        status = np.where(np.isnan(errors[part]), AT_BOUND, "")
        columns = {"estimate": phi[part], "se": errors[part], "status": status}
        parts.append(pd.DataFrame(columns, index=pd.Index(names, name="parameter")))
    return pd.concat(parts)


def _status(fit: Fit, one: Parameter, value: float, se: float) -> str:
    if np.isnan(value):
        return NOT_ESTIMABLE
    if value in _BOUNDS.get(one.kind, ()) or (one.kind == "cor" and _is_at_bound(fit, one, value)):
        return AT_BOUND
    if one.kind == "loading" and not fit.estimates.T[one.term][:, one.j].any():
        return AT_BOUND
    if one.kind == "residual" and np.isnan(se):
        return AT_BOUND
    return NOT_IDENTIFIED if np.isnan(se) else ""


def _is_at_bound(fit: Fit, one: Parameter, value: float) -> bool:
    """Whether a correlation is 1 or -1, as low as one that all pairs of columns share can be, or
    one of several that together are at the bound of what they can be."""
    structure = fit.design.terms[one.term].covariance
    if structure is not None and structure.kind in ("toep", "homtoep"):
        own: Any = fit.model.structured
        angles = np.array(own.own(one.term).kinds) == "angle"
        mine = moving(fit)[own.slices[one.term]]
        return not mine[angles][: one.j - one.i].all()
    shared = structure is not None and structure.kind in ("cs", "homcs")
    low = -1 / (len(fit.design.terms[one.term].columns) - 1) if shared else -1.0
    return bool(value >= 1 - NEAR or value <= low + NEAR)
