# Included by _core.pyx. How a model is set up: storage, order of elimination, memory; `plan`.


STORAGES = {"auto": LMM_AUTO, "dense": LMM_DENSE, "sparse": LMM_SPARSE, "iterative": LMM_ITERATIVE}
_NAMES = {value: name for name, value in STORAGES.items()}


cdef class _Order:
    """What the order callback of set-up needs: the user's generator of orders, the names of those that it
    gave so far, and the error it raised."""

    cdef object function, orders, error
    cdef list names


cdef int find_order(void *arg, double flops, int32_t n, const ptrdiff_t *ptr, const int32_t *row,
                    int32_t *perm) noexcept with gil:
    cdef _Order order = <_Order>arg
    try:
        if order.orders is None:
            order.orders = order.function(np.array(<ptrdiff_t[:n + 1]>ptr), np.array(<int32_t[:ptr[n]]>row))
            found = next(order.orders, None)
        else:
            try:
                found = order.orders.send(flops)
            except StopIteration:
                found = None
        if found is None:
            return 1
        name, columns = found
        order.names.append(name)
        np.asarray(<int32_t[:n]>perm)[:] = columns
        return not (np.sort(columns) == np.arange(n)).all()
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
        self.order.names = []
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
                    identified=bool(r.identified), storage=_NAMES[r.storage], pairs=r.pairs,
                    density=r.density, ordered_by=self.order.names[r.ordered] if r.ordered >= 0 else "",
                    bytes=r.bytes, flops=r.flops, considered=considered)


def plan(y, X=None, list factors=None, weights=None, double limit=float("inf"), *, storage="auto",
         order=None):
    """The report of a model that is not made: storage, bytes, multiplications of an evaluation."""
    cdef _Setup setup = _Setup()
    cdef Cross cross = y if isinstance(y, Cross) else None
    setup.run(_Rows(y, X, factors, weights) if cross is None else None, cross, limit, storage, order, True)
    return setup.summary()
