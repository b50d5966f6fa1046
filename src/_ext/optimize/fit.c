/* The fit: a first Sigma, minimize, leave saddle points, and theta of what is found. */

#include "optimize/fit.h"

#include <float.h>
#include <stdlib.h>

#include "optimize/approach.h"
#include "optimize/escape.h"
#include "optimize/start.h"
#include "trailing/trailing.h"
#include "base/small.h"

#define LOW 0.03 /* the start keeps standard deviations over sigma in [LOW, HIGH], off the boundary */
#define HIGH 100
#define LIFT 0.01 /* ... or, where a start is given, in [LIFT, FAR]: beyond FAR ... */
#define FAR 1e3   /* ... rounding is all that it would see */
#define ZERO 30   /* floors up to which a standard deviation is zero */
#define NEXT 1e-2 /* standard deviations next to nothing, of fits in phi */
#define SLOW 2    /* steps near a minimum after which the exact Hessian is wanted, if it is cheap, */
#define MOST_EVALUATIONS 100 /* ... if it costs no more evaluations */
#define MOST_BYTES 1e8       /* ... and no more memory */
#define ENOUGH 1e-7          /* iterative models: a decrease that is small against what chance moves */
#define UNSEEN 1e-8          /* ... and what the tolerance of their iterations hides */
#define CLOSE 1e3 /* tolerances that an approach may leave to the last step, which is taken unseen */
#define STEEP 100 /* T from which rounding is looked at: its square multiplies errors */
#define SAMPLES 4 /* ... by so many evaluations */

lmm_settings lmm_defaults(void)
{
    const lmm_settings s = {.reml = 1, .maxeval = 500, .tolerance = 1e-10, .radius = 1};
    return s;
}

/* -------------------------------------------------------------------------------- what is minimized -- */

/* The criterion of an iterative model: the estimate of the first evaluation, from there the integral of the
   estimated slope over Sigma, one trapezoid a step. The estimates of both are not derivatives of each other;
   the slope is the more accurate and decides. */
static double integrate(fit *t, const double *x)
{
    const int N = t->m->layout.ntheta;
    fit_coordinates(t, x, t->sigma);
    derivatives(t->m, t->s->reml, t->slope, t->A, NULL);
    if (t->m->trailing->failed) return INFINITY;
    memcpy(t->x, x, sizeof(double) * (size_t)fit_size(t));
    t->value = t->begun ? t->last.value : t->f;
    for (int i = 0; t->begun && i < N; i++)
        t->value += (t->slope[i] + t->last.slope[i]) / 2 * (t->sigma[i] - t->last.sigma[i]);
    return t->value;
}

/* The last evaluation is where the next trapezoids begin. */
static void settle_reference(fit *t)
{
    const size_t size = sizeof(double) * (size_t)t->m->layout.ntheta;
    memcpy(t->last.sigma, t->sigma, size);
    memcpy(t->last.slope, t->slope, size);
    memcpy(t->last.x, t->x, sizeof(double) * (size_t)fit_size(t));
    t->last.value = t->value;
    t->last.f = t->f;
    t->begun = 1;
}

double fit_value(void *arg, const double *x)
{
    fit *t = arg;
    if (t->more && t->more->place(t->more->arg, x + fit_theta_size(t))) return t->f = INFINITY;
    if (t->plane)
        set_theta(t->m, plane_theta(t->plane, x), 1, FLOOR);
    else
        axes_to_model(t->m, x);
    t->f = evaluate(t->m, t->s->reml);
    return !t->m->trailing->exact && isfinite(t->f) ? integrate(t, x) : t->f;
}

/* The exact Hessian saves about one evaluation: it is asked for when a fit has taken as many steps near a
   minimum as the evaluations that it costs, and learned further from there on. 0: never. */
