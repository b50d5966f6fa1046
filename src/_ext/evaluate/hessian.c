/* The exact Hessian of the criterion in the entries of Sigma = T T', as what the average information A lacks
   of it:

     Hessian - A = nu/r^2 Q - Tr,   Tr_ef = tr P dV_e P dV_f   (ML: V^-1 for P)

   With W = V^-1 X R^-T, P = V^-1 - W W', and

     Tr = tr V^-1 dV_e V^-1 dV_f - 2 sum_x w_x'dV_e V^-1 dV_f w_x + <W'dV_e W, W'dV_f W> */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

static char none = 'N', trans = 'T', lower = 'L';
static double one = 1;

/* Rows x of sum_l b_lr b_lc' for two columns of a term, b_l: X's rows of the edge, or of Y by the root of
   related levels; beta h before (rows x p) */
static void columns_product(const lmm_model *m, double *edge, const term *t, int x, int rows, int r, int c,
                            double beta, double *h)
{
    const layout *lay = &m->layout;
    int p = lay->p, nlev = t->f->nlev, ld = t->f->p * lay->pb;
    double *root = m->evaluation.f[t->f->k].root;
    double *b = (root ? root : edge + (ptrdiff_t)t->f->col * lay->pb) + (ptrdiff_t)t->first * lay->pb;
    m->blas.gemm(&none, &trans, &rows, &p, &nlev, &one, b + (ptrdiff_t)r * lay->pb + x, &ld,
                 b + (ptrdiff_t)c * lay->pb, &ld, &beta, h, &rows);
}

void add_edge_squares(lmm_model *m, double *edge, double *squares, int ld, double *trace)
{
    const layout *lay = &m->layout;
    int n = lay->ntheta, p = lay->p;
    const ptrdiff_t room = p ? m->scratch.nwork / n / p : 0; /* at least one: nwork holds ntheta pb */
    double *h = m->scratch.work;
    memset(trace, 0, sizeof(double) * (size_t)n);
    for (int x = 0, rows; x < p; x += rows) {
        rows = room < p - x ? (int)room : p - x;
        int length = rows * p;
        for (term t = {0}; next_term(lay, &t);)
            for (int c = 0; c < t.k; c++)
                for (int r = c; r < t.k; r++) {
                    const ptrdiff_t e = t.th + packed_place(t.k, r, c);
                    columns_product(m, edge, &t, x, rows, r, c, 0, h + e * length);
                    if (r != c) columns_product(m, edge, &t, x, rows, c, r, 1, h + e * length);
                    for (int i = 0; i < rows; i++) trace[e] += h[e * length + i + (x + i) * (ptrdiff_t)rows];
                }
        m->blas.syrk(&lower, &trans, &n, &length, &one, h, &length, &one, squares, &ld);
    }
}

/* E, and slope := tr P dV_e - nu/r^2 v_e'v_e: that of boundary_matrix(), but where T is singular too */
static lmm_status defect_and_slope(lmm_model *m, int reml, const double *A, double *E, double *slope)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    const double nu = degrees(m, reml), r2 = m->evaluation.r2;
    double *single = malloc(sizeof(double) * (size_t)(N + N * N)), *pairs = single + N;
    if (!single) return LMM_NOMEM;
    memset(E, 0, sizeof(double) * (size_t)(N * N));
    for (int x = 0; reml && x < lay->p; x++) {
        const double *Q = direction_forms(m, x, 0);
        for (ptrdiff_t i = 0; i < N * N; i++) E[i] += 2 * Q[i];
    }
    const lmm_status status = traces(m, slope, pairs);
    memset(single, 0, sizeof(double) * (size_t)N);
    if (reml) add_edge_squares(m, m->evaluation.Y, pairs, (int)N, single);
    for (ptrdiff_t i = 0; i < N; i++) slope[i] -= single[i];
    projections(m, single);
    for (ptrdiff_t i = 0; i < N; i++) slope[i] -= nu / r2 * single[i];
    for (ptrdiff_t j = 0; j < N; j++)
        for (ptrdiff_t i = j; i < N; i++)
            E[i + j * N] = E[j + i * N] = (E[i + j * N] + E[j + i * N]) / 2 - pairs[i + j * N] +
                                          A[i + j * N] + nu / (r2 * r2) * single[i] * single[j];
    free(single);
    return status;
}

lmm_status defect(lmm_model *m, int reml, const double *A, double *E)
{
    double *slope = malloc(sizeof(double) * (size_t)(m->layout.ntheta + 1));
    const lmm_status status = slope ? defect_and_slope(m, reml, A, E, slope) : LMM_NOMEM;
    free(slope);
    return status;
}

lmm_status hessian_there(lmm_model *m, double *slope, double *H)
{
    const ptrdiff_t N = m->layout.ntheta;
    const int reml = m->evaluation.at.reml;
    double *E = malloc(sizeof(double) * (size_t)(N * N + 1));
    if (!E) return LMM_NOMEM;
    information(m, degrees(m, reml), H);
    const lmm_status status = defect_and_slope(m, reml, H, E, slope);
    for (ptrdiff_t i = 0; i < N * N; i++) H[i] += E[i];
    free(E);
    return status;
}

lmm_status lmm_hessian(lmm_model *m, double *slope, double *H)
{
    const ptrdiff_t N = m->layout.ntheta;
    if (!m->trailing->exact || m->layout.moves) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, FACTORED, 1));
    deepen(m, BORDERED);
    double *mine = malloc(sizeof(double) * (size_t)(N + N * N + 1));
    if (!mine) return LMM_NOMEM;
    const lmm_status status = hessian_there(m, mine, mine + N);
    if (status == LMM_OK) to_user(m, mine, mine + N, slope, H);
    free(mine);
    return status;
}
