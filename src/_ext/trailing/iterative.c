/* The trailing matrix by conjugate gradients: S is never formed, only multiplied by blocks of vectors,

     S x = A_RR x - sum_l A_Rl K_l (A_lR x),   M = T'S T + I   (T: of every trailing level)

   over the levels l of every eliminated factor; A_Rl of a factor that contains another one is what the
   other's elimination has left of it.

   Everything happens in coordinates in which the diagonal blocks of M are identities. With P_l = L_l L_l' the
   diagonal blocks of M, G_l = L_l^-T and F_l = T G_l:

     E + I = G'M G = F'S F + G'G,   B = T M^-1 T' = F (I + E)^-1 F'

   E has no diagonal blocks. For crossed factors its eigenvalues are small but for a few, of smooth vectors
   (what the factors cannot tell apart: the constant), so few iterations are needed (measured: 5 to 10).

   What is exact, to the tolerance of the iterations: the edge (X and y) and the average information. What
   is estimated: log|I + E| and the blocks of B, by random signs u with u u' = I in expectation. Two exact
   parts leave little to chance (measured: a variance 4,000 times smaller):

     - the smooth vectors V, k orthonormal columns fixed at set-up, are taken out of the probes and count
       whole: I = V V' + mean of v v', v = (I - V V') u, whatever V is;
     - terms of first order in E have no trace and are dropped:

       log|I + E|   = sum_u w_u (u'log(I + E) u - u'E u)                    w: 1 for V, 1/r for the r probes
       B            = F F' + sum_u w_u F (y - u) u'F',                      (I + E) y = u
       Z'V^-1 Z_ll  = S_ll N_l - N_l'[sum_u w_u a_l b_l'] N_l,              N_l = (I + T T'S_ll)^-1
                      a = S_off F u, b = S_off F y                          S_off: S without diagonal blocks

   u'log(I + E) u comes from the coefficients of the iterations (Golub & Meurant; Gardner et al. 2018). The
   last form is symmetric and has no inverse of T: the gradient vanishes exactly where a column of T does.

   Vectors stand in blocks of 4 or 8 lanes, one after the other; a block is the unit of parallel work, so no
   result depends on the number of threads. */

#include <stdlib.h>

#include "base/memory.h"
#include "trailing/lanes.h"
#include "trailing/lines.h"

#define EXPECTED 30    /* iterations, for a cost */
#define ROUNDS 3       /* of inverse iteration for V */
#define EDGE 1e-11     /* relative residuals: X and y, */
#define CURVATURE 1e-9 /* the average information, */
#define PROBE 1e-5     /* and probes (1e-4 moves the gradient by 4 % of their own error) */
#define WORK 7         /* vectors of a thread */
#define PROBES 16      /* random vectors: their error is far below the data's (measured) */

/* --------------------------------------------------------------------------------------- factorization -- */

/* Se := A's rows of X and y over the trailing columns, and the corner; S_ll := A_ll */
static void iterative_load(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    const ptrdiff_t pb = lay->pb;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            for (int c = 0; c < f->p; c++)
                memcpy(it->base.Se + (lay->trailcol[e] + c) * pb,
                       m->sums.A[k].pan + lay->pan[e] + (c + 1) * (ptrdiff_t)lay->ld[e] - pb,
                       sizeof(double) * (size_t)pb);
        memcpy(it->S + it->at[k], m->sums.A[k].diag,
               sizeof(double) * (size_t)f->nlev * (size_t)(f->p * f->p));
    }
    memcpy(it->base.Se + lay->q2 * pb, m->sums.border, sizeof(double) * (size_t)(pb * pb));
}

