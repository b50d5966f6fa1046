#include "optimize/axes.h"

#include <float.h>

#include "evaluate/chain.h"
#include "base/small.h"

#define SWEEPS 60 /* of rotations, at most; five to eight are usual */
#define VANISHED 1e-150

typedef struct { /* the part of a point that belongs to a term */
    double *U, *s, *anchor;
} axes;

static axes axes_at(const double *x, int k)
{
    double *start = (double *)x;
    return (axes){start, start + k * k, start + k * k + k};
}

ptrdiff_t term_size(int k)
{
    return 2 * (ptrdiff_t)k * k + k;
}

ptrdiff_t axes_size(const layout *lay)
{
    ptrdiff_t size = 0;
    for (term t = {0}; next_term(lay, &t);) size += term_size(t.k);
    return size;
}

ptrdiff_t axes_work(const layout *lay, int more)
{
    ptrdiff_t k = 1;
    for (term t = {0}; next_term(lay, &t);)
        if (t.k > k) k = t.k;
    return 3 * k * k + k * (moving(lay) + more);
}

/* ------------------------------------------------------------------------------------------- rotations -- */

static void rotate(int k, double *x, double *y, double c, double s)
{
    for (int i = 0; i < k; i++) {
        const double a = x[i], b = y[i];
        x[i] = c * a - s * b;
        y[i] = s * a + c * b;
    }
}

/* M := M V and A := A V with V orthogonal and the columns of M orthogonal to each other: one-sided Jacobi,
   which finds small singular values as exactly as large ones (Demmel & Veselic 1992). */
static void orthogonalize(int k, double *M, double *A)
{
    int rotated = k > 1;
    for (int sweep = 0; rotated && sweep < SWEEPS; sweep++) {
        rotated = 0;
        for (int i = 0; i < k; i++)
            for (int j = i + 1; j < k; j++) {
                double *x = M + i * k, *y = M + j * k, xx = 0, yy = 0, xy = 0;
                for (int r = 0; r < k; r++) xx += x[r] * x[r], yy += y[r] * y[r], xy += x[r] * y[r];
                if (!(fabs(xy) > 2 * DBL_EPSILON * sqrt(xx * yy))) continue;
                const double z = (yy - xx) / (2 * xy), t = (z < 0 ? -1 : 1) / (fabs(z) + sqrt(1 + z * z)),
                             c = 1 / sqrt(1 + t * t);
                rotate(k, x, y, c, c * t);
                rotate(k, A + i * k, A + j * k, c, c * t);
                rotated = 1;
            }
    }
}

/* u := a unit vector that is orthogonal to the first columns of U */
static void complete(int k, const double *U, int columns, double *u)
{
    double best = -1;
    int at = 0;
    for (int i = 0; i < k; i++) { /* the coordinate axis of which they have the least */
        double left = 1;
        for (int j = 0; j < columns; j++) left -= U[i + j * k] * U[i + j * k];
        if (left > best) best = left, at = i;
    }
    for (int i = 0; i < k; i++) u[i] = i == at;
    for (int twice = 0; twice < 2; twice++)
        for (int j = 0; j < columns; j++) {
            double s = 0;
            for (int i = 0; i < k; i++) s += u[i] * U[i + j * k];
            for (int i = 0; i < k; i++) u[i] -= s * U[i + j * k];
        }
    double size = 0;
    for (int i = 0; i < k; i++) size += u[i] * u[i];
    for (int i = 0; i < k; i++) u[i] /= sqrt(size);
}

/* Orthogonal columns to lengths s and unit vectors; those without a length come last and get any direction.
 */
static void normalize(int k, double *M, double *A, double *s)
{
    int whole = k;
    for (int j = 0; j < whole; j++) {
        double size = 0;
        for (int r = 0; r < k; r++) size += M[r + j * k] * M[r + j * k];
        s[j] = sqrt(size);
        if (s[j] > VANISHED) {
            for (int r = 0; r < k; r++) M[r + j * k] /= s[j];
            continue;
        }
        whole--;
        for (int r = 0; r < k; r++) {
            const double a = A[r + j * k];
            M[r + j * k] = M[r + whole * k];
            A[r + j * k] = A[r + whole * k];
            A[r + whole * k] = a;
        }
        j--;
    }
    for (int j = whole; j < k; j++) {
        s[j] = 0;
        complete(k, M, j, M + j * k);
    }
}

