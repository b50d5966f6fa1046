/* Families whose gamma functions have the mean in their argument. Weights multiply l, but are the trials of a
   beta-binomial.

     beta            0 < y < 1, shapes a = mu s and b = (1 - mu) s
     beta-binomial   y of w trials, the probability of a success is beta with these shapes
     nb1             counts with variance mu (1 + phi), a negative binomial of size mu / phi

   x: log s, the precision, or log phi. Of the last two E -d2 has no closed form: w is mu'^2 / Var y, the
   information of the mean alone, which is not more. */

#include "families/rows.h"
#include "families/special.h"

INLINE parameters precision(const lmm_family *family, const double *x)
{
    (void)family;
    parameters c = {.x = larger(smaller(x[0], 30), -30)};
    c.e = exp(c.x);
    for (int j = 0; j < SHIFT; j++) c.inv[j] = 1 / (c.e + j);
    return c;
}

typedef struct { /* the mean of a logit, and its derivatives in eta */
    double eta, t, F, G, m1, m2, m3, m4;
} logit_mean;

INLINE logit_mean logit_at(double eta)
{
    logit_mean m = {.eta = larger(smaller(eta, 100), -100)};
    m.t = exponential(-fabs(m.eta));
    const double near = 1 / (1 + m.t), far = m.t * near;
    m.F = m.eta > 0 ? near : far, m.G = m.eta > 0 ? far : near;
    m.m1 = near * far, m.m2 = m.m1 * (m.G - m.F), m.m3 = m.m1 * (1 - 6 * m.m1);
    m.m4 = m.m2 * (1 - 12 * m.m1);
    return m;
}

/* Derivatives in eta from those in the mean: a[0] = l_mu, ... */
INLINE void chain(const double *a, const logit_mean *m, double w, row *r)
{
    const double s = m->m1 * m->m1;
    r->d1 = w * a[0] * m->m1;
    r->d2 = w * (a[1] * s + a[0] * m->m2);
    r->d3 = w * (a[2] * s * m->m1 + 3 * a[1] * m->m1 * m->m2 + a[0] * m->m3);
    r->d4 = w * (a[3] * s * s + 6 * a[2] * s * m->m2 + a[1] * (3 * m->m2 * m->m2 + 4 * m->m1 * m->m3) +
                 a[0] * m->m4);
}

INLINE void beta_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double s = c->e;
    const logit_mean m = logit_at(eta);
    const double a = s * m.F, b = s * m.G, logy = logarithm(y), logz = logarithm1p(-y);
    r->l = w * ((log_gamma(s) - log_gamma(a) - log_gamma(b)) + a * logy + b * logz);
    if (level == VALUES) return;
    const polygammas p = polygamma(a), q = polygamma(b);
    const double in_mean[] = {s * (logy - logz - (p.d0 - q.d0)), -s * s * (p.d1 + q.d1),
                              -s * s * s * (p.d2 - q.d2), -s * s * s * s * (p.d3 + q.d3)};
    chain(in_mean, &m, w, r);
    r->w = -w * in_mean[1] * m.m1 * m.m1;
    r->dw = -w * (in_mean[2] * m.m1 * m.m1 * m.m1 + 2 * in_mean[1] * m.m1 * m.m2);
    if (level < EXTRA) return;
    const double u = in_mean[0] - s * (a * p.d1 - b * q.d1);
    const double v = 2 * in_mean[1] - s * s * (a * p.d2 + b * q.d2);
    r->lx = w * (s * polygamma(s).d0 + a * (logy - p.d0) + b * (logz - q.d0));
    r->d1x = w * u * m.m1;
    r->d2x = w * (v * m.m1 * m.m1 + u * m.m2);
    r->wx = -w * v * m.m1 * m.m1;
}

INLINE void beta_binomial_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double s = c->e, rest = w - y;
    const logit_mean m = logit_at(eta);
    const double a = s * m.F, b = s * m.G;
    r->l = y * smaller(m.eta, 0) - rest * larger(m.eta, 0) - w * logarithm1p_unit(m.t) +
           (rising(a, y) + rising(b, rest) - rising_with(c->inv, s, w));
    if (level == VALUES) return;
    const polygammas p = polygamma_rising(a, y);
    const polygammas q = polygamma_rising(b, rest);
    const double in_mean[] = {s * (p.d0 - q.d0), s * s * (p.d1 + q.d1), s * s * s * (p.d2 - q.d2),
                              s * s * s * s * (p.d3 + q.d3)};
    chain(in_mean, &m, 1, r);
    const double share = (1 + s) / (w + s);
    r->w = w * m.m1 * share;
    r->dw = w * m.m2 * share;
    if (level < EXTRA) return;
    const double u = in_mean[0] + s * (a * p.d1 - b * q.d1),
                 v = 2 * in_mean[1] + s * s * (a * p.d2 + b * q.d2);
    r->lx = a * p.d0 + b * q.d0 - s * digamma_rising(c->inv, s, w);
    r->d1x = u * m.m1;
    r->d2x = v * m.m1 * m.m1 + u * m.m2;
    r->wx = r->w * (s / (1 + s) - s / (w + s));
}

/* Of the size q = mu / phi = e^(eta - x) */
INLINE void nb1_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double t = larger(smaller(eta, 100), -100), q = exponential(t - c->x), mu = exponential(t);
    const double each = logarithm1p(c->e), share = c->e * c->inv[1];
    r->l = w * (y * t - (y + q) * each + rising(q, y));
    if (level == VALUES) return;
    const polygammas p = polygamma_rising(q, y);
    const double d0 = q * (p.d0 - each), d1 = q * q * p.d1, d2 = q * q * q * p.d2;
    r->d1 = w * d0;
    r->d2 = w * (d0 + d1);
    r->d3 = w * (d0 + 3 * d1 + d2);
    r->d4 = w * (d0 + 7 * d1 + 6 * d2 + q * q * q * q * p.d3);
    r->w = r->dw = w * mu * c->inv[1];
    if (level < EXTRA) return;
    r->lx = w * (y - (y + q) * share - d0);
    r->d1x = -w * (d0 + d1 + q * share);
    r->d2x = -w * (d0 + 3 * d1 + d2 + q * share);
    r->wx = -r->w * share;
}

DENSITY(beta, precision)
DENSITY(beta_binomial, precision)
DENSITY(nb1, precision)

static double beta_constant(const lmm_family *family, int64_t n, const double *y, const double *w)
{
    (void)family;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum -= (w ? w[i] : 1) * (log(y[i]) + log1p(-y[i]));
    return sum;
}

int find_shape(const char *family, const char *link, lmm_family *out)
{
    out->nextra = 1;
    if (!strcmp(family, "beta") && !strcmp(link, "logit"))
        out->density = beta_density, out->constant = beta_constant;
    if (!strcmp(family, "betabinomial") && !strcmp(link, "logit"))
        out->density = beta_binomial_density, out->constant = binomial_constant;
    if (!strcmp(family, "nb1") && !strcmp(link, "log"))
        out->density = nb1_density, out->constant = count_constant;
    return out->density != NULL;
}
