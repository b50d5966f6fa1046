/* Elimination order: the heaviest chain of nested factors goes first, level by level. Factors whose levels
   are related, or of which rows have several levels, are never eliminated. */

#include "setup/build.h"

level_pairs level_pairs_of(const builder *b, int a, int c)
{
    if (!b->x) {
        const level_pairs rows = {b->d->n, b->d->factor[a].level, b->d->factor[c].level};
        return rows;
    }
    const lmm_pairs *p = a < c ? lmm_pairs_of(b->x->blocks, a, c) : lmm_pairs_of(b->x->blocks, c, a);
    const level_pairs pairs = {p->count, a < c ? p->a : p->b, a < c ? p->b : p->a};
    return pairs;
}

/* Is it never eliminated? */
static int stays(const lmm_factor *f)
{
    return f->precision || f->members;
}

/* Is every level of a inside one level of c, which is no finer?  parent: scratch, receives that level. */
static int is_nested(const builder *b, int a, int c, int32_t *parent)
{
    const lmm_factor *fa = &b->d->factor[a];
    if (fa->members || b->d->factor[c].members) return 0;
    const level_pairs pairs = level_pairs_of(b, a, c);
    for (int32_t l = 0; l < fa->nlev; l++) parent[l] = -1;
    for (int64_t i = 0; i < pairs.n; i++) {
        int32_t *up = &parent[pairs.a[i]];
        if (*up < 0)
            *up = pairs.b[i];
        else if (*up != pairs.b[i])
            return 0;
    }
    return 1;
}

typedef struct {     /* what choose_order needs; K factors */
    int32_t *parent; /* most levels of a factor                                              */
    int *sorted;     /* K      factors, the coarsest first; of two as coarse the later first */
    int *next;       /* K      the next factor of the heaviest chain that begins with each   */
    double *weight;  /* K      columns of that chain                                         */
    uint8_t *nested; /* K x K  is factor a nested in factor c?                               */
    uint8_t *used;   /* K                                                                    */
} ranking;

static lmm_status new_ranking(const lmm_data *d, ranking *r)
{
    const size_t K = (size_t)d->nfactor;
    int32_t most = 1;
    for (size_t a = 0; a < K; a++)
        if (d->factor[a].nlev > most) most = d->factor[a].nlev;
    r->parent = malloc(sizeof(*r->parent) * (size_t)most);
    r->sorted = calloc(K, sizeof(*r->sorted));
    r->next = calloc(K, sizeof(*r->next));
    r->weight = calloc(K, sizeof(*r->weight));
    r->nested = calloc(K * K, 1);
    r->used = calloc(K, 1);
    return r->parent && r->sorted && r->next && r->weight && r->nested && r->used ? LMM_OK : LMM_NOMEM;
}

static void free_ranking(ranking *r)
{
    free(r->parent), free(r->sorted), free(r->next), free(r->weight), free(r->nested), free(r->used);
}

static void sort_by_levels(const lmm_data *d, int *sorted)
{
    for (int a = d->nfactor - 1, n = 0; a >= 0; a--, n++) {
        int i = n;
        for (; i > 0 && d->factor[sorted[i - 1]].nlev > d->factor[a].nlev; i--) sorted[i] = sorted[i - 1];
        sorted[i] = a;
    }
}

/* Which factors are nested in which. Nesting is transitive, so a factor of a chain takes one pass over the
   data. */
static void find_nested(const builder *b, const ranking *r)
{
    const size_t K = (size_t)b->d->nfactor;
    for (int i = 0; i < b->d->nfactor; i++) {
        uint8_t *within = r->nested + (size_t)r->sorted[i] * K;
        for (int j = i - 1; j >= 0; j--) {
            const int c = r->sorted[j];
            if (within[c] || !is_nested(b, r->sorted[i], c, r->parent)) continue;
            within[c] = 1;
            for (size_t e = 0; e < K; e++) within[e] |= r->nested[(size_t)c * K + e];
        }
    }
}

/* The heaviest chain of nested factors that begins with each factor, in columns: coarser ones are known. */
static void weigh_chains(const lmm_data *d, const ranking *r)
{
    const size_t K = (size_t)d->nfactor;
    for (size_t i = 0; i < K; i++) {
        const int a = r->sorted[i];
        double best = 0;
        r->next[a] = -1;
        for (int c = 0; c < d->nfactor; c++)
            if (r->nested[(size_t)a * K + (size_t)c] && !stays(&d->factor[c]) && r->weight[c] > best) {
                best = r->weight[c];
                r->next[a] = c;
            }
        r->weight[a] = stays(&d->factor[a]) ? 0 : best + (double)d->factor[a].nlev * d->factor[a].ncol;
    }
}

/* Eliminated factors first (each nested in the next), then the others. order: user's numbers. */
lmm_status choose_order(lmm_model *m, const builder *b, int32_t *order)
{
    const lmm_data *d = b->d;
    ranking r;
    const lmm_status status = new_ranking(d, &r);
    if (status == LMM_OK) {
        int first = 0, at = 0;
        sort_by_levels(d, r.sorted);
        find_nested(b, &r);
        weigh_chains(d, &r);
        for (int a = 1; a < d->nfactor; a++)
            if (r.weight[a] > r.weight[first]) first = a;
        for (int a = stays(&d->factor[first]) ? -1 : first; a >= 0; a = r.next[a]) {
            order[at++] = a;
            r.used[a] = 1;
        }
        m->layout.nelim = at;
        for (int a = 0; a < d->nfactor; a++)
            if (!r.used[a]) order[at++] = a;
    }
    free_ranking(&r);
    return status;
}
