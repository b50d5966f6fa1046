/* Moments of columns (means, scales, cross-products) and what follows from them: whitening, dependent
   columns. Two passes over the rows.

   For columns x with weights w:  x_w = (x - mean) B  with  x_w'W x_w = n I.  Columns are centred when one
   of them is constant (then the others stay in the same space). Taken on centred and scaled columns, the
   Cholesky factor of their cross-products keeps its digits whatever the units and origins are. */

#include "setup/build.h"
#include "base/small.h"

#include <stdlib.h>

#define PIECE 256 /* rows summed at a time, an eighth of them in each lane */
#define LANES 8   /* sums that do not wait for each other */

/* Takes in the n values of a block. */
CLONES static void widen_range(column_range *c, int32_t n, const double *x, const double *w)
{
    double low[LANES], high[LANES], sum[LANES] = {0};
    const double shift = c->shift;
    int32_t i = 0;
    for (int l = 0; l < LANES; l++) low[l] = c->low, high[l] = c->high;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const double v = x[i + l];
            low[l] = v < low[l] ? v : low[l];
            high[l] = v > high[l] ? v : high[l];
            sum[l] += (w ? w[i + l] : 1) * (v - shift);
        }
    for (; i < n; i++) {
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
        sum[0] += (w ? w[i] : 1) * (x[i] - shift);
    }
    for (int l = 0; l < LANES; l++) {
        c->low = fmin(c->low, low[l]);
        c->high = fmax(c->high, high[l]);
        c->sum += sum[l];
    }
}

static void begin_range(column_range *c, double first)
{
    c->low = c->high = c->shift = first;
    c->sum = 0;
}

static double mean_of(const column_range *c, double total)
{
    return c->shift + c->sum / total;
}

static double spread_of(const column_range *c, double mean)
{
    return fmax(c->high - mean, mean - c->low);
}

static double sum_of(int32_t n, const double *w)
{
    double sum = 0;
    for (int32_t i = 0; i < n && w; i++) sum += w[i];
    return w ? sum : n;
}

/* total += part, keeping in lost what rounding took (Kahan) */
void add_exactly(ptrdiff_t n, double *total, double *lost, const double *part)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        const double y = part[i] - lost[i], t = total[i] + y;
        lost[i] = (t - total[i]) - y;
        total[i] = t;
    }
}

/* out = (x - mean) / scale */
CLONES static void scale_column(int32_t n, const double *x, double mean, double scale, double *out)
{
    for (int32_t i = 0; i < n; i++) out[i] = (x[i] - mean) / scale;
}

CLONES static void weigh(int32_t n, const double *w, double *x)
{
    for (int32_t i = 0; i < n; i++) x[i] *= w[i];
}

/* part (k x k, lower) = S'S of n rows of k columns, ld apart */
CLONES static void multiply_columns(int k, int32_t n, const double *S, ptrdiff_t ld, double *part)
{
    for (int j = 0; j < k; j++)
        for (int i = j; i < k; i++) part[i + (ptrdiff_t)j * k] = dot(n, S + j * ld, S + i * ld);
}

/* What the rows that were read last add to G. Summed in pieces: equal values round alike, and n roundings in
   one direction would hide that a column is dependent. */
static void add_products(const span *s, const rows *r, double *work)
{
    const int k = s->k, ld = r->size;
    double *S = work, *part = S + (ptrdiff_t)k * ld;
    for (int j = 0; j < k; j++) {
        double *to = S + (ptrdiff_t)j * ld;
        scale_column(r->n, s->column[j] < 0 ? r->y : rows_column(r, s->column[j]), s->mean[j], s->scale[j],
                     to);
        if (r->w) weigh(r->n, r->root, to);
    }
    for (int32_t i = 0; i < r->n; i += PIECE) {
        multiply_columns(k, r->n - i < PIECE ? r->n - i : PIECE, S + i, ld, part);
        add_exactly((ptrdiff_t)k * k, s->G, s->lost, part);
    }
}

