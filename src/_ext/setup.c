/* Makes and frees a model: the steps of set-up in their order, and all memory. */

#include <math.h>
#include <string.h>

#include "build.h"

#define WIDEST 1.7e10 /* keeps p * p of every block below 2^31: 20,000 columns of X, 10,000 of a factor */

typedef struct chunk { /* header of every block of memory a model owns */
    struct chunk *next;
    size_t bytes;
} chunk;

void *grab(lmm_model *m, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX - sizeof(chunk)) / size) return NULL;
    chunk *c = calloc(1, sizeof(chunk) + count * size);
    if (!c) return NULL;
    c->bytes = count * size;
    c->next = m->memory;
    m->memory = c;
    return c + 1;
}

void lmm_free(lmm_model *m)
{
    if (!m) return;
    for (chunk *c = m->memory, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(m);
}

/* Everything an evaluation writes to. */
static lmm_status make_workspace(lmm_model *m, const ptrdiff_t *size)
{
    int32_t pmax = 1, ldmax = m->pb;
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        const ptrdiff_t blocks = (ptrdiff_t)f->nlev * f->p * f->p;
        if (f->p > pmax) pmax = f->p;
        f->diag = f->adiag;
        f->pan = f->apan;
        GRAB(m, f->Q, blocks);
        if (k >= m->nelim) continue;
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            if (m->ld[e] > ldmax) ldmax = m->ld[e];
        GRAB(m, f->L, blocks);
        if (m->full || m->nelim > 1) GRAB(m, f->P, size[k] + 1);
        if (k == 0) continue;
        GRAB(m, f->diag, blocks);
        GRAB(m, f->pan, size[k] + 1);
    }
    const ptrdiff_t wide = m->pb > m->ntheta ? m->pb : m->ntheta;
    GRAB(m, m->S, (ptrdiff_t)m->s * m->s);
    GRAB(m, m->L, (ptrdiff_t)m->s * m->s);
    GRAB(m, m->H, (ptrdiff_t)m->pb * m->q + 1);
    GRAB(m, m->Y, (ptrdiff_t)m->pb * m->q + 1);
    GRAB(m, m->V, (ptrdiff_t)m->ntheta * (m->q - m->q1 + m->pb));
    m->nwork = (ptrdiff_t)m->ntheta * (2 * m->q2 + m->ntheta) + 4 * BATCH * pmax * wide;
    GRAB(m, m->work, m->nwork);
    GRAB(m, m->tmp, 12 * pmax * pmax + 6 * pmax * wide + 2 * (ptrdiff_t)ldmax * pmax + 3 * m->pfull + 8);
    GRAB(m, m->at, m->ntheta + 1);
    GRAB(m, m->newton, newton_workspace(m->ntheta) + 6 * (ptrdiff_t)m->ntheta);
    return LMM_OK;
}

/* What make_workspace and the panels will take, in bytes. */
static double predicted_bytes(const lmm_model *m, const ptrdiff_t *size)
{
    const double N = m->ntheta;
    double pmax = 1, doubles = 2. * m->s * m->s + 2. * m->pb * m->q + N * (m->q + m->q2 + m->pb);
    for (int k = 0; k < m->nfactor; k++) {
        const double p = m->f[k].p, copies = k >= m->nelim ? 1 : m->full ? 2 : k ? 4.4 : 2.4;
        doubles += copies * (double)size[k] + 3. * m->f[k].nlev * p * p;
        pmax = fmax(pmax, p);
    }
    const double wide = fmax(m->pb, N);
    doubles += (double)newton_workspace(m->ntheta) + 6 * N + N * N;          /* minimizer, information */
    doubles += 4 * BATCH * pmax * wide + 12 * pmax * pmax + 6 * pmax * wide; /* batches, small blocks */
    return 8 * doubles + 4. * (double)m->ptr[m->nnode] + 24. * m->nnode;
}

