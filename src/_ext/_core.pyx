# cython: language_level=3, wraparound=False, freethreading_compatible=True
"""The compiled engine: one class over lmm.h. Checks shapes, takes the lock, drops the GIL, calls, raises."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free

cimport cython
cimport scipy.linalg.cython_blas as blas
cimport scipy.linalg.cython_lapack as lapack
from clmm cimport *

import threading
import weakref

import numpy as np

from lmmfast.threads import control, own_setter

cdef lmm_blas TABLE
TABLE.potrf = lapack.dpotrf
TABLE.potri = lapack.dpotri
TABLE.syev = lapack.dsyev
TABLE.syrk = blas.dsyrk
TABLE.trsm = blas.dtrsm
TABLE.gemm = blas.dgemm
TABLE.symm = blas.dsymm
TABLE.own = <int (*)(int) noexcept nogil><size_t>own_setter()


class NotPositiveDefinite(ArithmeticError):
    """The criterion is not finite at this theta."""


class NotFinite(NotPositiveDefinite):
    """The derivatives of the criterion are not finite."""


class NoVariance(ArithmeticError):
    """The response is a linear combination of the fixed-effect columns."""


class Dependent(ArithmeticError):
    """Columns of a random term are linearly dependent; args: (factor, column)."""


class TooLarge(MemoryError):
    """The model needs more memory than allowed; args: (report,)."""


class Unsolved(NotPositiveDefinite):
    """The iterations of an iterative model did not converge."""


class Unavailable(NotImplementedError):
    """Not to be had with the storage that was asked for."""


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
    if status == LMM_NOVARIANCE:
        raise NoVariance()
    if status == LMM_UNAVAILABLE:
        raise Unavailable()
    return 0


cdef class OneThread:
    """A use of BLAS on one thread, `with OneThread(control()):`.

    Compiled, so that no interrupt falls between its own lines and no traceback keeps it alive: where
    one falls into what it calls, the use ends with this object.
    """

    cdef object control, mark, __weakref__
    cdef bint begun  # and not ended

    def __cinit__(self, counter):
        self.control, self.mark = counter, weakref.ref(self)

    def __enter__(self):
        if self.control is None:
            return
        self.begun = True
        lock = self.control.lock
        lock.acquire()
        try:
            self.control.begin(self.mark)
        finally:
            lock.release()

    def __exit__(self, *error):
        if not self.begun:
            return
        try:
            PyErr_CheckSignals()  # those that came during a long call
        finally:
            self.end()

    def __del__(self):
        if self.begun:
            self.end()

    cdef end(self):
        lock = self.control.lock
        lock.acquire()
        try:
            self.control.end(self.mark)
            self.begun = False
        finally:
            lock.release()


cdef OneThread single_threaded_blas():
    return OneThread(CONTROL)


CONTROL = control()
MOST_COLUMNS = 40_000  # p * p stays below 2^31
MOST_LEVELS = 2**31 - 1
MOST_THREADS = 1024
MOST_SIDES = 2**24  # right-hand sides


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
        if y is None or X is None or not factors:
            raise ValueError("y, X and at least one factor are needed")
        self.factor = <lmm_factor *>calloc(len(factors), sizeof(lmm_factor))
        if not self.factor:
            raise MemoryError()
        if n == 0 or X.shape[0] != n or (w is not None and w.shape[0] != n):
            raise ValueError("y, X and weights need the same number of rows, at least one")
        if X.shape[1] > MOST_COLUMNS:
            raise ValueError(f"X has more than {MOST_COLUMNS} columns")
        if not _is_finite(&y[0], n, False) or (w is not None and not _is_finite(&w[0], n, True)):
            raise ValueError("y must be finite, weights positive and finite")
        if X.shape[1] and not _is_finite(&X[0, 0], n * X.shape[1], False):
            raise ValueError("X must be finite")
        for k in range(len(factors)):
            level, nlev, z, term = factors[k]
            if level is None or z is None or term is None:
                raise ValueError(f"factor {k}: codes, levels, columns and terms are needed")
            if level.shape[0] != n or z.shape[0] != n or term.shape[0] != z.shape[1]:
                raise ValueError(f"factor {k}: codes and columns need as many rows as y")
            if not 1 <= z.shape[1] <= MOST_COLUMNS or not 1 <= nlev <= MOST_LEVELS:
                raise ValueError(f"factor {k}: levels and columns are needed, and not too many")
            if not _codes_are_valid(level, nlev):
                raise ValueError(f"factor {k}: codes must be 0 .. {nlev - 1}")
            if not _is_finite(&z[0, 0], n * z.shape[1], False):
                raise ValueError(f"factor {k}: columns must be finite")
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


@cython.boundscheck(False)
cdef bint _codes_are_valid(const int32_t[::1] level, int32_t nlev) noexcept nogil:
    cdef Py_ssize_t i
    cdef bint valid = True
    for i in range(level.shape[0]):
        valid &= 0 <= level[i] < nlev
    return valid


cdef bint _is_finite(const double *x, Py_ssize_t n, bint positive) noexcept nogil:
    cdef Py_ssize_t i
    cdef double a = 0, b = 0
    cdef bint valid = True
    for i in range(0, n - 1, 2):  # 0 * x: NaN where x is not finite
        a += 0 * x[i]
        b += 0 * x[i + 1]
    if n % 2:
        a += 0 * x[n - 1]
    if positive:
        for i in range(n):
            valid &= x[i] > 0
    return valid and a + b == 0


cdef int _check_theta(const double[::1] theta, Py_ssize_t n, str name) except -1:
    if theta is None or theta.shape[0] != n:
        raise ValueError(f"{name} needs {n} values, not {0 if theta is None else theta.shape[0]}")
    if not _is_finite(&theta[0], n, False):
        raise ValueError(f"{name} has values that are not finite")
    return 0


cdef class Blocks:
    """Additive cross-products of rows [z_1 | ... | z_K | X y], by levels of the K factors.

    Parameters
    ----------
    widths : list of int, columns of each factor
    border : int, columns of X and y
    """

    cdef lmm_blocks *b
    cdef readonly list widths
    cdef readonly int border
    cdef public bint spoiled  # an addition was begun and not ended: nothing is read any more

    def __cinit__(self, list widths not None, border):
        cdef int32_t[::1] width
        if not all(1 <= w <= MOST_COLUMNS for w in [*widths, border]):
            raise ValueError(f"blocks need 1 to {MOST_COLUMNS} columns, not {widths} and {border}")
        width = np.array([*widths, 0], np.int32)
        check(lmm_blocks_new(&self.b, <int>len(widths), &width[0], border))
        self.widths, self.border = list(widths), border

    def __dealloc__(self):
        lmm_blocks_free(self.b)

    @property
    def nlev(self):
        """Levels of each factor."""
        return [(<blocks_struct *>self.b).nlev[k] for k in range(len(self.widths))]

    @property
    def nbytes(self):
        """Memory of the values and of the tables of pairs."""
        return int(lmm_blocks_bytes(self.b))

    def add(self, list codes not None, list nlev not None, const double[:, ::1] rows not None,
            double sign=1.0):
        """Adds sign times the cross-products of rows (n, sum(widths) + border), already weighted."""
        cdef Py_ssize_t n = rows.shape[0], K = len(self.widths)
        cdef _Codes levels = _Codes(codes, nlev, [n] * K)
        cdef lmm_status status
        if rows.shape[1] != sum(self.widths) + self.border:
            raise ValueError("rows do not fit the blocks")
        if n == 0:
            return
        with nogil:
            status = lmm_blocks_add(self.b, n, levels.at, levels.nlev, &rows[0, 0], sign)
        self.spoiled |= status != LMM_OK
        check(status)

    def merge(self, Blocks other not None, list maps not None, list nlev not None, double sign=1.0):
        """Adds sign times other, whose level l of factor k is level maps[k][l] here."""
        cdef _Codes levels = _Codes(maps, nlev, other.nlev)
        cdef lmm_status status
        if other.widths != self.widths or other.border != self.border or other is self:
            raise ValueError("blocks of different models")
        other.check()
        with nogil:
            status = lmm_blocks_merge(self.b, other.b, levels.at, levels.nlev, sign)
        self.spoiled |= status != LMM_OK
        check(status)

    def compact(self):
        """Gives back the memory that only later additions need; they make it anew."""
        lmm_blocks_compact(self.b)

    def diagonal(self, Py_ssize_t k):
        """Z'WZ by level, (m, p, p)."""
        cdef blocks_struct *b = <blocks_struct *>self.b
        self._is_factor(k)
        return _copy(b.diag[k], (b.nlev[k], b.width[k], b.width[k]))

    def edge(self, Py_ssize_t k):
        """Z'W[X y] by level, (m, p, border)."""
        cdef blocks_struct *b = <blocks_struct *>self.b
        self._is_factor(k)
        return _copy(b.edge[k], (b.nlev[k], b.width[k], b.border))

    @property
    def corner(self):
        """[X y]'W[X y], (border, border)."""
        self.check()
        return _copy((<blocks_struct *>self.b).corner, (self.border, self.border))

    def pairs(self, Py_ssize_t a, Py_ssize_t c):
        """Levels of factors a < c that occur together, and their blocks (P, p_a, p_c), sorted."""
        if not 0 <= a < c < len(self.widths):
            raise IndexError("factors a < c are needed")
        self.check()
        cdef const lmm_pairs *p = lmm_pairs_of(self.b, <int>a, <int>c)
        cdef Py_ssize_t n = p.count, wa = self.widths[a], wc = self.widths[c]
        cdef int64_t[::1] order = np.empty(n + 1, np.int64)
        check(lmm_blocks_order(self.b, <int>a, <int>c, &order[0]))
        cdef object sorted = np.asarray(order)[:n]
        if n == 0:
            return np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, wa, wc))
        cdef object la = np.asarray(<int32_t[:n]>p.a)[sorted], lc = np.asarray(<int32_t[:n]>p.b)[sorted]
        cdef object values = np.asarray(<double[:n * wa * wc]>p.value).reshape(n, wa, wc)[sorted]
        return la, lc, values

    @staticmethod
    def of_arrays(list widths not None, int border, list nlev not None, list diagonals not None,
                  list edges not None, corner, dict pairs not None):
        """Blocks from what `diagonal`, `edge`, `corner` and `pairs` gave, by (a, c)."""
        cdef Blocks out = Blocks(widths, border)
        cdef Py_ssize_t k, K = len(widths)
        cdef double[::1] diag, edge, value
        cdef int32_t[::1] la, lc
        cdef object own = np.asarray(<double[:border, :border]>(<blocks_struct *>out.b).corner)
        if not len(nlev) == len(diagonals) == len(edges) == K:
            raise ValueError(f"levels and blocks of {K} factors are needed")
        if not all(0 <= m <= MOST_LEVELS for m in nlev):
            raise ValueError(f"numbers of levels must be 0 to {MOST_LEVELS}, not {nlev}")
        for k in range(K):
            diag = _flat(diagonals[k], (nlev[k], widths[k], widths[k]))
            edge = _flat(edges[k], (nlev[k], widths[k], border))
            if nlev[k]:
                check(lmm_blocks_set(out.b, <int>k, nlev[k], &diag[0], &edge[0]))
        for (a, c), (first, second, values) in pairs.items():
            if not 0 <= a < c < K:
                raise ValueError("factors a < c are needed")
            la, lc = _level_numbers(first, nlev[a]), _level_numbers(second, nlev[c])
            value = _flat(values, (len(la), widths[a], widths[c]))
            if len(la) != len(lc):
                raise ValueError(f"levels of factors {a} and {c} do not fit")
            if len(la):
                check(lmm_blocks_set_pairs(out.b, a, c, len(la), &la[0], &lc[0], &value[0]))
                if lmm_pairs_of(out.b, a, c).count != len(la):
                    raise ValueError(f"a pair of levels of factors {a} and {c} stands there twice")
        own[:] = _flat(corner, (border, border)).reshape(border, border)
        return out

    def _is_factor(self, k):
        if not 0 <= k < len(self.widths):
            raise IndexError(f"there is no factor {k}")
        self.check()

    def check(self):
        """Every addition that was begun has ended: memory may run out, or Ctrl-C come, halfway."""
        if self.spoiled:
            raise ValueError("an addition to these cross-products was broken off (by lack of memory or "
                             "Ctrl-C), so their sums are not whole: build them anew")


