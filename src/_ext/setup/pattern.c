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

typedef struct { /* lists that are being counted or written: of factor k's nodes, of nodes of factor j */
    const factor *k, *j;
    level_pairs pairs;
    ptrdiff_t *length; /* of each node's list: grows                                               */
    int32_t *list;     /* where they begin at length[node] instead, in ascending order; NULL: counted */
} listing;

static void add_node(const listing *to, int32_t e, int32_t node)
{
    if (to->list) to->list[to->length[e]] = node;
    to->length[e]++;
}

/* Levels of k are nested in those of j: one node each. parent: room for one a level */
static void list_parents(const listing *to, int32_t *parent)
{
    const factor *k = to->k;
    memset(parent, -1, sizeof(*parent) * (size_t)k->nlev);
    for (int64_t i = 0; i < to->pairs.n; i++) parent[to->pairs.a[i]] = to->pairs.b[i];
    for (int32_t l = 0; l < k->nlev; l++)
        if (parent[l] >= 0) add_node(to, k->perm[l], to->j->perm[parent[l]]);
}

static int64_t words(const listing *to)
{
    return (int64_t)to->k->nlev * ((to->j->nlev + 63) / 64);
}

/* One bit for each pair of levels that there may be. */
static void list_bits(const listing *to, uint64_t *bits)
{
    const factor *k = to->k, *j = to->j;
    const ptrdiff_t stride = (j->nlev + 63) / 64;
    memset(bits, 0, sizeof(*bits) * (size_t)words(to));
    for (int64_t i = 0; i < to->pairs.n; i++) {
        const int32_t o = j->perm[to->pairs.b[i]] - j->node;
        bits[(k->perm[to->pairs.a[i]] - k->node) * stride + o / 64] |= (uint64_t)1 << o % 64;
    }
    for (int32_t e = 0; e < k->nlev; e++, bits += stride)
        for (ptrdiff_t w = 0; w < stride; w++)
            for (uint64_t left = bits[w]; left; left &= left - 1)
                add_node(to, k->node + e, j->node + (int32_t)(64 * w) + __builtin_ctzll(left));
}

/* Sorted by their first level, then each list by itself. */
static void list_sorted(const listing *to, const builder *b)
{
    const factor *k = to->k;
    int64_t *start = b->start;
    memset(start, 0, sizeof(*start) * ((size_t)k->nlev + 1));
    for (int64_t i = 0; i < to->pairs.n; i++) start[k->perm[to->pairs.a[i]] - k->node + 1]++;
    for (int32_t e = 0; e < k->nlev; e++) start[e + 1] += start[e];
    for (int64_t i = 0; i < to->pairs.n; i++)
        b->other[start[k->perm[to->pairs.a[i]] - k->node]++] = to->j->perm[to->pairs.b[i]];
    for (int32_t e = 0; e < k->nlev; e++) {
        const ptrdiff_t first = to->length[k->node + e];
        for (int64_t r = e ? start[e - 1] : 0; r < start[e]; r++) {
            const int32_t other = b->other[r];
            if (b->stamp[other] == k->node + e) continue;
            b->stamp[other] = k->node + e;
            add_node(to, k->node + e, other);
        }
        if (to->list) sort_list(to->list + first, to->length[k->node + e] - first);
    }
}

/* Rows sorted by their levels of k, of which each may have several; start: where those of a node end */
static void sort_rows(const listing *to, const builder *b, int64_t *start)
{
    const factor *k = to->k;
    const lmm_factor *own = &b->d->factor[k->user];
    int32_t count;
    memset(start, 0, sizeof(*start) * ((size_t)k->nlev + 1));
    for (int64_t i = 0; i < b->d->n; i++) {
        const int32_t *level = levels_of_row(own, i, &count);
        for (int32_t s = 0; s < count; s++) start[k->perm[level[s]] - k->node + 1]++;
    }
    for (int32_t e = 0; e < k->nlev; e++) start[e + 1] += start[e];
    for (int64_t i = 0; i < b->d->n; i++) {
        const int32_t *level = levels_of_row(own, i, &count);
        for (int32_t s = 0; s < count; s++) b->other[start[k->perm[level[s]] - k->node]++] = (int32_t)i;
    }
}

/* Where rows have several levels of k or of j; of k itself (j = k) the later ones. */
static void list_members(const listing *to, const builder *b)
{
    const factor *k = to->k, *j = to->j;
    const lmm_factor *others = &b->d->factor[j->user];
    sort_rows(to, b, b->start);
    for (int32_t e = 0; e < k->nlev; e++) {
        const ptrdiff_t first = to->length[k->node + e];
        for (int64_t r = e ? b->start[e - 1] : 0; r < b->start[e]; r++) {
            int32_t count;
            const int32_t *level = levels_of_row(others, b->other[r], &count);
            for (int32_t s = 0; s < count; s++) {
                const int32_t other = j->perm[level[s]];
                if (other <= k->node + e || b->stamp[other] == k->node + e) continue;
                b->stamp[other] = k->node + e;
                add_node(to, k->node + e, other);
            }
        }
        if (to->list) sort_list(to->list + first, to->length[k->node + e] - first);
    }
}

/* Nodes of factor j that co-occur with each node of factor k: adds their number to length[node], or writes
   them to list from length[node] on, in ascending order. */
static void list_nodes(const lmm_model *m, const builder *b, int k, int j, ptrdiff_t *length, int32_t *list)
{
    const factor *f = &m->layout.f[k], *o = &m->layout.f[j];
    listing to = {.k = f, .j = o, .length = length, .list = list};
    if (f->several || o->several) {
        list_members(&to, b);
        return;
    }
    to.pairs = level_pairs_of(b, f->user, o->user);
    if (j < m->layout.nelim)
        list_parents(&to, b->other);
    else if (2 * words(&to) <= to.pairs.n) /* no more memory than `other` has */
        list_bits(&to, (uint64_t *)b->other);
    else
        list_sorted(&to, b);
}

/* The first factor whose nodes are in the lists of factor k: itself where rows have several of its levels */
static int first_met(const layout *lay, int k)
{
    return lay->f[k].several ? k : k + 1;
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
    for (int k = 0; k < lay->nfactor; k++)
        for (int j = first_met(lay, k); j < lay->nfactor; j++) list_nodes(m, b, k, j, lay->ptr + 1, NULL);
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
        for (int j = first_met(lay, k); j < lay->nfactor && !(lay->full && k == 0); j++)
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
