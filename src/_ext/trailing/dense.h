/* Private: the trailing matrix as one dense matrix. */

#ifndef LMM_TRAILING_DENSE_H
#define LMM_TRAILING_DENSE_H

#include "model/model.h"

lmm_status dense_allocate(lmm_model *m); /* the matrix, its factor, scratch of the inverse */

#endif
