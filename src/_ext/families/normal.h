/* Private: the upper tail of the standard normal. Its hazard has the continued fraction

     phi(z) / Q(z) = z + 1 / (z + 2 / (z + 3 / (z + ...))) = z + e,   e = 1 / (z + k),   k = 2 / (z + m)

   so that whoever knows m to the last digits has e, k and the hazard by additions of positive numbers: the
   derivatives of log Q are products of these and keep their digits in the farthest tail. m (z + 4.5) is a
   polynomial in (z - 4.5) / (z + 4.5): its Chebyshev series over z >= 0, cut where the terms are below 1e-16.
 */

#ifndef LMM_NORMAL_H
#define LMM_NORMAL_H

#include "families/vector.h"

typedef struct { /* at z >= 0 */
    double hazard, e, k, m;
} tail;

INLINE tail normal_tail(double z)
{
    const double D = z + 4.5, i = 1 / D, t = (z - 4.5) * i, s = t * t, s2 = s * s;
    /* even and odd powers, each by pairs: chains that do not wait for each other */
    double a = -2.4531309394737175e-06, b = 2.3675978164514237e-05;
    a = a * s2 + -0.00011297379880416755, b = b * s2 + 0.00036650079506688604;
    a = a * s2 + -0.0009446631166189018, b = b * s2 + 0.002139006865001842;
    a = a * s2 + -0.004529867100329958, b = b * s2 + 0.009260127602269064;
    a = a * s2 + -0.01848617173201437, b = b * s2 + 0.036098221374823436;
    a = a * s2 + -0.06855582270038296, b = b * s2 + 0.12377464805157518;
    a = a * s2 + -0.1921034072703085, b = b * s2 + 0.05155110450456974;
    double c = -1.2277304938086377e-06, d = 1.1984455475162206e-05;
    c = c * s2 + -5.7395066061979273e-05, d = d * s2 + 0.00018477094457671506;
    c = c * s2 + -0.0004665693449197942, d = d * s2 + 0.001026521735766788;
    c = c * s2 + -0.002121979368494896, d = d * s2 + 0.004329522982431602;
    c = c * s2 + -0.008978818449151266, d = d * s2 + 0.019268885780350298;
    c = c * s2 + -0.04331279457701956, d = d * s2 + 0.10301731970773002;
    c = c * s2 + -0.26315359374094915, d = d * s2 + 0.7485342989975511;
    const double even = 5.15200259729082 + s * (b + s * a);
    const double odd = -2.648761449939686 + s * (d + s * c);
    /* the continued fraction as quotients of sums of positive numbers: divisions that do not wait */
    const double P = even + t * odd, a2 = z * D + P, a3 = z * a2 + 2 * D;
    tail q;
    q.m = P * i;
    q.k = 2 * D / a2;
    q.e = a2 / a3;
    q.hazard = z + q.e;
    return q;
}

#endif
