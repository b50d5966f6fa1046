/* Private: rows at hand, read a block at a time. Arrays stay where and as they are; what a block needs of
   them becomes doubles, each distinct column once. */

#ifndef LMM_ROWS_H
#define LMM_ROWS_H

#include "lmm.h"

typedef struct {
    const lmm_data *d;
    int32_t ncol;              /* distinct columns of Z and X                                       */
    const lmm_column **column; /* ncol                                                              */
    int32_t **z, *x;           /* number of each column of the user's factors, and stored one of X  */
    int32_t size, n;           /* most rows of a block; rows of the one that was read last, ...     */
    int64_t first;             /* ... and the first of these                                        */
    double *value;             /* ncol x size  columns that had to be converted                     */
    const double **at;         /* ncol         its columns: there, or where they are in the data    */
    const double *y, *w;       /* n            its response and weights (NULL: ones)                */
    double *root;              /* n            square roots of the weights; NULL                    */
} rows;

lmm_status rows_open(rows *r, const lmm_data *d);
void rows_close(rows *r); /* also of what could not be opened, or is all zero */

/* Reads the block that begins with this row; next: the row after its last one. */
void rows_read(rows *r, int64_t first, int64_t *next);
#define EACH_BLOCK(r, first) \
    for (int64_t first = 0, next_ = 0; first < (r)->d->n && (rows_read(r, first, &next_), 1); first = next_)

typedef struct { /* new columns (x - mean) B of k columns; B upper triangular, column-major          */
    int32_t k;
    const double *mean, *B;
} basis;

/* to[i ncol] = root_i times new column j of the rows that were read last, which columns first, ..., j make;
   column: their numbers, of all k. root: NULL for ones */
void rows_whiten(const rows *r, const int32_t *column, const basis *b, int first, int j, const double *root,
                 double *to, ptrdiff_t ncol);

double rows_value(const lmm_column *c, int64_t i); /* of one row */

static inline const double *rows_column(const rows *r, int32_t j)
{
    return r->at[j];
}

/* The levels that row i has, *count of them */
static inline const int32_t *levels_of_row(const lmm_factor *f, int64_t i, int32_t *count)
{
    *count = f->members ? (int32_t)(f->members->ptr[i + 1] - f->members->ptr[i]) : 1;
    return f->members ? f->members->level + f->members->ptr[i] : f->level + i;
}

/* The weight of the s-th of these */
static inline double weight_in_row(const lmm_factor *f, int64_t i, int32_t s)
{
    return f->members ? f->members->weight[f->members->ptr[i] + s] : 1;
}

/* The first of them, some level where there is none */
static inline int32_t first_level(const lmm_factor *f, int64_t i)
{
    int32_t count;
    const int32_t *level = levels_of_row(f, i, &count);
    return count ? level[0] : 0;
}

/* Do rows have several levels of some factor? */
static inline int have_several(const lmm_data *d)
{
    int some = 0;
    for (int k = 0; k < d->nfactor; k++) some |= d->factor[k].members != NULL;
    return some;
}

#endif
