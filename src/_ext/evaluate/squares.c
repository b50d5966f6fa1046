/* What derivatives of the residual sum of squares r^2 are made of. With g = Z'V^-1 (y - X beta), and for a
   column x_j of X the h = Z'V^-1 X (X'V^-1 X)^-1 e_j by which g falls with beta_j,

     d r^2 / dT = -2 (sum_l g_l g_l') T,

   and the same with g - h d / c where beta_j is held at a distance d from its best, c = (X'V^-1 X)^-1_jj.
   Of the variance of a contrast L beta-hat over sigma^2, with h = Z'V^-1 X (X'V^-1 X)^-1 L',

     d L (X'V^-1 X)^-1 L' / dT = 2 (sum_l h_l h_l') T.

   All in the user's units and, but for contrasts, coordinates. */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "model/relation.h"
#include "trailing/trailing.h"

/* u := R^-1 (row j of C_X), X'V^-1 X = R R' in whitened coordinates, so that c = u'u and h = u'R^-1 X'V^-1 Z
 */
static void direction_of(const lmm_model *m, int j, double *u)
{
    const layout *lay = &m->layout;
    const ptrdiff_t ld = m->trailing->lde;
    const double *R = m->trailing->Le + lay->q2 * ld;
    for (int a = 0; a < lay->p; a++) {
        u[a] = lay->x.C[j + (ptrdiff_t)lay->keep[a] * lay->pfull];
        for (int b = 0; b < a; b++) u[a] -= R[a + b * ld] * u[b];
        u[a] /= R[a + a * ld];
    }
}

/* g and (u: not NULL) h of one level, columns Y of the evaluation's Y */
static void read_level(const lmm_model *m, const factor *f, const double *Y, const double *u, double *g,
                       double *h)
{
    const layout *lay = &m->layout;
    const int k = f->p, pb = lay->pb;
    for (int j = 0; j < k; j++) {
        g[j] = h[j] = 0;
        for (int i = 0; i < k; i++) { /* column j of Y C^-1 */
            const double weight = f->Cinv[i + j * k];
            g[j] += weight * m->sums.yscale * Y[lay->p + i * pb];
            for (int a = 0; u && a < lay->p; a++) h[j] += weight * u[a] * Y[a + i * pb];
        }
    }
}

/* Adds g g' and, with u, g h' + h g' and h h' of the levels of f to its blocks of M (three K x K matrices) */
static void add_levels(const lmm_model *m, const factor *f, const double *u, ptrdiff_t K, ptrdiff_t at,
                       double *g, double *M)
{
    const layout *lay = &m->layout;
    const int k = f->p;
    double *h = g + k, *first = M + at * (K + 1), *second = first + K * K, *third = second + K * K;
    for (int32_t l = 0; l < f->nlev; l++) {
        read_level(m, f, root_rows(m, f->k) + (ptrdiff_t)l * k * lay->pb, u, g, h);
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++) {
                first[i + j * K] += g[i] * g[j];
                if (!u) continue;
                second[i + j * K] += g[i] * h[j] + h[i] * g[j];
                third[i + j * K] += h[i] * h[j];
            }
    }
}

lmm_status lmm_squares(lmm_model *m, int j, double *r2, double *beta, double *column, double *M)
{
    const layout *lay = &m->layout;
    ptrdiff_t K = 0, at = 0;
    TRY(bring(m, ANY, BORDERED, 0));
    for (int k = 0; k < lay->nfactor; k++) K += lay->f[k].p;
    *r2 = m->sums.yscale * m->sums.yscale * m->evaluation.r2;
    TRY(fixed_estimates(m, 0, beta, NULL));
    double *u = m->scratch.tmp, *w = u + lay->pfull, *g = w + lay->pfull;
    if (j >= 0) {
        direction_of(m, j, u);
        memcpy(w, u, sizeof(double) * (size_t)lay->p);
        solve_fixed(m, w);
        fixed_to_user(m, w, column);
    }
    memset(M, 0, sizeof(double) * (size_t)(K * K * (j < 0 ? 1 : 3)));
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        add_levels(m, f, j < 0 ? NULL : u, K, at, g, M);
        at += f->p;
    }
    return LMM_OK;
}

/* ----------------------------------------------------------------------------------------- contrasts -- */

