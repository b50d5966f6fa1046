/* The pattern of the supernodal factor: elimination tree, its postorder, rows of each column of L, columns
   of one structure as supernodes, these as panels; descendants of panels, subtrees that one thread
   computes, places of the matrix entries. And the memory that all this takes. */

#include "cholesky/panels.h"

typedef struct {        /* what only the analysis needs; columns in the order of elimination  */
    ptrdiff_t *start;   /* n+2  where each column's begin in with:                            */
    int32_t *with;      /*      its neighbours                                                */
    int32_t *parent;    /* n    elimination tree; -1: none                                    */
    int32_t *count;     /* n    rows of a column of L (of a supernode at its first column)    */
    int32_t ns;         /*      supernodes                                                    */
    int32_t *first;     /* n+1  their first columns                                           */
    ptrdiff_t *rowptr;  /* n+1  where their rows start                                        */
    double *zeros;      /* n    zeros stored in each                                          */
    double *work, *sum; /* n    multiplications for a panel, and for its subtree              */
    int32_t *scratch;   /* 4(n+1)                                                             */
} analysis;

enum { EARLIER, LATER };

/* Neighbours of each column (nonzero entries of its row and column) that are eliminated earlier, or later */
static int find_neighbours(const supernodal *sn, analysis *a, int when)
{
    const int32_t n = sn->n, *inv = sn->inv;
    free(a->start);
    free(a->with);
    ptrdiff_t *start = a->start = calloc((size_t)n + 2, sizeof(*start));
    a->with = NULL;
    if (!start) return 1;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t c = 0; c < n; c++)
            for (ptrdiff_t k = sn->ptr[c]; k < sn->ptr[c + 1]; k++) {
                if (sn->row[k] <= c) continue;
                const int32_t i = inv[c], j = inv[sn->row[k]], early = MIN(i, j), late = MAX(i, j);
                const int32_t column = when == LATER ? early : late;
                if (pass)
                    a->with[start[column + 1]++] = when == LATER ? late : early;
                else
                    start[column + 2]++;
            }
        if (pass) continue;
        for (int32_t c = 0; c < n; c++) start[c + 2] += start[c + 1];
        if (!(a->with = INTS(start[n + 1]))) return 1;
    }
    return 0;
}

/* Elimination tree (Liu) from the earlier neighbours */
static void make_tree(int32_t n, analysis *a)
{
    int32_t *up = a->scratch;
    for (int32_t j = 0; j < n; j++) {
        a->parent[j] = up[j] = -1;
        for (ptrdiff_t k = a->start[j]; k < a->start[j + 1]; k++)
            for (int32_t i = a->with[k], next; i != -1 && i < j; i = next) {
                next = up[i];
                up[i] = j;
                if (next == -1) a->parent[i] = j;
            }
    }
}

/* order[k]: the k-th node, children before parents, subtrees contiguous. head, next: n+1 integers */
static void postorder(int32_t n, const int32_t *parent, int32_t *order, int32_t *head, int32_t *next)
{
    for (int32_t j = 0; j <= n; j++) head[j] = -1;
    for (int32_t j = n - 1; j >= 0; j--) { /* roots: children of n */
        const int32_t p = parent[j] < 0 ? n : parent[j];
        next[j] = head[p];
        head[p] = j;
    }
    next[n] = -1;
    for (int32_t j = n, k = 0; j != -1;) { /* down to the first leaf, then across or up */
        if (head[j] != -1) {
            const int32_t child = head[j];
            head[j] = -1;
            j = child;
            continue;
        }
        if (j < n) order[k++] = j;
        j = next[j] != -1 ? next[j] : j == n ? -1 : parent[j] < 0 ? n : parent[j];
    }
}

/* perm and the tree are rewritten in postorder. */
static void relabel(supernodal *sn, analysis *a)
{
    const int32_t n = sn->n;
    int32_t *order = a->scratch, *old = order + n, *rank = old + n + 1;
    postorder(n, a->parent, order, old, rank);
    memcpy(old, a->parent, sizeof(*old) * (size_t)n);
    for (int32_t k = 0; k < n; k++) rank[order[k]] = k;
    for (int32_t k = 0; k < n; k++) a->parent[k] = old[order[k]] < 0 ? -1 : rank[old[order[k]]];
    memcpy(old, sn->perm, sizeof(*old) * (size_t)n);
    for (int32_t k = 0; k < n; k++) {
        sn->perm[k] = old[order[k]];
        sn->inv[sn->perm[k]] = k;
    }
}

/* A member of each cycle of the permutation */
static void find_cycles(supernodal *sn, analysis *a)
{
    uint8_t *seen = memset(a->scratch, 0, (size_t)sn->n);
    for (int32_t i = 0; i < sn->n; i++) {
        if (seen[i]) continue;
        if (sn->perm[i] != i) sn->cycle[sn->ncycle++] = i;
        for (int32_t j = i; !seen[j]; j = sn->perm[j]) seen[j] = 1;
    }
}

