/* Private: a few rows times a large matrix. BLAS packs the matrix first, which costs more than the
   product; these read it once. X, V, W: r x n, column-major with r constant where it is small. */

#ifndef LMM_ROWS_H
#define LMM_ROWS_H

#include "model.h"

#define FEW 8 /* up to so many rows the loops here beat BLAS (measured at order 1142) */

/* W += alpha V S,  S symmetric n x n, lower triangle (leading dimension s) */
void rows_times_symmetric(const lmm_model *m, int r, int n, double alpha, const double *V, const double *S,
                          int s, double *W);

/* X := X L^-1 (transposed 0) or X L^-T (transposed 1),  L lower triangular n x n */
void rows_solve(const lmm_model *m, int r, int n, const double *L, int s, int transposed, double *X);

#endif
