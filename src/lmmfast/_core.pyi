"""Types of the compiled engine (src/_ext/_core.pyx)."""

from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypedDict, overload

import numpy as np
from numpy.typing import ArrayLike

from .engine.costs import StorageReport

class NotPositiveDefinite(ArithmeticError): ...
class NotFinite(NotPositiveDefinite): ...
class Exact(NotPositiveDefinite): ...
class NoVariance(ArithmeticError): ...
class Dependent(ArithmeticError): ...
class TooLarge(MemoryError): ...
class Unsolved(NotPositiveDefinite): ...
class Unavailable(NotImplementedError): ...

# columns: a matrix or a list; models take a fifth, Precision or None
Factor = tuple[np.ndarray, int, Any, np.ndarray]
Order = Callable[[np.ndarray, np.ndarray], np.ndarray | None]

class Members:
    levels: int
    n: int
    ptr: np.ndarray
    level: np.ndarray
    weight: np.ndarray
    def __init__(
        self, ptr: np.ndarray, level: np.ndarray, weight: np.ndarray, levels: int
    ) -> None: ...

class Precision:
    levels: int
    ptr: np.ndarray
    row: np.ndarray
    x: np.ndarray
    root: tuple[np.ndarray, ...] | None
    def __init__(
        self,
        ptr: np.ndarray,
        row: np.ndarray,
        x: np.ndarray,
        root: tuple[np.ndarray, ...] | None = None,
    ) -> None: ...

class Related:
    precision: Precision
    def __init__(self, precision: Precision) -> None: ...
    def times(self, X: ArrayLike) -> np.ndarray: ...
    def draws(self, X: ArrayLike) -> np.ndarray: ...
    def diagonal(self) -> np.ndarray: ...

def order_of_pedigree(sire: np.ndarray, dam: np.ndarray) -> tuple[np.ndarray, int]: ...
def inbreeding(sire: np.ndarray, dam: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

class OneThread(AbstractContextManager[None]):
    def __init__(self, control: object) -> None: ...
    def __exit__(self, *error: object) -> None: ...

class Coordinates:
    def __init__(
        self,
        factors: list[tuple[np.ndarray, np.ndarray]],
        fixed: tuple[np.ndarray, np.ndarray],
        slope: np.ndarray,
        center: float,
        yscale: float,
        centred: bool,
    ) -> None: ...

class Blocks:
    widths: list[int]
    border: int
    spoiled: bool
    def __init__(self, widths: list[int], border: int) -> None: ...
    @property
    def nlev(self) -> list[int]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def corner(self) -> np.ndarray: ...
    def add(
        self,
        coordinates: Coordinates,
        y: np.ndarray,
        X: ArrayLike | list[np.ndarray],
        factors: list[Factor],
        weights: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, tuple[float, float], float, float, float]: ...
    def merge(
        self, other: Blocks, maps: list[np.ndarray], nlev: list[int], sign: float = 1.0
    ) -> None: ...
    def compact(self) -> None: ...
    def check(self) -> None: ...
    def diagonal(self, k: int) -> np.ndarray: ...
    def edge(self, k: int) -> np.ndarray: ...
    def pairs(self, a: int, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    @staticmethod
    def of_arrays(
        widths: list[int],
        border: int,
        nlev: list[int],
        diagonals: list[np.ndarray],
        edges: list[np.ndarray],
        corner: np.ndarray,
        pairs: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]],
    ) -> Blocks: ...

class Cross:
    p: int
    sizes: list[tuple[int, int]]
    def __init__(
        self,
        blocks: Blocks,
        n: int,
        sumlogw: float,
        terms: list[np.ndarray],
        C: list[np.ndarray],
        CX: np.ndarray,
        beta0: np.ndarray,
        yscale: float,
    ) -> None: ...

def plan(
    y: np.ndarray | Cross,
    X: np.ndarray | None = None,
    factors: list[Factor] | None = None,
    weights: np.ndarray | None = None,
    limit: float = ...,
    *,
    storage: str = "auto",
    order: Order | None = None,
    generalized: bool = False,
) -> StorageReport: ...

