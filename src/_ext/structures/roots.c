/* Roots of matrices that may be singular. */

#include "structures/correlation.h"

#define EPS 2.220446049250313e-16
#define NEGATIVE 1e-8 /* of a diagonal entry: not rounding  */
#define SWEEPS 40

#define PANEL 32 /* columns whose products are subtracted together */

typedef struct { /* Cholesky with pivots of a symmetric matrix, lower triangle, in place          */
    ptrdiff_t p;
    double *W;          /* p x p   columns of the factor, then what is left of the matrix           */
    double *left, *all; /* p       its diagonal: what is left, what there was                       */
    int32_t *at;        /* p       rows and columns of the matrix, in the order of pivots           */
} pivoted;

/* C (8 x 4) -= L M',  L: 8 x n, M: 4 x n, all of them ld apart */
INLINE void tile(ptrdiff_t n, const double *L, const double *M, ptrdiff_t ld, double *C)
{
    vec4 c[8];
    for (int j = 0; j < 4; j++) c[j] = *(vec4 *)(C + j * ld), c[j + 4] = *(vec4 *)(C + j * ld + 4);
    for (ptrdiff_t l = 0; l < n; l++, L += ld, M += ld) {
        const vec4 a = *(const vec4 *)L, b = *(const vec4 *)(L + 4);
        for (int j = 0; j < 4; j++) c[j] -= a * M[j], c[j + 4] -= b * M[j];
    }
    for (int j = 0; j < 4; j++) *(vec4 *)(C + j * ld) = c[j], *(vec4 *)(C + j * ld + 4) = c[j + 4];
}

/* What is left, columns from `to` on, less the products of columns from .. to - 1 */
CLONES static void subtract(const pivoted *f, ptrdiff_t from, ptrdiff_t to)
{
    const ptrdiff_t p = f->p, n = to - from;
    const double *L = f->W + from * p;
    ptrdiff_t j = to;
    for (; j + 4 <= p; j += 4) {
        ptrdiff_t i = j;
        for (; i + 8 <= p; i += 8) tile(n, L + i, L + j, p, f->W + i + j * p);
        for (; i < p; i++)
            for (int k = 0; k < 4; k++)
                for (ptrdiff_t l = 0; l < n; l++) f->W[i + (j + k) * p] -= L[i + l * p] * L[j + k + l * p];
    }
    for (; j < p; j++)
        for (ptrdiff_t l = 0; l < n; l++)
            for (ptrdiff_t i = j; i < p; i++) f->W[i + j * p] -= L[i + l * p] * L[j + l * p];
}

static void swap(double *a, double *b)
{
    const double keep = *a;
    *a = *b, *b = keep;
}

/* Exchanges rows and columns k < q. */
static void exchange(const pivoted *f, ptrdiff_t k, ptrdiff_t q)
{
    const ptrdiff_t p = f->p;
    double *W = f->W;
    const int32_t keep = f->at[k];
    f->at[k] = f->at[q], f->at[q] = keep;
    swap(f->left + k, f->left + q), swap(f->all + k, f->all + q);
    for (ptrdiff_t l = 0; l < k; l++) swap(W + k + l * p, W + q + l * p);
    for (ptrdiff_t i = k + 1; i < q; i++) swap(W + i + k * p, W + q + i * p);
    for (ptrdiff_t i = q + 1; i < p; i++) swap(W + i + k * p, W + i + q * p);
}

/* Column k of the factor, where columns before `from` are subtracted already */
static void factor_column(const pivoted *f, ptrdiff_t from, ptrdiff_t k)
{
    const ptrdiff_t p = f->p;
    double *column = f->W + k * p;
    for (ptrdiff_t l = from; l < k; l++) {
        const double *other = f->W + l * p, x = other[k];
        for (ptrdiff_t i = k + 1; i < p; i++) column[i] -= x * other[i];
    }
    column[k] = sqrt(f->left[k]);
    for (ptrdiff_t i = k + 1; i < p; i++) {
        column[i] /= column[k];
        f->left[i] -= column[i] * column[i];
    }
}

/* The column from k on of whose variance the largest part is left; p: only rounding is. -1: some is negative.
 */
static ptrdiff_t next_pivot(const pivoted *f, ptrdiff_t k)
{
    double most = (double)f->p * EPS;
    ptrdiff_t pivot = f->p;
    for (ptrdiff_t i = k; i < f->p; i++) {
        if (!(f->left[i] >= -NEGATIVE * f->all[i])) return -1;
        if (f->left[i] > most * f->all[i]) most = f->left[i] / f->all[i], pivot = i;
    }
    return pivot;
}