/* S_jj -= A_jl K_l A_lj over the levels of an eliminated factor */
INLINE void downdate_blocks(const int p, iterative *it, lmm_model *m, int eliminated)
{
    const layout *lay = &m->layout;
    const double *K = it->K + it->at[eliminated];
    double *C = m->scratch.tmp;
    for (int32_t l = 0; l < lay->f[eliminated].nlev; l++, K += p * p) {
        const trailing_part part = trailing_rows(m, eliminated, lay->f[eliminated].node + l);
        const double *a = part.a;
        const ptrdiff_t ld = part.ld;
        int k = lay->nelim;
        for (ptrdiff_t i = part.begin; i < part.end; i++) {
            const int32_t e = lay->row[i];
            while (e >= lay->f[k].node + lay->f[k].nlev) k++;
            const int w = lay->f[k].p;
            double *S = it->S + it->at[k] + (ptrdiff_t)(e - lay->f[k].node) * w * w;
            mul(w, p, p, 0, a, (int)ld, K, p, C, w);
            for (int c = 0; c < w; c++)
                for (int r = 0; r < w; r++)
                    for (int x = 0; x < p; x++) S[r + c * w] -= C[r + x * w] * a[c + x * ld];
            a += w;
        }
    }
}

CLONES static void iterative_downdate(trailing *t, lmm_model *m, int k)
{
    iterative *it = (iterative *)t;
    const factor *f = &m->layout.f[k];
    factor_state *fs = &m->evaluation.f[k];
    memcpy(it->K + it->at[k], fs->K, sizeof(double) * (size_t)f->nlev * (size_t)(f->p * f->p));
    BY_WIDTH(f->p, downdate_blocks, it, m, k)
    downdate_edge(t, m, k);
}

/* L, G, F, G'G and N of one trailing factor's levels; log|P| */
INLINE int scale_levels(const int p, iterative *it, lmm_model *m, int k)
{
    const factor *f = &m->layout.f[k];
    factor_state *fs = &m->evaluation.f[k];
    double *tmp = m->scratch.tmp, *X = tmp + p * p;
    for (ptrdiff_t l = 0, at = it->at[k]; l < f->nlev; l++, at += p * p) {
        double *L = it->L + at, *G = it->G + at, *F = it->F + at, *N = it->N + at;
        symmetrize(p, it->S + at);
        scaled_block(p, it->S + at, fs->T, L, tmp);
        if (chol(p, L)) return 1;
        for (int i = 0; i < p; i++) m->evaluation.logdetM += 2 * log(L[i + i * p]);
        for (int i = 0; i < p * p; i++) G[i] = i % (p + 1) == 0;
        solve_right_t(p, L, p, G, p);
        mul(p, p, p, 0, fs->T, p, G, p, F, p);
        tmul(p, p, p, 0, G, p, G, p, it->I + at, p);
        mult(p, p, p, 0, F, p, F, p, X, p); /* N = I - F F'S: (I + T T'S)^-1 = I - T P^-1 T'S */
        mul(p, p, p, 0, X, p, it->S + at, p, N, p);
        for (int i = 0; i < p * p; i++) N[i] = (i % (p + 1) == 0) - N[i];
    }
    return 0;
}

#define SCALE(p, it, m, k, failed) failed = scale_levels(p, it, m, k)

CLONES static int scale_blocks(iterative *it, lmm_model *m)
{
    const layout *lay = &m->layout;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        int failed = 0;
        BY_WIDTH(lay->f[k].p, SCALE, it, m, k, failed)
        if (failed) return 1;
    }
    return 0;
}

/* lanes of a block from rows first, first + 1, ... of X (n columns, leading dimension ld) */
static void rows_to_lanes(ptrdiff_t n, const double *X, ptrdiff_t ld, int first, int rows, int nv,
                          double *out)
{
    for (ptrdiff_t c = 0; c < n; c++)
        for (int i = 0; i < 4 * nv; i++) out[c * 4 * nv + i] = i < rows ? X[first + i + c * ld] : 0;
}

static void lanes_to_rows(ptrdiff_t n, const double *x, int nv, double *X, ptrdiff_t ld, int first, int rows)
{
    for (ptrdiff_t c = 0; c < n; c++)
        for (int i = 0; i < rows; i++) X[first + i + c * ld] = x[c * 4 * nv + i];
}

