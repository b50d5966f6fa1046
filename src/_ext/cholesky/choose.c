/* The symbolic factor with the fewest multiplications among the orders at hand: approximate minimum degree,
   always; reverse Cuthill-McKee, where its envelope promises less; the caller's, where the graph is hard. */

#include "base/memory.h"
#include "cholesky/supernodal.h"

/* Multiplications from which a better order is looked for: at all, and for each entry of the graph. METIS
   takes 1 to 2.4 microseconds an entry, about as long as an evaluation at this number. (Measured.) */
#define MANY 1e8
#define HARD 6000.

typedef struct {
    void *memory;
    const pattern *nodes, *columns;
    const lmm_blas *blas;
    int32_t *first;  /* n  first column of each node         */
    int32_t *order;  /* n  of nodes ...                      */
    int32_t *column; /*    ... and of the columns they have  */
    supernodal *best;
    lmm_order found; /* what found it */
} choice;

static lmm_status prepare(choice *c)
{
    GRAB(c, c->first, c->nodes->n);
    GRAB(c, c->order, c->nodes->n);
    GRAB(c, c->column, c->columns->n);
    for (int32_t i = 0, at = 0; i < c->nodes->n; i++) {
        c->first[i] = at;
        at += c->nodes->weight[i];
    }
    return LMM_OK;
}

/* The factor in the order at hand, if it takes fewer multiplications than the best so far */
static lmm_status compare(choice *c, lmm_order found)
{
    const pattern *S = c->columns;
    supernodal *other;
    for (int32_t k = 0, to = 0; k < c->nodes->n; k++)
        for (int32_t i = c->order[k], w = 0; w < c->nodes->weight[i]; w++) c->column[to++] = c->first[i] + w;
    TRY(supernodal_analyse(&other, S->n, S->ptr, S->row, c->column, c->blas));
    const int fewer = !c->best || supernodal_flops(other) < supernodal_flops(c->best);
    supernodal_free(fewer ? c->best : other);
    if (!fewer) return LMM_OK;
    c->best = other;
    c->found = found;
    return LMM_OK;
}

static int is_hard(const choice *c)
{
    const double flops = supernodal_flops(c->best), entries = (double)c->nodes->ptr[c->nodes->n];
    return flops > MANY && flops > HARD * entries;
}

static lmm_status compare_all(choice *c, const lmm_options *options)
{
    const pattern *G = c->nodes;
    double envelope;
    TRY(prepare(c));
    TRY(minimum_degree(G, c->order));
    TRY(compare(c, LMM_AMD));
    TRY(reverse_cuthill_mckee(G, c->order, &envelope));
    if (envelope < supernodal_flops(c->best)) TRY(compare(c, LMM_RCM));
    if (!options->order || !is_hard(c)) return LMM_OK;
    if (options->order(options->arg, G->n, G->ptr, G->row, c->order)) return LMM_OK;
    return compare(c, LMM_OFFERED);
}

lmm_status supernodal_choose(supernodal **out, lmm_order *found, const pattern *nodes, const pattern *columns,
                             const lmm_blas *blas, const lmm_options *options)
{
    choice c = {.nodes = nodes, .columns = columns, .blas = blas};
    const lmm_status status = compare_all(&c, options);
    release(&c.memory, NULL);
    if (status != LMM_OK) {
        supernodal_free(c.best);
        c.best = NULL;
    }
    *out = c.best;
    *found = c.found;
    return status;
}
