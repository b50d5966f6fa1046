/* Traces of V^-1 G_r and V^-1 G_r V^-1 G_s, G_r = Z (I x E_r) Z', for every entry r of every term's relative
   covariance matrix G = T T'. They are derivatives of log|V|, first and (negative) second, and so of log|M|:

     d log|M| = sum_l <E, A_l N_l> + <K_l, dA_l>,    dK_l = N_l E N_l' - K_l dA_l K_l,    N_l = I - K_l A_l
     dA_RR   -= dA_Rl K_l A_lR + A_Rl dK_l A_lR + A_Rl K_l dA_lR

   First the changes of every Schur complement in each parameter, from the finest level on (changes.c). Then,
   as B_RR is the derivative of log|M| in A_RR, the second derivative is a sum over levels of what two changes
   do to one step: with V_R = B_RR A_Rl, Q = A_lR V_R, W_r = dA_lR V_R and X_r = dA_l of parameter r

     of the level's factor, both      -<E_r, D E_s D> + 2 <E_r, D E_s N'Q N>,     D = A_l N_l
     of it (r) and a finer one (s)    <E_r, N' [X_s + Q K X_s + X_s K Q - W_s - W_s'] N>
     of finer ones, both              -tr(K X_r K X_s) - 2 tr(K Q K X_r K X_s) + 2 tr(K W_r K X_s)
                                      + 2 tr(K W_s K X_r) - 2 tr(K dA_lR(r) B_RR dA_Rl(s))

   and last the same of the trailing matrix S, whose dS = -N_r is whole: with B = (S + G^-1)^-1, U = I - B S
   and M = S U = Z_R'V^-1 Z_R

     eliminated, both: tr(B N_r B N_s),   one of them: <E_s, U'N_r U>,   trailing, both: <E_r, M E_s M>  */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/changes.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

#define SPARSE 0.05 /* share of entries that are not zero up to which products leave the zeros out */
#define GATHER 10   /* what one of those multiplications costs, in flops of BLAS 3 */

static char left = 'L', lower = 'L', none = 'N', trans = 'T';
static double one = 1, zero = 0;

/* --------------------------------------------------------------------------- sums over pairs of blocks -- */

/* Entry (x, y) of E_r, and its mirror image where it is another */
typedef struct {
    int count, x[2], y[2];
} places;

static places entry(const factor *f, int t)
{
    const int r = f->thr[t], c = f->thc[t];
    return (places){.count = r == c ? 1 : 2, .x = {r, c}, .y = {c, r}};
}

/* <E, A>, A: p x p */
static double at_entry(const factor *f, int t, const double *A)
{
    const places e = entry(f, t);
    double sum = 0;
    for (int i = 0; i < e.count; i++) sum += A[e.x[i] + e.y[i] * f->p];
    return sum;
}

/* tr(X'E_r Y E_s) summed over pairs of blocks X, Y (p_f x p_g), where C holds the sums of vec X (vec Y)' */
static double contract(const factor *f, int r, const factor *g, int s, const double *C)
{
    const places e = entry(f, r), d = entry(g, s);
    const ptrdiff_t p = f->p, n = p * g->p;
    double sum = 0;
    for (int i = 0; i < e.count; i++)
        for (int j = 0; j < d.count; j++) sum += C[e.x[i] + d.y[j] * p + n * (e.y[i] + d.x[j] * p)];
    return sum;
}

/* -------------------------------------------------------------------------------------------- one level --
 */

typedef struct {      /* the level at which sums are taken, p x p each                                   */
    double *K, *N;    /* N = I - K A                                                                     */
    double *V, *Q;    /* panel B_RR A_Rl; A_lR V                                                         */
    double *KQ;       /* K Q                                                                             */
    double *D, *down; /* A N, N'Q N                                                                      */
    double *work;     /* 4 p x p                                                                         */
    double *C;        /* p^2 x p^2  sums of vec D (vec D - 2 vec down)'                                  */
    double *Y, *KW;   /* p x p for every change so far: K X, K W                                         */
} level_sums;

