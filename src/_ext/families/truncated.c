/* Counts that cannot be zero: y given y > 0, log link. mu is the mean before; weights multiply l.

   log(1 - e^-g) is what l loses, -g being the logarithm of the probability of a zero: g = mu of Poisson, and
   g = s log(1 + mu / s) of the negative binomial, x = log s. */

#include "families/cumulative.h"
#include "families/negative.h"

INLINE void truncated_poisson_row(const int level, const parameters *c, double y, double w, double eta,
                                  row *r)
{
    (void)c, (void)level;
    const double mu = exponential(eta);
    double p, s;
    const side lost = extreme_low(eta, mu, &p, &s);
    r->l = w * (y * eta - mu - lost.l);
    r->d1 = w * (y - mu - lost.d1);
    r->d2 = -w * (mu + lost.d2);
    r->d3 = -w * (mu + lost.d3);
    r->d4 = -w * (mu + lost.d4);
    r->w = w * (mu + lost.d2);
    r->dw = w * (mu + lost.d3);
    no_extra(r);
}

/* By the chain rule through g: h1 .. h4 are derivatives of log(1 - e^-g), and a function s k(eta - x) has its
   own value less its derivative in eta as derivative in x. */
INLINE void truncated_nb_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    nb_log_row(level, c, y, 1, eta, r);
    const double s = c->e, from = eta - c->x, t = exponential(-fabs(from)), near = 1 / (1 + t),
                 far = t * near;
    const double pi = from > 0 ? near : far, v = near * far, odd = from > 0 ? far - near : near - far;
    const double g = larger(s * (larger(from, 0) + logarithm1p_unit(t)), 1e-60);
    const double g1 = s * pi, g2 = s * v, g3 = g2 * odd, g4 = g2 * (1 - 6 * v);
    double p, unused;
    const side lost = extreme_low(logarithm(g), g, &p, &unused);
    const double h1 = p / g, h2 = -h1 * (1 + h1), h3 = -h2 * (1 + 2 * h1), h4 = h2 * (1 + 6 * h1 * (1 + h1));
    const double m = s * pi * pi, e = m * (1 + h1); /* v times the mean before and after, without overflow */
    const double H2 = h2 * g1 * g1 + h1 * g2, H3 = h3 * g1 * g1 * g1 + 3 * h2 * g1 * g2 + h1 * g3;
    r->l = w * (r->l - lost.l);
    r->d1 = w * (r->d1 - h1 * g1);
    r->d2 = w * (r->d2 - H2);
    r->d3 = w * (r->d3 - H3);
    r->d4 = w * (r->d4 - (h4 * g1 * g1 * g1 * g1 + 6 * h3 * g1 * g1 * g2 + h2 * (3 * g2 * g2 + 4 * g1 * g3) +
                          h1 * g4));
    r->w = w * (e + g2 + H2);
    r->dw = w * (e * (1 - h1 * g1) + (e + g2) * odd + H3);
    if (level < EXTRA) return;
    const double gx = g - g1, g1x = g1 - g2,
                 H2x = h3 * gx * g1 * g1 + h2 * (2 * g1 * g1x + gx * g2) + h1 * (g2 - g3);
    r->lx = w * (r->lx - h1 * gx);
    r->d1x = w * (r->d1x - h2 * gx * g1 - h1 * g1x);
    r->d2x = w * (r->d2x - H2x);
    r->wx = w * (m * h2 * gx + g2 - (e + g2) * odd + H2x);
}

DENSITY(truncated_poisson, no_parameters)
DENSITY(truncated_nb, size_of)

int find_truncated(const char *family, const char *link, lmm_family *out)
{
    const int poisson = !strcmp(family, "truncatedpoisson");
    out->constant = count_constant;
    out->nextra = !poisson;
    out->concave = poisson;
    if (!strcmp(link, "log")) out->density = poisson ? truncated_poisson_density : truncated_nb_density;
    return out->density != NULL;
}
