/* Private: a generalized model's memory, and the steps of an evaluation in their order. */

#ifndef LMM_STATE_H
#define LMM_STATE_H

#include "base/memory.h"
#include "evaluate/readings.h"
#include "generalized/glmm.h"
#include "setup/keep.h"
#include "trailing/trailing.h"

typedef struct { /* n each, by kept row */
    double *y, *o;
    double *w, *weights;       /* w: weights, or NULL for ones                                  */
    double *count;             /* rows of the data of each, if rows of the same y are one; NULL */
    double *fixed;             /* o + X gamma                                                   */
    double *zb, *d1, *w2, *d3; /* at u: Z b; l', -l'', l'''                                     */
    double *zn;                /* Z b of the next u                                             */
    double *wf;                /* weights of the factorization                                  */
    double *h, *zt;            /* leverages; Z Lambda t                                         */
    double *d1x;               /* nextra x n  l'_x                                              */
    double *sum;               /* 2 x blocks     of l, and another of each block */
} row_values;

typedef struct {       /* q each: elimination order, whitened */
    double *b, *u, *c; /* the mode b = Lambda u; Z'l' there              */
    double *kc;        /* K c over related levels, c over others         */
    double *bn, *un;   /* a step further, or before                      */
    double *at;        /* b of the factorization                         */
    double *last;      /* c where slopes were found last                 */
    double *r;         /* Z'(l' + W_f Z b)                               */
    double *s, *d;     /* Z'(h w'); Z'r                                  */
    double *work;      /* solve_work */
    double **blocks;   /* nfactor   sums by level of pass_weights; NULL: it has them where they belong */
    double *columns;   /* KEPT x: columns of all factors, or what passes need in each x */
} effects;

#define EXACTLY 1e-14 /* what the last step to a mode promises at most where everything is read off it */

struct glmm_model {
    lmm_model *m;
    kept rows;
    lmm_family family;
    row_values v;
    effects e;
    double *next; /* p + nextra      gamma and x of an evaluation to come                                */
    double *gamma, *x;    /* p, nextra       coefficients of the whitened X; the family's parameters   */
    double *Cinv;         /* p x p           inverse of X's C over the kept columns                    */
    double center, unit;  /*                 see glmm_response                                         */
    double *begin;        /* nextra          x where fits begin                                        */
    double constant;      /*                 what l leaves out                                         */
    double *flat_theta;   /* ntheta          scratch of glmm_evaluate                                  */
    int related;          /*                 has a factor related levels?                              */
    int flat;             /*                 factor of fixed effects (elimination order); -1: none     */
    int expected;         /*                 are the weights of log|M| expected ones?                  */
    double *slope_of_log; /* factors_size    D of log|M|, while the factorization is that of the mode; NULL */
    int nodes;            /*                 of the quadrature in each direction; 0: Laplace            */
    double *node;         /* 2 x nodes       of Gauss and Hermite, then their weights                  */
    double *share;        /* nodes^p x nlev  log-densities of the nodes, then their shares; NULL       */
    double **first;       /* nfactor         blocks of B laid out as the panels of each factor         */
    double *zx;           /* nextra x q      Z'l'_x, then Z'V^-1 K                                     */
    double *gx, *fx, *xx; /* r, nextra, nextra^2  slopes in gamma and x; sum of l_x l_x'               */
    double *kk;           /* nextra^2        K'W K = sum of l'_x l'_x'/W                               */
    double *xk;           /* p x nextra      X'V^-1 K                                                  */
    double *along;        /* ntheta */
    double *mean;      /* p               mean of a prior on beta, over the kept columns ...               */
    double *precision; /* p               ... and its precision; NULL: none                               */
    double *Tnew;      /* factors_size    T of every factor to come                                 */
    double enough;     /* what the last step to a mode may promise, ... */
    double near;       /* ... and all of those since the factorization */
    double strayed;    /* what steps since the factorization have promised */
    double j, promise; /* j(u); what the last step to it promised                                   */
    double passcost, cost; /* of a pass and a solve; of weights and a factorization, ns                  */
    double f;
    int lasts;         /* is there a last c?                                                        */
    int stands;        /* does the factorization belong to b?                                       */
    int known;         /* are derivatives in x (d1x) those of b?                                    */
    int derived;       /* are slopes, and c, known there?                                           */
    int stepped;       /* is it the factorization of a point before b? */
    int begun;         /* are densities and sums those of b = 0, where fits begin? */
    int halved;        /* was the last step shortened?                                              */
    int elsewhere;     /* is the inverse that of a point nearby? (hessian.c) */
    glmm_obstacle met; /* by the last evaluation that failed                                    */
    int32_t factorizations, passes;
    void *memory;
};

