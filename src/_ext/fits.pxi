# What a fit is given beside its numbers: who watches it, and what is held or tied.


cdef class _Watch:
    """What the poll callback of a fit needs: the user's callback and the error it raised; his family."""

    cdef object callback, error
    cdef _Own own


cdef int poll(void *arg, const lmm_trace *t) noexcept with gil:
    cdef _Watch watch = <_Watch>arg
    try:
        PyErr_CheckSignals()
        if watch.own is not None and watch.own.error is not None:
            return 1
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
