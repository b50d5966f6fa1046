/* X = B V, B = Lambda M^-1 Lambda' over all random columns, by the steps of the factorization: down the
   eliminated levels, through the trailing matrix, and back:

     W_l = K_l V_l,  V_R -= A_Rl W_l;    X_R = B_RR V_R;    X_l = W_l - K_l A_lR X_R

   A right-hand side is a row: r x q, column-major. */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

static char none = 'N', trans = 'T';
static double one = 1, zero = 0, minus = -1;

/* K_l = T M_l^-1 T', into K or where it is kept */
INLINE const double *level_inverse(const int p, const lmm_model *m, const factor *f, int32_t l, double *K)
{
    const factor_state *fs = &m->evaluation.f[f->k];
    double *U = m->scratch.tmp;
    if (fs->K != fs->B) return fs->K + (ptrdiff_t)l * p * p;
    scaled_factor(p, fs->T, fs->L + (ptrdiff_t)l * p * p, U);
    mult(p, p, p, 0, U, p, U, p, K, p);
    return K;
}

/* X_R -= W A_lR for the list of node e */
INLINE void send(const int p, const lmm_model *m, const factor *f, int32_t e, int r, const double *W,
                 double *X)
{
    const layout *lay = &m->layout;
    const factor_state *fs = &m->evaluation.f[f->k];
    const double *a = fs->pan + lay->pan[e];
    const ptrdiff_t ld = lay->ld[e];
    for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
        double *to = X + (ptrdiff_t)lay->nodecol[lay->row[i]] * r;
        for (int c = 0; c < lay->width[lay->row[i]]; c++, a++, to += r)
            for (int x = 0; x < p; x++) {
                const double v = a[x * ld];
                for (int t = 0; t < r; t++) to[t] -= W[t + x * r] * v;
            }
    }
}

/* Y := X_R A_Rl */
INLINE void collect(const int p, const lmm_model *m, const factor *f, int32_t e, int r, const double *X,
                    double *Y)
{
    const layout *lay = &m->layout;
    const factor_state *fs = &m->evaluation.f[f->k];
    const double *a = fs->pan + lay->pan[e];
    const ptrdiff_t ld = lay->ld[e];
    memset(Y, 0, sizeof(double) * (size_t)(p * r));
    for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
        const double *from = X + (ptrdiff_t)lay->nodecol[lay->row[i]] * r;
        for (int c = 0; c < lay->width[lay->row[i]]; c++, a++, from += r)
            for (int x = 0; x < p; x++) {
                const double v = a[x * ld];
                for (int t = 0; t < r; t++) Y[t + x * r] += from[t] * v;
            }
    }
}

INLINE void forward_levels(const int p, lmm_model *m, const factor *f, int r, double *X, double *W)
{
    const layout *lay = &m->layout;
    double *K = m->scratch.tmp + p * p;
    for (int32_t l = 0; l < f->nlev; l++) {
        double *x = X + (ptrdiff_t)lay->nodecol[f->node + l] * r;
        mul(r, p, p, 0, x, r, level_inverse(p, m, f, l, K), p, W, r);
        memcpy(x, W, sizeof(double) * (size_t)(p * r));
        if (!lay->full) send(p, m, f, f->node + l, r, W, X);
    }
}

