/* The columns of X. Those of a wide factor, and their products with numbers, are never made: a row has a
   number v and a level, and the level a list of columns with what v is multiplied by,

     x_j = v t_j(level),   few t_j other than zero.

   Sums over rows then cost what is not zero. */

#include "setup/fixed.h"

#include <float.h>
#include <math.h>
#include <string.h>

int32_t coded_row(const lmm_data *d, int64_t i, int32_t *column, double *value)
{
    int32_t count = 0;
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        const int32_t l = c->level[i];
        const double v = c->v ? c->v[i] : 1;
        for (int32_t s = c->start[l]; s < c->start[l + 1]; s++) {
            column[count] = c->column[s];
            value[count++] = v * c->value[s];
        }
    }
    return count;
}

double first_value(const lmm_data *d, int32_t j)
{
    for (int32_t s = 0; s < d->pstored; s++)
        if (stored_place(d, s) == j) return d->X[s * d->n];
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        for (int32_t s = c->start[c->level[0]]; s < c->start[c->level[0] + 1]; s++)
            if (c->column[s] == j) return (c->v ? c->v[0] : 1) * c->value[s];
    }
    return 0;
}

typedef struct { /* of one coded column, over the rows that were seen */
    double low, high, sum;
    int64_t seen;
} range;

/* Every coded column's least and largest value and weighted sum. */
static void coded_ranges(const lmm_data *d, range *of)
{
    for (int32_t j = 0; j < d->p; j++) of[j] = (range){DBL_MAX, -DBL_MAX, 0, 0};
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        for (int64_t i = 0; i < d->n; i++) {
            const double v = c->v ? c->v[i] : 1, w = d->w ? d->w[i] : 1;
            for (int32_t s = c->start[c->level[i]]; s < c->start[c->level[i] + 1]; s++) {
                const double x = v * c->value[s];
                range *r = &of[c->column[s]];
                if (x < r->low) r->low = x;
                if (x > r->high) r->high = x;
                r->sum += w * x;
                r->seen++;
            }
        }
    }
}

/* Moments of the coded columns; constant (p): which are. */
static lmm_status coded_moments(const lmm_data *d, double *mean, double *scale, uint8_t *constant)
{
    double total = 0;
    range *of = malloc(sizeof(range) * (size_t)d->p);
    if (!of) return LMM_NOMEM;
    coded_ranges(d, of);
    for (int64_t i = 0; i < d->n; i++) total += d->w ? d->w[i] : 1;
    for (int32_t j = 0; j < d->p; j++) {
        range *r = &of[j];
        if (r->seen < d->n) { /* zero in some row */
            r->low = fmin(r->low, 0);
            r->high = fmax(r->high, 0);
        }
        mean[j] = r->sum / total;
        scale[j] = fmax(r->high - mean[j], mean[j] - r->low);
        constant[j] = r->low == r->high;
    }
    free(of);
    return LMM_OK;
}

lmm_status fixed_moments(const lmm_data *d, whitening *x, double *scale, uint8_t *coded)
{
    const int32_t p = d->p;
    uint8_t *constant = malloc((size_t)p + 1);
    if (!constant) return LMM_NOMEM;
    memset(coded, 1, (size_t)p);
    lmm_status status = d->ncoded ? coded_moments(d, x->mean, scale, constant) : LMM_OK;
    for (int32_t s = 0; s < d->pstored; s++) {
        const int32_t j = stored_place(d, s);
        int same;
        column_moments(d->n, d->X + s * d->n, 1, d->w, &x->mean[j], &scale[j], &same);
        constant[j] = (uint8_t)same;
        coded[j] = 0;
    }
    x->constant = -1;
    for (int32_t j = p - 1; j >= 0 && status == LMM_OK; j--)
        if (constant[j] && x->mean[j] != 0) x->constant = j;
    center_on_constant(x, scale);
    free(constant);
    return status;
}