/* passes.c: over the rows */
double pass_first(glmm_model *g, int zero); /* fixed, zb = Z b (zero: 0), then as pass_density            */
double pass_density(glmm_model *g);         /* -sum l; d1, w2, d3 at fixed + zb                          */
/* zn := Z bn and densities there, r := Z'(d1 + wf zn); slope: (old d1)'(zn - zb). Returns -sum l. */
double pass_try(glmm_model *g, double *slope);
void pass_weights(glmm_model *g); /* A := [Z X]'wf[Z X],  r := Z'(d1 + wf zb)                */
void pass_expected(glmm_model *g, double *w, double *dw); /* expected weights; -dw/deta, or NULL          */
void pass_leverages(glmm_model *g); /* h;  s := Z'(-d3 h)                                      */
/* zt := Z t,  c := Z'l',  d := Z'(-d3 h - wf zt),  gx := X'(-d3 h - wf zt - 2 d1), d1: the model's, or
 * another */
void pass_slopes(glmm_model *g, const double *t, const double *d1);
/* of one factor's levels: sums of l at effects b; c := Z'l' there, mean += share l', fx -= 2 share l_x; h and
   s from blocks in place of B */
void pass_node(glmm_model *g, const double *b, double *sums);
void pass_node_slopes(glmm_model *g, const double *b, const double *share, double *c, double *mean);
void pass_node_leverages(glmm_model *g, const double *blocks);
void pass_fourth(glmm_model *g, double *d4); /* l'''' */
void pass_extra(glmm_model *g);              /* d1x, fx, xx, zx and X'l'_x in xk                        */
void pass_random(glmm_model *g, const double *b, double *zb);            /* zb := Z b                    */
void pass_scatter(glmm_model *g, const double *r, double *z, double *x); /* Z'r, X'r (NULL: not wanted)  */
/* lx over the rows of the data that are one; where room is, or lx itself */
const double *score_of_block(const glmm_model *g, int64_t at, int32_t n, const double *lx, double *room);
void fixed_of_block(const glmm_model *g, int64_t block, double *eta); /* o + X gamma of a block          */
/* zb := Z b + X gamma (n), either may be NULL; z := Z'wf zb, or NULL */
void pass_product(glmm_model *g, const double *b, const double *gamma, double *zb, double *z);

/* mode.c: from b and u to the mode, where the factorization is; c. LMM_NOTPOSDEF: there is none */
lmm_status find_mode(glmm_model *g);
lmm_status factorize_with(glmm_model *g, const double *w); /* n weights */
void start_mode(glmm_model *g);                            /* b, u := 0 */
/* b and u at new T, gamma and x, by first order; before the model gets that T */
void predict_mode(glmm_model *g, const double *T, const double *gamma, const double *x);
/* ... after it has; without a mode that stands, from the last c, or from 0 */
void adopt_mode(glmm_model *g);
void keep_mode(glmm_model *g);                               /* last := c */
void solve_effects(glmm_model *g, double *z);                /* z := B z, with the factor */
void spread(const lmm_model *m, const double *u, double *b); /* b := T u   */
void relate_effects(const glmm_model *g, double *z);         /* z := K z where levels are related */
void gather(const lmm_model *m, const double *b, double *u); /* u := T^-1 b */

/* laplace.c: the criterion at the mode with its slopes; LMM_NOTPOSDEF */
lmm_status laplace(glmm_model *g);
void slopes(glmm_model *g);               /* and c */
lmm_status find_leverages(glmm_model *g); /* the inverse where rows need it, and their leverages */
void mode_part(const glmm_model *g, const factor *f, double *N); /* N := sum_l c c' - (d c' + c d')/2 */
/* in (Sigma's entries, gamma, x): slope, model Hessian (n x n) */
void joint_derivatives(glmm_model *g, double *slope, double *H);
int32_t joint_size(const glmm_model *g);
/* What the prior adds: to f, to the slope gx in gamma; and (size n, from column `first`) to the Hessian */
void add_prior(glmm_model *g);
void add_prior_slope(glmm_model *g);
void add_prior_curvature(const glmm_model *g, ptrdiff_t n, ptrdiff_t first, double *H);

/* quadrature.c: in place of laplace and slopes; T is triangular. LMM_NOTPOSDEF */
lmm_status node_sum(glmm_model *g);
void node_slopes(glmm_model *g);
ptrdiff_t node_count(const glmm_model *g); /* of all directions */

/* start.c: gamma and x of the model without random effects */
lmm_status start_fixed(glmm_model *g);
/* then axes of every Sigma by moments of the working residuals; as they were where there are none */
void start_random(glmm_model *g, double *axes);

#endif
