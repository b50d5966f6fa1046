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
        if (stored_place(d, s) == j) return rows_value(&d->X[s], 0);
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        for (int32_t s = c->start[c->level[0]]; s < c->start[c->level[0] + 1]; s++)
            if (c->column[s] == j) return (c->v ? c->v[0] : 1) * c->value[s];
    }
    return 0;
}

/* Every coded column's range; seen: its rows. */
static void coded_ranges(const lmm_data *d, column_range *of, int64_t *seen)
{
    for (int32_t j = 0; j < d->p; j++) of[j] = (column_range){.low = DBL_MAX, .high = -DBL_MAX};
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        for (int64_t i = 0; i < d->n; i++) {
            const double v = c->v ? c->v[i] : 1, w = d->w ? d->w[i] : 1;
            for (int32_t s = c->start[c->level[i]]; s < c->start[c->level[i] + 1]; s++) {
                const double x = v * c->value[s];
                column_range *r = &of[c->column[s]];
                if (x < r->low) r->low = x;
                if (x > r->high) r->high = x;
                r->sum += w * x;
                seen[c->column[s]]++;
            }
        }
    }
    for (int32_t j = 0; j < d->p; j++) {
        if (seen[j] == d->n) continue;
        of[j].low = fmin(of[j].low, 0); /* zero in some row */
        of[j].high = fmax(of[j].high, 0);
    }
}

lmm_status fixed_moments(const builder *b, whitening *x, double *scale, uint8_t *coded)
{
    const lmm_data *d = b->d;
    const size_t p = (size_t)d->p;
    column_range *of = malloc((sizeof(column_range) + sizeof(int64_t)) * (p + 1));
    if (!of) return LMM_NOMEM;
    int64_t *seen = (int64_t *)(of + p + 1);
    memset(seen, 0, sizeof(*seen) * p);
    memset(coded, 1, p);
    if (d->ncoded) coded_ranges(d, of, seen);
    for (int32_t s = 0; s < d->pstored; s++) {
        of[stored_place(d, s)] = b->moments.range[b->rows.x[s] + 1];
        coded[stored_place(d, s)] = 0;
    }
    x->constant = -1;
    for (int32_t j = 0; j < d->p; j++) {
        const int constant = range_moments(&of[j], b->moments.total, &x->mean[j], &scale[j]);
        if (constant && x->constant < 0 && x->mean[j] != 0) x->constant = j;
    }
    center_on_constant(d->p, x->constant, x->mean, scale);
    free(of);
    return LMM_OK;
}

/* sum over the coded columns of mean c */
static double coded_shift(const lmm_data *d, const double *mean, const double *c)
{
    double shift = 0;
    for (int32_t j = 0, s = 0; j < d->p; j++) {
        if (s < d->pstored && stored_place(d, s) == j)
            s++;
        else
            shift += mean[j] * c[j];
    }
    return shift;
}

static void coded_products(const rows *r, const double *mean, const double *v, double *sum)
{
    const lmm_data *d = r->d;
    double total = 0;
    for (int32_t i = 0; i < r->n; i++) total += v[i];
    for (int32_t j = 0, s = 0; j < d->p; j++) {
        if (s < d->pstored && stored_place(d, s) == j)
            s++;
        else
            sum[j] -= mean[j] * total;
    }
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        for (int32_t i = 0; i < r->n; i++) {
            const double x = (c->v ? c->v[r->first + i] : 1) * v[i];
            const int32_t l = c->level[r->first + i];
            for (int32_t s = c->start[l]; s < c->start[l + 1]; s++) sum[c->column[s]] += x * c->value[s];
        }
    }
}

static double centred_product(int32_t n, const double *x, double mean, const double *v)
{
    double s = 0;
    for (int32_t i = 0; i < n; i++) s += (x[i] - mean) * v[i];
    return s;
}

