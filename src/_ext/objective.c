/* theta to the criterion and its derivatives, and the fit: minimize, settle exact zeros, leave saddle
   points. */

#include <stdlib.h>

#include "model.h"
#include "small.h"

#define SNAP 1e-3     /* whitened diagonals below this are tried at exactly zero */
#define NEGATIVE 1e-5 /* a curvature of the boundary matrix below -NEGATIVE is worth a try */

static const double PI2 = 6.283185307179586476925;

lmm_settings lmm_defaults(void)
{
    const lmm_settings s = {.reml = 1, .maxeval = 500, .tolerance = 1e-10, .radius = 1};
    return s;
}

/* ------------------------------------------------------------------------------------ evaluation -- */

/* T of every factor from theta in elimination order; diagonals are kept floor away from zero. */
static void set_theta(lmm_model *m, const double *theta, int users)
{
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        const int p = f->p;
        f->W = users ? f->Cinv : NULL;
        memset(f->Tp, 0, sizeof(double) * (size_t)(p * p));
        for (int t = 0; t < f->nth; t++) f->Tp[f->thr[t] + f->thc[t] * p] = theta[f->th + t];
        for (int i = 0; i < p; i++) {
            const double least = m->floor * (users ? fabs(f->w.C[i + i * p]) : 1);
            double *d = &f->Tp[i + i * p];
            if (fabs(*d) < least) *d = least;
        }
        if (users)
            mul(p, p, p, 0, f->W, p, f->Tp, p, f->T, p);
        else
            memcpy(f->T, f->Tp, sizeof(double) * (size_t)(p * p));
    }
}

static double degrees(const lmm_model *m, int reml)
{
    return (double)m->n - (reml ? m->p : 0);
}

/* Criterion at the current T; infinity where the factorization fails. */
static double evaluate(lmm_model *m, int reml)
{
    const double nu = degrees(m, reml);
    if (factorize(m) != LMM_OK) return INFINITY;
    return m->logdetM + (reml ? m->logdetC - 2 * m->logdetB : 0) +
           nu * (1 + log(PI2 / nu) + log(m->r2) + 2 * log(m->yscale)) - m->sumlogw;
}

/* Gradient and curvature after evaluate(), in elimination order; either may be NULL. */
static void derivatives(lmm_model *m, int reml, double *g, double *H)
{
    const double nu = degrees(m, reml);
    solve_border(m);
    if (H) information(m, nu, H);
    differentiate(m, reml, nu);
    if (H) add_boundary_curvature(m, H);
    for (int k = 0; g && k < m->nfactor; k++)
        for (int t = 0; t < m->f[k].nth; t++)
            g[m->f[k].th + t] = m->f[k].D[m->f[k].thr[t] + m->f[k].thc[t] * m->f[k].p];
}

/* place of each parameter (elimination order) in the user's theta */
static int32_t user_place(const factor *f, int t)
{
    return f->userth + t;
}

static void from_user(const lmm_model *m, const double *user, double *theta)
{
    for (int k = 0; k < m->nfactor; k++)
        for (int t = 0; t < m->f[k].nth; t++) theta[m->f[k].th + t] = user[user_place(&m->f[k], t)];
}

