/* Binomial responses: y successes of w trials, l = y log F(eta) + (w - y) log(1 - F(eta)). */

#include "families/cumulative.h"
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

/* z = |eta|: log(1 - F(z)) belongs to the `rare` outcomes, log F(z) to the others */
INLINE void probit_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double z = smaller(fabs(eta), 1e90), sign = eta < 0 ? -1 : 1;
    const double rare = eta < 0 ? y : w - y, usual = w - rare;
    const tail q = normal_tail(z);
    const double phi = exponential(-z * z / 2 - HALF_LOG_2PI), Q = phi / q.hazard,
                 h = phi * q.hazard / (q.hazard - phi);
    const side a = normal_rare(z, q), b = normal_usual(z, Q, h);
    r->l = rare * a.l + usual * b.l;
    r->d1 = sign * (rare * a.d1 + usual * b.d1);
    r->d2 = rare * a.d2 + usual * b.d2;
    r->d3 = sign * (rare * a.d3 + usual * b.d3);
    r->d4 = rare * a.d4 + usual * b.d4;
    r->w = w * h * q.hazard;
    r->dw = sign * r->w * (q.e - z - h);
    no_extra(r);
}

/* log(1 - F) = -e^eta, which is its derivatives too */
INLINE void cloglog_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double all = exponential(eta), none = (w - y) * all, u = smaller(all, 600);
    double p, s;
    const side a = extreme_low(eta, all, &p, &s);
    r->l = y * a.l - none;
    r->d1 = y * a.d1 - none;
    r->d2 = y * a.d2 - none;
    r->d3 = y * a.d3 - none;
    r->d4 = y * a.d4 - none;
    r->w = w * p * u;
    r->dw = r->w * (1 - u / 2 - s);
    no_extra(r);
}

/* F = exp(-e^-eta), one less the extreme value distribution at -eta */
INLINE void loglog_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    cloglog_row(level, c, w - y, w, -eta, r);
    r->d1 = -r->d1, r->d3 = -r->d3, r->dw = -r->dw;
}

/* F = e^eta < 1; h1 .. h4: derivatives of log(1 - e^-g) at g = -eta, h1 = F / (1 - F) */
INLINE void log_row(const int level, const parameters *c, double y, double w, double eta, row *r)
{
    (void)c, (void)level;
    const double g = larger(-eta, 1e-60), n = w - y;
    double p, s;
    const side fail = extreme_low(logarithm(g), g, &p, &s);
    const double h1 = p / g, h2 = -h1 * (1 + h1), h3 = -h2 * (1 + 2 * h1), h4 = h2 * (1 + 6 * h1 * (1 + h1));
    r->l = eta < 0 ? y * eta + n * fail.l : BARRED;
    r->d1 = y - n * h1;
    r->d2 = n * h2;
    r->d3 = -n * h3;
    r->d4 = n * h4;
    r->w = w * h1;
    r->dw = -w * h2;
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
DENSITY(loglog, no_parameters)
DENSITY(log, no_parameters)

/* log of the binomial coefficients */
double binomial_constant(const lmm_family *family, int64_t n, const double *y, const double *w)
{
    (void)family;
    double sum = 0;
    for (int64_t i = 0; i < n && w; i++) {
        const double k = smaller(y[i], w[i] - y[i]), rest = w[i] - k + 1;
        sum += rising(rest, k) + k * log(rest) - log_gamma(k + 1);
    }
    return sum;
}

int find_binomial(const char *family, const char *link, lmm_family *out)
{
    (void)family;
    out->constant = binomial_constant;
    out->concave = strcmp(link, "cauchit") != 0;
    if (!strcmp(link, "logit")) out->density = logit_density;
    if (!strcmp(link, "probit")) out->density = probit_density;
    if (!strcmp(link, "cloglog")) out->density = cloglog_density;
    if (!strcmp(link, "cauchit")) out->density = cauchit_density;
    if (!strcmp(link, "loglog")) out->density = loglog_density;
    if (!strcmp(link, "log")) out->density = log_density;
    return out->density != NULL;
}