static int rows_of(int all, int b)
{
    return all - b * LANES < LANES ? all - b * LANES : LANES;
}

static int lanes_for(int rows)
{
    return rows <= 4 ? 1 : 2;
}

/* One block of an evaluation: first those of the edge, which take longest. */
static void run_block(void *arg, int64_t i, int worker)
{
    const evaluation_task *task = arg;
    iterative *it = task->it;
    lmm_model *m = task->m;
    const layout *lay = &m->layout;
    if (i < it->nedge) {
        block *b = &it->block[it->nblock + i];
        double *x = it->part[worker];
        rows_to_lanes(lay->q2, it->base.Se, it->base.lde, (int)i * LANES, rows_of(lay->pb, (int)i), b->nv, x);
        blocks_times(it, m, b->nv, it->F, 1, x, b->u);
        solve_block(it, m, b, EDGE, worker);
        return;
    }
    i -= it->nedge;
    block *b = &it->block[i];
    if (i) project_signs(lay->q2, it->sign + (i - 1) * lay->q2, it->block[0].u, b->u);
    solve_block(it, m, b, PROBE, worker);
}

/* Corner of Le := S_bb - S_bR B S_Rb */
CLONES static void make_corner(iterative *it, lmm_model *m)
{
    const layout *lay = &m->layout;
    const ptrdiff_t pb = lay->pb;
    double *C = it->base.Le + lay->q2 * it->base.lde;
    memcpy(C, it->base.Se + lay->q2 * it->base.lde, sizeof(double) * (size_t)(pb * pb));
    for (int bc = 0; bc < it->nedge; bc++)
        for (int br = bc; br < it->nedge; br++) {
            const block *c = &it->block[it->nblock + bc], *r = &it->block[it->nblock + br];
            double sum[LANES * LANES] = {0};
            const int lr = 4 * r->nv, lc = 4 * c->nv;
            for (ptrdiff_t i = 0; i < lay->q2; i++)
                for (int a = 0; a < lc; a++)
                    for (int e = 0; e < lr; e++) sum[e + a * LANES] += r->u[i * lr + e] * c->y[i * lc + a];
            for (int a = 0; a < rows_of(lay->pb, bc); a++)
                for (int e = br == bc ? a : 0; e < rows_of(lay->pb, br); e++)
                    C[br * LANES + e + (bc * LANES + a) * pb] -= sum[e + a * LANES];
        }
}

static lmm_status iterative_factorize(trailing *t, lmm_model *m)
{
    iterative *it = (iterative *)t;
    evaluation_task task = {it, m};
    it->base.failed = 0;
    if (scale_blocks(it, m)) return LMM_NOTPOSDEF;
    if (!it->ready) {
        for (int i = 0; i < ROUNDS && !refine_directions(it, m); i++) continue; /* any V will do */
        it->ready = 1;
        return LMM_OK;
    }
    scale_directions(it, m);
    team_run(m->team, it->nedge + it->nblock, run_block, &task);
    for (int b = 0; b < it->nblock + it->nedge; b++) it->base.failed |= it->block[b].failed;
    if (it->base.failed) return LMM_NOTPOSDEF;
    estimate_logarithm(it, m);
    m->evaluation.logdetM += it->logdet;
    make_corner(it, m);
    return factorize_corner(t, m);
}

/* ----------------------------------------------------------------------------------------- exact parts -- */

/* H := S_bR B = (F y)' */
static void iterative_border(trailing *t, lmm_model *m, double *H)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    for (int i = 0; i < it->nedge; i++) {
        const block *b = &it->block[it->nblock + i];
        blocks_times(it, m, b->nv, it->F, 0, b->y, it->part[0]);
        lanes_to_rows(lay->q2, it->part[0], b->nv, H, lay->pb, i * LANES, rows_of(lay->pb, i));
    }
}

