/* Coefficients of X and y on Z, by back substitution, and what the others leave of them. With
   N_l = I - K_l A_l (so that Z_l'V^-1 = N_l' Z_l'V_R^-1, V_R: without level l):

     H_l = K_l (A_l[X y] - A_lR H_R)                 coefficients of [X y] on Z_l
     Y_l = A_l[X y] - A_lR H_R - A_l H_l             Z_l'V^-1 [X y]  */

#include "evaluate/evaluate.h"
#include "trailing/trailing.h"
#include "base/small.h"

static char lower = 'L', left = 'L', none = 'N';
static double one = 1, minus = -1;

static void solve_border_trailing(lmm_model *m)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const ptrdiff_t pb = lay->pb;
    double *H = ev->H + (lay->q - lay->q2) * pb, *Y = ev->Y + (lay->q - lay->q2) * pb;
    if (!lay->q2) return;
    for (ptrdiff_t c = 0; c < lay->q2; c++)
        memcpy(Y + c * pb, m->trailing->Se + c * m->trailing->lde, sizeof(double) * (size_t)pb);
    m->trailing->steps->border(m->trailing, m, H);
    m->trailing->steps->times(m->trailing, m, lay->pb, -1, H, Y);
}

/* Y_l := A_l[X y] - A_lR H_R for every level of an eliminated factor */
CLONES static void border_residual(lmm_model *m, const factor *f)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    factor_state *fs = &m->evaluation.f[f->k];
    const ptrdiff_t pb = lay->pb;
    const int p = f->p;
    int ipb = lay->pb, q1 = lay->q1, q2 = lay->q2, s = lay->s;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = lay->ld[e];
        const double *A = fs->pan + lay->pan[e];
        double *Y = ev->Y + lay->nodecol[e] * pb;
        for (int c = 0; c < p; c++) {
            memcpy(Y + c * pb, A + c * ld + ld - pb, sizeof(double) * (size_t)pb);
            const double *from = A + c * ld;
            for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
                const double *H = ev->H + lay->nodecol[lay->row[i]] * pb;
                for (int r = 0; r < lay->width[lay->row[i]]; r++, H += pb, from++)
                    for (int b = 0; b < pb; b++) Y[b + c * pb] -= *from * H[b];
            }
        }
    }
    if (lay->full && q2)
        m->blas.gemm(&none, &none, &ipb, &q1, &q2, &minus, ev->H + lay->q1 * pb, &ipb, fs->pan, &s, &one,
                     ev->Y, &ipb);
}

INLINE void border_levels(const int p, lmm_model *m, const factor *f)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    factor_state *fs = &m->evaluation.f[f->k];
    const int pb = lay->pb;
    double *U = m->scratch.tmp, *K = U + p * p;
    for (int32_t l = 0; l < f->nlev; l++) {
        const ptrdiff_t c0 = (ptrdiff_t)lay->nodecol[f->node + l] * pb, block = (ptrdiff_t)l * p * p;
        double *H = ev->H + c0, *Y = ev->Y + c0;
        scaled_factor(p, fs->T, fs->L + block, U);
        mult(p, p, p, 0, U, p, U, p, K, p);
        mul(pb, p, p, 0, Y, pb, K, p, H, pb);
        for (int c = 0; c < p; c++)
            for (int x = 0; x < p; x++) {
                const double a = fs->diag[block + x + c * p];
                for (int b = 0; b < pb; b++) Y[b + c * pb] -= H[b + x * pb] * a;
            }
    }
}

/* beta = R^-T h, C = R R' */
INLINE void fixed_effects(lmm_model *m)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    for (int a = lay->p - 1; a >= 0; a--) {
        const double *R = m->trailing->Le + (lay->q2 + a) * m->trailing->lde;
        double v = R[lay->p];
        for (int b = a + 1; b < lay->p; b++) v -= R[b] * ev->beta[b];
        ev->beta[a] = v / R[a];
    }
}

/* H, Y, beta; then the last row of Y becomes g' and the others R^-1 X'V^-1 Z */
CLONES void solve_border(lmm_model *m)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const ptrdiff_t pb = lay->pb;
    solve_border_trailing(m);
    for (int k = lay->nelim - 1; k >= 0; k--) {
        border_residual(m, &lay->f[k]);
        BY_WIDTH(lay->f[k].p, border_levels, m, &lay->f[k])
    }
    fixed_effects(m);
    ev->at.state = BORDERED;
    for (ptrdiff_t c = 0; c < lay->q; c++) {
        double *Y = ev->Y + c * pb;
        for (int a = 0; a < lay->p; a++) Y[lay->p] -= Y[a] * ev->beta[a];
    }
    int p = lay->p, q = lay->q, ipb = lay->pb, ld = (int)m->trailing->lde;
    if (p)
        m->blas.trsm(&left, &lower, &none, &none, &p, &q, &one, m->trailing->Le + lay->q2 * m->trailing->lde,
                     &ld, ev->Y, &ipb);
}
