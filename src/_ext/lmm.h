/* Linear mixed models by penalized least squares: the whole C interface.

     y | b ~ N(X beta + Z b, sigma^2 W^-1),    b = Lambda u,    u ~ N(0, sigma^2 I)

   Grouping factor k has m_k levels and p_k columns z_k. Lambda is block diagonal: factor k repeats one
   p_k x p_k matrix T_k, lower triangular in theta, m_k times. Columns of different terms of one factor
   are independent (structural zeros of T_k).

   Only the cross-products A = [Z X y]'W[Z X y] enter a fit, taken in whitened coordinates (moments.c).
   A factor is eliminated level by level (factor.c), K_l = T M_l^-1 T' with M_l = T'A_l T + I:

     log|M| += log|M_l|,      A_RR -= A_Rl K_l A_lR       (R: all that co-occurs with level l)

   Levels of a factor may be related, b ~ N(0, sigma^2 K (x) T T'): relation.h.

   What remains in the end is one matrix S over the trailing levels, X and y: dense, sparse, or only
   multiplied (trailing.h). With its Cholesky factor the criterion is

     f(theta) = log|M| + [REML] log|X'V^-1 X| + nu (1 + log(2 pi r^2 / nu)) - sum log w

   nu = n (ML) or n - p (REML), r^2 the residual sum of squares. Read backwards, the same steps give
   every block of Lambda M^-1 Lambda' that the exact gradient needs (gradient.c) and the average
   information (curvature.c).

   Nothing here prints, keeps caller memory, or has global state; one thread at a time uses a model. */

#ifndef LMM_H
#define LMM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    LMM_OK,
    LMM_STOPPED,     /* the poll callback asked to stop: best so far is returned      */
    LMM_MAXEVAL,     /* evaluation limit reached: best so far is returned             */
    LMM_NOMEM,       /* an allocation failed, or would exceed the caller's limit      */
    LMM_NOTPOSDEF,   /* the criterion is not finite at the starting value             */
    LMM_NOVARIANCE,  /* y is a linear combination of X: no residual variance is left  */
    LMM_DEPENDENT,   /* columns of a random term are linearly dependent (lmm_report)  */
    LMM_UNAVAILABLE, /* not available with this storage                               */
    LMM_TOOLARGE,    /* the memory would exceed the caller's limit (lmm_report.bytes) */
    LMM_UNSOLVED,    /* the iterations of an iterative model did not converge         */
    LMM_NOTFINITE,   /* the derivatives of the criterion are not finite               */
    LMM_EXACT        /* the residual variance went to zero on the way                 */
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
    /* NULL, or sets the calling thread's number of BLAS threads (MKL, Accelerate) */
    int (*set_local_threads)(int);
} lmm_blas;

typedef enum {
    LMM_FLOAT64,
    LMM_FLOAT32,
    LMM_INT64,
    LMM_INT32,
    LMM_INT16,
    LMM_INT8,
    LMM_UINT64,
    LMM_UINT32,
    LMM_UINT16,
    LMM_UINT8
} lmm_type;

typedef struct {         /* an array as it is in somebody's table: numbers, or codes of levels     */
    lmm_type type;       /* of codes LMM_INT32                                                    */
    ptrdiff_t stride;    /* bytes from one row to the next                                        */
    const void *at;      /* n                                                                     */
    const double *value; /* NULL, or what each code stands for                                    */
} lmm_part;

typedef struct { /* a column of X or Z: the product of its parts, ones if there are none   */
    int32_t nparts;
    const lmm_part *part;
} lmm_column;

typedef struct {          /* inverse of the relationship matrix K of a factor's levels, sparse         */
    const ptrdiff_t *ptr; /* m + 1  lower triangle by columns                                       */
    const int32_t *row;   /*        ascending, the diagonal first                                   */
    const double *x;
    const ptrdiff_t *rootptr; /* m + 1  G, K^-1 = G'G, lower triangular, by rows; NULL: is found    */
    const int32_t *rootcol;   /*        ascending, the diagonal last                                */
    const double *rootx;
} lmm_precision;

typedef struct {          /* rows with several levels of a factor, or none, each with a weight            */
    const int64_t *ptr;   /* n + 1  where those of each row begin                                        */
    const int32_t *level; /*        0-based, ascending in a row                                         */
    const double *weight; /*        what its columns are multiplied by                                  */
} lmm_members;

