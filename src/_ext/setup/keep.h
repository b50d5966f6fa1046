/* Private: rows that stay, whitened as the model's columns are, for passes over them: blocks of rows, column
   by column, in the order of the first factor's levels. Rows that are equal may be kept once. What memory has
   no room for is where the caller says, in the order of the data: then it is written from front to back. */

#ifndef LMM_KEEP_H
#define LMM_KEEP_H

#include "model/model.h"

#define KEPT 256 /* rows of a block */

typedef struct {              /* how rows are kept                                                      */
    int merge;                /* may rows of equal levels and columns become one, ...                   */
    const double *offset, *y; /* n  ... if these are equal too? NULL: they need not be                   */
    double limit;             /* bytes that memory has for them                                         */
    void *(*room)(void *arg, double bytes); /* elsewhere: zeros, the caller's. NULL: there is none         */
    void *arg;
} keeping;

typedef struct {
    int64_t n;      /* rows that are kept                                                            */
    int64_t nrow;   /* rows of the data                                                              */
    int64_t *place; /* nrow       where each of these is kept; NULL: where it is in the data         */
    double budget;  /* bytes that memory has left; the rest is elsewhere                             */
    double nbytes;  /* that are elsewhere                                                            */
    keeping how;
    int32_t nslot;   /* levels of a row, those of all factors: one each, or as many as a row has at most */
    int32_t *of;     /* nslot      the factor of each                                                 */
    int32_t nparts;  /* columns of all factors, and ...                                               */
    int32_t *part;   /* nslot      ... the first one's number: what sums by level are shared out by   */
    int32_t width;   /* columns: of all slots, then of X                                              */
    int32_t *at;     /* nslot+1    first column of each slot, and of X                                */
    double *value;   /* blocks of KEPT rows x width; the last one is filled with zeros                */
    uint8_t *ones;   /* width      is the column 1 in every row?                                      */
    int32_t **level; /* nslot      n  node of each row, less the factor's first                       */
    uint32_t **spot; /* nslot^2    n  of s < t: place in the panels of s of the block with t; else NULL */
    void *memory;
} kept;

/* A slot is one level of a row. A row of which a factor has fewer levels than others has zeros for columns in
   those that are left, some level, and no place of blocks with them. */
#define NO_PLACE UINT32_MAX

/* How many rows are kept, and where each row of the data is */
lmm_status arrange_rows(kept *r, const lmm_model *m, const lmm_data *d, const keeping *how);
/* Then the rows that the model was made of, their weights aside. */
lmm_status keep_rows(kept *r, lmm_model *m, const lmm_data *d);
void keep_free(kept *r);
double kept_bytes(const layout *lay, int64_t n); /* of n rows, with what glmm_setup makes beside them */

/* Zeros, where there is room for them; NULL: nowhere */
void *take(kept *r, size_t count, size_t size);
#define TAKE(rows, field, count) \
    if (!((field) = take(rows, (size_t)(count), sizeof(*(field))))) return LMM_NOMEM

/* merge.c: group[i] := which of the distinct rows row i is, numbered as they come, and their number; zero
   where merging them would not pay. LMM_NOMEM: nor could it be tried */
lmm_status find_equal(const lmm_data *d, const keeping *how, int64_t *group, int64_t *distinct);

static inline int is_merged(const kept *r)
{
    return r->n < r->nrow;
}

static inline int64_t kept_place(const kept *r, int64_t i)
{
    return r->place ? r->place[i] : i;
}

/* The number of X's first column */
static inline int32_t kept_fixed(const kept *r)
{
    return r->at[r->nslot];
}

/* Column c of the rows of a block */
static inline const double *kept_column(const kept *r, int64_t block, int32_t c)
{
    return r->value + (block * r->width + c) * KEPT;
}

/* Blocks, and rows of one of them */
static inline int64_t kept_blocks(const kept *r)
{
    return (r->n + KEPT - 1) / KEPT;
}

static inline int32_t kept_rows(const kept *r, int64_t block)
{
    const int64_t left = r->n - block * KEPT;
    return left < KEPT ? (int32_t)left : KEPT;
}

#endif
