/* Passes over the rows that meet the cross-products: weights into them, leverages out of their inverse. */

#include <float.h>

#include "generalized/block.h"

#define LIFT 1e-12 /* of the largest diagonal of X'W X */

/* ------------------------------------------------------------------------------------------- weights -- */

static void clear(glmm_model *g)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        if (g->e.blocks[k])
            memset(g->e.blocks[k], 0, sizeof(double) * (size_t)f->nlev * (size_t)(f->p * (f->p + lay->p)));
        else
            memset(m->sums.A[k].diag, 0, sizeof(double) * (size_t)f->nlev);
        memset(m->sums.A[k].pan, 0, sizeof(double) * (size_t)panel_size(lay, k));
    }
    memset(m->sums.border, 0, sizeof(double) * (size_t)(lay->pb * lay->pb));
}

/* Diagonal blocks of the levels in slot s, and their rows of X: of each level p x p and p x p(X) numbers
   together, which wait for the end of the pass. wz: the slot's columns times the weights, KEPT apart */
INLINE void add_blocks(const int p, const glmm_model *g, int64_t block, int s, const double *wz)
{
    const layout *lay = &g->m->layout;
    const kept *rows = &g->rows;
    const int32_t n = kept_rows(rows, block), *level = rows->level[s] + block * KEPT;
    const double *z = kept_column(rows, block, rows->at[s]), *x = kept_column(rows, block, kept_fixed(rows));
    const ptrdiff_t size = p * (ptrdiff_t)(p + lay->p);
    double *blocks = g->e.blocks[rows->of[s]];
    for (int32_t i = 0; i < n; i++) {
        double *to = blocks + level[i] * size;
        for (int c = 0; c < p; c++) {
            const double v = wz[c * KEPT + i];
            for (int r = 0; r < p; r++) *to++ += z[r * KEPT + i] * v;
            for (int a = 0; a < lay->p; a++) *to++ += x[a * KEPT + i] * v;
        }
    }
}

