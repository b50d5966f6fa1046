/* Ordered responses, cumulative links: y = 0 .. K-1, P(y = k) = F(a_k - eta) - F(a_{k-1} - eta) with a_{-1}
   and a_{K-1} infinite. x_0 = a_0, x_k = log(a_k - a_{k-1}). Weights multiply l. The constant is 0.

   A class has an upper end u = a_k - eta and a lower one v. Two links separate them, without any
   cancellation:

     logit     log P = log F(u) + log(1 - F(v)) + log(1 - e^(v - u))
     cloglog   log P = -e^v + log F(v + log(e^(u - v) - 1)) */

#include "families/cumulative.h"
#include "families/rows.h"

#define MOST_CLASSES 1000

typedef struct {       /* log P of a class, and its derivatives                        */
    double l;          /* log P                                                        */
    double t[4];       /* in a shift of both ends, of order 1 to 4                     */
    double u[3], v[3]; /* of l, t[0], t[1] in the upper and in the lower end alone     */
} ends;

typedef struct { /* a class: which ends it has, where they are, their distance */
    double u, v, gap;
    int upper, lower;
} interval;

typedef void class_function(interval c, ends *r);

/* adds what depends on one end alone */
static void add_side(side s, double sign, double *end, ends *r)
{
    r->l += s.l;
    r->t[0] += sign * s.d1, r->t[1] += s.d2, r->t[2] += sign * s.d3, r->t[3] += s.d4;
    end[0] += sign * s.d1, end[1] += s.d2, end[2] += sign * s.d3;
}

/* log F(t) of the logistic distribution */
static side logistic_low(double t)
{
    const double s = exponential(-fabs(t)), near = 1 / (1 + s), far = s * near, v = near * far;
    const double F = t > 0 ? near : far, G = t > 0 ? far : near;
    return (side){smaller(t, 0) - logarithm1p_unit(s), G, -v, v * (F - G), -v * (1 - 6 * v)};
}

static void logit_class(interval c, ends *r)
{
    if (c.upper) add_side(logistic_low(c.u), 1, r->u, r);
    if (c.lower) add_side(logistic_low(-c.v), -1, r->v, r);
    if (!c.upper || !c.lower) return;
    const double q = 1 / expm1(c.gap);
    r->l += log(-expm1(-c.gap));
    r->u[0] += q, r->v[0] -= q;
}

