/* Passes over the rows: the linear predictor, densities, sums by level, weights into the cross-products,
   leverages. Blocks of rows stay in the cache between the steps of a pass. */

#include <float.h>

#include "base/small.h"
#include "generalized/state.h"

#define LIFT 1e-12 /* of the largest diagonal of X'W X */
#define SLIGHT 0.1 /* of its expectation: an observed weight below it says nothing of a shift of its row */

/* ---------------------------------------------------------------------------------- one block of rows -- */

/* out += Z b */
INLINE void add_random(const glmm_model *g, int64_t block, const double *b, double *out)
{
    const layout *lay = &g->m->layout;
    const int32_t n = kept_rows(&g->rows, block);
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const int32_t *level = g->rows.level[k] + block * KEPT;
        const double *of = b + f->col;
        for (int c = 0; c < f->p; c++, of++) {
            const double *z = kept_column(&g->rows, block, g->rows.at[k] + c);
            if (g->rows.ones[g->rows.at[k] + c])
                for (int32_t i = 0; i < n; i++) out[i] += of[(ptrdiff_t)level[i] * f->p];
            else
                for (int32_t i = 0; i < n; i++) out[i] += z[i] * of[(ptrdiff_t)level[i] * f->p];
        }
    }
}

/* out += X gamma */
INLINE void add_fixed(const glmm_model *g, int64_t block, const double *gamma, double *out)
{
    const int32_t n = kept_rows(&g->rows, block), first = g->rows.at[g->m->layout.nfactor];
    for (int a = 0; a < g->m->layout.p; a++) {
        const double *x = kept_column(&g->rows, block, first + a), v = gamma[a];
        for (int32_t i = 0; i < n; i++) out[i] += x[i] * v;
    }
}

/* z += Z'r. The rows of a level of the first factor follow each other: their sum waits in a register. */
INLINE void add_levels(const glmm_model *g, int64_t block, const double *r, double *to)
{
    const layout *lay = &g->m->layout;
    const int32_t n = kept_rows(&g->rows, block);
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const int32_t *level = g->rows.level[k] + block * KEPT;
        for (int c = 0; c < f->p; c++) {
            const double *z = kept_column(&g->rows, block, g->rows.at[k] + c);
            double *at = to + f->col + c;
            if (k) {
                for (int32_t i = 0; i < n; i++) at[(ptrdiff_t)level[i] * f->p] += z[i] * r[i];
                continue;
            }
            double sum = 0;
            for (int32_t i = 0; i < n; i++) {
                sum += z[i] * r[i];
                if (i + 1 < n && level[i + 1] == level[i]) continue;
                at[(ptrdiff_t)level[i] * f->p] += sum;
                sum = 0;
            }
        }
    }
}

/* x += X'r */
INLINE void add_columns(const glmm_model *g, int64_t block, const double *r, double *x)
{
    const int32_t n = kept_rows(&g->rows, block), first = g->rows.at[g->m->layout.nfactor];
    for (int a = 0; a < g->m->layout.p; a++) x[a] += dot(n, kept_column(&g->rows, block, first + a), r);
}

void fixed_of_block(const glmm_model *g, int64_t block, double *eta)
{
    const int32_t n = kept_rows(&g->rows, block);
    const double *o = g->v.o ? g->v.o + block * KEPT : NULL;
    for (int32_t i = 0; i < n; i++) eta[i] = o ? o[i] : 0;
    add_fixed(g, block, g->gamma, eta);
}

/* ---------------------------------------------------------------------------------------- the passes -- */

#define EACH(g, block, n)                                             \
    for (int64_t block = 0; block < kept_blocks(&(g)->rows); block++) \
        for (int32_t n = kept_rows(&(g)->rows, block); n; n = 0)

static size_t effects_size(const glmm_model *g)
{
    return sizeof(double) * (size_t)g->m->layout.q;
}

