/* Private: the chain rule from the entries of the relative covariance matrices, Sigma = T T' (whitened; lower
   triangles), to variables that T is made of. */

#ifndef LMM_CHAIN_H
#define LMM_CHAIN_H

#include "model/model.h"

/* Columns (i, j), i >= j, of to := sum_ab L_ai R_bj V_ab, in N rows. V: symmetric k x k matrices, given by
   what the entries of their lower triangles are multiplied with in an inner product: twice the entries off
   the diagonal. L, R: leading dimension ld; L = NULL: the identity. half: k N doubles. */
void pull_back(int k, const double *L, const double *R, int ld, ptrdiff_t N, const double *from, double *to,
               double *half);

/* V itself, k x k with leading dimension ld, from such a row */
void unfold(int k, const double *row, double *V, int ld);

/* H := J'B J + the curvature of Sigma in theta along the slope, g := J'slope (either NULL: not needed), J =
   dSigma/dtheta at T: one p x p block per factor, one after the other. W: NULL, or T = W times the triangle
   that theta is, with users: W = Cinv. B is overwritten. work: chain_work doubles. */
void to_theta(const lmm_model *m, int users, const double *T, const double *slope, double *B, double *g,
              double *H, double *work);
ptrdiff_t chain_work(const layout *lay); /* doubles */

/* A := its transpose, n x n */
void transpose(ptrdiff_t n, double *A);

#endif
