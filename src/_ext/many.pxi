# The same model of many responses.

ENDS = {LMM_OK: "converged", LMM_MAXEVAL: "evaluation limit", LMM_NOVARIANCE: "no residual variance",
        LMM_NOTPOSDEF: "not finite", LMM_NOTFINITE: "not finite", LMM_EXACT: "exact fit",
        LMM_UNSOLVED: "not solved", LMM_UNAVAILABLE: "not available",
        LMM_DEPENDENT: "other columns are dependent with these weights"}


cdef _fit_many(lmm_model *m, lock, _Rows rows, const double[::1, :] Y, const double[::1, :] W,
               const double[::1] start, const double[:, ::1] L, bint reml, int maxeval, bint df):
    """Columns of Y, one after the other; a dictionary of arrays with one row each."""
    cdef Py_ssize_t count = Y.shape[1], p = rows.d.p, r = L.shape[0], N = lmm_ntheta(m)
    cdef lmm_settings s = lmm_defaults()
    cdef lmm_fits out
    cdef int64_t done = 0
    cdef lmm_status status
    cdef lmm_status *ends = NULL
    cdef lmm_info *info = NULL
    cdef double[:, ::1] theta = np.empty((count + 1, max(N, 1))), beta = np.empty((count + 1, p + 1))
    cdef double[:, ::1] se = np.empty((count + 1, p + 1)), variance = np.empty((count + 1, r + 1))
    cdef double[:, ::1] degrees = np.empty((count + 1, r + 1))
    cdef double[::1] sigma = np.empty(count + 1)
    cdef const double *contrasts = NULL
    cdef lmm_responses given
    if Y.shape[0] != rows.d.n or L.shape[1] != p:
        raise ValueError(f"Y needs {rows.d.n} rows and L {p} columns")
    if W is not None and (W.shape[0] != Y.shape[0] or W.shape[1] != count):
        raise ValueError("weights need the shape of Y")
    if start is not None and start.shape[0] != N:
        raise ValueError(f"start needs {N} numbers")
    given.count, given.y, given.w, given.start = count, &Y[0, 0], NULL, NULL
    if W is not None:
        given.w = &W[0, 0]
    if start is not None and N:
        given.start = &start[0]
    if r:
        contrasts = &L[0, 0]
    try:
        ends = <lmm_status *>calloc(count + 1, sizeof(lmm_status))
        info = <lmm_info *>calloc(count + 1, sizeof(lmm_info))
        if ends == NULL or info == NULL:
            raise MemoryError()
        out = lmm_fits(ends, info, &theta[0, 0], &sigma[0], &beta[0, 0], &se[0, 0], &variance[0, 0], NULL)
        if df:
            out.df = &degrees[0, 0]
        s.reml, s.maxeval = reml, maxeval
        with lock, single_threaded_blas():
            with nogil:
                status = lmm_many(m, &rows.d, &s, &given, <int>r, contrasts, &out, &done)
        check(status)
        found = {"theta": _rows_of(theta, count, N), "beta": _rows_of(beta, count, p),
                 "se": _rows_of(se, count, p), "sigma": np.asarray(sigma)[:count],
                 "variance": _rows_of(variance, count, r)}
        if df:
            found["df"] = _rows_of(degrees, count, r)
        found["status"] = np.array([ENDS[ends[i]] for i in range(count)], dtype=object)
        found["evals"] = np.array([info[i].neval for i in range(count)], dtype=np.int64)
        for name, values in (("objective", [info[i].objective for i in range(count)]),
                             ("certificate", [info[i].certificate for i in range(count)]),
                             ("resolution", [info[i].resolution for i in range(count)]),
                             ("noise", [info[i].noise for i in range(count)])):
            found[name] = np.array(values, dtype=float)
        return found
    finally:
        free(ends)
        free(info)


cdef _rows_of(flat, Py_ssize_t count, Py_ssize_t width):
    """The first count rows of this width of memory that is one value a row wider."""
    return np.asarray(flat).reshape(-1)[:count * width].reshape(count, width).copy()