/* ... and where they belong */
static void place_blocks(const glmm_model *g, int k)
{
    const lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const double *from = g->e.blocks[k];
    double *diag = m->sums.A[k].diag;
    for (int32_t e = f->node; from && e < f->node + f->nlev; e++) {
        double *edge = m->sums.A[k].pan + lay->pan[e] + lay->ld[e] - lay->pb;
        for (int c = 0; c < f->p; c++, edge += lay->ld[e], diag += f->p, from += f->p + lay->p) {
            memcpy(diag, from, sizeof(double) * (size_t)f->p);
            memcpy(edge, from + f->p, sizeof(double) * (size_t)lay->p);
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
    const double *z = kept_column(rows, block, 0), *x = kept_column(rows, block, kept_fixed(rows));
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

/* Do all rows have levels in slots s and t? */
static int are_full(const glmm_model *g, int s, int t)
{
    const factor *f = g->m->layout.f;
    return !f[g->rows.of[s]].several && !f[g->rows.of[t]].several;
}

/* Blocks of the levels in slots s and t; all: do all rows have both? */
INLINE void add_pairs(const int p, const int all, const glmm_model *g, int64_t block, int s, int t,
                      const double *wz)
{
    const lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const kept *rows = &g->rows;
    const factor *f = &lay->f[rows->of[s]], *o = &lay->f[rows->of[t]];
    const int32_t n = kept_rows(rows, block), *level = rows->level[s] + block * KEPT;
    const uint32_t *spot = rows->spot[s * rows->nslot + t] + block * KEPT;
    const double *z = kept_column(rows, block, rows->at[t]);
    const int w = o->p;
    double *pan = m->sums.A[f->k].pan;
    if (all && p == 1 && w == 1) {
        for (int32_t i = 0; i < n; i++) pan[spot[i]] += z[i] * wz[i];
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        if (!all && spot[i] == NO_PLACE) continue;
        const ptrdiff_t ld = lay->ld[f->node + level[i]];
        for (int c = 0; c < p; c++)
            for (int r = 0; r < w; r++) pan[spot[i] + r + c * ld] += z[r * KEPT + i] * wz[c * KEPT + i];
    }
}

/* The corner: X'wf X, lower */
INLINE void add_corner(const glmm_model *g, int64_t block, const double *w, double *wx)
{
    const layout *lay = &g->m->layout;
    const int32_t n = kept_rows(&g->rows, block);
    const double *x = kept_column(&g->rows, block, kept_fixed(&g->rows));
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

/* wz: a slot's columns times the weights */
INLINE void weighted_columns(const glmm_model *g, int64_t block, int32_t n, int s, double *wz)
{
    const double *w = g->v.wf + block * KEPT, *z = kept_column(&g->rows, block, g->rows.at[s]);
    for (int c = 0; c < g->m->layout.f[g->rows.of[s]].p; c++)
        for (int32_t i = 0; i < n; i++) wz[c * KEPT + i] = z[c * KEPT + i] * w[i];
}

/* What has slot s: blocks of its levels, and those of these with the levels in a later one */
INLINE void weigh_slot(const glmm_model *g, int64_t block, int s, const double *wz)
{
    const int k = g->rows.of[s], p = g->m->layout.f[k].p;
    if (!g->e.blocks[k])
        add_runs(g, block, wz);
    else
        BY_WIDTH(p, add_blocks, g, block, s, wz)
    for (int t = s + 1; t < g->rows.nslot; t++) {
        if (are_full(g, s, t))
            BY_WIDTH(p, add_pairs, 1, g, block, s, t, wz)
        else
            BY_WIDTH(p, add_pairs, 0, g, block, s, t, wz)
    }
}

/* Parts: factors, then the corner, then r of all levels. zb: room for the weighted columns of each slot */
CLONES static void weights_sums(const pass *p, int64_t block, int32_t n, int part)
{
    const glmm_model *g = p->g;
    const row_values *v = &g->v;
    const int K = g->m->layout.nfactor;
    const int64_t at = block * KEPT;
    double r[KEPT];
    for (int s = 0; s < g->rows.nslot; s++) {
        if (part != WHOLE && part != g->rows.of[s]) continue;
        double *wz = part == WHOLE ? p->zb : p->zb + g->rows.at[s] * (ptrdiff_t)KEPT;
        weighted_columns(g, block, n, s, wz);
        weigh_slot(g, block, s, wz);
    }
    if (part == WHOLE || part == K) add_corner(g, block, v->wf + at, r);
    if (part != WHOLE && part != K + 1) return;
    for (int32_t i = 0; i < n; i++) r[i] = v->d1[at + i] + v->wf[at + i] * v->zb[at + i];
    add_levels(g, block, r, WHOLE, g->e.r);
}

void pass_weights(glmm_model *g)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    clear(g);
    memset(g->e.r, 0, effects_size(g));
    run_pass(&(pass){.g = g, .sums = weights_sums, .parts = lay->nfactor + 2, .zb = g->e.columns});
    for (int k = 0; k < lay->nfactor; k++) place_blocks(g, k);
    lift_corner(m);
    if (m->trailing->steps->begin) m->trailing->steps->begin(m->trailing, m);
}

/* ----------------------------------------------------------------------------------------- leverages -- */

/* h += 2 z_t'B_ts z_s of slots s < t; all: as above */
INLINE void shared_leverages(const int p, const int all, const glmm_model *g, int64_t block, int s, int t,
                             double *h)
{
    const layout *lay = &g->m->layout;
    const kept *rows = &g->rows;
    const factor *f = &lay->f[rows->of[s]], *o = &lay->f[rows->of[t]];
    const int32_t n = kept_rows(rows, block), *level = rows->level[s] + block * KEPT;
    const uint32_t *spot = rows->spot[s * rows->nslot + t] + block * KEPT;
    const double *z = kept_column(rows, block, rows->at[s]), *y = kept_column(rows, block, rows->at[t]);
    const double *B = g->first[f->k];
    const int w = o->p;
    for (int32_t i = 0; i < n; i++) {
        if (!all && spot[i] == NO_PLACE) continue;
        const ptrdiff_t ld = lay->ld[f->node + level[i]];
        double sum = 0;
        for (int c = 0; c < p; c++)
            for (int r = 0; r < w; r++) sum += y[r * KEPT + i] * B[spot[i] + r + c * ld] * z[c * KEPT + i];
        h[i] += 2 * sum;
    }
}

CLONES static void leverage_rows(const pass *p, int64_t block, int32_t n)
{
    const glmm_model *g = p->g;
    const layout *lay = &g->m->layout;
    double *h = g->v.h + block * KEPT;
    memset(h, 0, sizeof(double) * (size_t)n);
    for (int s = 0; s < g->rows.nslot; s++) {
        const int k = g->rows.of[s], width = lay->f[k].p;
        BY_WIDTH(width, own_leverages, g, block, s, g->m->evaluation.f[k].B, h)
        for (int t = s + 1; t < g->rows.nslot; t++) {
            if (are_full(g, s, t))
                BY_WIDTH(width, shared_leverages, 1, g, block, s, t, h)
            else
                BY_WIDTH(width, shared_leverages, 0, g, block, s, t, h)
        }
    }
}

CLONES static void leverage_sums(const pass *p, int64_t block, int32_t n, int part)
{
    const row_values *v = &p->g->v;
    const int64_t at = block * KEPT;
    double r[KEPT];
    for (int32_t i = 0; i < n; i++) r[i] = -v->h[at + i] * v->d3[at + i];
    add_levels(p->g, block, r, part, p->g->e.s);
}

void pass_leverages(glmm_model *g)
{
    memset(g->e.s, 0, effects_size(g));
    run_pass(&(pass){.g = g, .rows = leverage_rows, .sums = leverage_sums, .parts = g->rows.nparts});
}
