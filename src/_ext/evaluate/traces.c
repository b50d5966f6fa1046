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
#include "evaluate/entries.h"
#include "evaluate/readings.h"
#include "evaluate/whole.h"
#include "trailing/trailing.h"

/* <E, A>, A: p x p */
static double at_entry(const factor *f, int t, const double *A)
{
    const places e = entry(f, t);
    double sum = 0;
    for (int i = 0; i < e.count; i++) sum += A[e.x[i] + e.y[i] * f->p];
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

/* ------------------------------------------------------------------------------------------ the reading --
 */

static void traces_to_user(const lmm_model *m, const double *mine, const double *between, double *single,
                           double *pairs)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) {
            const int r = lay->f[k].th + t, to = user_place(&lay->f[k], t);
            single[to] = mine[r];
            for (int j = 0; j <= k; j++)
                for (int u = 0; u < lay->f[j].nth; u++) {
                    const int s = lay->f[j].th + u, at = user_place(&lay->f[j], u);
                    if (s <= r) pairs[to + N * at] = pairs[at + N * to] = between[r + N * s];
                }
        }
}

/* After whole_begin and changes_find, where they are needed */
static lmm_status all_traces(changes *ch, whole *w, double *single, double *pairs)
{
    lmm_model *m = ch->m;
    const layout *lay = &m->layout;
    deepen(m, INVERTED);
    for (int k = 0; k < lay->nelim; k++) TRY(factor_sums(ch, k, single, pairs));
    return lay->q2 ? whole_traces(m, ch, w, single, pairs) : LMM_OK;
}

lmm_status traces(lmm_model *m, double *single, double *pairs)
{
    const layout *lay = &m->layout;
    changes *ch = changes_new(m, !has_level_pairs(lay));
    double *memory = malloc(sizeof(double) * (size_t)(whole_size(lay) + 1));
    lmm_status status = ch && memory ? LMM_OK : LMM_NOMEM;
    memset(single, 0, sizeof(double) * (size_t)lay->ntheta);
    memset(pairs, 0, sizeof(double) * (size_t)lay->ntheta * (size_t)lay->ntheta);
    if (status == LMM_OK) {
        whole w = whole_in(lay, memory);
        if (lay->q2) whole_begin(m, &w);
        if (!has_level_pairs(lay)) status = changes_find(ch);
        if (status == LMM_OK) status = all_traces(ch, &w, single, pairs);
    }
    changes_free(ch);
    free(memory);
    return status;
}

void lmm_traces_price(const lmm_model *m, double *bytes, double *flops)
{
    const layout *lay = &m->layout;
    const double q1 = lay->q1, q2 = lay->q2;
    double doubles = (double)whole_size(lay);
    for (int k = 0; k < lay->nelim; k++)
        doubles += (double)panel_size(lay, k) * (1 + (k ? 2. * lay->f[k].th : 0));
    doubles += has_level_pairs(lay) ? (2 * q2 + q1) * q1 : changes_count(lay) * q2 * q2;
    *bytes = 8 * doubles;
    *flops = whole_flops(m);
}

lmm_status lmm_traces(lmm_model *m, double *single, double *pairs)
{
    const ptrdiff_t N = m->layout.ntheta;
    if (!m->trailing->exact || m->layout.moves) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, FACTORED, 1));
    double *mine = malloc(sizeof(double) * (size_t)(N + N * N));
    if (!mine) return LMM_NOMEM;
    const lmm_status status = traces(m, mine, mine + N);
    if (status == LMM_OK) traces_to_user(m, mine, mine + N, single, pairs);
    free(mine);
    return status;
}
