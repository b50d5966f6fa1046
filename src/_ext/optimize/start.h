/* Where a fit begins when nobody says: moments. */

#ifndef LMM_START_H
#define LMM_START_H

#include "model/model.h"

/* Sigma of every term (whitened lower triangles, in the order of theta) over sigma^2, by MINQUE(0); may be
   indefinite. sigma has ntheta + 1 places; the last one receives the variance of y, M y beside, over sigma^2.
   work: start_work doubles. LMM_NOTPOSDEF: the moment equations have no solution. The model stands nowhere
   then. */
lmm_status moment_estimates(lmm_model *m, double *sigma, double *work);
ptrdiff_t start_work(const layout *lay);

#endif
