/* What else follows from X whitened in its sums (gram.c): its products with Z and y, and what it leaves of
   any columns.

     Z'W X_w = (Z'W X_c) B,   X_w'W X_w = n I,   M v = v - W^1/2 X_w X_w'W^1/2 v / n  */

#include <math.h>
#include <string.h>

#include "setup/fixed.h"

#define EASY 1e4 /* inflation below which X_w is orthogonal to 1e-11 */

static char trans = 'T';
static double one = 1, zero = 0;

/* A place among the kept columns of each of X, or -1; the columns of Z that each row meets. */
static void number(const layout *lay, const builder *b, int32_t *kept, int32_t *column)
{
    const lmm_data *d = b->d;
    for (int32_t j = 0; j < d->p; j++) kept[j] = -1;
    for (int32_t a = 0; a < lay->p; a++) kept[lay->keep[a]] = a;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int64_t i = 0; i < d->n; i++)
            column[i * lay->nfactor + k] = lay->nodecol[f->perm[d->factor[f->user].level[i]]];
    }
}

/* E (q) += x times the columns of Z in row i; column: those that the row meets */
static inline void add_row(const layout *lay, const builder *b, int64_t i, const int32_t *column, double x,
                           double *E)
{
    const double *z = b->rows + i * b->ncol;
    if (lay->nfactor == 1 && lay->f[0].p == 1) {
        E[column[i]] += *z * x;
        return;
    }
    for (int k = 0; k < lay->nfactor; z += lay->f[k++].p)
        for (int c = 0; c < lay->f[k].p; c++) E[column[i * lay->nfactor + k] + c] += z[c] * x;
}

/* E (q x p + 1) := Z'W X_c of the kept columns, and Z'W 1 */
static void make_edge(const layout *lay, const builder *b, const int32_t *kept, const int32_t *column,
                      double *E, int32_t *places, double *values)
{
    const lmm_data *d = b->d;
    const ptrdiff_t q = lay->q;
    double *ones = E + lay->p * q;
    memset(E, 0, sizeof(double) * (size_t)(q * lay->pb));
    for (int64_t i = 0; i < d->n; i++) add_row(lay, b, i, column, root_weight(d, i), ones);
    for (int64_t i = 0; d->ncoded && i < d->n; i++) {
        const int32_t found = coded_row(d, i, places, values);
        for (int32_t s = 0; s < found; s++)
            if (kept[places[s]] >= 0)
                add_row(lay, b, i, column, values[s] * root_weight(d, i), E + kept[places[s]] * q);
    }
    for (ptrdiff_t a = 0; d->ncoded && a < lay->p; a++)
        for (ptrdiff_t r = 0; r < q; r++) E[r + a * q] -= lay->x.mean[lay->keep[a]] * ones[r];
    for (int32_t j = 0; j < d->pstored; j++) {
        const int32_t c = stored_place(d, j);
        const double *x = d->X + j * d->n, mean = lay->x.mean[c];
        double *to = E + kept[c] * q;
        if (kept[c] < 0) continue;
        memset(to, 0, sizeof(double) * (size_t)q);
        for (int64_t i = 0; i < d->n; i++) add_row(lay, b, i, column, (x[i] - mean) * root_weight(d, i), to);
    }
}

/* The rows of X in every panel: Y (pb x q) */
static void place_edge(lmm_model *m, const double *Y)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            for (ptrdiff_t c = 0; c < f->p; c++)
                memcpy(m->sums.A[k].pan + lay->pan[e] + (c + 1) * lay->ld[e] - lay->pb,
                       Y + (lay->nodecol[e] + c) * lay->pb, sizeof(double) * (size_t)lay->p);
    }
}

