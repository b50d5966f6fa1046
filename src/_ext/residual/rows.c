/* Rows that stay: whitened once as the model's columns are, times the roots of their weights, sorted so that
   those of a subject follow each other; and their sums. */

#include "residual/residual.h"

#include <stdlib.h>

#include "base/small.h"
#include "setup/fixed.h"
#include "setup/places.h"

#define AHEAD 8  /* rows whose blocks are fetched beforehand */
#define NARROW 8 /* columns of X and y up to which their products need no BLAS */

/* ----------------------------------------------------------------------------------------- reading -- */

typedef struct { /* a row of one node of the first factor */
    int64_t row;
    int32_t subject;
    double time;
} row_place;

static int by_place(const void *x, const void *y)
{
    const row_place *a = x, *b = y;
    if (a->subject != b->subject) return a->subject < b->subject ? -1 : 1;
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

static int is_sorted(const row_place *p, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        if (by_place(p + i - 1, p + i) > 0) return 0;
    return 1;
}

/* rows->from: rows by stratum (where these are summed) and node of the first factor, as they stand in the
   data; start: of each of so many nodes and strata */
static lmm_status sort_by_node(residual *r, const lmm_model *m, const lmm_data *d, const int32_t *stratum,
                               int64_t **start, int64_t *groups)
{
    const factor *f = &m->layout.f[0];
    const int32_t *level = d->factor[f->user].level;
    const int64_t n = r->rows.n, nodes = f->nlev;
    *groups = nodes * (stratum ? r->ndeviation + 1 : 1);
    int64_t *at = *start = calloc((size_t)*groups + 2, sizeof(*at));
    if (!at) return LMM_NOMEM;
#define GROUP(i) (f->perm[level[i]] - f->node + (stratum ? (stratum[i] + 1) * nodes : 0))
    for (int64_t i = 0; i < n; i++) at[GROUP(i) + 2]++;
    for (int64_t g = 0; g < *groups; g++) at[g + 2] += at[g + 1];
    for (int64_t i = 0; i < n; i++) r->rows.from[at[GROUP(i) + 1]++] = i;
#undef GROUP
    return LMM_OK;
}

/* The rows of every node by subject and time */
static lmm_status sort_subjects(residual *r, const lmm_residual *given, const int64_t *start, int64_t groups)
{
    int64_t most = 1;
    for (int64_t g = 0; g < groups; g++)
        if (start[g + 1] - start[g] > most) most = start[g + 1] - start[g];
    row_place *place = malloc(sizeof(*place) * (size_t)most);
    if (!place) return LMM_NOMEM;
    for (int64_t g = 0; g < groups; g++) {
        int64_t *from = r->rows.from + start[g], n = start[g + 1] - start[g];
        for (int64_t i = 0; i < n; i++)
            place[i] = (row_place){from[i], given->subject[from[i]],
                                   given->kind == LMM_CS ? 0 : given->time[from[i]]};
        if (is_sorted(place, n)) continue;
        qsort(place, (size_t)n, sizeof(*place), by_place);
        for (int64_t i = 0; i < n; i++) from[i] = place[i].row;
    }
    free(place);
    return LMM_OK;
}

/* Where subjects begin, and the time between their rows. LMM_UNAVAILABLE: a factor varies within a subject.
 */
static lmm_status find_subjects(residual *r, const lmm_data *d, const lmm_residual *given)
{
    residual_rows *rows = &r->rows;
    for (int64_t i = 0; i < rows->n; i++) {
        const int64_t row = rows->from[i], before = i ? rows->from[i - 1] : -1;
        const int first = !i || given->subject[row] != given->subject[before];
        if (first) rows->subject[rows->nsubject++] = i;
        if (given->kind != LMM_CS) r->gap[i] = first ? 0 : given->time[row] - given->time[before];
        if (r->visit) r->visit[i] = (int32_t)given->time[row];
        for (int k = 0; !first && k < d->nfactor; k++)
            if (d->factor[k].level[row] != d->factor[k].level[before]) return LMM_UNAVAILABLE;
    }
    rows->subject[rows->nsubject] = rows->n;
    return LMM_OK;
}

/* Does each subject have its rows in one place? Else the first factor varies within it. */
static lmm_status check_subjects(const residual *r, const lmm_residual *given)
{
    int32_t most = 0;
    for (int64_t i = 0; i < r->rows.n; i++)
        if (given->subject[i] > most) most = given->subject[i];
    uint8_t *seen = calloc((size_t)most + 1, 1);
    if (!seen) return LMM_NOMEM;
    lmm_status status = LMM_OK;
    for (int64_t s = 0; s < r->rows.nsubject; s++) {
        uint8_t *own = seen + given->subject[r->rows.from[r->rows.subject[s]]];
        if (*own) status = LMM_UNAVAILABLE;
        *own = 1;
    }
    free(seen);
    return status;
}

static lmm_status sort_rows(residual *r, const lmm_model *m, const lmm_data *d, const lmm_residual *given,
                            int summed)
{
    int64_t *start = NULL, groups;
    lmm_status status = sort_by_node(r, m, d, summed ? given->stratum : NULL, &start, &groups);
    if (status == LMM_OK && given->subject) {
        status = sort_subjects(r, given, start, groups);
        if (status == LMM_OK) status = find_subjects(r, d, given);
        if (status == LMM_OK) status = check_subjects(r, given);
    }
    free(start);
    return status;
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
    for (int a = 0; a < lay->p; a++) rows_whiten(read, read->x, &x, 0, lay->keep[a], read->root, to++, width);
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

lmm_status keep_residual_rows(residual *r, lmm_model *m, const lmm_data *d, const lmm_residual *given,
                              int summed)
{
    builder b = {.d = d};
    TRY(room(r, m, given));
    int64_t *place = malloc(sizeof(*place) * (size_t)r->rows.n);
    lmm_status status = place ? sort_rows(r, m, d, given, summed) : LMM_NOMEM;
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

/* C (rows of w, ld apart) += z x' of u and v, z: p, x: w; both: and of v and u */
INLINE void add_product(const int both, int p, int w, const double *u, const double *v, int z, int x,
                        double *C, ptrdiff_t ld)
{
    for (int c = 0; c < p; c++)
        for (int a = 0; a < w; a++) C[a + c * ld] += u[x + a] * v[z + c] + (both ? v[x + a] * u[z + c] : 0);
}

/* Diagonal blocks of factor k and its edge, [X y]. at: place of its columns */
INLINE void add_levels(const int p, const int both, const lmm_model *m, const residual *r,
                       const block_sums *s, int k, int at, int64_t first, int32_t n, const double *u,
                       const double *v)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const ptrdiff_t width = r->rows.width;
    const int pb = lay->pb, edge = (int)width - pb;
    const int32_t *node = r->rows.node + k * r->rows.n + first;
    for (int32_t i = 0; i < n; i++, u += width, v += width) {
        const int32_t e = node[i], ahead = node[i + AHEAD < n ? i + AHEAD : n - 1];
        double *pan = s->A[k].pan, *diag = s->A[k].diag + (ptrdiff_t)(e - f->node) * p * p;
        __builtin_prefetch(pan + (lay->pan[ahead] + lay->ld[ahead] - pb), 1);
        add_product(both, p, p, u, v, at, at, diag, p);
        add_product(both, p, pb, u, v, at, edge, pan + (lay->pan[e] + lay->ld[e] - pb), lay->ld[e]);
    }
}

/* Blocks of the levels of factors k and j, w columns wide */
INLINE void add_pairs(const int p, const int both, const lmm_model *m, const residual *r, const block_sums *s,
                      int k, int j, int at, int other, int64_t first, int32_t n, const double *u,
                      const double *v)
{
    const layout *lay = &m->layout;
    const ptrdiff_t width = r->rows.width;
    const int w = lay->f[j].p;
    const int32_t *node = r->rows.node + k * r->rows.n + first;
    const uint32_t *spot = r->rows.spot[k * lay->nfactor + j] + first;
    for (int32_t i = 0; i < n; i++, u += width, v += width) {
        __builtin_prefetch(s->A[k].pan + spot[i + AHEAD < n ? i + AHEAD : n - 1], 1);
        add_product(both, p, w, u, v, at, other, s->A[k].pan + spot[i], lay->ld[node[i]]);
    }
}

/* border += u v' of the last pb columns */
INLINE void add_border(const int pb, ptrdiff_t width, int32_t n, const double *u, const double *v,
                       double *border)
{
    double sum[NARROW * NARROW] = {0};
    for (int32_t i = 0; i < n; i++, u += width, v += width)
        for (int c = 0; c < pb; c++)
            for (int b = 0; b < pb; b++) sum[b + c * pb] += u[b] * v[c];
    for (int i = 0; i < pb * pb; i++) border[i] += sum[i];
}

INLINE void add_corner(const lmm_model *m, int width, int n, const double *u, const double *v, double *border)
{
    static char none = 'N', trans = 'T';
    int pb = m->layout.pb;
    double one = 1;
    switch (pb) {
    case 2: add_border(2, width, n, u, v, border); return;
    case 3: add_border(3, width, n, u, v, border); return;
    case 4: add_border(4, width, n, u, v, border); return;
    case 5: add_border(5, width, n, u, v, border); return;
    }
    if (pb <= NARROW)
        add_border(pb, width, n, u, v, border);
    else
        m->blas.gemm(&none, &trans, &pb, &pb, &n, &one, (double *)u, &width, (double *)v, &width, &one,
                     border, &pb);
}

INLINE void add_block(const int both, const lmm_model *m, const residual *r, const block_sums *s,
                      int64_t first, int32_t n, const double *u, const double *v)
{
    const layout *lay = &m->layout;
    const int width = r->rows.width, edge = width - lay->pb;
    for (int k = 0, at = 0; k < lay->nfactor; at += lay->f[k++].p) {
        BY_WIDTH(lay->f[k].p, add_levels, both, m, r, s, k, at, first, n, u, v);
        for (int j = k + 1, other = at + lay->f[k].p; j < lay->nfactor; other += lay->f[j++].p)
            BY_WIDTH(lay->f[k].p, add_pairs, both, m, r, s, k, j, at, other, first, n, u, v);
    }
    add_corner(m, width, n, u + edge, v + edge, s->border);
    if (both) add_corner(m, width, n, v + edge, u + edge, s->border);
}

CLONES void add_rows_to(const lmm_model *m, const residual *r, const block_sums *s, int64_t first, int32_t n,
                        const double *u, const double *v)
{
    add_block(0, m, r, s, first, n, u, v);
}

CLONES void add_both(const lmm_model *m, const residual *r, const block_sums *s, int64_t first, int64_t end,
                     const double *u, const double *v)
{
    add_block(1, m, r, s, first, (int32_t)(end - first), u, v);
}

/* The rows from `first` on that are handled together: whole subjects, or any */
int64_t block_end(const residual *r, int64_t first, int64_t *subject)
{
    const residual_rows *rows = &r->rows;
    if (!rows->subject) return first + r->batch < rows->n ? first + r->batch : rows->n;
    int64_t s = *subject;
    do s++;
    while (s < rows->nsubject && rows->subject[s + 1] - first <= r->batch);
    *subject = s;
    return rows->subject[s];
}

/* In g where D is not I */
const double *scale_rows(const residual *r, int64_t first, int64_t end, double *g)
{
    const ptrdiff_t width = r->rows.width;
    const double *from = r->rows.value + first * width;
    double *to = g;
    if (!r->ndeviation) return from;
    for (int64_t i = first; i < end; i++, from += width, to += width)
        for (ptrdiff_t c = 0; c < width; c++) to[c] = r->scale[i] * from[c];
    return g;
}

CLONES lmm_status fill_from_rows(lmm_model *m, residual *r)
{
    const block_sums A = model_sums(m);
    const int32_t width = r->rows.width;
    double logdet, *room = r->buffer, *u = room + r->batch * width;
    if (place_rows(r, &logdet)) return LMM_NOTFINITE;
    m->sums.sumlogw = r->sumlogw - logdet;
    clear_block_sums(&m->layout, &A);
    for (int64_t first = 0, end, s = 0; first < r->rows.n; first = end) {
        end = block_end(r, first, &s);
        const double *g = scale_rows(r, first, end, room);
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

CLONES void differentiate_rows(lmm_model *m, residual *r)
{
    const int32_t width = r->rows.width;
    const ptrdiff_t size = r->batch * width;
    double *room = r->buffer, *u = room + size, *h = u + size, *du = h + size;
    for (int j = 0; j < r->ndelta; j++) {
        clear_block_sums(&m->layout, &r->dA[j]);
        r->logs[j] = 0;
        if (j >= r->ndeviation) r->logs[j] = log_slope(r, j - r->ndeviation);
        for (int64_t i = 0; j < r->ndeviation && i < r->rows.n; i++)
            r->logs[j] += 2 * (r->own ? r->own[i] == j : r->column[i + (ptrdiff_t)j * r->rows.n]);
    }
    for (int64_t first = 0, end, s = 0; first < r->rows.n; first = end) {
        end = block_end(r, first, &s);
        const double *g = scale_rows(r, first, end, room);
        if (r->rows.subject) whiten_block(r, first, end, g, width, u);
        for (int j = 0; j < r->ndeviation; j++) {
            if (!r->rows.subject) {
                slide_rows(r, first, end, j, -2, g, du);
                add_rows_to(m, r, &r->dA[j], first, (int32_t)(end - first), g, du);
                continue;
            }
            slide_rows(r, first, end, j, -1, g, h);
            whiten_block(r, first, end, h, width, du);
            add_both(m, r, &r->dA[j], first, end, u, du);
        }
        for (int j = 0; j < r->ncorrelation; j++) {
            turn_block(r, first, end, j, g, width, du);
            add_both(m, r, &r->dA[r->ndeviation + j], first, end, u, du);
        }
    }
}
