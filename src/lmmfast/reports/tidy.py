"""One row a parameter, one row a fit: the frames of R's broom.mixed, column for column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.visits import RepeatedDesign
from ..inference.ddf import check_choice, check_level, ddf_of
from ..inference.hypotheses.tests import coef_test
from ..inference.intervals.parameters import Parameter, normal_quantile, parameters_of

if TYPE_CHECKING:
    import pandas as pd

EFFECTS = ("fixed", "ran_pars", "ran_vals", "ran_coefs")
SCALES = ("sdcor", "vcov")  # of variance parameters
OTHERS = ("sigma", "residual", "extra")  # kinds of parameters that are not of a random term


def tidy(
    fit: Any,
    effects: str | Sequence[str],
    conf_int: bool,
    conf_level: float,
    conf_method: str,
    ddf: str | None,
    exponentiate: bool,
    scales: str,
    options: dict[str, Any],
) -> pd.DataFrame:
    """As ``Labelled.tidy`` documents it."""
    import pandas as pd

    asked = [effects] if isinstance(effects, str) else list(effects)
    for one in asked:
        check_choice("effects", one, EFFECTS)
    check_choice("scales", scales, SCALES)
    level = check_level(conf_level)
    limits = (level, conf_method, options) if conf_int else None
    parts = []
    for one in asked:
        if one == "fixed":
            parts.append(_fixed(fit, ddf, limits, exponentiate))
        elif one == "ran_pars":
            own = _parameters(fit, limits)
            parts.append(own if scales == "sdcor" else _as_variances(own))
        else:
            parts.append(_levels(fit, one, level if conf_int else None))
    columns = ["effect", "group"]
    columns += ["level"] if {"ran_vals", "ran_coefs"} & set(asked) else []
    columns += ["term", "estimate", "std.error"]
    if "fixed" in asked:
        columns += ["statistic", *["df"] * (ddf_of(ddf, fit) != "z"), "p.value"]
    columns += ["conf.low", "conf.high"] if conf_int else []
    frames = [pd.DataFrame(part) for part in parts]
    found = pd.concat([own for own in frames if len(own)] or frames[:1], ignore_index=True)
    return found.reindex(columns=columns)


# ---- by kind of effect --------------------------------------------------------------------------


def _fixed(
    fit: Any, ddf: str | None, limits: tuple[float, str, Any] | None, exponentiate: bool
) -> dict[str, Any]:
    test = coef_test(fit, ddf)
    estimate, se = np.array(test.effect), np.array(test.sd)
    columns: dict[str, Any] = {
        "effect": "fixed",
        "term": list(fit.design.x_names),
        "estimate": np.exp(estimate) if exponentiate else estimate,
        "std.error": se * np.exp(estimate) if exponentiate else se,
        "statistic": test.statistic,
        "df": test.df_denom,
        "p.value": test.pvalue,
    }
    if limits is not None:
        ends = _limits(fit, limits, "fixed", {} if ddf is None else {"ddf": ddf})
        columns |= _ends(np.exp(ends) if exponentiate else ends)
    return columns


def _parameters(fit: Any, limits: tuple[float, str, Any] | None) -> dict[str, Any]:
    found = fit.parameters()
    estimate, se = found["estimate"].to_numpy(), found["se"].to_numpy()
    names = [str(name) for name in found.index]
    places = list(_places(fit, names))
    if fit.family is not None and len(fit.extra):
        estimate = np.concatenate([estimate, fit.extra])
        se = np.concatenate([se, fit.extra_se])
        names += list(fit.extra.index)
        places += [("Distribution", str(name)) for name in fit.extra.index]
    columns: dict[str, Any] = {
        "effect": "ran_pars",
        "group": [group for group, _ in places],
        "term": [term for _, term in places],
        "estimate": np.asarray(estimate, dtype=float),
        "std.error": np.asarray(se, dtype=float),
    }
    if limits is not None:
        known = _limits(fit, limits, "random", {}, frame=True)
        columns |= _ends(known.reindex(names).to_numpy(dtype=float))
    return columns


def _as_variances(columns: dict[str, Any]) -> dict[str, Any]:
    """Variances and covariances in place of standard deviations and correlations: errors of
    variances by the delta method, their limits squared; covariances have neither."""
    sd: dict[str, dict[str, float]] = {}
    given = (columns[name] for name in ("group", "term", "estimate"))
    for group, term, value in zip(*given, strict=True):
        if term.startswith("sd__"):
            sd.setdefault(group, {})[term[4:]] = value
    products = {
        (group, f"cor__{a}.{b}"): own[a] * own[b]
        for group, own in sd.items()
        for a, b in permutations(own, 2)
    }
    numbers = {name: own for name, own in columns.items() if isinstance(own, np.ndarray)}
    out = {name: own.copy() for name, own in numbers.items()}
    terms = list(columns["term"])
    for i, (group, term) in enumerate(zip(columns["group"], terms, strict=True)):
        if term.startswith("sd__"):
            terms[i] = f"var__{term[4:]}"
            for name, values in out.items():
                values[i] = numbers[name][i] ** 2
            out["std.error"][i] = 2 * numbers["estimate"][i] * numbers["std.error"][i]
        elif (group, term) in products:
            terms[i] = f"cov__{term[5:]}"
            for values in out.values():
                values[i] = np.nan
            out["estimate"][i] = numbers["estimate"][i] * products[group, term]
    return columns | out | {"term": terms}


def _levels(fit: Any, effects: str, level: float | None) -> dict[str, Any]:
    """Modes of the random effects with their conditional deviations, or coefficients by level."""
    modes = fit.ranef(cond_var=True) if effects == "ran_vals" else fit.coef()
    parts: dict[str, list[Any]] = {"group": [], "level": [], "term": [], "estimate": []}
    errors: list[np.ndarray] = []
    for group, own in modes.items():
        frame = own["condval"] if effects == "ran_vals" else own
        m, k = frame.shape
        parts["group"] += [group] * (m * k)
        parts["level"] += [label for label in frame.index for _ in range(k)]
        parts["term"] += list(map(str, frame.columns)) * m
        parts["estimate"].append(frame.to_numpy().ravel())
        if effects == "ran_vals":
            errors.append(own["condsd"].to_numpy().ravel())
    estimate = np.concatenate(parts.pop("estimate"))
    columns: dict[str, Any] = {"effect": effects, **parts, "estimate": estimate}
    if errors:
        se = np.concatenate(errors)
        columns["std.error"] = se
        if level is not None:
            half = normal_quantile(level) * se
            columns |= _ends(np.column_stack([estimate - half, estimate + half]))
    return columns


# ---- intervals, and names -----------------------------------------------------------------------


def _limits(
    fit: Any,
    limits: tuple[float, str, Any],
    which: str,
    more: dict[str, Any],
    frame: bool = False,
) -> Any:
    level, method, options = limits
    found = fit.conf_int(level, method=method, parameters=which, **more, **options)
    return found if frame else found.to_numpy(dtype=float)


def _ends(limits: np.ndarray) -> dict[str, np.ndarray]:
    return {"conf.low": limits[:, 0], "conf.high": limits[:, 1]}


def _places(fit: Any, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Group and term of variance parameters, as broom.mixed says them: sd__Days of Subject."""
    if isinstance(fit.design, RepeatedDesign):
        yield from (_repeated(fit.design.seen, name) for name in names)
        return
    known = {one.name: one for one in parameters_of(fit) if not one.is_fixed}
    for name in names:
        one = known.get(name)
        if one is None:  # of a covariance that a user wrote: "range(site)"
            label, _, group = name.removesuffix(")").partition("(")
            yield group, label
        elif one.kind in OTHERS:
            yield "Residual", "sd__Observation" if one.kind == "sigma" else _term(name)
        else:
            yield fit.design.terms[one.term].group, _random_term(fit, one)


