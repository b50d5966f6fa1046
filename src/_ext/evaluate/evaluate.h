/* Private: the steps of an evaluation, and what brings the model to the state that a reading needs. */

#ifndef LMM_EVALUATE_H
#define LMM_EVALUATE_H

#include "model/model.h"

#define TYPICAL 0.5 /* T, whitened units */

/* state.c: evaluate, then derivatives of the same T in the entries of Sigma = T T' (whitened, lower triangles
   in the order of theta): slope, average information A, and E, what A lacks of the Hessian (NULL: not wanted;
   0: not available, for memory); or what a reading needs at the theta where the model stands: T with such
   zeros, at least this state, and the trailing factor if `factor` */
double degrees(const lmm_model *m, int reml);
double evaluate(lmm_model *m, int reml);
int derivatives(lmm_model *m, int reml, double *slope, double *A, double *E);
lmm_status evaluate_there(lmm_model *m, zeros wanted, int factor);
lmm_status bring(lmm_model *m, zeros wanted, lmm_state least, int factor);
void deepen(lmm_model *m, lmm_state least); /* the same where T is, after evaluate() */

/* factor.c, border.c, curvature.c, gradient.c: in this order, for one T */
lmm_status factorize(lmm_model *m);
/* A first factorization, at TYPICAL: where the trailing matrix is not exact it fixes what later ones keep.
   theta: scratch */
lmm_status factorize_typical(lmm_model *m, double *theta);
void solve_border(lmm_model *m);
void border_rows(lmm_model *m);     /* its first half: H, and Y = Z'V^-1 [X y] */
void refine_residual(lmm_model *m); /* residual.c: solve_border, and r^2 where it is little */
void information(lmm_model *m, double nu, double *A);
void differentiate(lmm_model *m, int reml, double nu);
/* The two halves of differentiate: B, and D := blocks of A Lambda M^-1; then D and S of one factor, of which
   N (p x p) T is taken away, N = sum_l g_l g_l' with sigma = 1. N may be scratch.tmp. */
void invert_model(lmm_model *m);
void finish_slope(lmm_model *m, const factor *f, const double *N);

/* hessian.c: E, from BORDERED to INVERTED */
lmm_status defect(lmm_model *m, int reml, const double *A, double *E);
/* squares (ntheta x ntheta, lower, leading dimension ld) += sum over x and y of h_e h_f, trace :=
   sum over x of h_e, h_e = sum_l b_x'E_e b_y for the rows x, y of X in an edge (pb x q) */
void add_edge_squares(lmm_model *m, double *edge, double *squares, int ld, double *trace);

#endif
