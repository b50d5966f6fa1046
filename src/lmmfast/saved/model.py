"""The model of a fit without data: no rows to evaluate, but what inference had read of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from ..data.design import Design
from ..engine.compiled import Engine, Place
from ..engine.point import Basis, Parts
from ..engine.psi_parts import PsiMachine
from ..engine.structured import Structured, structured
from ..fit import Fit
from ..freeze import Frozen
from ..inference.estimability import Openness
from ..inference.kenward import KenwardRoger
from ..inference.satterthwaite import Satterthwaite
from ..inference.variances import Moments
from .kept import no_data


@dataclass(frozen=True, eq=False)
class Core:
    """What is asked of a compiled model itself."""

    ntheta: int
    nextra: int
    keep: np.ndarray  # (p,) bool
    report: dict[str, Any]


class KeptEngine(Engine):
    """Where each term's columns and parameters are, without a compiled model."""

    def __init__(self, design: Design, core: Core, kept: list[tuple[int, ...]], C: Parts) -> None:
        self.design, self.core = design, core
        self._kept = kept
        self._factors = self._gather()
        self._places: list[Place] = self._locate()
        self._whitening = list(C)

    def whitening(self) -> list[np.ndarray]:
        """C of each term, over its kept columns."""
        return self._whitening


@dataclass(frozen=True, eq=False)
class Information:
    """What degrees of freedom by Satterthwaite are made of, beside the estimates.

    Attributes
    ----------
    root, unknown : (k, j) and (k, i) arrays
        Of the covariance of the free parameters, as `Satterthwaite` has them.
    residual : tuple of (k (k + 1) / 2,) arrays
        Per term the sum of g g' over levels, g = Z'V^-1 (y - X beta) in whitened columns: its
        lower triangle, row by row.
    products : tuple of (p (p + 1) / 2, k (k + 1) / 2) arrays
        Per term and pair of coefficients a >= c: the sum of h_a h_c' + h_c h_a' over levels, where
        h_a is the a-th column of Z'V^-1 X (X'V^-1 X)^-1 in whitened columns. Of a = c the half.
    slopes : (ndelta, rank + 1, rank + 1) array or None
        As `engine.residual.ResidualPoint.slopes` has them.
    """

    root: np.ndarray
    unknown: np.ndarray
    residual: tuple[np.ndarray, ...]
    products: tuple[np.ndarray, ...]
    slopes: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Adjusted:
    """What tests by Kenward and Roger are made of: `KenwardRoger` has these."""

    W: np.ndarray  # (r, r)
    adjusted: np.ndarray  # (rank, rank)
    basis: np.ndarray  # (p, rank)
    P: np.ndarray  # (r, rank, rank)


@dataclass(frozen=True, eq=False)
class Readings:
    """What was read of a model at the estimates."""

    E: np.ndarray  # (p, r), `Basis.E`
    moved: Parts | None  # (m, k, r) by term, `Basis.moved`
    blocks: Parts | None  # (m, k, k) by term: covariances of a level's whitened effects
    pairs: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]  # levels (n, 2), blocks
    information: Information | None = None
    adjusted: dict[str, Adjusted] = field(default_factory=dict)  # by ddf
    openness: Openness | None = None