static lmm_status new_builder(const lmm_model *m, builder *b)
{
    const size_t n = (size_t)b->d->n;
    b->node = calloc((size_t)m->nfactor, sizeof(*b->node));
    b->order = malloc(sizeof(int64_t) * n);
    b->start = malloc(sizeof(int64_t) * ((size_t)m->nnode + 1));
    b->stamp = malloc(sizeof(int32_t) * (size_t)m->nnode);
    if (!b->node || !b->order || !b->start || !b->stamp) return LMM_NOMEM;
    b->ncol = m->pb;
    for (int k = 0; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        b->ncol += f->p;
        if (!(b->node[k] = malloc(sizeof(int32_t) * n))) return LMM_NOMEM;
        for (size_t i = 0; i < n; i++) b->node[k][i] = f->perm[b->d->factor[f->user].level[i]];
    }
    return LMM_OK;
}

static void free_builder(const lmm_model *m, builder *b)
{
    for (int k = 0; b->node && k < m->nfactor; k++) free(b->node[k]);
    free(b->node), free(b->order), free(b->start), free(b->stamp), free(b->rows);
}

/* Pattern, storage and values of A. */
static lmm_status make_cross_products(lmm_model *m, builder *b, double limit, lmm_report *report)
{
    ptrdiff_t *size;
    TRY(new_builder(m, b));
    GRAB(m, size, m->nfactor);
    choose_storage(m, count_lists(m, b));
    TRY(make_lists(m, b, size));
    report->bytes = predicted_bytes(m, size) + 8. * (double)b->d->n * b->ncol;
    report->rank = m->p;
    report->eliminated = m->nelim;
    report->order = m->q2;
    report->full = m->full;
    if (report->bytes > limit) return LMM_NOMEM;
    TRY(make_strips(m));
    for (int k = 0; k < m->nfactor; k++) {
        GRAB(m, m->f[k].adiag, (ptrdiff_t)m->f[k].nlev * m->f[k].p * m->f[k].p);
        GRAB(m, m->f[k].apan, size[k] + 1);
    }
    GRAB(m, m->border, m->pb * m->pb);
    TRY(make_workspace(m, size));
    if (!(b->rows = malloc(sizeof(double) * (size_t)b->d->n * (size_t)b->ncol))) return LMM_NOMEM;
    TRY(make_rows(m, b));
    accumulate(m, b);
    if (!m->full && m->nstrip) pack(m, 0);
    return LMM_OK;
}

static lmm_status build(lmm_model *m, const lmm_data *d, double limit, uint8_t *keep, lmm_report *report)
{
    int32_t *order;
    uint8_t *flags;
    int32_t widest = 1;
    for (int a = 0; a < d->nfactor; a++)
        if (d->factor[a].ncol > widest) widest = d->factor[a].ncol;
    GRAB(m, order, d->nfactor);
    GRAB(m, flags, widest);
    GRAB(m, m->f, d->nfactor);
    TRY(choose_order(m, d, order));
    for (int k = 0; k < m->nfactor; k++) TRY(new_factor(m, &m->f[k], d, order[k], flags, report));
    TRY(new_fixed(m, d, keep));
    TRY(number_nodes(m, d));
    builder b = {.d = d};
    const lmm_status status = make_cross_products(m, &b, limit, report);
    free_builder(m, &b);
    return status;
}

/* Bytes of the square matrices over the columns of X and of the widest factor; of the random effects when
   they cannot be numbered. */
static double widest(const lmm_data *d)
{
    double p = d->p, bytes = 40 * p * p, effects = 0;
    for (int a = 0; a < d->nfactor; a++) {
        p = d->factor[a].ncol;
        if (160 * p * p > bytes) bytes = 160 * p * p;
        effects += p * d->factor[a].nlev;
    }
    return effects < INT32_MAX ? bytes : fmax(bytes, 64 * effects);
}

lmm_status lmm_setup(lmm_model **out, const lmm_data *d, const lmm_blas *blas, double limit, uint8_t *keep,
                     lmm_report *report)
{
    lmm_model *m = calloc(1, sizeof(lmm_model));
    *out = NULL;
    memset(report, 0, sizeof(*report));
    if (!m) return LMM_NOMEM;
    report->bytes = widest(d);
    if (report->bytes > limit || report->bytes > WIDEST) {
        free(m);
        return LMM_NOMEM;
    }
    m->blas = *blas;
    m->n = d->n;
    m->nfactor = d->nfactor;
    const lmm_status status = build(m, d, limit, keep, report);
    if (status == LMM_OK)
        *out = m;
    else
        lmm_free(m);
    return status;
}

int32_t lmm_ntheta(const lmm_model *m)
{
    return m->ntheta;
}
