# cython: language_level=3, boundscheck=False, wraparound=False
"""A Cython module that fits y ~ x + (x | g) by lmmfast's C interface, without its Python.

    cythonize -i in_cython.pyx       with lmmfast.get_include() among the include directories
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memset

from lmmfast.capi cimport (
    LMM_FLOAT64,
    LMM_OK,
    lmm_column,
    lmm_data,
    lmm_defaults,
    lmm_derivatives,
    lmm_evaluate,
    lmm_factor,
    lmm_fit,
    lmm_free,
    lmm_info,
    lmm_model,
    lmm_options,
    lmm_part,
    lmm_report,
    lmm_settings,
    lmm_setup,
    lmm_status,
    lmm_words,
    lmmfast_blas,
    lmmfast_import,
)

lmmfast_import()


cdef class Model:
    """y ~ x + (x | g), of rows that are borrowed during the call. One thread at a time."""

    cdef lmm_model *m

    def __cinit__(self, const double[::1] y, const double[::1] x, const int32_t[::1] g, int32_t levels):
        cdef lmm_part part
        cdef lmm_column[2] columns
        cdef int32_t[2] term
        cdef lmm_factor factor
        cdef lmm_data data
        cdef lmm_options options
        cdef lmm_report report
        cdef uint8_t[2] keep
        if not len(y) == len(x) == len(g) or min(g) < 0 or max(g) >= levels:
            raise ValueError("y, x and g need one value a row, g from 0 to levels - 1")
        memset(&data, 0, sizeof(data))  # what is not named below is zero: none, or the default
        memset(&factor, 0, sizeof(factor))
        memset(&options, 0, sizeof(options))
        part.type, part.stride, part.at, part.value = LMM_FLOAT64, sizeof(double), &x[0], NULL
        columns[0].nparts, columns[0].part = 0, NULL  # ones
        columns[1].nparts, columns[1].part = 1, &part
        term[0] = term[1] = 0  # one term: its columns are correlated
        factor.nlev, factor.ncol, factor.level = levels, 2, &g[0]
        factor.z, factor.term = columns, term
        data.n, data.p, data.pstored, data.nfactor = len(y), 2, 2, 1
        data.y, data.X, data.factor = &y[0], columns, &factor
        options.limit = INFINITY
        _raise(lmm_setup(&self.m, &data, NULL, lmmfast_blas(), &options, keep, &report))

    def __dealloc__(self):
        lmm_free(self.m)

    def fit(self, bint reml=True):
        """(objective, theta)."""
        cdef lmm_settings settings = lmm_defaults()
        cdef double[3] theta
        cdef lmm_info info
        cdef lmm_status status
        settings.reml = reml
        with nogil:
            status = lmm_fit(self.m, &settings, NULL, NULL, theta, NULL, &info)
        _raise(status)
        return info.objective, [theta[0], theta[1], theta[2]]

    def objective(self, theta, bint reml=True):
        """(criterion, gradient) at a theta."""
        cdef double[3] at, slope
        cdef double f = 0
        at[0], at[1], at[2] = theta
        _raise(lmm_evaluate(self.m, reml, False, at, &f))
        _raise(lmm_derivatives(self.m, slope, NULL))
        return f, [slope[0], slope[1], slope[2]]


cdef int _raise(lmm_status status) except -1:
    if status != LMM_OK:
        raise ArithmeticError(lmm_words(status).decode())
    return 0
