/* The same model of many responses. Everything but the last column of the cross-products stays. */

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "model/model.h"

typedef struct { /* where one fit is written */
    lmm_status *status;
    lmm_info *info;
    double *theta, *sigma, *beta, *se, *variance, *df;
} place;

static place place_of(const lmm_fits *out, int64_t i, ptrdiff_t N, ptrdiff_t p, ptrdiff_t r)
{
    return (place){.status = out->status + i,
                   .info = out->info + i,
                   .theta = out->theta + i * N,
                   .sigma = out->sigma + i,
                   .beta = out->beta + i * p,
                   .se = out->se + i * p,
                   .variance = out->variance + i * r,
                   .df = out->df ? out->df + i * r : NULL};
}

static void fill(double *x, ptrdiff_t n, double value)
{
    for (ptrdiff_t i = 0; i < n; i++) x[i] = value;
}

static void without_fit(const place *to, ptrdiff_t N, ptrdiff_t p, ptrdiff_t r)
{
    *to->info = (lmm_info){.objective = NAN, .certificate = NAN, .resolution = NAN, .noise = NAN};
    fill(to->theta, N, NAN);
    fill(to->sigma, 1, NAN);
    fill(to->beta, p, NAN);
    fill(to->se, p, NAN);
    fill(to->variance, r, NAN);
    if (to->df) fill(to->df, r, NAN);
}

/* beta, standard errors, sigma and the contrasts where the fit ended. vcov: p x p */
static lmm_status read_fit(lmm_model *m, int r, const double *L, double *vcov, const place *to)
{
    const ptrdiff_t p = m->layout.pfull;
    TRY(lmm_estimates(m, to->beta, vcov, to->sigma, NULL, NULL));
    for (ptrdiff_t j = 0; j < p; j++) to->se[j] = sqrt(vcov[j + j * p]);
    for (int c = 0; c < r; c++) {
        double sum = 0;
        for (ptrdiff_t i = 0; i < p; i++)
            for (ptrdiff_t j = 0; j < p; j++) sum += L[i + c * p] * vcov[i + j * p] * L[j + c * p];
        to->variance[c] = sum;
    }
    if (!to->df) return LMM_OK;
    const lmm_status status = r ? lmm_satterthwaite(m, r, L, vcov, to->df) : LMM_OK;
    if (status == LMM_OK) return LMM_OK;
    fill(to->df, r, NAN);
    return status == LMM_NOMEM ? LMM_NOMEM : LMM_OK;
}

/* refilled: with weights that the model does not have yet */
static lmm_status fit_one(lmm_model *m, const lmm_data *d, int refilled, const lmm_settings *s,
                          const double *start, int r, const double *L, double *vcov, const place *to)
{
    const ptrdiff_t p = m->layout.pfull;
    without_fit(to, m->layout.ntheta, p, r);
    lmm_status status = refilled ? lmm_refill(m, d) : lmm_response(m, d);
    if (status == LMM_OK) status = lmm_fit(m, s, NULL, start, to->theta, NULL, to->info);
    const int fitted = status == LMM_OK || status == LMM_MAXEVAL;
    const lmm_status read = fitted ? read_fit(m, r, L, vcov, to) : LMM_OK;
    *to->status = read == LMM_OK ? status : read;
    if (!fitted || read != LMM_OK) without_fit(to, m->layout.ntheta, p, r);
    return *to->status;
}

lmm_status lmm_many(lmm_model *m, const lmm_data *d, const lmm_settings *s, const lmm_responses *given, int r,
                    const double *L, const lmm_fits *out, int64_t *done)
{
    const size_t p = (size_t)m->layout.pfull, room = p * p > (size_t)r ? p * p : (size_t)r;
    lmm_data one = *d;
    const size_t N = (size_t)m->layout.ntheta + 1; /* of the moment equations, which other weights change */
    double *vcov = malloc(sizeof(double) * (room + 1)), *kept = malloc(sizeof(double) * (N * N + N));
    *done = 0;
    m->equations = (equations){.values = given->w ? NULL : kept};
    lmm_status status = vcov && kept ? LMM_OK : LMM_NOMEM;
    for (; *done < given->count && status != LMM_NOMEM && status != LMM_STOPPED; ++*done) {
        const place to = place_of(out, *done, m->layout.ntheta, (ptrdiff_t)p, r);
        one.y = given->y + *done * d->n;
        if (given->w) one.w = given->w + *done * d->n;
        status = fit_one(m, &one, given->w != NULL, s, given->start, r, L, vcov, &to);
    }
    m->equations = (equations){0};
    free(kept);
    free(vcov);
    if (status != LMM_NOMEM && status != LMM_STOPPED) return LMM_OK;
    if (*done) --*done;
    return status;
}
