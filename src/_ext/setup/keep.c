/* Keeps rows: whitens them once, sorts them by the levels of the first factor, finds where the blocks of
   their pairs of levels stand. */

#include "setup/keep.h"

#include "setup/fixed.h"
#include "setup/places.h"
#include "base/small.h"

#define BESIDE 13 /* doubles a row that a generalized model keeps (generalized/state.h) */

double kept_bytes(const layout *lay)
{
    double width = lay->p;
    const double K = lay->nfactor;
    for (int k = 0; k < lay->nfactor; k++) width += lay->f[k].p;
    return (double)lay->n * (8 * (width + BESIDE) + 4 * K + 8 * K * (K - 1) / 2);
}

void keep_free(kept *r)
{
    release(&r->memory, NULL);
}

static lmm_status room(kept *r, const lmm_model *m)
{
    const layout *lay = &m->layout;
    const int K = lay->nfactor;
    r->n = lay->n;
    for (int k = 0; k < K; k++)
        if (panel_size(lay, k) > UINT32_MAX) return LMM_TOOLARGE;
    GRAB(r, r->at, K + 1);
    for (int k = 0; k < K; k++) r->at[k + 1] = r->at[k] + lay->f[k].p;
    r->width = r->at[K] + lay->p;
    GRAB(r, r->value, (ptrdiff_t)kept_blocks(r) * r->width * KEPT);
    GRAB(r, r->ones, r->width);
    GRAB(r, r->level, K);
    GRAB(r, r->spot, K * K);
    GRAB(r, r->row, r->n);
    for (int k = 0; k < K; k++) GRAB(r, r->level[k], r->n);
    for (int k = 0; k < K; k++)
        for (int j = k + 1; j < K; j++) GRAB(r, r->spot[k * K + j], r->n);
    return LMM_OK;
}

/* Where each row goes: by the node of its first factor, else as the rows are. */
static lmm_status sort_rows(kept *r, const lmm_model *m, const lmm_data *d, int64_t *place)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[0];
    const int32_t *level = d->factor[f->user].level;
    int64_t *start = calloc((size_t)f->nlev + 1, sizeof(*start));
    if (!start) return LMM_NOMEM;
    for (int64_t i = 0; i < r->n; i++) start[f->perm[level[i]] - f->node + 1]++;
    for (int32_t l = 0; l < f->nlev; l++) start[l + 1] += start[l];
    for (int64_t i = 0; i < r->n; i++) {
        place[i] = start[f->perm[level[i]] - f->node]++;
        r->row[place[i]] = i;
    }
    free(start);
    return LMM_OK;
}

/* Column c of the rows that were read last, from values */
static void put(kept *r, int32_t c, int64_t first, int32_t n, const int64_t *place, const double *values)
{
    for (int32_t i = 0; i < n; i++) {
        const int64_t to = place[first + i];
        r->value[(to / KEPT * r->width + c) * KEPT + to % KEPT] = values[i];
    }
}

static void put_block(kept *r, const lmm_model *m, const builder *b, int64_t first, const int64_t *place,
                      double *values)
{
    const layout *lay = &m->layout;
    const rows *read = &b->rows;
    const basis x = {lay->pfull, lay->x.mean, lay->x.B};
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const basis z = {f->p, f->w.mean, f->w.B};
        for (int j = 0; j < f->p; j++) {
            rows_whiten(read, read->z[f->user], &z, f->term[j], j, NULL, values, 1);
            put(r, r->at[k] + j, first, read->n, place, values);
        }
    }
    for (int a = 0; a < lay->p; a++) {
        rows_whiten(read, read->x, &x, 0, lay->keep[a], NULL, values, 1);
        put(r, r->at[lay->nfactor] + a, first, read->n, place, values);
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
        for (int64_t i = 0; i < r->n; i++) r->level[k][i] = f->perm[level[r->row[i]]] - f->node;
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

/* place: n, values: a block of rows */
static lmm_status fill(kept *r, lmm_model *m, builder *b, int64_t *place, double *values)
{
    TRY(sort_rows(r, m, b->d, place));
    EACH_BLOCK(&b->rows, first) put_block(r, m, b, first, place, values);
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
    int64_t *place = malloc(sizeof(int64_t) * (size_t)r->n);
    double *values = status == LMM_OK ? malloc(sizeof(double) * (size_t)(b.rows.size + 8)) : NULL;
    if (status == LMM_OK) status = place && values ? fill(r, m, &b, place, values) : LMM_NOMEM;
    free(place), free(values);
    free_places(&b);
    return status;
}
