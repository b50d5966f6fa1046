/* Whitening: moments of columns (means, scales), dependent ones, from two passes over the rows.

   For columns x with weights w:  x_w = (x - mean) B  with  x_w'W x_w = n I.  Columns are centred when one
   of them is constant (then the others stay in the same space). Taken on centred and scaled columns, the
   Cholesky factor of their cross-products keeps its digits whatever the units and origins are. */

#include "setup/fixed.h"
#include "base/small.h"

#include <stdlib.h>

#define PIECE 32 /* rows summed at a time */

static double at(const double *x, ptrdiff_t rs, ptrdiff_t cs, int64_t i, int32_t j)
{
    return x[i * rs + j * cs];
}

static double weight_of(const double *w, int64_t i)
{
    return w ? w[i] : 1;
}

/* mean, largest deviation from it, and whether a column is constant */
void column_moments(int64_t n, const double *x, ptrdiff_t rs, const double *w, double *mean, double *spread,
                    int *constant)
{
    double lo = x[0], hi = x[0], sum = 0, total = 0;
    const double shift = x[0];
    for (int64_t i = 0; i < n; i++) {
        const double v = x[i * rs], u = weight_of(w, i);
        if (v < lo) lo = v;
        if (v > hi) hi = v;
        sum += u * (v - shift);
        total += u;
    }
    *mean = shift + sum / total;
    *spread = fmax(hi - *mean, *mean - lo);
    *constant = lo == hi;
}

/* total += part, keeping in lost what rounding took (Kahan) */
void add_exactly(int n, double *total, double *lost, const double *part)
{
    for (int i = 0; i < n; i++) {
        const double y = part[i] - lost[i], t = total[i] + y;
        lost[i] = (t - total[i]) - y;
        total[i] = t;
    }
}

/* G (k x k, lower) = (1/n) sum of w (x - mean)(x - mean)' / (scale scale'). Summed in pieces: equal
   values round alike, and n roundings in one direction would hide that a column is dependent.
   work: 2 k^2 + k */
static void gram(const whitening *wh, const double *scale, int64_t n, const double *x, ptrdiff_t rs,
                 ptrdiff_t cs, const double *w, double *G, double *work)
{
    const int k = wh->k;
    double *part = work, *lost = part + k * k, *row = lost + k * k;
    memset(G, 0, sizeof(double) * (size_t)k * (size_t)k);
    memset(lost, 0, sizeof(double) * (size_t)k * (size_t)k);
    for (int64_t i = 0; i < n;) {
        memset(part, 0, sizeof(double) * (size_t)k * (size_t)k);
        for (const int64_t end = i + PIECE < n ? i + PIECE : n; i < end; i++) {
            const double u = weight_of(w, i);
            for (int j = 0; j < k; j++)
                row[j] = (at(x, rs, cs, i, j) - (j == wh->constant ? 0 : wh->mean[j])) / scale[j];
            for (int j = 0; j < k; j++) {
                const double v = u * row[j];
                for (int l = j; l < k; l++) part[l + j * k] += v * row[l];
            }
        }
        add_exactly(k * k, G, lost, part);
    }
    for (int j = 0; j < k * k; j++) G[j] /= (double)n;
}

/* G = R'R in place (R upper, by rows below the diagonal of G); keep[j] = 0 where column j depends on
   earlier ones. */
void chol_dropping(int k, double *G, uint8_t *keep)
{
    for (int j = 0; j < k; j++) {
        double d = G[j + j * k];
        const double full = d;
        for (int l = 0; l < j; l++)
            if (keep[l]) d -= G[j + l * k] * G[j + l * k];
        keep[j] = d > DEPENDENT * full && d > 0;
        if (!keep[j]) continue;
        d = sqrt(d);
        G[j + j * k] = d;
        for (int i = j + 1; i < k; i++) {
            double s = G[i + j * k];
            for (int l = 0; l < j; l++)
                if (keep[l]) s -= G[i + l * k] * G[j + l * k];
            G[i + j * k] = s / d;
        }
    }
}

/* B = diag(1/scale) R^-1 for the kept columns, R' = lower triangle of G */
void invert_factor(int k, const double *G, const double *scale, const uint8_t *keep, double *B)
{
    memset(B, 0, sizeof(double) * (size_t)k * (size_t)k);
    for (int j = 0; j < k; j++) {
        if (!keep[j]) continue;
        B[j + j * k] = 1 / G[j + j * k];
        for (int i = j - 1; i >= 0; i--) {
            if (!keep[i]) continue;
            double s = 0;
            for (int l = i + 1; l <= j; l++)
                if (keep[l]) s -= G[l + i * k] * B[l + j * k];
            B[i + j * k] = s / G[i + i * k];
        }
    }
    for (int j = 0; j < k; j++)
        for (int i = 0; i < k; i++) B[i + j * k] /= scale[i];
}

/* C: what B means for columns that are not centred (the constant column takes up the means) */
void uncentred(const whitening *w, double constant)
{
    const int k = w->k;
    memcpy(w->C, w->B, sizeof(double) * (size_t)k * (size_t)k);
    if (w->constant < 0) return;
    for (int j = 0; j < k; j++)
        for (int i = 0; i < k; i++)
            if (i != w->constant) w->C[w->constant + j * k] -= w->mean[i] * w->B[i + j * k] / constant;
}

