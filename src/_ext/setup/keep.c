/* Keeps rows: whitens them once, sorts them by the levels of the first factor, finds where the blocks of
   their pairs of levels stand. */

#include "setup/keep.h"

#include "setup/fixed.h"
#include "setup/places.h"
#include "base/small.h"

#define BESIDE 13 /* doubles a row that a generalized model keeps (generalized/state.h) */

double kept_bytes(const layout *lay, int64_t n)
{
    double width = lay->p;
    const double K = lay->nfactor;
    for (int k = 0; k < lay->nfactor; k++) width += lay->f[k].p;
    return 8. * (double)lay->n + (double)n * (8 * (width + BESIDE) + 4 * K + 8 * K * (K - 1) / 2);
}

void keep_free(kept *r)
{
    release(&r->memory, NULL);
}

void *take(kept *r, size_t count, size_t size)
{
    const double bytes = (double)count * (double)size;
    if (bytes <= r->budget || !r->how.room) {
        r->budget -= bytes;
        return grab(&r->memory, count, size);
    }
    r->nbytes += bytes;
    return r->how.room(r->how.arg, bytes);
}

static lmm_status room(kept *r, const lmm_model *m)
{
    const layout *lay = &m->layout;
    const int K = lay->nfactor;
    for (int k = 0; k < K; k++)
        if (panel_size(lay, k) > UINT32_MAX) return LMM_TOOLARGE;
    GRAB(r, r->at, K + 1);
    for (int k = 0; k < K; k++) r->at[k + 1] = r->at[k] + lay->f[k].p;
    r->width = r->at[K] + lay->p;
    GRAB(r, r->ones, r->width);
    GRAB(r, r->level, K);
    GRAB(r, r->spot, K * K);
    for (int k = 0; k < K; k++) TAKE(r, r->level[k], r->n);
    for (int k = 0; k < K; k++)
        for (int j = k + 1; j < K; j++) TAKE(r, r->spot[k * K + j], r->n);
    TAKE(r, r->value, (ptrdiff_t)kept_blocks(r) * r->width * KEPT);
    return LMM_OK;
}

/* Where the kept rows go: by the node of their first factor, else as they come. place: of each row, the
   number of the distinct one that it is, numbered as they come; or (merged: 0) nothing */
static lmm_status sort_rows(kept *r, const lmm_model *m, const lmm_data *d, int merged)
{
    const factor *f = &m->layout.f[0];
    const int32_t *level = d->factor[f->user].level;
    int64_t *start = calloc((size_t)f->nlev + 1, sizeof(*start));
    int64_t *to = merged ? malloc(sizeof(*to) * (size_t)r->n) : r->place, seen = 0;
    if (start && to) {
        for (int64_t i = 0; i < r->nrow; i++)
            if (!merged || r->place[i] == seen) seen++, start[f->perm[level[i]] - f->node + 1]++;
        for (int32_t l = 0; l < f->nlev; l++) start[l + 1] += start[l];
        seen = 0;
        for (int64_t i = 0; i < r->nrow; i++)
            if (!merged || r->place[i] == seen) to[seen++] = start[f->perm[level[i]] - f->node]++;
        for (int64_t i = 0; merged && i < r->nrow; i++) r->place[i] = to[r->place[i]];
    }
    const lmm_status status = start && to ? LMM_OK : LMM_NOMEM;
    free(start);
    if (merged) free(to);
    return status;
}

lmm_status arrange_rows(kept *r, const lmm_model *m, const lmm_data *d, const keeping *how)
{
    const layout *lay = &m->layout;
    int64_t distinct = 0;
    r->how = *how;
    r->n = r->nrow = lay->n;
    r->budget = r->how.limit;
    if (how->merge) {
        TAKE(r, r->place, r->nrow);
        TRY(find_equal(d, &r->how, r->place, &distinct));
        if (distinct) r->n = distinct;
    }
    const int fits = kept_bytes(lay, r->n) <= how->limit;
    if (!fits && !how->room) return LMM_NOMEM;
    if (!fits) {
        r->budget /= 2; /* the other half is for what the caller does with rows, and the system's copies */
        if (!distinct) r->place = NULL;
        return LMM_OK;
    }
    if (!r->place) TAKE(r, r->place, r->nrow);
    return sort_rows(r, m, d, distinct > 0);
}

