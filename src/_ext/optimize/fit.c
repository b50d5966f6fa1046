/* The fit: minimize, leave saddle points, settle exact zeros. */

#include <float.h>

#include "optimize/newton.h"
#include "trailing/iterative.h"
#include "base/small.h"

#define SNAP 1e-3     /* whitened diagonals below this are tried at exactly zero */
#define LOW 0.015     /* the start keeps variances in [LOW, HIGH]: off the boundary, ... */
#define HIGH 0.6      /* ... and not where the moments of crossed designs mislead (measured) */
#define FAR 1e3       /* a start beyond this is brought back: rounding is all it would see */
#define ENOUGH 1e-7   /* iterative models: a decrease that is small against what chance moves */
#define UNSEEN 1e-8   /* ... and what the tolerance of their iterations hides */
#define STEEP 100     /* whitened theta from which rounding is looked at: its square multiplies errors */
#define TURNS 3       /* how often a collapsed trust region is opened in other coordinates */
#define SAMPLES 4     /* ... by so many evaluations */
#define NEGATIVE 1e-5 /* a curvature of the boundary matrix below -NEGATIVE is worth a try */

lmm_settings lmm_defaults(void)
{
    const lmm_settings s = {.reml = 1, .maxeval = 500, .tolerance = 1e-10, .radius = 1};
    return s;
}

typedef struct { /* a fit under way                                                   */
    lmm_model *m;
    const lmm_settings *s;
    newton_state *state;
    /* iterative models: */
    double *x, *g, *H; /* the last evaluation: theta, gradient, curvature,                   */
    double value, f;   /* the criterion by integration, and as estimated                     */
    double *rx, *rg;   /* the last accepted one                                              */
    double rvalue, rf;
    int begun;
} fit;

/* The criterion of an iterative model: the estimate of the first evaluation, from there the integral of the
   estimated gradient, one trapezoid a step. The estimates of both are not derivatives of each other; the
   gradient is the more accurate and decides. */
static double integrate(fit *t, const double *theta)
{
    const int n = t->m->ntheta;
    derivatives(t->m, t->s->reml, t->g, t->H);
    if (iterative_failed(t->m)) return INFINITY;
    memcpy(t->x, theta, sizeof(double) * (size_t)n);
    t->value = t->begun ? t->rvalue : t->f;
    for (int i = 0; t->begun && i < n; i++) t->value += (t->g[i] + t->rg[i]) / 2 * (theta[i] - t->rx[i]);
    return t->value;
}

/* The last evaluation is where the next trapezoids begin. */
static void settle_reference(fit *t)
{
    const size_t size = sizeof(double) * (size_t)t->m->ntheta;
    memcpy(t->rx, t->x, size);
    memcpy(t->rg, t->g, size);
    t->rvalue = t->value;
    t->rf = t->f;
    t->begun = 1;
}

static double fit_value(void *arg, const double *theta)
{
    fit *t = arg;
    set_theta(t->m, theta, 0, FLOOR);
    t->f = evaluate(t->m, t->s->reml);
    return t->m->it && isfinite(t->f) ? integrate(t, theta) : t->f;
}

