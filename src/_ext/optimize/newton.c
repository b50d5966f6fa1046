/* Trust region with the exact subproblem: minimize g's + s'H s/2 over |s| <= radius through the
   eigendecomposition of H (More & Sorensen 1983), which may be indefinite. */

#include "optimize/newton.h"

#include <math.h>
#include <string.h>

#define ACCEPT 1e-4     /* least share of the predicted decrease that a step must keep */
#define NEGLIGIBLE 0.01 /* share of the tolerance below which the last step is not taken */
#define SLOW 4          /* so many slow steps in a row (and n/4 more) call for the measured Hessian */
#define DIFFERENCE 1e-5 /* its step, in units of x */
#define DOUBTED 0.1     /* a trust radius that shows that quadratic models failed on the way here */
#define RESETS 3        /* how often a collapsed radius is opened again before giving up */

ptrdiff_t newton_workspace(int n)
{
    const ptrdiff_t N = n;
    return 3 * N * N + 7 * N + 34 * N + 8;
}

typedef struct {     /* the model at x: H [+ E] = Q diag(w) Q'                                  */
    double *g, *H;   /* gradient and the given curvature                                   */
    double *E;       /* what H lacks of the Hessian, measured where it was too slow        */
    int augmented;   /* is E part of the model?                                            */
    int fresh;       /* was E measured at this x?                                          */
    int slow;        /* steps in a row that hardly lowered the promised decrease           */
    double *Q, *w;   /* eigenvectors and eigenvalues                                       */
    double *gq, *sq; /* gradient and step in their axes                                    */
    double *trial;   /* x + step                                                           */
    double *step, *scratch;
} local_model;

