/* Whitening of a wide X. With G = X_c'W X_c / n of columns that are centred and scaled, G = R'R, B = R^-1,

     x_w = x_c B,   X_w'W X_w = n I,   Z'W X_w = (Z'W X_c) B:

   one product over the rows, by BLAS for stored columns and by what is not zero for coded ones; the rest are
   sums. The price is that the roundings of G count 1 / (1 - R_j^2) times for a column of which the others
   explain the share R_j^2. Where that is much, or where it is not sure which columns are dependent, all
   columns are stored, G is summed with the greatest care, and the rows are whitened one by one, as those of a
   narrow X are (moments.c): then roundings count by the root of it. */

#include <math.h>
#include <string.h>

#include "setup/fixed.h"

#define PIECE 512      /* rows of stored columns in one product */
#define CAREFUL 32     /* the same where every rounding counts */
#define PANEL 64       /* columns that are factorized together */
#define SURELY 5e-14   /* share of a column that is left by earlier ones, below which it is dropped ... */
#define INFLATION 1e7  /* ... and the inverse of that share, above which rows must be whitened */
#define DOUBTFUL 1e-10 /* share below which the rows are asked whether anything is left */
#define CANCELLED 1e-4 /* share of a coded column's square that centring may leave */

static char lower = 'L', left = 'L', none = 'N', trans = 'T';
static double one = 1, zero = 0, minus = -1;

typedef struct { /* sums over some rows, of columns that are centred (coded ones not yet) and scaled */
    const lmm_data *d;
    double *mean;
    const double *scale;
    double *part, *total, *lost; /* p x p, lower: of the rows since the last flush, of all, its rounding */
    double *sum[3];              /* p  the same of the columns themselves */
    double *rows;                /* PIECE x pstored  scaled, times the roots of the weights */
    double *stored;              /* pstored x pstored, lower  where some columns are coded */
    double *cross;               /* pstored x p  of stored with coded columns */
    int32_t *column;             /* p  columns of one row */
    double *value;
    double *memory;
} gram;

static lmm_status new_gram(gram *g, const lmm_data *d, whitening *x, const double *scale)
{
    const size_t p = (size_t)d->p, s = (size_t)d->pstored, mixed = d->ncoded ? s : 0;
    const size_t size = p * p + 3 * p + PIECE * s + mixed * (s + p) + 2 * p;
    double *next = g->memory = calloc(size + 1, sizeof(double));
    if (!next) return LMM_NOMEM;
    g->d = d;
    g->mean = x->mean;
    g->scale = scale;
    g->total = x->C;
    g->lost = x->B;
    memset(g->total, 0, sizeof(double) * p * p);
    memset(g->lost, 0, sizeof(double) * p * p);
    g->part = next, next += p * p;
    for (int i = 0; i < 3; i++, next += p) g->sum[i] = next;
    g->rows = next, next += PIECE * s;
    g->stored = next, next += mixed * s;
    g->cross = next, next += mixed * p;
    g->value = next, next += p;
    g->column = (int32_t *)next;
    return LMM_OK;
}

/* part += stored columns of the rows from i on; their scaled values stay in g->rows */
static void add_stored(gram *g, const lmm_blas *blas, int64_t i, int count)
{
    const lmm_data *d = g->d;
    int s = d->pstored, ld = PIECE;
    for (int32_t j = 0; j < s; j++) {
        const int32_t c = stored_place(d, j);
        const double *x = d->X + j * d->n + i, mean = g->mean[c], unit = 1 / g->scale[c];
        double *to = g->rows + (ptrdiff_t)j * PIECE;
        for (int r = 0; r < count; r++) to[r] = (x[r] - mean) * unit;
        for (int r = 0; d->w && r < count; r++) to[r] *= sqrt(d->w[i + r]);
    }
    if (s)
        blas->syrk(&lower, &trans, &s, &count, &one, g->rows, &ld, &one, d->ncoded ? g->stored : g->part, &s);
}

/* part += coded columns of the rows from i on, with each other and with the stored ones */
static void add_coded(gram *g, int64_t i, int count)
{
    const lmm_data *d = g->d;
    const ptrdiff_t p = d->p, s = d->pstored;
    for (int r = 0; r < count; r++) {
        const double root = root_weight(d, i + r);
        const int32_t found = coded_row(d, i + r, g->column, g->value);
        for (int32_t a = 0; a < found; a++) g->value[a] *= root;
        for (int32_t a = 0; a < found; a++) {
            const ptrdiff_t c = g->column[a];
            const double v = g->value[a];
            double *cross = g->cross + c * s;
            for (int32_t b = 0; b <= a; b++) {
                const ptrdiff_t e = g->column[b];
                g->part[c > e ? c + e * p : e + c * p] += v * g->value[b];
            }
            for (ptrdiff_t j = 0; j < s; j++) cross[j] += v * g->rows[r + j * PIECE];
            g->sum[0][c] += v * root;
        }
        for (ptrdiff_t j = 0; j < s; j++)
            g->sum[0][stored_place(d, (int32_t)j)] += root * g->rows[r + j * PIECE];
    }
}

