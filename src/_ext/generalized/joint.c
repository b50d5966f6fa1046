/* The fit: theta by principal axes (optimize/axes.h), gamma and x together in one trust region. A point is
   that of the axes, then gamma and x, then the gamma and x from which distances are taken. */

#include <stdlib.h>

#include "base/small.h"
#include "generalized/state.h"
#include "optimize/axes.h"
#include "optimize/newton.h"

#define LIFT 0.01      /* a start that is given is kept so far off the boundary, */
#define FAR 1e3        /* ... and below this */
#define ZERO 30        /* floors up to which a standard deviation is zero */
#define NEGATIVE 1e-5  /* a curvature below -NEGATIVE at a zero is worth a try */
#define FIRST 0.3      /* standard deviations that are tried there: this, a third of it, ... */
#define LEAST 1e-3
#define COARSE 1e-3    /* far away modes may be so inexact, ... */
#define SHARE 1e-6     /* ... or by this share of what the step to there promises */
#define HIDDEN 1e-10   /* what the modes leave unknown of f */

typedef struct {
    glmm_model *g;
    const lmm_settings *s;
    newton_state *state;
    ptrdiff_t axes; /* doubles of the axes of a point */
    int more;       /* p + nextra */
    double *work;   /* axes_work */
} joint;

static ptrdiff_t point_size(const joint *t)
{
    return t->axes + 2 * (ptrdiff_t)t->more;
}

static lmm_status evaluate_at(glmm_model *g)
{
    TRY(find_mode(g));
    return g->nodes ? node_sum(g) : laplace(g);
}

static void find_slopes(glmm_model *g)
{
    if (g->nodes)
        node_slopes(g);
    else
        slopes(g);
}

/* The model's T := Tnew, in its triangular form */
static void set_triangular(glmm_model *g)
{
    double *theta = g->m->scratch.newton;
    theta_of_factors(g->m, g->Tnew, theta);
    set_theta(g->m, theta, 0, FLOOR);
}

static double joint_value(void *arg, const double *x)
{
    joint *t = arg;
    glmm_model *g = t->g;
    const layout *lay = &g->m->layout;
    const double *gamma = x + t->axes, *extra = gamma + lay->p;
    axes_factors(g->m, x, 0, g->Tnew);
    predict_mode(g, g->Tnew, gamma, extra);
    memcpy(g->gamma, gamma, sizeof(double) * (size_t)lay->p);
    memcpy(g->x, extra, sizeof(double) * (size_t)g->family.nextra);
    if (g->nodes)
        set_triangular(g);
    else
        axes_to_model(g->m, x);
    if (g->stands)
        adopt_mode(g);
    else
        start_mode(g);
    g->enough = fmax(EXACTLY, fmin(COARSE, SHARE * t->state->predicted));
    return evaluate_at(g) == LMM_OK ? g->f : INFINITY;
}

static int joint_derivatives_of(void *arg, double *slope, double *A, double *E)
{
    joint *t = arg;
    (void)E;
    find_slopes(t->g);
    joint_derivatives(t->g, slope, A);
    return 0;
}

static void joint_coordinates(void *arg, const double *x, double *c)
{
    const joint *t = arg;
    axes_coordinates(t->g->m, x, c);
    memcpy(c + t->g->m->layout.ntheta, x + t->axes, sizeof(double) * (size_t)t->more);
}

static void joint_tangent(void *arg, const double *x, const double *slope, double *B, double *g, double *H)
{
    const joint *t = arg;
    axes_tangent(t->g->m, x, slope, joint_size(t->g), B, g, H, t->work);
}

static void joint_move(void *arg, const double *x, const double *step, double *to)
{
    const joint *t = arg;
    axes_move(t->g->m, x, step, to, t->work);
    step += t->g->m->layout.ntheta;
    for (ptrdiff_t i = t->axes; i < t->axes + t->more; i++) {
        to[i] = x[i] + step[i - t->axes];
        to[i + t->more] = x[i + t->more];
    }
}

static void joint_anchor(void *arg, double *x)
{
    const joint *t = arg;
    axes_anchor(t->g->m, x);
    memcpy(x + t->axes + t->more, x + t->axes, sizeof(double) * (size_t)t->more);
}

static double joint_distance(void *arg, const double *x)
{
    const joint *t = arg;
    const double d = axes_distance(t->g->m, x);
    double sum = d * d;
    for (ptrdiff_t i = t->axes; i < t->axes + t->more; i++) sum += (x[i] - x[i + t->more]) * (x[i] - x[i + t->more]);
    return sqrt(sum);
}

static double joint_extent(void *arg, const double *x)
{
    const joint *t = arg;
    double most = axes_largest(t->g->m, x);
    for (ptrdiff_t i = t->axes; i < t->axes + t->more; i++) most = fmax(most, fabs(x[i]));
    return most;
}

static int joint_poll(void *arg, const double *x, double f, double best, double radius, double predicted)
{
    joint *t = arg;
    (void)x;
    const lmm_trace trace = {
        .neval = t->state->neval, .objective = f, .best = best, .radius = radius, .predicted = predicted};
    return t->s->poll(t->s->arg, &trace);
}

