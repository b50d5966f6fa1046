/* The cross-products A = [Z X y]'W[Z X y] in whitened coordinates: from rows, or y alone anew. */

#include "setup/places.h"
#include "base/small.h"

#define PASS 64 /* rows of a column that are summed together */

/* to[i ncol] = root sum of (x_l - mean_l) B_lj over columns l = first, ..., j, of the rows that were read
 * last */
CLONES static void whiten_column(const rows *r, const int32_t *column, const whitening *w, int first, int j,
                                 double *to, ptrdiff_t ncol)
{
    double sum[PASS];
    for (int32_t i = 0, n; i < r->n; i += n) {
        n = r->n - i < PASS ? r->n - i : PASS;
        memset(sum, 0, sizeof(double) * (size_t)n);
        for (int l = first; l <= j; l++) {
            const double *x = rows_column(r, column[l]) + i, mean = w->mean[l],
                         c = w->B[l + (ptrdiff_t)j * w->k];
            for (int32_t s = 0; s < n; s++) sum[s] += (x[s] - mean) * c;
        }
        for (int32_t s = 0; s < n && r->root; s++) sum[s] *= r->root[i + s];
        for (int32_t s = 0; s < n; s++) to[(i + s) * ncol] = sum[s];
    }
}

/* The block that was read last, row by row: [z of all factors in elimination order | x | y] */
static void whiten_rows(const lmm_model *m, const builder *b, const response *y, double *residual)
{
    const layout *lay = &m->layout;
    const rows *r = &b->rows;
    double *to = b->white;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int j = 0; j < f->p; j++) whiten_column(r, r->z[f->user], &f->w, f->term[j], j, to++, b->ncol);
    }
    for (int a = 0; a < lay->p; a++) whiten_column(r, r->x, &lay->x, 0, lay->keep[a], to++, b->ncol);
    response_rows(m, y, r, residual);
    for (int32_t i = 0; i < r->n; i++) to[(ptrdiff_t)i * b->ncol] = residual[i];
}

/* What the block adds to the columns of factor k. at: place of its columns in a row */
INLINE void add_levels(int p, lmm_model *m, const builder *b, int k, int at, int64_t first)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const int32_t *level = b->d->factor[f->user].level + first;
    const int pb = lay->pb;
    for (int32_t i = 0; i < b->rows.n; i++) {
        const int32_t e = f->perm[level[i]];
        const double *v = b->white + (ptrdiff_t)i * b->ncol, *z = v + at, *other = z + p,
                     *x = v + b->ncol - pb;
        double *diag = m->sums.A[k].diag + (ptrdiff_t)(e - f->node) * p * p;
        double *pan = m->sums.A[k].pan + lay->pan[e];
        const ptrdiff_t ld = lay->ld[e];
        for (int c = 0; c < p; c++)
            for (int a = 0; a < p; a++) diag[a + c * p] += z[a] * z[c];
        for (int j = k + 1; j < lay->nfactor; other += lay->f[j++].p) {
            const int32_t o = lay->f[j].perm[b->d->factor[lay->f[j].user].level[first + i]];
            double *to = pan + place_of(lay, b, k, j, e, o);
            for (int c = 0; c < p; c++)
                for (int a = 0; a < lay->f[j].p; a++) to[a + c * ld] += other[a] * z[c];
        }
        for (int c = 0; c < p; c++)
            for (int a = 0; a < pb; a++) pan[ld - pb + a + c * ld] += x[a] * z[c];
    }
}

CLONES static void add_rows(lmm_model *m, const builder *b, int64_t first)
{
    const layout *lay = &m->layout;
    char lower = 'L', none = 'N';
    int pb = lay->pb, n = b->rows.n, ncol = b->ncol;
    double one = 1;
    for (int k = 0, at = 0; k < lay->nfactor; at += lay->f[k++].p)
        BY_WIDTH(lay->f[k].p, add_levels, m, b, k, at, first);
    m->blas.syrk(&lower, &none, &pb, &n, &one, b->white + (ncol - pb), &ncol, &one, m->sums.border, &pb);
}

/* y in units of its size */
static void scale_response(lmm_model *m, double scale)
{
    const layout *lay = &m->layout;
    double *last = m->sums.border + lay->p;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            double *to = m->sums.A[k].pan + lay->pan[e] + lay->ld[e] - 1;
            for (int c = 0; c < f->p; c++) to[(ptrdiff_t)c * lay->ld[e]] *= scale;
        }
    }
    for (int a = 0; a <= lay->p; a++) last[(ptrdiff_t)a * lay->pb] *= scale;
    last[(ptrdiff_t)lay->p * lay->pb] *= scale;
}

