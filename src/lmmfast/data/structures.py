"""Covariance structures that a term of a formula may ask for: what they are, and their parameters.

Sigma is the covariance of a term's columns within a level, over the residual variance. phi are the
parameters of the compiled core, chosen so that boundaries are points like others; natural ones are
what users read: standard deviations, correlations, ranges, loadings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import FormulaError
from ..freeze import Frozen
from . import covariances
from .correlations import Correlation, Kernel, Serial, Toeplitz
from .covariances import Covariance, Deviations

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


class Own(Protocol):
    """A covariance that a user wrote."""

    names: tuple[str, ...]
    p: int
    nonnegative: int


@dataclass(frozen=True)
class Definition:
    """One kind of structure."""

    name: str
    sigma: str  # what it is
    parameters: str  # natural ones
    source: str
    covariance: Callable[[Structure], Covariance]
    by_place: bool = False  # correlations follow from the places of columns in a row


@dataclass(frozen=True)
class Natural(Frozen, arrays=("values", "jacobian")):
    """Natural parameters of a structure.

    Attributes
    ----------
    names : tuple of str
    kinds : tuple of str
        "sd" and "loading" are relative to the residual standard deviation; "correlation", "range"
        (in units of the coordinates) and "own" are not.
    values : (nphi,) array
        NaN: a correlation of columns one of which has no variance.
    jacobian : (nphi, nphi) array
        Derivatives of every value (row) in every phi (column).
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: np.ndarray
    jacobian: np.ndarray