cdef class _Codes:
    """Arrays of codes as C wants them, checked; holds the buffers."""

    cdef const int32_t **at
    cdef int32_t *nlev
    cdef list held

    def __cinit__(self, list codes not None, list nlev not None, list length not None):
        cdef Py_ssize_t k, K = len(codes)
        cdef const int32_t[::1] level
        if not K == len(nlev) == len(length):
            raise ValueError(f"codes and numbers of levels of {len(length)} factors are needed")
        self.at = <const int32_t **>calloc(K + 1, sizeof(int32_t *))
        self.nlev = <int32_t *>calloc(K + 1, sizeof(int32_t))
        if not self.at or not self.nlev:
            raise MemoryError()
        self.held = []
        for k in range(K):
            level = codes[k]
            self.held.append(level)
            if level is None or not 0 <= nlev[k] <= MOST_LEVELS:
                raise ValueError(f"factor {k}: codes and a number of levels are needed")
            if level.shape[0] != length[k] or not _codes_are_valid(level, nlev[k]):
                raise ValueError(f"factor {k}: codes must be {length[k]} values in 0 .. {nlev[k] - 1}")
            self.nlev[k] = nlev[k]
            if level.shape[0]:
                self.at[k] = &level[0]

    def __dealloc__(self):
        free(self.at)
        free(self.nlev)


