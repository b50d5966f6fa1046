/* Nodes, and for each the list of later nodes that co-occur with it. */

#include <math.h>
#include <string.h>

#include "setup/build.h"

/* Nodes of an eliminated factor: siblings (levels inside one node of the next factor) are contiguous. */
static lmm_status sort_by_parent(const builder *b, factor *f, const factor *up)
{
    const level_pairs pairs = level_pairs_of(b, f->user, up->user);
    int32_t *parent = calloc((size_t)f->nlev, sizeof(int32_t)); /* an unused level: any parent */
    int32_t *count = calloc((size_t)up->nlev + 1, sizeof(int32_t));
    if (!parent || !count) {
        free(parent), free(count);
        return LMM_NOMEM;
    }
    for (int64_t i = 0; i < pairs.n; i++) parent[pairs.a[i]] = up->perm[pairs.b[i]] - up->node;
    for (int32_t l = 0; l < f->nlev; l++) count[parent[l] + 1]++;
    for (int32_t a = 0; a < up->nlev; a++) count[a + 1] += count[a];
    for (int32_t l = 0; l < f->nlev; l++) f->perm[l] = f->node + count[parent[l]]++;
    free(parent), free(count);
    return LMM_OK;
}

/* Numbers factors' nodes, columns and parameters in elimination order. */
lmm_status number_nodes(lmm_model *m, const builder *b)
{
    layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        factor *f = &lay->f[k];
        f->node = lay->nnode;
        f->col = lay->q;
        f->th = lay->ntheta;
        lay->nnode += f->nlev;
        lay->q += f->nlev * f->p;
        lay->ntheta += f->nth;
    }
    for (int k = 0; k < lay->nfactor; k++)
        for (int j = 0; j < lay->nfactor; j++)
            if (lay->f[j].user < lay->f[k].user) lay->f[k].userth += lay->f[j].nth;
    lmm_arrange(m, NULL);
    for (int k = lay->nfactor - 1; k >= 0; k--) {
        factor *f = &lay->f[k];
        for (int32_t l = 0; l < f->nlev; l++) f->perm[l] = f->node + l;
        if (k < lay->nelim - 1) TRY(sort_by_parent(b, f, &lay->f[k + 1]));
    }
    GRAB(m, lay->width, lay->nnode);
    GRAB(m, lay->nodecol, lay->nnode + 1);
    GRAB(m, lay->trailcol, lay->nnode + 1);
    GRAB(m, lay->ptr, lay->nnode + 1);
    GRAB(m, lay->pan, lay->nnode + 1);
    GRAB(m, lay->ld, lay->nnode);
    GRAB(m, m->scratch.pos, lay->nnode);
    for (int k = 0; k < lay->nfactor; k++)
        for (int32_t l = 0; l < lay->f[k].nlev; l++) {
            lay->width[lay->f[k].node + l] = lay->f[k].p;
            lay->nodecol[lay->f[k].node + l] = lay->f[k].col + l * lay->f[k].p;
        }
    lay->nodecol[lay->nnode] = lay->q;
    return LMM_OK;
}

void sort_pairs(const lmm_model *m, const builder *b, int k, const level_pairs *pairs)
{
    const factor *f = &m->layout.f[k];
    int64_t *start = b->start + f->node;
    memset(start, 0, sizeof(int64_t) * ((size_t)f->nlev + 1));
    for (int64_t i = 0; i < pairs->n; i++) start[f->perm[pairs->a[i]] - f->node + 1]++;
    for (int32_t l = 0; l < f->nlev; l++) start[l + 1] += start[l];
    for (int64_t i = 0; i < pairs->n; i++) b->order[start[f->perm[pairs->a[i]] - f->node]++] = i;
    for (int32_t l = f->nlev; l > 0; l--) start[l] = start[l - 1];
    start[0] = 0;
}

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void sort_list(int32_t *a, ptrdiff_t n)
{
    if (n > 48) {
        qsort(a, (size_t)n, sizeof(int32_t), ascending);
        return;
    }
    for (ptrdiff_t i = 1; i < n; i++) {
        const int32_t v = a[i];
        ptrdiff_t j = i;
        for (; j > 0 && a[j - 1] > v; j--) a[j] = a[j - 1];
        a[j] = v;
    }
}

/* Nodes of factor j that co-occur with each node of factor k: adds their number to length[node], or writes
   them to list from length[node] on, in ascending order. Rows have one order for all j: j = k + 1 comes
   first. */
static void list_nodes(const lmm_model *m, const builder *b, int k, int j, ptrdiff_t *length, int32_t *list)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const int32_t *perm = lay->f[j].perm;
    const level_pairs pairs = level_pairs_of(b, f->user, lay->f[j].user);
    if (b->x || j == k + 1) sort_pairs(m, b, k, &pairs);
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        ptrdiff_t count = 0;
        for (int64_t r = b->start[e]; r < b->start[e + 1]; r++) {
            const int32_t other = perm[pairs.b[b->order[r]]];
            if (b->stamp[other] == e) continue;
            b->stamp[other] = e;
            if (list) list[length[e] + count] = other;
            count++;
        }
        if (list) sort_list(list + length[e], count);
        length[e] += count;
    }
}

static void clear_stamps(const lmm_model *m, const builder *b)
{
    for (int32_t e = 0; e < m->layout.nnode; e++) b->stamp[e] = -1;
}

/* Length of every node's list, in ptr[node + 1]. */
void count_lists(lmm_model *m, const builder *b)
{
    const layout *lay = &m->layout;
    clear_stamps(m, b);
    for (int k = 0; k < lay->nfactor - 1; k++)
        for (int j = k + 1; j < lay->nfactor; j++) list_nodes(m, b, k, j, lay->ptr + 1, NULL);
}

/* Writes the lists; then rows and place of every panel. Sizes of the panels go to size[factor]. */
lmm_status make_lists(lmm_model *m, const builder *b, ptrdiff_t *size)
{
    layout *lay = &m->layout;
    ptrdiff_t *at = malloc(sizeof(*at) * (size_t)(lay->nnode + 1));
    if (!at) return LMM_NOMEM;
    for (int32_t e = 0; e < lay->nnode; e++) lay->ptr[e + 1] += lay->ptr[e];
    if (!lay->row && !(lay->row = grab(&m->memory, (size_t)lay->ptr[lay->nnode] + 1, sizeof(*lay->row)))) {
        free(at);
        return LMM_NOMEM;
    }
    memcpy(at, lay->ptr, sizeof(*at) * (size_t)(lay->nnode + 1));
    clear_stamps(m, b);
    for (int k = 0; k < lay->nfactor; k++) {
        factor *f = &lay->f[k];
        for (int j = k + 1; j < lay->nfactor && !(lay->full && k == 0); j++)
            list_nodes(m, b, k, j, at, lay->row);
        size[k] = 0;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            lay->ld[e] = lay->pb + (lay->full && k == 0 ? lay->q2 : 0);
            for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) lay->ld[e] += lay->width[lay->row[i]];
            lay->pan[e] = size[k];
            size[k] += (ptrdiff_t)lay->ld[e] * f->p;
        }
    }
    free(at);
    return LMM_OK;
}