static int patience(const lmm_model *m)
{
    const layout *lay = &m->layout;
    double bytes, flops;
    if (!m->trailing->exact || lay->moves) return 0;
    lmm_traces_price(m, &bytes, &flops);
    flops += lay->p * (double)lay->ntheta * lay->ntheta * lay->q;
    const double evaluations = flops / m->flops;
    if (bytes > MOST_BYTES || evaluations > MOST_EVALUATIONS) return 0;
    return evaluations < SLOW ? SLOW : (int)ceil(evaluations);
}

/* Are derivatives in phi alone, not in Sigma? */
static int is_direct(const fit *t)
{
    return t->m->layout.moves || (t->plane && t->plane->few && !t->more);
}

static int fit_derivatives(void *arg, double *slope, double *A, double *E)
{
    fit *t = arg;
    const size_t N = (size_t)t->m->layout.ntheta;
    if (is_direct(t)) {
        direct_derivatives(&t->plane->direct, &t->plane->s, t->m, t->s->reml, t->plane->phi, slope, A);
        return 0;
    }
    if (t->m->trailing->exact) return derivatives(t->m, t->s->reml, slope, A, E);
    settle_reference(t);
    memcpy(slope, t->slope, sizeof(double) * N);
    memcpy(A, t->A, sizeof(double) * N * N);
    return 0;
}

ptrdiff_t fit_size(const fit *t)
{
    return fit_theta_size(t) + more_size(t);
}

ptrdiff_t fit_theta_size(const fit *t)
{
    return t->plane ? 2 * (ptrdiff_t)t->n : axes_size(&t->m->layout);
}

void fit_coordinates(void *arg, const double *x, double *sigma)
{
    const fit *t = arg;
    if (is_direct(t))
        plane_phi(t->plane, x, sigma);
    else if (t->plane)
        plane_coordinates(t->plane, t->m, x, sigma);
    else
        axes_coordinates(t->m, x, sigma);
}

static void fit_tangent(void *arg, const double *x, const double *slope, double *B, double *g, double *H)
{
    const fit *t = arg;
    if (is_direct(t))
        plane_direct_tangent(t->plane, t->m, x, slope, B, g, H);
    else if (t->plane)
        plane_tangent(t->plane, t->m, x, slope, B, g, H);
    else
        axes_tangent(t->m, x, slope, t->n, B, g, H, t->work);
}

/* A point of a plane is x and, behind it, the x from which distances are taken. */
static void fit_move(void *arg, const double *x, const double *step, double *to)
{
    const fit *t = arg;
    if (!t->plane) {
        axes_move(t->m, x, step, to, t->work);
        return;
    }
    plane_move(t->plane, x, step, to);
    memcpy(to + t->n, x + t->n, sizeof(double) * (size_t)t->n);
}

static void fit_anchor(void *arg, double *x)
{
    const fit *t = arg;
    if (t->plane)
        memcpy(x + t->n, x, sizeof(double) * (size_t)t->n);
    else
        axes_anchor(t->m, x);
}

static double fit_distance(void *arg, const double *x)
{
    const fit *t = arg;
    if (!t->plane) return axes_distance(t->m, x);
    double sum = 0;
    for (int i = 0; i < t->n; i++) sum += (x[i] - x[t->n + i]) * (x[i] - x[t->n + i]);
    return sqrt(sum);
}

/* Largest standard deviation over sigma, or variable of a plane */
static double fit_extent(void *arg, const double *x)
{
    const fit *t = arg;
    double most = 0;
    if (!t->plane) return axes_largest(t->m, x);
    for (int i = 0; i < t->n; i++) most = fmax(most, fabs(x[i]));
    return most;
}

static int fit_poll(void *arg, const double *x, double f, double best, double radius, double predicted)
{
    fit *t = arg;
    const double *theta = x;
    if (!t->plane) {
        axes_factors(t->m, x, 0, t->T);
        theta_of_factors(t->m, t->T, t->theta);
        theta = t->theta;
    }
    const lmm_trace trace = {.neval = t->state->neval,
                             .ntheta = t->n,
                             .objective = f,
                             .best = best,
                             .radius = radius,
                             .predicted = predicted,
                             .theta = theta};
    return t->s->poll(t->s->arg, &trace);
}

