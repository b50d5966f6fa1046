/* Satterthwaite's degrees of freedom (Giesbrecht & Burns 1985): of a contrast with variance v = sigma^2 u'u

     df = 2 / (h'C h + 2 / nu),   h = v'/v + (log r^2)',   C = 2 f''^-1

   Derivatives are in the entries t of T that are free: whole columns, but those that are zero. Turning
   columns into each other changes nothing, so that f'' has no curvature along such turns; neither has it
   where the data say nothing. Both kinds of directions are left out. With Sigma = T T', dSigma = e_i t_c' +
   t_c e_i',

     f'' = J'H J + bend,   bend: of two entries i, j of one column 2 S_ij,   S = df/dSigma, symmetric  */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

#define FLAT 1e-8 /* curvature, relative to the largest, below which there is none */

typedef struct {     /* coordinates of the free columns of T                                      */
    ptrdiff_t D;     /* their number                                                              */
    double *J;       /* N x D   dSigma/dt                                                         */
    double *F;       /* D x D   f'', then its eigenvectors                                        */
    double *w;       /* D       eigenvalues                                                       */
    double *size;    /* D       units in which the diagonal of f'' is one                         */
    double *h;       /* D                                                                         */
    double *slope;   /* N       df/dSigma                                                         */
    double *H;       /* N x N                                                                     */
    double *product; /* N x D                                                                    */
    double *work;    /* 34 D                                                                      */
    double *memory;
} free_columns;

static int is_zero(const double *column, int k)
{
    for (int i = 0; i < k; i++)
        if (column[i] != 0) return 0;
    return 1;
}

static const double *columns_of(const lmm_model *m, const term *t)
{
    return m->evaluation.f[t->f->k].T + (ptrdiff_t)t->first * (t->f->p + 1);
}

static ptrdiff_t count_free(const lmm_model *m)
{
    ptrdiff_t D = 0;
    for (term t = {0}; next_term(&m->layout, &t);)
        for (int c = 0; c < t.k; c++)
            if (!is_zero(columns_of(m, &t) + (ptrdiff_t)c * t.f->p, t.k)) D += t.k;
    return D;
}

static lmm_status free_columns_new(free_columns *x, const lmm_model *m)
{
    const ptrdiff_t N = m->layout.ntheta, D = x->D = count_free(m);
    x->memory = calloc((size_t)(2 * N * D + D * D + 37 * D + N + N * N + 1), sizeof(double));
    if (!x->memory) return LMM_NOMEM;
    x->J = x->memory, x->product = x->J + N * D, x->F = x->product + N * D, x->w = x->F + D * D;
    x->size = x->w + D, x->h = x->size + D, x->slope = x->h + D, x->H = x->slope + N;
    x->work = x->H + N * N;
    return LMM_OK;
}

/* J, and the bend in F */
static void follow_columns(free_columns *x, const lmm_model *m)
{
    const ptrdiff_t N = m->layout.ntheta;
    ptrdiff_t d = 0;
    for (term t = {0}; next_term(&m->layout, &t);)
        for (int c = 0; c < t.k; c++) {
            const double *column = columns_of(m, &t) + (ptrdiff_t)c * t.f->p;
            if (is_zero(column, t.k)) continue;
            for (int i = 0; i < t.k; i++)
                for (int j = 0; j < t.k; j++) {
                    const ptrdiff_t e = t.th + packed_place(t.k, i > j ? i : j, i > j ? j : i);
                    x->J[e + (d + i) * N] += (i == j ? 2 : 1) * column[j];
                    x->F[d + i + (d + j) * x->D] = (i == j ? 2 : 1) * x->slope[e];
                }
            d += t.k;
        }
}

