/* Makes a residual structure for the rows of a model, and puts the model where its parameters are. */

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "residual/residual.h"
#include "setup/rows.h"
#include "trailing/trailing.h"

#define BATCH_ROWS 256 /* rows that are whitened together, if no subject has more */

void residual_free(residual *r)
{
    if (r) release(&r->memory, NULL);
    free(r);
}

/* Rows of the largest subject */
static int64_t largest_subject(const residual *r)
{
    int64_t most = 1;
    for (int64_t s = 0; s < r->rows.nsubject; s++)
        if (r->rows.subject[s + 1] - r->rows.subject[s] > most)
            most = r->rows.subject[s + 1] - r->rows.subject[s];
    return most;
}

/* What depends on delta, row by row */
static lmm_status room_for_rows(residual *r, const layout *lay, const lmm_residual *given)
{
    const int64_t n = r->rows.n, most = largest_subject(r);
    r->most = (double)most;
    r->batch = most > BATCH_ROWS ? most : BATCH_ROWS;
    GRAB(r, r->scale, n);
    GRAB(r, r->e, 2 * n);
    GRAB(r, r->t, n * r->ndelta + 1);
    GRAB(r, r->buffer, 4 * r->batch * r->rows.width);
    if (given->subject) {
        GRAB(r, r->phi, n);
        GRAB(r, r->kappa, n);
        GRAB(r, r->root, n);
    }
    GRAB(r, r->dA, r->ndelta);
    for (int j = 0; j < r->ndelta; j++) TRY(new_sums(&r->dA[j], r, lay));
    return LMM_OK;
}

/* The columns of D in the order of the rows */
static lmm_status take_deviations(residual *r, const lmm_residual *given)
{
    const int64_t n = r->rows.n;
    if (given->stratum) {
        GRAB(r, r->own, n);
        for (int64_t i = 0; i < n; i++) r->own[i] = given->stratum[r->rows.from[i]];
    } else if (r->ndeviation) {
        GRAB(r, r->column, n * r->ndeviation);
        for (int j = 0; j < r->ndeviation; j++)
            for (int64_t i = 0; i < n; i++) r->column[i + j * n] = given->column[r->rows.from[i] + j * n];
    }
    return LMM_OK;
}

/* A_s of every stratum, after which the rows are not needed */
static void sum_strata(residual *r, const lmm_model *m)
{
    const ptrdiff_t width = r->rows.width;
    for (int64_t first = 0; first < r->rows.n; first += BATCH_ROWS) {
        const int64_t left = r->rows.n - first;
        const int32_t n = left < BATCH_ROWS ? (int32_t)left : BATCH_ROWS;
        for (int32_t i = 0, end; i < n; i = end) { /* runs of one stratum */
            const int32_t own = r->own[first + i];
            const double *rows = r->rows.value + (first + i) * width;
            for (end = i; end < n && r->own[first + end] == own; end++) r->count[own + 1]++;
            add_rows_to(m, r, &r->stratum[own + 1], first + i, end - i, rows, rows);
        }
    }
}

static double rows_bytes(const residual *r, const layout *lay, const lmm_residual *given)
{
    double width = lay->pb;
    for (int k = 0; k < lay->nfactor; k++) width += lay->f[k].p;
    const double pairs = lay->nfactor * (lay->nfactor - 1) / 2.;
    return (double)lay->n * (8 * (width + 3 + r->ndelta) + 4 * (lay->nfactor + pairs) +
                             (given->subject ? 40 : 8. * r->ndeviation)) +
           r->ndelta * sums_bytes(lay);
}

