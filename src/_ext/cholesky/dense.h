/* Private: Cholesky factor and inverse of a large dense matrix, in tiles that threads share. */

#ifndef LMM_CHOLESKY_H
#define LMM_CHOLESKY_H

#include "lmm.h"
#include "base/team.h"

/* A = L L' in place, lower triangle (n x n, leading dimension ld). Nonzero if not positive definite. */
int cholesky(const lmm_blas *blas, team *t, int n, double *A, int ld);

/* L := (L L')^-1 for its first n columns, lower triangle; what is above it may be
   overwritten. work: room of cholesky_work(n) doubles. */
void cholesky_invert(const lmm_blas *blas, team *t, int n, double *L, int ld, double *work);
ptrdiff_t cholesky_work(int n);

#endif
