"""What predictions are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """What predictions are asked for; see ``Fit.predict``."""

    re_form: Any = "all"
    new_levels: str = "error"
    offset: Any = None
    se: bool = False
    interval: str | None = None
    level: float = 0.95
    ddf: str | None = None
    weights: Any = None
    vary_left_out: bool = True
    random_only: bool = False
    seed: int = 0
    type: str = "link"
    inverse: Any = None
    averaged: bool = False  # means of the response, not the response of the mean