/* Q: that of the level where it is known; else from V */
static void own_level(const changes *ch, const factor *f, int32_t l, const double *Q, level_sums *s,
                      double *single)
{
    const lmm_model *m = ch->m;
    const int p = f->p;
    const double *A = m->evaluation.f[f->k].diag + (ptrdiff_t)l * p * p;
    const int32_t e = f->node + l;
    const int rows = m->layout.ld[e] - m->layout.pb;
    level_matrices(m, f, l, s->K, s->N);
    if (Q)
        memcpy(s->Q, Q, sizeof(double) * (size_t)(p * p));
    else {
        tmul(p, p, rows, 0, m->evaluation.f[f->k].pan + m->layout.pan[e], m->layout.ld[e],
             s->V + m->layout.pan[e], m->layout.ld[e], s->Q, p);
        symmetrize(p, s->Q);
    }
    mul(p, p, p, 0, s->K, p, s->Q, p, s->KQ, p);
    mul(p, p, p, 0, A, p, s->N, p, s->D, p);
    symmetrize(p, s->D);
    mul(p, p, p, 0, s->Q, p, s->N, p, s->work, p);
    tmul(p, p, p, 0, s->N, p, s->work, p, s->down, p);
    for (int j = 0; j < p * p; j++)
        for (int i = 0; i < p * p; i++)
            s->C[i + j * p * p] += s->D[i] * (s->D[j] - s->down[j]) - s->down[i] * s->D[j];
    for (int i = 0; i < p * p; i++) s->work[i] = s->D[i] - s->down[i];
    for (int t = 0; t < f->nth; t++) single[f->th + t] += at_entry(f, t, s->work);
}

/* K X_r and K W_r of every parameter of finer factors, and those parameters with the level's */
static void finer_with_own(const changes *ch, const factor *f, int32_t l, level_sums *s, double *pairs)
{
    const layout *lay = &ch->m->layout;
    const int p = f->p, N = lay->ntheta;
    const int32_t e = f->node + l, ld = lay->ld[e];
    double *Z = s->work, *half = Z + p * p, *W = half + p * p;
    for (int r = 0; r < f->th; r++) {
        const double *X = ch->diag[r][f->k] + (ptrdiff_t)l * p * p;
        double *Y = s->Y + (ptrdiff_t)r * p * p, *KW = s->KW + (ptrdiff_t)r * p * p;
        tmul(p, p, ld - lay->pb, 0, ch->pan[r][f->k] + lay->pan[e], ld, s->V + lay->pan[e], ld, W, p);
        mul(p, p, p, 0, s->K, p, X, p, Y, p);
        mul(p, p, p, 0, s->K, p, W, p, KW, p);
        mul(p, p, p, 0, s->Q, p, Y, p, half, p);                            /* Q K X */
        for (int i = 0; i < p * p; i++) Z[i] = X[i] + 2 * (half[i] - W[i]); /* E_t is symmetric */
        mul(p, p, p, 0, Z, p, s->N, p, half, p);
        tmul(p, p, p, 0, s->N, p, half, p, Z, p);
        for (int t = 0; t < f->nth; t++) pairs[f->th + t + (ptrdiff_t)r * N] -= at_entry(f, t, Z);
    }
}

/* tr(A B), p x p */
INLINE double trace_of(int p, const double *A, const double *B)
{
    double sum = 0;
    for (int i = 0; i < p; i++)
        for (int j = 0; j < p; j++) sum += A[i + j * p] * B[j + i * p];
    return sum;
}

