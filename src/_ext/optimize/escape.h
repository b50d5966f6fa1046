#ifndef LMM_ESCAPE_H
#define LMM_ESCAPE_H

#include "optimize/fit.h"

/* A direction of zero variance in which the criterion falls from x: goes there. Returns whether it did; -1:
   there is one, but no evaluation left to look. */
int leave_saddle(fit *t, double *x);

#endif
