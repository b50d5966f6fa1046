/* Private: the trailing matrix by its nonzero blocks, and its sparse Cholesky factor. */

#ifndef LMM_SPARSE_H
#define LMM_SPARSE_H

#include "model/model.h"
#include "cholesky/supernodal.h"

/* Pattern, order and symbolic factor of S. LMM_UNAVAILABLE where the caller has no order for it: the pattern
   is known then. */
lmm_status sparse_analyse(lmm_model *m, const lmm_options *options);
double sparse_density(const lmm_model *m); /* share of S that is not zero                     */
double sparse_bytes(const lmm_model *m);   /* memory that sparse_allocate will take           */
double sparse_flops(const lmm_model *m);   /* factor and selected inverse                     */
lmm_status sparse_allocate(lmm_model *m);
lmm_status sparse_set_threads(lmm_model *m, int threads); /* after sparse_allocate */

#endif
