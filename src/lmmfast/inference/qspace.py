"""Cross-products of a fit and what they say about V^-1, without matrices of the order of n.

Rows are scaled by the square roots of their weights, so that V = I + sum gamma_r G_r with
G_r = Z (I x E_r) Z', gamma the entries of every term's relative covariance matrix T T' (variances
only, for ``||``).

The largest grouping factor (1) is eliminated and the columns of the others (R) are dense: with V_1
the covariance from factor 1 alone, D = Z_1'V_1^-1 Z_1 (block diagonal), F = Z_1'V_1^-1 Z_R,
S = Z_R'V_1^-1 Z_R, B = Lambda_R (I + Lambda_R'S Lambda_R)^-1 Lambda_R' and U = I - B S,

    Z'V^-1 Z = [ D - F B F'   F U ;   U'F'   S U ].

Traces of two G need the part of F B F' off its diagonal only through N_r = F'(I x E_r) F, of the
order of the dense columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, combinations_with_replacement, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.compiled import _memory_limit

if TYPE_CHECKING:
    from ..fit import Fit

__all__ = ["Factor", "Moments", "Rows", "curvature", "moments", "order", "restricted", "rows_of"]

SPARSE = 0.1  # share of nonzero cross-products below which sparse products are faster
ROWS = 4096  # rows of F that are made dense at a time


@dataclass(frozen=True, eq=False)
class Factor:
    """A grouping factor with the columns of all its terms, whitened term by term."""

    name: str
    codes: np.ndarray  # n
    nlev: int
    z: np.ndarray  # n x k, rows scaled by sqrt(weight)
    T: np.ndarray  # k x k, a square root of the relative covariance (need not be triangular)
    E: np.ndarray  # parameters x k x k, derivative of T T' in each
    terms: tuple[int, ...]  # its terms in the design
    parts: tuple[slice, ...]  # their columns
    R: tuple[np.ndarray, ...]  # per term: the user's columns are z R

    @property
    def k(self) -> int:
        return int(self.z.shape[1])

    @property
    def q(self) -> int:
        return self.nlev * self.k

    @property
    def gamma(self) -> np.ndarray:
        """Value of each parameter."""
        return self.coordinates((self.T @ self.T.T)[None])[:, 0]

    def coordinates(self, change: np.ndarray) -> np.ndarray:
        """Changes of the relative covariance (t, k, k) in the parameters (r, t)."""
        share = np.einsum("rab,rab->r", self.E, self.E)
        return np.asarray(np.einsum("rab,tab->rt", self.E, change) / share[:, None])

    def matrix(self) -> Any:
        """Z, n x q, sparse."""
        from scipy.sparse import csr_matrix

        n, k = self.z.shape
        columns = self.codes[:, None].astype(np.int64) * k + np.arange(k)
        at = np.arange(0, n * k + 1, k)
        return csr_matrix((self.z.ravel(), columns.ravel(), at), shape=(n, self.q))

    def diagonal_blocks(self) -> np.ndarray:
        """Z'Z, levels x k x k."""
        out = np.empty((self.nlev, self.k, self.k))
        for a in range(self.k):
            for b in range(a + 1):
                products = self.z[:, a] * self.z[:, b]
                out[:, a, b] = out[:, b, a] = np.bincount(self.codes, products, self.nlev)
        return out


@dataclass(frozen=True, eq=False)
class Rows:
    """What the cross-products are taken of."""

    X: np.ndarray  # n x rank, orthogonal columns, rows scaled by sqrt(weight)
    R: np.ndarray  # rank x rank, the user's kept columns are X R
    factors: list[Factor]  # the largest first

    @cached_property
    def _first(self) -> Any:
        return self.factors[0].matrix()

    @cached_property
    def _rest(self) -> Any:
        from scipy.sparse import hstack

        return hstack([factor.matrix() for factor in self.factors[1:]], format="csr")

    def blocks_of_first(self) -> np.ndarray:
        """Z_1'Z_1, levels x k x k."""
        return self.factors[0].diagonal_blocks()

    def first_by_fixed(self) -> np.ndarray:
        """Z_1'X, q1 x p."""
        return np.asarray(self._first.T @ self.X)

    def fixed_by_fixed(self) -> np.ndarray:
        """X'X, p x p."""
        return np.asarray(self.X.T @ self.X)

    def first_by_rest(self) -> Any:
        """Z_1'Z_R, q1 x q2, sparse."""
        return (self._first.T @ self._rest).tocsr()

    def rest_by_rest(self) -> Any:
        """Z_R'Z_R, q2 x q2, sparse."""
        return self._rest.T @ self._rest

    def rest_by_fixed(self) -> np.ndarray:
        """Z_R'X, q2 x p."""
        return np.asarray(self._rest.T @ self.X)


