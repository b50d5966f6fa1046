/* A few rows times a symmetric or triangular matrix, column by column; many rows go to BLAS. */

#include "trailing/lines.h"

/* Calls F(r, ...) with r constant */
#define BY_ROWS(r, F, ...)               \
    switch (r) {                         \
    case 5: F(5, __VA_ARGS__); break;    \
    case 6: F(6, __VA_ARGS__); break;    \
    case 7: F(7, __VA_ARGS__); break;    \
    case 8: F(8, __VA_ARGS__); break;    \
    default: BY_WIDTH(r, F, __VA_ARGS__) \
    }

INLINE void times_symmetric(const int r, ptrdiff_t n, double alpha, const double *V, const double *S,
                            ptrdiff_t s, double *W)
{
    double scaled[FEW], sum[FEW];
    for (ptrdiff_t j = 0; j < n; j++) {
        const double *column = S + j * s;
        for (int t = 0; t < r; t++) {
            scaled[t] = alpha * V[t + j * r];
            sum[t] = scaled[t] * column[j];
        }
        for (ptrdiff_t i = j + 1; i < n; i++)
            for (int t = 0; t < r; t++) {
                sum[t] += alpha * V[t + i * r] * column[i];
                W[t + i * r] += scaled[t] * column[i];
            }
        for (int t = 0; t < r; t++) W[t + j * r] += sum[t];
    }
}

/* X L = B: columns from the last to the first */
INLINE void solve_backward(const int r, ptrdiff_t n, const double *L, ptrdiff_t s, double *X)
{
    double sum[FEW];
    for (ptrdiff_t j = n - 1; j >= 0; j--) {
        const double *column = L + j * s;
        for (int t = 0; t < r; t++) sum[t] = X[t + j * r];
        for (ptrdiff_t i = j + 1; i < n; i++)
            for (int t = 0; t < r; t++) sum[t] -= X[t + i * r] * column[i];
        for (int t = 0; t < r; t++) X[t + j * r] = sum[t] / column[j];
    }
}

/* X L' = B: columns from the first to the last */
INLINE void solve_forward(const int r, ptrdiff_t n, const double *L, ptrdiff_t s, double *X)
{
    double solved[FEW];
    for (ptrdiff_t j = 0; j < n; j++) {
        const double *column = L + j * s;
        for (int t = 0; t < r; t++) solved[t] = X[t + j * r] /= column[j];
        for (ptrdiff_t i = j + 1; i < n; i++)
            for (int t = 0; t < r; t++) X[t + i * r] -= solved[t] * column[i];
    }
}

CLONES void rows_times_symmetric(const lmm_model *m, int r, int n, double alpha, const double *V,
                                 const double *S, int s, double *W)
{
    char right = 'R', lower = 'L';
    double one = 1;
    if (r > FEW)
        m->blas.symm(&right, &lower, &r, &n, &alpha, (double *)S, &s, (double *)V, &r, &one, W, &r);
    else
        BY_ROWS(r, times_symmetric, n, alpha, V, S, s, W)
}

CLONES void rows_solve(const lmm_model *m, int r, int n, const double *L, int s, int transposed, double *X)
{
    char right = 'R', lower = 'L', none = 'N', how = transposed ? 'T' : 'N';
    double one = 1;
    if (r > FEW)
        m->blas.trsm(&right, &lower, &how, &none, &r, &n, &one, (double *)L, &s, X, &r);
    else if (transposed)
        BY_ROWS(r, solve_forward, n, L, s, X)
    else
        BY_ROWS(r, solve_backward, n, L, s, X)
}

void columns_times_lambda(const lmm_model *m, int r, double *X, int transposed)
{
    const layout *lay = &m->layout;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const int p = lay->f[k].p;
        double *block = X + (ptrdiff_t)lay->trailcol[lay->f[k].node] * r;
        for (int32_t l = 0; l < lay->f[k].nlev; l++, block += (ptrdiff_t)r * p) {
            if (transposed)
                mult(r, p, p, 0, block, r, m->evaluation.f[k].T, p, m->scratch.tmp, r);
            else
                mul(r, p, p, 0, block, r, m->evaluation.f[k].T, p, m->scratch.tmp, r);
            memcpy(block, m->scratch.tmp, sizeof(double) * (size_t)(r * p));
        }
    }
}
