/* What derivatives of the residual sum of squares r^2 are made of. With g = Z'V^-1 (y - X beta), and for a
   column x_j of X the h = Z'V^-1 X (X'V^-1 X)^-1 e_j by which g falls with beta_j,

     d r^2 / dT = -2 (sum_l g_l g_l') T,

   and the same with g - h d / c where beta_j is held at a distance d from its best, c = (X'V^-1 X)^-1_jj.
   All in the user's units and coordinates. */

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
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
        read_level(m, f, m->evaluation.Y + (ptrdiff_t)lay->nodecol[f->node + l] * lay->pb, u, g, h);
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
