/* Makes and frees a model: the steps of set-up in their order, and all memory. */

#include <math.h>
#include <string.h>

#include "evaluate/evaluate.h"
#include "model/relation.h"
#include "optimize/escape.h"
#include "optimize/fit.h"
#include "setup/build.h"
#include "trailing/iterative.h"
#include "base/small.h"

#define WIDEST 1.7e10 /* keeps p * p of every block below 2^31: 20,000 columns of X, 10,000 of a factor */

#define WHOLE 1e-8 /* squared length of a column beside the others, relative, that counts as independent */

void lmm_free(lmm_model *m)
{
    if (!m) return;
    if (m->residual) m->free_residual(m->residual);
    trailing_free(m->trailing);
    relations_free(m);
    team_free(m->team);
    release(&m->memory, NULL);
    free(m);
}

/* Everything an evaluation writes to. */
static lmm_status make_workspace(lmm_model *m, const ptrdiff_t *size)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    int32_t pmax = 1, ldmax = lay->pb;
    for (int k = 0; k < lay->nfactor; k++) {
        factor *f = &lay->f[k];
        factor_state *fs = &m->evaluation.f[k];
        const ptrdiff_t blocks = (ptrdiff_t)f->nlev * f->p * f->p;
        if (f->p > pmax) pmax = f->p;
        fs->diag = m->sums.A[k].diag;
        fs->pan = m->sums.A[k].pan;
        GRAB(m, fs->K, blocks);
        fs->Q = fs->B = fs->K;
        if (f->relation) {
            GRAB(m, fs->root, (ptrdiff_t)lay->pb * f->p * f->nlev);
            GRAB(m, fs->related, (ptrdiff_t)lay->pb * f->p * f->nlev);
        }
        if (lay->generalized) {
            GRAB(m, fs->B, blocks);
            fs->Q = fs->B;
        }
        if (k >= lay->nelim) continue;
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            if (lay->ld[e] > ldmax) ldmax = lay->ld[e];
        GRAB(m, fs->L, blocks);
        if (lay->full || lay->nelim > 1 || lay->generalized) GRAB(m, fs->P, size[k] + 1);
        if (k == 0) continue;
        GRAB(m, fs->diag, blocks);
        GRAB(m, fs->pan, size[k] + 1);
    }
    const ptrdiff_t N = moving(lay), wide = lay->pb > N ? lay->pb : N;
    TRY(m->trailing->steps->make(m->trailing, m));
    GRAB(m, ev->H, (ptrdiff_t)lay->pb * lay->q + 1);
    GRAB(m, ev->Y, (ptrdiff_t)lay->pb * lay->q + 1);
    GRAB(m, m->scratch.V, N * (lay->q - lay->q1 + lay->pb));
    m->scratch.nwork = N * (2 * lay->q2 + N) + 4 * BATCH * pmax * wide;
    if (lay->moves) m->scratch.nwork += escape_work(lay);
    GRAB(m, m->scratch.work, m->scratch.nwork);
    GRAB(m, m->scratch.tmp,
         12 * pmax * pmax + 6 * pmax * wide + 2 * (ptrdiff_t)ldmax * pmax + TOGETHER * pmax + 3 * lay->pfull +
             8);
    GRAB(m, ev->at.theta, lay->ntheta + 1);
    GRAB(m, m->scratch.newton, fit_workspace(lay) + chain_work(lay));
    return LMM_OK;
}

/* The longest list of pairs of levels, or of rows' levels, that will be sorted, and the most levels. */
static int64_t most_pairs(const builder *b)
{
    int64_t most = b->x ? 1 : b->d->n;
    for (int a = 0; a < b->d->nfactor; a++) {
        const lmm_factor *f = &b->d->factor[a];
        if (f->nlev > most) most = f->nlev;
        if (f->members && f->members->ptr[b->d->n] > most) most = f->members->ptr[b->d->n];
    }
    for (int a = 0; b->x && a < b->d->nfactor; a++)
        for (int c = a + 1; c < b->d->nfactor; c++) {
            const int64_t count = lmm_pairs_of(b->x->blocks, a, c)->count;
            if (count > most) most = count;
        }
    return most;
}

