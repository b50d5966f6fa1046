/* Numbers of the supernodal factor (panels.h): Cholesky factorization and solves.

     L_J  from  M_J - sum over descendants d of L_d L_d[J]',  then L_JJ = chol, L_IJ := L_IJ L_JJ^-T

   Every entry is written by its own panel, which only reads its descendants. So subtrees can be computed
   side by side, and within the panels above them rows can; tiles have fixed sizes, and no result depends on
   who computes it. */

#include "cholesky/panels.h"

#define FEW 8     /* right-hand sides for which loops beat BLAS     */
#define SMALL 256 /* entries of an update for which they do         */

static char right = 'R', lower = 'L', none = 'N', trans = 'T';
static double one = 1, zero = 0, minus = -1;

lmm_status supernodal_set_threads(supernodal *sn, int threads)
{
    if (threads <= sn->threads) return LMM_OK;
    double *buffer = array(sn->room * threads, sizeof(*buffer));
    int32_t *map = INTS(2 * (ptrdiff_t)sn->n * threads);
    if (!buffer || !map) {
        free(buffer);
        free(map);
        return LMM_NOMEM;
    }
    free(sn->buffer);
    free(sn->map);
    sn->buffer = buffer;
    sn->map = map;
    sn->threads = threads;
    return LMM_OK;
}

/* ------------------------------------------------------------------------------------ one panel -- */

/* A panel is one tile if it is not high. Else its diagonal block is one. */
INLINE int tile_count(const supernodal *sn, int32_t s)
{
    const int m = below(sn, s), rows = tile_rows(sn, s);
    return m <= rows ? 1 : 1 + (int)parts(m, rows);
}

INLINE int tile_start(const supernodal *sn, int32_t s, int i)
{
    return !i ? 0 : i == tile_count(sn, s) ? sn->nrow[s] : width(sn, s) + (i - 1) * tile_rows(sn, s);
}

typedef struct { /* rows i0 .. i1-1 of descendant d times its rows j0 .. j1-1, for panel s */
    int32_t s, d;
    int i0, i1, j0, j1;
} update;

/* L_s -= A_i A_j', w columns, by loops. places: of the rows i0 .. i1-1 in s */
INLINE void subtract_products(const int w, const supernodal *sn, const update *u, const int32_t *places)
{
    const int32_t *rows = rows_of(sn, u->d);
    const ptrdiff_t lda = sn->nrow[u->d], ld = sn->nrow[u->s];
    const int together = places[u->i1 - u->i0 - 1] - places[0] == u->i1 - u->i0 - 1;
    for (int j = u->j0; j < u->j1; j++) {
        const int i0 = MAX(u->i0, j), n = u->i1 - i0;
        const int32_t *place = places + (i0 - u->i0);
        const double *A = values_of(sn, u->d) + i0, *Aj = A - i0 + j;
        double a[NARROW], *to = values_of(sn, u->s) + (rows[j] - sn->first[u->s]) * ld;
        for (int k = 0; k < w; k++) a[k] = Aj[k * lda];
        if (together && n > 0) to += place[0];
        for (int i = 0; i < n; i++) {
            double sum = A[i] * a[0];
            for (int k = 1; k < w; k++) sum += A[i + k * lda] * a[k];
            to[together ? i : place[i]] -= sum;
        }
    }
}

/* map: place of each row number in s */
CLONES static void update_small(const supernodal *sn, const update *u, const int32_t *map, int32_t *places)
{
    const int32_t *rows = rows_of(sn, u->d);
    for (int i = u->i0; i < u->i1; i++) places[i - u->i0] = map[rows[i]];
    BY_WIDTH(width(sn, u->d), subtract_products, sn, u, places)
}

/* The same by BLAS; i and j are the same rows or disjoint ones. In place if they are together in s, else
   by C */
