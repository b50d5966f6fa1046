"""Types of the compiled engine (src/_ext/_core.pyx)."""

from collections.abc import Callable

import numpy as np

class NotPositiveDefinite(ArithmeticError): ...
class NoVariance(ArithmeticError): ...
class Dependent(ArithmeticError): ...
class TooLarge(MemoryError): ...

Factor = tuple[np.ndarray, int, np.ndarray, np.ndarray]

class Model:
    ntheta: int
    keep: np.ndarray
    report: dict[str, float]
    def __init__(
        self,
        y: np.ndarray,
        X: np.ndarray,
        factors: list[Factor],
        weights: np.ndarray | None = None,
        limit: float = ...,
    ) -> None: ...
    def response(
        self,
        y: np.ndarray,
        X: np.ndarray,
        factors: list[Factor],
        weights: np.ndarray | None = None,
    ) -> None: ...
    def objective(
        self,
        theta: np.ndarray,
        reml: bool = True,
        gradient: bool = False,
        hessian: bool = False,
        whitened: bool = False,
    ) -> tuple[float, np.ndarray, np.ndarray]: ...
    def fit(
        self,
        start: np.ndarray | None = None,
        *,
        reml: bool = True,
        maxeval: int = 500,
        tolerance: float = ...,
        radius: float = 1.0,
        callback: Callable[[int, float, float, float, float], bool] | None = None,
    ) -> tuple[np.ndarray, float, float, int, str]: ...
    def estimates(
        self, theta: np.ndarray, reml: bool = True, condvar: bool = False
    ) -> tuple[float, np.ndarray, np.ndarray, float, list[np.ndarray], list[np.ndarray]]: ...
    def whitening(self) -> list[np.ndarray]: ...
    def projection(
        self, theta: np.ndarray, reml: bool = True
    ) -> tuple[list[np.ndarray], list[np.ndarray]]: ...
