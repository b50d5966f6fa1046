/* The fit of theta and delta together, by the minimizer of theta with more variables (optimize/more.c). */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "optimize/fit.h"
#include "residual/residual.h"

typedef struct {
    lmm_model *m;
    const int32_t *moving; /* the delta that move */
    int n;                 /* their number */
    double *delta;         /* ndelta  where the model stands */
    double *slope, *A;     /* all of them: ntheta + ndelta, and squared */
} joint_fit;

static int place(void *arg, const double *values)
{
    joint_fit *t = arg;
    for (int i = 0; i < t->n; i++) t->delta[t->moving[i]] = values[i];
    return lmm_residual_at(t->m, t->delta) != LMM_OK;
}

static lmm_status joint_slopes(void *arg, int reml, double *slope, double *A)
{
    joint_fit *t = arg;
    const ptrdiff_t N = t->m->layout.ntheta, all = residual_size(t->m), n = N + t->n;
    TRY(residual_derivatives(t->m, reml, t->slope, t->A));
    for (ptrdiff_t j = 0; j < n; j++) {
        const ptrdiff_t from = j < N ? j : N + t->moving[j - N];
        slope[j] = t->slope[from];
        for (ptrdiff_t i = 0; i < n; i++)
            A[i + j * n] = t->A[(i < N ? i : N + t->moving[i - N]) + from * all];
    }
    return LMM_OK;
}

lmm_status lmm_residual_fit(lmm_model *m, const lmm_settings *s, const lmm_plane *within, const double *start,
                            const uint8_t *held, double *delta, double *theta, double *z, lmm_info *info)
{
    if (!m->residual || m->layout.moves) return LMM_UNAVAILABLE;
    const int D = m->residual->ndelta;
    const ptrdiff_t all = residual_size(m);
    int32_t *moving = malloc(sizeof(int32_t) * (size_t)(D + 1));
    double *values = malloc(sizeof(double) * (size_t)(D + all + all * all + 1));
    joint_fit t = {.m = m, .moving = moving, .delta = delta};
    lmm_status status = moving && values ? LMM_OK : LMM_NOMEM;
    if (status == LMM_OK) {
        for (int j = 0; j < D; j++)
            if (!held || !held[j]) {
                values[t.n] = delta[j];
                moving[t.n++] = j;
            }
        t.slope = values + D;
        t.A = t.slope + all;
        const more others = {.n = t.n, .place = place, .derivatives = joint_slopes, .arg = &t};
        if (lmm_residual_at(m, delta) != LMM_OK)
            status = LMM_NOTPOSDEF;
        else
            status = fit_with(m, s, within, start, &others, values, theta, z, info);
    }
    free(moving);
    free(values);
    return status;
}
