/* G = X_c'W X_c / n of a wide X, its columns centred and scaled: one product over the rows, by BLAS for
   stored columns and by what is not zero for coded ones. */

#include <string.h>

#include "setup/fixed.h"
#include "setup/wide.h"

#define PIECE 512      /* rows of stored columns in one product, about */
#define CAREFUL 32     /* the same where every rounding counts */
#define CANCELLED 1e-4 /* share of a coded column's square that centring may leave */

static char lower = 'L', trans = 'T';
static double one = 1;

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

static lmm_status new_gram(gram *g, const builder *b, whitening *x, const double *scale, int careful)
{
    const lmm_data *d = b->d;
    const int ld = b->rows.size > PIECE ? b->rows.size : PIECE, piece = careful ? CAREFUL : PIECE;
    const size_t p = (size_t)d->p, s = (size_t)d->pstored, mixed = d->ncoded ? s : 0;
    const size_t size = p * p + 3 * p + (size_t)ld * s + mixed * (s + p) + 2 * p;
    double *next = g->memory = calloc(size + 1, sizeof(double));
    if (!next) return LMM_NOMEM;
    g->d = d;
    g->ld = ld;
    g->held = 0;
    g->first = g->since = 0;
    g->piece = piece;
    g->often = careful || d->p < piece ? piece : d->p; /* so that a flush costs little */
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

lmm_status make_gram(const lmm_model *m, builder *b, whitening *x, const double *scale, const uint8_t *coded,
                     int careful, int *lost)
{
    const lmm_data *d = b->d;
    gram g;
    TRY(new_gram(&g, b, x, scale, careful));
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
