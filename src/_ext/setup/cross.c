/* The cross-products A = [Z X y]'W[Z X y] in whitened coordinates: from rows, or y alone anew. */

#include "setup/fixed.h"
#include "setup/places.h"
#include "base/small.h"

#define AHEAD 12 /* rows whose blocks are fetched beforehand */

/* The block that was read last, row by row: [z of all factors in elimination order | x | y], without x where
   X is whitened in its sums. residual: room for y of the block, then for it times the columns of a wide X */
static void whiten_rows(const lmm_model *m, const builder *b, const response *y, double *residual)
{
    const layout *lay = &m->layout;
    const rows *r = &b->rows;
    const basis x = {lay->pfull, lay->x.mean, lay->x.B};
    double *to = b->white;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const basis z = {f->p, f->w.mean, f->w.B};
        for (int j = 0; j < f->p; j++)
            rows_whiten(r, r->z[f->user], &z, f->term[j], j, r->root, to++, b->ncol);
    }
    for (int a = 0; a < lay->p && !lay->wide; a++)
        rows_whiten(r, r->x, &x, 0, lay->keep[a], r->root, to++, b->ncol);
    if (b->basis) whiten_wide_rows(m, b, residual + r->size);
    to = b->white + (b->ncol - 1);
    response_rows(m, y, r, residual);
    for (int32_t i = 0; i < r->n; i++) to[(ptrdiff_t)i * b->ncol] = residual[i];
}

/* What the block adds to the diagonal blocks of factor k and to its edge, [X y]. at: place of its columns */
INLINE void add_levels(int p, lmm_model *m, const builder *b, int k, int at)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const int32_t n = b->rows.n, *node = b->node[k];
    const int width = b->edge, edge = b->ncol - width;
    double *blocks = m->sums.A[k].diag, *pan = m->sums.A[k].pan;
    for (int32_t i = 0; i < n; i++) {
        const int32_t e = node[i], ahead = node[i + AHEAD < n ? i + AHEAD : n - 1];
        const double *v = b->white + (ptrdiff_t)i * b->ncol, *z = v + at, *x = v + edge;
        double *diag = blocks + (ptrdiff_t)(e - f->node) * p * p,
               *to = pan + (lay->pan[e] + lay->ld[e] - width);
        __builtin_prefetch(lay->pan + node[i + 2 * AHEAD < n ? i + 2 * AHEAD : n - 1]);
        __builtin_prefetch(lay->ld + node[i + 2 * AHEAD < n ? i + 2 * AHEAD : n - 1]);
        __builtin_prefetch(blocks + (ptrdiff_t)(ahead - f->node) * p * p, 1);
        __builtin_prefetch(pan + (lay->pan[ahead] + lay->ld[ahead] - width), 1);
        add_outer(p, p, z, z, diag, p);
        add_outer(p, width, z, x, to, lay->ld[e]);
    }
}

/* What it adds to the blocks of co-occurring levels of factors k and j, w columns wide. */
INLINE void add_pairs(int p, lmm_model *m, const builder *b, int k, int j, int at, int other)
{
    const layout *lay = &m->layout;
    const int32_t n = b->rows.n, *node = b->node[k], *with = b->node[j];
    const int w = lay->f[j].p;
    double *pan = m->sums.A[k].pan;
    for (int32_t i = 0; i < n; i++) b->spot[i] = lay->pan[node[i]] + place_of(lay, b, k, j, node[i], with[i]);
    for (int32_t i = 0; i < n; i++) {
        const double *v = b->white + (ptrdiff_t)i * b->ncol, *z = v + at, *y = v + other;
        const ptrdiff_t ld = lay->ld[node[i]], ahead = b->spot[i + AHEAD < n ? i + AHEAD : n - 1];
        for (int c = 0; c < p; c++) __builtin_prefetch(pan + ahead + c * ld, 1);
        add_outer(p, w, z, y, pan + b->spot[i], ld);
    }
}

/* The diagonal blocks and the edge of a factor of which rows have several levels, w_l z of level l */
static void add_shares(lmm_model *m, const builder *b, int k, int at, int64_t first)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const lmm_factor *given = &b->d->factor[f->user];
    const int width = b->edge, p = f->p;
    for (int32_t i = 0; i < b->rows.n; i++) {
        const double *v = b->white + (ptrdiff_t)i * b->ncol, *z = v + at, *x = v + (b->ncol - width);
        int32_t count;
        const int32_t *level = levels_of_row(given, first + i, &count);
        for (int32_t s = 0; s < count; s++) {
            const int32_t e = f->perm[level[s]];
            const double w = weight_in_row(given, first + i, s);
            double *diag = m->sums.A[k].diag + (ptrdiff_t)(e - f->node) * p * p;
            double *to = m->sums.A[k].pan + (lay->pan[e] + lay->ld[e] - width);
            for (int c = 0; c < p; c++) {
                for (int r = 0; r < p; r++) diag[r + c * p] += w * z[r] * (w * z[c]);
                for (int r = 0; r < width; r++) to[r + (ptrdiff_t)c * lay->ld[e]] += x[r] * (w * z[c]);
            }
        }
    }
}

