/* Cross-products of rows in coordinates that are given: a chunk's are added to those of others, and to the
   sums that go with them. Rows are read and whitened as those of a model are. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "setup/chunk.h"
#include "setup/rows.h"
#include "base/memory.h"
#include "base/small.h"

typedef struct {
    rows rows;
    const lmm_coordinates *own;
    lmm_totals *totals;
    int32_t ncol;          /* columns of [z of each factor | X | y]                    */
    double *white;         /* ncol each row                                            */
    const int32_t **level; /* of each factor, from the block's first row on            */
    int32_t *nlev;
} chunk;

static lmm_status open_chunk(chunk *c, const lmm_data *d)
{
    const size_t K = (size_t)d->nfactor;
    if (have_several(d)) return LMM_UNAVAILABLE;
    TRY(rows_open(&c->rows, d));
    c->ncol = d->p + 1;
    for (int k = 0; k < d->nfactor; k++) c->ncol += d->factor[k].ncol;
    c->white = malloc(sizeof(double) * (size_t)c->ncol * (size_t)c->rows.size);
    c->level = malloc(sizeof(*c->level) * K);
    c->nlev = malloc(sizeof(*c->nlev) * K);
    if (!c->white || !c->level || !c->nlev) return LMM_NOMEM;
    for (size_t k = 0; k < K; k++) c->nlev[k] = d->factor[k].nlev;
    return LMM_OK;
}

static void close_chunk(chunk *c)
{
    rows_close(&c->rows);
    free(c->white), free(c->level), free(c->nlev);
}

/* What is left of the response, and its sums. The centre goes first: a mean that is large beside the
   residuals takes no digits of these. x: the new columns of X */
CLONES static void reduce_response(const chunk *c, const double *x)
{
    const rows *r = &c->rows;
    const lmm_coordinates *own = c->own;
    const int32_t p = r->d->p;
    double *to = c->white + (c->ncol - 1), sum = 0, squares = 0;
    for (int32_t i = 0; i < r->n; i++, x += c->ncol, to += c->ncol) {
        const double centred = r->y[i] - own->center;
        double rest = own->uncentred ? r->y[i] : centred, fitted = 0;
        for (int32_t j = 0; j < p; j++) fitted += x[j] * own->slope[j];
        *to = (rest - fitted) / own->yscale;
        sum += centred;
        squares += centred * centred;
    }
    c->totals->response[0] += sum;
    c->totals->response[1] += squares;
}

static void whiten_chunk(const chunk *c)
{
    const rows *r = &c->rows;
    const lmm_data *d = r->d;
    double *to = c->white;
    for (int k = 0; k < d->nfactor; k++) {
        const lmm_factor *f = &d->factor[k];
        const basis z = {f->ncol, c->own->mean[k], c->own->B[k]};
        for (int j = 0, first = 0; j < f->ncol; j++) {
            if (f->term[j] != f->term[first]) first = j;
            rows_whiten(r, r->z[k], &z, first, j, NULL, to++, c->ncol);
        }
    }
    const basis x = {d->p, c->own->xmean, c->own->BX};
    for (int j = 0; j < d->p; j++) rows_whiten(r, r->x, &x, 0, j, NULL, to++, c->ncol);
    reduce_response(c, to - d->p);
}

/* Sums of X's columns; without weights X'X and Z'Z of each factor, where they are asked for. */
static void add_totals(const chunk *c)
{
    const rows *r = &c->rows;
    const lmm_data *d = r->d;
    const double *x = c->white + (c->ncol - 1 - d->p), *z = c->white;
    double *plain = c->totals->plain;
    for (int32_t j = 0; j < d->p; j++) {
        double sum = 0;
        for (int32_t i = 0; i < r->n; i++) sum += x[j + (ptrdiff_t)i * c->ncol];
        c->totals->columns[j] += sum;
    }
    if (!plain) return;
    for (int32_t i = 0; i < r->n; i++) add_outer(d->p, d->p, x + i * c->ncol, x + i * c->ncol, plain, d->p);
    plain += (ptrdiff_t)d->p * d->p;
    for (int k = 0; k < d->nfactor; z += d->factor[k++].ncol) {
        const int p = d->factor[k].ncol;
        for (int32_t i = 0; i < r->n; i++) add_outer(p, p, z + i * c->ncol, z + i * c->ncol, plain, p);
        plain += (ptrdiff_t)p * p;
    }
}

/* Rows times the square roots of their weights. */
static void weigh_rows(const chunk *c)
{
    lmm_totals *t = c->totals;
    double logs = 0;
    for (int32_t i = 0; i < c->rows.n; i++) {
        const double w = c->rows.w[i];
        for (int32_t j = 0; j < c->ncol; j++) c->white[j + (ptrdiff_t)i * c->ncol] *= c->rows.root[i];
        t->low = w < t->low ? w : t->low;
        t->high = w > t->high ? w : t->high;
        logs += log(w);
    }
    t->sumlogw += logs;
}

lmm_status lmm_add_rows(lmm_blocks *b, const lmm_blas *blas, const lmm_data *d, const lmm_coordinates *own,
                        lmm_totals *totals)
{
    chunk c = {.own = own, .totals = totals};
    lmm_status status = open_chunk(&c, d);
    for (int64_t first = 0, next = 0; status == LMM_OK && first < d->n; first = next) {
        rows_read(&c.rows, first, &next);
        whiten_chunk(&c);
        add_totals(&c);
        if (d->w) weigh_rows(&c);
        for (int k = 0; k < d->nfactor; k++) c.level[k] = d->factor[k].level + first;
        status = lmm_blocks_add(b, blas, c.rows.n, c.level, c.nlev, c.white);
    }
    close_chunk(&c);
    return status;
}
