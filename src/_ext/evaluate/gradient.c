/* The factorization read backwards: B = Lambda M^-1 Lambda' wherever A is not zero, and from it the exact
   gradient. With N_l = I - K_l A_l:

     Q_l = A_lR B_RR A_Rl,  B_ll = K_l + K_l Q_l K_l,  B_Rl = -B_RR A_Rl K_l
     df/dT = 2 sum_l [ (A_l - N_l'Q_l) T M_l^-1 - (nu/r^2 g_l g_l' + [REML] WX_l C^-1 WX_l') T ]  */

#include "model/model.h"
#include "trailing/lines.h"

/* ------------------------------------------------------------------------------ selected inverse -- */

/* V += the part of B_RR A_R in which one side is the level a of factor j that contains l */
CLONES static void invert_against_ancestor(lmm_model *m, int k, int j)
{
    const factor *f = &m->f[k], *up = &m->f[j];
    const int pu = up->p, p = f->p, ahead = j - k;
    ptrdiff_t skip = 0;
    int32_t current = -1;
    for (int i = k + 1; i < j; i++) skip += m->f[i].p;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const int32_t a = m->row[m->ptr[e] + ahead - 1];
        const ptrdiff_t ld = m->ld[e], lda = m->ld[a];
        const double *A = f->pan + m->pan[e] + skip, *Baa = up->Q + (ptrdiff_t)(a - up->node) * pu * pu;
        const double *Bra = up->P + m->pan[a];
        double *V = f->P + m->pan[e] + skip;
        if (a != current) {
            current = a;
            for (ptrdiff_t i = m->ptr[a], row = 0; i < m->ptr[a + 1]; row += m->width[m->row[i++]])
                m->pos[m->row[i]] = (int32_t)row;
        }
        for (int x = 0; x < p; x++)
            for (int c = 0; c < pu; c++)
                for (int r = 0; r < pu; r++) V[r + x * ld] += Baa[r + c * pu] * A[c + x * ld];
        ptrdiff_t at = pu;
        for (ptrdiff_t i = m->ptr[e] + ahead; i < m->ptr[e + 1]; at += m->width[m->row[i++]]) {
            const double *B = Bra + m->pos[m->row[i]];
            for (int x = 0; x < p; x++)
                for (int c = 0; c < pu; c++)
                    for (int r = 0; r < m->width[m->row[i]]; r++) {
                        V[at + r + x * ld] += B[r + c * lda] * A[c + x * ld];
                        V[c + x * ld] += B[r + c * lda] * A[at + r + x * ld];
                    }
        }
    }
}

/* Q_l += A_R'V_R, when levels meet others through lists */
static void gather_lists(lmm_model *m, int k)
{
    factor *f = &m->f[k];
    const int p = f->p;
    const int32_t last = f->node + f->nlev - 1;
    if (f->P) memset(f->P, 0, sizeof(double) * (size_t)(m->pan[last] + (ptrdiff_t)m->ld[last] * p));
    if (k == 0)
        m->t->gather(m);
    else {
        memset(f->Q, 0, sizeof(double) * (size_t)f->nlev * (size_t)(p * p));
        m->t->product(m, k, f->P);
    }
    for (int j = k + 1; j < m->nelim; j++) invert_against_ancestor(m, k, j);
    if (k == 0 && m->nelim == 1) return;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const int ld = m->ld[e], rows = ld - m->pb;
        double *Q = f->Q + (ptrdiff_t)(e - f->node) * p * p;
        tmul(p, p, rows, 1, f->pan + m->pan[e], ld, f->P + m->pan[e], ld, Q, p);
        symmetrize(p, Q);
    }
}

/* D += (A_l - N_l'Q_l) T M_l^-1, then Q_l := B_ll = K_l + K_l Q_l K_l and, for a coarser factor,
   V_R := B_Rl = -V_R K_l */
