# The C interface, said in Cython: lmm.h, structures/structure.h and how another module gets at them.
#
#     from lmmfast.capi cimport lmmfast_import, lmm_setup, lmm_fit, ...
#     lmmfast_import()
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t


cdef extern from "lmmfast.h":
    int lmmfast_import() except -1  # once in every module, before anything else
    int LMMFAST_ABI


cdef extern from "structures/structure.h" nogil:
    cdef enum:
        LMM_DEVIATION
        LMM_ANGLE
        LMM_LOGARITHM

    ctypedef struct lmm_structure:
        int32_t p, nphi, nbound
        const uint8_t *kind
        const int32_t *row
        ptrdiff_t work
        int (*map)(const lmm_structure *, const double *, double *, double *, double *) noexcept nogil
        void (*bend)(const lmm_structure *, const double *, const double *, double *, double *) noexcept nogil
        void (*nearest)(const lmm_structure *, const double *, double *, double *) noexcept nogil
        int (*trial)(const lmm_structure *, const double *, const double *, const double *, int, double *,
                     double *) noexcept nogil
        void *table

    ctypedef struct lmm_structure_spec:
        const char *name
        int32_t p, rank, dimension
        const double *coordinates

    lmm_structure *lmm_structure_new(const lmm_structure_spec *spec, int *known)
    void lmm_structure_free(lmm_structure *s)
    int lmm_semidefinite_root(int32_t p, const double *A, double *root, double *work)