cdef object _copy(double *values, tuple shape):
    cdef Py_ssize_t n = np.prod(shape, dtype=np.intp)
    return np.array(<double[:n]>values).reshape(shape) if n else np.empty(shape)


def _level_numbers(values, most):
    """Integers 0 .. most - 1 as int32."""
    found = np.asarray(values)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise ValueError("levels must be a vector of integers")
    if len(found) and not 0 <= found.min() <= found.max() < most:
        raise ValueError(f"levels must be 0 .. {most - 1}")
    return found.astype(np.int32)


def _flat(values, tuple shape):
    out = np.array(values, np.float64, order="C")
    if out.shape != shape:
        raise ValueError(f"blocks have shape {out.shape}, not {shape}")
    return out.reshape(-1)


cdef class Cross:
    """Blocks as a model: what their columns mean in the user's coordinates.

    Parameters
    ----------
    blocks : Blocks of columns = the user's columns times C (CX: of X)
    n : int, rows in them; sumlogw : float, sum of the logarithms of their weights
    terms : list of (k,) int32, as a factor's term
    C : list of (k, k) float64; CX : (p, p) float64
    beta0 : (p,) float64, yscale : float
        y = X beta0 + yscale times the y of the blocks, X the user's.
    """

    cdef lmm_cross x
    cdef const int32_t **term
    cdef const double **C
    cdef list held
    cdef readonly list sizes
    cdef readonly int p

    def __cinit__(self, Blocks blocks not None, int64_t n, double sumlogw, list terms not None,
                  list C not None, CX, beta0, double yscale):
        cdef Py_ssize_t k, K = len(blocks.widths)
        cdef const int32_t[::1] term
        cdef const double[::1, :] matrix
        cdef const double[::1] vector
        self.term = <const int32_t **>calloc(K + 1, sizeof(int32_t *))
        self.C = <const double **>calloc(K + 1, sizeof(double *))
        if not self.term or not self.C:
            raise MemoryError()
        if not K or not K == len(terms) == len(C):
            raise ValueError(f"terms and coordinates of {K} factors are needed, at least one")
        if not all(blocks.nlev):
            raise ValueError("every factor needs levels")
        if n < 1 or not np.isfinite([sumlogw, yscale]).all() or yscale <= 0:
            raise ValueError("rows, finite weights and a positive scale are needed")
        blocks.check()
        self.p = blocks.border - 1
        self.held = [blocks]
        for k in range(K):
            term, matrix = terms[k], np.asfortranarray(C[k], np.float64)
            if not term.shape[0] == matrix.shape[0] == matrix.shape[1] == blocks.widths[k]:
                raise ValueError(f"factor {k}: terms and coordinates do not fit its columns")
            if not np.isfinite(matrix).all():
                raise ValueError(f"factor {k}: coordinates must be finite")
            self.held.append((term, matrix))
            self.term[k], self.C[k] = &term[0], &matrix[0, 0]
        matrix, vector = np.asfortranarray(CX, np.float64), np.ascontiguousarray(beta0, np.float64)
        if not vector.shape[0] == matrix.shape[0] == matrix.shape[1] == self.p:
            raise ValueError("the coordinates of X do not fit the blocks")
        if not (np.isfinite(matrix).all() and np.isfinite(vector).all()):
            raise ValueError("the coordinates of X must be finite")
        self.held.append((matrix, vector))
        self.x.blocks, self.x.n, self.x.sumlogw, self.x.yscale = blocks.b, n, sumlogw, yscale
        self.x.term, self.x.C = self.term, self.C
        self.x.CX = &matrix[0, 0] if self.p else NULL
        self.x.beta0 = &vector[0] if self.p else NULL
        self.sizes = list(zip(blocks.nlev, blocks.widths))

    def __dealloc__(self):
        free(self.term)
        free(self.C)


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