static void coded_products(const lmm_data *d, const double *mean, const double *w, const double *v,
                           double *sum)
{
    double total = 0;
    for (int64_t i = 0; i < d->n; i++) total += (w ? w[i] : 1) * v[i];
    for (int32_t j = 0; j < d->p; j++) sum[j] = -mean[j] * total;
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        for (int64_t i = 0; i < d->n; i++) {
            const double x = (c->v ? c->v[i] : 1) * (w ? w[i] : 1) * v[i];
            for (int32_t s = c->start[c->level[i]]; s < c->start[c->level[i] + 1]; s++)
                sum[c->column[s]] += x * c->value[s];
        }
    }
}

/* sum of w (x - mean) v, w: NULL for ones */
static double centred_product(int64_t n, const double *x, double mean, const double *w, const double *v)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (w ? w[i] : 1) * (x[i] - mean) * v[i];
    return s;
}

/* The same without weights, in four parts that do not wait for each other. */
static double wide_product(int64_t n, const double *x, double mean, const double *v)
{
    double s[4] = {0, 0, 0, 0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) s[k] += (x[i + k] - mean) * v[i + k];
    for (; i < n; i++) s[0] += (x[i] - mean) * v[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

void fixed_products(const lmm_data *d, const double *mean, const double *w, int r, const double *V,
                    double *sum)
{
    const int64_t n = d->n;
    for (int k = 0; d->ncoded && k < r; k++) coded_products(d, mean, w, V + k * n, sum + (ptrdiff_t)k * d->p);
    for (int32_t l = 0; l < d->pstored; l++) {
        const int32_t j = stored_place(d, l);
        const double *x = d->X + l * n;
        for (int k = 0; k < r; k++)
            sum[j + (ptrdiff_t)k * d->p] = d->p >= WIDE && !w ? wide_product(n, x, mean[j], V + k * n)
                                                              : centred_product(n, x, mean[j], w, V + k * n);
    }
}

static void subtract_coded(const lmm_data *d, const double *mean, const double *c, double *v)
{
    double shift = 0;
    for (int32_t j = 0, s = 0; j < d->p; j++) {
        if (s < d->pstored && stored_place(d, s) == j)
            s++;
        else
            shift += mean[j] * c[j];
    }
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *own = &d->coded[b];
        for (int64_t i = 0; i < d->n; i++) {
            double x = 0;
            for (int32_t s = own->start[own->level[i]]; s < own->start[own->level[i] + 1]; s++)
                x += own->value[s] * c[own->column[s]];
            v[i] -= (own->v ? own->v[i] : 1) * x;
        }
    }
    for (int64_t i = 0; i < d->n; i++) v[i] += shift;
}

void subtract_fixed(const lmm_data *d, const double *mean, int r, const double *c, double *V)
{
    for (int32_t l = 0; l < d->pstored; l++) {
        const int32_t j = stored_place(d, l);
        const double *x = d->X + l * d->n, m = mean[j];
        for (int k = 0; k < r; k++) {
            const double b = c[j + (ptrdiff_t)k * d->p];
            double *v = V + k * d->n;
            for (int64_t i = 0; i < d->n && b != 0; i++) v[i] -= (x[i] - m) * b;
        }
    }
    for (int k = 0; d->ncoded && k < r; k++) subtract_coded(d, mean, c + (ptrdiff_t)k * d->p, V + k * d->n);
}

lmm_status store_fixed(const lmm_data *d, lmm_data *stored, double **X)
{
    const size_t n = (size_t)d->n;
    *X = calloc(n * (size_t)d->p, sizeof(double));
    if (!*X) return LMM_NOMEM;
    for (int32_t s = 0; s < d->pstored; s++)
        memcpy(*X + (size_t)stored_place(d, s) * n, d->X + (size_t)s * n, sizeof(double) * n);
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        for (int64_t i = 0; i < d->n; i++)
            for (int32_t s = c->start[c->level[i]]; s < c->start[c->level[i] + 1]; s++)
                (*X)[(size_t)c->column[s] * n + (size_t)i] = (c->v ? c->v[i] : 1) * c->value[s];
    }
    *stored = *d;
    stored->X = *X;
    stored->pstored = d->p;
    stored->place = NULL;
    stored->ncoded = 0;
    return LMM_OK;
}
