/* Trust region with the exact subproblem: minimize g's + s'H s/2 over |s| <= radius through the
   eigendecomposition of H (More & Sorensen 1983), which may be indefinite. */

#include "newton.h"

#include <math.h>
#include <string.h>

#define ACCEPT 1e-4     /* least share of the predicted decrease that a step must keep */
#define NEGLIGIBLE 0.01 /* share of the tolerance below which the last step is not taken */
#define RESETS 3        /* how often a collapsed radius is opened again before giving up */

ptrdiff_t newton_workspace(int n)
{
    const ptrdiff_t N = n;
    return 2 * N * N + 6 * N + 34 * N + 8;
}

typedef struct { /* the model at x: H = Q diag(w) Q'                                  */
    double *g, *H, *Q, *w, *gq, *sq, *trial, *scratch;
} local_model;

/* Eigendecomposition of H, gradient in its axes. */
static void decompose(const newton_problem *p, local_model *m)
{
    char vectors = 'V', lower = 'L';
    int n = p->n, lwork = 34 * n, info;
    memcpy(m->Q, m->H, sizeof(double) * (size_t)n * (size_t)n);
    p->syev(&vectors, &lower, &n, m->Q, &n, m->w, m->scratch, &lwork, &info);
    for (int i = 0; i < n; i++) {
        m->gq[i] = 0;
        for (int j = 0; j < n; j++) m->gq[i] += m->Q[j + (ptrdiff_t)i * n] * m->g[j];
    }
}

static double step_length(int n, const local_model *m, double shift)
{
    double s = 0;
    for (int i = 0; i < n; i++) {
        const double t = m->gq[i] / (m->w[i] + shift);
        s += t * t;
    }
    return sqrt(s);
}

/* Step in the axes of H, not longer than the radius. Returns the decrease that the model predicts. */
static double solve_subproblem(int n, local_model *m, double radius, int *bounded)
{
    double largest = 1e-300, gnorm = 0, shift = 0, predicted = 0;
    for (int i = 0; i < n; i++) {
        largest = fmax(largest, fabs(m->w[i]));
        gnorm += m->gq[i] * m->gq[i];
    }
    gnorm = sqrt(gnorm);
    *bounded = !(m->w[0] > 1e-12 * largest) || step_length(n, m, 0) > radius;
    if (*bounded) {
        double low = fmax(0, -m->w[0]) + 1e-14 * largest, high = low + gnorm / radius + 1e-10 * largest;
        for (int i = 0; i < 200 && high - low > 1e-13 * high; i++) {
            const double mid = (low + high) / 2;
            if (step_length(n, m, mid) > radius)
                low = mid;
            else
                high = mid;
        }
        shift = high;
    }
    for (int i = 0; i < n; i++) {
        m->sq[i] = -m->gq[i] / (m->w[i] + shift);
        predicted -= m->sq[i] * (m->gq[i] + 0.5 * m->w[i] * m->sq[i]);
    }
    return predicted;
}

static double take_step(int n, local_model *m, const double *x)
{
    double length = 0;
    memcpy(m->trial, x, sizeof(double) * (size_t)n);
    for (int i = 0; i < n; i++) {
        length += m->sq[i] * m->sq[i];
        for (int j = 0; j < n; j++) m->trial[j] += m->Q[j + (ptrdiff_t)i * n] * m->sq[i];
    }
    return sqrt(length);
}

/* The certificate: what an unbounded step from here promises. Takes that step when it is a Newton step:
   too small to be worth a look at f, it still makes x more accurate. */
static newton_end finish(const newton_problem *p, local_model *m, newton_state *s, double *x)
{
    int bounded;
    s->predicted = solve_subproblem(p->n, m, fmax(s->radius, 1), &bounded);
    if (!bounded && s->predicted > p->tolerance * NEGLIGIBLE) {
        take_step(p->n, m, x);
        memcpy(x, m->trial, sizeof(double) * (size_t)p->n);
        s->moved = 1;
    }
    return NEWTON_CONVERGED;
}

newton_end newton_minimize(const newton_problem *p, double *x, newton_state *s, double *work)
{
    const int n = p->n;
    const ptrdiff_t nn = (ptrdiff_t)n * n;
    local_model m = {.H = work, .Q = work + nn, .g = work + 2 * nn};
    m.w = m.g + n, m.gq = m.w + n, m.sq = m.gq + n, m.trial = m.sq + n, m.scratch = m.trial + n;
    int resets = 0, bounded;
    double blind = INFINITY; /* decrease promised by the last step whose gain rounding hides */

    s->f = p->value(p->arg, x);
    s->neval++;
    if (!isfinite(s->f)) return NEWTON_UNDEFINED;
    s->predicted = INFINITY;
    s->moved = 0;
    if (p->poll && p->poll(p->arg, x, s->f, s->f, s->radius, NAN)) return NEWTON_STOPPED;
    p->derivatives(p->arg, m.g, m.H);
    decompose(p, &m);
    for (;;) {
        s->predicted = solve_subproblem(n, &m, s->radius, &bounded);
        if (s->predicted < p->tolerance) {
            if (!bounded || s->radius >= 1 || resets++ == RESETS) return finish(p, &m, s, x);
            s->radius = 1;
            continue;
        }
        if (s->predicted < 10 * p->noise && s->predicted > 0.5 * blind) return finish(p, &m, s, x);
        if (s->neval >= p->maxeval) return NEWTON_MAXEVAL;
        const double length = take_step(n, &m, x), f = p->value(p->arg, m.trial), gain = s->f - f;
        s->neval++;
        const double predicted = s->predicted;
        const int hidden = predicted < 10 * p->noise && gain > -10 * p->noise;
        const double rho = hidden ? 1 : isfinite(f) ? gain / predicted : -1;
        if (predicted < 10 * p->noise) blind = predicted;
        if (rho < 0.25)
            s->radius = length / 4;
        else if (rho > 0.75)
            s->radius = fmax(s->radius, 2.5 * length);
        if (rho > ACCEPT) {
            memcpy(x, m.trial, sizeof(double) * (size_t)n);
            s->f = f;
        }
        if (p->poll && p->poll(p->arg, m.trial, f, s->f, s->radius, predicted)) return NEWTON_STOPPED;
        s->moved = !(rho > ACCEPT);
        if (rho > ACCEPT) {
            p->derivatives(p->arg, m.g, m.H);
            decompose(p, &m);
        }
    }
}
