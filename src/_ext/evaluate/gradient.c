/* The factorization read backwards: B = Lambda M^-1 Lambda' wherever A is not zero, and from it the exact
   gradient. With N_l = I - K_l A_l:

     Q_l = A_lR B_RR A_Rl,  B_ll = K_l + K_l Q_l K_l,  B_Rl = -B_RR A_Rl K_l
     df/dT = 2 sum_l [ (A_l - N_l'Q_l) T M_l^-1 - (nu/r^2 g_l g_l' + [REML] WX_l C^-1 WX_l') T ]

   The first part is of eliminated factors. Trailing ones have blocks of S Lambda M^-1 in its place, by the
   step `invert` of each way to hold the trailing matrix (trailing.h). */

#include "base/large.h"
#include "evaluate/evaluate.h"
#include "model/relation.h"
#include "trailing/trailing.h"
#include "trailing/lines.h"

/* ------------------------------------------------------------------------------ selected inverse -- */

/* V += the part of B_RR A_R in which one side is the level a of factor j that contains l; A, V: laid out as
   the panels of factor k */
CLONES void invert_against_ancestor(lmm_model *m, int k, int j, const double *panels, double *out)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k], *up = &lay->f[j];
    factor_state *us = &m->evaluation.f[j];
    const int pu = up->p, p = f->p, ahead = j - k;
    ptrdiff_t skip = 0;
    int32_t current = -1;
    for (int i = k + 1; i < j; i++) skip += lay->f[i].p;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const int32_t a = lay->row[lay->ptr[e] + ahead - 1];
        const ptrdiff_t ld = lay->ld[e], lda = lay->ld[a];
        const double *A = panels + lay->pan[e] + skip, *Baa = us->B + (ptrdiff_t)(a - up->node) * pu * pu;
        const double *Bra = us->P + lay->pan[a];
        double *V = out + lay->pan[e] + skip;
        if (a != current) {
            current = a;
            for (ptrdiff_t i = lay->ptr[a], row = 0; i < lay->ptr[a + 1]; row += lay->width[lay->row[i++]])
                m->scratch.pos[lay->row[i]] = (int32_t)row;
        }
        for (int x = 0; x < p; x++)
            for (int c = 0; c < pu; c++)
                for (int r = 0; r < pu; r++) V[r + x * ld] += Baa[r + c * pu] * A[c + x * ld];
        ptrdiff_t at = pu;
        for (ptrdiff_t i = lay->ptr[e] + ahead; i < lay->ptr[e + 1]; at += lay->width[lay->row[i++]]) {
            const double *B = Bra + m->scratch.pos[lay->row[i]];
            for (int x = 0; x < p; x++)
                for (int c = 0; c < pu; c++)
                    for (int r = 0; r < lay->width[lay->row[i]]; r++) {
                        V[at + r + x * ld] += B[r + c * lda] * A[c + x * ld];
                        V[c + x * ld] += B[r + c * lda] * A[at + r + x * ld];
                    }
        }
    }
}

/* Q_l += A_R'V_R, with lists */
static void gather_lists(lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    factor_state *fs = &m->evaluation.f[k];
    const int p = f->p;
    const int32_t last = f->node + f->nlev - 1;
    if (fs->P) memset(fs->P, 0, sizeof(double) * (size_t)(lay->pan[last] + (ptrdiff_t)lay->ld[last] * p));
    if (k == 0 && !m->layout.generalized)
        m->trailing->steps->gather(m->trailing, m);
    else { /* rows need the panels, too (covariances.c) */
        memset(fs->Q, 0, sizeof(double) * (size_t)f->nlev * (size_t)(p * p));
        m->trailing->steps->product(m->trailing, m, k, fs->pan, fs->P);
    }
    for (int j = k + 1; j < lay->nelim; j++) invert_against_ancestor(m, k, j, fs->pan, fs->P);
    if (k == 0 && lay->nelim == 1 && !lay->generalized) return;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const int ld = lay->ld[e], rows = ld - lay->pb;
        double *Q = fs->Q + (ptrdiff_t)(e - f->node) * p * p;
        tmul(p, p, rows, 1, fs->pan + lay->pan[e], ld, fs->P + lay->pan[e], ld, Q, p);
        symmetrize(p, Q);
    }
}