class Model:
    ntheta: int
    keep: np.ndarray
    report: StorageReport
    def __init__(
        self,
        y: np.ndarray | Cross,
        X: np.ndarray | None = None,
        factors: list[Factor] | None = None,
        weights: np.ndarray | None = None,
        limit: float = ...,
        *,
        storage: str = "auto",
        order: Order | None = None,
    ) -> None: ...
    def renew_lock(self) -> None: ...
    def use_threads(self, threads: int) -> None: ...
    def response(
        self,
        y: np.ndarray,
        X: np.ndarray,
        factors: list[Factor],
        weights: np.ndarray | None = None,
    ) -> None: ...
    def arrange(self, place: np.ndarray) -> None: ...
    def evaluate(
        self,
        theta: np.ndarray,
        reml: bool = True,
        whitened: bool = False,
        value: bool = True,
    ) -> float: ...
    def derivatives(self, hessian: bool = False) -> tuple[np.ndarray, np.ndarray]: ...
    def fit(
        self,
        start: np.ndarray | None = None,
        *,
        reml: bool = True,
        maxeval: int = 500,
        tolerance: float = ...,
        radius: float = 1.0,
        callback: Callable[[int, float, float, float, float], bool] | None = None,
        plane: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, float, float, tuple[float, float], int, str]: ...
    def montecarlo(self) -> tuple[float, np.ndarray]: ...
    def estimates(self) -> tuple[np.ndarray, np.ndarray, float, list[np.ndarray]]: ...
    def condvar(self) -> list[np.ndarray]: ...
    def value(self) -> float: ...
    def deviation(self) -> float: ...
    def whitening(self) -> list[np.ndarray]: ...
    def projection(self) -> tuple[list[np.ndarray], list[np.ndarray]]: ...
    def squares(self, j: int = -1) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]: ...
    def contrasts(self, L: np.ndarray) -> np.ndarray: ...
    def basis(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]: ...
    def solve(self, V: list[np.ndarray]) -> list[np.ndarray]: ...
    def hessian(self) -> tuple[np.ndarray, np.ndarray]: ...
    def pairs(self, a: int, c: int) -> tuple[np.ndarray, np.ndarray]: ...
    def covariances(
        self, a: int, c: int, la: np.ndarray, lc: np.ndarray, whitened: bool = False
    ) -> np.ndarray: ...