static int is_finite(ptrdiff_t n, const double *x)
{
    for (ptrdiff_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

/* Eigendecomposition of the curvature, gradient in its axes. */
static void decompose(const newton_problem *p, local_model *m)
{
    char vectors = 'V', lower = 'L';
    int n = p->n, lwork = 34 * n, info;
    memcpy(m->Q, m->H, sizeof(double) * (size_t)n * (size_t)n);
    for (ptrdiff_t i = 0; m->augmented && i < (ptrdiff_t)n * n; i++) m->Q[i] += m->E[i];
    p->syev(&vectors, &lower, &n, m->Q, &n, m->w, m->scratch, &lwork, &info);
    for (int i = 0; i < n; i++) {
        m->gq[i] = 0;
        for (int j = 0; j < n; j++) m->gq[i] += m->Q[j + (ptrdiff_t)i * n] * m->g[j];
    }
}

/* The model at the last x. Nonzero: the derivatives are not finite. */
static int differentiate(const newton_problem *p, local_model *m)
{
    p->derivatives(p->arg, m->g, m->H);
    if (!is_finite(p->n, m->g) || !is_finite((ptrdiff_t)p->n * p->n, m->H)) return 1;
    decompose(p, m);
    return 0;
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
    memset(m->step, 0, sizeof(double) * (size_t)n);
    for (int i = 0; i < n; i++) {
        length += m->sq[i] * m->sq[i];
        for (int j = 0; j < n; j++) m->step[j] += m->Q[j + (ptrdiff_t)i * n] * m->sq[i];
    }
    for (int j = 0; j < n; j++) m->trial[j] = x[j] + m->step[j];
    return sqrt(length);
}

/* E := Hessian - H by differences of the exact gradient at x: n evaluations, for where H is no good.
   Returns 1 when the poll callback stops. */
static int measure_hessian(const newton_problem *p, local_model *m, newton_state *s, const double *x)
{
    const int n = p->n;
    int stop = 0;
    for (int j = 0; j < n && !stop; j++) {
        double *column = m->E + (ptrdiff_t)j * n;
        const double h = DIFFERENCE * fmax(1, fabs(x[j]));
        memcpy(m->trial, x, sizeof(double) * (size_t)n);
        m->trial[j] += h;
        const double f = p->value(p->arg, m->trial);
        s->neval++;
        if (!isfinite(f)) { /* H stands alone */
            memset(m->E, 0, sizeof(double) * (size_t)n * (size_t)n);
            break;
        }
        p->derivatives(p->arg, column, NULL);
        if (!is_finite(n, column)) {
            memset(m->E, 0, sizeof(double) * (size_t)n * (size_t)n);
            break;
        }
        for (int i = 0; i < n; i++) column[i] = (column[i] - m->g[i]) / h - m->H[i + (ptrdiff_t)j * n];
        stop = p->poll && p->poll(p->arg, m->trial, f, s->f, s->radius, NAN);
    }
    for (int j = 0; j < n; j++)
        for (int i = 0; i < j; i++) {
            double *upper = &m->E[i + (ptrdiff_t)j * n], *under = &m->E[j + (ptrdiff_t)i * n];
            *upper = *under = (*upper + *under) / 2;
        }
    m->augmented = m->fresh = 1;
    s->moved = 1;
    return stop;
}

static void drop_correction(const newton_problem *p, local_model *m)
{
    m->augmented = m->slow = 0;
    decompose(p, m);
}

/* Steps that are worth a promise: of the size of x, at least one. */
static double horizon(int n, const double *x)
{
    double size = 1;
    for (int i = 0; i < n; i++) size = fmax(size, fabs(x[i]));
    return size;
}

/* The certificate: what the best step from here promises, within the radius. Takes that step when it is a
   Newton step: too small to be worth a look at f, it still makes x more accurate. */
static newton_end finish(const newton_problem *p, local_model *m, newton_state *s, double *x, double radius)
{
    int bounded;
    if (m->augmented && !m->fresh && !(m->w[0] > 0)) drop_correction(p, m);
    s->predicted = solve_subproblem(p->n, m, radius, &bounded);
    if (!bounded && s->predicted > p->tolerance * NEGLIGIBLE) {
        take_step(p->n, m, x);
        memcpy(x, m->trial, sizeof(double) * (size_t)p->n);
        s->moved = 1;
    }
    return NEWTON_CONVERGED;
}

/* The trust region knows f only where it collapsed. The certificate is what a step of any size promises by
   the Hessian measured there (iterative models: by what was seen). */
static newton_end finish_collapsed(const newton_problem *p, local_model *m, newton_state *s, double *x)
{
    if (p->noisy) return finish(p, m, s, x, s->radius);
    if (!m->fresh) {
        if (measure_hessian(p, m, s, x)) return NEWTON_STOPPED;
        decompose(p, m);
    }
    return finish(p, m, s, x, horizon(p->n, x));
}

newton_end newton_minimize(const newton_problem *p, double *x, newton_state *s, double *work)
{
    const int n = p->n;
    const ptrdiff_t nn = (ptrdiff_t)n * n;
    local_model m = {.H = work, .Q = work + nn, .E = work + 2 * nn, .g = work + 3 * nn};
    m.w = m.g + n, m.gq = m.w + n, m.sq = m.gq + n, m.trial = m.sq + n, m.step = m.trial + n;
    m.scratch = m.step + n;
    memset(m.E, 0, sizeof(double) * (size_t)nn);
    int resets = 0, bounded;
    double last = INFINITY;  /* decrease promised by the last step */
    double blind = INFINITY; /* decrease promised by the last step whose gain rounding hides */

    s->f = p->value(p->arg, x);
    s->neval++;
    if (!isfinite(s->f)) return NEWTON_UNDEFINED;
    s->predicted = INFINITY;
    s->moved = 0;
    if (p->poll && p->poll(p->arg, x, s->f, s->f, s->radius, NAN)) return NEWTON_STOPPED;
    if (differentiate(p, &m)) return NEWTON_NOTFINITE;
    for (;;) {
        s->predicted = solve_subproblem(n, &m, s->radius, &bounded);
        const int blinded = s->predicted < 10 * p->noise && s->predicted > 0.5 * blind;
        if (s->predicted < p->tolerance || blinded) {
            if (s->turns && s->radius < DOUBTED) return NEWTON_COLLAPSED;
            if (!bounded || s->radius >= 1) return finish(p, &m, s, x, fmax(s->radius, horizon(n, x)));
            if (s->turns) return NEWTON_COLLAPSED;
            if (resets++ == RESETS) return finish_collapsed(p, &m, s, x);
            if (resets > 1 && !m.fresh &&
                !p->noisy) { /* not the radius was wrong: H promises what is not there */
                if (measure_hessian(p, &m, s, x)) return NEWTON_STOPPED;
                decompose(p, &m);
            }
            s->radius = 1;
            blind = INFINITY;
            continue;
        }
        if (s->neval >= p->maxeval) return NEWTON_MAXEVAL;
        m.slow = !p->noisy && !bounded && s->predicted > 0.4 * last ? m.slow + 1 : 0;
        last = s->predicted;
        if (m.slow >= SLOW + n / 4) { /* differences cost n evaluations: as many slow steps in proportion */
            m.slow = 0;
            last = INFINITY;
            if (measure_hessian(p, &m, s, x)) return NEWTON_STOPPED;
            decompose(p, &m);
            continue;
        }
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
            m.fresh = 0;
            if (differentiate(p, &m)) return NEWTON_NOTFINITE;
        } else if (m.augmented && !m.fresh)
            drop_correction(p, &m);
    }
}
