# lmm.h, said in Cython; nothing else.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t


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
    int32_t lmm_ndelta(const lmm_model *)
    lmm_status lmm_residual_at(lmm_model *, const double *)
    lmm_status lmm_residual_slopes(lmm_model *, double *, double *, double *)
    lmm_status lmm_residual_fit(lmm_model *, const lmm_settings *, const lmm_plane *, const double *,
                                const uint8_t *, double *, double *, lmm_info *)
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
    double lmm_value(const lmm_model *m)
    double lmm_deviation(const lmm_model *)
    lmm_status lmm_montecarlo(lmm_model *, double *, double *)


cdef extern from "sums/blocks.h" nogil:
    ctypedef struct lmm_pairs:
        int64_t count
        int32_t *a
        int32_t *b
        double *value

    ctypedef struct blocks_struct "struct lmm_blocks":
        int32_t nfactor, border
        int32_t *width
        int32_t *nlev
        double **diag
        double **edge
        double *corner

    lmm_status lmm_blocks_new(lmm_blocks **, int, const int32_t *, int32_t)
    void lmm_blocks_free(lmm_blocks *)
    double lmm_blocks_bytes(const lmm_blocks *)
    void lmm_blocks_compact(lmm_blocks *)
    lmm_status lmm_blocks_merge(lmm_blocks *, const lmm_blocks *, const int32_t *const *, const int32_t *,
                                double)
    lmm_status lmm_blocks_set(lmm_blocks *, int, int32_t, const double *, const double *)
    lmm_status lmm_blocks_set_pairs(lmm_blocks *, int, int, int64_t, const int32_t *, const int32_t *,
                                    const double *)
    const lmm_pairs *lmm_pairs_of(const lmm_blocks *, int, int)
    lmm_status lmm_blocks_order(const lmm_blocks *, int, int, int64_t *)


cdef extern from "cholesky/graph.h" nogil:
    ctypedef struct pattern:
        int32_t n
        const ptrdiff_t *ptr
        const int32_t *row
        const int32_t *weight

    lmm_status minimum_degree(const pattern *a, int32_t *order)
    lmm_status reverse_cuthill_mckee(const pattern *a, int32_t *order, double *flops)


cdef extern from "cholesky/supernodal.h" nogil:
    ctypedef struct supernodal:
        pass

    lmm_status supernodal_analyse(supernodal **out, int32_t n, const ptrdiff_t *ptr, const int32_t *row,
                                  const int32_t *perm, const lmm_blas *blas)
    double supernodal_flops(const supernodal *factor)
    void supernodal_free(supernodal *factor)


cdef extern from "setup/chunk.h" nogil:
    ctypedef struct lmm_coordinates:
        const double *const *mean
        const double *const *B
        const double *xmean
        const double *BX
        const double *slope
        double center, yscale
        int uncentred

    ctypedef struct lmm_totals:
        double *columns
        double *plain
        double response[2]
        double sumlogw, low, high

    lmm_status lmm_add_rows(lmm_blocks *, const lmm_blas *, const lmm_data *, const lmm_coordinates *,
                            lmm_totals *)


cdef extern from "families/family.h" nogil:
    ctypedef struct lmm_density:
        double *l
        double *d1
        double *d2
        double *d3
        double *d4
        double *w
        double *dw
        double *lx
        double *d1x
        double *d2x
        double *wx
        ptrdiff_t ldx

    ctypedef struct lmm_family:
        void (*density)(const lmm_family *, int32_t, const double *, const double *, const double *,
                        const double *, const lmm_density *) noexcept nogil
        double (*constant)(const lmm_family *, int64_t, const double *, const double *) noexcept nogil
        int32_t nextra
        int concave
        int32_t classes
        void *arg

    int lmm_find_family(const char *, const char *, int32_t, lmm_family *)


