/* Makes and frees a model: the steps of set-up in their order, and all memory. */

#include <math.h>
#include <string.h>

#include "optimize/newton.h"
#include "setup/build.h"
#include "trailing/dense.h"
#include "trailing/iterative.h"
#include "base/small.h"
#include "trailing/sparse.h"

#define WIDEST 1.7e10 /* keeps p * p of every block below 2^31: 20,000 columns of X, 10,000 of a factor */

#define WHOLE 1e-8 /* squared length of a column beside the others, relative, that counts as independent */

void lmm_free(lmm_model *m)
{
    if (!m) return;
    sparse_free(m);
    iterative_free(m);
    team_free(m->team);
    free(m->tile);
    release(&m->memory, NULL);
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
    if (m->t == &TRAILING_SPARSE)
        TRY(sparse_allocate(m));
    else if (m->t == &TRAILING_ITERATIVE)
        TRY(iterative_allocate(m));
    else
        TRY(dense_allocate(m));
    GRAB(m, m->H, (ptrdiff_t)m->pb * m->q + 1);
    GRAB(m, m->Y, (ptrdiff_t)m->pb * m->q + 1);
    GRAB(m, m->V, (ptrdiff_t)m->ntheta * (m->q - m->q1 + m->pb));
    m->nwork = (ptrdiff_t)m->ntheta * (2 * m->q2 + m->ntheta) + 4 * BATCH * pmax * wide;
    GRAB(m, m->work, m->nwork);
    GRAB(m, m->tmp,
         12 * pmax * pmax + 6 * pmax * wide + 2 * (ptrdiff_t)ldmax * pmax + TOGETHER * pmax + 3 * m->pfull +
             8);
    GRAB(m, m->at.theta, m->ntheta + 1);
    GRAB(m, m->newton, newton_workspace(m->ntheta) + (8 + (ptrdiff_t)m->ntheta) * m->ntheta);
    return LMM_OK;
}

/* The longest list of meetings that will be sorted. */
static int64_t most_meetings(const builder *b)
{
    int64_t most = b->x ? 1 : b->d->n;
    for (int a = 0; b->x && a < b->d->nfactor; a++)
        for (int c = a + 1; c < b->d->nfactor; c++) {
            const int64_t count = lmm_pairs_of(b->x->blocks, a, c)->count;
            if (count > most) most = count;
        }
    return most;
}

static lmm_status new_builder(const lmm_model *m, builder *b)
{
    b->order = malloc(sizeof(int64_t) * (size_t)most_meetings(b));
    b->start = malloc(sizeof(int64_t) * ((size_t)m->nnode + 1));
    b->stamp = malloc(sizeof(int32_t) * ((size_t)m->nnode + 1));
    b->ncol = m->pb;
    for (int k = 0; k < m->nfactor; k++) b->ncol += m->f[k].p;
    return b->order && b->start && b->stamp ? LMM_OK : LMM_NOMEM;
}

static void free_builder(builder *b)
{
    free(b->order), free(b->start), free(b->stamp), free(b->rows);
}

/* Values of A. */
static lmm_status fill(lmm_model *m, builder *b)
{
    if (b->x) return copy_products(m, b);
    if (!(b->rows = malloc(sizeof(double) * (size_t)b->d->n * (size_t)b->ncol))) return LMM_NOMEM;
    TRY(make_rows(m, b));
    accumulate(m, b);
    return LMM_OK;
}

/* Does every level's block of the only factor stand alone, so that no combination of its covariance's entries
   and of the residual variance vanishes? Levels of full rank rule a combination out unless the fixed effects
   take up their effects, which p columns cannot do in more than 2 p levels. */
static int is_identified(lmm_model *m)
{
    const factor *f = m->f;
    const int p = f->p;
    int32_t whole = 0;
    if (m->nfactor != 1 || m->n - m->p <= m->q) return 0;
    for (int32_t l = 0; l < f->nlev && whole <= 2 * m->p; l++) {
        const double *A = f->adiag + (ptrdiff_t)l * p * p;
        double *L = m->tmp, least = 1;
        memcpy(L, A, sizeof(double) * (size_t)(p * p));
        if (chol(p, L)) continue;
        for (int i = 0; i < p; i++) least = fmin(least, L[i + i * p] * L[i + i * p] / A[i + i * p]);
        whole += least > WHOLE;
    }
    return whole > 2 * m->p;
}