CLONES void pass_random(glmm_model *g, const double *b, double *zb)
{
    g->passes++;
    EACH(g, block, n)
    {
        memset(zb + block * KEPT, 0, sizeof(double) * (size_t)n);
        add_random(g, block, b, zb + block * KEPT);
    }
}

/* Densities of a block at eta = fixed + zb. Returns the sum of l. */
INLINE double density_of_block(glmm_model *g, int64_t block, int32_t n, const double *zb)
{
    const row_values *v = &g->v;
    const int64_t at = block * KEPT;
    double eta[KEPT], l[KEPT], sum = 0;
    const lmm_density out = {.l = l, .d1 = v->d1 + at, .d2 = v->w2 + at, .d3 = v->d3 + at};
    for (int32_t i = 0; i < n; i++) eta[i] = v->fixed[at + i] + zb[at + i];
    g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
    for (int32_t i = 0; i < n; i++) {
        sum += l[i];
        v->w2[at + i] = -v->w2[at + i];
    }
    return sum;
}

CLONES double pass_density(glmm_model *g)
{
    double total = 0;
    g->passes++;
    EACH(g, block, n) total += density_of_block(g, block, n, g->v.zb);
    return isnan(total) ? INFINITY : -total;
}

CLONES double pass_first(glmm_model *g, int zero)
{
    const row_values *v = &g->v;
    double total = 0;
    g->passes++;
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        fixed_of_block(g, block, v->fixed + at);
        memset(v->zb + at, 0, sizeof(double) * (size_t)n);
        if (!zero) add_random(g, block, g->e.b, v->zb + at);
        total += density_of_block(g, block, n, v->zb);
    }
    return isnan(total) ? INFINITY : -total;
}

CLONES double pass_try(glmm_model *g, double *slope)
{
    const row_values *v = &g->v;
    double total = 0, all = 0, r[KEPT];
    g->passes++;
    memset(g->e.r, 0, effects_size(g));
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        double sum = 0;
        memset(v->zn + at, 0, sizeof(double) * (size_t)n);
        add_random(g, block, g->e.bn, v->zn + at);
        for (int32_t i = 0; i < n; i++) sum += v->d1[at + i] * (v->zn[at + i] - v->zb[at + i]);
        all += sum;
        total += density_of_block(g, block, n, v->zn);
        for (int32_t i = 0; i < n; i++) r[i] = v->d1[at + i] + v->wf[at + i] * v->zn[at + i];
        add_levels(g, block, r, g->e.r);
    }
    *slope = all;
    return isnan(total) ? INFINITY : -total;
}

CLONES void pass_expected(glmm_model *g, double *w, double *dw)
{
    const row_values *v = &g->v;
    double eta[KEPT];
    g->passes++;
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        const lmm_density out = {.w = w + at, .dw = dw ? dw + at : NULL};
        for (int32_t i = 0; i < n; i++) eta[i] = v->fixed[at + i] + v->zb[at + i];
        g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
        for (int32_t i = 0; dw && i < n; i++) dw[at + i] = -dw[at + i];
    }
}

CLONES void pass_scatter(glmm_model *g, const double *r, double *z, double *x)
{
    g->passes++;
    if (z) memset(z, 0, effects_size(g));
    if (x) memset(x, 0, sizeof(double) * (size_t)g->m->layout.p);
    EACH(g, block, n)
    {
        if (z) add_levels(g, block, r + block * KEPT, z);
        if (x) add_columns(g, block, r + block * KEPT, x);
        (void)n;
    }
}

CLONES void pass_product(glmm_model *g, const double *b, const double *gamma, double *zb, double *z)
{
    const double *w = g->v.wf;
    double r[KEPT];
    g->passes++;
    if (z) memset(z, 0, effects_size(g));
    EACH(g, block, n)
    {
        double *to = zb ? zb + block * KEPT : r;
        memset(to, 0, sizeof(double) * (size_t)n);
        if (b) add_random(g, block, b, to);
        if (gamma) add_fixed(g, block, gamma, to);
        for (int32_t i = 0; i < n; i++) r[i] = to[i] * w[block * KEPT + i];
        if (z) add_levels(g, block, r, z);
    }
}

