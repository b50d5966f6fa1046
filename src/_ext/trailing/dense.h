/* Private: the trailing matrix as one dense matrix. */

#ifndef LMM_TRAILING_DENSE_H
#define LMM_TRAILING_DENSE_H

#include "trailing/trailing.h"

trailing *dense_new(void); /* NULL: no memory */

#endif