/* Y (pb x q) := B'E', B over the kept columns; compact: p x p of its own where some are dropped */
static void whiten_edge(lmm_model *m, double *E, double *Y, double *compact)
{
    const layout *lay = &m->layout;
    int p = lay->p, q = lay->q, pb = lay->pb;
    double *B = lay->x.B;
    if (compact) {
        for (ptrdiff_t c = 0; c < p; c++)
            for (ptrdiff_t r = 0; r < p; r++)
                compact[r + c * p] = B[lay->keep[r] + (ptrdiff_t)lay->keep[c] * lay->pfull];
        B = compact;
    }
    m->blas.gemm(&trans, &trans, &p, &q, &p, &one, B, &p, E, &q, &zero, Y, &pb);
}

/* What rows that hold Z and y leave out: the edges of X, and the corner. Uses H and Y of the evaluation. */
lmm_status accumulate_fixed(lmm_model *m, const builder *b)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const lmm_data *d = b->d;
    const size_t n = (size_t)d->n, p = (size_t)d->p, dropped = lay->p < lay->pfull;
    double *values = malloc(sizeof(double) * (p + 2 * n + dropped * p * p));
    int32_t *kept = malloc(sizeof(int32_t) * (2 * p + n * (size_t)lay->nfactor));
    const lmm_status status = values && kept ? LMM_OK : LMM_NOMEM;
    if (status == LMM_OK) {
        double *y = values + p, *compact = dropped ? y + 2 * n : NULL;
        number(lay, b, kept, kept + 2 * p);
        make_edge(lay, b, kept, kept + 2 * p, ev->H, kept + p, values);
        if (lay->p) {
            whiten_edge(m, ev->H, ev->Y, compact);
            place_edge(m, ev->Y);
        }
        for (ptrdiff_t a = 0; a < lay->p; a++) m->sums.border[a * (lay->pb + 1)] = (double)lay->n;
        for (size_t i = 0; i < n; i++) y[i] = b->rows[(i + 1) * (size_t)b->ncol - 1];
        response_border(m, d, y, y + n);
    }
    free(values), free(kept);
    return status;
}

/* V -= W^1/2 X_w X_w'W^1/2 V / n for r columns;  work: r (2 pfull + n) */
static void remove_fixed(const layout *lay, const lmm_data *d, int r, double *V, double *work)
{
    const ptrdiff_t k = lay->pfull;
    double *sum = work, *c = sum + k * r, *rows = c + k * r;
    for (int64_t i = 0; i < d->n * r; i++) rows[i] = root_weight(d, i % d->n) * V[i];
    fixed_products(d, lay->x.mean, NULL, r, rows, sum);
    memset(c, 0, sizeof(double) * (size_t)(k * r));
    memset(rows, 0, sizeof(double) * (size_t)(d->n * r));
    for (ptrdiff_t a = 0; a < (ptrdiff_t)lay->p * r; a++) {
        const ptrdiff_t j = lay->keep[a % lay->p], at = a / lay->p * k;
        const double *B = lay->x.B + j * k;
        double s = 0;
        for (ptrdiff_t l = 0; l <= j; l++) s += B[l] * sum[at + l];
        for (ptrdiff_t l = 0; l <= j; l++) c[at + l] += B[l] * s / (double)lay->n;
    }
    subtract_fixed(d, lay->x.mean, r, c, rows);
    for (int64_t i = 0; i < d->n * r; i++) V[i] += root_weight(d, i % d->n) * rows[i];
}

lmm_status lmm_without_fixed(const lmm_model *m, const lmm_data *d, int r, double *V)
{
    const layout *lay = &m->layout;
    double *work = malloc(sizeof(double) * (2 * (size_t)lay->pfull + (size_t)d->n) * TOGETHER);
    if (!work) return LMM_NOMEM;
    for (int j = 0; j < r; j += TOGETHER) {
        const int count = r - j < TOGETHER ? r - j : TOGETHER;
        remove_fixed(lay, d, count, V + j * d->n, work);
        if (lay->inflation > EASY) remove_fixed(lay, d, count, V + j * d->n, work); /* what rounding left */
    }
    free(work);
    return LMM_OK;
}
