/* Binomial responses: y successes of w trials, l = y log F(eta) + (w - y) log(1 - F(eta)). Every link takes
   F, 1 - F and what its derivatives need from the side where they are small, so none is a difference. */

#include "families/normal.h"
#include "families/rows.h"
#include "families/special.h"

INLINE void logit_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double t = exponential(-fabs(eta)), near = 1 / (1 + t), far = t * near;
    const double F = eta > 0 ? near : far, G = eta > 0 ? far : near, v = w * (near * far);
    r->l = y * smaller(eta, 0) - (w - y) * larger(eta, 0) - w * logarithm1p_unit(t);
    r->d1 = y * G - (w - y) * F;
    r->d2 = -v;
    r->d3 = v * (F - G);
    r->d4 = -v * (1 - 6 * near * far);
    r->w = v;
    r->dw = v * (G - F);
    no_extra(r);
}

/* Of log Q(z) and log(1 - Q(z)) at z = |eta|: the first belongs to the `rare` outcomes, the second to the
   others. With normal.h's e, k, m: e' = e (e - k), k' = k (k - m). */
INLINE void probit_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double z = smaller(fabs(eta), 1e90), sign = eta < 0 ? -1 : 1;
    const double rare = eta < 0 ? y : w - y, usual = w - rare;
    const tail q = normal_tail(z);
    const double phi = exponential(-z * z / 2 - HALF_LOG_2PI), Q = phi / q.hazard, h = phi / (1 - Q);
    const double p = q.hazard, e = q.e, k = q.k, b = 2 * e - k, zh = z + h;
    r->l = rare * (-z * z / 2 - HALF_LOG_2PI - logarithm(p)) + usual * logarithm1p(-Q);
    r->d1 = sign * (usual * h - rare * p);
    r->d2 = -(usual * h * zh + rare * p * e);
    r->d3 = sign * (usual * h * (zh * (zh + h) - 1) - rare * p * e * e * k * (q.m - k));
    r->d4 = usual * h * ((1 - h * zh) * (zh + h) + zh * (1 - 2 * h * zh) - zh * (zh * (zh + h) - 1)) -
            rare * p * e * (b * b + 2 * e * (e - k) - k * (k - q.m));
    r->w = w * h * p;
    r->dw = sign * r->w * (e - zh);
    no_extra(r);
}

/* (u / 2) coth(u / 2) - 1 = sum of B_2j u^2j / (2j)!, j >= 1, where u < 1 */
INLINE double coth_tail(double u)
{
    const double s = u * u, s2 = s * s;
    const double a = 1.0 / 12 - s * (1.0 / 720), b = 1.0 / 30240 - s * (1.0 / 1209600);
    const double c = 1.0 / 47900160 - s * (691.0 / 1307674368000.0);
    const double d = 1.0 / 74724249600.0 - s * (3617.0 / 10670622842880000.0);
    const double f = 8.5860620562778446e-15 - s * 2.1748686985580619e-16;
    return s * ((a + s2 * b) + s2 * s2 * ((c + s2 * d) + s2 * s2 * f));
}

/* u = e^eta: log(1 - F) = -u, (log F)' = u / (e^u - 1) = 1 - u / 2 + s with s = (u / 2) coth(u / 2) - 1 */
INLINE void cloglog_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double all = exponential(eta), u = smaller(all, 600), G = exponential(-u);
    const double beyond = u * G / (1 - smaller(G, 0.9)), series = coth_tail(smaller(u, 1));
    const int low = u < 1;
    const double p = low ? 1 - u / 2 + series : beyond, s = low ? series : u / 2 + p - 1;
    const double b = u / 2 + s, s1 = low ? u * u / 4 - s - s * s : u / 2 - p * b;
    const double curve = s - u / 2 + u * s + 2 * s * s;
    const double logF = low ? eta - u - logarithm(p) : logarithm1p(-smaller(G, 0.9));
    const double none = (w - y) * all;
    r->l = y * logF - none;
    r->d1 = y * p - none;
    r->d2 = -y * p * b - none;
    r->d3 = y * p * curve - none;
    r->d4 = y * p * (s1 - u / 2 + u * s + u * s1 + 4 * s * s1 - b * curve) - none;
    r->w = w * p * u;
    r->dw = r->w * (1 - u / 2 - s);
    no_extra(r);
}

/* F = 1/2 + atan(eta) / pi. Its ratios f'/f, f''/f, f'''/f are those of a polynomial to powers of 1 + eta^2.
 */
INLINE void cauchit_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double pi = 3.14159265358979323846;
    const double x = larger(smaller(eta, 1e70), -1e70), z = fabs(x), g = 1 / (1 + x * x), f = g / pi;
    const double rare = z > 1 ? atan(1 / z) / pi : 0.5 - atan(z) / pi;
    const double F = x < 0 ? rare : 1 - rare, G = x < 0 ? 1 - rare : rare, a = y, b = w - y;
    const double p = f / F, q = f / G, r1 = -2 * x * g, r2 = (6 * x * x - 2) * g * g;
    const double r3 = 24 * x * (1 - x * x) * g * g * g, s1 = r2 - r1 * r1, s2 = r3 - r1 * r2;
    const double p1 = p * (r1 - p), q1 = q * (r1 + q), pc = r2 - 3 * r1 * p + 2 * p * p;
    const double qc = r2 + 3 * r1 * q + 2 * q * q;
    const double lograre = log(rare), logusual = log1p(-rare);
    r->l = a * (x < 0 ? lograre : logusual) + b * (x < 0 ? logusual : lograre);
    r->d1 = a * p - b * q;
    r->d2 = a * p1 - b * q1;
    r->d3 = a * p * pc - b * q * qc;
    r->d4 = a * (p1 * pc + p * (s2 - 3 * s1 * p - 3 * r1 * p1 + 4 * p * p1)) -
            b * (q1 * qc + q * (s2 + 3 * s1 * q + 3 * r1 * q1 + 4 * q * q1));
    r->w = w * p * q;
    r->dw = r->w * (2 * r1 - p + q);
    no_extra(r);
}

DENSITY(logit, no_parameters)
DENSITY(probit, no_parameters)
DENSITY(cloglog, no_parameters)
DENSITY(cauchit, no_parameters)

/* log of the binomial coefficients */
static double binomial_constant(const lmm_family *family, int64_t n, const double *y, const double *w)
{
    (void)family;
    double sum = 0;
    for (int64_t i = 0; i < n && w; i++) {
        const double k = smaller(y[i], w[i] - y[i]), rest = w[i] - k + 1;
        sum += rising(rest, k) + k * log(rest) - log_gamma(k + 1);
    }
    return sum;
}

int find_binomial(const char *link, lmm_family *out)
{
    out->constant = binomial_constant;
    out->concave = strcmp(link, "cauchit") != 0;
    if (!strcmp(link, "logit")) out->density = logit_density;
    if (!strcmp(link, "probit")) out->density = probit_density;
    if (!strcmp(link, "cloglog")) out->density = cloglog_density;
    if (!strcmp(link, "cauchit")) out->density = cauchit_density;
    return out->density != NULL;
}
