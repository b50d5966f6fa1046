/* Private: the model's memory. Everything is in elimination order: factors, nodes, columns, theta.

   A node is one level of one factor. Nodes of the first `nelim` factors are eliminated one by one, the
   others are trailing. Each node keeps its diagonal block and a panel: the rows of A below it that are
   not structurally zero, in the order [coarser eliminated factors | trailing nodes | X y]. */

#ifndef LMM_MODEL_H
#define LMM_MODEL_H

#include "lmm.h"
#include "base/team.h"
#include "trailing/trailing.h"

#define BATCH 64    /* nodes that information() handles in one product */
#define TOGETHER 64 /* right-hand sides that are solved for together */
#define LITTLE 1e-4 /* share of y'Wy = n below which r^2 is found without cancellation */
#define FLOOR 1e-7  /* smallest |diagonal of T|, whitened units: moves f by about 1e-14 n */

typedef struct {      /* a change of coordinates: whitened columns = (columns - mean) B    */
    int32_t k;        /* columns                                                           */
    int32_t constant; /* index of the constant column, -1 if there is none                 */
    double *mean;     /* k      zero where not centred                                     */
    double *B;        /* k x k  acts on centred columns (upper triangular)                 */
    double *C;        /* k x k  acts on the user's own columns: user = C whitened          */
} whitening;

typedef struct {           /* a grouping factor, in elimination order                           */
    int32_t p, nlev;       /* columns and levels                                                */
    int32_t node, col;     /* its first node and first column                                   */
    int32_t th, nth;       /* its first parameter and their number                              */
    int32_t user, userth;  /* its place in lmm_data, and its first parameter there              */
    int32_t *thr, *thc;    /* nth    row and column in T of each parameter                      */
    int32_t *term;         /* p      first column of the term each column belongs to            */
    int32_t *perm;         /* nlev   node of each level                                         */
    whitening w;           /* of its columns (block diagonal over its terms)                    */
    double *Cinv;          /* p x p  inverse of w.C                                             */
    double *axes;          /* p x p  orthogonal: whitened columns = axes times turned ones      */
    double *W;             /* p x p  Cinv when theta is in the user's coordinates, axes when turned, NULL when
                                     whitened                                                   */
    double *Tp, *T;        /* p x p  depends: theta. Lower triangle made of theta; T = W Tp     */
    double *D, *S;         /* p x p  depends: T. D = df/dTp (unmasked), S = D Tp^-1 / 2         */
    double *adiag, *apan;  /* A: nlev diagonal blocks; panels                                   */
    double *diag, *pan;    /* Schur complement where this factor's turn comes (A itself if first) */
    double *L;             /* eliminated: chol(T'A_l T + I), nlev blocks                        */
    double *block;         /* sparse: trailing rows of the panels, strip by strip (sparse.c)    */
    int32_t *blocknode;    /* sparse: trailing node of each block, counted inside its strip     */
    ptrdiff_t *blockptr;   /* sparse: nstrip x (nlev+1)  first block of each level              */
    ptrdiff_t *blockstart; /* sparse: nstrip  where a strip's values begin in block             */
    int32_t *listat, *rowat; /* sparse: nlev  scratch of pack                                    */
    double *P;               /* full or nested: panels times T L^-T; nested later: -B_RR A_Rl K_l */
    double *Q;               /* nlev blocks: K_l, then A_lR B_RR A_Rl, then B_ll (B = Lambda M^-1 Lambda') */
} factor;

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

