/* The directions V and the random probes of an iterative model (iterative.c has the formulas): how they are
   made, and what they give, log|I + E|, the derivatives and their Monte-Carlo errors. */

#include "base/memory.h"
#include "trailing/lanes.h"

#define ROUGH 1e-2 /* relative residual of the iterations for V */

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
void scale_directions(iterative *it, lmm_model *m)
{
    blocks_times(it, m, LANES / 4, it->L, 1, it->W, it->block[0].u);
    orthonormalize(m->layout.q2, it->block[0].u);
}

/* u := (I - V V') signs */
CLONES void project_signs(ptrdiff_t n, const uint8_t *sign, const double *V, double *u)
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
void draw_probes(iterative *it, const lmm_model *m)
{
    const layout *lay = &m->layout;
    uint64_t state = 20240229;
    const ptrdiff_t n = lay->q2;
    for (ptrdiff_t i = 0; i < (it->nblock - 1) * n; i++) it->sign[i] = (uint8_t)(splitmix(&state) >> 32);
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint64_t bits = splitmix(&state);
        for (int j = 0; j < LANES; j++) it->W[i * LANES + j] = bits >> (8 + j) & 1 ? 1 : -1;
    }
    for (int k = lay->nelim, lane = 0; k < lay->nfactor; k++)
        for (int c = 0; c < lay->f[k].p && lane < LANES / 2; c++, lane++) {
            for (ptrdiff_t i = 0; i < n; i++) it->W[i * LANES + lane] = 0;
            for (int32_t l = 0; l < lay->f[k].nlev; l++)
                it->W[(lay->trailcol[lay->f[k].node + l] + c) * (ptrdiff_t)LANES + lane] = 1;
        }
}

/* W := G (I + E)^-1 V: one round of inverse iteration */
int refine_directions(iterative *it, lmm_model *m)
{
    scale_directions(it, m);
    solve_block(it, m, &it->block[0], ROUGH, 0);
    if (it->block[0].failed) return 1;
    orthonormalize(m->layout.q2, it->block[0].y);
    blocks_times(it, m, LANES / 4, it->G, 0, it->block[0].y, it->W);
    return 0;
}

/* log|I + E| and its standard error */
void estimate_logarithm(iterative *it, lmm_model *m)
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
    const ptrdiff_t before = containing(lay) * LANES;
    double *Fy = it->part[worker] + before, *Fu = Fy + size + before, *y = Fu + size, *u = y + size;
    double *small = it->small + worker * it->smallsize, weight[LANES];
    for (int j = 0; j < LANES; j++) weight[j] = i ? 1. / it->probes : 1;
    memset(b->R, 0, sizeof(double) * LANES * (size_t)it->nR);
    blocks_times(it, m, LANES / 4, it->F, 0, b->y, Fy);
    blocks_times(it, m, LANES / 4, it->F, 0, b->u, Fu);
    trailing_times(m, LANES / 4, Fy, y);
    trailing_times(m, LANES / 4, Fu, u);
    derive(it, m, b, weight, Fy, Fu, y, u, small);
    for (int k = lay->nelim; k < lay->nfactor; k++)
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

void iterative_invert(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    iterative *it = (iterative *)t;
    evaluation_task task = {it, m};
    team_run(m->team, it->nblock, derive_block, &task);
    ptrdiff_t place = 0;
    for (int k = 0; k < lay->nfactor; k++) {
        if (k >= lay->nelim) trailing_gradient(it, m, k, place);
        place += lay->f[k].p * lay->f[k].p;
    }
}

/* Q_l := A_lR F F'A_Rl of the first factor's levels: without what is estimated */
INLINE void gather_exact(const int p, iterative *it, lmm_model *m)
{
    const layout *lay = &m->layout;
    double *X = m->scratch.tmp;
    for (int32_t l = 0; l < lay->f[0].nlev; l++) {
        const trailing_part part = trailing_rows(m, 0, l);
        const double *a = part.a;
        double *Q = m->evaluation.f[0].Q + (ptrdiff_t)l * p * p;
        int k = lay->nelim;
        for (int i = 0; i < p * p; i++) Q[i] = 0;
        for (ptrdiff_t i = part.begin; i < part.end; i++) {
            const int32_t e = lay->row[i];
            while (e >= lay->f[k].node + lay->f[k].nlev) k++;
            const int w = lay->f[k].p;
            tmul(p, w, w, 0, a, (int)part.ld, it->F + it->at[k] + (ptrdiff_t)(e - lay->f[k].node) * w * w, w,
                 X, p);
            mult(p, p, w, 1, X, p, X, p, Q, p);
            a += w;
        }
    }
}

CLONES void iterative_gather(trailing *t, lmm_model *m)
{
    iterative *it = (iterative *)t;
    BY_WIDTH(m->layout.f[0].p, gather_exact, it, m)
}

/* V_R += F F'A_Rl of the levels of an eliminated factor: without what is estimated */
CLONES void iterative_product(trailing *t, lmm_model *m, int k, const double *A, double *V)
{
    const layout *lay = &m->layout;
    const iterative *it = (const iterative *)t;
    const factor *f = &lay->f[k];
    double *X = m->scratch.tmp;
    for (int32_t l = f->node; l < f->node + f->nlev; l++) {
        const trailing_part part = trailing_rows(m, k, l);
        ptrdiff_t at = part.a - m->evaluation.f[k].pan;
        int j = lay->nelim;
        for (ptrdiff_t i = part.begin; i < part.end; i++) {
            const int32_t e = lay->row[i];
            while (e >= lay->f[j].node + lay->f[j].nlev) j++;
            const int w = lay->f[j].p;
            const double *F = it->F + it->at[j] + (ptrdiff_t)(e - lay->f[j].node) * w * w;
            tmul(w, f->p, w, 0, F, w, A + at, (int)part.ld, X, w);
            mul(w, f->p, w, 1, F, w, X, w, V + at, (int)part.ld);
            at += w;
        }
    }
}

/* What is estimated of Q_l: the sum over the blocks, left in the first */
const double *iterative_estimated(trailing *t, const lmm_model *m, int k)
{
    const iterative *it = (const iterative *)t;
    const factor *f = &m->layout.f[k];
    const ptrdiff_t size = (ptrdiff_t)f->nlev * f->p * f->p;
    double *Q = it->block[0].Q + it->at[k];
    for (int b = 1; b < it->nblock; b++) {
        const double *add = it->block[b].Q + it->at[k];
        for (ptrdiff_t i = 0; i < size; i++) Q[i] += add[i];
    }
    return Q;
}

/* Covariance of the last gradient, from the probes: D = (... - mean R) T, g = 2 D */
void iterative_scores(trailing *t, lmm_model *m, double *C)
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
