# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The compiled engine: one class over lmm.h. Checks shapes, takes the lock, drops the GIL, calls, raises."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free

cimport scipy.linalg.cython_blas as blas
cimport scipy.linalg.cython_lapack as lapack
from clmm cimport *

import threading

import numpy as np

cdef lmm_blas TABLE
TABLE.potrf = lapack.dpotrf
TABLE.potri = lapack.dpotri
TABLE.syev = lapack.dsyev
TABLE.syrk = blas.dsyrk
TABLE.trsm = blas.dtrsm
TABLE.gemm = blas.dgemm
TABLE.symm = blas.dsymm


class NotPositiveDefinite(ArithmeticError):
    """The criterion is not finite at this theta."""


class NoVariance(ArithmeticError):
    """The response is a linear combination of the fixed-effect columns."""


class Dependent(ArithmeticError):
    """Columns of a random term are linearly dependent; args: (factor, column)."""


class TooLarge(MemoryError):
    """The model needs more memory than allowed; args: (bytes,)."""


cdef int check(lmm_status status) except -1:
    """The one place where a status becomes an exception."""
    if status == LMM_NOMEM:
        raise MemoryError()
    if status == LMM_NOTPOSDEF:
        raise NotPositiveDefinite()
    if status == LMM_NOVARIANCE:
        raise NoVariance()
    return 0


cdef class _Rows:
    """Borrowed rows (y, X, factors, weights) as lmm_data; holds the buffers while C reads them."""

    cdef lmm_data d
    cdef lmm_factor *factor
    cdef list held

    def __cinit__(self, const double[::1] y, const double[::1, :] X, list factors, const double[::1] w=None):
        cdef Py_ssize_t k, n = y.shape[0]
        cdef const int32_t[::1] level, term
        cdef const double[:, ::1] z
        self.held = [y, X, w]
        self.factor = <lmm_factor *>calloc(max(len(factors), 1), sizeof(lmm_factor))
        if not self.factor:
            raise MemoryError()
        if X.shape[0] != n or (w is not None and w.shape[0] != n):
            raise ValueError("y, X and weights need the same number of rows")
        for k in range(len(factors)):
            level, nlev, z, term = factors[k]
            if level.shape[0] != n or z.shape[0] != n or term.shape[0] != z.shape[1]:
                raise ValueError(f"factor {k}: codes and columns need as many rows as y")
            if not _codes_are_valid(level, nlev):
                raise ValueError(f"factor {k}: codes must be 0 .. {nlev - 1}")
            self.held.append((level, z, term))
            self.factor[k].nlev = nlev
            self.factor[k].ncol = <int32_t>z.shape[1]
            self.factor[k].level = &level[0]
            self.factor[k].z = &z[0, 0]
            self.factor[k].term = &term[0]
        self.d.n = n
        self.d.p = <int32_t>X.shape[1]
        self.d.nfactor = <int32_t>len(factors)
        self.d.y = &y[0]
        self.d.X = &X[0, 0] if X.shape[1] else NULL
        self.d.w = NULL if w is None else &w[0]
        self.d.factor = self.factor

    def __dealloc__(self):
        free(self.factor)


cdef bint _codes_are_valid(const int32_t[::1] level, int32_t nlev) noexcept nogil:
    cdef Py_ssize_t i
    cdef bint valid = True
    for i in range(level.shape[0]):
        valid &= 0 <= level[i] < nlev
    return valid


cdef class _Watch:
    """What the poll callback of a fit needs: the user's callback and the error it raised."""

    cdef object callback, error


cdef int poll(void *arg, const lmm_trace *t) noexcept with gil:
    cdef _Watch watch = <_Watch>arg
    try:
        PyErr_CheckSignals()
        if watch.callback is None:
            return 0
        return bool(watch.callback(t.neval, t.objective, t.best, t.radius, t.predicted))
    except BaseException as error:
        watch.error = error
        return 1


class _Lock:
    """A lock that tells a callback which uses its own model, instead of waiting for ever."""

    def __init__(self):
        self.lock = threading.Lock()
        self.owner = None

    def __enter__(self):
        if self.owner == threading.get_ident():
            raise RuntimeError("the model is being fitted: its callback cannot use it")
        self.lock.acquire()
        self.owner = threading.get_ident()

    def __exit__(self, *error):
        self.owner = None
        self.lock.release()