/* D += (A_l - N_l'Q_l) T M_l^-1, then B_ll = K_l + K_l Q_l K_l in place of Q_l and, for a coarser factor,
   V_R := B_Rl = -V_R K_l */
INLINE void invert_levels(const int p, lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    factor_state *fs = &m->evaluation.f[k];
    double *U = m->scratch.tmp, *K = U + p * p, *KQ = K + p * p, *X = KQ + p * p, *D = X + p * p,
           *rows = D + p * p;
    for (int i = 0; i < p * p; i++) D[i] = 0;
    for (int32_t l = 0; l < f->nlev; l++) {
        const ptrdiff_t block = (ptrdiff_t)l * p * p;
        const double *A = fs->diag + block, *L = fs->L + block;
        const double *Q = fs->Q + block;
        double *B = fs->B + block; /* the same place: Q is read before */
        large_factor(&m->blas, p, fs->T, L, U);
        product(&m->blas, 'N', 'T', p, p, p, 0, U, p, U, p, K, p);
        product(&m->blas, 'N', 'N', p, p, p, 0, K, p, Q, p, KQ, p);
        for (int i = 0; i < p * p; i++) X[i] = A[i] - Q[i];
        product(&m->blas, 'N', 'N', p, p, p, 1, A, p, KQ, p, X, p);
        divide(&m->blas, 'N', p, L, p, U, p);
        product(&m->blas, 'N', 'N', p, p, p, 1, X, p, U, p, D, p);
        memcpy(B, K, sizeof(double) * (size_t)(p * p));
        product(&m->blas, 'N', 'N', p, p, p, 1, KQ, p, K, p, B, p);
        if (k == 0) continue;
        const int32_t ld = lay->ld[f->node + l];
        double *V = fs->P + lay->pan[f->node + l];
        for (int32_t r = 0; r < ld - lay->pb; r++) {
            for (int c = 0; c < p; c++) rows[c] = V[r + (ptrdiff_t)c * ld];
            for (int c = 0; c < p; c++) {
                double v = 0;
                for (int x = 0; x < p; x++) v -= rows[x] * K[x + c * p];
                V[r + (ptrdiff_t)c * ld] = v;
            }
        }
    }
    for (int i = 0; i < p * p; i++) fs->D[i] += D[i];
}

/* D -= N_l'Q_l T M_l^-1,  B_ll += K_l Q_l K_l: what Q, a part of Q_l that came later, adds */
INLINE void add_estimated(const int p, lmm_model *m, int k, const double *Q)
{
    const factor *f = &m->layout.f[k];
    factor_state *fs = &m->evaluation.f[k];
    double *U = m->scratch.tmp, *K = U + p * p, *KQ = K + p * p, *X = KQ + p * p;
    for (int32_t l = 0; l < f->nlev; l++, Q += p * p) {
        const ptrdiff_t block = (ptrdiff_t)l * p * p;
        const double *L = fs->L + block;
        large_factor(&m->blas, p, fs->T, L, U);
        product(&m->blas, 'N', 'T', p, p, p, 0, U, p, U, p, K, p);
        product(&m->blas, 'N', 'N', p, p, p, 0, K, p, Q, p, KQ, p);
        for (int i = 0; i < p * p; i++) X[i] = -Q[i];
        product(&m->blas, 'N', 'N', p, p, p, 1, fs->diag + block, p, KQ, p, X, p);
        divide(&m->blas, 'N', p, L, p, U, p);
        product(&m->blas, 'N', 'N', p, p, p, 1, X, p, U, p, fs->D, p);
        product(&m->blas, 'N', 'N', p, p, p, 1, KQ, p, K, p, fs->B + block, p);
    }
}

