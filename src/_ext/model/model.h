/* Private: the model's memory. Everything is in elimination order: factors, nodes, columns, theta.

   A node is one level of one factor. Nodes of the first `nelim` factors are eliminated one by one, the
   others are trailing. Each node keeps its diagonal block and a panel: the rows of A below it that are
   not structurally zero, in the order [coarser eliminated factors | trailing nodes | X y]. */

#ifndef LMM_MODEL_H
#define LMM_MODEL_H

#include "lmm.h"
#include "base/team.h"

#define BATCH 64    /* nodes that information() handles in one product */
#define TOGETHER 64 /* right-hand sides that are solved for together */
#define LITTLE 1e-4 /* share of y'Wy = n below which r^2 is found without cancellation */
#define FLOOR 1e-7  /* smallest |diagonal of T|, in whitened units: moves f by about 1e-14 n */

typedef struct trailing trailing; /* trailing/trailing.h */
typedef struct relation relation; /* relation.h */
typedef struct residual residual; /* residual/residual.h */

typedef struct {      /* a change of coordinates: whitened columns = (columns - mean) B    */
    int32_t k;        /* columns                                                           */
    int32_t constant; /* index of the constant column, -1 if there is none                 */
    double *mean;     /* k      zero where not centred                                     */
    double *B;        /* k x k  acts on centred columns (upper triangular)                 */
    double *C;        /* k x k  acts on the user's own columns: user = C whitened          */
} whitening;

typedef struct {          /* a grouping factor, in elimination order                           */
    int32_t k;            /* its place there                                                   */
    int32_t p, nlev;      /* columns and levels                                                */
    int32_t node, col;    /* its first node and first column                                   */
    int32_t th, nth;      /* its first parameter and their number                              */
    int32_t user, userth; /* its place in lmm_data, and its first parameter there              */
    int32_t *thr, *thc;   /* nth    row and column in T of each parameter                      */
    int32_t *place;       /* nth    place of each parameter in the user's theta                */
    int32_t *term;        /* p      first column of the term each column belongs to            */
    int32_t *perm;        /* nlev   node of each level                                         */
    whitening w;          /* of its columns (block diagonal over its terms)                    */
    double *Cinv;         /* p x p  inverse of w.C                                             */
    relation *relation;   /* of its levels; NULL: they are independent                         */
    int several;          /* levels that a row has at most, where it may have several: lists have nodes of
                             the factor itself then; 0: it has one */
} factor;

typedef struct {            /* fixed at set-up: what stands where, and in which coordinates                */
    int64_t n;              /* rows                                                                        */
    int32_t nfactor, nelim; /* grouping factors; eliminated ones (each nested in the next)       */
    int32_t p, pb;          /* kept columns of X; p + 1: with y, the border                      */
    int32_t pfull;          /* columns of X as given                                             */
    int32_t wide, summed;   /* X is whitened by wide.c: in its sums, or row by row               */
    int32_t generalized;    /* there is no response: y is zero                                   */
    int32_t ntheta, nnode;  /* parameters; nodes                                                 */
    int32_t moves;          /* 0, or the parameters that fits move, few beside ntheta (lmm_options) */
    int32_t q, q1, q2, s;   /* columns: all, first factor, trailing; s = q2 + pb                 */
    int32_t full;           /* every eliminated node co-occurs with every trailing node: no lists */
    int32_t *keep;          /* p      columns of X that are used                                 */
    double inflation;       /* largest variance inflation of a column of X; infinite: not known  */
    whitening x;            /* of X                                                              */
    double xconstant;       /* value of X's constant column                                      */
    double logdetB;         /* log|det| of the whitening of X                                    */
    double logdetK;         /* sum over factors with related levels of p log|K|                  */
    factor *f;              /* nfactor                                                           */
    int32_t *width;         /* nnode  columns of each node                                       */
    int32_t *nodecol;       /* nnode  first column of each node                                  */
    int32_t *trailcol;      /* nnode  the same, counted from the first trailing column           */
    ptrdiff_t *ptr;         /* nnode+1  list of the later nodes that co-occur with each node ... */
    int32_t *row;           /*          ... ascending node numbers; empty where full             */
    ptrdiff_t *pan;         /* nnode    start of its panel in its factor's panels                */
    int32_t *ld;            /* nnode    rows of its panel                                        */
} layout;

