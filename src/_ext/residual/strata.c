/* Strata of a model whose rows are gone: their cross-products, whitened as the model's own were. */

#include <stdlib.h>

#include "base/memory.h"
#include "residual/residual.h"
#include "setup/places.h"
#include "sums/blocks.h"
#include "trailing/trailing.h"

/* A of each stratum, laid out as the model's, by what makes that */
static lmm_status whiten_strata(residual *r, lmm_model *m, const lmm_cross *x)
{
    lmm_data described = {0};
    const block_sums own = model_sums(m);
    TRY(describe_products(x, &described));
    builder b = {.d = &described, .x = x};
    lmm_status status = new_places(m, &b);
    for (int s = 0; s < r->nstrata && status == LMM_OK; s++) {
        b.x = &x[s];
        m->sums.A = r->stratum[s].A;
        m->sums.border = r->stratum[s].border;
        status = copy_products(m, &b);
        m->sums.A = own.A;
        m->sums.border = own.border;
        r->count[s] = x[s].n;
        r->sumlogw += x[s].sumlogw;
    }
    const int K = b.table ? described.nfactor : 0;
    for (int i = 0; i < K * K; i++) free(b.table[i]);
    free(b.table), free(b.place), free((void *)described.factor);
    return status;
}

static lmm_status make(residual *r, lmm_model *m, const lmm_cross *x)
{
    GRAB(r, r->delta, r->ndelta + 1);
    GRAB(r, r->logs, r->ndelta + 1);
    GRAB(r, r->stratum, r->nstrata);
    GRAB(r, r->count, r->nstrata);
    for (int s = 0; s < r->nstrata; s++) TRY(new_sums(&r->stratum[s], r, &m->layout));
    return whiten_strata(r, m, x);
}

lmm_status lmm_residual_strata(lmm_model *m, int32_t nstrata, const lmm_cross *x, double limit)
{
    if (!m->trailing->exact || m->sums.absent || nstrata < 1) return LMM_UNAVAILABLE;
    if (nstrata * sums_bytes(&m->layout) > limit) return LMM_TOOLARGE;
    residual *r = calloc(1, sizeof(*r));
    if (!r) return LMM_NOMEM;
    r->nstrata = nstrata;
    r->ndelta = r->ndeviation = nstrata - 1;
    r->kind = LMM_INDEPENDENT;
    return keep_residual(m, r, make(r, m, x));
}