int range_moments(const column_range *c, double total, double *mean, double *scale)
{
    *mean = mean_of(c, total);
    *scale = spread_of(c, *mean);
    return c->low == c->high;
}

void center_on_constant(int k, int constant, double *mean, double *scale)
{
    for (int j = 0; j < k; j++) {
        if (constant < 0 || j == constant) {
            scale[j] += fabs(mean[j]);
            mean[j] = 0;
        }
        if (!(scale[j] > 0)) scale[j] = 1;
    }
}

/* Means and scales of a span. */
static void choose_scales(span *s, const column_range *range, double total)
{
    s->constant = -1;
    for (int j = 0; j < s->k; j++) {
        const int constant = range_moments(&range[s->column[j] + 1], total, &s->mean[j], &s->scale[j]);
        if (s->column[j] >= 0 && constant && s->constant < 0 && s->mean[j] != 0) s->constant = j;
    }
    center_on_constant(s->k, s->constant, s->mean, s->scale);
}

static response response_of(const column_range *c, double total, int uncentred)
{
    const double mean = mean_of(c, total), spread = spread_of(c, mean);
    const response y = {.mean = uncentred ? 0 : mean,
                        .spread = spread + (uncentred ? fabs(mean) : 0),
                        .size = fmax(fabs(c->low), fabs(c->high)),
                        .total = total};
    return y;
}

/* Of the response alone: columns are not read. */
response response_moments(const lmm_data *d, int uncentred)
{
    column_range range;
    double total = 0;
    begin_range(&range, d->y[0]);
    for (int64_t i = 0; i < d->n; i += PIECE) {
        const int32_t n = d->n - i < PIECE ? (int32_t)(d->n - i) : PIECE;
        const double *w = d->w ? d->w + i : NULL;
        widen_range(&range, n, d->y + i, w);
        total += sum_of(n, w);
    }
    return response_of(&range, total, uncentred);
}

/* The spans of the columns of Z, term by term, and of X and y unless X is wide. */
static lmm_status new_spans(moments *mo, const rows *r)
{
    const lmm_data *d = r->d;
    int32_t n = 1;
    for (int a = 0; a < d->nfactor; a++) n += d->factor[a].ncol;
    GRAB(mo, mo->span, n);
    GRAB(mo, mo->first, d->nfactor + 1);
    GRAB(mo, mo->column, d->p + 1);
    n = 0;
    for (int a = 0; a < d->nfactor; a++) {
        mo->first[a] = n;
        for (int32_t c = 0; c < d->factor[a].ncol; n++) {
            span *s = &mo->span[n];
            s->column = r->z[a] + c;
            for (s->k = 1, c++; c < d->factor[a].ncol && d->factor[a].term[c] == d->factor[a].term[c - 1];
                 c++)
                s->k++;
        }
    }
    mo->first[d->nfactor] = n;
    if (!is_wide(d)) {
        memcpy(mo->column, r->x, sizeof(*mo->column) * (size_t)d->p);
        mo->column[d->p] = -1;
        mo->span[n].column = mo->column;
        mo->span[n++].k = d->p + 1;
    }
    mo->n = n;
    for (int32_t i = 0; i < mo->n; i++) {
        span *s = &mo->span[i];
        GRAB(mo, s->mean, s->k);
        GRAB(mo, s->scale, s->k);
        GRAB(mo, s->G, (ptrdiff_t)s->k * s->k);
        GRAB(mo, s->lost, (ptrdiff_t)s->k * s->k);
        if (s->k > mo->widest) mo->widest = s->k;
    }
    return LMM_OK;
}

void moments_free(moments *mo)
{
    release(&mo->memory, NULL);
}