/* Y: room for BATCH levels */
INLINE void backward_levels(const int p, lmm_model *m, const factor *f, int r, double *X, double *Y)
{
    const layout *lay = &m->layout;
    const factor_state *fs = &m->evaluation.f[f->k];
    double *K = m->scratch.tmp + p * p, *W = Y + (ptrdiff_t)BATCH * p * r;
    int q2 = lay->q2, s = lay->s;
    for (int32_t l = 0; l < f->nlev; l++) {
        const int32_t e = f->node + l, left = f->nlev - l;
        double *x = X + (ptrdiff_t)lay->nodecol[e] * r, *y = Y;
        if (!lay->full)
            collect(p, m, f, e, r, X, y);
        else {
            int cols = (left < BATCH ? left : BATCH) * p;
            y += (ptrdiff_t)(l % BATCH) * p * r;
            if (l % BATCH == 0)
                m->blas.gemm(&none, &none, &r, &cols, &q2, &one, X + (ptrdiff_t)lay->q1 * r, &r,
                             fs->pan + lay->pan[e], &s, &zero, Y, &r);
        }
        mul(r, p, p, 0, y, r, level_inverse(p, m, f, l, K), p, W, r);
        for (ptrdiff_t i = 0; i < (ptrdiff_t)p * r; i++) x[i] -= W[i];
    }
}

/* The same for one right-hand side and lists of levels with one column each */
INLINE void forward_one(const int p, lmm_model *m, const factor *f, double *X)
{
    const layout *lay = &m->layout;
    const factor_state *fs = &m->evaluation.f[f->k];
    double *K = m->scratch.tmp + p * p, w[4];
    for (int32_t l = 0; l < f->nlev; l++) {
        const int32_t e = f->node + l, *row = lay->row + lay->ptr[e];
        const ptrdiff_t count = lay->ptr[e + 1] - lay->ptr[e], ld = lay->ld[e];
        const double *A = fs->pan + lay->pan[e], *Kl = level_inverse(p, m, f, l, K);
        double *x = X + lay->nodecol[e];
        mul(1, p, p, 0, x, 1, Kl, p, w, 1);
        for (int c = 0; c < p; c++) x[c] = w[c];
        for (ptrdiff_t i = 0; i < count; i++)
            for (int c = 0; c < p; c++) X[lay->nodecol[row[i]]] -= w[c] * A[i + c * ld];
    }
}

INLINE void backward_one(const int p, lmm_model *m, const factor *f, double *X)
{
    const layout *lay = &m->layout;
    const factor_state *fs = &m->evaluation.f[f->k];
    double *K = m->scratch.tmp + p * p, w[4];
    for (int32_t l = 0; l < f->nlev; l++) {
        const int32_t e = f->node + l, *row = lay->row + lay->ptr[e];
        const ptrdiff_t count = lay->ptr[e + 1] - lay->ptr[e], ld = lay->ld[e];
        const double *A = fs->pan + lay->pan[e], *Kl = level_inverse(p, m, f, l, K);
        double y[4] = {0}, more[4] = {0}, *x = X + lay->nodecol[e];
        ptrdiff_t i = 0;
        for (; i + 2 <= count; i += 2) {
            const double a = X[lay->nodecol[row[i]]], b = X[lay->nodecol[row[i + 1]]];
            for (int c = 0; c < p; c++) y[c] += a * A[i + c * ld], more[c] += b * A[i + 1 + c * ld];
        }
        for (; i < count; i++)
            for (int c = 0; c < p; c++) y[c] += X[lay->nodecol[row[i]]] * A[i + c * ld];
        for (int c = 0; c < p; c++) y[c] += more[c];
        mul(1, p, p, 0, y, 1, Kl, p, w, 1);
        for (int c = 0; c < p; c++) x[c] -= w[c];
    }
}

/* Are the lists of factor k of levels with one column each? */
static int has_single_columns(const layout *lay, int k)
{
    for (int j = k + 1; j < lay->nfactor; j++)
        if (lay->f[j].p != 1) return 0;
    return 1;
}

static int goes_alone(const layout *lay, int k, int r)
{
    return r == 1 && !lay->full && lay->f[k].p <= 4 && has_single_columns(lay, k);
}

