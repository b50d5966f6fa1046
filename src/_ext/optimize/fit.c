/* The fit: a first theta, minimize, leave saddle points, settle exact zeros. */

#include <float.h>

#include "evaluate/evaluate.h"
#include "optimize/newton.h"
#include "optimize/plane.h"
#include "trailing/trailing.h"
#include "base/small.h"

#define SNAP 1e-3     /* whitened diagonals below this are tried at exactly zero */
#define LOW 0.015     /* the start keeps variances in [LOW, HIGH]: off the boundary, ... */
#define HIGH 0.6      /* ... and not where the moments of crossed designs mislead (measured) */
#define LIFT 0.01     /* ... or, where a start is given, diagonals at least so large */
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
    int n;              /* variables x: theta, whitened and perhaps turned, or those of the plane */
    const plane *plane; /* NULL: all parameters are free                       */
    /* iterative models: */
    double *x, *g, *H; /* the last evaluation: x, gradient, curvature,                       */
    double value, f;   /* the criterion by integration, and as estimated                     */
    double *rx, *rg;   /* the last accepted one                                              */
    double rvalue, rf;
    int begun;
    double *whole; /* 2 ntheta  scratch: theta where a saddle point is left         */
} fit;

/* theta in the coordinates of evaluations */
static const double *theta_at(const fit *t, const double *x)
{
    return t->plane ? plane_theta(t->plane, x) : x;
}

/* A diagonal pinned at the floor promises nothing: what its slope there predicts is not to be had. */
static void forget_pinned(const lmm_model *m, double *g)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int i = 0; i < f->nth; i++)
            if (f->thr[i] == f->thc[i] && g[f->th + i] > 0 && is_pinned(m, f, f->thr[i])) g[f->th + i] = 0;
    }
}

/* Derivatives in x after an evaluation there; H may be NULL. */
static void derivatives_in_x(const fit *t, double *g, double *H)
{
    if (!t->plane) {
        derivatives(t->m, t->s->reml, g, H);
        return;
    }
    derivatives(t->m, t->s->reml, t->plane->slope, H ? t->plane->H : NULL);
    forget_pinned(t->m, t->plane->slope);
    plane_derivatives(t->plane, g, H);
}

/* The criterion of an iterative model: the estimate of the first evaluation, from there the integral of the
   estimated gradient, one trapezoid a step. The estimates of both are not derivatives of each other; the
   gradient is the more accurate and decides. */
static double integrate(fit *t, const double *x)
{
    derivatives_in_x(t, t->g, t->H);
    if (t->m->trailing->failed) return INFINITY;
    memcpy(t->x, x, sizeof(double) * (size_t)t->n);
    t->value = t->begun ? t->rvalue : t->f;
    for (int i = 0; t->begun && i < t->n; i++) t->value += (t->g[i] + t->rg[i]) / 2 * (x[i] - t->rx[i]);
    return t->value;
}

/* The last evaluation is where the next trapezoids begin. */
static void settle_reference(fit *t)
{
    const size_t size = sizeof(double) * (size_t)t->n;
    memcpy(t->rx, t->x, size);
    memcpy(t->rg, t->g, size);
    t->rvalue = t->value;
    t->rf = t->f;
    t->begun = 1;
}

static double fit_value(void *arg, const double *x)
{
    fit *t = arg;
    set_theta(t->m, theta_at(t, x), t->plane != NULL, FLOOR);
    t->f = evaluate(t->m, t->s->reml);
    return !t->m->trailing->exact && isfinite(t->f) ? integrate(t, x) : t->f;
}

static void fit_derivatives(void *arg, double *g, double *H)
{
    fit *t = arg;
    if (!t->m->trailing->exact) {
        settle_reference(t);
        memcpy(g, t->g, sizeof(double) * (size_t)t->n);
        memcpy(H, t->H, sizeof(double) * (size_t)t->n * (size_t)t->n);
    } else
        derivatives_in_x(t, g, H);
    if (!t->plane) forget_pinned(t->m, g);
}