class ResidualModel(Model):
    ndelta: int
    def structure(
        self,
        source: tuple[object, ...],
        stratum: np.ndarray | None = None,
        columns: np.ndarray | None = None,
        kind: str = "",
        count: int = 0,
        subject: np.ndarray | None = None,
        time: np.ndarray | None = None,
        limit: float = ...,
    ) -> None: ...
    def place(self, delta: np.ndarray) -> None: ...
    def slopes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def fit_all(
        self,
        delta: np.ndarray,
        start: np.ndarray | None = None,
        *,
        held: np.ndarray | None = None,
        reml: bool = True,
        maxeval: int = 500,
        tolerance: float = ...,
        radius: float = 1.0,
        callback: Callable[[int, float, float, float, float], bool] | None = None,
        plane: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[tuple[np.ndarray, float, float, tuple[float, float], int, str], np.ndarray]: ...

class _Rowwise(Protocol):
    """A family in Python."""

    @property
    def nextra(self) -> int: ...
    @property
    def rows(self) -> Callable[..., dict[str, np.ndarray]]: ...

def describe_family(family: str, link: str, classes: int = 0) -> tuple[int, bool]: ...
def density(
    family: str | _Rowwise,
    link: str,
    y: np.ndarray,
    w: np.ndarray | None,
    eta: np.ndarray,
    x: np.ndarray | None = None,
    classes: int = 0,
    only: Container[str] | None = None,
) -> dict[str, np.ndarray]: ...
def density_constant(
    family: str, link: str, y: np.ndarray, w: np.ndarray | None = None, classes: int = 0
) -> float: ...

class _Structure:
    name: str
    p: int
    nphi: int
    nbound: int
    kinds: tuple[str, ...]
    rows: tuple[int | None, ...]
    def root(self, phi: ArrayLike) -> np.ndarray: ...
    def sigma(self, phi: ArrayLike) -> np.ndarray: ...
    def derivatives(self, phi: ArrayLike) -> np.ndarray: ...
    def bend(self, phi: ArrayLike, S: ArrayLike) -> np.ndarray: ...
    def nearest(self, Sigma: ArrayLike) -> np.ndarray: ...
    def trials(
        self, phi: ArrayLike, S: ArrayLike, unit: ArrayLike | None = None
    ) -> list[np.ndarray]: ...

class Structure(_Structure):
    def __init__(
        self, name: str, p: int, coordinates: ArrayLike | None = None, rank: int = 0
    ) -> None: ...

# Sigma, and what makes its first and second derivatives
_Jets = tuple[np.ndarray, Callable[[], np.ndarray], Callable[[], np.ndarray]]

class OwnStructure(_Structure):
    def __init__(
        self,
        p: int,
        nphi: int,
        function: Callable[[np.ndarray], _Jets],
        nbound: int = 0,
        kinds: Sequence[str] | None = None,
        rows: Sequence[int | None] | None = None,
        start: ArrayLike | None = None,
    ) -> None: ...

class GeneralizedReport(TypedDict):
    objective: float
    certificate: float
    mode: float
    neval: int
    factorizations: int
    passes: int
    escapes: int
    status: str
    z: np.ndarray | None

class Generalized(Model):
    nextra: int
    size: int
    rows: int
    outside: float
    def __init__(
        self,
        y: np.ndarray,
        X: ArrayLike | list[np.ndarray] | None = None,
        factors: list[Factor] | None = None,
        weights: np.ndarray | None = None,
        limit: float = ...,
        *,
        storage: str = "auto",
        order: Order | None = None,
        family: str | _Rowwise = "binomial",
        link: str = "logit",
        classes: int = 0,
        offset: np.ndarray | None = None,
        nagq: int = 1,
        prior: tuple[np.ndarray, np.ndarray] | None = None,
        information: str = "observed",
        flat: int = -1,
        merge: bool = True,
        elsewhere: Callable[[int], np.ndarray] | None = None,
    ) -> None: ...
    def again(self, y: np.ndarray, weights: np.ndarray | None = None) -> None: ...
    def minimize(
        self,
        start: np.ndarray | None = None,
        *,
        held: np.ndarray | None = None,
        maxeval: int = 500,
        tolerance: float = 1e-10,
        radius: float = 1.0,
        callback: Callable[[int, float, float, float, float], bool] | None = None,
    ) -> tuple[np.ndarray, GeneralizedReport]: ...
    @overload  # type: ignore[override]
    def value(self, psi: np.ndarray, gradient: Literal[False] = False) -> float: ...
    @overload
    def value(self, psi: np.ndarray, gradient: Literal[True]) -> tuple[float, np.ndarray]: ...
    @overload
    def value(self, psi: np.ndarray, gradient: bool) -> float | tuple[float, np.ndarray]: ...
    def work(self) -> tuple[int, int]: ...
    def obstacle(self) -> str: ...
    def modes(self) -> list[np.ndarray]: ...
    def predictor(self) -> np.ndarray: ...
    def leverages(self) -> np.ndarray: ...

class Repeated:
    p: int
    visits: int
    groups: int
    nphi: int
    structure: _Structure
    patterns: list[tuple[int, np.ndarray]]
    local: list[_Structure] | None
    bounded: np.ndarray
    deviations: np.ndarray
    def __init__(
        self,
        p: int,
        structure: _Structure | list[_Structure],
        groups: int,
        patterns: list[tuple[int, np.ndarray]],
        shift: ArrayLike | None = None,
    ) -> None: ...
    def add(self, pattern: int, z: np.ndarray) -> None: ...
    def add_sums(self, pattern: int, count: int, total: np.ndarray) -> None: ...
    def scale(self, by: float) -> None: ...
    def forget(self) -> None: ...
    def evaluate(self, phi: np.ndarray, reml: bool = True) -> float: ...
    def derivatives(self) -> tuple[np.ndarray, np.ndarray]: ...
    def estimates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def slopes(self) -> np.ndarray: ...
    def weighted(self, V: np.ndarray) -> np.ndarray: ...
    def forms(self, F: np.ndarray) -> np.ndarray: ...
    def fit(
        self,
        start: np.ndarray | None = None,
        *,
        reml: bool = True,
        maxeval: int = 500,
        tolerance: float = 1e-10,
        radius: float = 1.0,
        callback: Callable[[int, float, float, float, float], bool] | None = None,
    ) -> tuple[np.ndarray, float, float, int, str]: ...
    def renew_lock(self) -> None: ...
