/* Private: the columns of X, of which some are stored and the others coded (lmm.h). */

#ifndef LMM_FIXED_H
#define LMM_FIXED_H

#include <math.h>

#include "setup/build.h"

/* Column of X of stored column j. */
static inline int32_t stored_place(const lmm_data *d, int32_t j)
{
    return d->place ? d->place[j] : j;
}

static inline double root_weight(const lmm_data *d, int64_t i)
{
    return d->w ? sqrt(d->w[i]) : 1;
}

/* The coded columns that are not zero in row i: their number. column, value: room for p. */
int32_t coded_row(const lmm_data *d, int64_t i, int32_t *column, double *value);

double first_value(const lmm_data *d, int32_t j); /* of column j */

/* mean, largest deviation and the constant column; means are zero and deviations sizes where nothing is
   centred. coded (p): which columns are. */
lmm_status fixed_moments(const builder *b, whitening *x, double *scale, uint8_t *coded);

/* Of the rows that were read last, V: r columns, ld apart.  sum (p x r) += X_c'V;  V -= X_c c (p x r).
   X_c: columns less their means */
void fixed_products(const rows *rows, const double *mean, int r, const double *V, ptrdiff_t ld, double *sum);
void subtract_fixed(const rows *rows, const double *mean, int r, const double *c, double *V, ptrdiff_t ld);

/* The builder's data with all columns stored, in memory that is the builder's. */
lmm_status store_fixed(builder *b);

#endif
