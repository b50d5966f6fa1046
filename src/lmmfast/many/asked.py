"""What is wanted of each of many fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.design import Design
from ..fit import Fit
from ..inference.linear import hypothesis

if TYPE_CHECKING:
    from ..engine.free import Free

METHODS = ("satterthwaite", "kenward-roger", "z")


@dataclass(frozen=True)
class Asked:
    """What is wanted of each response, and how its fit goes."""

    L: np.ndarray  # r x p  contrasts
    values: tuple[float, ...]  # r  their right-hand sides
    names: tuple[str, ...]  # r
    ddf: str
    reml: bool
    max_evals: int
    # theta (psi of generalized models) that all fits begin at; None: by each response
    start: np.ndarray | None = None
    free: Free | None = None  # as `LMM.fit`
    kind: type[Fit] = Fit  # of the fits that `statistic` is given
    statistic: Callable[[Any], Any] | None = None  # of each fit: so many numbers
    width: int = 0
    errors: bool = True  # standard errors, which take evaluations of generalized models

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled core answers all of it."""
        return self.ddf != "kenward-roger" and self.free is None and self.statistic is None

    def without_start(self) -> Asked:
        """The same for another theta."""
        return replace(self, start=None)

    def facts(self) -> tuple[Any, ...]:
        """What results depend on, for a checkpoint."""
        free = None if self.free is None else (self.free.fixed, self.free.basis, self.free.sigma)
        what = self.L, self.values, self.ddf, self.reml, self.max_evals, self.start, free
        name = getattr(self.statistic, "__qualname__", None)
        return (*what, name, self.width, self.errors)


def asked(
    design: Design,
    contrasts: Any,
    ddf: str,
    reml: bool,
    max_evals: int,
    *,
    generalized: bool = False,
    **more: Any,
) -> Asked:
    """The arguments, checked."""
    if generalized and ddf != "z":
        raise ValueError(f'tests of generalized models are z: ddf must be "z", not {ddf!r}')
    if ddf not in METHODS:
        raise ValueError(f"ddf must be one of {', '.join(map(repr, METHODS))}, not {ddf!r}")
    if ddf == "kenward-roger" and not reml:
        raise ValueError('ddf="kenward-roger" is for REML fits: write reml=True')
    names = [str(name) for name in design.x_names]
    if contrasts is None:
        L, q, labels = np.eye(len(names)), np.zeros(len(names)), tuple(names)
    else:
        _check_hypotheses(contrasts)
        L, q, labels = hypothesis(contrasts, names, "contrasts")
    return Asked(np.ascontiguousarray(L), tuple(q), labels, ddf, reml, max_evals, **more)


def _check_hypotheses(contrasts: Any) -> None:
    """Codings of factors, which `lmer` calls contrasts, have an argument of their own."""
    if isinstance(contrasts, Mapping) and any(isinstance(one, str) for one in contrasts.values()):
        raise ValueError(
            "contrasts= are hypotheses about coefficients here; how factors are coded is said by "
            f"codings={dict(contrasts)!r}"
        )
