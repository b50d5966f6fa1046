/* How a model is stored, and what that costs: dense off-diagonal block or lists; then the trailing matrix
   dense, sparse or not at all (iterative). Decided from counts, before anything large is made. */

#include <math.h>
#include <string.h>

#include "model/relation.h"
#include "optimize/fit.h"
#include "setup/build.h"
#include "setup/keep.h"
#include "cholesky/dense.h"
#include "trailing/dense.h"
#include "trailing/iterative.h"
#include "trailing/sparse.h"

#define SPARSE_COST 6.   /* a flop in the kernels over lists costs so many flops of BLAS 3 (measured) */
#define PER_COLUMN 3000. /* what a random-effect column costs besides, in flops of BLAS 3, */
#define PER_PAIR 1500.   /* a pair of co-occurring levels, */
#define PER_CALL 3e5     /* and an evaluation by itself (measured) */
#define APPROACH 2.      /* so many iterative evaluations must be cheaper than an exact one */
#define SMALLEST 100     /* order below which a sparse factorization is not worth the analysis */
#define SMALL 400        /* order below which it must be so much cheaper, as its analysis takes time, too: */
#define CHEAPER 1.1
#define PATIENCE 2e13 /* flops of an evaluation (ten minutes) that are not taken unasked */

/* Rows of the average list squared, summed over the first factor's levels: flops of the way with lists.
   (Widths differ between factors; the mean width is close enough for a cost.) */
static double list_flops(const lmm_model *m)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[0];
    const double width = (lay->q - f->nlev * f->p) / fmax(1, lay->nnode - f->nlev);
    double flops = 0;
    if (!lay->nelim) return 0;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const double rows = (double)lay->ptr[e + 1] * width;
        flops += rows * rows * f->p;
    }
    return flops;
}

static void count_columns(lmm_model *m)
{
    layout *lay = &m->layout;
    lay->q1 = lay->nelim ? lay->f[0].nlev * lay->f[0].p : 0;
    lay->q2 = 0;
    for (int k = lay->nelim; k < lay->nfactor; k++) lay->q2 += lay->f[k].nlev * lay->f[k].p;
    lay->s = lay->q2 + lay->pb;
    for (int32_t e = 0; e < lay->nnode; e++) lay->trailcol[e] = lay->nodecol[e] - (lay->q - lay->q2);
}

/* Dense off-diagonal block (one factor eliminated by BLAS) or lists: whichever costs less. ptr holds the
   lengths of the lists. */
void choose_lists(lmm_model *m, const builder *b)
{
    layout *lay = &m->layout;
    const double q1 = lay->nelim ? (double)lay->f[0].nlev * lay->f[0].p : 0, rest = lay->q - q1,
                 lists = list_flops(m);
    double trailing = 0;
    for (int k = lay->nelim; k < lay->nfactor; k++) trailing += (double)lay->f[k].nlev * lay->f[k].p;
    const double dense = q1 * rest * rest + rest * rest * rest;
    const double sparse = SPARSE_COST * lists + trailing * trailing * trailing;
    const lmm_storage wanted = b->options->storage;
    b->report->pairs = 0;
    for (int32_t e = 0; e < lay->nnode; e++) b->report->pairs += (double)lay->ptr[e + 1];
    lay->full =
        lay->nelim && (lay->nfactor == 1 || (dense <= sparse && (wanted == LMM_AUTO || wanted == LMM_DENSE)));
    if (lay->full) lay->nelim = 1;
    b->report->flops = lay->full ? 2 * dense : 2 * SPARSE_COST * lists;
    b->report->flops += PER_CALL + PER_COLUMN * lay->q + PER_PAIR * b->report->pairs;
    count_columns(m);
    for (int32_t e = 0; lay->full && e < lay->f[0].nlev; e++) lay->ptr[e + 1] = 0;
}

/* What the columns of X add to the flops of an evaluation, however the trailing matrix is held: their rows
   below every panel and below the trailing matrix, and their own corner. (All of it is BLAS 3, or nearly.) */
static double edge_flops(const lmm_model *m)
{
    const layout *lay = &m->layout;
    const double pb = lay->pb, q2 = lay->q2, width = lay->q / fmax(1, lay->nnode);
    double entries = lay->full ? (double)lay->q1 * q2 : 0;
    for (int k = 0; k < lay->nfactor; k++)
        for (int32_t e = lay->f[k].node; e < lay->f[k].node + lay->f[k].nlev; e++)
            entries += (double)(lay->ptr[e + 1] - lay->ptr[e]) * lay->f[k].p * width;
    return pb * pb * (2. * lay->q + pb / 3) + 4 * pb * (entries + q2 * q2);
}

/* Bytes of everything but the trailing matrix. */
static double common_bytes(const lmm_model *m, const builder *b, const ptrdiff_t *size)
{
    const layout *lay = &m->layout;
    const double N = (double)moving(lay);
    double pmax = 1, doubles = 2. * lay->pb * lay->q + N * (lay->q + lay->q2 + lay->pb);
    for (int k = 0; k < lay->nfactor; k++) {
        const double p = lay->f[k].p, copies = k >= lay->nelim ? 1 : lay->full ? 2 : k ? 4.4 : 2.4;
        doubles += copies * (double)size[k] + 3. * lay->f[k].nlev * p * p;
        if (lay->f[k].relation) doubles += 2. * lay->pb * p * lay->f[k].nlev;
        doubles += relation_bytes(lay->f[k].relation) / 8;
        pmax = fmax(pmax, p);
    }
    const double wide = fmax(lay->pb, N);
    doubles += (double)(fit_workspace(lay) + chain_work(lay)) + N * N;       /* minimizer, information */
    doubles += 4 * BATCH * pmax * wide + 12 * pmax * pmax + 6 * pmax * wide; /* batches, small blocks */
    double rows = b->x ? 0 : 4. * (double)b->d->n;                           /* the pattern's */
    if (b->columns) rows += 8. * (double)b->d->n * lay->pfull;               /* coded ones that are stored */
    if (lay->wide) rows += 8. * (double)lay->pfull * lay->pfull;             /* of the kept columns */
    if (lay->generalized) b->report->rows = kept_bytes(lay, lay->n);         /* which may be elsewhere */
    return 8 * doubles + 4. * (double)lay->ptr[lay->nnode] + 24. * lay->nnode + rows;
}

