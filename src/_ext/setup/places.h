/* Private: the place of a node's rows in the panel of another, which co-occurs with it. */

#ifndef LMM_PLACES_H
#define LMM_PLACES_H

#include "setup/build.h"

/* The entry of node o in the list of node e, which has it. */
static inline ptrdiff_t entry_of(const layout *lay, int32_t e, int32_t o)
{
    const int32_t *row = lay->row + lay->ptr[e];
    ptrdiff_t n = lay->ptr[e + 1] - lay->ptr[e], at = 0;
    while (n > 1) { /* without branches on what is found */
        const ptrdiff_t half = n / 2;
        at += row[at + half] <= o ? half : 0;
        n -= half;
    }
    return lay->ptr[e] + at;
}

/* First row of node o, of factor j, in the panel of node e, of factor k. */
static inline ptrdiff_t place_of(const layout *lay, const builder *b, int k, int j, int32_t e, int32_t o)
{
    if (lay->full && k == 0) return lay->nodecol[o] - lay->q1;
    const int32_t *table = b->table[k * lay->nfactor + j];
    if (table) return table[(ptrdiff_t)(e - lay->f[k].node) * lay->f[j].nlev + o - lay->f[j].node];
    return b->place[entry_of(lay, e, o)];
}

#endif
