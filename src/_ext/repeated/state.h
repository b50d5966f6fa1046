/* Private: the memory of a model of repeated measures. */

#ifndef LMM_REPEATED_STATE_H
#define LMM_REPEATED_STATE_H

#include "base/memory.h"
#include "base/small.h"
#include "repeated/repeated.h"

typedef struct {                    /* subjects with the same visits, of one group                    */
    int32_t k, group;               /* visits; group                                                  */
    int32_t *visit;                 /* k  ascending                                                   */
    ptrdiff_t pair;                 /* where its k (k + 1) / 2 pairs (t <= s) begin, t fastest         */
    ptrdiff_t square;               /* where its k x k matrices begin                                  */
    int64_t n;                      /* subjects                                                       */
    const lmm_structure *structure; /* of which its visits are places                     */
    double shift;                   /* of its logarithms                                  */
} pattern;

struct lmm_repeated {
    void *memory;
    lmm_blas blas;
    const lmm_structure *structure;         /* one for all, or that of the first pattern ...      */
    int local;                              /* ... where each has its own                         */
    int32_t p, q, visits, groups, patterns; /* q = p + 1                                  */
    int32_t most;                           /* visits of the longest pattern               */
    int32_t nphi, all;                      /* parameters of a group, of all groups        */
    ptrdiff_t pairs, packed;                /* over all patterns; q (q + 1) / 2            */
    pattern *pattern;
    double *D; /* packed x pairs  upper triangles by columns, so that what belongs to y is last */

    /* where the model stands */
    int reml, stands; /* criterion; 0: nowhere, 1: evaluated, 2: with derivatives      */
    double f, logdetC, r2;
    double *phi;         /* all                                                          */
    double *Sigma;       /* groups x visits x visits                                     */
    double *W;           /* the patterns' inverses                                        */
    double *L;           /* q x q  Cholesky factor of A                                  */
    double *beta, *Cinv; /* p, p x p                                                     */
    double *g, *H;       /* all, all x all                                               */
    double *trace;       /* all x all  what log|C| adds to the curvature, ...             */
    int traced;          /* ... 0: not known, 1: elsewhere, 2: here                       */

    /* scratch */
    double *root, *dSigma, *work; /* of a structure: p x p, nphi of these, what it needs      */
    double *S;                    /* df/dSigma: groups x visits x visits; of one pattern        */
    double *bent, *here;          /* nphi x nphi of one structure; nphi, shifted parameters     */
    double *weight, *form;        /* pairs each                                        */
    double *A, *Apacked;          /* q x q, packed                                     */
    double *Dw, *b;               /* p x pairs, p x all                                */
    double *small;                /* 6 most x most                                     */
    /* directions.c: by the entries of Sigma, of which there are so many (0: parameter by parameter) */
    ptrdiff_t entries;
    int32_t *entry;          /* pairs of a pattern                                        */
    double *J, *UJ, *UH, *U; /* entries x nphi (two), entries x entries; pairs x pairs of a pattern */
    double *along, *product; /* 2 nphi blocks k x k, one; of a pattern                     */
    double *M;               /* pairs x nphi of a pattern                                 */
};

INLINE ptrdiff_t triangle(ptrdiff_t k)
{
    return k * (k + 1) / 2;
}

/* Derivatives of Sigma, dSigma, at parameters of a group. Nonzero: there is no Sigma. */
int repeated_slopes(lmm_repeated *r, const lmm_structure *s, double shift, const double *phi);
/* H += tr(Q Sigma_i W Sigma_j) of a pattern, after repeated_slopes() where there are no entries; where there
   are, when repeated_curved() was called after those of a group. */
void repeated_curve(lmm_repeated *r, const pattern *own, const double *Q);
int repeated_curved(lmm_repeated *r, int group);
/* out (rows x nphi): the first rows of the columns sums[pair] (ld apart), times -W Sigma_i W, of a group */
lmm_status repeated_changed(lmm_repeated *r, int group, int rows, int ld, const double *sums, double *out);
lmm_status repeated_derivatives(lmm_repeated *r, int exact); /* g, H; exact: with the trace of here */

void repeated_total(const lmm_repeated *r, const double *weight,
                    double *packed); /* sum of weight[pair] D[pair] */
void repeated_unpack(const lmm_repeated *r, const double *packed, double *A); /* A: q x q, symmetric */

#endif
