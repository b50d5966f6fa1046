/* Counts: Poisson, and negative binomial with variance mu + mu^2 / size, x = log size. Weights multiply l.
   What a link makes of them is written out: less to compute than by the chain rule, and nothing to cancel. */

#include "families/rows.h"
#include "families/negative.h"

INLINE void poisson_log_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double v = w * exponential(eta);
    r->l = w * y * eta - v;
    r->d1 = w * y - v;
    r->d2 = r->d3 = r->d4 = -v;
    r->w = r->dw = v;
    no_extra(r);
}

/* y / mu^k and its like, without 0 / 0 at mu = 0 */
INLINE double share(double y, double i)
{
    return y > 0 ? y * i : 0;
}

INLINE void poisson_identity_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double mu = larger(eta, 1e-60), i = 1 / mu, g = w * y * i;
    r->l = eta > 0 ? w * (y * logarithm(mu) - mu) : BARRED;
    r->d1 = g - w;
    r->d2 = -g * i;
    r->d3 = 2 * g * i * i;
    r->d4 = -6 * g * i * i * i;
    r->w = w * i;
    r->dw = -w * i * i;
    no_extra(r);
}

/* mu = eta^2, on either side of zero */
INLINE void poisson_sqrt_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double size = larger(fabs(eta), 1e-60), i = (eta < 0 ? -1 : 1) / size, g = 2 * w * share(y, i);
    r->l = w * ((y > 0 ? 2 * y * logarithm(size) : 0) - eta * eta);
    r->d1 = g - 2 * w * eta;
    r->d2 = -g * i - 2 * w;
    r->d3 = 2 * g * i * i;
    r->d4 = -6 * g * i * i * i;
    r->w = 4 * w;
    r->dw = 0;
    no_extra(r);
}

DENSITY(poisson_log, no_parameters)
DENSITY(poisson_identity, no_parameters)
DENSITY(poisson_sqrt, no_parameters)

/* l, lx and wx / w where mu and its logarithm are known; q = 1 / (mu + s) */
INLINE void nb_values(const int level, const parameters *c, double y, double w, double mu, double ylog,
                      row *r)
{
    const double s = c->e, q = 1 / (mu + s), soft = logarithm1p(mu / s);
    r->l = w * (ylog - (y + s) * soft + rising_with(c->inv, s, y));
    if (level >= EXTRA) r->lx = w * (((y + s) * mu * q - y) + s * (digamma_rising(c->inv, s, y) - soft));
}

INLINE void nb_identity_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double mu = larger(smaller(eta, 1e150), 1e-60), s = c->e, i = 1 / mu, q = 1 / (mu + s), g = y * i,
                 k = (y + s) * q;
    nb_values(level, c, y, w, mu, y * logarithm(mu), r);
    if (!(eta > 0)) r->l = BARRED;
    r->d1 = w * (g - k);
    r->d2 = w * (k * q - g * i);
    r->d3 = 2 * w * (g * i * i - k * q * q);
    r->d4 = 6 * w * (k * q * q * q - g * i * i * i);
    r->w = w * i * (s * q);
    r->dw = -r->w * (i + q);
    if (level < EXTRA) return;
    r->d1x = w * (s * q) * (k - 1);
    r->d2x = w * (s * q) * q * (1 - 2 * k);
    r->wx = r->w * mu * q;
}

/* mu = eta^2, on either side of zero */
INLINE void nb_sqrt_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double size = larger(smaller(fabs(eta), 1e75), 1e-60), sign = eta < 0 ? -1 : 1;
    const double i = sign / size, g = 2 * share(y, i), s = c->e, mu = size * size, q = 1 / (mu + s),
                 k = (y + s) * q, pi = mu * q;
    eta = sign * size;
    nb_values(level, c, y, w, mu, y > 0 ? 2 * y * logarithm(size) : 0, r);
    r->d1 = w * (g - 2 * k * eta);
    r->d2 = -w * (g * i + k * (2 - 4 * pi));
    r->d3 = w * (2 * g * i * i + k * q * eta * (12 - 16 * pi));
    r->d4 = w * (k * q * (12 - 96 * pi * (1 - pi)) - 6 * g * i * i * i);
    r->w = 4 * w * (s * q);
    r->dw = -r->w * 2 * eta * q;
    if (level < EXTRA) return;
    r->d1x = 2 * w * (s * q) * eta * (k - 1);
    r->d2x = 2 * w * (s * q) * (2 * pi * (1 - 2 * k) + (k - 1));
    r->wx = r->w * pi;
}

DENSITY(nb_log, size_of)
DENSITY(nb_identity, size_of)
DENSITY(nb_sqrt, size_of)

double count_constant(const lmm_family *family, int64_t n, const double *y, const double *w)
{
    (void)family;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum -= (w ? w[i] : 1) * log_gamma(y[i] + 1);
    return sum;
}

int find_count(const char *family, const char *link, lmm_family *out)
{
    const int poisson = !strcmp(family, "poisson");
    out->constant = count_constant;
    out->nextra = !poisson;
    out->concave = poisson || !strcmp(link, "log");
    if (!strcmp(link, "log")) out->density = poisson ? poisson_log_density : nb_log_density;
    if (!strcmp(link, "identity")) out->density = poisson ? poisson_identity_density : nb_identity_density;
    if (!strcmp(link, "sqrt")) out->density = poisson ? poisson_sqrt_density : nb_sqrt_density;
    return out->density != NULL;
}
