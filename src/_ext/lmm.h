/* Linear mixed models by penalized least squares: the whole C interface.

     y | b ~ N(X beta + Z b, sigma^2 W^-1),    b = Lambda u,    u ~ N(0, sigma^2 I)

   Grouping factor k has m_k levels and p_k columns z_k. Lambda is block diagonal: factor k repeats one
   p_k x p_k matrix T_k, lower triangular in theta, m_k times. Columns of different terms of one factor
   are independent (structural zeros of T_k).

   Only the cross-products A = [Z X y]'W[Z X y] enter a fit, taken in whitened coordinates (moments.c).
   A factor is eliminated level by level (factor.c), K_l = T M_l^-1 T' with M_l = T'A_l T + I:

     log|M| += log|M_l|,      A_RR -= A_Rl K_l A_lR       (R: everything that level l meets)

   What remains in the end is one dense matrix S over the trailing levels, X and y. With its Cholesky
   factor the criterion is

     f(theta) = log|M| + [REML] log|X'V^-1 X| + nu (1 + log(2 pi r^2 / nu)) - sum log w

   nu = n (ML) or n - p (REML), r^2 the residual sum of squares. Read backwards, the same steps give
   every block of Lambda M^-1 Lambda' that the exact gradient needs (gradient.c) and the average
   information (curvature.c).

   Nothing here prints, keeps caller memory, or has global state; one thread at a time uses a model. */

#ifndef LMM_H
#define LMM_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    LMM_OK,
    LMM_STOPPED,    /* the poll callback asked to stop: best so far is returned      */
    LMM_MAXEVAL,    /* evaluation limit reached: best so far is returned             */
    LMM_NOMEM,      /* an allocation failed, or would exceed the caller's limit      */
    LMM_NOTPOSDEF,  /* the criterion is not finite at the starting value             */
    LMM_NOVARIANCE, /* y is a linear combination of X: no residual variance is left  */
    LMM_DEPENDENT   /* columns of a random term are linearly dependent (lmm_report)  */
} lmm_status;

typedef struct { /* LAPACK and BLAS, Fortran calling convention; copied at set-up     */
    void (*potrf)(char *, int *, double *, int *, int *);
    void (*potri)(char *, int *, double *, int *, int *);
    void (*syev)(char *, char *, int *, double *, int *, double *, double *, int *, int *);
    void (*syrk)(char *, char *, int *, int *, double *, double *, int *, double *, double *, int *);
    void (*trsm)(char *, char *, char *, char *, int *, int *, double *, double *, int *, double *, int *);
    void (*gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *,
                 double *, int *);
    void (*symm)(char *, char *, int *, int *, double *, double *, int *, double *, int *, double *, double *,
                 int *);
} lmm_blas;

typedef struct {          /* a grouping factor with the columns of all its terms               */
    int32_t nlev, ncol;   /* m levels, p columns                                               */
    const int32_t *level; /* n      level of each row, 0-based, every level used               */
    const double *z;      /* n x p  row-major                                                  */
    const int32_t *term;  /* p      columns with equal numbers (neighbours) are correlated     */
} lmm_factor;

typedef struct {              /* borrowed during the call, never kept                              */
    int64_t n;                /* rows                                                              */
    int32_t p, nfactor;       /* columns of X, grouping factors                                    */
    const double *y, *X, *w;  /* n; n x p column-major; n, positive, or NULL for ones             */
    const lmm_factor *factor; /* nfactor                                                         */
} lmm_data;

typedef struct {            /* what set-up found                                                 */
    int32_t rank;           /* columns of X that were kept                                       */
    int32_t factor, column; /* LMM_DEPENDENT: where                                              */
    int32_t eliminated;     /* factors eliminated level by level                                 */
    int32_t order;          /* order of the dense trailing matrix, without X and y               */
    int32_t full;           /* 1: every level meets every trailing level (dense off-diagonal)    */
    double bytes;           /* memory that the model needs                                       */
} lmm_report;

