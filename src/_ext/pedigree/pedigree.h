/* Pedigrees: an order in which parents come first, and inbreeding. Knows nothing of models.

   An animal is a number 0 .. n - 1, an unknown parent -1. */

#ifndef LMM_PEDIGREE_H
#define LMM_PEDIGREE_H

#include "lmm.h"

/* order[k]: the k-th animal, parents before their progeny, otherwise as given. *cycle: an animal that is
   among its own ancestors, -1: there is none. */
lmm_status pedigree_order(int32_t n, const int32_t *sire, const int32_t *dam, int32_t *order, int32_t *cycle);

/* Inbreeding F and Mendelian variance d of every animal, A = T diag(d) T': Meuwissen & Luo (1992), Genet.
   Sel. Evol. 24: 305-313. Parents have lower numbers than their progeny. */
lmm_status pedigree_inbreeding(int32_t n, const int32_t *sire, const int32_t *dam, double *F, double *d);

#endif
