/* The corner of the trailing factor, C = R R' = X'V^-1 X in whitened coordinates with y below. Where X has
   many more columns than Z and X_w'W X_w = n I exactly (wide.c), the random effects change it by little:

     C = n I - W W',   W (p x q): the rows of X in the factor of M

   and R follows block of columns by block, with K = I at first, at p^2 q in place of p^3 / 3:

     T = K W_J',  R_JJ = chol(n I - W_J T),  N = T R_JJ^-T,  R_IJ = -W_I N,  K += N N'  */

#include <math.h>
#include <string.h>

#include "base/small.h"
#include "trailing/trailing.h"

#define PANEL 64 /* columns of a block */
#define MANY 8   /* columns of X for each of Z from which the rank is low */

static char lower = 'L', right = 'R', none = 'N', trans = 'T';
static double one = 1, zero = 0, minus = -1;

int corner_has_low_rank(const trailing *t, const layout *lay)
{
    return t->exact && lay->summed && lay->p >= MANY * (ptrdiff_t)lay->q + PANEL;
}

/* W (pb x columns of f) of an eliminated factor: A_b T L^-T level by level */
INLINE void level_rows(const int p, const lmm_model *m, const factor *f, double *W)
{
    const layout *lay = &m->layout;
    const factor_state *fs = &m->evaluation.f[f->k];
    double *U = m->scratch.tmp;
    for (int32_t l = 0; l < f->nlev; l++, W += (ptrdiff_t)p * lay->pb) {
        const int ld = lay->ld[f->node + l];
        scaled_factor(p, fs->T, fs->L + (ptrdiff_t)l * p * p, U);
        mul(lay->pb, p, p, 0, fs->pan + lay->pan[f->node + l] + ld - lay->pb, ld, U, p, W, lay->pb);
    }
}

CLONES static void rows_of_factor(const trailing *t, const lmm_model *m, double *W)
{
    const layout *lay = &m->layout;
    const ptrdiff_t pb = lay->pb;
    for (int k = 0; k < lay->nelim; k++) {
        const factor *f = &lay->f[k];
        BY_WIDTH(f->p, level_rows, m, f, W + f->col * pb)
    }
    W += (lay->q - lay->q2) * pb;
    for (ptrdiff_t c = 0; c < lay->q2; c++)
        memcpy(W + c * pb, t->Le + c * t->lde, sizeof(double) * (size_t)pb);
}

/* R (p x p) of the columns of X. W: pb x q; work: q (q + PANEL). Nonzero: not positive definite */
static int factor_low_rank(const lmm_model *m, double *W, double *R, int ld, double *work)
{
    const layout *lay = &m->layout;
    const lmm_blas *blas = &m->blas;
    int q = lay->q, pb = lay->pb, info = 0;
    double *K = work, *T = K + (ptrdiff_t)q * q;
    memset(K, 0, sizeof(double) * (size_t)q * (size_t)q);
    for (ptrdiff_t i = 0; i < q; i++) K[i + i * q] = 1;
    for (int j = 0; j < lay->p && !info; j += PANEL) {
        int w = lay->p - j < PANEL ? lay->p - j : PANEL, below = lay->p - j - w;
        double *D = R + j + (ptrdiff_t)j * ld;
        blas->gemm(&none, &trans, &q, &w, &q, &one, K, &q, W + j, &pb, &zero, T, &q);
        blas->gemm(&none, &none, &w, &w, &q, &minus, W + j, &pb, T, &q, &zero, D, &ld);
        for (ptrdiff_t c = 0; c < w; c++) D[c + c * ld] += (double)lay->n;
        blas->potrf(&lower, &w, D, &ld, &info);
        if (info || !below) break;
        blas->trsm(&right, &lower, &trans, &none, &q, &w, &one, D, &ld, T, &q);
        blas->gemm(&none, &none, &below, &w, &q, &minus, W + j + w, &pb, T, &q, &zero, D + w, &ld);
        blas->gemm(&none, &trans, &q, &q, &w, &one, T, &q, T, &q, &one, K, &q);
    }
    return info;
}

/* The last row, y: c R^-T, and what is left of its square; as potrf, nonzero where nothing is. */
static int factor_last_row(const lmm_model *m, double *R, int ld)
{
    int p = m->layout.p, row = 1;
    double *last = R + p, *rest = last + (ptrdiff_t)p * ld;
    m->blas.trsm(&right, &lower, &trans, &none, &row, &p, &one, R, &ld, last, &ld);
    for (ptrdiff_t a = 0; a < p; a++) *rest -= last[a * ld] * last[a * ld];
    if (!(*rest > 0)) return p + 1;
    *rest = sqrt(*rest);
    return 0;
}

lmm_status factorize_corner(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    int pb = lay->pb, ld = (int)t->lde, info = 0;
    double *R = t->Le + lay->q2 * t->lde;
    if (corner_has_low_rank(t, lay)) { /* H and Y are free until the border is solved for */
        rows_of_factor(t, m, ev->H);
        info = factor_low_rank(m, ev->H, R, ld, ev->Y);
        if (!info) info = factor_last_row(m, R, ld);
    } else
        m->blas.potrf(&lower, &pb, R, &ld, &info);
    if (info && info < pb) return LMM_NOTPOSDEF;
    for (ptrdiff_t a = 0; a < lay->p; a++) ev->logdetC += 2 * log(R[a + a * t->lde]);
    const double r = R[lay->p + lay->p * t->lde];
    ev->r2 = info ? 0 : r * r;
    return LMM_OK;
}