def pairs_of(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a lower triangle, row by row."""
    return np.tril_indices(size)


class KeptPoint:
    """A fit's model at the estimates, as far as it was read; as `engine.point.Point`."""

    def __init__(self, model: KeptModel, estimates: Any) -> None:
        self._model, self._own, self._read = model, estimates, model.readings
        self.reml = bool(estimates.reml)

    # ---- what there is ---------------------------------------------------------------------------

    @property
    def is_exact(self) -> bool:
        """Whether covariances were read."""
        return self._read.blocks is not None

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Levels and columns of each term, (m, k)."""
        terms = self._model.design.terms
        return [(len(term.levels), len(term.columns)) for term in terms]

    @property
    def price(self) -> float:
        """Nothing is solved here."""
        return 0.0

    @property
    def value(self) -> float:
        """The criterion."""
        return float(self._own.objective)

    @property
    def beta(self) -> np.ndarray:
        """Fixed effects; zero for dropped columns."""
        return np.asarray(np.nan_to_num(self._own.beta))

    @property
    def vcov(self) -> np.ndarray:
        """Their covariance; zero for dropped columns."""
        return np.asarray(np.nan_to_num(self._own.vcov))

    @property
    def sigma(self) -> float:
        """Residual standard deviation."""
        return float(self._own.sigma)

    @property
    def b(self) -> Parts:
        """Conditional modes."""
        own: Parts = self._own.b
        return own

    @property
    def basis(self) -> Basis:
        """The fixed effects in a basis in which they are independent."""
        if self._read.moved is None:
            return Basis(self._read.E, (), _Missing())
        return Basis(self._read.E, (), self._read.moved)

    @cached_property
    def whitening(self) -> Parts:
        """C of each term, (k, kept)."""
        engine, out = self._model._engine, []
        for i, C in enumerate(engine.whitening()):
            own = np.zeros((len(self._model.design.terms[i].columns), len(C)))
            own[list(engine.kept(i))] = C
            out.append(own)
        return tuple(out)

    @cached_property
    def unwhitening(self) -> Parts:
        """The transpose of the inverse of each C, (k, kept)."""
        out = []
        for i, C in enumerate(self.whitening):
            kept, own = list(self._model._engine.kept(i)), np.zeros_like(C)
            own[kept] = np.linalg.inv(C[kept]).T
            out.append(own)
        return tuple(out)

    @cached_property
    def condvar(self) -> Parts:
        """Covariance of each level's effects given y over sigma^2, (m, k, k) by term."""
        if self._read.blocks is None:
            raise no_data("covariances of random effects given the data would be needed")
        pairs = zip(self._read.blocks, self.whitening, strict=True)
        return tuple(C @ own @ C.T for own, C in pairs)

    def covariances(
        self, i: int, j: int, pairs: Any = None, *, whitened: bool = False
    ) -> np.ndarray:
        """Blocks at pairs of levels of terms i and j, as far as they were kept; else NaN."""
        if not whitened or pairs is None or self._read.blocks is None:
            raise no_data("covariances of random effects given the data would be needed")
        li, lj = (np.asarray(own, np.int64) for own in pairs)
        ki, kj = (self._read.blocks[x].shape[1] for x in (i, j))
        if i == j:
            out = self._read.blocks[i][li].copy()
            out[li != lj] = np.nan
            return out
        if (j, i) in self._read.pairs:
            return self.covariances(j, i, (lj, li), whitened=True).swapaxes(1, 2)
        out = np.full((len(li), ki, kj), np.nan)
        if (i, j) in self._read.pairs:
            levels, blocks = self._read.pairs[i, j]
            width = self.shapes[j][0]
            keys, wanted = levels[:, 0].astype(np.int64) * width + levels[:, 1], li * width + lj
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            there = keys[at] == wanted
            out[there] = blocks[at[there]]
        return out

    def contrasts(self, L: np.ndarray) -> Parts:
        """As `engine.point.Point.contrasts`, from sums by pairs of coefficients."""
        own = self._read.information
        if own is None:
            raise no_data(
                "Satterthwaite degrees of freedom, which were not kept (fit.save(path, "
                'ddf="satterthwaite") does; ddf="residual" or "z" need nothing more)'
            )
        row, column = pairs_of(L.shape[1])
        weights = L[:, row] * L[:, column]
        out = []
        for residual, products in zip(own.residual, own.products, strict=True):
            flat = np.concatenate([residual[None], weights @ products])
            k = round((np.sqrt(8 * flat.shape[1] + 1) - 1) / 2)
            M = np.zeros((len(flat), k, k))
            r, c = pairs_of(k)
            M[:, r, c] = M[:, c, r] = flat
            out.append(M)
        return tuple(out)

    def slopes(self) -> tuple[Any, Any, np.ndarray]:
        """What derivatives in the parameters of a residual structure are made of."""
        own = self._read.information
        if own is None or own.slopes is None:
            raise no_data("derivatives in the parameters of the residual structure would be needed")
        return None, None, own.slopes

    # ---- what needs the model --------------------------------------------------------------------

    def solve(self, V: Any) -> NoReturn:
        """Not available."""
        raise no_data(
            "standard errors of predictions that join levels of several grouping factors need "
            "covariances of all pairs of these, which are too many to be kept"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise no_data(_SAID.get(name, "a reading of the model would be needed"))


@dataclass(frozen=True, eq=False)
class KeptPsi(Frozen, arrays=("psi", "covariance")):
    """All parameters of a generalized model, and the covariance of their estimates."""

    psi: np.ndarray
    covariance: np.ndarray
    curves = True  # or not: what the covariance lacks was not kept

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise no_data("a reading of the model would be needed")


class _Missing(tuple[Any, ...]):
    """Shares of random effects that were not kept."""

    __slots__ = ()

    def __getitem__(self, i: Any) -> NoReturn:
        raise no_data("standard errors of conditional predictions, which were not kept")


_KR = (
    'Kenward-Roger tests, which were not kept: fit.save(path, ddf="kenward-roger") keeps what '
    "they are made of"
)
_SAID = {"traces": _KR, "forms": _KR, "hessian": _KR, "projection": _KR}


class KeptModel(PsiMachine):
    """The model of a fit without data. What would evaluate it raises one clear error.

    Parameters
    ----------
    design : Design
        Without rows.
    core : Core
    kept : list of tuple of int
        Per term the columns that do not depend on others.
    C : tuple of (k, k) arrays
        Per term, the whitening of these columns.
    readings : Readings
    facts : dict
        Attributes that models of this kind have besides: the family of a generalized one.
    """

    fingerprint: str | None = None  # of the responses that were used

    def __init__(
        self,
        design: Design,
        core: Core,
        kept: list[tuple[int, ...]],
        C: Parts,
        readings: Readings,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.design, self._core, self.readings = design, core, readings
        self._storage, self._threads = "auto", 1
        self.facts = facts or {}
        self._engine = KeptEngine(design, core, kept, C)
        self.structured: Structured | None = structured(self._engine)

    def __reduce__(self) -> tuple[Any, ...]:
        own = self._engine._kept, tuple(self._engine.whitening()), self.readings, self.facts
        return type(self), (self.design, self._core, *own), {"fingerprint": self.fingerprint}

    def point(self, *_: Any, **__: Any) -> NoReturn:
        """Not available elsewhere than at the estimates."""
        raise no_data("the criterion at other parameters would be needed")

    def read_before(self, fit: Fit) -> KeptPoint:
        """What was read at the estimates."""
        return KeptPoint(self, fit.estimates)

    def known_before(self, fit: Fit) -> dict[Any, Any]:
        """What inference had computed of the fit."""
        found: dict[Any, Any] = {}
        read = self.readings
        if read.information is not None:
            own = Satterthwaite(fit)
            vars(own)["_information"] = read.information.root, read.information.unknown
            found["satterthwaite"] = own
        for name, parts in read.adjusted.items():
            test = KenwardRoger(fit, name.endswith("observed"))
            none = np.zeros((0, 0))
            moments = Moments(none[0:0], none, parts.P, none, parts.basis)
            own_parts = {"_W": parts.W, "_adjusted": parts.adjusted, "_read": (moments, none)}
            vars(test).update(own_parts)
            found[name] = test
        if read.openness is not None:
            found[Openness] = read.openness
        return found

    # ---- of generalized models -------------------------------------------------------------------

    def with_design(self, design: Any, **_: Any) -> NoReturn:
        """Not available."""
        raise no_data("a fit of another design would be needed")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("facts", "readings", "_engine", "_core", "design"):
            raise AttributeError(name)
        if name in self.facts:
            return self.facts[name]
        raise no_data("the model itself would be needed")
