"""Covariances that users write: Sigma(phi) in NumPy, and what of its derivatives they know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import FitError
from .stencils import differences

STEP = 0.05  # the longest, of parameters of size one
AGREE = 1e-5  # derivatives that users give, with differences
NEGATIVE = 1e-8  # an eigenvalue, of the largest: not rounding

Function = Callable[[np.ndarray], Any]
Jets = tuple[np.ndarray, Callable[[], np.ndarray], Callable[[], np.ndarray]]


class CustomCovariance:
    """A covariance structure of your own.

    Parameters
    ----------
    columns : int or sequence of str
        The columns of the term, or how many there are: p.
    function : callable
        Of phi (nphi,): Sigma (p, p), the covariance of the columns within a level over the residual
        variance. Symmetric, positive semidefinite and smooth at every phi; parameters that must not
        be negative are best squared or exponentials, or are named by `nonnegative`.
    start : (nphi,) array_like
        phi where fits begin.
    names : sequence of str, optional
        Of the parameters; default "phi 1", "phi 2", ...
    derivatives : callable, optional
        Of phi: dSigma / dphi_i, (nphi, p, p). Default: by differences of 13 points of Sigma.
    second_derivatives : callable, optional
        Of phi: d2Sigma / dphi_i dphi_j, (nphi, nphi, p, p). Default: by differences of the
        derivatives, or of Sigma.
    nonnegative : int, default 0
        So many of the first parameters are kept at 0 or above; the function has to be smooth a
        little below, too. Default 0.

    Raises
    ------
    FitError
        At the start Sigma is no covariance, or a derivative is not that of the function.

    Examples
    --------
    >>> import numpy as np
    >>> import lmmfast
    >>> def moving_average(phi):
    ...     sd, x = phi
    ...     R = np.eye(3) + np.tanh(x) / 2 * (np.eye(3, k=1) + np.eye(3, k=-1))
    ...     return sd**2 * R
    >>> own = lmmfast.CustomCovariance(3, moving_average, [1.0, 0.0], names=["sd", "x"])
    >>> own.sigma([2.0, 0.0])[0].tolist()
    [4.0, 0.0, 0.0]
    """

    def __init__(
        self,
        columns: int | Sequence[str],
        function: Function,
        start: ArrayLike,
        names: Sequence[str] | None = None,
        *,
        derivatives: Function | None = None,
        second_derivatives: Function | None = None,
        nonnegative: int = 0,
    ) -> None:
        self.columns = None if isinstance(columns, (int, np.integer)) else tuple(columns)
        self.p = int(columns) if isinstance(columns, (int, np.integer)) else len(columns)
        self.function = function
        self.start = np.array(start, dtype=float).reshape(-1)
        self._derivatives, self._second = derivatives, second_derivatives
        n = len(self.start)
        self.names = tuple(f"phi {i + 1}" for i in range(n)) if names is None else tuple(names)
        self.nonnegative = int(nonnegative)
        if self.p < 1 or n < 1 or not np.isfinite(self.start).all():
            raise FitError("a covariance of your own needs columns, and a finite start")
        if len(self.names) != n or len(set(self.names)) != n:
            raise FitError(f"names of a covariance must be {n} different ones, one for each phi")
        if not 0 <= self.nonnegative <= n or (self.start[: self.nonnegative] < 0).any():
            raise FitError(
                f"nonnegative must be from 0 to {n}, and those parameters 0 or more at the start"
            )
        self.start.setflags(write=False)
        self._check()

    def __eq__(self, other: object) -> bool:
        """The same functions, parameters and start: of a copy, too."""
        return isinstance(other, CustomCovariance) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        functions = (self.function, self._derivatives, self._second)
        start = tuple(self.start.tolist())
        return (*functions, self.p, self.columns, self.names, start, self.nonnegative)

    @property
    def nphi(self) -> int:
        """How many parameters."""
        return len(self.start)

    def sigma(self, phi: ArrayLike) -> np.ndarray:
        """Sigma (p, p) at phi (nphi,), checked for its shape."""
        found = np.array(self.function(np.array(phi, dtype=float)), dtype=float)
        if found.shape != (self.p, self.p):
            raise FitError(
                f"function of a covariance must give Sigma {(self.p, self.p)}, not {found.shape}"
            )
        return found

    def derivatives(self, phi: ArrayLike) -> np.ndarray:
        """dSigma / dphi_i (nphi, p, p): the user's, or by differences."""
        if self._derivatives is None:
            return self._first_by_differences(np.array(phi, dtype=float))
        return self._given("derivatives", phi, 1)

    def second_derivatives(self, phi: ArrayLike) -> np.ndarray:
        """d2Sigma / dphi_i dphi_j (nphi, nphi, p, p): the user's, or by differences."""
        if self._second is None:
            return self._second_by_differences(np.array(phi, dtype=float))
        return self._given("second_derivatives", phi, 2)

    def jets(self, phi: np.ndarray) -> Jets:
        """Sigma, and functions that give its derivatives of order one and two: for the core."""
        return (
            self.sigma(phi),
            lambda: self.derivatives(phi),
            lambda: self.second_derivatives(phi),
        )

    def _given(self, name: str, phi: Any, order: int) -> np.ndarray:
        function = self._derivatives if order == 1 else self._second
        assert function is not None
        found = np.array(function(np.array(phi, dtype=float)), dtype=float)
        shape = (self.nphi,) * order + (self.p, self.p)
        if found.shape != shape:
            raise FitError(f"{name} of a covariance must have shape {shape}, not {found.shape}")
        return found

    # ---- differences -----------------------------------------------------------------------------

    def _along(
        self, phi: np.ndarray, directions: np.ndarray, order: int, of: Function, size: int
    ) -> np.ndarray:
        """Derivatives along directions (m, nphi) of what has `size` values: (m, size)."""

        def values(rows: np.ndarray, shifts: np.ndarray) -> np.ndarray:
            found = np.empty((size, *shifts.shape))
            for k, row in enumerate(rows):
                for i, shift in enumerate(shifts[:, k]):
                    found[:, i, k] = np.ravel(of(phi + shift * directions[row]))
            return found

        steps = STEP * np.maximum(1.0, np.abs(directions) @ np.abs(phi))
        (found,) = differences(values, [order], steps)
        if not np.isfinite(found).all():
            raise FitError(
                f"a covariance of your own has no finite values near phi = {phi.tolist()}: "
                "its derivatives are missing"
            )
        return found.T

    def _first_by_differences(self, phi: np.ndarray) -> np.ndarray:
        found = self._along(phi, np.eye(self.nphi), 1, self.sigma, self.p**2)
        return found.reshape(self.nphi, self.p, self.p)

    def _second_by_differences(self, phi: np.ndarray) -> np.ndarray:
        n, p = self.nphi, self.p
        if self._derivatives is not None:
            first = self._along(phi, np.eye(n), 1, self.derivatives, n * p * p)
            found = first.reshape(n, n, p, p)
            return np.asarray((found + found.swapaxes(0, 1)) / 2)
        pairs = [(i, j) for i in range(n) for j in range(i)]
        sums = [np.eye(n)[i] + np.eye(n)[j] for i, j in pairs]
        second = self._along(phi, np.array([*np.eye(n), *sums]), 2, self.sigma, p * p)
        second = second.reshape(-1, p, p)
        found = np.empty((n, n, p, p))
        found[range(n), range(n)] = own = second[:n]
        for (i, j), both in zip(pairs, second[n:], strict=True):
            found[i, j] = found[j, i] = (both - own[i] - own[j]) / 2
        return found

    # ---- checks ----------------------------------------------------------------------------------

    def _check(self) -> None:
        sigma = self.sigma(self.start)
        at = f"at phi = {self.start.tolist()}"
        if not np.isfinite(sigma).all():
            raise FitError(f"Sigma has values that are not finite {at}")
        if np.abs(sigma - sigma.T).max() > NEGATIVE * np.abs(sigma).max():
            raise FitError(f"Sigma is not symmetric {at}")
        values = np.linalg.eigvalsh(sigma)
        if values[0] < -NEGATIVE * np.abs(values).max():
            raise FitError(f"Sigma is no covariance {at}: an eigenvalue is {values[0]:g}")
        if self._derivatives is not None:
            self._compare("derivatives", self.derivatives, self._first_by_differences)
        if self._second is not None:
            self._compare(
                "second_derivatives", self.second_derivatives, self._second_by_differences
            )

    def _compare(self, name: str, given: Function, differences: Function) -> None:
        """At the start, and beside it: there a wrong one may happen to be right."""
        for shift in (0.0, 0.1):
            phi = self.start + shift * np.maximum(1.0, np.abs(self.start))
            one, two = given(phi), differences(phi)
            error = np.abs(one - two)
            size = np.abs(two).max() + np.abs(self.sigma(phi)).max()
            if error.max() <= AGREE * size:
                continue
            place = np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), error.shape)
            whose = ", ".join(repr(self.names[i]) for i in place[:-2])
            raise FitError(
                f"{name} of the covariance are not those of its function: in {whose}, row "
                f"{place[-2]} and column {place[-1]}, at phi = {phi.tolist()}, they say "
                f"{one[place]:.6g} and differences say {two[place]:.6g}"
            )