static void iterative_solve(trailing *t, lmm_model *m, int r, double *X)
{
    iterative *it = (iterative *)t;
    const int q2 = m->layout.q2;
    const ptrdiff_t size = vector_size(m);
    double *x = it->part[0];
    for (int i = 0; i * LANES < r; i++) {
        const int rows = rows_of(r, i);
        block b = {.nv = lanes_for(rows), .u = x + (WORK - 2) * size, .y = x + (WORK - 1) * size};
        rows_to_lanes(q2, X, r, i * LANES, rows, b.nv, x);
        blocks_times(it, m, b.nv, it->F, 1, x, b.u);
        solve_block(it, m, &b, EDGE, 0);
        t->failed |= b.failed;
        blocks_times(it, m, b.nv, it->F, 0, b.y, x);
        lanes_to_rows(q2, x, b.nv, X, r, i * LANES, rows);
    }
}

static void iterative_times(trailing *t, lmm_model *m, int r, double alpha, const double *V, double *W)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    double *x = it->part[0], *y = x + vector_size(m);
    for (int b = 0; b * LANES < r; b++) {
        const int rows = rows_of(r, b), nv = lanes_for(rows);
        rows_to_lanes(lay->q2, V, r, b * LANES, rows, nv, x);
        trailing_times(m, nv, x, y);
        eliminated(it, m, nv, x, y, it->small);
        for (ptrdiff_t c = 0; c < lay->q2; c++)
            for (int i = 0; i < rows; i++) W[b * LANES + i + c * r] += alpha * y[c * 4 * nv + i];
    }
}

typedef struct { /* the average information's right-hand sides */
    iterative *it;
    lmm_model *m;
    double *w, *Q;
} information_task;

/* Q -= w y' for one block y of (I + E) y = w */
static void information_block(void *arg, int64_t i, int worker)
{
    information_task *t = arg;
    iterative *it = t->it;
    lmm_model *m = t->m;
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta, size = vector_size(m);
    const int rows = rows_of(lay->ntheta, (int)i);
    block b = {.nv = lanes_for(rows), .u = it->part[worker] + (WORK - 2) * size};
    b.y = b.u + size;
    rows_to_lanes(lay->q2, t->w, N, (int)i * LANES, rows, b.nv, b.u);
    solve_block(it, m, &b, CURVATURE, worker);
    if (b.failed) __atomic_store_n(&it->base.failed, 1, __ATOMIC_RELAXED);
    double *Q = t->Q + i * LANES * N;
    for (int f = 0; f < rows; f++)
        for (ptrdiff_t e = 0; e < N; e++) {
            double sum = 0;
            for (ptrdiff_t c = 0; c < lay->q2; c++) sum += t->w[e + c * N] * b.y[c * 4 * b.nv + f];
            Q[e + f * N] -= sum;
        }
}

/* w := w G; Q -= w (I + E)^-1 w' + t C^-1 t',  t = w_X - w (I + E)^-1 F'S_RX */
CLONES static void iterative_quadratic(trailing *t, lmm_model *m, int r, int p, double *w, double *Q)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    const ptrdiff_t N = r;
    char none = 'N', trans = 'T';
    double one = 1, minus = -1, *wX = w + lay->q2 * N;
    int n = r;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const int width = lay->f[k].p;
        double *x = w + lay->trailcol[lay->f[k].node] * N, *G = it->G + it->at[k];
        for (int32_t l = 0; l < lay->f[k].nlev; l++, x += width * N, G += width * width) {
            mul((int)N, width, width, 0, x, (int)N, G, width, m->scratch.tmp, (int)N);
            memcpy(x, m->scratch.tmp, sizeof(double) * (size_t)(N * width));
        }
    }
    information_task task = {.it = it, .m = m, .w = w, .Q = Q};
    team_run(m->team, (lay->ntheta + LANES - 1) / LANES, information_block, &task);
    if (!p) return;
    for (int a = 0; a < p; a++) {
        const block *b = &it->block[it->nblock + a / LANES];
        for (ptrdiff_t c = 0; c < lay->q2; c++) {
            const double y = b->y[c * 4 * b->nv + a % LANES];
            for (ptrdiff_t e = 0; e < N; e++) wX[e + a * N] -= w[e + c * N] * y;
        }
    }
    rows_solve(m, n, p, it->base.Le + lay->q2 * it->base.lde, (int)it->base.lde, 1, wX);
    m->blas.gemm(&none, &trans, &n, &n, &p, &minus, wX, &n, wX, &n, &one, Q, &n);
}

