/* The cross-products A = [Z X y]'W[Z X y] in whitened coordinates: from rows, or y alone anew. */

#include "setup/fixed.h"
#include "base/small.h"

/* The blocks of A in the columns of node e. */
CLONES static void accumulate_node(lmm_model *m, const builder *b, int k, int32_t e)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const int p = f->p, edge = b->edge, c0 = (int)(b->ncol - edge);
    const ptrdiff_t ld = lay->ld[e];
    double *diag = m->sums.A[k].diag + (ptrdiff_t)(e - f->node) * p * p,
           *pan = m->sums.A[k].pan + lay->pan[e];
    int at = 0;
    for (int j = 0; j < k; j++) at += lay->f[j].p;
    for (ptrdiff_t i = lay->ptr[e], row = 0; i < lay->ptr[e + 1]; row += lay->width[lay->row[i++]])
        m->scratch.pos[lay->row[i]] = (int32_t)row;
    for (int64_t r = b->start[e]; r < b->start[e + 1]; r++) {
        const int64_t i = b->order[r];
        const double *v = b->rows + i * b->ncol, *z = v + at, *other = z + p;
        for (int c = 0; c < p; c++)
            for (int a = 0; a < p; a++) diag[a + c * p] += z[a] * z[c];
        for (int j = k + 1; j < lay->nfactor; other += lay->f[j++].p) {
            const int32_t o = lay->f[j].perm[b->d->factor[lay->f[j].user].level[i]];
            double *to = pan + (lay->full && k == 0 ? lay->nodecol[o] - lay->q1 : m->scratch.pos[o]);
            for (int c = 0; c < p; c++)
                for (int a = 0; a < lay->f[j].p; a++) to[a + c * ld] += other[a] * z[c];
        }
        for (int c = 0; c < p; c++)
            for (int a = 0; a < edge; a++) pan[ld - edge + a + c * ld] += v[c0 + a] * z[c];
    }
}

void accumulate(lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    char lower = 'L', none = 'N';
    int pb = lay->pb, edge = b->edge, n, ncol = b->ncol;
    double one = 1;
    for (int k = 0; k < lay->nfactor; k++) {
        const int32_t *level = b->d->factor[lay->f[k].user].level;
        const level_pairs rows = {b->d->n, level, level};
        sort_pairs(m, b, k, &rows);
        for (int32_t e = lay->f[k].node; e < lay->f[k].node + lay->f[k].nlev; e++)
            accumulate_node(m, b, k, e);
    }
    for (int64_t i = 0; i < b->d->n; i += n) { /* in pieces: int row counts, better rounding */
        n = b->d->n - i < 4096 ? (int)(b->d->n - i) : 4096;
        m->blas.syrk(&lower, &none, &edge, &n, &one, b->rows + i * ncol + (ncol - edge), &ncol, &one,
                     m->sums.border + (ptrdiff_t)(pb - edge) * (pb + 1), &pb);
    }
}

lmm_status make_rows(lmm_model *m, builder *b)
{
    const int64_t n = b->d->n;
    double *y = malloc(sizeof(double) * (size_t)n);
    if (!y) return LMM_NOMEM;
    const lmm_status status = center_response(m, b->d, y);
    for (int64_t i = 0; i < n && status == LMM_OK; i++) {
        whitened_row(m, b->d, i, b->rows + i * b->ncol);
        b->rows[(i + 1) * b->ncol - 1] = y[i];
    }
    free(y);
    if (status != LMM_OK || !m->layout.wide || m->layout.summed) return status;
    return whiten_rows(m, b);
}

/* Z'W y of one factor: sums over rows of centred columns, then whitened level by level. */
static void response_factor(lmm_model *m, factor *f, const lmm_data *d, const double *y)
{
    const layout *lay = &m->layout;
    const lmm_factor *u = &d->factor[f->user];
    const int p = f->p;
    double *sum = m->scratch.tmp;
    for (int32_t l = 0; l < f->nlev; l++) {
        double *to = m->sums.A[f->k].pan + lay->pan[f->node + l] + lay->ld[f->node + l] - 1;
        for (int c = 0; c < p; c++) to[(ptrdiff_t)c * lay->ld[f->node + l]] = 0;
    }
    for (int64_t i = 0; i < d->n; i++) {
        const int32_t e = f->perm[u->level[i]];
        const double v = y[i] * (d->w ? sqrt(d->w[i]) : 1);
        double *to = m->sums.A[f->k].pan + lay->pan[e] + lay->ld[e] - 1;
        for (int c = 0; c < p; c++) to[(ptrdiff_t)c * lay->ld[e]] += (u->z[i * p + c] - f->w.mean[c]) * v;
    }
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

void response_border(lmm_model *m, const lmm_data *d, const double *y, double *work)
{
    const layout *lay = &m->layout;
    double *sum = m->scratch.tmp, *last = m->sums.border + lay->p, yy = 0;
    for (int64_t i = 0; i < d->n; i++) work[i] = y[i] * (d->w ? sqrt(d->w[i]) : 1);
    fixed_products(d, lay->x.mean, NULL, 1, work, sum);
    for (int a = 0; a < lay->p; a++) {
        const double *B = lay->x.B + (ptrdiff_t)lay->keep[a] * lay->pfull;
        double v = 0;
        for (int l = 0; l <= lay->keep[a]; l++) v += B[l] * sum[l];
        last[(ptrdiff_t)a * lay->pb] = v;
    }
    for (int64_t i = 0; i < d->n; i++) yy += y[i] * y[i];
    last[(ptrdiff_t)lay->p * lay->pb] = yy;
}

lmm_status lmm_response(lmm_model *m, const lmm_data *d)
{
    const layout *lay = &m->layout;
    double *y = malloc(sizeof(double) * 2 * (size_t)d->n);
    if (!y) return LMM_NOMEM;
    const lmm_status status = center_response(m, d, y);
    m->evaluation.at.state = NOWHERE;
    if (status == LMM_OK) {
        for (int k = 0; k < lay->nfactor; k++) response_factor(m, &lay->f[k], d, y);
        response_border(m, d, y, y + d->n);
    }
    free(y);
    return status;
}