static newton_problem problem_of(fit *t)
{
    newton_problem p = {.n = t->n,
                        .nc = is_direct(t) ? (int)t->plane->nphi : t->m->layout.ntheta,
                        .size = fit_size(t),
                        .value = fit_value,
                        .derivatives = fit_derivatives,
                        .coordinates = fit_coordinates,
                        .tangent = fit_tangent,
                        .move = fit_move,
                        .anchor = fit_anchor,
                        .distance = fit_distance,
                        .poll = t->s->poll ? fit_poll : NULL,
                        .syev = t->m->blas.syev,
                        .potrf = t->m->blas.potrf,
                        .arg = t,
                        .tolerance = t->s->tolerance,
                        .noise = 1e-14 * (double)t->m->layout.n,
                        .extent = fit_extent,
                        .enough = t->close ? CLOSE * t->s->tolerance : 0,
                        .patience = is_direct(t) ? 0 : patience(t->m),
                        .maxeval = t->s->maxeval};
    if (!t->m->trailing->exact) {
        p.noise = fmax(p.noise, UNSEEN);
        p.tolerance = fmax(p.tolerance, ENOUGH);
    }
    return t->more ? with_more(t, p) : p;
}

/* -------------------------------------------------------------------------------------------- the start --
 */

/* Sigma of moments, its eigenvalues made possible variances. */
static void start_by_moments(fit *t, double *x)
{
    lmm_model *m = t->m;
    const layout *lay = &m->layout;
    const double *sigma = t->sigma;
    double total = 0;
    char vectors = 'V', lower = 'L';
    const int known = moment_estimates(m, t->sigma, m->scratch.newton) == LMM_OK;
    for (int pass = 0; pass < 2; pass++) {
        double *to = x, share = total > sigma[lay->ntheta] ? sigma[lay->ntheta] / total : 1;
        for (term s = {0}; next_term(lay, &s); to += term_size(s.k)) {
            int k = s.k, lwork = 34 * k, info;
            double *E = t->T, *w = E + k * k;
            for (int c = 0; c < k; c++)
                for (int r = c; r < k; r++) E[r + c * k] = sigma[s.th + packed_place(k, r, c)];
            m->blas.syev(&vectors, &lower, &k, E, &k, w, m->scratch.newton, &lwork, &info);
            for (int i = 0; pass == 0 && i < k; i++) total += fmax(w[i], 0);
            for (int i = 0; i < k; i++)
                w[i] = known ? fmin(fmax(sqrt(fmax(share * w[i], 0)), LOW), HIGH) : TYPICAL;
            set_term(to, k, E, w);
        }
    }
}

/* The point of a plane that is nearest to moment estimates */
static void start_near_moments(fit *t, double *x)
{
    lmm_model *m = t->m;
    start_by_moments(t, t->begin);
    axes_factors(m, t->begin, 0, t->T);
    theta_of_factors(m, t->T, t->theta);
    change_coordinates(m, t->theta, 1);
    plane_nearest(t->plane, m, t->theta, x);
    plane_lift(t->plane, LOW, HIGH, x);
}

/* The user's theta, or z, kept off the boundary */
static void start_from(fit *t, const double *start, double *x)
{
    lmm_model *m = t->m;
    if (t->plane) {
        plane_start(t->plane, start, LIFT, FAR, x);
        return;
    }
    from_user(m, start, t->theta);
    factors_of_theta(m, t->theta, t->T, t->work);
    axes_of_factors(m, t->T, LIFT, FAR, x, t->work);
}

/* ---------------------------------------------------------------------------------------------- the end --
 */

/* r^2 is what cancellation leaves of y'Wy = n (whitened): its relative error, times nu. */
static double resolution(const lmm_model *m, int reml)
{
    const evaluation *ev = &m->evaluation;
    return ev->r2 > 0 ? DBL_EPSILON * degrees(m, reml) * (1 + ev->size / ev->r2) : INFINITY;
}

