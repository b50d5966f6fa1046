/* A normal prior on the coefficients of the user's columns: f += sum_j precision_j (beta_j - mean_j)^2, where
   beta = C gamma over the kept columns. It keeps separated data from running away. */

#include "base/small.h"
#include "generalized/state.h"

/* C of kept column a, row i */
static double coefficient(const glmm_model *g, ptrdiff_t i, ptrdiff_t a)
{
    const layout *lay = &g->m->layout;
    return lay->x.C[lay->keep[i] + lay->keep[a] * (ptrdiff_t)lay->pfull];
}

static double away(const glmm_model *g, ptrdiff_t i)
{
    double beta = -g->mean[i];
    for (ptrdiff_t a = 0; a < g->m->layout.p; a++) beta += coefficient(g, i, a) * g->gamma[a];
    return beta;
}

void add_prior(glmm_model *g)
{
    for (ptrdiff_t i = 0; g->precision && i < g->m->layout.p; i++)
        if (g->precision[i] > 0) g->f += g->precision[i] * away(g, i) * away(g, i);
}

void add_prior_slope(glmm_model *g)
{
    for (ptrdiff_t i = 0; g->precision && i < g->m->layout.p; i++) {
        const double pull = g->precision[i] > 0 ? 2 * g->precision[i] * away(g, i) : 0;
        for (ptrdiff_t a = 0; pull != 0 && a < g->m->layout.p; a++) g->gx[a] += coefficient(g, i, a) * pull;
    }
}

void add_prior_curvature(const glmm_model *g, ptrdiff_t n, ptrdiff_t first, double *H)
{
    const ptrdiff_t p = g->m->layout.p;
    for (ptrdiff_t i = 0; g->precision && i < p; i++)
        for (ptrdiff_t a = 0; a < p; a++)
            for (ptrdiff_t c = 0; c < p; c++)
                H[first + a + (first + c) * n] +=
                    2 * g->precision[i] * coefficient(g, i, a) * coefficient(g, i, c);
}
