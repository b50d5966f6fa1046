/* The fit: theta by principal axes (optimize/axes.h), gamma and x together in one trust region. A point is
   that of the axes (or of a plane of theta), then w, (gamma, x) = fixed + basis w, then the w from which
   distances are taken. */

#include <stdlib.h>

#include "base/small.h"
#include "generalized/state.h"
#include "optimize/axes.h"
#include "optimize/escape.h"
#include "optimize/newton.h"
#include "optimize/plane.h"

#define LIFT 0.01     /* a start that is given is kept so far off the boundary, */
#define FAR 1e3       /* ... and below this */
#define ZERO 30       /* floors up to which a standard deviation is zero */
#define NEGATIVE 1e-5 /* a curvature below -NEGATIVE at a zero is worth a try */
#define FIRST 0.3     /* standard deviations that are tried there: this, a third of it, ... */
#define LEAST 1e-3
#define COARSE 1e-3 /* far away modes may be so inexact, ... */
#define SHARE 1e-6  /* ... or by this share of what the step to there promises */
#define SHRINKS 8   /* times that a first T may be too large for a criterion to be there */
#define SETTLED \
    1e-12 /* what the last step must promise to be taken: it moves estimates by 1e-6 of their errors */
#define HIDDEN 1e-10 /* what the modes leave unknown of f */

typedef struct {
    glmm_model *g;
    const lmm_settings *s;
    newton_state *state;
    const plane *plane; /* of theta, where some of it is held or tied; NULL: all Sigma, by axes */
    ptrdiff_t first;    /* doubles of theta's part of a point */
    int nt, more;      /* variables of theta, those of a flat factor aside; of (gamma, x) = fixed + basis w */
    int skip, skipped; /* first variable of a flat factor, and their number */
    double *fixed;     /* p + nextra */
    double *basis;     /* (p + nextra) x more, orthonormal columns */
    double *gF, *HF;   /* n, n x n of all coordinates */
    double *work;      /* axes_work */
} joint;

static int all_fixed(const joint *t)
{
    return t->g->m->layout.p + t->g->family.nextra;
}

static ptrdiff_t point_size(const joint *t)
{
    return t->first + 2 * (ptrdiff_t)t->more;
}

/* (gamma, x) of a point */
static void parameters_at(const joint *t, const double *x, double *out)
{
    const int n = all_fixed(t);
    memcpy(out, t->fixed, sizeof(double) * (size_t)n);
    for (int j = 0; j < t->more; j++)
        for (int i = 0; i < n; i++) out[i] += t->basis[i + j * (ptrdiff_t)n] * x[t->first + j];
}

static lmm_status evaluate_at(glmm_model *g)
{
    TRY(find_mode(g));
    TRY(g->nodes ? node_sum(g) : laplace(g));
    add_prior(g);
    return LMM_OK;
}

static void find_slopes(glmm_model *g)
{
    if (g->nodes)
        node_slopes(g);
    else
        slopes(g);
    add_prior_slope(g);
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
    double *gamma = g->next, *extra = gamma + lay->p;
    parameters_at(t, x, gamma);
    if (t->plane)
        factors_of_theta(g->m, plane_theta(t->plane, x), g->Tnew, g->m->scratch.tmp);
    else
        axes_factors(g->m, x, 0, g->Tnew);
    predict_mode(g, g->Tnew, gamma, extra);
    memcpy(g->gamma, gamma, sizeof(double) * (size_t)lay->p);
    memcpy(g->x, extra, sizeof(double) * (size_t)g->family.nextra);
    if (g->nodes)
        set_triangular(g);
    else if (t->plane)
        set_theta(g->m, plane_theta(t->plane, x), 1, FLOOR);
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
    if (t->plane)
        plane_coordinates(t->plane, t->g->m, x, c);
    else
        axes_coordinates(t->g->m, x, c);
    parameters_at(t, x, c + t->g->m->layout.ntheta);
}

