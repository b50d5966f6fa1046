# The rooms that _core.pyx calls beside lmm.h, said in Cython; nothing else.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t


from lmmfast.capi cimport *


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


cdef extern from "interface/table.h" nogil:
    const char *LMMFAST_CAPSULE

    ctypedef struct lmmfast_api:
        pass

    lmmfast_api lmmfast_table(const lmm_blas *)
