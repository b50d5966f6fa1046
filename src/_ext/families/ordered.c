/* Ordered responses, cumulative links: y = 0 .. K-1, P(y = k) = F(a_k - eta) - F(a_{k-1} - eta) with a_{-1}
   and a_{K-1} infinite. x_0 = a_0, x_k = log(a_k - a_{k-1}). Weights multiply l. The constant is 0.

   A class has an upper end u = a_k - eta and a lower one v. Two links separate them, without any
   cancellation:

     logit     log P = log F(u) + log(1 - F(v)) + log(1 - e^(v - u))
     cloglog   log P = -e^v + log F(v + log(e^(u - v) - 1)) */

#include "families/cumulative.h"
#include "families/rows.h"

#define MOST_CLASSES 1000
#define BEYOND 1e305 /* where an end is that there is not */

typedef struct {       /* log P of a class, and its derivatives                        */
    double l;          /* log P                                                        */
    double t[4];       /* in a shift of both ends, of order 1 to 4                     */
    double u[3], v[3]; /* of l, t[0], t[1] in the upper and in the lower end alone     */
} ends;

typedef struct { /* a class: where its ends are, and their distance */
    double u, v, gap;
    int upper, lower; /* are there such ends? */
} interval;

typedef struct { /* what a row takes from its class */
    double upper, lower, gap, whole, share;
} class_row;

typedef struct { /* what rows of a call share, by class */
    int classes;
    double upper[MOST_CLASSES], lower[MOST_CLASSES]; /* thresholds                            */
    double gap[MOST_CLASSES], slope[MOST_CLASSES];   /* of class k >= 1; da / dx_k            */
    double whole[MOST_CLASSES], share[MOST_CLASSES]; /* what a link makes of the gap          */
} scale;

/* adds what depends on one end alone */
static void add_side(side s, double sign, double *end, ends *r)
{
    r->l += s.l;
    r->t[0] += sign * s.d1, r->t[1] += s.d2, r->t[2] += sign * s.d3, r->t[3] += s.d4;
    end[0] += sign * s.d1, end[1] += s.d2, end[2] += sign * s.d3;
}

/* log F(t) of the normal distribution */
static side normal_low(double t)
{
    const double z = smaller(fabs(t), 1e90);
    const tail q = normal_tail(z);
    const double phi = exponential(-z * z / 2 - HALF_LOG_2PI), Q = phi / q.hazard;
    if (t >= 0) return normal_usual(z, Q, phi / (1 - Q));
    const side r = normal_rare(z, q);
    return (side){r.l, -r.d1, r.d2, -r.d3, r.d4};
}

/* An interval of the normal distribution that is narrow, m its middle, g its width: with Hermite polynomials
   He P = g phi(m) S,   S = sum of He_2j(m) g^2j / (4^j (2j + 1)!),   d/du = (d/dm) / 2 + d/dg */
static void narrow_normal(double m, double g, ends *r)
{
    const double a = g * g / 24, b = a * g * g / 80, c = b * g * g / 168, s = m * m;
    const double h2 = s - 1, h3 = m * (s - 3), h4 = s * (s - 6) + 3, h5 = m * (s * (s - 10) + 15);
    const double h6 = s * (s * (s - 15) + 45) - 15, S = 1 + h2 * a + h4 * b + h6 * c;
    const double s1 = (2 * m * a + 4 * h3 * b + 6 * h5 * c) / S, s2 = (2 * a + 12 * h2 * b + 30 * h4 * c) / S;
    const double s3 = (24 * m * b + 120 * h3 * c) / S, s4 = (24 * b + 360 * h2 * c) / S;
    const double w = (2 * h2 * a + 4 * h4 * b + 6 * h6 * c) / S; /* g S_g / S, and its derivatives in m */
    const double w1 = (4 * m * a + 16 * h3 * b + 36 * h5 * c) / S - w * s1;
    const double w2 = (4 * a + 48 * h2 * b + 180 * h4 * c) / S - w * s2 - 2 * w1 * s1;
    const double in_g[] = {(1 + w) / g, w1 / g, w2 / g};
    r->l = log(g * S) - s / 2 - HALF_LOG_2PI;
    r->t[0] = -m + s1, r->t[1] = s2 - s1 * s1 - 1, r->t[2] = s3 - 3 * s2 * s1 + 2 * s1 * s1 * s1;
    r->t[3] = s4 - 4 * s3 * s1 - 3 * s2 * s2 + 12 * s2 * s1 * s1 - 6 * s1 * s1 * s1 * s1;
    for (int i = 0; i < 3; i++) r->u[i] = r->t[i] / 2 + in_g[i], r->v[i] = r->t[i] / 2 - in_g[i];
}

