/* Correlations by lag. x_k: sin x_k is the partial autocorrelation of lag k (Barndorff-Nielsen and Schou
   1973, doi:10.1016/0047-259X(73)90030-4), so that every x has its R. No recursion of Durbin and Levinson is
   needed: reflections

     G_k = [ sin x_k   cos x_k ]  in rows k - 1 and k,      U = G_1 G_2 ... G_(p-1)
           [ cos x_k  -sin x_k ]

   make r_m = e_0'U^m e_0, and z_m = U^m e_0, m = 0 .. p-1, are the rows of a lower root of R. */

#include "structures/correlation.h"

#define INSIDE 0.9    /* partial autocorrelations where a fit begins are not larger  */
#define NOTHING 1e-14 /* an innovation's variance that is rounding                   */

typedef struct { /* sines and cosines */
    const double *s, *c;
    int n;
} angles;

static angles angles_of(const correlation *c, const double *x, double *at)
{
    for (int k = 0; k < c->n; k++) at[k] = sin(x[k]), at[k + c->n] = cos(x[k]);
    return (angles){at, at + c->n, c->n};
}

/* z := U z, whose first m entries are not zero; with dz := U dz + (dU/dx_i) z, if dz is there */
static void apply(angles g, int m, double *z, double *dz, int i)
{
    for (int k = m < g.n ? m : g.n; k >= 1; k--) {
        const double s = g.s[k - 1], c = g.c[k - 1], a = z[k - 1], b = z[k];
        z[k - 1] = s * a + c * b, z[k] = c * a - s * b;
        if (!dz) continue;
        const double da = dz[k - 1], db = dz[k];
        dz[k - 1] = s * da + c * db, dz[k] = c * da - s * db;
        if (k - 1 == i) dz[k - 1] += c * a - s * b, dz[k] -= s * a + c * b;
    }
}

/* The same step backwards: z, dz before it, and what has to be multiplied with them (bar, and its derivative)
   likewise; h_k += the derivative in x_i of bar'(dU/dx_k) z. A reflection is its own inverse. */
static void retreat(angles g, int m, double *z, double *dz, double *bar, double *dbar, int i, double *h)
{
    for (int k = 1; k <= (m < g.n ? m : g.n); k++) {
        const double s = g.s[k - 1], c = g.c[k - 1], here = k - 1 == i;
        const double a = s * z[k - 1] + c * z[k], b = c * z[k - 1] - s * z[k];
        const double up = z[k - 1], down = z[k], p = bar[k - 1], q = bar[k];
        const double dp = dbar[k - 1], dq = dbar[k];
        const double e = dz[k - 1] - here * down, f = dz[k] + here * up; /* U dz alone */
        const double da = s * e + c * f, db = c * e - s * f;
        /* dU/dx_k z = (down, -up) */
        h[k - 1] += dp * down - dq * up + p * (c * da - s * db) - q * (s * da + c * db);
        if (here) h[k - 1] -= p * up + q * down;
        z[k - 1] = a, z[k] = b, dz[k - 1] = da, dz[k] = db;
        bar[k - 1] = s * p + c * q, bar[k] = c * p - s * q;
        dbar[k - 1] = s * dp + c * dq + here * (c * p - s * q);
        dbar[k] = c * dp - s * dq - here * (s * p + c * q);
    }
}

static void first(int p, double *z)
{
    memset(z, 0, sizeof(double) * (size_t)p);
    z[0] = 1;
}

static void entries(const correlation *c, const double *x, double *r, double *work)
{
    const angles g = angles_of(c, x, work);
    double *z = work + 2 * c->p;
    first(c->p, z);
    r[0] = 1;
    for (int m = 1; m < c->p; m++) {
        apply(g, m, z, NULL, 0);
        r[m] = z[0];
    }
}