cdef class Model:
    """Cross-products of one model and its workspace. One thread at a time; any number of models.

    Parameters
    ----------
    y : (n,) float64
    X : (n, p) float64, Fortran order
    factors : list of (codes int32 (n,), number of levels, columns float64 (n, k), term int32 (k,))
    weights : (n,) float64, positive, or None
    limit : float, bytes that may be used

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

    def __cinit__(self, y, X, list factors, weights=None, double limit=float("inf")):
        cdef _Rows rows = _Rows(y, X, factors, weights)
        cdef lmm_report report
        cdef lmm_status status
        cdef uint8_t[::1] keep = np.zeros(X.shape[1] + 1, np.uint8)
        with nogil:
            status = lmm_setup(&self.m, &rows.d, &TABLE, limit, &keep[0], &report)
        if status == LMM_DEPENDENT:
            raise Dependent(report.factor, report.column)
        if status == LMM_NOMEM and report.bytes > limit:
            raise TooLarge(report.bytes)
        if status == LMM_NOMEM:
            raise MemoryError(f"no memory for the model ({report.bytes / 1e9:.2g} GB)")
        check(status)
        self.lock = _Lock()
        self.ntheta = lmm_ntheta(self.m)
        self.keep = np.asarray(keep)[:X.shape[1]].astype(bool)
        self.report = dict(eliminated=report.eliminated, order=report.order, full=bool(report.full),
                           bytes=report.bytes)
        self.sizes = [(rows.factor[k].nlev, rows.factor[k].ncol) for k in range(rows.d.nfactor)]

    def __dealloc__(self):
        lmm_free(self.m)

    def response(self, y, X, list factors, weights=None):
        """Replaces y; everything else must be what the model was made of."""
        cdef _Rows rows = _Rows(y, X, factors, weights)
        cdef lmm_status status
        with self.lock:
            with nogil:
                status = lmm_response(self.m, &rows.d)
        check(status)

    def objective(self, const double[::1] theta, bint reml=True, bint gradient=False, bint hessian=False,
                  bint whitened=False):
        """Criterion, gradient (or None) and average-information curvature (or None) at theta."""
        cdef double f
        cdef lmm_status status
        cdef int n = self.ntheta
        cdef double[::1] g = np.empty(max(n, 1))
        cdef double[:, ::1] H = np.empty((max(n, 1), max(n, 1)) if hessian else (1, 1))
        cdef double *gp = &g[0] if gradient else NULL
        cdef double *hp = &H[0, 0] if hessian else NULL
        if theta.shape[0] != n:
            raise ValueError(f"theta needs {n} values, not {theta.shape[0]}")
        with self.lock:
            with nogil:
                status = lmm_objective(self.m, reml, whitened, &theta[0], &f, gp, hp)
        check(status)
        return f, np.asarray(g) if gradient else None, np.asarray(H) if hessian else None

    def fit(self, const double[::1] start=None, *, bint reml=True, int maxeval=500,
            double tolerance=1e-10, double radius=1.0, callback=None):
        """Minimizes. Returns theta, certificate, resolution, evaluations, status."""
        cdef lmm_settings s = lmm_defaults()
        cdef lmm_info info
        cdef lmm_status status
        cdef double[::1] theta = np.zeros(max(self.ntheta, 1))
        cdef const double *first = NULL
        cdef _Watch watch = _Watch()
        if start is not None:
            if start.shape[0] != self.ntheta:
                raise ValueError(f"start needs {self.ntheta} values, not {start.shape[0]}")
            first = &start[0]
        watch.callback = callback
        s.reml, s.maxeval, s.tolerance, s.radius = reml, maxeval, tolerance, radius
        s.poll = poll
        s.arg = <void *>watch
        with self.lock:
            with nogil:
                status = lmm_fit(self.m, &s, first, &theta[0], &info)
        if watch.error is not None:
            raise watch.error
        check(status)
        name = {LMM_OK: "converged", LMM_STOPPED: "stopped", LMM_MAXEVAL: "evaluation limit"}[status]
        out = np.asarray(theta)[:self.ntheta]
        return out, info.certificate, info.resolution, info.neval, name

    def estimates(self, const double[::1] theta, bint reml=True, bint condvar=False):
        """Criterion, beta, vcov, sigma, modes (a list of m x k), conditional variances (m x k x k)."""
        cdef Py_ssize_t p = len(self.keep), blocks = sum(m * k for m, k in self.sizes)
        cdef double[::1] beta = np.empty(p + 1), b = np.empty(blocks)
        cdef double[:, ::1] vcov = np.empty((p + 1, p + 1))
        cdef double[::1] cv = np.empty(sum(m * k * k for m, k in self.sizes) if condvar else 1)
        cdef double f, sigma
        cdef double *cvp = &cv[0] if condvar else NULL
        cdef lmm_status status
        with self.lock:
            with nogil:
                status = lmm_estimates(self.m, reml, &theta[0], &f, &beta[0], &vcov[0, 0], &sigma, &b[0], cvp)
        check(status)
        variances = None
        if condvar:
            variances = _cut(np.asarray(cv), [(m, k, k) for m, k in self.sizes])
        full = np.asarray(vcov).reshape(-1)[:p * p].reshape(p, p)
        return f, np.asarray(beta)[:p], full, sigma, _cut(np.asarray(b), self.sizes), variances

    def whitening(self):
        """C by factor (k x k): T = C times the whitened T, up to rotation."""
        cdef double[::1] C = np.empty(max(sum(k * k for _, k in self.sizes), 1))
        lmm_whitening(self.m, &C[0])
        return _cut(np.asarray(C), [(k, k) for _, k in self.sizes])

    def projection(self, const double[::1] theta, bint reml=True):
        """Z'V^-1 X (X'V^-1 X)^-1 (a list of m x k x p) and Z'P y (m x k), by factor."""
        cdef Py_ssize_t p = len(self.keep), blocks = sum(m * k for m, k in self.sizes)
        cdef double[::1] G = np.empty(max(blocks * p, 1)), g = np.empty(max(blocks, 1))
        cdef lmm_status status
        if theta.shape[0] != self.ntheta:
            raise ValueError(f"theta needs {self.ntheta} values, not {theta.shape[0]}")
        with self.lock:
            with nogil:
                status = lmm_projection(self.m, reml, &theta[0], &G[0], &g[0])
        check(status)
        return _cut(np.asarray(G), [(m, k, p) for m, k in self.sizes]), _cut(np.asarray(g), self.sizes)


def _cut(flat, shapes):
    """Views of a flat array, one for each shape."""
    out, at = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        out.append(flat[at:at + size].reshape(shape))
        at += size
    return out
