/* Private: the trailing matrix as a whole, for traces of its parameters and of those that changed it. */

#ifndef LMM_WHOLE_H
#define LMM_WHOLE_H

#include "evaluate/changes.h"

typedef struct { /* q2 x q2 each: S; B = (S + G^-1)^-1; U = I - B S; M = S U = Z_R'V^-1 Z_R; room for one more
                  */
    double *S, *B, *U, *M, *work;
} whole;

ptrdiff_t whole_size(const layout *lay); /* doubles of all of them */
whole whole_in(const layout *lay, double *memory);
void whole_begin(lmm_model *m, const whole *w); /* S, and B where only the factor gives it; after factorize */
/* single += tr V^-1 G_r of the trailing factors; pairs (ntheta x ntheta) += tr V^-1 G_r V^-1 G_s of them, and
   what is left in the trailing matrix of those of the eliminated ones; after invert. ch: found, unless there
   are pairs of levels */
lmm_status whole_traces(lmm_model *m, const changes *ch, whole *w, double *single, double *pairs);
double whole_flops(const lmm_model *m);

/* Is it cheaper to have all pairs of levels of the eliminated factor than a change of S for each parameter?
 */
int has_level_pairs(const layout *lay);

#endif
