/* The pattern of a sparse trailing matrix: which trailing nodes share a level of an eliminated factor or are
   related, the columns that follow from it, their order and symbolic factor. */

#include "trailing/nonzeros.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "model/relation.h"

#define SAMPLE 8       /* nodes whose neighbours are counted before those of all */
#define FULLEST 0.4    /* density above which a sparse factor is hopeless, ...   */
#define FULLER 1.25e-3 /* ... for each column where those are few: the analysis must pay (measured) */

/* Lists of the levels in which each trailing node occurs (eliminated factors' nodes, ascending). */
typedef struct {
    ptrdiff_t *ptr;
    int32_t *level;
} occurrences;

static lmm_status find_occurrences(const lmm_model *m, const sparse *s, occurrences *o)
{
    const layout *lay = &m->layout;
    o->ptr = calloc((size_t)s->nnode + 2, sizeof(*o->ptr));
    if (!o->ptr) return LMM_NOMEM;
    for (int k = 0; k < lay->nelim; k++)
        for (int32_t e = lay->f[k].node; e < lay->f[k].node + lay->f[k].nlev; e++)
            for (ptrdiff_t i = first_trailing(m, k, e); i < lay->ptr[e + 1]; i++)
                o->ptr[lay->row[i] - s->first + 2]++;
    for (int32_t j = 1; j <= s->nnode; j++) o->ptr[j + 1] += o->ptr[j];
    if (!(o->level = malloc(sizeof(*o->level) * (size_t)(o->ptr[s->nnode + 1] + 1)))) return LMM_NOMEM;
    for (int k = 0; k < lay->nelim; k++)
        for (int32_t e = lay->f[k].node; e < lay->f[k].node + lay->f[k].nlev; e++)
            for (ptrdiff_t i = first_trailing(m, k, e); i < lay->ptr[e + 1]; i++)
                o->level[o->ptr[lay->row[i] - s->first + 1]++] = e;
    return LMM_OK;
}

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* ... those that its factor's precision has beside it */
static ptrdiff_t related_neighbours(const lmm_model *m, const sparse *s, int32_t j, int32_t *stamp,
                                    int32_t *list, ptrdiff_t count)
{
    const factor *f = m->layout.f + m->layout.nelim;
    while (s->first + j >= f->node + f->nlev) f++;
    const relation *r = f->relation;
    if (!r) return count;
    const ptrdiff_t level = s->first + j - f->node;
    for (ptrdiff_t z = r->ptr[level] + 1; z < r->ptr[level + 1]; z++) {
        const int32_t other = f->node + r->row[z] - s->first;
        if (stamp[other] == j) continue;
        stamp[other] = j;
        list[count++] = other;
    }
    return count;
}

/* Node j and its later neighbours in S; stamp: nnode of the model. */
static ptrdiff_t neighbours(const lmm_model *m, const sparse *s, const occurrences *o, int32_t j,
                            int32_t *stamp, int32_t *list)
{
    const layout *lay = &m->layout;
    ptrdiff_t count = 0;
    list[count++] = j;
    stamp[j] = j;
    for (ptrdiff_t i = lay->ptr[s->first + j]; i < lay->ptr[s->first + j + 1]; i++) {
        const int32_t other = lay->row[i] - s->first;
        stamp[other] = j;
        list[count++] = other;
    }
    count = related_neighbours(m, s, j, stamp, list, count);
    for (ptrdiff_t r = o->ptr[j]; r < o->ptr[j + 1]; r++) {
        const int32_t e = o->level[r];
        for (ptrdiff_t i = lay->ptr[e + 1] - 1; i >= lay->ptr[e]; i--) { /* from the last: later nodes only */
            const int32_t other = lay->row[i] - s->first;
            if (other <= j) break;
            if (stamp[other] == j) continue;
            stamp[other] = j;
            list[count++] = other;
        }
    }
    qsort(list, (size_t)count, sizeof(*list), ascending);
    return count;
}

/* Is the graph hopelessly full, as far as a few nodes all along tell? stamp: -1 before and after */
static int seems_full(const lmm_model *m, const sparse *s, const occurrences *o, int32_t *stamp,
                      int32_t *list)
{
    double later = 0;
    for (int k = 0; k < SAMPLE; k++) {
        const int32_t j = (int32_t)((2 * k + 1) * (int64_t)s->nnode / (2 * SAMPLE));
        const ptrdiff_t count = neighbours(m, s, o, j, stamp, list);
        for (ptrdiff_t i = 0; i < count; i++) stamp[list[i]] = -1;
        later += (double)(count - 1) / SAMPLE;
    }
    return 2 * later + 1 > fmin(FULLEST, FULLER * m->layout.q2) * s->nnode;
}

/* Lists of all trailing nodes. LMM_UNAVAILABLE: there are too many neighbours for a sparse factor that nobody
   insists on. */
