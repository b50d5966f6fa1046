/* Private: rows that stay in memory, whitened as the model's columns are, for passes over them: blocks of
   rows, column by column, in the order of the first factor's levels. */

#ifndef LMM_KEEP_H
#define LMM_KEEP_H

#include "model/model.h"

#define KEPT 256 /* rows of a block */

typedef struct {
    int64_t n;
    int32_t width;   /* columns: of all factors, then of X                                            */
    int32_t *at;     /* nfactor+1  first column of each factor, and of X                              */
    double *value;   /* blocks of KEPT rows x width; the last one is filled with zeros                */
    uint8_t *ones;   /* width      is the column 1 in every row?                                      */
    int32_t **level; /* nfactor    n  node of each row, less the factor's first                       */
    uint32_t **spot; /* nfactor^2  n  of k < j: place in the panels of k of the block with j; else NULL */
    int64_t *row;    /* n          where it stands in the data                                        */
    void *memory;
} kept;

/* The rows that the model was made of, their weights aside. */
lmm_status keep_rows(kept *r, lmm_model *m, const lmm_data *d);
void keep_free(kept *r);
double kept_bytes(const layout *lay); /* with what glmm_setup makes beside them */

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
