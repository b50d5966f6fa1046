/* Private: entries of the factors' relative covariance matrices G = T T', and what sums over pairs of blocks
   come to in them. */

#ifndef LMM_ENTRIES_H
#define LMM_ENTRIES_H

#include "model/model.h"

/* Entry (x, y) of E_r, and its mirror image where it is another */
typedef struct {
    int count, x[2], y[2];
} places;

INLINE places entry(const factor *f, int t)
{
    const int r = f->thr[t], c = f->thc[t];
    return (places){.count = r == c ? 1 : 2, .x = {r, c}, .y = {c, r}};
}

/* tr(X'E_r Y E_s) summed over pairs of blocks X, Y (p_f x p_g), where C holds the sums of vec X (vec Y)' */
INLINE double contract(const factor *f, int r, const factor *g, int s, const double *C)
{
    const places e = entry(f, r), d = entry(g, s);
    const ptrdiff_t p = f->p, n = p * g->p;
    double sum = 0;
    for (int i = 0; i < e.count; i++)
        for (int j = 0; j < d.count; j++) sum += C[e.x[i] + d.y[j] * p + n * (e.y[i] + d.x[j] * p)];
    return sum;
}

#endif