/* ------------------------------------------------------------------------------------------- weights -- */

static void clear(lmm_model *m)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        memset(m->sums.A[k].diag, 0, sizeof(double) * (size_t)f->nlev * (size_t)(f->p * f->p));
        memset(m->sums.A[k].pan, 0, sizeof(double) * (size_t)panel_size(lay, k));
    }
    memset(m->sums.border, 0, sizeof(double) * (size_t)(lay->pb * lay->pb));
}

/* Diagonal blocks of factor k, and its rows of X. wz: the factor's columns times the weights, KEPT apart */
INLINE void add_blocks(const int p, const glmm_model *g, int64_t block, int k, const double *wz)
{
    const lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const kept *rows = &g->rows;
    const int32_t n = kept_rows(rows, block), *level = rows->level[k] + block * KEPT;
    const double *z = kept_column(rows, block, rows->at[k]),
                 *x = kept_column(rows, block, rows->at[lay->nfactor]);
    for (int32_t i = 0; i < n; i++) {
        const int32_t e = f->node + level[i];
        const ptrdiff_t ld = lay->ld[e];
        double *diag = m->sums.A[k].diag + (ptrdiff_t)level[i] * p * p,
               *edge = m->sums.A[k].pan + lay->pan[e] + ld - lay->pb;
        for (int c = 0; c < p; c++) {
            const double v = wz[c * KEPT + i];
            for (int r = 0; r < p; r++) diag[r + c * p] += z[r * KEPT + i] * v;
            for (int a = 0; a < lay->p; a++) edge[a + c * ld] += x[a * KEPT + i] * v;
        }
    }
}

/* The same for the first factor, whose levels come in runs, with one column: sums of a run wait */
INLINE void add_runs(const glmm_model *g, int64_t block, const double *wz)
{
    const lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const kept *rows = &g->rows;
    const int32_t n = kept_rows(rows, block), *level = rows->level[0] + block * KEPT;
    const double *z = kept_column(rows, block, 0), *x = kept_column(rows, block, rows->at[lay->nfactor]);
    for (int32_t i = 0, end; i < n; i = end) {
        const int32_t e = lay->f[0].node + level[i];
        double *edge = m->sums.A[0].pan + lay->pan[e] + lay->ld[e] - lay->pb, sum = 0;
        for (end = i; end < n && level[end] == level[i]; end++) sum += z[end] * wz[end];
        m->sums.A[0].diag[level[i]] += sum;
        for (int a = 0; a < lay->p; a++) {
            double product = 0;
            for (int32_t r = i; r < end; r++) product += x[a * KEPT + r] * wz[r];
            edge[a] += product;
        }
    }
}

/* Blocks of the levels of factors k and j */
INLINE void add_pairs(const int p, const glmm_model *g, int64_t block, int k, int j, const double *wz)
{
    const lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const kept *rows = &g->rows;
    const int32_t n = kept_rows(rows, block), *level = rows->level[k] + block * KEPT;
    const uint32_t *spot = rows->spot[k * lay->nfactor + j] + block * KEPT;
    const double *z = kept_column(rows, block, rows->at[j]);
    const int w = lay->f[j].p;
    double *pan = m->sums.A[k].pan;
    if (p == 1 && w == 1) {
        for (int32_t i = 0; i < n; i++) pan[spot[i]] += z[i] * wz[i];
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        const ptrdiff_t ld = lay->ld[lay->f[k].node + level[i]];
        for (int c = 0; c < p; c++)
            for (int r = 0; r < w; r++) pan[spot[i] + r + c * ld] += z[r * KEPT + i] * wz[c * KEPT + i];
    }
}