INLINE void invert_levels(const int p, lmm_model *m, int k)
{
    factor *f = &m->f[k];
    double *U = m->tmp, *K = U + p * p, *KQ = K + p * p, *X = KQ + p * p, *D = X + p * p, *rows = D + p * p;
    for (int i = 0; i < p * p; i++) D[i] = 0;
    for (int32_t l = 0; l < f->nlev; l++) {
        const ptrdiff_t block = (ptrdiff_t)l * p * p;
        const double *A = f->diag + block, *L = f->L + block;
        double *Q = f->Q + block;
        scaled_factor(p, f->T, L, U);
        mult(p, p, p, 0, U, p, U, p, K, p);
        mul(p, p, p, 0, K, p, Q, p, KQ, p);
        for (int i = 0; i < p * p; i++) X[i] = A[i] - Q[i];
        mul(p, p, p, 1, A, p, KQ, p, X, p);
        solve_right(p, L, p, U, p);
        mul(p, p, p, 1, X, p, U, p, D, p);
        memcpy(Q, K, sizeof(double) * (size_t)(p * p));
        mul(p, p, p, 1, KQ, p, K, p, Q, p);
        if (k == 0) continue;
        const int32_t ld = m->ld[f->node + l];
        double *V = f->P + m->pan[f->node + l];
        for (int32_t r = 0; r < ld - m->pb; r++) {
            for (int c = 0; c < p; c++) rows[c] = V[r + (ptrdiff_t)c * ld];
            for (int c = 0; c < p; c++) {
                double v = 0;
                for (int x = 0; x < p; x++) v -= rows[x] * K[x + c * p];
                V[r + (ptrdiff_t)c * ld] = v;
            }
        }
    }
    for (int i = 0; i < p * p; i++) f->D[i] += D[i];
}

/* ------------------------------------------------------------------------------------- gradient -- */

/* D := 2 (D - sum_l (nu/r^2 g_l g_l' + [REML] WX_l C^-1 WX_l') T) */
CLONES static void subtract_residual_part(lmm_model *m, factor *f, int reml, double nu)
{
    const int p = f->p, pb = m->pb;
    double *N = m->tmp, *NT = N + p * p;
    const double *Y = m->Y + (ptrdiff_t)f->col * pb;
    memset(N, 0, sizeof(double) * (size_t)(p * p));
    for (int32_t l = 0; l < f->nlev; l++, Y += (ptrdiff_t)p * pb)
        for (int c = 0; c < p; c++)
            for (int r = c; r < p; r++) {
                double v = nu / m->r2 * Y[m->p + r * pb] * Y[m->p + c * pb];
                for (int a = 0; reml && a < m->p; a++) v += Y[a + r * pb] * Y[a + c * pb];
                N[r + c * p] += v;
            }
    mirror(p, N, p);
    mul(p, p, p, 0, N, p, f->T, p, NT, p);
    for (int i = 0; i < p * p; i++) f->D[i] = 2 * (f->D[i] - NT[i]);
}

/* D in the coordinates of theta, and S = D Tp^-1 / 2, symmetric */
static void boundary_matrix(lmm_model *m, factor *f)
{
    const int p = f->p;
    if (f->W) {
        tmul(p, p, p, 0, f->W, p, f->D, p, m->tmp, p);
        memcpy(f->D, m->tmp, sizeof(double) * (size_t)(p * p));
    }
    for (int i = 0; i < p * p; i++) f->S[i] = f->D[i] / 2;
    solve_right(p, f->Tp, p, f->S, p);
    symmetrize(p, f->S);
}

/* D and S of every factor, B where A is not zero. The trailing factor is overwritten. */
CLONES void differentiate(lmm_model *m, int reml, double nu)
{
    for (int k = 0; k < m->nfactor; k++)
        memset(m->f[k].D, 0, sizeof(double) * (size_t)(m->f[k].p * m->f[k].p));
    m->t->invert(m);
    for (int k = m->nelim - 1; k >= 0; k--) {
        if (!m->full) gather_lists(m, k);
        BY_WIDTH(m->f[k].p, invert_levels, m, k)
    }
    for (int k = 0; k < m->nfactor; k++) {
        subtract_residual_part(m, &m->f[k], reml, nu);
        boundary_matrix(m, &m->f[k]);
    }
    m->at.state = INVERTED;
    m->at.complete = 0;
}
