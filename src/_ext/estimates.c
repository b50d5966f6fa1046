/* Estimates at theta, in the user's units. */

#include "model.h"
#include "small.h"

/* beta and its covariance in the user's coordinates: beta = C (b0 + yscale beta_w) (+ mean of y) */
static void fixed_estimates(lmm_model *m, double variance, double *beta, double *vcov)
{
    const int k = m->pfull;
    const ptrdiff_t s = m->s;
    const double *R = m->L + m->q2 * s + m->q2;
    double *V = m->tmp, *w = V + k;
    for (int i = 0; beta && i < k; i++) beta[i] = 0;
    for (int a = 0; beta && a < m->p; a++)
        for (int i = 0; i < k; i++)
            beta[i] += m->x.C[i + m->keep[a] * k] * (m->b0[m->keep[a]] + m->yscale * m->beta[a]);
    if (beta && m->x.constant >= 0) beta[m->x.constant] += m->ymean / m->xconstant;
    for (int i = 0; vcov && i < k * k; i++) vcov[i] = 0;
    for (int c = 0; vcov && c < m->p; c++) { /* columns of C R^-T: vcov = sum of their squares */
        for (int a = 0; a < m->p; a++) w[a] = a == c;
        for (int a = m->p - 1; a >= 0; a--) {
            for (int b = a + 1; b < m->p; b++) w[a] -= R[b + a * s] * w[b];
            w[a] /= R[a + a * s];
        }
        for (int i = 0; i < k; i++) {
            V[i] = 0;
            for (int a = 0; a < m->p; a++) V[i] += m->x.C[i + m->keep[a] * k] * w[a];
        }
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

static const factor *factor_of_user(const lmm_model *m, int user)
{
    const factor *f = m->f;
    while (f->user != user) f++;
    return f;
}

/* Does the model still stand where a fit left it, at this theta? */
static int is_settled(const lmm_model *m, int reml, const double *theta)
{
    if (!m->settled || m->atreml != reml) return 0;
    return memcmp(theta, m->at, sizeof(double) * (size_t)m->ntheta) == 0;
}

lmm_status lmm_estimates(lmm_model *m, int reml, const double *theta, double *f, double *beta, double *vcov,
                         double *sigma, double *b, double *condvar)
{
    double value;
    if (condvar || !is_settled(m, reml, theta)) {
        m->floor = 0;
        from_user(m, theta, m->newton);
        set_theta(m, m->newton, 1);
        value = evaluate(m, reml);
        if (!isfinite(value)) return LMM_NOTPOSDEF;
        solve_border(m);
    } else
        value = m->atf;
    if (f) *f = value;
    const double variance = m->yscale * m->yscale * m->r2 / degrees(m, reml);
    fixed_estimates(m, variance, beta, vcov);
    if (sigma) *sigma = sqrt(variance);
    for (int k = 0; b && k < m->nfactor; k++) b = modes(m, factor_of_user(m, k), b);
    if (!condvar) return LMM_OK;
    differentiate(m, reml, degrees(m, reml));
    for (int k = 0; k < m->nfactor; k++) condvar = conditional_variances(m, factor_of_user(m, k), condvar);
    return LMM_OK;
}
