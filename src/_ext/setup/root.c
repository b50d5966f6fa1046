/* B = R^-1 for G = R'R, over the columns that do not depend on earlier ones. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "setup/fixed.h"
#include "setup/wide.h"

#define PANEL 64       /* columns that are factorized together */
#define SURELY 5e-14   /* share of a column that is left by earlier ones, below which it is dropped ... */
#define DOUBTFUL 1e-10 /* share below which the rows are asked whether anything is left */

static char lower = 'L', left = 'L', none = 'N', trans = 'T';
static double one = 1, minus = -1;

/* Cholesky factor of a diagonal block, in place. A dependent column becomes one of the unit matrix, so that
   later columns see nothing of it. Nonzero: it is not sure whether a column is dependent. */
static int factor_block(int k, double *A, ptrdiff_t ld, const double *full, uint8_t *keep)
{
    int unsure = 0;
    for (int j = 0; j < k; j++) {
        double d = A[j + j * ld];
        for (int l = 0; l < j; l++) d -= A[j + l * ld] * A[j + l * ld];
        keep[j] = d > DEPENDENT * full[j] && d > 0;
        unsure |= keep[j] ? d * INFLATION < full[j] : fabs(d) > SURELY * full[j];
        d = keep[j] ? sqrt(d) : 1;
        A[j + j * ld] = d;
        for (int i = j + 1; i < k; i++) {
            double s = A[i + j * ld];
            for (int l = 0; l < j; l++) s -= A[i + l * ld] * A[j + l * ld];
            A[i + j * ld] = keep[j] ? s / d : 0;
        }
    }
    return unsure;
}

/* G = L L' in place (p x p, lower). full: p of its own. Nonzero: it is not sure which columns are dependent,
   and unless `all` is the case nothing is finished. */
static int factor_dropping(const lmm_blas *blas, int p, double *G, double *full, uint8_t *keep, int all)
{
    char right = 'R';
    int unsure = 0;
    for (ptrdiff_t j = 0; j < p; j++) full[j] = G[j + j * p];
    for (int j = 0; j < p && (all || !unsure); j += PANEL) {
        int k = p - j < PANEL ? p - j : PANEL, below = p - j - k;
        double *D = G + j + (ptrdiff_t)j * p, *under = D + k, *rest = under + (ptrdiff_t)k * p;
        unsure |= factor_block(k, D, p, full + j, keep + j);
        if (!below) break;
        blas->trsm(&right, &lower, &trans, &none, &below, &k, &one, D, &p, under, &p);
        for (int c = 0; c < k; c++)
            if (!keep[j + c]) memset(under + (ptrdiff_t)c * p, 0, sizeof(double) * (size_t)below);
        blas->syrk(&lower, &none, &below, &k, &minus, under, &p, &one, rest, &p);
    }
    return unsure;
}

/* B = L'^-1 (upper) over the kept columns, zero elsewhere. */
static void invert_root(const lmm_blas *blas, int p, double *L, const uint8_t *keep, double *B)
{
    memset(B, 0, sizeof(double) * (size_t)p * (size_t)p);
    for (int j = 0; j < p; j += PANEL) {
        int k = p - j < PANEL ? p - j : PANEL, rows = j + k;
        double *to = B + (ptrdiff_t)j * p;
        for (int c = 0; c < k; c++) to[j + c + (ptrdiff_t)c * p] = 1;
        blas->trsm(&left, &lower, &trans, &none, &rows, &k, &one, L, &p, to, &p);
        for (ptrdiff_t c = 0; c < k; c++)
            for (ptrdiff_t i = 0; i <= j + c; i++)
                if (!keep[i] || !keep[j + c]) to[i + c * p] = 0;
    }
}

double largest_inflation(int p, const double *B, const double *full, const uint8_t *keep, double *sum)
{
    double most = 1;
    memset(sum, 0, sizeof(double) * (size_t)p);
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i <= j; i++) sum[i] += B[i + j * p] * B[i + j * p];
    for (int i = 0; i < p; i++)
        if (keep[i] && !(sum[i] * full[i] < most)) most = sum[i] * full[i];
    return most;
}

int invert_gram(const lmm_model *m, whitening *x, uint8_t *keep, double *full, int all)
{
    const int unsure = factor_dropping(&m->blas, x->k, x->C, full, keep, all);
    if (all || !unsure) invert_root(&m->blas, x->k, x->C, keep, x->B);
    return unsure;
}

