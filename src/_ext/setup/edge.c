/* What else follows from X whitened in its sums (wide.c): its products with Z and y, and what it leaves of
   any columns.

     Z'W X_w = (Z'W X_c) B,   X_w'W X_w = n I,   M v = v - W^1/2 X_w X_w'W^1/2 v / n  */

#include <math.h>
#include <string.h>

#include "setup/fixed.h"

#define EASY 1e4 /* inflation below which X_w is orthogonal to 1e-11 */

static char trans = 'T';
static double one = 1, zero = 0;

typedef struct {             /* beside E, which is in H of the evaluation */
    double *product, *value; /* p  of the centred columns with y; of one row */
    double *compact;         /* p x p of the kept columns; NULL where all are kept */
    int32_t *kept, *place;   /* p  place of each column among the kept ones, or -1; columns of one row */
    int32_t *column;         /* a block x nfactor  columns of Z that each row meets */
} edge;

/* What the builder holds. */
static edge edge_of(const layout *lay, const builder *b)
{
    const size_t p = (size_t)lay->pfull, square = lay->p < lay->pfull ? p * p : 0;
    edge e = {.product = b->fixed, .value = b->fixed + p};
    e.compact = square ? e.value + p : NULL;
    e.kept = (int32_t *)(e.value + p + square);
    e.place = e.kept + p;
    e.column = e.place + p;
    return e;
}

lmm_status new_edge(const lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    const size_t p = (size_t)lay->pfull, square = lay->p < lay->pfull ? p * p : 0;
    const size_t places = 2 * p + (size_t)b->rows.size * (size_t)lay->nfactor;
    b->fixed = calloc(1, sizeof(double) * (2 * p + square) + sizeof(int32_t) * places);
    if (!b->fixed) return LMM_NOMEM;
    const edge e = edge_of(lay, b);
    for (int32_t j = 0; j < lay->pfull; j++) e.kept[j] = -1;
    for (int32_t a = 0; a < lay->p; a++) e.kept[lay->keep[a]] = a;
    memset(m->evaluation.H, 0, sizeof(double) * (size_t)lay->q * (size_t)lay->pb);
    return LMM_OK;
}

/* E (q) += x times the columns of Z in row i of the block; column: those that the row meets */
static inline void add_row(const layout *lay, const builder *b, int32_t i, const int32_t *column, double x,
                           double *E)
{
    const double *z = b->white + (ptrdiff_t)i * b->ncol;
    if (lay->nfactor == 1 && lay->f[0].p == 1) {
        E[column[i]] += *z * x;
        return;
    }
    for (int k = 0; k < lay->nfactor; z += lay->f[k++].p)
        for (int c = 0; c < lay->f[k].p; c++) E[column[i * lay->nfactor + k] + c] += z[c] * x;
}

/* E (q x p + 1) += Z'W X_c of the kept columns, coded ones not centred yet, and Z'W 1 of the block */
static void add_products(const layout *lay, const builder *b, const edge *e, double *E)
{
    const lmm_data *d = b->d;
    const rows *r = &b->rows;
    const ptrdiff_t q = lay->q;
    for (int32_t i = 0; d->ncoded && i < r->n; i++) {
        const double root = r->root ? r->root[i] : 1;
        const int32_t found = coded_row(d, r->first + i, e->place, e->value);
        add_row(lay, b, i, e->column, root, E + lay->p * q);
        for (int32_t s = 0; s < found; s++)
            if (e->kept[e->place[s]] >= 0)
                add_row(lay, b, i, e->column, e->value[s] * root, E + e->kept[e->place[s]] * q);
    }
    for (int32_t j = 0; j < d->pstored; j++) {
        const int32_t c = stored_place(d, j);
        const double *x = rows_column(r, r->x[j]), mean = lay->x.mean[c];
        if (e->kept[c] < 0) continue;
        for (int32_t i = 0; i < r->n; i++)
            add_row(lay, b, i, e->column, (x[i] - mean) * (r->root ? r->root[i] : 1), E + e->kept[c] * q);
    }
}

/* residual: y of the block, what is left of it, times the roots of the weights; is overwritten */
void add_edge(lmm_model *m, const builder *b, double *residual)
{
    const layout *lay = &m->layout;
    const rows *r = &b->rows;
    const edge e = edge_of(lay, b);
    for (int k = 0; k < lay->nfactor; k++)
        for (int32_t i = 0; i < r->n; i++) e.column[i * lay->nfactor + k] = lay->nodecol[b->node[k][i]];
    add_products(lay, b, &e, m->evaluation.H);
    for (int32_t i = 0; r->root && i < r->n; i++) residual[i] *= r->root[i];
    fixed_products(r, lay->x.mean, 1, residual, r->size, e.product);
}

