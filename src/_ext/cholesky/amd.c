/* Approximate minimum degree order of a symmetric pattern (Amestoy, Davis and Duff 1996, SIAM J. Matrix Anal.
   Appl. 17(4), 886-905, doi 10.1137/S0895479894278952).

   Eliminating a variable p joins its neighbours to each other. The quotient graph does not list those pairs:
   p becomes an element with a list L_p of variables. A variable i has variables A_i and elements E_i; its
   neighbours are those of A_i and of every L_e, e in E_i. L_p is the union of A_p and L_e, e in E_p; the
   elements E_p are absorbed, and what L_p joins leaves the lists A_i, so that the graph never grows. Next is
   the variable with the least bound on its degree, the number of its neighbours in columns,

       d_i = min(columns left, d_i before + |L_p \ i|, |A_i \ L_p| + |L_p \ i| + sum over e of |L_e \ L_p|).

   Elements inside L_p are absorbed too; a variable with no other neighbours than L_p is eliminated with p;
   variables with the same lists become one. Nodes with very many neighbours come last. The order of
   elimination is not postordered here: the symbolic factorization does that with its own tree. */

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "cholesky/graph.h"

#define DENSE 10.     /* times the root of the number of columns: more neighbours make a node dense, ... */
#define NOT_DENSE 16. /* but not so few                                                                  */
#define SLACK 5       /* a fifth more room than the lists need: they are moved together rarely           */

typedef struct {
    void *memory;
    int32_t n, least;       /* nodes; no variable has a smaller degree                             */
    int64_t left, all;      /* columns of variables; of all nodes                                  */
    ptrdiff_t end, room;    /* the lists' memory: first free entry, size                           */
    int32_t *list;          /* variables of a variable, then its elements; variables of an element */
    ptrdiff_t *at;          /* n  where each node's begin                                          */
    int32_t *len, *nvar;    /* n  entries; how many of them are variables                          */
    int32_t *weight;        /* n  columns of a variable, negative in L_p; 0: no variable           */
    int32_t *degree;        /* n  bound on a variable's degree; |L_e| of an element                */
    int64_t *mark, now;     /* n  of an element: 0: absorbed; now + |L_e \ L_p| once that is known */
    int32_t *head;          /* first variable of each degree, -1: none; others by:                 */
    int32_t *next, *before; /* n  the list of a degree; or of one hash, which before holds then    */
    int32_t *bucket;        /* n  first variable of each hash                                      */
    int32_t *member, *tail; /* n  nodes that were joined to a variable: next, and last of them     */
    int32_t *order;         /* n  nodes in order of elimination ...                                */
    int32_t done;           /*    ... so far                                                       */
} quotient;

static int32_t lesser(int64_t a, int64_t b)
{
    return (int32_t)(a < b ? a : b);
}

/* ----------------------------------------------------------------------- variables by degree -- */

static void insert(quotient *g, int32_t i, int32_t degree)
{
    const int32_t first = g->head[degree];
    g->degree[i] = degree;
    g->next[i] = first;
    g->before[i] = -1;
    if (first >= 0) g->before[first] = i;
    g->head[degree] = i;
    if (degree < g->least) g->least = degree;
}

static void take_out(quotient *g, int32_t i)
{
    if (g->next[i] >= 0) g->before[g->next[i]] = g->before[i];
    if (g->before[i] >= 0)
        g->next[g->before[i]] = g->next[i];
    else
        g->head[g->degree[i]] = g->next[i];
}

static int32_t take_least(quotient *g)
{
    while (g->head[g->least] < 0) g->least++;
    const int32_t p = g->head[g->least];
    take_out(g, p);
    return p;
}

/* ------------------------------------------------------------------------------------ set-up -- */

static lmm_status allocate(quotient *g, const pattern *a)
{
    int32_t **of_nodes[] = {&g->len,    &g->nvar,   &g->weight, &g->degree, &g->next,
                            &g->before, &g->bucket, &g->member, &g->tail};
    for (size_t i = 0; i < sizeof(of_nodes) / sizeof(*of_nodes); i++) GRAB(g, *of_nodes[i], a->n);
    GRAB(g, g->mark, a->n);
    GRAB(g, g->head, g->all + 1);
    const ptrdiff_t entries = 2 * (a->n ? a->ptr[a->n] : 0), spare = entries / SLACK + a->n;
    TRY(find_adjacent(&g->memory, a, spare, &g->at, &g->list));
    g->end = g->at[a->n];
    g->room = g->end + spare;
    return LMM_OK;
}

/* Columns that are adjacent to i; without the dense nodes once their weight is 0 */
static int64_t adjacent_columns(const quotient *g, int32_t i)
{
    int64_t columns = 0;
    for (ptrdiff_t k = g->at[i]; k < g->at[i + 1]; k++) columns += g->weight[g->list[k]];
    return columns;
}

