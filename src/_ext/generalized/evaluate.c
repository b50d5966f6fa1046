/* The criterion and its gradient at the user's parameters. */

#include "base/small.h"
#include "generalized/joint.h"

lmm_status evaluate_at(glmm_model *g)
{
    TRY(find_mode(g));
    TRY(g->nodes ? node_sum(g) : laplace(g));
    add_prior(g);
    return LMM_OK;
}

void find_slopes(glmm_model *g)
{
    if (g->nodes)
        node_slopes(g);
    else
        slopes(g);
    add_prior_slope(g);
    keep_mode(g);
}

/* The model's T := Tnew, in its triangular form */
void set_triangular(glmm_model *g)
{
    double *theta = g->m->scratch.newton;
    theta_of_factors(g->m, g->Tnew, theta);
    set_theta(g->m, theta, 0, FLOOR);
}

/* Coefficients of the whitened columns from the user's */
void whitened(const glmm_model *g, const double *beta, double *gamma)
{
    const layout *lay = &g->m->layout;
    for (int a = 0; a < lay->p; a++) {
        gamma[a] = 0;
        for (int i = 0; i < lay->p; i++) gamma[a] += g->Cinv[a + i * (ptrdiff_t)lay->p] * beta[lay->keep[i]];
    }
}

/* D := df/dTheta = 2 Cinv'S Cinv Theta of one factor, Theta the user's triangle */
static void slope_in_theta(glmm_model *g, const double *psi)
{
    lmm_model *m = g->m;
    const factor *f = &m->layout.f[0];
    factor_state *fs = &m->evaluation.f[0];
    const int p = f->p;
    double *theta = m->scratch.newton, *X = m->scratch.tmp + p * p;
    from_user(m, psi, theta);
    factors_of_theta(m, theta, g->Tnew, m->scratch.tmp);
    mul(p, p, p, 0, fs->S, p, g->Tnew, p, X, p);
    tmul(p, p, p, 0, f->Cinv, p, X, p, fs->D, p);
    for (int i = 0; i < p * p; i++) fs->D[i] *= 2;
}

void flat_theta(glmm_model *g, double *theta)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    double *T = g->Tnew, *own = g->flat_theta;
    if (g->flat < 0) return;
    for (int k = 0; k < lay->nfactor; T += lay->f[k].p * lay->f[k].p, k++)
        for (int i = 0; i < lay->f[k].p * lay->f[k].p; i++)
            T[i] = k == g->flat && i % (lay->f[k].p + 1) == 0 ? FLAT * g->unit : 0;
    theta_of_factors(m, g->Tnew, own);
    change_coordinates(m, own, 1);
    memcpy(theta + lay->f[g->flat].th, own + lay->f[g->flat].th,
           sizeof(double) * (size_t)lay->f[g->flat].nth);
}

/* theta as set_theta takes it */
void theta_of_psi(glmm_model *g, const double *psi, double *theta)
{
    from_user(g->m, psi, theta);
    flat_theta(g, theta);
}

lmm_status glmm_evaluate(glmm_model *g, const double *psi, double *f, double *gradient)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const ptrdiff_t T = lay->ntheta, p = lay->p, pfull = lay->pfull, N = g->family.nextra;
    double *theta = m->scratch.newton, *gamma = g->next;
    const double *x = psi + T + pfull;
    theta_of_psi(g, psi, theta);
    factors_of_theta(m, theta, g->Tnew, m->scratch.tmp);
    whitened(g, psi + T, gamma);
    predict_mode(g, g->Tnew, gamma, x);
    g->begun = 0;
    memcpy(g->gamma, gamma, sizeof(double) * (size_t)p);
    memcpy(g->x, x, sizeof(double) * (size_t)N);
    if (g->nodes)
        set_triangular(g);
    else
        set_theta(m, theta, 1, FLOOR);
    adopt_mode(g);
    g->enough = g->near = EXACTLY;
    lmm_status status = evaluate_at(g);
    *f = g->f;
    if (status != LMM_OK || !gradient) return status;
    find_slopes(g);
    if (g->nodes) slope_in_theta(g, psi);
    for (int k = 0; k < lay->nfactor; k++)
        for (int i = 0; i < lay->f[k].nth; i++)
            gradient[user_place(&lay->f[k], i)] =
                m->evaluation.f[k].D[lay->f[k].thr[i] + lay->f[k].thc[i] * lay->f[k].p];
    for (ptrdiff_t i = 0; i < pfull; i++) gradient[T + i] = 0;
    for (ptrdiff_t i = 0; i < p; i++)
        for (ptrdiff_t a = 0; a < p; a++) gradient[T + lay->keep[i]] += g->Cinv[a + i * p] * g->gx[a];
    memcpy(gradient + T + pfull, g->fx, sizeof(double) * (size_t)N);
    return LMM_OK;
}