/* Densities at both ends over P, and log P. The ends lie on one side of zero, or on both: then P is one less
   two tails. */
static double normal_interval(double u, double v, double gap, double *at_u, double *at_v)
{
    const double near = smaller(fabs(u), fabs(v)), far = larger(fabs(u), fabs(v));
    const tail a = normal_tail(near), b = normal_tail(far);
    double *at_near = fabs(u) < fabs(v) ? at_u : at_v, *at_far = fabs(u) < fabs(v) ? at_v : at_u;
    if (u > 0 && v < 0) {
        const double phi_near = exponential(-near * near / 2 - HALF_LOG_2PI);
        const double phi_far = exponential(-far * far / 2 - HALF_LOG_2PI);
        const double P = 1 - phi_near / a.hazard - phi_far / b.hazard;
        *at_near = phi_near / P, *at_far = phi_far / P;
        return log(P);
    }
    const double ratio = exponential(-gap * ((near + far) / 2)) * (a.hazard / b.hazard);
    *at_near = a.hazard / (1 - ratio), *at_far = b.hazard * ratio / (1 - ratio);
    return -near * near / 2 - HALF_LOG_2PI - log(a.hazard) + log1p(-ratio);
}

/* in terms of A = f(u) / P, B = f(v) / P and the same of f's derivatives */
static void wide_normal(interval c, ends *r)
{
    const double u = c.u, v = c.v;
    double A[4], B[4], N[4];
    r->l = normal_interval(u, v, c.gap, A, B);
    A[1] = -u * A[0], A[2] = (u * u - 1) * A[0], A[3] = u * (3 - u * u) * A[0];
    B[1] = -v * B[0], B[2] = (v * v - 1) * B[0], B[3] = v * (3 - v * v) * B[0];
    for (int i = 0; i < 4; i++) N[i] = A[i] - B[i];
    const double s = N[0] * N[0];
    r->t[0] = N[0], r->t[1] = N[1] - s, r->t[2] = N[2] - 3 * N[1] * N[0] + 2 * N[0] * s;
    r->t[3] = N[3] - 4 * N[2] * N[0] - 3 * N[1] * N[1] + 12 * N[1] * s - 6 * s * s;
    r->u[0] = A[0], r->u[1] = A[1] - N[0] * A[0];
    r->u[2] = A[2] - N[1] * A[0] - 2 * N[0] * r->u[1];
    r->v[0] = -B[0], r->v[1] = -(B[1] - N[0] * B[0]);
    r->v[2] = -(B[2] - N[1] * B[0]) - 2 * N[0] * r->v[1];
}

/* P = Phi(u) - Phi(v) */
INLINE void probit_class(class_row d, double eta, ends *r)
{
    const interval c = {d.upper - eta, d.lower - eta, d.gap, d.upper<BEYOND, d.lower> - BEYOND};
    *r = (ends){0};
    const double m = (c.u + c.v) / 2;
    const int inner = c.upper && c.lower, distant = c.gap * fabs(m) > 45; /* the farther end is nothing */
    if (!c.lower || (inner && distant && m < 0))
        add_side(normal_low(c.u), 1, r->u, r);
    else if (!c.upper || (inner && distant && m > 0))
        add_side(normal_low(-c.v), -1, r->v, r);
    else if (c.gap * (1 + fabs(m)) < 0.1)
        narrow_normal(m, c.gap, r);
    else
        wide_normal(c, r);
}