cdef extern from "lmm.h" nogil:
    ctypedef enum lmm_status:
        LMM_OK
        LMM_STOPPED
        LMM_MAXEVAL
        LMM_NOMEM
        LMM_NOTPOSDEF
        LMM_NOVARIANCE
        LMM_DEPENDENT
        LMM_UNAVAILABLE
        LMM_TOOLARGE
        LMM_UNSOLVED
        LMM_NOTFINITE
        LMM_EXACT

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
        int (*set_local_threads)(int) noexcept nogil
        void (*symm)(char *, char *, int *, int *, double *, double *, int *, double *, int *, double *,
                     double *, int *) noexcept nogil

    ctypedef enum lmm_type:
        LMM_FLOAT64, LMM_FLOAT32, LMM_INT64, LMM_INT32, LMM_INT16, LMM_INT8
        LMM_UINT64, LMM_UINT32, LMM_UINT16, LMM_UINT8

    ctypedef struct lmm_part:
        lmm_type type
        ptrdiff_t stride
        const void *at
        const double *value

    ctypedef struct lmm_column:
        int32_t nparts
        const lmm_part *part

    ctypedef struct lmm_precision:
        const ptrdiff_t *ptr
        const int32_t *row
        const double *x
        const ptrdiff_t *rootptr
        const int32_t *rootcol
        const double *rootx

    ctypedef struct lmm_members:
        const int64_t *ptr
        const int32_t *level
        const double *weight

    ctypedef struct lmm_factor:
        int32_t nlev, ncol
        const int32_t *level
        const lmm_column *z
        const int32_t *term
        const lmm_precision *precision
        const lmm_members *members

    ctypedef struct lmm_coded:
        const int32_t *level
        const double *v
        int32_t nlev
        const int32_t *start
        const int32_t *column
        const double *value

    ctypedef struct lmm_data:
        int64_t n
        int32_t p, nfactor
        int32_t pstored, ncoded
        const int32_t *place
        const lmm_coded *coded
        const double *y
        const double *w
        const lmm_column *X
        const lmm_factor *factor

    ctypedef struct lmm_blocks:
        pass

    ctypedef struct lmm_cross:
        const lmm_blocks *blocks
        int64_t n
        double sumlogw
        const int32_t **term
        const double **C
        const double *CX
        const double *beta0
        double yscale

    ctypedef enum lmm_storage:
        LMM_AUTO, LMM_DENSE, LMM_SPARSE, LMM_ITERATIVE

    ctypedef enum lmm_order:
        LMM_UNORDERED, LMM_AMD, LMM_RCM, LMM_OFFERED

    ctypedef struct lmm_options:
        double limit
        lmm_storage storage
        int plan
        int generalized
        int32_t moves
        int (*order)(void *, int32_t, const ptrdiff_t *, const int32_t *, int32_t *) noexcept nogil
        void *arg

    ctypedef struct lmm_report:
        int32_t rank, factor, column, eliminated, order, full, identified, approach
        uint64_t which
        lmm_storage storage
        lmm_order ordered
        double pairs, density, rows, bytes, flops
        double bytes_of[4]
        double flops_of[4]

    ctypedef struct lmm_trace:
        int32_t neval, ntheta
        double objective, best, radius, predicted
        const double *theta

    ctypedef struct lmm_settings:
        int32_t reml, maxeval
        double tolerance, radius
        int (*poll)(void *, const lmm_trace *) noexcept nogil
        void *arg

    ctypedef struct lmm_plane:
        int32_t nz, nphi
        const double *fixed
        const double *basis
        const lmm_structure *const *structure

    ctypedef struct lmm_info:
        double objective, certificate, resolution, noise
        int32_t neval, escapes

    ctypedef struct lmm_responses:
        int64_t count
        const double *y
        const double *w
        const double *start

    ctypedef struct lmm_fits:
        lmm_status *status
        lmm_info *info
        double *theta
        double *sigma
        double *beta
        double *se
        double *variance
        double *df

    ctypedef struct lmm_model:
        pass

    lmm_settings lmm_defaults()
    lmm_status lmm_setup(lmm_model **, const lmm_data *, const lmm_cross *, const lmm_blas *,
                         const lmm_options *, uint8_t *, lmm_report *)
    lmm_status lmm_without_fixed(const lmm_model *, const lmm_data *, int, double *)
    lmm_status lmm_response(lmm_model *, const lmm_data *)
    void lmm_free(lmm_model *)
    int32_t lmm_ntheta(const lmm_model *)
    lmm_status lmm_set_threads(lmm_model *, int)
    lmm_status lmm_refill(lmm_model *, const lmm_data *)
    ctypedef enum lmm_correlation:
        LMM_INDEPENDENT, LMM_AR1, LMM_CAR1, LMM_CS, LMM_ANTE

    ctypedef struct lmm_residual:
        int32_t ndeviation
        const int32_t *stratum
        const double *column
        lmm_correlation kind
        int32_t ncorrelation
        const int32_t *subject
        const double *time

    lmm_status lmm_residual_setup(lmm_model *, const lmm_data *, const lmm_residual *, double)
    lmm_status lmm_residual_strata(lmm_model *, int32_t, const lmm_cross *, double)
    int32_t lmm_ndelta(const lmm_model *)
    lmm_status lmm_residual_at(lmm_model *, const double *)
    lmm_status lmm_residual_slopes(lmm_model *, double *, double *, double *)
    ctypedef struct lmm_directions:
        double *trace
        double *traces
        double *cross
        double *G
        double *Q
        double *Z

    lmm_status lmm_residual_directions(lmm_model *, lmm_directions *)
    lmm_status lmm_residual_fit(lmm_model *, const lmm_settings *, const lmm_plane *, const double *,
                                const uint8_t *, double *, double *, double *, lmm_info *)
    lmm_status lmm_evaluate(lmm_model *, int, int, const double *, double *)
    lmm_status lmm_derivatives(lmm_model *, double *, double *)
    void lmm_arrange(lmm_model *, const int32_t *)
    void lmm_whitening(const lmm_model *, double *)
    lmm_status lmm_fit(lmm_model *, const lmm_settings *, const lmm_plane *, const double *, double *,
                       double *, lmm_info *)
    lmm_status lmm_within(lmm_model *, int, const lmm_plane *, const double *, double *, double *, double *)
    lmm_status lmm_many(lmm_model *, const lmm_data *, const lmm_settings *, const lmm_responses *, int,
                        const double *, const lmm_fits *, int64_t *)
    lmm_status lmm_satterthwaite(lmm_model *, int, const double *, double *, double *)
    lmm_status lmm_estimates(lmm_model *, double *, double *, double *, double *, double *)
    lmm_status lmm_projection(lmm_model *, double *, double *, double *, double *, double *)
    lmm_status lmm_squares(lmm_model *, int, double *, double *, double *, double *)
    lmm_status lmm_contrasts(lmm_model *, int, const double *, double *)
    lmm_status lmm_solve(lmm_model *, int, const double *, double *)
    lmm_status lmm_forms(lmm_model *, int, const double *, double *)
    lmm_status lmm_traces(lmm_model *, double *, double *)
    lmm_status lmm_hessian(lmm_model *, double *, double *)
    void lmm_traces_price(const lmm_model *, double *, double *)
    lmm_status lmm_pairs_of_levels(const lmm_model *, int, int, int64_t *, int32_t *, int32_t *)
    lmm_status lmm_covariances(lmm_model *, int, int, int, int64_t, const int32_t *,
                             const int32_t *, double *)
    const char *lmm_words(lmm_status)
    double lmm_value(const lmm_model *m)
    double lmm_deviation(const lmm_model *)
    lmm_status lmm_montecarlo(lmm_model *, double *, double *)


cdef extern from "lmmfast.h" nogil:
    const lmm_blas *lmmfast_blas()  # SciPy's, for lmm_setup