/* Largest entry of any T */
static double largest(const lmm_model *m)
{
    double most = 0;
    for (int k = 0; k < m->layout.nfactor; k++)
        for (int i = 0; i < m->layout.f[k].p * m->layout.f[k].p; i++)
            most = fmax(most, fabs(m->evaluation.f[k].T[i]));
    return most;
}

/* How much rounding moves the criterion f at x, a minimum: its changes with the last digits of x, which exact
   numbers would hide. Taken where cancellation is known to be strong; 0 elsewhere. These looks are no steps
   of the fit: they do not count. */
static double seen_noise(fit *t, const double *x, double f, double *trial)
{
    const evaluation *ev = &t->m->evaluation;
    double most = 0;
    if (!t->m->trailing->exact || (ev->r2 > LITTLE * ev->size && largest(t->m) < STEEP)) return 0;
    for (int s = 0; s < SAMPLES; s++) {
        for (int i = 0; i < fit_size(t); i++)
            trial[i] = x[i] * (1 + DBL_EPSILON * ((3 * i + 5 * s + i * s) % 7 - 3));
        most = fmax(most, fabs(fit_value(t, trial) - f));
    }
    t->state->moved = 1;
    return 2 * most;
}

/* theta of x, in the user's coordinates and elimination order; what is at the floor is zero. */
static void theta_at(fit *t, const double *x, double *theta)
{
    lmm_model *m = t->m;
    if (t->plane) {
        memcpy(theta, plane_theta(t->plane, x), sizeof(double) * (size_t)m->layout.ntheta);
        return;
    }
    axes_factors(m, x, ZERO * FLOOR, t->T);
    theta_of_factors(m, t->T, theta);
    change_coordinates(m, theta, 1);
}

static void to_user(const lmm_model *m, const double *theta, double *user)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++)
        for (int i = 0; i < lay->f[k].nth; i++) user[user_place(&lay->f[k], i)] = theta[lay->f[k].th + i];
}

/* The model stands at theta (the user's). evaluated: where a fit was last, with diagonals at the floor */
static void stand(const fit *t, const double *theta, double f, int evaluated)
{
    standing *at = &t->m->evaluation.at;
    if (!evaluated) at->state = NOWHERE;
    at->reml = t->s->reml;
    at->whitened = 0;
    at->moved = 1;
    at->f = f;
    memcpy(at->theta, theta, sizeof(double) * (size_t)t->m->layout.ntheta);
}

/* The criterion at x with exact zeros, where the model stands then; theta receives the user's. */
static double stand_at(fit *t, const double *x, double *theta)
{
    lmm_model *m = t->m;
    if (t->more) t->more->place(t->more->arg, x + fit_theta_size(t));
    theta_at(t, x, t->theta);
    to_user(m, t->theta, theta);
    set_theta(m, t->theta, 1, 0);
    const double f = evaluate(m, t->s->reml);
    stand(t, theta, f, isfinite(f));
    m->evaluation.at.moved = 0;
    return f;
}

/* Zeros among the standard deviations of x? */
static int has_zeros(const fit *t)
{
    return t->m->evaluation.at.zeros != ANY;
}

/* Standard deviations next to nothing, in z, are zero where the criterion is no higher for that: in phi it is
   flat there, and steps end before zero. */
static void settle_zeros(fit *t, double *z, double *theta, double slack)
{
    double *trial = t->begin;
    memcpy(trial, z, sizeof(double) * (size_t)fit_size(t));
    if (!plane_round_to_zero(t->plane, NEXT, trial)) return;
    t->state->moved = 1;
    if (stand_at(t, trial, theta) <= t->state->f + slack)
        memcpy(z, trial, sizeof(double) * (size_t)fit_size(t));
}

