# Included by _core.pyx. Models for repeated measures, by sums over patterns of visits.


cdef class Repeated:
    """Sums of a model for repeated measures, and its workspace. One thread at a time.

    Parameters
    ----------
    p : int, columns of X, linearly independent
    structure : Structure, of the visits; or a list of one for each pattern, whose visits are its places
    groups : int, of subjects
    patterns : list of (group, visits int32 (k,), ascending), by group
    shift : (patterns,), of the logarithms among the parameters of each, where each has a structure

    Attributes
    ----------
    nphi : int, parameters of all groups
    bounded : (nphi,) bool, which of these are standard deviations of their own, >= 0
    deviations : (nphi,) bool, which are in the units of the response
    """

    cdef lmm_repeated *r
    cdef object lock
    cdef readonly _Structure structure
    cdef readonly list local
    cdef const lmm_structure **each
    cdef readonly int p, visits, groups, nphi
    cdef readonly list patterns
    cdef readonly object bounded, deviations

    def __cinit__(self, int p, structure not None, int groups, list patterns not None, shift=None):
        cdef lmm_repeated_spec spec
        cdef int32_t[::1] group = np.zeros(len(patterns) + 1, np.int32)
        cdef ptrdiff_t[::1] start = np.zeros(len(patterns) + 1, np.intp)
        cdef int32_t[::1] visit
        cdef const double[::1] shifts
        cdef _Structure one
        cdef int visits, i
        cdef lmm_status status
        if isinstance(structure, list):
            self.local = structure
            if len(structure) != len(patterns) or not patterns:
                raise ValueError(f"{len(patterns)} patterns need a structure each")
        self.structure = one = structure[0] if self.local is not None else structure
        visits = one.p
        if not 0 <= p < MOST_COLUMNS or groups < 1:
            raise ValueError(f"{p} columns and {groups} groups")
        self.lock = _Lock()
        self.p, self.visits, self.groups, self.patterns = p, visits, groups, patterns
        before = 0
        for i, (own, which) in enumerate(patterns):
            which = np.asarray(which)
            if not before <= own < groups:
                raise ValueError(f"pattern {i} is of group {own}: not there, or out of order")
            last = (one if self.local is None else self.local[i]).p - 1
            if not len(which) or which[0] < 0 or which.max() > last or (np.diff(which) <= 0).any():
                raise ValueError(f"the visits of pattern {i} must ascend within 0 .. {last}")
            group[i], start[i + 1], before = own, start[i] + len(which), own
        every = [np.asarray(which, np.int32) for _, which in patterns]
        visit = np.concatenate([*every, np.zeros(1, np.int32)])
        spec.p, spec.visits, spec.groups, spec.patterns = p, visits, groups, len(patterns)
        spec.group, spec.start, spec.visit = &group[0], &start[0], &visit[0]
        spec.structure, spec.local, spec.shift = one.structure, NULL, NULL
        if self.local is not None:
            shifts = np.ascontiguousarray(shift, np.float64)
            if shifts.shape[0] != len(patterns) or not np.isfinite(shifts).all():
                raise ValueError("every pattern needs a finite shift")
            self.each = <const lmm_structure **>calloc(len(patterns), sizeof(lmm_structure *))
            if self.each == NULL:
                raise MemoryError()
            for i in range(len(self.local)):
                one = self.local[i]
                if one.nphi != self.structure.nphi or one.kinds != self.structure.kinds:
                    raise ValueError(f"the structure of pattern {i} has other parameters")
                self.each[i] = one.structure
            spec.structure, spec.local, spec.shift = NULL, self.each, &shifts[0]
        with nogil:
            status = lmm_repeated_new(&self.r, &spec, &TABLE)
        check(status)
        self.nphi = lmm_repeated_nphi(self.r)
        self.bounded = np.tile(np.arange(self.structure.nphi) < self.structure.nbound, groups)
        self.deviations = np.tile([kind == "deviation" for kind in self.structure.kinds], groups)

    def __dealloc__(self):
        lmm_repeated_free(self.r)
        free(self.each)

    def renew_lock(self):
        """In a forked child: the thread that held the lock is not there."""
        self.lock = _Lock()

    def add(self, int pattern, const double[:, ::1] z not None):
        """Adds subjects of a pattern, (x, y) of their k visits side by side: (count, k (p + 1))."""
        cdef lmm_status status
        cdef int64_t count = z.shape[0]
        if not 0 <= pattern < len(self.patterns):
            raise ValueError(f"there is no pattern {pattern}")
        if z.shape[1] != len(self.patterns[pattern][1]) * (self.p + 1):
            raise ValueError(f"subjects of pattern {pattern} have {z.shape[1]} numbers")
        if not count:
            return
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_repeated_add(self.r, pattern, count, &z[0, 0])
        check(status)

    def add_sums(self, int pattern, int64_t count, const double[:, ::1] total not None):
        """The same of the sum of their products z'z, (k (p + 1), k (p + 1)), symmetric."""
        if not 0 <= pattern < len(self.patterns):
            raise ValueError(f"there is no pattern {pattern}")
        size = len(self.patterns[pattern][1]) * (self.p + 1)
        if total.shape[0] != size or total.shape[1] != size or count < 0:
            raise ValueError(f"the sums of pattern {pattern} have {size} rows and columns")
        with self.lock:
            lmm_repeated_add_sums(self.r, pattern, count, &total[0, 0])

    def scale(self, double by):
        """Measures the response in other units: y / by."""
        with self.lock:
            lmm_repeated_scale(self.r, by)

    def forget(self):
        """All sums are zero again."""
        with self.lock:
            lmm_repeated_forget(self.r)

    def evaluate(self, phi, bint reml=True):
        """The model stands at phi from now on. Returns the criterion without its constants."""
        cdef const double[::1] own = np.ascontiguousarray(phi, np.float64)
        cdef double f = 0
        cdef lmm_status status
        _check_theta(own, self.nphi, "phi")
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_repeated_evaluate(self.r, reml, &own[0], &f)
        self.structure.raised()
        check(status)
        return f

    def derivatives(self):
        """Gradient (nphi,) and Hessian (nphi, nphi) where the model stands."""
        cdef double[::1] g = np.empty(self.nphi)
        cdef double[:, ::1] H = np.empty((self.nphi, self.nphi))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_repeated_read(self.r, &g[0], &H[0, 0], NULL, NULL, NULL)
        check(status)
        return np.asarray(g), np.asarray(H)

    def estimates(self):
        """beta (p,), its covariance (p, p) and Sigma (groups, visits, visits) where the model stands; Sigma
        is zero where each pattern has a structure."""
        cdef double[::1] beta = np.empty(self.p + 1)
        cdef double[::1] vcov = np.empty(self.p * self.p + 1)
        cdef double[:, :, ::1] Sigma = np.empty((self.groups, self.visits, self.visits))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_repeated_read(self.r, NULL, NULL, &beta[0], &vcov[0], &Sigma[0, 0, 0])
        check(status)
        p = self.p
        return np.asarray(beta)[:p], np.asarray(vcov)[:p * p].reshape(p, p), np.asarray(Sigma)

    def slopes(self):
        """A_i where the model stands, the derivatives of the weighted sums: (nphi, p + 1, p + 1)."""
        cdef double[:, :, ::1] out = np.zeros((self.nphi + 1, self.p + 1, self.p + 1))
        cdef lmm_status status
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_repeated_slopes(self.r, &out[0, 0, 0])
        check(status)
        return np.asarray(out)[:self.nphi]

    def weighted(self, V):
        """Sums over all pairs of visits of V (pairs, r) times their sums of products: (r, p + 1, p + 1)."""
        cdef const double[::1, :] own = np.asarray(V, np.float64, order="F")
        cdef double[:, :, ::1] out = np.zeros((own.shape[1] + 1, self.p + 1, self.p + 1))
        cdef int count = <int>own.shape[1]
        cdef lmm_status status = LMM_OK
        if own.shape[0] != lmm_repeated_pairs(self.r):
            raise ValueError(f"there are {lmm_repeated_pairs(self.r)} pairs, not {own.shape[0]}")
        if count:
            with self.lock, single_threaded_blas():
                with nogil:
                    status = lmm_repeated_weighted(self.r, count, &own[0, 0], &out[0, 0, 0])
        check(status)
        return np.asarray(out)[:count]

    def forms(self, F):
        """The sums of products of each pair of visits, times F (p + 1, p + 1), symmetric: (pairs,)."""
        cdef const double[:, ::1] own = np.ascontiguousarray(F, np.float64)
        cdef double[::1] out = np.zeros(lmm_repeated_pairs(self.r) + 1)
        cdef lmm_status status
        if own.shape[0] != self.p + 1 or own.shape[1] != self.p + 1:
            raise ValueError(f"F needs {self.p + 1} rows and columns")
        with self.lock, nogil:
            status = lmm_repeated_forms(self.r, &own[0, 0], &out[0])
        check(status)
        return np.asarray(out)[:len(out) - 1]

    def fit(self, start=None, *, bint reml=True, int maxeval=500, double tolerance=1e-10, double radius=1.0,
            callback=None):
        """Minimizes. Returns phi, criterion, certificate, evaluations, status; the model stands at phi."""
        cdef lmm_settings s = lmm_defaults()
        cdef lmm_info info
        cdef lmm_status status
        cdef double[::1] phi = np.zeros(self.nphi + 1)
        cdef const double[::1] given
        cdef const double *first = NULL
        cdef _Watch watch = _Watch()
        if start is not None:
            given = np.ascontiguousarray(start, np.float64)
            _check_theta(given, self.nphi, "start")
            first = &given[0]
        watch.callback = callback
        s.reml, s.maxeval, s.tolerance, s.radius = reml, maxeval, tolerance, radius
        s.poll = poll
        s.arg = <void *>watch
        with self.lock, single_threaded_blas():
            with nogil:
                status = lmm_repeated_fit(self.r, &s, first, &phi[0], &info)
        if watch.error is not None:
            raise watch.error
        if status == LMM_DEPENDENT:
            raise Dependent()
        self.structure.raised()
        check(status)
        name = {LMM_OK: "converged", LMM_STOPPED: "stopped", LMM_MAXEVAL: "evaluation limit"}[status]
        return np.asarray(phi)[:self.nphi], info.objective, info.certificate, info.neval, name
