/* Private: what passes do with one block of rows. */

#ifndef LMM_BLOCK_H
#define LMM_BLOCK_H

#include "base/small.h"
#include "generalized/state.h"

#define EACH(g, block, n)                                             \
    for (int64_t block = 0; block < kept_blocks(&(g)->rows); block++) \
        for (int32_t n = kept_rows(&(g)->rows, block); n; n = 0)

static inline size_t effects_size(const glmm_model *g)
{
    return sizeof(double) * (size_t)g->m->layout.q;
}

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

#endif