/* Takes the last step, unless the criterion knows better, and leaves the model there. Returns the criterion.
 */
static double arrive(fit *t, double *x, double *theta)
{
    newton_state *s = t->state;
    const double slack = fmax(t->s->tolerance, 1e-13 * (double)t->m->layout.n);
    if (t->plane) {
        double *z = s->ahead ? s->ahead : x;
        if (plane_round_to_zero(t->plane, ZERO * FLOOR, z)) s->moved = 1;
        plane_signs(t->plane, z);
        if (is_direct(t) && t->m->trailing->exact) settle_zeros(t, z, theta, slack);
    }
    if (!t->m->trailing->exact) {
        theta_at(t, s->ahead ? s->ahead : x, t->theta);
        to_user(t->m, t->theta, theta);
        stand(t, theta, t->last.f, 0);
        return t->last.f;
    }
    if (s->ahead) {
        const double f = stand_at(t, s->ahead, theta);
        if (f <= s->f + slack) {
            memcpy(x, s->ahead, sizeof(double) * (size_t)fit_size(t));
            return f;
        }
        s->moved = 1;
    }
    if (s->moved || has_zeros(t)) {
        const double f = stand_at(t, x, theta);
        return isfinite(f) ? f : s->f;
    }
    theta_at(t, x, t->theta);
    to_user(t->m, t->theta, theta);
    stand(t, theta, s->f, 1);
    return s->f;
}

newton_end fit_minimize(fit *t, double *x)
{
    const newton_problem p = problem_of(t);
    return newton_minimize(&p, x, t->state, t->m->scratch.newton);
}

/* From x to a minimum that is no saddle point. A plane of no variables is a point. */
static newton_end minimize(fit *t, double *x, lmm_info *info)
{
    lmm_model *m = t->m;
    if (!t->n && !t->more) {
        t->state->f = fit_value(t, x);
        t->state->neval = 1;
        t->state->predicted = 0;
        if (!m->trailing->exact) settle_reference(t);
        return isfinite(t->state->f) ? NEWTON_CONVERGED : NEWTON_UNDEFINED;
    }
    if (m->approach && !t->plane && !t->more) {
        const newton_end end = approach(t, x);
        if (end == NEWTON_STOPPED) return end;
        t->close = end == NEWTON_CONVERGED;
    }
    for (;;) {
        const newton_end end = fit_minimize(t, x);
        if (end != NEWTON_CONVERGED || info->escapes > t->n) return end;
        const int left = leave_saddle(t, x);
        if (left <= 0) return left ? NEWTON_MAXEVAL : end;
        info->escapes++;
        t->close = 0;
        t->state->radius = t->s->radius;
    }
}

/* Doubles of the minimizer and of the start, which share them; more: other variables */
static ptrdiff_t shared_workspace(const layout *lay, int others)
{
    const int n = (int)moving(lay) + others;
    const ptrdiff_t newton = newton_workspace(n, n, axes_size(lay) + 2 * others), start = start_work(lay);
    return newton > start ? newton : start;
}

static ptrdiff_t workspace_with(const layout *lay, int others)
{
    const ptrdiff_t N = lay->ntheta, M = moving(lay), size = axes_size(lay) + 2 * others;
    return shared_workspace(lay, others) + 4 * size + 6 * N + 1 + M * M + factors_size(lay) +
           axes_work(lay, others);
}

ptrdiff_t fit_workspace(const layout *lay)
{
    return workspace_with(lay, 0);
}

/* Arrays behind those of the minimizer */
static double *lay_out(fit *t)
{
    const layout *lay = &t->m->layout;
    const int others = t->more ? t->more->n : 0;
    const ptrdiff_t N = lay->ntheta, M = moving(lay), size = axes_size(lay) + 2 * others;
    double *x = t->m->scratch.newton + shared_workspace(lay, others);
    t->x = x + size, t->last.x = t->x + size, t->begin = t->last.x + size, t->sigma = t->begin + size;
    t->slope = t->sigma + N + 1, t->last.sigma = t->slope + N, t->last.slope = t->last.sigma + N;
    t->theta = t->last.slope + N, t->A = t->theta + 2 * N, t->T = t->A + M * M;
    t->work = t->T + factors_size(lay);
    return x;
}