typedef struct {         /* one accepted or rejected evaluation, for the poll callback        */
    int32_t neval;       /* evaluations so far                                                */
    int32_t ntheta;      /* length of theta                                                   */
    double objective;    /* criterion at this evaluation                                      */
    double best;         /* lowest so far                                                     */
    double radius;       /* trust radius, in units of whitened theta                          */
    double predicted;    /* decrease that the model promised for this step (nan: first)       */
    const double *theta; /* whitened theta of this evaluation                                 */
} lmm_trace;

typedef struct {      /* defaults by lmm_defaults()                                        */
    int32_t reml;     /* 1       restricted likelihood                                     */
    int32_t maxeval;  /* 500                                                               */
    double tolerance; /* 1e-10   stop when the predicted decrease is below, deviance units */
    double radius;    /* 1       first trust radius                                        */
    int (*poll)(void *arg, const lmm_trace *t); /* NULL; nonzero stops                           */
    void *arg;
} lmm_settings;

typedef struct {        /* how a fit ended                                                   */
    double objective;   /* criterion at the result                                           */
    double certificate; /* predicted decrease still possible, deviance units                 */
    double resolution;  /* rounding error of the criterion there: smaller differences mean nothing   */
    int32_t neval;      /* evaluations of the criterion                                      */
    int32_t escapes;    /* saddle points left along negative curvature                       */
} lmm_info;

typedef struct lmm_model lmm_model;

lmm_settings lmm_defaults(void);

/* Cross-products of d. Evaluations and fits use the memory made here and allocate nothing.
   keep: p bytes, receives which columns of X are independent. limit: bytes that may be used. */
lmm_status lmm_setup(lmm_model **m, const lmm_data *d, const lmm_blas *blas, double limit, uint8_t *keep,
                     lmm_report *report);
lmm_status lmm_response(lmm_model *m, const lmm_data *d); /* new y, same X, Z, w                 */
void lmm_free(lmm_model *m);                              /* NULL and half-built are fine        */
int32_t lmm_ntheta(const lmm_model *m);

/* Criterion at theta (the user's coordinates, factor by factor, column-major lower triangles; or, if asked
   for, whitened ones in the same order). g: ntheta gradient; H: ntheta x ntheta average-information
   curvature; both in the coordinates of theta, either may be NULL. */
lmm_status lmm_objective(lmm_model *m, int reml, int whitened, const double *theta, double *f, double *g,
                         double *H);
void lmm_whitening(const lmm_model *m, double *C); /* one p x p block per factor, row-major:
                                                      T = C times the whitened T, up to rotation */

/* Minimizes the criterion from start (NULL: moment estimates). theta: receives the optimum. Both in the
   user's coordinates. */
lmm_status lmm_fit(lmm_model *m, const lmm_settings *s, const double *start, double *theta, lmm_info *info);

/* Estimates at theta, in the user's units: the criterion f, beta (p; zero for dropped columns),
   vcov (p x p), sigma, b (one m x p block per factor, row-major, one after the other),
   condvar (one m x p x p block per factor, over sigma^2). Any may be NULL. */
lmm_status lmm_estimates(lmm_model *m, int reml, const double *theta, double *f, double *beta, double *vcov,
                         double *sigma, double *b, double *condvar);

/* How the random-effect columns meet the others in V = Z Lambda Lambda'Z' + W^-1, in the user's units and
   coordinates, for derivatives of vcov and of r^2:
     G   Z'V^-1 X (X'V^-1 X)^-1, one m x k x p block per factor, row-major, one after the other; p: all
         columns of X, zero for dropped ones
     g   Z'P y = Z'V^-1 (y - X beta), laid out as b
   Either may be NULL. */
lmm_status lmm_projection(lmm_model *m, int reml, const double *theta, double *G, double *g);

#endif
