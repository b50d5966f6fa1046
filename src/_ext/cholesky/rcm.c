/* Reverse Cuthill-McKee order: each connected part from one end to the other, level by level, neighbours with
   fewer neighbours first; then all backwards (George and Liu 1981, Computer Solution of Large Sparse Positive
   Definite Systems, ch. 4). Long narrow graphs get a small envelope: from the first entry of each row to the
   diagonal, outside of which the factor is zero. */

#include <string.h>

#include "base/memory.h"
#include "cholesky/graph.h"

#define SEARCHES 8 /* for the end of a connected part, at most: they pass over all of it */

typedef struct {
    void *memory;
    int32_t n;
    ptrdiff_t *at;  /* n+1  where each node's neighbours begin, ... */
    int32_t *list;  /*      those with fewer neighbours first       */
    int32_t *by;    /* n    nodes, those with fewer first           */
    int32_t *seen;  /* n    number of the last search that came there, from 1 */
    int32_t search; /*      number of the last search               */
} walk;

static int32_t neighbours(const walk *w, int32_t i)
{
    return (int32_t)(w->at[i + 1] - w->at[i]);
}

static lmm_status sort_nodes(walk *w)
{
    int32_t *start;
    GRAB(w, start, w->n + 1);
    GRAB(w, w->by, w->n);
    for (int32_t i = 0; i < w->n; i++) start[neighbours(w, i) + 1]++;
    for (int32_t d = 0; d < w->n; d++) start[d + 1] += start[d];
    for (int32_t i = 0; i < w->n; i++) w->by[start[neighbours(w, i)]++] = i;
    return LMM_OK;
}

/* Every list anew: a node goes into its neighbours' lists after those that have fewer neighbours. */
static lmm_status sort_lists(walk *w)
{
    int32_t *sorted;
    ptrdiff_t *end;
    GRAB(w, sorted, w->at[w->n] + 1);
    GRAB(w, end, w->n + 1);
    memcpy(end, w->at, sizeof(*end) * (size_t)w->n);
    for (int32_t k = 0; k < w->n; k++) {
        const int32_t i = w->by[k];
        for (ptrdiff_t e = w->at[i]; e < w->at[i + 1]; e++) sorted[end[w->list[e]]++] = i;
    }
    w->list = sorted;
    return LMM_OK;
}

static lmm_status prepare(walk *w, const pattern *a)
{
    TRY(find_adjacent(&w->memory, a, 0, &w->at, &w->list));
    GRAB(w, w->seen, w->n);
    TRY(sort_nodes(w));
    return sort_lists(w);
}

/* The connected part of root by levels, into part. Gives its size, where its last level begins, and how many
   levels there are. */
static int32_t search(walk *w, int32_t root, int32_t *part, int32_t *last, int32_t *levels)
{
    int32_t size = 1, done = 0;
    w->seen[root] = ++w->search;
    part[0] = root;
    for (*levels = 0; done < size; ++*levels) {
        *last = done;
        for (const int32_t end = size; done < end; done++)
            for (ptrdiff_t e = w->at[part[done]]; e < w->at[part[done] + 1]; e++) {
                const int32_t i = w->list[e];
                if (w->seen[i] == w->search) continue;
                w->seen[i] = w->search;
                part[size++] = i;
            }
    }
    return size;
}

/* The connected part of root from an end of it: the last level holds a node from which there are no fewer
   levels, and in the end no more. Gives its size. */
static int32_t search_from_end(walk *w, int32_t root, int32_t *part)
{
    int32_t last, levels, before = 0;
    int32_t size = search(w, root, part, &last, &levels);
    for (int k = 1; k < SEARCHES && levels > before; k++) {
        before = levels;
        root = part[last];
        for (int32_t i = last; i < size; i++)
            if (neighbours(w, part[i]) < neighbours(w, root)) root = part[i];
        size = search(w, root, part, &last, &levels);
    }
    return size;
}

/* Multiplications of a factor that fills the envelope: half the square of each row's length */
static double envelope(walk *w, const int32_t *weight, const int32_t *order)
{
    int32_t *place = w->seen; /* where the columns of each node begin */
    double flops = 0;
    for (int32_t k = 0, at = 0; k < w->n; k++) {
        place[order[k]] = at;
        at += weight[order[k]];
    }
    for (int32_t i = 0; i < w->n; i++) {
        int32_t first = place[i];
        for (ptrdiff_t e = w->at[i]; e < w->at[i + 1]; e++)
            if (place[w->list[e]] < first) first = place[w->list[e]];
        for (int32_t c = 0; c < weight[i]; c++) {
            const double length = (double)place[i] + c + 1 - first;
            flops += length * length / 2;
        }
    }
    return flops;
}

lmm_status reverse_cuthill_mckee(const pattern *a, int32_t *order, double *flops)
{
    walk w = {.n = a->n};
    lmm_status status = prepare(&w, a);
    if (status == LMM_OK) {
        for (int32_t k = 0, done = 0; k < a->n; k++)
            if (!w.seen[w.by[k]]) done += search_from_end(&w, w.by[k], order + done);
        for (int32_t i = 0, j = a->n - 1; i < j; i++, j--) {
            const int32_t first = order[i];
            order[i] = order[j];
            order[j] = first;
        }
        *flops = envelope(&w, a->weight, order);
    }
    release(&w.memory, NULL);
    return status;
}