def rows_of(fit: Fit) -> Rows:
    """The rows of a fit, or its cross-products where the rows are not in memory."""
    if not fit.design.is_held:
        from ..sources import products

        return products.rows_of(fit)
    design, engine = fit.design, fit.model._engine
    root = np.ones(len(design.y)) if design.weights is None else np.sqrt(design.weights)
    factors = []
    for terms in engine.grouped():
        z, T, E, changes = [], [], [], []
        for i in terms:
            kept = list(engine.kept(i))
            full = design.terms[i].structure == "full"
            white, R = _whitened(design.terms[i].z[:, kept] * root[:, None], full)
            z.append(white)
            T.append(R @ fit.estimates.T[i][np.ix_(kept, kept)])
            E.append(_derivatives(len(kept), full))
            changes.append(R)
        first = design.terms[terms[0]]
        factors.append(
            Factor(
                name=first.group,
                codes=first.codes,
                nlev=len(first.levels),
                z=np.concatenate(z, axis=1),
                T=_diagonal(T),
                E=_stacked(E),
                terms=tuple(terms),
                parts=tuple(_slices([part.shape[1] for part in z])),
                R=tuple(changes),
            )
        )
    factors.sort(key=lambda factor: -factor.q)
    X, R = _whitened(design.X[:, fit.estimates.fixed_kept] * root[:, None], True)
    return Rows(X, R, factors)


def _whitened(z: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray]:
    """z = white R with white'white = n I (full), or its diagonal so (R diagonal)."""
    size = np.sqrt(len(z))
    if full:
        white, R = np.linalg.qr(z)
        return white * size, R / size
    scale = np.linalg.norm(z, axis=0) / size
    return z / scale, np.diag(scale)


def _derivatives(k: int, full: bool) -> np.ndarray:
    """Derivative of a k x k covariance matrix in each of its free entries."""
    pairs = [(a, b) for a in range(k) for b in range(a + 1) if full or a == b]
    E = np.zeros((len(pairs), k, k))
    for r, (a, b) in enumerate(pairs):
        E[r, a, b] = E[r, b, a] = 1
    return E


def _diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    from scipy.linalg import block_diag

    return np.asarray(block_diag(*blocks))


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    """Derivatives of blocks as derivatives of the whole block-diagonal matrix."""
    k = sum(part.shape[1] for part in parts)
    out = np.zeros((sum(len(part) for part in parts), k, k))
    r = a = 0
    for part in parts:
        out[r : r + len(part), a : a + part.shape[1], a : a + part.shape[1]] = part
        r, a = r + len(part), a + part.shape[1]
    return out


# ---- cross-products and what the formulas need of them -------------------------------------------


@dataclass(frozen=True, eq=False)
class Moments:
    """Traces, P and Q in the basis of X in which X'V^-1 X = I."""

    trace: np.ndarray  # r          tr(V^-1 G_r)
    traces: np.ndarray  # r x r      tr(V^-1 G_r V^-1 G_s)
    P: np.ndarray  # r x p x p
    Q: np.ndarray  # r x p x r x p
    basis: np.ndarray  # p x p      that basis is the user's kept columns times this


@dataclass(frozen=True, eq=False)
class _Eliminated:
    """Cross-products after factor 1 has been eliminated (see the top of this file)."""

    D: np.ndarray  # levels x k x k
    F: Any  # q1 x q2, dense or sparse
    S: np.ndarray  # q2 x q2
    X1: np.ndarray  # q1 x p     Z_1'V_1^-1 X
    XR: np.ndarray  # q2 x p     Z_R'V_1^-1 X
    XX: np.ndarray  # p x p      X'V_1^-1 X


def _eliminate(rows: Rows) -> _Eliminated:
    from scipy.sparse import issparse

    first, rest = rows.factors[0], rows.factors[1:]
    A = rows.blocks_of_first()
    M = np.eye(first.k) + first.T.T @ A @ first.T
    K = first.T @ np.linalg.solve(M, np.broadcast_to(first.T.T, A.shape))
    left = np.eye(first.k) - A @ K
    AX = rows.first_by_fixed()
    KAX = _by_level(K, AX)
    XX = rows.fixed_by_fixed() - AX.T @ KAX
    D, X1 = left @ A, _by_level(left, AX)
    _check_memory(rows, 0)
    if not rest:
        empty = np.zeros((0, rows.X.shape[1]))
        return _Eliminated(D, np.zeros((first.q, 0)), np.zeros((0, 0)), X1, empty, XX)
    C = rows.first_by_rest()
    _check_memory(rows, C.nnz)
    C = C.toarray() if _is_dense(C) else C
    F = _block_matrix(left) @ C
    F = F.tocsr() if issparse(F) else F
    S = C.T @ (_block_matrix(K) @ C)
    S = rows.rest_by_rest().toarray() - (S.toarray() if issparse(S) else S)
    XR = rows.rest_by_fixed() - C.T @ KAX
    return _Eliminated(D, F, (S + S.T) / 2, X1, XR, XX)


