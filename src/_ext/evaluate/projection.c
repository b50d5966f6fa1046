/* How the columns of Z meet those of X and y in V = Z Lambda Lambda'Z' + W^-1, in the user's coordinates. The
   border (border.c) has it all: with C_X R^-T = E, X'V^-1 X = R R' in whitened coordinates, (X E)'V^-1 X E =
   I and

     Y = [(Z'V^-1 X E)'; (Z'P y)'],   H = [(B Z'W X)'; .]  */

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"

/* E (pfull x p, row-major): columns of C_X R^-T */
static void orthonormal_basis(lmm_model *m, double *E)
{
    double *w = m->tmp, *column = w + m->pb;
    for (int c = 0; c < m->p; c++) {
        for (int a = 0; a < m->p; a++) w[a] = a == c;
        solve_fixed(m, w);
        fixed_to_user(m, w, column);
        for (int i = 0; i < m->pfull; i++) E[c + (ptrdiff_t)i * m->p] = column[i];
    }
}

/* One level of f, columns Y of m->Y: column j of Y C^-1 belongs to the user's column j. G (k x p, row-major):
   E times its first rows, U (k x rank): these themselves, g (k): its last row times yscale */
static void project_level(const lmm_model *m, const factor *f, const double *Y, double *G, double *U,
                          double *g)
{
    const int k = f->p, pb = m->pb;
    double *w = m->tmp;
    for (int j = 0; j < k; j++) {
        mul(pb, 1, k, 0, Y, pb, f->Cinv + j * k, k, w, pb);
        if (g) g[j] = m->yscale * w[m->p];
        if (U) memcpy(U + (ptrdiff_t)j * m->p, w, sizeof(double) * (size_t)m->p);
        if (!G) continue;
        solve_fixed(m, w);
        fixed_to_user(m, w, G + (ptrdiff_t)j * m->pfull);
    }
}

/* N (k x rank, row-major) of one level: C H' R^-T, H: m->H from the level's first column on */
static void moved_level(const lmm_model *m, const factor *f, const double *H, double *N)
{
    const int k = f->p, pb = m->pb;
    double *w = m->tmp;
    const double *R = m->Le + m->q2 * m->lde;
    for (int j = 0; j < k; j++) {
        mult(pb, 1, k, 0, H, pb, f->w.C + j, k, w, pb); /* row j of C times H' */
        for (int a = 0; a < m->p; a++) {                /* R^-1 w */
            for (int b = 0; b < a; b++) w[a] -= R[a + b * m->lde] * w[b];
            w[a] /= R[a + a * m->lde];
        }
        memcpy(N + (ptrdiff_t)j * m->p, w, sizeof(double) * (size_t)m->p);
    }
}

lmm_status lmm_projection(lmm_model *m, double *G, double *g, double *E, double *U, double *N)
{
    TRY(bring(m, EXACT, BORDERED, 0));
    if (E) orthonormal_basis(m, E);
    for (int k = 0; k < m->nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        for (int32_t l = 0; l < f->nlev; l++) {
            const ptrdiff_t column = (ptrdiff_t)m->nodecol[f->perm[l]] * m->pb;
            project_level(m, f, m->Y + column, G, U, g);
            if (N) moved_level(m, f, m->H + column, N);
            if (G) G += (ptrdiff_t)f->p * m->pfull;
            if (U) U += (ptrdiff_t)f->p * m->p;
            if (N) N += (ptrdiff_t)f->p * m->p;
            if (g) g += f->p;
        }
    }
    return LMM_OK;
}
