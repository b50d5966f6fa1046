/* The criterion and its derivatives at theta. */

#include "model/model.h"
#include "trailing/trailing.h"
#include "base/small.h"

static const double PI2 = 6.283185307179586476925;

double degrees(const lmm_model *m, int reml)
{
    const layout *lay = &m->layout;
    return (double)lay->n - (reml ? lay->p : 0);
}

/* Criterion at the current T; infinity where the factorization fails. */
double evaluate(lmm_model *m, int reml)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const double nu = degrees(m, reml);
    if (factorize(m) != LMM_OK) return INFINITY;
    ev->size = (double)lay->n;
    if (ev->r2 < LITTLE * ev->size && m->trailing->exact) refine_residual(m);
    if (!(ev->r2 > 0)) return INFINITY;
    return ev->logdetM + (reml ? ev->logdetC - 2 * lay->logdetB : 0) +
           nu * (1 + log(PI2 / nu) + log(ev->r2) + 2 * log(m->sums.yscale)) - m->sums.sumlogw;
}

/* Gradient and curvature after evaluate(), in elimination order; either may be NULL. */
void derivatives(lmm_model *m, int reml, double *g, double *H)
{
    const layout *lay = &m->layout;
    const double nu = degrees(m, reml);
    if (!m->evaluation.solved) solve_border(m);
    if (H) information(m, nu, H);
    differentiate(m, reml, nu);
    if (H) add_boundary_curvature(m, H);
    for (int k = 0; g && k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++)
            g[lay->f[k].th + t] = m->evaluation.f[k].D[lay->f[k].thr[t] + lay->f[k].thc[t] * lay->f[k].p];
}

lmm_status lmm_objective(lmm_model *m, int reml, int whitened, const double *theta, double *f, double *g,
                         double *H)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    double *own = m->scratch.newton, *gradient = own + N, *hessian = gradient + N;
    m->evaluation.floor = FLOOR;
    from_user(m, theta, own);
    set_theta(m, own, !whitened);
    *f = evaluate(m, reml);
    if (!isfinite(*f)) return m->trailing->failed ? LMM_UNSOLVED : LMM_NOTPOSDEF;
    if (!g && !H) return LMM_OK;
    derivatives(m, reml, gradient, H ? hessian : NULL);
    if (m->trailing->failed) return LMM_UNSOLVED;
    for (ptrdiff_t i = 0; i < (H ? N * (N + 1) : N); i++) /* H follows the gradient */
        if (!isfinite(gradient[i])) return LMM_NOTFINITE;
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) {
            const ptrdiff_t i = user_place(&lay->f[k], t);
            if (g) g[i] = gradient[lay->f[k].th + t];
            for (int j = 0; H && j < lay->nfactor; j++)
                for (int u = 0; u < lay->f[j].nth; u++)
                    H[i + N * user_place(&lay->f[j], u)] = hessian[lay->f[k].th + t + N * (lay->f[j].th + u)];
        }
    return LMM_OK;
}

double lmm_deviation(const lmm_model *m)
{
    return m->trailing->deviation;
}

lmm_status lmm_montecarlo(lmm_model *m, int reml, const double *theta, double *se, double *cov)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    double *own = m->scratch.newton, *g = own + N, *H = g + N, *C = H + N * N, *X = C + N * N;
    char lower = 'L', none = 'N';
    int n = lay->ntheta, info = 0;
    double one = 1, zero = 0;
    *se = 0;
    memset(cov, 0, sizeof(double) * (size_t)(N * N));
    if (m->trailing->exact || !N) return LMM_OK;
    m->evaluation.floor = FLOOR;
    from_user(m, theta, own);
    set_theta(m, own, 1);
    if (!isfinite(evaluate(m, reml))) return m->trailing->failed ? LMM_UNSOLVED : LMM_NOTPOSDEF;
    derivatives(m, reml, g, H);
    if (m->trailing->failed) return LMM_UNSOLVED;
    *se = m->trailing->deviation;
    m->trailing->steps->scores(m->trailing, m, C);
    m->blas.potrf(&lower, &n, H, &n, &info);
    if (!info) m->blas.potri(&lower, &n, H, &n, &info);
    if (info) H[0] = NAN; /* far from an optimum: no covariance */
    mirror(n, H, n);
    m->blas.gemm(&none, &none, &n, &n, &n, &one, H, &n, C, &n, &zero, X, &n);
    m->blas.gemm(&none, &none, &n, &n, &n, &one, X, &n, H, &n, &zero, C, &n);
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++)
            for (int j = 0; j < lay->nfactor; j++)
                for (int u = 0; u < lay->f[j].nth; u++)
                    cov[user_place(&lay->f[k], t) + N * user_place(&lay->f[j], u)] =
                        C[lay->f[k].th + t + N * (lay->f[j].th + u)];
    return LMM_OK;
}