/* Squared length over n of column c of X_c B for scaled columns, all stored; v: of a block */
static double length_of(rows *r, const whitening *x, const double *scale, ptrdiff_t c, double *v)
{
    const double *B = x->B + c * x->k;
    double total = 0;
    EACH_BLOCK(r, first)
    {
        memset(v, 0, sizeof(double) * (size_t)r->n);
        for (ptrdiff_t l = 0; l <= c; l++) {
            const double *from = rows_column(r, r->x[l]), mean = x->mean[l], b = B[l] / scale[l];
            for (int32_t i = 0; i < r->n && b != 0; i++) v[i] += (from[i] - mean) * b;
        }
        for (int32_t i = 0; i < r->n; i++) total += (r->w ? r->w[i] : 1) * v[i] * v[i];
    }
    return total / (double)r->d->n;
}

/* Drops columns that are kept though the rows say that nothing is left of them: roundings of the sums passed
   for it. Their number; -1: no memory. */
static int drop_roundings(rows *r, const whitening *x, const double *scale, const double *full, uint8_t *keep)
{
    int found = 0;
    double *v = malloc(sizeof(double) * (size_t)r->size);
    if (!v) return -1;
    for (ptrdiff_t j = 0; j < x->k; j++) {
        const double root = x->B[j + j * x->k], share = 1 / (root * root * full[j]);
        if (!keep[j] || share > DOUBTFUL) continue;
        if (share * length_of(r, x, scale, j, v) > DEPENDENT) continue;
        keep[j] = 0;
        found++;
    }
    free(v);
    return found;
}

lmm_status invert_carefully(const lmm_model *m, rows *r, whitening *x, const double *scale, uint8_t *keep,
                            double *full)
{
    const ptrdiff_t p = x->k;
    for (ptrdiff_t j = 0; j < p; j++) /* the upper triangle keeps G */
        for (ptrdiff_t i = 0; i < j; i++) x->C[i + j * p] = x->C[j + i * p];
    for (int found = 1; found;) {
        invert_gram(m, x, keep, full, 1);
        found = drop_roundings(r, x, scale, full, keep);
        if (found < 0) return LMM_NOMEM;
        for (ptrdiff_t j = 0; j < p; j++) {
            for (ptrdiff_t i = 0; i < j; i++) x->C[j + i * p] = x->C[i + j * p];
            x->C[j + j * p] = full[j];
        }
        for (ptrdiff_t j = 0; j < p && found; j++)
            if (!keep[j] && x->B[j + j * p] != 0) x->C[j + j * p] = 0;
    }
    return LMM_OK;
}

static int is_doubtful(const whitening *x, const span *s, const uint8_t *keep, ptrdiff_t j)
{
    const double root = x->B[j + j * x->k] * s->scale[j];
    return keep[j] && root * root * s->G[j + j * s->k] * DOUBTFUL > 1;
}

/* The first column that is kept though nothing is left of it in the rows; -1: there is none.
   unit: ones, for B has the scales in it; v: of a block */
static ptrdiff_t kept_by_rounding(rows *r, const whitening *x, const span *s, const uint8_t *keep,
                                  const double *unit, double *v)
{
    for (ptrdiff_t j = 0; j < x->k; j++) {
        if (!is_doubtful(x, s, keep, j)) continue;
        const double root = x->B[j + j * x->k] * s->scale[j];
        if (length_of(r, x, unit, j, v) <= DEPENDENT * root * root * s->G[j + j * s->k]) return j;
    }
    return -1;
}

lmm_status whiten_narrow(builder *b, whitening *x, uint8_t *keep)
{
    span *s = &b->moments.span[b->moments.n - 1];
    const ptrdiff_t p = x->k;
    int doubts = 0;
    lmm_status status = whiten(x, s, &b->rows, keep);
    for (ptrdiff_t j = 0; j < p && !status; j++) doubts |= is_doubtful(x, s, keep, j);
    if (status || !doubts) return status;
    double *diagonal = malloc(sizeof(double) * (size_t)(2 * p + b->rows.size)), *unit = diagonal + p;
    if (!diagonal) return LMM_NOMEM;
    for (ptrdiff_t j = 0; j < p; j++) diagonal[j] = s->G[j + j * s->k], unit[j] = 1;
    for (ptrdiff_t j; !status && (j = kept_by_rounding(&b->rows, x, s, keep, unit, unit + p)) >= 0;) {
        s->G[j + j * s->k] = 0; /* of which nothing can be left */
        status = whiten(x, s, &b->rows, keep);
    }
    for (ptrdiff_t j = 0; j < p; j++) s->G[j + j * s->k] = diagonal[j];
    free(diagonal);
    return status;
}
