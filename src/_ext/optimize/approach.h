#ifndef LMM_APPROACH_H
#define LMM_APPROACH_H

#include "optimize/fit.h"

/* The optimum as the iterative trailing matrix sees it, from x: goes there (NEWTON_CONVERGED), or as far as
   it came when it was stopped; else x is as it was. The model stands nowhere then. */
newton_end approach(fit *t, double *x);

#endif