/* The trailing matrix as a sparse one, unless that is hopeless */
static lmm_status consider_sparse(lmm_model *m, const builder *b, double common, double elimination)
{
    const layout *lay = &m->layout;
    lmm_report *r = b->report;
    const int forced = b->options->storage == LMM_SPARSE;
    if (lay->full || !lay->q2 || (!forced && b->options->storage != LMM_AUTO)) return LMM_OK;
    if (!forced && lay->q2 < SMALLEST) return LMM_OK;
    const lmm_status status = sparse_analyse(&m->trailing, m, b->options);
    if (status != LMM_OK) return status == LMM_UNAVAILABLE ? LMM_OK : status;
    r->density = sparse_density(m->trailing, m);
    r->bytes_of[LMM_SPARSE] = common + sparse_bytes(m->trailing, m);
    r->flops_of[LMM_SPARSE] = elimination + sparse_flops(m->trailing);
    r->ordered = sparse_ordered(m->trailing);
    return LMM_OK;
}

static int has_coupled(const layout *lay)
{
    int some = 0;
    for (int k = 0; k < lay->nfactor; k++) some |= is_coupled(&lay->f[k]);
    return some;
}

/* Without packed copies of the panels */
static void consider_iterative(const lmm_model *m, const builder *b, double common, const ptrdiff_t *size)
{
    const layout *lay = &m->layout;
    if (lay->full || !lay->q2 || lay->generalized || has_coupled(lay) || lay->moves) return;
    double packed = 0, entries = 0;
    for (int k = 0; k < lay->nelim; k++) {
        packed += 1.4 * (double)size[k];
        entries += (double)size[k] - (double)lay->pb * lay->f[k].nlev * lay->f[k].p;
    }
    b->report->bytes_of[LMM_ITERATIVE] = common - 8 * packed + iterative_bytes(m);
    b->report->flops_of[LMM_ITERATIVE] = PER_CALL + PER_COLUMN * lay->q + iterative_flops(m, entries);
}

/* The cheapest exact way that fits; the iterative one where there is none or it takes too long; the one that
   was asked for, whatever it takes. */
static lmm_storage cheapest(const lmm_report *r, const lmm_options *o, int32_t q2)
{
    const double limit = o->limit, least = q2 < SMALL ? CHEAPER : 1;
    lmm_storage best = LMM_DENSE;
    if (o->storage != LMM_AUTO) return o->storage;
    if (r->bytes_of[LMM_SPARSE] <= limit &&
        (least * r->flops_of[LMM_SPARSE] < r->flops_of[LMM_DENSE] || r->bytes_of[LMM_DENSE] > limit))
        best = LMM_SPARSE;
    if ((r->bytes_of[best] > limit || r->flops_of[best] > PATIENCE) && r->bytes_of[LMM_ITERATIVE] <= limit)
        best = LMM_ITERATIVE;
    return best;
}

lmm_status choose_storage(lmm_model *m, const builder *b, const ptrdiff_t *size)
{
    const layout *lay = &m->layout;
    lmm_report *r = b->report;
    const double common = common_bytes(m, b, size), q2 = lay->q2, elimination = r->flops;
    for (int i = 0; i < 4; i++) r->bytes_of[i] = r->flops_of[i] = NAN;
    r->density = -1;
    r->bytes_of[LMM_DENSE] = common + 16. * lay->s * lay->s + 8. * (double)cholesky_work(lay->q2);
    r->flops_of[LMM_DENSE] = elimination + q2 * q2 * q2;
    TRY(consider_sparse(m, b, common, elimination));
    consider_iterative(m, b, common, size);
    r->storage = cheapest(r, b->options, lay->q2);
    if (r->storage == LMM_ITERATIVE && has_coupled(lay)) return LMM_UNAVAILABLE;
    const double edge = edge_flops(m);
    for (int i = 0; i < 4; i++) r->flops_of[i] += edge;
    if (lay->full || !lay->q2) r->storage = LMM_DENSE; /* nothing trailing, or next to nothing */
    m->approach = r->approach = r->storage != LMM_ITERATIVE && lay->q2 && !lay->full &&
                                APPROACH * r->flops_of[LMM_ITERATIVE] < r->flops_of[r->storage] &&
                                r->bytes_of[r->storage] + iterative_bytes(m) <= b->options->limit;
    r->bytes = r->bytes_of[r->storage];
    m->flops = r->flops = r->flops_of[r->storage];
    r->rank = lay->p;
    r->eliminated = lay->nelim;
    for (int k = 0; k < lay->nelim; k++)
        if (lay->f[k].user < 64) r->which |= (uint64_t)1 << lay->f[k].user;
    r->order = lay->q2;
    r->full = lay->full;
    if (r->storage == LMM_SPARSE) return LMM_OK;
    trailing_free(m->trailing); /* the analysis of a sparse one has served */
    m->trailing = r->storage == LMM_ITERATIVE ? iterative_new() : dense_new();
    return m->trailing ? LMM_OK : LMM_NOMEM;
}
