/* Average information: H_ef = nu v_e'Z'PZ v_f / r^2 - nu (v_e'g)(v_f'g) / r^4 + boundary term, with
   v_e = dLambda Lambda'g + Lambda dLambda'g per level (Gilmour, Thompson & Cullis 1995 for the idea;
   here in theta). The quadratic form follows the elimination: for c = Z v,

     u = w_l + A_l v_l,  a = v_l - K_l u,  Q += v_l'w_l + u'a,  w_R += A_Rl a

   where w_l = Z_l'V^-1 c collects what earlier levels sent. All vectors stand as ntheta rows. */

#include "model/model.h"
#include "trailing/lines.h"
#include "base/small.h"

static char none = 'N', trans = 'T';
static double one = 1;

/* v: rows f->th .. f->th + f->nth of an ntheta x p block (leading dimension ldv) for one level */
INLINE void directions(const lmm_model *m, const factor *f, const double *Y, double *v, ptrdiff_t ldv)
{
    const int p = f->p, pb = m->pb;
    for (int t = 0; t < f->nth; t++) {
        const int r = f->thr[t], c = f->thc[t];
        double Tg = 0, Wg = f->W ? 0 : Y[m->p + r * pb];
        for (int x = 0; x < p; x++) Tg += f->T[x + c * p] * Y[m->p + x * pb];
        for (int x = 0; f->W && x < p; x++) Wg += f->W[x + r * p] * Y[m->p + x * pb];
        for (int x = 0; x < p; x++)
            v[f->th + t + x * ldv] = (f->W ? f->W[x + r * p] * Tg : x == r ? Tg : 0) + f->T[x + c * p] * Wg;
    }
}

/* One batch of levels of an eliminated factor. U, A: ntheta x (2 p per level), for Q += U A'. */
INLINE int batch(lmm_model *m, int k, int32_t first, int32_t count, double *U, double *A)
{
    const factor *f = &m->f[k];
    const int p = f->p, n = f->th + f->nth, N = m->ntheta, pair = k ? 2 : 1;
    double *L = m->tmp, *K = L + p * p;
    for (int32_t l = first; l < first + count; l++) {
        const ptrdiff_t block = (ptrdiff_t)l * p * p, e = f->node + l;
        double *u = U + (ptrdiff_t)(l - first) * pair * p * N, *a = A + (u - U);
        memset(a, 0, sizeof(double) * (size_t)(p * N));
        directions(m, f, m->Y + (ptrdiff_t)m->nodecol[e] * m->pb, a, N);
        if (k) {
            memcpy(u + p * N, a, sizeof(double) * (size_t)(p * N));
            memcpy(a + p * N, m->V + (m->nodecol[e] - m->q1) * (ptrdiff_t)N,
                   sizeof(double) * (size_t)(p * N));
            memcpy(u, a + p * N, sizeof(double) * (size_t)(p * N));
        } else
            memset(u, 0, sizeof(double) * (size_t)(p * N));
        for (int c = 0; c < p; c++)
            for (int x = 0; x < p; x++) {
                const double d = f->diag[block + x + c * p];
                for (int t = 0; t < n; t++) u[t + c * N] += a[t + x * N] * d;
            }
        scaled_factor(p, f->T, f->L + block, L);
        mult(p, p, p, 0, L, p, L, p, K, p);
        for (int c = 0; c < p; c++)
            for (int x = 0; x < p; x++)
                for (int t = 0; t < n; t++) a[t + c * N] -= u[t + x * N] * K[x + c * p];
    }
    return count * pair * p;
}

/* w_R += A_Rl a for one level with a list */
INLINE void send(lmm_model *m, const factor *f, int32_t e, const double *a)
{
    const ptrdiff_t N = m->ntheta, ld = m->ld[e];
    const int n = f->th + f->nth;
    const double *pan = f->pan + m->pan[e];
    ptrdiff_t row = 0;
    for (ptrdiff_t i = m->ptr[e]; i <= m->ptr[e + 1]; i++) {
        const int border = i == m->ptr[e + 1];
        double *w = m->V + N * ((border ? m->q : m->nodecol[m->row[i]]) - m->q1);
        const int width = border ? m->pb : m->width[m->row[i]];
        for (int r = 0; r < width; r++, row++, w += N)
            for (int x = 0; x < f->p; x++) {
                const double v = pan[row + x * ld];
                for (int t = 0; t < n; t++) w[t] += a[t + x * N] * v;
            }
    }
}

