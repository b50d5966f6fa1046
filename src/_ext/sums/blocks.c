/* Cross-products by levels that rows are added to and taken from: one table a pair of factors. */

#include <stdlib.h>
#include <string.h>

#include "sums/blocks.h"
#include "base/small.h"

#define FIRST_SLOTS 64 /* a power of two, as every size of a hash table */
#define FIRST_ACROSS 16
#define MOST_DIRECT 1000000 /* levels times levels of a direct table: 4 MB, 16 where it may grow */
#define MOST_PAIRS 0xfffffff0LL

static lmm_pairs *pairs_between(lmm_blocks *b, int a, int c)
{
    return &b->pair[(size_t)a * (size_t)b->nfactor + (size_t)c];
}

const lmm_pairs *lmm_pairs_of(const lmm_blocks *b, int a, int c)
{
    return &b->pair[(size_t)a * (size_t)b->nfactor + (size_t)c];
}

lmm_status lmm_blocks_new(lmm_blocks **out, int nfactor, const int32_t *width, int32_t border)
{
    lmm_blocks *b = *out = calloc(1, sizeof(*b));
    const size_t K = nfactor ? (size_t)nfactor : 1;
    if (!b) return LMM_NOMEM;
    b->nfactor = nfactor;
    b->border = border;
    b->width = calloc(K, sizeof(*b->width));
    b->nlev = calloc(K, sizeof(*b->nlev));
    b->diag = calloc(K, sizeof(*b->diag));
    b->edge = calloc(K, sizeof(*b->edge));
    b->pair = calloc(K * K, sizeof(*b->pair));
    b->corner = calloc((size_t)border * (size_t)border, sizeof(double));
    if (!b->width || !b->nlev || !b->diag || !b->edge || !b->pair || !b->corner) {
        lmm_blocks_free(b);
        *out = NULL;
        return LMM_NOMEM;
    }
    for (int k = 0; k < nfactor; k++) b->width[k] = width[k];
    return LMM_OK;
}

void lmm_blocks_free(lmm_blocks *b)
{
    if (!b) return;
    for (int k = 0; b->diag && k < b->nfactor; k++) free(b->diag[k]);
    for (int k = 0; b->edge && k < b->nfactor; k++) free(b->edge[k]);
    for (size_t k = 0; b->pair && k < (size_t)b->nfactor * (size_t)b->nfactor; k++)
        free(b->pair[k].a), free(b->pair[k].b), free(b->pair[k].value), free(b->pair[k].slot);
    free(b->width), free(b->nlev), free(b->diag), free(b->edge), free(b->pair), free(b->corner);
    free(b);
}

double lmm_blocks_bytes(const lmm_blocks *b)
{
    double bytes = 8. * b->border * b->border;
    for (int k = 0; k < b->nfactor; k++) bytes += 8. * b->nlev[k] * b->width[k] * (b->width[k] + b->border);
    for (int a = 0; a < b->nfactor; a++)
        for (int c = a + 1; c < b->nfactor; c++) {
            const lmm_pairs *p = lmm_pairs_of(b, a, c);
            bytes += (double)p->count * (8 + 8. * b->width[a] * b->width[c]) + 4. * (double)p->nslot;
        }
    return bytes;
}

/* Room for m levels of factor k; new ones are zero. */
static lmm_status grow_levels(lmm_blocks *b, int k, int32_t m)
{
    const size_t w = (size_t)b->width[k], old = (size_t)b->nlev[k], more = (size_t)m - old;
    if (m <= b->nlev[k]) return LMM_OK;
    double *diag = realloc(b->diag[k], sizeof(double) * (size_t)m * w * w);
    if (!diag) return LMM_NOMEM;
    b->diag[k] = diag;
    double *edge = realloc(b->edge[k], sizeof(double) * (size_t)m * w * (size_t)b->border);
    if (!edge) return LMM_NOMEM;
    b->edge[k] = edge;
    memset(diag + old * w * w, 0, sizeof(double) * more * w * w);
    memset(edge + old * w * (size_t)b->border, 0, sizeof(double) * more * w * (size_t)b->border);
    b->nlev[k] = m;
    return LMM_OK;
}

static size_t scattered(int32_t a, int32_t c)
{
    uint64_t h = ((uint64_t)(uint32_t)a << 32 | (uint32_t)c) * 0x9e3779b97f4a7c15u;
    return (size_t)(h ^ h >> 29);
}

