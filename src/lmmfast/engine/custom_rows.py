"""Rows of a family that a user wrote: its derivatives, or differences; and whether they agree."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ..errors import FitError
from .stencils import differences

MOST = 2048  # rows at a time: differences of differences take 169 times as many
STEP = 0.08  # the longest of differences, where a change of eta or x by one is of ordinary size
NOISE = 1e-12  # of derivatives that are differences themselves
CHECKED = 50  # rows
AGREE = 1e-5  # how well derivatives must agree with differences
IN_ETA = ("l", "d1", "d2", "d3", "d4")
IN_X = ("lx", "d1x", "d2x")
UNITS = ("identity", "sqrt", "inverse", "inversesquared")  # links whose eta has those of y


class CustomRows:
    """Rows of a `CustomFamily` at eta and x; see `Family` for the arguments."""

    def __init__(
        self,
        family: Any,
        y: np.ndarray,
        weights: np.ndarray | None,
        eta: np.ndarray,
        x: np.ndarray | None,
    ) -> None:
        self._family, self._y, self._w, self._eta, self._x = family, y, weights, eta, x

    def all(self, want: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The numbers of that names, (n,) or (nextra, n)."""
        with np.errstate(all="ignore"):
            if len(self._y) <= MOST:
                return self._some(want)
            parts = [self._part(at)._some(want) for at in range(0, len(self._y), MOST)]
        return {name: np.concatenate([one[name] for one in parts], axis=-1) for name in want}

    def _part(self, at: int) -> CustomRows:
        own = slice(at, at + MOST)
        w = None if self._w is None else self._w[own]
        return CustomRows(self._family, self._y[own], w, self._eta[own], self._x)

    def _some(self, want: tuple[str, ...]) -> dict[str, np.ndarray]:
        order = max((IN_ETA.index(name) for name in want if name in IN_ETA), default=0)
        if "w" in want and "w" not in self.given:
            order = max(order, 2)
        out = dict(zip(IN_ETA, self.in_eta(order), strict=False))
        depth = max((1 + IN_X.index(name) for name in want if name in IN_X), default=0)
        out |= zip(IN_X, self.in_x(depth), strict=False)
        if "w" in want:
            out["w"] = self.given["w"] if "w" in self.given else _positive(out["d1"], out["d2"])
        if "dw" in want:
            out["dw"] = self._in_eta_of("w", (1,))[0] if "w" in self.given else self._unknown(1)[0]
        if "wx" in want:
            nextra = self._family.nextra
            out["wx"] = self._in_x_of("w") if "w" in self.given else self._unknown(nextra)
        out["l"] = self._barred(out)
        return out

    def _barred(self, out: dict[str, np.ndarray]) -> np.ndarray:
        """l, -infinity where it or a derivative in eta is not finite: the edge of a domain."""
        known = [out[name] for name in IN_ETA[:4] if name in out]
        fine = np.logical_and.reduce([np.isfinite(one) for one in known])
        return np.where(fine, out["l"], -np.inf)

    def _unknown(self, rows: int) -> np.ndarray:
        return np.full((rows, len(self._y)), np.nan)

    # ---- what the user gives ---------------------------------------------------------------------

    @cached_property
    def density(self) -> np.ndarray:
        """The log-density (n,)."""
        found = self._family.log_density(self._y, self._eta, self._x, self._w)
        return self._checked("log_density()", found, (len(self._y),))

    @cached_property
    def given(self) -> dict[str, np.ndarray]:
        """The derivatives that there are."""
        found = self._family.derivatives(self._y, self._eta, self._x, self._w)
        known = (*IN_ETA[1:], *IN_X, "w")
        out = {}
        for name, values in found.items():
            if name not in known:
                raise FitError(
                    f"derivatives() of family {self._family.name!r} has {name!r}; there are "
                    f"{', '.join(known)}"
                )
            lead = (self._family.nextra,) if name in IN_X else ()
            label = f"derivative {name!r}"
            out[name] = self._checked(label, values, (*lead, len(self._y)))
        return out

    def _checked(self, label: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
        found = np.asarray(values, dtype=float)
        if found.shape != shape and found.size == np.prod(shape) and len(shape) > 1:
            found = found.reshape(shape)  # one parameter, given as (n,)
        if found.shape != shape:
            raise FitError(
                f"{label} of family {self._family.name!r} must have a value for each of the rows "
                f"it is called with, shape {shape}, not {found.shape}"
            )
        return found

    def named(self, name: str) -> np.ndarray:
        """The log-density, or a derivative that is given."""
        return self.density if name == "l" else self.given[name]

    # ---- differences -----------------------------------------------------------------------------

    def in_eta(self, order: int) -> list[np.ndarray]:
        """l and its derivatives in eta to that order."""
        out = [self.density]
        while len(out) <= order and IN_ETA[len(out)] in self.given:
            out.append(self.given[IN_ETA[len(out)]])
        last = len(out) - 1
        if last < order:
            out += self._in_eta_of(IN_ETA[last], tuple(range(1, order - last + 1)))
        return self._known(IN_ETA, out)

    def in_x(self, depth: int) -> list[np.ndarray]:
        """Derivatives in each x (nextra, n) of l, d1 and d2: that many of them."""
        if not depth:
            return []
        if "lx" not in self.given:
            found = [self._along(k, depth) for k in range(self._family.nextra)]
            whole = [np.array([one[i] for one in found]) for i in range(depth)]
            return self._known(IN_X, whole)
        out = [self.given["lx"]]
        while len(out) < depth and IN_X[len(out)] in self.given:
            out.append(self.given[IN_X[len(out)]])
        last = len(out) - 1
        if len(out) < depth:
            out += self._in_eta_of(IN_X[last], tuple(range(1, depth - last)))
        return self._known(IN_X, out)

    def _known(self, names: tuple[str, ...], values: list[np.ndarray]) -> list[np.ndarray]:
        """The values of these names, those in place of differences that are given."""
        return [self.given.get(*pair) for pair in zip(names, values, strict=False)]

    def _in_eta_of(self, name: str, orders: tuple[int, ...]) -> list[np.ndarray]:
        def values(rows: np.ndarray, shifts: np.ndarray) -> np.ndarray:
            k = len(shifts)
            w = None if self._w is None else np.tile(self._w[rows], k)
            eta = (self._eta[rows] + shifts).ravel()
            there = CustomRows(self._family, np.tile(self._y[rows], k), w, eta, self._x).named(name)
            return there.reshape((*there.shape[:-1], *shifts.shape))

        return differences(values, orders, self._steps())

    def _steps(self) -> np.ndarray:
        """The longest steps in eta, of each row."""
        if self._family.link.name not in UNITS:
            return np.full(len(self._eta), STEP)
        if self._family.link.name != "identity" or self._family.response != "real":
            return np.asarray(STEP * np.abs(self._eta) + 1e-300)
        size = np.sqrt(np.mean(np.square(self._eta)) + np.mean(np.square(self._y)))
        return np.full(len(self._eta), STEP * max(float(size), 1e-300))

    def _along(self, k: int, depth: int) -> np.ndarray:
        """Differences in x_k of l, d1, d2 (depth, n)."""
        exact = all(name in self.given for name in IN_ETA[1:depth])

        def values(rows: np.ndarray, shifts: np.ndarray) -> np.ndarray:
            found = [self._moved(k, one[0], rows).in_eta(depth - 1) for one in shifts]
            return np.swapaxes(np.array(found), 0, 1)

        step = np.full(len(self._y), STEP)
        noise = {} if exact else {"noise": NOISE}
        return differences(values, (1,), step, tries=4, **noise)[0]

    def _in_x_of(self, name: str) -> np.ndarray:
        def along(k: int) -> np.ndarray:
            def values(rows: np.ndarray, shifts: np.ndarray) -> np.ndarray:
                return np.array([self._moved(k, one[0], rows).named(name) for one in shifts])

            return differences(values, (1,), np.full(len(self._y), STEP), tries=4)[0]

        return np.array([along(k) for k in range(self._family.nextra)])

    def _moved(self, k: int, shift: float, rows: np.ndarray) -> CustomRows:
        assert self._x is not None
        x = self._x.copy()
        x[k] += shift
        w = None if self._w is None else self._w[rows]
        return CustomRows(self._family, self._y[rows], w, self._eta[rows], x)


def _positive(d1: np.ndarray, d2: np.ndarray) -> np.ndarray:
    """Positive weights where steps are taken: -d2, or where that is negative d2 + d1^2, since both
    -d2 and d1^2 have the information as their expectation."""
    return np.asarray(np.maximum(np.where(d2 <= 0, -d2, d2 + d1 * d1), 1e-300))


# ---- are the user's derivatives right? -----------------------------------------------------------


def check_custom(family: Any, y: np.ndarray, weights: np.ndarray | None) -> set[str]:
    """Some rows of a family's derivatives against differences, where fits begin and near there.

    Returns the names of the derivatives that there are.

    Raises
    ------
    FitError
        The log-density is not finite in any row, takes no notice of weights, or a derivative is
        wrong: which, in which row.
    """
    center, x, unit = family.begin(y, weights)
    if not family.nextra:
        x = None
    at = np.unique(np.linspace(0, len(y) - 1, CHECKED).astype(int))
    w = None if weights is None else weights[at]
    eta = center + 0.3 * unit * np.sin(1.0 + np.arange(len(at)))
    if not family.valid(eta).all():
        eta = np.full(len(at), center)
    with np.errstate(all="ignore"):
        rows = CustomRows(family, y[at], w, eta, x)
        if not np.isfinite(rows.density).any():
            raise FitError(
                f"log_density() of family {family.name!r} is not finite in any of {len(at)} "
                f"rows at eta near {center:.3g}, x = {x}: check it, or start_extra()"
            )
        if w is not None and family.response != "binomial" and (w != 1).any():
            bare = CustomRows(family, y[at], np.ones_like(w), eta, x).density
            if np.array_equal(bare, rows.density):
                raise FitError(
                    f"weights are given, and log_density() of family {family.name!r} does not "
                    "depend on them"
                )
        _compare(rows, at)
    return set(rows.given)


def _compare(rows: CustomRows, at: np.ndarray) -> None:
    for name in rows.given:
        if name == "w":  # an expectation over y: no difference of anything
            continue
        found, expected, of = rows.given[name], *_expected(rows, name)
        size = np.max(np.abs(expected), where=np.isfinite(expected), initial=0.0)
        off = np.abs(found - expected)
        wrong = off > AGREE * (np.abs(expected) + 1e-3 * size) + 1e-9
        if not wrong.any():
            continue
        place = tuple(np.argwhere(wrong)[0])
        where = f" in parameter {place[0]}" if len(place) > 1 else ""
        i = int(place[-1])
        raise FitError(
            f"derivative {name!r} of family {rows._family.name!r} is wrong: at y = "
            f"{rows._y[i]:.6g}, eta = {rows._eta[i]:.6g}{where} it is {found[place]:.6g}; "
            f"differences of {of} give {expected[place]:.6g}",
            rows=[int(at[i])],
        )


def _expected(rows: CustomRows, name: str) -> tuple[np.ndarray, str]:
    """The derivative by differences, and what of."""
    if name == "lx":
        found = [rows._along(k, 1)[0] for k in range(rows._family.nextra)]
        return np.array(found), "log_density()"
    names = IN_X if name in IN_X else IN_ETA
    lower = [one for one in names[: names.index(name)] if one == "l" or one in rows.given]
    if not lower:
        depth = 1 + IN_X.index(name)
        found = [rows._along(k, depth)[-1] for k in range(rows._family.nextra)]
        return np.array(found), "log_density()"
    order = names.index(name) - names.index(lower[-1])
    label = "log_density()" if lower[-1] == "l" else repr(lower[-1])
    return rows._in_eta_of(lower[-1], (order,))[0], label
