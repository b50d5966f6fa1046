/* Sparse Cholesky factorization by supernodes, and the selected inverse.

   A supernode (here: panel) is a run of columns J of L with one list of rows below them, I. Its values are
   one dense block, [L_JJ; L_IJ]. Every entry of L and of the inverse is written by its own panel, which
   only reads others, descendants for L and ancestors for the inverse:

     L_J     from  M_J - sum over descendants d of L_d L_d[J]',  then L_JJ = chol, L_IJ := L_IJ L_JJ^-T
     S_IJ = -S_II Y,  S_JJ = (L_JJ L_JJ')^-1 - Y'S_IJ,  Y = L_IJ L_JJ^-1,  S = M^-1

   Whatever S_II needs is on the pattern of L. So subtrees can be computed side by side, and within the
   panels above them rows can; tiles have fixed sizes, and no result depends on who computes it. */

#include "supernodal.h"
#include "small.h"
#include <stdlib.h>

#define PANEL 256    /* columns of a panel, at most; of a strip of S_II                             */
#define TILE 512     /* rows of a panel that are computed together, at most; not below PANEL        */
#define ACROSS 128   /* columns of S_IJ that are                                                    */
#define SPLIT 64     /* columns of S_JJ that are                                                    */
#define SIDES 64     /* right-hand sides that are                                                   */
#define FEW 8        /* right-hand sides for which loops beat BLAS                                  */
#define NARROW 8     /* columns for which they do                                                   */
#define SMALL 256    /* entries of an update for which they do                                      */
#define DIRECT 32    /* columns of an ancestor that are worth a product of their own                */
#define COLUMNS 4096 /* columns of the matrix that are copied together                              */
#define PARTS 32     /* a subtree for one thread has at most this fraction of the work              */
#define LARGE 1e6    /* multiplications that are worth sharing out                                  */

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

struct supernodal {
    lmm_blas blas;
    int32_t n, np;        /* columns, panels                                                */
    const ptrdiff_t *ptr; /* the matrix, as given                                           */
    const int32_t *row;
    int32_t *perm, *inv;                  /* n     column eliminated as the i-th, and back                  */
    int32_t *cycle, ncycle;               /* one member of each cycle of perm                               */
    int32_t *first;                       /* np+1  first column                                             */
    int32_t *panel;                       /* n     of each column                                           */
    int32_t *rows, *nrow;                 /* row numbers, own columns first, ascending; np: how many        */
    ptrdiff_t *list, *val;                /* np    where they start; np+1  where values start               */
    ptrdiff_t *use;                       /* np+1  where the descendants start that meet a panel:           */
    int32_t *from, *at;                   /*       their numbers, and the first of their rows that meet it  */
    double *work;                         /* np    multiplications                                          */
    uint8_t *top;                         /* np    not in a subtree that is computed by one thread          */
    int32_t chunk[4 * PARTS + 2], nchunk; /* ranges of panels, each with whole subtrees           */
    int32_t below, wide;                  /* most rows below a panel, most columns                          */
    double flops;
    double *L;        /* values, then those of the inverse                              */
    ptrdiff_t *where; /* place in L of each entry of the matrix                         */
    double *buffer;   /* per thread: size doubles, 2n integers                          */
    int32_t *map;
    ptrdiff_t size;
};

static char left = 'L', right = 'R', lower = 'L', none = 'N', trans = 'T';
static double one = 1, zero = 0, minus = -1;

/* ------------------------------------------------------------------------------------- analysis -- */

static void *array(ptrdiff_t count, size_t size)
{
    return malloc(MAX((size_t)count, 1) * size);
}

#define INTS(count) array(count, sizeof(int32_t))

/* For each column in the order of elimination, the columns that it meets earlier (or later) in it.
   Replaces what start and with point to. */
static int pattern(const supernodal *sn, int later, ptrdiff_t **start, int32_t **with)
{
    const int32_t n = sn->n, *inv = sn->inv;
    free(*start);
    free(*with);
    ptrdiff_t *s = *start = calloc((size_t)n + 2, sizeof(ptrdiff_t));
    *with = NULL;
    if (!s) return 1;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t c = 0; c < n; c++)
            for (ptrdiff_t k = sn->ptr[c]; k < sn->ptr[c + 1]; k++) {
                if (sn->row[k] <= c) continue;
                const int32_t a = inv[c], b = inv[sn->row[k]];
                const int32_t key = later == (a < b) ? a : b;
                if (pass)
                    (*with)[s[key + 1]++] = a ^ b ^ key;
                else
                    s[key + 2]++;
            }
        if (pass) continue;
        for (int32_t c = 0; c < n; c++) s[c + 2] += s[c + 1];
        if (!(*with = INTS(s[n + 1]))) return 1;
    }
    return 0;
}

/* Elimination tree (Liu). up: n integers */
static void tree(int32_t n, const ptrdiff_t *start, const int32_t *with, int32_t *parent, int32_t *up)
{
    for (int32_t j = 0; j < n; j++) {
        parent[j] = up[j] = -1;
        for (ptrdiff_t k = start[j]; k < start[j + 1]; k++)
            for (int32_t i = with[k], next; i != -1 && i < j; i = next) {
                next = up[i];
                up[i] = j;
                if (next == -1) parent[i] = j;
            }
    }
}

/* order[k]: the k-th node, children before parents, subtrees together. head, next: n+1 integers */
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

/* Entries in each column of L, diagonal included (Gilbert, Ng and Peyton). The tree is in postorder, parents
   and what each column meets later are given. s: 4n integers */
