/* Elimination order: the heaviest chain of nested factors goes first, level by level. */

#include "build.h"

/* Is every level of a inside one level of b?  parent: scratch, receives that level. */
static int is_nested(const lmm_data *d, int a, int b, int32_t *parent)
{
    const lmm_factor *fa = &d->factor[a], *fb = &d->factor[b];
    if (fa->nlev < fb->nlev || (fa->nlev == fb->nlev && a > b)) return 0;
    for (int32_t l = 0; l < fa->nlev; l++) parent[l] = -1;
    for (int64_t i = 0; i < d->n; i++) {
        int32_t *up = &parent[fa->level[i]];
        if (*up < 0)
            *up = fb->level[i];
        else if (*up != fb->level[i])
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
lmm_status choose_order(lmm_model *m, const lmm_data *d, int32_t *order)
{
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
            for (int b = 0; b < K; b++) nested[a * K + b] = (uint8_t)(a != b && is_nested(d, a, b, parent));
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
