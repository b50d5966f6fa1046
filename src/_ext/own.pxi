# Included by _core.pyx. Families that are written in Python: their rows through families/family.h.


cdef class _Own:
    """A family in Python, and the first error that it raised since somebody asked."""

    cdef object family, error

    def __cinit__(self, family):
        self.family = family

    cdef void point(self, lmm_family *out) except *:
        out.density, out.constant = own_density, own_constant
        out.nextra, out.concave = self.family.nextra, self.family.concave
        out.classes = 0
        out.arg = <void *>self

    cdef raised(self):
        """Raises what the family raised inside of the core."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    cdef fill(self, Py_ssize_t n, const double *y, const double *w, const double *eta, const double *x,
              double **at, Py_ssize_t ld):
        cdef Py_ssize_t i, k, rows, nextra = self.family.nextra
        cdef const double[:, ::1] values
        want = tuple(name for i, name in enumerate(NUMBERS) if at[i] != NULL and (i < 7 or nextra))
        found = self.family.rows(_copied(y, n), _copied(w, n), _copied(eta, n), _copied(x, nextra), want)
        for i in range(11):
            rows = 1 if i < 7 else nextra
            if at[i] == NULL or not rows:
                continue
            values = np.ascontiguousarray(found[NUMBERS[i]], np.float64).reshape(rows, n)
            for k in range(rows):
                memcpy(at[i] + k * ld, &values[k, 0], sizeof(double) * <size_t>n)


NUMBERS = ("l", "d1", "d2", "d3", "d4", "w", "dw", "lx", "d1x", "d2x", "wx")


cdef _copied(const double *values, Py_ssize_t n):
    """An array of the core's numbers that may be kept and changed; None: there are none."""
    if values == NULL or not n:
        return None
    return np.array(<double[:n]><double *>values)


cdef void own_density(const lmm_family *f, int32_t n, const double *y, const double *w, const double *eta,
                      const double *x, const lmm_density *o) noexcept with gil:
    cdef _Own own = <_Own>f.arg
    cdef Py_ssize_t i
    cdef double *at[11]
    at[:] = [o.l, o.d1, o.d2, o.d3, o.d4, o.w, o.dw, o.lx, o.d1x, o.d2x, o.wx]
    if own.error is None:
        try:
            own.fill(n, y, w, eta, x, at, o.ldx)
            return
        except BaseException as error:
            own.error = error
    if o.l != NULL:  # no likelihood here: fits stop, and say why
        for i in range(n):
            o.l[i] = NAN


cdef double own_constant(const lmm_family *f, int64_t n, const double *y, const double *w) noexcept nogil:
    return 0


cdef _Own _own(family):
    """None of a family that the core has, which is a name."""
    return None if isinstance(family, str) else _Own(family)