lmm_status lmm_objective(lmm_model *m, int reml, const double *theta, double *f, double *g, double *H)
{
    const ptrdiff_t N = m->ntheta;
    double *own = m->newton, *gradient = own + N, *hessian = gradient + N;
    m->floor = FLOOR;
    from_user(m, theta, own);
    set_theta(m, own, 1);
    *f = evaluate(m, reml);
    if (!isfinite(*f)) return LMM_NOTPOSDEF;
    if (!g && !H) return LMM_OK;
    derivatives(m, reml, gradient, H ? hessian : NULL);
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

/* --------------------------------------------------------------------------------- coordinates -- */

/* A (k x k) = lower triangle with nonnegative diagonal times an orthogonal matrix, in place. A zero
   diagonal gets a zero column: the echelon form of a singular factor is unique. */
static void triangularize(int k, double *A, int ld)
{
    for (int i = 0; i < k; i++) {
        for (int j = i + 1; j < k; j++) {
            const double a = A[i + i * ld], b = A[i + j * ld];
            if (b == 0) continue;
            const double h = hypot(a, b), c = a / h, s = b / h;
            for (int r = i; r < k; r++) {
                const double x = A[r + i * ld], y = A[r + j * ld];
                A[r + i * ld] = c * x + s * y;
                A[r + j * ld] = c * y - s * x;
            }
            A[i + j * ld] = 0;
        }
        if (A[i + i * ld] < 0)
            for (int r = i; r < k; r++) A[r + i * ld] = -A[r + i * ld];
        for (int j = k - 1; A[i + i * ld] == 0 && j > i; j--) { /* move a zero column here */
            int empty = 1;
            for (int r = 0; r < k; r++) empty &= A[r + j * ld] == 0;
            if (!empty) continue;
            for (int r = 0; r < k; r++) A[r + j * ld] = A[r + i * ld], A[r + i * ld] = 0;
            break;
        }
    }
}

/* Applies triangularize to the block of each term of T. */
static void triangularize_terms(const factor *f, double *T)
{
    for (int a = 0, b; a < f->p; a = b) {
        for (b = a + 1; b < f->p && f->term[b] == a;) b++;
        triangularize(b - a, T + a + a * f->p, f->p);
    }
}

/* theta in one set of coordinates to theta in the other: T = M T, again lower triangular */
static void change_coordinates(lmm_model *m, double *theta, int to_user)
{
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        const int p = f->p;
        double *T = f->Tp;
        memset(T, 0, sizeof(double) * (size_t)(p * p));
        for (int t = 0; t < f->nth; t++) T[f->thr[t] + f->thc[t] * p] = theta[f->th + t];
        triangularize_terms(f, T);
        mul(p, p, p, 0, to_user ? f->w.C : f->Cinv, p, T, p, f->T, p);
        triangularize_terms(f, f->T);
        for (int t = 0; t < f->nth; t++) theta[f->th + t] = f->T[f->thr[t] + f->thc[t] * p];
    }
}

/* ------------------------------------------------------------------------------------------ fit -- */

typedef struct { /* a fit under way                                                   */
    lmm_model *m;
    const lmm_settings *s;
    newton_state *state;
} fit;

static double fit_value(void *arg, const double *theta)
{
    fit *t = arg;
    set_theta(t->m, theta, 0);
    return evaluate(t->m, t->s->reml);
}

/* A diagonal pinned at the floor promises nothing: what its slope there predicts is not to be had. */
static void fit_derivatives(void *arg, double *g, double *H)
{
    fit *t = arg;
    derivatives(t->m, t->s->reml, g, H);
    for (int k = 0; k < t->m->nfactor; k++) {
        const factor *f = &t->m->f[k];
        for (int i = 0; i < f->nth; i++)
            if (f->thr[i] == f->thc[i] && f->T[f->thr[i] * (f->p + 1)] == FLOOR && g[f->th + i] > 0)
                g[f->th + i] = 0;
    }
}

static int fit_poll(void *arg, const double *x, double f, double best, double radius, double predicted)
{
    const fit *t = arg;
    const lmm_trace trace = {.neval = t->state->neval,
                             .ntheta = t->m->ntheta,
                             .objective = f,
                             .best = best,
                             .radius = radius,
                             .predicted = predicted,
                             .theta = x};
    return t->s->poll(t->s->arg, &trace);
}

/* Diagonals that the optimizer left near zero are set to zero where the criterion does not rise.
   Those below FLOOR were evaluated at the floor: they are zero. */