/* ---------------------------------------------------------------------------------------------- set-up -- */

static int widest(const lmm_model *m)
{
    const layout *lay = &m->layout;
    int p = 1;
    for (int k = 0; k < lay->nfactor; k++)
        if (lay->f[k].p > p) p = lay->f[k].p;
    return p;
}

/* Blocks of V and the probes */
static int blocks_for(int probes)
{
    return 1 + (probes < LANES ? LANES : probes + LANES - 1) / LANES;
}

double iterative_bytes(const lmm_model *m)
{
    const layout *lay = &m->layout;
    const double vector = 8. * LANES * (lay->q2 + 1.), edges = (lay->pb + LANES - 1) / LANES,
                 blocks = blocks_for(PROBES);
    double bytes = vector * (2 * (blocks + edges) + WORK + 1) + (blocks - 1) * lay->q2;
    for (int k = 0; k < lay->nfactor; k++)
        bytes += (k < lay->nelim ? 8 * (blocks + 1) : 48) * lay->f[k].nlev * lay->f[k].p * lay->f[k].p;
    bytes += 16. * 8 * LANES * containing(lay) + 16. * lay->pb * (lay->q2 + lay->pb);
    return bytes + blocks * 16. * NODES * LANES + 8. * NODES * (NODES + 40.);
}

double iterative_flops(const lmm_model *m, double entries)
{
    const layout *lay = &m->layout;
    const double lanes = LANES * blocks_for(PROBES) + 4. * ((lay->pb + 3) / 4) + 4. * ((lay->ntheta + 3) / 4);
    return EXPECTED * 4 * entries * lanes;
}

/* A vector that begins with a cache line */
static double *grab_vectors(iterative *it, const lmm_model *m, ptrdiff_t count)
{
    double *x = grab(&it->base.memory, (size_t)(count * vector_size(m) + 8), sizeof(double));
    return x ? x + (64 - (uintptr_t)x % 64) % 64 / sizeof(double) : NULL;
}

#define GRAB_VECTORS(it, m, field, count) \
    if (!((field) = grab_vectors(it, m, count))) return LMM_NOMEM

static lmm_status allocate_blocks(iterative *it, lmm_model *m)
{
    const layout *lay = &m->layout;
    GRAB(&it->base, it->block, it->nblock + it->nedge);
    for (int i = 0; i < it->nblock + it->nedge; i++) {
        block *b = &it->block[i];
        b->nv = i < it->nblock ? LANES / 4 : lanes_for(rows_of(lay->pb, i - it->nblock));
        GRAB_VECTORS(it, m, b->u, 1);
        GRAB_VECTORS(it, m, b->y, 1);
        if (i >= it->nblock) continue;
        GRAB(&it->base, b->alpha, NODES * LANES);
        GRAB(&it->base, b->beta, NODES * LANES);
        GRAB(&it->base, b->Q, it->nK);
        GRAB(&it->base, b->R, LANES * it->nR);
    }
    return LMM_OK;
}

static void iterative_free(trailing *t)
{
    iterative *it = (iterative *)t;
    free(it->part), free(it->vectors), free(it->small);
    it->part = NULL;
    it->vectors = it->small = NULL;
    it->threads = 0;
}

