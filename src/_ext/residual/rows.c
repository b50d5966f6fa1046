/* Rows that stay: whitened once as the model's columns are, times the roots of their weights, sorted so that
   those of a subject follow each other; and their sums. */

#include "residual/residual.h"

#include <stdlib.h>

#include "base/small.h"
#include "setup/fixed.h"
#include "setup/places.h"

#define AHEAD 8 /* rows whose blocks are fetched beforehand */

/* ----------------------------------------------------------------------------------------- reading -- */

typedef struct {
    int64_t row;
    int32_t node, subject;
    double time;
} place_in_order;

static int by_place(const void *x, const void *y)
{
    const place_in_order *a = x, *b = y;
    if (a->node != b->node) return a->node < b->node ? -1 : 1;
    if (a->subject != b->subject) return a->subject < b->subject ? -1 : 1;
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* r->rows.from, and the subjects. LMM_UNAVAILABLE: a factor varies within a subject. */
static lmm_status sort_rows(residual *r, const lmm_model *m, const lmm_data *d, const lmm_residual *given)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[0];
    residual_rows *rows = &r->rows;
    place_in_order *order = malloc(sizeof(*order) * (size_t)rows->n);
    if (!order) return LMM_NOMEM;
    for (int64_t i = 0; i < rows->n; i++) {
        order[i] = (place_in_order){.row = i, .node = f->perm[d->factor[f->user].level[i]]};
        if (!given->subject) continue;
        order[i].subject = given->subject[i];
        order[i].time = given->kind == LMM_CS ? 0 : given->time[i];
    }
    qsort(order, (size_t)rows->n, sizeof(*order), by_place);
    for (int64_t i = 0; i < rows->n; i++) {
        rows->from[i] = order[i].row;
        if (!given->subject) continue;
        const int first = !i || order[i].subject != order[i - 1].subject;
        if (first) rows->subject[rows->nsubject++] = i;
        if (given->kind != LMM_CS) r->gap[i] = first ? 0 : order[i].time - order[i - 1].time;
        if (r->visit) r->visit[i] = (int32_t)order[i].time;
    }
    free(order);
    if (!given->subject) return LMM_OK;
    rows->subject[rows->nsubject] = rows->n;
    for (int64_t s = 0; s < rows->nsubject; s++)
        for (int64_t i = rows->subject[s] + 1; i < rows->subject[s + 1]; i++)
            for (int k = 0; k < d->nfactor; k++) {
                const int32_t *level = d->factor[k].level;
                if (level[rows->from[i]] != level[rows->from[i - 1]]) return LMM_UNAVAILABLE;
            }
    return LMM_OK;
}

/* Coefficients on the centred columns of X that the response was freed of (setup/response.c) */
static void response_coefficients(const lmm_model *m, double *c)
{
    const layout *lay = &m->layout;
    for (int l = 0; l < lay->pfull; l++) c[l] = 0;
    for (int j = 0; j < lay->pfull; j++)
        for (int l = 0; l <= j; l++) c[l] += lay->x.B[l + (ptrdiff_t)j * lay->pfull] * m->sums.b0[j];
}

/* The block that was read last, row-major, into white; residual: room for its response */
static void whiten_block_read(const lmm_model *m, const builder *b, const response *y, int32_t width,
                              double *white, double *left)
{
    const layout *lay = &m->layout;
    const rows *read = &b->rows;
    const basis x = {lay->pfull, lay->x.mean, lay->x.B};
    double *to = white;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const basis z = {f->p, f->w.mean, f->w.B};
        for (int j = 0; j < f->p; j++)
            rows_whiten(read, read->z[f->user], &z, f->term[j], j, read->root, to++, width);
    }
    for (int a = 0; a < lay->p; a++)
        rows_whiten(read, read->x, &x, 0, lay->keep[a], read->root, to++, width);
    response_rows(m, y, read, left);
    for (int32_t i = 0; i < read->n; i++) to[(ptrdiff_t)i * width] = left[i];
}

/* place (n): where each row of the data goes */
static lmm_status read_rows(residual *r, const lmm_model *m, builder *b, const int64_t *place)
{
    const layout *lay = &m->layout;
    const ptrdiff_t width = r->rows.width;
    double *c = malloc(sizeof(double) * ((size_t)lay->pfull + 1));
    double *white = malloc(sizeof(double) * (size_t)(b->rows.size + 8) * (size_t)(width + 1));
    if (!c || !white) {
        free(c), free(white);
        return LMM_NOMEM;
    }
    const response y = {.mean = m->sums.ymean, .spread = m->sums.yscale, .c = c};
    response_coefficients(m, c);
    EACH_BLOCK(&b->rows, first)
    {
        const int32_t n = b->rows.n;
        whiten_block_read(m, b, &y, (int32_t)width, white, white + width * (b->rows.size + 8));
        for (int32_t i = 0; i < n; i++)
            memcpy(r->rows.value + place[first + i] * width, white + i * width,
                   sizeof(double) * (size_t)width);
    }
    free(c), free(white);
    return LMM_OK;
}

