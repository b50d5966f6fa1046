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
    """phi = fixed + basis z, checked; keeps the arrays. structures: None where phi is theta, else one for
    each term of the core (columns that are not correlated are terms of their own), None of those without
    one."""

    cdef lmm_plane plane
    cdef const double[::1] fixed
    cdef const double[::1, :] basis
    cdef list structures
    cdef const lmm_structure **table

    def __cinit__(self, *given):
        self.table = NULL

    def __init__(self, const double[::1] fixed not None, const double[::1, :] basis not None, int nphi,
                 structures=None):
        cdef Py_ssize_t i
        _check_theta(fixed, nphi, "fixed")
        if basis.shape[0] != nphi or basis.shape[1] > nphi:
            raise ValueError(f"basis needs {nphi} rows and at most as many columns")
        if not np.isfinite(basis).all():
            raise ValueError("basis has values that are not finite")
        self.fixed, self.basis = fixed, basis
        self.plane.nz, self.plane.nphi = <int32_t>basis.shape[1], nphi
        self.plane.fixed = &fixed[0] if nphi else NULL
        self.plane.basis = &basis[0, 0] if basis.shape[1] else NULL
        self.plane.structure = NULL
        self.structures = []
        if structures is None:
            return
        self.structures = list(structures)
        self.table = <const lmm_structure **>calloc(len(self.structures) + 1, sizeof(void *))
        if self.table == NULL:
            raise MemoryError()
        for i in range(len(self.structures)):
            if self.structures[i] is not None:
                self.table[i] = (<_Structure?>self.structures[i]).structure
        self.plane.structure = self.table

    def __dealloc__(self):
        free(self.table)

    cdef raised(self):
        """Raises what a user's structure raised."""
        for structure in self.structures:
            if structure is not None:
                (<_Structure>structure).raised()


cdef _Plane _plane_of(tuple plane, int ntheta):
    """fixed and basis of theta, or fixed, basis and structures."""
    if plane is None:
        return None
    if len(plane) == 2:
        return _Plane(plane[0], plane[1], ntheta)
    return _Plane(plane[0], plane[1], len(plane[0]), plane[2])
