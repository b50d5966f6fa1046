/* The factorization: eliminate nested factors level by level, then factor what is left (trailing.h).

     K_l = T M_l^-1 T',   M_l = T'A_l T + I,   A_RR -= A_Rl K_l A_lR

   What is eliminated first is never scaled by Lambda: A_RR stays in z's coordinates, so the Schur
   complement at any stage is Z'V_k^-1 Z, V_k = W^-1 + the eliminated factors' part of V. */

#include "base/large.h"
#include "evaluate/evaluate.h"
#include "trailing/trailing.h"
#include "trailing/lines.h"

/* log|M_l|, L_l, K_l (in Q) and, where it is used, the scaled panel P_l = A_Rl T L_l^-T of every level of
   an eliminated factor */
INLINE int eliminate_levels(const int p, lmm_model *m, const factor *f)
{
    const layout *lay = &m->layout;
    factor_state *fs = &m->evaluation.f[f->k];
    double *tmp = m->scratch.tmp, *U = tmp + p * p, logdet = 0, det = 1;
    for (int32_t l = 0; l < f->nlev; l++) {
        const int32_t e = f->node + l, ld = lay->ld[e];
        double *L = fs->L + (ptrdiff_t)l * p * p;
        const double *A = fs->pan + lay->pan[e];
        large_block(&m->blas, p, fs->diag + (ptrdiff_t)l * p * p, fs->T, L, tmp);
        if (root_of(&m->blas, p, L)) return 1;
        for (int i = 0; i < p; i++) {
            det *= L[i + i * p];
            if (p >= LARGE && det > 1e100) { /* a level alone may be beyond the range of numbers */
                logdet += log(det);
                det = 1;
            }
        }
        if (det > 1e100) { /* few logarithms, few roundings: all are at least one */
            logdet += log(det);
            det = 1;
        }
        large_factor(&m->blas, p, fs->T, L, U);
        product(&m->blas, 'N', 'T', p, p, p, 0, U, p, U, p, fs->K + (ptrdiff_t)l * p * p, p);
        if (!fs->P) continue;
        double *P = fs->P + lay->pan[e];
        if (p >= LARGE) {
            product(&m->blas, 'N', 'N', ld, p, p, 0, A, ld, U, p, P, ld);
            continue;
        }
        for (int j = 0; j < p; j++) {
            double *to = P + (ptrdiff_t)j * ld;
            for (int32_t r = 0; r < ld; r++) to[r] = A[r] * U[j * p];
            for (int c = 1; c < p; c++) {
                const double u = U[c + j * p], *from = A + (ptrdiff_t)c * ld;
                for (int32_t r = 0; r < ld; r++) to[r] += from[r] * u;
            }
        }
    }
    m->evaluation.logdetM += 2 * (logdet + log(det));
    return 0;
}

/* The coarser eliminated factors' blocks: A_aa -= P_a P_a', A_Ra -= P_R P_a' for the level a that
   contains each level of f. Levels inside one a are contiguous, so its list is scattered once. */
CLONES static void downdate_ancestors(lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    factor_state *fs = &m->evaluation.f[k];
    ptrdiff_t skip = 0;
    for (int j = k + 1; j < lay->nelim; skip += lay->f[j++].p) {
        const factor *up = &lay->f[j];
        factor_state *us = &m->evaluation.f[j];
        const int pu = up->p, ahead = j - k;
        int32_t current = -1;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            const int32_t a = lay->row[lay->ptr[e] + ahead - 1];
            const ptrdiff_t ld = lay->ld[e], lda = lay->ld[a];
            const double *P = fs->P + lay->pan[e], *Pa = P + skip;
            double *diag = us->diag + (ptrdiff_t)(a - up->node) * pu * pu, *pan = us->pan + lay->pan[a];
            if (a != current) {
                current = a;
                for (ptrdiff_t i = lay->ptr[a], row = 0; i < lay->ptr[a + 1];
                     row += lay->width[lay->row[i++]])
                    m->scratch.pos[lay->row[i]] = (int32_t)row;
            }
            for (int x = 0; x < f->p; x++)
                for (int c = 0; c < pu; c++) {
                    const double v = Pa[c + x * ld];
                    for (int r = 0; r < pu; r++) diag[r + c * pu] -= Pa[r + x * ld] * v;
                }
            const double *from = Pa + pu;
            for (ptrdiff_t i = lay->ptr[e] + ahead; i < lay->ptr[e + 1]; i++) {
                double *to = pan + m->scratch.pos[lay->row[i]];
                const int w = lay->width[lay->row[i]];
                for (int x = 0; x < f->p; x++)
                    for (int c = 0; c < pu; c++)
                        for (int r = 0; r < w; r++) to[r + c * lda] -= from[r + x * ld] * Pa[c + x * ld];
                from += w;
            }
            for (int x = 0; x < f->p; x++)
                for (int c = 0; c < pu; c++)
                    for (int r = 0; r < lay->pb; r++)
                        pan[lda - lay->pb + r + c * lda] -= from[r + x * ld] * Pa[c + x * ld];
        }
    }
}

#define ELIMINATE(p, m, f, failed) failed = eliminate_levels(p, m, f)

CLONES static int eliminate(lmm_model *m, int k)
{
    const factor *f = &m->layout.f[k];
    int failed = 0;
    BY_WIDTH(f->p, ELIMINATE, m, f, failed)
    if (failed) return 1;
    m->trailing->steps->downdate(m->trailing, m, k);
    downdate_ancestors(m, k);
    return 0;
}

/* Working copies of the coarser eliminated factors */
static void load_eliminated(lmm_model *m)
{
    const layout *lay = &m->layout;
    for (int k = 1; k < lay->nelim; k++) {
        const factor *f = &lay->f[k];
        factor_state *fs = &m->evaluation.f[k];
        const int32_t last = f->node + f->nlev - 1;
        memcpy(fs->diag, m->sums.A[k].diag, sizeof(double) * (size_t)f->nlev * (size_t)(f->p * f->p));
        memcpy(fs->pan, m->sums.A[k].pan,
               sizeof(double) * (size_t)(lay->pan[last] + (ptrdiff_t)lay->ld[last] * f->p));
    }
}

/* The factorization at T: S, its factor, log|M|, log|C|, r^2. LMM_NOTPOSDEF where it does not exist. */
lmm_status factorize(lmm_model *m)
{
    evaluation *ev = &m->evaluation;
    ev->logdetM = m->layout.logdetK;
    ev->logdetC = 0;
    ev->at.state = NOWHERE;
    ev->at.complete = 0;
    load_eliminated(m);
    m->trailing->steps->load(m->trailing, m);
    for (int k = 0; k < m->layout.nelim; k++)
        if (eliminate(m, k)) return LMM_NOTPOSDEF;
    const lmm_status status = m->trailing->steps->factorize(m->trailing, m);
    if (status == LMM_OK) ev->at.state = FACTORED;
    return status;
}

lmm_status factorize_typical(lmm_model *m, double *theta)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++)
            theta[lay->f[k].th + t] = lay->f[k].thr[t] == lay->f[k].thc[t] ? TYPICAL : 0;
    set_theta(m, theta, 0, floor_of(m));
    const lmm_status status = factorize(m);
    m->evaluation.at.state = NOWHERE;
    return status;
}
