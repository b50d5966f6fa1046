"""Types of the compiled engine (src/_ext/_core.pyx)."""

from collections.abc import Callable, Container
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

class NotPositiveDefinite(ArithmeticError): ...
class NotFinite(NotPositiveDefinite): ...
class Exact(NotPositiveDefinite): ...
class NoVariance(ArithmeticError): ...
class Dependent(ArithmeticError): ...
class TooLarge(MemoryError): ...
class Unsolved(NotPositiveDefinite): ...
class Unavailable(NotImplementedError): ...

Factor = tuple[np.ndarray, int, Any, np.ndarray]  # columns: a matrix or a list
Order = Callable[[np.ndarray, np.ndarray], np.ndarray | None]

class OneThread(AbstractContextManager[None]):
    def __init__(self, control: Any) -> None: ...
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
        X: Any,
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
) -> dict[str, Any]: ...

class Model:
    ntheta: int
    keep: np.ndarray
    report: dict[str, Any]
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

class Structured(Model):
    ndelta: int
    def structure(
        self,
        source: tuple[Any, ...],
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

def describe_family(family: str, link: str, classes: int = 0) -> tuple[int, bool]: ...
def density(
    family: Any,
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

class Generalized(Model):
    nextra: int
    size: int
    def __init__(
        self,
        y: np.ndarray,
        X: Any = None,
        factors: list[Factor] | None = None,
        weights: np.ndarray | None = None,
        limit: float = ...,
        *,
        storage: str = "auto",
        order: Order | None = None,
        family: Any = "binomial",
        link: str = "logit",
        classes: int = 0,
        offset: np.ndarray | None = None,
        nagq: int = 1,
        prior: tuple[np.ndarray, np.ndarray] | None = None,
        information: str = "observed",
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
    ) -> tuple[np.ndarray, dict[str, Any]]: ...
    def value(self, psi: np.ndarray, gradient: bool = False) -> Any: ...  # type: ignore[override]
    def work(self) -> tuple[int, int]: ...
    def modes(self) -> list[np.ndarray]: ...
    def predictor(self) -> np.ndarray: ...
    def leverages(self) -> np.ndarray: ...
