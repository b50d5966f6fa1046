/* Private: what the readings share, the user's coordinates above all. */

#ifndef LMM_READINGS_H
#define LMM_READINGS_H

#include "evaluate/evaluate.h"

const factor *factor_of_user(const lmm_model *m, int user);

/* state.c: gradient and Hessian in elimination order to the user's order; g, H: or NULL */
void to_user(const lmm_model *m, const double *gradient, const double *hessian, double *g, double *H);

/* estimates.c: coefficients of the whitened columns of X */
void solve_fixed(const lmm_model *m, double *w);                      /* w (p) := R^-T w,  C = R R'         */
void fixed_to_user(const lmm_model *m, const double *w, double *out); /* to those of the user's (pfull)     */
lmm_status fixed_estimates(lmm_model *m, double variance, double *beta, double *vcov); /* either: or NULL */
void fixed_root(const lmm_model *m, double *E); /* E (pfull x p) := C_X R^-T           */

/* solve.c: n right-hand sides as the rows of X (n x q), columns in elimination order */
void take_rows(const lmm_model *m, const double *V, ptrdiff_t r, ptrdiff_t first, int n, int dual, double *X);
void give_rows(const lmm_model *m, const double *X, ptrdiff_t r, ptrdiff_t first, int n, double *V);
void solve_rows(lmm_model *m, int r, double *X, double *work); /* X := X B                            */
ptrdiff_t solve_work(const lmm_model *m, int r);               /* doubles                             */

/* covariances.c: B_Rl of the first factor, laid out as its panels, into evaluation.first; after INVERTED */
lmm_status complete_first(lmm_model *m);

/* gradient.c */
void invert_against_ancestor(lmm_model *m, int k, int j, const double *panels, double *out);

/* curvature.c: quadratic forms of N vectors over the random columns */
typedef struct {
    int N;
    const double *given; /* N x q, columns in elimination order; NULL: dSigma/de v for e = 1 ... N = ntheta */
    int edge;            /* ... and v this row of Y: Z'V^-1 times a column of X R^-T, or (layout.p) Z'P y   */
    int p;               /* rows of X that are projected out, all (layout.p) or none (0)                    */
    double *Q;           /* N x N                                                                          */
    double *V;           /* N x (q - q1 + pb)  what the eliminated levels send                             */
    double *v;           /* N x q2                                                                         */
    double *U, *A;       /* N x (2 p BATCH) each, p: columns of the widest factor                          */
} forms;
void quadratic_forms(lmm_model *m, const forms *q);     /* Q := V'Z'V^-1 Z V, or P for V^-1 */
double *direction_forms(lmm_model *m, int edge, int p); /* those of the directions of Sigma, in scratch     */
double *given_forms(lmm_model *m, int N,
                    const double *given);        /* of at most `moving` vectors, with P, in scratch */
void projections(const lmm_model *m, double *a); /* a_e = v'dSigma/de v, v = Z'P y                   */

/* traces.c: tr V^-1 G_e, and tr V^-1 G_e V^-1 G_f of which r >= s stand in pairs[r + N s], whitened and in
   elimination order; after evaluate() */
lmm_status traces(lmm_model *m, double *single, double *pairs);

/* hessian.c: gradient (N) and Hessian (N x N) in the entries of Sigma, whitened and in elimination order;
   after bring(EXACT, FACTORED, 1) and deepen(BORDERED) */
lmm_status hessian_there(lmm_model *m, double *slope, double *H);

/* squares.c: variances of r contrasts over sigma^2, after solve_border() */
lmm_status contrast_variances(const lmm_model *m, int r, const double *L, double *variance);

#endif
