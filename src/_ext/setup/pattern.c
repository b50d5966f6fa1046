/* Nodes and the lists of nodes that meet. */

#include <math.h>
#include <string.h>

#include "setup/build.h"

#define STRIP 288 /* columns of a strip: a strip x strip tile of S stays in the second-level cache */
#define PADDED(w) ((w) <= 2 ? (w) : ((w) + 3) / 4 * 4) /* rows of a block in sparse.c */

/* Nodes of an eliminated factor: children of one node of the next factor stand together. */
static lmm_status sort_by_parent(const builder *b, factor *f, const factor *up)
{
    const meetings met = meetings_of(b, f->user, up->user);
    int32_t *parent = calloc((size_t)f->nlev, sizeof(int32_t)); /* an unused level: any parent */
    int32_t *count = calloc((size_t)up->nlev + 1, sizeof(int32_t));
    if (!parent || !count) {
        free(parent), free(count);
        return LMM_NOMEM;
    }
    for (int64_t i = 0; i < met.n; i++) parent[met.a[i]] = up->perm[met.b[i]] - up->node;
    for (int32_t l = 0; l < f->nlev; l++) count[parent[l] + 1]++;
    for (int32_t a = 0; a < up->nlev; a++) count[a + 1] += count[a];
    for (int32_t l = 0; l < f->nlev; l++) f->perm[l] = f->node + count[parent[l]]++;
    free(parent), free(count);
    return LMM_OK;
}

/* Numbers factors' nodes, columns and parameters in elimination order. */
lmm_status number_nodes(lmm_model *m, const builder *b)
{
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        f->node = m->nnode;
        f->col = m->q;
        f->th = m->ntheta;
        m->nnode += f->nlev;
        m->q += f->nlev * f->p;
        m->ntheta += f->nth;
    }
    for (int k = 0; k < m->nfactor; k++)
        for (int j = 0; j < m->nfactor; j++)
            if (m->f[j].user < m->f[k].user) m->f[k].userth += m->f[j].nth;
    for (int k = m->nfactor - 1; k >= 0; k--) {
        factor *f = &m->f[k];
        for (int32_t l = 0; l < f->nlev; l++) f->perm[l] = f->node + l;
        if (k < m->nelim - 1) TRY(sort_by_parent(b, f, &m->f[k + 1]));
    }
    GRAB(m, m->width, m->nnode);
    GRAB(m, m->nodecol, m->nnode + 1);
    GRAB(m, m->ptr, m->nnode + 1);
    GRAB(m, m->pan, m->nnode + 1);
    GRAB(m, m->ld, m->nnode);
    GRAB(m, m->pos, m->nnode);
    for (int k = 0; k < m->nfactor; k++)
        for (int32_t l = 0; l < m->f[k].nlev; l++) {
            m->width[m->f[k].node + l] = m->f[k].p;
            m->nodecol[m->f[k].node + l] = m->f[k].col + l * m->f[k].p;
        }
    m->nodecol[m->nnode] = m->q;
    return LMM_OK;
}