static void counts(int32_t n, const int32_t *parent, const ptrdiff_t *start, const int32_t *with,
                   int32_t *count, int32_t *s)
{
    int32_t *leaf = s, *seen = s + n, *previous = s + 2 * (ptrdiff_t)n, *up = s + 3 * (ptrdiff_t)n;
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
        for (ptrdiff_t k = start[j]; k < start[j + 1]; k++) {
            const int32_t i = with[k];
            if (leaf[j] <= seen[i]) continue; /* not a leaf of the subtree of row i */
            seen[i] = leaf[j];
            count[j]++;
            if (previous[i] != -1) { /* counted twice from the common ancestor up */
                int32_t q = previous[i];
                while (q != up[q]) q = up[q];
                for (int32_t a = previous[i], next; a != q; a = next) {
                    next = up[a];
                    up[a] = q;
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
static int acceptable(double w, double zeros, double rows)
{
    const double share = zeros / (w * (w + 1) / 2 + w * (rows - w));
    return w <= 4 || zeros == 0 || (w <= 24 && share < 0.5) || (w <= 48 && share < 0.1) || share < 0.05;
}

/* Supernodes: columns of one structure, then merged with the last child where few zeros are added.
   first: n+1, receives their first columns; number: n; count: rows at each first column on return.
   width: n integers, zeros: n. Returns their number. */
static int32_t supernodes(int32_t n, const int32_t *parent, int32_t *count, int32_t *first, int32_t *number,
                          int32_t *width, double *zeros)
{
    int32_t ns = 0;
    for (int32_t j = 0; j < n; j++)
        if (!j || parent[j - 1] != j || count[j - 1] != count[j] + 1) first[ns++] = j;
    first[ns] = n;
    for (int32_t k = ns - 1; k >= 0; k--) {
        const int32_t c = first[k], f = first[k + 1];
        width[k] = f - c;
        zeros[k] = 0;
        if (f == n || parent[f - 1] < 0 || parent[f - 1] >= f + width[k + 1]) continue;
        const double w = width[k], rows = w + count[f], sum = zeros[k + 1] + w * (rows - count[c]);
        if (!acceptable(w + width[k + 1], sum, rows)) continue;
        zeros[k] = sum;
        width[k] += width[k + 1];
        count[c] = (int32_t)rows;
    }
    int32_t kept = 0;
    for (int32_t j = 0, k = 0; j < n; kept++) {
        while (first[k] < j) k++; /* merged */
        first[kept] = j;
        for (const int32_t end = j + width[k]; j < end; j++) number[j] = kept;
    }
    first[kept] = n;
    return kept;
}

/* Row numbers of all supernodes: row i belongs to those on the paths up to i from what i meets earlier.
   fill: ns, where each list starts, its end on return; mark: ns integers */
static void structure(const supernodal *sn, const int32_t *parent, const ptrdiff_t *start,
                      const int32_t *with, ptrdiff_t *fill, int32_t *mark, int32_t ns, const int32_t *first,
                      const int32_t *number)
{
    for (int32_t k = 0; k < ns; k++) mark[k] = -1;
    for (int32_t i = 0; i < sn->n; i++) {
        mark[number[i]] = i;
        sn->rows[fill[number[i]]++] = i;
        for (ptrdiff_t e = start[i]; e < start[i + 1]; e++)
            for (int32_t k = number[with[e]]; mark[k] != i; k = number[parent[first[k + 1] - 1]]) {
                mark[k] = i;
                sn->rows[fill[k]++] = i;
            }
    }
}

/* Panels of at most PANEL columns; those of one supernode share its list of rows. first: ns+1 */
static int split(supernodal *sn, int32_t ns, const int32_t *first, const ptrdiff_t *start)
{
    ptrdiff_t np = 0;
    for (int32_t k = 0; k < ns; k++) np += (first[k + 1] - first[k] + PANEL - 1) / PANEL;
    sn->np = (int32_t)np;
    sn->first = INTS(np + 1);
    sn->nrow = INTS(np);
    sn->list = array(np, sizeof(ptrdiff_t));
    sn->val = array(np + 1, sizeof(ptrdiff_t));
    sn->use = calloc((size_t)np + 2, sizeof(ptrdiff_t));
    sn->work = array(np, sizeof(double));
    sn->top = array(np, 1);
    if (!sn->first || !sn->nrow || !sn->list || !sn->val || !sn->use || !sn->work || !sn->top) return 1;
    np = sn->val[0] = 0;
    for (int32_t k = 0; k < ns; k++) {
        const int32_t w = first[k + 1] - first[k], parts = (w + PANEL - 1) / PANEL;
        const int32_t step = ((w + parts - 1) / parts + 7) / 8 * 8;
        for (int32_t c = 0; c < w; c += step, np++) {
            const int32_t wide = MIN(step, w - c), rows = (int32_t)(start[k + 1] - start[k]) - c;
            const double m = rows - wide;
            sn->first[np] = first[k] + c;
            sn->nrow[np] = rows;
            sn->list[np] = start[k] + c;
            sn->val[np + 1] = sn->val[np] + (ptrdiff_t)rows * wide;
            sn->work[np] = wide * ((double)wide * wide / 6 + m * wide / 2 + m * m / 2);
            sn->flops += sn->work[np];
            sn->wide = MAX(sn->wide, wide);
            sn->below = MAX(sn->below, rows - wide);
            for (int32_t j = 0; j < wide; j++) sn->panel[first[k] + c + j] = (int32_t)np;
        }
    }
    sn->np = (int32_t)np; /* steps are rounded up */
    sn->first[np] = sn->n;
    return 0;
}

/* The descendants of each panel, in ascending order */
static int descendants(supernodal *sn)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t d = 0; d < sn->np; d++) {
            const int32_t *rows = sn->rows + sn->list[d];
            for (int32_t i = sn->first[d + 1] - sn->first[d], s = -1; i < sn->nrow[d]; i++) {
                if (sn->panel[rows[i]] == s) continue;
                s = sn->panel[rows[i]];
                if (pass) {
                    sn->from[sn->use[s + 1]] = d;
                    sn->at[sn->use[s + 1]++] = i;
                } else
                    sn->use[s + 2]++;
            }
        }
        if (pass) break;
        for (int32_t s = 0; s < sn->np; s++) sn->use[s + 2] += sn->use[s + 1];
        sn->from = INTS(sn->use[sn->np + 1]);
        sn->at = INTS(sn->use[sn->np + 1]);
        if (!sn->from || !sn->at) return 1;
    }
    return 0;
}

/* Ranges of panels that hold whole subtrees of limited work; the panels above them are marked. sum: np */
static void chunks(supernodal *sn, double *sum)
{
    const int32_t np = sn->np;
    double collected = 0;
    for (int32_t s = 0; s < np; s++) sum[s] = sn->work[s];
    for (int pass = 0; pass < 2; pass++)
        for (int32_t s = 0; s < np; s++) {
            const int32_t w = sn->first[s + 1] - sn->first[s];
            const int32_t p = w < sn->nrow[s] ? sn->panel[sn->rows[sn->list[s] + w]] : -1;
            if (!pass) {
                if (p >= 0) sum[p] += sum[s];
                sn->top[s] = sum[s] > sn->flops / PARTS;
                continue;
            }
            if (!sn->top[s]) collected += sn->work[s];
            if (sn->top[s] || (p >= 0 && !sn->top[p])) continue; /* not the root of a subtree */
            if (collected <= sn->flops / (4 * PARTS)) continue;
            collected = 0;
            sn->chunk[++sn->nchunk] = s + 1;
        }
    if (sn->chunk[sn->nchunk] < np) sn->chunk[++sn->nchunk] = np;
}

/* A member of each cycle of the permutation. seen: n bytes of zero */
static void cycles(supernodal *sn, uint8_t *seen)
{
    for (int32_t i = 0; i < sn->n; i++) {
        if (seen[i]) continue;
        if (sn->perm[i] != i) sn->cycle[sn->ncycle++] = i;
        for (int32_t j = i; !seen[j]; j = sn->perm[j]) seen[j] = 1;
    }
}

/* perm and the tree are rewritten in postorder. s: 4(n+1) integers */
static void relabel(supernodal *sn, int32_t *parent, int32_t *s)
{
    const int32_t n = sn->n;
    int32_t *order = s, *old = s + n, *back = s + 2 * (ptrdiff_t)n + 1;
    postorder(n, parent, order, old, back);
    memcpy(old, parent, sizeof(int32_t) * (size_t)n);
    for (int32_t k = 0; k < n; k++) back[order[k]] = k;
    for (int32_t k = 0; k < n; k++) parent[k] = old[order[k]] < 0 ? -1 : back[old[order[k]]];
    memcpy(old, sn->perm, sizeof(int32_t) * (size_t)n);
    for (int32_t k = 0; k < n; k++) {
        sn->perm[k] = old[order[k]];
        sn->inv[sn->perm[k]] = k;
    }
}

typedef struct { /* what only the analysis needs */
    ptrdiff_t *start, *fill;
    int32_t *with, *parent, *count, *first, *s;
    double *zeros;
} analysis;

/* The supernodes and their rows; nonzero without memory */
static int analyse(supernodal *sn, analysis *a)
{
    const int32_t n = sn->n;
    if (pattern(sn, 0, &a->start, &a->with)) return 1;
    tree(n, a->start, a->with, a->parent, a->s);
    relabel(sn, a->parent, a->s);
    cycles(sn, memset(a->s, 0, (size_t)n));
    if (pattern(sn, 1, &a->start, &a->with)) return 1;
    counts(n, a->parent, a->start, a->with, a->count, a->s);
    const int32_t ns = supernodes(n, a->parent, a->count, a->first, sn->panel, a->s, a->zeros);
    if (pattern(sn, 0, &a->start, &a->with)) return 1;
    ptrdiff_t total = 0;
    for (int32_t k = 0; k < ns; total += a->count[a->first[k++]]) a->fill[k] = total;
    if (!(sn->rows = INTS(total))) return 1;
    structure(sn, a->parent, a->start, a->with, a->fill, a->s, ns, a->first, sn->panel);
    for (int32_t k = ns; k > 0; k--) a->fill[k] = a->fill[k - 1]; /* ends, now starts again */
    a->fill[0] = 0;
    if (split(sn, ns, a->first, a->fill) || descendants(sn)) return 1;
    chunks(sn, a->zeros);
    return 0;
}

lmm_status supernodal_analyse(supernodal **out, int32_t n, const ptrdiff_t *ptr, const int32_t *row,
                              const int32_t *perm, const lmm_blas *blas)
{
    supernodal *sn = *out = calloc(1, sizeof *sn);
    if (!sn) return LMM_NOMEM;
    *sn = (supernodal){.blas = *blas, .n = n, .ptr = ptr, .row = row};
    sn->perm = INTS(n);
    sn->inv = INTS(n);
    sn->cycle = INTS(n);
    sn->panel = INTS(n);
    analysis a = {.fill = array((ptrdiff_t)n + 1, sizeof(ptrdiff_t)),
                  .zeros = array(n, sizeof(double)),
                  .parent = INTS(n),
                  .count = INTS(n),
                  .first = INTS((ptrdiff_t)n + 1),
                  .s = INTS(4 * ((ptrdiff_t)n + 1))};
    int failed = !sn->perm || !sn->inv || !sn->cycle || !sn->panel || !a.fill || !a.zeros || !a.parent ||
                 !a.count || !a.first || !a.s;
    if (!failed) {
        for (int32_t i = 0; i < n; i++) sn->inv[sn->perm[i] = perm[i]] = i;
        failed = analyse(sn, &a);
    }
    free(a.start);
    free(a.with);
    free(a.fill);
    free(a.zeros);
    free(a.parent);
    free(a.count);
    free(a.first);
    free(a.s);
    if (failed) {
        supernodal_free(sn);
        *out = NULL;
        return LMM_NOMEM;
    }
    const ptrdiff_t inverse = (ptrdiff_t)sn->below * (sn->wide + MIN(sn->below, PANEL));
    sn->size =
        MAX(MAX(inverse, ((ptrdiff_t)sn->below + sn->wide) * SIDES), (ptrdiff_t)MIN(sn->n, TILE) * sn->wide);
    return LMM_OK;
}

double supernodal_flops(const supernodal *sn)
{
    return sn->flops;
}

double supernodal_bytes(const supernodal *sn)
{
    return 8.0 * (double)(sn->val[sn->np] + sn->size + sn->n + (sn->n ? sn->ptr[sn->n] : 0));
}

lmm_status supernodal_allocate(supernodal *sn, int threads)
{
    const ptrdiff_t nz = sn->n ? sn->ptr[sn->n] : 0;
    sn->L = array(sn->val[sn->np], sizeof(double));
    sn->where = array(nz, sizeof(ptrdiff_t));
    sn->buffer = array(sn->size * threads, sizeof(double));
    sn->map = INTS(2 * (ptrdiff_t)sn->n * threads);
    if (!sn->L || !sn->where || !sn->buffer || !sn->map) return LMM_NOMEM;
    for (int32_t c = 0; c < sn->n; c++)
        for (ptrdiff_t k = sn->ptr[c]; k < sn->ptr[c + 1]; k++) {
            const int32_t a = sn->inv[c], b = sn->inv[sn->row[k]], j = MIN(a, b), i = MAX(a, b);
            const int32_t s = sn->panel[j], *rows = sn->rows + sn->list[s];
            int32_t low = 0, high = MIN(sn->nrow[s] - 1, i - sn->first[s]);
            if (rows[high] == i) low = high;
            while (rows[low] != i) { /* stands in (low, high) */
                const int32_t middle = low + (high - low) / 2;
                *(rows[middle] <= i ? &low : &high) = middle;
            }
            sn->where[k] = sn->val[s] + low + (ptrdiff_t)(j - sn->first[s]) * sn->nrow[s];
        }
    return LMM_OK;
}

void supernodal_free(supernodal *sn)
{
    if (!sn) return;
    void *owned[] = {sn->perm, sn->inv,  sn->cycle, sn->panel, sn->rows,   sn->first,
                     sn->nrow, sn->list, sn->val,   sn->use,   sn->work,   sn->top,
                     sn->from, sn->at,   sn->L,     sn->where, sn->buffer, sn->map};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    free(sn);
}

/* --------------------------------------------------------------------------------------- kernels -- */

INLINE double dot(ptrdiff_t n, const double *x, const double *y)
{
    double s[4] = {0}, rest = 0;
    ptrdiff_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++) s[j] += x[i + j] * y[i + j];
    for (; i < n; i++) rest += x[i] * y[i];
    return (s[0] + s[2]) + (s[1] + s[3]) + rest;
}