lmm_status moments_of(moments *mo, rows *r)
{
    double *work;
    TRY(new_spans(mo, r));
    GRAB(mo, mo->range, r->ncol + 1);
    column_range *range = mo->range;
    GRAB(mo, work, (ptrdiff_t)mo->widest * (r->size + mo->widest));
    begin_range(range, r->d->y[0]);
    for (int32_t j = 0; j < r->ncol; j++) begin_range(&range[j + 1], rows_value(r->column[j], 0));
    EACH_BLOCK(r, i)
    {
        mo->total += sum_of(r->n, r->w);
        widen_range(range, r->n, r->y, r->w);
        for (int32_t j = 0; j < r->ncol; j++) widen_range(&range[j + 1], r->n, rows_column(r, j), r->w);
    }
    for (int32_t i = 0; i < mo->n; i++) choose_scales(&mo->span[i], range, mo->total);
    if (!is_wide(r->d)) mo->y = response_of(range, mo->total, mo->span[mo->n - 1].constant < 0);
    EACH_BLOCK(r, i)
    for (int32_t j = 0; j < mo->n; j++) add_products(&mo->span[j], r, work);
    for (int32_t i = 0; i < mo->n; i++) {
        const span *s = &mo->span[i];
        for (ptrdiff_t j = 0; j < (ptrdiff_t)s->k * s->k; j++) s->G[j] /= (double)r->d->n;
    }
    return LMM_OK;
}

/* G = R'R in place (R upper, by rows below the diagonal of G); keep[j] = 0 where column j depends on
   earlier ones. */
void chol_dropping(int k, double *G, uint8_t *keep)
{
    for (int j = 0; j < k; j++) {
        double d = G[j + j * k];
        const double full = d;
        for (int l = 0; l < j; l++)
            if (keep[l]) d -= G[j + l * k] * G[j + l * k];
        keep[j] = d > DEPENDENT * full && d > 0;
        if (!keep[j]) continue;
        d = sqrt(d);
        G[j + j * k] = d;
        for (int i = j + 1; i < k; i++) {
            double s = G[i + j * k];
            for (int l = 0; l < j; l++)
                if (keep[l]) s -= G[i + l * k] * G[j + l * k];
            G[i + j * k] = s / d;
        }
    }
}

/* B = diag(1/scale) R^-1 for the kept columns, R' = lower triangle of G */
void invert_factor(int k, const double *G, const double *scale, const uint8_t *keep, double *B)
{
    memset(B, 0, sizeof(double) * (size_t)k * (size_t)k);
    for (int j = 0; j < k; j++) {
        if (!keep[j]) continue;
        B[j + j * k] = 1 / G[j + j * k];
        for (int i = j - 1; i >= 0; i--) {
            if (!keep[i]) continue;
            double s = 0;
            for (int l = i + 1; l <= j; l++)
                if (keep[l]) s -= G[l + i * k] * B[l + j * k];
            B[i + j * k] = s / G[i + i * k];
        }
    }
    for (int j = 0; j < k; j++)
        for (int i = 0; i < k; i++) B[i + j * k] /= scale[i];
}

/* C: what B means for columns that are not centred (the constant column takes up the means) */
void uncentred(const whitening *w, double constant)
{
    const int k = w->k;
    memcpy(w->C, w->B, sizeof(double) * (size_t)k * (size_t)k);
    if (w->constant < 0) return;
    for (int j = 0; j < k; j++)
        for (int i = 0; i < k; i++)
            if (i != w->constant) w->C[w->constant + j * k] -= w->mean[i] * w->B[i + j * k] / constant;
}

/* Fills w for the first w->k columns of a span; keep (k bytes) receives which columns are independent. */
lmm_status whiten(whitening *w, const span *s, const rows *r, uint8_t *keep)
{
    const int k = w->k;
    double *G = malloc(sizeof(double) * ((size_t)k * (size_t)k + 1));
    if (!G) return LMM_NOMEM;
    for (int j = 0; j < k; j++) memcpy(G + j * k, s->G + (ptrdiff_t)j * s->k, sizeof(double) * (size_t)k);
    memcpy(w->mean, s->mean, sizeof(double) * (size_t)k);
    w->constant = s->constant;
    chol_dropping(k, G, keep);
    invert_factor(k, G, s->scale, keep, w->B);
    uncentred(w, w->constant < 0 ? 1 : rows_value(r->column[s->column[w->constant]], 0));
    free(G);
    return LMM_OK;
}