/* total += part, keeping what rounding takes: equal values round alike, and many roundings in one direction
   would hide that a column is dependent */
static void flush(gram *g)
{
    const lmm_data *d = g->d;
    const ptrdiff_t p = d->p, s = d->pstored;
    for (ptrdiff_t j = 0; d->ncoded && j < s; j++) {
        const ptrdiff_t c = stored_place(d, (int32_t)j);
        for (ptrdiff_t i = j; i < s; i++)
            g->part[stored_place(d, (int32_t)i) + c * p] += g->stored[i + j * s];
        for (ptrdiff_t i = 0; i < p; i++) g->part[i > c ? i + c * p : c + i * p] += g->cross[j + i * s];
    }
    for (ptrdiff_t j = 0; j < p; j++)
        add_exactly((int)(p - j), g->total + j * (p + 1), g->lost + j * (p + 1), g->part + j * (p + 1));
    memset(g->part, 0, sizeof(double) * (size_t)(p * p));
    if (!d->ncoded) return;
    add_exactly((int)p, g->sum[1], g->sum[2], g->sum[0]);
    memset(g->sum[0], 0, sizeof(double) * (size_t)p);
    memset(g->stored, 0, sizeof(double) * (size_t)(s * s));
    memset(g->cross, 0, sizeof(double) * (size_t)(s * p));
}

static double total_weight(const lmm_data *d)
{
    double total = 0;
    for (int64_t i = 0; i < d->n; i++) total += d->w ? d->w[i] : 1;
    return total;
}

/* Coded columns are centred and scaled in the sums. Nonzero: one of them loses its digits. */
static int center_coded(gram *g, const uint8_t *coded, int centred)
{
    const ptrdiff_t p = g->d->p;
    const double weight = total_weight(g->d), *sum = g->sum[1];
    int lost = 0;
    for (ptrdiff_t j = 0; centred && j < p; j++)
        if (coded[j]) g->mean[j] = sum[j] / weight;
    for (ptrdiff_t j = 0; j < p; j++) {
        const double unit = coded[j] ? 1 / g->scale[j] : 1, square = g->total[j + j * p] * unit * unit;
        for (ptrdiff_t i = j; i < p; i++) {
            double *G = g->total + i + j * p;
            if (coded[i])
                *G = (*G - g->mean[i] * sum[j]) * (unit / g->scale[i]);
            else if (coded[j])
                *G = (*G - g->mean[j] * sum[i]) * unit;
        }
        if (coded[j] && square * CANCELLED > g->total[j + j * p]) lost = 1;
    }
    return lost;
}

/* x->C := G (lower) of centred and scaled columns; B is overwritten. *lost: not all digits of it are right.
 */
static lmm_status make_gram(const lmm_model *m, const lmm_data *d, whitening *x, const double *scale,
                            const uint8_t *coded, int piece, int *lost)
{
    gram g;
    const int64_t often = piece == CAREFUL || d->p < piece ? piece : d->p; /* so that a flush costs little */
    int64_t since = 0;
    TRY(new_gram(&g, d, x, scale));
    for (int64_t i = 0; i < d->n; i += piece) {
        const int count = d->n - i < piece ? (int)(d->n - i) : piece;
        add_stored(&g, &m->blas, i, count);
        if (d->ncoded) add_coded(&g, i, count);
        since += count;
        if (since < often && i + count < d->n) continue;
        flush(&g);
        since = 0;
    }
    *lost = d->ncoded && center_coded(&g, coded, x->constant >= 0);
    for (ptrdiff_t i = 0; i < (ptrdiff_t)d->p * d->p; i++) x->C[i] /= (double)d->n;
    free(g.memory);
    return LMM_OK;
}

/* Cholesky factor of a diagonal block, in place. A dependent column becomes one of the unit matrix, so that
   later columns see nothing of it. Nonzero: it is not sure whether a column is dependent. */
static int factor_block(int k, double *A, ptrdiff_t ld, const double *full, uint8_t *keep)
{
    int unsure = 0;
    for (int j = 0; j < k; j++) {
        double d = A[j + j * ld];
        for (int l = 0; l < j; l++) d -= A[j + l * ld] * A[j + l * ld];
        keep[j] = d > DEPENDENT * full[j] && d > 0;
        unsure |= keep[j] ? d * INFLATION < full[j] : fabs(d) > SURELY * full[j];
        d = keep[j] ? sqrt(d) : 1;
        A[j + j * ld] = d;
        for (int i = j + 1; i < k; i++) {
            double s = A[i + j * ld];
            for (int l = 0; l < j; l++) s -= A[i + l * ld] * A[j + l * ld];
            A[i + j * ld] = keep[j] ? s / d : 0;
        }
    }
    return unsure;
}