static void cloglog_class(interval c, ends *r)
{
    if (c.lower) {
        const double g = -exponential(c.v);
        add_side((side){g, g, g, g, g}, 1, r->v, r);
    }
    if (!c.upper) return;
    const double t = c.lower ? c.v + c.gap + log(-expm1(-c.gap)) : c.u;
    const double k = c.lower ? -1 / expm1(-c.gap) : 1; /* derivative of t in u */
    double p, s, unused[3] = {0};
    const side low = extreme_low(t, exponential(t), &p, &s);
    const double d[] = {low.d1, low.d2, low.d3};
    add_side(low, 1, unused, r);
    for (int i = 0; i < 3; i++) {
        r->u[i] += k * d[i];
        if (c.lower) r->v[i] += (1 - k) * d[i];
    }
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

static void probit_class(interval c, ends *r)
{
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

typedef struct { /* what rows of a call share */
    class_function *of;
    int classes;
    double *a, *gap, *slope; /* K-1 thresholds, their distances, derivatives in x */
} scale;

static ends class_at(const scale *s, int k, double eta)
{
    const interval c = {.u = k < s->classes - 1 ? s->a[k] - eta : 0,
                        .v = k > 0 ? s->a[k - 1] - eta : 0,
                        .gap = k > 0 && k < s->classes - 1 ? s->gap[k] : 0,
                        .upper = k < s->classes - 1,
                        .lower = k > 0};
    ends r = {0};
    s->of(c, &r);
    return r;
}

/* to[j ldx] += by times the derivative in x_j of a function of the ends whose derivatives in these are u and
 * v */
static void add_in_x(const scale *s, int k, double by, double u, double v, double *to, ptrdiff_t ldx)
{
    for (int j = 0; j < k; j++) to[j * ldx] += by * s->slope[j] * (u + v);
    if (k < s->classes - 1) to[k * ldx] += by * s->slope[k] * u;
}

/* Expected weight E d1^2 at eta, its derivatives in eta and in x */
static void expect(const scale *s, double eta, double by, double *w, double *dw, double *wx, ptrdiff_t ldx)
{
    double sum = 0, slope = 0;
    for (int k = 0; k < s->classes; k++) {
        const ends e = class_at(s, k, eta);
        if (e.l < -600) continue;
        const double P = exp(e.l), t = e.t[0];
        sum += P * t * t;
        slope -= P * t * (t * t + 2 * e.t[1]);
        if (wx) add_in_x(s, k, by * P * t, e.u[0] * t + 2 * e.u[1], e.v[0] * t + 2 * e.v[1], wx, ldx);
    }
    if (w) *w = by * sum;
    if (dw) *dw = by * slope;
}

static void clear(int count, double *x, ptrdiff_t ldx)
{
    for (int j = 0; x && j < count; j++) x[j * ldx] = 0;
}

static void ordered_rows(const scale *s, int32_t n, const double *y, const double *w, const double *eta,
                         const lmm_density *o)
{
    const int nx = s->classes - 1;
    for (int32_t i = 0; i < n; i++) {
        const int k = (int)y[i];
        const double by = w ? w[i] : 1;
        const ends e = class_at(s, k, eta[i]);
        double *const lx = o->lx ? o->lx + i : NULL, *const d1x = o->d1x ? o->d1x + i : NULL;
        double *const d2x = o->d2x ? o->d2x + i : NULL, *const wx = o->wx ? o->wx + i : NULL;
        if (o->l) o->l[i] = by * e.l;
        if (o->d1) o->d1[i] = -by * e.t[0];
        if (o->d2) o->d2[i] = by * e.t[1];
        if (o->d3) o->d3[i] = -by * e.t[2];
        if (o->d4) o->d4[i] = by * e.t[3];
        clear(nx, lx, o->ldx), clear(nx, d1x, o->ldx), clear(nx, d2x, o->ldx), clear(nx, wx, o->ldx);
        if (lx) add_in_x(s, k, by, e.u[0], e.v[0], lx, o->ldx);
        if (d1x) add_in_x(s, k, -by, e.u[1], e.v[1], d1x, o->ldx);
        if (d2x) add_in_x(s, k, by, e.u[2], e.v[2], d2x, o->ldx);
        if (o->w || o->dw || wx)
            expect(s, eta[i], by, o->w ? o->w + i : NULL, o->dw ? o->dw + i : NULL, wx, o->ldx);
    }
}

static void ordered_density(const lmm_family *family, class_function *of, int32_t n, const double *y,
                            const double *w, const double *eta, const double *x, const lmm_density *out)
{
    double a[MOST_CLASSES], gap[MOST_CLASSES], slope[MOST_CLASSES];
    const scale s = {.of = of, .classes = family->classes, .a = a, .gap = gap, .slope = slope};
    a[0] = x[0], gap[0] = 0, slope[0] = 1;
    for (int k = 1; k < s.classes - 1; k++) {
        gap[k] = slope[k] = exp(larger(smaller(x[k], 300), -300));
        a[k] = a[k - 1] + gap[k];
    }
    ordered_rows(&s, n, y, w, eta, out);
}

#define ORDERED(LINK)                                                                                 \
    static void LINK##_density(const lmm_family *family, int32_t n, const double *y, const double *w, \
                               const double *eta, const double *x, const lmm_density *out)            \
    {                                                                                                 \
        ordered_density(family, LINK##_class, n, y, w, eta, x, out);                                  \
    }

ORDERED(logit)
ORDERED(probit)
ORDERED(cloglog)

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
    return out->density != NULL;
}