CLONES static void eliminated_information(lmm_model *m, int k, double *Q, double *U, double *A)
{
    const factor *f = &m->f[k];
    int n = f->th + f->nth, N = m->ntheta, s = m->s;
    const ptrdiff_t step = (ptrdiff_t)(k ? 2 : 1) * f->p * N;
    for (int32_t l = 0; l < f->nlev; l += BATCH) {
        const int32_t count = f->nlev - l < BATCH ? f->nlev - l : BATCH;
        int cols = batch(m, k, l, count, U, A);
        m->blas.gemm(&none, &trans, &n, &n, &cols, &one, U, &N, A, &N, &one, Q, &N);
        if (m->full)
            m->blas.gemm(&none, &trans, &n, &s, &cols, &one, A, &N, f->pan + m->pan[f->node + l], &s, &one,
                         m->V, &N);
        else
            for (int32_t i = 0; i < count; i++) send(m, f, f->node + l + i, A + i * step);
    }
}

/* The trailing levels and X */
CLONES static void trailing_information(lmm_model *m, double *Q, double *v)
{
    int N = m->ntheta, q2 = m->q2, p = m->p, ld = (int)m->lde;
    double *w = m->V + (ptrdiff_t)(m->q - m->q2 - m->q1) * N;
    memset(v, 0, sizeof(double) * (size_t)N * (size_t)q2);
    for (int k = m->nelim; k < m->nfactor; k++)
        for (int32_t e = m->f[k].node; e < m->f[k].node + m->f[k].nlev; e++)
            directions(m, &m->f[k], m->Y + (ptrdiff_t)m->nodecol[e] * m->pb,
                       v + (ptrdiff_t)m->trailcol[e] * N, N);
    if (q2) {
        m->blas.gemm(&none, &trans, &N, &N, &q2, &one, v, &N, w, &N, &one, Q, &N);
        m->t->times(m, N, 1, v, w);
        m->blas.gemm(&none, &trans, &N, &N, &q2, &one, w, &N, v, &N, &one, Q, &N);
        if (p)
            m->blas.gemm(&none, &trans, &N, &p, &q2, &one, v, &N, m->Se, &ld, &one, w + (ptrdiff_t)q2 * N,
                         &N);
    }
    columns_times_lambda(m, N, w, 0);
    if (q2 + p) m->t->quadratic(m, w, Q);
}

/* a_e = v_e'g = 2 sum_l (W'g_l)_r (T'g_l)_c */
static void projections(const lmm_model *m, double *a)
{
    for (int k = 0; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        const int p = f->p, pb = m->pb;
        for (int t = 0; t < f->nth; t++) {
            const int r = f->thr[t], c = f->thc[t];
            const double *Y = m->Y + (ptrdiff_t)f->col * pb + m->p;
            a[f->th + t] = 0;
            for (int32_t l = 0; l < f->nlev; l++, Y += (ptrdiff_t)p * pb) {
                double Tg = 0, Wg = f->W ? 0 : Y[r * pb];
                for (int x = 0; x < p; x++) Tg += f->T[x + c * p] * Y[x * pb];
                for (int x = 0; f->W && x < p; x++) Wg += f->W[x + r * p] * Y[x * pb];
                a[f->th + t] += 2 * Tg * Wg;
            }
        }
    }
}

/* H := nu/r^2 Q - nu/r^4 a a'  (ntheta x ntheta, elimination order); needs the factorization */
void information(lmm_model *m, double nu, double *H)
{
    const ptrdiff_t N = m->ntheta;
    double *Q = m->work, *v = Q + N * N, *U = v + N * m->q2, *A = U + (m->nwork - (U - m->work)) / 2;
    memset(Q, 0, sizeof(double) * (size_t)(N * N));
    memset(m->V, 0, sizeof(double) * (size_t)N * (size_t)(m->q - m->q1 + m->pb));
    for (int k = 0; k < m->nelim; k++) eliminated_information(m, k, Q, U, A);
    trailing_information(m, Q, v);
    projections(m, m->tmp);
    for (ptrdiff_t j = 0; j < N; j++)
        for (ptrdiff_t i = 0; i < N; i++)
            H[i + j * N] =
                nu / m->r2 * (Q[i + j * N] + Q[j + i * N]) / 2 - nu / (m->r2 * m->r2) * m->tmp[i] * m->tmp[j];
}

/* H += 2 S[r, r'] for parameters in one column of one T: right near and on the boundary */
void add_boundary_curvature(const lmm_model *m, double *H)
{
    for (int k = 0; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        for (int t = 0; t < f->nth; t++)
            for (int u = 0; u < f->nth; u++)
                if (f->thc[t] == f->thc[u])
                    H[f->th + t + (ptrdiff_t)(f->th + u) * m->ntheta] +=
                        2 * f->S[f->thr[t] + f->thr[u] * f->p];
    }
}
