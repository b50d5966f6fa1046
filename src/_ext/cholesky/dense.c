/* Cholesky factor and inverse of a dense matrix. Small ones are LAPACK's; large ones go by blocks of columns
   and tiles of rows, whose sizes do not depend on the number of threads: neither does the result.

   Factor, block J by block:  L_JJ = chol, L_IJ := L_IJ L_JJ^-T, A_II -= L_IJ L_IJ'
   Inverse S, from the last block to the first:  Y = L_IJ L_JJ^-1,
     S_IJ = -S_II Y,  S_JJ = (L_JJ L_JJ')^-1 - Y'S_IJ  */

#include "cholesky/dense.h"

#include <string.h>

#include "base/small.h"

#define LARGE 768   /* order from which tiles pay */
#define COLUMNS 192 /* of a block */
#define ROWS 384    /* of a tile */

static char left = 'L', right = 'R', lower = 'L', none = 'N', trans = 'T';
static double one = 1, minus = -1, zero = 0;

typedef struct { /* one block of columns and what lies below it                            */
    const lmm_blas *blas;
    int first, w, n; /* its first column, its width, order of the matrix                       */
    int ld;
    double *A, *Y; /* the matrix; Y: rows below the block x w                                */
} step;

INLINE int at_most(int a, int b)
{
    return a < b ? a : b;
}

INLINE double *entry(const step *s, int row, int column)
{
    return s->A + row + (ptrdiff_t)column * s->ld;
}

/* Rows i of the tile below the block: first row, and how many. */
INLINE int tile(const step *s, int64_t i, int *rows)
{
    const int first = s->first + s->w + (int)i * ROWS;
    *rows = at_most(ROWS, s->n - first);
    return first;
}

INLINE int64_t tiles(const step *s)
{
    return (s->n - s->first - s->w + ROWS - 1) / ROWS;
}

INLINE void alone(const step *s, int worker) /* threads of BLAS itself would only be in the way */
{
    if (worker && s->blas->set_local_threads) s->blas->set_local_threads(1);
}

/* L_IJ := A_IJ L_JJ^-T (how: trans) for one tile of rows, or A_IJ L_JJ^-1 into Y (how: none) */
static void solve_tile(step *s, int64_t i, char how)
{
    int rows, first = tile(s, i, &rows), w = s->w;
    double *X = entry(s, first, s->first);
    if (how == none) {
        const int m = s->n - s->first - s->w;
        double *Y = s->Y + (first - s->first - s->w);
        for (int c = 0; c < w; c++)
            memcpy(Y + (ptrdiff_t)c * m, X + (ptrdiff_t)c * s->ld, sizeof(double) * (size_t)rows);
        s->blas->trsm(&right, &lower, &how, &none, &rows, &w, &one, entry(s, s->first, s->first), &s->ld, Y,
                      (int *)&m);
    } else
        s->blas->trsm(&right, &lower, &how, &none, &rows, &w, &one, entry(s, s->first, s->first), &s->ld, X,
                      &s->ld);
}

static void divide_tile(void *arg, int64_t i, int worker)
{
    alone(arg, worker);
    solve_tile(arg, i, trans);
}

/* The i-th block of columns right of the current one: A_kk -= L_k L_k', A_Ik -= L_I L_k' */
static void update_columns(void *arg, int64_t i, int worker)
{
    step *s = arg;
    const int first = s->first + s->w + (int)i * COLUMNS;
    int w = at_most(COLUMNS, s->n - first), below = s->n - first - w, k = s->w, ld = s->ld;
    double *L = entry(s, first, s->first);
    alone(s, worker);
    s->blas->syrk(&lower, &none, &w, &k, &minus, L, &ld, &one, entry(s, first, first), &ld);
    if (below)
        s->blas->gemm(&none, &trans, &below, &w, &k, &minus, L + w, &ld, L, &ld, &one,
                      entry(s, first + w, first), &ld);
}

int cholesky(const lmm_blas *blas, team *t, int n, double *A, int ld)
{
    int info = 0;
    if (n < LARGE) {
        blas->potrf(&lower, &n, A, &ld, &info);
        return info;
    }
    for (int first = 0; first < n && !info; first += COLUMNS) {
        step s = {.blas = blas, .first = first, .w = at_most(COLUMNS, n - first), .n = n, .ld = ld, .A = A};
        blas->potrf(&lower, &s.w, entry(&s, first, first), &ld, &info);
        if (info) return first + info;
        team_run(t, tiles(&s), divide_tile, &s);
        team_run(t, (n - first - s.w + COLUMNS - 1) / COLUMNS, update_columns, &s);
    }
    return info;
}

ptrdiff_t cholesky_work(int n)
{
    return n < LARGE ? 1 : (ptrdiff_t)n * COLUMNS;
}

/* Y := L_IJ L_JJ^-1, a tile of rows */
static void quotient_tile(void *arg, int64_t i, int worker)
{
    alone(arg, worker);
    solve_tile(arg, i, none);
}

/* S_IJ = -S_II Y, a tile of rows: left of the diagonal tile, the tile itself, below it (transposed) */
static void product_tile(void *arg, int64_t i, int worker)
{
    step *s = arg;
    const int origin = s->first + s->w;
    int rows, first = tile(s, i, &rows), w = s->w, ld = s->ld, m = s->n - origin;
    int before = first - origin, after = s->n - first - rows;
    double *S = entry(s, first, s->first);
    alone(s, worker);
    s->blas->symm(&left, &lower, &rows, &w, &minus, entry(s, first, first), &ld, s->Y + before, &m, &zero, S,
                  &ld);
    if (before)
        s->blas->gemm(&none, &none, &rows, &w, &before, &minus, entry(s, first, origin), &ld, s->Y, &m, &one,
                      S, &ld);
    if (after)
        s->blas->gemm(&trans, &none, &rows, &w, &after, &minus, entry(s, first + rows, first), &ld,
                      s->Y + before + rows, &m, &one, S, &ld);
}

/* S_JJ -= Y'S_IJ, lower triangle, some columns */
static void corner_columns(void *arg, int64_t i, int worker)
{
    step *s = arg;
    const int part = COLUMNS / 4, origin = s->first + s->w;
    int first = (int)i * part, w = at_most(part, s->w - first), rows = s->w - first, m = s->n - origin,
        ld = s->ld;
    alone(s, worker);
    s->blas->gemm(&trans, &none, &rows, &w, &m, &minus, s->Y + (ptrdiff_t)first * m, &m,
                  entry(s, origin, s->first + first), &ld, &one, entry(s, s->first + first, s->first + first),
                  &ld);
}

void cholesky_invert(const lmm_blas *blas, team *t, int n, double *L, int ld, double *work)
{
    int info;
    if (n < LARGE) {
        blas->potri(&lower, &n, L, &ld, &info);
        return;
    }
    for (int first = (n - 1) / COLUMNS * COLUMNS; first >= 0; first -= COLUMNS) {
        step s = {.blas = blas, .first = first, .w = at_most(COLUMNS, n - first), .n = n, .ld = ld};
        s.A = L;
        s.Y = work;
        team_run(t, tiles(&s), quotient_tile, &s);
        blas->potri(&lower, &s.w, entry(&s, first, first), &ld, &info);
        if (first + s.w == n) continue;
        team_run(t, tiles(&s), product_tile, &s);
        team_run(t, (s.w + COLUMNS / 4 - 1) / (COLUMNS / 4), corner_columns, &s);
    }
}
