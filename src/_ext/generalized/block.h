/* Private: what passes do with one block of rows. */

#ifndef LMM_BLOCK_H
#define LMM_BLOCK_H

#include "base/small.h"
#include "base/team.h"
#include "generalized/state.h"

#define WHOLE (-1) /* all parts */

/* A pass in two halves. The first one works at rows, each block for itself; the second sums them up in parts,
   each over all blocks in their order. So threads may share the blocks of the one and the parts of the other,
   and no result depends on how many they are. A single thread does both, block by block, while rows are at
   hand. */
typedef struct pass pass;
struct pass {
    glmm_model *g;
    void (*rows)(const pass *, int64_t block, int32_t n);           /* or NULL */
    void (*sums)(const pass *, int64_t block, int32_t n, int part); /* or NULL */
    int parts;
    const double *b, *gamma, *d1; /* what it works with, as its function needs */
    double *zb, *z;
    int zero;
};
void run_pass(const pass *p);

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
    for (int s = 0; s < g->rows.nslot; s++) {
        const factor *f = &lay->f[g->rows.of[s]];
        const int32_t *level = g->rows.level[s] + block * KEPT;
        const double *of = b + f->col;
        for (int c = 0; c < f->p; c++, of++) {
            const double *z = kept_column(&g->rows, block, g->rows.at[s] + c);
            if (g->rows.ones[g->rows.at[s] + c])
                for (int32_t i = 0; i < n; i++) out[i] += of[(ptrdiff_t)level[i] * f->p];
            else
                for (int32_t i = 0; i < n; i++) out[i] += z[i] * of[(ptrdiff_t)level[i] * f->p];
        }
    }
}

/* out += X gamma */
INLINE void add_fixed(const glmm_model *g, int64_t block, const double *gamma, double *out)
{
    const int32_t n = kept_rows(&g->rows, block), first = kept_fixed(&g->rows);
    for (int a = 0; a < g->m->layout.p; a++) {
        const double *x = kept_column(&g->rows, block, first + a), v = gamma[a];
        for (int32_t i = 0; i < n; i++) out[i] += x[i] * v;
    }
}

/* to += z'r for column c of slot s, to: its factor's first level's. The rows of a level of the first slot
   follow each other: their sum waits in a register. */
INLINE void add_level_column(const glmm_model *g, int64_t block, const double *r, int s, int c, double *to)
{
    const factor *f = &g->m->layout.f[g->rows.of[s]];
    const int32_t n = kept_rows(&g->rows, block), *level = g->rows.level[s] + block * KEPT;
    const double *z = kept_column(&g->rows, block, g->rows.at[s] + c);
    if (s) {
        for (int32_t i = 0; i < n; i++) to[(ptrdiff_t)level[i] * f->p] += z[i] * r[i];
        return;
    }
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += z[i] * r[i];
        if (i + 1 < n && level[i + 1] == level[i]) continue;
        to[(ptrdiff_t)level[i] * f->p] += sum;
        sum = 0;
    }
}

/* z += Z'r: the whole, or of one column, counted over all factors */
INLINE void add_levels(const glmm_model *g, int64_t block, const double *r, int part, double *to)
{
    for (int s = 0; s < g->rows.nslot; s++) {
        const factor *f = &g->m->layout.f[g->rows.of[s]];
        for (int c = 0; c < f->p; c++)
            if (part == WHOLE || part == g->rows.part[s] + c)
                add_level_column(g, block, r, s, c, to + f->col + c);
    }
}

/* x += X'r */
INLINE void add_columns(const glmm_model *g, int64_t block, const double *r, double *x)
{
    const int32_t n = kept_rows(&g->rows, block), first = kept_fixed(&g->rows);
    for (int a = 0; a < g->m->layout.p; a++) x[a] += dot(n, kept_column(&g->rows, block, first + a), r);
}

/* h += z'B z of the levels in slot s; B: diagonal blocks of its factor */
INLINE void own_leverages(const int p, const glmm_model *g, int64_t block, int s, const double *B, double *h)
{
    const kept *rows = &g->rows;
    const int32_t n = kept_rows(rows, block), *level = rows->level[s] + block * KEPT;
    const double *z = kept_column(rows, block, rows->at[s]);
    for (int32_t i = 0; i < n; i++) {
        const double *of = B + (ptrdiff_t)level[i] * p * p;
        double sum = 0;
        for (int c = 0; c < p; c++)
            for (int r = 0; r < p; r++) sum += z[r * KEPT + i] * of[r + c * p] * z[c * KEPT + i];
        h[i] += sum;
    }
}

#endif