/* Rows in each column of L, the diagonal's included (Gilbert, Ng and Peyton), from the later neighbours and
   the tree in postorder */
static void count_rows(int32_t n, analysis *a)
{
    const int32_t *parent = a->parent;
    int32_t *leaf = a->scratch, *seen = leaf + n, *previous = seen + n, *up = previous + n, *count = a->count;
    for (int32_t j = 0; j < n; j++) {
        leaf[j] = seen[j] = previous[j] = -1;
        up[j] = j;
    }
    for (int32_t j = 0; j < n; j++) { /* leaf: first descendant; a leaf starts with one entry */
        count[j] = leaf[j] == -1;
        for (int32_t i = j; i != -1 && leaf[i] == -1; i = parent[i]) leaf[i] = j;
    }
    for (int32_t j = 0; j < n; j++) {
        if (parent[j] != -1) count[parent[j]]--;
        for (ptrdiff_t k = a->start[j]; k < a->start[j + 1]; k++) {
            const int32_t i = a->with[k];
            if (leaf[j] <= seen[i]) continue; /* not a leaf of the subtree of row i */
            seen[i] = leaf[j];
            count[j]++;
            if (previous[i] != -1) { /* counted twice from the common ancestor up */
                int32_t q = previous[i];
                while (q != up[q]) q = up[q];
                for (int32_t x = previous[i], next; x != q; x = next) {
                    next = up[x];
                    up[x] = q;
                }
                count[q]--;
            }
            previous[i] = j;
        }
        if (parent[j] != -1) up[j] = parent[j];
    }
    for (int32_t j = 0; j < n; j++)
        if (parent[j] != -1) count[parent[j]] += count[j];
}

/* Is it worth to store zeros to have w columns in one supernode? */
static int worth_merging(double w, double zeros, double rows)
{
    const double share = zeros / (w * (w + 1) / 2 + w * (rows - w));
    return w <= 4 || zeros == 0 || (w <= 24 && share < 0.5) || (w <= 48 && share < 0.1) || share < 0.05;
}

/* Supernodes: columns of one structure, then merged with the last child where few zeros are added.
   number: n, receives the supernode of each column */
static void find_supernodes(int32_t n, analysis *a, int32_t *number)
{
    const int32_t *parent = a->parent;
    int32_t *first = a->first, *count = a->count, *size = a->scratch, ns = 0;
    for (int32_t j = 0; j < n; j++)
        if (!j || parent[j - 1] != j || count[j - 1] != count[j] + 1) first[ns++] = j;
    first[ns] = n;
    for (int32_t k = ns - 1; k >= 0; k--) { /* k with k + 1, which may have grown */
        const int32_t c = first[k], next = first[k + 1];
        size[k] = next - c;
        a->zeros[k] = 0;
        if (next == n || parent[next - 1] < 0 || parent[next - 1] >= next + size[k + 1]) continue;
        const double w = size[k], rows = w + count[next], zeros = a->zeros[k + 1] + w * (rows - count[c]);
        if (!worth_merging(w + size[k + 1], zeros, rows)) continue;
        a->zeros[k] = zeros;
        size[k] += size[k + 1];
        count[c] = (int32_t)rows;
    }
    a->ns = 0;
    for (int32_t j = 0, k = 0; j < n; a->ns++) {
        while (first[k] < j) k++; /* merged */
        first[a->ns] = j;
        for (const int32_t end = j + size[k]; j < end; j++) number[j] = a->ns;
    }
    first[a->ns] = n;
}

/* Rows of all supernodes: row i belongs to those on the paths up to i from its earlier neighbours. number: of
   the supernode of each column */
static int list_rows(supernodal *sn, analysis *a, const int32_t *number)
{
    int32_t *last = a->scratch; /* row that each supernode had last */
    ptrdiff_t total = 0, *end = a->rowptr + 1;
    a->rowptr[0] = 0;
    for (int32_t k = 0; k < a->ns; k++) {
        last[k] = -1;
        end[k] = total;
        total += a->count[a->first[k]];
    }
    if (!(sn->rows = INTS(total))) return 1;
    for (int32_t i = 0; i < sn->n; i++) {
        last[number[i]] = i;
        sn->rows[end[number[i]]++] = i;
        for (ptrdiff_t e = a->start[i]; e < a->start[i + 1]; e++)
            for (int32_t k = number[a->with[e]]; last[k] != i; k = number[a->parent[a->first[k + 1] - 1]]) {
                last[k] = i;
                sn->rows[end[k]++] = i;
            }
    }
    return 0;
}