/* X (n x w) := X L^-1 (L: w x w lower) */
INLINE void divide(ptrdiff_t n, int w, const double *L, ptrdiff_t ld, double *X)
{
    for (int j = w - 1; j >= 0; j--) {
        double *x = X + j * ld;
        for (int l = j + 1; l < w; l++)
            for (ptrdiff_t i = 0; i < n; i++) x[i] -= X[i + l * ld] * L[l + j * ld];
        const double d = 1 / L[j + j * ld];
        for (ptrdiff_t i = 0; i < n; i++) x[i] *= d;
    }
}

/* (L L')^-1 in place of L, lower */
INLINE void invert_block(int w, double *L, ptrdiff_t ld)
{
    for (int j = w - 1; j >= 0; j--) {
        double *x = L + j * ld;
        x[j] = 1 / x[j];
        for (int i = w - 1; i > j; i--) {
            double s = 0;
            for (int k = j + 1; k <= i; k++) s += L[i + k * ld] * x[k];
            x[i] = -s * x[j];
        }
    }
    for (int j = 0; j < w; j++)
        for (int i = j; i < w; i++) {
            double s = 0;
            for (int k = i; k < w; k++) s += L[k + i * ld] * L[k + j * ld];
            L[i + j * ld] = s;
        }
}

/* Cholesky factor of a panel of r rows: all of it. Nonzero if not positive definite */
INLINE int factor_block(int r, int w, double *L, ptrdiff_t ld)
{
    for (int j = 0; j < w; j++) {
        double *x = L + j * ld;
        int l = 0;
        for (; l + 4 <= j; l += 4) {
            const double *y = L + l * ld, a = y[j], b = y[j + ld], c = y[j + 2 * ld], d = y[j + 3 * ld];
            for (int i = j; i < r; i++)
                x[i] -= (y[i] * a + y[i + ld] * b) + (y[i + 2 * ld] * c + y[i + 3 * ld] * d);
        }
        for (; l < j; l++)
            for (int i = j; i < r; i++) x[i] -= L[i + l * ld] * L[j + l * ld];
        if (!(x[j] > 0)) return 1;
        x[j] = sqrt(x[j]);
        const double d = 1 / x[j];
        for (int i = j + 1; i < r; i++) x[i] *= d;
    }
    return 0;
}

