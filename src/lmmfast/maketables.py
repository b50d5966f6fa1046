"""Fits in tables of the package maketables: ``import lmmfast.maketables``, then ``ETable([fit])``.

maketables takes whatever has ``params``, ``bse`` and ``pvalues`` for a result of statsmodels, whose
intervals are normal and whose response is unknown. The extractor of this module goes first.
"""

from __future__ import annotations

from typing import Any

from .labelled import Labelled
from .sm.results import MixedLMResults

try:
    from maketables import extractors as _theirs
except ImportError as error:
    raise ImportError(
        "lmmfast.maketables needs the package maketables: pip install 'lmmfast[maketables]'"
    ) from error


class Extractor(_theirs.PluginExtractor):  # type: ignore[misc, unused-ignore]
    """What maketables asks of a fit; the fits answer, see ``lmmfast.reports.columns``."""

    def can_handle(self, model: Any) -> bool:
        """Whether it is a fit of this package."""
        return isinstance(model, (Labelled, MixedLMResults))


def register() -> None:
    """Put the extractor before those of maketables; importing this module does it.

    Their `register_extractor` puts it last, after the one for whatever looks like a result of
    statsmodels: their list is the only way to the front.
    """
    known = getattr(_theirs, "_EXTRACTOR_REGISTRY", None)
    if known is None:  # a version whose list is elsewhere
        _theirs.register_extractor(Extractor())
    elif not any(isinstance(own, Extractor) for own in known):
        known.insert(0, Extractor())


register()