CLONES static void forward(lmm_model *m, int k, int r, double *X, double *work)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    int q1 = lay->q1, q2 = lay->q2, s = lay->s;
    if (goes_alone(lay, k, r)) {
        BY_WIDTH(f->p, forward_one, m, f, X)
        return;
    }
    BY_WIDTH(f->p, forward_levels, m, f, r, X, work)
    if (lay->full && q2)
        m->blas.gemm(&none, &trans, &r, &q2, &q1, &minus, X, &r, m->evaluation.f[k].pan, &s, &one,
                     X + (ptrdiff_t)q1 * r, &r);
}

CLONES static void backward(lmm_model *m, int k, int r, double *X, double *work)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    if (lay->full && !lay->q2) return;
    if (goes_alone(lay, k, r)) {
        BY_WIDTH(f->p, backward_one, m, f, X)
        return;
    }
    BY_WIDTH(f->p, backward_levels, m, f, r, X, work)
}

ptrdiff_t solve_work(const lmm_model *m, int r)
{
    const layout *lay = &m->layout;
    int widest = 1;
    for (int k = 0; k < lay->nelim; k++)
        if (lay->f[k].p > widest) widest = lay->f[k].p;
    return (ptrdiff_t)(BATCH + 1) * widest * r;
}

void solve_rows(lmm_model *m, int r, double *X, double *work)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nelim; k++) forward(m, k, r, X, work);
    if (lay->q2) m->trailing->steps->solve(m->trailing, m, r, X + (ptrdiff_t)(lay->q - lay->q2) * r);
    for (int k = lay->nelim - 1; k >= 0; k--) backward(m, k, r, X, work);
}

/* X (n x q): n of the r right-hand sides V, from `first` on, in whitened coordinates: V C */
void take_rows(const lmm_model *m, const double *V, ptrdiff_t r, ptrdiff_t first, int n, int dual, double *X)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        const int p = f->p;
        for (int32_t l = 0; l < f->nlev; l++, V += p * r) {
            double *to = X + (ptrdiff_t)lay->nodecol[f->perm[l]] * n;
            memset(to, 0, sizeof(double) * (size_t)(p * n));
            for (int c = 0; c < p; c++)
                for (int x = 0; x < p; x++) {
                    const double v = dual ? f->Cinv[c + x * p] : f->w.C[x + c * p];
                    for (int t = 0; t < n && v != 0; t++) to[t + c * n] += V[first + t + x * r] * v;
                }
        }
    }
}

/* And back, to the user's X: X C' */
void give_rows(const lmm_model *m, const double *X, ptrdiff_t r, ptrdiff_t first, int n, double *V)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        const int p = f->p;
        for (int32_t l = 0; l < f->nlev; l++, V += p * r) {
            const double *from = X + (ptrdiff_t)lay->nodecol[f->perm[l]] * n;
            for (int c = 0; c < p; c++) {
                double *to = V + first + c * r;
                for (int t = 0; t < n; t++) to[t] = 0;
                for (int x = 0; x < p; x++)
                    for (int t = 0; t < n; t++) to[t] += from[t + x * n] * f->w.C[c + x * p];
            }
        }
    }
}

lmm_status lmm_solve(lmm_model *m, int r, const double *V, double *X)
{
    const layout *lay = &m->layout;
    const int most = r < TOGETHER ? r : TOGETHER;
    TRY(bring(m, EXACT, FACTORED, 1));
    double *rows = malloc(sizeof(double) * (size_t)((ptrdiff_t)most * lay->q + solve_work(m, most) + 1));
    if (!rows) return LMM_NOMEM;
    for (int first = 0; first < r && !m->trailing->failed; first += TOGETHER) {
        const int n = r - first < TOGETHER ? r - first : TOGETHER;
        take_rows(m, V, r, first, n, 0, rows);
        solve_rows(m, n, rows, rows + (ptrdiff_t)n * lay->q);
        give_rows(m, rows, r, first, n, X);
    }
    free(rows);
    if (!m->trailing->failed) return LMM_OK;
    m->evaluation.at.state = NOWHERE; /* the next one is tried again */
    return LMM_UNSOLVED;
}