/* Dense nodes are no variables: they take the last places, those with more neighbours later. */
static void set_aside_dense(quotient *g)
{
    const double root = DENSE * sqrt((double)g->all), limit = root > NOT_DENSE ? root : NOT_DENSE;
    int32_t last = g->n;
    for (int32_t i = 0; i < g->n; i++) {
        const int64_t degree = adjacent_columns(g, i);
        if ((double)degree > limit) insert(g, i, lesser(degree, g->all));
    }
    for (int64_t degree = g->all; degree > limit; degree--)
        while (g->head[degree] >= 0) {
            const int32_t i = g->head[degree];
            take_out(g, i);
            g->order[--last] = i;
            g->left -= g->weight[i];
            g->weight[i] = 0;
        }
}

static void fill(quotient *g, const pattern *a)
{
    g->now = 1;
    g->left = g->all;
    for (int64_t d = 0; d <= g->all; d++) g->head[d] = -1;
    for (int32_t i = 0; i < g->n; i++) {
        g->weight[i] = a->weight[i];
        g->bucket[i] = g->member[i] = -1;
        g->tail[i] = i;
    }
    set_aside_dense(g);
    g->least = (int32_t)g->all;
    for (int32_t i = g->n - 1; i >= 0; i--) {
        if (!g->weight[i]) continue;
        g->len[i] = g->nvar[i] = (int32_t)(g->at[i + 1] - g->at[i]);
        insert(g, i, lesser(adjacent_columns(g, i), g->left - g->weight[i]));
    }
}

/* ------------------------------------------------------------------------------ the next element -- */

/* Moves all lists to the front. The first entry of each trades places with its address meanwhile, and the
   number of its node stands there as a negative one. */
static void move_together(quotient *g)
{
    ptrdiff_t to = 0;
    for (int32_t i = 0; i < g->n; i++) {
        if (!g->len[i]) continue;
        const ptrdiff_t first = g->at[i];
        g->at[i] = g->list[first];
        g->list[first] = -1 - i;
    }
    for (ptrdiff_t from = 0; from < g->end;) {
        const int32_t i = -1 - g->list[from];
        if (i < 0) { /* nobody's */
            from++;
            continue;
        }
        g->list[from] = (int32_t)g->at[i];
        memmove(g->list + to, g->list + from, sizeof(*g->list) * (size_t)g->len[i]);
        g->at[i] = to;
        to += g->len[i];
        from += g->len[i];
    }
    g->end = to;
}

/* The variables of a list that are not in L_p yet go there; how many L_p has then. */
static ptrdiff_t gather(quotient *g, const int32_t *from, int32_t count, int32_t *L, ptrdiff_t size)
{
    for (int32_t k = 0; k < count; k++) {
        const int32_t i = from[k];
        if (g->weight[i] <= 0) continue;
        take_out(g, i);
        g->weight[i] = -g->weight[i];
        L[size++] = i;
    }
    return size;
}

/* L_p from the lists of p: where A_p stood if p has no elements, else at the end */
static void form(quotient *g, int32_t p)
{
    const int32_t nvar = g->nvar[p], nelem = g->len[p] - nvar;
    if (nelem && g->room - g->end < g->n) move_together(g);
    const int32_t *A = g->list + g->at[p], *E = A + nvar;
    const ptrdiff_t at = nelem ? g->end : g->at[p];
    int32_t *L = g->list + at;
    ptrdiff_t size = gather(g, A, nvar, L, 0);
    for (int32_t k = 0; k < nelem; k++) {
        const int32_t e = E[k];
        if (!g->mark[e]) continue;
        size = gather(g, g->list + g->at[e], g->len[e], L, size);
        g->mark[e] = g->len[e] = 0;
    }
    g->at[p] = at;
    g->len[p] = (int32_t)size;
    if (nelem) g->end = at + size;
}

static void emit(quotient *g, int32_t i)
{
    for (; i >= 0; i = g->member[i]) g->order[g->done++] = i;
}

/* ------------------------------------------------------------------------- degrees of its variables -- */

/* |L_e \ L_p| for all elements of the variables in L_p, and what of L_p comes from them: marks */
static void measure(quotient *g, const int32_t *L, int32_t count)
{
    for (int32_t k = 0; k < count; k++) {
        const int32_t i = L[k], *list = g->list + g->at[i], *end = list + g->len[i];
        for (list += g->nvar[i]; list < end; list++) {
            const int64_t mark = g->mark[*list];
            if (mark >= g->now)
                g->mark[*list] = mark + g->weight[i];
            else if (mark)
                g->mark[*list] = g->now + g->degree[*list] + g->weight[i];
        }
    }
}

/* The lists of i in L_p without what L_p makes superfluous, then p; its degree outside L_p; by its hash among
   those that may have the same lists. What is adjacent to nothing else is eliminated: its columns, else 0. */
