"""Parameters of covariance structures as inference takes them: phi, and what of it can move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..fit import Fit


def structured_of(fit: Fit) -> tuple[Any, np.ndarray] | None:
    """The structures of a fit's model (`engine.structured`) and its phi; None where it has none."""
    phi = fit.estimates.phi
    return None if phi is None else (fit.model.structured, phi)


def moving(fit: Fit) -> np.ndarray:
    """(nphi,) bool: the parameters that are not at a boundary."""
    found = structured_of(fit)
    assert found is not None
    return np.asarray(found[0].moving(found[1]))


def jacobian(fit: Fit) -> np.ndarray:
    """(entries, k): how the entries of all relative covariances, in whitened columns, move with the
    parameters that can."""
    found = structured_of(fit)
    assert found is not None
    own, phi = found
    return np.asarray(own.jacobian(phi)[:, moving(fit)])
