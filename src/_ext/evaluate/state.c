/* Where the model stands: the criterion at theta, and from there the state that each reading needs.

     FACTORED  S, its factor, L and K of every level, log|M|, log|C|, r^2
     BORDERED  H, Y and beta too
     INVERTED  D, S and B where A is not zero; the inverse has overwritten the trailing factor

   The criterion and its derivatives keep diagonals of T away from zero (FLOOR); estimates and B take exact
   zeros. Where no diagonal is below the floor the two are one, so that nothing is factorized twice. */

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/chain.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

static const double PI2 = 6.283185307179586476925;

double degrees(const lmm_model *m, int reml)
{
    const layout *lay = &m->layout;
    return (double)(lay->n - m->sums.absent) - (reml ? lay->p : 0);
}

/* Criterion at the current T; infinity where the factorization fails. */
double evaluate(lmm_model *m, int reml)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const double nu = degrees(m, reml);
    if (factorize(m) != LMM_OK) return INFINITY;
    if (lay->generalized) return ev->logdetM; /* there is no response: the factor is what is asked for */
    ev->size = m->residual ? m->sums.border[(ptrdiff_t)lay->pb * lay->pb - 1] : (double)lay->n;
    if (ev->r2 < LITTLE * ev->size && m->trailing->exact) refine_residual(m);
    if (!(ev->r2 > 0)) return INFINITY;
    return ev->logdetM + (reml ? ev->logdetC - 2 * lay->logdetB : 0) +
           nu * (1 + log(PI2 / nu) + log(ev->r2) + 2 * log(m->sums.yscale)) - m->sums.sumlogw;
}

/* df/dtheta, after differentiate() */
static void gradient(const lmm_model *m, double *g)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++)
            g[lay->f[k].th + t] = m->evaluation.f[k].D[lay->f[k].thr[t] + lay->f[k].thc[t] * lay->f[k].p];
}

int derivatives(lmm_model *m, int reml, double *slope, double *A, double *E)
{
    const layout *lay = &m->layout;
    const double nu = degrees(m, reml);
    deepen(m, BORDERED);
    information(m, nu, A);
    const int known = E && defect(m, reml, A, E) == LMM_OK;
    if (!known) differentiate(m, reml, nu);
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) {
            const int r = lay->f[k].thr[t], c = lay->f[k].thc[t];
            slope[lay->f[k].th + t] = (r == c ? 1 : 2) * m->evaluation.f[k].S[r + c * lay->f[k].p];
        }
    return known;
}

/* Gradient and curvature in theta, at set_theta's. work: chain_work and 2 N^2 + N and T */
static void theta_derivatives(lmm_model *m, double *g, double *H, double *work)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    double *slope = work, *A = slope + N, *T = A + N * N, *to = T;
    derivatives(m, m->evaluation.at.reml, slope, A, NULL);
    for (int k = 0; k < lay->nfactor; to += lay->f[k].p * lay->f[k].p, k++)
        memcpy(to, m->evaluation.f[k].T, sizeof(double) * (size_t)(lay->f[k].p * lay->f[k].p));
    to_theta(m, !m->evaluation.at.whitened, T, slope, A, NULL, H, to);
    gradient(m, g);
}

/* Does the factorization that there is serve a reading that needs T with such zeros, or the factor itself? */
static int serves(const lmm_model *m, zeros wanted, int factor)
{
    const standing *at = &m->evaluation.at;
    if (at->state == NOWHERE || (at->moved && wanted == FLOORED)) return 0;
    if (factor && at->state == INVERTED && m->layout.q2 && m->trailing->exact && !m->trailing->spared)
        return 0;
    return wanted == ANY || at->zeros == ANY || at->zeros == wanted;
}

lmm_status evaluate_there(lmm_model *m, zeros wanted, int factor)
{
    standing *at = &m->evaluation.at;
    if (serves(m, wanted, factor)) return LMM_OK;
    from_user(m, at->theta, m->scratch.newton);
    set_theta(m, m->scratch.newton, !at->whitened, wanted == EXACT ? 0 : floor_of(m));
    at->moved = 0;
    at->f = evaluate(m, at->reml);
    if (isfinite(at->f)) return LMM_OK;
    at->state = NOWHERE;
    return m->trailing->failed ? LMM_UNSOLVED : LMM_NOTPOSDEF;
}

