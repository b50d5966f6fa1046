/* Private: the trailing matrix by conjugate gradients, for models whose trailing columns are too many for a
   dense matrix. Eliminated factors have lists. */

#ifndef LMM_ITERATIVE_H
#define LMM_ITERATIVE_H

#include "trailing/trailing.h"

trailing *iterative_new(void); /* NULL: no memory */

/* Before anything is allocated: memory, and flops of one evaluation with derivatives. entries: nonzero
   entries of A's panels, without X and y. */
double iterative_bytes(const lmm_model *m);
double iterative_flops(const lmm_model *m, double entries);

#endif
