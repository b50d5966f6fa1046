/* Private: vectors over the trailing columns, in blocks of 4 or 8 lanes: lane i of column c at 4nv c + i.
   What the iterative model keeps (iterative.c), and the steps it is made of. */

#ifndef LMM_LANES_H
#define LMM_LANES_H

#include "trailing/iterative.h"
#include "base/small.h"
#include "base/team.h"

#define LANES 8   /* vectors of a block: one cache line a column */
#define NODES 120 /* so many iterations give the logarithm */

typedef struct {          /* vectors u, and y of (I + E) y = u                                 */
    int nv;               /* vectors of four: 1 or 2                                           */
    double *u, *y;        /* q2 x 4nv                                                          */
    int steps[LANES];     /* iterations of each                                                */
    double uu[LANES];     /* u'u                                                               */
    double ue[LANES];     /* u'(I + E) u                                                       */
    double *alpha, *beta; /* NODES x LANES  coefficients of the iterations; NULL: not kept     */
    double *Q;            /* eliminated levels, p x p: sum of w A_l. F (y - u) u'F'A_.l        */
    double *R;            /* LANES x sum p^2: each vector's part of sum_l Z'V^-1Z_ll, by factor */
    int failed;
} block;

typedef struct {
    trailing base;
    int nblock, nedge;             /* blocks of V and probes (V first); of the edge                        */
    int probes;                    /* r                                                                    */
    int ready;                     /* V is known                                                           */
    ptrdiff_t *at;                 /* nfactor  where a factor's blocks begin in these; of trailing levels: */
    double *S, *L, *F, *G, *I, *N; /* diagonal blocks of S, L, F, G, G'G, N                                */
    double *K;                     /* K_l, of eliminated levels                                            */
    ptrdiff_t nK;                  /* its length                                                           */
    double *W;                     /* q2 x LANES  V before scaling: V = orth(L'W)                          */
    uint8_t *sign;                 /* nblock-1 x q2  a probe's signs are one bit                       */
    block *block;                  /* nblock + nedge                                                       */
    int threads;                   /* that there is scratch for                                            */
    double **part;                 /* threads  scratch of each: WORK vectors ...                           */
    double *vectors;               /*          ... in this block of memory                                 */
    double *small;                 /* threads x smallsize  scratch of small blocks                         */
    ptrdiff_t smallsize;
    ptrdiff_t nR;  /* sum of p^2                                                           */
    double *nodes; /* scratch of quadrature                                                */
    double logdet; /* log|I + E|                                                      */
} iterative;

/* doubles of a vector of LANES */
INLINE ptrdiff_t vector_size(const lmm_model *m)
{
    return (ptrdiff_t)m->layout.q2 * LANES;
}

/* Columns of the eliminated factors that contain another one. They stand before the trailing ones: their
   trailcol is negative. */
INLINE ptrdiff_t containing(const layout *lay)
{
    return lay->q - lay->q2 - (ptrdiff_t)lay->f[0].nlev * lay->f[0].p;
}

typedef struct {          /* the rows of trailing levels in the panel of an eliminated one */
    ptrdiff_t begin, end; /* in the list of levels                                         */
    ptrdiff_t ld;
    const double *a;
} trailing_part;

/* Node e of the eliminated factor k. The levels that contain it come first in its list. */
INLINE trailing_part trailing_rows(const lmm_model *m, int k, int32_t e)
{
    const layout *lay = &m->layout;
    trailing_part part = {.begin = lay->ptr[e] + lay->nelim - 1 - k,
                          .end = lay->ptr[e + 1],
                          .ld = lay->ld[e],
                          .a = m->evaluation.f[k].pan + lay->pan[e]};
    for (ptrdiff_t i = lay->ptr[e]; i < part.begin; i++) part.a += lay->width[lay->row[i]];
    return part;
}

/* y := B x for one block of p rows */
INLINE void block_times(const int p, const int nv, const double *B, int transposed, const vec4 *x, vec4 *y)
{
    for (int i = 0; i < p; i++)
        for (int v = 0; v < nv; v++) {
            vec4 s = {0};
            for (int j = 0; j < p; j++) s += (transposed ? B[j + i * p] : B[i + j * p]) * x[j * nv + v];
            y[i * nv + v] = s;
        }
}

typedef struct { /* what a block of an evaluation needs */
    iterative *it;
    lmm_model *m;
} evaluation_task;

/* sweep.c: with S and with block diagonal matrices */
void trailing_times(const lmm_model *m, int nv, const double *x, double *y);
void eliminated(const iterative *it, const lmm_model *m, int nv, const double *x, double *y, double *small);
void blocks_times(const iterative *it, const lmm_model *m, int nv, const double *B, int transposed,
                  const double *x, double *y);
void derive(const iterative *it, const lmm_model *m, block *b, const double *weight, double *Fy, double *Fu,
            double *y, double *u, double *small); /* Fy, Fu: with room for the columns before theirs */

/* conjugate.c */
void solve_block(const iterative *it, const lmm_model *m, block *b, double tolerance, int worker);
double quadrature(const iterative *it, const lmm_model *m, const block *b, int i);

/* probes.c: V and the probes, and from factorize on what they give */
void draw_probes(iterative *it, const lmm_model *m);
int refine_directions(iterative *it, lmm_model *m); /* V, one round better; 1: not available */
void scale_directions(iterative *it, lmm_model *m);
void project_signs(ptrdiff_t n, const uint8_t *sign, const double *V, double *u);
void estimate_logarithm(iterative *it, lmm_model *m);
void iterative_invert(trailing *t, lmm_model *m); /* steps of the trailing matrix */
void iterative_gather(trailing *t, lmm_model *m);
void iterative_product(trailing *t, lmm_model *m, int k, const double *A, double *V);
const double *iterative_estimated(trailing *t, const lmm_model *m, int k);
void iterative_scores(trailing *t, lmm_model *m, double *C);

#endif
