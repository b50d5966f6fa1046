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
    double *Q;            /* first factor's levels, p x p: sum of w A_lR F (y - u) u'F'A_Rl    */
    double *R;            /* LANES x sum p^2: each vector's part of sum_l Z'V^-1Z_ll, by factor */
    int failed;
} block;

typedef struct {
    trailing base;
    int nblock, nedge;             /* blocks of V and probes (V first); of the edge                        */
    int probes;                    /* r                                                                    */
    int ready;                     /* V is known                                                           */
    ptrdiff_t *at;                 /* nfactor  where a trailing factor's blocks begin in these:            */
    double *S, *L, *F, *G, *I, *N; /* diagonal blocks of S, L, F, G, G'G, N                      */
    double *K;                     /* K_l of the eliminated levels                                         */
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
void derive(const iterative *it, const lmm_model *m, block *b, const double *weight, const double *Fy,
            const double *Fu, double *y, double *u, double *small);

/* conjugate.c */
void solve_block(const iterative *it, const lmm_model *m, block *b, double tolerance, int worker);
double quadrature(const iterative *it, const lmm_model *m, const block *b, int i);

/* probes.c: V and the probes, and from factorize on what they give */
void draw_probes(iterative *it, const lmm_model *m);
int refine_directions(iterative *it, lmm_model *m); /* V, one round better; 1: not to be had */
void scale_directions(iterative *it, lmm_model *m);
void project_signs(ptrdiff_t n, const uint8_t *sign, const double *V, double *u);
void estimate_logarithm(iterative *it, lmm_model *m);
void iterative_invert(trailing *t, lmm_model *m); /* steps of the trailing matrix */
void iterative_gather(trailing *t, lmm_model *m);
void iterative_scores(trailing *t, lmm_model *m, double *C);

#endif
