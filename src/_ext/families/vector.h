/* Private: exponential functions for loops over rows. No branches and no tables, so that compilers turn a
   loop that calls them into vector instructions; within two units of the last place. Arguments are finite. */

#ifndef LMM_VECTOR_H
#define LMM_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/small.h"

#define LN2_HIGH 0x1.62e42fefa0000p-1 /* the last 17 bits are zero: times an exponent it is exact */
#define LN2_LOW 0x1.cf79abc9e3b3ap-40
#define LN2 0x1.62e42fefa39efp-1
#define HALF_LOG_2PI 0.91893853320467274178

INLINE double of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

INLINE uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof(x));
    return bits;
}

/* These select; fmin and fmax would be calls where NaN is honoured. */
INLINE double smaller(double a, double b)
{
    return a < b ? a : b;
}

INLINE double larger(double a, double b)
{
    return a > b ? a : b;
}

/* e^x, never zero and never infinite: below -708 and above 690 it stays what it is there. A sum of a
   number shifted by 1.5 2^52 is a rounded integer, and its low bits are that integer's. */
INLINE double exponential(double x)
{
    const double shift = 0x1.8p52;
    x = larger(smaller(x, 690), -708);
    double k = x * 0x1.71547652b82fep0 + shift;
    const uint64_t bits = bits_of(k);
    k -= shift;
    const double r = x - k * LN2_HIGH - k * LN2_LOW, s = r * r, s2 = s * s; /* |r| < log(2) / 2 */
    const double a = 1.0 / 2 + r * (1.0 / 6), b = 1.0 / 24 + r * (1.0 / 120);
    const double c = 1.0 / 720 + r * (1.0 / 5040), d = 1.0 / 40320 + r * (1.0 / 362880);
    const double e = 1.0 / 3628800 + r * (1.0 / 39916800), f = 1.0 / 479001600 + r * (1.0 / 6227020800);
    const double tail = s * ((a + s * b) + s2 * ((c + s * d) + s2 * (e + s * f)));
    return (1 + (r + tail)) * of_bits((bits + 1023) << 52);
}

/* log((1 + s) / (1 - s)) - 2s, over s, for s^2 < 0.03 */
INLINE double atanh_tail(double s)
{
    const double z = s * s, z2 = z * z, z4 = z2 * z2;
    const double a = 2.0 / 3 + z * (2.0 / 5), b = 2.0 / 7 + z * (2.0 / 9), c = 2.0 / 11 + z * (2.0 / 13);
    const double d = 2.0 / 15 + z * (2.0 / 17), e = 2.0 / 19 + z * (2.0 / 21);
    return z * ((a + z2 * b) + z4 * ((c + z2 * d) + z4 * e));
}

/* log(x) for normal x > 0; anything for others */
INLINE double logarithm(double x)
{
    const uint64_t root = 0x3FE6A09E667F3BCD, one = 0x3FF0000000000000; /* of 1 / sqrt(2) and of 1 */
    const uint64_t up = bits_of(x) - root + one, exponent = up >> 52;
    const double k = of_bits(exponent | 0x4330000000000000) - (0x1p52 + 1023);
    const double f = of_bits(bits_of(x) - (exponent << 52) + one) - 1; /* sqrt(1/2) <= 1 + f < sqrt(2) */
    const double s = f / (2 + f);
    return k * LN2_HIGH + (f - (s * (f - atanh_tail(s)) - k * LN2_LOW));
}

/* log(1 + t) for t > -1 */
INLINE double logarithm1p(double t)
{
    const double u = 1 + t, big = larger(t, 1), small = smaller(t, 1);
    return logarithm(u) + (small - (u - big)) / u; /* the second: what rounding took from u */
}

/* log(1 + t) for t in [0, 1]: log(2) + log((1 + t) / 2) where t is near 1 */
INLINE double logarithm1p_unit(double t)
{
    const int upper = t > 0.41421356237309503;
    const double f = upper ? (t - 1) / 2 : t;
    const double s = f / (2 + f), base = f - s * (f - atanh_tail(s));
    return upper ? base + LN2 : base;
}

/* log(1 - q) for q in [0, 1/2] */
INLINE double logarithm_of_rest(double q)
{
    const double root = 1.41421356237309505; /* of 2 */
    const int upper = q > 0.29289321881345248;
    const double f = upper ? (1 - q) * root - 1 : -q;
    const double s = f / (2 + f), base = f - s * (f - atanh_tail(s));
    return upper ? base - LN2 / 2 : base;
}

#endif
