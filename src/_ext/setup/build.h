/* Private: what the steps of lmm_setup share. Only set-up allocates; a model owns every block it grabs. */

#ifndef LMM_BUILD_H
#define LMM_BUILD_H

#include <stdlib.h>

#include "base/memory.h"
#include "sums/blocks.h"
#include "model/model.h"
#include "setup/rows.h"

#define WIDE 48         /* columns of X from which products are worth calls of BLAS */
#define DEPENDENT 1e-13 /* squared residual norm over squared norm, below which a column is dropped */

/* Is X whitened by wide.c? */
static inline int is_wide(const lmm_data *d)
{
    return d->p >= WIDE || d->pstored < d->p;
}

typedef struct { /* of a column: lowest and highest value, weighted sum of what it is above the first */
    double low, high, shift, sum;
} column_range;

typedef struct { /* columns that are whitened together: of one term, or of X and y                    */
    int32_t k, constant;   /* columns; the constant one, -1 if there is none                  */
    const int32_t *column; /* k      numbers in rows, -1: the response                        */
    double *mean, *scale;  /* k      what is taken off them, and what they are divided by     */
    double *G, *lost;      /* k x k  cross-products over n, lower; what rounding took of them */
} span;

typedef struct {         /* of a response                                               */
    double mean, spread; /* taken off it; the largest that is left                      */
    double size, total;  /* its largest absolute value; the sum of the weights          */
    double *c;           /* pfull  coefficients on the centred columns of X             */
} response;

typedef struct { /* of all columns */
    void *memory;
    int32_t n, widest;
    span *span;          /* n            terms of the factors; X and y, unless X is wide */
    column_range *range; /* ncol + 1     of y, and of each column of the rows        */
    int32_t *first;      /* nfactor + 1  first span of each factor, and of X         */
    int32_t *column;     /* p + 1        of X and y                                  */
    double total;        /* of the weights                                           */
    response y;
} moments;

typedef struct {        /* what only set-up needs */
    const lmm_data *d;  /* rows; without rows (x) its factors have no levels and columns */
    const lmm_cross *x; /* or NULL */
    const lmm_options *options;
    lmm_report *report;
    rows rows;
    moments moments;
    lmm_data stored;     /* the data where coded columns had to be stored */
    lmm_column *columns; /* and the columns of its X; NULL */
    int32_t *other;      /* pairs    nodes sorted by the node that they co-occur with, or bits */
    int64_t *start;      /* nnode+1  where each node's begin in other */
    int32_t *stamp;      /* nnode    last node whose list has this one */
    int32_t **table;     /* nfactor x nfactor  place in the panels for two small factors, else NULL */
    int32_t *place;      /* place in its panel of each entry of the lists */
    double *white;       /* a block of whitened rows: [z of all factors in elimination order | x | y] */
    int32_t ncol;        /* columns of these, ... */
    int32_t edge;        /* ... of which X and y, or y alone where X is whitened in its sums */
    double *basis;   /* pfull x p  B over the kept columns of a wide X that is whitened row by row; NULL */
    double *fixed;   /* what follows from an X that is whitened in its sums (edge.c); NULL */
    int32_t **node;  /* nfactor  nodes of each of them */
    ptrdiff_t *spot; /* of each: where a block stands in the panels of a factor */
} builder;

typedef struct { /* co-occurring levels of two factors, one pair a row or each once */
    int64_t n;
    const int32_t *a, *b;
} level_pairs;

/* levels of the user's factors a and c, which differ */
level_pairs level_pairs_of(const builder *b, int a, int c);

/* order.c: which factors are eliminated, and in which order */
lmm_status choose_order(lmm_model *m, const builder *b, int32_t *order);

/* columns.c: columns, parameters and whitening of a factor and of X */
lmm_status new_factor(lmm_model *m, factor *f, const builder *b, int32_t user, uint8_t *keep);
lmm_status new_fixed(lmm_model *m, builder *b, uint8_t *keep);
lmm_status whiten_x(lmm_model *m, builder *b, uint8_t *keep);
/* each term by itself: the factor's B and C are block diagonal */
lmm_status whiten_factor(lmm_model *m, factor *f, const builder *b, uint8_t *keep, lmm_report *report);
/* what follows from the whitening of X, and from w */
void whiten_fixed(lmm_model *m, const builder *b);
void invert(int p, const double *A, double *X, double *work); /* work: p x p */

/* pattern.c: co-occurring nodes */
lmm_status number_nodes(lmm_model *m, const builder *b);
void count_lists(lmm_model *m, const builder *b);
lmm_status make_lists(lmm_model *m, const builder *b, ptrdiff_t *size);

/* storage.c: how it is stored, what that costs */
void choose_lists(lmm_model *m, const builder *b);
lmm_status choose_storage(lmm_model *m, const builder *b, const ptrdiff_t *size);

/* places.c: where the block of two nodes stands */
lmm_status new_places(const lmm_model *m, builder *b);

/* cross.c: values of A from rows;  products.c: from cross-products */
lmm_status fill_rows(lmm_model *m, builder *b);
lmm_status whiten_products(lmm_model *m, factor *f, const builder *b, uint8_t *keep);
lmm_status whiten_fixed_products(lmm_model *m, const builder *b, uint8_t *keep);
lmm_status copy_products(lmm_model *m, const builder *b);

/* wide.c: whitening of a wide X, in its sums where these keep its digits (lay->summed), else of its rows */
lmm_status whiten_wide(lmm_model *m, builder *b, uint8_t *keep);
lmm_status new_basis(const lmm_model *m, builder *b);
void whiten_wide_rows(const lmm_model *m, const builder *b, double *work); /* work: pfull times a block */

/* edge.c: products of an X that is whitened in its sums with Z and y */
lmm_status new_edge(const lmm_model *m, builder *b);
void add_edge(lmm_model *m, const builder *b, double *residual);
void finish_edge(lmm_model *m, const builder *b);

/* moments.c */
int range_moments(const column_range *c, double total, double *mean, double *scale); /* constant? */
void center_on_constant(int k, int constant, double *mean, double *scale);           /* which means stay */
void uncentred(const whitening *w, double constant);
void add_exactly(ptrdiff_t n, double *total, double *lost, const double *part);
lmm_status moments_of(moments *mo, rows *r);
void moments_free(moments *mo);
response response_moments(const lmm_data *d, int uncentred);
lmm_status whiten(whitening *w, const span *s, const rows *r, uint8_t *keep);
void chol_dropping(int k, double *G, uint8_t *keep);
void invert_factor(int k, const double *G, const double *scale, const uint8_t *keep, double *B);

/* setup.c: reads the rows for the first time, or again where they are others; levels and columns of
   cross-products, d->factor is to be freed */
lmm_status measure_rows(builder *b);
lmm_status describe_products(const lmm_cross *x, lmm_data *d);

/* cross.c */
void response_border(lmm_model *m, const double *product, double yy);

/* response.c */
lmm_status response_begin(lmm_model *m, const moments *mo, response *y);
lmm_status response_again(lmm_model *m, rows *r, response *y, double *v);
void response_rows(const lmm_model *m, const response *y, const rows *r, double *out);
lmm_status response_end(lmm_model *m, const response *y, double ss, double *scale);

#endif