static int allocate_panels(supernodal *sn, ptrdiff_t np)
{
    sn->first = INTS(np + 1);
    sn->nrow = INTS(np);
    sn->rowptr = array(np, sizeof(*sn->rowptr));
    sn->valptr = array(np + 1, sizeof(*sn->valptr));
    sn->descptr = calloc((size_t)np + 2, sizeof(*sn->descptr));
    sn->top = array(np, sizeof(*sn->top));
    return !sn->first || !sn->nrow || !sn->rowptr || !sn->valptr || !sn->descptr || !sn->top;
}

/* Panels of at most PANEL columns; those of one supernode share its list of rows. */
static int make_panels(supernodal *sn, analysis *a)
{
    ptrdiff_t most = 0;
    for (int32_t k = 0; k < a->ns; k++) most += parts(a->first[k + 1] - a->first[k], PANEL);
    if (allocate_panels(sn, most)) return 1;
    sn->valptr[0] = 0;
    for (int32_t k = 0; k < a->ns; k++) {
        const int32_t w = a->first[k + 1] - a->first[k], even = (int32_t)parts(w, parts(w, PANEL));
        const int32_t step = (int32_t)parts(even, 8) * 8;
        for (int32_t c = 0; c < w; c += step) {
            const int32_t s = sn->np++, wide = MIN(step, w - c);
            const int32_t rows = (int32_t)(a->rowptr[k + 1] - a->rowptr[k]) - c;
            const double m = rows - wide;
            sn->first[s] = a->first[k] + c;
            sn->nrow[s] = rows;
            sn->rowptr[s] = a->rowptr[k] + c;
            sn->valptr[s + 1] = sn->valptr[s] + (ptrdiff_t)rows * wide;
            a->work[s] = wide * ((double)wide * wide / 6 + m * wide / 2 + m * m / 2);
            sn->flops += a->work[s];
            sn->maxwidth = MAX(sn->maxwidth, wide);
            sn->maxbelow = MAX(sn->maxbelow, rows - wide);
            for (int32_t j = 0; j < wide; j++) sn->panel[a->first[k] + c + j] = s;
        }
    }
    sn->first[sn->np] = sn->n;
    return 0;
}

/* The descendants of each panel, in ascending order */
static int find_descendants(supernodal *sn)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t d = 0; d < sn->np; d++)
            for (int32_t i = width(sn, d), last = -1; i < sn->nrow[d]; i++) {
                const int32_t s = sn->panel[rows_of(sn, d)[i]];
                if (s == last) continue;
                last = s;
                if (pass) {
                    sn->desc[sn->descptr[s + 1]] = d;
                    sn->inside[sn->descptr[s + 1]++] = i;
                } else
                    sn->descptr[s + 2]++;
            }
        if (pass) continue;
        for (int32_t s = 0; s < sn->np; s++) sn->descptr[s + 2] += sn->descptr[s + 1];
        sn->desc = INTS(sn->descptr[sn->np + 1]);
        sn->inside = INTS(sn->descptr[sn->np + 1]);
        if (!sn->desc || !sn->inside) return 1;
    }
    return 0;
}

/* Panel of the first row below panel s; -1: there is none */
static int32_t parent_of(const supernodal *sn, int32_t s)
{
    return below(sn, s) ? sn->panel[rows_of(sn, s)[width(sn, s)]] : -1;
}

/* Ranges of panels that hold whole subtrees of limited work; the panels above them are marked. */
static void make_chunks(supernodal *sn, analysis *a)
{
    double collected = 0;
    memcpy(a->sum, a->work, sizeof(*a->sum) * (size_t)sn->np);
    for (int32_t s = 0; s < sn->np; s++) {
        const int32_t p = parent_of(sn, s);
        if (p >= 0) a->sum[p] += a->sum[s];
        sn->top[s] = a->sum[s] > sn->flops / PARTS;
    }
    for (int32_t s = 0; s < sn->np; s++) {
        if (sn->top[s]) continue;
        collected += a->work[s];
        const int32_t p = parent_of(sn, s);
        if (p >= 0 && !sn->top[p]) continue; /* not the root of a subtree */
        if (collected <= sn->flops / (4 * PARTS)) continue;
        collected = 0;
        sn->chunk[++sn->nchunk] = s + 1;
    }
    if (sn->chunk[sn->nchunk] < sn->np) sn->chunk[++sn->nchunk] = sn->np;
}

