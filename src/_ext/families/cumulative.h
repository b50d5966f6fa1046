/* Private: logarithms of the distribution functions of binary and ordered links, with four derivatives, each
   taken from the side where it is small, so that none is a difference. */

#ifndef LMM_CUMULATIVE_H
#define LMM_CUMULATIVE_H

#include "families/normal.h"

typedef struct {
    double l, d1, d2, d3, d4;
} side;

/* log(1 - F) of the normal distribution at z >= 0. With normal.h's e, k, m: e' = e (e - k), k' = k (k - m).
 */
INLINE side normal_rare(double z, tail q)
{
    const double p = q.hazard, e = q.e, k = q.k, b = 2 * e - k, pe = p * e;
    side r;
    r.l = -z * z / 2 - HALF_LOG_2PI - logarithm(p);
    r.d1 = -p;
    r.d2 = -pe;
    r.d3 = -pe * e * k * (q.m - k);
    r.d4 = -pe * (b * b + 2 * e * (e - k) - k * (k - q.m));
    return r;
}

/* log F of the normal distribution at z >= 0; Q = 1 - F, h: density over F */
INLINE side normal_usual(double z, double Q, double h)
{
    const double s = z + h, a = s * (s + h) - 1;
    side r;
    r.l = logarithm_of_rest(Q);
    r.d1 = h;
    r.d2 = -h * s;
    r.d3 = h * a;
    r.d4 = h * ((1 - h * s) * (s + h) + s * (1 - 2 * h * s) - s * a);
    return r;
}

/* (u / 2) coth(u / 2) - 1 = sum of B_2j u^2j / (2j)!, j >= 1, where u <= 1 */
INLINE double coth_tail(double u)
{
    const double s = u * u, s2 = s * s;
    const double a = 1.0 / 12 - s * (1.0 / 720), b = 1.0 / 30240 - s * (1.0 / 1209600);
    const double c = 1.0 / 47900160 - s * (691.0 / 1307674368000.0);
    const double d = 1.0 / 74724249600.0 - s * (3617.0 / 10670622842880000.0);
    const double f = 8.5860620562778446e-15 - s * 2.1748686985580619e-16;
    return s * ((a + s2 * b) + s2 * s2 * ((c + s2 * d) + s2 * s2 * f));
}

/* log F of the extreme value distribution, F = 1 - exp(-e^eta); all = e^eta.
   (log F)' = p = u / (e^u - 1) = 1 - u / 2 + s with s = (u / 2) coth(u / 2) - 1; p is set for weights. */
INLINE side extreme_low(double eta, double all, double *p, double *s)
{
    const double u = smaller(all, 600), G = smaller(exponential(-u), 0.9), beyond = u * G / (1 - G);
    const double series = coth_tail(smaller(u, 1));
    const int low = u < 1;
    *p = low ? 1 - u / 2 + series : beyond;
    *s = low ? series : u / 2 + beyond - 1;
    const double c = *s, b = u / 2 + c, c1 = low ? u * u / 4 - c - c * c : u / 2 - beyond * b;
    const double curve = c - u / 2 + u * c + 2 * c * c;
    side r;
    r.l = low ? eta - u - logarithm(*p) : logarithm1p(-G);
    r.d1 = *p;
    r.d2 = -*p * b;
    r.d3 = *p * curve;
    r.d4 = *p * (c1 - u / 2 + u * c + u * c1 + 4 * c * c1 - b * curve);
    return r;
}

#endif