static void update_large(const supernodal *sn, const update *u, const int32_t *map, int32_t *places,
                         double *C)
{
    const int32_t *rows = rows_of(sn, u->d), first = sn->first[u->s];
    int ni = u->i1 - u->i0, nj = u->j1 - u->j0, w = width(sn, u->d), lda = sn->nrow[u->d];
    const ptrdiff_t ld = sn->nrow[u->s];
    double *A = values_of(sn, u->d), *L = values_of(sn, u->s);
    const int together =
        map[rows[u->i1 - 1]] - map[rows[u->i0]] == ni - 1 && rows[u->j1 - 1] - rows[u->j0] == nj - 1;
    int ldc = together ? (int)ld : ni;
    double *to = together ? L + map[rows[u->i0]] + (rows[u->j0] - first) * ld : C;
    double *alpha = together ? &minus : &one, *beta = together ? &one : &zero;
    if (u->i0 == u->j0)
        sn->blas.syrk(&lower, &none, &nj, &w, alpha, A + u->j0, &lda, beta, to, &ldc);
    else
        sn->blas.gemm(&none, &trans, &ni, &nj, &w, alpha, A + u->i0, &lda, A + u->j0, &lda, beta, to, &ldc);
    if (together) return;
    for (int i = 0; i < ni; i++) places[i] = map[rows[u->i0 + i]];
    for (int j = u->j0; j < u->j1; j++, C += ni) {
        to = L + (rows[j] - first) * ld;
        for (int i = MAX(j - u->i0, 0); i < ni; i++) to[places[i]] -= C[i];
    }
}

/* What all descendants subtract from one tile of a panel */
static void update_tile(const supernodal *sn, int32_t s, int tile, const int32_t *map, int worker)
{
    const int single = tile_count(sn, s) == 1;
    const int32_t *all = rows_of(sn, s);
    const int32_t from = all[tile_start(sn, s, tile)], to = all[tile_start(sn, s, tile + 1) - 1];
    int32_t *places = places_of(sn, worker);
    double *C = buffer_of(sn, worker);
    for (ptrdiff_t k = sn->descptr[s]; k < sn->descptr[s + 1]; k++) {
        update u = {.s = s, .d = sn->desc[k], .j0 = sn->inside[k]};
        const int32_t *rows = rows_of(sn, u.d);
        const int end = sn->nrow[u.d], w = width(sn, u.d);
        for (u.j1 = u.j0 + 1; u.j1 < end && rows[u.j1] < sn->first[s + 1];) u.j1++;
        u.i0 = tile ? u.j1 + bound(rows + u.j1, end - u.j1, from) : u.j0;
        u.i1 = single ? end : tile ? u.j1 + bound(rows + u.j1, end - u.j1, to + 1) : u.j1;
        if (u.i0 == u.i1) continue;
        if (w <= 4 || (w <= NARROW && (u.i1 - u.i0) * (u.j1 - u.j0) < SMALL)) {
            update_small(sn, &u, map, places);
            continue;
        }
        update block = u, rest = u;
        block.i1 = rest.i0 = MAX(u.i0, u.j1);
        if (!tile) update_large(sn, &block, map, places, C);
        if (rest.i0 < rest.i1) update_large(sn, &rest, map, places, C);
    }
}

/* Cholesky factor of a panel of r rows: all of it. Nonzero if not positive definite */
INLINE int factor_small(int r, int w, double *L, ptrdiff_t ld)
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

/* Rows start .. end-1 of a panel := themselves L_JJ^-T */
static void divide_rows(const supernodal *sn, int32_t s, int start, int end)
{
    int r = sn->nrow[s], w = width(sn, s), m = end - start;
    double *L = values_of(sn, s);
    if (m) sn->blas.trsm(&right, &lower, &trans, &none, &m, &w, &one, L, &r, L + start, &r);
}

/* The diagonal block; if it is not a tile of its own, everything */
CLONES static int factor_tile(const supernodal *sn, int32_t s)
{
    int r = sn->nrow[s], w = width(sn, s), info;
    double *L = values_of(sn, s);
    const int single = tile_count(sn, s) == 1;
    if (single && w <= NARROW) return factor_small(r, w, L, r);
    sn->blas.potrf(&lower, &w, L, &r, &info);
    if (single && !info) divide_rows(sn, s, w, r);
    return info;
}

typedef struct {
    const supernodal *sn;
    int32_t s;
    const int32_t *map;
    int failed;
} panel_job;

static void update_body(void *arg, int64_t i, int worker)
{
    panel_job *a = arg;
    update_tile(a->sn, a->s, (int)i, a->map, worker);
    if (!i) a->failed = factor_tile(a->sn, a->s);
}

static void divide_body(void *arg, int64_t i, int worker)
{
    const panel_job *a = arg;
    const int tile = (int)i + 1;
    (void)worker;
    divide_rows(a->sn, a->s, tile_start(a->sn, a->s, tile), tile_start(a->sn, a->s, tile + 1));
}