/* ------------------------------------------------------------------------------------- gradient -- */

/* N := sum_l (nu/r^2 g_l g_l' + [REML] WX_l C^-1 WX_l'), p x p */
CLONES static void residual_part(const lmm_model *m, const factor *f, int reml, double nu, double *N)
{
    const layout *lay = &m->layout;
    const evaluation *ev = &m->evaluation;
    const int p = f->p, pb = lay->pb;
    const double *Y = root_rows(m, f->k);
    memset(N, 0, sizeof(double) * (size_t)(p * p));
    for (int32_t l = 0; l < f->nlev; l++, Y += (ptrdiff_t)p * pb)
        for (int c = 0; c < p; c++)
            for (int r = c; r < p; r++) {
                double v = nu / ev->r2 * Y[lay->p + r * pb] * Y[lay->p + c * pb];
                for (int a = 0; reml && a < lay->p; a++) v += Y[a + r * pb] * Y[a + c * pb];
                N[r + c * p] += v;
            }
    mirror(p, N, p);
}

/* X := M'X M, p x p */
static void congruence(const lmm_model *m, int p, const double *M, double *X, double *work)
{
    product(&m->blas, 'N', 'N', p, p, p, 0, X, p, M, p, work, p);
    product(&m->blas, 'T', 'N', p, p, p, 0, M, p, work, p, X, p);
}

/* D := 2 (D - N T) in the coordinates of theta, and S = D T^-1 / 2, symmetric */
void finish_slope(lmm_model *m, const factor *f, const double *N)
{
    factor_state *fs = &m->evaluation.f[f->k];
    const int p = f->p;
    double *work = m->scratch.tmp + p * p, *axes = work + p * p; /* N may stand before them */
    product(&m->blas, 'N', 'N', p, p, p, 0, N, p, fs->T, p, work, p);
    for (int i = 0; i < p * p; i++) fs->D[i] = 2 * (fs->D[i] - work[i]);
    if (fs->W) {
        product(&m->blas, 'T', 'N', p, p, p, 0, fs->W, p, fs->D, p, work, p);
        memcpy(fs->D, work, sizeof(double) * (size_t)(p * p));
    }
    for (int i = 0; i < p * p; i++) fs->S[i] = fs->D[i] / 2;
    divide(&m->blas, 'N', p, fs->Tp, p, fs->S, p);
    if (fs->W == fs->axes) {
        for (int c = 0; c < p; c++)
            for (int r = 0; r < p; r++) axes[c + r * p] = fs->axes[r + c * p];
        congruence(m, p, axes, fs->S, work);
    } else if (fs->W)
        congruence(m, p, f->w.C, fs->S, work);
    symmetrize(p, fs->S);
}

CLONES void invert_model(lmm_model *m)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++)
        memset(m->evaluation.f[k].D, 0, sizeof(double) * (size_t)(lay->f[k].p * lay->f[k].p));
    m->trailing->steps->invert(m->trailing, m);
    for (int k = lay->nelim - 1; k >= 0; k--) {
        if (!lay->full) gather_lists(m, k);
        BY_WIDTH(lay->f[k].p, invert_levels, m, k)
    }
    for (int k = 0; k < lay->nelim && m->trailing->steps->estimated; k++)
        BY_WIDTH(lay->f[k].p, add_estimated, m, k, m->trailing->steps->estimated(m->trailing, m, k))
    m->evaluation.at.state = INVERTED;
    m->evaluation.at.complete = 0;
}

/* D and S of every factor, B where A is not zero. The trailing factor is overwritten, unless it is spared. */
CLONES void differentiate(lmm_model *m, int reml, double nu)
{
    const layout *lay = &m->layout;
    invert_model(m);
    for (int k = 0; k < lay->nfactor; k++) {
        residual_part(m, &lay->f[k], reml, nu, m->scratch.tmp);
        finish_slope(m, &lay->f[k], m->scratch.tmp);
    }
}