def _is_dense(C: Any) -> bool:
    return bool(C.nnz > SPARSE * C.shape[0] * C.shape[1])


def _by_level(blocks: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Block-diagonal matrix times columns."""
    m, k, _ = blocks.shape
    return np.asarray((blocks @ columns.reshape(m, k, -1)).reshape(m * k, -1))


def _block_matrix(blocks: np.ndarray) -> Any:
    from scipy.sparse import bsr_matrix

    m = len(blocks)
    return bsr_matrix((blocks, np.arange(m), np.arange(m + 1)))


def _check_memory(rows: Rows, met: int) -> None:
    """The dense matrices must fit; met: pairs of columns that factor 1 and the others share."""
    first, rest = rows.factors[0], rows.factors[1:]
    q2, p = sum(factor.q for factor in rest), rows.X.shape[1]
    dense = met > SPARSE * first.q * q2
    doubles = (len(first.E) + 8.0) * q2 * q2 + (2.0 * first.q * q2 if dense else 4.0 * met)
    doubles += 2.0 * ROWS * q2
    doubles += 2.0 * p * sum(len(factor.E) * factor.q for factor in rows.factors)
    doubles += 2.0 * (p * sum(len(factor.E) for factor in rows.factors)) ** 2
    limit = _memory_limit()
    if 8 * doubles > limit:
        raise MemoryError(
            f"Kenward-Roger needs {8 * doubles / 1e9:.1f} GB, more than the {limit / 1e9:.1f} GB "
            f"that may be used: only the largest grouping factor ({first.name}) is eliminated, the "
            f"{q2} columns of the others are dense; use Satterthwaite degrees of freedom"
        )


@dataclass(frozen=True, eq=False)
class Solved:
    """The parts of Z'V^-1 Z and of Z'V^-1 X (X in the basis in which X'V^-1 X = I)."""

    factors: list[Factor]  # the eliminated one first
    cuts: list[slice]  # columns of the others
    D: np.ndarray  # levels x k x k
    F: Any  # q1 x q2, dense or sparse
    B: np.ndarray  # q2 x q2
    U: np.ndarray  # q2 x q2   I - B S
    M: np.ndarray  # q2 x q2   S U = Z_R'V^-1 Z_R
    down: np.ndarray  # levels x k x k   diagonal blocks of F B F'
    J1: np.ndarray  # q1 x p    Z_1'V^-1 X
    JR: np.ndarray  # q2 x p    Z_R'V^-1 X
    to_white: np.ndarray  # p x p     that basis is X to_white


def solve(rows: Rows) -> Solved:
    e, rest = _eliminate(rows), rows.factors[1:]
    B = trailing(e.S, rest)
    U = np.eye(len(B)) - B @ e.S
    M = e.S @ U
    C = e.XX - e.XR.T @ B @ e.XR
    to_white = np.linalg.inv(np.linalg.cholesky((C + C.T) / 2)).T
    return Solved(
        factors=rows.factors,
        cuts=_slices([factor.q for factor in rest]),
        D=e.D,
        F=e.F,
        B=B,
        U=U,
        M=(M + M.T) / 2,
        down=_diagonal_of_downdate(e.F, B, rows.factors[0]),
        J1=(e.X1 - e.F @ (B @ e.XR)) @ to_white,
        JR=U.T @ e.XR @ to_white,
        to_white=to_white,
    )


def moments(rows: Rows) -> Moments:
    """For all parameters but the residual variance."""
    s = solve(rows)
    P, Q = fixed_forms(s)
    basis = np.linalg.solve(rows.R, s.to_white)
    return Moments(single_traces(s), traces(s), P, Q, basis)


def single_traces(s: Solved) -> np.ndarray:
    """tr(V^-1 G_r)"""
    first, rest = s.factors[0], s.factors[1:]
    out = [np.einsum("rab,ab->r", first.E, (s.D - s.down).sum(axis=0))]
    for factor, cut in zip(rest, s.cuts, strict=True):
        own = s.M[cut, cut].reshape(factor.nlev, factor.k, factor.nlev, factor.k)
        out.append(np.einsum("rab,lalb->r", factor.E, own))
    return np.concatenate(out)


def _slices(sizes: list[int]) -> list[slice]:
    """Where parts of these sizes are, one after the other."""
    return [slice(a, b) for a, b in pairwise(accumulate(sizes, initial=0))]


def trailing(S: np.ndarray, rest: list[Factor]) -> np.ndarray:
    """B = Lambda (I + Lambda'S Lambda)^-1 Lambda' over the columns of the other factors."""
    from scipy.linalg import solve_triangular
    from scipy.sparse import block_diag, eye, kron

    if not rest:
        return S
    Lambda = block_diag([kron(eye(f.nlev), f.T) for f in rest], format="csr")
    M = Lambda.T @ (Lambda.T @ S).T + np.eye(len(S))
    root = solve_triangular(np.linalg.cholesky(M), Lambda.T.toarray(), lower=True)
    return np.asarray(root.T @ root)


def _diagonal_of_downdate(F: Any, B: np.ndarray, first: Factor) -> np.ndarray:
    """The diagonal blocks of F B F', levels x k x k."""
    out = np.zeros((first.nlev, first.k, first.k))
    step = max(1, ROWS // first.k)
    for a in range(0, first.nlev if len(B) else 0, step):
        some = _dense(F[a * first.k : (a + step) * first.k])
        left = (some @ B).reshape(-1, first.k, len(B))
        out[a : a + step] = left @ some.reshape(left.shape).swapaxes(1, 2)
    return out


def _dense(A: Any) -> np.ndarray:
    return np.asarray(A.toarray() if hasattr(A, "toarray") else A)


def _crossed(F: Any, E: np.ndarray) -> np.ndarray:
    """N = F'(I x E) F for a symmetric E of ones and zeros."""
    k, q2 = len(E), F.shape[1]
    N = np.zeros((q2, q2))
    for a, b in np.argwhere(np.tril(E)):
        product = _dense(F[a::k].T @ F[b::k])
        N += product if a == b else product + product.T
    return N


def traces(s: Solved) -> np.ndarray:
    """tr(V^-1 G_r V^-1 G_s), by blocks of factors."""
    first, rest = s.factors[0], s.factors[1:]
    at = _slices([len(factor.E) for factor in s.factors])
    out = np.empty((at[-1].stop, at[-1].stop))
    out[at[0], at[0]] = _own_traces(s)
    if not rest:
        return out
    BN = np.empty((len(first.E), *s.B.shape))
    for r, E in enumerate(first.E):
        N = _crossed(s.F, E)
        np.matmul(s.B, N, out=BN[r])
        NU = N @ s.U
        for factor, cut, mine in zip(rest, s.cuts, at[1:], strict=True):
            own = s.U[:, cut].reshape(-1, factor.k).T @ NU[:, cut].reshape(-1, factor.k)
            out[r, mine] = np.einsum("sab,ab->s", factor.E, own)
    flat = BN.reshape(len(BN), -1)
    for r in range(len(BN)):
        out[r, at[0]] += flat @ BN[r].T.ravel()
    for (g, one), (h, other) in combinations_with_replacement(enumerate(rest), 2):
        own = s.M[s.cuts[g], s.cuts[h]].reshape(one.nlev, one.k, other.nlev, other.k)
        pairs = own.transpose(1, 3, 0, 2).reshape(one.k * other.k, -1)
        out[at[g + 1], at[h + 1]] = _contract(one.E, pairs @ pairs.T, other.E)
    upper = np.triu(out)
    return upper + np.triu(out, 1).T


def _own_traces(s: Solved) -> np.ndarray:
    """Those of the eliminated factor, without what F B F' has off its diagonal."""
    first = s.factors[0]
    D, down = s.D.reshape(first.nlev, -1), s.down.reshape(first.nlev, -1)
    cross = D.T @ down
    return _contract(first.E, D.T @ D - cross - cross.T, first.E)


def _contract(E: np.ndarray, H: np.ndarray, G: np.ndarray) -> np.ndarray:
    """tr(M E_r M'G_s) summed over pairs of levels, where H (xy, wz) sums M_xy M_wz over them."""
    k, j = E.shape[1], G.shape[1]
    own = H.reshape(k, j, k, j)
    return np.asarray(np.einsum("rxw,xywz,syz->rs", E, own, G, optimize=True))


def fixed_forms(s: Solved) -> tuple[np.ndarray, np.ndarray]:
    """P (r x p x p) and Q (r x p x r x p) of all variance parameters of the random effects.

    With Y_r = (I x E_r) Z'V^-1 X for the rows of r's factor: P_r = -X'V^-1 Z Y_r and
    Q_rs = Y_r'Z'V^-1 Z Y_s.
    """
    p = s.J1.shape[1]
    number = sum(len(factor.E) for factor in s.factors)
    Y1 = _moved(s.factors[0], s.J1)
    YR = _moved_rest(s)
    P = -np.concatenate([s.J1.T @ Y1, s.JR.T @ YR], axis=1)
    FY, n1 = s.F.T @ Y1, Y1.shape[1]
    Q = np.empty((number * p, number * p))
    Q[:n1, :n1] = Y1.T @ _by_level(s.D, Y1) - FY.T @ (s.B @ FY)
    Q[:n1, n1:] = (FY.T @ s.U) @ YR
    Q[n1:, :n1] = Q[:n1, n1:].T
    Q[n1:, n1:] = YR.T @ (s.M @ YR)
    return P.reshape(p, number, p).swapaxes(0, 1), Q.reshape(number, p, number, p)


def _moved_rest(s: Solved) -> np.ndarray:
    """Y of all factors but the first: each in its own rows and columns, zero elsewhere."""
    rest = [_moved(factor, s.JR[cut]) for factor, cut in zip(s.factors[1:], s.cuts, strict=True)]
    columns = _slices([own.shape[1] for own in rest])
    out = np.zeros((len(s.B), columns[-1].stop if columns else 0))
    for own, cut, column in zip(rest, s.cuts, columns, strict=True):
        out[cut, column] = own
    return out


def _moved(factor: Factor, J: np.ndarray) -> np.ndarray:
    """(I x E_r) J for every parameter r, side by side."""
    own = J.reshape(factor.nlev, factor.k, -1)
    moved = np.einsum("rab,lbp->larp", factor.E, own, optimize=True)
    return np.asarray(moved.reshape(factor.q, -1))


# ---- the criterion -------------------------------------------------------------------------------


def order(fit: Fit) -> int:
    """Number of dense columns: of all grouping factors but the largest."""
    engine, terms = fit.model._engine, fit.design.terms
    sizes = [
        len(terms[group[0]].levels) * sum(len(engine.kept(i)) for i in group)
        for group in engine.grouped()
    ]
    return sum(sizes) - max(sizes)


def restricted(traces: np.ndarray, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """tr(P G_r P G_s), P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1, from what ``Moments`` holds."""
    fixed = np.einsum("rij,sij->rs", P, P)
    return np.asarray(traces - 2 * np.einsum("risi->rs", Q) + fixed)


def curvature(
    rows: Rows, g: tuple[np.ndarray, ...], r2: float, nu: int, reml: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian of the profiled criterion in gamma.

    With P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1 and a_r = y'P G_r P y:

        f_r  = tr(P G_r) - nu a_r / r2
        f_rs = -tr(P G_r P G_s) + nu (2 y'P G_r P G_s P y / r2 - a_r a_s / r2^2)

    where traces of a deviance (not REML) have V^-1 for P.

    Parameters
    ----------
    rows : Rows
    g : tuple of (m, k) arrays
        Z'P y by term, over the kept columns.
    r2, nu, reml
        Residual sum of squares, its divisor, and which criterion.

    Returns
    -------
    (r,) and (r, r) arrays
        Parameters factor by factor.
    """
    s = solve(rows)
    own = [_projected(factor, g) for factor in s.factors]
    rest = np.concatenate([np.zeros((0, 1)), *own[1:]])
    P, Q = fixed_forms(replace(s, J1=np.hstack([s.J1, own[0]]), JR=np.hstack([s.JR, rest])))
    fixed, beside, a = P[:, :-1, :-1], P[:, :-1, -1], -P[:, -1, -1]
    slope, information = single_traces(s), traces(s)
    if reml:
        slope += np.einsum("rii->r", fixed)
        information = restricted(information, fixed, Q[:, :-1, :, :-1])
    quadratic = Q[:, -1, :, -1] - beside @ beside.T
    second = nu * (2 * quadratic / r2 - np.outer(a, a) / r2**2) - information
    return slope - nu * a / r2, (second + second.T) / 2


def _projected(factor: Factor, g: tuple[np.ndarray, ...]) -> np.ndarray:
    """Z'P y of a factor's whitened columns."""
    own = [np.linalg.solve(R.T, g[i].T).T for i, R in zip(factor.terms, factor.R, strict=True)]
    return np.concatenate(own, axis=1).reshape(-1, 1)
