/* Where the model stands: the criterion at theta, and from there the state that each reading needs.

     FACTORED  S, its factor, L and K of every level, log|M|, log|C|, r^2
     BORDERED  H, Y and beta too
     INVERTED  D, S and B where A is not zero; the inverse has overwritten the trailing factor

   The criterion and its derivatives keep diagonals of T away from zero (FLOOR); estimates and B take exact
   zeros. Where no diagonal is below the floor the two are one, so that nothing is factorized twice. */

#include "base/memory.h"
#include "trailing/iterative.h"
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
    if (m->r2 < LITTLE * m->size && !m->it) refine_residual(m);
    if (!(m->r2 > 0)) return INFINITY;
    return m->logdetM + (reml ? m->logdetC - 2 * m->logdetB : 0) +
           nu * (1 + log(PI2 / nu) + log(m->r2) + 2 * log(m->yscale)) - m->sumlogw;
}

static void gradient(const lmm_model *m, double *g)
{
    for (int k = 0; k < m->nfactor; k++)
        for (int t = 0; t < m->f[k].nth; t++)
            g[m->f[k].th + t] = m->f[k].D[m->f[k].thr[t] + m->f[k].thc[t] * m->f[k].p];
}

/* Gradient and curvature after evaluate(), in elimination order; either may be NULL. */
void derivatives(lmm_model *m, int reml, double *g, double *H)
{
    const double nu = degrees(m, reml);
    if (m->at.state < BORDERED) solve_border(m);
    if (H) information(m, nu, H);
    differentiate(m, reml, nu);
    if (H) add_boundary_curvature(m, H);
    if (g) gradient(m, g);
}

/* Does the factorization that there is serve a reading that needs T with such zeros, or the factor itself? */
static int serves(const lmm_model *m, zeros wanted, int factor)
{
    const standing *at = &m->at;
    if (at->state == NOWHERE || (at->moved && wanted == FLOORED)) return 0;
    if (factor && at->state == INVERTED && m->q2 && !m->it) return 0;
    return wanted == ANY || at->zeros == ANY || at->zeros == wanted;
}

lmm_status evaluate_there(lmm_model *m, zeros wanted, int factor)
{
    standing *at = &m->at;
    if (serves(m, wanted, factor)) return LMM_OK;
    from_user(m, at->theta, m->newton);
    set_theta(m, m->newton, !at->whitened, wanted == EXACT ? 0 : FLOOR);
    at->moved = 0;
    at->f = evaluate(m, at->reml);
    if (isfinite(at->f)) return LMM_OK;
    at->state = NOWHERE;
    return iterative_failed(m) ? LMM_UNSOLVED : LMM_NOTPOSDEF;
}

lmm_status bring(lmm_model *m, zeros wanted, lmm_state least, int factor)
{
    TRY(evaluate_there(m, wanted, factor));
    if (least >= BORDERED && m->at.state < BORDERED) solve_border(m);
    if (least == INVERTED && m->at.state < INVERTED) differentiate(m, m->at.reml, degrees(m, m->at.reml));
    return LMM_OK;
}

/* Is this where the model stands? */
static int stands_at(const standing *at, int reml, int whitened, const double *theta, ptrdiff_t n)
{
    return at->reml == reml && at->whitened == whitened &&
           memcmp(theta, at->theta, sizeof(double) * (size_t)n) == 0;
}

lmm_status lmm_evaluate(lmm_model *m, int reml, int whitened, const double *theta, double *f)
{
    standing *at = &m->at;
    if (!stands_at(at, reml, whitened, theta, m->ntheta)) {
        at->state = NOWHERE;
        at->reml = reml;
        at->whitened = whitened;
        memcpy(at->theta, theta, sizeof(double) * (size_t)m->ntheta);
    }
    if (!f) return LMM_OK;
    TRY(evaluate_there(m, ANY, 0));
    *f = at->f;
    return LMM_OK;
}

/* Gradient and Hessian in elimination order to the user's */
static void to_user(const lmm_model *m, const double *gradient, const double *hessian, double *g, double *H)
{
    const ptrdiff_t N = m->ntheta;
    for (int k = 0; k < m->nfactor; k++)
        for (int t = 0; t < m->f[k].nth; t++) {
            const ptrdiff_t i = user_place(&m->f[k], t);
            if (g) g[i] = gradient[m->f[k].th + t];
            for (int j = 0; H && j < m->nfactor; j++)
                for (int u = 0; u < m->f[j].nth; u++)
                    H[i + N * user_place(&m->f[j], u)] = hessian[m->f[k].th + t + N * (m->f[j].th + u)];
        }
}

lmm_status lmm_derivatives(lmm_model *m, double *g, double *H)
{
    const ptrdiff_t N = m->ntheta;
    double *slope = m->newton + N, *hessian = slope + N;
    if (H) {
        TRY(evaluate_there(m, FLOORED, 1));
        derivatives(m, m->at.reml, slope, hessian);
    } else {
        TRY(bring(m, FLOORED, INVERTED, 0));
        gradient(m, slope);
    }
    if (iterative_failed(m)) return LMM_UNSOLVED;
    for (ptrdiff_t i = 0; i < (H ? N * (N + 1) : N); i++) /* H follows the gradient */
        if (!isfinite(slope[i])) return LMM_NOTFINITE;
    to_user(m, slope, hessian, g, H);
    return LMM_OK;
}

double lmm_deviation(const lmm_model *m)
{
    return iterative_deviation(m);
}

lmm_status lmm_montecarlo(lmm_model *m, double *se, double *cov)
{
    const ptrdiff_t N = m->ntheta;
    double *g = m->newton + N, *H = g + N, *C = H + N * N, *X = C + N * N;
    char lower = 'L', none = 'N';
    int n = m->ntheta, info = 0;
    double one = 1, zero = 0;
    *se = 0;
    memset(cov, 0, sizeof(double) * (size_t)(N * N));
    if (!m->it || !N) return LMM_OK;
    TRY(evaluate_there(m, FLOORED, 1));
    derivatives(m, m->at.reml, g, H);
    if (iterative_failed(m)) return LMM_UNSOLVED;
    *se = iterative_deviation(m);
    iterative_score_covariance(m, C);
    m->blas.potrf(&lower, &n, H, &n, &info);
    if (!info) m->blas.potri(&lower, &n, H, &n, &info);
    if (info) H[0] = NAN; /* far from an optimum: no covariance */
    mirror(n, H, n);
    m->blas.gemm(&none, &none, &n, &n, &n, &one, H, &n, C, &n, &zero, X, &n);
    m->blas.gemm(&none, &none, &n, &n, &n, &one, X, &n, H, &n, &zero, C, &n);
    to_user(m, g, C, NULL, cov);
    return LMM_OK;
}