void deepen(lmm_model *m, lmm_state least)
{
    const evaluation *ev = &m->evaluation;
    if (least >= BORDERED && ev->at.state < BORDERED) solve_border(m);
    if (least == INVERTED && ev->at.state < INVERTED) differentiate(m, ev->at.reml, degrees(m, ev->at.reml));
}

lmm_status bring(lmm_model *m, zeros wanted, lmm_state least, int factor)
{
    TRY(evaluate_there(m, wanted, factor));
    deepen(m, least);
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
    const layout *lay = &m->layout;
    standing *at = &m->evaluation.at;
    if (!stands_at(at, reml, whitened, theta, lay->ntheta)) {
        at->state = NOWHERE;
        at->reml = reml;
        at->whitened = whitened;
        memcpy(at->theta, theta, sizeof(double) * (size_t)lay->ntheta);
    }
    if (!f) return LMM_OK;
    TRY(evaluate_there(m, FLOORED, 0));
    *f = at->f;
    return LMM_OK;
}

void to_user(const lmm_model *m, const double *gradient, const double *hessian, double *g, double *H)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) {
            const ptrdiff_t i = user_place(&lay->f[k], t);
            if (g) g[i] = gradient[lay->f[k].th + t];
            for (int j = 0; H && j < lay->nfactor; j++)
                for (int u = 0; u < lay->f[j].nth; u++)
                    H[i + N * user_place(&lay->f[j], u)] = hessian[lay->f[k].th + t + N * (lay->f[j].th + u)];
        }
}

lmm_status lmm_derivatives(lmm_model *m, double *g, double *H)
{
    const ptrdiff_t N = m->layout.ntheta;
    double *slope = m->scratch.newton + N, *hessian = slope + N;
    if (H && m->layout.moves) return LMM_UNAVAILABLE;
    if (H) {
        TRY(evaluate_there(m, FLOORED, 1));
        theta_derivatives(m, slope, hessian, hessian + N * N);
    } else {
        TRY(bring(m, FLOORED, INVERTED, 0));
        gradient(m, slope);
    }
    if (m->trailing->failed) return LMM_UNSOLVED;
    for (ptrdiff_t i = 0; i < (H ? N * (N + 1) : N); i++) /* H follows the gradient */
        if (!isfinite(slope[i])) return LMM_NOTFINITE;
    to_user(m, slope, hessian, g, H);
    return LMM_OK;
}

double lmm_value(const lmm_model *m)
{
    return m->evaluation.at.f;
}

double lmm_deviation(const lmm_model *m)
{
    return m->trailing->deviation;
}

lmm_status lmm_montecarlo(lmm_model *m, double *se, double *cov)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    if (m->layout.moves) return LMM_UNAVAILABLE;
    double *g = m->scratch.newton + N, *H = g + N, *C = H + N * N, *X = C + N * N;
    char lower = 'L', none = 'N';
    int n = lay->ntheta, info = 0;
    double one = 1, zero = 0;
    *se = 0;
    memset(cov, 0, sizeof(double) * (size_t)(N * N));
    if (m->trailing->exact || !N) return LMM_OK;
    TRY(evaluate_there(m, FLOORED, 1));
    theta_derivatives(m, g, H, X + N * N);
    if (m->trailing->failed) return LMM_UNSOLVED;
    *se = m->trailing->deviation;
    m->trailing->steps->scores(m->trailing, m, C);
    m->blas.potrf(&lower, &n, H, &n, &info);
    if (!info) m->blas.potri(&lower, &n, H, &n, &info);
    if (info) H[0] = NAN; /* far from an optimum: no covariance */
    mirror(n, H, n);
    m->blas.gemm(&none, &none, &n, &n, &n, &one, H, &n, C, &n, &zero, X, &n);
    m->blas.gemm(&none, &none, &n, &n, &n, &one, X, &n, H, &n, &zero, C, &n);
    to_user(m, g, C, NULL, cov);
    return LMM_OK;
}