typedef struct {                    /* a grouping factor with the columns of all its terms               */
    int32_t nlev, ncol;             /* m levels, p columns                                               */
    const int32_t *level;           /* n      level of each row, 0-based; NULL where rows have several   */
    const lmm_column *z;            /* p                                                                 */
    const int32_t *term;            /* p      columns with equal numbers (neighbours) are correlated     */
    const lmm_precision *precision; /* NULL: levels are independent, and every one is used          */
    const lmm_members *members;     /* NULL: every row has one level                                */
} lmm_factor;

typedef struct {           /* columns of X that are zero in most rows: x = v t(level)                 */
    const int32_t *level;  /* n      level of each row, 0-based                                       */
    const double *v;       /* n      NULL: ones                                                       */
    int32_t nlev;          /*        levels                                                           */
    const int32_t *start;  /* nlev+1 where each level's t begins: its columns and what these are      */
    const int32_t *column; /*        place in X, each once a level                                    */
    const double *value;
} lmm_coded;

typedef struct {              /* borrowed during the call, never kept                              */
    int64_t n;                /* rows                                                              */
    int32_t p, nfactor;       /* columns of X, grouping factors                                    */
    int32_t pstored, ncoded;  /* columns of X that are stored; others are coded                    */
    const double *y, *w;      /* n; n, positive, or NULL for ones                                  */
    const lmm_column *X;      /* pstored                                                           */
    const int32_t *place;     /* pstored  their places in X, ascending; NULL: all are stored       */
    const lmm_coded *coded;   /* ncoded                                                            */
    const lmm_factor *factor; /* nfactor                                                           */
} lmm_data;

typedef struct lmm_blocks lmm_blocks; /* blocks.h */

typedef struct {                /* a model whose rows are gone; borrowed during the call            */
    const lmm_blocks *blocks;   /* cross-products of columns = the user's columns times C ...      */
    int64_t n;                  /* rows in them                                                    */
    double sumlogw;             /* sum of the logarithms of their weights                          */
    const int32_t *const *term; /* one array for each factor, as in lmm_factor                     */
    const double *const *C;     /* p x p column-major, one for each factor                         */
    const double *CX;           /* p x p column-major, of X                                        */
    const double *beta0;        /* p  y = X beta0 + yscale times the y of the blocks (X: the user's) */
    double yscale;
} lmm_cross;

typedef enum {               /* how the trailing matrix is held                                            */
               LMM_AUTO,     /* whichever is predicted to be fastest among those that fit                  */
               LMM_DENSE,    /* LAPACK                                                                     */
               LMM_SPARSE,   /* sparse Cholesky factor                                                     */
               LMM_ITERATIVE /* conjugate gradients, stochastic log-determinant and gradient               */
} lmm_storage;

typedef enum {
    LMM_UNORDERED,
    LMM_AMD,
    LMM_RCM,
    LMM_OFFERED
} lmm_order; /* what found a fill-reducing order */

typedef struct {         /* what set-up may use and must do                                              */
    double limit;        /* bytes that may be used; INFINITY: any                                        */
    lmm_storage storage; /* what the caller insists on                                                   */
    int plan;            /* report only, make nothing                                                    */
    int generalized;     /* the model serves a generalized one (glmm.h): y is not read, only exact ways  */
    int32_t moves; /* 0, or covariance parameters (lmm_plane.nphi) that fits move at most, where they are
                      few beside theta: second derivatives are in them alone then, and nothing of
                      ntheta x ntheta is made or can be read (LMM_UNAVAILABLE). Only exact ways */
    /* One more fill-reducing order, asked for where a sparse trailing matrix is hard to factorize: of n nodes
       whose graph is given as a lower triangle by columns, the i-th to eliminate into perm[i]; nonzero: there
       is none. NULL: none is offered. */
    int (*order)(void *arg, int32_t n, const ptrdiff_t *ptr, const int32_t *row, int32_t *perm);
    void *arg;
} lmm_options;