void center_on_constant(whitening *w, double *scale)
{
    for (int j = 0; j < w->k; j++) {
        if (w->constant < 0 || j == w->constant) {
            scale[j] += fabs(w->mean[j]);
            w->mean[j] = 0;
        }
        if (!(scale[j] > 0)) scale[j] = 1;
    }
}

/* Fills w for the k columns at x; keep (k bytes) receives which columns are independent. */
lmm_status whiten(whitening *w, int64_t n, const double *x, ptrdiff_t rs, ptrdiff_t cs, const double *weight,
                  uint8_t *keep)
{
    const int k = w->k;
    double *buffer = malloc(sizeof(double) * (3 * (size_t)k * (size_t)k + 2 * (size_t)k + 1));
    if (!buffer) return LMM_NOMEM;
    double *G = buffer, *scale = G + k * k, *work = scale + k;
    w->constant = -1;
    for (int j = 0; j < k; j++) {
        int constant;
        column_moments(n, x + j * cs, rs, weight, &w->mean[j], &scale[j], &constant);
        if (constant && w->constant < 0 && w->mean[j] != 0) w->constant = j;
    }
    center_on_constant(w, scale);
    gram(w, scale, n, x, rs, cs, weight, G, work);
    chol_dropping(k, G, keep);
    invert_factor(k, G, scale, keep, w->B);
    uncentred(w, w->constant < 0 ? 1 : at(x, rs, cs, 0, w->constant));
    free(buffer);
    return LMM_OK;
}

/* c = B b0 with b0 = (1/n) X_w'W v: coefficients of v on the centred columns of X; work: n */
static void regress(lmm_model *m, const lmm_data *d, double spread, double *c, double *work)
{
    const layout *lay = &m->layout;
    const int k = lay->pfull;
    double *sum = c + k;
    for (int64_t i = 0; i < d->n; i++) work[i] = (d->y[i] - m->sums.ymean) / spread;
    fixed_products(d, lay->x.mean, d->w, 1, work, sum);
    for (int j = 0; j < k; j++) {
        const double *B = lay->x.B + (ptrdiff_t)j * k;
        double s = 0;
        for (int l = 0; l <= j; l++) s += B[l] * (sum[l] * spread / (double)d->n);
        m->sums.b0[j] = s;
    }
    for (int l = 0; l < k; l++) c[l] = 0;
    for (int j = 0; j < k; j++)
        for (int l = 0; l <= j; l++) c[l] += lay->x.B[l + (ptrdiff_t)j * k] * m->sums.b0[j];
}

/* out = sqrt(w) y_w,  where y = ymean + X_w b0 + yscale y_w: what ordinary least squares leaves,
   in units of its size. Whether that is more than rounding does not depend on the unit of the weights. */
lmm_status center_response(lmm_model *m, const lmm_data *d, double *out)
{
    const layout *lay = &m->layout;
    double spread, *c = m->scratch.tmp, ss = 0, total = 0, size = 0;
    int constant;
    column_moments(d->n, d->y, 1, d->w, &m->sums.ymean, &spread, &constant);
    if (lay->x.constant < 0) {
        spread += fabs(m->sums.ymean);
        m->sums.ymean = 0;
    }
    if (!isfinite(spread)) return LMM_NOTFINITE;
    if (!(spread > 0)) return LMM_NOVARIANCE;
    regress(m, d, spread, c, out);
    for (int64_t i = 0; i < d->n; i++) out[i] = d->y[i] - m->sums.ymean;
    subtract_fixed(d, lay->x.mean, 1, c, out);
    for (int64_t i = 0; i < d->n; i++) {
        const double e = out[i] / spread;
        ss += weight_of(d->w, i) * e * e;
        total += weight_of(d->w, i);
        size = fmax(size, fabs(d->y[i]));
    }
    m->sums.yscale = spread * sqrt(ss / (double)d->n);
    if (!isfinite(m->sums.yscale)) return LMM_NOTFINITE;
    if (!(spread * sqrt(ss / total) > 4e-16 * size * sqrt((double)lay->pb))) return LMM_NOVARIANCE;
    for (int64_t i = 0; i < d->n; i++) out[i] *= (d->w ? sqrt(d->w[i]) : 1) / m->sums.yscale;
    return LMM_OK;
}

/* [z_w of all factors in elimination order | x_w, unless X is wide] of row i, times sqrt(w) */
void whitened_row(const lmm_model *m, const lmm_data *d, int64_t i, double *out)
{
    const layout *lay = &m->layout;
    const double root = d->w ? sqrt(d->w[i]) : 1;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const double *z = d->factor[f->user].z + i * f->p;
        for (int j = 0; j < f->p; j++) {
            double s = 0;
            for (int l = f->term[j]; l <= j; l++) s += (z[l] - f->w.mean[l]) * f->w.B[l + j * f->p];
            *out++ = root * s;
        }
    }
    for (int a = 0; a < lay->p && !lay->wide; a++) {
        const int j = lay->keep[a];
        double s = 0;
        for (int l = 0; l <= j; l++)
            s += (d->X[i + l * d->n] - lay->x.mean[l]) * lay->x.B[l + j * lay->pfull];
        *out++ = root * s;
    }
}