/* ---------------------------------------------------------------------------------------------- points -- */

void set_term(double *x, int k, const double *U, const double *s)
{
    const axes a = axes_at(x, k);
    memcpy(a.U, U, sizeof(double) * (size_t)(k * k));
    memcpy(a.s, s, sizeof(double) * (size_t)k);
}

void axes_of_term(const term *t, const double *T, double least, double most, double *x, double *work)
{
    const int p = t->f->p, k = t->k;
    const axes a = axes_at(x, k);
    for (int c = 0; c < k; c++)
        memcpy(a.U + c * k, T + t->first + (t->first + c) * p, sizeof(double) * (size_t)k);
    orthogonalize(k, a.U, work);
    normalize(k, a.U, work, a.s);
    for (int c = 0; c < k; c++) a.s[c] = fmin(fmax(a.s[c], least), most);
}

void axes_of_factors(const lmm_model *m, const double *T, double least, double most, double *x, double *work)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        if (t.first == 0 && t.f->k > 0) T += m->layout.f[t.f->k - 1].p * m->layout.f[t.f->k - 1].p;
        axes_of_term(&t, T, least, most, x, work);
    }
}

void axes_to_model(lmm_model *m, const double *x)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        const axes a = axes_at(x, t.k);
        set_axes(m, &t, a.U, a.s);
    }
}

void axes_factors(const lmm_model *m, const double *x, double least, double *T)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        const axes a = axes_at(x, t.k);
        const int p = t.f->p, k = t.k;
        if (t.first == 0 && t.f->k > 0) T += m->layout.f[t.f->k - 1].p * m->layout.f[t.f->k - 1].p;
        if (t.first == 0) memset(T, 0, sizeof(double) * (size_t)(p * p));
        for (int c = 0; c < k; c++)
            for (int r = 0; r < k && a.s[c] >= least; r++)
                T[t.first + r + (t.first + c) * p] = a.U[r + c * k] * a.s[c];
    }
}

void axes_coordinates(const lmm_model *m, const double *x, double *sigma)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        const axes a = axes_at(x, t.k);
        const int k = t.k;
        for (int c = 0; c < k; c++)
            for (int r = c; r < k; r++) {
                double v = 0;
                for (int j = 0; j < k; j++) v += a.U[r + j * k] * a.s[j] * a.s[j] * a.U[c + j * k];
                sigma[t.th + packed_place(k, r, c)] = v;
            }
    }
}

void axes_anchor(const lmm_model *m, double *x)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        const axes a = axes_at(x, t.k);
        for (int i = 0; i < t.k * t.k; i++) a.anchor[i] = a.U[i] * a.s[i / t.k];
    }
}

double axes_largest(const lmm_model *m, const double *x)
{
    double most = 0;
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k))
        for (int i = 0; i < t.k; i++) most = fmax(most, axes_at(x, t.k).s[i]);
    return most;
}

double axes_distance(const lmm_model *m, const double *x)
{
    double sum = 0;
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        const axes a = axes_at(x, t.k);
        for (int i = 0; i < t.k * t.k; i++) {
            const double d = a.U[i] * a.s[i / t.k] - a.anchor[i];
            sum += d * d;
        }
    }
    return sqrt(sum);
}

