/* Where variances are zero the slope of T -> T T' is zero too, whatever the criterion does: S = df/dSigma
   says whether it falls, by u'S u < 0 for a direction u without variance. */

#include "optimize/escape.h"

#include "trailing/trailing.h"
#include "base/small.h"

#define NEGATIVE 1e-5 /* a curvature u'S u below -NEGATIVE is worth a try */
#define FIRST 0.3     /* standard deviations that are tried: this, */
#define LEAST 1e-3    /* ... a third of it, and so on down to here */

double null_curvature(lmm_model *m, const term *t, double *x, int *place, double *work)
{
    char vectors = 'V', lower = 'L';
    const int k = t->k, p = t->f->p;
    const double *S = m->evaluation.f[t->f->k].S + t->first * (p + 1);
    double *U = x, *s = x + k * k, *N = work, *R = N + k * k, *X = R + k * k, *w = X + k * k,
           *scratch = w + k;
    double most = 0;
    int n = 0, lwork = 34 * k, info;
    for (int i = 0; i < k; i++) most = fmax(most, s[i]);
    const double none = fmax(FLOOR, NOTHING * most);
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

/* Is the criterion lower at the point of axes, or in a plane where it is nearest? Goes there. */
static int try_point(fit *t, const double *axes, double *x, double *trial)
{
    const double *at = axes;
    if (t->plane) {
        memcpy(trial, x, sizeof(double) * (size_t)fit_size(t));
        axes_factors(t->m, axes, 0, t->T);
        theta_of_factors(t->m, t->T, t->theta);
        change_coordinates(t->m, t->theta, 1);
        plane_nearest(t->plane, t->theta, trial);
        at = trial;
    }
    t->state->neval++;
    t->state->moved = 1;
    if (!(fit_value(t, at) < t->state->f - t->s->tolerance)) return 0;
    memcpy(x, at, sizeof(double) * (size_t)(t->plane ? t->n : fit_size(t)));
    return 1;
}

int leave_saddle(fit *t, double *x)
{
    lmm_model *m = t->m;
    const layout *lay = &m->layout;
    const ptrdiff_t size = axes_size(lay) + more_size(t);
    double *axes = m->scratch.work, *place = axes, *trial = axes + size, *work = trial + size + 2 * t->n;
    if (!m->trailing->exact && memcmp(t->x, t->last.x, sizeof(double) * (size_t)fit_size(t)) != 0) {
        fit_value(t, x); /* S belongs to a step that was not accepted */
        t->state->neval++;
    }
    if (t->plane) {
        factors_of_theta(m, plane_theta(t->plane, x), t->T, t->work);
        axes_of_factors(m, t->T, FLOOR, INFINITY, axes, t->work);
    } else
        memcpy(axes, x, sizeof(double) * (size_t)size);
    for (term s = {0}; next_term(lay, &s); place += term_size(s.k)) {
        int i = 0;
        const double curvature = null_curvature(m, &s, place, &i, work);
        double *deviation = place + s.k * s.k + i;
        for (double e = FIRST; curvature < -NEGATIVE && e > LEAST; e /= 3) {
            if (t->state->neval >= t->s->maxeval) return -1;
            *deviation = e;
            if (try_point(t, axes, x, trial)) return 1;
        }
        if (curvature < -NEGATIVE) *deviation = FLOOR;
    }
    return 0;
}
