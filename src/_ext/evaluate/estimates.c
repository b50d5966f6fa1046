/* Estimates where the model stands, in the user's units. */

#include "base/memory.h"
#include "evaluate/readings.h"
#include "base/small.h"

/* w (p) := R^-T w,  C = R R' */
void solve_fixed(const lmm_model *m, double *w)
{
    const ptrdiff_t s = m->lde;
    const double *R = m->Le + m->q2 * s;
    for (int a = m->p - 1; a >= 0; a--) {
        for (int b = a + 1; b < m->p; b++) w[a] -= R[b + a * s] * w[b];
        w[a] /= R[a + a * s];
    }
}

/* Coefficients of the whitened columns of X to those of the user's; zero for dropped ones */
void fixed_to_user(const lmm_model *m, const double *w, double *out)
{
    const ptrdiff_t k = m->pfull;
    for (int i = 0; i < k; i++) out[i] = 0;
    for (int a = 0; a < m->p; a++)
        for (int i = 0; i < k; i++) out[i] += m->x.C[i + m->keep[a] * k] * w[a];
}

/* beta and its covariance in the user's coordinates: beta = C (b0 + yscale beta_w) (+ mean of y) */
void fixed_estimates(lmm_model *m, double variance, double *beta, double *vcov)
{
    const int k = m->pfull;
    double *V = m->tmp, *w = V + k;
    if (beta) {
        for (int a = 0; a < m->p; a++) w[a] = m->b0[m->keep[a]] + m->yscale * m->beta[a];
        fixed_to_user(m, w, beta);
        if (m->x.constant >= 0) beta[m->x.constant] += m->ymean / m->xconstant;
        for (int i = 0; i < k; i++) beta[i] += m->beta0[i];
    }
    for (int i = 0; vcov && i < k * k; i++) vcov[i] = 0;
    for (int c = 0; vcov && c < m->p; c++) { /* columns of C R^-T: vcov = sum of their squares */
        for (int a = 0; a < m->p; a++) w[a] = a == c;
        solve_fixed(m, w);
        fixed_to_user(m, w, V);
        for (int j = 0; j < k; j++)
            for (int i = 0; i < k; i++) vcov[i + j * k] += variance * V[i] * V[j];
    }
}

/* b = C T T' g yscale, levels in the user's order */
static double *modes(const lmm_model *m, const factor *f, double *out)
{
    const int p = f->p, pb = m->pb;
    double *g = m->tmp, *u = g + p;
    for (int32_t l = 0; l < f->nlev; l++, out += p) {
        const double *Y = m->Y + (ptrdiff_t)m->nodecol[f->perm[l]] * pb + m->p;
        for (int i = 0; i < p; i++) g[i] = Y[i * pb] * m->yscale;
        tmul(p, 1, p, 0, f->T, p, g, p, u, p);
        mul(p, 1, p, 0, f->T, p, u, p, g, p);
        mul(p, 1, p, 0, f->w.C, p, g, p, out, p);
    }
    return out;
}

/* C B_ll C' */
static double *conditional_variances(const lmm_model *m, const factor *f, double *out)
{
    const int p = f->p;
    for (int32_t l = 0; l < f->nlev; l++, out += p * p) {
        const double *B = f->Q + (ptrdiff_t)(f->perm[l] - f->node) * p * p;
        mul(p, p, p, 0, f->w.C, p, B, p, m->tmp, p);
        mult(p, p, p, 0, m->tmp, p, f->w.C, p, out, p);
    }
    return out;
}

const factor *factor_of_user(const lmm_model *m, int user)
{
    const factor *f = m->f;
    while (f->user != user) f++;
    return f;
}

void lmm_whitening(const lmm_model *m, double *C)
{
    for (int k = 0; k < m->nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        for (int i = 0; i < f->p; i++)
            for (int j = 0; j < f->p; j++) *C++ = f->w.C[i + j * f->p];
    }
}

lmm_status lmm_estimates(lmm_model *m, double *beta, double *vcov, double *sigma, double *b, double *condvar)
{
    if (condvar && m->it) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, condvar ? INVERTED : BORDERED, 0));
    const double variance = m->yscale * m->yscale * m->r2 / degrees(m, m->at.reml);
    fixed_estimates(m, variance, beta, vcov);
    if (sigma) *sigma = sqrt(variance);
    for (int k = 0; b && k < m->nfactor; k++) b = modes(m, factor_of_user(m, k), b);
    for (int k = 0; condvar && k < m->nfactor; k++)
        condvar = conditional_variances(m, factor_of_user(m, k), condvar);
    return LMM_OK;
}
