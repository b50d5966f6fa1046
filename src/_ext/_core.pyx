# cython: language_level=3, wraparound=False, freethreading_compatible=True
"""The compiled engine: one class over lmm.h. Checks shapes, takes the lock, drops the GIL, calls, raises."""

from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport NAN
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

cimport cython
cimport scipy.linalg.cython_blas as blas
cimport scipy.linalg.cython_lapack as lapack
from clmm cimport *
from lmmfast.capi cimport *

import threading
import weakref

import numpy as np

from lmmfast.threads import control, local_setter

cdef lmm_blas TABLE
TABLE.potrf = lapack.dpotrf
TABLE.potri = lapack.dpotri
TABLE.syev = lapack.dsyev
TABLE.syrk = blas.dsyrk
TABLE.trsm = blas.dtrsm
TABLE.gemm = blas.dgemm
TABLE.symm = blas.dsymm
TABLE.set_local_threads = <int (*)(int) noexcept nogil><size_t>local_setter()

cdef lmmfast_api API = lmmfast_table(&TABLE)
c_api = PyCapsule_New(&API, LMMFAST_CAPSULE, NULL)  # for lmmfast.h


class NotPositiveDefinite(ArithmeticError):
    """The criterion is not finite at this theta."""


class NotFinite(NotPositiveDefinite):
    """The derivatives of the criterion are not finite."""


class Exact(NotPositiveDefinite):
    """The residual variance went to zero on the way."""


class NoVariance(ArithmeticError):
    """The response is a linear combination of the fixed-effect columns."""


class Dependent(ArithmeticError):
    """Columns of a random term are linearly dependent; args: (factor, column)."""


class TooLarge(MemoryError):
    """The model needs more memory than allowed; args: (report,)."""


class Unsolved(NotPositiveDefinite):
    """The iterations of an iterative model did not converge."""


class Unavailable(NotImplementedError):
    """Not available with the storage that was asked for."""


cdef int check(lmm_status status) except -1:
    """The one place where a status becomes an exception."""
    if status == LMM_NOMEM:
        raise MemoryError()
    if status == LMM_NOTPOSDEF:
        raise NotPositiveDefinite()
    if status == LMM_UNSOLVED:
        raise Unsolved()
    if status == LMM_NOTFINITE:
        raise NotFinite()
    if status == LMM_EXACT:
        raise Exact()
    if status == LMM_NOVARIANCE:
        raise NoVariance()
    if status == LMM_UNAVAILABLE:
        raise Unavailable()
    return 0


include "threads.pxi"


CONTROL = control()
MOST_COLUMNS = 40_000  # p * p stays below 2^31
MOST_LEVELS = 2**31 - 1
MOST_THREADS = 1024
MOST_SIDES = 2**24  # right-hand sides


include "columns.pxi"
include "rows.pxi"


cdef int _check_theta(const double[::1] theta, Py_ssize_t n, str name) except -1:
    if theta is None or theta.shape[0] != n:
        raise ValueError(f"{name} needs {n} values, not {0 if theta is None else theta.shape[0]}")
    if not _is_finite(&theta[0], n, False):
        raise ValueError(f"{name} has values that are not finite")
    return 0


include "blocks.pxi"
include "own.pxi"
include "fits.pxi"
include "lock.pxi"
include "setup.pxi"
include "many.pxi"
include "families.pxi"
include "structures.pxi"
include "pedigree.pxi"
include "relation.pxi"