/* Two parameters of finer factors; moved: B_RR dA_Rl of parameter s, laid out as panels */
static void finer_pairs(const changes *ch, const factor *f, int32_t l, level_sums *s, int r,
                        const double *moved, double *pairs)
{
    const layout *lay = &ch->m->layout;
    const int p = f->p, N = lay->ntheta;
    const ptrdiff_t pp = (ptrdiff_t)p * p, e = f->node + l;
    double *YY = s->work, *W = YY + pp;
    for (int u = 0; u <= r; u++) {
        const double *Yr = s->Y + r * pp, *Yu = s->Y + u * pp;
        mul(p, p, p, 0, Yu, p, Yr, p, YY, p);
        tmul(p, p, lay->ld[e] - lay->pb, 0, ch->pan[u][f->k] + lay->pan[e], lay->ld[e], moved + lay->pan[e],
             lay->ld[e], W, p);
        double sum = 2 * trace_of(p, s->K, W) + 2 * trace_of(p, s->KQ, YY);
        for (int i = 0; i < p; i++) sum += YY[i + i * p];
        sum -= 2 * (trace_of(p, s->KW + r * pp, Yu) + trace_of(p, s->KW + u * pp, Yr));
        pairs[r + (ptrdiff_t)u * N] += sum;
    }
}

/* V := B_RR P over the lists of factor k, P: panels */
static void times_inverse(lmm_model *m, int k, const double *P, double *V)
{
    const layout *lay = &m->layout;
    memset(V, 0, sizeof(double) * (size_t)panel_size(lay, k));
    if (lay->q2) m->trailing->steps->product(m->trailing, m, k, P, V);
    for (int j = k + 1; j < lay->nelim; j++) invert_against_ancestor(m, k, j, P, V);
}

/* V: a panel; moved: one for every parameter of a finer factor */
static lmm_status factor_sums(const changes *ch, int k, double *single, double *pairs)
{
    lmm_model *m = ch->m;
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const int alone = lay->nelim == 1 && !lay->full; /* Q is all that is asked of V, and has its own loop */
    const ptrdiff_t p = f->p, pp = p * p, panel = alone ? 0 : panel_size(lay, k), N = lay->ntheta;
    const ptrdiff_t blocks = alone ? f->nlev * pp : 0;
    double *Q = alone ? m->evaluation.f[k].Q : NULL;
    double *V =
        malloc(sizeof(double) * (size_t)((1 + f->th) * panel + (10 + pp + 2 * f->th) * pp + blocks + 1));
    if (!V) return LMM_NOMEM;
    double *moved = V + panel, *at = moved + f->th * panel;
    level_sums s = {.V = V, .K = at, .N = at + pp, .Q = at + 2 * pp, .KQ = at + 3 * pp, .D = at + 4 * pp};
    s.down = at + 5 * pp;
    s.work = at + 6 * pp;
    s.C = at + 10 * pp;
    s.Y = s.C + pp * pp;
    s.KW = s.Y + f->th * pp;
    memset(s.C, 0, sizeof(double) * (size_t)(pp * pp));
    double *B = s.KW + f->th * pp; /* what the gather overwrites */
    if (alone) {
        memcpy(B, m->evaluation.f[k].B, sizeof(double) * (size_t)blocks);
        m->trailing->steps->gather(m->trailing, m);
    } else
        times_inverse(m, k, m->evaluation.f[k].pan, V);
    for (int r = 0; r < f->th; r++) times_inverse(m, k, ch->pan[r][k], moved + r * panel);
    for (int32_t l = 0; l < f->nlev; l++) {
        own_level(ch, f, l, Q ? Q + l * pp : NULL, &s, single);
        finer_with_own(ch, f, l, &s, pairs);
        for (int r = 0; r < f->th; r++) finer_pairs(ch, f, l, &s, r, moved + r * panel, pairs);
    }
    for (int r = 0; r < f->nth; r++)
        for (int u = 0; u <= r; u++) pairs[f->th + r + N * (f->th + u)] += contract(f, r, f, u, s.C);
    if (alone) memcpy(m->evaluation.f[k].B, B, sizeof(double) * (size_t)blocks);
    free(V);
    return LMM_OK;
}

