"""Generalized models that cannot be fitted as they are, or are hardly identified."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.units import check_range
from ..errors import FitError, IdentifiabilityWarning, OneRowPerLevelWarning, warn
from .custom import CustomFamily
from .custom_rows import check_custom
from .identify import twins
from .relations import refuse_related, refuse_several

if TYPE_CHECKING:
    from ..data.design import Design
    from .families import Family

MOST_ENTRIES = 5_100  # of covariance matrices: curvature in all of them is 200 MB
MOST_DIRECTIONS = 3  # random effects of one level that it goes over
SOME = 10_000  # rows that are looked at before all of them
SLOPES: dict[str, Callable[[float], float]] = {  # dmu / deta of links whose eta has a unit
    "identity": lambda mean: 1.0,
    "inverse": lambda mean: mean * mean,
    "inversesquared": lambda mean: mean**3 / 2,
}
FAR = 1e130  # size of coefficients, or its inverse, whose columns are looked at
SMALLEST = 1e-8  # size of changes of eta in which fits are as good as in 1; or its inverse
CONSTANT = 1e-9  # how near combinations of columns come to a constant that is one


def checked_reml(reml: Any) -> bool:
    """Whether the criterion is restricted likelihood; TypeError for what is no answer."""
    if not isinstance(reml, (bool, np.bool_)):
        raise TypeError(f"reml must be True or False, not {reml!r}")
    return bool(reml)


def checked_accuracy(accuracy: str, nagq: int, information: str) -> str:
    """The accuracy, which goes with Laplace's own approximation only."""
    if accuracy not in ("laplace", "second-order"):
        raise ValueError(f"accuracy must be 'laplace' or 'second-order', not {accuracy!r}")
    if accuracy == "second-order" and (nagq > 1 or information == "expected"):
        other = f"nagq={nagq}" if nagq > 1 else "information='expected'"
        raise FitError(
            f"accuracy='second-order' corrects Laplace's approximation: leave out {other}"
        )
    return accuracy


