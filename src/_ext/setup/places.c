/* Makes what places.h looks up: the place of every entry of the lists, and tables for factors of few levels.
 */

#include <math.h>

#include "setup/places.h"

#define MOST 1000000 /* entries of the tables: 4 MB */

static void number_rows(const layout *lay, int32_t *place)
{
    for (int32_t e = 0; e < lay->nnode; e++)
        for (ptrdiff_t i = lay->ptr[e], at = 0; i < lay->ptr[e + 1]; at += lay->width[lay->row[i++]])
            place[i] = (int32_t)at;
}

/* Places of the nodes of factor j in the panels of factor k; entries of pairs that there are not: anything.
 */
static void fill_table(const layout *lay, const int32_t *place, const factor *k, const factor *j,
                       int32_t *table)
{
    for (int32_t e = k->node; e < k->node + k->nlev; e++, table += j->nlev)
        for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
            const int32_t l = lay->row[i] - j->node;
            if (l >= 0 && l < j->nlev) table[l] = place[i];
        }
}

lmm_status new_places(const lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    double left = b->x ? 0 : fmin(MOST, 4. * (double)b->d->n);
    const size_t K = (size_t)lay->nfactor;
    b->place = malloc(sizeof(int32_t) * ((size_t)lay->ptr[lay->nnode] + 1));
    b->table = calloc(K * K, sizeof(*b->table));
    if (!b->place || !b->table) return LMM_NOMEM;
    number_rows(lay, b->place);
    for (int k = 0; k < lay->nfactor; k++)
        for (int j = k + 1; j < lay->nfactor; j++) {
            const factor *f = &lay->f[k], *o = &lay->f[j];
            const double entries = (double)f->nlev * o->nlev;
            if (entries > left || (lay->full && k == 0)) continue;
            left -= entries;
            int32_t *table = malloc(sizeof(int32_t) * (size_t)entries);
            if (!table) return LMM_NOMEM;
            fill_table(lay, b->place, f, o, b->table[k * lay->nfactor + j] = table);
        }
    return LMM_OK;
}
