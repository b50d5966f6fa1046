/* What every way to hold the trailing matrix does alike. */

#include <stdlib.h>

#include "trailing/trailing.h"
#include "base/memory.h"
#include "base/small.h"

void trailing_free(trailing *t)
{
    if (!t) return;
    if (t->steps->free) t->steps->free(t);
    release(&t->memory, NULL);
    free(t);
}

/* S_bJ -= A_b K A_J', S_bb -= A_b K A_b' for the rows of X and y */
INLINE void edge_levels(const int p, trailing *t, lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    factor_state *fs = &m->evaluation.f[k];
    const ptrdiff_t s = t->lde, pb = lay->pb;
    double *corner = t->Se + lay->q2 * s, *BK = m->scratch.tmp; /* p x pb: column r is row r of A_b K */
    const ptrdiff_t skip = ancestor_rows(&m->layout, k), first = corner_has_low_rank(t, lay) ? lay->p : 0;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = lay->ld[e];
        const double *A = fs->pan + lay->pan[e], *Ab = A + ld - pb;
        mult(p, (int)pb, p, 0, fs->K + (ptrdiff_t)(e - f->node) * p * p, p, Ab, (int)ld, BK, p);
        const double *Ar = A + skip;
        for (ptrdiff_t i = lay->ptr[e] + (lay->nelim - 1 - k); i < lay->ptr[e + 1]; i++)
            for (int c = 0; c < lay->width[lay->row[i]]; c++, Ar++) {
                double *to = t->Se + (ptrdiff_t)(lay->trailcol[lay->row[i]] + c) * s;
                for (ptrdiff_t r = 0; r < pb; r++) {
                    double v = 0;
                    for (int x = 0; x < p; x++) v += BK[x + r * p] * Ar[x * ld];
                    to[r] -= v;
                }
            }
        for (ptrdiff_t c = 0; c < pb; c++)
            for (ptrdiff_t r = c < first ? first : c; r < pb; r++)
                for (int x = 0; x < p; x++) corner[r + c * s] -= BK[x + r * p] * Ab[c + x * ld];
    }
}

/* The edge of S -= A_b K_l A_lR: rows of X and y */
CLONES void downdate_edge(trailing *t, lmm_model *m, int k)
{
    const int p = m->layout.f[k].p;
    BY_WIDTH(p, edge_levels, t, m, k)
}
