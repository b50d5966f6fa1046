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

#define PIECE 512      /* rows of stored columns in one product, about */
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
    double *rows;                /* ld x pstored  scaled, times the roots of the weights */
    double *stored;              /* pstored x pstored, lower  where some columns are coded */
    double *cross;               /* pstored x p  of stored with coded columns */
    int32_t *column;             /* p  columns of one row */
    double *value;
    double *memory;
    int ld, held;  /* most rows of a product; rows that wait for one */
    int64_t first; /* the first of these */
    int64_t since; /* rows since the last flush */
    int64_t often; /* rows between two of them */
    int piece;     /* rows in one product */
} gram;

static lmm_status new_gram(gram *g, const builder *b, whitening *x, const double *scale, int piece)
{
    const lmm_data *d = b->d;
    const int ld = b->rows.size > PIECE ? b->rows.size : PIECE;
    const size_t p = (size_t)d->p, s = (size_t)d->pstored, mixed = d->ncoded ? s : 0;
    const size_t size = p * p + 3 * p + (size_t)ld * s + mixed * (s + p) + 2 * p;
    double *next = g->memory = calloc(size + 1, sizeof(double));
    if (!next) return LMM_NOMEM;
    g->d = d;
    g->ld = ld;
    g->held = 0;
    g->first = g->since = 0;
    g->piece = piece;
    g->often = piece == CAREFUL || d->p < piece ? piece : d->p; /* so that a flush costs little */
    g->mean = x->mean;
    g->scale = scale;
    g->total = x->C;
    g->lost = x->B;
    memset(g->total, 0, sizeof(double) * p * p);
    memset(g->lost, 0, sizeof(double) * p * p);
    g->part = next, next += p * p;
    for (int i = 0; i < 3; i++, next += p) g->sum[i] = next;
    g->rows = next, next += (size_t)ld * s;
    g->stored = next, next += mixed * s;
    g->cross = next, next += mixed * p;
    g->value = next, next += p;
    g->column = (int32_t *)next;
    return LMM_OK;
}

/* The stored columns of the rows that were read last wait for a product. */
static void hold(gram *g, const rows *r)
{
    for (int32_t j = 0; j < g->d->pstored; j++) {
        const int32_t c = stored_place(g->d, j);
        const double *x = rows_column(r, r->x[j]), mean = g->mean[c], unit = 1 / g->scale[c];
        double *to = g->rows + (ptrdiff_t)j * g->ld + g->held;
        for (int32_t i = 0; i < r->n; i++) to[i] = (x[i] - mean) * unit;
        for (int32_t i = 0; r->root && i < r->n; i++) to[i] *= r->root[i];
    }
    g->held += r->n;
}

/* part += stored columns of count rows that are held, from the i-th on */
static void add_stored(gram *g, const lmm_blas *blas, int i, int count)
{
    int s = g->d->pstored;
    double *to = g->d->ncoded ? g->stored : g->part;
    if (s) blas->syrk(&lower, &trans, &s, &count, &one, g->rows + i, &g->ld, &one, to, &s);
}

