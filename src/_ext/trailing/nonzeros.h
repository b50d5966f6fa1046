/* Private: the trailing matrix by its nonzero blocks, and where they stand (sparse.c, nonzeros.c). */

#ifndef LMM_NONZEROS_H
#define LMM_NONZEROS_H

#include "base/small.h"
#include "cholesky/supernodal.h"
#include "trailing/trailing.h"

typedef struct {
    trailing base;
    int32_t first, nnode; /* trailing nodes                                                       */
    ptrdiff_t *nptr;      /* nnode+1  list of each node: itself, then its later neighbours in S   */
    int32_t *node;        /*          nodes, counted from first                                   */
    int32_t *place;       /*          where the node's rows begin in the panel                    */
    ptrdiff_t *ptr;       /* q2+1     columns of S ...                                            */
    int32_t *row;         /*          ... and their rows, ascending                               */
    ptrdiff_t *spotptr;   /* nnode of all eliminated + 1  where the spots of a level begin        */
    ptrdiff_t *spot;      /* place in S of the block of each pair of trailing nodes of a level    */
    double *S, *B;        /* values; B: the scaled S, then B on the pattern                       */
    supernodal *factor;
    lmm_order ordered; /* what found its order */
} sparse;

/* First trailing node in the list of an eliminated node of factor k (a level without rows has none). */
INLINE ptrdiff_t first_trailing(const lmm_model *m, int k, int32_t e)
{
    const layout *lay = &m->layout;
    const ptrdiff_t first = lay->ptr[e] + (lay->nelim - 1 - k);
    return first < lay->ptr[e + 1] ? first : lay->ptr[e + 1];
}

INLINE int32_t width_of(const lmm_model *m, const sparse *s, int32_t j)
{
    return m->layout.width[s->first + j];
}

INLINE int32_t column_of(const lmm_model *m, const sparse *s, int32_t j)
{
    const layout *lay = &m->layout;
    return lay->nodecol[s->first + j] - (lay->q - lay->q2);
}

INLINE ptrdiff_t height_of(const lmm_model *m, const sparse *s, int32_t j)
{
    const int32_t c = column_of(m, s, j);
    return s->ptr[c + 1] - s->ptr[c];
}

/* Lists, columns, symbolic factor, spots. LMM_UNAVAILABLE: too full, and nobody insists on it. */
lmm_status find_nonzeros(lmm_model *m, sparse *s, const lmm_options *options);

#endif
