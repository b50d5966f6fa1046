/* Cross-products of rows by levels, which may be added, merged and taken away again: what a model of rows
   that are not in memory is made of. Rows are [z_1 | ... | z_K | X y] in coordinates that the caller chooses
   and keeps (near to centred and of size one: digits are lost otherwise). */

#ifndef LMM_BLOCKS_H
#define LMM_BLOCKS_H

#include "lmm.h"

typedef struct { /* blocks of two factors, for the pairs of levels that occur together          */
    int64_t count, room;
    int32_t *a, *b; /* count  levels                                                        */
    double *value;  /* count blocks, row-major                                              */
    uint32_t *slot; /* 1 + number of the pair, 0 where there is none: nslot entries ...     */
    int64_t nslot;
    int64_t across; /* ... at a across + b, where levels are few; 0: a hash table            */
} lmm_pairs;

struct lmm_blocks {
    int32_t nfactor, border; /* factors; columns of X and y                                       */
    int32_t *width, *nlev;
    double **diag;   /* nlev x (p x p)                                                         */
    double **edge;   /* nlev x (p x border), row-major: Z'W[X y]                               */
    lmm_pairs *pair; /* nfactor x nfactor, used above the diagonal                             */
    double *corner;  /* border x border                                                        */
};

lmm_status lmm_blocks_new(lmm_blocks **b, int nfactor, const int32_t *width, int32_t border);
void lmm_blocks_free(lmm_blocks *b); /* NULL is fine */
double lmm_blocks_bytes(const lmm_blocks *b);

/* Gives back what only later additions need; they make it anew. */
void lmm_blocks_compact(lmm_blocks *b);

/* Adds the cross-products of n rows (row-major, already times the square roots of their weights); level: one
   array of n for each factor, below nlev (tables of levels grow to that). */
lmm_status lmm_blocks_add(lmm_blocks *b, const lmm_blas *blas, int64_t n, const int32_t *const *level,
                          const int32_t *nlev, const double *rows);

/* Adds sign times other, whose level l of factor k is level map[k][l] here. */
lmm_status lmm_blocks_merge(lmm_blocks *b, const lmm_blocks *other, const int32_t *const *map,
                            const int32_t *nlev, double sign);

/* Values from outside, laid out as in the struct; for empty blocks. */
lmm_status lmm_blocks_set(lmm_blocks *b, int k, int32_t m, const double *diag, const double *edge);
lmm_status lmm_blocks_set_pairs(lmm_blocks *b, int a, int c, int64_t n, const int32_t *la, const int32_t *lc,
                                const double *value);

const lmm_pairs *lmm_pairs_of(const lmm_blocks *b, int a, int c);               /* a < c */
lmm_status lmm_blocks_order(const lmm_blocks *b, int a, int c, int64_t *order); /* count: sorted */

#endif
