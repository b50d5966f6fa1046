/* The trailing matrix as one dense matrix: LAPACK's Cholesky factor and inverse. */

#include "base/memory.h"
#include "trailing/dense.h"
#include "cholesky/dense.h"
#include "trailing/lines.h"

static char lower = 'L', left = 'L', none = 'N', trans = 'T';
static double one = 1, zero = 0, minus = -1;

lmm_status dense_allocate(lmm_model *m)
{
    GRAB(m, m->S, (ptrdiff_t)m->s * m->s);
    GRAB(m, m->L, (ptrdiff_t)m->s * m->s);
    GRAB(m, m->cholesky, cholesky_work(m->q2));
    m->lde = m->s;
    m->Se = m->S + m->q2;
    m->Le = m->L + m->q2;
    return LMM_OK;
}

/* S := A over the trailing levels, X and y */
static void dense_load(lmm_model *m)
{
    const ptrdiff_t s = m->s;
    memset(m->S, 0, sizeof(double) * (size_t)(s * s));
    for (int k = m->nelim; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        const int p = f->p;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            const ptrdiff_t c0 = m->trailcol[e];
            const double *diag = f->adiag + (ptrdiff_t)(e - f->node) * p * p;
            for (int c = 0; c < p; c++) {
                double *S = m->S + (c0 + c) * s;
                const double *from = f->apan + m->pan[e] + (ptrdiff_t)c * m->ld[e];
                for (int r = 0; r < p; r++) S[c0 + r] = diag[r + c * p];
                for (ptrdiff_t i = m->ptr[e]; i < m->ptr[e + 1]; i++) {
                    double *to = S + m->trailcol[m->row[i]];
                    for (int r = 0; r < m->width[m->row[i]]; r++) to[r] = *from++;
                }
                memcpy(S + m->q2, from, sizeof(double) * (size_t)m->pb);
            }
        }
    }
    for (int c = 0; c < m->pb; c++)
        memcpy(m->S + (m->q2 + c) * s + m->q2, m->border + c * m->pb, sizeof(double) * (size_t)m->pb);
}

/* S -= P P' when every level meets every trailing column: one product */
static void downdate_full(lmm_model *m, const factor *f)
{
    int s = m->s, q1 = f->nlev * f->p;
    m->blas.syrk(&lower, &none, &s, &q1, &minus, f->P, &s, &one, m->S, &s);
}

static void dense_downdate(lmm_model *m, int k)
{
    if (m->full)
        downdate_full(m, &m->f[k]);
    else
        downdate_tiles(m, k);
}

/* L := [Lambda'S Lambda + I, .; S_b Lambda, S_bb], lower; S's diagonal blocks are made symmetric */
CLONES static void scale_trailing(lmm_model *m)
{
    const ptrdiff_t s = m->s;
    for (int k = m->nelim; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        const int p = f->p;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            const ptrdiff_t c0 = m->trailcol[e], len = s - c0;
            const double *S = m->S + c0 * s + c0;
            mirror(p, m->S + c0 * s + c0, m->s);
            for (int c = 0; c < p; c++) {
                double *L = m->L + (c0 + c) * s + c0;
                for (ptrdiff_t r = 0; r < len; r++) L[r] = S[r] * f->T[c * p];
                for (int x = 1; x < p; x++) {
                    const double t = f->T[x + c * p], *from = S + x * s;
                    for (ptrdiff_t r = 0; r < len; r++) L[r] += from[r] * t;
                }
                scale_rows(m, k, e, L, 1);
                L[c] += 1;
            }
        }
    }
    for (int c = 0; c < m->pb; c++)
        memcpy(m->L + (m->q2 + c) * s + m->q2, m->S + (m->q2 + c) * s + m->q2,
               sizeof(double) * (size_t)m->pb);
}

static lmm_status dense_factorize(lmm_model *m)
{
    const int s = m->s;
    scale_trailing(m);
    const int failed = cholesky(&m->blas, m->team, s, m->L, s);
    if (failed && failed < s) return LMM_NOTPOSDEF;
    for (ptrdiff_t i = 0; i < s - 1; i++)
        *(i < m->q2 ? &m->logdetM : &m->logdetC) += 2 * log(m->L[i + i * s]);
    const double r = m->L[(ptrdiff_t)s * s - 1];
    m->r2 = failed ? 0 : r * r;
    return LMM_OK;
}

