/* Selected inverse: the entries of S = M^-1 on the pattern of L (panels.h), in its place.

     S_IJ = -S_II Y,  S_JJ = (L_JJ L_JJ')^-1 - Y'S_IJ,  Y = L_IJ L_JJ^-1

   Whatever S_II needs is on the pattern. Panels go from the last to the first: each reads only its ancestors,
   which are inverted then. S_II is read strip by strip of its columns. */

#include "cholesky/panels.h"

#define ACROSS 128 /* columns of S_IJ that are computed together                       */
#define CORNER 64  /* columns of S_JJ that are                                         */
#define DIRECT 32  /* columns of an ancestor that are worth a product of their own     */

static char left = 'L', right = 'R', lower = 'L', none = 'N', trans = 'T';
static double one = 1, minus = -1;

typedef struct { /* a panel, and a strip of S_II: its columns start .. end-1, rows start .. m-1 */
    const supernodal *sn;
    int32_t s;
    const int32_t *I;
    int m, w, tile, start, end;
    double *L, *Y;   /* the panel's values; Y: m x w, then room for G */
    double *G;       /* the strip */
    int ldg, direct; /* direct: G is part of an ancestor's values */
} strip;

/* --------------------------------------------------------------------------- S_II in ancestors -- */

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

/* The panel to whose columns row c of I belongs; at: its place there */
INLINE int32_t ancestor_of(const strip *a, int c, int *at)
{
    const int32_t p = a->sn->panel[a->I[c]];
    *at = a->I[c] - a->sn->first[p];
    return p;
}

/* Where the rows of I end that belong to the same panel as row c */
static int ancestor_end(const strip *a, int c)
{
    const int32_t end = a->sn->first[a->sn->panel[a->I[c]] + 1];
    for (c++; c < a->m && a->I[c] < end;) c++;
    return c;
}

/* Do rows c .. m-1 of I follow each other in panel p, from place `at` on? */
INLINE int in_place(const strip *a, int32_t p, int c, int at)
{
    const int last = at + a->m - c - 1;
    return last < a->sn->nrow[p] && rows_of(a->sn, p)[last] == a->I[a->m - 1];
}

/* G := rows from .. to-1 of columns c .. end-1 of S_II, which are one ancestor's; only i >= j. G: at (0, c)
 */
static void gather(const strip *a, int c, int end, int from, int to, double *G, int32_t *place)
{
    const supernodal *sn = a->sn;
    int at;
    const int32_t p = ancestor_of(a, c, &at), *rows = rows_of(sn, p);
    const ptrdiff_t ld = sn->nrow[p];
    from = MAX(from, c);
    if (from > c) at = bound(rows, sn->nrow[p], a->I[from]);
    locate(rows, sn->nrow[p], at, a->I + from, to - from, place);
    const int together = place[to - from - 1] - place[0] == to - from - 1;
    for (int j = c; j < end; j++, G += a->ldg) {
        const double *column = values_of(sn, p) + (a->I[j] - sn->first[p]) * ld;
        const int i0 = MAX(from, j);
        if (i0 >= to) break;
        if (together)
            memcpy(G + i0, column + place[i0 - from], sizeof(double) * (size_t)(to - i0));
        else
            for (int i = i0; i < to; i++) G[i] = column[place[i - from]];
    }
}

/* The next strip: a wide part of one ancestor, in place if its rows follow each other there, or gathered */
static void next_strip(strip *a, double *G)
{
    const supernodal *sn = a->sn;
    int at;
    a->start = a->end;
    a->end = ancestor_end(a, a->start);
    const int32_t p = ancestor_of(a, a->start, &at);
    a->direct = a->end - a->start >= MIN(DIRECT, a->m - a->start) && in_place(a, p, a->start, at);
    if (a->direct) {
        a->ldg = sn->nrow[p];
        a->G = values_of(sn, p) + at + (ptrdiff_t)at * a->ldg;
        return;
    }
    a->ldg = a->m - a->start;
    a->G = G;
    for (int end; a->end < a->m && (end = ancestor_end(a, a->end)) - a->start <= PANEL;) a->end = end;
}

/* ---------------------------------------------------------------------------- panels, by BLAS -- */

