/* Rows that are equal in everything a likelihood sees: found by hashing them block by block, compared before
   they are called equal. Some rows that share a level are looked at first: most data have no two. */

#include "setup/keep.h"

#include <stdlib.h>
#include <string.h>

#include "setup/rows.h"

#define SAMPLE 2048    /* rows that are looked at first, ...                                    */
#define SHARE 8        /* ... and at most one in so many                                        */
#define PROMISING 0.75 /* share of distinct ones among these, below which all rows are          */
#define WORTH 0.9      /* share of distinct ones, above which rows stay as they are             */
#define PROBES 64      /* levels that are looked into at most                                   */

typedef struct { /* distinct rows, by hash; open addressing */
    const lmm_data *d;
    const keeping *how;
    rows read;
    uint64_t *hash;  /* size   of the entry, ...                       */
    int64_t *number; /* size   ... and its number; -1: free            */
    int64_t *first;  /* size   the first row of each number            */
    int64_t size, n; /* a power of two; entries                        */
} table;

static inline uint64_t mixed(uint64_t h, uint64_t bits)
{
    h = (h ^ bits) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static inline uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline double number(const double *x, int64_t i)
{
    return x ? x[i] : 0;
}

static uint64_t hash_levels(const lmm_factor *f, int64_t i, uint64_t h)
{
    int32_t count;
    const int32_t *level = levels_of_row(f, i, &count);
    for (int32_t s = 0; s < count; s++) h = mixed(h, (uint64_t)level[s]);
    for (int32_t s = 0; f->members && s < count; s++) h = mixed(h, bits_of(weight_in_row(f, i, s)));
    return h;
}

static int same_levels(const lmm_factor *f, int64_t i, int64_t j)
{
    int32_t count, other;
    const int32_t *level = levels_of_row(f, i, &count), *with = levels_of_row(f, j, &other);
    int same = count == other;
    for (int32_t s = 0; same && s < count; s++)
        same = level[s] == with[s] && weight_in_row(f, i, s) == weight_in_row(f, j, s);
    return same;
}

/* h goes on with what is no column of the rows: levels, coded columns, offset, response. */
static uint64_t hash_rest(const table *t, int64_t i, uint64_t h)
{
    const lmm_data *d = t->d;
    for (int k = 0; k < d->nfactor; k++) h = hash_levels(&d->factor[k], i, h);
    for (int k = 0; k < d->ncoded; k++) {
        h = mixed(h, (uint64_t)d->coded[k].level[i]);
        h = mixed(h, bits_of(number(d->coded[k].v, i)));
    }
    if (t->how->offset) h = mixed(h, bits_of(t->how->offset[i]));
    if (t->how->y) h = mixed(h, bits_of(t->how->y[i]));
    return h;
}

/* Of the rows that were read last */
static void hash_block(const table *t, uint64_t *h)
{
    const rows *read = &t->read;
    memset(h, 0, sizeof(*h) * (size_t)read->n);
    for (int32_t c = 0; c < read->ncol; c++) {
        const double *x = rows_column(read, c);
        for (int32_t i = 0; i < read->n; i++) h[i] = mixed(h[i], bits_of(x[i]));
    }
    for (int32_t i = 0; i < read->n; i++) h[i] = hash_rest(t, read->first + i, h[i]);
}

static uint64_t hash_row(const table *t, int64_t i)
{
    uint64_t h = 0;
    for (int32_t c = 0; c < t->read.ncol; c++) h = mixed(h, bits_of(rows_value(t->read.column[c], i)));
    return hash_rest(t, i, h);
}

static int are_equal(const table *t, int64_t i, int64_t j)
{
    const lmm_data *d = t->d;
    const keeping *how = t->how;
    for (int k = 0; k < d->nfactor; k++)
        if (!same_levels(&d->factor[k], i, j)) return 0;
    for (int k = 0; k < d->ncoded; k++)
        if (d->coded[k].level[i] != d->coded[k].level[j] ||
            number(d->coded[k].v, i) != number(d->coded[k].v, j))
            return 0;
    for (int32_t c = 0; c < t->read.ncol; c++)
        if (rows_value(t->read.column[c], i) != rows_value(t->read.column[c], j)) return 0;
    return number(how->offset, i) == number(how->offset, j) && number(how->y, i) == number(how->y, j);
}

static void close_table(table *t)
{
    rows_close(&t->read);
    free(t->hash), free(t->number), free(t->first);
}

/* Room for twice as many entries; those that there are move. */
static lmm_status grow(table *t, int64_t size)
{
    uint64_t *hash = malloc(sizeof(*hash) * (size_t)size);
    int64_t *number = malloc(sizeof(*number) * (size_t)size);
    int64_t *first = realloc(t->first, sizeof(*first) * (size_t)size);
    if (first) t->first = first;
    if (!hash || !number || !first) {
        free(hash), free(number);
        return LMM_NOMEM;
    }
    for (int64_t i = 0; i < size; i++) number[i] = -1;
    for (int64_t i = 0; i < t->size; i++) {
        if (t->number[i] < 0) continue;
        int64_t at = (int64_t)(t->hash[i] & (uint64_t)(size - 1));
        while (number[at] >= 0) at = (at + 1) & (size - 1);
        hash[at] = t->hash[i], number[at] = t->number[i];
    }
    free(t->hash), free(t->number);
    t->hash = hash, t->number = number, t->size = size;
    return LMM_OK;
}

/* The number of a row, among those there are or a new one; -1: no memory */
static int64_t number_of(table *t, int64_t row, uint64_t h)
{
    if (2 * t->n >= t->size && grow(t, 2 * t->size) != LMM_OK) return -1;
    int64_t at = (int64_t)(h & (uint64_t)(t->size - 1));
    for (; t->number[at] >= 0; at = (at + 1) & (t->size - 1))
        if (t->hash[at] == h && are_equal(t, row, t->first[t->number[at]])) return t->number[at];
    t->hash[at] = h;
    t->first[t->n] = row;
    return t->number[at] = t->n++;
}

/* The factor with most levels: rows that share one of its levels are most alike */
static const lmm_factor *finest(const lmm_data *d)
{
    const lmm_factor *f = d->factor;
    for (int k = 1; k < d->nfactor; k++)
        if (d->factor[k].nlev > f->nlev) f = d->factor + k;
    return f;
}

/* Levels, by rows from everywhere, with as many rows as are looked at first. Returns their number. */
static int64_t mark_levels(const lmm_data *d, const lmm_factor *f, int64_t wanted, uint8_t *marked,
                           int32_t *count)
{
    int64_t found = 0;
    for (int64_t i = 0; i < d->n; i++) count[first_level(f, i)]++;
    for (int64_t j = 0; j < PROBES && found < wanted; j++) {
        const int32_t l = first_level(f, (int64_t)((j + 0.5) / PROBES * (double)d->n));
        if (!marked[l]) found += count[l];
        marked[l] = 1;
    }
    return found;
}

/* Are there equal rows among some that share levels? */
static lmm_status look(table *t, int *promising)
{
    const lmm_data *d = t->d;
    const lmm_factor *f = finest(d);
    const int64_t wanted = d->n / SHARE < SAMPLE ? d->n / SHARE : SAMPLE;
    int64_t seen = 0;
    lmm_status status = LMM_OK;
    *promising = 0;
    if (d->n < 2 * (int64_t)f->nlev) return LMM_OK;
    uint8_t *marked = calloc((size_t)f->nlev, sizeof(*marked));
    int32_t *count = calloc((size_t)f->nlev, sizeof(*count));
    if (marked && count) {
        mark_levels(d, f, wanted, marked, count);
        for (int64_t i = 0; i < d->n && seen < wanted && status == LMM_OK; i++)
            if (marked[first_level(f, i)] && ++seen && number_of(t, i, hash_row(t, i)) < 0)
                status = LMM_NOMEM;
        *promising = seen && (double)t->n < PROMISING * (double)seen;
    } else
        status = LMM_NOMEM;
    free(marked), free(count);
    return status;
}

static lmm_status number_all(table *t, int64_t *group)
{
    uint64_t *h = malloc(sizeof(*h) * (size_t)(t->read.size + 8));
    lmm_status status = h ? LMM_OK : LMM_NOMEM;
    t->n = 0;
    for (int64_t i = 0; i < t->size; i++) t->number[i] = -1;
    EACH_BLOCK(&t->read, first)
    {
        if (status != LMM_OK) break;
        hash_block(t, h);
        for (int32_t i = 0; i < t->read.n && status == LMM_OK; i++)
            if ((group[first + i] = number_of(t, first + i, h[i])) < 0) status = LMM_NOMEM;
    }
    free(h);
    return status;
}

lmm_status find_equal(const lmm_data *d, const keeping *how, int64_t *group, int64_t *distinct)
{
    table t = {.d = d, .how = how};
    int promising = 0;
    *distinct = 0;
    lmm_status status = rows_open(&t.read, d);
    if (status == LMM_OK) status = grow(&t, 2 * SAMPLE);
    if (status == LMM_OK) status = look(&t, &promising);
    if (status == LMM_OK && promising) status = number_all(&t, group);
    if (status == LMM_OK && promising && (double)t.n <= WORTH * (double)d->n) *distinct = t.n;
    close_table(&t);
    return status;
}
