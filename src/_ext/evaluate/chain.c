/* Derivatives in Sigma = T T' to those in theta. With T = W Tp and theta the entries of Tp,

     dSigma = W dTp T' + T dTp'W',   so   df = <S, dSigma> = 2 <W'S T, dTp>

   and Sigma bends by 2 <S, W dTp dTp'W'>: parameters in one column of Tp by 2 (W'S W)_rr'. */

#include "evaluate/chain.h"

#include "base/small.h"

CLONES void pull_back(int k, const double *L, const double *R, int ld, ptrdiff_t N, const double *from,
                      double *to, double *half)
{
    for (int j = 0; j < k; j++) {
        for (int a = L ? 0 : j; a < k; a++) { /* half_a := sum_b V_ab R_bj */
            double *x = half + a * N;
            memset(x, 0, sizeof(double) * (size_t)N);
            for (int b = 0; b < k; b++) {
                const double *v = from + packed_place(k, a > b ? a : b, a > b ? b : a) * N;
                const double r = a == b ? R[b + j * ld] : R[b + j * ld] / 2;
                if (r == 0) continue;
                for (ptrdiff_t e = 0; e < N; e++) x[e] += r * v[e];
            }
        }
        for (int i = j; i < k; i++) {
            double *y = to + packed_place(k, i, j) * N;
            if (!L) {
                memcpy(y, half + i * N, sizeof(double) * (size_t)N);
                continue;
            }
            memset(y, 0, sizeof(double) * (size_t)N);
            for (int a = 0; a < k; a++)
                for (ptrdiff_t e = 0; e < N; e++) y[e] += L[a + i * ld] * half[a * N + e];
        }
    }
}

void unfold(int k, const double *row, double *V, int ld)
{
    for (int j = 0; j < k; j++)
        for (int i = j; i < k; i++, row++) V[i + j * ld] = V[j + i * ld] = i == j ? *row : *row / 2;
}

void transpose(ptrdiff_t n, double *A)
{
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t i = j + 1; i < n; i++) {
            const double a = A[i + j * n];
            A[i + j * n] = A[j + i * n];
            A[j + i * n] = a;
        }
}

ptrdiff_t chain_work(const layout *lay)
{
    ptrdiff_t p = 1;
    for (int k = 0; k < lay->nfactor; k++)
        if (lay->f[k].p > p) p = lay->f[k].p;
    return p * moving(lay) + 3 * p * p;
}

/* to := from J, N rows */
static void columns_to_theta(const lmm_model *m, int users, const double *T, ptrdiff_t N, const double *from,
                             double *to, double *half)
{
    const layout *lay = &m->layout;
    for (term t = {0}; next_term(lay, &t);) {
        const int p = t.f->p, corner = t.first * (p + 1);
        if (t.first == 0 && t.f->k > 0) T += lay->f[t.f->k - 1].p * lay->f[t.f->k - 1].p;
        pull_back(t.k, users ? t.f->Cinv + corner : NULL, T + corner, p, N, from + t.th * N, to + t.th * N,
                  half);
        for (ptrdiff_t i = 0; i < t.nth * N; i++) to[t.th * N + i] *= 2;
    }
}

/* H += 2 (W'S W)_rr' for parameters in one column */
static void add_bend(const lmm_model *m, int users, const double *slope, double *H, double *work)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    for (term t = {0}; next_term(lay, &t);) {
        const int k = t.k;
        const double *W = t.f->Cinv + t.first * (t.f->p + 1);
        double *S = work, *X = S + k * k;
        unfold(k, slope + t.th, S, k);
        if (users) {
            mul(k, k, k, 0, S, k, W, t.f->p, X, k);
            tmul(k, k, k, 0, W, t.f->p, X, k, S, k);
        }
        for (int c = 0; c < k; c++)
            for (int r = c; r < k; r++)
                for (int s = c; s < k; s++)
                    H[t.th + packed_place(k, r, c) + N * (t.th + packed_place(k, s, c))] += 2 * S[r + s * k];
    }
}

void to_theta(const lmm_model *m, int users, const double *T, const double *slope, double *B, double *g,
              double *H, double *work)
{
    const ptrdiff_t N = m->layout.ntheta;
    if (g) columns_to_theta(m, users, T, 1, slope, g, work);
    if (!H) return;
    columns_to_theta(m, users, T, N, B, H, work);
    memcpy(B, H, sizeof(double) * (size_t)(N * N));
    transpose(N, B);
    columns_to_theta(m, users, T, N, B, H, work);
    symmetrize((int)N, H);
    add_bend(m, users, slope, H, work);
}