/* The corner: X'wf X, lower */
INLINE void add_corner(const glmm_model *g, int64_t block, const double *w, double *wx)
{
    const layout *lay = &g->m->layout;
    const int32_t n = kept_rows(&g->rows, block);
    const double *x = kept_column(&g->rows, block, g->rows.at[lay->nfactor]);
    for (int a = 0; a < lay->p; a++) {
        for (int32_t i = 0; i < n; i++) wx[i] = x[a * KEPT + i] * w[i];
        for (int c = a; c < lay->p; c++)
            g->m->sums.border[c + a * (ptrdiff_t)lay->pb] += dot(n, x + c * KEPT, wx);
    }
}

/* The corner enters no criterion, and must not stop a factorization where separated rows leave it singular.
 */
static void lift_corner(lmm_model *m)
{
    const ptrdiff_t p = m->layout.p, pb = m->layout.pb;
    double most = 0;
    for (ptrdiff_t a = 0; a < p; a++) most = fmax(most, m->sums.border[a + a * pb]);
    for (ptrdiff_t a = 0; a < p; a++) m->sums.border[a + a * pb] += LIFT * most + DBL_MIN;
}

CLONES void pass_weights(glmm_model *g)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    double *wz = g->e.columns, r[KEPT];
    g->passes++;
    clear(m);
    memset(g->e.r, 0, effects_size(g));
    EACH(g, block, n)
    {
        const double *w = g->v.wf + block * KEPT;
        for (int k = 0; k < lay->nfactor; k++) {
            const int p = lay->f[k].p;
            const double *z = kept_column(&g->rows, block, g->rows.at[k]);
            for (int c = 0; c < p; c++)
                for (int32_t i = 0; i < n; i++) wz[c * KEPT + i] = z[c * KEPT + i] * w[i];
            if (k == 0 && p == 1)
                add_runs(g, block, wz);
            else
                BY_WIDTH(p, add_blocks, g, block, k, wz)
            for (int j = k + 1; j < lay->nfactor; j++) BY_WIDTH(p, add_pairs, g, block, k, j, wz)
        }
        add_corner(g, block, w, wz);
        for (int32_t i = 0; i < n; i++) r[i] = g->v.d1[block * KEPT + i] + w[i] * g->v.zb[block * KEPT + i];
        add_levels(g, block, r, g->e.r);
    }
    lift_corner(m);
    if (m->trailing->steps->begin) m->trailing->steps->begin(m->trailing, m);
}

/* ----------------------------------------------------------------------------------------- leverages -- */

/* h += z_k'B_kk z_k of factor k */
INLINE void own_leverages(const int p, const glmm_model *g, int64_t block, int k, const double *B, double *h)
{
    const kept *rows = &g->rows;
    const int32_t n = kept_rows(rows, block), *level = rows->level[k] + block * KEPT;
    const double *z = kept_column(rows, block, rows->at[k]);
    for (int32_t i = 0; i < n; i++) {
        const double *of = B + (ptrdiff_t)level[i] * p * p;
        double sum = 0;
        for (int c = 0; c < p; c++)
            for (int r = 0; r < p; r++) sum += z[r * KEPT + i] * of[r + c * p] * z[c * KEPT + i];
        h[i] += sum;
    }
}

/* h += 2 z_j'B_jk z_k of factors k < j */
INLINE void shared_leverages(const int p, const glmm_model *g, int64_t block, int k, int j, double *h)
{
    const layout *lay = &g->m->layout;
    const kept *rows = &g->rows;
    const int32_t n = kept_rows(rows, block), *level = rows->level[k] + block * KEPT;
    const uint32_t *spot = rows->spot[k * lay->nfactor + j] + block * KEPT;
    const double *z = kept_column(rows, block, rows->at[k]), *y = kept_column(rows, block, rows->at[j]);
    const double *B = g->first[k];
    const int w = lay->f[j].p;
    for (int32_t i = 0; i < n; i++) {
        const ptrdiff_t ld = lay->ld[lay->f[k].node + level[i]];
        double sum = 0;
        for (int c = 0; c < p; c++)
            for (int r = 0; r < w; r++) sum += y[r * KEPT + i] * B[spot[i] + r + c * ld] * z[c * KEPT + i];
        h[i] += 2 * sum;
    }
}