/* G = L L' in place (p x p, lower). full: p of its own. Nonzero: it is not sure which columns are dependent,
   and unless `all` is the case nothing is finished. */
static int factor_dropping(const lmm_blas *blas, int p, double *G, double *full, uint8_t *keep, int all)
{
    char right = 'R';
    int unsure = 0;
    for (ptrdiff_t j = 0; j < p; j++) full[j] = G[j + j * p];
    for (int j = 0; j < p && (all || !unsure); j += PANEL) {
        int k = p - j < PANEL ? p - j : PANEL, below = p - j - k;
        double *D = G + j + (ptrdiff_t)j * p, *under = D + k, *rest = under + (ptrdiff_t)k * p;
        unsure |= factor_block(k, D, p, full + j, keep + j);
        if (!below) break;
        blas->trsm(&right, &lower, &trans, &none, &below, &k, &one, D, &p, under, &p);
        for (int c = 0; c < k; c++)
            if (!keep[j + c]) memset(under + (ptrdiff_t)c * p, 0, sizeof(double) * (size_t)below);
        blas->syrk(&lower, &none, &below, &k, &minus, under, &p, &one, rest, &p);
    }
    return unsure;
}

/* B = L'^-1 (upper) over the kept columns, zero elsewhere. */
static void invert_root(const lmm_blas *blas, int p, double *L, const uint8_t *keep, double *B)
{
    memset(B, 0, sizeof(double) * (size_t)p * (size_t)p);
    for (int j = 0; j < p; j += PANEL) {
        int k = p - j < PANEL ? p - j : PANEL, rows = j + k;
        double *to = B + (ptrdiff_t)j * p;
        for (int c = 0; c < k; c++) to[j + c + (ptrdiff_t)c * p] = 1;
        blas->trsm(&left, &lower, &trans, &none, &rows, &k, &one, L, &p, to, &p);
        for (ptrdiff_t c = 0; c < k; c++)
            for (ptrdiff_t i = 0; i <= j + c; i++)
                if (!keep[i] || !keep[j + c]) to[i + c * p] = 0;
    }
}

/* The largest variance inflation of a column, 1 / (1 - R_j^2). B: of scaled columns; sum: p of its own */
static double largest_inflation(int p, const double *B, const double *full, const uint8_t *keep, double *sum)
{
    double most = 1;
    memset(sum, 0, sizeof(double) * (size_t)p);
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i <= j; i++) sum[i] += B[i + j * p] * B[i + j * p];
    for (int i = 0; i < p; i++)
        if (keep[i] && !(sum[i] * full[i] < most)) most = sum[i] * full[i];
    return most;
}

/* B := R^-1 over the kept columns of G (lower triangle and diagonal of x->C, which its factor overwrites).
   Nonzero: it is not sure which are kept; B is not made then unless all is. */
static int invert_gram(const lmm_model *m, whitening *x, uint8_t *keep, double *full, int all)
{
    const int unsure = factor_dropping(&m->blas, x->k, x->C, full, keep, all);
    if (all || !unsure) invert_root(&m->blas, x->k, x->C, keep, x->B);
    return unsure;
}

/* Squared length over n of column c of X_c B for scaled columns, all stored; row: n of its own */
static double length_of(const lmm_data *d, const whitening *x, const double *scale, ptrdiff_t c, double *row)
{
    const double *B = x->B + c * x->k;
    double total = 0;
    memset(row, 0, sizeof(double) * (size_t)d->n);
    for (ptrdiff_t l = 0; l <= c; l++) {
        const double *from = d->X + l * d->n, mean = x->mean[l], b = B[l] / scale[l];
        for (int64_t i = 0; i < d->n && b != 0; i++) row[i] += (from[i] - mean) * b;
    }
    for (int64_t i = 0; i < d->n; i++) total += (d->w ? d->w[i] : 1) * row[i] * row[i];
    return total / (double)d->n;
}

/* Drops columns that are kept though the rows say that nothing is left of them: roundings of the sums passed
   for it. Their number; -1: no memory. */
static int drop_roundings(const lmm_data *d, const whitening *x, const double *scale, const double *full,
                          uint8_t *keep)
{
    int found = 0;
    double *row = malloc(sizeof(double) * (size_t)d->n);
    if (!row) return -1;
    for (ptrdiff_t j = 0; j < d->p; j++) {
        const double root = x->B[j + j * d->p], share = 1 / (root * root * full[j]);
        if (!keep[j] || share > DOUBTFUL) continue;
        if (share * length_of(d, x, scale, j, row) > DEPENDENT) continue;
        keep[j] = 0;
        found++;
    }
    free(row);
    return found;
}