typedef struct {  /* one factor's columns of A                                                 */
    double *diag; /* nlev diagonal blocks, p x p                                               */
    double *pan;  /* panels: the rows below, [X y] last                                        */
} columns;

typedef struct {          /* A = [Z X y]'W[Z X y], whitened: changes with y and w             */
    columns *A;           /* nfactor                                                          */
    double *border;       /* pb x pb  [X y]'W[X y], lower                                     */
    double sumlogw;       /* sum of the logarithms of the weights                             */
    int64_t absent;       /* rows of weight zero: as if they were not there                   */
    double ymean, yscale; /* y = ymean + X_w b0 + X beta0 + yscale y_w ...                     */
    double *b0;           /* pfull ... b0 in whitened coordinates                             */
    double *beta0;        /* pfull ... beta0 in the user's; zero when made of rows            */
} sums;

typedef struct {            /* one factor at theta                                               */
    double *axes;           /* p x p  principal axes of T T', orthogonal                         */
    const double *W;        /* p x p  Cinv: theta in the user's coordinates; NULL: whitened; axes: set_axes */
    double *Tp, *T;         /* p x p  lower triangle made of theta, or diagonal; T = W Tp        */
    double *D, *S;          /* p x p  D = df/dTp (unmasked); S = df/d(T T'), whitened            */
    double *diag, *pan;     /* Schur complement where its turn comes (A itself if first)         */
    double *L;              /* eliminated: chol(T'A_l T + I), nlev blocks                        */
    double *P;              /* full or nested: panels times T L^-T; nested later: -B_RR A_Rl K_l */
    double *root, *related; /* pb x p nlev: Y by L' and K over related levels, K = L L'; NULL */
    /* nlev blocks p x p, one array under the name of what stands there (two, K and B, where it is
     * generalized): */
    double *K; /* from factorize on: K_l = T M_l^-1 T', eliminated factors only     */
    double *Q; /* while differentiate is at this factor: A_lR B_RR A_Rl             */
    double *B; /* after it: B_ll, B = Lambda M^-1 Lambda'                           */
} factor_state;

typedef enum { NOWHERE, FACTORED, BORDERED, INVERTED } lmm_state; /* state.c */

typedef enum {          /* diagonals of T below FLOOR:  */
               ANY,     /* there are none               */
               FLOORED, /* they were raised to it     */
               EXACT    /* they are as they are       */
} zeros;

typedef struct { /* where the model stands                                          */
    lmm_state state;
    zeros zeros;
    int reml, whitened; /* the criterion, and the coordinates of theta              */
    int moved;          /* a fit came here: D and S are in other coordinates        */
    double *theta;      /* ntheta, the user's order                                 */
    double f;           /* the criterion                                            */
    int complete;       /* B_Rl of the first factor is known (covariances.c)         */
} standing;

typedef struct {             /* everything that depends on theta                              */
    standing at;             /* theta, and how far the evaluation there has come              */
    factor_state *f;         /* nfactor                                                       */
    double logdetM, logdetC; /* log|M|, log|C|                                                */
    double r2;               /* residual sum of squares                                       */
    double size;             /* what r^2 is the difference of: y'Wy, or more where coefficients cancel */
    double *beta;            /* p        whitened                                             */
    double *H;               /* pb x q   coefficients of [X y] on Z: Lambda M^-1 Lambda'Z'W[X y] */
    double *Y;               /* pb x q   Z'V^-1[X y]; then [R^-1 X'V^-1 Z; g'], C = R R', g = Z'Py */
    double *first;           /* B_Rl of the first factor, laid out as its panels; NULL: not asked for yet */
} evaluation;

typedef struct {    /* moment equations of start.c, which no response changes                    */
    double *values; /* NULL: not kept                                                         */
    int known;
} equations;

typedef struct {     /* nothing outlives the function that uses it                            */
    double *work;    /* nwork  large products (set-up knows how large)                        */
    ptrdiff_t nwork; /* doubles of work                                                       */
    double *V;       /* moving x (q - q1 + pb)  of the curvature                              */
    double *tmp;     /* small blocks                                                          */
    double *newton;  /* the minimizer, and theta on its way in                                */
    int32_t *pos;    /* nnode  place of a node in a list                                      */
} scratch;