static lmm_status make_graph(const lmm_model *m, sparse *s, const occurrences *o, int forced)
{
    lmm_status status = LMM_NOMEM;
    ptrdiff_t room = s->nnode + o->ptr[s->nnode];
    int32_t *stamp = malloc(sizeof(*stamp) * (size_t)s->nnode),
            *list = malloc(sizeof(*list) * (size_t)s->nnode);
    int32_t *all = malloc(sizeof(*all) * (size_t)room);
    if (!stamp || !list || !all) goto done;
    for (int32_t j = 0; j < s->nnode; j++) stamp[j] = -1;
    status = LMM_UNAVAILABLE;
    if (!forced && seems_full(m, s, o, stamp, list)) goto done;
    status = LMM_NOMEM;
    for (int32_t j = 0; j < s->nnode; j++) {
        const ptrdiff_t count = neighbours(m, s, o, j, stamp, list);
        if (s->nptr[j] + count > room) {
            room = 2 * room + count;
            int32_t *more = realloc(all, sizeof(*all) * (size_t)room);
            if (!more) goto done;
            all = more;
        }
        memcpy(all + s->nptr[j], list, sizeof(*list) * (size_t)count);
        s->nptr[j + 1] = s->nptr[j] + count;
    }
    if (!(s->node = grab(&s->base.memory, (size_t)s->nptr[s->nnode], sizeof(*s->node)))) goto done;
    if (!(s->place = grab(&s->base.memory, (size_t)s->nptr[s->nnode], sizeof(*s->place)))) goto done;
    memcpy(s->node, all, sizeof(*all) * (size_t)s->nptr[s->nnode]);
    status = LMM_OK;
done:
    free(stamp), free(list), free(all);
    return status;
}

/* Columns and rows of S from the lists. */
static lmm_status make_columns(const lmm_model *m, sparse *s)
{
    const layout *lay = &m->layout;
    GRAB(&s->base, s->ptr, lay->q2 + 1);
    for (int32_t j = 0; j < s->nnode; j++) {
        int32_t height = 0;
        for (ptrdiff_t i = s->nptr[j]; i < s->nptr[j + 1]; i++) {
            s->place[i] = height;
            height += width_of(m, s, s->node[i]);
        }
        for (int32_t c = column_of(m, s, j), w = 0; w < width_of(m, s, j); c++, w++)
            s->ptr[c + 1] = s->ptr[c] + height;
    }
    GRAB(&s->base, s->row, s->ptr[lay->q2] + 1);
    for (int32_t j = 0; j < s->nnode; j++)
        for (int32_t c = column_of(m, s, j), w = 0; w < width_of(m, s, j); c++, w++) {
            int32_t *to = s->row + s->ptr[c];
            for (ptrdiff_t i = s->nptr[j]; i < s->nptr[j + 1]; i++)
                for (int32_t r = 0; r < width_of(m, s, s->node[i]); r++)
                    *to++ = column_of(m, s, s->node[i]) + r;
        }
    return LMM_OK;
}

/* Where the blocks of every level's pairs stand in S. pos: nnode of the model, scratch. */
static lmm_status make_spots(lmm_model *m, sparse *s, const occurrences *o)
{
    const layout *lay = &m->layout;
    const int32_t levels = s->first;
    ptrdiff_t *at;
    GRAB(&s->base, s->spotptr, levels + 1);
    GRAB(&s->base, at, levels + 1);
    for (int k = 0; k < lay->nelim; k++)
        for (int32_t e = lay->f[k].node; e < lay->f[k].node + lay->f[k].nlev; e++) {
            const ptrdiff_t len = lay->ptr[e + 1] - first_trailing(m, k, e);
            s->spotptr[e + 1] = s->spotptr[e] + len * (len + 1) / 2;
            at[e] = s->spotptr[e];
        }
    GRAB(&s->base, s->spot, s->spotptr[levels] + 1);
    for (int32_t j = 0; j < s->nnode; j++) {
        const ptrdiff_t start = s->ptr[column_of(m, s, j)];
        for (ptrdiff_t i = s->nptr[j]; i < s->nptr[j + 1]; i++)
            m->scratch.pos[s->first + s->node[i]] = s->place[i];
        for (ptrdiff_t r = o->ptr[j]; r < o->ptr[j + 1]; r++) {
            const int32_t e = o->level[r];
            ptrdiff_t i = lay->ptr[e + 1];
            while (lay->row[i - 1] > s->first + j) i--;
            for (i--; i < lay->ptr[e + 1]; i++) s->spot[at[e]++] = start + m->scratch.pos[lay->row[i]];
        }
    }
    return LMM_OK;
}

static lmm_status order_and_analyse(lmm_model *m, sparse *s, const lmm_options *options)
{
    const layout *lay = &m->layout;
    const pattern nodes = {s->nnode, s->nptr, s->node, lay->width + s->first};
    const pattern columns = {lay->q2, s->ptr, s->row, NULL};
    return supernodal_choose(&s->factor, &s->ordered, &nodes, &columns, &m->blas, options);
}

lmm_status find_nonzeros(lmm_model *m, sparse *s, const lmm_options *options)
{
    const layout *lay = &m->layout;
    occurrences o = {NULL, NULL};
    s->first = lay->f[lay->nelim].node;
    s->nnode = lay->nnode - s->first;
    GRAB(&s->base, s->nptr, s->nnode + 1);
    lmm_status status = find_occurrences(m, s, &o);
    if (status == LMM_OK) status = make_graph(m, s, &o, options->storage == LMM_SPARSE);
    if (status == LMM_OK) status = make_columns(m, s);
    if (status == LMM_OK) status = order_and_analyse(m, s, options);
    if (status == LMM_OK) status = make_spots(m, s, &o);
    free(o.ptr), free(o.level);
    return status;
}
