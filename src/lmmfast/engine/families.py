"""The families of generalized models, found by name: ours, R's, statsmodels'."""

from __future__ import annotations

import re
from typing import Any

from .continuous import Gamma, Gaussian, InverseGaussian
from .discrete import Binomial, NegativeBinomial, Poisson
from .family import Family
from .links import LINKS, Link, link_named, plain
from .ordered import Ordered
from .shaped import Beta, BetaBinomial, NegativeBinomial1
from .truncated import TruncatedNegativeBinomial, TruncatedPoisson

__all__ = ["FAMILIES", "Beta", "BetaBinomial", "Binomial", "Family", "Gamma", "Gaussian"]
__all__ += ["InverseGaussian", "NegativeBinomial", "NegativeBinomial1", "Ordered", "Poisson"]
__all__ += ["TruncatedNegativeBinomial", "TruncatedPoisson", "find_family"]

FAMILIES: dict[str, type[Family]] = {
    plain(kind.name): kind
    for kind in (
        Binomial,
        Poisson,
        NegativeBinomial,
        Gamma,
        InverseGaussian,
        Gaussian,
        Ordered,
        Beta,
        BetaBinomial,
        NegativeBinomial1,
        TruncatedPoisson,
        TruncatedNegativeBinomial,
    )
}

# Other names, of R's, glmmTMB's, statsmodels' and others; lower case, letters and digits alone.
SPELLINGS = {
    "bernoulli": "binomial",
    "logistic": "binomial",
    "nbinom": "negativebinomial",
    "nbinom2": "negativebinomial",
    "nb": "negativebinomial",
    "nb2": "negativebinomial",
    "negbin": "negativebinomial",
    "negbinomial": "negativebinomial",
    "nbinom1": "nb1",
    "negativebinomial1": "nb1",
    "betabinom": "betabinomial",
    "betafamily": "beta",
    "truncatednbinom2": "truncatednegativebinomial",
    "truncatednbinom": "truncatednegativebinomial",
    "truncatednb": "truncatednegativebinomial",
    "truncatednb2": "truncatednegativebinomial",
    "ztpoisson": "truncatedpoisson",
    "normal": "gaussian",
    "invgauss": "inversegaussian",
    "inversenormal": "inversegaussian",
    "wald": "inversegaussian",
    "ordinal": "ordered",
    "cumulative": "ordered",
    "clmm": "ordered",
}

# What there is in place of families that there are not; by the beginning of the name.
INSTEAD = {
    "quasibinomial": '"betabinomial", or a random effect of every row, (1 | obs), has '
    "more variance",
    "quasipoisson": '"negativebinomial", "nb1", or a random effect of every row, (1 | obs), has '
    "more variance",
    "quasi": "a quasi-likelihood is no likelihood; dispersions are parameters of families here",
    "z": "zero inflation is not there; a hurdle is two fits: (y > 0) ~ ... with "
    '"binomial", and the rows above zero with "truncatedpoisson" or "truncatednegativebinomial"',
    "hurdle": 'a hurdle is two fits: (y > 0) ~ ... with "binomial", and the rows above zero with '
    '"truncatedpoisson" or "truncatednegativebinomial"',
    "multinomial": 'classes in an order are for "ordered"; others are fitted pair by pair with '
    '"binomial"',
    "categorical": 'classes in an order are for "ordered"; others are fitted pair by pair with '
    '"binomial"',
    "tweedie": 'positive numbers are for "gamma", with zeros in a fit of their own, (y > 0) ~ ...',
    "exponential": '"gamma" has a dispersion as well, which is 1 of an exponential distribution',
    "lognormal": "log(y) ~ ... with lmer is this model",
    "student": "a family of your own can have it: lmmfast.CustomFamily",
}

CALL = re.compile(r"\s*([\w .]+?)\s*\(\s*(?:link\s*=\s*)?['\"]?([^'\"()]*?)['\"]?\s*\)\s*$")


def find_family(family: Any, link: Any = None) -> Family:
    """The family that is meant, with its link.

    Parameters
    ----------
    family : str, Family, or a family of statsmodels (object or class)
        A name in any spelling ("binomial", "nbinom2", "negative_binomial", "Gamma"), also as R
        writes it, "binomial(probit)". Of statsmodels' objects family and link are taken; a fixed
        ``alpha`` of its negative binomial is not, the size is estimated.
    link : str, optional
        Instead of the family's own link.

    Returns
    -------
    Family

    Raises
    ------
    ValueError
        There is no such family or link; the message lists those that there are.
    TypeError
        It is no name and no family.
    """
    if isinstance(family, type) and issubclass(family, Family):
        family = family()
    if isinstance(family, Family):
        return family.with_link(link)
    if isinstance(family, str):
        return _by_name(family, link)
    kind = family if isinstance(family, type) else type(family)
    if _key(kind.__name__) not in FAMILIES:
        raise TypeError(
            f"family must be a name ({', '.join(FAMILIES)}), a family of lmmfast or one of "
            f"statsmodels, not {_shown(family)}"
        )
    own = None if isinstance(family, type) else getattr(family, "link", None)
    if link is None and own is not None:
        link = _foreign_link(own)
    return _by_name(kind.__name__, link)


def _shown(family: Any) -> str:
    """What was given as a family, in few words: it may be a table in the wrong place."""
    if hasattr(family, "columns"):
        return f"a {type(family).__name__}: write glmer(formula, data, family)"
    return repr(family)


def _key(name: str) -> str:
    key = plain(name)
    return SPELLINGS.get(key, key)


def _by_name(name: str, link: Any) -> Family:
    call = CALL.match(name)
    if call:
        name, written = call.groups()
        link = link or written or None
    key = _key(name)
    if key not in FAMILIES:
        other = next((own for start, own in INSTEAD.items() if key.startswith(start)), None)
        instead = f": {other}" if other else ""
        raise ValueError(f"there is no family {name!r}{instead}; there are {', '.join(FAMILIES)}")
    return FAMILIES[key](
        link if link is None or isinstance(link, (str, Link)) else _foreign_link(link)
    )


def _foreign_link(link: Any) -> Link:
    """statsmodels' link objects (or classes): by their class, powers by their exponent."""
    kind = link if isinstance(link, type) else type(link)
    power = {1: "identity", -1: "inverse", -2: "inversesquared", 0.5: "sqrt", 0: "log"}
    if plain(kind.__name__) == "power" and getattr(link, "power", None) in power:
        return LINKS[power[link.power]]
    return link_named(kind.__name__)