@dataclass(frozen=True, eq=False)
class Structure(Frozen, arrays=("coordinates",)):
    """The covariance structure of a random term.

    Parameters
    ----------
    kind : str
        One of `STRUCTURES`, or "custom".
    columns : tuple of str
        Names of the term's columns.
    coordinates : (p, dimension) array, optional
        Where columns are, for "exp", "gau", "mat32" and "mat52".
    rank : int
        Columns of the root, for "rr".
    own : CustomCovariance, optional
        For "custom".

    Raises
    ------
    FormulaError
        There is no such structure of so many columns, or its coordinates are missing or all equal.

    Examples
    --------
    >>> ar1 = Structure("ar1", ("day 1", "day 2", "day 3"))
    >>> ar1.names
    ('sd', 'rho')
    >>> phi = ar1.phi([2.0, 0.5])
    >>> ar1.natural(phi).values.round(6).tolist()
    [2.0, 0.5]
    """

    kind: str
    columns: tuple[str, ...]
    coordinates: np.ndarray | None = None
    rank: int = 0
    own: Own | None = None

    def __post_init__(self) -> None:
        if self.kind not in STRUCTURES and self.kind != "custom":
            raise FormulaError(
                f"there is no covariance structure {self.kind!r}: there are {', '.join(STRUCTURES)}"
            )
        if not self.columns:
            raise FormulaError(f"a {self.kind} structure needs columns")
        if self.kind in KERNELS:
            self._check_coordinates()
        if self.kind == "rr" and not 1 <= self.rank <= self.p:
            raise FormulaError(
                f"the rank of rr must be from 1 to {self.p}, the number of columns, not {self.rank}"
            )
        if self.kind == "custom" and (self.own is None or self.own.p != self.p):
            size = "none" if self.own is None else f"one of {self.own.p} columns"
            raise FormulaError(f"{self.p} columns need a covariance of that size, not {size}")
        super().__post_init__()

    def _check_coordinates(self) -> None:
        given = self.coordinates
        if given is None:
            raise FormulaError(f"{self.kind} needs coordinates of its columns")
        places = np.array(given, float, ndmin=1)
        places = places.reshape(len(places), -1)
        if len(places) != self.p or not places.shape[1] or not np.isfinite(places).all():
            raise FormulaError(
                f"{self.kind} needs finite coordinates of {self.p} columns, not of shape "
                f"{places.shape}"
            )
        if self.p > 1 and not np.ptp(places, axis=0).any():
            raise FormulaError(f"all coordinates of {self.kind} are equal: there are no distances")
        object.__setattr__(self, "coordinates", places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        places = None if self.coordinates is None else self.coordinates.tobytes()
        return self.kind, self.columns, places, self.rank, self.own

    @property
    def p(self) -> int:
        """How many columns."""
        return len(self.columns)

    @property
    def nphi(self) -> int:
        """How many parameters."""
        return self._covariance.nphi

    @property
    def nbound(self) -> int:
        """The first of phi, which are 0 or more: standard deviations of their own."""
        return self._covariance.nbound

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the natural parameters (nphi)."""
        return self._covariance.names(self.columns)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of every natural parameter: "sd", "correlation", "range", "loading" or "own"."""
        return self._covariance.kinds

    @cached_property
    def _covariance(self) -> Covariance:
        if self.own is not None:
            return _Given(self.own)
        return STRUCTURES[self.kind].covariance(self)

    def natural(self, phi: Any) -> Natural:
        """Natural parameters at phi (nphi,), with their derivatives in phi.

        See `structures` for what they are.
        """
        values, jacobian = self._covariance.natural(self._checked(phi, "phi"))
        return Natural(self.names, self.kinds, values, jacobian)

    def phi(self, natural: Any) -> np.ndarray:
        """The core's parameters (nphi,) of natural ones, in the order of `names`.

        Raises
        ------
        ValueError
            There is no such covariance. Correlations that have no value, see `flat`, may be NaN.
        """
        return self._covariance.core(self._checked(natural, "the natural parameters", nan=True))

    def flat(self, phi: Any, tolerance: float = 0.0) -> np.ndarray:
        """Which natural parameters have no value at phi (nphi,) bool, as correlations of columns
        without variance: standard deviations not above the tolerance count as zero."""
        return self._covariance.flat(self._checked(phi, "phi"), tolerance)

    def with_columns(self, kept: Sequence[int]) -> Structure:
        """The structure of some of its columns, by position and in their order.

        Raises
        ------
        FormulaError
            What is left is not of this kind: columns of "ar1" or "toep" that are not in even steps,
            or columns of a custom covariance.
        """
        kept = list(kept)
        if kept == list(range(self.p)):
            return self
        steps = np.unique(np.diff(kept))
        by_place = self.kind in STRUCTURES and STRUCTURES[self.kind].by_place
        if self.kind == "custom" or (by_place and (len(steps) > 1 or (steps <= 0).any())):
            left = [name for i, name in enumerate(self.columns) if i not in kept]
            raise FormulaError(
                f"{self.kind} cannot do without column{'s' * (len(left) > 1)} {', '.join(left)}: "
                "the covariance of the others would be of another kind",
                variable=left[0] if left else None,
            )
        return replace(
            self,
            columns=tuple(self.columns[i] for i in kept),
            coordinates=None if self.coordinates is None else self.coordinates[kept],
            rank=min(self.rank, len(kept)),
        )

    def _checked(self, values: Any, what: str, nan: bool = False) -> np.ndarray:
        found = np.array(values, dtype=float)
        if found.shape != (self.nphi,):
            raise ValueError(f"{what} of {self.kind} must be {self.nphi} values, not {found.shape}")
        if not (np.isfinite(found) | (nan & np.isnan(found))).all():
            raise ValueError(f"{what} of {self.kind} must be finite")
        return found


@dataclass(frozen=True)
class _Given(Covariance):
    """A user's own: its parameters are what they are."""

    own: Own

    @property
    def nphi(self) -> int:  # type: ignore[override]
        return len(self.own.names)

    @property
    def nbound(self) -> int:  # type: ignore[override]
        return self.own.nonnegative

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        return self.own.names

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("own",) * self.nphi

    def natural(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return phi, np.eye(self.nphi)

    def core(self, values: np.ndarray) -> np.ndarray:
        return values

    def flat(self, phi: np.ndarray, tolerance: float) -> np.ndarray:
        return np.zeros(self.nphi, bool)


# ---- what there is -------------------------------------------------------------------------------


def _kernel(name: str, sigma: str, source: str) -> Definition:
    def covariance(s: Structure) -> Covariance:
        if s.p == 1:
            return Deviations(1, True, Correlation())
        places = s.coordinates
        assert places is not None
        unit = max(float(np.linalg.norm(places - place, axis=1).max()) for place in places)
        return Deviations(s.p, True, Kernel(unit), "range")

    return Definition(name, sigma, "sd, range", source, covariance)


def _serial(p: int, own: bool) -> Correlation:
    return Serial(p, own) if p > 1 else Correlation()


def _toeplitz(p: int) -> Correlation:
    return Toeplitz(p) if p > 1 else Correlation()


_JENNRICH = "Jennrich and Schluchter 1986, doi:10.2307/2530695"
_PACF = (
    "partial autocorrelations, Barndorff-Nielsen and Schou 1973, doi:10.1016/0047-259X(73)90030-4"
)
_ANTE = "Gabriel 1962, doi:10.1214/aoms/1177704724"
_MATERN = "Rasmussen and Williams 2006, eq. 4.17"

_ALL = (
    Definition(
        "us",
        "unstructured",
        "sd of each column, correlation of each pair",
        "its Cholesky factor: Pinheiro and Bates 1996, doi:10.1007/BF00140873",
        lambda s: covariances.Unstructured(s.p),
    ),
    Definition(
        "diag",
        "diagonal",
        "sd of each column",
        _JENNRICH,
        lambda s: Deviations(s.p, False, Correlation()),
    ),
    Definition(
        "homdiag",
        "sd^2 I",
        "sd",
        _JENNRICH,
        lambda s: Deviations(s.p, True, Correlation()),
    ),
    Definition(
        "cs",
        "sd_i sd_j rho",
        "sd of each column, rho from -1/(p-1) to 1",
        _JENNRICH,
        lambda s: Deviations(s.p, False, covariances.compound(s.p)),
    ),
    Definition(
        "homcs",
        "sd^2 rho",
        "sd, rho from -1/(p-1) to 1",
        f"{_JENNRICH}; a^2 (I - J/p) + b^2 J/p",
        lambda s: covariances.homogeneous_compound(s.p),
    ),
    Definition(
        "ar1",
        "sd^2 rho^|i-j|",
        "sd, rho",
        _JENNRICH,
        lambda s: Deviations(s.p, True, _serial(s.p, False)),
        by_place=True,
    ),
    Definition(
        "hetar1",
        "sd_i sd_j rho^|i-j|",
        "sd of each column, rho",
        _JENNRICH,
        lambda s: Deviations(s.p, False, _serial(s.p, False)),
        by_place=True,
    ),
    Definition(
        "toep",
        "sd_i sd_j rho_|i-j|",
        "sd of each column, rho of each lag",
        _PACF,
        lambda s: Deviations(s.p, False, _toeplitz(s.p)),
        by_place=True,
    ),
    Definition(
        "homtoep",
        "sd^2 rho_|i-j|",
        "sd, rho of each lag",
        _PACF,
        lambda s: Deviations(s.p, True, _toeplitz(s.p)),
        by_place=True,
    ),
    Definition(
        "ad",
        "sd_i sd_j rho_i .. rho_(j-1)",
        "sd of each column, rho of neighbours",
        _ANTE,
        lambda s: Deviations(s.p, False, _serial(s.p, True)),
    ),
    Definition(
        "homad",
        "sd^2 rho_i .. rho_(j-1)",
        "sd, rho of neighbours",
        _ANTE,
        lambda s: Deviations(s.p, True, _serial(s.p, True)),
    ),
    _kernel("exp", "sd^2 e^-u, u = distance / range", "Uhlenbeck and Ornstein 1930 on a line"),
    _kernel("gau", "sd^2 e^-u^2", "as in nlme's corGaus and SAS's SP(GAU)"),
    _kernel("mat32", "sd^2 (1 + v) e^-v, v = sqrt(3) u", _MATERN),
    _kernel("mat52", "sd^2 (1 + v + v^2/3) e^-v, v = sqrt(5) u", _MATERN),
    Definition(
        "rr",
        "B B', B (p, rank)",
        "loadings",
        "McGillycuddy and others 2025, doi:10.18637/jss.v112.i01",
        lambda s: covariances.Loadings(s.p, s.rank),
    ),
)

STRUCTURES = {definition.name: definition for definition in _ALL}
KERNELS = ("exp", "gau", "mat32", "mat52")


def structures() -> pd.DataFrame:
    """Covariance structures of random terms: glmmTMB's names.

    Returns
    -------
    DataFrame
        By name: ``sigma`` (the covariance of columns i and j, of a correlation rho; of i = j the
        variance), ``parameters`` (natural ones: standard deviations and loadings are relative to
        the residual standard deviation, ranges in units of the coordinates) and ``source`` (of the
        structure, or of how it is parametrized).

    See Also
    --------
    lmmfast.CustomCovariance : A structure of your own.
    lmmfast.lmer : Takes these in formulas.

    Examples
    --------
    >>> import lmmfast
    >>> lmmfast.structures().loc["ar1", "parameters"]
    'sd, rho'
    """
    import pandas as pd

    fields = ("sigma", "parameters", "source")
    rows = [[getattr(one, name) for name in fields] for one in _ALL]
    return pd.DataFrame(rows, index=pd.Index(STRUCTURES, name="structure"), columns=list(fields))
