/* All relative covariance matrices as variables, each by its principal axes: Sigma = U diag(s)^2 U'. T = U
   diag(s) is one of the T with T T' = Sigma; which one means nothing. Steps dT = U K leave T'dT symmetric:
   they are the shortest to their Sigma, so that nothing depends on how the columns are coded or ordered.

   A point is an array: for each term U (k x k), s (k), and the T (k x k) from which distances are taken. */

#ifndef LMM_AXES_H
#define LMM_AXES_H

#include "model/model.h"

ptrdiff_t axes_size(const layout *lay); /* doubles of a point                                      */
ptrdiff_t term_size(int k);             /* ... of a term of k columns                              */
/* doubles of the scratch that the others need, with so many more variables in axes_tangent */
ptrdiff_t axes_work(const layout *lay, int more);

/* The point of T, one p x p block per factor; s within [least, most] */
void axes_of_factors(const lmm_model *m, const double *T, double least, double most, double *x, double *work);
/* One term's part of a point; T: its factor's */
void axes_of_term(const term *t, const double *T, double least, double most, double *x, double *work);
void set_term(double *x, int k, const double *U, const double *s);
/* Sets the model's T. */
void axes_to_model(lmm_model *m, const double *x);
/* T = U diag(s), one p x p block per factor, without the s below least */
void axes_factors(const lmm_model *m, const double *x, double least, double *T);

void axes_coordinates(const lmm_model *m, const double *x, double *sigma); /* lower triangles of Sigma */
/* Gradient and Hessian in steps. n: variables, of which the first ntheta are Sigma's, the others their own
   steps. B (n x n) may be overwritten. */
void axes_tangent(const lmm_model *m, const double *x, const double *slope, int n, double *B, double *g,
                  double *H, double *work);
void axes_move(const lmm_model *m, const double *x, const double *step, double *to, double *work);
void axes_anchor(const lmm_model *m, double *x);
double axes_largest(const lmm_model *m, const double *x); /* of all s */
double axes_distance(const lmm_model *m, const double *x);

#endif
