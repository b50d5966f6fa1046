/* Average information in the entries of Sigma = T T' (whitened): A_ef = nu v_e'Z'PZ v_f / r^2 - nu
   (v_e'g)(v_f'g) / r^4 with v_e = dSigma/de g per level, or dSigma/de (K g)_l where levels are related
   (Gilmour, Thompson & Cullis 1995). The quadratic form follows the elimination: for c = Z v,

     u = w_l + A_l v_l,  a = v_l - K_l u,  Q += v_l'w_l + u'a,  w_R += A_Rl a

   where w_l = Z_l'V^-1 c collects what earlier levels sent. All vectors stand as rows: those of theta are
   made level by level, others are given (forms.c). */

#include "evaluate/evaluate.h"
#include "evaluate/readings.h"
#include "model/relation.h"
#include "trailing/trailing.h"
#include "trailing/lines.h"
#include "base/large.h"

static char none = 'N', trans = 'T';
static double one = 1;

/* v: rows f->th .. f->th + f->nth of an ntheta x p block (leading dimension ldv, zero before) for one level,
   with g of its columns pb apart */
INLINE void directions(const factor *f, const double *g, int pb, double *v, ptrdiff_t ldv)
{
    v += f->th;
    for (int t = 0; t < f->nth; t++) {
        const int r = f->thr[t], c = f->thc[t];
        v[t + r * ldv] = g[c * pb];
        v[t + c * ldv] = g[r * pb];
    }
}

/* v_l (N x p) of node e, zero before */
INLINE void own_rows(const lmm_model *m, const forms *q, const factor *f, int32_t e, double *v)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = q->N, column = lay->nodecol[e];
    if (q->given)
        memcpy(v, q->given + column * N, sizeof(double) * (size_t)(f->p * N));
    else
        directions(f, related_rows(m, f->k) + (column - f->col) * lay->pb + q->edge, lay->pb, v, N);
}

/* Rows that are not zero as far as factor f */
INLINE int rows_until(const forms *q, const factor *f)
{
    return q->given ? q->N : f->th + f->nth;
}

/* u += a A_l,  a -= u K_l of a wide level; work: 2 p x p */
static void large_level(lmm_model *m, const factor_state *fs, ptrdiff_t block, int p, int N, double *u,
                        double *a, double *work)
{
    double minus = -1, *A = fs->diag + block, *K = fs->K + block;
    m->blas.gemm(&none, &none, &N, &p, &p, &one, a, &N, A, &p, &one, u, &N);
    if (m->evaluation.at.state == INVERTED) { /* B stands where K stood */
        K = work + (ptrdiff_t)p * p;
        large_factor(&m->blas, p, fs->T, fs->L + block, work);
        product(&m->blas, 'N', 'T', p, p, p, 0, work, p, work, p, K, p);
    }
    m->blas.gemm(&none, &none, &N, &p, &p, &minus, u, &N, K, &p, &one, a, &N);
}

/* One batch of levels of an eliminated factor. U, A: N x (2 p per level), for Q += U A'. */
INLINE int batch(lmm_model *m, const forms *q, int k, int32_t first, int32_t count)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    factor_state *fs = &m->evaluation.f[k];
    const int p = f->p, n = rows_until(q, f), N = q->N, pair = k ? 2 : 1;
    double *L = m->scratch.tmp, *K = L + p * p;
    for (int32_t l = first; l < first + count; l++) {
        const ptrdiff_t block = (ptrdiff_t)l * p * p, e = f->node + l;
        double *u = q->U + (ptrdiff_t)(l - first) * pair * p * N, *a = q->A + (u - q->U);
        memset(a, 0, sizeof(double) * (size_t)(p * N));
        own_rows(m, q, f, (int32_t)e, a);
        if (k) {
            memcpy(u + p * N, a, sizeof(double) * (size_t)(p * N));
            memcpy(a + p * N, q->V + (lay->nodecol[e] - lay->q1) * (ptrdiff_t)N,
                   sizeof(double) * (size_t)(p * N));
            memcpy(u, a + p * N, sizeof(double) * (size_t)(p * N));
        } else
            memset(u, 0, sizeof(double) * (size_t)(p * N));
        if (p >= LARGE) {
            large_level(m, fs, block, p, N, u, a, L);
            continue;
        }
        for (int c = 0; c < p; c++)
            for (int x = 0; x < p; x++) {
                const double d = fs->diag[block + x + c * p];
                for (int t = 0; t < n; t++) u[t + c * N] += a[t + x * N] * d;
            }
        scaled_factor(p, fs->T, fs->L + block, L);
        mult(p, p, p, 0, L, p, L, p, K, p);
        for (int c = 0; c < p; c++)
            for (int x = 0; x < p; x++)
                for (int t = 0; t < n; t++) a[t + c * N] -= u[t + x * N] * K[x + c * p];
    }
    return count * pair * p;
}

/* w_R += A_Rl a for one level with a list */
INLINE void send(lmm_model *m, const forms *q, const factor *f, int32_t e, const double *a)
{
    const layout *lay = &m->layout;
    factor_state *fs = &m->evaluation.f[f->k];
    const ptrdiff_t N = q->N, ld = lay->ld[e];
    const int n = rows_until(q, f);
    const double *pan = fs->pan + lay->pan[e];
    ptrdiff_t row = 0;
    for (ptrdiff_t i = lay->ptr[e]; i <= lay->ptr[e + 1]; i++) {
        const int border = i == lay->ptr[e + 1];
        double *w = q->V + N * ((border ? lay->q : lay->nodecol[lay->row[i]]) - lay->q1);
        const int width = border ? lay->pb : lay->width[lay->row[i]];
        for (int r = 0; r < width; r++, row++, w += N)
            for (int x = 0; x < f->p; x++) {
                const double v = pan[row + x * ld];
                for (int t = 0; t < n; t++) w[t] += a[t + x * N] * v;
            }
    }
}