static void settle_zeros(fit *t, double *theta, double *trial)
{
    lmm_model *m = t->m;
    int near = 0;
    memcpy(trial, theta, sizeof(double) * (size_t)m->ntheta);
    for (int k = 0; k < m->nfactor; k++)
        for (int i = 0; i < m->f[k].nth; i++) {
            const factor *f = &m->f[k];
            double *d = &trial[f->th + i];
            if (f->thr[i] != f->thc[i] || fabs(*d) >= SNAP) continue;
            near |= fabs(*d) >= FLOOR;
            *d = 0;
            if (fabs(theta[f->th + i]) < FLOOR) theta[f->th + i] = 0;
        }
    if (!near) return;
    const double f = fit_value(t, trial);
    t->state->neval++;
    if (f <= t->state->f + t->s->tolerance) {
        memcpy(theta, trial, sizeof(double) * (size_t)m->ntheta);
        t->state->f = fmin(f, t->state->f);
    }
}

/* The unit vector u in the null space of T T' (one term, k x k) with the least u'S u; returns that. */
static double null_curvature(lmm_model *m, int k, const double *T, const double *S, int ld, double *u,
                             double *work)
{
    char vectors = 'V', lower = 'L';
    int n = k, lwork = 34 * k, info, nulls = 0;
    double *G = work, *w = G + k * k, *R = w + k, *scratch = R + k * k;
    mult(k, k, k, 0, T, ld, T, ld, G, k);
    m->blas.syev(&vectors, &lower, &n, G, &n, w, scratch, &lwork, &info);
    const double none = fmax(FLOOR * FLOOR, 1e-14 * w[k - 1]);
    while (nulls < k && w[nulls] < none) nulls++;
    if (!nulls) return 0;
    for (int j = 0; j < nulls; j++)
        for (int i = 0; i < nulls; i++) {
            double v = 0;
            for (int a = 0; a < k; a++)
                for (int b = 0; b < k; b++) v += G[a + i * k] * S[a + b * ld] * G[b + j * k];
            R[i + j * nulls] = v;
        }
    m->blas.syev(&vectors, &lower, &nulls, R, &nulls, w, scratch, &lwork, &info);
    for (int a = 0; a < k; a++) {
        u[a] = 0;
        for (int i = 0; i < nulls; i++) u[a] += G[a + i * k] * R[i];
    }
    return w[0];
}

/* T T' + e^2 u u', lower triangular again: T has a zero direction, so one of its columns is free. */
static void add_direction(int k, double *T, int ld, const double *u, double e)
{
    triangularize(k, T, ld);
    for (int j = 0; j < k; j++) {
        double size = 0;
        for (int i = 0; i < k; i++) size += fabs(T[i + j * ld]);
        if (size > FLOOR && j < k - 1) continue;
        for (int i = 0; i < k; i++) T[i + j * ld] = e * u[i];
        break;
    }
    triangularize(k, T, ld);
}

static void theta_of(const factor *f, const double *T, double *theta)
{
    for (int t = 0; t < f->nth; t++) theta[f->th + t] = T[f->thr[t] + f->thc[t] * f->p];
}

/* A direction of zero variance in which the criterion falls: goes there. Returns whether it did. */
static int leave_saddle(fit *t, double *theta, double *trial)
{
    lmm_model *m = t->m;
    double *u = m->work;
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        const int p = f->p;
        double *T = f->D; /* scratch until the next evaluation */
        for (int a = 0, b; a < p; a = b) {
            for (b = a + 1; b < p && f->term[b] == a;) b++;
            memset(T, 0, sizeof(double) * (size_t)(p * p));
            for (int i = 0; i < f->nth; i++) T[f->thr[i] + f->thc[i] * p] = theta[f->th + i];
            const double curvature = null_curvature(m, b - a, T + a + a * p, f->S + a + a * p, p, u, u + p);
            for (double e = 0.3; curvature < -NEGATIVE && e > 1e-3; e /= 3) {
                for (int i = 0; i < f->nth; i++) T[f->thr[i] + f->thc[i] * p] = theta[f->th + i];
                memcpy(trial, theta, sizeof(double) * (size_t)m->ntheta);
                add_direction(b - a, T + a + a * p, p, u, e);
                theta_of(f, T, trial);
                t->state->neval++;
                if (fit_value(t, trial) < t->state->f - t->s->tolerance) {
                    memcpy(theta, trial, sizeof(double) * (size_t)m->ntheta);
                    return 1;
                }
                memset(T, 0, sizeof(double) * (size_t)(p * p));
            }
        }
    }
    return 0;
}

