/* Mixed models for repeated measures: y_i = X_i beta + e_i for subject i, e_i ~ N(0, Sigma_P), where P are
   the visits of the subject and Sigma(phi), over all visits, is a covariance structure; one for each group of
   subjects. There are no random effects and no sigma^2.

   Subjects with the same visits and group are a pattern. With z = (x, y) of a row, all that is needed of the
   rows of a pattern are the sums over its subjects, for pairs of its visits,

     D_P[t,s] = sum_i z_it z_is' + z_is z_it'  (t < s; half of that for t = s):

     A(Sigma) = sum_P sum_(t<=s) (Sigma_P^-1)_ts D_P[t,s],     C = A_xx,  beta = C^-1 A_xy,  r^2 = A_yy -
   A_xy'beta, f  = sum_P n_P log|Sigma_P| + [REML] log|C| + r^2, S  = sum_P [ n_P W - G ],  W = Sigma_P^-1,  G
   = W <F, D_P> W,  F = [REML] C^-1 + w w',  w = (-beta, 1): f_i  = tr(S Sigma_i),                    A_i: as
   A, of -W Sigma_i W in place of W f_ij = tr(S Sigma_ij) + sum_P tr((2 G - n_P W) Sigma_i W Sigma_j) - 2
   w'A_i C^-1 A_j w - [REML] tr(C^-1 A_i C^-1 A_j).

   The sums are additive over subjects, and so over chunks of rows. */

#ifndef LMM_REPEATED_H
#define LMM_REPEATED_H

#include "lmm.h"
#include "structures/structure.h"

typedef struct lmm_repeated lmm_repeated;

typedef struct {                       /* what a model is made of                                  */
    int32_t p, visits, groups;         /* columns of X, independent; visits; groups of subjects     */
    int32_t patterns;                  /* in the order of their groups                             */
    const int32_t *group;              /* patterns                                                 */
    const ptrdiff_t *start;            /* patterns + 1  where the visits of each begin ...          */
    const int32_t *visit;              /*               ... here, ascending, places in a structure  */
    const lmm_structure *structure;    /* of all visits and every group; NULL: each pattern has ...  */
    const lmm_structure *const *local; /* patterns  ... its own, of the same parameters, ...        */
    const double *shift;               /* patterns  ... to logarithms of which this is added         */
} lmm_repeated_spec;

/* The only call that allocates what stays. Structures must outlive the model. */
lmm_status lmm_repeated_new(lmm_repeated **r, const lmm_repeated_spec *spec, const lmm_blas *blas);
void lmm_repeated_free(lmm_repeated *r); /* NULL and half-built are fine */

/* Adds subjects of a pattern with k visits: count x k x (p + 1), row-major, each row scaled by the root of
   its weight. */
lmm_status lmm_repeated_add(lmm_repeated *r, int32_t pattern, int64_t count, const double *z);
/* The same of their sum of products, (k (p + 1))^2, of which one triangle is read. */
void lmm_repeated_add_sums(lmm_repeated *r, int32_t pattern, int64_t count, const double *sum);
void lmm_repeated_scale(lmm_repeated *r, double by); /* y := y / by in all sums */
void lmm_repeated_forget(lmm_repeated *r);           /* all sums are zero again */

ptrdiff_t lmm_repeated_pairs(const lmm_repeated *r); /* of visits, over all patterns */
int32_t lmm_repeated_nphi(const lmm_repeated *r);    /* of all groups                */

/* The model stands at phi (groups x nphi) from now on. f: without constants. */
lmm_status lmm_repeated_evaluate(lmm_repeated *r, int reml, const double *phi, double *f);
/* There: gradient, Hessian (NULL: not wanted), beta (p), C^-1 (p x p), Sigma (groups x visits x visits). Any
   may be NULL. */
lmm_status lmm_repeated_read(lmm_repeated *r, double *g, double *H, double *beta, double *vcov,
                             double *Sigma);

/* out (nphi x (p+1) x (p+1)): A_i there */
lmm_status lmm_repeated_slopes(lmm_repeated *r, double *out);

/* out (nrhs x (p+1) x (p+1)): sum over the pairs of V[pair] D[pair], V: pairs x nrhs column-major. */
lmm_status lmm_repeated_weighted(const lmm_repeated *r, int nrhs, const double *V, double *out);
/* out (pairs): <F, D[pair]>, F symmetric (p+1) x (p+1) */
lmm_status lmm_repeated_forms(const lmm_repeated *r, const double *F, double *out);

/* start: NULL for moments of the residuals of least squares. The model stands at phi afterwards. */
lmm_status lmm_repeated_fit(lmm_repeated *r, const lmm_settings *s, const double *start, double *phi,
                            lmm_info *info);

#endif