/* --------------------------------------------------------------------------------- factorization -- */

INLINE int width(const supernodal *sn, int32_t s)
{
    return sn->first[s + 1] - sn->first[s];
}

INLINE double *buffer(const supernodal *sn, int worker)
{
    return sn->buffer + worker * sn->size;
}

INLINE int32_t *map(const supernodal *sn, int worker)
{
    return sn->map + 2 * (ptrdiff_t)worker * sn->n;
}

/* Rows of a tile: fewer where threads may share a panel */
INLINE int tile_rows(const supernodal *sn, int32_t s)
{
    const int part = ((sn->nrow[s] - width(sn, s)) / 4 + 63) / 64 * 64;
    return sn->top[s] ? MIN(MAX(part, 128), TILE) : TILE;
}

/* A panel is one tile if it is not high. Else its diagonal block is one. */
INLINE int tiles(const supernodal *sn, int32_t s)
{
    const int m = sn->nrow[s] - width(sn, s), rows = tile_rows(sn, s);
    return m <= rows ? 1 : 1 + (m + rows - 1) / rows;
}

INLINE int tile_start(const supernodal *sn, int32_t s, int i)
{
    return !i ? 0 : i == tiles(sn, s) ? sn->nrow[s] : width(sn, s) + (i - 1) * tile_rows(sn, s);
}

/* t NULL: all by this worker */
static void run(team *t, int worker, int64_t count, void (*body)(void *, int64_t, int), void *arg)
{
    if (t)
        team_run(t, count, body, arg);
    else
        for (int64_t i = 0; i < count; i++) body(arg, i, worker);
}

