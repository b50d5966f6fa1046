/* Rows that are added to cross-products, and the coordinates in which they are. */

#ifndef LMM_CHUNK_H
#define LMM_CHUNK_H

#include "sums/blocks.h"

typedef struct {               /* new columns are (x - mean) B; B upper triangular, column-major          */
    const double *const *mean; /* p          one array for each factor                                    */
    const double *const *B;    /* p x p      the same; zero between columns of different terms            */
    const double *xmean, *BX;  /* p; p x p   of X                                                         */
    const double *slope;       /* p          y: (y - center - (new columns of X) slope) / yscale          */
    double center, yscale;
    int uncentred; /* the centre is not subtracted, only from the sums of the response        */
} lmm_coordinates;

typedef struct {               /* sums over rows, added to                                                */
    double *columns;           /* p          of the new columns of X, without weights                     */
    double *plain;             /* NULL, or X'X, then Z'Z of each factor, without weights                  */
    double response[2];        /* of the response less its centre, and of the squares of that             */
    double sumlogw, low, high; /* of the weights: logarithms; lowest and highest                          */
} lmm_totals;

/* All columns of X are stored. */
lmm_status lmm_add_rows(lmm_blocks *b, const lmm_blas *blas, const lmm_data *d, const lmm_coordinates *own,
                        lmm_totals *totals);

#endif