static void slope(const correlation *c, const double *x, int i, double *dr, double *work)
{
    const angles g = angles_of(c, x, work);
    double *z = work + 2 * c->p, *dz = z + c->p;
    first(c->p, z);
    memset(dz, 0, sizeof(double) * (size_t)c->p);
    dr[0] = 0;
    for (int m = 1; m < c->p; m++) {
        apply(g, m, z, dz, i);
        dr[m] = dz[0];
    }
}

static void curve(const correlation *c, const double *x, const double *weight, double *H, int ld,
                  double *work)
{
    const int p = c->p;
    const angles g = angles_of(c, x, work);
    double *z = work + 2 * p, *dz = z + p, *bar = dz + p, *dbar = bar + p, *h = dbar + p;
    for (int i = 0; i < c->n; i++) {
        first(p, z);
        memset(dz, 0, sizeof(double) * 4 * (size_t)p); /* and bar, dbar, h */
        for (int m = 1; m < p; m++) apply(g, m, z, dz, i);
        for (int m = p - 1; m >= 1; m--) {
            bar[0] += weight[m];
            retreat(g, m, z, dz, bar, dbar, i, h);
        }
        for (int k = 0; k <= i; k++) {
            H[k + i * ld] += h[k];
            if (k < i) H[i + k * ld] += h[k];
        }
    }
}

static int root(const correlation *c, const double *x, double *L, double *work)
{
    const int p = c->p;
    const angles g = angles_of(c, x, work);
    double *z = work + 2 * p;
    first(p, z);
    for (int m = 0; m < p; m++) {
        if (m) apply(g, m, z, NULL, 0);
        for (int j = 0; j < p; j++) L[m + (ptrdiff_t)j * p] = z[j];
    }
    return 0;
}

/* Durbin and Levinson: partial autocorrelations of r. Those above `most` are cut; r follows. Whether one was.
 */
static int partial(int n, double *r, double most, double *x, double *work)
{
    double *a = work, *last = a + n, v = 1;
    int cut = 0;
    for (int k = 0; k < n; k++) {
        double sum = 0;
        for (int j = 0; j < k; j++) sum += a[j] * r[k - j];
        const double wanted = v > NOTHING ? (r[k + 1] - sum) / v : 0, s = fmin(fmax(wanted, -most), most);
        cut |= s != wanted;
        r[k + 1] = sum + s * v, x[k] = asin(s);
        memcpy(last, a, sizeof(double) * (size_t)k);
        for (int j = 0; j < k; j++) a[j] -= s * last[k - 1 - j];
        a[k] = s, v *= 1 - s * s;
    }
    return cut;
}

/* Shrunk, if these correlations are near a boundary, or are none */
static void nearest(const correlation *c, const double *r, double *x, double *work)
{
    double *to = work, *rest = to + c->p;
    memcpy(to, r, sizeof(double) * (size_t)c->p);
    if (!partial(c->n, to, INSIDE, x, rest)) return;
    for (int k = 1; k < c->p; k++) to[k] = INSIDE * r[k];
    partial(c->n, to, INSIDE, x, rest);
}

/* On the way to the extreme ray r_k = cos(w k), along which Sigma is linear */
static void other(const correlation *c, const double *x, int which, double share, double *to, double *work)
{
    const double w = 2 * HALF_PI * which / (c->others - 1.0);
    double *r = work, *rest = r + c->p;
    entries(c, x, r, rest);
    for (int k = 1; k < c->p; k++) r[k] += share * (cos(w * k) - r[k]);
    partial(c->n, r, 1, to, rest);
}

int correlation_toeplitz(correlation *c, void **memory)
{
    if (!(c->place = lags(c->p, memory))) return 1;
    c->n = c->p - 1, c->count = c->p, c->others = 33, c->kind = LMM_ANGLE, c->work = 7 * c->p;
    c->entries = entries, c->slope = slope, c->curve = curve, c->root = root;
    c->nearest = nearest, c->other = other;
    return 0;
}
