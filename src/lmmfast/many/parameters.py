"""Parameters that a simulation assumes, in the units that users think in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..data.design import Design
from ..engine.estimates import Estimates
from ..engine.families import Family

FAINT = 1e-10  # eigenvalues of a correlation matrix that count as zero


class Assumed(NamedTuple):
    """The parameters of a design as arrays; `Parameters.of` makes them."""

    beta: np.ndarray  # p; zero for dropped columns
    factors: tuple[np.ndarray, ...]  # of each term: sigma T, k x k, Cov(b) = sigma T (sigma T)'
    sigma: float
    extra: np.ndarray = np.zeros(0)  # of a generalized model's distribution, as it is optimized


@dataclass(frozen=True)
class Parameters:
    """Assumed parameters of a model, to simulate from.

    What is not given is that of the fit; without a fit all of it is needed.

    Parameters
    ----------
    beta : dict, or (p,) array, optional
        Fixed effects by name, as in ``{"Days": 5}``, or all in order. Those that a dict does not
        name are those of the fit.
    sd : dict, optional
        Standard deviations of random effects by grouping factor: a number (one column), one for
        each column in order, or by name: ``{"Subject": {"Intercept": 25, "Days": 6}}``. A factor
        that is not named keeps its own. Several terms of a factor count as one list.
    corr : dict, optional
        Correlations by grouping factor: a number for all pairs, or a matrix. Default: zero where
        `sd` is given, otherwise those of the fit. Columns of different terms are not correlated.
    theta : (ntheta,) array, optional
        In place of `sd` and `corr`: relative Cholesky parameters, as ``fit.theta``.
    sigma : float, optional
        Residual standard deviation, of a row with weight 1. It does not change those of the random
        effects unless these are given by `theta`. Generalized models have none: their `sd` and
        `theta` are on the scale of the linear predictor.
    extra : dict or list, optional
        What the distribution of a generalized model has of its own, as ``fit.extra``: ``{"size":
        2}``, ``{"dispersion": 0.1}``, thresholds of an ordered response.

    Raises
    ------
    ValueError
        When a simulation uses them: for names that the model does not have, negative standard
        deviations, correlations that no matrix has.

    Examples
    --------
    >>> from lmmfast import Parameters, datasets, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> assumed = Parameters(beta={"Days": 0}, sd={"Subject": [25, 6]}, sigma=25)
    >>> fit.simulate(2, seed=1, params=assumed).shape
    (180, 2)
    """

    beta: Mapping[str, float] | ArrayLike | None = None
    sd: Mapping[str, float | Sequence[float] | Mapping[str, float]] | None = None
    corr: Mapping[str, ArrayLike] | None = None
    theta: ArrayLike | None = None
    sigma: float | None = None
    extra: Mapping[str, float] | ArrayLike | None = None

    @classmethod
    def read(cls, given: Parameters | Mapping[str, object] | None) -> Parameters:
        """Parameters as they are, of a dict with their names, or none."""
        if given is None:
            return cls()
        if isinstance(given, Parameters):
            return given
        known = [one.name for one in fields(cls)]
        named: Any = given
        if not isinstance(given, Mapping):
            raise ValueError(f"params must be Parameters or a dict with {', '.join(known)}")
        for name in given:
            if name not in known:
                raise ValueError(f"params has no {name!r}: it may have {', '.join(known)}")
        for name in ("sd", "corr"):
            own = given.get(name)
            if own is not None and not isinstance(own, Mapping):
                raise ValueError(
                    f"params: {name} goes by grouping factors, {{'subject': ...}}, not {own!r}"
                )
        return cls(**named)

    def of(
        self,
        design: Design,
        theta_entries: Sequence[tuple[int, int, int]],
        fit: Estimates | None = None,
        family: Family | None = None,
    ) -> Assumed:
        """The arrays of a model, what is not given from a fit of it.

        theta_entries: as `Model.theta_entries`. family: of a generalized model.
        """
        extra = self._extra(fit, family)
        sigma = self._sigma(fit) if family is None else 1.0
        if self.theta is not None:
            if self.sd is not None or self.corr is not None:
                raise ValueError("params: give theta, or sd and corr, not both")
            factors = _factors_of_theta(self.theta, design, theta_entries, sigma)
        else:
            factors = self._factors(design, fit)
        return Assumed(self._beta(design, fit), factors, sigma, extra)

    def _extra(self, fit: Any, family: Family | None) -> np.ndarray:
        """The distribution's own parameters as they are optimized."""
        if family is None:
            if self.extra is not None:
                raise ValueError("params: extra is for generalized models; a linear one has sigma")
            return np.zeros(0)
        if self.sigma is not None:
            raise ValueError(
                "params: sigma is the residual standard deviation of linear models; a generalized "
                "one has none"
            )
        names = list(family.extra_names)
        if not names and self.extra is not None:
            raise ValueError(f"params: {family.name} responses have no extra parameters")
        if self.extra is None:
            if fit is None and names:
                raise ValueError(f"params needs extra: {', '.join(names)}")
            return np.zeros(0) if fit is None else np.asarray(fit.extra, dtype=float)
        if not isinstance(self.extra, Mapping):
            values = _numbers(np.atleast_1d(self.extra), len(names), "extra", names)
        else:
            values = np.full(len(names), np.nan) if fit is None else family.natural(fit.extra)[0]
            for name, value in self.extra.items():
                values[names.index(_known(name, names, "extra parameter"))] = float(value)
            if left := [n for n, value in zip(names, values, strict=True) if np.isnan(value)]:
                raise ValueError(f"params: extra lacks {', '.join(left)}")
        try:
            return family.unconstrained(values)
        except ValueError as error:
            raise ValueError(f"params: {error}") from None

    def _sigma(self, fit: Estimates | None) -> float:
        if self.sigma is None:
            if fit is None:
                raise ValueError("params needs sigma, the residual standard deviation")
            return float(fit.sigma)
        if not (np.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"params: sigma must be positive, not {self.sigma!r}")
        return float(self.sigma)

    def _beta(self, design: Design, fit: Estimates | None) -> np.ndarray:
        names = [str(name) for name in design.x_names]
        known = np.zeros(len(names)) if fit is None else np.nan_to_num(fit.beta, nan=0.0)
        if self.beta is None:
            if fit is None:
                raise ValueError(f"params needs beta, the fixed effects: {', '.join(names)}")
            return known
        if not isinstance(self.beta, Mapping):
            return _numbers(self.beta, len(names), "beta", names)
        if fit is None and (left := [name for name in names if name not in self.beta]):
            raise ValueError(f"params: beta lacks {', '.join(left)}")
        for name, value in self.beta.items():
            known[names.index(_known(name, names, "fixed effect"))] = float(value)
        return known

    def _factors(self, design: Design, fit: Estimates | None) -> tuple[np.ndarray, ...]:
        groups: dict[str, list[int]] = {}
        for i, term in enumerate(design.terms):
            groups.setdefault(term.group, []).append(i)
        for given in (self.sd, self.corr):
            for name in given or ():
                _known(name, list(groups), "grouping factor")
        out: dict[int, np.ndarray] = {}
        for group, terms in groups.items():
            out |= self._factors_of_group(design, group, terms, fit)
        return tuple(out[i] for i in range(len(design.terms)))

    def _factors_of_group(
        self, design: Design, group: str, terms: list[int], fit: Estimates | None
    ) -> dict[int, np.ndarray]:
        sd, corr = (self.sd or {}).get(group), (self.corr or {}).get(group)
        if sd is None and fit is None:
            columns = ", ".join(name for i in terms for name in design.terms[i].columns)
            raise ValueError(f"params: sd lacks {group!r} ({columns})")
        if sd is None and corr is None:
            assert fit is not None
            return {i: fit.sigma * fit.T[i] for i in terms}
        names = [name for i in terms for name in design.terms[i].columns]
        sizes = None if fit is None else _sizes([fit.sigma * fit.T[i] for i in terms])
        deviations = sizes if sd is None else _deviations(sd, names, group, sizes)
        assert deviations is not None
        R = _correlations(corr, names, group)
        out, at = {}, 0
        for i in terms:
            term = design.terms[i]
            mine = slice(at, at + len(term.columns))
            at = mine.stop
            block = np.eye(len(term.columns)) if term.structure == "diag" else R[mine, mine].copy()
            R[mine, mine] = np.eye(len(term.columns))
            out[i] = deviations[mine, None] * _root(block, group)
        if corr is not None and np.ndim(corr) == 2 and not np.array_equal(R, np.eye(len(names))):
            raise ValueError(f"params: corr of {group!r} has columns that are not correlated here")
        return out


