/* Coefficients of X and y on Z, by back substitution, and what the others leave of them. With
   N_l = I - K_l A_l (so that Z_l'V^-1 = N_l' Z_l'V_R^-1, V_R: without level l):

     H_l = K_l (A_l[X y] - A_lR H_R)                 coefficients of [X y] on Z_l
     Y_l = A_l[X y] - A_lR H_R - A_l H_l             Z_l'V^-1 [X y]  */

#include "model/model.h"
#include "base/small.h"

static char lower = 'L', left = 'L', none = 'N';
static double one = 1, minus = -1;

static void solve_border_trailing(lmm_model *m)
{
    const ptrdiff_t pb = m->pb;
    double *H = m->H + (m->q - m->q2) * pb, *Y = m->Y + (m->q - m->q2) * pb;
    if (!m->q2) return;
    for (ptrdiff_t c = 0; c < m->q2; c++) memcpy(Y + c * pb, m->Se + c * m->lde, sizeof(double) * (size_t)pb);
    m->t->border(m, H);
    m->t->times(m, m->pb, -1, H, Y);
}

/* Y_l := A_l[X y] - A_lR H_R for every level of an eliminated factor */
CLONES static void border_residual(lmm_model *m, const factor *f)
{
    const ptrdiff_t pb = m->pb;
    const int p = f->p;
    int ipb = m->pb, q1 = m->q1, q2 = m->q2, s = m->s;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = m->ld[e];
        const double *A = f->pan + m->pan[e];
        double *Y = m->Y + m->nodecol[e] * pb;
        for (int c = 0; c < p; c++) {
            memcpy(Y + c * pb, A + c * ld + ld - pb, sizeof(double) * (size_t)pb);
            const double *from = A + c * ld;
            for (ptrdiff_t i = m->ptr[e]; i < m->ptr[e + 1]; i++) {
                const double *H = m->H + m->nodecol[m->row[i]] * pb;
                for (int r = 0; r < m->width[m->row[i]]; r++, H += pb, from++)
                    for (int b = 0; b < pb; b++) Y[b + c * pb] -= *from * H[b];
            }
        }
    }
    if (m->full && q2)
        m->blas.gemm(&none, &none, &ipb, &q1, &q2, &minus, m->H + m->q1 * pb, &ipb, f->pan, &s, &one, m->Y,
                     &ipb);
}

INLINE void border_levels(const int p, lmm_model *m, const factor *f)
{
    const int pb = m->pb;
    double *U = m->tmp, *K = U + p * p;
    for (int32_t l = 0; l < f->nlev; l++) {
        const ptrdiff_t c0 = (ptrdiff_t)m->nodecol[f->node + l] * pb, block = (ptrdiff_t)l * p * p;
        double *H = m->H + c0, *Y = m->Y + c0;
        scaled_factor(p, f->T, f->L + block, U);
        mult(p, p, p, 0, U, p, U, p, K, p);
        mul(pb, p, p, 0, Y, pb, K, p, H, pb);
        for (int c = 0; c < p; c++)
            for (int x = 0; x < p; x++) {
                const double a = f->diag[block + x + c * p];
                for (int b = 0; b < pb; b++) Y[b + c * pb] -= H[b + x * pb] * a;
            }
    }
}

/* beta = R^-T h, C = R R' */
static void fixed_effects(lmm_model *m)
{
    for (int a = m->p - 1; a >= 0; a--) {
        const double *R = m->Le + (m->q2 + a) * m->lde;
        double v = R[m->p];
        for (int b = a + 1; b < m->p; b++) v -= R[b] * m->beta[b];
        m->beta[a] = v / R[a];
    }
}

/* H, Y, beta; then the last row of Y becomes g' and the others R^-1 X'V^-1 Z */
CLONES void solve_border(lmm_model *m)
{
    const ptrdiff_t pb = m->pb;
    solve_border_trailing(m);
    for (int k = m->nelim - 1; k >= 0; k--) {
        border_residual(m, &m->f[k]);
        BY_WIDTH(m->f[k].p, border_levels, m, &m->f[k])
    }
    fixed_effects(m);
    m->at.state = BORDERED;
    for (ptrdiff_t c = 0; c < m->q; c++) {
        double *Y = m->Y + c * pb;
        for (int a = 0; a < m->p; a++) Y[m->p] -= Y[a] * m->beta[a];
    }
    int p = m->p, q = m->q, ipb = m->pb, ld = (int)m->lde;
    if (p) m->blas.trsm(&left, &lower, &none, &none, &p, &q, &one, m->Le + m->q2 * m->lde, &ld, m->Y, &ipb);
}