CLONES void pass_leverages(glmm_model *g)
{
    const layout *lay = &g->m->layout;
    g->passes++;
    memset(g->e.s, 0, effects_size(g));
    EACH(g, block, n)
    {
        double *h = g->v.h + block * KEPT, r[KEPT];
        memset(h, 0, sizeof(double) * (size_t)n);
        for (int k = 0; k < lay->nfactor; k++) {
            const int p = lay->f[k].p;
            BY_WIDTH(p, own_leverages, g, block, k, g->m->evaluation.f[k].B, h)
            for (int j = k + 1; j < lay->nfactor; j++) BY_WIDTH(p, shared_leverages, g, block, k, j, h)
        }
        for (int32_t i = 0; i < n; i++) r[i] = -h[i] * g->v.d3[block * KEPT + i];
        add_levels(g, block, r, g->e.s);
    }
}

CLONES void pass_slopes(glmm_model *g, const double *t, const double *d1)
{
    const row_values *v = &g->v;
    double r[KEPT];
    g->passes++;
    memset(g->e.c, 0, effects_size(g));
    memset(g->e.d, 0, effects_size(g));
    memset(g->gx, 0, sizeof(double) * (size_t)g->m->layout.p);
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        memset(v->zt + at, 0, sizeof(double) * (size_t)n);
        add_random(g, block, t, v->zt + at);
        for (int32_t i = 0; i < n; i++) r[i] = -v->h[at + i] * v->d3[at + i] - v->wf[at + i] * v->zt[at + i];
        add_levels(g, block, v->d1 + at, g->e.c);
        add_levels(g, block, r, g->e.d);
        for (int32_t i = 0; i < n; i++) r[i] -= 2 * d1[at + i];
        add_columns(g, block, r, g->gx);
    }
}

/* ---------------------------------------------------------------------------------------- quadrature -- */

CLONES void pass_node(glmm_model *g, const double *b, double *sums)
{
    const row_values *v = &g->v;
    double eta[KEPT], l[KEPT];
    g->passes++;
    memset(sums, 0, sizeof(double) * (size_t)g->m->layout.f[0].nlev);
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        const int32_t *level = g->rows.level[0] + at;
        const lmm_density out = {.l = l};
        memcpy(eta, v->fixed + at, sizeof(double) * (size_t)n);
        add_random(g, block, b, eta);
        g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
        for (int32_t i = 0; i < n; i++) sums[level[i]] += l[i];
    }
}

CLONES void pass_node_slopes(glmm_model *g, const double *b, const double *share, double *c, double *mean)
{
    const row_values *v = &g->v;
    const ptrdiff_t N = g->family.nextra;
    double eta[KEPT], *l = g->e.columns, *lx = l + KEPT, *d1x = lx + N * KEPT, d1[KEPT];
    g->passes++;
    memset(c, 0, effects_size(g));
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        const int32_t *level = g->rows.level[0] + at;
        const lmm_density out = {.l = l, .d1 = d1, .lx = N ? lx : NULL, .d1x = N ? d1x : NULL, .ldx = KEPT};
        memcpy(eta, v->fixed + at, sizeof(double) * (size_t)n);
        add_random(g, block, b, eta);
        g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
        add_levels(g, block, d1, c);
        for (int32_t i = 0; i < n; i++) mean[at + i] += share[level[i]] > 0 ? share[level[i]] * d1[i] : 0;
        for (ptrdiff_t k = 0; k < N; k++)
            for (int32_t i = 0; i < n; i++)
                g->fx[k] -= share[level[i]] > 0 ? 2 * share[level[i]] * lx[k * KEPT + i] : 0;
    }
}