/* Columns of the rows that are made: of Z, and X and y or y alone. */
static void count_columns(const layout *lay, builder *b)
{
    b->ncol = b->edge = lay->summed ? 1 : lay->pb;
    for (int k = 0; k < lay->nfactor; k++) b->ncol += lay->f[k].p;
}

static lmm_status new_builder(const lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    b->other = malloc(sizeof(int32_t) * (size_t)most_pairs(b));
    b->start = malloc(sizeof(int64_t) * ((size_t)lay->nnode + 1));
    b->stamp = malloc(sizeof(int32_t) * ((size_t)lay->nnode + 1));
    return b->other && b->start && b->stamp ? LMM_OK : LMM_NOMEM;
}

static void free_builder(builder *b)
{
    const int K = b->table ? b->d->nfactor : 0;
    for (int i = 0; i < K * K; i++) free(b->table[i]);
    free(b->other), free(b->start), free(b->stamp), free(b->table), free(b->place), free(b->white);
    free(b->node ? b->node[0] : NULL), free(b->node), free(b->spot);
    free(b->basis), free(b->fixed), free(b->columns);
    rows_close(&b->rows);
    moments_free(&b->moments);
}

/* Values of A. */
static lmm_status fill(lmm_model *m, builder *b)
{
    count_columns(&m->layout, b);
    TRY(new_places(m, b));
    return b->x ? copy_products(m, b) : fill_rows(m, b);
}

/* Does every level's block of the only factor stand alone, so that no combination of its covariance's entries
   and of the residual variance vanishes? Levels of full rank rule a combination out unless the fixed effects
   take up their effects, which p columns cannot do in more than 2 p levels. */
static int is_identified(lmm_model *m)
{
    const layout *lay = &m->layout;
    const factor *f = lay->f;
    const int p = f->p;
    int32_t whole = 0;
    if (lay->nfactor != 1 || is_coupled(f) || lay->n - lay->p <= lay->q) return 0;
    for (int32_t l = 0; l < f->nlev && whole <= 2 * lay->p; l++) {
        const double *A = m->sums.A[0].diag + (ptrdiff_t)l * p * p;
        double *L = m->scratch.tmp, least = 1;
        memcpy(L, A, sizeof(double) * (size_t)(p * p));
        if (chol(p, L)) continue;
        for (int i = 0; i < p; i++) least = fmin(least, L[i + i * p] * L[i + i * p] / A[i + i * p]);
        whole += least > WHOLE;
    }
    return whole > 2 * lay->p;
}

/* Pattern, storage and values of A. */
static lmm_status make_cross_products(lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    const lmm_options *o = b->options;
    ptrdiff_t *size;
    TRY(new_builder(m, b));
    GRAB(m, size, lay->nfactor);
    count_lists(m, b);
    choose_lists(m, b);
    TRY(make_lists(m, b, size));
    TRY(choose_storage(m, b, size));
    if (o->plan) return LMM_OK;
    if (b->report->bytes > o->limit) return LMM_TOOLARGE;
    for (int k = 0; k < lay->nfactor; k++) {
        GRAB(m, m->sums.A[k].diag, (ptrdiff_t)lay->f[k].nlev * lay->f[k].p * lay->f[k].p);
        GRAB(m, m->sums.A[k].pan, size[k] + 1);
    }
    GRAB(m, m->sums.border, lay->pb * lay->pb);
    TRY(make_workspace(m, size));
    if (lay->generalized) return LMM_OK; /* its rows make the sums, when they have weights */
    TRY(fill(m, b));
    if (m->trailing->steps->begin) m->trailing->steps->begin(m->trailing, m);
    b->report->identified = is_identified(m);
    return m->trailing->exact ? LMM_OK : factorize_typical(m, m->scratch.newton);
}

static lmm_status build(lmm_model *m, builder *b, uint8_t *keep)
{
    layout *lay = &m->layout;
    const lmm_data *d = b->d;
    int32_t *order;
    uint8_t *flags;
    int32_t widest = 1;
    for (int a = 0; a < d->nfactor; a++)
        if (d->factor[a].ncol > widest) widest = d->factor[a].ncol;
    GRAB(m, order, d->nfactor);
    GRAB(m, flags, widest);
    GRAB(m, lay->f, d->nfactor);
    GRAB(m, m->sums.A, d->nfactor);
    GRAB(m, m->evaluation.f, d->nfactor);
    TRY(choose_order(m, b, order));
    for (int k = 0; k < lay->nfactor; k++) {
        lay->f[k].k = k;
        TRY(new_factor(m, &lay->f[k], b, order[k], flags));
    }
    TRY(new_fixed(m, b, keep));
    TRY(number_nodes(m, b));
    return make_cross_products(m, b);
}