/* All steps; nonzero without memory */
static int analyse(supernodal *sn, analysis *a)
{
    const int32_t n = sn->n;
    if (find_neighbours(sn, a, EARLIER)) return 1;
    make_tree(n, a);
    relabel(sn, a);
    find_cycles(sn, a);
    if (find_neighbours(sn, a, LATER)) return 1;
    count_rows(n, a);
    find_supernodes(n, a, sn->panel);
    if (find_neighbours(sn, a, EARLIER) || list_rows(sn, a, sn->panel)) return 1;
    if (make_panels(sn, a) || find_descendants(sn)) return 1;
    make_chunks(sn, a);
    const ptrdiff_t factor = (ptrdiff_t)MIN(n, TILE) * sn->maxwidth;
    const ptrdiff_t solve = ((ptrdiff_t)sn->maxbelow + sn->maxwidth) * SIDES;
    const ptrdiff_t inverse = (ptrdiff_t)sn->maxbelow * (sn->maxwidth + MIN(sn->maxbelow, PANEL));
    sn->room = MAX(MAX(factor, solve), inverse);
    return 0;
}

static void free_each(void **owned, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof(*owned); i++) free(owned[i]);
}

lmm_status supernodal_analyse(supernodal **out, int32_t n, const ptrdiff_t *ptr, const int32_t *row,
                              const int32_t *perm, const lmm_blas *blas)
{
    supernodal *sn = *out = malloc(sizeof(*sn));
    if (!sn) return LMM_NOMEM;
    *sn = (supernodal){.blas = *blas, .n = n, .ptr = ptr, .row = row};
    sn->perm = INTS(n);
    sn->inv = INTS(n);
    sn->cycle = INTS(n);
    sn->panel = INTS(n);
    analysis a = {.parent = INTS(n),
                  .count = INTS(n),
                  .first = INTS((ptrdiff_t)n + 1),
                  .rowptr = array((ptrdiff_t)n + 1, sizeof(*a.rowptr)),
                  .zeros = array(n, sizeof(*a.zeros)),
                  .work = array(n, sizeof(*a.work)),
                  .sum = array(n, sizeof(*a.sum)),
                  .scratch = INTS(4 * ((ptrdiff_t)n + 1))};
    int failed = !sn->perm || !sn->inv || !sn->cycle || !sn->panel || !a.parent || !a.count || !a.first ||
                 !a.rowptr || !a.zeros || !a.work || !a.sum || !a.scratch;
    if (!failed) {
        for (int32_t i = 0; i < n; i++) sn->inv[sn->perm[i] = perm[i]] = i;
        failed = analyse(sn, &a);
    }
    void *owned[] = {a.start,  a.with,  a.parent, a.count, a.first,
                     a.rowptr, a.zeros, a.work,   a.sum,   a.scratch};
    free_each(owned, sizeof(owned));
    if (!failed) return LMM_OK;
    supernodal_free(sn);
    *out = NULL;
    return LMM_NOMEM;
}

void supernodal_free(supernodal *sn)
{
    if (!sn) return;
    void *owned[] = {sn->perm, sn->inv,    sn->cycle,  sn->panel,   sn->rows,   sn->first,
                     sn->nrow, sn->rowptr, sn->valptr, sn->descptr, sn->desc,   sn->inside,
                     sn->top,  sn->L,      sn->spare,  sn->entry,   sn->buffer, sn->map};
    free_each(owned, sizeof(owned));
    free(sn);
}

double supernodal_flops(const supernodal *sn)
{
    return sn->flops;
}

static ptrdiff_t entries(const supernodal *sn)
{
    return sn->n ? sn->ptr[sn->n] : 0;
}

double supernodal_bytes(const supernodal *sn)
{
    return 8.0 * (double)(sn->valptr[sn->np] + sn->room + sn->n + entries(sn));
}

lmm_status supernodal_spare(supernodal *sn)
{
    if (!sn->spare) sn->spare = array(sn->valptr[sn->np], sizeof(*sn->spare));
    return sn->spare ? LMM_OK : LMM_NOMEM;
}

lmm_status supernodal_allocate(supernodal *sn)
{
    sn->L = array(sn->valptr[sn->np], sizeof(*sn->L));
    sn->entry = array(entries(sn), sizeof(*sn->entry));
    if (!sn->L || !sn->entry) return LMM_NOMEM;
    for (int32_t c = 0; c < sn->n; c++)
        for (ptrdiff_t k = sn->ptr[c]; k < sn->ptr[c + 1]; k++) {
            const int32_t a = sn->inv[c], b = sn->inv[sn->row[k]], j = MIN(a, b), i = MAX(a, b);
            const int32_t s = sn->panel[j], *rows = rows_of(sn, s);
            int place = MIN(sn->nrow[s] - 1, i - sn->first[s]); /* there, or above */
            if (rows[place] != i) place = bound(rows, place, i);
            sn->entry[k] = sn->valptr[s] + place + (ptrdiff_t)(j - sn->first[s]) * sn->nrow[s];
        }
    return supernodal_set_threads(sn, 1);
}
