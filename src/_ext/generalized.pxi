# Included by _core.pyx. Generalized linear mixed models: one class over generalized/glmm.h.


LINKS = {
    "logit": lambda p: np.log(p / (1 - p)), "probit": lambda p: np.log(p / (1 - p)) / 1.7,
    "cloglog": lambda p: np.log(-np.log1p(-p)),
    "loglog": lambda p: -np.log(-np.log(p)), "cauchit": lambda p: np.tan(np.pi * (p - 0.5)), "log": np.log,
    "identity": lambda m: m, "sqrt": np.sqrt, "inverse": lambda m: 1 / m, "inversesquared": lambda m: m ** -2,
}
SLOPES = {"identity": lambda m: 1.0, "sqrt": lambda m: 2 * m ** 0.5, "inverse": lambda m: m * m,
          "inversesquared": lambda m: m ** 3 / 2}  # dmu/deta of links whose eta has a unit


@cython.wraparound(True)
def _begin(family, link, y, w, classes):
    """eta of a middling row, the family's parameters x and the size of changes of eta, where fits begin."""
    trials = family in ("binomial", "betabinomial")
    weight = len(y) if w is None else np.sum(w)
    if family == "ordered":
        share = np.bincount(np.asarray(y, np.intp), w, classes)[:-1].cumsum()
        a = LINKS["logit"](np.clip(share / weight, 0.5 / weight, 1 - 0.5 / weight))
        return 0.0, np.append(a[0], np.log(np.maximum(np.diff(a), 1e-3))), 1.0
    mean = np.sum(y if trials or w is None else w * y) / weight
    spread = max(np.mean((y - mean) ** 2), 1e-300)
    if trials or family == "beta":
        mean = np.clip(mean, 0.5 / weight, 1 - 0.5 / weight)
        x = {"binomial": [], "betabinomial": [1.0],
             "beta": [np.log(np.clip(mean * (1 - mean) / spread - 1, 0.1, 1e4))]}[family]
        return float(LINKS[link](mean)), np.array(x), 1.0
    if family in ("gamma", "inversegaussian"):
        mean = max(mean, 1e-300)  # in any unit: what is small is no count
    elif family != "gaussian":
        mean = max(mean, 0.5 / weight if np.min(y) >= 0 else 1e-300)
    elif link != "identity" and not mean > 0:
        mean = np.sqrt(spread)
    over = max(spread - mean, 0.01 * mean * (1 + mean))  # beyond a Poisson's variance
    x = []
    if family == "negativebinomial":
        x = [np.clip(np.log(mean * mean / over), -3, 5)]
    elif family == "nb1":
        x = [np.clip(np.log(over / mean), -3, 5)]
    elif family == "truncatednegativebinomial":
        x = [0.0]
    elif family in ("gamma", "inversegaussian", "gaussian"):
        x = [np.log(spread / mean ** {"gamma": 2, "inversegaussian": 3, "gaussian": 0}[family])]
    unit = np.sqrt(spread) / SLOPES[link](abs(mean)) if link in SLOPES else 1.0
    return float(LINKS[link](mean)), np.array(x), float(max(unit, 1e-300))


cdef class _Response:
    """A response, its weights, its family and where fits begin; keeps the arrays."""

    cdef glmm_response r
    cdef const double[::1] y, w, x
    cdef _Own own

    def __cinit__(self, y, weights, family not None, str link not None, int classes):
        self.own = _own(family)
        if self.own is None:
            self.r.family = _family(family, link, classes)
        else:
            self.own.point(&self.r.family)
        self.y = y
        if not self.y.shape[0] or not _is_finite(&self.y[0], self.y.shape[0], False):
            raise ValueError("the response must be finite")
        if weights is not None:
            self.w = weights
            if self.w.shape[0] != self.y.shape[0] or not _is_finite(&self.w[0], self.w.shape[0], False):
                raise ValueError("weights must be finite, one for each row")
            self.r.w = &self.w[0]
        if self.own is None:
            self.r.center, start, self.r.unit = _begin(family, link, np.asarray(y), weights, classes)
        else:
            self.r.center, start, self.r.unit = family.begin(np.asarray(y), weights)
        self.x = np.append(start, 0.0)
        self.r.y, self.r.x = &self.y[0], &self.x[0]
        self.r.flat = -1


