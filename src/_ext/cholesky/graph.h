/* Private: fill-reducing orders of a symmetric pattern, and the graph that they walk on.

   A pattern is given as the lower triangle by columns; what stands on or above the diagonal is ignored. A
   node may stand for several columns with the same neighbours: weight[i] of them, at least one each. */

#ifndef LMM_GRAPH_H
#define LMM_GRAPH_H

#include "lmm.h"

typedef struct {
    int32_t n;
    const ptrdiff_t *ptr; /* n+1  where each column begins in row */
    const int32_t *row;
    const int32_t *weight; /* n */
} pattern;

/* Neighbours of each node, in ascending order: list[at[i]] .. list[at[i+1]-1]; `spare` more entries have room
   behind them. Both are grabbed from memory. */
lmm_status find_adjacent(void **memory, const pattern *a, ptrdiff_t spare, ptrdiff_t **at, int32_t **list);

/* order[k]: the k-th node to eliminate. */
lmm_status minimum_degree(const pattern *a, int32_t *order); /* approximate (amd.c) */

/* flops: multiplications of a factor that fills the whole envelope (rcm.c) */
lmm_status reverse_cuthill_mckee(const pattern *a, int32_t *order, double *flops);

#endif
