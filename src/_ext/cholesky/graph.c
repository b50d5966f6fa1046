/* The neighbours of each node of a symmetric pattern. */

#include "cholesky/graph.h"

#include "base/memory.h"

lmm_status find_adjacent(void **memory, const pattern *a, ptrdiff_t spare, ptrdiff_t **at, int32_t **list)
{
    ptrdiff_t *end = grab(memory, (size_t)a->n + 2, sizeof(*end));
    if (!end) return LMM_NOMEM;
    *at = end++; /* end[i]: where the next neighbour of i goes, from where its list begins */
    for (int32_t j = 0; j < a->n; j++)
        for (ptrdiff_t k = a->ptr[j]; k < a->ptr[j + 1]; k++)
            if (a->row[k] > j) end[j + 1]++, end[a->row[k] + 1]++;
    for (int32_t j = 0; j < a->n; j++) end[j + 1] += end[j];
    if (!(*list = grab(memory, (size_t)(end[a->n] + spare) + 1, sizeof(**list)))) return LMM_NOMEM;
    for (int32_t j = 0; j < a->n; j++)
        for (ptrdiff_t k = a->ptr[j]; k < a->ptr[j + 1]; k++) {
            if (a->row[k] <= j) continue;
            (*list)[end[j]++] = a->row[k];
            (*list)[end[a->row[k]]++] = j;
        }
    return LMM_OK;
}
