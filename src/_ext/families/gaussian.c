/* Gaussian responses with variance phi / w, x = log phi: l = -x / 2 - e (y - mu)^2 / 2, e = w / phi. */

#include "families/rows.h"

/* Needs d1, d2, w. */
INLINE void gaussian_values(const parameters *c, double e, double residual, row *r)
{
    const double half = e * residual * residual / 2;
    r->l = -c->x / 2 - half;
    r->lx = half - 0.5;
    r->d1x = -r->d1;
    r->d2x = -r->d2;
    r->wx = -r->w;
}

INLINE void gaussian_identity_row(const int level, const parameters *c, double y, double w, double eta,
                                  row *r)
{
    (void)level;
    const double e = c->e * w;
    r->d1 = e * (y - eta);
    r->d2 = -e;
    r->d3 = r->d4 = r->dw = 0;
    r->w = e;
    gaussian_values(c, e, y - eta, r);
}

INLINE void gaussian_log_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)level;
    const double mu = exponential(smaller(eta, 340)), e = c->e * w, g = e * mu;
    r->d1 = g * (y - mu);
    r->d2 = g * (y - 2 * mu);
    r->d3 = g * (y - 4 * mu);
    r->d4 = g * (y - 8 * mu);
    r->w = g * mu;
    r->dw = 2 * g * mu;
    gaussian_values(c, e, y - mu, r);
}

/* mu = 1 / eta, on either side of zero */
INLINE void gaussian_inverse_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)level;
    const double mu = (eta < 0 ? -1 : 1) / larger(fabs(eta), 1e-45), e = c->e * w, g = e * mu * mu;
    r->d1 = g * (mu - y);
    r->d2 = g * mu * (2 * y - 3 * mu);
    r->d3 = g * mu * mu * (12 * mu - 6 * y);
    r->d4 = g * mu * mu * mu * (24 * y - 60 * mu);
    r->w = g * mu * mu;
    r->dw = -4 * g * mu * mu * mu;
    gaussian_values(c, e, y - mu, r);
    if (!(fabs(eta) > 0)) r->l = BARRED;
}

DENSITY(gaussian_identity, dispersion)
DENSITY(gaussian_log, dispersion)
DENSITY(gaussian_inverse, dispersion)

static double gaussian_constant(const lmm_family *family, int64_t n, const double *y, const double *w)
{
    (void)family, (void)y;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += log(w ? w[i] : 1) / 2 - HALF_LOG_2PI;
    return sum;
}

int find_gaussian(const char *family, const char *link, lmm_family *out)
{
    (void)family;
    out->constant = gaussian_constant;
    out->nextra = 1;
    out->concave = !strcmp(link, "identity");
    if (!strcmp(link, "identity")) out->density = gaussian_identity_density;
    if (!strcmp(link, "log")) out->density = gaussian_log_density;
    if (!strcmp(link, "inverse")) out->density = gaussian_inverse_density;
    return out->density != NULL;
}
