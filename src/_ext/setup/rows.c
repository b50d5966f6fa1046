/* Reads rows in blocks that stay in the cache: numbers of any type, levels by what they stand for, products.
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "setup/rows.h"
#include "base/small.h"

#define DOUBLES 12288 /* of a block: 96 KB, so that what is made of it fits in the second cache too */
#define FEWEST 64     /* rows of a block of very many columns, a multiple of eight */
#define MOST 1024
#define PASS 64 /* rows of a new column that are summed together */

static int same_parts(const lmm_column *a, const lmm_column *b)
{
    if (a->nparts != b->nparts) return 0;
    for (int32_t i = 0; i < a->nparts; i++) {
        const lmm_part *x = &a->part[i], *y = &b->part[i];
        if (x->at != y->at || x->value != y->value || x->type != y->type || x->stride != y->stride) return 0;
    }
    return 1;
}

/* The number of a column, among those there are or a new one. X comes first: its columns are not compared
   with each other, which takes too long where they are many. */
static int32_t number_of(rows *r, const lmm_column *c)
{
    for (int32_t j = 0; j < r->ncol; j++)
        if (same_parts(r->column[j], c)) return j;
    r->column[r->ncol] = c;
    return r->ncol++;
}

lmm_status rows_open(rows *r, const lmm_data *d)
{
    size_t most = (size_t)d->pstored;
    memset(r, 0, sizeof(*r));
    for (int k = 0; k < d->nfactor; k++) most += (size_t)d->factor[k].ncol;
    r->d = d;
    r->column = malloc(sizeof(*r->column) * (most + 1));
    r->x = malloc(sizeof(*r->x) * (most + 1));
    r->z = malloc(sizeof(*r->z) * ((size_t)d->nfactor + 1));
    if (!r->column || !r->x || !r->z) return LMM_NOMEM;
    for (int32_t j = 0; j < d->pstored; j++) r->column[r->x[j] = r->ncol++] = &d->X[j];
    int32_t *at = r->x + d->pstored;
    for (int k = 0; k < d->nfactor; at += d->factor[k++].ncol) {
        r->z[k] = at;
        for (int32_t j = 0; j < d->factor[k].ncol; j++) at[j] = number_of(r, &d->factor[k].z[j]);
    }
    const int32_t fit = DOUBLES / (r->ncol + 1) / 8 * 8;
    r->size = fit > MOST ? MOST : fit < FEWEST ? FEWEST : fit;
    if (r->size > d->n) r->size = (int32_t)(d->n + 7) / 8 * 8;
    r->value = malloc(sizeof(double) * (size_t)(r->ncol + 1) * (size_t)r->size);
    r->at = malloc(sizeof(*r->at) * (size_t)(r->ncol + 1));
    r->root = d->w ? malloc(sizeof(double) * (size_t)r->size) : NULL;
    if (!r->value || !r->at || (d->w && !r->root)) return LMM_NOMEM;
    for (int32_t j = 0; j < r->ncol; j++) {
        double *to = r->value + (ptrdiff_t)j * r->size;
        r->at[j] = to;
        for (int32_t i = 0; i < r->size && !r->column[j]->nparts; i++) to[i] = 1;
    }
    return LMM_OK;
}

void rows_close(rows *r)
{
    free(r->column), free(r->x), free(r->z), free(r->value), free(r->at), free(r->root);
}

/* to = the numbers, or to *= them */
#define READ(type)                                                           \
    do {                                                                     \
        if (p->stride == sizeof(type) && !times) {                           \
            const type *x = (const type *)p->at + first;                     \
            for (int32_t i = 0; i < n; i++) to[i] = (double)x[i];            \
        } else {                                                             \
            const char *x = (const char *)p->at + first * p->stride;         \
            for (int32_t i = 0; i < n; i++) {                                \
                const double v = (double)*(const type *)(x + i * p->stride); \
                to[i] = times ? to[i] * v : v;                               \
            }                                                                \
        }                                                                    \
    } while (0)

CLONES static void read_levels(const lmm_part *p, int64_t first, int32_t n, int times, double *to)
{
    const char *x = (const char *)p->at + first * p->stride;
    for (int32_t i = 0; i < n; i++) {
        const double v = p->value[*(const int32_t *)(x + i * p->stride)];
        to[i] = times ? to[i] * v : v;
    }
}

CLONES static void read_part(const lmm_part *p, int64_t first, int32_t n, int times, double *to)
{
    if (p->value) {
        read_levels(p, first, n, times, to);
        return;
    }
    switch (p->type) {
    case LMM_FLOAT64: READ(double); break;
    case LMM_FLOAT32: READ(float); break;
    case LMM_INT64: READ(int64_t); break;
    case LMM_INT32: READ(int32_t); break;
    case LMM_INT16: READ(int16_t); break;
    case LMM_INT8: READ(int8_t); break;
    case LMM_UINT64: READ(uint64_t); break;
    case LMM_UINT32: READ(uint32_t); break;
    case LMM_UINT16: READ(uint16_t); break;
    case LMM_UINT8: READ(uint8_t); break;
    }
}

/* Is a column an array of doubles, which can be used where it is? */
static int is_plain(const lmm_column *c)
{
    const lmm_part *p = c->part;
    return c->nparts == 1 && !p->value && p->type == LMM_FLOAT64 && p->stride == sizeof(double);
}

/* Columns without parts are ones: nothing to read. */
static void read_column(const lmm_column *c, int64_t first, int32_t n, double *to)
{
    for (int32_t i = 0; i < c->nparts; i++) read_part(&c->part[i], first, n, i > 0, to);
}

void rows_read(rows *r, int64_t first, int64_t *next)
{
    const lmm_data *d = r->d;
    r->n = d->n - first < r->size ? (int32_t)(d->n - first) : r->size;
    r->first = first;
    r->y = d->y + first;
    r->w = d->w ? d->w + first : NULL;
    for (int32_t i = 0; i < r->n && d->w; i++) r->root[i] = sqrt(r->w[i]);
    for (int32_t j = 0; j < r->ncol; j++)
        if (is_plain(r->column[j]))
            r->at[j] = (const double *)r->column[j]->part->at + first;
        else
            read_column(r->column[j], first, r->n, r->value + (ptrdiff_t)j * r->size);
    *next = first + r->n;
}

CLONES void rows_whiten(const rows *r, const int32_t *column, const basis *b, int first, int j,
                        const double *root, double *to, ptrdiff_t ncol)
{
    double sum[PASS];
    for (int32_t i = 0, n; i < r->n; i += n) {
        n = r->n - i < PASS ? r->n - i : PASS;
        memset(sum, 0, sizeof(double) * (size_t)n);
        for (int l = first; l <= j; l++) {
            const double *x = rows_column(r, column[l]) + i, mean = b->mean[l],
                         c = b->B[l + (ptrdiff_t)j * b->k];
            for (int32_t s = 0; s < n; s++) sum[s] += (x[s] - mean) * c;
        }
        for (int32_t s = 0; s < n && root; s++) sum[s] *= root[i + s];
        for (int32_t s = 0; s < n; s++) to[(i + s) * ncol] = sum[s];
    }
}

double rows_value(const lmm_column *c, int64_t i)
{
    double value = 1;
    read_column(c, i, 1, &value);
    return value;
}