/* ------------------------------------------------------------------------------- the trailing matrix -- */

typedef struct { /* q2 x q2 each */
    double *S, *B, *U, *M, *work;
} whole;

/* B by its columns; needs the factor */
static void whole_inverse(lmm_model *m, double *B, double *rows)
{
    const ptrdiff_t q2 = m->layout.q2;
    for (ptrdiff_t first = 0; first < q2; first += TOGETHER) {
        const ptrdiff_t n = q2 - first < TOGETHER ? q2 - first : TOGETHER;
        memset(rows, 0, sizeof(double) * (size_t)(n * q2));
        for (ptrdiff_t i = 0; i < n; i++) rows[i + (first + i) * n] = 1;
        m->trailing->steps->solve(m->trailing, m, (int)n, rows);
        for (ptrdiff_t j = 0; j < q2; j++)
            memcpy(B + first + j * q2, rows + j * n, sizeof(double) * (size_t)n);
    }
    for (ptrdiff_t j = 0; j < q2; j++)
        for (ptrdiff_t i = 0; i < j; i++) B[i + j * q2] = B[j + i * q2] = (B[i + j * q2] + B[j + i * q2]) / 2;
}

/* The nonzero entries of a symmetric matrix, column by column */
typedef struct {
    ptrdiff_t *ptr;
    int32_t *row;
    double *value;
} nonzeros;

static ptrdiff_t count_nonzeros(ptrdiff_t size, const double *N)
{
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < size; i++) count += N[i] != 0;
    return count;
}

static void take_nonzeros(ptrdiff_t n, const double *N, nonzeros *z)
{
    ptrdiff_t at = 0;
    for (ptrdiff_t j = 0; j < n; j++, N += n) {
        z->ptr[j] = at;
        for (ptrdiff_t i = 0; i < n; i++)
            if (N[i] != 0) {
                z->row[at] = (int32_t)i;
                z->value[at++] = N[i];
            }
    }
    z->ptr[n] = at;
}

/* out = N X; wide: room for four columns, side by side */
CLONES static void sparse_times(ptrdiff_t n, const nonzeros *N, const double *X, double *out, double *wide)
{
    for (ptrdiff_t j = 0; j < n; j += 4, X += 4 * n, out += 4 * n) {
        const int columns = n - j < 4 ? (int)(n - j) : 4;
        for (int c = 0; c < 4; c++)
            for (ptrdiff_t i = 0; i < n; i++) wide[4 * i + c] = c < columns ? X[i + c * n] : 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            double sum[4] = {0};
            for (ptrdiff_t z = N->ptr[i]; z < N->ptr[i + 1]; z++)
                for (int c = 0; c < 4; c++) sum[c] += N->value[z] * wide[4 * (ptrdiff_t)N->row[z] + c];
            for (int c = 0; c < columns; c++) out[i + c * n] = sum[c];
        }
    }
}

/* out = N X, N symmetric; all q2 x q2. Where N is mostly zeros these are left out. */
static lmm_status times(lmm_model *m, const double *N, const double *X, double *out)
{
    int q2 = m->layout.q2;
    const ptrdiff_t n = q2, count = count_nonzeros(n * n, N);
    if ((double)count > SPARSE * (double)n * (double)n) {
        m->blas.symm(&left, &lower, &q2, &q2, &one, (double *)N, &q2, (double *)X, &q2, &zero, out, &q2);
        return LMM_OK;
    }
    double *wide = malloc(sizeof(double) * (size_t)(4 * n + count + 1));
    nonzeros z = {.ptr = malloc(sizeof(ptrdiff_t) * (size_t)(n + 1)),
                  .row = malloc(sizeof(int32_t) * (size_t)(count + 1)),
                  .value = wide ? wide + 4 * n : NULL};
    const int whole = z.ptr && z.row && z.value;
    if (whole) {
        take_nonzeros(n, N, &z);
        sparse_times(n, &z, X, out, wide);
    }
    free(z.ptr);
    free(z.row);
    free(wide);
    return whole ? LMM_OK : LMM_NOMEM;
}