/* T := U (diag(s) + K), K_ii = step_ii, K_ij = step_ij s_j/h, K_ji = step_ij s_i/h, h = hypot(s_i, s_j) */
void axes_move(const lmm_model *m, const double *x, const double *step, double *to, double *work)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k), to += term_size(t.k)) {
        const axes from = axes_at(x, t.k), a = axes_at(to, t.k);
        const int k = t.k;
        double *M = work;
        for (int j = 0; j < k; j++) {
            M[j + j * k] = from.s[j] + step[t.th + packed_place(k, j, j)];
            for (int i = j + 1; i < k; i++) {
                const double h = hypot(from.s[i], from.s[j]), v = step[t.th + packed_place(k, i, j)] / h;
                M[i + j * k] = v * from.s[j];
                M[j + i * k] = v * from.s[i];
            }
        }
        memcpy(a.anchor, from.anchor, sizeof(double) * (size_t)(k * k));
        orthogonalize(k, M, a.anchor);
        normalize(k, M, a.anchor, a.s);
        mul(k, k, k, 0, from.U, k, M, k, a.U, k);
        for (int j = 0; j < k; j++) a.s[j] = fmax(a.s[j], floor_of(m));
    }
}

/* ------------------------------------------------------------------------------------------- derivatives --
 */

/* Columns of to := those of from in steps: dSigma = U (K s + s K') U', in N rows */
static void columns_to_steps(const lmm_model *m, const double *x, ptrdiff_t N, const double *from, double *to,
                             double *half)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        const axes a = axes_at(x, t.k);
        const int k = t.k;
        pull_back(k, a.U, a.U, k, N, from + t.th * N, to + t.th * N, half);
        for (int j = 0; j < k; j++)
            for (int i = j; i < k; i++) {
                double *column = to + (t.th + packed_place(k, i, j)) * N;
                const double weight = 2 * (i == j ? a.s[i] : hypot(a.s[i], a.s[j]));
                for (ptrdiff_t e = 0; e < N; e++) column[e] *= weight;
            }
    }
}

/* H (n x n) += 2 tr(dT_a'S dT_b): entries of K in one column meet */
static void add_bend(const lmm_model *m, const double *x, const double *slope, ptrdiff_t n, double *H,
                     double *work)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        const axes a = axes_at(x, t.k);
        const int k = t.k;
        double *S = work, *X = S + k * k;
        unfold(k, slope + t.th, S, k);
        mul(k, k, k, 0, S, k, a.U, k, X, k);
        tmul(k, k, k, 0, a.U, k, X, k, S, k);
        for (int c = 0; c < k; c++)
            for (int i = 0; i < k; i++) {
                const ptrdiff_t e = t.th + packed_place(k, i > c ? i : c, i > c ? c : i);
                const double u = i == c ? 1 : a.s[c] / hypot(a.s[i], a.s[c]);
                for (int j = 0; j < k; j++) {
                    const ptrdiff_t f = t.th + packed_place(k, j > c ? j : c, j > c ? c : j);
                    H[e + f * n] += 2 * u * S[i + j * k] * (j == c ? 1 : a.s[c] / hypot(a.s[j], a.s[c]));
                }
            }
    }
}

/* A standard deviation at the floor promises nothing where the criterion rises with it. */
static void forget_pinned(const lmm_model *m, const double *x, double *g)
{
    for (term t = {0}; next_term(&m->layout, &t); x += term_size(t.k)) {
        const axes a = axes_at(x, t.k);
        for (int i = 0; i < t.k; i++) {
            double *slope = &g[t.th + packed_place(t.k, i, i)];
            if (a.s[i] <= floor_of(m) && *slope > 0) *slope = 0;
        }
    }
}

void axes_tangent(const lmm_model *m, const double *x, const double *slope, int n, double *B, double *g,
                  double *H, double *work)
{
    const ptrdiff_t N = m->layout.ntheta, more = n - N;
    columns_to_steps(m, x, 1, slope, g, work);
    memcpy(g + N, slope + N, sizeof(double) * (size_t)more);
    for (int side = 0; side < 2; side++) {
        columns_to_steps(m, x, n, B, H, work);
        memcpy(H + N * n, B + N * n, sizeof(double) * (size_t)(more * n));
        if (side) break;
        transpose(n, H);
        memcpy(B, H, sizeof(double) * (size_t)n * (size_t)n);
    }
    symmetrize(n, H);
    add_bend(m, x, slope, n, H, work);
    forget_pinned(m, x, g);
}
