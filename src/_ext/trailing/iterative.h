/* Private: the trailing matrix by conjugate gradients, for models whose trailing columns are too many for a
   dense matrix. One eliminated factor, with lists. */

#ifndef LMM_ITERATIVE_H
#define LMM_ITERATIVE_H

#include "model/model.h"

typedef struct iterative iterative;

/* Before anything is allocated: memory, and flops of one evaluation with derivatives. entries: nonzero
   entries of A's panels, without X and y. */
double iterative_bytes(const lmm_model *m);
double iterative_flops(const lmm_model *m, double entries);

/* In set-up: memory and probes; then, when A is known, the directions that are treated exactly. */
lmm_status iterative_allocate(lmm_model *m);
lmm_status iterative_prepare(lmm_model *m);
lmm_status iterative_set_threads(lmm_model *m, int threads); /* scratch for so many. LMM_NOMEM: as before */
void iterative_free(lmm_model *m);                           /* the scratch; other ways have none */

int iterative_failed(const lmm_model *m);       /* did the last evaluation stop for lack of convergence? */
double iterative_deviation(const lmm_model *m); /* standard error of the last log|M|; 0: exact model */
void iterative_score_covariance(const lmm_model *m, double *C); /* of the last gradient: ntheta x ntheta */

#endif