CLONES void pass_node_leverages(glmm_model *g, const double *Mbar)
{
    const layout *lay = &g->m->layout;
    g->passes++;
    memset(g->e.s, 0, effects_size(g));
    EACH(g, block, n)
    {
        double *h = g->v.h + block * KEPT, r[KEPT];
        memset(h, 0, sizeof(double) * (size_t)n);
        own_leverages(lay->f[0].p, g, block, 0, Mbar, h);
        for (int32_t i = 0; i < n; i++) r[i] = -h[i] * g->v.d3[block * KEPT + i];
        add_levels(g, block, r, g->e.s);
    }
}

/* --------------------------------------------------------------------------- the family's parameters -- */

/* Scores of a block of rows, by which those of f are multiplied: of each of the rows of the data that are one
   here. room: KEPT */
const double *score_of_block(const glmm_model *g, int64_t at, int32_t n, const double *lx, double *room)
{
    if (!g->v.count) return lx;
    for (int32_t i = 0; i < n; i++) room[i] = lx[i] / g->v.count[at + i];
    return room;
}

CLONES void pass_extra(glmm_model *g)
{
    const row_values *v = &g->v;
    const ptrdiff_t N = g->family.nextra, q = g->m->layout.q, p = g->m->layout.p, n = g->rows.n;
    double eta[KEPT], *l = g->e.columns, *lx = l + KEPT, *d2x = lx + N * KEPT;
    g->passes++;
    if (!g->nodes) memset(g->fx, 0, sizeof(double) * (size_t)N); /* else it has that of the nodes */
    memset(g->xx, 0, sizeof(double) * (size_t)(N * N));
    memset(g->kk, 0, sizeof(double) * (size_t)(N * N));
    memset(g->zx, 0, sizeof(double) * (size_t)(N * q));
    memset(g->xk, 0, sizeof(double) * (size_t)(N * p));
    EACH(g, block, rows)
    {
        const int64_t at = block * KEPT;
        double one[KEPT], w[KEPT], score[KEPT];
        for (int32_t i = 0; i < rows; i++) eta[i] = v->fixed[at + i] + v->zb[at + i];
        const lmm_density out = {.l = l,
                                 .w = w,
                                 .lx = lx,
                                 .d2x = g->expected ? NULL : d2x,
                                 .wx = g->expected ? d2x : NULL,
                                 .d1x = l + (1 + 2 * N) * KEPT,
                                 .ldx = KEPT};
        g->family.density(&g->family, rows, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
        for (ptrdiff_t i = 0; g->expected && i < N * KEPT; i++) d2x[i] = -d2x[i];
        for (ptrdiff_t e = 0; e < N; e++) {
            const double *d1 = out.d1x + e * KEPT;
            double sum = 0;
            memcpy(v->d1x + e * n + at, d1, sizeof(double) * (size_t)rows);
            for (int32_t i = 0; i < rows; i++)
                sum += (g->nodes ? 0 : -2 * lx[e * KEPT + i]) - v->h[at + i] * d2x[e * KEPT + i] +
                       v->zt[at + i] * d1[i];
            g->fx[e] += sum;
            for (int32_t i = 0; i < rows; i++)
                one[i] = v->wf[at + i] > SLIGHT * w[i] ? d1[i] / v->wf[at + i] : 0;
            const double *own = score_of_block(g, at, rows, lx + e * KEPT, score);
            for (ptrdiff_t f = 0; f < N; f++) {
                g->xx[e + N * f] += dot(rows, own, lx + f * KEPT);
                g->kk[e + N * f] += dot(rows, one, out.d1x + f * KEPT);
            }
            memcpy(one, d1, sizeof(double) * (size_t)rows);
            add_levels(g, block, one, g->zx + e * q);
            add_columns(g, block, one, g->xk + e * p);
        }
    }
}
