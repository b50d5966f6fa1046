/* Trust region on a composite model: f is taken as quadratic in c, m(x) = slope'd + d'B d/2 with
   d = c(x) - c(x0), B = A + E, and m is minimized over x near x0 by Newton steps (composite Newton methods:
   Fletcher 1982; the subproblem with the exact trust region: More & Sorensen 1983). A is given. E corrects
   it near a minimum: exactly where the caller can, else by the symmetric rank-one formula (Conn, Gould &
   Toint 1991), which is at home in c, where nothing has to be transported. */

#include "optimize/newton.h"

#include <math.h>
#include <string.h>

#define ACCEPT 1e-4     /* least share of the predicted decrease that a step must keep */
#define NEGLIGIBLE 1e-5 /* share of the tolerance below which the last step is not taken, */
#define SPARED 0.01     /* ... of what is enough at the first x, where one more look at f is dear */
#define NEAR 1.0        /* promise below which A is corrected: far away it is the better model */
#define AGAIN 2         /* an exact E is found again after so many times the first patience */
#define LEARNED 1e-2    /* share of the tolerance that is asked for where E is learned from an exact one */
#define DEFINITE 1e-12  /* squared diagonals of a Cholesky factor, least over largest, of a convex model */
#define RESETS 3        /* how often a collapsed radius is opened again before giving up */
#define INNER 60        /* inner steps at most (two to three are usual) */
#define ENOUGH 1e-2     /* share of the decrease so far below which they end; less near the end */
#define COLLAPSED 1e-9  /* their radius, at which they end too */

typedef struct {              /* the model at x, and the inner point on the way from it                    */
    double *slope, *A, *E;    /* nc, nc x nc  derivatives in c at x: f's slope, curvature, its correction   */
    int learned, exact;       /* is there an E, and is it all that A lacks at x?                            */
    int corrected;            /* is it part of the model?                                                   */
    int slow, due;            /* accepted steps whose promise was near; so many call for an exact E         */
    double *H, *g;            /* n x n, n  Hessian and gradient there, in steps                             */
    double *whole, length;    /* n  the step that minimizes the model, and its length; see convex           */
    int convex, spectral;     /* is there one? are H and w eigenvectors and eigenvalues by now?             */
    double *w, *gq, *sq;      /* n  eigenvalues; gradient and step in their axes                            */
    double *step;             /* n  the step                                                                */
    double *c, *d, *Bd;       /* nc  c(x); of the inner point: c - c(x), B d                                */
    double *before, *product; /* nc  slope and A d of the point before, for E                               */
    double *B;                /* nc x nc  scratch                                                           */
    double *here, *trial;     /* inner points                                                               */
    double *scratch;
} local_model;

ptrdiff_t newton_workspace(int n, int nc, ptrdiff_t size)
{
    const ptrdiff_t N = n, M = nc;
    return 3 * M * M + N * N + 7 * M + 6 * N + 34 * N + 2 * size + 8;
}

static void lay_out(const newton_problem *p, local_model *m, double *work)
{
    const ptrdiff_t n = p->n, nc = p->nc;
    memset(m, 0, sizeof(*m));
    m->A = work, m->E = m->A + nc * nc, m->B = m->E + nc * nc, m->H = m->B + nc * nc;
    m->slope = m->H + n * n, m->c = m->slope + nc, m->d = m->c + nc, m->Bd = m->d + nc;
    m->before = m->Bd + nc, m->product = m->before + nc;
    m->w = m->product + nc, m->g = m->w + n, m->gq = m->g + n, m->sq = m->gq + n, m->step = m->sq + n;
    m->whole = m->step + n, m->here = m->whole + n, m->trial = m->here + p->size,
    m->scratch = m->trial + p->size;
}