cdef class _Within:
    """The plane of what is not held at the values of psi; keeps the arrays."""

    cdef glmm_plane plane
    cdef _Plane theta
    cdef const double[::1] fixed
    cdef const double[::1, :] basis

    def __cinit__(self, psi, held, int ntheta, keep, tuple structured=None):
        if held.shape != psi.shape:
            raise ValueError(f"held needs {len(psi)} values")
        still = held[ntheta:].copy()
        still[:len(keep)] |= ~np.asarray(keep)
        values = psi[ntheta:].copy()
        values[:len(keep)][~np.asarray(keep)] = 0
        self.fixed = np.append(np.where(still, values, 0.0), 0.0)
        self.basis = np.asfortranarray(np.eye(len(still) + 1)[:-1, :-1][:, ~still])
        self.plane.nz = <int32_t>self.basis.shape[1]
        self.plane.fixed = &self.fixed[0]
        self.plane.basis = &self.basis[0, 0] if self.basis.shape[1] else NULL
        if structured is not None:
            if held[:ntheta].any():
                raise ValueError("theta cannot be held where terms have structures")
            self.theta = _plane_of(structured, ntheta)
            self.plane.theta = &self.theta.plane
        elif held[:ntheta].any():
            now = held[:ntheta]
            basis = np.asfortranarray(np.eye(ntheta)[:, ~now])
            self.theta = _Plane(np.where(now, psi[:ntheta], 0.0), basis, ntheta)
            self.plane.theta = &self.theta.plane


cdef class _Elsewhere:
    """Where rows are that memory has no room for: what a function of bytes makes, and the error it raised."""

    cdef object make, error
    cdef list held

    def __cinit__(self, make):
        self.make, self.held = make, []


cdef void *make_room(void *arg, double size) noexcept with gil:
    cdef _Elsewhere elsewhere = <_Elsewhere>arg
    cdef uint8_t[::1] room
    try:
        room = elsewhere.make(int(size))
        elsewhere.held.append(room)
        return &room[0]
    except BaseException as error:
        elsewhere.error = error
        return NULL


