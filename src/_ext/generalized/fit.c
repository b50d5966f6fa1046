/* The fit: where it begins, to a minimum that is no saddle point, and psi of what is found. */

#include <stdlib.h>

#include "base/small.h"
#include "generalized/joint.h"
#include "optimize/ended.h"
#include "optimize/escape.h"

#define LIFT 0.01     /* a start that is given is kept so far off the boundary, */
#define FAR 1e3       /* ... and below this */
#define ZERO 30       /* floors up to which a standard deviation is zero */
#define NEGATIVE 1e-5 /* a curvature below -NEGATIVE at a zero is worth a try */
#define FIRST 0.3     /* standard deviations that are tried there: this, a third of it, ... */
#define LEAST 1e-3
#define STRAYED 1e-10 /* so much steps since the factorization may have promised in the end */
#define GONE 15       /* |log| of a size or a dispersion beyond which the criterion hardly feels it, */
#define FELT 8        /* ... and of one that it feels */
#define SHRINKS 8     /* times that a first T may be too large for a criterion to be there */
#define SETTLED                                                                                \
    1e-12 /* what a last step must promise to be taken: estimates move by 1e-6 of their errors \
           */

/* w of the point next to (gamma, x) */
static void nearest(const joint *t, const double *parameters, double *w)
{
    const int n = joint_fixed(t);
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
    g->stands = g->lasts = g->begun = 0;
    if (start) {
        from_user(m, start, theta);
        if (t->plane)
            plane_nearest(t->plane, m, theta, x);
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
        double *axes = t->plane ? t->axes : x;
        axes_of_factors(m, g->Tnew, 0, INFINITY, axes, t->work);
        TRY(start_fixed(g));
        if (g->flat < 0) start_random(g, axes);
        if (t->plane) {
            axes_factors(m, axes, 0, g->Tnew);
            theta_of_factors(m, g->Tnew, theta);
            change_coordinates(m, theta, 1);
            plane_nearest(t->plane, m, theta, x);
            plane_lift(t->plane, LIFT * g->unit, FAR * g->unit, x);
        }
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
    joint_parameters(t, x, g->next);
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
    memcpy(trial, x, sizeof(double) * (size_t)joint_point(t));
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
            memcpy(x, trial, sizeof(double) * (size_t)joint_point(t));
            return 1;
        }
        if (curvature < -NEGATIVE) *deviation = FLOOR;
    }
    return 0;
}

/* Where a size or a dispersion has all but gone the criterion is flat in its logarithm, whichever way it
   falls: nearer points say. 1: one is lower, and x moves there; -1: there are no evaluations left. */
static int leave_plateau(joint *t, double *x, double *trial)
{
    const glmm_model *g = t->g;
    if (g->family.classes || t->more != joint_fixed(t)) return 0; /* thresholds; something is held */
    for (int i = 0; i < g->family.nextra; i++) {
        const ptrdiff_t at = t->first + g->m->layout.p + i;
        if (!(fabs(x[at]) > GONE)) continue;
        for (double nearer = FELT; nearer < GONE; nearer += FELT / 2) {
            if (t->state->neval >= t->s->maxeval) return -1;
            memcpy(trial, x, sizeof(double) * (size_t)joint_point(t));
            trial[at] = copysign(nearer, x[at]);
            t->state->neval++;
            t->state->moved = 1;
            if (!(joint_value(t, trial) < t->state->f - t->s->tolerance)) continue;
            memcpy(x, trial, sizeof(double) * (size_t)joint_point(t));
            return 1;
        }
    }
    return 0;
}

/* To a minimum that is no saddle point */
static newton_end minimize(joint *t, double *x, double *trial, double *work, glmm_info *info)
{
    const newton_problem p = joint_problem(t);
    for (;;) {
        const newton_end end = newton_minimize(&p, x, t->state, work);
        t->own = 0;
        if (end != NEWTON_CONVERGED || info->escapes > p.n) return end;
        if (t->state->ahead && t->state->predicted > SETTLED) { /* one last step, which costs an evaluation */
            memcpy(trial, t->state->ahead, sizeof(double) * (size_t)joint_point(t));
            const double f = joint_value(t, trial);
            t->state->moved = 1;
            if (f <= t->state->f + p.noise * 10) {
                memcpy(x, trial, sizeof(double) * (size_t)joint_point(t));
                t->state->f = f;
                t->state->moved = 0;
            }
        }
        int left = t->plane ? 0 : leave_zero(t, x, trial, work);
        if (!left) left = leave_plateau(t, x, trial);
        if (left <= 0) return left ? NEWTON_MAXEVAL : end;
        info->escapes++;
        t->state->radius = t->s->radius * t->g->unit;
    }
}