def _known(name: Any, known: Sequence[str], what: str) -> str:
    if name in known:
        return str(name)
    near = get_close_matches(str(name), known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise ValueError(f"params: there is no {what} {name!r}; {hint}")


def _numbers(given: Any, count: int, what: str, names: Sequence[str]) -> np.ndarray:
    values = np.array(given, dtype=float)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(
            f"params: {what} needs {count} finite numbers ({', '.join(names)}), got {given!r}"
        )
    return values


def _sizes(factors: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.sqrt((own * own).sum(axis=1)) for own in factors])


def _deviations(
    given: Any, names: Sequence[str], group: str, before: np.ndarray | None
) -> np.ndarray:
    """Standard deviations of the columns of a grouping factor."""
    if isinstance(given, Mapping):
        values = np.full(len(names), np.nan) if before is None else before.copy()
        for name, value in given.items():
            values[list(names).index(_known(name, names, f"column of {group!r},"))] = float(value)
        if np.isnan(values).any():
            left = ", ".join(name for name, one in zip(names, values, strict=True) if np.isnan(one))
            raise ValueError(f"params: sd of {group!r} lacks {left}")
    else:
        values = _numbers(np.atleast_1d(given), len(names), f"sd of {group!r}", names)
    if not (values >= 0).all():
        raise ValueError(f"params: standard deviations of {group!r} must not be negative: {given}")
    return values