/* m rows of w columns go from X to Y and leave zeros. */
INLINE void move_rows(int m, int w, double *X, ptrdiff_t ldx, double *Y, ptrdiff_t ldy)
{
    for (int j = 0; j < w; j++, X += ldx, Y += ldy) {
        memcpy(Y, X, sizeof(double) * (size_t)m);
        memset(X, 0, sizeof(double) * (size_t)m);
    }
}

/* Y = L_IJ L_JJ^-1 for a tile of rows, and zero in its place */
static void weights_body(void *arg, int64_t i, int worker)
{
    const strip *a = arg;
    int ld = a->sn->nrow[a->s], w = a->w, start = (int)i * a->tile, m = MIN(a->tile, a->m - start);
    double *X = a->L + w + start;
    (void)worker;
    a->sn->blas.trsm(&right, &lower, &none, &none, &m, &w, &one, a->L, &ld, X, &ld);
    move_rows(m, w, X, ld, a->Y + start, a->m);
}

/* How many tiles the rows of the strip below its diagonal block are */
INLINE int tiles_below(const strip *a)
{
    return (int)parts(a->m - a->end, a->tile);
}

/* S_IJ: rows of the strip below its diagonal block (the last tile: that block, gathered only) */
static void rows_body(void *arg, int64_t i, int worker)
{
    const strip *a = arg;
    const int block = i == tiles_below(a);
    int start = block ? a->start : a->end + (int)i * a->tile;
    int end = block ? a->end : MIN(start + a->tile, a->m);
    if (!a->direct)
        for (int c = a->start, next; c < a->end; c = next) {
            next = ancestor_end(a, c);
            gather(a, c, next, start, end, a->G + (ptrdiff_t)(c - a->start) * a->ldg - a->start,
                   places_of(a->sn, worker));
        }
    if (block) return;
    int ld = a->sn->nrow[a->s], m = end - start, w = a->w, k = a->end - a->start, ldg = a->ldg, ldy = a->m;
    a->sn->blas.gemm(&none, &none, &m, &w, &k, &minus, a->G + (start - a->start), &ldg, a->Y + a->start, &ldy,
                     &one, a->L + w + start, &ld);
}

/* S_IJ: some columns in the rows of the strip's diagonal block */
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

static void strip_body(void *arg, int64_t i, int worker)
{
    const int64_t blocks = parts(((const strip *)arg)->w, ACROSS); /* long parts first */
    if (i < blocks)
        block_body(arg, i, worker);
    else
        rows_body(arg, i - blocks, worker);
}

/* Columns of S_JJ = (L_JJ L_JJ')^-1 - Y'S_IJ, from the diagonal down */
static void corner_body(void *arg, int64_t i, int worker)
{
    const strip *a = arg;
    int ld = a->sn->nrow[a->s], first = (int)i * CORNER, high = a->w - first, w = MIN(CORNER, high), m = a->m;
    double *Y = a->Y + (ptrdiff_t)first * m, *S = a->L + a->w + (ptrdiff_t)first * ld;
    (void)worker;
    a->sn->blas.gemm(&trans, &none, &high, &w, &m, &minus, Y, &m, S, &ld, &one,
                     a->L + first + (ptrdiff_t)first * ld, &ld);
}

static void invert_large(strip *a, team *t, int worker)
{
    const int64_t blocks = parts(a->w, ACROSS);
    int w = a->w, ld = a->sn->nrow[a->s], info;
    double *G = a->Y + (ptrdiff_t)a->m * w;
    if ((double)a->m * a->m * w < LARGE) t = NULL;
    run_parts(t, worker, parts(a->m, a->tile), weights_body, a);
    while (a->end < a->m) {
        next_strip(a, G);
        if (a->direct)
            run_parts(t, worker, blocks + tiles_below(a), strip_body, a);
        else {
            run_parts(t, worker, tiles_below(a) + 1, rows_body, a);
            run_parts(t, worker, blocks, block_body, a);
        }
    }
    a->sn->blas.potri(&lower, &w, a->L, &ld, &info);
    if (a->m) run_parts(t, worker, parts(w, CORNER), corner_body, a);
}

/* ---------------------------------------------------------------------------- panels, by loops -- */

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