/* Theta's rows and columns of the derivatives in (Sigma, gamma, x) become those of its variables: gF, HF */
static void tangent_of_theta(const joint *t, const double *x, const double *slope, double *B)
{
    const lmm_model *m = t->g->m;
    const ptrdiff_t N = m->layout.ntheta, n = joint_size(t->g), rest = n - N, all = t->nt + rest;
    if (!t->plane) {
        axes_tangent(m, x, slope, (int)n, B, t->gF, t->HF, t->work);
        return;
    }
    double *block = t->work, *H = block + N * N; /* of theta alone */
    for (ptrdiff_t j = 0; j < N; j++) memcpy(block + j * N, B + j * n, sizeof(double) * (size_t)N);
    plane_tangent(t->plane, m, x, slope, block, t->gF, H);
    memcpy(t->gF + t->nt, slope + N, sizeof(double) * (size_t)rest);
    for (ptrdiff_t j = 0; j < t->nt; j++)
        memcpy(t->HF + j * all, H + j * t->nt, sizeof(double) * (size_t)t->nt);
    for (ptrdiff_t j = 0; j < rest; j++) {
        double *to = t->HF + (t->nt + j) * all;
        plane_pull(t->plane, m, x, B + (N + j) * n, to);
        for (ptrdiff_t i = 0; i < t->nt; i++) t->HF[t->nt + j + i * all] = to[i];
        memcpy(to + t->nt, B + N + (N + j) * n, sizeof(double) * (size_t)rest);
    }
}

/* gF and HF without the variables of a flat factor: n are left */
static void forget_flat(const joint *t, ptrdiff_t n)
{
    const ptrdiff_t all = n + t->skipped;
    if (!t->skipped) return;
    for (ptrdiff_t j = 0, to = 0; j < all; j++) {
        if (j >= t->skip && j < t->skip + t->skipped) continue;
        t->gF[to] = t->gF[j];
        for (ptrdiff_t i = 0, at = 0; i < all; i++)
            if (i < t->skip || i >= t->skip + t->skipped) t->HF[at++ + to * n] = t->HF[i + j * all];
        to++;
    }
}

/* ... and those of gamma and x those of w: g := R'gF, H := R'HF R, R = (I, basis) */
static void joint_tangent(void *arg, const double *x, const double *slope, double *B, double *g, double *H)
{
    const joint *t = arg;
    const ptrdiff_t rest = all_fixed(t), all = t->nt + rest, n = t->nt + t->more;
    double *half = B; /* all x n: B has been read */
    tangent_of_theta(t, x, slope, B);
    forget_flat(t, all);
    memcpy(g, t->gF, sizeof(double) * (size_t)t->nt);
    memcpy(half, t->HF, sizeof(double) * (size_t)(all * t->nt));
    mul((int)all, t->more, (int)rest, 0, t->HF + t->nt * all, (int)all, t->basis, (int)rest,
        half + t->nt * all, (int)all);
    tmul(t->more, 1, (int)rest, 0, t->basis, (int)rest, t->gF + t->nt, (int)rest, g + t->nt, t->more);
    for (ptrdiff_t j = 0; j < n; j++) memcpy(H + j * n, half + j * all, sizeof(double) * (size_t)t->nt);
    tmul(t->more, (int)n, (int)rest, 0, t->basis, (int)rest, half + t->nt, (int)all, H + t->nt, (int)n);
    symmetrize((int)n, H);
}

static void joint_move(void *arg, const double *x, const double *step, double *to)
{
    const joint *t = arg;
    if (t->plane)
        for (int i = 0; i < t->nt; i++) {
            to[i] = x[i] + step[i];
            to[t->nt + i] = x[t->nt + i];
        }
    else if (!t->skipped)
        axes_move(t->g->m, x, step, to, t->work);
    else { /* a flat factor stays */
        double *whole = t->gF;
        for (int i = 0, from = 0; i < t->nt + t->skipped; i++)
            whole[i] = i >= t->skip && i < t->skip + t->skipped ? 0 : step[from++];
        axes_move(t->g->m, x, whole, to, t->work);
    }
    for (int i = 0; i < t->more; i++) {
        to[t->first + i] = x[t->first + i] + step[t->nt + i];
        to[t->first + t->more + i] = x[t->first + t->more + i];
    }
}

