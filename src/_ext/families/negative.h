/* Private: rows of the negative binomial with log link, for what is made of them. */

#ifndef LMM_NEGATIVE_H
#define LMM_NEGATIVE_H

#include "families/rows.h"
#include "families/special.h"

INLINE parameters size_of(const lmm_family *family, const double *x)
{
    (void)family;
    parameters c = {.x = larger(smaller(x[0], 300), -300)};
    c.e = exp(c.x);
    for (int j = 0; j < SHIFT; j++) c.inv[j] = 1 / (c.e + j);
    return c;
}

/* l = y eta - (y + s) log(1 + mu / s) + ..., a binomial's with pi = mu / (mu + s) */
INLINE void nb_log_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    const double s = c->e, from = eta - c->x, t = exponential(-fabs(from)), near = 1 / (1 + t),
                 far = t * near;
    const double pi = from > 0 ? near : far, rest = from > 0 ? far : near;
    const double soft = larger(from, 0) + logarithm1p_unit(t), v = (y + s) * (near * far), m = s * pi;
    r->l = w * ((y * eta - (y + s) * soft) + rising_with(c->inv, s, y));
    r->d1 = w * (y * rest - m);
    r->d2 = -w * v;
    r->d3 = w * v * (pi - rest);
    r->d4 = -w * v * (1 - 6 * near * far);
    r->w = w * m;
    r->dw = w * m * rest;
    if (level < EXTRA) return;
    r->lx = w * ((m - y * rest) + s * (digamma_rising(c->inv, s, y) - soft));
    r->d1x = w * (v - m);
    r->d2x = w * (v * (rest - pi) - m * rest);
    r->wx = w * m * pi;
}

#endif