/* As invert_gram for the rows of d, all stored, until no column is kept that is none. */
static lmm_status invert_carefully(const lmm_model *m, const lmm_data *d, whitening *x, const double *scale,
                                   uint8_t *keep, double *full)
{
    const ptrdiff_t p = d->p;
    for (ptrdiff_t j = 0; j < p; j++) /* the upper triangle keeps G */
        for (ptrdiff_t i = 0; i < j; i++) x->C[i + j * p] = x->C[j + i * p];
    for (int found = 1; found;) {
        invert_gram(m, x, keep, full, 1);
        found = drop_roundings(d, x, scale, full, keep);
        if (found < 0) return LMM_NOMEM;
        for (ptrdiff_t j = 0; j < p; j++) {
            for (ptrdiff_t i = 0; i < j; i++) x->C[j + i * p] = x->C[i + j * p];
            x->C[j + j * p] = full[j];
        }
        for (ptrdiff_t j = 0; j < p && found; j++)
            if (!keep[j] && x->B[j + j * p] != 0) x->C[j + j * p] = 0;
    }
    return LMM_OK;
}

/* careful: whatever the sums are. *done: whether X is whitened. */
static lmm_status whiten_columns(lmm_model *m, const lmm_data *d, uint8_t *keep, int careful, double *scale,
                                 uint8_t *coded, int *done)
{
    whitening *x = &m->layout.x;
    const int p = d->p;
    double *full = scale + p, *work = full + p;
    int lost;
    TRY(fixed_moments(d, x, scale, coded));
    TRY(make_gram(m, d, x, scale, coded, careful ? CAREFUL : PIECE, &lost));
    if (careful)
        TRY(invert_carefully(m, d, x, scale, keep, full));
    else if (lost || invert_gram(m, x, keep, full, 0))
        return LMM_OK;
    m->layout.inflation = largest_inflation(p, x->B, full, keep, work);
    if (!(m->layout.inflation < INFLATION || careful)) return LMM_OK;
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i <= j; i++) x->B[i + j * p] /= scale[i];
    uncentred(x, x->constant < 0 ? 1 : first_value(d, x->constant));
    *done = 1;
    return LMM_OK;
}

lmm_status whiten_wide(lmm_model *m, builder *b, uint8_t *keep)
{
    const size_t p = (size_t)b->d->p;
    double *scale = malloc((3 * sizeof(double) + 1) * p);
    if (!scale) return LMM_NOMEM;
    uint8_t *coded = (uint8_t *)(scale + 3 * p);
    int done = 0;
    lmm_status status = whiten_columns(m, b->d, keep, 0, scale, coded, &done);
    m->layout.summed = done;
    if (status == LMM_OK && !done && b->d->ncoded) {
        status = store_fixed(b->d, &b->stored, &b->X);
        b->d = &b->stored;
    }
    if (status == LMM_OK && !done) status = whiten_columns(m, b->d, keep, 1, scale, coded, &done);
    free(scale);
    return status;
}

/* B over the kept columns, rows of all: pfull x p, or B itself where none is dropped; NULL: no memory. Freed
   by the caller where it is not B. */
static double *kept_columns(const layout *lay)
{
    const size_t k = (size_t)lay->pfull;
    if (lay->p == lay->pfull) return lay->x.B;
    double *B = malloc(sizeof(double) * (k * (size_t)lay->p + 1));
    for (int a = 0; B && a < lay->p; a++)
        memcpy(B + (size_t)a * k, lay->x.B + (size_t)lay->keep[a] * k, sizeof(double) * k);
    return B;
}

/* The columns of X in b->rows, whitened, for stored columns. */
lmm_status whiten_rows(lmm_model *m, const builder *b)
{
    const layout *lay = &m->layout;
    const lmm_data *d = b->d;
    int p = lay->p, k = lay->pfull, ld = PIECE, ncol = b->ncol;
    double *B = kept_columns(lay), *X = malloc(sizeof(double) * PIECE * (size_t)k);
    const lmm_status status = B && X ? LMM_OK : LMM_NOMEM;
    for (int64_t i = 0; i < d->n && status == LMM_OK && p; i += PIECE) {
        int count = d->n - i < PIECE ? (int)(d->n - i) : PIECE;
        for (ptrdiff_t j = 0; j < k; j++)
            for (ptrdiff_t r = 0; r < count; r++)
                X[r + j * PIECE] = (d->X[i + r + j * d->n] - lay->x.mean[j]) * root_weight(d, i + r);
        m->blas.gemm(&trans, &trans, &p, &count, &k, &one, B, &k, X, &ld, &zero,
                     b->rows + i * ncol + (ncol - lay->pb), &ncol);
    }
    if (B != lay->x.B) free(B);
    free(X);
    return status;
}
