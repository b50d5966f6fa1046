/* Private: what is left when the eliminated factors are gone, the Schur complement S over the trailing
   levels with the rows of X and y below it. There are several ways to hold it; each is a table of steps.

     M = Lambda'S Lambda + I,   B = Lambda M^-1 Lambda'   (over the trailing columns)  */

#ifndef LMM_TRAILING_H
#define LMM_TRAILING_H

#include "lmm.h"

typedef struct {
    /* S and its edge := A */
    void (*load)(lmm_model *m);
    /* S -= A_Rl K_l A_lR over the levels l of the eliminated factor k; the edge too */
    void (*downdate)(lmm_model *m, int k);
    /* factor of M with the edge Le and its corner R, C = R R'; adds log|M|, sets log|C| and r^2 */
    lmm_status (*factorize)(lmm_model *m);
    /* H (pb x q2) := edge of S times Lambda M^-1 */
    void (*border)(lmm_model *m, double *H);
    /* W += alpha V S  (r x q2) */
    void (*times)(lmm_model *m, int r, double alpha, const double *V, double *W);
    /* Q -= w [M .; edge C]^-1 w',  w: ntheta x (q2 + p), overwritten; X's rows of the edge only */
    void (*quadratic)(lmm_model *m, double *w, double *Q);
    /* D_k += blocks of S Lambda M^-1, and Q := B_jj of the trailing factors' levels */
    void (*invert)(lmm_model *m);
    /* Q_l := A_lR B_RR A_Rl for the first factor's levels, R the trailing columns */
    void (*gather)(lmm_model *m);
    /* V_R += B_RR A_Rl for an eliminated factor k; V: its panels */
    void (*product)(lmm_model *m, int k, double *V);
    /* X := X B  (r x q2), with the factor */
    void (*solve)(lmm_model *m, int r, double *X);
    /* Is B_ji known for the trailing nodes i <= j? (w_j x w_i) */
    int (*covariance)(const lmm_model *m, int32_t i, int32_t j, double *B);
} trailing;

extern const trailing TRAILING_DENSE, TRAILING_SPARSE, TRAILING_ITERATIVE;

/* Cholesky factor of the corner of Le and what follows from it: log|C|, r^2 (trailing.c);
   r^2 = 0 where cancellation leaves nothing of it. */
lmm_status factorize_corner(lmm_model *m);

#endif
