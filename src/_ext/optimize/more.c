/* More variables behind those of theta: what the model's A depends on besides its rows (residual/). A point
   is theta's, by axes or in a plane, then these variables, then those from which distances are taken. Each
   function is theta's, and the same for the variables that follow. */

#include "base/small.h"
#include "optimize/fit.h"

#define NOISE 1e-13 /* of the criterion, a row: sums over rows are taken anew wherever it is evaluated */

ptrdiff_t more_size(const fit *t)
{
    return t->more ? 2 * (ptrdiff_t)t->more->n : 0;
}

static int more_derivatives(void *arg, double *slope, double *A, double *E)
{
    fit *t = arg;
    (void)E;
    const lmm_status status = t->more->derivatives(t->more->arg, t->s->reml, slope, A);
    if (status != LMM_OK) slope[0] = NAN; /* no memory: the fit cannot go on */
    return 0;
}

static void more_coordinates(void *arg, const double *x, double *c)
{
    const fit *t = arg;
    t->base.coordinates(arg, x, c);
    memcpy(c + t->m->layout.ntheta, x + fit_theta_size(t), sizeof(double) * (size_t)t->more->n);
}

/* In a plane: rows and columns of theta become those of its variables */
static void plane_with_more(const fit *t, const double *x, const double *slope, double *B, double *g,
                            double *H)
{
    const ptrdiff_t N = t->m->layout.ntheta, more = t->more->n, from = N + more, to = t->n + more;
    double *block = t->A; /* N x N, theta's alone: not used by exact models */
    for (ptrdiff_t j = 0; j < N; j++) memcpy(block + j * N, B + j * from, sizeof(double) * (size_t)N);
    plane_tangent(t->plane, t->m, x, slope, block, g, H);
    for (ptrdiff_t j = t->n - 1; j >= 0; j--)
        memmove(H + j * to, H + j * t->n, sizeof(double) * (size_t)t->n);
    for (ptrdiff_t j = 0; j < more; j++) {
        double *column = H + (t->n + j) * to;
        plane_pull(t->plane, t->m, x, B + (N + j) * from, column);
        for (ptrdiff_t i = 0; i < t->n; i++)
            if (t->plane->still[i]) column[i] = 0; /* held by a bound */
        for (ptrdiff_t i = 0; i < t->n; i++) H[t->n + j + i * to] = column[i];
        memcpy(column + t->n, B + N + (N + j) * from, sizeof(double) * (size_t)more);
        g[t->n + j] = slope[N + j];
    }
}

static void more_tangent(void *arg, const double *x, const double *slope, double *B, double *g, double *H)
{
    const fit *t = arg;
    if (t->plane)
        plane_with_more(t, x, slope, B, g, H);
    else
        axes_tangent(t->m, x, slope, t->n + t->more->n, B, g, H, t->work);
}

static void more_move(void *arg, const double *x, const double *step, double *to)
{
    const fit *t = arg;
    const ptrdiff_t first = fit_theta_size(t), n = t->more->n;
    t->base.move(arg, x, step, to);
    for (ptrdiff_t i = first; i < first + n; i++) {
        to[i] = x[i] + step[t->n + i - first];
        to[n + i] = x[n + i];
    }
}

static void more_anchor(void *arg, double *x)
{
    const fit *t = arg;
    double *values = x + fit_theta_size(t);
    t->base.anchor(arg, x);
    memcpy(values + t->more->n, values, sizeof(double) * (size_t)t->more->n);
}

static double more_distance(void *arg, const double *x)
{
    const fit *t = arg;
    const double *values = x + fit_theta_size(t), d = t->base.distance(arg, x);
    double sum = d * d;
    for (int i = 0; i < t->more->n; i++) {
        const double far = values[i] - values[t->more->n + i];
        sum += far * far;
    }
    return sqrt(sum);
}

static double more_extent(void *arg, const double *x)
{
    const fit *t = arg;
    double most = t->base.extent(arg, x);
    for (const double *v = x + fit_theta_size(t), *end = v + t->more->n; v < end; v++)
        most = fmax(most, fabs(*v));
    return most;
}

newton_problem with_more(fit *t, newton_problem p)
{
    t->base = p;
    p.n += t->more->n;
    p.nc += t->more->n;
    p.derivatives = more_derivatives;
    p.coordinates = more_coordinates;
    p.tangent = more_tangent;
    p.move = more_move;
    p.anchor = more_anchor;
    p.distance = more_distance;
    p.extent = more_extent;
    p.noise = fmax(p.noise, NOISE * (double)t->m->layout.n);
    p.patience = 0; /* second derivatives are learned */
    return p;
}