struct lmm_model {
    lmm_blas blas;
    team *team; /* threads that evaluations may use, NULL for one */
    layout layout;
    sums sums;
    trailing *trailing; /* the trailing matrix, at theta */
    double flops;       /* of an evaluation with derivatives */
    double unit;        /* of T, whitened: 1; of a generalized model the size of changes of eta */
    int approach;       /* is it so large that fits begin with an iterative one? (approach.c) */
    evaluation evaluation;
    equations equations; /* while many responses are fitted (many.c) */
    scratch scratch;
    residual *residual;                /* covariance of the rows, NULL: W^-1 */
    void (*free_residual)(residual *); /* ... and what frees it */
    void *memory;                      /* every block that lmm_free frees */
};

/* Rows of the coarser eliminated factors, which stand first in the panels of factor k. */
static inline ptrdiff_t ancestor_rows(const layout *lay, int k)
{
    ptrdiff_t rows = 0;
    while (++k < lay->nelim) rows += lay->f[k].p;
    return rows;
}

/* Do levels of the factor meet each other in M, without an eliminated factor's? */
static inline int is_coupled(const factor *f)
{
    return f->relation || f->several;
}

/* Doubles in the panels of factor k */
static inline ptrdiff_t panel_size(const layout *lay, int k)
{
    const factor *f = &lay->f[k];
    const int32_t last = f->node + f->nlev - 1;
    return lay->pan[last] + (ptrdiff_t)lay->ld[last] * f->p;
}

typedef struct { /* columns of a factor that are correlated with each other, a block of T */
    const factor *f;
    int first, k; /* its first column, and their number                                */
    int th, nth;  /* its first parameter: the lower triangle by columns                */
} term;

/* The next term in the order of theta; the first one after {0}. 0: there is none. */
static inline int next_term(const layout *lay, term *t)
{
    int k = 0;
    if (t->f) {
        k = t->f->k;
        t->first += t->k;
        t->th += t->nth;
        if (t->first == t->f->p) k++, t->first = 0;
    }
    if (k == lay->nfactor) return 0;
    t->f = &lay->f[k];
    for (t->k = 1; t->first + t->k < t->f->p && t->f->term[t->first + t->k] == t->first;) t->k++;
    t->nth = t->k * (t->k + 1) / 2;
    return 1;
}

/* In how many parameters second derivatives are taken */
static inline ptrdiff_t moving(const layout *lay)
{
    return lay->moves ? lay->moves : lay->ntheta;
}

/* Place of entry (r, c), r >= c, among a term's parameters */
static inline ptrdiff_t packed_place(int k, int r, int c)
{
    return r + (ptrdiff_t)c * (2 * k - c - 1) / 2;
}

/* Doubles of T of every factor, and its eigenvalues beside it */
static inline ptrdiff_t factors_size(const layout *lay)
{
    ptrdiff_t size = 0, p = 0;
    for (int k = 0; k < lay->nfactor; k++) {
        size += (ptrdiff_t)lay->f[k].p * lay->f[k].p;
        if (lay->f[k].p > p) p = lay->f[k].p;
    }
    return size + p;
}

/* The smallest |diagonal of T|, whitened */
static inline double floor_of(const lmm_model *m)
{
    return FLOOR * m->unit;
}

/* theta.c */
int32_t user_place(const factor *f, int t);
void from_user(const lmm_model *m, const double *user, double *theta);
void set_theta(lmm_model *m, const double *theta, int users, double floor);
/* Is diagonal i of the user's T, d, at the floor? */
int is_pinned(const lmm_model *m, const factor *f, int i, double d);
void triangularize(int k, double *A,
                   int ld); /* A := its lower triangle with nonnegative diagonal, up to rotation */
void theta_of_factors(lmm_model *m, const double *T, double *theta);
void factors_of_theta(const lmm_model *m, const double *theta, double *T, double *work);
void set_axes(lmm_model *m, const term *t, const double *U, const double *s);
void change_coordinates(lmm_model *m, double *theta, int to_user);

#endif