/* Start: 0.3 I in whitened coordinates, or the user's theta kept off the boundary. */
static void first_theta(lmm_model *m, const double *start, double *theta)
{
    if (start) {
        from_user(m, start, theta);
        change_coordinates(m, theta, 0);
    }
    for (int k = 0; k < m->nfactor; k++)
        for (int t = 0; t < m->f[k].nth; t++) {
            const int diagonal = m->f[k].thr[t] == m->f[k].thc[t];
            double *x = &theta[m->f[k].th + t];
            if (!start)
                *x = diagonal ? 0.3 : 0;
            else if (diagonal && fabs(*x) < 0.01)
                *x = 0.01;
        }
}

lmm_status lmm_fit(lmm_model *m, const lmm_settings *s, const double *start, double *theta, lmm_info *info)
{
    const ptrdiff_t N = m->ntheta;
    double *own = m->newton + newton_workspace(m->ntheta), *trial = own + N;
    newton_state state = {.f = INFINITY, .radius = s->radius};
    fit t = {m, s, &state};
    newton_problem p = {.n = m->ntheta,
                        .value = fit_value,
                        .derivatives = fit_derivatives,
                        .poll = s->poll ? fit_poll : NULL,
                        .syev = m->blas.syev,
                        .arg = &t,
                        .tolerance = s->tolerance,
                        .maxeval = s->maxeval};
    newton_end end;
    m->floor = FLOOR;
    p.noise = 1e-14 * (double)m->n;
    info->escapes = 0;
    first_theta(m, start, own);
    for (;;) {
        end = newton_minimize(&p, own, &state, m->newton);
        if (end != NEWTON_CONVERGED || info->escapes > m->ntheta || !leave_saddle(&t, own, trial)) break;
        info->escapes++;
        state.radius = s->radius;
    }
    if (end == NEWTON_UNDEFINED) return LMM_NOTPOSDEF;
    if (end == NEWTON_CONVERGED) settle_zeros(&t, own, trial);
    change_coordinates(m, own, 1);
    for (int k = 0; k < m->nfactor; k++)
        for (int i = 0; i < m->f[k].nth; i++) theta[user_place(&m->f[k], i)] = own[m->f[k].th + i];
    info->objective = state.f;
    info->certificate = state.predicted;
    info->neval = state.neval;
    return end == NEWTON_CONVERGED ? LMM_OK : end == NEWTON_STOPPED ? LMM_STOPPED : LMM_MAXEVAL;
}

/* ------------------------------------------------------------------------------------- estimates -- */

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

lmm_status lmm_estimates(lmm_model *m, int reml, const double *theta, double *f, double *beta, double *vcov,
                         double *sigma, double *b, double *condvar)
{
    m->floor = 0;
    from_user(m, theta, m->newton);
    set_theta(m, m->newton, 1);
    const double value = evaluate(m, reml);
    if (!isfinite(value)) return LMM_NOTPOSDEF;
    if (f) *f = value;
    const double variance = m->yscale * m->yscale * m->r2 / degrees(m, reml);
    solve_border(m);
    fixed_estimates(m, variance, beta, vcov);
    if (sigma) *sigma = sqrt(variance);
    for (int k = 0; b && k < m->nfactor; k++) b = modes(m, factor_of_user(m, k), b);
    if (!condvar) return LMM_OK;
    differentiate(m, reml, degrees(m, reml));
    for (int k = 0; k < m->nfactor; k++) condvar = conditional_variances(m, factor_of_user(m, k), condvar);
    return LMM_OK;
}