lmm_status measure_rows(builder *b)
{
    if (b->x) return LMM_OK;
    rows_close(&b->rows);
    moments_free(&b->moments);
    memset(&b->moments, 0, sizeof(b->moments));
    TRY(rows_open(&b->rows, b->d));
    return moments_of(&b->moments, &b->rows);
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
    const int exact = b->options->generalized || b->options->moves;
    if (exact && b->options->storage == LMM_ITERATIVE) return LMM_UNAVAILABLE;
    if (b->options->generalized && have_several(b->d)) return LMM_UNAVAILABLE;
    lmm_model *m = calloc(1, sizeof(*m));
    layout *lay = &m->layout;
    if (!m) return LMM_NOMEM;
    m->blas = *blas;
    lay->n = b->d->n;
    lay->nfactor = b->d->nfactor;
    lay->generalized = b->options->generalized;
    lay->moves = b->options->moves;
    lmm_status status = measure_rows(b);
    if (status == LMM_OK) status = build(m, b, keep);
    free_builder(b);
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

/* Whitening with other weights. LMM_DEPENDENT: other columns are independent. */
static lmm_status whiten_again(lmm_model *m, builder *b, uint8_t *keep)
{
    layout *lay = &m->layout;
    const lmm_data *d = b->d;
    lmm_report report;
    for (int k = 0; k < lay->nfactor; k++) TRY(whiten_factor(m, &lay->f[k], b, keep, &report));
    TRY(whiten_x(m, b, keep));
    int32_t rank = 0;
    for (int j = 0; j < d->p; j++)
        if (keep[j] && (rank == lay->p || lay->keep[rank++] != j)) return LMM_DEPENDENT;
    if (rank < lay->p) return LMM_DEPENDENT;
    whiten_fixed(m, b);
    return LMM_OK;
}

static void clear_sums(lmm_model *m)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        memset(m->sums.A[k].diag, 0, sizeof(double) * (size_t)f->nlev * (size_t)(f->p * f->p));
        memset(m->sums.A[k].pan, 0, sizeof(double) * (size_t)panel_size(lay, k));
    }
    memset(m->sums.border, 0, sizeof(double) * (size_t)(lay->pb * lay->pb));
}

lmm_status lmm_refill(lmm_model *m, const lmm_data *d)
{
    builder b = {.d = d};
    int32_t widest = d->p;
    for (int k = 0; k < d->nfactor; k++)
        if (d->factor[k].ncol > widest) widest = d->factor[k].ncol;
    uint8_t *keep = malloc((size_t)widest + 1);
    lmm_status status = keep ? measure_rows(&b) : LMM_NOMEM;
    m->evaluation.at.state = NOWHERE;
    if (status == LMM_OK) status = whiten_again(m, &b, keep);
    if (status == LMM_OK) {
        clear_sums(m);
        status = fill(m, &b);
    }
    free(keep);
    free_builder(&b);
    if (status != LMM_OK) return status;
    if (m->trailing->steps->begin) m->trailing->steps->begin(m->trailing, m);
    return m->trailing->exact ? LMM_OK : factorize_typical(m, m->scratch.newton);
}

int32_t lmm_ntheta(const lmm_model *m)
{
    return m->layout.ntheta;
}

lmm_status lmm_set_threads(lmm_model *m, int threads)
{
    if (threads < 1) threads = 1;
    if (threads == team_size(m->team)) return LMM_OK;
    team *t = threads > 1 ? team_new(threads) : NULL;
    if (threads > 1 && !t) return LMM_NOMEM;
    const lmm_status status = m->trailing->steps->threads(m->trailing, m, threads);
    if (status != LMM_OK) { /* what has grown serves the team that there is as well */
        team_free(t);
        return status;
    }
    team_free(m->team);
    m->team = t;
    return LMM_OK;
}