/* Pattern, storage and values of A. */
static lmm_status make_cross_products(lmm_model *m, builder *b)
{
    const lmm_options *o = b->options;
    ptrdiff_t *size;
    TRY(new_builder(m, b));
    GRAB(m, size, m->nfactor);
    count_lists(m, b);
    choose_lists(m, b);
    TRY(make_lists(m, b, size));
    TRY(choose_storage(m, b, size));
    if (o->plan) return LMM_OK;
    if (b->report->bytes > o->limit) return LMM_TOOLARGE;
    TRY(make_strips(m));
    for (int k = 0; k < m->nfactor; k++) {
        GRAB(m, m->f[k].adiag, (ptrdiff_t)m->f[k].nlev * m->f[k].p * m->f[k].p);
        GRAB(m, m->f[k].apan, size[k] + 1);
    }
    GRAB(m, m->border, m->pb * m->pb);
    TRY(make_workspace(m, size));
    TRY(fill(m, b));
    if (m->nstrip) pack(m, 0);
    b->report->identified = is_identified(m);
    if (m->it) TRY(iterative_prepare(m));
    return LMM_OK;
}

static lmm_status build(lmm_model *m, builder *b, uint8_t *keep)
{
    const lmm_data *d = b->d;
    int32_t *order;
    uint8_t *flags;
    int32_t widest = 1;
    for (int a = 0; a < d->nfactor; a++)
        if (d->factor[a].ncol > widest) widest = d->factor[a].ncol;
    GRAB(m, order, d->nfactor);
    GRAB(m, flags, widest);
    GRAB(m, m->f, d->nfactor);
    TRY(choose_order(m, b, order));
    for (int k = 0; k < m->nfactor; k++) TRY(new_factor(m, &m->f[k], b, order[k], flags));
    TRY(new_fixed(m, b, keep));
    TRY(number_nodes(m, b));
    const lmm_status status = make_cross_products(m, b);
    free_builder(b);
    return status;
}

/* Bytes of the square matrices over the columns of X and of the widest factor; of all columns when they
   cannot be numbered. */
static double widest(const lmm_data *d)
{
    double p = d->p, bytes = 40 * p * p, effects = p + 1;
    for (int a = 0; a < d->nfactor; a++) {
        p = d->factor[a].ncol;
        if (160 * p * p > bytes) bytes = 160 * p * p;
        effects += p * d->factor[a].nlev;
    }
    return effects < INT32_MAX ? bytes : fmax(bytes, 64 * effects);
}

/* Levels and columns of cross-products, where set-up looks for those of rows. */
static lmm_status describe(const lmm_cross *x, lmm_data *d)
{
    const lmm_blocks *b = x->blocks;
    lmm_factor *factor = calloc((size_t)b->nfactor + 1, sizeof(*factor));
    if (!factor) return LMM_NOMEM;
    for (int k = 0; k < b->nfactor; k++) {
        factor[k].nlev = b->nlev[k];
        factor[k].ncol = b->width[k];
        factor[k].term = x->term[k];
    }
    d->n = x->n;
    d->p = b->border - 1;
    d->nfactor = b->nfactor;
    d->factor = factor;
    return LMM_OK;
}

static lmm_status set_up(lmm_model **out, builder *b, const lmm_blas *blas, uint8_t *keep)
{
    lmm_report *r = b->report;
    r->bytes = widest(b->d);
    if (r->bytes > WIDEST || r->bytes > b->options->limit) return LMM_TOOLARGE;
    lmm_model *m = calloc(1, sizeof(*m));
    if (!m) return LMM_NOMEM;
    m->blas = *blas;
    m->n = b->d->n;
    m->nfactor = b->d->nfactor;
    const lmm_status status = build(m, b, keep);
    if (status == LMM_OK && !b->options->plan)
        *out = m;
    else
        lmm_free(m);
    return status;
}

lmm_status lmm_setup(lmm_model **m, const lmm_data *d, const lmm_cross *x, const lmm_blas *blas,
                     const lmm_options *options, uint8_t *keep, lmm_report *report)
{
    const lmm_report nothing = {.factor = -1, .column = -1, .density = -1};
    lmm_data described = {0};
    builder b = {.d = x ? &described : d, .x = x, .options = options, .report = report};
    *m = NULL;
    *report = nothing;
    if (x && describe(x, &described) != LMM_OK) return LMM_NOMEM;
    const lmm_status status = set_up(m, &b, blas, keep);
    free((void *)described.factor);
    return status;
}

int32_t lmm_ntheta(const lmm_model *m)
{
    return m->ntheta;
}

lmm_status lmm_set_threads(lmm_model *m, int threads)
{
    if (threads < 1) threads = 1;
    if (threads == team_size(m->team)) return LMM_OK;
    team *t = threads > 1 ? team_new(threads) : NULL;
    if (threads > 1 && !t) return LMM_NOMEM;
    lmm_status status = allocate_tiles(m, threads);
    if (status == LMM_OK && m->it) status = iterative_set_threads(m, threads);
    if (status == LMM_OK && m->t == &TRAILING_SPARSE) status = sparse_set_threads(m, threads);
    if (status != LMM_OK) { /* what has grown serves the team that there is as well */
        team_free(t);
        return status;
    }
    team_free(m->team);
    m->team = t;
    return LMM_OK;
}
