# Included by _core.pyx. How a model is set up: storage, order of elimination, memory; `plan`.


STORAGES = {"auto": LMM_AUTO, "dense": LMM_DENSE, "sparse": LMM_SPARSE, "iterative": LMM_ITERATIVE}
AMD, RCM = "approximate minimum degree", "reverse Cuthill-McKee"
_NAMES = {value: name for name, value in STORAGES.items()}


cdef class _Order:
    """What the order callback of set-up needs: the user's function; the name that its order got, and the
    error it raised."""

    cdef object function, name, error


cdef int find_order(void *arg, int32_t n, const ptrdiff_t *ptr, const int32_t *row,
                    int32_t *perm) noexcept with gil:
    cdef _Order order = <_Order>arg
    try:
        found = order.function(np.array(<ptrdiff_t[:n + 1]>ptr), np.array(<int32_t[:ptr[n]]>row))
        if found is None:
            return 1
        order.name, nodes = found
        check_order(nodes, n)
        np.asarray(<int32_t[:n]>perm)[:] = nodes
        return 0
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

    cdef run(self, _Rows rows, Cross cross, double limit, storage, order, bint plan, bint generalized=False,
             int moves=0):
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
        self.options.generalized = generalized
        self.options.moves = moves
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

    cdef ordered_by(self):
        """What found the order of a sparse trailing matrix, "" where there is none."""
        if self.report.ordered == LMM_OFFERED:
            return self.order.name
        return {LMM_UNORDERED: "", LMM_AMD: AMD, LMM_RCM: RCM}[self.report.ordered]

    cdef dict summary(self):
        cdef lmm_report r = self.report
        considered = {name: (r.bytes_of[i], r.flops_of[i]) for i, name in _NAMES.items()
                      if i and r.bytes_of[i] > 0}
        which = [k for k in range(64) if r.which >> k & 1]
        return dict(eliminated=r.eliminated, which=which, order=r.order, full=bool(r.full),
                    identified=bool(r.identified), storage=_NAMES[r.storage], pairs=r.pairs,
                    density=r.density, approach=bool(r.approach), ordered_by=self.ordered_by(),
                    bytes=r.bytes, rows=r.rows, flops=r.flops, considered=considered)


def plan(y, X=None, list factors=None, weights=None, double limit=float("inf"), *, storage="auto",
         order=None, bint generalized=False, int moves=0):
    """The report of a model that is not made: storage, bytes, multiplications of an evaluation."""
    cdef _Setup setup = _Setup()
    cdef Cross cross = y if isinstance(y, Cross) else None
    setup.run(_Rows(y, X, factors, weights) if cross is None else None, cross, limit, storage, order, True,
              generalized, moves)
    return setup.summary()


cdef check_graph(const ptrdiff_t[::1] ptr, const int32_t[::1] row, Py_ssize_t n):
    """ValueError for what is no lower triangle by columns of n nodes."""
    if ptr.shape[0] != n + 1 or ptr[0] != 0 or (np.diff(ptr) < 0).any() or ptr[n] != row.shape[0]:
        raise ValueError(f"ptr needs {n + 1} ascending places in row, from 0 to {row.shape[0]}")
    if row.shape[0] and not 0 <= np.min(row) <= np.max(row) < n:
        raise ValueError(f"row needs numbers of nodes, 0 to {n - 1}")


cdef check_order(nodes, Py_ssize_t n):
    if np.shape(nodes) != (n,) or not (np.sort(nodes) == np.arange(n)).all():
        raise ValueError(f"an order of {n} nodes must have each of 0, 1, ..., {n - 1} once")


def fill_reducing_order(how, const ptrdiff_t[::1] ptr not None, const int32_t[::1] row not None,
                        const int32_t[::1] weight not None):
    """One of our orders alone, by AMD or RCM: the k-th node to eliminate. Lower triangle by columns."""
    cdef Py_ssize_t n = weight.shape[0]
    cdef pattern nodes
    cdef lmm_status status
    cdef double envelope
    cdef bint minimum = how == AMD
    if how not in (AMD, RCM):
        raise ValueError(f"an order is found by {AMD!r} or {RCM!r}, not {how!r}")
    check_graph(ptr, row, n)
    if n and (np.min(weight) < 1 or np.sum(weight, dtype=np.int64) > MOST_LEVELS):
        raise ValueError("every node needs at least one column, and all nodes less than 2^31")
    order = np.empty(n + 1, np.int32)
    cdef int32_t[::1] to = order
    nodes.n, nodes.ptr = <int32_t>n, &ptr[0]
    nodes.row = &row[0] if row.shape[0] else NULL
    nodes.weight = &weight[0] if n else NULL
    with nogil:
        if minimum:
            status = minimum_degree(&nodes, &to[0])
        else:
            status = reverse_cuthill_mckee(&nodes, &to[0], &envelope)
    check(status)
    return order[:n]


def factor_flops(const ptrdiff_t[::1] ptr not None, const int32_t[::1] row not None, order):
    """Multiplications of a sparse Cholesky factorization in this order. Columns are ascending."""
    cdef Py_ssize_t n = ptr.shape[0] - 1
    cdef supernodal *factor = NULL
    cdef lmm_status status
    check_graph(ptr, row, n)
    check_order(order, n)
    cdef const int32_t[::1] perm = np.append(order, 0).astype(np.int32)
    cdef const int32_t[::1] rows = np.append(row, 0).astype(np.int32)
    with nogil:
        status = supernodal_analyse(&factor, <int32_t>n, &ptr[0], &rows[0], &perm[0], &TABLE)
    check(status)
    flops = supernodal_flops(factor)
    supernodal_free(factor)
    return flops