/* fixed and basis: those of (beta, x), whitened, the columns made orthonormal; NULL: everything may move.
   LMM_NOTPOSDEF: the columns are dependent. */
static lmm_status open_within(joint *t, const glmm_plane *within)
{
    glmm_model *g = t->g;
    const layout *lay = &g->m->layout;
    const ptrdiff_t n = joint_fixed(t), all = lay->pfull + g->family.nextra;
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
    t->g->stands = t->g->lasts = t->g->begun = 0;
}

static lmm_status run(joint *t, const double *start, double *psi, double *x, double *trial, double *work,
                      glmm_info *info)
{
    glmm_model *g = t->g;
    newton_state *state = t->state;
    t->own = !start;
    TRY(begin(t, start, x));
    lmm_status status = t->nt + t->more ? status_of(minimize(t, x, trial, work, info)) : LMM_OK;
    for (int i = 0; i < SHRINKS && !start && !t->plane && status == LMM_NOTPOSDEF; i++) {
        shrink(t, x);
        status = status_of(minimize(t, x, trial, work, info));
    }
    if (!(t->nt + t->more)) state->predicted = 0, state->moved = 1, state->neval = 1;
    info->certificate = state->predicted;
    if (status != LMM_OK && status != LMM_STOPPED && status != LMM_MAXEVAL) return status;
    if (t->plane && plane_round_to_zero(t->plane, ZERO * FLOOR * g->unit, x)) state->moved = 1;
    state->predicted = 0; /* the mode exactly */
    if ((state->moved || !g->stands || g->promise > EXACTLY || g->strayed > STRAYED) &&
        !isfinite(joint_value(t, x)))
        return LMM_NOTFINITE;
    to_psi(t, x, psi);
    return status;
}

/* A flat factor is held within the plane: no variable moves what is its own */
static lmm_status hold_flat(glmm_model *g, plane *p)
{
    double *theta = g->m->scratch.newton;
    flat_theta(g, theta);
    for (int e = 0; e < p->s.nterm; e++) {
        const piece *own = &p->s.piece[e];
        if (own->t.f->k != g->flat) continue;
        if (own->of) return LMM_UNAVAILABLE;
        for (int i = own->first; i < own->first + own->count; i++)
            for (int j = 0; j < p->n; j++)
                if (p->basis[i + j * p->nphi] != 0) return LMM_UNAVAILABLE;
        memcpy(p->fixed + own->first, theta + own->t.th, sizeof(double) * (size_t)own->count);
    }
    return LMM_OK;
}

lmm_status glmm_fit(glmm_model *g, const lmm_settings *s, const glmm_plane *within, const double *start,
                    double *psi, double *z, glmm_info *info)
{
    const layout *lay = &g->m->layout;
    newton_state state = {.f = INFINITY, .radius = s->radius * g->unit};
    plane p = {0};
    joint t = {.g = g, .s = s, .state = &state, .nt = lay->ntheta, .first = axes_size(lay)};
    lmm_status status = LMM_OK;
    memset(info, 0, sizeof(*info));
    g->factorizations = g->passes = 0;
    g->met = GLMM_NONE;
    if (within && within->theta) {
        status = plane_open(&p, g->m, within->theta);
        t.plane = &p;
        for (int j = 0; j < p.n && status == LMM_OK; j++) p.most[j] = INFINITY; /* there is no sigma */
        t.nt = p.n;
        t.first = 2 * (ptrdiff_t)p.n;
        if (g->flat >= 0 && status == LMM_OK) status = hold_flat(g, &p);
    } else if (g->flat >= 0) {
        t.skip = lay->f[g->flat].th;
        t.skipped = lay->f[g->flat].nth;
        t.nt -= t.skipped;
    }
    t.more = within ? within->nz : joint_fixed(&t);
    const ptrdiff_t size = joint_point(&t), all = joint_size(g), rest = joint_fixed(&t), n = t.nt + t.more,
                    newton = newton_workspace((int)n, (int)all, size);
    const ptrdiff_t axes = axes_work(lay, (int)rest) + 2 * (ptrdiff_t)lay->ntheta * lay->ntheta;
    double *x = malloc(sizeof(double) * (size_t)(2 * size + newton + axes + 40 * all + rest * (t.more + 1) +
                                                 all * (all + 1) + axes_size(lay)));
    if (!x) status = LMM_NOMEM;
    if (status == LMM_OK) {
        double *trial = x + size, *work = trial + size;
        t.work = work + newton;
        t.fixed = t.work + axes + 40 * all;
        t.basis = t.fixed + rest;
        t.gF = t.basis + rest * t.more;
        t.HF = t.gF + all;
        t.axes = t.HF + all * all;
        status = open_within(&t, within);
        if (status == LMM_OK) status = run(&t, start, psi, x, trial, work, info);
        if (t.plane && z) plane_result(t.plane, x, z);
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
