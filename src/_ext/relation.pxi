# Included by _core.pyx. Relationship matrices by themselves: products with K, draws, its diagonal.


cdef class Related:
    """K by its inverse; one thread at a time.

    precision : Precision
    """

    cdef void *memory
    cdef relation *r
    cdef object lock
    cdef readonly Precision precision

    def __cinit__(self, Precision precision not None):
        cdef lmm_status status
        self.lock, self.precision = _Lock(), precision
        with single_threaded_blas(), nogil:
            status = relation_new(&self.memory, precision.levels, &precision.precision, &TABLE, True, &self.r)
        check(status)

    def __dealloc__(self):
        relation_free(self.r)
        release(&self.memory, NULL)

    cdef double[::1, :] _rows(self, X):
        cdef double[::1, :] rows = np.array(X, np.float64, order="F", ndmin=2)
        if rows.shape[1] != self.precision.levels or rows.shape[0] > MOST_SIDES:
            raise ValueError(f"rows of {self.precision.levels} levels are needed")
        return rows

    def times(self, X):
        """X K, (r, q)."""
        cdef double[::1, :] rows = self._rows(X)
        cdef int r = <int>rows.shape[0]
        if r:
            with self.lock, nogil:
                times_relation(self.r, r, &rows[0, 0])
        return np.asarray(rows)

    def draws(self, X):
        """Rows (r, q) of independent numbers to rows of covariance K."""
        cdef double[::1, :] rows = self._rows(X)
        cdef int r = <int>rows.shape[0]
        if r:
            with self.lock, nogil:
                draw_related(self.r, r, &rows[0, 0])
        return np.asarray(rows)

    def diagonal(self):
        """(q,) diagonal of K."""
        cdef double[::1] out = np.empty(self.precision.levels)
        cdef double[::1] work = np.empty(len(self.precision.x))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = relation_diagonal(self.r, &out[0], &work[0])
        check(status)
        return np.asarray(out)