/* S_IJ from column j of S_II, given from its diagonal entry down */
INLINE void times_strip_column(const strip *a, int j, const double *g, ptrdiff_t ld)
{
    const double *Y = a->Y + j;
    double *Z = a->L + a->w + j;
    const int n = a->m - j;
    int t = 0;
    for (; t + 4 <= a->w; t += 4) times_column(4, n, g, Y + (ptrdiff_t)t * a->m, a->m, Z + t * ld, ld);
    Y += (ptrdiff_t)t * a->m;
    Z += t * ld;
    switch (a->w - t) {
    case 1: times_column(1, n, g, Y, a->m, Z, ld); break;
    case 2: times_column(2, n, g, Y, a->m, Z, ld); break;
    case 3: times_column(3, n, g, Y, a->m, Z, ld); break;
    }
}

/* Few columns or few rows: S_II is used column by column */
CLONES static void invert_small(strip *a, int32_t *place)
{
    const supernodal *sn = a->sn;
    const int m = a->m, w = a->w;
    const ptrdiff_t ld = sn->nrow[a->s];
    double *Z = a->L + w, *g = a->Y + (ptrdiff_t)m * w;
    divide(m, w, a->L, ld, Z);
    move_rows(m, w, Z, ld, a->Y, m);
    for (int c = 0, end, at; c < m; c = end) {
        const int32_t p = ancestor_of(a, c, &at);
        const int together = in_place(a, p, c, at);
        end = ancestor_end(a, c);
        if (!together) locate(rows_of(sn, p), sn->nrow[p], at, a->I + c, m - c, place);
        for (int j = c; j < end; j++) {
            const double *column = values_of(sn, p) + (a->I[j] - sn->first[p]) * (ptrdiff_t)sn->nrow[p];
            for (int i = j; !together && i < m; i++) g[i - j] = column[place[i - c]];
            times_strip_column(a, j, together ? column + at + (j - c) : g, ld);
        }
    }
    invert_block(w, a->L, ld);
    for (int j = 0; j < w; j++)
        for (int i = j; i < w; i++) a->L[i + j * ld] -= dot(m, a->Y + (ptrdiff_t)i * m, Z + j * ld);
}

/* --------------------------------------------------------------------------------- all panels -- */

static void invert_panel(const supernodal *sn, team *t, int32_t s, int worker)
{
    const int w = width(sn, s), m = below(sn, s);
    strip a = {.sn = sn,
               .s = s,
               .I = rows_of(sn, s) + w,
               .m = m,
               .w = w,
               .tile = tile_rows(sn, s),
               .L = values_of(sn, s),
               .Y = buffer_of(sn, worker)};
    if (w <= NARROW || (w <= 4 * NARROW && m <= NARROW))
        invert_small(&a, places_of(sn, worker));
    else
        invert_large(&a, t, worker);
}

typedef struct {
    const supernodal *sn;
    double *inverse;
} inverse_job;

static void invert_body(void *arg, int64_t i, int worker)
{
    const supernodal *sn = ((const inverse_job *)arg)->sn;
    const int64_t chunk = sn->nchunk - 1 - i;
    for (int32_t s = sn->chunk[chunk + 1] - 1; s >= sn->chunk[chunk]; s--)
        if (!sn->top[s]) invert_panel(sn, NULL, s, worker);
}

/* What stands above the diagonal is written too. */
static void store_body(void *arg, int64_t i, int worker)
{
    const inverse_job *a = arg;
    const supernodal *sn = a->sn;
    const ptrdiff_t end = sn->ptr[MIN(sn->n, (i + 1) * COLUMNS)];
    (void)worker;
    for (ptrdiff_t k = sn->ptr[i * COLUMNS]; k < end; k++) a->inverse[k] = sn->L[sn->entry[k]];
}

void supernodal_invert(supernodal *sn, team *t, double *inverse)
{
    inverse_job a = {sn, inverse};
    double *factor = sn->L;
    if (sn->spare) {
        memcpy(sn->spare, factor, sizeof(double) * (size_t)sn->valptr[sn->np]);
        sn->L = sn->spare;
    }
    for (int32_t s = sn->np - 1; s >= 0; s--)
        if (sn->top[s]) invert_panel(sn, t, s, 0);
    team_run(t, sn->nchunk, invert_body, &a);
    team_run(t, parts(sn->n, COLUMNS), store_body, &a);
    sn->L = factor;
}
