/* Private: p x p blocks, column-major, p known at compile time where it pays. */

#ifndef LMM_SMALL_H
#define LMM_SMALL_H

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Hot functions are compiled twice, for any machine and for one with fused multiply-add; the loader
   picks (meson.build defines LMM_CLONES where compiler and platform can). */
#ifdef LMM_CLONES
#define CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#define INLINE static inline __attribute__((always_inline, unused))

/* Four doubles, anywhere in memory */
typedef double vec4 __attribute__((vector_size(32), aligned(8), may_alias));

/* Calls F(p, ...) with p constant for the widths that occur most, so that its loops unroll. */
#define BY_WIDTH(p, F, ...)           \
    switch (p) {                      \
    case 1: F(1, __VA_ARGS__); break; \
    case 2: F(2, __VA_ARGS__); break; \
    case 3: F(3, __VA_ARGS__); break; \
    case 4: F(4, __VA_ARGS__); break; \
    default: F(p, __VA_ARGS__);       \
    }

/* x'y with sums that do not wait for each other */
INLINE double dot(ptrdiff_t n, const double *x, const double *y)
{
    double s[8] = {0}, rest = 0;
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) s[j] += x[i + j] * y[i + j];
    for (; i < n; i++) rest += x[i] * y[i];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7])) + rest;
}

/* C (m x n) = alpha C + A (m x k) B (k x n) */
INLINE void mul(int m, int n, int k, double alpha, const double *A, int lda, const double *B, int ldb,
                double *C, int ldc)
{
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            double s = alpha == 0 ? 0 : alpha * C[i + j * ldc];
            for (int l = 0; l < k; l++) s += A[i + l * lda] * B[l + j * ldb];
            C[i + j * ldc] = s;
        }
}

/* C (m x n) = alpha C + A' B,  A: k x m, B: k x n */
INLINE void tmul(int m, int n, int k, double alpha, const double *A, int lda, const double *B, int ldb,
                 double *C, int ldc)
{
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            double s = alpha == 0 ? 0 : alpha * C[i + j * ldc];
            for (int l = 0; l < k; l++) s += A[l + i * lda] * B[l + j * ldb];
            C[i + j * ldc] = s;
        }
}

/* C (m x n) = alpha C + A B',  A: m x k, B: n x k */
INLINE void mult(int m, int n, int k, double alpha, const double *A, int lda, const double *B, int ldb,
                 double *C, int ldc)
{
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            double s = alpha == 0 ? 0 : alpha * C[i + j * ldc];
            for (int l = 0; l < k; l++) s += A[i + l * lda] * B[j + l * ldb];
            C[i + j * ldc] = s;
        }
}

/* C (rows of w, ld apart) += z x',  z: p, x: w */
INLINE void add_outer(int p, int w, const double *z, const double *x, double *C, ptrdiff_t ld)
{
    for (int c = 0; c < p; c++)
        for (int a = 0; a < w; a++) C[a + c * ld] += x[a] * z[c];
}

/* A = L L' in place (lower; the upper triangle is cleared). Nonzero if not positive definite. */
INLINE int chol(int p, double *A)
{
    for (int j = 0; j < p; j++) {
        double d = A[j + j * p];
        for (int l = 0; l < j; l++) d -= A[j + l * p] * A[j + l * p];
        if (!(d > 0)) return 1;
        d = sqrt(d);
        A[j + j * p] = d;
        for (int i = j + 1; i < p; i++) {
            double s = A[i + j * p];
            for (int l = 0; l < j; l++) s -= A[i + l * p] * A[j + l * p];
            A[i + j * p] = s / d;
        }
        for (int i = 0; i < j; i++) A[i + j * p] = 0;
    }
    return 0;
}

/* X (m x p) = X L^-T */
INLINE void solve_right_t(int p, const double *L, int m, double *X, int ldx)
{
    for (int j = 0; j < p; j++) {
        for (int l = 0; l < j; l++)
            for (int i = 0; i < m; i++) X[i + j * ldx] -= X[i + l * ldx] * L[j + l * p];
        for (int i = 0; i < m; i++) X[i + j * ldx] /= L[j + j * p];
    }
}

/* X (m x p) = X L^-1 */
INLINE void solve_right(int p, const double *L, int m, double *X, int ldx)
{
    for (int j = p - 1; j >= 0; j--) {
        for (int l = j + 1; l < p; l++)
            for (int i = 0; i < m; i++) X[i + j * ldx] -= X[i + l * ldx] * L[l + j * p];
        for (int i = 0; i < m; i++) X[i + j * ldx] /= L[j + j * p];
    }
}

/* Copies the lower triangle of A into its upper one. */
INLINE void mirror(int p, double *A, int lda)
{
    for (int j = 0; j < p; j++)
        for (int i = j + 1; i < p; i++) A[j + i * lda] = A[i + j * lda];
}

/* A (p x p) = (A + A') / 2 */
INLINE void symmetrize(int p, double *A)
{
    for (int j = 0; j < p; j++)
        for (int i = j + 1; i < p; i++) A[i + j * p] = A[j + i * p] = (A[i + j * p] + A[j + i * p]) / 2;
}

/* M = T'A T + I */
INLINE void scaled_block(int p, const double *A, const double *T, double *M, double *tmp)
{
    mul(p, p, p, 0, A, p, T, p, tmp, p);
    tmul(p, p, p, 0, T, p, tmp, p, M, p);
    for (int i = 0; i < p; i++) M[i + i * p] += 1;
}

/* U = T L^-T, so that K = T M^-1 T' = U U' */
INLINE void scaled_factor(int p, const double *T, const double *L, double *U)
{
    memcpy(U, T, sizeof(double) * (size_t)p * (size_t)p);
    solve_right_t(p, L, p, U, p);
}

#endif