/* First of n ascending numbers that is not below x */
INLINE int bound(const int32_t *a, int n, int32_t x)
{
    int low = 0;
    while (low < n) {
        const int middle = low + (n - low) / 2;
        if (a[middle] < x)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

typedef struct { /* rows i0 .. i1-1 of descendant d times its rows j0 .. j1-1, for panel s */
    int32_t s, d;
    int i0, i1, j0, j1;
} update;

/* L_s -= A_i A_j', w columns, by loops. rel: places of the rows i0 .. i1-1 in s */
INLINE void subtract_products(const int w, const supernodal *sn, const update *u, const int32_t *rel)
{
    const int32_t *rows = sn->rows + sn->list[u->d];
    const ptrdiff_t lda = sn->nrow[u->d], ld = sn->nrow[u->s];
    const int together = rel[u->i1 - u->i0 - 1] - rel[0] == u->i1 - u->i0 - 1;
    for (int j = u->j0; j < u->j1; j++) {
        const int i0 = MAX(u->i0, j), n = u->i1 - i0;
        const int32_t *place = rel + (i0 - u->i0);
        const double *A = sn->L + sn->val[u->d] + i0, *Aj = A - i0 + j;
        double a[NARROW], *to = sn->L + sn->val[u->s] + (rows[j] - sn->first[u->s]) * ld;
        for (int k = 0; k < w; k++) a[k] = Aj[k * lda];
        if (together && n > 0) to += place[0];
        for (int i = 0; i < n; i++) {
            double sum = A[i] * a[0];
            for (int k = 1; k < w; k++) sum += A[i + k * lda] * a[k];
            to[together ? i : place[i]] -= sum;
        }
    }
}

CLONES static void update_small(const supernodal *sn, const update *u, const int32_t *where, int32_t *rel)
{
    const int32_t *rows = sn->rows + sn->list[u->d];
    for (int i = u->i0; i < u->i1; i++) rel[i - u->i0] = where[rows[i]];
    BY_WIDTH(width(sn, u->d), subtract_products, sn, u, rel)
}

/* The same by BLAS; i and j are the same rows or disjoint ones. In place if they are together in s */
static void update_large(const supernodal *sn, const update *u, const int32_t *where, int32_t *rel, double *C)
{
    const int32_t *rows = sn->rows + sn->list[u->d], first = sn->first[u->s];
    int ni = u->i1 - u->i0, nj = u->j1 - u->j0, w = width(sn, u->d), lda = sn->nrow[u->d];
    const ptrdiff_t ld = sn->nrow[u->s];
    double *A = sn->L + sn->val[u->d], *L = sn->L + sn->val[u->s];
    const int together =
        where[rows[u->i1 - 1]] - where[rows[u->i0]] == ni - 1 && rows[u->j1 - 1] - rows[u->j0] == nj - 1;
    int ldc = together ? (int)ld : ni;
    double *to = together ? L + where[rows[u->i0]] + (rows[u->j0] - first) * ld : C;
    double *alpha = together ? &minus : &one, *beta = together ? &one : &zero;
    if (u->i0 == u->j0)
        sn->blas.syrk(&lower, &none, &nj, &w, alpha, A + u->j0, &lda, beta, to, &ldc);
    else
        sn->blas.gemm(&none, &trans, &ni, &nj, &w, alpha, A + u->i0, &lda, A + u->j0, &lda, beta, to, &ldc);
    if (together) return;
    for (int i = 0; i < ni; i++) rel[i] = where[rows[u->i0 + i]];
    for (int j = u->j0; j < u->j1; j++, C += ni) {
        to = L + (rows[j] - first) * ld;
        for (int i = MAX(j - u->i0, 0); i < ni; i++) to[rel[i]] -= C[i];
    }
}

/* What all descendants subtract from one tile of a panel */
static void update_tile(const supernodal *sn, int32_t s, int tile, const int32_t *where, int worker)
{
    const int single = tiles(sn, s) == 1;
    const int32_t *own = sn->rows + sn->list[s];
    const int32_t from = own[tile_start(sn, s, tile)], to = own[tile_start(sn, s, tile + 1) - 1];
    int32_t *rel = map(sn, worker) + sn->n;
    double *C = buffer(sn, worker);
    for (ptrdiff_t k = sn->use[s]; k < sn->use[s + 1]; k++) {
        update u = {.s = s, .d = sn->from[k], .j0 = sn->at[k]};
        const int32_t *rows = sn->rows + sn->list[u.d];
        const int end = sn->nrow[u.d], w = width(sn, u.d);
        for (u.j1 = u.j0 + 1; u.j1 < end && rows[u.j1] < sn->first[s + 1];) u.j1++;
        u.i0 = tile ? u.j1 + bound(rows + u.j1, end - u.j1, from) : u.j0;
        u.i1 = single ? end : tile ? u.j1 + bound(rows + u.j1, end - u.j1, to + 1) : u.j1;
        if (u.i0 == u.i1) continue;
        if (w <= 4 || (w <= NARROW && (u.i1 - u.i0) * (u.j1 - u.j0) < SMALL)) {
            update_small(sn, &u, where, rel);
            continue;
        }
        update block = u, rest = u;
        block.i1 = rest.i0 = MAX(u.i0, u.j1);
        if (!tile) update_large(sn, &block, where, rel, C);
        if (rest.i0 < rest.i1) update_large(sn, &rest, where, rel, C);
    }
}

/* The diagonal block; if it is not a tile of its own, everything */
CLONES static int factor_tile(const supernodal *sn, int32_t s)
{
    int r = sn->nrow[s], w = width(sn, s), m = r - w, info;
    double *L = sn->L + sn->val[s];
    const int single = tiles(sn, s) == 1;
    if (single && w <= NARROW) return factor_block(r, w, L, r);
    sn->blas.potrf(&lower, &w, L, &r, &info);
    if (single && m && !info) sn->blas.trsm(&right, &lower, &trans, &none, &m, &w, &one, L, &r, L + w, &r);
    return info;
}

typedef struct {
    const supernodal *sn;
    int32_t s;
    const int32_t *where; /* place of each row in s */
    int failed;
} panel_job;

static void update_body(void *arg, int64_t i, int worker)
{
    panel_job *a = arg;
    update_tile(a->sn, a->s, (int)i, a->where, worker);
    if (!i) a->failed = factor_tile(a->sn, a->s);
}

static void divide_body(void *arg, int64_t i, int worker)
{
    const panel_job *a = arg;
    const supernodal *sn = a->sn;
    const int start = tile_start(sn, a->s, (int)i + 1);
    int r = sn->nrow[a->s], w = width(sn, a->s), m = tile_start(sn, a->s, (int)i + 2) - start;
    double *L = sn->L + sn->val[a->s];
    (void)worker;
    sn->blas.trsm(&right, &lower, &trans, &none, &m, &w, &one, L, &r, L + start, &r);
}

static int factor_panel(const supernodal *sn, team *t, int32_t s, int worker)
{
    const int32_t *rows = sn->rows + sn->list[s], count = tiles(sn, s);
    int32_t *where = map(sn, worker);
    panel_job job = {sn, s, where, 0};
    for (int32_t i = 0; i < sn->nrow[s]; i++) where[rows[i]] = i;
    if (count == 1) {
        update_tile(sn, s, 0, where, worker);
        return factor_tile(sn, s);
    }
    if (t) {
        double columns = width(sn, s);
        for (ptrdiff_t k = sn->use[s]; k < sn->use[s + 1]; k++) columns += width(sn, sn->from[k]);
        if (columns * width(sn, s) * sn->nrow[s] < LARGE) t = NULL;
    }
    run(t, worker, count, update_body, &job);
    if (!job.failed) run(t, worker, count - 1, divide_body, &job);
    return job.failed;
}

typedef struct {
    supernodal *sn;
    const double *values;
    double *inverse;
    int failed[4 * PARTS + 1];
} whole_job;

/* What stands above the diagonal is not read, but written. */
static void load_body(void *arg, int64_t i, int worker)
{
    const whole_job *a = arg;
    const supernodal *sn = a->sn;
    (void)worker;
    for (int64_t c = i * COLUMNS; c < MIN(sn->n, (i + 1) * COLUMNS); c++)
        for (ptrdiff_t k = sn->ptr[c]; k < sn->ptr[c + 1]; k++)
            if (sn->row[k] >= c) sn->L[sn->where[k]] = a->values[k];
}

static void store_body(void *arg, int64_t i, int worker)
{
    const whole_job *a = arg;
    const supernodal *sn = a->sn;
    const ptrdiff_t end = sn->ptr[MIN(sn->n, (i + 1) * COLUMNS)];
    (void)worker;
    for (ptrdiff_t k = sn->ptr[i * COLUMNS]; k < end; k++) a->inverse[k] = sn->L[sn->where[k]];
}

static void factor_body(void *arg, int64_t i, int worker)
{
    whole_job *a = arg;
    const supernodal *sn = a->sn;
    for (int32_t s = sn->chunk[i]; s < sn->chunk[i + 1] && !a->failed[i]; s++)
        if (!sn->top[s]) a->failed[i] = factor_panel(sn, NULL, s, worker);
}

/* log|M|. Nonzero if it is not finite */
static int determinant(const supernodal *sn, double *logdet)
{
    double product = 1, exponents = 0; /* few logarithms */
    for (int32_t s = 0; s < sn->np; s++)
        for (ptrdiff_t j = 0; j < width(sn, s); j++) {
            const double d = sn->L[sn->val[s] + j * (sn->nrow[s] + 1)];
            int e;
            if (!(d > 0 && d < INFINITY)) return 1;
            product = frexp(product * d, &e);
            exponents += e;
        }
    *logdet = 2 * (log(product) + exponents * log(2));
    return 0;
}

int supernodal_factor(supernodal *sn, team *t, const double *values, double *logdet)
{
    whole_job a = {.sn = sn, .values = values};
    memset(sn->L, 0, sizeof(double) * (size_t)sn->val[sn->np]);
    team_run(t, (sn->n + COLUMNS - 1) / COLUMNS, load_body, &a);
    team_run(t, sn->nchunk, factor_body, &a);
    for (int32_t i = 0; i < sn->nchunk; i++)
        if (a.failed[i]) return 1;
    for (int32_t s = 0; s < sn->np; s++)
        if (sn->top[s] && factor_panel(sn, t, s, 0)) return 1;
    return determinant(sn, logdet);
}

/* -------------------------------------------------------------------------------- right-hand sides -- */

typedef struct {
    const supernodal *sn;
    int r, part;
    double *X;
} solve_job;

/* Columns of X (n columns of r) in the order of perm, or back, by exchanges along its cycles */
static void permute(const supernodal *sn, int back, int n, double *X, ptrdiff_t r)
{
    const int32_t *order = back ? sn->inv : sn->perm;
    for (int32_t c = 0; c < sn->ncycle; c++)
        for (int32_t i = sn->cycle[c], j; (j = order[i]) != sn->cycle[c]; i = j)
            for (int t = 0; t < n; t++) {
                const double x = X[t + i * r];
                X[t + i * r] = X[t + j * r];
                X[t + j * r] = x;
            }
}

/* k columns of L against n right-hand sides, from the first of them down; k <= 4 */
INLINE void forward_columns(const int n, const int k, int high, const double *L, ptrdiff_t ld, double *x)
{
    double own[4 * FEW];
    for (int j = 0; j < k; j++)
        for (int t = 0; t < n; t++) {
            double sum = x[t + j * n];
            for (int l = 0; l < j; l++) sum -= own[t + l * n] * L[j + l * ld];
            x[t + j * n] = own[t + j * n] = sum / L[j + j * ld];
        }
    for (int i = k; i < high; i++)
        for (int t = 0; t < n; t++) {
            double sum = own[t] * L[i];
            for (int l = 1; l < k; l++) sum += own[t + l * n] * L[i + l * ld];
            x[t + i * n] -= sum;
        }
}

INLINE void backward_columns(const int n, const int k, int high, const double *L, ptrdiff_t ld, double *x)
{
    double sum[4 * FEW] = {0};
    for (int i = k; i < high; i++)
        for (int l = 0; l < k; l++)
            for (int t = 0; t < n; t++) sum[t + l * n] += x[t + i * n] * L[i + l * ld];
    for (int j = k - 1; j >= 0; j--)
        for (int t = 0; t < n; t++) {
            for (int l = j + 1; l < k; l++) sum[t + j * n] += x[t + l * n] * L[l + j * ld];
            x[t + j * n] = (x[t + j * n] - sum[t + j * n]) / L[j + j * ld];
        }
}

/* Few right-hand sides: their part in the rows of a panel side by side, then by loops over its columns */
INLINE void solve_small(const int n, const supernodal *sn, int32_t s, int back, double *X, ptrdiff_t r,
                        double *x)
{
    const int32_t *rows = sn->rows + sn->list[s], w = width(sn, s), high = sn->nrow[s];
    const double *L = sn->L + sn->val[s];
    const ptrdiff_t ld = high;
    for (int i = 0; i < high; i++)
        for (int t = 0; t < n; t++) x[t + i * n] = X[t + rows[i] * r];
    if (!back) {
        int j = 0;
        for (; j + 4 <= w; j += 4) forward_columns(n, 4, high - j, L + j * (ld + 1), ld, x + j * n);
        for (; j < w; j++) forward_columns(n, 1, high - j, L + j * (ld + 1), ld, x + j * n);
    } else {
        int j = w;
        for (; j % 4; j--) backward_columns(n, 1, high - j + 1, L + (j - 1) * (ld + 1), ld, x + (j - 1) * n);
        for (; j; j -= 4) backward_columns(n, 4, high - j + 4, L + (j - 4) * (ld + 1), ld, x + (j - 4) * n);
    }
    for (int i = 0; i < (back ? w : high); i++)
        for (int t = 0; t < n; t++) X[t + rows[i] * r] = x[t + i * n];
}

/* Forward: X_J := X_J L_JJ^-T, X_I -= X_J L_IJ'. Back: X_J := (X_J - X_I L_IJ) L_JJ^-1. X_I moves by C. */
static void solve_large(int n, const supernodal *sn, int32_t s, int back, double *X, int r, double *C)
{
    int w = width(sn, s), ld = sn->nrow[s], m = ld - w;
    const int32_t *rows = sn->rows + sn->list[s] + w;
    double *L = sn->L + sn->val[s], *own = X + (ptrdiff_t)sn->first[s] * r;
    if (back) {
        for (int i = 0; i < m; i++)
            memcpy(C + (ptrdiff_t)i * n, X + (ptrdiff_t)rows[i] * r, sizeof(double) * (size_t)n);
        if (m) sn->blas.gemm(&none, &none, &n, &w, &m, &minus, C, &n, L + w, &ld, &one, own, &r);
        sn->blas.trsm(&right, &lower, &none, &none, &n, &w, &one, L, &ld, own, &r);
    } else {
        sn->blas.trsm(&right, &lower, &trans, &none, &n, &w, &one, L, &ld, own, &r);
        if (m) sn->blas.gemm(&none, &trans, &n, &m, &w, &one, own, &r, L + w, &ld, &zero, C, &n);
        for (int i = 0; i < m; i++, C += n)
            for (int t = 0; t < n; t++) X[t + (ptrdiff_t)rows[i] * r] -= C[t];
    }
}

CLONES static void solve_panel(int n, const supernodal *sn, int32_t s, int back, double *X, int r, double *C)
{
    if (n > FEW)
        solve_large(n, sn, s, back, X, r, C);
    else
        BY_WIDTH(n, solve_small, sn, s, back, X, r, C)
}

static void solve_body(void *arg, int64_t i, int worker)
{
    const solve_job *a = arg;
    const supernodal *sn = a->sn;
    const int n = (int)MIN(SIDES, a->r - i * SIDES);
    double *X = a->X + i * SIDES, *C = buffer(sn, worker);
    if (a->part & 1) {
        permute(sn, 0, n, X, a->r);
        for (int32_t s = 0; s < sn->np; s++) solve_panel(n, sn, s, 0, X, a->r, C);
    }
    if (a->part & 2) {
        for (int32_t s = sn->np - 1; s >= 0; s--) solve_panel(n, sn, s, 1, X, a->r, C);
        permute(sn, 1, n, X, a->r);
    }
}

void supernodal_solve(const supernodal *sn, team *t, int r, double *X, int part)
{
    solve_job a = {sn, r, part, X};
    team_run(t, (r + SIDES - 1) / SIDES, solve_body, &a);
}

/* -------------------------------------------------------------------------------- selected inverse -- */

typedef struct { /* a panel, and a strip of S_II: its columns start .. end-1, rows start .. m-1 */
    const supernodal *sn;
    int32_t s;
    const int32_t *I;
    int m, w, tile, start, end;
    double *L, *Y, *G;
    int ldg, direct; /* direct: G is part of an ancestor's values */
} strip;

/* Places in list of some of its numbers, ascending; the first stands at `at` or later */
static void locate(const int32_t *list, int length, int at, const int32_t *want, int count, int32_t *place)
{
    for (int i = 0; i < count; i++, at++) {
        const int32_t x = want[i];
        for (int step = 1; list[at] != x;) {
            const int last = MIN(length - 1, at + (x - list[at]));
            if (at + step <= last && list[at + step] <= x) { /* further, in growing steps */
                at += step;
                step *= 2;
            } else if (step > 1)
                step /= 2;
        }
        place[i] = at;
    }
}

/* Rows from .. to-1 of column range c .. end-1 of S_II, all of one ancestor; only i >= j. G: at (0, c) */
static void gather(const strip *a, int c, int end, int from, int to, double *G, int32_t *place)
{
    const supernodal *sn = a->sn;
    const int32_t p = sn->panel[a->I[c]], *rows = sn->rows + sn->list[p], first = sn->first[p];
    const ptrdiff_t ld = sn->nrow[p];
    from = MAX(from, c);
    const int at = a->I[c] - first;
    locate(rows, sn->nrow[p], from == c ? at : bound(rows, sn->nrow[p], a->I[from]), a->I + from, to - from,
           place);
    const int run = place[to - from - 1] - place[0] == to - from - 1;
    for (int j = c; j < end; j++, G += a->ldg) {
        const double *column = sn->L + sn->val[p] + (a->I[j] - first) * ld;
        const int i0 = MAX(from, j);
        if (i0 >= to) break;
        if (run)
            memcpy(G + i0, column + place[i0 - from], sizeof(double) * (size_t)(to - i0));
        else
            for (int i = i0; i < to; i++) G[i] = column[place[i - from]];
    }
}

/* Where the columns of the ancestor end to which row c of I belongs */
static int ancestor_end(const strip *a, int c)
{
    const int32_t end = a->sn->first[a->sn->panel[a->I[c]] + 1];
    for (c++; c < a->m && a->I[c] < end;) c++;
    return c;
}

/* The next strip: a wide part of one ancestor, in place if its rows follow each other there, or gathered */
static void next_strip(strip *a, double *G)
{
    const supernodal *sn = a->sn;
    a->start = a->end;
    a->end = ancestor_end(a, a->start);
    const int32_t p = sn->panel[a->I[a->start]], at = a->I[a->start] - sn->first[p];
    const int last = at + (a->m - a->start) - 1;
    a->direct = a->end - a->start >= MIN(DIRECT, a->m - a->start) && last < sn->nrow[p] &&
                sn->rows[sn->list[p] + last] == a->I[a->m - 1];
    if (a->direct) {
        a->ldg = sn->nrow[p];
        a->G = sn->L + sn->val[p] + at + (ptrdiff_t)at * a->ldg;
        return;
    }
    a->ldg = a->m - a->start;
    a->G = G;
    for (int end; a->end < a->m && (end = ancestor_end(a, a->end)) - a->start <= PANEL;) a->end = end;
}

/* Y = L_IJ L_JJ^-1 for a tile of rows, and zero in its place */
static void weights_body(void *arg, int64_t i, int worker)
{
    const strip *a = arg;
    int ld = a->sn->nrow[a->s], w = a->w, start = (int)i * a->tile, m = MIN(a->tile, a->m - start);
    double *from = a->L + w + start;
    (void)worker;
    a->sn->blas.trsm(&right, &lower, &none, &none, &m, &w, &one, a->L, &ld, from, &ld);
    for (int j = 0; j < w; j++, from += ld) {
        memcpy(a->Y + start + (ptrdiff_t)j * a->m, from, sizeof(double) * (size_t)m);
        memset(from, 0, sizeof(double) * (size_t)m);
    }
}

/* Rows of the strip below its diagonal block (the last tile: that block, gathered only) */
static void rows_body(void *arg, int64_t i, int worker)
{
    const strip *a = arg;
    const int below = (a->m - a->end + a->tile - 1) / a->tile;
    int start = i == below ? a->start : a->end + (int)i * a->tile;
    int end = i == below ? a->end : MIN(start + a->tile, a->m);
    if (!a->direct)
        for (int c = a->start, e; c < a->end; c = e) {
            e = ancestor_end(a, c);
            gather(a, c, e, start, end, a->G + (ptrdiff_t)(c - a->start) * a->ldg - a->start,
                   map(a->sn, worker) + a->sn->n);
        }
    if (i == below) return;
    int ld = a->sn->nrow[a->s], m = end - start, w = a->w, k = a->end - a->start, ldy = a->m;
    a->sn->blas.gemm(&none, &none, &m, &w, &k, &minus, a->G + (start - a->start), (int *)&a->ldg,
                     a->Y + a->start, &ldy, &one, a->L + w + start, &ld);
}

/* Columns of S_IJ in the rows of the strip's diagonal block */
static void block_body(void *arg, int64_t i, int worker)
{
    const strip *a = arg;
    const lmm_blas *blas = &a->sn->blas;
    int ld = a->sn->nrow[a->s], ldg = a->ldg, ldy = a->m, first = (int)i * ACROSS;
    int w = MIN(ACROSS, a->w - first), k = a->end - a->start, m = a->m - a->end;
    double *Y = a->Y + (ptrdiff_t)first * a->m, *to = a->L + a->w + a->start + (ptrdiff_t)first * ld;
    (void)worker;
    blas->symm(&left, &lower, &k, &w, &minus, a->G, &ldg, Y + a->start, &ldy, &one, to, &ld);
    if (m) blas->gemm(&trans, &none, &k, &w, &m, &minus, a->G + k, &ldg, Y + a->end, &ldy, &one, to, &ld);
}

/* Columns of S_JJ = (L_JJ L_JJ')^-1 - Y'S_IJ, from the diagonal down */
static void corner_body(void *arg, int64_t i, int worker)
{
    const strip *a = arg;
    int ld = a->sn->nrow[a->s], first = (int)i * SPLIT, high = a->w - first, w = MIN(SPLIT, high), m = a->m;
    double *Y = a->Y + (ptrdiff_t)first * m, *S = a->L + a->w + (ptrdiff_t)first * ld;
    (void)worker;
    a->sn->blas.gemm(&trans, &none, &high, &w, &m, &minus, Y, &m, S, &ld, &one,
                     a->L + first + (ptrdiff_t)first * ld, &ld);
}

static void both_body(void *arg, int64_t i, int worker)
{
    const int64_t blocks = (((const strip *)arg)->w + ACROSS - 1) / ACROSS; /* long parts first */
    if (i < blocks)
        block_body(arg, i, worker);
    else
        rows_body(arg, i - blocks, worker);
}

static void invert_large(strip *a, team *t, int worker)
{
    const supernodal *sn = a->sn;
    int w = a->w, ld = sn->nrow[a->s], blocks = (w + ACROSS - 1) / ACROSS, info;
    double *G = a->Y + (ptrdiff_t)a->m * w;
    if ((double)a->m * a->m * w < LARGE) t = NULL;
    run(t, worker, (a->m + a->tile - 1) / a->tile, weights_body, a);
    while (a->end < a->m) {
        next_strip(a, G);
        const int rows = (a->m - a->end + a->tile - 1) / a->tile;
        if (a->direct)
            run(t, worker, blocks + rows, both_body, a);
        else {
            run(t, worker, rows + 1, rows_body, a);
            run(t, worker, blocks, block_body, a);
        }
    }
    sn->blas.potri(&lower, &w, a->L, &ld, &info);
    if (a->m) run(t, worker, (w + SPLIT - 1) / SPLIT, corner_body, a);
}

/* One column of S_II from its diagonal entry g[0] = S_cc down: its part of S_IJ, and as row c */
INLINE void times_column(const int w, int n, const double *restrict g, const double *restrict Y,
                         ptrdiff_t ldy, double *restrict Z, ptrdiff_t ldz)
{
    double y[4], s[4][4] = {{0}};
    int i = 1;
    for (int t = 0; t < w; t++) y[t] = Y[t * ldy];
    for (; i + 4 <= n; i += 4)
        for (int t = 0; t < w; t++)
            for (int l = 0; l < 4; l++) {
                Z[i + l + t * ldz] -= g[i + l] * y[t];
                s[t][l] += g[i + l] * Y[i + l + t * ldy];
            }
    for (; i < n; i++)
        for (int t = 0; t < w; t++) {
            Z[i + t * ldz] -= g[i] * y[t];
            s[t][0] += g[i] * Y[i + t * ldy];
        }
    for (int t = 0; t < w; t++) Z[t * ldz] -= (s[t][0] + s[t][2]) + (s[t][1] + s[t][3]) + g[0] * y[t];
}

/* Few columns or few rows: S_II is used column by column */
CLONES static void invert_small(strip *a, int32_t *place)
{
    const supernodal *sn = a->sn;
    const int m = a->m, w = a->w;
    const ptrdiff_t ld = sn->nrow[a->s];
    double *Z = a->L + w, *g = a->Y + (ptrdiff_t)m * w;
    divide(m, w, a->L, ld, Z);
    for (int j = 0; j < w; j++) {
        memcpy(a->Y + (ptrdiff_t)j * m, Z + j * ld, sizeof(double) * (size_t)m);
        memset(Z + j * ld, 0, sizeof(double) * (size_t)m);
    }
    for (int c = 0, end; c < m; c = end) {
        const int32_t p = sn->panel[a->I[c]], *rows = sn->rows + sn->list[p], at = a->I[c] - sn->first[p];
        const int last = at + m - c - 1, run = last < sn->nrow[p] && rows[last] == a->I[m - 1];
        end = ancestor_end(a, c);
        if (!run) locate(rows, sn->nrow[p], at, a->I + c, m - c, place);
        for (int j = c; j < end; j++) {
            const double *column = sn->L + sn->val[p] + (a->I[j] - sn->first[p]) * (ptrdiff_t)sn->nrow[p];
            for (int i = j; !run && i < m; i++) g[i - j] = column[place[i - c]];
            const double *from = run ? column + at + (j - c) : g, *Y = a->Y + j;
            double *to = Z + j;
            int t = 0;
            for (; t + 4 <= w; t += 4) times_column(4, m - j, from, Y + (ptrdiff_t)t * m, m, to + t * ld, ld);
            Y += (ptrdiff_t)t * m;
            to += t * ld;
            switch (w - t) {
            case 1: times_column(1, m - j, from, Y, m, to, ld); break;
            case 2: times_column(2, m - j, from, Y, m, to, ld); break;
            case 3: times_column(3, m - j, from, Y, m, to, ld); break;
            }
        }
    }
    invert_block(w, a->L, ld);
    for (int j = 0; j < w; j++)
        for (int i = j; i < w; i++) a->L[i + j * ld] -= dot(m, a->Y + (ptrdiff_t)i * m, Z + j * ld);
}

static void invert_panel(const supernodal *sn, team *t, int32_t s, int worker)
{
    const int w = width(sn, s), m = sn->nrow[s] - w;
    strip a = {.sn = sn,
               .s = s,
               .I = sn->rows + sn->list[s] + w,
               .m = m,
               .w = w,
               .tile = tile_rows(sn, s),
               .L = sn->L + sn->val[s],
               .Y = buffer(sn, worker)};
    if (w <= NARROW || (w <= 4 * NARROW && m <= NARROW))
        invert_small(&a, map(sn, worker));
    else
        invert_large(&a, t, worker);
}

static void invert_body(void *arg, int64_t i, int worker)
{
    const whole_job *a = arg;
    const supernodal *sn = a->sn;
    const int64_t chunk = sn->nchunk - 1 - i;
    for (int32_t s = sn->chunk[chunk + 1] - 1; s >= sn->chunk[chunk]; s--)
        if (!sn->top[s]) invert_panel(sn, NULL, s, worker);
}

void supernodal_invert(supernodal *sn, team *t, double *inverse)
{
    whole_job a = {.sn = sn, .inverse = inverse};
    for (int32_t s = sn->np - 1; s >= 0; s--)
        if (sn->top[s]) invert_panel(sn, t, s, 0);
    team_run(t, sn->nchunk, invert_body, &a);
    team_run(t, (sn->n + COLUMNS - 1) / COLUMNS, store_body, &a);
}
