/* Products of the columns of Z with those of X and y in the metric of V^-1, V = Z Lambda Lambda'Z' + W^-1, in
   the user's coordinates. The border (border.c) has it all: with C_X R^-T = E and X'V^-1 X = R R' in
   whitened coordinates, (X E)'V^-1 X E = I and

     Y = [(Z'V^-1 X E)'; (Z'P y)'],   H = [(B Z'W X)'; .]  */

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

/* E (pfull x p, row-major): columns of C_X R^-T */
static void orthonormal_basis(lmm_model *m, double *E)
{
    const layout *lay = &m->layout;
    double *w = m->scratch.tmp, *column = w + lay->pb;
    for (int c = 0; c < lay->p; c++) {
        for (int a = 0; a < lay->p; a++) w[a] = a == c;
        solve_fixed(m, w);
        fixed_to_user(m, w, column);
        for (int i = 0; i < lay->pfull; i++) E[c + (ptrdiff_t)i * lay->p] = column[i];
    }
}

/* One level of f, columns Y of the evaluation's Y: column j of Y C^-1 belongs to the user's column j. G (k x
   p, row-major): E times its first rows, U (k x rank): these themselves, g (k): its last row times yscale */
static void project_level(const lmm_model *m, const factor *f, const double *Y, double *G, double *U,
                          double *g)
{
    const layout *lay = &m->layout;
    const int k = f->p, pb = lay->pb;
    double *w = m->scratch.tmp;
    for (int j = 0; j < k; j++) {
        mul(pb, 1, k, 0, Y, pb, f->Cinv + j * k, k, w, pb);
        if (g) g[j] = m->sums.yscale * w[lay->p];
        if (U) memcpy(U + (ptrdiff_t)j * lay->p, w, sizeof(double) * (size_t)lay->p);
        if (!G) continue;
        solve_fixed(m, w);
        fixed_to_user(m, w, G + (ptrdiff_t)j * lay->pfull);
    }
}

/* N (k x rank, row-major) of one level: C H' R^-T, H: the evaluation's H from the level's first column on */
static void moved_level(const lmm_model *m, const factor *f, const double *H, double *N)
{
    const layout *lay = &m->layout;
    const int k = f->p, pb = lay->pb;
    double *w = m->scratch.tmp;
    const ptrdiff_t ld = m->trailing->lde;
    const double *R = m->trailing->Le + lay->q2 * ld;
    for (int j = 0; j < k; j++) {
        mult(pb, 1, k, 0, H, pb, f->w.C + j, k, w, pb); /* row j of C times H' */
        for (int a = 0; a < lay->p; a++) {              /* R^-1 w */
            for (int b = 0; b < a; b++) w[a] -= R[a + b * ld] * w[b];
            w[a] /= R[a + a * ld];
        }
        memcpy(N + (ptrdiff_t)j * lay->p, w, sizeof(double) * (size_t)lay->p);
    }
}

lmm_status lmm_projection(lmm_model *m, double *G, double *g, double *E, double *U, double *N)
{
    const layout *lay = &m->layout;
    const evaluation *ev = &m->evaluation;
    TRY(bring(m, EXACT, BORDERED, 0));
    if (E) orthonormal_basis(m, E);
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        for (int32_t l = 0; l < f->nlev; l++) {
            const ptrdiff_t column = (ptrdiff_t)lay->nodecol[f->perm[l]] * lay->pb;
            project_level(m, f, ev->Y + column, G, U, g);
            if (N) moved_level(m, f, ev->H + column, N);
            if (G) G += (ptrdiff_t)f->p * lay->pfull;
            if (U) U += (ptrdiff_t)f->p * lay->p;
            if (N) N += (ptrdiff_t)f->p * lay->p;
            if (g) g += f->p;
        }
    }
    return LMM_OK;
}
