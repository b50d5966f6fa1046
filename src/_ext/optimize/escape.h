#ifndef LMM_ESCAPE_H
#define LMM_ESCAPE_H

#include "optimize/fit.h"

#define NOTHING 1e-7 /* of the largest standard deviation of a term: zero */

/* The null axis of one term with the least u'S u, S the model's, replaces the first of them in its part x of
   a point of axes; returns that curvature, and its place. work: 40 k + 3 k^2 doubles */
double null_curvature(lmm_model *m, const term *t, double *x, int *place, double *work);

/* A direction of zero variance in which the criterion falls from x: goes there. Returns whether it did; -1:
   there is one, but no evaluation left to look. */
int leave_saddle(fit *t, double *x);
ptrdiff_t escape_work(const layout *lay); /* doubles of scratch.work that it needs */

#endif