/* Where the search for a pair begins: in a direct table, where it ends too. */
static inline size_t slot_of(const lmm_pairs *p, int32_t a, int32_t c)
{
    return p->across ? (size_t)a * (size_t)p->across + (size_t)c : scattered(a, c) & ((size_t)p->nslot - 1);
}

static lmm_status rehash(lmm_pairs *p, int64_t nslot, int64_t across)
{
    uint32_t *slot = calloc((size_t)nslot, sizeof(*slot));
    if (!slot) return LMM_NOMEM;
    free(p->slot);
    p->slot = slot;
    p->nslot = nslot;
    p->across = across;
    for (int64_t i = 0; i < p->count; i++) {
        size_t h = slot_of(p, p->a[i], p->b[i]);
        while (slot[h]) h = (h + 1) & ((size_t)nslot - 1);
        slot[h] = (uint32_t)i + 1;
    }
    return LMM_OK;
}

void lmm_blocks_compact(lmm_blocks *b)
{
    for (int a = 0; a < b->nfactor; a++)
        for (int c = a + 1; c < b->nfactor; c++) {
            lmm_pairs *p = pairs_between(b, a, c);
            const size_t size = (size_t)b->width[a] * (size_t)b->width[c], n = (size_t)p->count;
            free(p->slot);
            p->slot = NULL;
            p->nslot = p->across = 0;
            if (!n) continue;
            void *first = realloc(p->a, sizeof(int32_t) * n), *second = realloc(p->b, sizeof(int32_t) * n);
            void *value = realloc(p->value, sizeof(double) * size * n);
            if (first) p->a = first;
            if (second) p->b = second;
            if (value) p->value = value;
            p->room = p->count;
        }
}

/* Slots of a hash table of so many pairs, a power of two */
static int64_t slots_for(int64_t need)
{
    int64_t nslot = FIRST_SLOTS;
    while (need > nslot - nslot / 4) nslot *= 2;
    return nslot;
}

/* A direct table for m x n levels, which may grow a little, while it is small; else it is a hash table. */
static lmm_status choose_table(lmm_pairs *p, int64_t m, int64_t n)
{
    int64_t across = FIRST_ACROSS, down = FIRST_ACROSS;
    while (across < n) across *= 2;
    while (down < m) down *= 2;
    if (p->across >= n && p->across && p->nslot / p->across >= m) return LMM_OK;
    if (m * n > MOST_DIRECT) return p->across || !p->nslot ? rehash(p, slots_for(p->count), 0) : LMM_OK;
    return rehash(p, down * across, across);
}

/* Room for `more` pairs of m x n levels: a third more than there are, so that what is not used stays small.
 */
static lmm_status reserve(lmm_pairs *p, int64_t more, size_t size, int64_t m, int64_t n)
{
    const int64_t need = p->count + more;
    if (need > MOST_PAIRS) return LMM_NOMEM;
    if (need > p->room) {
        const int64_t room = need + p->room / 3 + 16;
        void *a = realloc(p->a, sizeof(int32_t) * (size_t)room);
        if (a) p->a = a;
        void *b = realloc(p->b, sizeof(int32_t) * (size_t)room);
        if (b) p->b = b;
        void *value = realloc(p->value, sizeof(double) * size * (size_t)room);
        if (value) p->value = value;
        if (!a || !b || !value) return LMM_NOMEM;
        p->room = room;
    }
    const lmm_status status = choose_table(p, m, n);
    if (status != LMM_OK || p->across || need <= p->nslot - p->nslot / 4) return status;
    return rehash(p, slots_for(need), 0);
}

/* The block of levels a and c, looked for from slot h on, made zero when it is new. Room for it is there. */
static double *block_from(lmm_pairs *p, int32_t a, int32_t c, size_t h, size_t size)
{
    const size_t mask = (size_t)p->nslot - 1;
    for (; p->slot[h]; h = (h + 1) & mask) {
        const int64_t i = (int64_t)p->slot[h] - 1;
        if (p->across || (p->a[i] == a && p->b[i] == c)) return p->value + (size_t)i * size;
    }
    p->a[p->count] = a;
    p->b[p->count] = c;
    double *value = p->value + (size_t)p->count * size;
    memset(value, 0, sizeof(double) * size);
    p->slot[h] = (uint32_t)++p->count;
    return value;
}

static double *block_of(lmm_pairs *p, int32_t a, int32_t c, size_t size)
{
    return block_from(p, a, c, slot_of(p, a, c), size);
}

#define PIECE 4096 /* rows for which room is made at a time */
#define BATCH 64   /* rows whose places in the tables are looked up together: memory answers meanwhile */
#define AHEAD 12   /* rows whose sums are fetched beforehand */

