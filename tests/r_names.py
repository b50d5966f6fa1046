"""Formulaic's names of design columns as R writes them: references are matched by name."""

from __future__ import annotations

import re
from typing import Any

_ENCODED = re.compile(r"([^\[\]:]+)\[([^\[\]]*)\]")
_PREFIX = re.compile(r"^(?:T|S|H|custom)\.")


def r_name(name: str, contrasts: dict[str, Any]) -> str:
    """R's name for a column: "cond[T.b]" -> "condb", "poly(x, 2)[1]" -> "poly(x, 2)1".

    Parameters
    ----------
    name : str
        Column name of lmmfast.
    contrasts : dict
        The reference's `contrasts`: R numbers the columns of sum, Helmert and custom contrasts.
    """
    if name == "Intercept":
        return "(Intercept)"
    return _ENCODED.sub(lambda found: _factor_column(found[1], found[2], contrasts), name)


def _factor_column(factor: str, label: str, contrasts: dict[str, Any]) -> str:
    level = _PREFIX.sub("", label)
    known = contrasts.get(factor, {})
    if (
        level == label
        or known.get("name") == "contr.treatment"
        or level in known.get("columns", ())
    ):
        return factor + level
    position = known["levels"].index(level)
    shift = 0 if known["name"] == "contr.sum" else -1
    return factor + known["columns"][position + shift]