/* part += coded columns of these rows, with each other and with the stored ones */
static void add_coded(gram *g, int i, int count)
{
    const lmm_data *d = g->d;
    const ptrdiff_t p = d->p, s = d->pstored;
    for (int r = i; r < i + count; r++) {
        const double root = root_weight(d, g->first + r);
        const int32_t found = coded_row(d, g->first + r, g->column, g->value);
        for (int32_t a = 0; a < found; a++) g->value[a] *= root;
        for (int32_t a = 0; a < found; a++) {
            const ptrdiff_t c = g->column[a];
            const double v = g->value[a];
            double *cross = g->cross + c * s;
            for (int32_t b = 0; b <= a; b++) {
                const ptrdiff_t e = g->column[b];
                g->part[c > e ? c + e * p : e + c * p] += v * g->value[b];
            }
            for (ptrdiff_t j = 0; j < s; j++) cross[j] += v * g->rows[r + j * g->ld];
            g->sum[0][c] += v * root;
        }
        for (ptrdiff_t j = 0; j < s; j++)
            g->sum[0][stored_place(d, (int32_t)j)] += root * g->rows[r + j * g->ld];
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

/* The sums of the rows that are held. */
static void add_held(gram *g, const lmm_blas *blas)
{
    for (int i = 0; i < g->held; i += g->piece) {
        const int count = g->held - i < g->piece ? g->held - i : g->piece;
        add_stored(g, blas, i, count);
        if (g->d->ncoded) add_coded(g, i, count);
        if ((g->since += count) < g->often) continue;
        flush(g);
        g->since = 0;
    }
    g->first += g->held;
    g->held = 0;
}

/* x->C := G (lower) of centred and scaled columns; B is overwritten. *lost: not all digits of it are right.
 */
static lmm_status make_gram(const lmm_model *m, builder *b, whitening *x, const double *scale,
                            const uint8_t *coded, int piece, int *lost)
{
    const lmm_data *d = b->d;
    gram g;
    TRY(new_gram(&g, b, x, scale, piece));
    EACH_BLOCK(&b->rows, first)
    {
        if (g.held + b->rows.n > g.ld) add_held(&g, &m->blas);
        hold(&g, &b->rows);
    }
    add_held(&g, &m->blas);
    flush(&g);
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

/* Squared length over n of column c of X_c B for scaled columns, all stored; v: of a block */
static double length_of(rows *r, const whitening *x, const double *scale, ptrdiff_t c, double *v)
{
    const double *B = x->B + c * x->k;
    double total = 0;
    EACH_BLOCK(r, first)
    {
        memset(v, 0, sizeof(double) * (size_t)r->n);
        for (ptrdiff_t l = 0; l <= c; l++) {
            const double *from = rows_column(r, r->x[l]), mean = x->mean[l], b = B[l] / scale[l];
            for (int32_t i = 0; i < r->n && b != 0; i++) v[i] += (from[i] - mean) * b;
        }
        for (int32_t i = 0; i < r->n; i++) total += (r->w ? r->w[i] : 1) * v[i] * v[i];
    }
    return total / (double)r->d->n;
}

/* Drops columns that are kept though the rows say that nothing is left of them: roundings of the sums passed
   for it. Their number; -1: no memory. */
static int drop_roundings(rows *r, const whitening *x, const double *scale, const double *full, uint8_t *keep)
{
    int found = 0;
    double *v = malloc(sizeof(double) * (size_t)r->size);
    if (!v) return -1;
    for (ptrdiff_t j = 0; j < x->k; j++) {
        const double root = x->B[j + j * x->k], share = 1 / (root * root * full[j]);
        if (!keep[j] || share > DOUBTFUL) continue;
        if (share * length_of(r, x, scale, j, v) > DEPENDENT) continue;
        keep[j] = 0;
        found++;
    }
    free(v);
    return found;
}

/* As invert_gram for columns that are all stored, until no column is kept that is none. */
static lmm_status invert_carefully(const lmm_model *m, rows *r, whitening *x, const double *scale,
                                   uint8_t *keep, double *full)
{
    const ptrdiff_t p = x->k;
    for (ptrdiff_t j = 0; j < p; j++) /* the upper triangle keeps G */
        for (ptrdiff_t i = 0; i < j; i++) x->C[i + j * p] = x->C[j + i * p];
    for (int found = 1; found;) {
        invert_gram(m, x, keep, full, 1);
        found = drop_roundings(r, x, scale, full, keep);
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
static lmm_status whiten_columns(lmm_model *m, builder *b, uint8_t *keep, int careful, double *scale,
                                 uint8_t *coded, int *done)
{
    whitening *x = &m->layout.x;
    const int p = b->d->p;
    double *full = scale + p, *work = full + p;
    int lost;
    TRY(fixed_moments(b, x, scale, coded));
    TRY(make_gram(m, b, x, scale, coded, careful ? CAREFUL : PIECE, &lost));
    if (careful)
        TRY(invert_carefully(m, &b->rows, x, scale, keep, full));
    else if (lost || invert_gram(m, x, keep, full, 0))
        return LMM_OK;
    m->layout.inflation = largest_inflation(p, x->B, full, keep, work);
    if (!(m->layout.inflation < INFLATION || careful)) return LMM_OK;
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i <= j; i++) x->B[i + j * p] /= scale[i];
    uncentred(x, x->constant < 0 ? 1 : first_value(b->d, x->constant));
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
    lmm_status status = whiten_columns(m, b, keep, 0, scale, coded, &done);
    m->layout.summed = done;
    if (status == LMM_OK && !done && b->d->pstored < b->d->p) status = store_fixed(b);
    if (status == LMM_OK && !done) status = whiten_columns(m, b, keep, 1, scale, coded, &done);
    free(scale);
    return status;
}

/* The basis: B over the kept columns, rows of all. */
lmm_status new_basis(const lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    const size_t k = (size_t)lay->pfull;
    b->basis = malloc(sizeof(double) * (k * (size_t)lay->p + 1));
    if (!b->basis) return LMM_NOMEM;
    for (int a = 0; a < lay->p; a++)
        memcpy(b->basis + (size_t)a * k, lay->x.B + (size_t)lay->keep[a] * k, sizeof(double) * k);
    return LMM_OK;
}

/* The columns of X in the block that was read last, whitened, all stored. */
void whiten_wide_rows(const lmm_model *m, const builder *b, double *work)
{
    const layout *lay = &m->layout;
    const rows *r = &b->rows;
    int p = lay->p, k = lay->pfull, n = r->n, ld = r->size, ncol = b->ncol;
    for (ptrdiff_t j = 0; j < k; j++) {
        const double *x = rows_column(r, r->x[j]), mean = lay->x.mean[j];
        double *to = work + j * ld;
        for (int32_t i = 0; i < n; i++) to[i] = (x[i] - mean) * (r->root ? r->root[i] : 1);
    }
    if (p)
        m->blas.gemm(&trans, &trans, &p, &n, &k, &one, b->basis, &k, work, &ld, &zero,
                     b->white + (ncol - lay->pb), &ncol);
}
