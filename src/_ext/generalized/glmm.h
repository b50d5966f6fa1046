/* Generalized linear mixed models by the Laplace approximation: the whole C interface, beside lmm.h.

     eta = o + X beta + Z b,   b = Lambda u,   u ~ N(0, I),   y_i ~ exp l_i(eta_i; x)

   Lambda is absolute: dispersion is among the family's parameters x. With j(u) = -sum l_i + u'u/2, smallest
   at the mode u, A = Z'WZ and W = -l'' there, the criterion is -2 log-likelihood with all its constants,

     f(theta, beta, x) = 2 j(u) + log|Lambda'A Lambda + I|     (Tierney & Kadane 1986)

   or, if asked for, with the expected -l'' in log|..|, which differs where the link is not canonical.

   A linear mixed model of the same columns has the machinery: its cross-products get the weights W. */

#ifndef LMM_GLMM_H
#define LMM_GLMM_H

#include "families/family.h"
#include "lmm.h"

typedef struct glmm_model glmm_model;

#define FLAT 1e5 /* standard deviation of coefficients with a flat prior, whitened, in units of eta */

typedef struct {          /* borrowed during glmm_setup, never kept                                       */
    const double *y, *w;  /* n        as the family reads them (family.h); w NULL: ones                   */
    const double *offset; /* n        NULL: none                                                          */
    lmm_family family;    /*          copied                                                              */
    double center;        /*          eta of a middling row, from which fits begin                        */
    const double *x;      /* nextra   x, from which they begin                                            */
    double unit;          /*          size of changes of eta: 1 for links without a unit                  */
    /* what is added to f: sum precision (beta - mean)^2, in the user's columns; NULL: nothing */
    const double *mean, *precision; /* p */
    /* A factor of one level whose columns are fixed effects, integrated over a flat prior as in restricted
       likelihood (T = FLAT I, whitened: 1 / FLAT^2 is nothing beside information); -1: there is none. Its
       theta does not move, and is not read. */
    int flat;
    int expected;       /*          log|M| with expected weights, as in lme4; no quadrature         */
    int nodes;          /*          of the quadrature in each direction, of one factor of at most three */
    const double *node; /* 2 nodes  columns: Gauss and Hermite's, then their weights; 0: Laplace        */
    int merge;          /*          may equal rows be kept once? Readings are of all rows all the same  */
    double limit;       /*          bytes that memory has for rows                                      */
    void *(*room)(void *arg, double bytes); /* zeros elsewhere, which must outlive the model; NULL: none */
    void *arg;
} glmm_response;

typedef struct {            /* how a fit ended                                                  */
    double objective;       /* criterion at the result                                          */
    double certificate;     /* predicted decrease still possible                                */
    double mode;            /* what a last step to the mode promised, of 2 j                    */
    int32_t neval;          /* evaluations of the criterion                                     */
    int32_t factorizations; /* ... what they took                                               */
    int32_t passes;         /* over the rows                                                    */
    int32_t escapes;        /* saddle points left along negative curvature                      */
} glmm_info;

/* m: made by lmm_setup with options.generalized of the rows d, without weights; it stays the
   caller's, and must outlive the result. psi below is theta (the user's), beta (all p columns of X), x, one
   after the other. */
lmm_status glmm_setup(glmm_model **g, lmm_model *m, const lmm_data *d, const glmm_response *r);
void glmm_free(glmm_model *g); /* not the model; NULL is fine */

int32_t glmm_size(const glmm_model *g); /* of psi */

typedef struct {            /* parameters that are held or tied                                   */
    const lmm_plane *theta; /* NULL: all theta may move                                           */
    int32_t nz;
    const double *fixed; /* p + nextra       (beta, x) = fixed + basis z, of full rank         */
    const double *basis; /* p + nextra x nz                                                    */
} glmm_plane;

/* Minimizes the criterion from start (NULL: a generalized linear model without random effects), or within a
   plane from the point that is nearest to start, or to moments of what fixed effects leave; where (beta, x)
   are held start is needed. z: receives that of theta's plane, or NULL. */
lmm_status glmm_fit(glmm_model *g, const lmm_settings *s, const glmm_plane *within, const double *start,
                    double *psi, double *z, glmm_info *info);

/* Another response with its weights and starts; family, offset and quadrature stay. LMM_UNAVAILABLE: rows
   were kept once that are not equal any more; nothing has changed. */
lmm_status glmm_again(glmm_model *g, const glmm_response *r);

/* The criterion at psi, and its gradient; or NULL */
lmm_status glmm_evaluate(glmm_model *g, const double *psi, double *f, double *gradient);

/* Second derivatives of the criterion at psi in theta and beta: n x n, n = ntheta + p, zeros for dropped
   columns. LMM_UNAVAILABLE: by quadrature, with expected weights, where levels are related */
lmm_status glmm_hessian(glmm_model *g, const double *psi, double *H);

/* At the last evaluation: modes b, one m x p block per factor, row-major; eta and leverages z_i'B z_i by row
   (n); conditional covariances of b, one m x p x p block per factor; any may be NULL */
lmm_status glmm_readings(glmm_model *g, double *b, double *eta, double *h, double *condvar);

/* X = B V, the covariance of b given y times V: r right-hand sides, one m x p x r block per factor, row-major
 */
lmm_status glmm_solve(glmm_model *g, int r, const double *V, double *X);

typedef enum {
    GLMM_NONE,
    GLMM_EDGE,     /* the mode is not inside the domain of the link          */
    GLMM_CURVATURE /* its curvature is not positive, or no step leads to it  */
} glmm_obstacle;

/* What the last evaluation that failed since a fit began has met */
glmm_obstacle glmm_met(const glmm_model *g);
/* Rows that are kept, equal ones once, and their bytes that are not in memory */
void glmm_kept(const glmm_model *g, int64_t *n, double *elsewhere);

/* What evaluations took since the model was made */
void glmm_work(const glmm_model *g, int32_t *factorizations, int32_t *passes);

#endif
