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
    const double none = fmax(floor_of(m), NOTHING * most);
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

/* Is the criterion lower at `at`? Goes there. */
static int try_point(fit *t, const double *at, double *x)
{
    t->state->neval++;
    t->state->moved = 1;
    if (!(fit_value(t, at) < t->state->f - t->s->tolerance)) return 0;
    memcpy(x, at, sizeof(double) * (size_t)(t->plane ? t->n : fit_size(t)));
    return 1;
}

/* The point of the plane nearest to phi, the unstructured term s as in axes, all else as in from */
static void x_of_term(fit *t, const piece *own, const double *axes, const double *from, double *phi,
                      double *x)
{
    const term *s = &own->t;
    axes_factors(t->m, axes, 0, t->T);
    theta_of_factors(t->m, t->T, t->theta);
    change_coordinates(t->m, t->theta, 1);
    memcpy(phi + own->first, t->theta + s->th, sizeof(double) * (size_t)s->nth);
    memcpy(x, from, sizeof(double) * (size_t)fit_size(t));
    plane_nearest_phi(t->plane, phi, x);
}

/* A term's Sigma along a direction without variance. axes, place: all terms, and this one's part. 1: there is
   a lower point, -1: there are no evaluations left, 0: nothing is lower. own: NULL outside of planes */
static int leave_term(fit *t, const term *s, const piece *own, double *axes, double *place, double *phi,
                      double *x, double *trial, double *work)
{
    int i = 0;
    const double curvature = null_curvature(t->m, s, place, &i, work);
    double *deviation = place + s->k * s->k + i;
    for (double e = FIRST; curvature < -NEGATIVE && e > LEAST; e /= 3) {
        if (t->state->neval >= t->s->maxeval) return -1;
        *deviation = e;
        if (own) x_of_term(t, own, axes, x, phi, trial);
        if (try_point(t, own ? trial : axes, x)) return 1;
    }
    if (curvature < -NEGATIVE) *deviation = FLOOR;
    return 0;
}

/* The same of a structure: what it proposes */
static int leave_structure(fit *t, const piece *own, double *phi, double *x, double *trial)
{
    const ptrdiff_t block = (ptrdiff_t)own->t.k * own->t.k;
    double *scratch = t->plane->s.scratch, *S = scratch + own->of->work, *proposed = S + block,
           *kept = proposed + block, *unit = t->plane->s.unit;
    if (!own->of->trial) return 0;
    surface_slope(t->m, own, S, proposed);
    surface_units(own, unit);
    for (int which = 0;; which++) {
        memcpy(proposed, phi + own->first, sizeof(double) * (size_t)own->count);
        if (!own->of->trial(own->of, phi + own->first, S, unit, which, proposed, scratch)) return 0;
        if (t->state->neval >= t->s->maxeval) return -1;
        memcpy(kept, phi + own->first, sizeof(double) * (size_t)own->count);
        memcpy(phi + own->first, proposed, sizeof(double) * (size_t)own->count);
        memcpy(trial, x, sizeof(double) * (size_t)fit_size(t));
        plane_nearest_phi(t->plane, phi, trial);
        memcpy(phi + own->first, kept, sizeof(double) * (size_t)own->count);
        if (try_point(t, trial, x)) return 1;
    }
}

/* axes of the terms without a structure; those of others, which cost p^3, are not read */
static void axes_of_free(fit *t, const double *x, double *axes)
{
    const layout *lay = &t->m->layout;
    const double *T = t->T;
    factors_of_theta(t->m, plane_theta(t->plane, x), t->T, t->work);
    memset(axes, 0, sizeof(double) * (size_t)axes_size(lay));
    for (int e = 0; e < t->plane->s.nterm; e++) {
        const piece *own = &t->plane->s.piece[e];
        const factor *f = own->t.f;
        if (own->t.first == 0 && f->k > 0) T += lay->f[f->k - 1].p * lay->f[f->k - 1].p;
        if (!own->of) axes_of_term(&own->t, T, FLOOR, INFINITY, axes, t->work);
        axes += term_size(own->t.k);
    }
}

static int leave_in_plane(fit *t, double *x, double *axes, double *trial, double *work)
{
    const plane *p = t->plane;
    double *place = axes, *phi = work, *rest = phi + p->nphi;
    axes_of_free(t, x, axes);
    for (int e = 0; e < p->s.nterm; place += term_size(p->s.piece[e].t.k), e++) {
        const piece *own = &p->s.piece[e];
        plane_theta(p, x);
        memcpy(phi, p->phi, sizeof(double) * (size_t)p->nphi);
        const int left = own->of ? leave_structure(t, own, phi, x, trial)
                                 : leave_term(t, &own->t, own, axes, place, phi, x, trial, rest);
        if (left) return left;
    }
    return 0;
}

ptrdiff_t escape_work(const layout *lay)
{
    ptrdiff_t k = 1;
    for (term t = {0}; next_term(lay, &t);)
        if (t.k > k) k = t.k;
    return 2 * axes_size(lay) + moving(lay) + 3 * k * k + 40 * k;
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
    if (t->plane) return leave_in_plane(t, x, axes, trial, work);
    memcpy(axes, x, sizeof(double) * (size_t)size);
    for (term s = {0}; next_term(lay, &s); place += term_size(s.k)) {
        const int left = leave_term(t, &s, NULL, axes, place, NULL, x, trial, work);
        if (left) return left;
    }
    return 0;
}