/* log F(t) of the logistic distribution */
INLINE side logistic_low(double t)
{
    const double s = exponential(-fabs(t)), near = 1 / (1 + s), far = s * near, v = near * far;
    const double F = t > 0 ? near : far, G = t > 0 ? far : near;
    return (side){smaller(t, 0) - logarithm1p_unit(s), G, -v, v * (F - G), -v * (1 - 6 * v)};
}

/* whole: log(1 - e^-gap); share: its derivative in u */
INLINE void logit_class(class_row d, double eta, ends *r)
{
    const side a = logistic_low(d.upper - eta), b = logistic_low(eta - d.lower);
    r->l = a.l + b.l + d.whole;
    r->t[0] = a.d1 - b.d1, r->t[1] = a.d2 + b.d2, r->t[2] = a.d3 - b.d3, r->t[3] = a.d4 + b.d4;
    r->u[0] = a.d1 + d.share, r->u[1] = a.d2, r->u[2] = a.d3;
    r->v[0] = -b.d1 - d.share, r->v[1] = b.d2, r->v[2] = -b.d3;
}

/* whole: where F is taken, less eta; share: derivative of that in u */
INLINE void cloglog_class(class_row d, double eta, ends *r)
{
    const double t = d.whole - eta, g = exponential(d.lower - eta), share = d.share;
    double p, unused;
    const side a = extreme_low(t, exponential(t), &p, &unused);
    r->l = a.l - g;
    r->t[0] = a.d1 - g, r->t[1] = a.d2 - g, r->t[2] = a.d3 - g, r->t[3] = a.d4 - g;
    r->u[0] = share * a.d1, r->u[1] = share * a.d2, r->u[2] = share * a.d3;
    r->v[0] = r->t[0] - r->u[0], r->v[1] = r->t[1] - r->u[1], r->v[2] = r->t[2] - r->u[2];
}

/* The mirror image of cloglog: P = F(-v) - F(-u) with its F, and its whole and share */
INLINE void loglog_class(class_row d, double eta, ends *r)
{
    const class_row image = {-d.lower, -d.upper, d.gap, d.whole, d.share};
    ends m;
    cloglog_class(image, -eta, &m);
    r->l = m.l;
    r->t[0] = -m.t[0], r->t[1] = m.t[1], r->t[2] = -m.t[2], r->t[3] = m.t[3];
    r->u[0] = -m.v[0], r->u[1] = m.v[1], r->u[2] = -m.v[2];
    r->v[0] = -m.u[0], r->v[1] = m.u[1], r->v[2] = -m.u[2];
}

typedef struct { /* `ends` of CHUNK rows */
    double l[CHUNK], t[4][CHUNK], u[3][CHUNK], v[3][CHUNK];
} block;

typedef struct { /* `class_row` of CHUNK rows */
    double upper[CHUNK], lower[CHUNK], gap[CHUNK], whole[CHUNK], share[CHUNK];
} class_rows;

static void take(const scale *s, int32_t n, const double *y, class_rows *d)
{
    for (int32_t i = 0; i < n; i++) {
        const int k = (int)y[i];
        d->upper[i] = s->upper[k], d->lower[i] = s->lower[k], d->gap[i] = s->gap[k];
        d->whole[i] = s->whole[k], d->share[i] = s->share[k];
    }
}

typedef void block_function(int32_t n, const class_rows *d, const double *eta, block *e);