/* U = I - B S, M = S U */
static lmm_status whole_products(lmm_model *m, whole *w)
{
    const ptrdiff_t n = m->layout.q2;
    TRY(times(m, w->S, w->B, w->work));
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t i = 0; i < n; i++) w->U[i + j * n] = (i == j) - w->work[j + i * n];
    return times(m, w->S, w->U, w->M);
}

/* sum over levels of <E_t, diagonal block of A'B> for the parameters of trailing factor f; A, B: q2 x q2 */
static void diagonal_traces(const layout *lay, const factor *f, const double *A, const double *B, double *out,
                            ptrdiff_t stride)
{
    const ptrdiff_t n = lay->q2;
    for (int t = 0; t < f->nth; t++) {
        const places e = entry(f, t);
        const ptrdiff_t first = lay->trailcol[f->node];
        double sum = 0;
        for (int i = 0; i < e.count; i++)
            for (ptrdiff_t l = 0, c = first; l < f->nlev; l++, c += f->p)
                sum += dot(n, A + (c + e.x[i]) * n, B + (c + e.y[i]) * n);
        out[(f->th + t) * stride] += sum;
    }
}

/* <E_r, M E_s M'> summed over the blocks of M, levels of f by levels of g; ld: between its columns */
static void block_pairs(lmm_model *m, const factor *f, const factor *g, const double *M, ptrdiff_t ld,
                        double *plane, double *pairs)
{
    const ptrdiff_t N = m->layout.ntheta;
    int size = f->p * g->p, count = g->nlev;
    double *C = plane + (ptrdiff_t)size * count;
    memset(C, 0, sizeof(double) * (size_t)size * (size_t)size);
    for (int32_t l = 0; l < f->nlev; l++) {
        const double *from = M + (ptrdiff_t)l * f->p;
        double *to = plane;
        for (ptrdiff_t c = 0; c < (ptrdiff_t)g->nlev * g->p; c++, from += ld)
            for (int x = 0; x < f->p; x++) *to++ = from[x];
        m->blas.syrk(&lower, &none, &size, &count, &one, plane, &size, &one, C, &size);
    }
    mirror(size, C, size);
    for (int r = 0; r < f->nth; r++)
        for (int s = 0; s < g->nth; s++) pairs[f->th + r + N * (g->th + s)] += contract(f, r, g, s, C);
}

/* Room for the blocks of one line of levels of f, and their sums */
static ptrdiff_t plane_size(const factor *f, const factor *g)
{
    const ptrdiff_t size = (ptrdiff_t)f->p * g->p;
    return size * (g->nlev + size);
}

/* Trailing parameters with one another, and tr V^-1 G of them */
static lmm_status trailing_sums(lmm_model *m, const whole *w, double *single, double *pairs)
{
    const layout *lay = &m->layout;
    ptrdiff_t most = 1;
    for (int k = lay->nelim; k < lay->nfactor; k++)
        for (int j = lay->nelim; j <= k; j++)
            if (plane_size(&lay->f[k], &lay->f[j]) > most) most = plane_size(&lay->f[k], &lay->f[j]);
    double *plane = malloc(sizeof(double) * (size_t)most);
    if (!plane) return LMM_NOMEM;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int t = 0; t < f->nth; t++) {
            const places e = entry(f, t);
            for (int i = 0; i < e.count; i++)
                for (ptrdiff_t l = 0, c = lay->trailcol[f->node]; l < f->nlev; l++, c += f->p)
                    single[f->th + t] += w->M[c + e.x[i] + (c + e.y[i]) * lay->q2];
        }
        for (int j = lay->nelim; j <= k; j++) {
            const factor *g = &lay->f[j];
            const double *M = w->M + lay->trailcol[f->node] + (ptrdiff_t)lay->q2 * lay->trailcol[g->node];
            block_pairs(m, f, g, M, lay->q2, plane, pairs);
        }
    }
    free(plane);
    return LMM_OK;
}

