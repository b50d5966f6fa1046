/* Private: the trailing matrix by its nonzero blocks, and its sparse Cholesky factor. */

#ifndef LMM_SPARSE_H
#define LMM_SPARSE_H

#include "trailing/trailing.h"

/* Pattern, order and symbolic factor of S; LMM_UNAVAILABLE where it is too full and nobody insists on it.
 * *out: the caller's to free, NULL only where there is no memory. */
lmm_status sparse_analyse(trailing **out, lmm_model *m, const lmm_options *options);
double sparse_density(const trailing *t, const lmm_model *m); /* share of S that is not zero             */
lmm_order sparse_ordered(const trailing *t);                  /* what found the order */
double sparse_bytes(const trailing *t, const lmm_model *m);   /* memory that `make` will take            */
double sparse_flops(const trailing *t);                       /* factor and selected inverse             */

#endif
