# lmm.h, said in Cython; nothing else.
from libc.stdint cimport int32_t, int64_t, uint8_t


cdef extern from "lmm.h" nogil:
    ctypedef enum lmm_status:
        LMM_OK
        LMM_STOPPED
        LMM_MAXEVAL
        LMM_NOMEM
        LMM_NOTPOSDEF
        LMM_NOVARIANCE
        LMM_DEPENDENT

    ctypedef struct lmm_blas:
        void (*potrf)(char *, int *, double *, int *, int *) noexcept nogil
        void (*potri)(char *, int *, double *, int *, int *) noexcept nogil
        void (*syev)(char *, char *, int *, double *, int *, double *, double *, int *, int *) noexcept nogil
        void (*syrk)(char *, char *, int *, int *, double *, double *, int *, double *, double *,
                     int *) noexcept nogil
        void (*trsm)(char *, char *, char *, char *, int *, int *, double *, double *, int *, double *,
                     int *) noexcept nogil
        void (*gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *,
                     double *, double *, int *) noexcept nogil
        void (*symm)(char *, char *, int *, int *, double *, double *, int *, double *, int *, double *,
                     double *, int *) noexcept nogil

    ctypedef struct lmm_factor:
        int32_t nlev, ncol
        const int32_t *level
        const double *z
        const int32_t *term

    ctypedef struct lmm_data:
        int64_t n
        int32_t p, nfactor
        const double *y
        const double *X
        const double *w
        const lmm_factor *factor

    ctypedef struct lmm_report:
        int32_t rank, factor, column, eliminated, order, full
        double bytes

    ctypedef struct lmm_trace:
        int32_t neval, ntheta
        double objective, best, radius, predicted
        const double *theta

    ctypedef struct lmm_settings:
        int32_t reml, maxeval
        double tolerance, radius
        int (*poll)(void *, const lmm_trace *) noexcept nogil
        void *arg

    ctypedef struct lmm_info:
        double objective, certificate, resolution
        int32_t neval, escapes

    ctypedef struct lmm_model:
        pass

    lmm_settings lmm_defaults()
    lmm_status lmm_setup(lmm_model **, const lmm_data *, const lmm_blas *, double, uint8_t *,
                         lmm_report *)
    lmm_status lmm_response(lmm_model *, const lmm_data *)
    void lmm_free(lmm_model *)
    int32_t lmm_ntheta(const lmm_model *)
    lmm_status lmm_objective(lmm_model *, int, int, const double *, double *, double *, double *)
    void lmm_whitening(const lmm_model *, double *)
    lmm_status lmm_fit(lmm_model *, const lmm_settings *, const double *, double *, lmm_info *)
    lmm_status lmm_estimates(lmm_model *, int, const double *, double *, double *, double *, double *,
                             double *, double *)
    lmm_status lmm_projection(lmm_model *, int, const double *, double *, double *)
