/* Sums over rows, laid out as A: added, multiplied by rows of numbers, multiplied with the inverse. */

#include "residual/residual.h"

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

static ptrdiff_t diagonal_size(const factor *f)
{
    return (ptrdiff_t)f->nlev * f->p * f->p;
}

lmm_status new_sums(block_sums *s, residual *r, const layout *lay)
{
    GRAB(r, s->A, lay->nfactor);
    for (int k = 0; k < lay->nfactor; k++) {
        GRAB(r, s->A[k].diag, diagonal_size(&lay->f[k]));
        GRAB(r, s->A[k].pan, panel_size(lay, k) + 1);
    }
    GRAB(r, s->border, (ptrdiff_t)lay->pb * lay->pb);
    return LMM_OK;
}

double sums_bytes(const layout *lay)
{
    double size = (double)lay->pb * lay->pb;
    for (int k = 0; k < lay->nfactor; k++)
        size += (double)diagonal_size(&lay->f[k]) + (double)panel_size(lay, k);
    return 8 * size;
}

block_sums model_sums(const lmm_model *m)
{
    return (block_sums){m->sums.A, m->sums.border};
}

void clear_block_sums(const layout *lay, const block_sums *s)
{
    for (int k = 0; k < lay->nfactor; k++) {
        memset(s->A[k].diag, 0, sizeof(double) * (size_t)diagonal_size(&lay->f[k]));
        memset(s->A[k].pan, 0, sizeof(double) * (size_t)panel_size(lay, k));
    }
    memset(s->border, 0, sizeof(double) * (size_t)lay->pb * (size_t)lay->pb);
}

static void axpy(ptrdiff_t n, double w, const double *x, double *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] += w * x[i];
}

CLONES void add_sums(const layout *lay, double w, const block_sums *from, const block_sums *to)
{
    for (int k = 0; k < lay->nfactor; k++) {
        axpy(diagonal_size(&lay->f[k]), w, from->A[k].diag, to->A[k].diag);
        axpy(panel_size(lay, k), w, from->A[k].pan, to->A[k].pan);
    }
    axpy((ptrdiff_t)lay->pb * lay->pb, w, from->border, to->border);
}

/* ---------------------------------------------------------------------------------------- products -- */

/* One row of a panel, of column `other` of [Z X y]: out_e += V_other a', out_other += V_e a */
INLINE void times_row(int p, int r, const double *V, const double *a, ptrdiff_t ld, ptrdiff_t e,
                      ptrdiff_t other, double *out)
{
    for (int c = 0; c < p; c++) {
        const double v = a[c * ld], *from = V + other * r, *own = V + (e + c) * r;
        double *to = out + (e + c) * r, *there = out + other * r;
        for (int t = 0; t < r; t++) to[t] += v * from[t];
        for (int t = 0; t < r; t++) there[t] += v * own[t];
    }
}

/* One node: its diagonal block and its panel */
INLINE void times_node(const layout *lay, const block_sums *s, int k, int32_t node, int r, const double *V,
                       double *out)
{
    const factor *f = &lay->f[k];
    const int p = f->p;
    const ptrdiff_t e = lay->nodecol[node], ld = lay->ld[node];
    const double *A = s->A[k].diag + (ptrdiff_t)(node - f->node) * p * p, *pan = s->A[k].pan + lay->pan[node];
    for (int c = 0; c < p; c++)
        for (int x = 0; x < p; x++)
            for (int t = 0; t < r; t++) out[(e + c) * r + t] += A[x + c * p] * V[(e + x) * r + t];
    for (ptrdiff_t i = 0; lay->full && k == 0 && i < lay->q2; i++)
        times_row(p, r, V, pan++, ld, e, lay->q - lay->q2 + i, out);
    for (ptrdiff_t i = lay->ptr[node]; i < lay->ptr[node + 1]; i++)
        for (int c = 0; c < lay->width[lay->row[i]]; c++)
            times_row(p, r, V, pan++, ld, e, lay->nodecol[lay->row[i]] + c, out);
    for (int b = 0; b < lay->pb; b++) times_row(p, r, V, pan++, ld, e, lay->q + b, out);
}

CLONES void times_sums(const layout *lay, const block_sums *s, int r, const double *V, double *out)
{
    memset(out, 0, sizeof(double) * (size_t)(lay->q + lay->pb) * (size_t)r);
    for (int k = 0; k < lay->nfactor; k++)
        for (int32_t l = 0; l < lay->f[k].nlev; l++) times_node(lay, s, k, lay->f[k].node + l, r, V, out);
    for (int c = 0; c < lay->pb; c++)
        for (int b = 0; b < lay->pb; b++) {
            const double v = s->border[b >= c ? b + c * (ptrdiff_t)lay->pb : c + b * (ptrdiff_t)lay->pb];
            for (int t = 0; t < r; t++)
                out[(lay->q + c) * (ptrdiff_t)r + t] += v * V[(lay->q + b) * (ptrdiff_t)r + t];
        }
}

/* ------------------------------------------------------------------------------- with the inverse -- */

/* Sum of the products of two blocks (rows x p), ld apart */
INLINE double inner(ptrdiff_t rows, int p, const double *A, const double *B, ptrdiff_t ld)
{
    double sum = 0;
    for (int c = 0; c < p; c++)
        for (ptrdiff_t i = 0; i < rows; i++) sum += A[i + c * ld] * B[i + c * ld];
    return sum;
}

/* Pairs of the trailing node e, of factor k, with later ones */
static double trailing_pairs(lmm_model *m, const block_sums *s, int k, int32_t e)
{
    const layout *lay = &m->layout;
    const int p = lay->f[k].p;
    const ptrdiff_t ld = lay->ld[e];
    const double *A = s->A[k].pan + lay->pan[e];
    double *B = m->scratch.tmp, sum = 0;
    for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
        const int w = lay->width[lay->row[i]];
        m->trailing->steps->covariance(m->trailing, m, e, lay->row[i], B);
        for (int c = 0; c < p; c++)
            for (int x = 0; x < w; x++) sum += A[x + c * ld] * B[x + c * w];
        A += w;
    }
    return sum;
}

/* Pairs of the levels of factor k with later ones */
static double pairs(lmm_model *m, const block_sums *s, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const double *B = k ? m->evaluation.f[k].P : m->evaluation.first;
    double sum = 0;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        if (k >= lay->nelim)
            sum += trailing_pairs(m, s, k, e);
        else
            sum += inner(lay->ld[e] - lay->pb, f->p, s->A[k].pan + lay->pan[e], B + lay->pan[e], lay->ld[e]);
    }
    return sum;
}

CLONES lmm_status contract_sums(lmm_model *m, const block_sums *s, double *sum)
{
    const layout *lay = &m->layout;
    *sum = 0;
    if (lay->nfactor > 1 && lay->nelim > 0) TRY(complete_first(m));
    for (int k = 0; k < lay->nfactor; k++) {
        const ptrdiff_t size = diagonal_size(&lay->f[k]);
        *sum += inner(size, 1, s->A[k].diag, m->evaluation.f[k].B, size);
        if (k + 1 < lay->nfactor) *sum += 2 * pairs(m, s, k);
    }
    return LMM_OK;
}