/* The means of coded columns are taken off their sums. */
static void center_edge(const layout *lay, const builder *b, double *E)
{
    const lmm_data *d = b->d;
    const ptrdiff_t q = lay->q;
    const double *ones = E + lay->p * q;
    int32_t s = 0;
    for (ptrdiff_t a = 0; d->ncoded && a < lay->p; a++) {
        const int32_t j = lay->keep[a];
        while (s < d->pstored && stored_place(d, s) < j) s++;
        if (s < d->pstored && stored_place(d, s) == j) continue;
        for (ptrdiff_t r = 0; r < q; r++) E[r + a * q] -= lay->x.mean[j] * ones[r];
    }
}

/* The rows of X in every panel: Y (pb x q) */
static void place_edge(lmm_model *m, const double *Y)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            for (ptrdiff_t c = 0; c < f->p; c++)
                memcpy(m->sums.A[k].pan + lay->pan[e] + (c + 1) * lay->ld[e] - lay->pb,
                       Y + (lay->nodecol[e] + c) * lay->pb, sizeof(double) * (size_t)lay->p);
    }
}

/* Y (pb x q) := B'E', B over the kept columns; compact: p x p of its own where some are dropped */
static void whiten_edge(lmm_model *m, double *E, double *Y, double *compact)
{
    const layout *lay = &m->layout;
    int p = lay->p, q = lay->q, pb = lay->pb;
    double *B = lay->x.B;
    if (compact) {
        for (ptrdiff_t c = 0; c < p; c++)
            for (ptrdiff_t r = 0; r < p; r++)
                compact[r + c * p] = B[lay->keep[r] + (ptrdiff_t)lay->keep[c] * lay->pfull];
        B = compact;
    }
    m->blas.gemm(&trans, &trans, &p, &q, &p, &one, B, &p, E, &q, &zero, Y, &pb);
}

/* The edges of X, and the corner; of y what is not in units of its size yet. Uses H and Y of the evaluation.
 */
void finish_edge(lmm_model *m, const builder *b)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const edge e = edge_of(lay, b);
    center_edge(lay, b, ev->H);
    if (lay->p) {
        whiten_edge(m, ev->H, ev->Y, e.compact);
        place_edge(m, ev->Y);
    }
    for (ptrdiff_t a = 0; a < lay->p; a++) m->sums.border[a * (lay->pb + 1)] = (double)lay->n;
    response_border(m, e.product, m->sums.border[(ptrdiff_t)lay->p * (lay->pb + 1)]);
}

/* W^1/2 V of the block for r columns of V (n x r) */
static void weigh_block(const rows *rows, int r, const double *V, double *out)
{
    for (int k = 0; k < r; k++) {
        const double *v = V + k * rows->d->n + rows->first;
        double *to = out + (ptrdiff_t)k * rows->size;
        for (int32_t i = 0; i < rows->n; i++) to[i] = (rows->root ? rows->root[i] : 1) * v[i];
    }
}

/* V -= W^1/2 X_w X_w'W^1/2 V / n for r columns;  work: r (2 pfull + a block) */
static void remove_fixed(const layout *lay, rows *rows, int r, double *V, double *work)
{
    const ptrdiff_t k = lay->pfull;
    double *sum = work, *c = sum + k * r, *part = c + k * r;
    memset(sum, 0, sizeof(double) * (size_t)(2 * k * r));
    EACH_BLOCK(rows, first)
    {
        weigh_block(rows, r, V, part);
        fixed_products(rows, lay->x.mean, r, part, rows->size, sum);
    }
    for (ptrdiff_t a = 0; a < (ptrdiff_t)lay->p * r; a++) {
        const ptrdiff_t j = lay->keep[a % lay->p], at = a / lay->p * k;
        const double *B = lay->x.B + j * k;
        double s = 0;
        for (ptrdiff_t l = 0; l <= j; l++) s += B[l] * sum[at + l];
        for (ptrdiff_t l = 0; l <= j; l++) c[at + l] += B[l] * s / (double)lay->n;
    }
    EACH_BLOCK(rows, first)
    {
        memset(part, 0, sizeof(double) * (size_t)r * (size_t)rows->size);
        subtract_fixed(rows, lay->x.mean, r, c, part, rows->size);
        for (int j = 0; j < r; j++)
            for (int32_t i = 0; i < rows->n; i++)
                V[j * rows->d->n + first + i] +=
                    (rows->root ? rows->root[i] : 1) * part[(ptrdiff_t)j * rows->size + i];
    }
}

lmm_status lmm_without_fixed(const lmm_model *m, const lmm_data *d, int r, double *V)
{
    const layout *lay = &m->layout;
    rows rows;
    lmm_status status = rows_open(&rows, d);
    double *work = NULL;
    if (status == LMM_OK)
        work = malloc(sizeof(double) * (2 * (size_t)lay->pfull + (size_t)rows.size) * TOGETHER);
    if (!work) status = LMM_NOMEM;
    for (int j = 0; j < r && status == LMM_OK; j += TOGETHER) {
        const int count = r - j < TOGETHER ? r - j : TOGETHER;
        remove_fixed(lay, &rows, count, V + j * d->n, work);
        if (lay->inflation > EASY) remove_fixed(lay, &rows, count, V + j * d->n, work); /* rounding's rest */
    }
    free(work);
    rows_close(&rows);
    return status;
}