struct lmm_model {
    lmm_blas blas;
    int64_t n;
    int32_t nfactor, nelim; /* grouping factors; eliminated ones (each nested in the next)       */
    int32_t p, pb;          /* kept columns of X; p + 1: with y, the border                      */
    int32_t pfull;          /* columns of X as given                                             */
    int32_t ntheta, nnode;
    int32_t q, q1, q2, s;           /* columns: all, first factor, trailing; s = q2 + pb                 */
    int32_t full;                   /* every eliminated node meets every trailing node: no lists         */
    const trailing *t;              /* how the trailing matrix is held (trailing.h)                      */
    struct sparse_trailing *sparse; /* sparse.c; NULL for other ways                           */
    struct iterative *it;           /* iterative.c; NULL for other ways                                  */
    team *team;                     /* threads that evaluations may use, NULL for one                    */
    double sumlogw;
    double logdetB;                /* log|det| of the whitening of X                                    */
    int32_t *keep;                 /* p      columns of X that are used                                 */
    whitening x;                   /* of X                                                              */
    double xconstant;              /* value of X's constant column                                      */
    double ymean, yscale, *b0;     /* y = ymean + X_w b0 + X beta0 + yscale y_w                      */
    double *beta0;                 /* pfull  the user's coordinates; zero when made of rows           */
    factor *f;                     /* nfactor                                                           */
    int32_t *width;                /* nnode  columns of each node                                       */
    int32_t *nodecol;              /* nnode  first column of each node                                  */
    int32_t *trailcol;             /* nnode  the same, counted from the first trailing column           */
    ptrdiff_t *ptr;                /* nnode+1  list of the nodes each node meets ...                    */
    int32_t *row;                  /*          ... ascending node numbers; empty where full             */
    ptrdiff_t *pan;                /* nnode    start of its panel in its factor's pan                   */
    int32_t *ld;                   /* nnode    rows of its panel                                        */
    int32_t nstrip;                /* trailing columns are cut into strips that fit in cache            */
    int32_t *strip;                /* nstrip+1 first node of each strip                                 */
    double *tile;                  /* scratch: a strip x strip tile, blocks padded, for every worker  */
    ptrdiff_t ntile, largest_tile; /* size of one worker's, of its tile alone                     */
    int tiles;                     /* workers that tile has room for                              */
    double *border;                /* pb x pb  [X y]'W[X y], lower                                      */
    double *S;                     /* dense: s x s  Schur complement, lower; depends: theta             */
    double *L;        /* dense: s x s  chol of the scaled S; later (Lambda M^-1 Lambda')_trailing */
    double *cholesky; /* dense: scratch of the inverse (cholesky.c)                        */
    ptrdiff_t lde;    /* leading dimension of the edges: the rows of X and y, pb x (q2 + pb) */
    double *Se, *Le;  /* edges of S and of its factor; their last pb columns are the corner */
    double *first;    /* B_Rl of the first factor, laid out as its panels; NULL: not asked for yet */
    double *H;        /* pb x q   coefficients of [X y] on Z: Lambda M^-1 Lambda'Z'W[X y]  */
    double *Y;        /* pb x q   Z'V^-1[X y]; then [R^-1 X'V^-1 Z; g'], C = R R', g = Z'Py */
    double *beta;     /* p        whitened; depends: L                                     */
    double r2, logdetM, logdetC;
    double size; /* what r^2 is the difference of: y'Wy, or more where coefficients cancel */
    standing at;
    int turned;   /* is theta, when it is not the user's, in turned coordinates? (during a fit) */
    double *work; /* scratch of fixed size, see setup                                  */
    ptrdiff_t nwork;
    double *V;      /* scratch of the curvature: ntheta x (q - q1 + pb)                  */
    double *tmp;    /* scratch of small blocks                                           */
    double *newton; /* scratch of the minimizer                                          */
    int32_t *pos;   /* nnode  scratch: place of a node in a list                         */
    void *memory;   /* every block that lmm_free frees                                   */
};

/* Rows of the coarser eliminated factors, which stand first in the panels of factor k. */
static inline ptrdiff_t ancestor_rows(const lmm_model *m, int k)
{
    ptrdiff_t rows = 0;
    while (++k < m->nelim) rows += m->f[k].p;
    return rows;
}

/* moments.c */
lmm_status whiten(whitening *w, int64_t n, const double *x, ptrdiff_t rowstride, ptrdiff_t colstride,
                  const double *weight, uint8_t *keep);
lmm_status center_response(lmm_model *m, const lmm_data *d, double *out);
void whitened_row(const lmm_model *m, const lmm_data *d, int64_t i, double *out);

/* theta.c */
int32_t user_place(const factor *f, int t);
void from_user(const lmm_model *m, const double *user, double *theta);
void set_theta(lmm_model *m, const double *theta, int users, double floor);
int is_pinned(const factor *f, int i); /* is diagonal i of the last T at the floor? */
void triangularize(int k, double *A, int ld);
void triangularize_theta(lmm_model *m, double *theta);
void turn(lmm_model *m, double *theta, double *work);
void turn_back(lmm_model *m, double *theta);
void change_coordinates(lmm_model *m, double *theta, int to_user);

/* state.c: evaluate, then derivatives of the same T; or what a reading needs at the theta where the model
   stands: T with such zeros, at least this state, and the trailing factor if `factor` */
double degrees(const lmm_model *m, int reml);
double evaluate(lmm_model *m, int reml);
void derivatives(lmm_model *m, int reml, double *g, double *H);
lmm_status evaluate_there(lmm_model *m, zeros wanted, int factor);
lmm_status bring(lmm_model *m, zeros wanted, lmm_state least, int factor);

/* factor.c, border.c, curvature.c, gradient.c: in this order, for one T */
lmm_status factorize(lmm_model *m);
void solve_border(lmm_model *m);
void refine_residual(lmm_model *m); /* residual.c: solve_border, and r^2 where it is little */
void information(lmm_model *m, double nu, double *H);
void differentiate(lmm_model *m, int reml, double nu);
void add_boundary_curvature(const lmm_model *m, double *H);

/* sparse.c */
void sparse_free(lmm_model *m);

/* tiles.c */
void pack(lmm_model *m, int k);
void downdate_tiles(lmm_model *m, int k);
void downdate_edge(lmm_model *m, int k);
void gather_tiles(lmm_model *m, int k);
lmm_status allocate_tiles(lmm_model *m, int workers);

#endif
