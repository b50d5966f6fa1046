/* Coefficients of X and y on Z, by back substitution, and what the others leave of them. With
   N_l = I - K_l A_l (so that Z_l'V^-1 = N_l' Z_l'V_R^-1, V_R: without level l):

     H_l = K_l (A_l[X y] - A_lR H_R)                 coefficients of [X y] on Z_l
     Y_l = A_l[X y] - A_lR H_R - A_l H_l             Z_l'V^-1 [X y]  */

#include "evaluate/evaluate.h"
#include "model/relation.h"
#include "trailing/trailing.h"
#include "base/large.h"

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

/* Y := A_b - H_R A_Rl for one level and n rows b, at most four: all columns in one pass over the level's
   list. A_b: the same rows of the panel A */
INLINE void residual_rows(const int p, const int n, const layout *lay, int32_t e, const double *A,
                          const double *Ab, const double *H, double *Y)
{
    const ptrdiff_t pb = lay->pb, ld = lay->ld[e];
    vec4 sum[4] = {{0}, {0}, {0}, {0}};
    for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
        const double *from = H + lay->nodecol[lay->row[i]] * pb;
        for (int r = 0; r < lay->width[lay->row[i]]; r++, from += pb, A++) {
            vec4 h = {0};
            if (n == 4)
                h = *(const vec4 *)from;
            else
                for (int b = 0; b < n; b++) h[b] = from[b];
            for (int c = 0; c < p; c++) sum[c] += h * A[c * ld];
        }
    }
    for (int c = 0; c < p; c++)
        for (int b = 0; b < n; b++) Y[b + c * pb] = Ab[b + c * ld] - sum[c][b];
}

/* The same for all rows. The last four may overlap those before them: they are found again. */
INLINE void residual_level(const int p, const layout *lay, int32_t e, const double *A, const double *H,
                           double *Y)
{
    const double *Ab = A + lay->ld[e] - lay->pb;
    switch (lay->pb) {
    case 1: residual_rows(p, 1, lay, e, A, Ab, H, Y); break;
    case 2: residual_rows(p, 2, lay, e, A, Ab, H, Y); break;
    case 3: residual_rows(p, 3, lay, e, A, Ab, H, Y); break;
    default:
        for (int b = 0; b < lay->pb; b += 4) {
            const int at = b + 4 <= lay->pb ? b : lay->pb - 4;
            residual_rows(p, 4, lay, e, A, Ab + at, H + at, Y + at);
        }
    }
}

/* The same for all levels, some columns at a time where they are many */
INLINE void residual_levels(const int p, lmm_model *m, const factor *f)
{
    const layout *lay = &m->layout;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const double *A = m->evaluation.f[f->k].pan + lay->pan[e];
        double *Y = m->evaluation.Y + (ptrdiff_t)lay->nodecol[e] * lay->pb;
        if (p <= 4)
            residual_level(p, lay, e, A, m->evaluation.H, Y);
        else
            for (int c = 0; c < p; c++)
                residual_level(1, lay, e, A + (ptrdiff_t)c * lay->ld[e], m->evaluation.H,
                               Y + (ptrdiff_t)c * lay->pb);
    }
}

/* Y_l := A_l[X y] - A_lR H_R for every level of an eliminated factor */
CLONES static void border_residual(lmm_model *m, const factor *f)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    int pb = lay->pb, q1 = lay->q1, q2 = lay->q2, s = lay->s;
    BY_WIDTH(f->p, residual_levels, m, f)
    if (lay->full && q2)
        m->blas.gemm(&none, &none, &pb, &q1, &q2, &minus, ev->H + (ptrdiff_t)lay->q1 * pb, &pb,
                     m->evaluation.f[f->k].pan, &s, &one, ev->Y, &pb);
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
        if (p >= LARGE) { /* K is still there */
            int n = pb, width = p;
            double zero = 0, *A = fs->diag + block, *own = fs->K + block;
            m->blas.gemm(&none, &none, &n, &width, &width, &one, Y, &n, own, &width, &zero, H, &n);
            m->blas.gemm(&none, &none, &n, &width, &width, &minus, H, &n, A, &width, &one, Y, &n);
            continue;
        }
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

CLONES void border_rows(lmm_model *m)
{
    const layout *lay = &m->layout;
    solve_border_trailing(m);
    for (int k = lay->nelim - 1; k >= 0; k--) {
        border_residual(m, &lay->f[k]);
        BY_WIDTH(lay->f[k].p, border_levels, m, &lay->f[k])
    }
    m->evaluation.at.state = BORDERED;
}

/* H, Y, beta; then the last row of Y becomes g' and the others R^-1 X'V^-1 Z; Y by related levels */
CLONES void solve_border(lmm_model *m)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const ptrdiff_t pb = lay->pb;
    border_rows(m);
    fixed_effects(m);
    for (ptrdiff_t c = 0; c < lay->q; c++) {
        double *Y = ev->Y + c * pb;
        for (int a = 0; a < lay->p; a++) Y[lay->p] -= Y[a] * ev->beta[a];
    }
    int p = lay->p, q = lay->q, ipb = lay->pb, ld = (int)m->trailing->lde;
    if (p)
        m->blas.trsm(&left, &lower, &none, &none, &p, &q, &one, m->trailing->Le + lay->q2 * m->trailing->lde,
                     &ld, ev->Y, &ipb);
    relate_rows(m);
}
