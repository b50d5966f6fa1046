"""Parameters of covariance structures as inference takes them: phi, and what of it can move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FitError

if TYPE_CHECKING:
    from ..fit import Fit

FAR = 2.9e3  # standard deviations over sigma, whitened, beside which sigma is next to nothing
STILL = 1e-6  # change of a covariance (whitened columns) below which a parameter does not move it


def structured_of(fit: Fit) -> tuple[Any, np.ndarray] | None:
    """The structures of a fit's model (`engine.structured`) and its phi; None where it has none."""
    phi = fit.estimates.phi
    return None if phi is None else (fit.model.structured, phi)


def moving(fit: Fit) -> np.ndarray:
    """(nphi,) bool: the parameters that are not at a boundary.

    There the covariance does not change with them at first order: the criterion is even in a
    standard deviation of zero, and in the angle of a correlation of one. Standard deviations of
    their own that are zero are held by a bound.
    """
    found = structured_of(fit)
    assert found is not None
    own, phi = found
    engine = fit.model._engine
    free = np.ones(len(phi), dtype=bool)
    for i, (C, part) in enumerate(zip(engine.whitening(), own.slices, strict=True)):
        back, scale, kept = np.linalg.inv(C), np.linalg.norm(C, axis=1), list(engine.kept(i))
        change = np.linalg.norm(back @ own.slopes(i, phi) @ back.T, axis=(1, 2))
        root = back @ fit.estimates.T[i][kept]
        structure = own.own(i)
        if structure is None:
            free[part] = change * scale[engine.entries(i)[0]] > STILL
            continue
        size = float(np.linalg.norm(root @ root.T))
        for j, (kind, row) in enumerate(zip(structure.kinds, structure.rows, strict=True)):
            deviation = kind == "deviation"
            moves = change[j] * scale[row] > STILL if deviation else change[j] > STILL * size
            bound = j < structure.nbound and phi[part][j] <= 0
            bound |= deviation and abs(phi[part][j]) >= FAR * scale[row]
            free[part.start + j] = moves and not bound
    return free


def jacobian(fit: Fit) -> np.ndarray:
    """(entries, k): how the entries of all relative covariances, in whitened columns, move with the
    parameters that can."""
    found = structured_of(fit)
    assert found is not None
    own, phi = found
    return np.asarray(own.jacobian(phi)[:, moving(fit)])


def refuse_structured(fit: Fit, what: str, instead: str) -> None:
    """FitError for what is not defined, or not there, where a term has a covariance structure."""
    if fit.estimates.phi is not None:
        term = next(term for term in fit.design.terms if term.covariance is not None)
        raise FitError(f"{what} not for models with structures, as {term.label}: {instead}")