/* Is what is left from column k on more than rounding? */
static int remains(const pivoted *f, ptrdiff_t k)
{
    for (ptrdiff_t j = k; j < f->p; j++)
        for (ptrdiff_t i = j + 1; i < f->p; i++)
            if (!(fabs(f->W[i + j * f->p]) <= NEGATIVE * sqrt(f->all[i] * f->all[j]))) return 1;
    return 0;
}

/* Its rank; -1: there is a negative eigenvalue. */
static ptrdiff_t factor(const pivoted *f)
{
    ptrdiff_t from = 0, k = 0;
    for (; k < f->p; k++) {
        if (k == from + PANEL) {
            subtract(f, from, k);
            from = k;
        }
        const ptrdiff_t pivot = next_pivot(f, k);
        if (pivot < 0) return -1;
        if (pivot == f->p) break;
        if (pivot > k) exchange(f, k, pivot);
        factor_column(f, from, k);
    }
    subtract(f, from, k);
    return remains(f, k) ? -1 : k;
}

/* The pivot is the column of whose variance the largest part is not yet explained. It ends where that is
   rounding, so that root root' errs by no more than p EPS of the variances. */
int lmm_semidefinite_root(int32_t n, const double *A, double *root, double *work)
{
    const ptrdiff_t p = n;
    const pivoted f = {p, root, work, work + p, (int32_t *)(work + 2 * p)};
    memcpy(root, A, sizeof(double) * (size_t)(p * p));
    for (ptrdiff_t i = 0; i < p; i++) f.left[i] = f.all[i] = A[i + i * p], f.at[i] = (int32_t)i;
    const ptrdiff_t rank = factor(&f);
    if (rank < 0) return 1;
    for (ptrdiff_t k = 0; k < rank; k++) {
        double *column = root + k * p;
        memset(f.left, 0, sizeof(double) * (size_t)p);
        for (ptrdiff_t i = k; i < p; i++) f.left[f.at[i]] = column[i];
        memcpy(column, f.left, sizeof(double) * (size_t)p);
    }
    memset(root + rank * p, 0, sizeof(double) * (size_t)(p * (p - rank)));
    return 0;
}

/* Zeroes A_ij; c, s: the rotation of rows and columns i and j */
static void rotate(int p, double *A, double *V, int i, int j)
{
    const double a = A[i + i * p], b = A[j + j * p], off = A[i + j * p];
    const double theta = (b - a) / (2 * off);
    const double t = copysign(1, theta) / (fabs(theta) + sqrt(1 + theta * theta));
    const double c = 1 / sqrt(1 + t * t), s = t * c;
    for (int k = 0; k < p; k++) {
        const double x = A[k + i * p], y = A[k + j * p];
        A[k + i * p] = c * x - s * y, A[k + j * p] = s * x + c * y;
    }
    for (int k = 0; k < p; k++) {
        const double x = A[i + k * p], y = A[j + k * p], u = V[k + i * p], v = V[k + j * p];
        A[i + k * p] = c * x - s * y, A[j + k * p] = s * x + c * y;
        V[k + i * p] = c * u - s * v, V[k + j * p] = s * u + c * v;
    }
    A[i + j * p] = A[j + i * p] = 0;
}

void eigenvectors(int p, double *A, double *V)
{
    double size = 0;
    for (int i = 0; i < p * p; i++) size += A[i] * A[i], V[i] = i % (p + 1) == 0;
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double most = 0;
        for (int j = 1; j < p; j++)
            for (int i = 0; i < j; i++) {
                const double off = A[i + j * p];
                if (!(off * off > EPS * EPS * size)) continue;
                most = fmax(most, fabs(off));
                rotate(p, A, V, i, j);
            }
        if (most == 0) return;
    }
}

void trapezoid(int p, int d, double *B)
{
    for (int r = 0; r < d; r++)
        for (int j = d - 1; j > r; j--) {
            const double a = B[r + r * p], b = B[r + j * p], length = hypot(a, b);
            if (b == 0) continue;
            const double c = a / length, s = b / length;
            for (int i = r; i < p; i++) {
                const double x = B[i + r * p], y = B[i + j * p];
                B[i + r * p] = c * x + s * y, B[i + j * p] = c * y - s * x;
            }
            B[r + j * p] = 0;
        }
}