typedef struct {            /* what set-up found                                                 */
    int32_t rank;           /* columns of X that were kept                                       */
    int32_t factor, column; /* LMM_DEPENDENT: where                                              */
    int32_t eliminated;     /* factors eliminated level by level                                 */
    uint64_t which;         /* one bit for each of them, the first 64 factors                    */
    int32_t order;          /* order of the trailing matrix, without X and y                     */
    int32_t identified;     /* 1: no part of the covariance can be written with the others; 0: not known */
    int32_t full;           /* 1: every level co-occurs with every trailing one (dense off-diagonal)    */
    lmm_storage storage;    /* how the trailing matrix is held                                   */
    double pairs;           /* pairs of co-occurring levels of two factors                      */
    double density;         /* share of the trailing matrix that is not zero (-1: not counted)   */
    int32_t approach;       /* 1: fits begin with an iterative trailing matrix and end with this one     */
    lmm_order ordered;      /* what found the order of a sparse trailing matrix                  */
    double rows;            /* bytes of the rows of a generalized model, which may be elsewhere  */
    double bytes;           /* memory that the model needs with this storage, ...                */
    double flops;           /* ... operations of an evaluation with derivatives, as BLAS 3 does them */
    double bytes_of[4];     /* the same for each storage, nan where it was not considered        */
    double flops_of[4];
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

typedef struct lmm_structure lmm_structure; /* structures/structure.h */

/* Parameters that are held, tied or structured: phi = fixed + basis z. Without structures phi is theta (the
   user's). With them it stands factor by factor as in lmm_data, term by term: of a term with a structure the
   parameters of its Sigma (over sigma^2, the user's columns), of another one its part of theta, the lower
   triangle by columns. */
typedef struct {
    int32_t nz;          /* at most nphi                                                              */
    int32_t nphi;        /* ntheta without structures                                                 */
    const double *fixed; /* nphi                                                                      */
    const double *basis; /* nphi x nz  column-major, of full rank                                     */
    const lmm_structure *const *structure; /* of each term, factor by factor; NULL: entries of T. NULL: all of
                                              them are                                                */
} lmm_plane;

typedef struct {        /* how a fit ended                                                   */
    double objective;   /* criterion at the result                                           */
    double certificate; /* predicted decrease still possible, deviance units: where derivatives were
                           known last, so before the last step, if that was taken without them */
    double resolution;  /* bound of its rounding error there: smaller differences mean nothing       */
    double noise;       /* by how much it was seen to change with the last digits of theta           */
    int32_t neval;      /* evaluations of the criterion                                      */
    int32_t escapes;    /* saddle points left along negative curvature                       */
} lmm_info;

typedef struct lmm_model lmm_model;

lmm_settings lmm_defaults(void);
const char *lmm_words(lmm_status status); /* a status in words, for a message; static */

/* A model of the rows d, or of the cross-products x (the other is NULL). Evaluations and fits use the memory
   made here; a fit that converges slowly tries to have more for exact second derivatives, at most 100 MB, and
   does without them if there is none. keep: p bytes, receives which columns of X are independent. With
   options.plan *m stays NULL. */
lmm_status lmm_setup(lmm_model **m, const lmm_data *d, const lmm_cross *x, const lmm_blas *blas,
                     const lmm_options *options, uint8_t *keep, lmm_report *report);
lmm_status lmm_response(lmm_model *m, const lmm_data *d); /* new y, same X, Z, w                 */
/* New y and w, same X, Z and levels: the model that lmm_setup would make, without a new pattern or storage.
   Rows of weight zero are as if they were not there: levels that have no others have no data. LMM_DEPENDENT:
   with these weights other columns are independent, and the model can't be used until it is refilled. */
lmm_status lmm_refill(lmm_model *m, const lmm_data *d);
/* V (n x r): what the fixed effects leave of columns that are scaled by the roots of the weights. d: the rows
   that the model was made of; their y is not read. */
lmm_status lmm_without_fixed(const lmm_model *m, const lmm_data *d, int r, double *V);
void lmm_free(lmm_model *m); /* NULL and half-built are fine        */
int32_t lmm_ntheta(const lmm_model *m);

/* Threads that evaluations use from now on; no result depends on it. LMM_NOMEM: there are not so many. */
lmm_status lmm_set_threads(lmm_model *m, int threads);

/* ---- evaluate, then read --------------------------------------------------------------------------------

   A model stands at one theta (zeros before the first; after a fit at its result). Readings say what is true
   there. They evaluate where nobody has yet, and factorize again only where they need the factor and the
   inverse has overwritten it. All of them are in the user's units, coordinates and levels. */

/* The model stands at theta from now on (the user's coordinates, factor by factor, column-major lower
   triangles; or, if asked for, whitened ones in the same order). f: receives the criterion; NULL: nothing is
   evaluated until a reading needs it. */
lmm_status lmm_evaluate(lmm_model *m, int reml, int whitened, const double *theta, double *f);

/* g: ntheta gradient; H: ntheta x ntheta average-information curvature; both in the coordinates of theta,
   either may be NULL. H of a model whose parameters are few (lmm_options.moves): LMM_UNAVAILABLE. */
lmm_status lmm_derivatives(lmm_model *m, double *g, double *H);

/* beta (p; zero for dropped columns), vcov (p x p), sigma, b (one m x p block per factor, row-major, one
   after the other), condvar (one m x p x p block per factor, over sigma^2). Any may be NULL. */
lmm_status lmm_estimates(lmm_model *m, double *beta, double *vcov, double *sigma, double *b, double *condvar);

/* Products of the random-effect columns with the others in V = Z Lambda Lambda'Z' + W^-1:
     E   a basis of X in which (X E)'V^-1 (X E) = I, p x rank row-major; vcov = sigma^2 E E'
     G   Z'V^-1 X (X'V^-1 X)^-1, one m x k x p block per factor, row-major, one after the other; p: all
         columns of X, zero for dropped ones
     g   Z'P y = Z'V^-1 (y - X beta), laid out as b
     U   Z'V^-1 X E, one m x k x rank block per factor: G = U E'
     N   B Z'W X E, as U
   Any may be NULL. */
lmm_status lmm_projection(lmm_model *m, double *G, double *g, double *E, double *U, double *N);

/* What derivatives of the residual sum of squares are made of, where column j of X has a given coefficient or
   (j < 0) none has. With g and h = G e_j as above, and K columns of all factors, one factor after the other:
     r2      y'Py = (y - X beta)'V^-1 (y - X beta)
     beta    p, as lmm_estimates
     column  p  column j of (X'V^-1 X)^-1; j < 0: as it was
     M       K x K  sum over levels of g g', zero between factors; j >= 0: two more, of g h' + h g' and h h'
 */
lmm_status lmm_squares(lmm_model *m, int j, double *r2, double *beta, double *column, double *M);

/* What derivatives of the variances of r contrasts L beta-hat (L: r x p, row-major) and of r^2 are made of,
   in whitened coordinates (lmm_whitening): with h = Z'V^-1 X (X'V^-1 X)^-1 L' of each contrast and g = Z'P y,
     M  (r + 1) x K x K  sum over levels of g g', then of h h' of each contrast; zero between factors */
lmm_status lmm_contrasts(lmm_model *m, int r, const double *L, double *M);

/* Variances of r contrasts L beta-hat over sigma^2 (L: r x p, row-major), and their degrees of freedom after
   Satterthwaite, from exact second derivatives; nan for contrasts without variance. At an optimum. Price as
   for lmm_traces; LMM_UNAVAILABLE for iterative models. */
lmm_status lmm_satterthwaite(lmm_model *m, int r, const double *L, double *variance, double *df);

/* X = B V,  B = Lambda M^-1 Lambda' = (Z'WZ + (Lambda Lambda')^-1)^-1: covariances of the random effects
   given y, over sigma^2. r right-hand sides: one m x k x r block per factor, row-major, one after the other.
   X may be V. */
lmm_status lmm_solve(lmm_model *m, int r, const double *V, double *X);

/* Q = V'Z'V^-1 Z V (r x r) for r vectors V over all random effects, laid out as above. LMM_UNAVAILABLE for
   iterative models. */
lmm_status lmm_forms(lmm_model *m, int r, const double *V, double *Q);

/* tr V^-1 G_r (ntheta) and tr V^-1 G_r V^-1 G_s (ntheta x ntheta) for the derivatives G_r of V in the entries
   of each term's relative covariance matrix, in whitened coordinates (lmm_whitening) and in the order of
   theta: entry (x, y) and its mirror image; variances only where T is diagonal. LMM_UNAVAILABLE for iterative
   models. Memory and operations beforehand: lmm_traces_price. */
lmm_status lmm_traces(lmm_model *m, double *single, double *pairs);
void lmm_traces_price(const lmm_model *m, double *bytes, double *flops);

/* Gradient (ntheta) and exact Hessian (ntheta x ntheta) of the criterion in the entries of each term's
   relative covariance matrix, T as it is, zeros too; coordinates, order and price as for lmm_traces. */
lmm_status lmm_hessian(lmm_model *m, double *slope, double *H);

/* Pairs of co-occurring levels of the factors a and c; all pairs of the two where the larger factor is held
   with every level of the other (lmm_report.full). a = c: a level with itself. la, lc: NULL to count. */
lmm_status lmm_pairs_of_levels(const lmm_model *m, int a, int c, int64_t *count, int32_t *la, int32_t *lc);

/* Blocks of B (p_a x p_c, row-major) for so many pairs of levels; whitened: of effects b = C b_w of the
   whitened columns (lmm_whitening). Those above are known, and others as far as the trailing matrix has what
   they follow from: of two factors all where it is dense. a = c: two levels of a trailing factor where the
   trailing matrix has them, all of those that one level of an eliminated factor meets among them. nan for
   others. LMM_UNAVAILABLE for iterative models. */
lmm_status lmm_covariances(lmm_model *m, int a, int c, int whitened, int64_t count, const int32_t *la,
                           const int32_t *lc, double *B);

/* Criterion at the last evaluation that a reading used: with exact zeros of T where it needed these. */
double lmm_value(const lmm_model *m);
/* Standard error of the criterion at the last evaluation; 0 for exact models. */
double lmm_deviation(const lmm_model *m);

/* Monte-Carlo error of an iterative model: standard error of the criterion and covariance (ntheta x ntheta)
   of the theta that a fit finds, H^-1 cov(g) H^-1. Zero for exact models. */
lmm_status lmm_montecarlo(lmm_model *m, double *se, double *cov);
/* theta is in the order of the factors in lmm_data, each by columns of T, until place says where each of
   these parameters stands (a permutation; NULL: as at first). Whatever is in theta has that order then. */
void lmm_arrange(lmm_model *m, const int32_t *place);
void lmm_whitening(const lmm_model *m, double *C); /* one p x p block per factor, row-major:
                                                      T = C times the whitened T, up to rotation */

/* Minimizes the criterion, over all theta from start (ntheta; NULL: moment estimates, start.c),
   or within a plane from start = z (nz; NULL: the z nearest to moment estimates). theta: receives the
   optimum, z (nz, or NULL) where it is in the plane. All in the user's coordinates. A plane takes memory of
   its own during the call; LMM_NOTPOSDEF also when its basis is dependent, LMM_UNAVAILABLE when a structure
   does not fit its term. */
lmm_status lmm_fit(lmm_model *m, const lmm_settings *s, const lmm_plane *within, const double *start,
                   double *theta, double *z, lmm_info *info);

/* Criterion, gradient (nz) and average-information curvature (nz x nz, with the bend of what z means) in the
   z of a plane; g and H may be NULL. The model stands there then. */
lmm_status lmm_within(lmm_model *m, int reml, const lmm_plane *within, const double *z, double *f, double *g,
                      double *H);

/* ---- residual structures --------------------------------------------------------------------------------

   y | b has the covariance sigma^2 W^-1/2 R(delta) W^-1/2, R = D C D:
     D  standard deviations of the rows, log d_i = c_i'delta: strata (one of c_i is 1, or none) or columns
     C  correlations within subjects, by time

   Whitened rows L^-1 W^1/2 [Z X y], R = L L', take the place of [Z X y] in A (residual/residual.h). */

typedef enum {
    LMM_INDEPENDENT,
    LMM_AR1,  /* rho^|t - s|, rho = sin x, t and s whole numbers                         */
    LMM_CAR1, /* exp(-|t - s| / exp x)                                                   */
    LMM_CS,   /* rho = 1 - k / (k - 1) cos^2 x, k: rows of the largest subject           */
    LMM_ANTE  /* rho_t ... rho_(s-1), rho_t = sin x_t, t = 0 ... visits - 1              */
} lmm_correlation;

typedef struct {            /* R; borrowed during the call                                              */
    int32_t ndeviation;     /* parameters of D                                                          */
    const int32_t *stratum; /* n  which of them is 1 in a row, -1: none; NULL                            */
    const double *column;   /* n x ndeviation, column-major; NULL                                       */
    lmm_correlation kind;   /* of C                                                                     */
    int32_t ncorrelation;   /* its parameters, which come after those of D                              */
    const int32_t *subject; /* n  numbers; every random factor is constant within a subject             */
    const double *time;     /* n  distinct within a subject; CS: not read                               */
} lmm_residual;

/* The model's rows get the covariance R, at delta = 0 where D = I (correlations: at no place until
   lmm_residual_at). d: the rows that it is filled with; once more after every lmm_response and lmm_refill.
   LMM_UNAVAILABLE: the trailing matrix is iterative, or a random factor varies within a subject.
   LMM_TOOLARGE: it takes more than so many bytes. */
lmm_status lmm_residual_setup(lmm_model *m, const lmm_data *d, const lmm_residual *r, double limit);
/* The same for strata of a model of cross-products, whose sum these are: same levels, columns, coordinates
   and scale of y. delta: log standard deviation of each stratum but the first. */
lmm_status lmm_residual_strata(lmm_model *m, int32_t nstrata, const lmm_cross *x, double limit);
int32_t lmm_ndelta(const lmm_model *m); /* 0 where there is no R */
/* The model stands at delta from now on: its theta is as it was. LMM_NOTFINITE: there is no R. */
lmm_status lmm_residual_at(lmm_model *m, const double *delta);

/* Derivatives where the model stands, diagonals of T kept from zero: g (ntheta) and slope (ndelta) of the
   criterion. What those of estimates are made of: G (ndelta x rank + 1 x rank + 1), of each delta

     [E'(dX'V^-1X) E  E'd(X'V^-1 y)|beta; .  d r^2]   where (X E)'V^-1 (X E) = I as in lmm_projection

   so that d vcov = -sigma^2 E G_11 E', r^2 not divided by anything. */
lmm_status lmm_residual_slopes(lmm_model *m, double *g, double *slope, double *G);

/* What Kenward and Roger's adjustment asks of the derivatives R_j of V (over sigma^2) in delta, where the
   model stands, diagonals of T kept from zero; P_0 = V^-1, e: the columns of [X E, y - X beta], rank + 1 of
   them */
typedef struct {
    double *trace;  /* ndelta                      tr P_0 R_j                                         */
    double *traces; /* ndelta x ndelta             tr P_0 R_j P_0 R_k                                 */
    double *cross;  /* ntheta x ndelta             tr P_0 G_r P_0 R_j, coordinates as for lmm_traces  */
    double *G;      /* as of lmm_residual_slopes                                                      */
    double *Q;      /* (ndelta (rank + 1))^2       e'P_0 (R_j P_0 R_k + R_k P_0 R_j) P_0 e / 2        */
    double *Z;      /* effects x ndelta (rank + 1), row-major: Z'P_0 R_j P_0 e, as lmm_projection's U */
} lmm_directions;
lmm_status lmm_residual_directions(lmm_model *m, lmm_directions *out);

/* lmm_fit over theta and delta together. delta: in the start, out the optimum; held (ndelta): 1 where it
   stays, NULL: nowhere. LMM_UNAVAILABLE with structures whose Sigma is too wide for its entries. */
lmm_status lmm_residual_fit(lmm_model *m, const lmm_settings *s, const lmm_plane *within, const double *start,
                            const uint8_t *held, double *delta, double *theta, double *z, lmm_info *info);

typedef struct { /* many responses to the columns of a model                                 */
    int64_t count;
    const double *y;     /* n x count     column-major                                                */
    const double *w;     /* n x count     weights of each; NULL: the model keeps its own              */
    const double *start; /* ntheta        where all fits begin; NULL: moments of each response        */
} lmm_responses;

typedef struct {        /* fits of many responses, one row each, in their order                       */
    lmm_status *status; /* count          how each ended; what is below is nan where there is no fit  */
    lmm_info *info;     /* count                                                                      */
    double *theta;      /* count x ntheta                                                             */
    double *sigma;      /* count                                                                      */
    double *beta, *se;  /* count x p                                                                  */
    double *variance;   /* count x r      of the contrasts, sigma^2 included                          */
    double *df;         /* count x r      Satterthwaite's; nan where they are not available           */
} lmm_fits;

/* A fit to each response: no result depends on the others. r contrasts L (r x p, row-major) of each; df NULL:
   not asked for. d: the rows that the model was made of; their y is not read, and their w not where responses
   have their own. The model keeps the last response and its weights. Not LMM_OK: LMM_NOMEM, or LMM_STOPPED by
   the settings' poll; rows from *done on are not filled then. */
lmm_status lmm_many(lmm_model *m, const lmm_data *d, const lmm_settings *s, const lmm_responses *given, int r,
                    const double *L, const lmm_fits *out, int64_t *done);

#ifdef __cplusplus
}
#endif

#endif