/* Is it cheaper to have all pairs of levels of the eliminated factor than a change of S for each parameter?
 */
static int has_level_pairs(const layout *lay)
{
    const double q1 = lay->q1, q2 = lay->q2, p = lay->f[0].p;
    return lay->full && q1 * q1 * (q2 + p * p) + 2 * q1 * q2 * q2 < 2 * lay->f[0].nth * q2 * q2 * q2;
}

static double level_pairs_flops(const layout *lay)
{
    const double q1 = lay->q1, q2 = lay->q2, p = lay->f[0].p;
    return 2 * q1 * q1 * (q2 + p * p) + 4 * q1 * q2 * q2;
}

/* Parameters of the eliminated factor in the trailing matrix, where every level has all its columns: with
   F = A_Rl N_l side by side, N_r = F (I x E_r) F', by blocks of F'B F and U'F */
static lmm_status level_pairs(lmm_model *m, const whole *w, double *pairs)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[0];
    int q1 = lay->q1, q2 = lay->q2;
    const ptrdiff_t p = f->p, rows = q2, all = rows * q1;
    ptrdiff_t plane = plane_size(f, f);
    for (int k = 1; k < lay->nfactor; k++)
        if (plane_size(&lay->f[k], f) > plane) plane = plane_size(&lay->f[k], f);
    double *F = malloc(sizeof(double) * (size_t)(2 * all + (ptrdiff_t)q1 * q1 + 2 * p * p + plane));
    if (!F) return LMM_NOMEM;
    double *G = F + all, *H = G + all, *K = H + (ptrdiff_t)q1 * q1, *N = K + p * p, *work = N + p * p;
    for (int32_t l = 0; l < f->nlev; l++) {
        const double *A = m->evaluation.f[0].pan + lay->pan[f->node + l];
        level_matrices(m, f, l, K, N);
        mul(q2, (int)p, (int)p, 0, A, lay->ld[f->node + l], N, (int)p, F + l * p * rows, q2);
    }
    m->blas.symm(&left, &lower, &q2, &q1, &one, w->B, &q2, F, &q2, &zero, G, &q2);
    m->blas.gemm(&trans, &none, &q1, &q1, &q2, &one, F, &q2, G, &q2, &zero, H, &q1);
    block_pairs(m, f, f, H, q1, work, pairs);
    m->blas.gemm(&trans, &none, &q2, &q1, &q2, &one, w->U, &q2, F, &q2, &zero, G, &q2);
    for (int k = 1; k < lay->nfactor; k++)
        block_pairs(m, &lay->f[k], f, G + lay->trailcol[lay->f[k].node], rows, work, pairs);
    free(F);
    return LMM_OK;
}

/* Parameters of eliminated factors in the trailing matrix: N_r becomes N_r B */
static lmm_status eliminated_in_trailing(const changes *ch, const whole *w, double *pairs)
{
    lmm_model *m = ch->m;
    const layout *lay = &m->layout;
    const ptrdiff_t n = lay->q2, N = lay->ntheta;
    for (int r = 0; r < ch->count; r++) {
        TRY(times(m, ch->N[r], w->U, w->work));
        for (int k = lay->nelim; k < lay->nfactor; k++)
            diagonal_traces(lay, &lay->f[k], w->U, w->work, pairs + r * N, 1);
        TRY(times(m, ch->N[r], w->B, w->work));
        memcpy(ch->N[r], w->work, sizeof(double) * (size_t)(n * n));
    }
    for (int r = 0; r < ch->count; r++) {
        for (ptrdiff_t j = 0; j < n; j++)
            for (ptrdiff_t i = 0; i < n; i++) w->work[j + i * n] = ch->N[r][i + j * n];
        for (int s = 0; s <= r; s++) pairs[r + N * s] += dot(n * n, w->work, ch->N[s]);
    }
    return LMM_OK;
}

