/* Private: what the steps of lmm_setup share. Only set-up allocates; a model owns every block it grabs. */

#ifndef LMM_BUILD_H
#define LMM_BUILD_H

#include <stdlib.h>

#include "base/memory.h"
#include "sums/blocks.h"
#include "model/model.h"

typedef struct {        /* what only set-up needs */
    const lmm_data *d;  /* rows; without rows (x) its factors have no levels and columns */
    const lmm_cross *x; /* or NULL */
    const lmm_options *options;
    lmm_report *report;
    int64_t *order;     /* pairs sorted by the node of one factor */
    int64_t *start;     /* nnode+1  where each node's begin in order */
    int32_t *stamp;     /* nnode    last node whose list has this one */
    double *rows;       /* n x ncol whitened rows: columns of Z, then the edge */
    int32_t ncol, edge; /* edge: X and y, or y alone where X is whitened in its sums */
    lmm_data stored;    /* the data where coded columns had to be stored */
    double *X;          /* and these */
} builder;

#define WIDE 48         /* columns of X from which products are worth calls of BLAS */
#define DEPENDENT 1e-13 /* squared residual norm over squared norm, below which a column is dropped */

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
lmm_status whiten_factor(lmm_model *m, factor *f, const lmm_data *d, uint8_t *keep, lmm_report *report);
void whiten_fixed(lmm_model *m, const lmm_data *d); /* what follows from the whitening of X, and from w */
void invert(int p, const double *A, double *X, double *work); /* work: p x p */

/* pattern.c: co-occurring nodes */
lmm_status number_nodes(lmm_model *m, const builder *b);
/* order, start := pairs by their node of factor k (stable) */
void sort_pairs(const lmm_model *m, const builder *b, int k, const level_pairs *pairs);
void count_lists(lmm_model *m, const builder *b);
lmm_status make_lists(lmm_model *m, const builder *b, ptrdiff_t *size);

/* storage.c: how it is stored, what that costs */
void choose_lists(lmm_model *m, const builder *b);
lmm_status choose_storage(lmm_model *m, const builder *b, const ptrdiff_t *size);

/* cross.c: values of A from rows;  products.c: from cross-products */
lmm_status make_rows(lmm_model *m, builder *b);
void accumulate(lmm_model *m, builder *b);
lmm_status whiten_products(lmm_model *m, factor *f, const builder *b, uint8_t *keep);
lmm_status whiten_fixed_products(lmm_model *m, const builder *b, uint8_t *keep);
lmm_status copy_products(lmm_model *m, const builder *b);

/* gram.c: whitening of a wide X, in its sums where these keep its digits (lay->summed), else of its rows */
lmm_status whiten_wide(lmm_model *m, builder *b, uint8_t *keep);
lmm_status whiten_rows(lmm_model *m, const builder *b);

/* edge.c */
lmm_status accumulate_fixed(lmm_model *m, const builder *b);
void response_border(lmm_model *m, const lmm_data *d, const double *y, double *work); /* work: n */

/* moments.c */
void column_moments(int64_t n, const double *x, ptrdiff_t rs, const double *w, double *mean, double *spread,
                    int *constant);
void center_on_constant(whitening *w, double *scale); /* which means stay, and scales beside them */
void uncentred(const whitening *w, double constant);
void add_exactly(int n, double *total, double *lost, const double *part);
lmm_status whiten(whitening *w, int64_t n, const double *x, ptrdiff_t rowstride, ptrdiff_t colstride,
                  const double *weight, uint8_t *keep);
lmm_status center_response(lmm_model *m, const lmm_data *d, double *out);
void whitened_row(const lmm_model *m, const lmm_data *d, int64_t i, double *out);
void chol_dropping(int k, double *G, uint8_t *keep);
void invert_factor(int k, const double *G, const double *scale, const uint8_t *keep, double *B);

#endif
