/* Private: the supernodal factor as its three files see it: symbolic.c (pattern), supernodal.c (numbers),
   selected.c (inverse).

   A supernode (here: panel) is a run of columns J of L with one list of rows below them, I. Its values are
   one dense block, [L_JJ; L_IJ], column-major. A panel whose rows I include columns of
   another is a descendant of that one, which is its ancestor. */

#ifndef LMM_PANELS_H
#define LMM_PANELS_H

#include <stdlib.h>

#include "base/small.h"
#include "cholesky/supernodal.h"

#define PANEL 256    /* columns of a panel, at most; of a strip of S_II                        */
#define TILE 512     /* rows of a panel that are computed together, at most; not below PANEL   */
#define SIDES 64     /* right-hand sides that are                                              */
#define NARROW 8     /* columns of a panel for which loops beat BLAS                           */
#define COLUMNS 4096 /* columns of the matrix that are copied together                         */
#define PARTS 32     /* a subtree for one thread has at most this fraction of the work         */
#define LARGE 1e6    /* multiplications that are worth sharing out                             */

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

struct supernodal {
    lmm_blas blas;
    const ptrdiff_t *ptr; /* the matrix, as given */
    const int32_t *row;
    int32_t n, np; /* columns, panels */
    double flops;

    int32_t *perm, *inv;    /* n     column eliminated as the i-th, and back                   */
    int32_t *cycle, ncycle; /* one member of each cycle of perm                                */
    int32_t *first;         /* np+1  first column of each panel                                */
    int32_t *panel;         /* n     panel of each column                                      */
    int32_t *rows;          /* row numbers of all panels: columns of the panel first, ascending */
    int32_t *nrow;          /* np    how many, the columns included                            */
    ptrdiff_t *rowptr;      /* np    where they start                                          */
    ptrdiff_t *valptr;      /* np+1  where the values start in L                               */
    ptrdiff_t *descptr;     /* np+1  where the descendants of a panel start, ascending:        */
    int32_t *desc, *inside; /* their numbers, and the first of their rows inside the panel     */
    int32_t maxwidth;       /* most columns of a panel                                         */
    int32_t maxbelow;       /* most rows below one                                             */

    uint8_t *top;                 /* np: not in a subtree that is computed by one thread */
    int32_t chunk[4 * PARTS + 2]; /* ranges of panels, each with whole subtrees          */
    int32_t nchunk;

    double *L;        /* values, then those of the inverse       */
    double *spare;    /* room for the inverse beside the values; NULL */
    ptrdiff_t *entry; /* place in L of each entry of the matrix  */
    double *buffer;   /* for each thread `room` doubles ...      */
    int32_t *map;     /* ... and 2n integers                     */
    ptrdiff_t room;
    int threads;
};

INLINE void *array(ptrdiff_t count, size_t size)
{
    return malloc(MAX((size_t)count, 1) * size);
}

#define INTS(count) array(count, sizeof(int32_t))

/* How many parts of the given size make up n */
INLINE int64_t parts(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

INLINE int width(const supernodal *sn, int32_t s)
{
    return sn->first[s + 1] - sn->first[s];
}

/* Rows below the panel's own */
INLINE int below(const supernodal *sn, int32_t s)
{
    return sn->nrow[s] - width(sn, s);
}

INLINE const int32_t *rows_of(const supernodal *sn, int32_t s)
{
    return sn->rows + sn->rowptr[s];
}

INLINE double *values_of(const supernodal *sn, int32_t s)
{
    return sn->L + sn->valptr[s];
}

INLINE double *buffer_of(const supernodal *sn, int worker)
{
    return sn->buffer + worker * sn->room;
}

/* n integers of a thread: by row number */
INLINE int32_t *map_of(const supernodal *sn, int worker)
{
    return sn->map + 2 * (ptrdiff_t)worker * sn->n;
}

/* n more: for a list of rows, their places in a panel */
INLINE int32_t *places_of(const supernodal *sn, int worker)
{
    return map_of(sn, worker) + sn->n;
}

/* Rows of a tile: fewer where threads may share a panel */
INLINE int tile_rows(const supernodal *sn, int32_t s)
{
    const int part = (int)parts(below(sn, s) / 4, 64) * 64;
    return sn->top[s] ? MIN(MAX(part, 128), TILE) : TILE;
}

/* First of n ascending numbers that is not below x */
INLINE int bound(const int32_t *a, int n, int32_t x)
{
    int low = 0;
    while (low < n) {
        const int middle = low + (n - low) / 2;
        if (a[middle] < x)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

/* t NULL: all by this worker */
INLINE void run_parts(team *t, int worker, int64_t count, void (*body)(void *, int64_t, int), void *arg)
{
    if (t)
        team_run(t, count, body, arg);
    else
        for (int64_t i = 0; i < count; i++) body(arg, i, worker);
}

#endif
