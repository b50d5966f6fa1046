/* The trailing matrix by conjugate gradients: S is never formed, only multiplied by blocks of vectors,

     S x = A_RR x - sum_l A_Rl K_l (A_lR x),   M = T'S T + I   (T: of every trailing level)

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

#define EXPECTED 30    /* of them, for a cost */
#define ROUNDS 3       /* of inverse iteration for V */
#define EDGE 1e-11     /* relative residuals: X and y, */
#define CURVATURE 1e-9 /* the average information, */
#define PROBE 1e-5     /* probes (1e-4 moves the gradient by 4 % of their own error), */
#define ROUGH 1e-2     /* and V */
#define WORK 7         /* vectors of a thread */
#define PROBES 16      /* random vectors: their error is far below the data's (measured) */

/* ------------------------------------------------------------------------------------ V and the probes -- */

/* Orthonormal lanes; one that depends on those before it becomes zero. */
CLONES static void orthonormalize(ptrdiff_t n, double *V)
{
    for (int j = 0; j < LANES; j++)
        for (int pass = 0; pass < 2; pass++) {
            double dot[LANES] = {0}, before = 0, after = 0;
            for (ptrdiff_t i = 0; i < n; i++) {
                before += V[i * LANES + j] * V[i * LANES + j];
                for (int c = 0; c < j; c++) dot[c] += V[i * LANES + c] * V[i * LANES + j];
            }
            for (ptrdiff_t i = 0; i < n; i++) {
                for (int c = 0; c < j; c++) V[i * LANES + j] -= dot[c] * V[i * LANES + c];
                after += V[i * LANES + j] * V[i * LANES + j];
            }
            const double scale = after > 1e-20 * before && after > 0 ? 1 / sqrt(after) : 0;
            for (ptrdiff_t i = 0; i < n; i++) V[i * LANES + j] *= scale;
        }
}

/* V of this evaluation: L'W, orthonormal */
static void scale_directions(iterative *it, lmm_model *m)
{
    blocks_times(it, m, LANES / 4, it->L, 1, it->W, it->block[0].u);
    orthonormalize(m->layout.q2, it->block[0].u);
}

/* u := (I - V V') signs */
CLONES static void project_signs(ptrdiff_t n, const uint8_t *sign, const double *V, double *u)
{
    double C[LANES * LANES] = {0};
    for (ptrdiff_t i = 0; i < n; i++)
        for (int j = 0; j < LANES; j++) {
            u[i * LANES + j] = sign[i] >> j & 1 ? 1 : -1;
            for (int c = 0; c < LANES; c++) C[c + j * LANES] += V[i * LANES + c] * u[i * LANES + j];
        }
    for (ptrdiff_t i = 0; i < n; i++)
        for (int j = 0; j < LANES; j++)
            for (int c = 0; c < LANES; c++) u[i * LANES + j] -= V[i * LANES + c] * C[c + j * LANES];
}

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Signs of the probes; W: the constants of trailing columns, the other lanes random. */
static void draw(iterative *it, lmm_model *m)
{
    const layout *lay = &m->layout;
    uint64_t state = 20240229;
    const ptrdiff_t n = lay->q2;
    for (ptrdiff_t i = 0; i < (it->nblock - 1) * n; i++) it->sign[i] = (uint8_t)(splitmix(&state) >> 32);
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint64_t bits = splitmix(&state);
        for (int j = 0; j < LANES; j++) it->W[i * LANES + j] = bits >> (8 + j) & 1 ? 1 : -1;
    }
    for (int k = 1, lane = 0; k < lay->nfactor; k++)
        for (int c = 0; c < lay->f[k].p && lane < LANES / 2; c++, lane++) {
            for (ptrdiff_t i = 0; i < n; i++) it->W[i * LANES + lane] = 0;
            for (int32_t l = 0; l < lay->f[k].nlev; l++)
                it->W[(lay->trailcol[lay->f[k].node + l] + c) * (ptrdiff_t)LANES + lane] = 1;
        }
}

/* W := G (I + E)^-1 V: one round of inverse iteration */
static int refine_directions(iterative *it, lmm_model *m)
{
    scale_directions(it, m);
    solve_block(it, m, &it->block[0], ROUGH, 0);
    if (it->block[0].failed) return 1;
    orthonormalize(m->layout.q2, it->block[0].y);
    blocks_times(it, m, LANES / 4, it->G, 0, it->block[0].y, it->W);
    return 0;
}