/* Rows of two factors: levels, columns (za, zc; ncol apart) */
typedef struct {
    const int32_t *a, *c;
    const double *za, *zc;
    ptrdiff_t ncol;
} paired_rows;

INLINE void add_batch(int wa, lmm_pairs *p, int wc, const paired_rows *r, int64_t first, int n)
{
    const size_t size = (size_t)wa * (size_t)wc;
    size_t h[BATCH];
    double *to[BATCH];
    for (int i = 0; i < n; i++) {
        h[i] = slot_of(p, r->a[first + i], r->c[first + i]);
        __builtin_prefetch(p->slot + h[i]);
    }
    for (int i = 0; i < n && !p->across; i++) {
        const size_t at = p->slot[h[i]] ? p->slot[h[i]] - 1 : 0;
        __builtin_prefetch(p->a + at);
        __builtin_prefetch(p->b + at);
    }
    for (int i = 0; i < n; i++) {
        to[i] = block_from(p, r->a[first + i], r->c[first + i], h[i], size);
        __builtin_prefetch(to[i], 1);
    }
    for (int i = 0; i < n; i++)
        add_outer(wa, wc, r->za + (first + i) * r->ncol, r->zc + (first + i) * r->ncol, to[i], wc);
}

CLONES static void add_piece(int wa, lmm_pairs *p, int wc, const paired_rows *r, int64_t first, int64_t last)
{
    for (int64_t i = first; i < last; i += BATCH) {
        const int n = last - i < BATCH ? (int)(last - i) : BATCH;
        BY_WIDTH(wa, add_batch, p, wc, r, i, n);
    }
}

static lmm_status add_pairs(lmm_blocks *b, int a, int c, int64_t n, const paired_rows *r)
{
    lmm_pairs *p = pairs_between(b, a, c);
    const int wa = b->width[a], wc = b->width[c];
    for (int64_t first = 0; first < n; first += PIECE) {
        const int64_t last = first + PIECE < n ? first + PIECE : n;
        const lmm_status status = reserve(p, last - first, (size_t)wa * (size_t)wc, b->nlev[a], b->nlev[c]);
        if (status != LMM_OK) return status;
        add_piece(wa, p, wc, r, first, last);
    }
    return LMM_OK;
}

/* Diagonal blocks and edges of one factor. */
INLINE void add_to_levels(int w, int nb, int64_t n, const paired_rows *r, double *diag, double *edge)
{
    for (int64_t i = 0; i < n; i++) {
        const double *z = r->za + i * r->ncol;
        const ptrdiff_t l = r->a[i], ahead = r->a[i + AHEAD < n ? i + AHEAD : n - 1];
        __builtin_prefetch(diag + ahead * w * w, 1);
        __builtin_prefetch(edge + ahead * w * nb, 1);
        add_outer(w, w, z, z, diag + l * w * w, w);
        add_outer(w, nb, z, r->zc + i * r->ncol, edge + l * w * nb, nb);
    }
}

CLONES static void add_levels(int w, int nb, int64_t n, const paired_rows *r, double *diag, double *edge)
{
    BY_WIDTH(w, add_to_levels, nb, n, r, diag, edge);
}

static void add_corner(lmm_blocks *b, const lmm_blas *blas, int64_t n, const double *edge, int ncol)
{
    char lower = 'L', none = 'N';
    int nb = b->border;
    double one = 1;
    for (int64_t first = 0; first < n; first += PIECE) {
        int some = n - first < PIECE ? (int)(n - first) : PIECE;
        blas->syrk(&lower, &none, &nb, &some, &one, (double *)edge + first * ncol, &ncol, &one, b->corner,
                   &nb);
    }
    mirror(nb, b->corner, nb);
}

lmm_status lmm_blocks_add(lmm_blocks *b, const lmm_blas *blas, int64_t n, const int32_t *const *level,
                          const int32_t *nlev, const double *rows)
{
    int32_t ncol = b->border, at = 0;
    for (int k = 0; k < b->nfactor; k++) {
        ncol += b->width[k];
        if (grow_levels(b, k, nlev[k]) != LMM_OK) return LMM_NOMEM;
    }
    const double *edge = rows + ncol - b->border;
    for (int a = 0; a < b->nfactor; at += b->width[a++]) {
        const int w = b->width[a];
        paired_rows r = {level[a], NULL, rows + at, edge, ncol};
        add_levels(w, b->border, n, &r, b->diag[a], b->edge[a]);
        for (int c = a + 1, to = at + w; c < b->nfactor; to += b->width[c++]) {
            r.c = level[c];
            r.zc = rows + to;
            if (add_pairs(b, a, c, n, &r) != LMM_OK) return LMM_NOMEM;
        }
    }
    add_corner(b, blas, n, edge, ncol);
    return LMM_OK;
}