void sort_meetings(const lmm_model *m, const builder *b, int k, const meetings *met)
{
    const factor *f = &m->f[k];
    int64_t *start = b->start + f->node;
    memset(start, 0, sizeof(int64_t) * ((size_t)f->nlev + 1));
    for (int64_t i = 0; i < met->n; i++) start[f->perm[met->a[i]] - f->node + 1]++;
    for (int32_t l = 0; l < f->nlev; l++) start[l + 1] += start[l];
    for (int64_t i = 0; i < met->n; i++) b->order[start[f->perm[met->a[i]] - f->node]++] = i;
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

/* Nodes of factor j that each node of factor k meets: adds their number to length[node], or writes them to
   list from length[node] on, in ascending order. Rows have one order for all j: j = k + 1 comes first. */
static void meet(const lmm_model *m, const builder *b, int k, int j, ptrdiff_t *length, int32_t *list)
{
    const factor *f = &m->f[k];
    const int32_t *perm = m->f[j].perm;
    const meetings met = meetings_of(b, f->user, m->f[j].user);
    if (b->x || j == k + 1) sort_meetings(m, b, k, &met);
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        ptrdiff_t count = 0;
        for (int64_t r = b->start[e]; r < b->start[e + 1]; r++) {
            const int32_t other = perm[met.b[b->order[r]]];
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
    for (int32_t e = 0; e < m->nnode; e++) b->stamp[e] = -1;
}

/* Length of every node's list, in ptr[node + 1]. */
void count_lists(lmm_model *m, const builder *b)
{
    clear_stamps(m, b);
    for (int k = 0; k < m->nfactor - 1; k++)
        for (int j = k + 1; j < m->nfactor; j++) meet(m, b, k, j, m->ptr + 1, NULL);
}

/* Writes the lists; then rows and place of every panel. Sizes of the panels go to size[factor]. */
lmm_status make_lists(lmm_model *m, const builder *b, ptrdiff_t *size)
{
    ptrdiff_t *at = malloc(sizeof(*at) * (size_t)(m->nnode + 1));
    if (!at) return LMM_NOMEM;
    for (int32_t e = 0; e < m->nnode; e++) m->ptr[e + 1] += m->ptr[e];
    if (!m->row && !(m->row = grab(&m->memory, (size_t)m->ptr[m->nnode] + 1, sizeof(*m->row)))) {
        free(at);
        return LMM_NOMEM;
    }
    memcpy(at, m->ptr, sizeof(*at) * (size_t)(m->nnode + 1));
    clear_stamps(m, b);
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        for (int j = k + 1; j < m->nfactor && !(m->full && k == 0); j++) meet(m, b, k, j, at, m->row);
        size[k] = 0;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            m->ld[e] = m->pb + (m->full && k == 0 ? m->q2 : 0);
            for (ptrdiff_t i = m->ptr[e]; i < m->ptr[e + 1]; i++) m->ld[e] += m->width[m->row[i]];
            m->pan[e] = size[k];
            size[k] += (ptrdiff_t)m->ld[e] * f->p;
        }
    }
    free(at);
    return LMM_OK;
}

/* Room for the eliminated factors' panels in strips, and for one tile. */
static lmm_status make_blocks(lmm_model *m)
{
    ptrdiff_t largest = 0, widest = 1;
    for (int32_t s = 0; s < m->nstrip; s++) {
        const ptrdiff_t w = m->width[m->strip[s]], n = m->strip[s + 1] - m->strip[s];
        if (n * PADDED(w) > largest) largest = n * PADDED(w);
        if (w > widest) widest = w;
    }
    m->largest_tile = largest * largest + 4;
    for (int k = 0; k < m->nelim; k++)
        if (m->f[k].p * widest > m->ntile) m->ntile = m->f[k].p * widest;
    m->ntile += m->largest_tile + 8; /* workers' buffers do not share a cache line */
    TRY(allocate_tiles(m, 1));
    for (int k = 0; k < m->nelim && m->nstrip; k++) {
        factor *f = &m->f[k];
        ptrdiff_t blocks = 0, values = 0;
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            for (ptrdiff_t i = m->ptr[e] + (m->nelim - 1 - k); i < m->ptr[e + 1]; i++, blocks++)
                values += (ptrdiff_t)PADDED(m->width[m->row[i]]) * f->p;
        GRAB(m, f->block, values + 4);
        GRAB(m, f->blocknode, blocks + 1);
        GRAB(m, f->blockptr, m->nstrip * ((ptrdiff_t)f->nlev + 1));
        GRAB(m, f->blockstart, m->nstrip);
        GRAB(m, f->listat, f->nlev);
        GRAB(m, f->rowat, f->nlev);
    }
    return LMM_OK;
}

/* Places of the trailing columns; for the dense way with lists in strips of about STRIP columns of one
   factor, and where they cut each list. */
lmm_status make_strips(lmm_model *m)
{
    int32_t count = 0;
    GRAB(m, m->trailcol, m->nnode + 1);
    for (int32_t e = 0; e < m->nnode; e++) m->trailcol[e] = m->nodecol[e] - (m->q - m->q2);
    if (m->full || m->t != &TRAILING_DENSE) return LMM_OK;
    for (int k = m->nelim; k < m->nfactor; k++) {
        const int32_t per = STRIP / m->f[k].p > 0 ? STRIP / m->f[k].p : 1;
        count += (m->f[k].nlev + per - 1) / per;
    }
    GRAB(m, m->strip, count + 1);
    for (int k = m->nelim; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        const int32_t per = STRIP / f->p > 0 ? STRIP / f->p : 1;
        for (int32_t e = 0; e < f->nlev; e += per) m->strip[m->nstrip++] = f->node + e;
    }
    m->strip[m->nstrip] = m->nnode;
    return make_blocks(m);
}
