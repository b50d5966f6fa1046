"""How fits of generalized models end without a maximum, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _core
from ..errors import ConvergenceWarning, SeparationWarning, warn
from .families import Family
from .separation import settled_levels

if TYPE_CHECKING:
    from ..data.design import Design

STATUS = {"maxeval": "evaluation limit", "stopped": "stopped by callback"}
FAR = 1e-3  # promised decrease from which a fit that stands still has met something, deviance units

_LEFT = "-2 log-likelihood can still fall by about {left:.2g}"
_SLOPE = "no step lowers -2 log-likelihood any more, though its slope still promises {left:.2g}: "
_EDGE = (
    "the modes of the random effects reach the edge of the predictors for which family {family!r} "
    "with link {link!r} has a mean"
)
_CURVATURE = (
    "the log-density of family {family!r} with link {link!r} is not concave, and Laplace's "
    "approximation breaks down where the modes of the random effects lose their curvature"
)
_ROUNDED = (
    "the modes of the random effects are lost in rounding errors: check the response and the "
    "predictors for extreme values"
)
_EXPECTED = "information='expected' (lme4's approximation) is defined there, too"
_START = (
    "the likelihood is not finite where the fit begins: check the response and the predictors for "
    "extreme values, or give "
)
_BOUNDS = "; the link {link!r} needs a predictor within bounds, which the fixed effects may leave"
NOT_CERTIFIED = {
    "evaluation limit": _LEFT,
    "out of time": _LEFT,
    "flat direction": _SLOPE + "it hardly changes along some curve of parameters",
    "edge of the domain": _SLOPE + _EDGE + "{advice}",
    "no curvature": _SLOPE + _CURVATURE + "{advice}",
}
_OBSTACLE = {"edge": "edge of the domain", "curvature": "no curvature"}
_FREE = {"binomial": "logit", "gaussian": "identity"}  # links with a mean everywhere; others: log


def standing_still(left: float, obstacle: str, family: Family) -> str:
    """The status of a fit whose steps lead nowhere though its slope promises `left`; obstacle: what
    the last evaluation that failed has met (`_core.Generalized.obstacle`)."""
    if left < FAR or (obstacle == "edge" and _is_free(family)):
        return "flat direction"
    return _OBSTACLE.get(obstacle, "flat direction")


def note_ending(found: Any, design: Design, family: Family, plain: bool) -> None:
    """Warnings for the estimates of a fit that has no maximum, or none that is certified."""
    if found.separation:
        warn(SeparationWarning(found.separation.message, variable=found.separation.names[0]))
    for term, what in settled_levels(design, family, found.T):
        warn(SeparationWarning(what, variable=term.group, term=term.label))
    if not found.separation and found.status in NOT_CERTIFIED:
        why = why_not_certified(found.status, found.certificate, family, plain)
        warn(ConvergenceWarning(why))


def why_not_certified(status: str, left: float, family: Family, plain: bool) -> str:
    """What a warning says of a status in `NOT_CERTIFIED`; plain: whether the approximation is
    Laplace's with observed information, which has an alternative."""
    if not left < float("inf"):  # stopped before there was a slope
        return f"{status}: the fit is where it began"
    return f"{status}: {NOT_CERTIFIED[status].format(left=left, **_words(family, plain))}"


def why_undefined(
    error: _core.NotPositiveDefinite, obstacle: str, family: Family, plain: bool, given: bool
) -> str:
    """What an error says of a fit that could not begin, or lost its modes at the end; given: was
    the start?"""
    words = _words(family, plain)
    if not isinstance(error, _core.NotFinite):
        start = _START + ("another start=" if given else "start=")
        return (start + ("" if _is_free(family) else _BOUNDS + "{advice}")).format(**words)
    if obstacle == "curvature":
        reason = _CURVATURE + "{advice}"
    else:
        reason = _ROUNDED if _is_free(family) else _EDGE + "{advice}"
    return ("the likelihood has no maximum that could be found: " + reason).format(**words)


def _is_free(family: Family) -> bool:
    """Whether every predictor has a mean."""
    if family.response == "binomial":
        return family.link.name != "log"
    positive = family.response != "real" and family.link.name in ("identity", "sqrt")
    return not positive and family.link.name not in ("inverse", "inversesquared")


def _words(family: Family, plain: bool) -> dict[str, str]:
    """What messages name; plain: see `why_not_certified`."""
    other = _FREE.get(family.name, "log")
    has = other in family.links and other != family.link.name and not _is_free(family)
    advice = [f"link={other!r} has no bounds"] * has + [_EXPECTED] * plain
    return {
        "family": family.name,
        "link": family.link.name,
        "advice": "; " + ", and ".join(advice) if advice else "",
    }
