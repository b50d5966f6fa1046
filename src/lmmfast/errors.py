"""Every error and warning of lmmfast: classes that carry the variable, term and rows concerned."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

__all__ = ["ConvergenceWarning", "DataError", "DoubleBarWarning", "FitError", "FormulaError"]
__all__ += ["IdentifiabilityWarning", "LmmError", "LmmWarning", "LostWorkerWarning"]
__all__ += ["NumbersAsTextWarning", "OneRowPerLevelWarning", "RankDeficientWarning"]
__all__ += ["RestrictedLikelihoodWarning", "SeparationWarning", "UnusedArgumentWarning"]
__all__ += ["SimilarLevelsWarning", "SpacingWarning", "UnusedContrastsWarning", "warn"]


class _About(Exception):
    """The facts of a message: what it is about, for programs that read messages.

    Attributes
    ----------
    variable : str or None
        Name of the offending column.
    term : str or None
        The formula term, as written.
    rows : tuple of int
        Positions (0-based) of the first offending rows; empty when it is not about rows.
    """

    def __init__(
        self,
        message: str,
        *,
        variable: str | None = None,
        term: str | None = None,
        rows: Sequence[int] = (),
    ) -> None:
        super().__init__(message)
        self.variable = variable
        self.term = term
        self.rows = tuple(int(row) for row in rows)


class LmmError(_About, ValueError):
    """Base class of all errors that lmmfast raises about a model or its data."""


class FormulaError(LmmError):
    """The formula cannot be read, or names something that is not there."""


class DataError(LmmError):
    """The data cannot be used as the formula asks."""


class FitError(LmmError):
    """The model cannot be fitted to these data, or the fit cannot answer what is asked of it."""


class LmmWarning(_About, UserWarning):
    """Base class of all warnings that lmmfast gives."""


class RankDeficientWarning(LmmWarning):
    """Linearly dependent columns were dropped from the fixed effects or from a random term."""


class NumbersAsTextWarning(LmmWarning):
    """A predictor is text, but all its entries are numbers or spellings of missing values."""


class DoubleBarWarning(LmmWarning):
    """`||` with a factor: lmmfast sets all correlations to zero, lme4 keeps the factor's own."""


class SimilarLevelsWarning(LmmWarning):
    """Two levels are spelt alike: one may be a typing mistake."""


class SpacingWarning(LmmWarning):
    """Columns count as ordered and equally spaced (ar1), but their labels say otherwise."""


class IdentifiabilityWarning(LmmWarning):
    """Covariance parameters that no response tells apart; or a term with an effect for each row."""


class OneRowPerLevelWarning(IdentifiabilityWarning):
    """A grouping factor has one row per level: its variance is hard to tell from the residual's."""


class ConvergenceWarning(LmmWarning):
    """The fit ended before its optimum was certified: it was stopped, or could go no further."""


class SeparationWarning(LmmWarning):
    """Some fixed effects, or the levels of a grouping factor, predict a response without error: the
    likelihood has no maximum."""


class RestrictedLikelihoodWarning(LmmWarning):
    """Restricted likelihoods of models with different fixed effects were compared."""


class LostWorkerWarning(LmmWarning):
    """A worker died: what it had been given was computed again elsewhere."""


class UnusedContrastsWarning(LmmWarning):
    """Contrasts are given for a variable that the formula uses in another way, or not at all."""


class UnusedArgumentWarning(LmmWarning, FutureWarning):
    """An argument of statsmodels' `fit` changes nothing here (its own warning: FutureWarning)."""


# Frames of lmmfast, and of what lies between two of them: cached properties, context managers.
_OWN = (str(Path(__file__).parent), functools.__file__, contextlib.__file__)


_SILENCED: ContextVar[tuple[type[LmmWarning], ...]] = ContextVar("silenced", default=())


@contextlib.contextmanager
def silenced(*kinds: type[LmmWarning]) -> Iterator[None]:
    """Without warnings of these kinds, or of any, in this thread: `warnings.catch_warnings` changes
    the filters of the process, and what overlaps in two threads changes them for good."""
    token = _SILENCED.set((*_SILENCED.get(), *(kinds or (LmmWarning,))))
    try:
        yield
    finally:
        _SILENCED.reset(token)


def warn(warning: LmmWarning) -> None:
    """Gives a warning that points to the line which called lmmfast."""
    if isinstance(warning, _SILENCED.get()):
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)