/* F := J'H J + F, in units of its diagonal, and then its eigenvectors */
static int decompose(free_columns *x, const lmm_model *m)
{
    char none = 'N', trans = 'T', vectors = 'V', lower = 'L';
    double one = 1, zero = 0;
    int N = m->layout.ntheta, D = (int)x->D, lwork = 34 * D, info;
    m->blas.gemm(&none, &none, &N, &D, &N, &one, x->H, &N, x->J, &N, &zero, x->product, &N);
    m->blas.gemm(&trans, &none, &D, &D, &N, &one, x->J, &N, x->product, &N, &one, x->F, &D);
    for (ptrdiff_t i = 0; i < D; i++) {
        const double size = fabs(x->F[i + i * D]);
        x->size[i] = size > 0 ? 1 / sqrt(size) : 1;
    }
    for (ptrdiff_t j = 0; j < D; j++)
        for (ptrdiff_t i = 0; i < D; i++) x->F[i + j * D] *= x->size[i] * x->size[j];
    m->blas.syev(&vectors, &lower, &D, x->F, &D, x->w, x->work, &lwork, &info);
    return info;
}

/* h := J' of sums of squares M (K x K) by weight, plus what it was times before */
static void add_gradient(free_columns *x, const lmm_model *m, ptrdiff_t K, const double *M, double weight)
{
    const layout *lay = &m->layout;
    ptrdiff_t d = 0;
    for (term t = {0}; next_term(lay, &t);) {
        ptrdiff_t at = t.first;
        for (int k = 0; k < t.f->user; k++) at += factor_of_user(m, k)->p;
        const double *block = M + at * (K + 1);
        for (int c = 0; c < t.k; c++) {
            const double *column = columns_of(m, &t) + (ptrdiff_t)c * t.f->p;
            if (is_zero(column, t.k)) continue;
            for (int i = 0; i < t.k; i++)
                for (int j = 0; j < t.k; j++) x->h[d + i] += 2 * weight * block[i + j * K] * column[j];
            d += t.k;
        }
    }
}

/* h'C h */
static double movement(const free_columns *x)
{
    double sum = 0;
    for (ptrdiff_t e = 0; e < x->D; e++) {
        if (!(x->w[e] > FLAT * x->w[x->D - 1])) continue;
        double along = 0;
        for (ptrdiff_t i = 0; i < x->D; i++) along += x->F[i + e * x->D] * x->size[i] * x->h[i];
        sum += 2 / x->w[e] * along * along;
    }
    return sum;
}

static lmm_status all_degrees(lmm_model *m, free_columns *x, int r, const double *L, double *variance,
                              double *df)
{
    const layout *lay = &m->layout;
    ptrdiff_t K = 0;
    for (int k = 0; k < lay->nfactor; k++) K += lay->f[k].p;
    const double nu = degrees(m, m->evaluation.at.reml);
    const double total = m->sums.yscale * m->sums.yscale * m->evaluation.r2;
    double *M = malloc(sizeof(double) * (size_t)(K * K * (r + 1)));
    lmm_status status = M ? lmm_contrasts(m, r, L, M) : LMM_NOMEM;
    if (status == LMM_OK) status = contrast_variances(m, r, L, variance);
    for (int c = 0; c < r && status == LMM_OK; c++) {
        memset(x->h, 0, sizeof(double) * (size_t)x->D);
        add_gradient(x, m, K, M, -1 / total);
        add_gradient(x, m, K, M + (c + 1) * K * K, 1 / variance[c]);
        df[c] = variance[c] > 0 ? 2 / (movement(x) + 2 / nu) : NAN;
    }
    free(M);
    return status;
}

lmm_status lmm_satterthwaite(lmm_model *m, int r, const double *L, double *variance, double *df)
{
    free_columns x;
    if (!m->trailing->exact || m->layout.moves) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, FACTORED, 1));
    deepen(m, BORDERED);
    lmm_status status = free_columns_new(&x, m);
    if (status == LMM_OK) status = hessian_there(m, x.slope, x.H);
    if (status == LMM_OK) {
        follow_columns(&x, m);
        status = x.D && decompose(&x, m) ? LMM_NOTFINITE : all_degrees(m, &x, r, L, variance, df);
    }
    free(x.memory);
    return status;
}
