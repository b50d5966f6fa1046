"""Normal priors on coefficients, by their names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

Priors = dict[str, tuple[float, float]]  # mean and standard deviation by name


def priors(given: Any, names: Sequence[str]) -> Priors:
    """What ``prior=`` asks for, checked.

    Parameters
    ----------
    given : dict, number or None
        By name a standard deviation, or mean and standard deviation; a number is the standard
        deviation of all but the intercept.
    names : sequence of str
        Of the fixed effects.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return {name: _pair(name, given) for name in names if name != "Intercept"}
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(names)}"
            raise ValueError(f"prior is given for {name!r}, which is no fixed effect: {hint}")
    return {name: _pair(name, own) for name, own in given.items()}


def _pair(name: str, given: Any) -> tuple[float, float]:
    own = tuple(given) if isinstance(given, (tuple, list)) else (0.0, given)
    numbers = all(isinstance(v, (Real, np.number)) and np.isfinite(float(v)) for v in own)
    if len(own) != 2 or not numbers or not float(own[1]) > 0:
        raise ValueError(
            f"the prior of {name!r} must be a standard deviation above 0, or (mean, standard "
            f"deviation), not {given!r}"
        )
    return float(own[0]), float(own[1])


def precisions(own: Priors, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Means and precisions of all coefficients (p); 0 where there is no prior."""
    mean, precision = np.zeros(len(names)), np.zeros(len(names))
    for name, (center, sd) in own.items():
        mean[names.index(name)], precision[names.index(name)] = center, sd**-2
    return mean, precision


def described(own: Priors) -> str:
    """Priors in a line."""
    shown = [f"{name} ~ N({mean:g}, sd {sd:g})" for name, (mean, sd) in own.items()]
    return ", ".join(shown)
