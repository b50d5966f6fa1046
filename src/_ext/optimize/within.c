/* The criterion and its derivatives in the variables of a plane: what profiles and tests of structured terms
   ask for. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "evaluate/evaluate.h"
#include "optimize/plane.h"
#include "trailing/trailing.h"

/* Of derivatives in phi, or in the entries of Sigma */
static ptrdiff_t size_of(const lmm_model *m, const plane *p)
{
    return m->layout.moves ? p->nphi : m->layout.ntheta;
}

/* f, g and H at x: the model is left there. memory: N + N^2 + n + n^2 doubles for derivatives, N = size_of */
static lmm_status within_at(lmm_model *m, int reml, const plane *p, const double *x, double *f, double *g,
                            double *H, double *memory)
{
    const ptrdiff_t N = size_of(m, p), n = p->n;
    double *theta = m->scratch.newton, *slope = memory, *A = slope + N, *gradient = A + N * N,
           *curvature = gradient + n;
    const double *own = plane_theta(p, x);
    for (int k = 0; k < m->layout.nfactor; k++) {
        const factor *e = &m->layout.f[k];
        for (int i = 0; i < e->nth; i++) theta[user_place(e, i)] = own[e->th + i];
    }
    TRY(lmm_evaluate(m, reml, 0, theta, f));
    if (!g) return LMM_OK;
    TRY(evaluate_there(m, FLOORED, 1));
    if (m->layout.moves) {
        direct_derivatives(&p->direct, &p->s, m, reml, p->phi, slope, A);
        plane_direct_derivatives(p, slope, A, gradient, curvature);
    } else {
        derivatives(m, reml, slope, A, NULL);
        if (m->trailing->failed) return LMM_UNSOLVED;
        plane_derivatives(p, m, x, slope, A, gradient, curvature);
    }
    for (ptrdiff_t i = 0; i < n * (n + 1); i++)
        if (!isfinite(gradient[i])) return LMM_NOTFINITE;
    memcpy(g, gradient, sizeof(double) * (size_t)n);
    if (H) memcpy(H, curvature, sizeof(double) * (size_t)(n * n));
    return LMM_OK;
}

lmm_status lmm_within(lmm_model *m, int reml, const lmm_plane *within, const double *z, double *f, double *g,
                      double *H)
{
    plane p;
    lmm_status status = plane_open(&p, m, within);
    const ptrdiff_t N = size_of(m, &p), n = p.n;
    double *memory = NULL;
    if (status == LMM_OK && !(memory = malloc(sizeof(double) * (size_t)(N * (N + 1) + n * (n + 2) + 1))))
        status = LMM_NOMEM;
    if (status == LMM_OK) {
        double *x = memory + N * (N + 1) + n * (n + 1);
        for (ptrdiff_t j = 0; j < n; j++) x[j] = z[j] / p.unit[j];
        status = within_at(m, reml, &p, x, f, g, H, memory);
    }
    free(memory);
    plane_close(&p);
    return status;
}
