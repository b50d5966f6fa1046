/* The response: y = ymean + X_w b0 + yscale y_w, what ordinary least squares leaves in units of its size. */

#include <math.h>
#include <string.h>

#include "setup/fixed.h"
#include "base/small.h"

/* c = B b0 with b0 = (1/n) X_w'W v: coefficients on the centred columns of X, from their products with v */
static void regress(lmm_model *m, const double *product, double *c)
{
    const layout *lay = &m->layout;
    const int k = lay->pfull;
    for (int l = 0; l < k; l++) c[l] = 0;
    for (int j = 0; j < k; j++) {
        const double *B = lay->x.B + (ptrdiff_t)j * k;
        double b0 = 0;
        for (int l = 0; l <= j; l++) b0 += B[l] * product[l];
        for (int l = 0; l <= j; l++) c[l] += B[l] * b0;
        m->sums.b0[j] = b0;
    }
}

/* product: of X, centred, with y */
static lmm_status begin(lmm_model *m, response *y, const double *product)
{
    if (m->layout.generalized) { /* y = 0 */
        *y = (response){.spread = 1, .c = m->scratch.tmp};
        memset(y->c, 0, sizeof(double) * (size_t)m->layout.pfull);
        return LMM_OK;
    }
    if (!isfinite(y->spread)) return LMM_NOTFINITE;
    if (!(y->spread > 0)) return LMM_NOVARIANCE;
    m->sums.ymean = y->mean;
    y->c = m->scratch.tmp;
    regress(m, product, y->c);
    return LMM_OK;
}

lmm_status response_begin(lmm_model *m, const moments *mo, response *y)
{
    const int k = m->layout.pfull;
    const span *s = &mo->span[mo->n - 1];
    double *product = m->scratch.tmp + k;
    *y = mo->y;
    for (int l = 0; l < k; l++) product[l] = s->G[k + (ptrdiff_t)l * s->k] * s->scale[l] * y->spread;
    return begin(m, y, product);
}

/* The same of another response to columns that are known. v: room for a block of rows */
lmm_status response_again(lmm_model *m, rows *r, response *y, double *v)
{
    const int k = m->layout.pfull;
    double *product = m->scratch.tmp + k;
    *y = response_moments(r->d, m->layout.x.constant < 0);
    memset(product, 0, sizeof(double) * (size_t)k);
    EACH_BLOCK(r, first)
    {
        for (int32_t i = 0; i < r->n; i++) v[i] = (r->y[i] - y->mean) / y->spread;
        for (int32_t i = 0; i < r->n && r->w; i++) v[i] *= r->w[i];
        fixed_products(r, m->layout.x.mean, 1, v, r->size, product);
    }
    for (int l = 0; l < k; l++) product[l] *= y->spread / (double)r->d->n;
    return begin(m, y, product);
}

/* out = sqrt(w) (y - ymean - (X - mean) c) / spread of the rows that were read last */
void response_rows(const lmm_model *m, const response *y, const rows *r, double *out)
{
    const layout *lay = &m->layout;
    for (int32_t i = 0; i < r->n; i++) out[i] = r->y[i] - m->sums.ymean;
    subtract_fixed(r, lay->x.mean, 1, y->c, out, r->size);
    for (int32_t i = 0; i < r->n; i++) out[i] *= (r->root ? r->root[i] : 1) / y->spread;
}

/* yscale, from the sum of squares of what `response_rows` gave; scale: what turns it into y_w. Whether that
   is more than rounding does not depend on the unit of the weights. */
lmm_status response_end(lmm_model *m, const response *y, double ss, double *scale)
{
    const layout *lay = &m->layout;
    m->sums.yscale = *scale = 1;
    if (lay->generalized) return LMM_OK;
    m->sums.yscale = y->spread * sqrt(ss / (double)lay->n);
    if (!isfinite(m->sums.yscale)) return LMM_NOTFINITE;
    if (!(y->spread * sqrt(ss / y->total) > 4e-16 * y->size * sqrt((double)lay->pb))) return LMM_NOVARIANCE;
    *scale = y->spread / m->sums.yscale;
    return LMM_OK;
}