/* ------------------------------------------------------------------------------------------ the reading --
 */

static void traces_to_user(const lmm_model *m, const double *own, const double *ownpairs, double *single,
                           double *pairs)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) {
            const int r = lay->f[k].th + t, to = user_place(&lay->f[k], t);
            single[to] = own[r];
            for (int j = 0; j <= k; j++)
                for (int u = 0; u < lay->f[j].nth; u++) {
                    const int s = lay->f[j].th + u, at = user_place(&lay->f[j], u);
                    if (s <= r) pairs[to + N * at] = pairs[at + N * to] = ownpairs[r + N * s];
                }
        }
}

/* After the factorization; w: made of S and B where there is a trailing matrix */
static lmm_status all_traces(changes *ch, whole *w, double *own)
{
    lmm_model *m = ch->m;
    const layout *lay = &m->layout;
    double *pairs = own + lay->ntheta;
    TRY(bring(m, EXACT, INVERTED, 0));
    if (lay->q2 && m->trailing->steps->inverse) m->trailing->steps->inverse(m->trailing, m, w->B);
    for (int k = 0; k < lay->nelim; k++) TRY(factor_sums(ch, k, own, pairs));
    if (!lay->q2) return LMM_OK;
    TRY(whole_products(m, w));
    TRY(has_level_pairs(lay) ? level_pairs(m, w, pairs) : eliminated_in_trailing(ch, w, pairs));
    return trailing_sums(m, w, own, pairs);
}

void lmm_traces_price(const lmm_model *m, double *bytes, double *flops)
{
    const layout *lay = &m->layout;
    const int levels = has_level_pairs(lay);
    const double q2 = lay->q2, square = q2 * q2, changed = levels ? 0 : changes_count(lay);
    const double share = m->trailing->steps->density ? m->trailing->steps->density(m->trailing, m) : 1;
    const double product = (share > SPARSE ? 2 : 2 * share * GATHER) * square * q2;
    double panels = 0;
    for (int k = 0; k < lay->nelim; k++)
        panels += (double)panel_size(lay, k) * (1 + (k ? 2. * lay->f[k].th : 0));
    if (levels) panels += (2 * q2 + lay->q1) * lay->q1;
    *bytes = 8 * ((5 + changed) * square + TOGETHER * q2 + panels);
    *flops = (2 + 2 * changed) * product + (levels ? level_pairs_flops(lay) : changes_flops(m));
    if (!m->trailing->steps->inverse) *flops += 2 * square * q2;
}

lmm_status lmm_traces(lmm_model *m, double *single, double *pairs)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta, square = (ptrdiff_t)lay->q2 * lay->q2;
    if (!m->trailing->exact) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, FACTORED, 1));
    changes *ch = changes_new(m, !has_level_pairs(lay));
    double *own = calloc((size_t)(N + N * N + 5 * square + TOGETHER * lay->q2 + 1), sizeof(double));
    lmm_status status = ch && own ? LMM_OK : LMM_NOMEM;
    if (status == LMM_OK) {
        whole w = {.S = own + N + N * N};
        w.B = w.S + square;
        w.U = w.B + square;
        w.M = w.U + square;
        w.work = w.M + square;
        if (lay->q2) {
            m->trailing->steps->matrix(m->trailing, m, w.S);
            if (!m->trailing->steps->inverse) whole_inverse(m, w.B, w.work);
        }
        if (!has_level_pairs(lay)) status = changes_find(ch);
        if (status == LMM_OK) status = all_traces(ch, &w, own);
    }
    if (status == LMM_OK) traces_to_user(m, own, own + N, single, pairs);
    changes_free(ch);
    free(own);
    return status;
}
