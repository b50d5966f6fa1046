/* Private: how the factorization changes with the entries of the eliminated factors' relative covariance
   matrices G = T T', whitened coordinates. */

#ifndef LMM_CHANGES_H
#define LMM_CHANGES_H

#include "model/model.h"

typedef struct {
    lmm_model *m;
    int count;            /* parameters of eliminated factors                                         */
    double ***diag;       /* [r][k]: dA_l of the eliminated factor k, coarser than that of r; else NULL */
    double ***pan;        /* the same of its panels, without the rows of X and y                      */
    double **N;           /* [r]: -dS, q2 x q2                                                        */
    double *left, *right; /* q2 x columns: N_r += left right' + right left', when they are full  */
    int columns;
    int32_t *index; /* q2  trailing columns of a level's list                       */
    double *dK;     /* p x p for every level of the eliminated factor with most of these */
    void *memory;
} changes;

int changes_count(const layout *lay);
double changes_flops(const lmm_model *m);
changes *changes_new(lmm_model *m, int wanted); /* not wanted: no room for them. NULL: no memory */
void changes_free(changes *ch);                 /* NULL is fine */
lmm_status changes_find(changes *ch);           /* at T, after the factorization */

/* K = T M^-1 T' and N = I - K A of one level of an eliminated factor */
void level_matrices(const lmm_model *m, const factor *f, int32_t l, double *K, double *N);

#endif