/* Nodes, and where the blocks of two of them stand */
static lmm_status find_places(residual *r, lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    const int K = lay->nfactor;
    residual_rows *rows = &r->rows;
    TRY(new_places(m, b));
    for (int k = 0; k < K; k++) {
        const factor *f = &lay->f[k];
        const int32_t *level = b->d->factor[f->user].level;
        for (int64_t i = 0; i < rows->n; i++) rows->node[k * rows->n + i] = f->perm[level[rows->from[i]]];
    }
    for (int k = 0; k < K; k++)
        for (int j = k + 1; j < K; j++)
            for (int64_t i = 0; i < rows->n; i++) {
                const int32_t e = rows->node[k * rows->n + i], o = rows->node[j * rows->n + i];
                rows->spot[k * K + j][i] = (uint32_t)(lay->pan[e] + place_of(lay, b, k, j, e, o));
            }
    return LMM_OK;
}

static lmm_status room(residual *r, const lmm_model *m, const lmm_residual *given)
{
    const layout *lay = &m->layout;
    const int K = lay->nfactor;
    residual_rows *rows = &r->rows;
    rows->n = lay->n;
    rows->width = lay->pb;
    for (int k = 0; k < K; k++) {
        rows->width += lay->f[k].p;
        if (panel_size(lay, k) > UINT32_MAX) return LMM_TOOLARGE;
    }
    GRAB(r, rows->value, rows->n * rows->width);
    GRAB(r, rows->node, rows->n * K);
    GRAB(r, rows->spot, K * K);
    GRAB(r, rows->from, rows->n);
    for (int k = 0; k < K; k++)
        for (int j = k + 1; j < K; j++) GRAB(r, rows->spot[k * K + j], rows->n);
    if (!given->subject) return LMM_OK;
    GRAB(r, rows->subject, rows->n + 1);
    GRAB(r, r->gap, rows->n);
    if (given->kind == LMM_ANTE) {
        GRAB(r, r->visit, rows->n);
    } else if (given->kind != LMM_CS) {
        GRAB(r, r->slope, rows->n);
    }
    return LMM_OK;
}

static void free_builder(builder *b)
{
    const int K = b->table ? b->d->nfactor : 0;
    for (int i = 0; i < K * K; i++) free(b->table[i]);
    free(b->table), free(b->place), free(b->columns);
    rows_close(&b->rows);
    moments_free(&b->moments);
}

lmm_status keep_residual_rows(residual *r, lmm_model *m, const lmm_data *d, const lmm_residual *given)
{
    builder b = {.d = d};
    TRY(room(r, m, given));
    int64_t *place = malloc(sizeof(*place) * (size_t)r->rows.n);
    lmm_status status = place ? sort_rows(r, m, d, given) : LMM_NOMEM;
    if (status == LMM_OK) status = rows_open(&b.rows, d);
    if (status == LMM_OK && d->pstored < d->p) status = store_fixed(&b);
    if (status == LMM_OK) {
        for (int64_t i = 0; i < r->rows.n; i++) place[r->rows.from[i]] = i;
        status = read_rows(r, m, &b, place);
    }
    if (status == LMM_OK) status = find_places(r, m, &b);
    free(place);
    free_builder(&b);
    return status;
}

/* -------------------------------------------------------------------------------------------- sums -- */

/* Diagonal blocks of factor k and its edge, [X y]. at: place of its columns */
INLINE void add_levels(const int p, const lmm_model *m, const residual *r, const block_sums *s, int k, int at,
                       int64_t first, int32_t n, const double *u, const double *v)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const ptrdiff_t width = r->rows.width;
    const int pb = lay->pb, edge = (int)width - pb;
    const int32_t *node = r->rows.node + k * r->rows.n + first;
    for (int32_t i = 0; i < n; i++, u += width, v += width) {
        const int32_t e = node[i], ahead = node[i + AHEAD < n ? i + AHEAD : n - 1];
        double *pan = s->A[k].pan;
        __builtin_prefetch(pan + (lay->pan[ahead] + lay->ld[ahead] - pb), 1);
        add_outer(p, p, v + at, u + at, s->A[k].diag + (ptrdiff_t)(e - f->node) * p * p, p);
        add_outer(p, pb, v + at, u + edge, pan + (lay->pan[e] + lay->ld[e] - pb), lay->ld[e]);
    }
}

/* Blocks of the levels of factors k and j, w columns wide */
INLINE void add_pairs(const int p, const lmm_model *m, const residual *r, const block_sums *s, int k, int j,
                      int at, int other, int64_t first, int32_t n, const double *u, const double *v)
{
    const layout *lay = &m->layout;
    const ptrdiff_t width = r->rows.width;
    const int w = lay->f[j].p;
    const int32_t *node = r->rows.node + k * r->rows.n + first;
    const uint32_t *spot = r->rows.spot[k * lay->nfactor + j] + first;
    for (int32_t i = 0; i < n; i++, u += width, v += width) {
        __builtin_prefetch(s->A[k].pan + spot[i + AHEAD < n ? i + AHEAD : n - 1], 1);
        add_outer(p, w, v + at, u + other, s->A[k].pan + spot[i], lay->ld[node[i]]);
    }
}

