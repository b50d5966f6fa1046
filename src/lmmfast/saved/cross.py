"""Fits of which cross-products are kept: the model can be made again, its rows cannot."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.design import Design
from ..errors import DataError
from ..fit import Fit
from ..sources.cross import CrossProducts
from ..sources.design import design_of
from ..sources.records import Reader
from ..sources.spec import Spec
from ..sources.sums import StreamSums
from ..sources.verify import Damage, fields

SAME = 1e-6  # deviance units by which the criterion may differ, relative to one or its own size


def cross_of(fit: Fit) -> CrossProducts:
    """The cross-products of a linear fit; made of its data, where these are still at hand.

    Raises
    ------
    DataError
        When the model is none that has cross-products, or the data are not known any more.
    """
    design = fit.design
    if fit.family is not None:
        raise DataError("generalized models have no cross-products: save the fit with data=True")
    if isinstance(design.sums, StreamSums):
        found: CrossProducts = design.sums.cross
        return found
    related = any(term.relation is not None for term in design.terms)
    if design.residual is not None or related or design.recipe is None:
        raise DataError(
            "models with residual structures, relationships, or from arrays have no "
            "cross-products: save the fit with data=True"
        )
    given = design.given
    if given is None or given.data is None:
        raise DataError(
            "the data of this fit are not known any more, so no cross-products can be made: save "
            "it with data=True"
        )
    for name, own in (("weights", given.weights), ("offset", given.offset)):
        if own is not None and not isinstance(own, str):
            raise DataError(
                f"{name}= was an array: cross-products need it as a column of the data; or save "
                "the fit with data=True"
            )
    how = {"weights": given.weights, "offset": given.offset, "contrasts": given.contrasts}
    spec = Spec.from_data(fit.formula, given.data, **how)
    cross = CrossProducts.from_frame(given.data, spec)
    _check_same(fit, cross)
    return cross


def _check_same(fit: Fit, cross: CrossProducts) -> None:
    """The data may have been changed since the fit."""
    made = design_of(cross)
    levels = [term.levels.tolist() for term in made.terms]
    same = made.n == fit.nobs and made.x_names == fit.design.x_names
    same = same and levels == [term.levels.tolist() for term in fit.design.terms]
    if same:
        value = type(fit.model)(made).point(fit.theta, reml=fit.reml).value
        same = abs(value - fit.objective) <= SAME * max(1.0, abs(fit.objective))
    if not same:
        raise DataError(
            "the data are not those of the fit any more: they were changed since; save the fit "
            "with data=True"
        )


def restored_design(item: Any, reader: Reader) -> Design:
    """The design of cross-products in a file."""
    name = fields(item, ("cross",))["cross"]
    own = reader.array(name, "the cross-products", "u", (None,))
    if own.dtype != np.uint8:
        raise Damage("the cross-products are no bytes")
    return design_of(CrossProducts.from_bytes(own.tobytes()))