/* log|I + E| and its standard error */
static void estimate_logarithm(iterative *it, lmm_model *m)
{
    const int r = it->probes;
    double exact = 0, sum = 0, squares = 0;
    for (int b = 0; b < it->nblock; b++)
        for (int i = 0; i < LANES; i++) {
            const block *own = &it->block[b];
            const double v = quadrature(it, m, own, i) - (own->ue[i] - own->uu[i]);
            if (b == 0)
                exact += v;
            else {
                sum += v;
                squares += v * v;
            }
        }
    it->logdet = exact + sum / r;
    it->base.deviation = sqrt(fmax(0, squares - sum * sum / r) / (r - 1) / r);
}

/* --------------------------------------------------------------------------------------- factorization -- */

/* Se := A's rows of X and y over the trailing columns, and the corner; S_ll := A_ll */
static void iterative_load(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    const ptrdiff_t pb = lay->pb;
    for (int k = 1; k < lay->nfactor; k++) {
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

/* S_jj -= A_jl K_l A_lj */
INLINE void downdate_blocks(const int p, iterative *it, lmm_model *m)
{
    const layout *lay = &m->layout;
    double *C = m->scratch.tmp;
    for (ptrdiff_t l = 0; l < lay->f[0].nlev; l++) {
        const double *K = it->K + l * p * p, *a = m->evaluation.f[0].pan + lay->pan[l];
        const int ld = lay->ld[l];
        int k = 1;
        for (ptrdiff_t i = lay->ptr[l]; i < lay->ptr[l + 1]; i++) {
            const int32_t e = lay->row[i];
            while (e >= lay->f[k].node + lay->f[k].nlev) k++;
            const int w = lay->f[k].p;
            double *S = it->S + it->at[k] + (ptrdiff_t)(e - lay->f[k].node) * w * w;
            mul(w, p, p, 0, a, ld, K, p, C, w);
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
    memcpy(it->K, fs->K, sizeof(double) * (size_t)f->nlev * (size_t)(f->p * f->p));
    BY_WIDTH(f->p, downdate_blocks, it, m)
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
    for (int k = 1; k < lay->nfactor; k++) {
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

typedef struct { /* what a block of an evaluation needs */
    iterative *it;
    lmm_model *m;
} evaluation_task;

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
CLONES static void iterative_quadratic(trailing *t, lmm_model *m, double *w, double *Q)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    const ptrdiff_t N = lay->ntheta;
    char none = 'N', trans = 'T';
    double one = 1, minus = -1, *wX = w + lay->q2 * N;
    int n = lay->ntheta, p = lay->p;
    for (int k = 1; k < lay->nfactor; k++) {
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

/* ----------------------------------------------------------------------------------------- derivatives -- */

/* R of a trailing factor: sum_l N_l'a_l b_l'N_l of each lane; a, b := S_off times F u and F y */
INLINE void derive_trailing(const int p, const iterative *it, const lmm_model *m, int k, block *b,
                            const double *Fy, const double *Fu, const double *y, const double *u,
                            double *small)
{
    const layout *lay = &m->layout;
    const int nv = LANES / 4;
    const factor *f = &lay->f[k];
    vec4 *ty = (vec4 *)small, *tu = ty + p * nv, *s = tu + p * nv, *z = s + p * nv;
    ptrdiff_t place = 0;
    for (int j = 0; j < k; j++) place += lay->f[j].p * lay->f[j].p;
    for (ptrdiff_t l = 0, at = it->at[k]; l < f->nlev; l++, at += p * p) {
        const ptrdiff_t col = (ptrdiff_t)lay->trailcol[f->node + l] * nv;
        block_times(p, nv, it->S + at, 0, (const vec4 *)Fy + col, ty);
        block_times(p, nv, it->S + at, 0, (const vec4 *)Fu + col, tu);
        for (int i = 0; i < p * nv; i++) {
            ty[i] = ((const vec4 *)y)[col + i] - ty[i];
            tu[i] = ((const vec4 *)u)[col + i] - tu[i];
        }
        block_times(p, nv, it->N + at, 1, ty, s);
        block_times(p, nv, it->N + at, 1, tu, z);
        for (int c = 0; c < p; c++)
            for (int r = 0; r <= c; r++)
                for (int v = 0; v < nv; v++) {
                    const vec4 n = s[r * nv + v] * z[c * nv + v] + s[c * nv + v] * z[r * nv + v];
                    for (int i = 0; i < 4; i++) b->R[(v * 4 + i) * it->nR + place + r + c * p] += 0.5 * n[i];
                }
    }
}

/* One block's part in the derivatives */
CLONES static void derive_block(void *arg, int64_t i, int worker)
{
    const evaluation_task *task = arg;
    iterative *it = task->it;
    lmm_model *m = task->m;
    const layout *lay = &m->layout;
    block *b = &it->block[i];
    const ptrdiff_t size = vector_size(m);
    double *Fy = it->part[worker], *Fu = Fy + size, *y = Fu + size, *u = y + size;
    double *small = it->small + worker * it->smallsize, weight[LANES];
    for (int j = 0; j < LANES; j++) weight[j] = i ? 1. / it->probes : 1;
    memset(b->R, 0, sizeof(double) * LANES * (size_t)it->nR);
    blocks_times(it, m, LANES / 4, it->F, 0, b->y, Fy);
    blocks_times(it, m, LANES / 4, it->F, 0, b->u, Fu);
    trailing_times(m, LANES / 4, Fy, y);
    trailing_times(m, LANES / 4, Fu, u);
    derive(it, m, b, weight, Fy, Fu, y, u, small);
    for (int k = 1; k < lay->nfactor; k++)
        BY_WIDTH(lay->f[k].p, derive_trailing, it, m, k, b, Fy, Fu, y, u, small)
}

/* D := (sum_l S_ll N_l - sum_u w R) T of a trailing factor */
static void trailing_gradient(const iterative *it, lmm_model *m, int k, ptrdiff_t place)
{
    const factor *f = &m->layout.f[k];
    factor_state *fs = &m->evaluation.f[k];
    const int p = f->p;
    double *X = m->scratch.tmp;
    memset(X, 0, sizeof(double) * (size_t)(p * p));
    for (ptrdiff_t l = 0, at = it->at[k]; l < f->nlev; l++, at += p * p)
        mul(p, p, p, 1, it->S + at, p, it->N + at, p, X, p);
    symmetrize(p, X);
    for (int b = 0; b < it->nblock; b++)
        for (int i = 0; i < LANES; i++) {
            const double w = b ? 1. / it->probes : 1, *R = it->block[b].R + i * it->nR + place;
            for (int c = 0; c < p; c++)
                for (int r = 0; r < p; r++) X[r + c * p] -= w * (r <= c ? R[r + c * p] : R[c + r * p]);
        }
    mul(p, p, p, 1, X, p, fs->T, p, fs->D, p);
}

static void iterative_invert(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    evaluation_task task = {it, m};
    team_run(m->team, it->nblock, derive_block, &task);
    ptrdiff_t place = 0;
    for (int k = 0; k < lay->nfactor; k++) {
        if (k) trailing_gradient(it, m, k, place);
        place += lay->f[k].p * lay->f[k].p;
    }
}

/* Q_l := A_lR F F'A_Rl + what the blocks have */
INLINE void gather_exact(const int p, iterative *it, lmm_model *m)
{
    const layout *lay = &m->layout;
    double *X = m->scratch.tmp;
    for (ptrdiff_t l = 0; l < lay->f[0].nlev; l++) {
        const double *a = m->evaluation.f[0].pan + lay->pan[l];
        double *Q = m->evaluation.f[0].Q + l * p * p;
        const int ld = lay->ld[l];
        int k = 1;
        for (int i = 0; i < p * p; i++) Q[i] = 0;
        for (ptrdiff_t i = lay->ptr[l]; i < lay->ptr[l + 1]; i++) {
            const int32_t e = lay->row[i];
            while (e >= lay->f[k].node + lay->f[k].nlev) k++;
            const int w = lay->f[k].p;
            tmul(p, w, w, 0, a, ld, it->F + it->at[k] + (ptrdiff_t)(e - lay->f[k].node) * w * w, w, X, p);
            mult(p, p, w, 1, X, p, X, p, Q, p);
            a += w;
        }
        for (int b = 0; b < it->nblock; b++)
            for (int i = 0; i < p * p; i++) Q[i] += it->block[b].Q[l * p * p + i];
    }
}

CLONES static void iterative_gather(trailing *t, lmm_model *m)
{
    iterative *it = (iterative *)t;
    BY_WIDTH(m->layout.f[0].p, gather_exact, it, m)
}

/* Covariance of the last gradient, from the probes: D = (... - mean R) T, g = 2 D */
static void iterative_scores(trailing *t, lmm_model *m, double *C)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    const ptrdiff_t N = lay->ntheta, r = it->probes;
    double *g = m->scratch.work, *mean = g + N, *X = m->scratch.tmp;
    memset(C, 0, sizeof(double) * (size_t)(N * N));
    memset(mean, 0, sizeof(double) * (size_t)N);
    for (int pass = 0; pass < 2; pass++)
        for (ptrdiff_t u = 0; u < r; u++) {
            double *R = it->block[1 + u / LANES].R + u % LANES * it->nR;
            for (int k = 0; k < lay->nfactor; R += lay->f[k].p * lay->f[k].p, k++) {
                const factor *f = &lay->f[k];
                factor_state *fs = &m->evaluation.f[k];
                const int p = f->p;
                double *D = X + p * p;
                for (int c = 0; c < p; c++)
                    for (int i = 0; i < c; i++) R[c + i * p] = R[i + c * p];
                mul(p, p, p, 0, R, p, fs->T, p, D, p);
                if (fs->W) {
                    memcpy(X, D, sizeof(double) * (size_t)(p * p));
                    tmul(p, p, p, 0, fs->W, p, X, p, D, p);
                }
                for (int t = 0; t < f->nth; t++) g[f->th + t] = -2 * D[f->thr[t] + f->thc[t] * p];
            }
            for (ptrdiff_t i = 0; i < N; i++)
                if (pass == 0)
                    mean[i] += g[i] / (double)r;
                else
                    for (ptrdiff_t j = 0; j < N; j++)
                        C[i + j * N] += (g[i] - mean[i]) * (g[j] - mean[j]) / (double)(r * (r - 1));
        }
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
                 p0 = lay->f[0].p;
    const double blocks = blocks_for(PROBES), levels = (double)lay->f[0].nlev * p0 * p0;
    double bytes = vector * (2 * (blocks + edges) + WORK + 1) + (blocks - 1) * lay->q2;
    for (int k = 1; k < lay->nfactor; k++) bytes += 48. * lay->f[k].nlev * lay->f[k].p * lay->f[k].p;
    bytes += 8 * (blocks + 1) * levels + 16. * lay->pb * (lay->q2 + lay->pb);
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
        GRAB(&it->base, b->Q, (ptrdiff_t)lay->f[0].nlev * lay->f[0].p * lay->f[0].p);
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
    const ptrdiff_t p = widest(m), size = WORK * vector_size(m) + 8, line = 64 / sizeof(double);
    const ptrdiff_t own = (size + line - 1) / line * line, smallsize = 4 * p * LANES + p * p + 8;
    double **part = calloc((size_t)threads, sizeof(*part));
    double *vectors = calloc((size_t)(threads * own + line), sizeof(*vectors));
    double *small = calloc((size_t)(threads * smallsize), sizeof(*small));
    if (!part || !vectors || !small) {
        free(part), free(vectors), free(small);
        return LMM_NOMEM;
    }
    iterative_free(t);
    for (int i = 0; i < threads; i++)
        part[i] = vectors + (64 - (uintptr_t)vectors % 64) % 64 / sizeof(double) + i * own;
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
        it->at[k] = blocks;
        if (k) blocks += lay->f[k].nlev * pp;
    }
    GRAB(&it->base, it->S, blocks);
    GRAB(&it->base, it->L, blocks);
    GRAB(&it->base, it->F, blocks);
    GRAB(&it->base, it->G, blocks);
    GRAB(&it->base, it->I, blocks);
    GRAB(&it->base, it->N, blocks);
    GRAB(&it->base, it->K, (ptrdiff_t)lay->f[0].nlev * lay->f[0].p * lay->f[0].p);
    GRAB_VECTORS(it, m, it->W, 1);
    GRAB(&it->base, it->sign, (it->nblock - 1) * (ptrdiff_t)lay->q2);
    TRY(iterative_threads(t, m, 1));
    GRAB(&it->base, it->nodes, NODES * (NODES + 40));
    it->base.lde = lay->pb;
    GRAB(&it->base, it->base.Se, it->base.lde * (lay->q2 + lay->pb));
    GRAB(&it->base, it->base.Le, it->base.lde * (lay->q2 + lay->pb));
    TRY(allocate_blocks(it, m));
    draw(it, m);
    return LMM_OK;
}

static const trailing_steps ITERATIVE = {.make = iterative_make,
                                         .free = iterative_free,
                                         .threads = iterative_threads,
                                         .load = iterative_load,
                                         .downdate = iterative_downdate,
                                         .factorize = iterative_factorize,
                                         .border = iterative_border,
                                         .times = iterative_times,
                                         .quadratic = iterative_quadratic,
                                         .invert = iterative_invert,
                                         .gather = iterative_gather,
                                         .solve = iterative_solve,
                                         .scores = iterative_scores};

trailing *iterative_new(void)
{
    iterative *it = calloc(1, sizeof(*it));
    if (!it) return NULL;
    it->base.steps = &ITERATIVE;
    return &it->base;
}