cdef extern from "generalized/glmm.h" nogil:
    ctypedef struct glmm_model

    ctypedef struct glmm_response:
        const double *y
        const double *w
        const double *offset
        lmm_family family
        double center
        const double *x
        double unit
        const double *mean
        const double *precision
        int flat
        int expected
        int nodes
        const double *node
        int merge
        double limit
        void *(*room)(void *, double) noexcept nogil
        void *arg

    ctypedef struct glmm_info:
        double objective, certificate, mode
        int32_t neval, factorizations, passes, escapes

    lmm_status glmm_setup(glmm_model **g, lmm_model *m, const lmm_data *d, const glmm_response *r)
    void glmm_free(glmm_model *g)
    int32_t glmm_size(const glmm_model *g)
    ctypedef struct glmm_plane:
        const lmm_plane *theta
        int32_t nz
        const double *fixed
        const double *basis

    lmm_status glmm_fit(glmm_model *g, const lmm_settings *s, const glmm_plane *within, const double *start,
                        double *psi, double *z, glmm_info *info)
    lmm_status glmm_again(glmm_model *g, const glmm_response *r)
    lmm_status glmm_evaluate(glmm_model *g, const double *psi, double *f, double *gradient)
    lmm_status glmm_hessian(glmm_model *g, const double *psi, double *H)
    lmm_status glmm_readings(glmm_model *g, double *b, double *eta, double *h, double *condvar)
    lmm_status glmm_solve(glmm_model *g, int r, const double *V, double *X)
    ctypedef enum glmm_obstacle:
        GLMM_NONE
        GLMM_EDGE
        GLMM_CURVATURE

    glmm_obstacle glmm_met(const glmm_model *g)
    void glmm_kept(const glmm_model *g, int64_t *n, double *elsewhere)
    void glmm_work(const glmm_model *g, int32_t *factorizations, int32_t *passes)


cdef extern from "pedigree/pedigree.h" nogil:
    lmm_status pedigree_order(int32_t, const int32_t *, const int32_t *, int32_t *, int32_t *)
    lmm_status pedigree_inbreeding(int32_t, const int32_t *, const int32_t *, double *, double *)


cdef extern from "model/relation.h" nogil:
    ctypedef struct relation:
        pass

    lmm_status relation_new(void **, int32_t, const lmm_precision *, const lmm_blas *, int, relation **)
    void relation_free(relation *)
    void times_relation(const relation *, int, double *)
    void draw_related(const relation *, int, double *)
    lmm_status relation_diagonal(relation *, double *, double *)


cdef extern from "base/memory.h" nogil:
    void release(void **, void *)
cdef extern from "repeated/repeated.h" nogil:
    ctypedef struct lmm_repeated

    ctypedef struct lmm_repeated_spec:
        int32_t p, visits, groups, patterns
        const int32_t *group
        const ptrdiff_t *start
        const int32_t *visit
        const lmm_structure *structure
        const lmm_structure **local
        const double *shift

    lmm_status lmm_repeated_new(lmm_repeated **r, const lmm_repeated_spec *spec, const lmm_blas *blas)
    void lmm_repeated_free(lmm_repeated *r)
    lmm_status lmm_repeated_add(lmm_repeated *r, int32_t pattern, int64_t count, const double *z)
    void lmm_repeated_add_sums(lmm_repeated *r, int32_t pattern, int64_t count, const double *sum)
    void lmm_repeated_scale(lmm_repeated *r, double by)
    void lmm_repeated_forget(lmm_repeated *r)
    ptrdiff_t lmm_repeated_pairs(const lmm_repeated *r)
    int32_t lmm_repeated_nphi(const lmm_repeated *r)
    lmm_status lmm_repeated_evaluate(lmm_repeated *r, int reml, const double *phi, double *f)
    lmm_status lmm_repeated_read(lmm_repeated *r, double *g, double *H, double *beta, double *vcov,
                                 double *Sigma)
    lmm_status lmm_repeated_slopes(lmm_repeated *r, double *out)
    lmm_status lmm_repeated_weighted(const lmm_repeated *r, int nrhs, const double *V, double *out)
    lmm_status lmm_repeated_forms(const lmm_repeated *r, const double *F, double *out)
    lmm_status lmm_repeated_fit(lmm_repeated *r, const lmm_settings *s, const double *start, double *phi,
                                lmm_info *info)
