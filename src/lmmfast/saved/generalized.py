"""The numbers of a generalized fit, and its family, as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.design import Design
from ..engine.custom import CustomFamily
from ..engine.families import FAMILIES, find_family
from ..engine.family import Family
from ..engine.generalized_estimates import GeneralizedEstimates
from ..engine.separation import Separation
from ..errors import DataError
from ..sources.records import Reader
from ..sources.verify import Damage, fields, text
from .estimates import SHARED, check
from .kinds import FLAG, REAL, TEXT, WHOLE, Kind, Packer, Record, array, many, named, one_of
from .model import KeptPsi

SEPARATION = Record(
    Separation, {"names": many(TEXT), "rows": many(WHOLE), "count": WHOLE, "message": TEXT}
)


def _separation(item: Any, what: str, reader: Reader) -> Any:
    return () if item is None else SEPARATION.read(item, what, reader)


def _made(covariance: np.ndarray, **own: Any) -> GeneralizedEstimates:
    """Estimates whose model is known by all parameters and their covariance alone."""
    beta = np.where(own["fixed_kept"], own["beta"], 0.0)
    psi = np.concatenate([own["theta"], beta, own["extra"]])
    if covariance.shape != (len(psi), len(psi)):
        raise Damage("the covariance of all parameters has another shape")
    return GeneralizedEstimates(point=KeptPsi(psi, covariance), **own)  # type: ignore[arg-type]


GENERALIZED = Record(
    _made,
    {
        **SHARED,
        "extra": array(1),
        "covariance": array(2, gaps=True),
        "mode_certificate": REAL,
        "factorizations": WHOLE,
        "passes": WHOLE,
        "separation": Kind(
            lambda v, writer: SEPARATION.write(v, writer) if v else None, _separation, "Separation"
        ),
        "nagq": WHOLE,
        "information": one_of("observed", "expected"),
        "penalty": REAL,
        "accuracy": one_of("laplace", "second-order"),
        "rows": WHOLE,
        "outside": REAL,
    },
)

_FACTS = ("family", "prior", "nagq", "information", "accuracy", "reml")


def write_facts(facts: Mapping[str, Any], writer: Packer) -> dict[str, Any]:
    """What a generalized model is besides its design."""
    family: Family = facts["family"]
    return {
        "family": {
            "name": family.name,
            "link": family.link.name,
            "custom": isinstance(family, CustomFamily),
        },
        "prior": {
            name: [REAL.write(one, writer) for one in pair] for name, pair in facts["prior"].items()
        },
        "nagq": int(facts["nagq"]),
        "information": facts["information"],
        "accuracy": facts["accuracy"],
        "reml": bool(facts["reml"]),
    }


def read_facts(
    item: Any, design: Design, names: Mapping[str, Any], reader: Reader
) -> dict[str, Any]:
    """What `write_facts` wrote; `names` has families of the user's own."""
    own, what = fields(item, _FACTS), "the model"
    pairs = named(many(REAL)).read(own["prior"], "a prior", reader)
    bad = any(len(pair) != 2 or not np.isfinite(pair).all() for pair in pairs.values())
    if bad or not pairs.keys() <= set(design.x_names):
        raise Damage("a prior is of no coefficient, or no pair of numbers")
    return {
        "family": _family_of(own["family"], design, names, reader),
        "prior": pairs,
        "nagq": WHOLE.read(own["nagq"], what, reader),
        "information": one_of("observed", "expected").read(own["information"], what, reader),
        "accuracy": one_of("laplace", "second-order").read(own["accuracy"], what, reader),
        "reml": FLAG.read(own["reml"], what, reader),
    }


def _family_of(item: Any, design: Design, names: Mapping[str, Any], reader: Reader) -> Family:
    own = fields(item, ("name", "link", "custom"))
    name, link = text(own["name"], "the family"), text(own["link"], "the link")
    if FLAG.read(own["custom"], "the family", reader):
        given = names.get(name)
        if not isinstance(given, CustomFamily):
            raise DataError(
                f"the family {name[:40]!r} is one of the user's own, which a file does not hold: "
                f'give it as load(path, names={{"{name[:40]}": {name[:40]}()}})'
            )
        found: Family = given.with_link(None)
        if found.link.name != link:
            raise DataError(f"the family {name[:40]!r} was fitted with the link {link[:40]!r}")
        return found
    if name not in {kind.name for kind in FAMILIES.values()}:
        raise Damage(f"there is no family {name[:40]!r}")
    found = find_family(name, link)
    if design.outcome is not None and design.outcome.classes:
        found = found.with_levels(design.outcome.levels)  # type: ignore[attr-defined]
    return found


def check_generalized(
    estimates: GeneralizedEstimates, design: Design, facts: Mapping[str, Any]
) -> None:
    """The numbers are those of a generalized model of this design and family."""
    check(estimates, design)
    family: Family = facts["family"]
    if design.outcome is None or design.outcome.kind != family.response:
        raise Damage("the response is not what the family has")
    if len(estimates.extra) != family.nextra:
        raise Damage(f"the family has {family.nextra} parameters, not {len(estimates.extra)}")