/* H := edge of L times L^-1 Lambda' */
static void dense_border(lmm_model *m, double *H)
{
    const ptrdiff_t pb = m->pb;
    for (ptrdiff_t c = 0; c < m->q2; c++) memcpy(H + c * pb, m->Le + c * m->lde, sizeof(double) * (size_t)pb);
    rows_solve(m, m->pb, m->q2, m->L, m->s, 0, H);
    columns_times_lambda(m, m->pb, H, 1);
}

static void dense_times(lmm_model *m, int r, double alpha, const double *V, double *W)
{
    rows_times_symmetric(m, r, m->q2, alpha, V, m->S, m->s, W);
}

static void dense_quadratic(lmm_model *m, double *w, double *Q)
{
    int N = m->ntheta, all = m->q2 + m->p;
    rows_solve(m, N, all, m->L, m->s, 1, w);
    m->blas.gemm(&none, &trans, &N, &N, &all, &minus, w, &N, w, &N, &one, Q, &N);
}

/* D_j += (S_jl T_l) Sinv_jl' for every trailing block j below level l of factor k */
INLINE void gradient_below(lmm_model *m, int k, int32_t e)
{
    const ptrdiff_t s = m->s, c0 = m->trailcol[e];
    const factor *f = &m->f[k];
    const int p = f->p;
    const double *S = m->S + c0 * s, *B = m->L + c0 * s;
    double *Y = m->tmp;
    for (int j = k; j < m->nfactor; j++) {
        factor *other = &m->f[j];
        const int w = other->p;
        const ptrdiff_t first = j == k ? c0 + p : m->trailcol[other->node];
        const ptrdiff_t last = m->trailcol[other->node] + (ptrdiff_t)other->nlev * w;
        if (w == 1 && p == 1) {
            *other->D += f->T[0] * dot(last - first, S + first, B + first);
            continue;
        }
        for (ptrdiff_t r = first; r < last; r += w) {
            mul(w, p, p, 0, S + r, m->s, f->T, p, Y, w);
            mult(w, w, p, 1, Y, w, B + r, m->s, other->D, w);
        }
    }
}

/* X (n x p) = X T'. x: p doubles */
INLINE void times_transpose(int p, const double *T, ptrdiff_t n, double *X, ptrdiff_t ldx, double *x)
{
    if (p == 1) {
        for (ptrdiff_t r = 0; r < n; r++) X[r] *= *T;
        return;
    }
    for (ptrdiff_t r = 0; r < n; r++) {
        for (int c = 0; c < p; c++) x[c] = X[r + c * ldx];
        for (int c = 0; c < p; c++) {
            double v = 0;
            for (int k = 0; k < p; k++) v += x[k] * T[c + k * p];
            X[r + c * ldx] = v;
        }
    }
}

/* Trailing part of B in place of S^-1, and D += blocks of S Lambda S^-1 */
CLONES static void invert_dense(lmm_model *m)
{
    const ptrdiff_t s = m->s;
    const int q2 = m->q2, is = m->s;
    cholesky_invert(&m->blas, m->team, m->q2, m->L, m->s, m->cholesky);
    for (int k = m->nelim; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        const int p = f->p;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            const ptrdiff_t c0 = m->trailcol[e], len = q2 - c0;
            double *B = m->L + c0 * s + c0, *S = m->S + c0 * s + c0;
            mirror(p, B, is);
            gradient_below(m, k, e);
            for (int c = 0; c < p; c++) {
                scale_rows(m, k, e, B + c * s, 0);
                for (int r = 0; r < p; r++) f->D[r + c * p] += dot(len, S + r * s, B + c * s);
            }
            times_transpose(p, f->T, len, B, s, m->tmp);
            for (int c = 0; c < p; c++)
                memcpy(f->Q + ((ptrdiff_t)(e - f->node) * p + c) * p, B + c * s, sizeof(double) * (size_t)p);
        }
    }
}