/* Blocks of levels of factors k and j, k itself among them, where rows have several of one of the two */
static void add_shared_pairs(lmm_model *m, const builder *b, int k, int j, int at, int other, int64_t first)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k], *o = &lay->f[j];
    const lmm_factor *mine = &b->d->factor[f->user], *theirs = &b->d->factor[o->user];
    for (int32_t i = 0; i < b->rows.n; i++) {
        const double *z = b->white + (ptrdiff_t)i * b->ncol + at, *x = z + (other - at);
        int32_t count, met;
        const int32_t *level = levels_of_row(mine, first + i, &count);
        const int32_t *with = levels_of_row(theirs, first + i, &met);
        for (int32_t s = 0; s < count; s++)
            for (int32_t t = k == j ? s + 1 : 0; t < met; t++) {
                const int32_t e = f->perm[level[s]], node = o->perm[with[t]];
                const double w = weight_in_row(mine, first + i, s) * weight_in_row(theirs, first + i, t);
                double *to = m->sums.A[k].pan + lay->pan[e] + place_of(lay, b, k, j, e, node);
                for (int c = 0; c < f->p; c++)
                    for (int r = 0; r < o->p; r++) to[r + (ptrdiff_t)c * lay->ld[e]] += w * x[r] * z[c];
            }
    }
}

CLONES static void add_rows(lmm_model *m, const builder *b, int64_t first)
{
    const layout *lay = &m->layout;
    char lower = 'L', none = 'N';
    int pb = lay->pb, edge = b->edge, n = b->rows.n, ncol = b->ncol;
    double *corner = m->sums.border + (ptrdiff_t)(pb - edge) * (pb + 1);
    double one = 1;
    for (int k = 0; k < lay->nfactor; k++) {
        if (lay->f[k].several) continue;
        const int32_t *level = b->d->factor[lay->f[k].user].level + first;
        for (int32_t i = 0; i < n; i++) b->node[k][i] = lay->f[k].perm[level[i]];
    }
    for (int k = 0, at = 0; k < lay->nfactor; at += lay->f[k++].p) {
        if (lay->f[k].several)
            add_shares(m, b, k, at, first);
        else
            BY_WIDTH(lay->f[k].p, add_levels, m, b, k, at);
        for (int j = lay->f[k].several ? k : k + 1, other = j == k ? at : at + lay->f[k].p; j < lay->nfactor;
             other += lay->f[j++].p) {
            if (lay->f[k].several || lay->f[j].several)
                add_shared_pairs(m, b, k, j, at, other, first);
            else
                BY_WIDTH(lay->f[k].p, add_pairs, m, b, k, j, at, other);
        }
    }
    m->blas.syrk(&lower, &none, &edge, &n, &one, b->white + (ncol - edge), &ncol, &one, corner, &pb);
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

/* Room for what is made of a block of rows. */
static lmm_status new_block(const lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    const size_t n = (size_t)b->rows.size, K = (size_t)lay->nfactor;
    const size_t extra = 1 + (size_t)(lay->wide && !lay->summed ? lay->pfull : 0);
    b->white = malloc(sizeof(double) * n * ((size_t)b->ncol + extra));
    b->spot = malloc(sizeof(ptrdiff_t) * n);
    b->node = calloc(K, sizeof(*b->node));
    if (!b->white || !b->spot || !b->node || !(b->node[0] = malloc(sizeof(int32_t) * n * K)))
        return LMM_NOMEM;
    for (size_t k = 1; k < K; k++) b->node[k] = b->node[k - 1] + n;
    if (!lay->wide) return LMM_OK;
    return lay->summed ? new_edge(m, b) : new_basis(m, b);
}

lmm_status fill_rows(lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    response y;
    double scale = 1;
    TRY(new_block(m, b));
    double *residual = b->white + (ptrdiff_t)b->rows.size * b->ncol;
    TRY(lay->wide ? response_again(m, &b->rows, &y, residual) : response_begin(m, &b->moments, &y));
    EACH_BLOCK(&b->rows, first)
    {
        whiten_rows(m, b, &y, residual);
        add_rows(m, b, first);
        if (lay->summed) add_edge(m, b, residual);
    }
    if (lay->summed) finish_edge(m, b);
    TRY(response_end(m, &y, m->sums.border[(ptrdiff_t)lay->p * lay->pb + lay->p], &scale));
    scale_response(m, scale);
    return LMM_OK;
}

/* What the block adds to Z'W y of one factor: sums over rows of centred columns. y: residuals, times the
   roots of the weights */
static void add_response(lmm_model *m, const factor *f, const rows *r, int64_t first, const double *y)
{
    const layout *lay = &m->layout;
    const lmm_factor *given = &r->d->factor[f->user];
    for (int c = 0; c < f->p; c++) {
        const double *z = rows_column(r, r->z[f->user][c]), mean = f->w.mean[c];
        for (int32_t i = 0; f->several && i < r->n; i++) {
            const double v = (z[i] - mean) * y[i] * (r->root ? r->root[i] : 1);
            int32_t count;
            const int32_t *level = levels_of_row(given, first + i, &count);
            for (int32_t s = 0; s < count; s++) {
                const int32_t e = f->perm[level[s]];
                m->sums.A[f->k].pan[lay->pan[e] + (c + 1) * (ptrdiff_t)lay->ld[e] - 1] +=
                    weight_in_row(given, first + i, s) * v;
            }
        }
        if (f->several) continue;
        const int32_t *level = given->level + first;
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
void response_border(lmm_model *m, const double *product, double yy)
{
    const layout *lay = &m->layout;
    double *last = m->sums.border + lay->p;
    for (int a = 0; a < lay->p; a++) {
        const double *B = lay->x.B + (ptrdiff_t)lay->keep[a] * lay->pfull;
        double v = 0;
        for (int l = 0; l <= lay->keep[a]; l++) v += B[l] * product[l];
        last[(ptrdiff_t)a * lay->pb] = v;
    }
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
        fixed_products(r, lay->x.mean, 1, v, r->size, product);
    }
    TRY(response_end(m, &y, yy, &scale));
    for (int k = 0; k < lay->nfactor; k++) whiten_response(m, &lay->f[k]);
    response_border(m, product, yy);
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