/* Each worker's vectors begin with a cache line, in one block of memory. */
static lmm_status iterative_threads(trailing *t, const lmm_model *m, int threads)
{
    iterative *it = (iterative *)t;
    if (threads <= it->threads) return LMM_OK;
    const ptrdiff_t p = widest(m), size = WORK * vector_size(m) + 2 * LANES * containing(&m->layout) + 8,
                    line = 64 / sizeof(double);
    const ptrdiff_t stride = (size + line - 1) / line * line, smallsize = 4 * p * LANES + p * p + 8;
    double **part = calloc((size_t)threads, sizeof(*part));
    double *vectors = calloc((size_t)(threads * stride + line), sizeof(*vectors));
    double *small = calloc((size_t)(threads * smallsize), sizeof(*small));
    if (!part || !vectors || !small) {
        free(part), free(vectors), free(small);
        return LMM_NOMEM;
    }
    iterative_free(t);
    for (int i = 0; i < threads; i++)
        part[i] = vectors + (64 - (uintptr_t)vectors % 64) % 64 / sizeof(double) + i * stride;
    it->part = part;
    it->vectors = vectors;
    it->small = small;
    it->smallsize = smallsize;
    it->threads = threads;
    return LMM_OK;
}

static lmm_status iterative_make(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    ptrdiff_t blocks = 0;
    it->nblock = blocks_for(PROBES);
    it->probes = (it->nblock - 1) * LANES;
    it->nedge = (lay->pb + LANES - 1) / LANES;
    GRAB(&it->base, it->at, lay->nfactor);
    for (int k = 0; k < lay->nfactor; k++) {
        const ptrdiff_t pp = (ptrdiff_t)lay->f[k].p * lay->f[k].p;
        it->nR += pp;
        if (k == lay->nelim) {
            it->nK = blocks;
            blocks = 0;
        }
        it->at[k] = blocks;
        blocks += lay->f[k].nlev * pp;
    }
    GRAB(&it->base, it->S, blocks);
    GRAB(&it->base, it->L, blocks);
    GRAB(&it->base, it->F, blocks);
    GRAB(&it->base, it->G, blocks);
    GRAB(&it->base, it->I, blocks);
    GRAB(&it->base, it->N, blocks);
    GRAB(&it->base, it->K, it->nK);
    GRAB_VECTORS(it, m, it->W, 1);
    GRAB(&it->base, it->sign, (it->nblock - 1) * (ptrdiff_t)lay->q2);
    TRY(iterative_threads(t, m, 1));
    GRAB(&it->base, it->nodes, NODES * (NODES + 40));
    it->base.lde = lay->pb;
    GRAB(&it->base, it->base.Se, it->base.lde * (lay->q2 + lay->pb));
    GRAB(&it->base, it->base.Le, it->base.lde * (lay->q2 + lay->pb));
    return allocate_blocks(it, m);
}

/* The next factorization fixes the directions of this A, whatever was there before. */
static void iterative_begin(trailing *t, const lmm_model *m)
{
    iterative *it = (iterative *)t;
    draw_probes(it, m);
    it->ready = 0;
}

static const trailing_steps ITERATIVE = {.make = iterative_make,
                                         .free = iterative_free,
                                         .threads = iterative_threads,
                                         .begin = iterative_begin,
                                         .load = iterative_load,
                                         .downdate = iterative_downdate,
                                         .factorize = iterative_factorize,
                                         .border = iterative_border,
                                         .times = iterative_times,
                                         .quadratic = iterative_quadratic,
                                         .invert = iterative_invert,
                                         .gather = iterative_gather,
                                         .product = iterative_product,
                                         .estimated = iterative_estimated,
                                         .solve = iterative_solve,
                                         .scores = iterative_scores};

trailing *iterative_new(void)
{
    iterative *it = calloc(1, sizeof(*it));
    if (!it) return NULL;
    it->base.steps = &ITERATIVE;
    return &it->base;
}