/* Q_l = |L^-1 Lambda' A_Jl|^2 when every level meets every trailing column; needs L before inversion */
CLONES static void gather_full(lmm_model *m, factor *f)
{
    int q1 = m->q1, q2 = m->q2, s = m->s, p = f->p;
    const ptrdiff_t pp = (ptrdiff_t)p * p;
    memset(f->Q, 0, sizeof(double) * (size_t)(f->nlev * pp));
    if (!q2) return;
    for (ptrdiff_t c = 0; c < q1; c++) {
        double *to = f->P + c * s;
        memcpy(to, f->pan + c * s, sizeof(double) * (size_t)q2);
        for (int k = 1; k < m->nfactor; k++) {
            const factor *t = &m->f[k];
            for (int32_t l = 0; l < t->nlev; l++, to += t->p) {
                tmul(t->p, 1, t->p, 0, t->T, t->p, to, t->p, m->tmp, t->p);
                memcpy(to, m->tmp, sizeof(double) * (size_t)t->p);
            }
        }
    }
    m->blas.trsm(&left, &lower, &none, &none, &q2, &q1, &one, m->L, &s, f->P, &s);
    for (int32_t l = 0; l < f->nlev; l++) {
        double *Q = f->Q + l * pp;
        if (p == 1)
            *Q = dot(q2, f->P + (ptrdiff_t)l * s, f->P + (ptrdiff_t)l * s);
        else
            m->blas.syrk(&lower, &trans, &p, &q2, &one, f->P + (ptrdiff_t)l * p * s, &s, &zero, Q, &p);
        mirror(p, Q, p);
    }
}

static void dense_invert(lmm_model *m)
{
    if (m->full) gather_full(m, &m->f[0]);
    if (m->q2) invert_dense(m);
}

static void dense_gather(lmm_model *m)
{
    gather_tiles(m, 0);
}

/* V += B_JJ A_J for every level of an eliminated factor, J: its trailing columns */
CLONES static void dense_product(lmm_model *m, int k, double *panels)
{
    const factor *f = &m->f[k];
    const ptrdiff_t s = m->s;
    const ptrdiff_t skip = ancestor_rows(m, k);
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = m->ld[e], first = m->ptr[e] + (m->nelim - 1 - k);
        const double *A = f->pan + m->pan[e] + skip;
        double *V = panels + m->pan[e] + skip;
        for (ptrdiff_t i = first, rc = 0; i < m->ptr[e + 1]; i++)
            for (int c = 0; c < m->width[m->row[i]]; c++, rc++) {
                const int32_t col = m->trailcol[m->row[i]] + c;
                for (ptrdiff_t j = first, rr = 0; j < m->ptr[e + 1]; j++)
                    for (int r = 0; r < m->width[m->row[j]]; r++, rr++) {
                        const int32_t row = m->trailcol[m->row[j]] + r;
                        const double b = row >= col ? m->L[row + col * s] : m->L[col + row * s];
                        for (int x = 0; x < f->p; x++) V[rr + x * ld] += b * A[rc + x * ld];
                    }
            }
    }
}

static void dense_solve(lmm_model *m, int r, double *X)
{
    columns_times_lambda(m, r, X, 0);
    rows_solve(m, r, m->q2, m->L, m->s, 1, X);
    rows_solve(m, r, m->q2, m->L, m->s, 0, X);
    columns_times_lambda(m, r, X, 1);
}

static int dense_covariance(const lmm_model *m, int32_t i, int32_t j, double *B)
{
    const double *from = m->L + m->trailcol[j] + (ptrdiff_t)m->trailcol[i] * m->s;
    for (int c = 0; c < m->width[i]; c++, from += m->s)
        for (int r = 0; r < m->width[j]; r++) *B++ = from[r];
    return 1;
}

const trailing TRAILING_DENSE = {dense_load,    dense_downdate,  dense_factorize, dense_border,
                                 dense_times,   dense_quadratic, dense_invert,    dense_gather,
                                 dense_product, dense_solve,     dense_covariance};
