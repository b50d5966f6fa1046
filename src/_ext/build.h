/* Private: what the steps of lmm_setup share. Only set-up allocates; a model owns every block it grabs. */

#ifndef LMM_BUILD_H
#define LMM_BUILD_H

#include <stdlib.h>

#include "model.h"

typedef struct { /* what only set-up needs */
    const lmm_data *d;
    int32_t **node; /* nfactor x n  node of each row, in elimination order */
    int64_t *order; /* n            rows sorted by the node of one factor */
    int64_t *start; /* nnode+1      where each node's rows begin in order */
    int32_t *stamp; /* nnode        last node that met this one */
    double *rows;   /* n x ncol     whitened rows */
    int32_t ncol;
} builder;

void *grab(lmm_model *m, size_t count, size_t size); /* zeroed; freed by lmm_free */

#define GRAB(m, field, count) \
    if (!((field) = grab(m, (size_t)(count), sizeof(*(field))))) return LMM_NOMEM

#define TRY(call)                              \
    do {                                       \
        lmm_status status_ = (call);           \
        if (status_ != LMM_OK) return status_; \
    } while (0)

/* order.c: which factors are eliminated, and in which order */
lmm_status choose_order(lmm_model *m, const lmm_data *d, int32_t *order);

/* columns.c: columns, parameters and whitening of a factor and of X */
lmm_status new_factor(lmm_model *m, factor *f, const lmm_data *d, int32_t user, uint8_t *keep,
                      lmm_report *report);
lmm_status new_fixed(lmm_model *m, const lmm_data *d, uint8_t *keep);

/* pattern.c: who meets whom, and how it is stored */
lmm_status number_nodes(lmm_model *m, const lmm_data *d);
void sort_rows(const lmm_model *m, const builder *b, int k);
double count_lists(lmm_model *m, const builder *b);
void choose_storage(lmm_model *m, double sparse);
lmm_status make_lists(lmm_model *m, const builder *b, ptrdiff_t *size);
lmm_status make_strips(lmm_model *m);

/* cross.c: values of A */
lmm_status make_rows(lmm_model *m, builder *b);
void accumulate(lmm_model *m, builder *b);

#endif