static int is_finite(ptrdiff_t n, const double *x)
{
    for (ptrdiff_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

static double inner(ptrdiff_t n, const double *x, const double *y)
{
    double s = 0;
    for (ptrdiff_t i = 0; i < n; i++) s += x[i] * y[i];
    return s;
}

/* y := alpha y + S x, S symmetric */
static void times(ptrdiff_t n, double alpha, const double *S, const double *x, double *y)
{
    for (ptrdiff_t i = 0; i < n; i++) y[i] = alpha == 0 ? 0 : alpha * y[i];
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t i = 0; i < n; i++) y[i] += S[i + j * n] * x[j];
}

/* Bd := B d */
static void curve(const newton_problem *p, local_model *m)
{
    times(p->nc, 0, m->A, m->d, m->Bd);
    if (m->corrected) times(p->nc, 1, m->E, m->d, m->Bd);
}

/* ------------------------------------------------------------------------------------- one inner step -- */

/* whole := -H^-1 g by Cholesky, factor in B. Zero: H is not clearly positive definite. */
static int minimize_convex(const newton_problem *p, local_model *m)
{
    char lower = 'L';
    int n = p->n, info;
    double *L = m->B, *s = m->whole, least = INFINITY, most = 0;
    memcpy(L, m->H, sizeof(double) * (size_t)n * (size_t)n);
    p->potrf(&lower, &n, L, &n, &info);
    if (info) return 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double d = L[i + i * n];
        least = fmin(least, d * d);
        most = fmax(most, d * d);
    }
    if (!(least > DEFINITE * most)) return 0;
    for (ptrdiff_t i = 0; i < n; i++) s[i] = -m->g[i];
    for (ptrdiff_t j = 0; j < n; j++) {
        s[j] /= L[j + j * n];
        for (ptrdiff_t i = j + 1; i < n; i++) s[i] -= L[i + j * n] * s[j];
    }
    for (ptrdiff_t i = n - 1; i >= 0; i--)
        s[i] = (s[i] - inner(n - i - 1, L + i + 1 + i * n, s + i + 1)) / L[i + i * n];
    m->length = sqrt(inner(n, s, s));
    return 1;
}

/* The model around a point, in steps. slope: there */
static void linearize(const newton_problem *p, local_model *m, const double *x, const double *slope)
{
    const ptrdiff_t nc = p->nc;
    for (ptrdiff_t i = 0; i < nc * nc; i++) m->B[i] = m->A[i] + (m->corrected ? m->E[i] : 0);
    p->tangent(p->arg, x, slope, m->B, m->g, m->H);
    m->spectral = 0;
    m->convex = minimize_convex(p, m);
}

