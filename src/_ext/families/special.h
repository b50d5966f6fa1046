/* Private: the gamma function's logarithm and its derivatives, as differences that keep their digits where
   arguments are large. All are Stirling's series at an argument of 8 or more, which recurrences lead to. */

#ifndef LMM_SPECIAL_H
#define LMM_SPECIAL_H

#include "families/vector.h"

#define SHIFT 8

/* log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2 for z >= 8 */
INLINE double stirling_tail(double z)
{
    const double i = 1 / z, s = i * i;
    const double a = 1.0 / 12 - s * (1.0 / 360), b = 1.0 / 1260 - s * (1.0 / 1680);
    const double c = 1.0 / 1188 - s * (691.0 / 360360), d = 1.0 / 156 - s * (3617.0 / 122400);
    return i * ((a + s * s * b) + s * s * s * s * (c + s * s * d));
}

/* log z - digamma(z) for z >= 8 */
INLINE double digamma_tail(double z)
{
    const double i = 1 / z, s = i * i;
    const double a = 1.0 / 12 - s * (1.0 / 120), b = 1.0 / 252 - s * (1.0 / 240);
    const double c = 1.0 / 132 - s * (691.0 / 32760), d = 1.0 / 12 - s * (3617.0 / 8160);
    return i / 2 + s * ((a + s * s * b) + s * s * s * s * (c + s * s * d));
}

/* log Gamma(x), x > 0 */
INLINE double log_gamma(double x)
{
    const double z = x + SHIFT;
    double product = x;
    for (int j = 1; j < SHIFT; j++) product *= x < 1e30 ? x + j : 1;
    if (x >= 1e30) return (x - 0.5) * logarithm(x) - x + HALF_LOG_2PI;
    return (z - 0.5) * logarithm(z) - z + HALF_LOG_2PI + stirling_tail(z) - logarithm(product);
}

/* log Gamma(s + y) - log Gamma(s) - y log s for s > 0, y >= 0; goes to 0 as s grows. inv: 1 / (s + j), j < 8
 */
INLINE double rising_with(const double *inv, double s, double y)
{
    const double z = s + SHIFT;
    double product = 1;
    for (int j = 0; j < SHIFT; j++) product *= 1 + y * inv[j];
    return y * logarithm1p(SHIFT * inv[0]) - logarithm(product) + ((y + z - 0.5) * logarithm1p(y / z) - y) +
           (stirling_tail(y + z) - stirling_tail(z));
}

INLINE double rising(double s, double y)
{
    double inv[SHIFT];
    for (int j = 0; j < SHIFT; j++) inv[j] = 1 / (s + j);
    return rising_with(inv, s, y);
}

/* digamma(s + y) - digamma(s) */
INLINE double digamma_rising(const double *inv, double s, double y)
{
    const double z = s + SHIFT;
    double sum = 0;
    for (int j = 0; j < SHIFT; j++) sum += inv[j] - 1 / (s + y + j);
    return sum + logarithm1p(y / z) - (digamma_tail(y + z) - digamma_tail(z));
}

/* a log a - a - log Gamma(a) for a > 0: about log(a / 2 pi) / 2 */
INLINE double stirling_gap(double a)
{
    const double z = a + SHIFT, i = 1 / z;
    double product = a * i;
    for (int j = 1; j < SHIFT; j++) product *= (a + j) * i;
    return (logarithm(z) / 2 - HALF_LOG_2PI - stirling_tail(z)) + (SHIFT - a * logarithm1p(SHIFT / a)) +
           logarithm(product);
}

/* its derivative, log a - digamma(a): about 1 / (2 a) */
INLINE double digamma_gap(double a)
{
    const double z = a + SHIFT;
    double sum = 0;
    for (int j = 0; j < SHIFT; j++) sum += 1 / (a + j);
    return digamma_tail(z) + (sum - logarithm1p(SHIFT / a));
}

typedef struct {
    double d0, d1, d2, d3;
} polygammas;

/* polygamma at z >= 8 without log z, 1 / z, -1 / z^2, 2 / z^3, its leading terms */
INLINE polygammas polygamma_tail(double z)
{
    const double i = 1 / z, s = i * i;
    const double B[] = {1.0 / 6,  -1.0 / 30,     1.0 / 42, -1.0 / 30,
                        5.0 / 66, -691.0 / 2730, 7.0 / 6,  -3617.0 / 510};
    double a = 0, b = 0, c = 0; /* Bernoulli numbers over powers of z */
    for (int k = 7; k >= 0; k--) {
        a = (a + B[k]) * s;
        b = (b + (2 * k + 3) * B[k]) * s;
        c = (c + (2 * k + 3) * (2 * k + 4) * B[k]) * s;
    }
    return (polygammas){-digamma_tail(z), s / 2 + a * i, -(s * i + b * s), i * s * c + 3 * s * s};
}

/* digamma(x) and its first three derivatives, x > 0 */
INLINE polygammas polygamma(double x)
{
    const double z = x + SHIFT, i = 1 / z, s = i * i;
    const polygammas tail = polygamma_tail(z);
    double s1 = 0, s2 = 0, s3 = 0, s4 = 0;
    for (int j = 0; j < SHIFT; j++) {
        const double r = 1 / (x + j), t = r * r;
        s1 += r, s2 += t, s3 += r * t, s4 += t * t;
    }
    return (polygammas){logarithm(z) + tail.d0 - s1, i + tail.d1 + s2, -s + tail.d2 - 2 * s3,
                        2 * i * s + tail.d3 + 6 * s4};
}

/* polygamma(x + y) - polygamma(x), y >= 0, to its own last digits where y is nothing beside x */
INLINE polygammas polygamma_rising(double x, double y)
{
    const double z = x + SHIFT, i = 1 / z, k = 1 / (z + y), d = -y * i * k;
    const polygammas low = polygamma_tail(z), high = polygamma_tail(z + y);
    double s1 = 0, s2 = 0, s3 = 0, s4 = 0;
    for (int j = 0; j < SHIFT; j++) {
        const double p = 1 / (x + j), q = 1 / (x + y + j), e = y * p * q;
        s1 += e, s2 += e * (p + q), s3 += e * (p * p + p * q + q * q), s4 += e * (p + q) * (p * p + q * q);
    }
    return (polygammas){logarithm1p(y / z) + (high.d0 - low.d0) + s1, d + (high.d1 - low.d1) - s2,
                        -d * (i + k) + (high.d2 - low.d2) + 2 * s3,
                        2 * d * (i * i + i * k + k * k) + (high.d3 - low.d3) - 6 * s4};
}

#endif
