/* Private: products and factors of p x p blocks, column-major, by BLAS where p is large; below that the loops
   of small.h, which calls would cost more than. */

#ifndef LMM_LARGE_H
#define LMM_LARGE_H

#include "base/small.h"
#include "lmm.h"

#define LARGE 32 /* columns from which BLAS is called */

/* C (m x n) := alpha C + op(A) op(B), op as ta and tb say: 'N' or 'T'; k: the inner dimension */
INLINE void product(const lmm_blas *blas, char ta, char tb, int m, int n, int k, double alpha,
                    const double *A, int lda, const double *B, int ldb, double *C, int ldc)
{
    double one = 1;
    if (k >= LARGE && (m >= LARGE || n >= LARGE))
        blas->gemm(&ta, &tb, &m, &n, &k, &one, (double *)A, &lda, (double *)B, &ldb, &alpha, C, &ldc);
    else if (ta == 'T')
        tmul(m, n, k, alpha, A, lda, B, ldb, C, ldc);
    else if (tb == 'T')
        mult(m, n, k, alpha, A, lda, B, ldb, C, ldc);
    else
        mul(m, n, k, alpha, A, lda, B, ldb, C, ldc);
}

/* X (m x p) := X L^-T ('T') or X L^-1 ('N'), L lower triangular with leading dimension p */
INLINE void divide(const lmm_blas *blas, char t, int p, const double *L, int m, double *X, int ldx)
{
    char right = 'R', lower = 'L', stored = 'N';
    double one = 1;
    if (p >= LARGE)
        blas->trsm(&right, &lower, &t, &stored, &m, &p, &one, (double *)L, &p, X, &ldx);
    else if (t == 'T')
        solve_right_t(p, L, m, X, ldx);
    else
        solve_right(p, L, m, X, ldx);
}

/* M = T'A T + I */
INLINE void large_block(const lmm_blas *blas, int p, const double *A, const double *T, double *M, double *tmp)
{
    product(blas, 'N', 'N', p, p, p, 0, A, p, T, p, tmp, p);
    product(blas, 'T', 'N', p, p, p, 0, T, p, tmp, p, M, p);
    for (int i = 0; i < p; i++) M[i + (ptrdiff_t)i * p] += 1;
}

/* U = T L^-T, so that K = T M^-1 T' = U U' */
INLINE void large_factor(const lmm_blas *blas, int p, const double *T, const double *L, double *U)
{
    memcpy(U, T, sizeof(double) * (size_t)p * (size_t)p);
    divide(blas, 'T', p, L, p, U, p);
}

/* A = L L' in place (the upper triangle is cleared). Nonzero if not positive definite. */
INLINE int root_of(const lmm_blas *blas, int p, double *A)
{
    char lower = 'L';
    int info = 0;
    if (p < LARGE) return chol(p, A);
    blas->potrf(&lower, &p, A, &p, &info);
    for (int j = 1; j < p; j++) memset(A + (ptrdiff_t)j * p, 0, sizeof(double) * (size_t)j);
    return info != 0;
}

#endif