def _correlations(given: Any, names: Sequence[str], group: str) -> np.ndarray:
    k = len(names)
    if given is None:
        return np.eye(k)
    values = np.array(given, dtype=float)
    if values.ndim == 0:
        return np.where(np.eye(k, dtype=bool), 1.0, values)
    fits = values.shape == (k, k) and np.array_equal(values, values.T)
    if not (fits and (values.diagonal() == 1).all() and (np.abs(values) <= 1).all()):
        raise ValueError(
            f"params: corr of {group!r} must be a number, or a symmetric {k} x {k} matrix with "
            f"ones on its diagonal ({', '.join(names)})"
        )
    return values


def _root(R: np.ndarray, group: str) -> np.ndarray:
    """L with R = L L', lower triangular where R is not singular."""
    try:
        return np.linalg.cholesky(R)
    except np.linalg.LinAlgError:
        w, V = np.linalg.eigh(R)
        if w[0] < -FAINT or not np.isfinite(w).all():
            raise ValueError(
                f"params: corr of {group!r} is no correlation matrix: its smallest eigenvalue is "
                f"{w[0]:.3g}"
            ) from None
        return np.asarray(V * np.sqrt(np.maximum(w, 0)))


def _factors_of_theta(
    given: Any, design: Design, entries: Sequence[tuple[int, int, int]], sigma: float
) -> tuple[np.ndarray, ...]:
    names = [f"T[{i}][{row}, {column}]" for i, row, column in entries]
    theta = _numbers(given, len(entries), "theta", names)
    out = tuple(np.zeros((len(term.columns),) * 2) for term in design.terms)
    for value, (i, row, column) in zip(theta, entries, strict=True):
        out[i][row, column] = sigma * value
    return out