cdef class _Plane:
    """theta = fixed + basis z, checked; keeps the arrays."""

    cdef lmm_plane plane
    cdef const double[::1] fixed
    cdef const double[::1, :] basis

    def __init__(self, const double[::1] fixed not None, const double[::1, :] basis not None, int ntheta):
        _check_theta(fixed, ntheta, "fixed")
        if basis.shape[0] != ntheta or basis.shape[1] > ntheta:
            raise ValueError(f"basis needs {ntheta} rows and at most as many columns")
        if not np.isfinite(basis).all():
            raise ValueError("basis has values that are not finite")
        self.fixed, self.basis = fixed, basis
        self.plane.nz = <int32_t>basis.shape[1]
        self.plane.fixed = &fixed[0] if ntheta else NULL
        self.plane.basis = &basis[0, 0] if basis.shape[1] else NULL


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


STORAGES = {"auto": LMM_AUTO, "dense": LMM_DENSE, "sparse": LMM_SPARSE, "iterative": LMM_ITERATIVE}
_NAMES = {value: name for name, value in STORAGES.items()}


cdef class _Order:
    """What the order callback of set-up needs: the user's function and the error it raised."""

    cdef object function, error


cdef int find_order(void *arg, int32_t n, const ptrdiff_t *ptr, const int32_t *row,
                    int32_t *perm) noexcept with gil:
    cdef _Order order = <_Order>arg
    try:
        found = order.function(np.array(<ptrdiff_t[:n + 1]>ptr), np.array(<int32_t[:ptr[n]]>row))
        if found is None:
            return 1
        np.asarray(<int32_t[:n]>perm)[:] = found
        return not (np.sort(found) == np.arange(n)).all()
    except BaseException as error:
        order.error = error
        return 1


