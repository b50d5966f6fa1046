/* V'Z'V^-1 Z V for any vectors V over all random columns, by the sweep of the curvature (curvature.c): no
   difference of large numbers, and no column of Z. */

#include <stdlib.h>

#include "base/memory.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

/* Columns of the widest factor */
static int widest(const layout *lay)
{
    int p = 1;
    for (int k = 0; k < lay->nfactor; k++)
        if (lay->f[k].p > p) p = lay->f[k].p;
    return p;
}

/* What lmm_forms takes for r vectors, doubles: the vectors, what levels send, v, U and A, small blocks */
static ptrdiff_t forms_work(const layout *lay, ptrdiff_t r)
{
    const ptrdiff_t p = widest(lay);
    return r * (lay->q + (lay->q - lay->q1 + lay->pb) + lay->q2 + 4 * BATCH * p + p) + 4 * p * p;
}

lmm_status lmm_forms(lmm_model *m, int r, const double *V, double *Q)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = r, wide = 2 * (ptrdiff_t)BATCH * widest(lay) * N;
    if (!m->trailing->exact) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, FACTORED, 1));
    double *given = malloc(sizeof(double) * (size_t)(forms_work(lay, N) + 1)), *small = m->scratch.tmp;
    if (!given) return LMM_NOMEM;
    take_rows(m, V, r, 0, r, 1, given);
    forms q = {.N = r, .given = given, .Q = Q, .V = given + N * lay->q};
    q.v = q.V + N * (lay->q - lay->q1 + lay->pb);
    q.U = q.v + N * lay->q2;
    q.A = q.U + wide;
    m->scratch.tmp = q.A + wide; /* the model's has room for few rows */
    quadratic_forms(m, &q);
    m->scratch.tmp = small;
    free(given);
    for (ptrdiff_t j = 0; j < N; j++)
        for (ptrdiff_t i = 0; i < j; i++) Q[i + j * N] = Q[j + i * N] = (Q[i + j * N] + Q[j + i * N]) / 2;
    return LMM_OK;
}
