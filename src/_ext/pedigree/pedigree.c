#include "pedigree/pedigree.h"

#include <stdlib.h>

/* ------------------------------------------------------------------------------------------ order -- */

typedef struct {    /* a walk from progeny up to founders                      */
    uint8_t *state; /* n  of each animal: not seen, on the way up, placed      */
    int32_t *stack; /* n                                                       */
} walk;

enum { UNSEEN, ABOVE, PLACED };

/* The parent that has no place yet; -1: there is none */
static int32_t waits_for(const walk *w, int32_t sire, int32_t dam)
{
    if (sire >= 0 && w->state[sire] != PLACED) return sire;
    if (dam >= 0 && w->state[dam] != PLACED) return dam;
    return -1;
}

/* Places an animal behind its ancestors. Returns one that is its own ancestor, or -1. */
static int32_t place(walk *w, int32_t animal, const int32_t *sire, const int32_t *dam, int32_t *order,
                     int32_t *placed)
{
    int32_t depth = 0;
    w->stack[depth++] = animal;
    w->state[animal] = ABOVE;
    while (depth) {
        const int32_t i = w->stack[depth - 1], parent = waits_for(w, sire[i], dam[i]);
        if (parent < 0) {
            w->state[i] = PLACED;
            order[(*placed)++] = i;
            depth--;
        } else {
            if (w->state[parent] == ABOVE) return parent;
            w->state[parent] = ABOVE;
            w->stack[depth++] = parent;
        }
    }
    return -1;
}

lmm_status pedigree_order(int32_t n, const int32_t *sire, const int32_t *dam, int32_t *order, int32_t *cycle)
{
    walk w = {.state = calloc((size_t)n + 1, 1), .stack = malloc(sizeof(int32_t) * ((size_t)n + 1))};
    const lmm_status status = w.state && w.stack ? LMM_OK : LMM_NOMEM;
    int32_t placed = 0;
    *cycle = -1;
    for (int32_t i = 0; status == LMM_OK && *cycle < 0 && i < n; i++)
        if (w.state[i] == UNSEEN) *cycle = place(&w, i, sire, dam, order, &placed);
    free(w.state), free(w.stack);
    return status;
}

/* ------------------------------------------------------------------------------------- inbreeding -- */

typedef struct {   /* ancestors of one animal that are still to be visited                        */
    int32_t *heap; /* n  the youngest on top                                                    */
    int32_t size;  /*    of the heap                                                            */
    double *share; /* n  the animal's row of T; zero for what is not in the heap                */
} ancestors;

static void push(ancestors *a, int32_t animal)
{
    int32_t i = a->size++;
    for (; i && a->heap[(i - 1) / 2] < animal; i = (i - 1) / 2) a->heap[i] = a->heap[(i - 1) / 2];
    a->heap[i] = animal;
}

static int32_t pop(ancestors *a)
{
    const int32_t top = a->heap[0], moved = a->heap[--a->size];
    int32_t i = 0;
    for (int32_t child; (child = 2 * i + 1) < a->size; i = child) {
        if (child + 1 < a->size && a->heap[child + 1] > a->heap[child]) child++;
        if (a->heap[child] <= moved) break;
        a->heap[i] = a->heap[child];
    }
    a->heap[i] = moved;
    return top;
}

static void add_share(ancestors *a, int32_t parent, double share)
{
    if (parent < 0) return;
    if (a->share[parent] == 0) push(a, parent);
    a->share[parent] += share;
}

/* A_ii = sum over ancestors of T_ij^2 d_j */
static double own_relationship(ancestors *a, int32_t i, const int32_t *sire, const int32_t *dam,
                               const double *d)
{
    double sum = 0;
    add_share(a, i, 1);
    while (a->size) {
        const int32_t j = pop(a);
        const double share = a->share[j];
        a->share[j] = 0;
        sum += share * share * d[j];
        add_share(a, sire[j], share / 2);
        add_share(a, dam[j], share / 2);
    }
    return sum;
}

lmm_status pedigree_inbreeding(int32_t n, const int32_t *sire, const int32_t *dam, double *F, double *d)
{
    ancestors a = {.heap = malloc(sizeof(int32_t) * ((size_t)n + 1)),
                   .share = calloc((size_t)n + 1, sizeof(double))};
    const lmm_status status = a.heap && a.share ? LMM_OK : LMM_NOMEM;
    for (int32_t i = 0; status == LMM_OK && i < n; i++) {
        const int32_t s = sire[i], m = dam[i];
        d[i] = 0.5 - ((s < 0 ? -1 : F[s]) + (m < 0 ? -1 : F[m])) / 4;
        if (s < 0 || m < 0)
            F[i] = 0;
        else if (i && s == sire[i - 1] && m == dam[i - 1])
            F[i] = F[i - 1];
        else
            F[i] = own_relationship(&a, i, sire, dam, d) - 1;
    }
    free(a.heap), free(a.share);
    return status;
}