static int32_t revise(quotient *g, int32_t i, int32_t p)
{
    const int32_t nvar = g->nvar[i], len = g->len[i], weight = -g->weight[i];
    int32_t *list = g->list + g->at[i], to = 0;
    int64_t outside = 0;
    uint32_t hash = 0;
    for (int32_t k = 0; k < nvar; k++) {
        const int32_t j = list[k];
        if (g->weight[j] <= 0) continue;
        outside += g->weight[j];
        hash += (uint32_t)j;
        list[to++] = j;
    }
    g->nvar[i] = to;
    for (int32_t k = nvar; k < len; k++) {
        const int32_t e = list[k];
        const int64_t more = g->mark[e] - g->now;
        if (!more) g->mark[e] = g->len[e] = 0;
        if (more <= 0) continue;
        outside += more;
        hash += (uint32_t)e;
        list[to++] = e;
    }
    if (!outside) {
        g->weight[i] = g->len[i] = 0;
        emit(g, i);
        return weight;
    }
    list[to++] = p;
    g->len[i] = to;
    g->degree[i] = lesser(g->degree[i], outside);
    g->before[i] = (int32_t)(hash % (uint32_t)g->n);
    g->next[i] = g->bucket[g->before[i]];
    g->bucket[g->before[i]] = i;
    return 0;
}

/* ------------------------------------------------------------------------ variables with the same lists --
 */

static int has_marked_lists(const quotient *g, int32_t i)
{
    const int32_t *list = g->list + g->at[i];
    for (int32_t k = 0; k < g->len[i]; k++)
        if (g->mark[list[k]] != g->now) return 0;
    return 1;
}

static void join(quotient *g, int32_t i, int32_t j)
{
    g->weight[i] += g->weight[j];
    g->weight[j] = g->len[j] = 0;
    g->member[g->tail[i]] = j;
    g->tail[i] = g->tail[j];
}

/* Joins to i those behind it in its bucket that have the same lists. */
static void join_same(quotient *g, int32_t i)
{
    const int32_t *list = g->list + g->at[i];
    if (g->next[i] < 0) return;
    g->now++;
    for (int32_t k = 0; k < g->len[i]; k++) g->mark[list[k]] = g->now;
    for (int32_t last = i, j = g->next[i]; j >= 0; j = g->next[j])
        if (g->len[j] == g->len[i] && g->nvar[j] == g->nvar[i] && has_marked_lists(g, j)) {
            join(g, i, j);
            g->next[last] = g->next[j];
        } else
            last = j;
}

static void join_all(quotient *g, const int32_t *L, int32_t count)
{
    for (int32_t k = 0; k < count; k++) {
        if (!g->weight[L[k]]) continue;
        int32_t *bucket = g->bucket + g->before[L[k]], i = *bucket;
        *bucket = -1;
        for (; i >= 0; i = g->next[i]) join_same(g, i);
    }
}

/* ------------------------------------------------------------------------------------- elimination -- */

/* The variables left in L_p are variables again, with their new degrees. size: |L_p| */
static void finish(quotient *g, int32_t p, int64_t size)
{
    int32_t *L = g->list + g->at[p], count = 0;
    for (int32_t k = 0; k < g->len[p]; k++) {
        const int32_t i = L[k], weight = -g->weight[i];
        if (!weight) continue;
        L[count++] = i;
        g->weight[i] = weight;
        insert(g, i, lesser(g->degree[i] + size, g->left) - weight);
    }
    if (g->at[p] + g->len[p] == g->end) g->end = g->at[p] + count;
    g->len[p] = count;
    g->degree[p] = (int32_t)size;
    g->mark[p] = g->now;
}

static void eliminate(quotient *g, int32_t p)
{
    int64_t size = 0;
    g->left -= g->weight[p];
    g->weight[p] = 0;
    emit(g, p);
    form(g, p);
    const int32_t *L = g->list + g->at[p], count = g->len[p];
    for (int32_t k = 0; k < count; k++) size -= g->weight[L[k]];
    measure(g, L, count);
    for (int32_t k = 0; k < count; k++) {
        const int32_t columns = revise(g, L[k], p);
        size -= columns;
        g->left -= columns;
    }
    g->now += g->all + 1; /* above all marks */
    join_all(g, L, count);
    finish(g, p, size);
    g->now++;
}

lmm_status minimum_degree(const pattern *a, int32_t *order)
{
    quotient g = {.n = a->n, .order = order};
    for (int32_t i = 0; i < a->n; i++) g.all += a->weight[i];
    lmm_status status = allocate(&g, a);
    if (status == LMM_OK) {
        fill(&g, a);
        while (g.left) eliminate(&g, take_least(&g));
    }
    release(&g.memory, NULL);
    return status;
}