/* values: of the other variables, in and out */
static lmm_status fit_from(fit *t, const double *start, double *values, double *theta, double *z,
                           lmm_info *info)
{
    lmm_model *m = t->m;
    double *x = lay_out(t);
    info->escapes = 0;
    m->evaluation.at.reml = t->s->reml;
    if (start)
        start_from(t, start, x);
    else if (m->layout.moves) {
        plane_typical(t->plane, m, x);
        plane_lift(t->plane, LOW, HIGH, x);
    } else if (t->plane)
        start_near_moments(t, x);
    else
        start_by_moments(t, x);
    if (t->more) memcpy(x + fit_theta_size(t), values, sizeof(double) * (size_t)t->more->n);
    const newton_end end = minimize(t, x, info);
    if (end == NEWTON_UNDEFINED || end == NEWTON_NOTFINITE) m->evaluation.at.state = NOWHERE;
    if (end == NEWTON_NOTFINITE) return m->trailing->failed ? LMM_UNSOLVED : LMM_NOTFINITE;
    if (end == NEWTON_UNDEFINED)
        return m->trailing->failed ? LMM_UNSOLVED : t->state->neval > 1 ? LMM_EXACT : LMM_NOTPOSDEF;
    info->certificate = t->state->predicted;
    info->objective = arrive(t, x, theta);
    if (t->plane && z) plane_result(t->plane, x, z);
    info->resolution = resolution(m, t->s->reml);
    info->noise = end == NEWTON_CONVERGED ? seen_noise(t, x, info->objective, t->x) : 0;
    if (info->noise > 0) m->evaluation.at.state = NOWHERE;
    info->neval = t->state->neval;
    if (t->more) {
        memcpy(values, x + fit_theta_size(t), sizeof(double) * (size_t)t->more->n);
        t->more->place(t->more->arg, values);
    }
    return end == NEWTON_CONVERGED ? LMM_OK : end == NEWTON_STOPPED ? LMM_STOPPED : LMM_MAXEVAL;
}

static lmm_status fit_all(lmm_model *m, const lmm_settings *s, const lmm_plane *within, const double *start,
                          const more *others, double *values, double *theta, double *z, lmm_info *info)
{
    newton_state state = {.f = INFINITY, .radius = s->radius};
    fit t = {.m = m, .s = s, .state = &state, .n = m->layout.ntheta, .more = others};
    if (!within) return m->layout.moves ? LMM_UNAVAILABLE : fit_from(&t, start, values, theta, z, info);
    plane p;
    lmm_status status = plane_open(&p, m, within);
    t.n = p.n;
    t.plane = &p;
    if (status == LMM_OK) status = fit_from(&t, start, values, theta, z, info);
    plane_close(&p);
    return status;
}

lmm_status lmm_fit(lmm_model *m, const lmm_settings *s, const lmm_plane *within, const double *start,
                   double *theta, double *z, lmm_info *info)
{
    return fit_all(m, s, within, start, NULL, NULL, theta, z, info);
}

lmm_status fit_with(lmm_model *m, const lmm_settings *s, const lmm_plane *within, const double *start,
                    const more *others, double *values, double *theta, double *z, lmm_info *info)
{
    double *own = m->scratch.newton;
    if (!others->n) return lmm_fit(m, s, within, start, theta, z, info);
    m->scratch.newton = calloc((size_t)workspace_with(&m->layout, others->n) + 1, sizeof(double));
    lmm_status status = LMM_NOMEM;
    if (m->scratch.newton) status = fit_all(m, s, within, start, others, values, theta, z, info);
    free(m->scratch.newton);
    m->scratch.newton = own;
    return status;
}