cdef class Generalized(Model):
    """Rows of a generalized linear mixed model and its workspace. One thread at a time.

    Parameters
    ----------
    y : (n,) float64, and weights : (n,) float64 or None, as the family reads them (families/family.h)
    X, factors, limit, storage, order : as `Model`
    family, link : str; or the family is one in Python
    classes : int, of an ordered response
    offset : (n,) float64 or None
    prior : (mean, precision) of the columns of X, (p,) each: sum precision (beta - mean)^2 is added; or None
    information : "observed" or "expected", weights of log|M|
    flat : int, the factor of one level whose columns have a flat prior, as in restricted likelihood; -1: none
    nagq : int, nodes of adaptive quadrature a direction: one factor of at most three columns; 1: Laplace
    merge : bool, whether rows that are equal may be kept once; readings are of all rows all the same
    elsewhere : function of a number of bytes that gives as many zeros (uint8), for rows that do not fit
        within the limit; None: there is nothing else

    Attributes
    ----------
    nextra : int, parameters of the family
    size : int, of psi = (theta, beta of all columns of X, the family's parameters)
    rows : int, that are kept: less than there are where equal ones are one
    outside : float, bytes of rows that are not in memory
    """

    cdef glmm_model *g
    cdef _Elsewhere elsewhere
    cdef readonly int64_t rows
    cdef readonly double outside
    cdef readonly int nextra, size
    cdef tuple kind
    cdef _Own own

    def __cinit__(self, y, X=None, list factors=None, weights=None, double limit=float("inf"), *,
                  storage="auto", order=None, family="binomial", link="logit", int classes=0, offset=None,
                  int nagq=1, prior=None, str information="observed",
                  int flat=-1, bint merge=True, elsewhere=None):
        cdef _Response own = _Response(y, weights, family, link, classes)
        cdef const double[::1] o, nodes, mean, precision
        cdef lmm_status status
        cdef _Rows rows = _Rows(y, X, factors, None)
        self.kind, self.own = (family, link, classes), own.own
        if offset is not None:
            o = offset
            if o.shape[0] != rows.d.n or not _is_finite(&o[0], rows.d.n, False):
                raise ValueError("the offset must be finite, one value for each row")
            own.r.offset = &o[0]
        if information not in ("observed", "expected"):
            raise ValueError(f"information must be 'observed' or 'expected', not {information!r}")
        own.r.expected = information == "expected"
        own.r.flat = flat
        if flat >= rows.d.nfactor or (flat >= 0 and rows.factor[flat].nlev != 1):
            raise ValueError(f"factor {flat} must be there, with one level")
        if nagq > 1:
            nodes = np.concatenate(np.polynomial.hermite.hermgauss(nagq))
            own.r.nodes, own.r.node = nagq, &nodes[0]
        if prior is not None:
            mean, precision = (np.append(np.asarray(v, np.float64), 0.0) for v in prior)
            if mean.shape[0] != rows.d.p + 1 or precision.shape[0] != rows.d.p + 1:
                raise ValueError(f"a prior needs {rows.d.p} means and precisions")
            if not np.isfinite(mean).all() or not np.isfinite(precision).all() or np.min(precision) < 0:
                raise ValueError("means and precisions must be finite, precisions not negative")
            own.r.mean, own.r.precision = &mean[0], &precision[0]
        own.r.merge, own.r.limit = merge, limit - self.report["bytes"]
        if elsewhere is not None:
            self.elsewhere = _Elsewhere(elsewhere)
            own.r.room, own.r.arg = make_room, <void *>self.elsewhere
        with nogil:
            status = glmm_setup(&self.g, self.m, &rows.d, &own.r)
        if self.elsewhere is not None and self.elsewhere.error is not None:
            raise self.elsewhere.error
        check(status)
        glmm_kept(self.g, &self.rows, &self.outside)
        self.nextra = own.r.family.nextra
        self.size = glmm_size(self.g)

    def __dealloc__(self):
        glmm_free(self.g)

    def again(self, y, weights=None):
        """Replaces the response and its weights; columns, offset and quadrature stay.

        Unavailable: rows were kept once that are not equal any more; nothing has changed.
        """
        cdef lmm_status status
        cdef _Response other = _Response(y, weights, *self.kind)
        if len(y) != self.n:
            raise ValueError(f"the response needs {self.n} values, not {len(y)}")
        with self.lock:
            status = glmm_again(self.g, &other.r)
        check(status)

    def minimize(self, start=None, *, held=None, int maxeval=500, double tolerance=1e-10, double radius=1.0,
                 callback=None, tuple structured=None):
        """Minimizes the criterion. Returns psi and a dict: how it ended, what it took.

        held (size,): which of psi keep the value that they have in start. structured: a plane of phi
        (`Model.fit`), of which the dict has z.
        """
        cdef lmm_settings s = lmm_defaults()
        cdef glmm_info info
        cdef lmm_status status
        cdef double[::1] psi = np.zeros(self.size + 1)
        cdef const double[::1] given
        cdef const double *first = NULL
        cdef _Within within = None
        cdef const glmm_plane *plane = NULL
        cdef _Watch watch = _Watch()
        if start is not None:
            given = np.append(np.asarray(start, np.float64), 0.0)
            _check_theta(given[:given.shape[0] - 1], self.size, "start")
            first = &given[0]
        cdef double[::1] z = np.zeros(max(self.ntheta, 1))
        if structured is not None and (held is None or not np.any(held)):
            none = np.zeros(self.size)
            within = _Within(none, none > 0, self.ntheta, self.keep, structured)
            plane = &within.plane
        elif held is not None and np.any(held):
            if start is None:
                raise ValueError("start is needed: the values of what is held")
            within = _Within(np.asarray(start, np.float64), np.asarray(held, bool), self.ntheta, self.keep,
                             structured)
            plane = &within.plane
        watch.callback, watch.own = callback, self.own
        s.maxeval, s.tolerance, s.radius = maxeval, tolerance, radius
        s.poll = poll
        s.arg = <void *>watch
        with self.lock, single_threaded_blas():
            with nogil:
                status = glmm_fit(self.g, &s, plane, first, &psi[0], &z[0], &info)
            if self.own is not None:
                self.own.raised()
        if watch.error is not None:
            raise watch.error
        if structured is not None:
            within.theta.raised()
        check(status)
        name = {LMM_OK: "converged", LMM_STOPPED: "stopped", LMM_MAXEVAL: "evaluation limit"}[status]
        return np.asarray(psi)[:self.size], dict(
            objective=info.objective, certificate=info.certificate, mode=info.mode, neval=info.neval,
            factorizations=info.factorizations, passes=info.passes, escapes=info.escapes, status=name,
            z=None if structured is None else np.asarray(z)[:within.theta.plane.nz])

    def value(self, psi, bint gradient=False):
        """-2 log-likelihood by the Laplace approximation at psi, and its gradient if asked for."""
        cdef const double[::1] given = np.ascontiguousarray(psi, np.float64)
        cdef double[::1] g = np.zeros(self.size + 1)
        cdef double f = 0
        cdef lmm_status status
        _check_theta(given, self.size, "psi")
        with self.lock, single_threaded_blas():
            with nogil:
                status = glmm_evaluate(self.g, &given[0], &f, &g[0] if gradient else NULL)
            if self.own is not None:
                self.own.raised()
        check(status)
        return (f, np.asarray(g)[:self.size]) if gradient else f

    def hessian(self, psi):
        """Second derivatives of the criterion at psi in theta and beta, (k, k), zero for dropped columns;
        None by quadrature, with expected weights and of related levels, which have no formula."""
        cdef const double[::1] given = np.ascontiguousarray(psi, np.float64)
        cdef int k = self.size - self.nextra
        cdef double[:, ::1] H = np.zeros((k, k + 1))
        cdef lmm_status status
        _check_theta(given, self.size, "psi")
        with self.lock, single_threaded_blas():
            with nogil:
                status = glmm_hessian(self.g, &given[0], &H[0, 0])
            if self.own is not None:
                self.own.raised()
        if status == LMM_UNAVAILABLE:
            return None
        check(status)
        return np.asarray(H).ravel()[:k * k].reshape(k, k)

    def work(self):
        """Factorizations and passes over the rows since the last fit began."""
        cdef int32_t factorizations, passes
        glmm_work(self.g, &factorizations, &passes)
        return factorizations, passes

    def obstacle(self):
        """What the last evaluation that failed since a fit began has met: "edge" of the domain, "curvature"
        that is not positive; ""."""
        return {GLMM_NONE: "", GLMM_EDGE: "edge", GLMM_CURVATURE: "curvature"}[glmm_met(self.g)]

    def modes(self):
        """Conditional modes of the random effects, m x k by factor."""
        cdef double[::1] b = np.empty(self.effects())
        check(glmm_readings(self.g, &b[0], NULL, NULL, NULL))
        return _cut(np.asarray(b), self.sizes)

    def predictor(self):
        """The linear predictor eta of every row."""
        cdef double[::1] eta = np.empty(self.n)
        check(glmm_readings(self.g, NULL, &eta[0], NULL, NULL))
        return np.asarray(eta)

    def leverages(self):
        """z_i'B z_i of every row: the variance of its random part given y."""
        cdef double[::1] h = np.empty(self.n)
        check(glmm_readings(self.g, NULL, NULL, &h[0], NULL))
        return np.asarray(h)

    def condvar(self):
        """Conditional covariances of each level given y, m x k x k by factor."""
        cdef double[::1] out = np.empty(sum(m * k * k for m, k in self.sizes))
        check(glmm_readings(self.g, NULL, NULL, NULL, &out[0]))
        return _cut(np.asarray(out), [(m, k, k) for m, k in self.sizes])

    def solve(self, list V not None):
        """B V: the covariance of the random effects given y times V; both are m x k x r by factor."""
        cdef double[::1] flat = self.columns(V)
        cdef int r = <int>(flat.shape[0] // self.effects())
        cdef lmm_status status
        if r:
            with self.lock, single_threaded_blas():
                with nogil:
                    status = glmm_solve(self.g, r, &flat[0], &flat[0])
            check(status)
        return _cut(np.asarray(flat), [(m, k, r) for m, k in self.sizes])
