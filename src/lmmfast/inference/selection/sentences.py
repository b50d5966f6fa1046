"""What has no variance in a singular fit, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...effects import term_covariance
from ...tables import be, general, joined

if TYPE_CHECKING:
    from ...fit import Fit

__all__ = ["combination", "singular_sentences"]

NEGLIGIBLE = 0.005  # share of a zero combination below which a column is not worth naming
NO_VARIANCE = 1e-4  # standard deviation, relative, below which a combination is zero (as lme4)


def singular_sentences(fit: Fit) -> list[str]:
    """One plain sentence per singular term: which combination of its effects has no variance."""
    return [
        f"({fit.design.terms[item.term].label}): {no_variance(fit, item)}."
        for item in fit.estimates.singular
    ]


def no_variance(fit: Fit, item: Any) -> str:
    """What has no variance in one singular term."""
    columns = fit.design.terms[item.term].columns
    zero = set(item.zero)
    parts = []
    if zero:
        names = joined([columns[j] for j in sorted(zero)])
        parts.append(f"the variance{'s' * (len(zero) > 1)} of {names} {be(len(zero))} zero")
    _, sd, _ = term_covariance(fit.estimates, item.term)
    rest = [j for j in range(len(columns)) if j not in zero]
    size = len(rest) - rank(fit.estimates.T[item.term][rest], sd[rest])
    if size > 0:
        share = np.asarray(item.direction) * sd  # of zero columns: nothing
        text = combination(columns, np.asarray(item.direction), share)
        count = f" (one of {size} such combinations)" if size > 1 else ""
        perfect = " (random effects perfectly correlated)" if len(rest) == 2 else count
        parts.append(f"the combination {text} has no variance{perfect}")
    return ", and ".join(parts)


def rank(factor: np.ndarray, sd: np.ndarray) -> int:
    """Numerical rank of a relative covariance factor with rows scaled to length one."""
    if len(factor) == 0:
        return 0
    return int(
        np.linalg.matrix_rank(factor / np.linalg.norm(factor, axis=1)[:, None], tol=NO_VARIANCE)
    )


def combination(columns: Sequence[str], direction: np.ndarray, share: np.ndarray) -> str:
    """``direction`` in words, its most important column with coefficient one."""
    lead = int(np.argmax(np.abs(share)))
    text = ""
    for j, name in enumerate(columns):
        if abs(share[j]) < NEGLIGIBLE * abs(share[lead]):
            continue
        value = direction[j] / direction[lead]
        size = "" if abs(abs(value) - 1) < 5e-4 else f"{general(abs(value), 3)}*"
        sign = ("- " if value < 0 else "+ ") if text else ("-" if value < 0 else "")
        text += f"{' ' if text else ''}{sign}{size}{name}"
    return text