cdef class _Setup:
    """The arguments of lmm_setup and what it reported."""

    cdef lmm_options options
    cdef lmm_report report
    cdef _Order order
    cdef uint8_t[::1] keep
    cdef lmm_model *m  # until somebody takes it

    def __dealloc__(self):
        lmm_free(self.m)

    cdef lmm_model *taken(self):
        cdef lmm_model *m = self.m
        self.m = NULL
        return m

    cdef run(self, _Rows rows, Cross cross, double limit, storage, order, bint plan):
        cdef const lmm_data *d = NULL
        cdef const lmm_cross *x = NULL
        cdef lmm_status status
        if storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(map(repr, STORAGES))}, not {storage!r}")
        if rows is not None:
            d = &rows.d
        else:
            x = &cross.x
        self.order = _Order()
        self.order.function = order
        self.options.limit = limit
        self.options.storage = STORAGES[storage]
        self.options.plan = plan
        if order is not None:
            self.options.order = find_order
        self.options.arg = <void *>self.order
        self.keep = np.zeros((rows.d.p if rows is not None else cross.p) + 1, np.uint8)
        with single_threaded_blas(), nogil:
            status = lmm_setup(&self.m, d, x, &TABLE, &self.options, &self.keep[0], &self.report)
        if self.order.error is not None:
            raise self.order.error
        if status == LMM_DEPENDENT:
            raise Dependent(self.report.factor, self.report.column)
        if status == LMM_TOOLARGE:
            raise TooLarge(self.summary())
        if status == LMM_NOMEM:
            raise MemoryError(f"no memory for the model ({self.report.bytes / 1e9:.2g} GB)")
        check(status)

    cdef dict summary(self):
        cdef lmm_report r = self.report
        considered = {name: (r.bytes_of[i], r.flops_of[i]) for i, name in _NAMES.items()
                      if i and r.bytes_of[i] > 0}
        which = [k for k in range(64) if r.which >> k & 1]
        return dict(eliminated=r.eliminated, which=which, order=r.order, full=bool(r.full),
                    identified=bool(r.identified), storage=_NAMES[r.storage], meetings=r.meetings,
                    density=r.density, bytes=r.bytes, flops=r.flops, considered=considered)