lmm_status fill_rows(lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    response y;
    double scale = 1;
    TRY(response_begin(m, &b->moments, &y));
    b->white = malloc(sizeof(double) * (size_t)b->rows.size * ((size_t)b->ncol + 1));
    if (!b->white) return LMM_NOMEM;
    EACH_BLOCK(&b->rows, first)
    {
        whiten_rows(m, b, &y, b->white + (ptrdiff_t)b->rows.size * b->ncol);
        add_rows(m, b, first);
    }
    TRY(response_end(m, &y, m->sums.border[(ptrdiff_t)lay->p * lay->pb + lay->p], &scale));
    scale_response(m, scale);
    return LMM_OK;
}

/* What the block adds to Z'W y of one factor: sums over rows of centred columns. y: residuals, times the
   roots of the weights */
static void add_response(lmm_model *m, const factor *f, const rows *r, int64_t first, const double *y)
{
    const layout *lay = &m->layout;
    const int32_t *level = r->d->factor[f->user].level + first;
    for (int c = 0; c < f->p; c++) {
        const double *z = rows_column(r, r->z[f->user][c]), mean = f->w.mean[c];
        for (int32_t i = 0; i < r->n; i++) {
            const int32_t e = f->perm[level[i]];
            const double v = y[i] * (r->root ? r->root[i] : 1);
            m->sums.A[f->k].pan[lay->pan[e] + (c + 1) * (ptrdiff_t)lay->ld[e] - 1] += (z[i] - mean) * v;
        }
    }
}

static void clear_response(lmm_model *m)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            for (int c = 1; c <= f->p; c++) m->sums.A[k].pan[lay->pan[e] + c * (ptrdiff_t)lay->ld[e] - 1] = 0;
    }
    for (int a = 0; a < lay->pb; a++) m->sums.border[a * (ptrdiff_t)lay->pb + lay->p] = 0;
}

/* Z'W y of one factor, whitened level by level */
static void whiten_response(lmm_model *m, const factor *f)
{
    const layout *lay = &m->layout;
    const int p = f->p;
    double *sum = m->scratch.tmp;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        double *to = m->sums.A[f->k].pan + lay->pan[e] + lay->ld[e] - 1;
        for (int c = 0; c < p; c++) sum[c] = to[(ptrdiff_t)c * lay->ld[e]];
        for (int j = 0; j < p; j++) {
            double s = 0;
            for (int l = f->term[j]; l <= j; l++) s += f->w.B[l + j * p] * sum[l];
            to[(ptrdiff_t)j * lay->ld[e]] = s;
        }
    }
}

/* X'W y and y'W y; product: of the centred columns */
static void whiten_border(lmm_model *m, const double *product, double yy)
{
    const layout *lay = &m->layout;
    double *last = m->sums.border + lay->p;
    for (int a = 0; a < lay->p; a++)
        for (int l = 0; l <= lay->keep[a]; l++)
            last[(ptrdiff_t)a * lay->pb] += lay->x.B[l + (ptrdiff_t)lay->keep[a] * lay->pfull] * product[l];
    last[(ptrdiff_t)lay->p * lay->pb] = yy;
}

static lmm_status replace_response(lmm_model *m, rows *r, double *v)
{
    const layout *lay = &m->layout;
    double *product = v + r->size, yy = 0, scale = 1;
    response y;
    TRY(response_again(m, r, &y, v));
    clear_response(m);
    memset(product, 0, sizeof(double) * (size_t)lay->pfull);
    EACH_BLOCK(r, first)
    {
        response_rows(m, &y, r, v);
        yy += dot(r->n, v, v);
        for (int k = 0; k < lay->nfactor; k++) add_response(m, &lay->f[k], r, first, v);
        for (int32_t i = 0; i < r->n && r->root; i++) v[i] *= r->root[i];
        response_products(m, r, v, product);
    }
    TRY(response_end(m, &y, yy, &scale));
    for (int k = 0; k < lay->nfactor; k++) whiten_response(m, &lay->f[k]);
    whiten_border(m, product, yy);
    scale_response(m, scale);
    return LMM_OK;
}

lmm_status lmm_response(lmm_model *m, const lmm_data *d)
{
    rows r;
    lmm_status status = rows_open(&r, d);
    double *v = status == LMM_OK ? malloc(sizeof(double) * (size_t)(r.size + m->layout.pfull)) : NULL;
    m->evaluation.at.state = NOWHERE;
    if (status == LMM_OK) status = v ? replace_response(m, &r, v) : LMM_NOMEM;
    free(v);
    rows_close(&r);
    return status;
}