static int factor_panel(const supernodal *sn, team *t, int32_t s, int worker)
{
    const int32_t *rows = rows_of(sn, s), count = tile_count(sn, s);
    int32_t *map = map_of(sn, worker);
    panel_job job = {sn, s, map, 0};
    for (int32_t i = 0; i < sn->nrow[s]; i++) map[rows[i]] = i;
    if (t && count > 1) {
        double columns = width(sn, s);
        for (ptrdiff_t k = sn->descptr[s]; k < sn->descptr[s + 1]; k++) columns += width(sn, sn->desc[k]);
        if (columns * width(sn, s) * sn->nrow[s] < LARGE) t = NULL;
    }
    run_parts(t, worker, count, update_body, &job);
    if (!job.failed) run_parts(t, worker, count - 1, divide_body, &job);
    return job.failed;
}

/* -------------------------------------------------------------------------------- factorization -- */

typedef struct {
    const supernodal *sn;
    const double *values;
    int failed[4 * PARTS + 1];
} factor_job;

/* What stands above the diagonal is not read. */
static void load_body(void *arg, int64_t i, int worker)
{
    const factor_job *a = arg;
    const supernodal *sn = a->sn;
    (void)worker;
    for (int64_t c = i * COLUMNS; c < MIN(sn->n, (i + 1) * COLUMNS); c++)
        for (ptrdiff_t k = sn->ptr[c]; k < sn->ptr[c + 1]; k++)
            if (sn->row[k] >= c) sn->L[sn->entry[k]] = a->values[k];
}

static void factor_body(void *arg, int64_t i, int worker)
{
    factor_job *a = arg;
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
            const double d = values_of(sn, s)[j * (sn->nrow[s] + 1)];
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
    factor_job a = {.sn = sn, .values = values};
    memset(sn->L, 0, sizeof(double) * (size_t)sn->valptr[sn->np]);
    team_run(t, parts(sn->n, COLUMNS), load_body, &a);
    team_run(t, sn->nchunk, factor_body, &a);
    for (int32_t i = 0; i < sn->nchunk; i++)
        if (a.failed[i]) return 1;
    for (int32_t s = 0; s < sn->np; s++)
        if (sn->top[s] && factor_panel(sn, t, s, 0)) return 1;
    return determinant(sn, logdet);
}

/* ------------------------------------------------------------------------------ right-hand sides -- */

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

/* k columns of L against n right-hand sides x (n x high), from the first of them down; k <= 4 */
INLINE void forward_columns(const int n, const int k, int high, const double *L, ptrdiff_t ld, double *x)
{
    double solved[4 * FEW];
    for (int j = 0; j < k; j++)
        for (int t = 0; t < n; t++) {
            double sum = x[t + j * n];
            for (int l = 0; l < j; l++) sum -= solved[t + l * n] * L[j + l * ld];
            x[t + j * n] = solved[t + j * n] = sum / L[j + j * ld];
        }
    for (int i = k; i < high; i++)
        for (int t = 0; t < n; t++) {
            double sum = solved[t] * L[i];
            for (int l = 1; l < k; l++) sum += solved[t + l * n] * L[i + l * ld];
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
    const int32_t *rows = rows_of(sn, s), w = width(sn, s), high = sn->nrow[s];
    const double *L = values_of(sn, s);
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
    const int32_t *rows = rows_of(sn, s) + w;
    double *L = values_of(sn, s), *x = X + (ptrdiff_t)sn->first[s] * r;
    if (back) {
        for (int i = 0; i < m; i++)
            memcpy(C + (ptrdiff_t)i * n, X + (ptrdiff_t)rows[i] * r, sizeof(double) * (size_t)n);
        if (m) sn->blas.gemm(&none, &none, &n, &w, &m, &minus, C, &n, L + w, &ld, &one, x, &r);
        sn->blas.trsm(&right, &lower, &none, &none, &n, &w, &one, L, &ld, x, &r);
    } else {
        sn->blas.trsm(&right, &lower, &trans, &none, &n, &w, &one, L, &ld, x, &r);
        if (m) sn->blas.gemm(&none, &trans, &n, &m, &w, &one, x, &r, L + w, &ld, &zero, C, &n);
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

typedef struct {
    const supernodal *sn;
    int r, part;
    double *X;
} solve_job;

static void solve_body(void *arg, int64_t i, int worker)
{
    const solve_job *a = arg;
    const supernodal *sn = a->sn;
    const int n = (int)MIN(SIDES, a->r - i * SIDES);
    double *X = a->X + i * SIDES, *C = buffer_of(sn, worker);
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
    team_run(t, parts(r, SIDES), solve_body, &a);
}