/* H to its eigenvectors */
static void decompose(const newton_problem *p, local_model *m)
{
    char vectors = 'V', lower = 'L';
    int n = p->n, lwork = 34 * n, info;
    if (m->spectral) return;
    m->spectral = 1;
    p->syev(&vectors, &lower, &n, m->H, &n, m->w, m->scratch, &lwork, &info);
    for (int i = 0; i < n; i++) m->gq[i] = inner(n, m->H + (ptrdiff_t)i * n, m->g);
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

/* The best step not longer than the radius, and its length. Returns the decrease that it promises. */
static double solve_subproblem(const newton_problem *p, local_model *m, double radius, double *length,
                               int *bounded)
{
    const int n = p->n;
    double largest = 1e-300, gnorm = sqrt(inner(n, m->g, m->g)), shift = 0, predicted = 0;
    if (m->convex && m->length <= radius) {
        memcpy(m->step, m->whole, sizeof(double) * (size_t)n);
        *length = m->length;
        *bounded = 0;
        return -inner(n, m->step, m->g) / 2;
    }
    decompose(p, m);
    for (int i = 0; i < n; i++) largest = fmax(largest, fabs(m->w[i]));
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
    memset(m->step, 0, sizeof(double) * (size_t)n);
    for (int i = 0; i < n; i++) {
        m->sq[i] = -m->gq[i] / (m->w[i] + shift);
        predicted -= m->sq[i] * (m->gq[i] + 0.5 * m->w[i] * m->sq[i]);
        for (int j = 0; j < n; j++) m->step[j] += m->H[j + (ptrdiff_t)i * n] * m->sq[i];
    }
    *length = sqrt(inner(n, m->sq, m->sq));
    return predicted;
}

/* ---------------------------------------------------------------------------------------- one step -- */

typedef struct {      /* a step from x to m->here                                    */
    double predicted; /* decrease that the model promises                            */
    double length;
    int bounded; /* was the radius in the way?                                       */
} step;

/* The model's decrease at an inner point */
static double decrease(const newton_problem *p, local_model *m, const double *x)
{
    p->coordinates(p->arg, x, m->d);
    for (int i = 0; i < p->nc; i++) m->d[i] -= m->c[i];
    curve(p, m);
    return -inner(p->nc, m->slope, m->d) - inner(p->nc, m->d, m->Bd) / 2;
}

/* The tangent at m->here; d and B d are known there. */
static void follow(const newton_problem *p, local_model *m)
{
    for (int i = 0; i < p->nc; i++) m->Bd[i] += m->slope[i];
    linearize(p, m, m->here, m->Bd);
}

/* Minimizes the model within the radius by inner steps; the first one is linearized. */
static step walk(const newton_problem *p, local_model *m, const double *x, double radius)
{
    step s = {0};
    double r = radius, length;
    int binds;
    memcpy(m->here, x, sizeof(double) * (size_t)p->size);
    for (int i = 0; i < INNER; i++) {
        const double promise = solve_subproblem(p, m, r, &length, &binds);
        if (!(promise >= fmax(p->tolerance * 1e-5, ENOUGH * s.predicted * fmin(1, s.predicted)))) break;
        p->move(p->arg, m->here, m->step, m->trial);
        const double away = p->distance(p->arg, m->trial);
        if (away > radius * 1.0001) {
            s.bounded = 1;
            if ((r /= 2) < 0.02 * radius) break;
            continue;
        }
        const double reached = decrease(p, m, m->trial);
        if (!(reached - s.predicted > ACCEPT * promise)) {
            r = length / 4;
        } else {
            memcpy(m->here, m->trial, sizeof(double) * (size_t)p->size);
            s.predicted = reached;
            s.length = away;
            r = radius - away;
            if (binds && r < 0.05 * radius) {
                s.bounded = 1;
                break;
            }
            follow(p, m);
        }
        if (r < COLLAPSED) {
            s.bounded = binds;
            break;
        }
    }
    if (!(s.predicted > 0)) s.bounded = 1; /* the model knows no way that it would go */
    return s;
}

/* ------------------------------------------------------------------------------------------ the model -- */

/* Slope and curvature at the last accepted x. Nonzero: they are not finite. */
static int differentiate(const newton_problem *p, local_model *m)
{
    const int wanted = p->patience && m->slow >= m->due;
    m->exact = p->derivatives(p->arg, m->slope, m->A, wanted ? m->E : NULL) &&
               is_finite((ptrdiff_t)p->nc * p->nc, m->E);
    if (wanted) { /* from here on it is learned further */
        m->due = m->slow + AGAIN * p->patience;
        m->learned = m->exact;
    }
    return !is_finite(p->nc, m->slope) || !is_finite((ptrdiff_t)p->nc * p->nc, m->A);
}

/* Before the derivatives at the new x are known, d away: what E will be learned from */
static void remember(const newton_problem *p, local_model *m, const double *x)
{
    p->coordinates(p->arg, x, m->d);
    for (int i = 0; i < p->nc; i++) m->d[i] -= m->c[i];
    times(p->nc, 0, m->A, m->d, m->product);
    memcpy(m->before, m->slope, sizeof(double) * (size_t)p->nc);
}

/* E += r r'/r'd,  r = change of the slope - (mean A + E) d */
static void learn(const newton_problem *p, local_model *m)
{
    const ptrdiff_t nc = p->nc;
    double *r = m->before, *Ad = m->product;
    if (!m->learned) memset(m->E, 0, sizeof(double) * (size_t)(nc * nc));
    times(nc, 1, m->A, m->d, Ad); /* of both points */
    times(nc, 0, m->E, m->d, m->Bd);
    for (ptrdiff_t i = 0; i < nc; i++) r[i] = m->slope[i] - r[i] - Ad[i] / 2 - m->Bd[i];
    const double rd = inner(nc, r, m->d);
    if (!(fabs(rd) > 1e-8 * fabs(inner(nc, m->d, Ad)) / 2)) return;
    for (ptrdiff_t j = 0; j < nc; j++)
        for (ptrdiff_t i = 0; i < nc; i++) m->E[i + j * nc] += r[i] * r[j] / rd;
    m->learned = 1;
}

/* More correction than curvature is not to be trusted. */
static void doubt(const newton_problem *p, local_model *m)
{
    const ptrdiff_t nn = (ptrdiff_t)p->nc * p->nc;
    if (m->learned && !(inner(nn, m->E, m->E) <= inner(nn, m->A, m->A))) m->learned = 0;
}

/* The model at x; promised: by the step before */
static void open_model(const newton_problem *p, local_model *m, const double *x, double promised)
{
    m->corrected = m->exact || (m->learned && promised < NEAR);
    linearize(p, m, x, m->slope);
}

/* ------------------------------------------------------------------------------------------- the whole -- */

/* The certificate: what the best step from x promises, within the radius or of any size that is worth a
   promise. A Newton step is taken, if only by who wants it: too small to be worth a look at f, it still leads
   closer. */
static newton_end finish(const newton_problem *p, local_model *m, newton_state *s, const double *x, step last)
{
    if (last.bounded) {
        linearize(p, m, x, m->slope);
        last.predicted = solve_subproblem(p, m, fmax(s->radius, fmax(1, p->extent(p->arg, x))), &last.length,
                                          &last.bounded);
        if (!last.bounded) p->move(p->arg, x, m->step, m->here);
    }
    s->predicted = last.predicted;
    if (!last.bounded && last.predicted > fmax(p->tolerance * NEGLIGIBLE, p->enough * SPARED))
        s->ahead = m->here;
    return NEWTON_CONVERGED;
}

static step next_step(const newton_problem *p, local_model *m, const double *x, double radius)
{
    step s;
    s.predicted = solve_subproblem(p, m, radius, &s.length, &s.bounded);
    if (s.predicted >= p->tolerance) return walk(p, m, x, radius);
    p->move(p->arg, x, m->step, m->here);
    return s;
}

newton_end newton_minimize(const newton_problem *p, double *x, newton_state *s, double *work)
{
    local_model m;
    lay_out(p, &m, work);
    m.due = p->patience;
    int resets = 0;
    double promised = INFINITY; /* by the last accepted step                           */
    double blind = INFINITY;    /* promised by the last step whose gain rounding hides */

    s->predicted = INFINITY;
    s->moved = 0;
    s->ahead = NULL;
    s->f = p->value(p->arg, x);
    const int first = ++s->neval;
    if (!isfinite(s->f)) return NEWTON_UNDEFINED;
    if (p->poll && p->poll(p->arg, x, s->f, s->f, s->radius, NAN)) return NEWTON_STOPPED;
    if (differentiate(p, &m)) return NEWTON_NOTFINITE;
    p->anchor(p->arg, x);
    p->coordinates(p->arg, x, m.c);
    for (;;) {
        open_model(p, &m, x, promised);
        const step next = next_step(p, &m, x, s->radius);
        const double promise = s->predicted = next.predicted;
        const double least = m.due > p->patience && !m.exact ? LEARNED * p->tolerance : p->tolerance;
        const int done = promise < (s->neval > first ? least : fmax(least, p->enough)) ||
                         (promise < 10 * p->noise && promise > blind / 2);
        if (done && next.bounded && s->radius < 1 && resets < RESETS) {
            resets++;
            s->radius = 1;
            blind = INFINITY;
            continue;
        }
        if (done) return finish(p, &m, s, x, next);
        if (s->neval >= p->maxeval) return NEWTON_MAXEVAL;
        const double f = p->value(p->arg, m.here), gain = s->f - f;
        s->neval++;
        const int hidden = promise < 10 * p->noise && gain > -10 * p->noise;
        const double rho = hidden ? 1 : isfinite(f) ? gain / promise : -1;
        if (promise < 10 * p->noise) blind = promise;
        if (rho < 0.25)
            s->radius = next.length / 4;
        else if (rho > 0.75)
            s->radius = fmax(s->radius, 2.5 * next.length);
        const int accepted = rho > ACCEPT;
        if (accepted) s->f = f;
        s->moved = !accepted;
        if (p->poll && p->poll(p->arg, m.here, f, s->f, s->radius, promise)) {
            if (accepted) memcpy(x, m.here, sizeof(double) * (size_t)p->size);
            return NEWTON_STOPPED;
        }
        if (!accepted) {
            m.learned = 0;
            continue;
        }
        memcpy(x, m.here, sizeof(double) * (size_t)p->size);
        m.slow += promise < NEAR;
        remember(p, &m, x);
        if (differentiate(p, &m)) return NEWTON_NOTFINITE;
        if (promise < NEAR && !m.exact) learn(p, &m);
        doubt(p, &m);
        p->anchor(p->arg, x);
        p->coordinates(p->arg, x, m.c);
        promised = promise;
    }
}
