/* What every way to hold the trailing matrix does alike. */

#include "model/model.h"
#include "base/small.h"

lmm_status factorize_corner(lmm_model *m)
{
    char lower = 'L';
    int pb = m->pb, ld = (int)m->lde, info;
    double *R = m->Le + m->q2 * m->lde;
    m->blas.potrf(&lower, &pb, R, &ld, &info);
    if (info && info < pb) return LMM_NOTPOSDEF;
    for (ptrdiff_t a = 0; a < m->p; a++) m->logdetC += 2 * log(R[a + a * m->lde]);
    const double r = R[m->p + m->p * m->lde];
    m->r2 = info ? 0 : r * r;
    return LMM_OK;
}