static newton_problem problem_of(joint *t)
{
    const newton_problem p = {.n = joint_size(t->g),
                              .nc = joint_size(t->g),
                              .size = point_size(t),
                              .value = joint_value,
                              .derivatives = joint_derivatives_of,
                              .coordinates = joint_coordinates,
                              .tangent = joint_tangent,
                              .move = joint_move,
                              .anchor = joint_anchor,
                              .distance = joint_distance,
                              .extent = joint_extent,
                              .poll = t->s->poll ? joint_poll : NULL,
                              .syev = t->g->m->blas.syev,
                              .potrf = t->g->m->blas.potrf,
                              .arg = t,
                              .tolerance = t->s->tolerance,
                              .noise = fmax(HIDDEN / 10, 1e-14 * (double)t->g->rows.n),
                              .maxeval = t->s->maxeval};
    return p;
}

/* ------------------------------------------------------------------------------- where it begins and ends -- */

/* Coefficients of the whitened columns from the user's */
static void whitened(const glmm_model *g, const double *beta, double *gamma)
{
    const layout *lay = &g->m->layout;
    for (int a = 0; a < lay->p; a++) {
        gamma[a] = 0;
        for (int i = 0; i < lay->p; i++) gamma[a] += g->Cinv[a + i * (ptrdiff_t)lay->p] * beta[lay->keep[i]];
    }
}

static lmm_status begin(joint *t, const double *start, double *x)
{
    glmm_model *g = t->g;
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    double *T = g->Tnew, *theta = m->scratch.newton;
    g->stands = 0;
    if (start) {
        from_user(m, start, theta);
        factors_of_theta(m, theta, T, m->scratch.tmp);
        axes_of_factors(m, T, LIFT * g->unit, FAR * g->unit, x, t->work);
        whitened(g, start + lay->ntheta, x + t->axes);
        memcpy(x + t->axes + lay->p, start + lay->ntheta + lay->pfull, sizeof(double) * (size_t)g->family.nextra);
    } else {
        for (int k = 0; k < lay->nfactor; T += lay->f[k].p * lay->f[k].p, k++)
            for (int i = 0; i < lay->f[k].p * lay->f[k].p; i++)
                T[i] = i % (lay->f[k].p + 1) ? 0 : TYPICAL * g->unit;
        axes_of_factors(m, g->Tnew, 0, INFINITY, x, t->work);
        TRY(start_fixed(g));
        start_random(g, x);
        memcpy(x + t->axes, g->gamma, sizeof(double) * (size_t)lay->p);
        memcpy(x + t->axes + lay->p, g->x, sizeof(double) * (size_t)g->family.nextra);
    }
    memcpy(x + t->axes + t->more, x + t->axes, sizeof(double) * (size_t)t->more);
    start_mode(g);
    return LMM_OK;
}

static void to_psi(joint *t, const double *x, double *psi)
{
    glmm_model *g = t->g;
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    double *theta = m->scratch.newton;
    axes_factors(m, x, ZERO * FLOOR * g->unit, g->Tnew);
    theta_of_factors(m, g->Tnew, theta);
    change_coordinates(m, theta, 1);
    for (int k = 0; k < lay->nfactor; k++)
        for (int i = 0; i < lay->f[k].nth; i++) psi[user_place(&lay->f[k], i)] = theta[lay->f[k].th + i];
    fixed_to_user(m, x + t->axes, psi + lay->ntheta);
    memcpy(psi + lay->ntheta + lay->pfull, x + t->axes + lay->p, sizeof(double) * (size_t)g->family.nextra);
}

/* The null axis of one term with the least u'S u replaces the first of them; returns that, and its place. */
static double null_curvature(lmm_model *m, const term *t, double *x, int *place, double *work)
{
    char vectors = 'V', lower = 'L';
    const int k = t->k, p = t->f->p;
    const double *S = m->evaluation.f[t->f->k].S + t->first * (p + 1);
    double *U = x, *s = x + k * k, *N = work, *R = N + k * k, *X = R + k * k, *w = X + k * k, *scratch = w + k;
    double most = 0;
    int n = 0, lwork = 34 * k, info;
    for (int i = 0; i < k; i++) most = fmax(most, s[i]);
    const double none = fmax(FLOOR, 1e-7 * most);
    for (int i = k - 1; i >= 0; i--)
        if (s[i] <= none) {
            memcpy(N + n++ * k, U + i * k, sizeof(double) * (size_t)k);
            *place = i;
        }
    if (!n) return 0;
    mul(k, n, k, 0, S, p, N, k, X, k);
    tmul(n, n, k, 0, N, k, X, k, R, n);
    m->blas.syev(&vectors, &lower, &n, R, &n, w, scratch, &lwork, &info);
    for (int i = 0, j = 0; i < k; i++)
        if (s[i] <= none) mul(k, 1, n, 0, N, k, R + j++ * n, n, U + i * k, k);
    return w[0];
}

/* Does the criterion fall from a zero? Then x moves there. The slopes are those of x, or of a step from it that
   was rejected: then they are found again. */
