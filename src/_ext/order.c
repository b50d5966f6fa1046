/* Elimination order: the heaviest chain of nested factors goes first, level by level. */

#include "build.h"

meetings meetings_of(const builder *b, int a, int c)
{
    if (!b->x) {
        const meetings rows = {b->d->n, b->d->factor[a].level, b->d->factor[c].level};
        return rows;
    }
    const lmm_pairs *p = a < c ? lmm_pairs_of(b->x->blocks, a, c) : lmm_pairs_of(b->x->blocks, c, a);
    const meetings pairs = {p->count, a < c ? p->a : p->b, a < c ? p->b : p->a};
    return pairs;
}

/* Is every level of a inside one level of c?  parent: scratch, receives that level. */
static int is_nested(const builder *b, int a, int c, int32_t *parent)
{
    const lmm_factor *fa = &b->d->factor[a], *fc = &b->d->factor[c];
    if (fa->nlev < fc->nlev || (fa->nlev == fc->nlev && a > c)) return 0;
    const meetings met = meetings_of(b, a, c);
    for (int32_t l = 0; l < fa->nlev; l++) parent[l] = -1;
    for (int64_t i = 0; i < met.n; i++) {
        int32_t *up = &parent[met.a[i]];
        if (*up < 0)
            *up = met.b[i];
        else if (*up != met.b[i])
            return 0;
    }
    return 1;
}

/* Heaviest chain of nested factors that begins with factor a, in columns. */
static double chain_weight(const lmm_data *d, const uint8_t *nested, int a, int *next)
{
    double best = 0;
    next[a] = -1;
    for (int b = 0; b < d->nfactor; b++) {
        if (b == a || !nested[a * d->nfactor + b]) continue;
        const double w = chain_weight(d, nested, b, next);
        if (w > best) {
            best = w;
            next[a] = b;
        }
    }
    return best + (double)d->factor[a].nlev * d->factor[a].ncol;
}

/* Eliminated factors first (each nested in the next), then the others. order: user's numbers. */
lmm_status choose_order(lmm_model *m, const builder *bld, int32_t *order)
{
    const lmm_data *d = bld->d;
    const int K = d->nfactor;
    int32_t most = 1;
    for (int a = 0; a < K; a++)
        if (d->factor[a].nlev > most) most = d->factor[a].nlev;
    uint8_t *nested = calloc((size_t)(K * K), 1), *used = calloc((size_t)K, 1);
    int *next = calloc((size_t)K, sizeof(int));
    int32_t *parent = malloc(sizeof(int32_t) * (size_t)most);
    lmm_status status = LMM_NOMEM;
    if (nested && used && next && parent) {
        double best = -1;
        int first = 0;
        for (int a = 0; a < K; a++)
            for (int b = 0; b < K; b++) nested[a * K + b] = (uint8_t)(a != b && is_nested(bld, a, b, parent));
        for (int a = 0; a < K; a++) {
            const double w = chain_weight(d, nested, a, next);
            if (w > best) {
                best = w;
                first = a;
            }
        }
        chain_weight(d, nested, first, next);
        m->nelim = 0;
        for (int a = first; a >= 0; a = next[a]) {
            order[m->nelim++] = a;
            used[a] = 1;
        }
        for (int a = 0, at = m->nelim; a < K; a++)
            if (!used[a]) order[at++] = a;
        status = LMM_OK;
    }
    free(nested), free(used), free(next), free(parent);
    return status;
}
