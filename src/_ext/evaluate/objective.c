/* The criterion and its derivatives at theta. */

#include "model/model.h"
#include "trailing/trailing.h"
#include "base/small.h"

static const double PI2 = 6.283185307179586476925;

double degrees(const lmm_model *m, int reml)
{
    return (double)m->n - (reml ? m->p : 0);
}

/* Criterion at the current T; infinity where the factorization fails. */
double evaluate(lmm_model *m, int reml)
{
    const double nu = degrees(m, reml);
    if (factorize(m) != LMM_OK) return INFINITY;
    m->size = (double)m->n;
    if (m->r2 < LITTLE * m->size && m->trailing->exact) refine_residual(m);
    if (!(m->r2 > 0)) return INFINITY;
    return m->logdetM + (reml ? m->logdetC - 2 * m->logdetB : 0) +
           nu * (1 + log(PI2 / nu) + log(m->r2) + 2 * log(m->yscale)) - m->sumlogw;
}

/* Gradient and curvature after evaluate(), in elimination order; either may be NULL. */
void derivatives(lmm_model *m, int reml, double *g, double *H)
{
    const double nu = degrees(m, reml);
    if (!m->solved) solve_border(m);
    if (H) information(m, nu, H);
    differentiate(m, reml, nu);
    if (H) add_boundary_curvature(m, H);
    for (int k = 0; g && k < m->nfactor; k++)
        for (int t = 0; t < m->f[k].nth; t++)
            g[m->f[k].th + t] = m->f[k].D[m->f[k].thr[t] + m->f[k].thc[t] * m->f[k].p];
}

lmm_status lmm_objective(lmm_model *m, int reml, int whitened, const double *theta, double *f, double *g,
                         double *H)
{
    const ptrdiff_t N = m->ntheta;
    double *own = m->newton, *gradient = own + N, *hessian = gradient + N;
    m->floor = FLOOR;
    from_user(m, theta, own);
    set_theta(m, own, !whitened);
    *f = evaluate(m, reml);
    if (!isfinite(*f)) return m->trailing->failed ? LMM_UNSOLVED : LMM_NOTPOSDEF;
    if (!g && !H) return LMM_OK;
    derivatives(m, reml, gradient, H ? hessian : NULL);
    if (m->trailing->failed) return LMM_UNSOLVED;
    for (ptrdiff_t i = 0; i < (H ? N * (N + 1) : N); i++) /* H follows the gradient */
        if (!isfinite(gradient[i])) return LMM_NOTFINITE;
    for (int k = 0; k < m->nfactor; k++)
        for (int t = 0; t < m->f[k].nth; t++) {
            const ptrdiff_t i = user_place(&m->f[k], t);
            if (g) g[i] = gradient[m->f[k].th + t];
            for (int j = 0; H && j < m->nfactor; j++)
                for (int u = 0; u < m->f[j].nth; u++)
                    H[i + N * user_place(&m->f[j], u)] = hessian[m->f[k].th + t + N * (m->f[j].th + u)];
        }
    return LMM_OK;
}

double lmm_deviation(const lmm_model *m)
{
    return m->trailing->deviation;
}

lmm_status lmm_montecarlo(lmm_model *m, int reml, const double *theta, double *se, double *cov)
{
    const ptrdiff_t N = m->ntheta;
    double *own = m->newton, *g = own + N, *H = g + N, *C = H + N * N, *X = C + N * N;
    char lower = 'L', none = 'N';
    int n = m->ntheta, info = 0;
    double one = 1, zero = 0;
    *se = 0;
    memset(cov, 0, sizeof(double) * (size_t)(N * N));
    if (m->trailing->exact || !N) return LMM_OK;
    m->floor = FLOOR;
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
    for (int k = 0; k < m->nfactor; k++)
        for (int t = 0; t < m->f[k].nth; t++)
            for (int j = 0; j < m->nfactor; j++)
                for (int u = 0; u < m->f[j].nth; u++)
                    cov[user_place(&m->f[k], t) + N * user_place(&m->f[j], u)] =
                        C[m->f[k].th + t + N * (m->f[j].th + u)];
    return LMM_OK;
}