static int leave_saddle(joint *t, double *x, double *trial, double *work)
{
    const layout *lay = &t->g->m->layout;
    memcpy(trial, x, sizeof(double) * (size_t)point_size(t));
    if (t->state->moved || !t->g->derived) {
        if (!isfinite(joint_value(t, x))) return 0;
        find_slopes(t->g);
        t->state->moved = 0;
    }
    double *place = trial;
    for (term s = {0}; next_term(lay, &s); place += term_size(s.k)) {
        int i = 0;
        const double curvature = null_curvature(t->g->m, &s, place, &i, work);
        double *deviation = place + s.k * s.k + i;
        for (double e = FIRST; curvature < -NEGATIVE && e > LEAST; e /= 3) {
            if (t->state->neval >= t->s->maxeval) return -1;
            *deviation = e * t->g->unit;
            t->state->neval++;
            t->state->moved = 1;
            if (!(joint_value(t, trial) < t->state->f - t->s->tolerance)) continue;
            memcpy(x, trial, sizeof(double) * (size_t)point_size(t));
            return 1;
        }
        if (curvature < -NEGATIVE) *deviation = FLOOR;
    }
    return 0;
}

/* To a minimum that is no saddle point */
static newton_end minimize(joint *t, double *x, double *trial, double *work, glmm_info *info)
{
    const newton_problem p = problem_of(t);
    for (;;) {
        const newton_end end = newton_minimize(&p, x, t->state, work);
        if (end != NEWTON_CONVERGED || info->escapes > joint_size(t->g)) return end;
        if (t->state->ahead) { /* one last step, which costs an evaluation */
            memcpy(trial, t->state->ahead, sizeof(double) * (size_t)point_size(t));
            const double f = joint_value(t, trial);
            t->state->moved = 1;
            if (f <= t->state->f + p.noise * 10) {
                memcpy(x, trial, sizeof(double) * (size_t)point_size(t));
                t->state->f = f;
                t->state->moved = 0;
            }
        }
        const int left = leave_saddle(t, x, trial, work);
        if (left <= 0) return left ? NEWTON_MAXEVAL : end;
        info->escapes++;
        t->state->radius = t->s->radius * t->g->unit;
    }
}

static lmm_status status_of(newton_end end)
{
    switch (end) {
    case NEWTON_CONVERGED: return LMM_OK;
    case NEWTON_STOPPED: return LMM_STOPPED;
    case NEWTON_MAXEVAL: return LMM_MAXEVAL;
    case NEWTON_UNDEFINED: return LMM_NOTPOSDEF;
    case NEWTON_NOTFINITE: break;
    }
    return LMM_NOTFINITE;
}

lmm_status glmm_fit(glmm_model *g, const lmm_settings *s, const double *start, double *psi, glmm_info *info)
{
    const layout *lay = &g->m->layout;
    newton_state state = {.f = INFINITY, .radius = s->radius * g->unit};
    joint t = {.g = g, .s = s, .state = &state, .axes = axes_size(lay), .more = lay->p + g->family.nextra};
    const ptrdiff_t size = point_size(&t), n = joint_size(g), newton = newton_workspace((int)n, (int)n, size);
    double *x = malloc(sizeof(double) * (size_t)(2 * size + newton + axes_work(lay, t.more) + 40 * n));
    if (!x) return LMM_NOMEM;
    double *trial = x + size, *work = trial + size;
    t.work = work + newton;
    memset(info, 0, sizeof(*info));
    g->factorizations = g->passes = 0;
    lmm_status status = begin(&t, start, x);
    if (status == LMM_OK) status = status_of(minimize(&t, x, trial, work, info));
    if (status == LMM_OK || status == LMM_STOPPED || status == LMM_MAXEVAL) {
        const double certificate = state.predicted;
        state.predicted = 0; /* exactly */
        if ((state.moved || g->promise > EXACTLY) && !isfinite(joint_value(&t, x))) status = LMM_NOTFINITE;
        state.predicted = certificate;
        to_psi(&t, x, psi);
    }
    info->objective = g->f;
    info->certificate = state.predicted;
    info->mode = g->promise;
    info->neval = state.neval;
    info->factorizations = g->factorizations;
    info->passes = g->passes;
    free(x);
    return status;
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

lmm_status glmm_evaluate(glmm_model *g, const double *psi, double *f, double *gradient)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const ptrdiff_t T = lay->ntheta, p = lay->p, pfull = lay->pfull, N = g->family.nextra;
    double *theta = m->scratch.newton, *gamma = g->next;
    const double *x = psi + T + pfull;
    from_user(m, psi, theta);
    factors_of_theta(m, theta, g->Tnew, m->scratch.tmp);
    whitened(g, psi + T, gamma);
    predict_mode(g, g->Tnew, gamma, x);
    memcpy(g->gamma, gamma, sizeof(double) * (size_t)p);
    memcpy(g->x, x, sizeof(double) * (size_t)N);
    if (g->nodes)
        set_triangular(g);
    else
        set_theta(m, theta, 1, FLOOR);
    if (g->stands)
        adopt_mode(g);
    else
        start_mode(g);
    g->enough = EXACTLY;
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
