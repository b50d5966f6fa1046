/* Private: the two steps that whiten a wide X (wide.c), for columns that are centred and scaled; and how a
   narrow one asks the rows what it drops. */

#ifndef LMM_WIDE_H
#define LMM_WIDE_H

#include "setup/build.h"

#define INFLATION 1e7 /* of a column's variance by the others, above which rows must be whitened */

/* gram.c: x->C := G (lower); B is overwritten. careful: with little lost to rounding. *lost: not all digits
   of it are right. */
lmm_status make_gram(const lmm_model *m, builder *b, whitening *x, const double *scale, const uint8_t *coded,
                     int careful, int *lost);

/* root.c: B := R^-1 over the kept columns of G (lower triangle and diagonal of x->C, which its factor
   overwrites); full: p of its own. Nonzero: it is not sure which are kept; B is not made then unless `all`.
 */
int invert_gram(const lmm_model *m, whitening *x, uint8_t *keep, double *full, int all);

/* ... for columns that are all stored, until no column is kept of which the rows say that nothing is left */
lmm_status invert_carefully(const lmm_model *m, rows *r, whitening *x, const double *scale, uint8_t *keep,
                            double *full);

/* root.c: whiten() of a narrow X, until no column is kept of which the rows say that nothing is left */
lmm_status whiten_narrow(builder *b, whitening *x, uint8_t *keep);

/* The largest variance inflation of a column, 1 / (1 - R_j^2). B: of scaled columns; sum: p of its own */
double largest_inflation(int p, const double *B, const double *full, const uint8_t *keep, double *sum);

#endif