static lmm_status make(residual *r, lmm_model *m, const lmm_data *d, const lmm_residual *given, double limit)
{
    const layout *lay = &m->layout;
    const double bytes = rows_bytes(r, lay, given), strata = (r->ndeviation + 1) * sums_bytes(lay);
    const int summed = given->stratum && !given->subject && strata < bytes;
    if (bytes + (summed ? strata : 0) > limit) return LMM_TOOLARGE;
    GRAB(r, r->delta, r->ndelta + 1);
    GRAB(r, r->logs, r->ndelta + 1);
    TRY(keep_residual_rows(r, m, d, given, summed));
    TRY(take_deviations(r, given));
    if (!summed) return room_for_rows(r, lay, given);
    void *rows = r->memory;
    r->memory = NULL; /* what stays when the rows go */
    r->nstrata = r->ndeviation + 1;
    lmm_status status = LMM_OK;
    GRAB(r, r->stratum, r->nstrata);
    GRAB(r, r->count, r->nstrata);
    for (int s = 0; s < r->nstrata && status == LMM_OK; s++) status = new_sums(&r->stratum[s], r, lay);
    if (status == LMM_OK) sum_strata(r, m);
    release(&rows, NULL);
    r->rows = (residual_rows){0};
    r->own = NULL;
    if (status != LMM_OK) return status;
    GRAB(r, r->delta, r->ndelta + 1);
    GRAB(r, r->logs, r->ndelta + 1);
    return LMM_OK;
}

lmm_status keep_residual(lmm_model *m, residual *r, lmm_status status)
{
    if (m->residual) m->free_residual(m->residual);
    m->residual = NULL;
    if (status != LMM_OK) {
        residual_free(r);
        return status;
    }
    m->residual = r;
    m->free_residual = residual_free;
    m->evaluation.at.state = NOWHERE;
    return LMM_OK;
}

lmm_status lmm_residual_setup(lmm_model *m, const lmm_data *d, const lmm_residual *given, double limit)
{
    if (!m->trailing->exact || m->sums.absent || have_several(d)) return LMM_UNAVAILABLE;
    residual *r = calloc(1, sizeof(*r));
    if (!r) return LMM_NOMEM;
    r->ndeviation = given->ndeviation;
    r->ncorrelation = given->kind == LMM_INDEPENDENT ? 0 : given->ncorrelation;
    r->ndelta = r->ndeviation + r->ncorrelation;
    r->kind = given->kind;
    r->sumlogw = 0;
    for (int64_t i = 0; d->w && i < d->n; i++) r->sumlogw += log(d->w[i]);
    return keep_residual(m, r, make(r, m, d, given, limit));
}

int32_t lmm_ndelta(const lmm_model *m)
{
    return m->residual ? m->residual->ndelta : 0;
}

/* A = sum_s d_s^-2 A_s */
static lmm_status fill_from_strata(lmm_model *m, residual *r)
{
    const block_sums A = model_sums(m);
    double logdet = 0;
    clear_block_sums(&m->layout, &A);
    for (int s = 0; s < r->nstrata; s++) {
        const double log_sd = s ? r->delta[s - 1] : 0, w = exp(-2 * log_sd);
        if (!(w > 0) || !isfinite(w)) return LMM_NOTFINITE;
        add_sums(&m->layout, w, &r->stratum[s], &A);
        logdet += 2 * log_sd * (double)r->count[s];
    }
    m->sums.sumlogw = r->sumlogw - logdet;
    return LMM_OK;
}

lmm_status lmm_residual_at(lmm_model *m, const double *delta)
{
    residual *r = m->residual;
    if (!r) return LMM_UNAVAILABLE;
    if (r->at && memcmp(delta, r->delta, sizeof(double) * (size_t)r->ndelta) == 0) return LMM_OK;
    memcpy(r->delta, delta, sizeof(double) * (size_t)r->ndelta);
    m->evaluation.at.state = NOWHERE;
    const lmm_status status = r->nstrata ? fill_from_strata(m, r) : fill_from_rows(m, r);
    r->at = status == LMM_OK;
    if (status == LMM_OK && m->trailing->steps->begin) m->trailing->steps->begin(m->trailing, m);
    return status;
}
