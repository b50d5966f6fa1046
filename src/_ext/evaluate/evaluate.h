/* Private: the steps of an evaluation, and what brings the model to the state that a reading needs. */

#ifndef LMM_EVALUATE_H
#define LMM_EVALUATE_H

#include "model/model.h"

/* state.c: evaluate, then derivatives of the same T in the entries of Sigma = T T' (whitened, lower triangles in
   the order of theta; either may be NULL); or what a reading needs at the theta where the model stands: T with
   such zeros, at least this state, and the trailing factor if `factor` */
double degrees(const lmm_model *m, int reml);
double evaluate(lmm_model *m, int reml);
void derivatives(lmm_model *m, int reml, double *slope, double *A);
lmm_status evaluate_there(lmm_model *m, zeros wanted, int factor);
lmm_status bring(lmm_model *m, zeros wanted, lmm_state least, int factor);

/* factor.c, border.c, curvature.c, gradient.c: in this order, for one T */
lmm_status factorize(lmm_model *m);
void solve_border(lmm_model *m);
void refine_residual(lmm_model *m); /* residual.c: solve_border, and r^2 where it is little */
void information(lmm_model *m, double nu, double *H);
void differentiate(lmm_model *m, int reml, double nu);

#endif
