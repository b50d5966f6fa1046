# Included by _core.pyx. Pedigrees, as numbers of animals.


cdef _check_parents(const int32_t[::1] sire, const int32_t[::1] dam, bint sorted):
    cdef Py_ssize_t i
    if sire.shape[0] != dam.shape[0]:
        raise ValueError("every animal needs a sire and a dam, -1 where they are unknown")
    for i in range(sire.shape[0]):
        if not -1 <= sire[i] < (i if sorted else sire.shape[0]):
            raise ValueError(f"the sire of animal {i} must be another animal, or -1")
        if not -1 <= dam[i] < (i if sorted else sire.shape[0]):
            raise ValueError(f"the dam of animal {i} must be another animal, or -1")


def order_of_pedigree(const int32_t[::1] sire not None, const int32_t[::1] dam not None):
    """Animals, parents before their progeny; and -1, or one that is its own ancestor: there is no order."""
    cdef Py_ssize_t n = sire.shape[0]
    cdef int32_t[::1] order = np.zeros(n + 1, np.int32)
    cdef int32_t cycle
    cdef lmm_status status
    _check_parents(sire, dam, False)
    with nogil:
        status = pedigree_order(<int32_t>n, &sire[0] if n else NULL, &dam[0] if n else NULL, &order[0],
                                &cycle)
    check(status)
    return np.asarray(order)[:n], cycle


def inbreeding(const int32_t[::1] sire not None, const int32_t[::1] dam not None):
    """Inbreeding and Mendelian variance of every animal; parents have lower numbers than their progeny."""
    cdef Py_ssize_t n = sire.shape[0]
    cdef double[::1] F = np.empty(n + 1), d = np.empty(n + 1)
    cdef lmm_status status
    _check_parents(sire, dam, True)
    with nogil:
        status = pedigree_inbreeding(<int32_t>n, &sire[0] if n else NULL, &dam[0] if n else NULL, &F[0],
                                     &d[0])
    check(status)
    return np.asarray(F)[:n], np.asarray(d)[:n]