/* A diagonal pinned at the floor promises nothing: what its slope there predicts is not to be had. */
static void fit_derivatives(void *arg, double *g, double *H)
{
    fit *t = arg;
    if (t->m->it) {
        settle_reference(t);
        memcpy(g, t->g, sizeof(double) * (size_t)t->m->ntheta);
        memcpy(H, t->H, sizeof(double) * (size_t)t->m->ntheta * (size_t)t->m->ntheta);
    } else
        derivatives(t->m, t->s->reml, g, H);
    for (int k = 0; k < t->m->nfactor; k++) {
        const factor *f = &t->m->f[k];
        for (int i = 0; i < f->nth; i++)
            if (f->thr[i] == f->thc[i] && f->Tp[f->thr[i] * (f->p + 1)] == FLOOR && g[f->th + i] > 0)
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

/* What the optimizer left near zero becomes exactly zero: without asking below FLOOR, where it was
   evaluated at the floor, and below SNAP where the criterion does not rise. In a column whose diagonal
   is zero, the entries below it are variances of their own and go too when they are as small. */
static int round_to_zero(const lmm_model *m, double *theta, double limit)
{
    int changed = 0;
    for (int k = 0; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        double *x = theta + f->th;
        for (int i = 0; i < f->nth; i++) {
            if (f->thr[i] != f->thc[i] || fabs(x[i]) >= limit) continue;
            for (int j = i; j < f->nth && f->thc[j] == f->thc[i]; j++)
                if (x[j] != 0 && fabs(x[j]) < limit) {
                    x[j] = 0;
                    changed = 1;
                }
        }
    }
    return changed;
}

static void settle_zeros(fit *t, double *theta, double *trial)
{
    lmm_model *m = t->m;
    triangularize_theta(m, theta);
    round_to_zero(m, theta, 3 * FLOOR);
    memcpy(trial, theta, sizeof(double) * (size_t)m->ntheta);
    if (!round_to_zero(m, trial, SNAP)) return;
    const double f = fit_value(t, trial);
    t->state->moved = 1;
    t->state->neval++;
    if (f <= t->state->f + t->s->tolerance) {
        memcpy(theta, trial, sizeof(double) * (size_t)m->ntheta);
        t->state->f = fmin(f, t->state->f);
        if (m->it) settle_reference(t);
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
    if (m->it && memcmp(t->x, t->rx, sizeof(double) * (size_t)m->ntheta) != 0) {
        fit_value(t, theta); /* S belongs to a step that was not accepted */
        t->state->neval++;
    }
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
                t->state->moved = 1;
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

/* Variance of one whitened column over that of y, by moments: sum_l (z_l'y)^2 / z_l'z_l has expectation
   m sigma^2 + n sigma_b^2 when nothing else varies between levels. */
static double moment_variance(const lmm_model *m, const factor *f, int c)
{
    double s = 0, n = 0;
    int32_t levels = 0;
    for (int32_t l = 0; l < f->nlev; l++) {
        const ptrdiff_t ld = m->ld[f->node + l];
        const double a = f->adiag[((ptrdiff_t)l * f->p + c) * f->p + c];
        const double zy = f->apan[m->pan[f->node + l] + (c + 1) * ld - 1];
        if (!(a > 0)) continue;
        s += zy * zy / a;
        n += a;
        levels++;
    }
    return n > levels ? (s - levels) / (n - levels) : 0;
}

/* Start: moment estimates in whitened coordinates, or the user's theta kept off the boundary. */
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
                *x = diagonal ? sqrt(fmin(fmax(moment_variance(m, &m->f[k], m->f[k].thr[t]), LOW), HIGH)) : 0;
            else if (diagonal && fabs(*x) < 0.01)
                *x = 0.01;
            else
                *x = fmin(fmax(*x, -FAR), FAR);
        }
}

/* r^2 is what cancellation leaves of y'Wy = n (whitened): its relative error, times nu. */
static double resolution(const lmm_model *m, int reml)
{
    return DBL_EPSILON * degrees(m, reml) * (1 + m->size / m->r2);
}

/* How much rounding moves the criterion at theta, a minimum: its changes with the last digits of theta, which
   exact numbers would hide. Taken where cancellation is known to be strong; 0 elsewhere. */
static double seen_noise(fit *t, const double *theta, double *trial)
{
    lmm_model *m = t->m;
    double most = 0, largest = 0;
    for (int i = 0; i < m->ntheta; i++) largest = fmax(largest, fabs(theta[i]));
    if (m->it || (m->r2 > LITTLE * m->size && largest < STEEP)) return 0;
    for (int s = 0; s < SAMPLES; s++) {
        for (int i = 0; i < m->ntheta; i++)
            trial[i] = theta[i] * (1 + DBL_EPSILON * ((3 * i + 5 * s + i * s) % 7 - 3));
        most = fmax(most, fabs(fit_value(t, trial) - t->state->f));
        t->state->neval++;
    }
    t->state->moved = 1;
    return 2 * most;
}

/* The model stands at the result. Was the last evaluation there, readings need not repeat it. (But with zeros
   in theta: they were evaluated at the floor.) */
static void stand(const fit *t, const double *theta, double f)
{
    standing *at = &t->m->at;
    if (t->state->moved) at->state = NOWHERE;
    at->reml = t->s->reml;
    at->whitened = 0;
    at->moved = 1;
    at->f = f;
    for (int32_t i = 0; i < t->m->ntheta; i++) {
        at->theta[i] = theta[i];
        if (theta[i] == 0) at->state = NOWHERE;
    }
}

/* Is there a term of several correlated columns, whose coordinates can be turned? */
static int has_axes(const lmm_model *m)
{
    for (int k = 0; k < m->nfactor && !m->it; k++)
        if (m->f[k].nth > m->f[k].p) return 1;
    return 0;
}

lmm_status lmm_fit(lmm_model *m, const lmm_settings *s, const double *start, double *theta, lmm_info *info)
{
    const ptrdiff_t N = m->ntheta;
    double *own = m->newton + newton_workspace(m->ntheta), *trial = own + N;
    newton_state state = {.f = INFINITY, .radius = s->radius};
    fit t = {.m = m, .s = s, .state = &state, .x = trial + N, .rx = trial + 2 * N};
    t.g = trial + 3 * N, t.rg = trial + 4 * N, t.H = trial + 5 * N;
    newton_problem p = {.n = m->ntheta,
                        .value = fit_value,
                        .derivatives = fit_derivatives,
                        .poll = s->poll ? fit_poll : NULL,
                        .syev = m->blas.syev,
                        .arg = &t,
                        .tolerance = s->tolerance,
                        .maxeval = s->maxeval};
    newton_end end;
    p.noise = 1e-14 * (double)m->n;
    if (m->it) {
        p.noisy = 1;
        p.noise = fmax(p.noise, UNSEEN);
        p.tolerance = fmax(p.tolerance, ENOUGH);
    }
    info->escapes = 0;
    first_theta(m, start, own);
    state.turns = has_axes(m) ? TURNS : 0;
    for (;;) {
        end = newton_minimize(&p, own, &state, m->newton);
        if (end == NEWTON_COLLAPSED) {
            turn(m, own, m->work);
            state.turns--;
            state.radius = s->radius;
            continue;
        }
        if (end != NEWTON_CONVERGED || info->escapes > m->ntheta || !leave_saddle(&t, own, trial)) break;
        info->escapes++;
        state.radius = s->radius;
    }
    if (end == NEWTON_UNDEFINED || end == NEWTON_NOTFINITE) {
        m->turned = 0;
        m->at.state = NOWHERE;
    }
    if (end == NEWTON_NOTFINITE) return iterative_failed(m) ? LMM_UNSOLVED : LMM_NOTFINITE;
    if (end == NEWTON_UNDEFINED) return iterative_failed(m) ? LMM_UNSOLVED : LMM_NOTPOSDEF;
    if (end == NEWTON_CONVERGED) settle_zeros(&t, own, trial);
    turn_back(m, own);
    info->resolution = resolution(m, s->reml);
    info->noise = end == NEWTON_CONVERGED ? seen_noise(&t, own, trial) : 0;
    change_coordinates(m, own, 1);
    for (int k = 0; k < m->nfactor; k++)
        for (int i = 0; i < m->f[k].nth; i++) theta[user_place(&m->f[k], i)] = own[m->f[k].th + i];
    info->objective = m->it ? t.rf : state.f;
    stand(&t, theta, info->objective);
    info->certificate = state.predicted;
    info->neval = state.neval;
    return end == NEWTON_CONVERGED ? LMM_OK : end == NEWTON_STOPPED ? LMM_STOPPED : LMM_MAXEVAL;
}
