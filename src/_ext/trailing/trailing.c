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
    const factor *f = &m->f[k];
    const ptrdiff_t s = t->lde, pb = m->pb;
    double *corner = t->Se + m->q2 * s, *BK = m->tmp; /* p x pb: column r is row r of A_b K */
    const ptrdiff_t skip = ancestor_rows(m, k);
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = m->ld[e];
        const double *A = f->pan + m->pan[e], *Ab = A + ld - pb;
        mult(p, (int)pb, p, 0, f->Q + (ptrdiff_t)(e - f->node) * p * p, p, Ab, (int)ld, BK, p);
        const double *Ar = A + skip;
        for (ptrdiff_t i = m->ptr[e] + (m->nelim - 1 - k); i < m->ptr[e + 1]; i++)
            for (int c = 0; c < m->width[m->row[i]]; c++, Ar++) {
                double *to = t->Se + (ptrdiff_t)(m->trailcol[m->row[i]] + c) * s;
                for (ptrdiff_t r = 0; r < pb; r++) {
                    double v = 0;
                    for (int x = 0; x < p; x++) v += BK[x + r * p] * Ar[x * ld];
                    to[r] -= v;
                }
            }
        for (ptrdiff_t c = 0; c < pb; c++)
            for (ptrdiff_t r = c; r < pb; r++)
                for (int x = 0; x < p; x++) corner[r + c * s] -= BK[x + r * p] * Ab[c + x * ld];
    }
}

/* The edge of S -= A_b K_l A_lR: rows of X and y */
CLONES void downdate_edge(trailing *t, lmm_model *m, int k){BY_WIDTH(m -> f[k].p, edge_levels, t, m, k)}

lmm_status factorize_corner(trailing *t, lmm_model *m)
{
    char lower = 'L';
    int pb = m->pb, ld = (int)t->lde, info;
    double *R = t->Le + m->q2 * t->lde;
    m->blas.potrf(&lower, &pb, R, &ld, &info);
    if (info && info < pb) return LMM_NOTPOSDEF;
    for (ptrdiff_t a = 0; a < m->p; a++) m->logdetC += 2 * log(R[a + a * t->lde]);
    const double r = R[m->p + m->p * t->lde];
    m->r2 = info ? 0 : r * r;
    return LMM_OK;
}
