/* Roots of matrices that may be singular. */

#include "structures/correlation.h"

#define EPS 2.220446049250313e-16
#define NEGATIVE 1e-8 /* of a diagonal entry: not rounding  */
#define SWEEPS 40

/* Cholesky with pivots, of correlations: the pivot is the column of whose variance the largest part is not
   yet explained. It ends where that is rounding, so that root root' errs by no more than p EPS of the
   variances. */
int lmm_semidefinite_root(int32_t n, const double *A, double *root, double *work)
{
    const ptrdiff_t p = n;
    double *left = work, *row = left + p;
    memset(root, 0, sizeof(double) * (size_t)(p * p));
    for (ptrdiff_t i = 0; i < p; i++) left[i] = A[i + i * p];
    for (ptrdiff_t k = 0; k < p; k++) {
        ptrdiff_t pivot = -1;
        double most = (double)p * EPS;
        for (ptrdiff_t i = 0; i < p; i++) {
            if (!(left[i] >= -NEGATIVE * fabs(A[i + i * p]))) return 1;
            if (left[i] > most * A[i + i * p]) most = left[i] / A[i + i * p], pivot = i;
        }
        if (pivot < 0) break;
        double *column = root + k * p;
        const double scale = sqrt(left[pivot]);
        for (ptrdiff_t l = 0; l < k; l++) row[l] = root[pivot + l * p];
        memcpy(column, A + pivot * p, sizeof(double) * (size_t)p);
        for (ptrdiff_t l = 0; l < k; l++)
            for (ptrdiff_t i = 0; i < p; i++) column[i] -= row[l] * root[i + l * p];
        for (ptrdiff_t i = 0; i < p; i++) {
            column[i] = i == pivot ? scale : left[i] == 0 ? 0 : column[i] / scale;
            left[i] = i == pivot ? 0 : left[i] - column[i] * column[i];
        }
    }
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