def _repeated(visits: Any, name: str) -> tuple[str, str]:
    """Subjects, or subjects of a group, and what the parameter is of their visits."""
    subject = visits.covariance.subject
    for group in map(str, visits.groups) if visits.covariance.group is not None else ():
        if name.startswith(f"{group}: "):
            return f"{subject}: {group}", _term(name.removeprefix(f"{group}: "))
    return subject, _term(name)


def _random_term(fit: Any, one: Parameter) -> str:
    """sd__Days, cor__Intercept.Days; of structures rho__times, loading__Days.1."""
    term = fit.design.terms[one.term]
    label = one.name.partition("(")[0]
    if label == "cor":
        return f"cor__{term.columns[one.i]}.{term.columns[one.j]}"
    inside = one.name[len(label) + 1 :].rpartition(f" | {term.group}")[0]
    if one.kind == "loading":
        return f"loading__{term.columns[one.i]}.{one.j + 1}"
    return f"{label.replace(' ', '')}__{inside}"


def _term(name: str) -> str:
    """sd(w1) and cor(w1, w2) as sd__w1 and cor__w1.w2; other names as they are."""
    label, bracket, inside = name.removesuffix(")").partition("(")
    return f"{label}__{inside.replace(', ', '.')}" if bracket else name


# ---- one row a fit ------------------------------------------------------------------------------


def glance(fit: Any) -> pd.DataFrame:
    """As ``Labelled.glance`` documents it."""
    import pandas as pd

    values: dict[str, Any] = {"nobs": fit.nobs}
    if fit.family is None and not isinstance(fit.design, RepeatedDesign):
        values["sigma"] = fit.sigma
    values |= {"logLik": fit.llf, "AIC": fit.aic, "BIC": fit.bic}
    values["REMLcrit" if fit.reml else "deviance"] = fit.objective
    values |= {"df.residual": fit.df_resid, "npar": fit.n_params}
    values |= {"converged": fit.converged, "singular": fit.is_singular}
    return pd.DataFrame(values, index=[0])
