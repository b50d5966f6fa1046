# Included by _core.pyx. Log-densities of rows, to be looked at: what a generalized model is made of.


cdef lmm_family _family(str family, str link, int32_t classes) except *:
    cdef lmm_family f
    cdef bytes name = family.encode(), function = link.encode()
    if not lmm_find_family(name, function, classes, &f):
        raise ValueError(f"there is no family {family!r} with link {link!r} and {classes} classes")
    return f


cdef const double *_row_weights(const double[::1] w, Py_ssize_t n) except? NULL:
    if w is None or not n:
        return NULL
    if w.shape[0] != n:
        raise ValueError(f"weights need {n} values, not {w.shape[0]}")
    return &w[0]


def describe_family(str family, str link, int32_t classes=0):
    """(number of extra parameters, is l concave in eta for every y?); ValueError: there is no such family."""
    cdef lmm_family f = _family(family, link, classes)
    return f.nextra, bool(f.concave)


def density(family, str link, const double[::1] y not None, const double[::1] w,
            const double[::1] eta not None, const double[::1] x=None, int32_t classes=0, only=None):
    """Log-densities of rows and their derivatives, as `lmm_density` has them.

    Parameters
    ----------
    family : str, or a family in Python
    y, eta : (n,) float64
    w : (n,) float64 or None
    x : (nextra,) float64 or None
    only : names of what is wanted; default everything

    Returns
    -------
    dict of arrays (n,): l, d1, d2, d3, d4, w, dw; (nextra, n): lx, d1x, d2x, wx
    """
    cdef lmm_family f
    cdef _Own own = _own(family)
    cdef lmm_density out
    cdef Py_ssize_t n = y.shape[0], k
    cdef const double *weights = _row_weights(w, n)
    cdef const double *extra = NULL
    cdef double *at[11]
    cdef double[:, ::1] values
    if own is None:
        f = _family(family, link, classes)
    else:
        own.point(&f)
    if eta.shape[0] != n or n > MOST_LEVELS:
        raise ValueError(f"eta needs {n} values, not {eta.shape[0]}")
    if (0 if x is None else x.shape[0]) != f.nextra:
        raise ValueError(f"{family} needs {f.nextra} extra parameters")
    if f.nextra:
        extra = &x[0]
    if classes and n and not (np.isin(y, np.arange(classes))).all():
        raise ValueError(f"y must be 0 .. {classes - 1}")
    found = {}
    for k in range(11):
        at[k] = NULL
        rows = 1 if k < 7 else f.nextra
        if (only is None or NUMBERS[k] in only) and rows and n:
            values = np.empty((rows, n))
            at[k] = &values[0, 0]
            found[NUMBERS[k]] = np.asarray(values)[0] if k < 7 else np.asarray(values)
    out = lmm_density(at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9], at[10], n)
    if n:
        with nogil:
            f.density(&f, <int32_t>n, &y[0], weights, &eta[0], extra, &out)
    if own is not None:
        own.raised()
    return found


def density_constant(str family, str link, const double[::1] y not None, const double[::1] w=None,
                     int32_t classes=0):
    """What the log-densities of `density` leave out, summed over rows."""
    cdef lmm_family f = _family(family, link, classes)
    cdef const double *weights = _row_weights(w, y.shape[0])
    return f.constant(&f, y.shape[0], &y[0], weights) if y.shape[0] else 0.0