#define BLOCK(LINK)                                                                              \
    CLONES static void LINK##_block(int32_t n, const class_rows *d, const double *eta, block *e) \
    {                                                                                            \
        INDEPENDENT                                                                              \
        for (int32_t i = 0; i < n; i++) {                                                        \
            const class_row c = {d->upper[i], d->lower[i], d->gap[i], d->whole[i], d->share[i]}; \
            ends r;                                                                              \
            LINK##_class(c, eta[i], &r);                                                         \
            e->l[i] = r.l;                                                                       \
            e->t[0][i] = r.t[0], e->t[1][i] = r.t[1], e->t[2][i] = r.t[2], e->t[3][i] = r.t[3];  \
            e->u[0][i] = r.u[0], e->u[1][i] = r.u[1], e->u[2][i] = r.u[2];                       \
            e->v[0][i] = r.v[0], e->v[1][i] = r.v[1], e->v[2][i] = r.v[2];                       \
        }                                                                                        \
    }

BLOCK(logit)
BLOCK(probit)
BLOCK(cloglog)
BLOCK(loglog)

/* to (+)= by times the derivative in x_j, where u and v are those in the ends */
static void in_x(const scale *s, int j, int32_t n, const double *y, const double *by, const double *u,
                 const double *v, double *to, int add)
{
    for (int32_t i = 0; i < n; i++) {
        const double d = j < y[i] ? u[i] + v[i] : j > y[i] ? 0 : u[i];
        to[i] = (add ? to[i] : 0) + by[i] * s->slope[j] * d;
    }
}

/* Expected weights E d1^2, their derivatives in eta and in x */
static void expect(const scale *s, block_function *of, int32_t n, const double *by, const double *eta,
                   const lmm_density *o)
{
    double y[CHUNK], P[CHUNK], u[CHUNK], v[CHUNK], w[CHUNK] = {0}, dw[CHUNK] = {0};
    class_rows d;
    block e;
    for (int k = 0; k < s->classes; k++) {
        for (int32_t i = 0; i < n; i++) y[i] = k;
        take(s, n, y, &d);
        of(n, &d, eta, &e);
        for (int32_t i = 0; i < n; i++) {
            const double t = e.t[0][i], p = e.l[i] > -600 ? by[i] * exp(e.l[i]) : 0, q = p > 0 ? p * t : 0;
            w[i] += q * t;
            dw[i] -= p > 0 ? q * (t * t + 2 * e.t[1][i]) : 0;
            P[i] = q;
            u[i] = p > 0 ? e.u[0][i] * t + 2 * e.u[1][i] : 0;
            v[i] = p > 0 ? e.v[0][i] * t + 2 * e.v[1][i] : 0;
        }
        for (int j = 0; o->wx && j < s->classes - 1; j++)
            in_x(s, j, n, y, P, u, v, o->wx + j * o->ldx, k > 0);
    }
    for (int32_t i = 0; i < n; i++) {
        if (o->w) o->w[i] = w[i];
        if (o->dw) o->dw[i] = dw[i];
    }
}

static void times(int32_t n, double sign, const double *by, const double *from, double *to)
{
    for (int32_t i = 0; to && i < n; i++) to[i] = sign * by[i] * from[i];
}

static void rows_of(const scale *s, block_function *of, int32_t n, const double *y, const double *by,
                    const double *eta, const lmm_density *o)
{
    double minus[CHUNK];
    class_rows d;
    block e;
    take(s, n, y, &d);
    of(n, &d, eta, &e);
    times(n, 1, by, e.l, o->l);
    times(n, -1, by, e.t[0], o->d1), times(n, 1, by, e.t[1], o->d2);
    times(n, -1, by, e.t[2], o->d3), times(n, 1, by, e.t[3], o->d4);
    for (int32_t i = 0; i < n; i++) minus[i] = -by[i];
    for (int j = 0; j < s->classes - 1; j++) {
        if (o->lx) in_x(s, j, n, y, by, e.u[0], e.v[0], o->lx + j * o->ldx, 0);
        if (o->d1x) in_x(s, j, n, y, minus, e.u[1], e.v[1], o->d1x + j * o->ldx, 0);
        if (o->d2x) in_x(s, j, n, y, by, e.u[2], e.v[2], o->d2x + j * o->ldx, 0);
    }
    if (o->w || o->dw || o->wx) expect(s, of, n, by, eta, o);
}