/* The same in four parts that do not wait for each other. */
static double wide_product(int32_t n, const double *x, double mean, const double *v)
{
    double s[4] = {0, 0, 0, 0};
    int32_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) s[k] += (x[i + k] - mean) * v[i + k];
    for (; i < n; i++) s[0] += (x[i] - mean) * v[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

void fixed_products(const rows *rows, const double *mean, int r, const double *V, ptrdiff_t ld, double *sum)
{
    const lmm_data *d = rows->d;
    for (int k = 0; d->ncoded && k < r; k++)
        coded_products(rows, mean, V + k * ld, sum + (ptrdiff_t)k * d->p);
    for (int32_t l = 0; l < d->pstored; l++) {
        const int32_t j = stored_place(d, l);
        const double *x = rows_column(rows, rows->x[l]);
        for (int k = 0; k < r; k++)
            sum[j + (ptrdiff_t)k * d->p] += d->p >= WIDE ? wide_product(rows->n, x, mean[j], V + k * ld)
                                                         : centred_product(rows->n, x, mean[j], V + k * ld);
    }
}

static void subtract_coded(const rows *r, const double *mean, const double *c, double *v)
{
    const lmm_data *d = r->d;
    const double shift = coded_shift(d, mean, c);
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *from = &d->coded[b];
        for (int32_t i = 0; i < r->n; i++) {
            const int32_t l = from->level[r->first + i];
            double x = 0;
            for (int32_t s = from->start[l]; s < from->start[l + 1]; s++)
                x += from->value[s] * c[from->column[s]];
            v[i] -= (from->v ? from->v[r->first + i] : 1) * x;
        }
    }
    for (int32_t i = 0; i < r->n; i++) v[i] += shift;
}

void subtract_fixed(const rows *rows, const double *mean, int r, const double *c, double *V, ptrdiff_t ld)
{
    const lmm_data *d = rows->d;
    for (int32_t l = 0; l < d->pstored; l++) {
        const int32_t j = stored_place(d, l);
        const double *x = rows_column(rows, rows->x[l]), m = mean[j];
        for (int k = 0; k < r; k++) {
            const double b = c[j + (ptrdiff_t)k * d->p];
            double *v = V + k * ld;
            for (int32_t i = 0; i < rows->n && b != 0; i++) v[i] -= (x[i] - m) * b;
        }
    }
    for (int k = 0; d->ncoded && k < r; k++) subtract_coded(rows, mean, c + (ptrdiff_t)k * d->p, V + k * ld);
}

/* X (n x p): every column */
static void write_columns(rows *r, double *X)
{
    const lmm_data *d = r->d;
    EACH_BLOCK(r, first)
    for (int32_t s = 0; s < d->pstored; s++)
        memcpy(X + stored_place(d, s) * d->n + first, rows_column(r, r->x[s]), sizeof(double) * (size_t)r->n);
    for (int b = 0; b < d->ncoded; b++) {
        const lmm_coded *c = &d->coded[b];
        for (int64_t i = 0; i < d->n; i++)
            for (int32_t s = c->start[c->level[i]]; s < c->start[c->level[i] + 1]; s++)
                X[c->column[s] * d->n + i] = (c->v ? c->v[i] : 1) * c->value[s];
    }
}

lmm_status store_fixed(builder *b)
{
    const lmm_data *d = b->d;
    const size_t p = (size_t)d->p, n = (size_t)d->n;
    lmm_column *column = b->columns = calloc(1, p * (sizeof(lmm_column) + sizeof(lmm_part) + 8 * n));
    if (!column) return LMM_NOMEM;
    lmm_part *part = (lmm_part *)(column + p);
    double *X = (double *)(part + p);
    write_columns(&b->rows, X);
    for (size_t j = 0; j < p; j++) {
        part[j] = (lmm_part){.type = LMM_FLOAT64, .stride = sizeof(double), .at = X + j * n};
        column[j] = (lmm_column){.nparts = 1, .part = part + j};
    }
    b->stored = *d;
    b->stored.X = column;
    b->stored.pstored = d->p;
    b->stored.place = NULL;
    b->stored.ncoded = 0;
    b->d = &b->stored;
    return measure_rows(b);
}