/* Columns of U (p x r) := R^-1 C_X'L', L: r x pfull, row-major */
static lmm_status contrast_directions(const lmm_model *m, int r, const double *L, double *U)
{
    char left = 'L', lower = 'L', none = 'N', trans = 'T';
    const layout *lay = &m->layout;
    int p = lay->p, pfull = lay->pfull, ld = (int)m->trailing->lde;
    double one = 1, zero = 0, *kept = NULL, *C = lay->x.C, *R = m->trailing->Le + (ptrdiff_t)lay->q2 * ld;
    if (!r || !p) return LMM_OK;
    if (p < pfull) {
        C = kept = malloc(sizeof(double) * (size_t)p * (size_t)pfull);
        if (!kept) return LMM_NOMEM;
        for (ptrdiff_t a = 0; a < p; a++)
            memcpy(kept + a * pfull, lay->x.C + (ptrdiff_t)lay->keep[a] * pfull,
                   sizeof(double) * (size_t)pfull);
    }
    m->blas.gemm(&trans, &none, &p, &r, &pfull, &one, C, &pfull, (double *)L, &pfull, &zero, U, &p);
    m->blas.trsm(&left, &lower, &none, &none, &p, &r, &one, R, &ld, U, &p);
    free(kept);
    return LMM_OK;
}

lmm_status contrast_variances(const lmm_model *m, int r, const double *L, double *variance)
{
    const ptrdiff_t p = m->layout.p;
    double *U = malloc(sizeof(double) * (size_t)(r * p + 1));
    if (!U) return LMM_NOMEM;
    const lmm_status status = contrast_directions(m, r, L, U);
    for (int c = 0; c < r && status == LMM_OK; c++) {
        variance[c] = 0;
        for (ptrdiff_t a = 0; a < p; a++) variance[c] += U[a + c * p] * U[a + c * p];
    }
    free(U);
    return status;
}

/* M (K x K) += h h' for so many levels of k columns; h: r apart from one column to the next */
static void add_squares(int k, int32_t levels, ptrdiff_t r, const double *h, ptrdiff_t K, double *M)
{
    for (int32_t l = 0; l < levels; l++, h += k * r)
        for (int i = 0; i < k; i++)
            for (int j = 0; j <= i; j++) M[i + j * K] += h[i * r] * h[j * r];
}

/* Of all levels of f, BATCH at a time; W: room for r x (BATCH k) */
static void add_contrasts(const lmm_model *m, const factor *f, int r, double *U, ptrdiff_t K, ptrdiff_t at,
                          double *W, double *M)
{
    const layout *lay = &m->layout;
    char none = 'N', trans = 'T';
    double one = 1, zero = 0;
    int k = f->p, p = lay->p, pb = lay->pb;
    const double scale = m->sums.yscale;
    for (int32_t l = 0; l < f->nlev; l += BATCH) {
        const int32_t levels = f->nlev - l < BATCH ? f->nlev - l : BATCH;
        double *Y = (double *)root_rows(m, f->k) + (ptrdiff_t)l * k * pb, *block = M + at * (K + 1);
        int columns = levels * k;
        for (int i = 0; i < columns; i++) W[i] = scale * Y[p + (ptrdiff_t)i * pb];
        add_squares(k, levels, 1, W, K, block);
        if (!r || !p) continue;
        m->blas.gemm(&trans, &none, &r, &columns, &p, &one, U, &p, Y, &pb, &zero, W, &r);
        for (int c = 0; c < r; c++) add_squares(k, levels, r, W + c, K, block + (c + 1) * K * K);
    }
}

lmm_status lmm_contrasts(lmm_model *m, int r, const double *L, double *M)
{
    const layout *lay = &m->layout;
    ptrdiff_t K = 0, at = 0, widest = 1;
    TRY(bring(m, EXACT, BORDERED, 0));
    for (int k = 0; k < lay->nfactor; k++) {
        K += lay->f[k].p;
        if (lay->f[k].p > widest) widest = lay->f[k].p;
    }
    const ptrdiff_t batch = BATCH * widest * (r ? r : 1);
    double *U = malloc(sizeof(double) * (size_t)(batch + (ptrdiff_t)r * lay->p + 1));
    if (!U) return LMM_NOMEM;
    const lmm_status status = contrast_directions(m, r, L, U);
    memset(M, 0, sizeof(double) * (size_t)(K * K * (r + 1)));
    for (int k = 0; k < lay->nfactor && status == LMM_OK; k++) {
        const factor *f = factor_of_user(m, k);
        add_contrasts(m, f, r, U, K, at, U + (ptrdiff_t)r * lay->p, M);
        at += f->p;
    }
    free(U);
    for (int c = 0; c <= r; c++, M += K * K) mirror((int)K, M, (int)K);
    return status;
}