static int fit_poll(void *arg, const double *x, double f, double best, double radius, double predicted)
{
    const fit *t = arg;
    const lmm_trace trace = {.neval = t->state->neval,
                             .ntheta = t->n,
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
    const layout *lay = &m->layout;
    int changed = 0;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
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

/* Takes trial, which has zeros that x has not, if the criterion does not rise. */
static int try_zeros(fit *t, double *x, const double *trial)
{
    const double f = fit_value(t, trial);
    t->state->moved = 1;
    t->state->neval++;
    if (!(f <= t->state->f + t->s->tolerance)) return 0;
    memcpy(x, trial, sizeof(double) * (size_t)t->n);
    t->state->f = fmin(f, t->state->f);
    if (!t->m->trailing->exact) settle_reference(t);
    return 1;
}

/* Within a plane a zero may move other parameters: the criterion is always asked. Returns 0 if it refuses. */
static int settle_below(fit *t, double *x, double *trial, double limit)
{
    memcpy(trial, x, sizeof(double) * (size_t)t->n);
    return !plane_round_to_zero(t->plane, limit, trial) || try_zeros(t, x, trial);
}

static void settle_zeros(fit *t, double *x, double *trial)
{
    if (t->plane) {
        if (!settle_below(t, x, trial, SNAP)) settle_below(t, x, trial, 3 * FLOOR);
        plane_signs(t->plane, x);
        return;
    }
    triangularize_theta(t->m, x);
    round_to_zero(t->m, x, 3 * FLOOR);
    memcpy(trial, x, sizeof(double) * (size_t)t->n);
    if (round_to_zero(t->m, trial, SNAP)) try_zeros(t, x, trial);
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

/* T T' + e^2 u u', T lower triangular again: one rotation a column takes e u in; u is overwritten. */
static void add_direction(int k, double *T, int ld, double *u, double e)
{
    for (int i = 0; i < k; i++) u[i] *= e;
    for (int c = 0; c < k; c++) {
        const double r = hypot(T[c + c * ld], u[c]);
        if (!(r > 0)) continue;
        const double a = T[c + c * ld] / r, b = u[c] / r;
        for (int i = c; i < k; i++) {
            const double t = T[i + c * ld];
            T[i + c * ld] = a * t + b * u[i];
            u[i] = a * u[i] - b * t;
        }
    }
}

/* T of one factor from theta, its rows over scale (NULL: ones), and back */
static void factor_of(const factor *f, const double *theta, const double *scale, double *T)
{
    memset(T, 0, sizeof(double) * (size_t)(f->p * f->p));
    for (int i = 0; i < f->nth; i++)
        T[f->thr[i] + f->thc[i] * f->p] = theta[f->th + i] / (scale ? scale[f->th + i] : 1);
}

static void theta_of(const factor *f, const double *T, const double *scale, double *theta)
{
    for (int i = 0; i < f->nth; i++)
        theta[f->th + i] = T[f->thr[i] + f->thc[i] * f->p] * (scale ? scale[f->th + i] : 1);
}

/* S in the coordinates of T over scale */
static void scale_boundary(const factor *f, const double *scale, double *S)
{
    for (int i = 0; scale && i < f->nth; i++)
        if (f->thr[i] == f->thc[i])
            for (int c = 0; c < f->p; c++) {
                S[f->thr[i] + c * f->p] *= scale[f->th + i];
                S[c + f->thr[i] * f->p] *= scale[f->th + i];
            }
}

/* Is the criterion lower at theta, or in a plane where it is nearest? Goes there. */
static int try_theta(fit *t, const double *theta, double *x, double *trial)
{
    if (t->plane)
        plane_nearest(t->plane, theta, trial);
    else
        memcpy(trial, theta, sizeof(double) * (size_t)t->n);
    t->state->neval++;
    t->state->moved = 1;
    if (!(fit_value(t, trial) < t->state->f - t->s->tolerance)) return 0;
    memcpy(x, trial, sizeof(double) * (size_t)t->n);
    return 1;
}

/* The same for one factor: T over scale in scratch until the next evaluation, theta as it is */
static int leave_saddle_of(fit *t, const factor *f, const double *theta, double *other, double *x,
                           double *trial)
{
    lmm_model *m = t->m;
    factor_state *fs = &m->evaluation.f[f->k];
    const double *scale = t->plane ? t->plane->scale : NULL;
    const int p = f->p;
    double *T = fs->D, *u = m->scratch.work, *v = u + p;
    scale_boundary(f, scale, fs->S);
    for (int a = 0, b; a < p; a = b) {
        for (b = a + 1; b < p && f->term[b] == a;) b++;
        factor_of(f, theta, scale, T);
        const double curvature = null_curvature(m, b - a, T + a + a * p, fs->S + a + a * p, p, u, v);
        for (double e = 0.3; curvature < -NEGATIVE && e > 1e-3; e /= 3) {
            factor_of(f, theta, scale, T);
            memcpy(other, theta, sizeof(double) * (size_t)m->layout.ntheta);
            memcpy(v, u, sizeof(double) * (size_t)(b - a));
            add_direction(b - a, T + a + a * p, p, v, e);
            theta_of(f, T, scale, other);
            if (try_theta(t, other, x, trial)) return 1;
        }
    }
    return 0;
}

/* A direction of zero variance in which the criterion falls: goes there. Returns whether it did. */
static int leave_saddle(fit *t, double *x, double *trial)
{
    lmm_model *m = t->m;
    const layout *lay = &m->layout;
    const size_t size = sizeof(double) * (size_t)lay->ntheta;
    double *whole = t->whole, *other = whole + lay->ntheta;
    if (!m->trailing->exact && memcmp(t->x, t->rx, sizeof(double) * (size_t)t->n) != 0) {
        fit_value(t, x); /* S belongs to a step that was not accepted */
        t->state->neval++;
    }
    memcpy(whole, theta_at(t, x), size);
    for (int k = 0; k < lay->nfactor; k++)
        if (leave_saddle_of(t, &lay->f[k], whole, other, x, trial)) return 1;
    return 0;
}

/* Variance of one whitened column over that of y, by moments: sum_l (z_l'y)^2 / z_l'z_l has expectation
   m sigma^2 + n sigma_b^2 when nothing else varies between levels. */
static double moment_variance(const lmm_model *m, const factor *f, int c)
{
    const layout *lay = &m->layout;
    double s = 0, n = 0;
    int32_t levels = 0;
    for (int32_t l = 0; l < f->nlev; l++) {
        const ptrdiff_t ld = lay->ld[f->node + l];
        const double a = m->sums.A[f->k].diag[((ptrdiff_t)l * f->p + c) * f->p + c];
        const double zy = m->sums.A[f->k].pan[lay->pan[f->node + l] + (c + 1) * ld - 1];
        if (!(a > 0)) continue;
        s += zy * zy / a;
        n += a;
        levels++;
    }
    return n > levels ? (s - levels) / (n - levels) : 0;
}

/* First guess of theta: moment estimates, whitened, or the user's theta kept off the boundary. */
static void first_theta(lmm_model *m, const double *start, double *theta)
{
    const layout *lay = &m->layout;
    if (start) {
        from_user(m, start, theta);
        change_coordinates(m, theta, 0);
    }
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) {
            const int diagonal = lay->f[k].thr[t] == lay->f[k].thc[t];
            double *x = &theta[lay->f[k].th + t];
            if (!start)
                *x = diagonal ? sqrt(fmin(fmax(moment_variance(m, &lay->f[k], lay->f[k].thr[t]), LOW), HIGH))
                              : 0;
            else if (diagonal && fabs(*x) < LIFT)
                *x = LIFT;
            else
                *x = fmin(fmax(*x, -FAR), FAR);
        }
}

/* r^2 is what cancellation leaves of y'Wy = n (whitened): its relative error, times nu. */
static double resolution(const lmm_model *m, int reml)
{
    const evaluation *ev = &m->evaluation;
    return DBL_EPSILON * degrees(m, reml) * (1 + ev->size / ev->r2);
}

/* How much rounding moves the criterion at theta, a minimum: its changes with the last digits of theta, which
   exact numbers would hide. Taken where cancellation is known to be strong; 0 elsewhere. */
static double seen_noise(fit *t, const double *theta, double *trial)
{
    lmm_model *m = t->m;
    const layout *lay = &m->layout;
    const evaluation *ev = &m->evaluation;
    double most = 0, largest = 0;
    for (int i = 0; i < lay->ntheta; i++) largest = fmax(largest, fabs(theta[i]));
    if (!m->trailing->exact || (ev->r2 > LITTLE * ev->size && largest < STEEP)) return 0;
    for (int s = 0; s < SAMPLES; s++) {
        for (int i = 0; i < lay->ntheta; i++)
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
    standing *at = &t->m->evaluation.at;
    if (t->state->moved) at->state = NOWHERE;
    at->reml = t->s->reml;
    at->whitened = 0;
    at->moved = 1;
    at->f = f;
    for (int32_t i = 0; i < t->m->layout.ntheta; i++) {
        at->theta[i] = theta[i];
        if (theta[i] == 0) at->state = NOWHERE;
    }
}

/* Is there a term of several correlated columns, whose coordinates can be turned? */
static int has_axes(const lmm_model *m)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor && m->trailing->exact; k++)
        if (lay->f[k].nth > lay->f[k].p) return 1;
    return 0;
}

static newton_problem problem_of(fit *t)
{
    newton_problem p = {.n = t->n,
                        .value = fit_value,
                        .derivatives = fit_derivatives,
                        .poll = t->s->poll ? fit_poll : NULL,
                        .syev = t->m->blas.syev,
                        .arg = t,
                        .tolerance = t->s->tolerance,
                        .noise = 1e-14 * (double)t->m->layout.n,
                        .maxeval = t->s->maxeval};
    if (!t->m->trailing->exact) {
        p.noisy = 1;
        p.noise = fmax(p.noise, UNSEEN);
        p.tolerance = fmax(p.tolerance, ENOUGH);
    }
    return p;
}

/* From x to a minimum that is no saddle point. A plane of no variables is a point. */
static newton_end minimize(fit *t, double *x, double *trial, lmm_info *info)
{
    lmm_model *m = t->m;
    const newton_problem p = problem_of(t);
    t->state->turns = !t->plane && has_axes(m) ? TURNS : 0;
    if (!t->n) {
        t->state->f = fit_value(t, x);
        t->state->neval = 1;
        if (!m->trailing->exact) settle_reference(t);
        return isfinite(t->state->f) ? NEWTON_CONVERGED : NEWTON_UNDEFINED;
    }
    for (;;) {
        const newton_end end = newton_minimize(&p, x, t->state, m->scratch.newton);
        if (end == NEWTON_COLLAPSED) {
            turn(m, x, m->scratch.work);
            t->state->turns--;
            t->state->radius = t->s->radius;
            continue;
        }
        if ((end == NEWTON_UNDEFINED || end == NEWTON_NOTFINITE) && m->evaluation.turned) {
            turn_back(m, x); /* rounding decides whether the criterion is finite here: it was, before */
            t->state->turns = 0;
            t->state->radius = t->s->radius;
            continue;
        }
        if (end != NEWTON_CONVERGED || info->escapes > t->n || !leave_saddle(t, x, trial)) return end;
        info->escapes++;
        t->state->radius = t->s->radius;
    }
}

/* x to theta in the user's coordinates and order */
static void result_of(const fit *t, double *x, double *theta)
{
    lmm_model *m = t->m;
    const layout *lay = &m->layout;
    if (!t->plane) change_coordinates(m, x, 1);
    const double *whole = theta_at(t, x);
    for (int k = 0; k < lay->nfactor; k++)
        for (int i = 0; i < lay->f[k].nth; i++) theta[user_place(&lay->f[k], i)] = whole[lay->f[k].th + i];
}

static lmm_status fit_from(fit *t, const double *start, double *theta, lmm_info *info)
{
    lmm_model *m = t->m;
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const ptrdiff_t N = lay->ntheta;
    double *x = m->scratch.newton + newton_workspace(lay->ntheta), *trial = x + N;
    t->x = trial + N, t->rx = trial + 2 * N, t->g = trial + 3 * N, t->rg = trial + 4 * N;
    t->H = trial + 5 * N, t->whole = t->H + N * N;
    info->escapes = 0;
    if (t->plane)
        plane_start(t->plane, start, LIFT, FAR, x);
    else
        first_theta(m, start, x);
    const newton_end end = minimize(t, x, trial, info);
    if (end == NEWTON_UNDEFINED || end == NEWTON_NOTFINITE) {
        ev->turned = 0;
        ev->at.state = NOWHERE;
    }
    if (end == NEWTON_NOTFINITE) return m->trailing->failed ? LMM_UNSOLVED : LMM_NOTFINITE;
    if (end == NEWTON_UNDEFINED)
        return m->trailing->failed ? LMM_UNSOLVED : t->state->neval > 1 ? LMM_EXACT : LMM_NOTPOSDEF;
    if (end == NEWTON_CONVERGED) settle_zeros(t, x, trial);
    turn_back(m, x);
    info->resolution = resolution(m, t->s->reml);
    info->noise = end == NEWTON_CONVERGED ? seen_noise(t, x, trial) : 0;
    result_of(t, x, theta);
    info->objective = !m->trailing->exact ? t->rf : t->state->f;
    stand(t, theta, info->objective);
    info->certificate = t->state->predicted;
    info->neval = t->state->neval;
    return end == NEWTON_CONVERGED ? LMM_OK : end == NEWTON_STOPPED ? LMM_STOPPED : LMM_MAXEVAL;
}

lmm_status lmm_fit(lmm_model *m, const lmm_settings *s, const lmm_plane *within, const double *start,
                   double *theta, lmm_info *info)
{
    newton_state state = {.f = INFINITY, .radius = s->radius};
    fit t = {.m = m, .s = s, .state = &state, .n = m->layout.ntheta};
    if (!within) return fit_from(&t, start, theta, info);
    plane p;
    lmm_status status = plane_open(&p, m, within);
    t.n = p.n;
    t.plane = &p;
    if (status == LMM_OK) status = fit_from(&t, start, theta, info);
    plane_close(&p);
    return status;
}
