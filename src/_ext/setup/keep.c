/* Keeps rows: whitens them once, sorts them by the levels of the first factor, finds where the blocks of
   their pairs of levels stand. */

#include "setup/keep.h"

#include "setup/fixed.h"
#include "setup/places.h"
#include "base/small.h"

#define BESIDE 13 /* doubles a row that a generalized model keeps (generalized/state.h) */

/* Levels of a row that are kept */
static int slots_of(const factor *f)
{
    return f->several ? f->several : 1;
}

double kept_bytes(const layout *lay, int64_t n)
{
    double width = lay->p, S = 0;
    for (int k = 0; k < lay->nfactor; k++) width += slots_of(&lay->f[k]) * lay->f[k].p;
    for (int k = 0; k < lay->nfactor; k++) S += slots_of(&lay->f[k]);
    return 8. * (double)lay->n + (double)n * (8 * (width + BESIDE) + 4 * S + 8 * S * (S - 1) / 2);
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
    for (int k = 0; k < lay->nfactor; k++) {
        if (panel_size(lay, k) > NO_PLACE) return LMM_TOOLARGE;
        r->nslot += slots_of(&lay->f[k]);
    }
    const ptrdiff_t S = r->nslot;
    GRAB(r, r->of, S);
    GRAB(r, r->part, S);
    GRAB(r, r->at, S + 1);
    for (int k = 0, s = 0; k < lay->nfactor; r->nparts += lay->f[k++].p)
        for (int i = 0; i < slots_of(&lay->f[k]); i++, s++) {
            r->of[s] = k;
            r->part[s] = r->nparts;
            r->at[s + 1] = r->at[s] + lay->f[k].p;
        }
    r->width = kept_fixed(r) + lay->p;
    GRAB(r, r->ones, r->width);
    GRAB(r, r->level, S);
    GRAB(r, r->spot, S * S);
    for (ptrdiff_t s = 0; s < S; s++) TAKE(r, r->level[s], r->n);
    for (ptrdiff_t s = 0; s < S; s++)
        for (ptrdiff_t t = s + 1; t < S; t++) TAKE(r, r->spot[s * S + t], r->n);
    TAKE(r, r->value, (ptrdiff_t)kept_blocks(r) * r->width * KEPT);
    return LMM_OK;
}

/* Where the kept rows go: by the node of their first factor, else as they come. place: of each row, the
   number of the distinct one that it is, numbered as they come; or (merged: 0) nothing */
static lmm_status sort_rows(kept *r, const lmm_model *m, const lmm_data *d, int merged)
{
    const factor *f = &m->layout.f[0];
    const lmm_factor *given = &d->factor[f->user];
    int64_t *start = calloc((size_t)f->nlev + 1, sizeof(*start));
    int64_t *to = merged ? malloc(sizeof(*to) * (size_t)r->n) : r->place, seen = 0;
    if (start && to) {
        for (int64_t i = 0; i < r->nrow; i++)
            if (!merged || r->place[i] == seen) seen++, start[f->perm[first_level(given, i)] - f->node + 1]++;
        for (int32_t l = 0; l < f->nlev; l++) start[l + 1] += start[l];
        seen = 0;
        for (int64_t i = 0; i < r->nrow; i++)
            if (!merged || r->place[i] == seen)
                to[seen++] = start[f->perm[first_level(given, i)] - f->node]++;
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

/* ... times the weights of the s-th levels of a factor that they have, zero where there are fewer */
static void put_share(kept *r, int32_t c, const lmm_factor *f, int32_t s, int64_t first, int32_t n,
                      const double *values)
{
    for (int32_t i = 0; i < n; i++) {
        const int64_t to = kept_place(r, first + i);
        int32_t count;
        levels_of_row(f, first + i, &count);
        r->value[(to / KEPT * r->width + c) * KEPT + to % KEPT] =
            s < count ? weight_in_row(f, first + i, s) * values[i] : 0;
    }
}

static void put_block(kept *r, const lmm_model *m, const builder *b, int64_t first, double *values)
{
    const layout *lay = &m->layout;
    const rows *read = &b->rows;
    const basis x = {lay->pfull, lay->x.mean, lay->x.B};
    for (int k = 0, slot = 0; k < lay->nfactor; slot += slots_of(&lay->f[k++])) {
        const factor *f = &lay->f[k];
        const basis z = {f->p, f->w.mean, f->w.B};
        for (int j = 0; j < f->p; j++) {
            rows_whiten(read, read->z[f->user], &z, f->term[j], j, NULL, values, 1);
            if (!f->several) put(r, r->at[slot] + j, first, read->n, values);
            for (int s = 0; s < f->several; s++)
                put_share(r, r->at[slot + s] + j, &b->d->factor[f->user], s, first, read->n, values);
        }
    }
    for (int a = 0; a < lay->p; a++) {
        rows_whiten(read, read->x, &x, 0, lay->keep[a], NULL, values, 1);
        put(r, kept_fixed(r) + a, first, read->n, values);
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

/* Nodes of the rows in slot s, the i-th of its factor; -1: they have fewer */
static void find_nodes(kept *r, const lmm_model *m, const builder *b, int s, int32_t i)
{
    const factor *f = &m->layout.f[r->of[s]];
    const lmm_factor *given = &b->d->factor[f->user];
    for (int64_t row = 0; row < r->nrow; row++) {
        int32_t count;
        const int32_t *level = levels_of_row(given, row, &count);
        r->level[s][kept_place(r, row)] = i < count ? f->perm[level[i]] - f->node : -1;
    }
}

/* Where the blocks of the nodes in slots s < t stand */
static void find_spots(const kept *r, const lmm_model *m, const builder *b, int s, int t)
{
    const layout *lay = &m->layout;
    const int k = r->of[s], j = r->of[t];
    uint32_t *spot = r->spot[s * (ptrdiff_t)r->nslot + t];
    for (int64_t i = 0; i < r->n; i++) {
        const int32_t e = lay->f[k].node + r->level[s][i], o = lay->f[j].node + r->level[t][i];
        const int lacks = r->level[s][i] < 0 || r->level[t][i] < 0;
        spot[i] = lacks ? NO_PLACE : (uint32_t)(lay->pan[e] + place_of(lay, b, k, j, e, o));
    }
}

static void find_places(kept *r, const lmm_model *m, const builder *b)
{
    for (int s = 0, i = 0; s < r->nslot; s++) {
        i = s && r->of[s] == r->of[s - 1] ? i + 1 : 0;
        find_nodes(r, m, b, s, i);
    }
    for (int s = 0; s < r->nslot; s++)
        for (int t = s + 1; t < r->nslot; t++) find_spots(r, m, b, s, t);
    for (int s = 0; s < r->nslot; s++) {
        const int32_t *before = s && r->of[s] == r->of[s - 1] ? r->level[s - 1] : NULL;
        for (int64_t i = 0; m->layout.f[r->of[s]].several && i < r->n; i++)
            if (r->level[s][i] < 0) r->level[s][i] = before ? before[i] : 0;
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