def plan(y, X=None, list factors=None, weights=None, double limit=float("inf"), *, storage="auto",
         order=None):
    """The report of a model that is not made: storage, bytes, multiplications of an evaluation."""
    cdef _Setup setup = _Setup()
    cdef Cross cross = y if isinstance(y, Cross) else None
    setup.run(_Rows(y, X, factors, weights) if cross is None else None, cross, limit, storage, order, True)
    return setup.summary()


cdef class Model:
    """Cross-products of one model and its workspace. One thread at a time; any number of models.

    Parameters
    ----------
    y : (n,) float64, or a Cross alone
    X : (n, p) float64, Fortran order
    factors : list of (codes int32 (n,), number of levels, columns float64 (n, k), term int32 (k,))
    weights : (n,) float64, positive, or None
    limit : float, bytes that may be used
    storage : "auto", "dense", "sparse" or "iterative", of the trailing matrix
    order : function of the columns (ptr, row) of a symmetric pattern that gives a fill-reducing
        permutation, or None

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
                  storage="auto", order=None):
        cdef _Setup setup = _Setup()
        cdef Cross cross = y if isinstance(y, Cross) else None
        cdef _Rows rows = _Rows(y, X, factors, weights) if cross is None else None
        setup.run(rows, cross, limit, storage, order, False)
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
        cdef _Rows rows = _Rows(y, X, factors, weights)
        cdef lmm_status status
        sizes = [(rows.factor[k].nlev, rows.factor[k].ncol) for k in range(rows.d.nfactor)]
        if rows.d.n != self.n or rows.d.p != len(self.keep) or sizes != self.sizes:
            raise ValueError("these are not the rows that the model was made of")
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_response(self.m, &rows.d)
        check(status)

    # ---- evaluate, then read ----------------------------------------------------------------------

    def evaluate(self, const double[::1] theta, bint reml=True, bint whitened=False, bint value=True):
        """The model stands at theta from now on, and readings are of that. Returns the criterion.

        Parameters
        ----------
        theta : (ntheta,) float64, factor by factor
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
        """Minimizes. Returns theta, criterion, certificate, rounding (bound, seen), evaluations, status.

        plane: fixed (ntheta,) and basis (ntheta, nz), Fortran order, of full rank: theta = fixed + basis z;
        start is a z then.
        """
        cdef lmm_settings s = lmm_defaults()
        cdef lmm_info info
        cdef lmm_status status
        cdef double[::1] theta = np.zeros(max(self.ntheta, 1))
        cdef const double *first = NULL
        cdef _Watch watch = _Watch()
        cdef _Plane held = None if plane is None else _Plane(plane[0], plane[1], self.ntheta)
        cdef lmm_plane *within = NULL if held is None else &held.plane
        cdef int n = self.ntheta if held is None else held.plane.nz
        if held is not None and start is None:
            raise ValueError("start is needed: a z of the plane")
        if start is not None and (n or start.shape[0]):
            _check_theta(start, n, "start")
            first = &start[0]
        watch.callback = callback
        s.reml, s.maxeval, s.tolerance, s.radius = reml, maxeval, tolerance, radius
        s.poll = poll
        s.arg = <void *>watch
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_fit(self.m, &s, within, first, &theta[0], &info)
        if watch.error is not None:
            raise watch.error
        check(status)
        name = {LMM_OK: "converged", LMM_STOPPED: "stopped", LMM_MAXEVAL: "evaluation limit"}[status]
        out = np.asarray(theta)[:self.ntheta]
        return out, info.objective, info.certificate, (info.resolution, info.noise), info.neval, name

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
            with self.lock:
                with nogil:
                    status = lmm_forms(self.m, r, &flat[0], &Q[0, 0])
            check(status)
        return np.asarray(Q)[:r, :r]

    def traces_price(self):
        """Bytes and multiplications that traces() takes."""
        cdef double bytes, flops
        lmm_traces_price(self.m, &bytes, &flops)
        return bytes, flops

    def traces(self):
        """tr V^-1 G_r (ntheta,) and tr V^-1 G_r V^-1 G_s (ntheta, ntheta), in whitened coordinates."""
        cdef int n = self.ntheta
        cdef double[::1] single = np.empty(max(n, 1))
        cdef double[:, ::1] pairs = np.empty((max(n, 1), max(n, 1)))
        cdef lmm_status status
        with self.lock:
            with nogil:
                status = lmm_traces(self.m, &single[0], &pairs[0, 0])
        check(status)
        return np.asarray(single)[:n], np.asarray(pairs)[:n, :n]

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