/* Column c of the rows that were read last, from values */
static void put(kept *r, int32_t c, int64_t first, int32_t n, const double *values)
{
    for (int32_t i = 0; i < n; i++) {
        const int64_t to = kept_place(r, first + i);
        r->value[(to / KEPT * r->width + c) * KEPT + to % KEPT] = values[i];
    }
}

static void put_block(kept *r, const lmm_model *m, const builder *b, int64_t first, double *values)
{
    const layout *lay = &m->layout;
    const rows *read = &b->rows;
    const basis x = {lay->pfull, lay->x.mean, lay->x.B};
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const basis z = {f->p, f->w.mean, f->w.B};
        for (int j = 0; j < f->p; j++) {
            rows_whiten(read, read->z[f->user], &z, f->term[j], j, NULL, values, 1);
            put(r, r->at[k] + j, first, read->n, values);
        }
    }
    for (int a = 0; a < lay->p; a++) {
        rows_whiten(read, read->x, &x, 0, lay->keep[a], NULL, values, 1);
        put(r, r->at[lay->nfactor] + a, first, read->n, values);
    }
}

static void find_ones(kept *r)
{
    for (int32_t c = 0; c < r->width; c++) {
        int same = 1;
        for (int64_t block = 0; same && block < kept_blocks(r); block++) {
            const double *v = kept_column(r, block, c);
            for (int32_t i = 0; i < kept_rows(r, block); i++) same &= v[i] == 1;
        }
        r->ones[c] = (uint8_t)same;
    }
}

/* Nodes, and where the blocks of two of them stand */
static void find_places(kept *r, const lmm_model *m, const builder *b)
{
    const layout *lay = &m->layout;
    const int K = lay->nfactor;
    for (int k = 0; k < K; k++) {
        const factor *f = &lay->f[k];
        const int32_t *level = b->d->factor[f->user].level;
        for (int64_t i = 0; i < r->nrow; i++) r->level[k][kept_place(r, i)] = f->perm[level[i]] - f->node;
    }
    for (int k = 0; k < K; k++)
        for (int j = k + 1; j < K; j++)
            for (int64_t i = 0; i < r->n; i++) {
                const int32_t e = lay->f[k].node + r->level[k][i], o = lay->f[j].node + r->level[j][i];
                r->spot[k * K + j][i] = (uint32_t)(lay->pan[e] + place_of(lay, b, k, j, e, o));
            }
}

static void free_places(builder *b)
{
    const int K = b->table ? b->d->nfactor : 0;
    for (int i = 0; i < K * K; i++) free(b->table[i]);
    free(b->table), free(b->place), free(b->columns);
    rows_close(&b->rows);
    moments_free(&b->moments);
}

/* values: a block of rows */
static lmm_status fill(kept *r, lmm_model *m, builder *b, double *values)
{
    EACH_BLOCK(&b->rows, first) put_block(r, m, b, first, values);
    find_ones(r);
    TRY(new_places(m, b));
    find_places(r, m, b);
    return LMM_OK;
}

lmm_status keep_rows(kept *r, lmm_model *m, const lmm_data *d)
{
    builder b = {.d = d};
    lmm_status status = room(r, m);
    if (status == LMM_OK) status = rows_open(&b.rows, d);
    if (status == LMM_OK && d->pstored < d->p) status = store_fixed(&b);
    double *values = status == LMM_OK ? malloc(sizeof(double) * (size_t)(b.rows.size + 8)) : NULL;
    if (status == LMM_OK) status = values ? fill(r, m, &b, values) : LMM_NOMEM;
    free(values);
    free_places(&b);
    return status;
}