static void thresholds(const lmm_family *family, const double *x, scale *s)
{
    const int last = family->classes - 1;
    s->classes = family->classes;
    memset(s->whole, 0, sizeof(double) * (size_t)s->classes);
    memset(s->share, 0, sizeof(double) * (size_t)s->classes);
    double a = x[0];
    s->lower[0] = -BEYOND, s->upper[last] = BEYOND;
    s->gap[0] = s->gap[last] = 0, s->slope[0] = 1;
    for (int k = 0; k < last; k++) {
        if (k) a += s->gap[k] = s->slope[k] = exp(larger(smaller(x[k], 300), -300));
        s->upper[k] = s->lower[k + 1] = a;
    }
}

static void ordered_rows(const scale *s, block_function *of, int32_t n, const double *y, const double *w,
                         const double *eta, const lmm_density *out)
{
    for (int32_t from = 0; from < n; from += CHUNK) {
        lmm_density o = *out;
        double **at[] = {&o.l, &o.d1, &o.d2, &o.d3, &o.d4, &o.w, &o.dw, &o.lx, &o.d1x, &o.d2x, &o.wx};
        for (int i = 0; i < 11; i++)
            if (*at[i]) *at[i] += from;
        rows_of(s, of, n - from < CHUNK ? n - from : CHUNK, y + from, w ? w + from : lmm_ones, eta + from,
                &o);
    }
}

static void logit_density(const lmm_family *family, int32_t n, const double *y, const double *w,
                          const double *eta, const double *x, const lmm_density *out)
{
    scale s;
    thresholds(family, x, &s);
    for (int k = 1; k < s.classes - 1; k++)
        s.whole[k] = log(-expm1(-s.gap[k])), s.share[k] = 1 / expm1(s.gap[k]);
    ordered_rows(&s, logit_block, n, y, w, eta, out);
}

static void probit_density(const lmm_family *family, int32_t n, const double *y, const double *w,
                           const double *eta, const double *x, const lmm_density *out)
{
    scale s;
    thresholds(family, x, &s);
    ordered_rows(&s, probit_block, n, y, w, eta, out);
}

/* upper: the upper ends of the classes, or those of the mirror image; first, last: its outermost classes */
static void extreme_tables(const double *upper, double sign, int first, int last, scale *s)
{
    for (int k = 1; k < s->classes - 1; k++) {
        const double P = -expm1(-s->gap[k]);
        s->whole[k] = sign * upper[k] + log(P), s->share[k] = 1 / P;
    }
    s->whole[first] = sign * upper[first], s->share[first] = 1;
    s->whole[last] = BEYOND;
}

static void cloglog_density(const lmm_family *family, int32_t n, const double *y, const double *w,
                            const double *eta, const double *x, const lmm_density *out)
{
    scale s;
    thresholds(family, x, &s);
    extreme_tables(s.upper, 1, 0, s.classes - 1, &s);
    ordered_rows(&s, cloglog_block, n, y, w, eta, out);
}

static void loglog_density(const lmm_family *family, int32_t n, const double *y, const double *w,
                           const double *eta, const double *x, const lmm_density *out)
{
    scale s;
    thresholds(family, x, &s);
    extreme_tables(s.lower, -1, s.classes - 1, 0, &s);
    ordered_rows(&s, loglog_block, n, y, w, eta, out);
}

static double no_constant(const lmm_family *family, int64_t n, const double *y, const double *w)
{
    (void)family, (void)n, (void)y, (void)w;
    return 0;
}

int find_ordered(const char *family, const char *link, lmm_family *out)
{
    (void)family;
    out->constant = no_constant;
    out->nextra = out->classes - 1;
    out->concave = 1;
    if (out->classes < 2 || out->classes > MOST_CLASSES) return 0;
    if (!strcmp(link, "logit")) out->density = logit_density;
    if (!strcmp(link, "probit")) out->density = probit_density;
    if (!strcmp(link, "cloglog")) out->density = cloglog_density;
    if (!strcmp(link, "loglog")) out->density = loglog_density;
    return out->density != NULL;
}
