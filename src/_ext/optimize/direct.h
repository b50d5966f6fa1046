/* Derivatives of the criterion straight in phi, for models whose parameters are few beside the entries of
   their covariance matrices (lmm_options.moves): nothing of ntheta x ntheta. */

#ifndef LMM_DIRECT_H
#define LMM_DIRECT_H

#include "optimize/surface.h"

typedef struct {   /* scratch                                                             */
    double *given; /* Q x q          directions dSigma_i g, columns in elimination order  */
    double *G;     /* 3 x (k x m)    of the term with most effects                        */
    double *a;     /* Q              y'P G_i P y                                          */
} direct;

lmm_status direct_open(direct *d, const surface *s, const lmm_model *m, void **memory);

/* slope (Q) and A (Q x Q), the average information with tr(S d2Sigma), at the T where the model was evaluated
   (in the user's coordinates, its phi beside) */
void direct_derivatives(const direct *d, const surface *s, lmm_model *m, int reml, const double *phi,
                        double *slope, double *A);

#endif
