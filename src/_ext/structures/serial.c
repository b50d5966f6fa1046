/* Correlations of columns in a row, each with the next: rho_k = sin x_k between columns k and k + 1, and
   r_ij = rho_i ... rho_(j-1). One x for all: autoregression of order 1. One for each: antedependence
   (Gabriel 1962). The root is closed: r_ij sqrt(1 - rho_(j-1)^2), with cosines for the square roots. */

#include "structures/correlation.h"

#define INSIDE 0.95 /* correlations where a fit begins are not larger */

static int root(const correlation *c, const double *x, double *L, double *work)
{
    (void)work;
    const int p = c->p;
    memset(L, 0, sizeof(double) * (size_t)p * (size_t)p);
    for (int j = 0; j < p; j++) {
        double r = j ? cos(x[c->n == 1 ? 0 : j - 1]) : 1;
        for (int i = j; i < p; i++) {
            L[i + (ptrdiff_t)j * p] = r;
            if (i + 1 < p) r *= sin(x[c->n == 1 ? 0 : i]);
        }
    }
    return 0;
}

static double angle_of(double rho)
{
    return asin(fmin(fmax(rho, -INSIDE), INSIDE));
}

/* ---- one parameter ----------------------------------------------------------------------------------------
 */

static void ar1_entries(const correlation *c, const double *x, double *r, double *work)
{
    (void)work;
    const double rho = sin(*x);
    r[0] = 1;
    for (int k = 1; k < c->count; k++) r[k] = r[k - 1] * rho;
}

static void ar1_slope(const correlation *c, const double *x, int i, double *dr, double *work)
{
    (void)i, (void)work;
    const double rho = sin(*x);
    double power = cos(*x);
    dr[0] = 0;
    for (int k = 1; k < c->count; k++, power *= rho) dr[k] = k * power;
}

static void ar1_curve(const correlation *c, const double *x, const double *weight, double *H, int ld,
                      double *work)
{
    (void)ld, (void)work;
    const double rho = sin(*x), square = cos(*x) * cos(*x);
    double low = 1; /* rho^(k - 2) */
    *H -= weight[1] * rho;
    for (int k = 2; k < c->count; k++, low *= rho) *H += weight[k] * k * low * ((k - 1) * square - rho * rho);
}

static void ar1_nearest(const correlation *c, const double *r, double *x, double *work)
{
    (void)c, (void)work;
    *x = angle_of(r[1]);
}

static void ar1_other(const correlation *c, const double *x, int which, double share, double *to,
                      double *work)
{
    (void)work;
    const double there = HALF_PI * ((2 * which + 1.0) / c->others - 1);
    *to = *x + share * (there - *x);
}

int correlation_ar1(correlation *c, void **memory)
{
    if (!(c->place = lags(c->p, memory))) return 1;
    c->n = 1, c->count = c->p, c->others = 16, c->kind = LMM_ANGLE;
    c->entries = ar1_entries, c->slope = ar1_slope, c->curve = ar1_curve, c->root = root;
    c->nearest = ar1_nearest, c->other = ar1_other;
    return 0;
}

/* ---- one for each pair of neighbours ----------------------------------------------------------------------
 */

/* where r_0j is: r_ij is i further on */
static ptrdiff_t column(int j)
{
    return 1 + (ptrdiff_t)j * (j - 1) / 2;
}

static void ad_entries(const correlation *c, const double *x, double *r, double *work)
{
    (void)work;
    r[0] = 1;
    for (int j = 1; j < c->p; j++) {
        const double rho = sin(x[j - 1]), *last = r + column(j - 1);
        double *at = r + column(j);
        for (int i = 0; i + 1 < j; i++) at[i] = last[i] * rho;
        at[j - 1] = rho;
    }
}

static void ad_slope(const correlation *c, const double *x, int k, double *dr, double *work)
{
    (void)work;
    memset(dr, 0, sizeof(double) * (size_t)c->count);
    double *at = dr + column(k + 1), r = cos(x[k]);
    for (int i = k; i >= 0; i--) {
        at[i] = r;
        if (i > 0) r *= sin(x[i - 1]);
    }
    for (int j = k + 2; j < c->p; j++) {
        const double rho = sin(x[j - 1]), *last = at;
        at = dr + column(j);
        for (int i = 0; i <= k; i++) at[i] = last[i] * rho;
    }
}

/* Of x_k and x_l, k < l: the sum over i <= k, j > l of weight_ij times all correlations from i to j but
   those two. u_j collects the sum over i, v that over j. */
static void ad_curve(const correlation *c, const double *x, const double *weight, double *H, int ld,
                     double *work)
{
    const int p = c->p, n = c->n;
    double *u = work, *sine = u + p, *between = sine + p; /* between: correlations from k + 1 to l */
    memset(u, 0, sizeof(double) * (size_t)p);
    for (int k = 0; k < n; k++) sine[k] = sin(x[k]);
    for (int k = 0; k < n; k++) {
        double v = 0;
        for (int j = k + 1; j < p; j++) u[j] = weight[column(j) + k] + (k ? sine[k - 1] * u[j] : 0);
        for (int l = k + 1; l < n; l++) between[l] = l == k + 1 ? 1 : between[l - 1] * sine[l - 1];
        for (int l = n - 1; l >= k; l--) {
            v = u[l + 1] + (l + 1 < n ? sine[l + 1] * v : 0);
            if (l == k) break;
            const double h = v * cos(x[k]) * cos(x[l]) * between[l];
            H[l + k * ld] += h, H[k + l * ld] += h;
        }
        H[k + k * ld] -= v * sine[k];
    }
}

static void ad_nearest(const correlation *c, const double *r, double *x, double *work)
{
    (void)work;
    for (int k = 0; k < c->n; k++) x[k] = angle_of(r[column(k + 1) + k]);
}

#define AD_STEPS 8

/* one of them elsewhere, or, at last, all */
static void ad_other(const correlation *c, const double *x, int which, double share, double *to, double *work)
{
    (void)work;
    const int only = which / AD_STEPS;
    const double there = HALF_PI * ((2 * (which % AD_STEPS) + 1.0) / AD_STEPS - 1);
    for (int k = 0; k < c->n; k++) to[k] = x[k] + (only == k || only == c->n ? share * (there - x[k]) : 0);
}

int correlation_ad(correlation *c, void **memory)
{
    if (!(c->place = pairs(c->p, memory))) return 1;
    c->n = c->p - 1, c->count = 1 + c->p * (c->p - 1) / 2, c->kind = LMM_ANGLE;
    c->others = AD_STEPS * (c->n + 1), c->work = 3 * c->p;
    c->entries = ad_entries, c->slope = ad_slope, c->curve = ad_curve, c->root = root;
    c->nearest = ad_nearest, c->other = ad_other;
    return 0;
}
