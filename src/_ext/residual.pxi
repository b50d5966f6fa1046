# Included by _core.pyx. Linear models whose rows have variances and correlations of their own.


CORRELATIONS = {"": LMM_INDEPENDENT, "ar1": LMM_AR1, "car1": LMM_CAR1, "cs": LMM_CS, "ante": LMM_ANTE}


cdef class ResidualModel(Model):
    """A `Model` with a residual structure: `structure` before anything else, and after every new response.

    Everything that is read is of the last delta of `place`.
    """

    cdef readonly int ndelta

    def structure(self, source, stratum=None, columns=None, str kind="", int count=0, subject=None, time=None,
                  double limit=float("inf")):
        """Gives the rows their covariance (lmm.h: lmm_residual_setup).

        Parameters
        ----------
        source : arguments of `Model`: the rows that it was made of, or filled with last
        stratum : (n,) int32, or None; -1 for the first stratum, whose deviation is sigma
        columns : (n, k) float64, Fortran order, or None
        kind : "", "ar1", "car1", "cs", "ante"
        count : int, parameters of the correlation
        subject : (n,) int32; time : (n,) float64
        """
        y, X, factors, w = source
        cdef _Rows rows = self.same_rows(y, X, factors, w)
        cdef lmm_residual r
        cdef const int32_t[::1] strata = stratum, subjects = subject
        cdef const double[::1] times = time
        cdef const double[::1, :] C = columns
        cdef lmm_status status
        memset(&r, 0, sizeof(r))
        if strata is not None:
            if strata.shape[0] != self.n or np.min(strata) < -1:
                raise ValueError("a stratum is needed for each row, -1, 0, 1 ...")
            r.ndeviation = <int32_t>(np.max(strata) + 1)
            r.stratum = &strata[0]
        elif C is not None:
            if C.shape[0] != self.n or not np.isfinite(C).all():
                raise ValueError("columns need one finite value for each row")
            r.ndeviation = <int32_t>C.shape[1]
            r.column = &C[0, 0] if C.shape[1] else NULL
        r.kind = CORRELATIONS[kind]
        if kind:
            if subjects is None or times is None or subjects.shape[0] != self.n or times.shape[0] != self.n:
                raise ValueError("a correlation needs a subject and a time for each row")
            visits = np.asarray(times)
            whole = (visits == np.floor(visits)) & (visits >= 0) & (visits <= count)
            if np.min(subjects) < 0 or not np.isfinite(visits).all():
                raise ValueError("subjects must be 0, 1 ..., times finite")
            if count != 1 and (kind != "ante" or count < 1):
                raise ValueError(f"{kind} has one parameter, not {count}")
            if kind == "ante" and not whole.all():
                raise ValueError(f"times of ante must be visits, 0 .. {count}")
            r.ncorrelation = count
            r.subject, r.time = &subjects[0], &times[0]
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_residual_setup(self.m, &rows.d, &r, limit)
        if status == LMM_TOOLARGE:
            raise MemoryError("no memory for the rows of the residual structure")
        check(status)
        self.ndelta = lmm_ndelta(self.m)

    def strata(self, list products not None, double limit=float("inf")):
        """Gives strata of the rows standard deviations of their own; products: a Cross of each, which sum up
        to that of `Model` (lmm.h: lmm_residual_strata)."""
        cdef Py_ssize_t i, n = len(products)
        cdef lmm_status status
        cdef lmm_cross *x = <lmm_cross *>calloc(n + 1, sizeof(lmm_cross))
        if x == NULL:
            raise MemoryError()
        try:
            for i in range(n):
                if (<Cross?>products[i]).sizes != self.sizes or (<Cross>products[i]).p != len(self.keep):
                    raise ValueError("products of another model")
                x[i] = (<Cross>products[i]).x
            with self.lock, single_threaded_blas():
                with nogil:
                    status = lmm_residual_strata(self.m, <int32_t>n, x, limit)
        finally:
            free(x)
        if status == LMM_TOOLARGE:
            raise MemoryError("no memory for the sums of the strata")
        check(status)
        self.ndelta = lmm_ndelta(self.m)

    cdef const double *checked(self, const double[::1] delta) except NULL:
        if delta is None or delta.shape[0] < self.ndelta + 1:
            raise ValueError(f"delta needs {self.ndelta} values and room for one more")
        return &delta[0]

    def place(self, delta):
        """The model stands at delta (ndelta,) from now on."""
        cdef const double[::1] values = np.append(np.asarray(delta, np.float64), 0.0)
        cdef const double *at = self.checked(values)
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_residual_at(self.m, at)
        check(status)

    def slopes(self):
        """Gradient in theta (ntheta,) and delta (ndelta,); G (ndelta, rank + 1, rank + 1), see
        lmm_residual_slopes."""
        cdef Py_ssize_t p = np.count_nonzero(self.keep) + 1, n = self.ntheta, d = self.ndelta
        cdef double[::1] g = np.empty(self.ntheta + 1), slope = np.empty(self.ndelta + 1)
        cdef double[::1] G = np.empty(self.ndelta * p * p + 1)
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_residual_slopes(self.m, &g[0], &slope[0], &G[0])
        check(status)
        products = np.asarray(G)[:d * p * p].reshape(d, p, p)
        return np.asarray(g)[:n], np.asarray(slope)[:d], products

    def directions(self):
        """trace (ndelta,), traces (ndelta, ndelta), cross (ndelta, ntheta), G, Q (ndelta, rank + 1, ndelta,
        rank + 1) and Z, m x k x ndelta (rank + 1) by factor, of lmm_residual_directions."""
        cdef Py_ssize_t p = np.count_nonzero(self.keep) + 1, n = self.ntheta, d = self.ndelta
        cdef double[::1] trace = np.empty(d + 1), traces = np.empty(d * d + 1), cross = np.empty(d * n + 1)
        cdef double[::1] G = np.empty(d * p * p + 1), Q = np.empty(d * p * d * p + 1)
        cdef double[::1] Z = np.empty(self.effects() * d * p + 1)
        cdef lmm_directions found
        cdef lmm_status status
        found.trace, found.traces, found.cross = &trace[0], &traces[0], &cross[0]
        found.G, found.Q, found.Z = &G[0], &Q[0], &Z[0]
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_residual_directions(self.m, &found)
        check(status)
        numbers = _cut(np.asarray(trace), [(d,)]) + _cut(np.asarray(traces), [(d, d)])
        numbers += _cut(np.asarray(cross), [(d, n)]) + _cut(np.asarray(G), [(d, p, p)])
        numbers += _cut(np.asarray(Q), [(d, p, d, p)])
        return *numbers, _cut(np.asarray(Z), [(m, k, d * p) for m, k in self.sizes])

    def fit_all(self, delta, const double[::1] start=None, *, held=None, bint reml=True, int maxeval=500,
                double tolerance=1e-10, double radius=1.0, callback=None, tuple plane=None):
        """As `fit`, over theta and delta: what that returns, z too, and the delta of the optimum.

        delta (ndelta,): where it begins; held (ndelta,) bool: which of them stay there.
        """
        cdef lmm_settings s = lmm_defaults()
        cdef lmm_info info
        cdef lmm_status status
        cdef double[::1] theta = np.zeros(self.ntheta + 1), z = np.zeros(self.ntheta + 1)
        cdef double[::1] values = np.append(np.asarray(delta, np.float64), 0.0)
        held = np.zeros(self.ndelta) if held is None else held
        cdef const uint8_t[::1] stay = np.append(held, 0).astype(np.uint8)
        cdef const double *first = NULL
        cdef _Watch watch = _Watch()
        cdef _Plane within = _plane_of(plane, self.ntheta)
        cdef lmm_plane *constraint = NULL if within is None else &within.plane
        cdef int n = self.ntheta if within is None else within.plane.nz
        self.checked(values)
        if start is not None and (n or start.shape[0]):
            _check_theta(start, n, "start")
            first = &start[0]
        watch.callback = callback
        s.reml, s.maxeval, s.tolerance, s.radius = reml, maxeval, tolerance, radius
        s.poll = poll
        s.arg = <void *>watch
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_residual_fit(self.m, &s, constraint, first, &stay[0], &values[0], &theta[0],
                                          &z[0], &info)
        if watch.error is not None:
            raise watch.error
        if within is not None:
            within.raised()
        check(status)
        name = {LMM_OK: "converged", LMM_STOPPED: "stopped", LMM_MAXEVAL: "evaluation limit"}[status]
        rounding = info.resolution, info.noise
        out = np.asarray(theta)[:self.ntheta]
        found = out, info.objective, info.certificate, rounding, info.neval, name
        if within is not None:
            found += (np.asarray(z)[:n],)
        return found, np.asarray(values)[:self.ndelta]
