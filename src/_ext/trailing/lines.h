/* Private: rows of the trailing matrix. For a few rows times all of it BLAS packs the matrix first, which
   costs more than the product; these read it once. X, V, W: r x n, column-major. */

#ifndef LMM_ROWS_H
#define LMM_ROWS_H

#include "model/model.h"
#include "base/small.h"

#define FEW 8 /* up to so many rows the loops here beat BLAS (measured at order 1142) */

/* W += alpha V S,  S symmetric n x n, lower triangle (leading dimension s) */
void rows_times_symmetric(const lmm_model *m, int r, int n, double alpha, const double *V, const double *S,
                          int s, double *W);

/* X := X L^-1 (transposed 0) or X L^-T (transposed 1),  L lower triangular n x n */
void rows_solve(const lmm_model *m, int r, int n, const double *L, int s, int transposed, double *X);

/* X := X Lambda or, transposed, X Lambda'; X: r x q2 */
void columns_times_lambda(const lmm_model *m, int r, double *X, int transposed);

/* x = T x or, transposed, T'x for each p numbers of x. work: p doubles */
INLINE void scale_each(const int p, const double *T, int32_t levels, double *x, int transposed, double *work)
{
    for (int32_t l = 0; l < levels; l++, x += p) {
        if (transposed)
            tmul(p, 1, p, 0, T, p, x, p, work, p);
        else
            mul(p, 1, p, 0, T, p, x, p, work, p);
        for (int i = 0; i < p; i++) x[i] = work[i];
    }
}

/* x = T_j x or, transposed, T_j' x for every trailing level j from node e of factor k on; x holds their
   rows. */
INLINE void scale_rows(const lmm_model *m, int k, int32_t e, double *x, int transposed)
{
    const layout *lay = &m->layout;
    double few[4];
    for (; k < lay->nfactor; e = lay->f[k].node + lay->f[k].nlev, k++) {
        const factor *f = &lay->f[k];
        const double *T = m->evaluation.f[k].T;
        const int32_t levels = f->node + f->nlev - e;
        BY_WIDTH(f->p, scale_each, T, levels, x, transposed, f->p <= 4 ? few : m->scratch.tmp)
        x += (ptrdiff_t)levels * f->p;
    }
}

#endif