CLONES static void eliminated_forms(lmm_model *m, const forms *q, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    factor_state *fs = &m->evaluation.f[k];
    int n = rows_until(q, f), N = q->N, s = lay->s;
    const ptrdiff_t step = (ptrdiff_t)(k ? 2 : 1) * f->p * N;
    for (int32_t l = 0; l < f->nlev; l += BATCH) {
        const int32_t count = f->nlev - l < BATCH ? f->nlev - l : BATCH;
        int cols = batch(m, q, k, l, count);
        m->blas.gemm(&none, &trans, &n, &n, &cols, &one, q->U, &N, q->A, &N, &one, q->Q, &N);
        if (lay->full)
            m->blas.gemm(&none, &trans, &n, &s, &cols, &one, q->A, &N, fs->pan + lay->pan[f->node + l], &s,
                         &one, q->V, &N);
        else
            for (int32_t i = 0; i < count; i++) send(m, q, f, f->node + l + i, q->A + i * step);
    }
}

/* The trailing levels and X */
CLONES static void trailing_forms(lmm_model *m, const forms *f)
{
    const layout *lay = &m->layout;
    int N = f->N, q2 = lay->q2, p = f->p, ld = (int)m->trailing->lde;
    double *v = f->v, *w = f->V + (ptrdiff_t)(lay->q - lay->q2 - lay->q1) * N;
    memset(v, 0, sizeof(double) * (size_t)N * (size_t)q2);
    for (int k = lay->nelim; k < lay->nfactor; k++)
        for (int32_t e = lay->f[k].node; e < lay->f[k].node + lay->f[k].nlev; e++)
            own_rows(m, f, &lay->f[k], e, v + (ptrdiff_t)lay->trailcol[e] * N);
    if (q2) {
        m->blas.gemm(&none, &trans, &N, &N, &q2, &one, v, &N, w, &N, &one, f->Q, &N);
        m->trailing->steps->times(m->trailing, m, N, 1, v, w);
        m->blas.gemm(&none, &trans, &N, &N, &q2, &one, w, &N, v, &N, &one, f->Q, &N);
        if (p)
            m->blas.gemm(&none, &trans, &N, &p, &q2, &one, v, &N, m->trailing->Se, &ld, &one,
                         w + (ptrdiff_t)q2 * N, &N);
    }
    columns_times_lambda(m, N, w, 0);
    if (q2 + p) m->trailing->steps->quadratic(m->trailing, m, N, p, w, f->Q);
}

void quadratic_forms(lmm_model *m, const forms *q)
{
    const layout *lay = &m->layout;
    const size_t N = (size_t)q->N;
    memset(q->Q, 0, sizeof(double) * N * N);
    memset(q->V, 0, sizeof(double) * N * (size_t)(lay->q - lay->q1 + lay->pb));
    for (int k = 0; k < lay->nelim; k++) eliminated_forms(m, q, k);
    trailing_forms(m, q);
}

static double *forms_in_scratch(lmm_model *m, ptrdiff_t N, const double *given, int edge, int p)
{
    const layout *lay = &m->layout;
    double *Q = m->scratch.work, *v = Q + N * N, *U = v + N * lay->q2,
           *A = U + (m->scratch.nwork - (U - m->scratch.work)) / 2;
    const forms q = {
        .N = (int)N, .given = given, .edge = edge, .p = p, .Q = Q, .V = m->scratch.V, .v = v, .U = U, .A = A};
    quadratic_forms(m, &q);
    return Q;
}

double *direction_forms(lmm_model *m, int edge, int p)
{
    return forms_in_scratch(m, m->layout.ntheta, NULL, edge, p);
}

double *given_forms(lmm_model *m, int N, const double *given)
{
    return forms_in_scratch(m, N, given, m->layout.p, m->layout.p);
}

void projections(const lmm_model *m, double *a)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const int p = f->p, pb = lay->pb;
        for (int t = 0; t < f->nth; t++) {
            const int r = f->thr[t], c = f->thc[t];
            const double *g = root_rows(m, k) + lay->p;
            double sum = 0;
            for (int32_t l = 0; l < f->nlev; l++, g += (ptrdiff_t)p * pb) sum += g[r * pb] * g[c * pb];
            a[f->th + t] = r == c ? sum : 2 * sum;
        }
    }
}

/* A := nu/r^2 Q - nu/r^4 a a'  (ntheta x ntheta, elimination order); needs the factorization */
void information(lmm_model *m, double nu, double *A)
{
    const layout *lay = &m->layout;
    const double r2 = m->evaluation.r2, *a = m->scratch.tmp, *Q = direction_forms(m, lay->p, lay->p);
    const ptrdiff_t N = lay->ntheta;
    projections(m, m->scratch.tmp);
    for (ptrdiff_t j = 0; j < N; j++)
        for (ptrdiff_t i = 0; i < N; i++)
            A[i + j * N] = nu / r2 * (Q[i + j * N] + Q[j + i * N]) / 2 - nu / (r2 * r2) * a[i] * a[j];
}