def check_random(design: Design, nagq: int, accuracy: str) -> None:
    """Covariance structures have a limit of width. Quadrature goes over the effects of one level:
    one grouping factor, few columns. The next order takes levels as independent."""
    structured = next((term for term in design.terms if term.covariance is not None), None)
    entries = sum(term.source.width * (term.source.width + 1) // 2 for term in design.terms)
    if structured is not None and entries > MOST_ENTRIES:
        raise FitError(
            f"{structured.label}: the covariance matrices of this model have {entries:,} entries, "
            f"of which generalized models with covariance structures may have {MOST_ENTRIES:,} (a "
            "term of about 100 columns): use fewer columns, as times rounded to coarser ones"
        )
    if accuracy == "second-order":
        refuse_related(design, "accuracy='second-order'", "accuracy='laplace' has them")
    if nagq == 1:
        return
    instead = "nagq=1 is Laplace's approximation, which has them"
    refuse_related(design, f"nagq={nagq}: quadrature", instead)
    refuse_several(design, f"nagq={nagq}: quadrature", instead)
    groups = dict.fromkeys(term.source.factor for term in design.terms)
    width = sum(term.source.width for term in design.terms)
    if len(groups) > 1 or width > MOST_DIRECTIONS:
        has = f"{len(groups)} grouping factors" if len(groups) > 1 else f"{width} random columns"
        raise FitError(
            f"nagq={nagq}: quadrature is for one grouping factor with at most {MOST_DIRECTIONS} "
            f"columns, this model has {has}; nagq=1 is Laplace's approximation"
        )


def check_family(family: Family, design: Design, information: str) -> None:
    """FitError where a user's own family is wrong, or has no expected weights and these are asked
    for; where the response has a unit that cannot be computed in."""
    if not isinstance(family, CustomFamily):
        _check_units(family, design)
        return
    rows = design.rows_for("a generalized model needs its rows")
    known = check_custom(family, np.asarray(rows.y), rows.weights)
    if information == "expected" and "w" not in known:
        raise FitError(
            f"information='expected' needs the expectation of -d2: derivatives() of family "
            f"{family.name!r} must give it as 'w'"
        )


def _check_units(family: Family, design: Design) -> None:
    """FitError where a link has the unit of the response, and this is one in which predictors are
    lost in the tolerances of the fit."""
    if family.link.name not in SLOPES:
        return
    y = np.asarray(design.y)
    with np.errstate(all="ignore"):
        mean, spread = float(np.abs(np.mean(y))), float(np.std(y))
        unit = spread / SLOPES[family.link.name](mean)
    size = max(mean, spread)
    if not size > 0 or SMALLEST < unit < 1 / SMALLEST:
        return
    by = f"1e{round(float(np.log10(size)))}"
    other = ", or write link='log'" if "log" in family.links else ""
    raise FitError(
        f"the response {design.response!r} is about {size:.0e} in size, and the predictors of link "
        f"{family.link.name!r} are too {'large' if unit > 1 else 'small'} to be told apart: "
        f"measure it in other units, divided by {by}{other}",
        variable=design.response,
    )


def check_predictors(design: Design, beta: np.ndarray) -> None:
    """DataError where a predictor has a unit that cannot be computed in: coefficients (p,) have its
    inverse, so that only the columns of extreme ones are looked at."""
    size = np.abs(beta)
    doubtful = np.flatnonzero(~((size > 1 / FAR) & (size < FAR)))
    if len(doubtful):
        largest = design.fixed.largest(np.eye(len(beta))[:, doubtful])
        for j, own in zip(doubtful.tolist(), largest, strict=True):
            check_range(own, design.x_names[j])


def note_identification(design: Design, family: Family) -> None:
    """Warnings for variances that cannot be told apart, or hardly."""
    for term, what in twins(design.terms):
        warn(IdentifiabilityWarning(what, variable=term.group, term=term.label))
    alone = (term for term in design.terms if term.relation is None)
    single = next((term for term in alone if len(term.levels) == design.n), None)
    if single is None:
        return
    binary = family.response == "binomial" and (
        design.weights is None or (design.weights == 1).all()
    )
    if binary or family.classes:
        other = (
            "that of the link: a row that is one of a few classes tells nothing of its own variance"
        )
    elif family.nextra:
        other = f"the {family.extra_names[0]} of the family"
    else:
        return
    what = (
        f"grouping factor {single.group!r} has one row per level: its variance is hard to tell "
        f"from {other}; take ({single.label}) out"
    )
    warn(OneRowPerLevelWarning(what, variable=single.group, term=single.label))


def _may_be_constant(design: Design, kept: np.ndarray) -> bool:
    """Whether a combination of columns is constant in some of the rows: else none is in all."""
    rows = np.unique(np.linspace(0, design.n - 1, min(design.n, SOME)).astype(np.int64))
    X = design.fixed.at(rows)[:, kept]
    d = np.linalg.lstsq(X, np.ones(len(rows)), rcond=None)[0]
    return bool(np.abs(X @ d - 1).max() <= CONSTANT)


def check_thresholds(design: Design, keep: np.ndarray) -> None:
    """Columns that add up to a constant shift all thresholds: neither could be told."""
    kept = np.flatnonzero(keep)
    if not len(kept) or not _may_be_constant(design, kept):
        return
    X = design.X[:, kept]
    d = np.linalg.lstsq(X, np.ones(design.n), rcond=None)[0]
    if np.abs(X @ d - 1).max() > CONSTANT:
        return
    part = np.abs(d) * np.abs(X).max(axis=0)
    names = ", ".join(design.x_names[kept[j]] for j in np.flatnonzero(part > CONSTANT))
    raise FitError(
        "the thresholds of an ordered response take the place of an intercept, but the fixed "
        f"effects have one: {names} add up to a constant; take a column out",
        variable=design.x_names[kept[int(part.argmax())]],
    )
