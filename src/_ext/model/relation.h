/* Private: a factor whose levels are related, b ~ N(0, sigma^2 K (x) T T'), by the inverse of K. With K = L
   L' and b = (I (x) T) c,

     c ~ N(0, sigma^2 K (x) I),   M = Lambda'A Lambda + K^-1 (x) I,   log|M| + p log|K|

   in place of M = Lambda'A Lambda + I and log|M|. Levels of such a factor meet in M without a row that
   has them both, so it is never eliminated. B = Lambda M^-1 Lambda' and V^-1 are what they were; where a sum
   over levels has g g' of g = Z'Py, it has L'g g'L now, and in place of g in a direction dSigma g stands
   K g. */

#ifndef LMM_RELATION_H
#define LMM_RELATION_H

#include "cholesky/supernodal.h"
#include "model/model.h"

struct relation {
    int32_t q;      /* levels                                                               */
    ptrdiff_t *ptr; /* q + 1  K^-1, lower triangle by columns, ...                          */
    int32_t *row;   /*        ... rows ascending, the diagonal first                        */
    double *x;
    supernodal *factor; /* of K^-1; NULL: its root is given                                 */
    ptrdiff_t *rootptr; /* q + 1  G, K^-1 = G'G, by rows, the diagonal last                 */
    int32_t *rootcol;
    double *rootx;
    double logdet; /* log|K|                                                           */
};

/* Of q levels, in memory; numbers: not only the pattern of the factor. LMM_NOTPOSDEF: K^-1 is not positive
   definite. *out is to be freed in any case, before the memory. */
lmm_status relation_new(void **memory, int32_t q, const lmm_precision *given, const lmm_blas *blas,
                        int numbers, relation **out);
void relation_free(relation *r); /* NULL is fine */
lmm_status relate_factor(lmm_model *m, factor *f, const lmm_precision *given, int numbers);
void relations_free(lmm_model *m);
double relation_bytes(const relation *r); /* 0 for NULL */

/* X (r x q): r right-hand sides, one a row. X L, levels then in an order of their own, and X K */
void times_root(const relation *r, int rows, double *X);
void times_relation(const relation *r, int rows, double *X);

/* X L': rows of independent numbers become rows with covariance K */
void draw_related(const relation *r, int rows, double *X);

/* diagonal of K (q); work: as many doubles as K^-1 has entries */
lmm_status relation_diagonal(relation *r, double *diagonal, double *work);

/* sum_ij K^-1_ij u_i'v_j, p numbers a level */
double related_product(const relation *r, int p, const double *u, const double *v);

/* From Y what root_rows and related_rows show */
void relate_rows(lmm_model *m);

/* Y of the columns of factor k, by L' and by K over its levels; Y itself where they are not related */
static inline const double *root_rows(const lmm_model *m, int k)
{
    const double *root = m->evaluation.f[k].root;
    return root ? root : m->evaluation.Y + (ptrdiff_t)m->layout.f[k].col * m->layout.pb;
}

static inline const double *related_rows(const lmm_model *m, int k)
{
    const double *related = m->evaluation.f[k].related;
    return related ? related : m->evaluation.Y + (ptrdiff_t)m->layout.f[k].col * m->layout.pb;
}

#endif
