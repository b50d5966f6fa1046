/* Private: what is left when the eliminated factors are gone, the Schur complement S over the trailing
   levels with the rows of X and y below it. There are several ways to hold it; each is an object with a
   table of steps and memory of its own (dense.c, sparse.c, iterative.c).

     M = Lambda'S Lambda + I,   B = Lambda M^-1 Lambda'   (over the trailing columns)

   load, downdate (every eliminated factor), factorize; then border, times, quadratic and solve; then, in an
   order that gradient.c fixes, invert (which overwrites the factor, unless it was asked to spare it), gather,
   product and covariance. */

#ifndef LMM_TRAILING_H
#define LMM_TRAILING_H

#include "model/model.h"

typedef struct {
    /* memory of the numbers; once, before the steps below */
    lmm_status (*make)(trailing *t, lmm_model *m);
    /* what is not in t->memory; NULL: nothing */
    void (*free)(trailing *t);
    /* scratch for so many threads; it does not shrink. LMM_NOMEM: as before */
    lmm_status (*threads)(trailing *t, const lmm_model *m, int threads);
    /* memory, so that invert leaves the factor: solve works after it too; NULL: not available */
    lmm_status (*spare)(trailing *t, const lmm_model *m);
    /* A is known, or known anew: what stays as long as A does; NULL: nothing */
    void (*begin)(trailing *t, const lmm_model *m);

    /* S and its edge := A */
    void (*load)(trailing *t, lmm_model *m);
    /* S -= A_Rl K_l A_lR over the levels l of the eliminated factor k; the edge too */
    void (*downdate)(trailing *t, lmm_model *m, int k);
    /* X (q2 x q2, its lower blocks) -= A_Rl K_l A_lR for any K, after the downdate, where levels have lists;
       NULL: not faster than level by level */
    void (*downdate_by)(trailing *t, lmm_model *m, int k, const double *K, double *X);
    /* factor of M with the edge Le and its corner R, C = R R'; adds log|M|, sets log|C| and r^2.
       Where it is not exact, the first call after begin fixes its directions instead
       (iterative.c). */
    lmm_status (*factorize)(trailing *t, lmm_model *m);
    /* H (pb x q2) := edge of S times Lambda M^-1 */
    void (*border)(trailing *t, lmm_model *m, double *H);
    /* W += alpha V S  (r x q2) */
    void (*times)(trailing *t, lmm_model *m, int r, double alpha, const double *V, double *W);
    /* Q -= w [M .; edge C]^-1 w',  w: r x (q2 + p), overwritten; X's p rows of the edge, or none (p = 0).
       Where nothing is exact, for the ntheta directions of a curvature only. */
    void (*quadratic)(trailing *t, lmm_model *m, int r, int p, double *w, double *Q);
    /* D_k += blocks of S Lambda M^-1, and Q := B_jj of the trailing factors' levels */
    void (*invert)(trailing *t, lmm_model *m);
    /* Q_l := A_lR B_RR A_Rl for the first factor's levels, R the trailing columns */
    void (*gather)(trailing *t, lmm_model *m);
    /* V_R += B_RR A_Rl for an eliminated factor k; A, V: laid out as its panels */
    void (*product)(trailing *t, lmm_model *m, int k, const double *A, double *V);
    /* gather and product know of B_RR what is exact; what is estimated adds to Q_l (p x p) of the levels of
       an eliminated factor, once after invert; NULL: nothing */
    const double *(*estimated)(trailing *t, const lmm_model *m, int k);
    /* share of S that is not zero; NULL: all */
    double (*density)(const trailing *t, const lmm_model *m);
    /* S as a whole, q2 x q2 and both triangles; NULL where it is never formed */
    void (*matrix)(const trailing *t, const lmm_model *m, double *S);
    /* B as a whole, both triangles, after invert; NULL where only parts of it are known */
    void (*inverse)(const trailing *t, const lmm_model *m, double *B);
    /* X := X B  (r x q2), with the factor */
    void (*solve)(trailing *t, lmm_model *m, int r, double *X);
    /* is B_ji known for the trailing nodes i <= j? (w_j x w_i); NULL where nothing is exact */
    int (*covariance)(const trailing *t, const lmm_model *m, int32_t i, int32_t j, double *B);
    /* covariance (ntheta x ntheta) of the last gradient; NULL where it is exact */
    void (*scores)(trailing *t, lmm_model *m, double *C);
} trailing_steps;

struct trailing { /* the first member of every way's struct                                   */
    const trailing_steps *steps;
    int exact;        /* no iterations, no chance                                             */
    int spared;       /* does the factor outlive the inverse?                                 */
    int failed;       /* iterations of the last evaluation did not converge                   */
    double deviation; /* standard error of the last log|M|; 0: exact                          */
    ptrdiff_t lde;    /* leading dimension of the edges: the rows of X and y, pb x (q2 + pb)  */
    double *Se, *Le;  /* edges of S and of its factor; their last pb columns are the corner   */
    void *memory;     /* every block that trailing_free frees                                 */
};

void trailing_free(trailing *t); /* NULL and half-made are fine */

/* For the ways: the edge of S -= A_b K_l A_lR over factor k */
void downdate_edge(trailing *t, lmm_model *m, int k);
/* corner.c: Cholesky factor of the corner of Le and what follows from it: log|C|, r^2; r^2 = 0 where
   cancellation leaves nothing of it. Where the corner has low rank only its last row is read. */
lmm_status factorize_corner(trailing *t, lmm_model *m);
int corner_has_low_rank(const trailing *t, const layout *lay);

#endif
