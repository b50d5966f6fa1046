# Included by _core.pyx. Rows in memory, checked: what a model is made of, besides `Cross`.


cdef class _Rows:
    """Borrowed rows (y, X, factors, weights) as lmm_data; holds the buffers while C reads them."""

    cdef lmm_data d
    cdef lmm_factor *factor
    cdef list held

    def __cinit__(self, const double[::1] y, X, list factors, const double[::1] w=None):
        cdef Py_ssize_t k, n
        cdef const int32_t[::1] level, term
        cdef _Columns columns
        if y is None or X is None or not factors:
            raise ValueError("y, X and at least one factor are needed")
        n = y.shape[0]
        self.factor = <lmm_factor *>calloc(len(factors), sizeof(lmm_factor))
        if not self.factor:
            raise MemoryError()
        if n == 0 or (w is not None and w.shape[0] != n):
            raise ValueError("y, X and weights need the same number of rows, at least one")
        if not _is_finite(&y[0], n, False) or (w is not None and not _is_finite(&w[0], n, True)):
            raise ValueError("y must be finite, weights positive and finite")
        columns = _Columns(X, n, True, "X")
        self.held = [y, columns, w]
        self.d.X, self.d.p = columns.column, <int32_t>columns.k
        for k in range(len(factors)):
            level, nlev, z, term = factors[k]
            if level is None or z is None or term is None:
                raise ValueError(f"factor {k}: codes, levels, columns and terms are needed")
            columns = _Columns(z, n, False, f"columns of factor {k}")
            if level.shape[0] != n or term.shape[0] != columns.k:
                raise ValueError(f"factor {k}: codes and columns need as many rows as y")
            if not columns.k or not 1 <= nlev <= MOST_LEVELS:
                raise ValueError(f"factor {k}: levels and columns are needed, and not too many")
            if not _codes_are_valid(level, nlev):
                raise ValueError(f"factor {k}: codes must be 0 .. {nlev - 1}")
            self.held.append((level, columns, term))
            self.factor[k].nlev = nlev
            self.factor[k].ncol = <int32_t>columns.k
            self.factor[k].level = &level[0]
            self.factor[k].z = columns.column
            self.factor[k].term = &term[0]
        self.d.n = n
        self.d.nfactor = <int32_t>len(factors)
        self.d.y = &y[0]
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
