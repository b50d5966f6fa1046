/* Nodes, the lists of nodes that meet, and the storage that follows from them. */

#include <math.h>
#include <string.h>

#include "build.h"

#define STRIP 288 /* columns of a strip: a strip x strip tile of S stays in the second-level cache */
#define PADDED(w) ((w) <= 2 ? (w) : ((w) + 3) / 4 * 4) /* rows of a block in sparse.c */
#define SPARSE_COST 6. /* a flop in the sparse kernels costs so many flops of BLAS 3 (measured) */

/* Nodes of an eliminated factor: children of one node of the next factor stand together. */
static lmm_status sort_by_parent(const lmm_data *d, factor *f, const factor *up)
{
    const int32_t *own = d->factor[f->user].level, *other = d->factor[up->user].level;
    int32_t *parent = calloc((size_t)f->nlev, sizeof(int32_t)); /* an unused level: any parent */
    int32_t *count = calloc((size_t)up->nlev + 1, sizeof(int32_t));
    if (!parent || !count) {
        free(parent), free(count);
        return LMM_NOMEM;
    }
    for (int64_t i = 0; i < d->n; i++) parent[own[i]] = up->perm[other[i]] - up->node;
    for (int32_t l = 0; l < f->nlev; l++) count[parent[l] + 1]++;
    for (int32_t a = 0; a < up->nlev; a++) count[a + 1] += count[a];
    for (int32_t l = 0; l < f->nlev; l++) f->perm[l] = f->node + count[parent[l]]++;
    free(parent), free(count);
    return LMM_OK;
}

/* Numbers factors' nodes, columns and parameters in elimination order. */
lmm_status number_nodes(lmm_model *m, const lmm_data *d)
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
        if (k < m->nelim - 1) TRY(sort_by_parent(d, f, &m->f[k + 1]));
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

/* Rows sorted by their node of factor k (stable). */
void sort_rows(const lmm_model *m, const builder *b, int k)
{
    const int32_t *node = b->node[k];
    const factor *f = &m->f[k];
    int64_t *start = b->start + f->node;
    memset(start, 0, sizeof(int64_t) * ((size_t)f->nlev + 1));
    for (int64_t i = 0; i < b->d->n; i++) start[node[i] - f->node + 1]++;
    for (int32_t l = 0; l < f->nlev; l++) start[l + 1] += start[l];
    for (int64_t i = 0; i < b->d->n; i++) b->order[start[node[i] - f->node]++] = i;
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

/* Which later nodes does node e of factor k meet?  Counts them, or writes them to list. */
static ptrdiff_t meet(const lmm_model *m, const builder *b, int k, int32_t e, int32_t *list)
{
    ptrdiff_t count = 0;
    const int64_t *start = b->start + e;
    for (int64_t r = start[0]; r < start[1]; r++)
        for (int j = k + 1; j < m->nfactor; j++) {
            const int32_t other = b->node[j][b->order[r]];
            if (b->stamp[other] == e) continue;
            b->stamp[other] = e;
            if (list) list[count] = other;
            count++;
        }
    if (list) sort_list(list, count);
    return count;
}

static void clear_stamps(const lmm_model *m, const builder *b)
{
    for (int32_t e = 0; e < m->nnode; e++) b->stamp[e] = -1;
}

/* Length of every node's list (ptr), and the flops of the sparse way for the first factor. */
double count_lists(lmm_model *m, const builder *b)
{
    double flops = 0;
    clear_stamps(m, b);
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        if (k < m->nfactor - 1) sort_rows(m, b, k);
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            const ptrdiff_t len = k < m->nfactor - 1 ? meet(m, b, k, e, NULL) : 0;
            m->ptr[e + 1] = len;
            if (k) continue;
            /* widths differ between factors; the mean width is close enough for a cost */
            const double rows = (double)len * (m->q - f->nlev * f->p) / fmax(1, m->nnode - f->nlev);
            flops += rows * rows * f->p;
        }
    }
    return flops;
}

/* Dense off-diagonal block (one factor eliminated by BLAS) or lists: whichever costs less. */
void choose_storage(lmm_model *m, double sparse)
{
    const double q1 = (double)m->f[0].nlev * m->f[0].p, rest = m->q - q1;
    double trailing = 0;
    for (int k = m->nelim; k < m->nfactor; k++) trailing += (double)m->f[k].nlev * m->f[k].p;
    const double dense = q1 * rest * rest + rest * rest * rest;
    sparse = SPARSE_COST * sparse + trailing * trailing * trailing;
    m->full = dense <= sparse || m->nfactor == 1;
    if (m->full) m->nelim = 1;
    m->q1 = (int32_t)q1;
    m->q2 = 0;
    for (int k = m->nelim; k < m->nfactor; k++) m->q2 += m->f[k].nlev * m->f[k].p;
    m->s = m->q2 + m->pb;
    if (m->full)
        for (int32_t e = 0; e < m->f[0].nlev; e++) m->ptr[e + 1] = 0;
}

/* Writes the lists; then rows and place of every panel. Sizes of the panels go to size[factor]. */
lmm_status make_lists(lmm_model *m, const builder *b, ptrdiff_t *size)
{
    for (int32_t e = 0; e < m->nnode; e++) m->ptr[e + 1] += m->ptr[e];
    GRAB(m, m->row, m->ptr[m->nnode] + 1);
    clear_stamps(m, b);
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        const int listed = k < m->nfactor - 1 && !(m->full && k == 0);
        size[k] = 0;
        if (listed) sort_rows(m, b, k);
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            if (listed) meet(m, b, k, e, m->row + m->ptr[e]);
            m->ld[e] = m->pb + (m->full && k == 0 ? m->q2 : 0);
            for (ptrdiff_t i = m->ptr[e]; i < m->ptr[e + 1]; i++) m->ld[e] += m->width[m->row[i]];
            m->pan[e] = size[k];
            size[k] += (ptrdiff_t)m->ld[e] * f->p;
        }
    }
    return LMM_OK;
}

/* Room for the eliminated factors' panels in strips, and for one tile. */
static lmm_status make_blocks(lmm_model *m)
{
    ptrdiff_t largest = 0;
    for (int32_t s = 0; s < m->nstrip; s++) {
        const ptrdiff_t w = m->width[m->strip[s]], n = m->strip[s + 1] - m->strip[s];
        if (n * PADDED(w) > largest) largest = n * PADDED(w);
    }
    GRAB(m, m->tile, largest * largest + 4);
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

/* Trailing columns in strips of about STRIP columns of one factor, and where they cut each list. */
lmm_status make_strips(lmm_model *m)
{
    int32_t count = 0;
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
    GRAB(m, m->trailcol, m->nnode);
    for (int32_t e = 0; e < m->nnode; e++) m->trailcol[e] = m->nodecol[e] - (m->q - m->q2);
    if (m->full) return LMM_OK;
    return make_blocks(m);
}