static void joint_anchor(void *arg, double *x)
{
    const joint *t = arg;
    if (t->plane)
        memcpy(x + t->nt, x, sizeof(double) * (size_t)t->nt);
    else
        axes_anchor(t->g->m, x);
    memcpy(x + t->first + t->more, x + t->first, sizeof(double) * (size_t)t->more);
}

static double joint_distance(void *arg, const double *x)
{
    const joint *t = arg;
    double sum = 0;
    if (t->plane)
        for (int i = 0; i < t->nt; i++) sum += (x[i] - x[t->nt + i]) * (x[i] - x[t->nt + i]);
    else {
        const double d = axes_distance(t->g->m, x);
        sum = d * d;
    }
    for (const double *w = x + t->first; w < x + t->first + t->more; w++)
        sum += (*w - w[t->more]) * (*w - w[t->more]);
    return sqrt(sum);
}

static double joint_extent(void *arg, const double *x)
{
    const joint *t = arg;
    double most = t->plane ? 0 : axes_largest(t->g->m, x);
    for (int i = 0; t->plane && i < t->nt; i++) most = fmax(most, fabs(x[i]));
    for (int i = 0; i < t->more; i++) most = fmax(most, fabs(x[t->first + i]));
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
    const newton_problem p = {.n = t->nt + t->more,
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

/* ------------------------------------------------------------------------------- where it begins and ends --
 */

/* Coefficients of the whitened columns from the user's */
static void whitened(const glmm_model *g, const double *beta, double *gamma)
{
    const layout *lay = &g->m->layout;
    for (int a = 0; a < lay->p; a++) {
        gamma[a] = 0;
        for (int i = 0; i < lay->p; i++) gamma[a] += g->Cinv[a + i * (ptrdiff_t)lay->p] * beta[lay->keep[i]];
    }
}

/* w of the point next to (gamma, x) */
static void nearest(const joint *t, const double *parameters, double *w)
{
    const int n = all_fixed(t);
    for (int j = 0; j < t->more; j++) {
        w[j] = 0;
        for (int i = 0; i < n; i++) w[j] += t->basis[i + j * (ptrdiff_t)n] * (parameters[i] - t->fixed[i]);
    }
}

/* T = FLAT I of a flat factor */
static void flatten(const joint *t, double *x)
{
    const layout *lay = &t->g->m->layout;
    if (t->g->flat < 0 || t->plane) return;
    for (term s = {0}; next_term(lay, &s); x += term_size(s.k)) {
        if (s.f->k != t->g->flat) continue;
        for (int i = 0; i < s.k * s.k; i++) x[i] = i % (s.k + 1) == 0;
        for (int i = 0; i < s.k; i++) x[s.k * s.k + i] = FLAT * t->g->unit;
    }
}

static lmm_status begin(joint *t, const double *start, double *x)
{
    glmm_model *g = t->g;
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    double *T = g->Tnew, *theta = m->scratch.newton, *parameters = g->next;
    g->stands = 0;
    if (start) {
        from_user(m, start, theta);
        if (t->plane)
            plane_nearest(t->plane, theta, x);
        else {
            factors_of_theta(m, theta, T, m->scratch.tmp);
            axes_of_factors(m, T, LIFT * g->unit, FAR * g->unit, x, t->work);
        }
        whitened(g, start + lay->ntheta, parameters);
        memcpy(parameters + lay->p, start + lay->ntheta + lay->pfull,
               sizeof(double) * (size_t)g->family.nextra);
    } else {
        for (int k = 0; k < lay->nfactor; T += lay->f[k].p * lay->f[k].p, k++)
            for (int i = 0; i < lay->f[k].p * lay->f[k].p; i++)
                T[i] = i % (lay->f[k].p + 1) ? 0 : TYPICAL * g->unit;
        axes_of_factors(m, g->Tnew, 0, INFINITY, x, t->work);
        TRY(start_fixed(g));
        if (g->flat < 0) start_random(g, x);
        memcpy(parameters, g->gamma, sizeof(double) * (size_t)lay->p);
        memcpy(parameters + lay->p, g->x, sizeof(double) * (size_t)g->family.nextra);
    }
    flatten(t, x);
    nearest(t, parameters, x + t->first);
    joint_anchor(t, x);
    start_mode(g);
    return LMM_OK;
}

static void to_psi(joint *t, const double *x, double *psi)
{
    glmm_model *g = t->g;
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    double *theta = m->scratch.newton;
    if (t->plane)
        memcpy(theta, plane_theta(t->plane, x), sizeof(double) * (size_t)lay->ntheta);
    else {
        axes_factors(m, x, ZERO * FLOOR * g->unit, g->Tnew);
        theta_of_factors(m, g->Tnew, theta);
        change_coordinates(m, theta, 1);
    }
    for (int k = 0; k < lay->nfactor; k++)
        for (int i = 0; i < lay->f[k].nth; i++) psi[user_place(&lay->f[k], i)] = theta[lay->f[k].th + i];
    parameters_at(t, x, g->next);
    fixed_to_user(m, g->next, psi + lay->ntheta);
    memcpy(psi + lay->ntheta + lay->pfull, g->next + lay->p, sizeof(double) * (size_t)g->family.nextra);
}

/* Is a standard deviation next to nothing? */
static int has_zeros(const layout *lay, const double *x)
{
    for (term t = {0}; next_term(lay, &t); x += term_size(t.k)) {
        const double *s = x + t.k * t.k;
        double most = 0;
        for (int i = 0; i < t.k; i++) most = fmax(most, s[i]);
        for (int i = 0; i < t.k; i++)
            if (s[i] <= fmax(FLOOR, NOTHING * most)) return 1;
    }
    return 0;
}

/* Does the criterion fall from a zero? Then x moves there. The slopes are those of x, or of a step from it
   that was rejected: then they are found again. */
static int leave_zero(joint *t, double *x, double *trial, double *work)
{
    const layout *lay = &t->g->m->layout;
    if (!has_zeros(lay, x)) return 0;
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
        if (end != NEWTON_CONVERGED || info->escapes > p.n) return end;
        if (t->state->ahead && t->state->predicted > SETTLED) { /* one last step, which costs an evaluation */
            memcpy(trial, t->state->ahead, sizeof(double) * (size_t)point_size(t));
            const double f = joint_value(t, trial);
            t->state->moved = 1;
            if (f <= t->state->f + p.noise * 10) {
                memcpy(x, trial, sizeof(double) * (size_t)point_size(t));
                t->state->f = f;
                t->state->moved = 0;
            }
        }
        const int left = t->plane ? 0 : leave_zero(t, x, trial, work);
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

/* fixed and basis: those of (beta, x), whitened, the columns made orthonormal; NULL: everything may move.
   LMM_NOTPOSDEF: the columns are dependent. */
static lmm_status open_within(joint *t, const glmm_plane *within)
{
    glmm_model *g = t->g;
    const layout *lay = &g->m->layout;
    const ptrdiff_t n = all_fixed(t), all = lay->pfull + g->family.nextra;
    for (ptrdiff_t j = -1; j < t->more; j++) {
        double *to = j < 0 ? t->fixed : t->basis + j * n, size = 0;
        if (!within) {
            for (ptrdiff_t i = 0; i < n; i++) to[i] = i == j;
            continue;
        }
        const double *from = j < 0 ? within->fixed : within->basis + j * all;
        whitened(g, from, to);
        memcpy(to + lay->p, from + lay->pfull, sizeof(double) * (size_t)g->family.nextra);
        for (ptrdiff_t i = 0; i < n; i++) size += to[i] * to[i];
        for (int twice = 0; twice < 2 && j > 0; twice++)
            for (ptrdiff_t k = 0; k < j; k++) {
                const double along = dot(n, to, t->basis + k * n);
                for (ptrdiff_t i = 0; i < n; i++) to[i] -= along * t->basis[k * n + i];
            }
        const double left = dot(n, to, to);
        if (j >= 0 && !(left > 1e-24 * size && left > 0)) return LMM_NOTPOSDEF;
        for (ptrdiff_t i = 0; i < n && j >= 0; i++) to[i] /= sqrt(left);
    }
    return LMM_OK;
}

/* A third of every T */
static void shrink(const joint *t, double *x)
{
    const lmm_model *m = t->g->m;
    axes_factors(m, x, 0, t->g->Tnew);
    for (ptrdiff_t i = 0; i < factors_size(&m->layout); i++) t->g->Tnew[i] /= 3;
    axes_of_factors(m, t->g->Tnew, FLOOR, INFINITY, x, t->work);
    flatten(t, x);
    joint_anchor((void *)t, x);
    t->g->stands = 0;
}

static lmm_status run(joint *t, const double *start, double *psi, double *x, double *trial, double *work,
                      glmm_info *info)
{
    glmm_model *g = t->g;
    newton_state *state = t->state;
    TRY(begin(t, start, x));
    lmm_status status = t->nt + t->more ? status_of(minimize(t, x, trial, work, info)) : LMM_OK;
    for (int i = 0; i < SHRINKS && !start && status == LMM_NOTPOSDEF; i++) {
        shrink(t, x);
        status = status_of(minimize(t, x, trial, work, info));
    }
    if (!(t->nt + t->more)) state->predicted = 0, state->moved = 1, state->neval = 1;
    info->certificate = state->predicted;
    if (status != LMM_OK && status != LMM_STOPPED && status != LMM_MAXEVAL) return status;
    state->predicted = 0; /* the mode exactly */
    if ((state->moved || !g->stands || g->promise > EXACTLY) && !isfinite(joint_value(t, x)))
        return LMM_NOTFINITE;
    to_psi(t, x, psi);
    return status;
}

lmm_status glmm_fit(glmm_model *g, const lmm_settings *s, const glmm_plane *within, const double *start,
                    double *psi, glmm_info *info)
{
    const layout *lay = &g->m->layout;
    newton_state state = {.f = INFINITY, .radius = s->radius * g->unit};
    plane p = {0};
    joint t = {.g = g, .s = s, .state = &state, .nt = lay->ntheta, .first = axes_size(lay)};
    lmm_status status = LMM_OK;
    memset(info, 0, sizeof(*info));
    g->factorizations = g->passes = 0;
    if (within && within->theta) {
        status = plane_open(&p, g->m, within->theta);
        t.plane = &p;
        t.nt = p.n;
        t.first = 2 * (ptrdiff_t)p.n;
    }
    if (g->flat >= 0) {
        if (t.plane) status = LMM_UNAVAILABLE;
        t.skip = lay->f[g->flat].th;
        t.skipped = lay->f[g->flat].nth;
        t.nt -= t.skipped;
    }
    t.more = within ? within->nz : all_fixed(&t);
    const ptrdiff_t size = point_size(&t), all = joint_size(g), rest = all_fixed(&t), n = t.nt + t.more,
                    newton = newton_workspace((int)n, (int)all, size);
    const ptrdiff_t axes = axes_work(lay, (int)rest) + 2 * (ptrdiff_t)lay->ntheta * lay->ntheta;
    double *x = malloc(sizeof(double) *
                       (size_t)(2 * size + newton + axes + 40 * all + rest * (t.more + 1) + all * (all + 1)));
    if (!x) status = LMM_NOMEM;
    if (status == LMM_OK) {
        double *trial = x + size, *work = trial + size;
        t.work = work + newton;
        t.fixed = t.work + axes + 40 * all;
        t.basis = t.fixed + rest;
        t.gF = t.basis + rest * t.more;
        t.HF = t.gF + all;
        status = open_within(&t, within);
        if (status == LMM_OK) status = run(&t, start, psi, x, trial, work, info);
    }
    info->objective = g->f;
    info->mode = g->promise;
    info->neval = state.neval;
    info->factorizations = g->factorizations;
    info->passes = g->passes;
    free(x);
    plane_close(&p);
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

/* The user's theta of a flat factor: the triangle of which FLAT C FLAT C' is the square */
static void flat_theta(glmm_model *g, double *theta)
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

lmm_status glmm_evaluate(glmm_model *g, const double *psi, double *f, double *gradient)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const ptrdiff_t T = lay->ntheta, p = lay->p, pfull = lay->pfull, N = g->family.nextra;
    double *theta = m->scratch.newton, *gamma = g->next;
    const double *x = psi + T + pfull;
    from_user(m, psi, theta);
    flat_theta(g, theta);
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
