/* Other parameters where a slope says nothing: a standard deviation is zero, so that correlations are free,
   or bound to stay so at these correlations; or |rho| = 1, where R is even in its parameter. What is tried
   lowers tr(S Sigma), S = df/dSigma: whether it lowers f, the caller sees. */

#include "structures/correlation.h"

const double DEVIATIONS[SIZES] = {0.3, 0.1, 0.03, 0.01};
const double SHARES[SIZES] = {0.7, 0.2, 0.06, 0.02};

#define FREE 0.95 /* share of the way where x is free */
#define FLAT 1e-6 /* slopes of R that are zero      */
#define STEPS 50  /* towards the best direction     */

typedef struct {
    const structure *s;
    const double *S, *unit;
    double *sd, *r, *d, *rest; /* standard deviations of columns, entries, a direction of the former */
} search;

static double entry(const search *t, ptrdiff_t i, ptrdiff_t j)
{
    const ptrdiff_t p = t->s->c.p;
    return t->S[i + j * p] * t->r[t->s->c.place[i + j * p]];
}

/* tr(S Sigma), and, if size is there, the sum of what it is a sum of */
static double total(const search *t, double *size)
{
    const ptrdiff_t p = t->s->c.p;
    double sum = 0, sizes = 0;
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i < p; i++) {
            const double one = t->sd[i] * t->sd[j] * entry(t, i, j);
            sum += one, sizes += fabs(one);
        }
    if (size) *size = sizes;
    return sum;
}

/* Does R, as a function of some x, have no slope? */
static int is_flat(const search *t, const double *x)
{
    const correlation *c = &t->s->c;
    for (int i = 0; i < c->n; i++) {
        double most = 0;
        c->slope(c, x, i, t->r, t->rest);
        for (ptrdiff_t k = 0; k < c->count; k++) most = fmax(most, fabs(t->r[k]));
        if (most < FLAT) return 1;
    }
    return 0;
}

static double unit_of(const search *t, ptrdiff_t j)
{
    return t->unit ? t->unit[j] : 1;
}

double least_unit(const double *unit, int p)
{
    double least = unit ? unit[0] : 1;
    for (int i = 1; i < p && unit; i++) least = fmin(least, unit[i]);
    return least;
}

/* d := d over its length; whether it has one */
static int normalize(double *d, ptrdiff_t p)
{
    double norm = 0;
    for (ptrdiff_t j = 0; j < p; j++) norm += d[j] * d[j];
    for (ptrdiff_t j = 0; j < p && norm > 0; j++) d[j] /= sqrt(norm);
    return norm > 0;
}

/* In units, d >= 0 of length one on columns without variance, along which tr(S Sigma) falls: by its slope,
   or, if that is nowhere negative, by its curvature (projected power iterations). Whether there is one. */
static int direction(const search *t)
{
    const ptrdiff_t p = t->s->c.p;
    double shift = 0, *next = t->rest;
    for (ptrdiff_t j = 0; j < p; j++) {
        double slope = 0, row = 0;
        for (ptrdiff_t i = 0; i < p; i++) {
            slope += t->sd[i] * entry(t, i, j) * unit_of(t, j);
            row += fabs(entry(t, i, j)) * unit_of(t, i) * unit_of(t, j);
        }
        shift = fmax(shift, row);
        t->d[j] = t->sd[j] == 0 ? fmax(-slope, 0) : 0;
    }
    if (normalize(t->d, p)) return 1;
    for (ptrdiff_t j = 0; j < p; j++) t->d[j] = t->sd[j] == 0;
    for (int step = 0; step < STEPS; step++) {
        for (ptrdiff_t j = 0; j < p; j++) {
            next[j] = shift * t->d[j];
            for (ptrdiff_t i = 0; i < p; i++)
                next[j] -= t->d[i] * entry(t, i, j) * unit_of(t, i) * unit_of(t, j);
            next[j] = t->sd[j] == 0 ? fmax(next[j], 0) : 0;
        }
        if (!normalize(next, p)) return 0;
        memcpy(t->d, next, sizeof(double) * (size_t)p);
    }
    return 1;
}

/* sd := deviations of phi, those that are zero along the best direction */
static void grow(const search *t, const double *phi, double size)
{
    deviations_of(t->s, phi, t->sd);
    if (t->s->common) {
        for (int i = 0; i < t->s->c.p; i++) t->sd[i] = size * least_unit(t->unit, t->s->c.p);
    } else if (direction(t))
        for (int i = 0; i < t->s->c.p; i++)
            if (t->sd[i] == 0) t->sd[i] = size * t->d[i] * unit_of(t, i);
}

/* The best of all other x (and of x itself, if deviations are zero) at one size; whether it is lower than at
 * phi */
static int best(const search *t, const double *phi, int zero, int size, double now, double noise, double *to)
{
    const structure *s = t->s;
    const int first = s->common ? 1 : s->c.p;
    double *x = t->d + s->c.p, least = now - noise;
    int found = 0;
    for (int which = zero ? -1 : 0; which < s->c.others || which < 0; which++) {
        memcpy(x, phi + first, sizeof(double) * (size_t)s->c.n);
        if (which >= 0) s->c.other(&s->c, phi + first, which, zero ? FREE : SHARES[size], x, t->rest);
        s->c.entries(&s->c, x, t->r, t->rest);
        deviations_of(s, phi, t->sd);
        if (zero) grow(t, phi, DEVIATIONS[size]);
        double sizes;
        const double there = total(t, &sizes);
        if (!(there < least - NOT_LOWER * sizes)) continue;
        least = there, found = 1;
        for (int i = 0; i < first; i++) to[i] = t->sd[i];
        memcpy(to + first, x, sizeof(double) * (size_t)s->c.n);
    }
    return found;
}

int deviations_trial(const lmm_structure *face, const double *phi, const double *S, const double *unit,
                     int which, double *to, double *work)
{
    const structure *s = whole(face);
    const int first = s->common ? 1 : s->c.p;
    double *r = work + s->c.p, *d = r + s->c.count;
    const search t = {s, S, unit, work, r, d, d + s->c.p + s->c.n};
    int zero = 0;
    for (int i = 0; i < first; i++) zero |= phi[i] == 0;
    if (!zero && !is_flat(&t, phi + first)) return 0;
    deviations_of(s, phi, t.sd);
    s->c.entries(&s->c, phi + first, t.r, t.rest);
    double sizes;
    const double now = total(&t, &sizes);
    for (int size = 0; size < SIZES; size++)
        if (best(&t, phi, zero, size, now, NOT_LOWER * sizes, to) && which-- == 0) return 1;
    return 0;
}
