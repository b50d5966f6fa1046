/* The criterion as a function of a point: values, derivatives, steps. */

#include "generalized/joint.h"

#include "base/small.h"

#define COARSE 1e-2 /* far away modes may be so inexact, ... */
#define SHARE 1e-5  /* ... or by this share of what the step to there promises, ... */
#define ROUGH 1e-5  /* ... and by this, a row, where a fit begins with a start of its own */
#define NEAR 1e-2   /* share of the same that steps since the factorization may have promised */
#define ROUNDING 4e-16

int joint_fixed(const joint *t)
{
    return t->g->m->layout.p + t->g->family.nextra;
}

ptrdiff_t joint_point(const joint *t)
{
    return t->first + 2 * (ptrdiff_t)t->more;
}

/* (gamma, x) of a point */
void joint_parameters(const joint *t, const double *x, double *out)
{
    const int n = joint_fixed(t);
    memcpy(out, t->fixed, sizeof(double) * (size_t)n);
    for (int j = 0; j < t->more; j++)
        for (int i = 0; i < n; i++) out[i] += t->basis[i + j * (ptrdiff_t)n] * x[t->first + j];
}

/* How inexact a mode may be, and how far from it the factorization */
static void tolerate(const joint *t)
{
    glmm_model *g = t->g;
    const double predicted = t->state->predicted;
    if (isfinite(predicted)) {
        g->enough = fmax(EXACTLY, fmin(COARSE, SHARE * predicted));
        g->near = fmax(g->enough, NEAR * predicted);
    } else
        g->enough = g->near = t->own ? fmax(COARSE, ROUGH * (double)g->rows.n) : COARSE;
}

double joint_value(void *arg, const double *x)
{
    joint *t = arg;
    glmm_model *g = t->g;
    const layout *lay = &g->m->layout;
    double *gamma = g->next, *extra = gamma + lay->p;
    joint_parameters(t, x, gamma);
    if (t->plane)
        factors_of_theta(g->m, plane_theta(t->plane, x), g->Tnew, g->m->scratch.tmp);
    else
        axes_factors(g->m, x, 0, g->Tnew);
    predict_mode(g, g->Tnew, gamma, extra);
    g->begun = g->begun && !memcmp(g->gamma, gamma, sizeof(double) * (size_t)lay->p) &&
               !memcmp(g->x, extra, sizeof(double) * (size_t)g->family.nextra);
    memcpy(g->gamma, gamma, sizeof(double) * (size_t)lay->p);
    memcpy(g->x, extra, sizeof(double) * (size_t)g->family.nextra);
    if (g->nodes)
        set_triangular(g);
    else if (t->plane)
        set_theta(g->m, plane_theta(t->plane, x), 1, FLOOR);
    else
        axes_to_model(g->m, x);
    adopt_mode(g);
    tolerate(t);
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
    joint_parameters(t, x, c + t->g->m->layout.ntheta);
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
        for (ptrdiff_t i = 0; i < t->nt; i++) {
            if (t->plane->still[i]) to[i] = 0;
            t->HF[t->nt + j + i * all] = to[i];
        }
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
    const ptrdiff_t rest = joint_fixed(t), all = t->nt + rest, n = t->nt + t->more;
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
    if (t->plane) {
        plane_move(t->plane, x, step, to);
        memcpy(to + t->nt, x + t->nt, sizeof(double) * (size_t)t->nt);
    } else if (!t->skipped)
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

void joint_anchor(void *arg, double *x)
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

newton_problem joint_problem(joint *t)
{
    /* of sums over rows; what l leaves out, its constant, is as large as l */
    const double rounding = fmax(1e-14 * (double)t->g->rows.n, ROUNDING * fabs(t->g->constant));
    const double noise = fmax(HIDDEN / 10, rounding);
    const newton_problem p = {.n = t->nt + t->more,
                              .nc = joint_size(t->g),
                              .size = joint_point(t),
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
                              .noise = noise,
                              .maxeval = t->s->maxeval};
    return p;
}
