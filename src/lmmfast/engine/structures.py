"""Covariance structures in the compiled core."""

from __future__ import annotations

from typing import Any

from .. import _core
from ..data.structures import Structure
from .custom_covariance import CustomCovariance


def compiled(structure: Structure) -> Any:
    """The core's object of a structure: Sigma, derivatives, root, where fits begin.

    A covariance of the user's is called in Python.
    """
    if isinstance(structure.own, CustomCovariance):
        own = structure.own
        return _core.OwnStructure(own.p, own.nphi, own.jets, own.nonnegative, start=own.start)
    return _core.Structure(structure.kind, structure.p, structure.coordinates, structure.rank)