CLONES void add_rows_to(const lmm_model *m, const residual *r, const block_sums *s, int64_t first, int32_t n,
                        const double *u, const double *v)
{
    static char none = 'N', trans = 'T';
    const layout *lay = &m->layout;
    int width = r->rows.width, pb = lay->pb, edge = width - pb, rows = n;
    double one = 1;
    for (int k = 0, at = 0; k < lay->nfactor; at += lay->f[k++].p) {
        BY_WIDTH(lay->f[k].p, add_levels, m, r, s, k, at, first, n, u, v);
        for (int j = k + 1, other = at + lay->f[k].p; j < lay->nfactor; other += lay->f[j++].p)
            BY_WIDTH(lay->f[k].p, add_pairs, m, r, s, k, j, at, other, first, n, u, v);
    }
    m->blas.gemm(&none, &trans, &pb, &pb, &rows, &one, (double *)u + edge, &width, (double *)v + edge, &width,
                 &one, s->border, &pb);
}

/* The rows from `first` on that are handled together: whole subjects, or any */
static int64_t block_end(const residual *r, int64_t first, int64_t *subject)
{
    const residual_rows *rows = &r->rows;
    if (!rows->subject) return first + r->batch < rows->n ? first + r->batch : rows->n;
    int64_t s = *subject;
    do
        s++;
    while (s < rows->nsubject && rows->subject[s + 1] - first <= r->batch);
    *subject = s;
    return rows->subject[s];
}

/* g := D^-1 times the rows */
static void scale_rows(const residual *r, int64_t first, int64_t end, double *g)
{
    const ptrdiff_t width = r->rows.width;
    const double *from = r->rows.value + first * width;
    for (int64_t i = first; i < end; i++, from += width, g += width)
        for (ptrdiff_t c = 0; c < width; c++) g[c] = r->scale[i] * from[c];
}

CLONES lmm_status fill_from_rows(lmm_model *m, residual *r)
{
    const block_sums A = model_sums(m);
    const int32_t width = r->rows.width;
    double logdet, *g = r->buffer, *u = g + r->batch * width;
    if (place_rows(r, &logdet)) return LMM_NOTFINITE;
    m->sums.sumlogw = r->sumlogw - logdet;
    clear_block_sums(&m->layout, &A);
    for (int64_t first = 0, end, s = 0; first < r->rows.n; first = end) {
        end = block_end(r, first, &s);
        scale_rows(r, first, end, g);
        if (r->rows.subject) whiten_block(r, first, end, g, width, u);
        const double *white = r->rows.subject ? u : g;
        add_rows_to(m, r, &A, first, (int32_t)(end - first), white, white);
    }
    return LMM_OK;
}

/* v := c_j times g, row by row: minus the derivative of D^-1 */
static void slide_rows(const residual *r, int64_t first, int64_t end, int j, double factor, const double *g,
                       double *v)
{
    const ptrdiff_t width = r->rows.width;
    for (int64_t i = first; i < end; i++, g += width, v += width) {
        const double c = r->own ? r->own[i] == j : r->column[i + (ptrdiff_t)j * r->rows.n];
        for (ptrdiff_t a = 0; a < width; a++) v[a] = factor * c * g[a];
    }
}

static void add_both(lmm_model *m, residual *r, int j, int64_t first, int64_t end, const double *u,
                     const double *du)
{
    const int32_t n = (int32_t)(end - first);
    add_rows_to(m, r, &r->dA[j], first, n, u, du);
    add_rows_to(m, r, &r->dA[j], first, n, du, u);
}

CLONES void differentiate_rows(lmm_model *m, residual *r)
{
    const int32_t width = r->rows.width;
    const ptrdiff_t size = r->batch * width;
    double *g = r->buffer, *u = g + size, *h = u + size, *du = h + size;
    for (int j = 0; j < r->ndelta; j++) {
        clear_block_sums(&m->layout, &r->dA[j]);
        r->logs[j] = 0;
        if (j >= r->ndeviation) r->logs[j] = log_slope(r, j - r->ndeviation);
        for (int64_t i = 0; j < r->ndeviation && i < r->rows.n; i++)
            r->logs[j] += 2 * (r->own ? r->own[i] == j : r->column[i + (ptrdiff_t)j * r->rows.n]);
    }
    for (int64_t first = 0, end, s = 0; first < r->rows.n; first = end) {
        end = block_end(r, first, &s);
        scale_rows(r, first, end, g);
        if (r->rows.subject) whiten_block(r, first, end, g, width, u);
        for (int j = 0; j < r->ndeviation; j++) {
            if (!r->rows.subject) {
                slide_rows(r, first, end, j, -2, g, du);
                add_rows_to(m, r, &r->dA[j], first, (int32_t)(end - first), g, du);
                continue;
            }
            slide_rows(r, first, end, j, -1, g, h);
            whiten_block(r, first, end, h, width, du);
            add_both(m, r, j, first, end, u, du);
        }
        for (int j = 0; j < r->ncorrelation; j++) {
            turn_block(r, first, end, j, g, width, du);
            add_both(m, r, r->ndeviation + j, first, end, u, du);
        }
    }
}
