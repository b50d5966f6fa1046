/* Positive responses, x = log phi: Gamma with variance phi mu^2, a proper likelihood of shape a = w / phi,
   and inverse Gaussian with variance phi mu^3. Written out by link, as in counts.c. */

#include "families/rows.h"
#include "families/special.h"

/* r = y / mu and its logarithm give l = a (1 + log r - r) + (a log a - a - log Gamma(a)) and what is x's; the
   constant is -log y. Needs d1, d2, w. */
INLINE void gamma_values(const int level, double a, double ratio, double logratio, row *r)
{
    r->l = a * (1 + logratio - ratio) + stirling_gap(a);
    if (level < EXTRA) return;
    r->lx = -a * ((1 + logratio - ratio) + digamma_gap(a));
    r->d1x = -r->d1;
    r->d2x = -r->d2;
    r->wx = -r->w;
}

INLINE void gamma_log_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double a = c->e * w, ratio = y * exponential(-eta), g = a * ratio;
    r->d1 = g - a;
    r->d2 = r->d4 = -g;
    r->d3 = g;
    r->w = a;
    r->dw = 0;
    gamma_values(level, a, ratio, logarithm(y) - eta, r);
}

INLINE void gamma_inverse_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double a = c->e * w, m = larger(eta, 1e-60), i = 1 / m, g = a * i;
    r->d1 = g - a * y;
    r->d2 = -g * i;
    r->d3 = 2 * g * i * i;
    r->d4 = -6 * g * i * i * i;
    r->w = g * i;
    r->dw = -2 * g * i * i;
    gamma_values(level, a, y * m, logarithm(y * m), r);
    if (!(eta > 0)) r->l = BARRED;
}

INLINE void gamma_identity_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double a = c->e * w, mu = larger(eta, 1e-60), i = 1 / mu, ratio = y * i, g = a * i;
    r->d1 = g * (ratio - 1);
    r->d2 = g * i * (1 - 2 * ratio);
    r->d3 = g * i * i * (6 * ratio - 2);
    r->d4 = g * i * i * i * (6 - 24 * ratio);
    r->w = g * i;
    r->dw = -2 * g * i * i;
    gamma_values(level, a, ratio, logarithm(ratio), r);
    if (!(eta > 0)) r->l = BARRED;
}

DENSITY(gamma_log, dispersion)
DENSITY(gamma_inverse, dispersion)
DENSITY(gamma_identity, dispersion)

/* l = -x / 2 - e (y m - 1)^2 / (2 y), m = 1 / mu; the constant has the rest. Needs d1, d2, w. */
INLINE void inverse_gaussian_values(const parameters *c, double y, double w, double m, row *r)
{
    const double off = y * m - 1, half = c->e * w * off * off / (2 * y);
    r->l = -c->x / 2 - half;
    r->lx = half - 0.5;
    r->d1x = -r->d1;
    r->d2x = -r->d2;
    r->wx = -r->w;
}

INLINE void inverse_gaussian_log_row(const int level, const parameters *c, double y, double w, double eta,
                                     row *r)
{
    (void)level;
    const double m = exponential(smaller(-eta, 340)), g = c->e * w * m, h = g * y * m;
    r->d1 = h - g;
    r->d2 = g - 2 * h;
    r->d3 = 4 * h - g;
    r->d4 = g - 8 * h;
    r->w = g;
    r->dw = -g;
    inverse_gaussian_values(c, y, w, m, r);
}

INLINE void inverse_gaussian_inverse_row(const int level, const parameters *c, double y, double w, double eta,
                                         row *r)
{
    (void)level;
    const double e = c->e * w, i = 1 / larger(eta, 1e-60);
    r->d1 = e * (1 - y * eta);
    r->d2 = -e * y;
    r->d3 = r->d4 = 0;
    r->w = e * i;
    r->dw = -e * i * i;
    inverse_gaussian_values(c, y, w, eta, r);
    if (!(eta > 0)) r->l = BARRED;
}

INLINE void inverse_gaussian_squared_row(const int level, const parameters *c, double y, double w, double eta,
                                         row *r)
{
    (void)level;
    const double e = c->e * w, m = sqrt(larger(eta, 1e-60)), i = 1 / larger(eta, 1e-60), g = e * i / m;
    r->d1 = e * (1 / m - y) / 2;
    r->d2 = -g / 4;
    r->d3 = g * i * (3.0 / 8);
    r->d4 = -g * i * i * (15.0 / 16);
    r->w = g / 4;
    r->dw = -g * i * (3.0 / 8);
    inverse_gaussian_values(c, y, w, m, r);
    if (!(eta > 0)) r->l = BARRED;
}

INLINE void inverse_gaussian_identity_row(const int level, const parameters *c, double y, double w,
                                          double eta, row *r)
{
    (void)level;
    const double i = 1 / larger(eta, 1e-45), e = c->e * w * i * i, ratio = y * i;
    r->d1 = e * (ratio - 1);
    r->d2 = e * i * (2 - 3 * ratio);
    r->d3 = e * i * i * (12 * ratio - 6);
    r->d4 = e * i * i * i * (24 - 60 * ratio);
    r->w = e * i;
    r->dw = -3 * e * i * i;
    inverse_gaussian_values(c, y, w, i, r);
    if (!(eta > 0)) r->l = BARRED;
}

DENSITY(inverse_gaussian_log, dispersion)
DENSITY(inverse_gaussian_inverse, dispersion)
DENSITY(inverse_gaussian_squared, dispersion)
DENSITY(inverse_gaussian_identity, dispersion)

static double gamma_constant(const lmm_family *family, int64_t n, const double *y, const double *w)
{
    (void)family, (void)w;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum -= log(y[i]);
    return sum;
}

static double inverse_gaussian_constant(const lmm_family *family, int64_t n, const double *y, const double *w)
{
    (void)family;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (log(w ? w[i] : 1) - 3 * log(y[i])) / 2 - HALF_LOG_2PI;
    return sum;
}

int find_gamma(const char *family, const char *link, lmm_family *out)
{
    (void)family;
    out->nextra = 1;
    out->constant = gamma_constant;
    out->concave = strcmp(link, "identity") != 0;
    if (!strcmp(link, "log")) out->density = gamma_log_density;
    if (!strcmp(link, "inverse")) out->density = gamma_inverse_density;
    if (!strcmp(link, "identity")) out->density = gamma_identity_density;
    return out->density != NULL;
}

int find_inverse_gaussian(const char *family, const char *link, lmm_family *out)
{
    (void)family;
    out->nextra = 1;
    out->constant = inverse_gaussian_constant;
    out->concave = !strcmp(link, "inverse") || !strcmp(link, "inversesquared");
    if (!strcmp(link, "log")) out->density = inverse_gaussian_log_density;
    if (!strcmp(link, "inverse")) out->density = inverse_gaussian_inverse_density;
    if (!strcmp(link, "inversesquared")) out->density = inverse_gaussian_squared_density;
    if (!strcmp(link, "identity")) out->density = inverse_gaussian_identity_density;
    return out->density != NULL;
}