static void add_scaled(size_t n, double sign, const double *x, double *y)
{
    for (size_t i = 0; i < n; i++) y[i] += sign * x[i];
}

lmm_status lmm_blocks_merge(lmm_blocks *b, const lmm_blocks *other, const int32_t *const *map,
                            const int32_t *nlev, double sign)
{
    for (int a = 0; a < b->nfactor; a++)
        if (grow_levels(b, a, nlev[a]) != LMM_OK) return LMM_NOMEM;
    for (int a = 0; a < b->nfactor; a++) {
        const size_t ww = (size_t)b->width[a] * (size_t)b->width[a],
                     we = (size_t)b->width[a] * (size_t)b->border;
        for (int32_t l = 0; l < other->nlev[a]; l++) {
            const size_t to = (size_t)map[a][l];
            add_scaled(ww, sign, other->diag[a] + (size_t)l * ww, b->diag[a] + to * ww);
            add_scaled(we, sign, other->edge[a] + (size_t)l * we, b->edge[a] + to * we);
        }
        for (int c = a + 1; c < b->nfactor; c++) {
            const lmm_pairs *from = lmm_pairs_of(other, a, c);
            lmm_pairs *p = pairs_between(b, a, c);
            const size_t size = (size_t)b->width[a] * (size_t)b->width[c];
            for (int64_t i = 0; i < from->count; i++) {
                if (i % PIECE == 0) {
                    const int64_t left = from->count - i;
                    const int64_t some = left < PIECE ? left : PIECE;
                    if (reserve(p, some, size, b->nlev[a], b->nlev[c]) != LMM_OK) return LMM_NOMEM;
                }
                add_scaled(size, sign, from->value + (size_t)i * size,
                           block_of(p, map[a][from->a[i]], map[c][from->b[i]], size));
            }
        }
    }
    add_scaled((size_t)b->border * (size_t)b->border, sign, other->corner, b->corner);
    return LMM_OK;
}

lmm_status lmm_blocks_set(lmm_blocks *b, int k, int32_t m, const double *diag, const double *edge)
{
    const size_t w = (size_t)b->width[k];
    if (grow_levels(b, k, m) != LMM_OK) return LMM_NOMEM;
    memcpy(b->diag[k], diag, sizeof(double) * (size_t)m * w * w);
    memcpy(b->edge[k], edge, sizeof(double) * (size_t)m * w * (size_t)b->border);
    return LMM_OK;
}

lmm_status lmm_blocks_set_pairs(lmm_blocks *b, int a, int c, int64_t n, const int32_t *la, const int32_t *lc,
                                const double *value)
{
    lmm_pairs *p = pairs_between(b, a, c);
    const size_t size = (size_t)b->width[a] * (size_t)b->width[c];
    if (reserve(p, n, size, b->nlev[a], b->nlev[c]) != LMM_OK) return LMM_NOMEM;
    for (int64_t i = 0; i < n; i++)
        add_scaled(size, 1, value + (size_t)i * size, block_of(p, la[i], lc[i], size));
    return LMM_OK;
}

/* order := the pairs by their first level, then by their second: two stable counting sorts */
lmm_status lmm_blocks_order(const lmm_blocks *b, int a, int c, int64_t *order)
{
    const lmm_pairs *p = lmm_pairs_of(b, a, c);
    const int32_t most = b->nlev[a] > b->nlev[c] ? b->nlev[a] : b->nlev[c];
    int64_t *start = malloc(sizeof(int64_t) * ((size_t)most + 1));
    int64_t *half = malloc(sizeof(int64_t) * (size_t)(p->count + 1));
    if (!start || !half) {
        free(start), free(half);
        return LMM_NOMEM;
    }
    for (int pass = 0; pass < 2; pass++) {
        const int32_t *key = pass ? p->a : p->b, m = pass ? b->nlev[a] : b->nlev[c];
        memset(start, 0, sizeof(int64_t) * ((size_t)m + 1));
        for (int64_t i = 0; i < p->count; i++) start[key[i] + 1]++;
        for (int32_t l = 0; l < m; l++) start[l + 1] += start[l];
        for (int64_t i = 0; i < p->count; i++) {
            const int64_t from = pass ? half[i] : i;
            (pass ? order : half)[start[key[from]]++] = from;
        }
    }
    free(start), free(half);
    return LMM_OK;
}