cdef class Model:
    """Cross-products of one model and its workspace. One thread at a time; any number of models.

    Parameters
    ----------
    y : (n,) float64, or a Cross alone
    X : (n, p) float64, Fortran order, or a list of p columns: see `_Columns`; or the arguments of `Fixed`
    factors : list of (codes int32 (n,), number of levels, columns float64 (n, k) or a list, term int32 (k,))
    weights : (n,) float64, positive, or None
    limit : float, bytes that may be used
    storage : "auto", "dense", "sparse" or "iterative", of the trailing matrix
    order : function of the columns (ptr, row) of a symmetric pattern that gives a fill-reducing
        permutation, or None
    moves : parameters of covariance structures, where fits move few of them beside ntheta: second derivatives
        are in these alone then; 0: in all of theta

    Attributes
    ----------
    ntheta : int
    keep : (p,) bool, which columns of X are linearly independent of earlier ones
    report : dict, the storage that was chosen and the memory it takes (bytes)
    """

    cdef lmm_model *m
    cdef object lock
    cdef readonly int ntheta
    cdef readonly object keep
    cdef readonly dict report
    cdef list sizes
    cdef Py_ssize_t n  # rows, 0 where they are gone

    def __cinit__(self, y, X=None, list factors=None, weights=None, double limit=float("inf"), *,
                  storage="auto", order=None, int moves=0, **family):
        cdef _Setup setup = _Setup()
        cdef Cross cross = y if isinstance(y, Cross) else None
        cdef _Rows rows = None
        if family:  # of a Generalized: response and weights are its own
            if not isinstance(self, Generalized):
                raise TypeError(f"unexpected arguments: {', '.join(family)}")
            rows = _Rows(y, X, factors, None)
        elif cross is None:
            rows = _Rows(y, X, factors, weights)
        setup.run(rows, cross, limit, storage, order, False, bool(family), moves)
        self.m = setup.taken()
        self.lock = _Lock()
        self.ntheta = lmm_ntheta(self.m)
        self.keep = np.asarray(setup.keep)[:len(setup.keep) - 1].astype(bool)
        self.report = setup.summary()
        if cross is not None:
            self.sizes = cross.sizes
        else:
            self.n = rows.d.n
            self.sizes = [(rows.factor[k].nlev, rows.factor[k].ncol) for k in range(rows.d.nfactor)]

    def __dealloc__(self):
        lmm_free(self.m)

    def renew_lock(self):
        """In a forked child: the thread that held the lock is not there."""
        self.lock = _Lock()

    def use_threads(self, threads):
        """Threads that evaluations use from now on; as before where there is no memory for them."""
        cdef lmm_status status
        if not 1 <= threads <= MOST_THREADS:
            raise ValueError(f"threads must be 1 to {MOST_THREADS}, not {threads}")
        with self.lock:
            status = lmm_set_threads(self.m, threads)
        if status == LMM_NOMEM:
            raise MemoryError(f"{threads} threads cannot be started")

    def response(self, y, X, list factors, weights=None):
        """Replaces y; everything else must be what the model was made of."""
        cdef _Rows rows = self.same_rows(y, X, factors, weights)
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_response(self.m, &rows.d)
        check(status)

    def refill(self, y, X, list factors, weights=None):
        """Replaces y and weights; rows of weight zero are as if they were not there.

        Dependent: the columns that are independent are others now, and the model cannot be used before it is
        filled again.
        """
        cdef _Rows rows = self.same_rows(y, X, factors, weights, True)
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_refill(self.m, &rows.d)
        if status == LMM_DEPENDENT:
            raise Dependent()
        check(status)

    def without_fixed(self, values, y, X, list factors, weights=None):
        """What the fixed effects leave of columns (n, r) that are scaled by the roots of the weights.

        The other arguments must be what the model was made of.
        """
        cdef _Rows rows = self.same_rows(y, X, factors, weights)
        cdef double[::1, :] V = np.array(values, np.float64, order="F", ndmin=2)
        cdef int r = <int>V.shape[1]
        cdef lmm_status status
        if V.shape[0] != self.n:
            raise ValueError(f"columns need {self.n} rows, not {V.shape[0]}")
        if r:
            with self.lock, nogil:
                status = lmm_without_fixed(self.m, &rows.d, r, &V[0, 0])
            check(status)
        return np.asarray(V)

    cdef _Rows same_rows(self, y, X, list factors, weights, bint absent=False):
        cdef _Rows rows = _Rows(y, X, factors, weights, absent)
        sizes = [(rows.factor[k].nlev, rows.factor[k].ncol) for k in range(rows.d.nfactor)]
        if rows.d.n != self.n or rows.d.p != len(self.keep) or sizes != self.sizes:
            raise ValueError("these are not the rows that the model was made of")
        return rows

    def arrange(self, const int32_t[::1] place not None):
        """theta gets another order: place (ntheta,) in it of each parameter as it stands factor by factor."""
        cdef bytearray seen = bytearray(self.ntheta)
        cdef Py_ssize_t i
        for i in range(place.shape[0]):
            if 0 <= place[i] < self.ntheta:
                seen[place[i]] = 1
        if place.shape[0] != self.ntheta or 0 in seen:
            raise ValueError(f"place must have each of 0 .. {self.ntheta - 1} once")
        with self.lock:
            lmm_arrange(self.m, &place[0] if self.ntheta else NULL)

    # ---- evaluate, then read ----------------------------------------------------------------------

    def evaluate(self, const double[::1] theta, bint reml=True, bint whitened=False, bint value=True):
        """The model stands at theta from now on, and readings are of that. Returns the criterion.

        Parameters
        ----------
        theta : (ntheta,) float64, in the order that `arrange` gave (at first factor by factor)
        reml : bool
        whitened : bool, whether theta (and derivatives) are in whitened coordinates
        value : bool, False: None is returned, and nothing is evaluated until a reading needs it
        """
        cdef double f = 0
        cdef lmm_status status
        _check_theta(theta, self.ntheta, "theta")
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_evaluate(self.m, reml, whitened, &theta[0], &f if value else NULL)
        check(status)
        return f if value else None

    def derivatives(self, bint hessian=False):
        """Gradient (ntheta,) and average-information curvature (ntheta, ntheta), or None."""
        cdef int n = self.ntheta
        cdef double[::1] g = np.empty(max(n, 1))
        cdef double[:, ::1] H = np.empty((max(n, 1), max(n, 1)) if hessian else (1, 1))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_derivatives(self.m, &g[0], &H[0, 0] if hessian else NULL)
        check(status)
        return np.asarray(g), np.asarray(H) if hessian else None

    def fit(self, const double[::1] start=None, *, bint reml=True, int maxeval=500,
            double tolerance=1e-10, double radius=1.0, callback=None, tuple plane=None):
        """Minimizes. Returns theta, criterion, certificate, rounding (bound, seen), evaluations, status;
        within a plane z too.

        plane: fixed (ntheta,) and basis (ntheta, nz), Fortran order, of full rank: theta = fixed + basis z;
        start is a z then. With structures behind them (`_Plane`) both are of phi, factor by factor.
        """
        cdef lmm_settings s = lmm_defaults()
        cdef lmm_info info
        cdef lmm_status status
        cdef double[::1] theta = np.zeros(max(self.ntheta, 1))
        cdef double[::1] z = np.zeros(max(self.ntheta, 1))
        cdef const double *first = NULL
        cdef _Watch watch = _Watch()
        cdef _Plane held = _plane_of(plane, self.ntheta)
        cdef lmm_plane *within = NULL if held is None else &held.plane
        cdef int n = self.ntheta if held is None else held.plane.nz
        if start is not None and (n or start.shape[0]):
            _check_theta(start, n, "start")
            first = &start[0]
        watch.callback = callback
        s.reml, s.maxeval, s.tolerance, s.radius = reml, maxeval, tolerance, radius
        s.poll = poll
        s.arg = <void *>watch
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_fit(self.m, &s, within, first, &theta[0], &z[0], &info)
        if watch.error is not None:
            raise watch.error
        if held is not None:
            held.raised()
        check(status)
        name = {LMM_OK: "converged", LMM_STOPPED: "stopped", LMM_MAXEVAL: "evaluation limit"}[status]
        out = np.asarray(theta)[:self.ntheta]
        found = out, info.objective, info.certificate, (info.resolution, info.noise), info.neval, name
        return found if held is None else (*found, np.asarray(z)[:n])

    def within(self, tuple plane not None, const double[::1] z not None, *, bint reml=True):
        """Criterion, gradient and average-information curvature in the z of a plane (see `fit`)."""
        cdef _Plane held = _plane_of(plane, self.ntheta)
        cdef int n = held.plane.nz
        cdef double f
        cdef double[::1] g = np.zeros(max(n, 1))
        cdef double[::1, :] H = np.zeros((max(n, 1), max(n, 1)), order="F")
        cdef lmm_status status
        _check_theta(z, n, "z")
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_within(self.m, reml, &held.plane, &z[0] if n else NULL, &f, &g[0], &H[0, 0])
        held.raised()
        check(status)
        return f, np.asarray(g)[:n], np.asarray(H)[:n, :n]

    def many(self, Y, L, y, X, list factors, w=None, *, weights=None, start=None, bint reml=True,
             int maxeval=500, bint df=True):
        """Fits of the columns of Y (n, count), Fortran order, and contrasts L (r, p) of each.

        weights: of each column, as Y; start (ntheta): None for moments of each. The others: see `lmm_many`.
        """
        cdef _Rows rows = self.same_rows(y, X, factors, w)
        if Y.shape[1]:
            return _fit_many(self.m, self.lock, rows, Y, weights, start, L, reml, maxeval, df)

    def montecarlo(self):
        """Standard error of the criterion and covariance of theta-hat from an iterative model's probes."""
        cdef double se
        cdef double[:, ::1] cov = np.empty((max(self.ntheta, 1), max(self.ntheta, 1)))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_montecarlo(self.m, &se, &cov[0, 0])
        check(status)
        return se, np.asarray(cov)

    def estimates(self):
        """beta (p,), vcov (p, p), sigma, and the conditional modes, m x k by factor."""
        cdef Py_ssize_t p = len(self.keep)
        cdef double[::1] beta = np.empty(p + 1), b = np.empty(self.effects())
        cdef double[:, ::1] vcov = np.empty((p + 1, p + 1))
        cdef double sigma
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_estimates(self.m, &beta[0], &vcov[0, 0], &sigma, &b[0], NULL)
        check(status)
        full = np.asarray(vcov).reshape(-1)[:p * p].reshape(p, p)
        return np.asarray(beta)[:p], full, sigma, _cut(np.asarray(b), self.sizes)

    def condvar(self):
        """Conditional covariances of each level over sigma^2, m x k x k by factor."""
        cdef double[::1] out = np.empty(sum(m * k * k for m, k in self.sizes))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_estimates(self.m, NULL, NULL, NULL, NULL, &out[0])
        check(status)
        return _cut(np.asarray(out), [(m, k, k) for m, k in self.sizes])

    def value(self):
        """Criterion at the last evaluation that a reading used."""
        return lmm_value(self.m)

    def deviation(self):
        """Standard error of the criterion at the last evaluation; 0 for exact models."""
        return lmm_deviation(self.m)

    def whitening(self):
        """C by factor (k x k): T = C times the whitened T, up to rotation."""
        cdef double[::1] C = np.empty(max(sum(k * k for _, k in self.sizes), 1))
        lmm_whitening(self.m, &C[0])
        return _cut(np.asarray(C), [(k, k) for _, k in self.sizes])

    def projection(self):
        """Z'V^-1 X (X'V^-1 X)^-1 (a list of m x k x p) and Z'P y (m x k), by factor."""
        cdef Py_ssize_t p = len(self.keep)
        cdef double[::1] G = np.empty(max(self.effects() * p, 1)), g = np.empty(self.effects())
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_projection(self.m, &G[0], &g[0], NULL, NULL, NULL)
        check(status)
        return _cut(np.asarray(G), [(m, k, p) for m, k in self.sizes]), _cut(np.asarray(g), self.sizes)

    def squares(self, int j=-1):
        """For derivatives of the residual sum of squares r2: r2, beta (p,), column j of (X'V^-1 X)^-1 and
        sums over levels of g g' and (j >= 0) of g h' + h g', h h', g = Z'P y, h = Z'V^-1 X times that column:
        (1 or 3, K, K), K columns of all factors."""
        cdef Py_ssize_t p = len(self.keep), K = sum(k for _, k in self.sizes)
        cdef double[::1] beta = np.empty(p + 1), column = np.zeros(p + 1)
        cdef double[:, :, ::1] M = np.empty((1 if j < 0 else 3, K, K))
        cdef double r2
        cdef lmm_status status
        if j >= p:
            raise IndexError(f"there are {p} columns, not {j}")
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_squares(self.m, j, &r2, &beta[0], &column[0], &M[0, 0, 0])
        check(status)
        return r2, np.asarray(beta)[:p], np.asarray(column)[:p], np.asarray(M)

    def contrasts(self, const double[:, ::1] L not None):
        """(r + 1, K, K): sums over levels of g g', g = Z'P y, and of h h', h = Z'V^-1 X (X'V^-1 X)^-1 L', for
        each of the contrasts L (r, p); whitened columns of all factors."""
        cdef Py_ssize_t p = len(self.keep), K = sum(k for _, k in self.sizes)
        cdef int r = <int>L.shape[0]
        cdef double[:, :, ::1] M = np.empty((r + 1, K, K))
        cdef lmm_status status
        if L.shape[1] != p:
            raise ValueError(f"contrasts need {p} columns, not {L.shape[1]}")
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_contrasts(self.m, r, &L[0, 0] if r and p else NULL, &M[0, 0, 0])
        check(status)
        return np.asarray(M)

    def basis(self):
        """E (p, rank) with (X E)'V^-1 (X E) = I; Z'V^-1 X E and B Z'W X E, m x k x rank by factor."""
        cdef Py_ssize_t p = len(self.keep), rank = np.count_nonzero(self.keep)
        cdef double[::1] E = np.empty(p * rank + 1)
        cdef double[::1] U = np.empty(self.effects() * rank + 1), N = np.empty(self.effects() * rank + 1)
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_projection(self.m, NULL, NULL, &E[0], &U[0], &N[0])
        check(status)
        shapes = [(m, k, rank) for m, k in self.sizes]
        return _cut(np.asarray(E), [(p, rank)])[0], _cut(np.asarray(U), shapes), _cut(np.asarray(N), shapes)

    def solve(self, list V not None):
        """B V, B = (Z'WZ + (Lambda Lambda')^-1)^-1; V and the result are m x k x r by factor."""
        cdef double[::1] flat = self.columns(V)
        cdef int r = <int>(flat.shape[0] // self.effects())
        cdef lmm_status status
        if r:
            with self.lock, single_threaded_blas():
                with nogil:
                    status = lmm_solve(self.m, r, &flat[0], &flat[0])
            check(status)
        return _cut(np.asarray(flat), [(m, k, r) for m, k in self.sizes])

    def forms(self, list V not None):
        """V'Z'V^-1 Z V (r, r) for V m x k x r by factor."""
        cdef double[::1] flat = self.columns(V)
        cdef int r = <int>(flat.shape[0] // self.effects())
        cdef double[:, ::1] Q = np.zeros((max(r, 1), max(r, 1)))
        cdef lmm_status status
        if r:
            with self.lock, single_threaded_blas():
                with nogil:
                    status = lmm_forms(self.m, r, &flat[0], &Q[0, 0])
            check(status)
        return np.asarray(Q)[:r, :r]

    def traces_price(self):
        """Bytes and floating-point operations that traces() takes."""
        cdef double bytes, flops
        lmm_traces_price(self.m, &bytes, &flops)
        return bytes, flops

    def traces(self):
        """tr V^-1 G_r (ntheta,) and tr V^-1 G_r V^-1 G_s (ntheta, ntheta), in whitened coordinates."""
        cdef int n = self.ntheta
        cdef double[::1] single = np.empty(max(n, 1))
        cdef double[:, ::1] pairs = np.empty((max(n, 1), max(n, 1)))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_traces(self.m, &single[0], &pairs[0, 0])
        check(status)
        return np.asarray(single)[:n], np.asarray(pairs)[:n, :n]

    def hessian(self):
        """Gradient (ntheta,) and exact Hessian (ntheta, ntheta) of the criterion in the entries of each
        term's relative covariance matrix, in whitened coordinates."""
        cdef int n = self.ntheta
        cdef double[::1] slope = np.empty(max(n, 1))
        cdef double[:, ::1] H = np.empty((max(n, 1), max(n, 1)))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_hessian(self.m, &slope[0], &H[0, 0])
        check(status)
        return np.asarray(slope)[:n], np.asarray(H)[:n, :n]

    def pairs(self, int a, int c):
        """Levels of factors a and c that occur together, two arrays; a = c: each with itself."""
        cdef int64_t count
        cdef int32_t[::1] la, lc
        self._are_factors(a, c)
        with self.lock:
            check(lmm_pairs_of_levels(self.m, a, c, &count, NULL, NULL))
            la, lc = np.empty(count + 1, np.int32), np.empty(count + 1, np.int32)
            check(lmm_pairs_of_levels(self.m, a, c, &count, &la[0], &lc[0]))
        return np.asarray(la)[:count], np.asarray(lc)[:count]

    def covariances(self, int a, int c, const int32_t[::1] la not None, const int32_t[::1] lc not None,
                    bint whitened=False):
        """Blocks of B (pairs, k_a, k_c) at levels of a and c; nan where they are not known (lmm.h)."""
        cdef int64_t count = la.shape[0]
        cdef lmm_status status
        self._are_factors(a, c)
        if lc.shape[0] != count:
            raise ValueError(f"as many levels of both factors are needed, not {count} and {lc.shape[0]}")
        if not _codes_are_valid(la, self.sizes[a][0]) or not _codes_are_valid(lc, self.sizes[c][0]):
            raise ValueError("there are no such levels")
        shape = (count, self.sizes[a][1], self.sizes[c][1])
        cdef double[::1] out = np.empty(count * shape[1] * shape[2] + 1)
        if count:
            with self.lock, single_threaded_blas():
                with nogil:
                    status = lmm_covariances(self.m, a, c, whitened, count, &la[0], &lc[0], &out[0])
            check(status)
        return _cut(np.asarray(out), [shape])[0]

    cdef Py_ssize_t effects(self):
        """Number of random effects."""
        return sum(m * k for m, k in self.sizes)

    cdef columns(self, list V):
        """Arrays m x k x r by factor, one after the other in one array of their own."""
        if len(V) != len(self.sizes):
            raise ValueError(f"{len(self.sizes)} arrays are needed, one for each factor, not {len(V)}")
        r = V[0].shape[V[0].ndim - 1]
        if [v.shape for v in V] != [(m, k, r) for m, k in self.sizes]:
            raise ValueError("the arrays need shapes m x k x r, m levels and k columns of each factor")
        if r > MOST_SIDES:
            raise ValueError(f"there are more than {MOST_SIDES} right-hand sides")
        flat = np.concatenate([np.asarray(v, np.float64).ravel() for v in V])
        if len(flat) and not np.isfinite(flat).all():
            raise ValueError("the right-hand sides must be finite")
        return flat

    def _are_factors(self, int a, int c):
        if not (0 <= a < len(self.sizes) and 0 <= c < len(self.sizes)):
            raise IndexError(f"there are {len(self.sizes)} factors, not {a} and {c}")


def _cut(flat, shapes):
    """Views of a flat array, one for each shape."""
    out, at = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        out.append(flat[at:at + size].reshape(shape))
        at += size
    return out


include "generalized.pxi"
include "repeated.pxi"
include "residual.pxi"
