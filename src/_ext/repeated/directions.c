/* What the changes of Sigma in its parameters come to in the sums of a pattern: -W Sigma_i W, and
   tr(Q Sigma_i W Sigma_j).

   A structure of few visits is left to the end: both are taken in the entries of Sigma, of which a pattern
   has few, and turned into parameters once a group. Else (many visits, or a structure of each pattern)
   parameter by parameter. */

#include "repeated/state.h"

/* U (pairs x pairs) := (W E_ab W)_ts, E_ab the symmetric unit matrix of a pair */
static void changes(int k, const double *W, double *U)
{
    for (int b = 0; b < k; b++)
        for (int a = 0; a <= b; a++)
            for (int s = 0; s < k; s++) {
                const double Wbs = W[b + s * k], Was = a < b ? W[a + s * k] : 0;
                for (int t = 0; t <= s; t++) *U++ = W[t + a * k] * Wbs + W[t + b * k] * Was;
            }
}

/* U := tr(Q E_ab W E_cd) for pairs ab and cd */
static void traces(int k, const double *W, const double *Q, double *U)
{
    for (int d = 0; d < k; d++)
        for (int c = 0; c <= d; c++)
            for (int b = 0; b < k; b++)
                for (int a = 0; a <= b; a++) {
                    double s = Q[d + a * k] * W[b + c * k];
                    if (a < b) s += Q[d + b * k] * W[a + c * k];
                    if (c < d) s += Q[c + a * k] * W[b + d * k];
                    if (a < b && c < d) s += Q[c + b * k] * W[a + d * k];
                    *U++ = s;
                }
}

/* entry[pair]: its place among the pairs of all visits */
static void find_entries(lmm_repeated *r, const pattern *own)
{
    int32_t *to = r->entry;
    for (int s = 0; s < own->k; s++)
        for (int t = 0; t <= s; t++) *to++ = (int32_t)triangle(own->visit[s]) + own->visit[t];
}

int repeated_slopes(lmm_repeated *r, const lmm_structure *s, double shift, const double *phi)
{
    for (int i = 0; i < s->nphi; i++) r->here[i] = phi[i] + (s->kind[i] == LMM_LOGARITHM ? shift : 0);
    return s->map(s, r->here, r->root, r->dSigma, r->work);
}

/* J (entries x nphi) of a group. Nonzero: there is no Sigma. */
static int turn(lmm_repeated *r, int group)
{
    const ptrdiff_t m = r->visits;
    double *to = r->J;
    if (repeated_slopes(r, r->structure, 0, r->phi + (ptrdiff_t)group * r->nphi)) return 1;
    for (ptrdiff_t i = 0; i < r->nphi; i++)
        for (ptrdiff_t b = 0; b < m; b++)
            for (ptrdiff_t a = 0; a <= b; a++) *to++ = r->dSigma[a + b * m + i * m * m];
    return 0;
}

/* Of one pattern: Sigma_i, and Sigma_i W after them (nphi blocks k x k each) */
static void directions(lmm_repeated *r, const pattern *own)
{
    const ptrdiff_t p = own->structure->p, kk = (ptrdiff_t)own->k * own->k, n = r->nphi;
    int k = own->k;
    double one = 1, zero = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        double *to = r->along + i * kk;
        for (int s = 0; s < k; s++)
            for (int t = 0; t < k; t++)
                to[t + s * k] = r->dSigma[own->visit[t] + own->visit[s] * p + i * p * p];
        r->blas.gemm("N", "N", &k, &k, &k, &one, to, &k, r->W + own->square, &k, &zero, to + n * kk, &k);
    }
}

/* M (pairs x nphi) := -W Sigma_i W */
static void turned(lmm_repeated *r, const pattern *own)
{
    const ptrdiff_t kk = (ptrdiff_t)own->k * own->k, n = r->nphi;
    int k = own->k;
    double one = 1, zero = 0, *to = r->M;
    directions(r, own);
    for (ptrdiff_t i = 0; i < n; i++) {
        r->blas.gemm("N", "N", &k, &k, &k, &one, r->W + own->square, &k, r->along + (n + i) * kk, &k, &zero,
                     r->product, &k);
        for (int s = 0; s < k; s++)
            for (int t = 0; t <= s; t++) *to++ = -r->product[t + s * k];
    }
}

/* H += tr(Q Sigma_i W Sigma_j) */
static void curve(lmm_repeated *r, const pattern *own, const double *Q)
{
    const ptrdiff_t kk = (ptrdiff_t)own->k * own->k, n = r->nphi, at = own->group * n;
    int k = own->k;
    double one = 1, zero = 0;
    directions(r, own);
    for (ptrdiff_t i = 0; i < n; i++) {
        r->blas.gemm("N", "N", &k, &k, &k, &one, (double *)Q, &k, r->along + (n + i) * kk, &k, &zero,
                     r->product, &k);
        for (ptrdiff_t j = 0; j < n; j++)
            r->H[at + i + (at + j) * r->all] += dot(kk, r->product, r->along + j * kk);
    }
}

void repeated_curve(lmm_repeated *r, const pattern *own, const double *Q)
{
    const ptrdiff_t K = triangle(own->k);
    if (!r->entries) {
        curve(r, own, Q);
        return;
    }
    traces(own->k, r->W + own->square, Q, r->U);
    find_entries(r, own);
    for (ptrdiff_t j = 0; j < K; j++) {
        double *to = r->UH + r->entry[j] * r->entries;
        for (ptrdiff_t i = 0; i < K; i++) to[r->entry[i]] += r->U[i + j * K];
    }
}

int repeated_curved(lmm_repeated *r, int group)
{
    int E = (int)r->entries, n = r->nphi, all = r->all;
    double one = 1, zero = 0, *H = r->H + (ptrdiff_t)group * n * (all + 1);
    if (!r->entries) return 0;
    if (turn(r, group)) return 1;
    r->blas.gemm("N", "N", &E, &n, &E, &one, r->UH, &E, r->J, &E, &zero, r->UJ, &E);
    r->blas.gemm("T", "N", &n, &n, &E, &one, r->J, &E, r->UJ, &E, &one, H, &all);
    memset(r->UH, 0, sizeof(double) * (size_t)r->entries * (size_t)r->entries);
    return 0;
}

/* The same by entries */
static lmm_status by_entries(lmm_repeated *r, int group, int rows, int ld, const double *sums, double *out)
{
    int E = (int)r->entries, n = r->nphi;
    double one = 1, zero = 0, minus = -1;
    void *const since = r->memory;
    double *whole, *part;
    GRAB(r, whole, (ptrdiff_t)rows * E + (ptrdiff_t)rows * triangle(r->most) + 1);
    part = whole + (ptrdiff_t)rows * E;
    for (int i = 0; i < r->patterns; i++) {
        const pattern *own = &r->pattern[i];
        int K = (int)triangle(own->k);
        if (own->group != group) continue;
        changes(own->k, r->W + own->square, r->U);
        find_entries(r, own);
        r->blas.gemm("N", "N", &rows, &K, &K, &minus, (double *)sums + own->pair * ld, &ld, r->U, &K, &zero,
                     part, &rows);
        for (ptrdiff_t j = 0; j < K; j++) {
            double *to = whole + r->entry[j] * (ptrdiff_t)rows, *from = part + j * rows;
            for (ptrdiff_t l = 0; l < rows; l++) to[l] += from[l];
        }
    }
    const int failed = turn(r, group);
    if (!failed) r->blas.gemm("N", "N", &rows, &n, &E, &one, whole, &rows, r->J, &E, &zero, out, &rows);
    release(&r->memory, since);
    return failed ? LMM_NOTPOSDEF : LMM_OK;
}

lmm_status repeated_changed(lmm_repeated *r, int group, int rows, int ld, const double *sums, double *out)
{
    int n = r->nphi, there = 0;
    double one = 1;
    if (!rows) return LMM_OK;
    if (r->entries) return by_entries(r, group, rows, ld, sums, out);
    memset(out, 0, sizeof(double) * (size_t)rows * (size_t)n);
    for (int i = 0; i < r->patterns; i++) {
        const pattern *own = &r->pattern[i];
        int K = (int)triangle(own->k);
        if (own->group != group) continue;
        if ((r->local || !there++) &&
            repeated_slopes(r, own->structure, own->shift, r->phi + (ptrdiff_t)group * n))
            return LMM_NOTPOSDEF;
        turned(r, own);
        r->blas.gemm("N", "N", &rows, &n, &K, &one, (double *)sums + own->pair * ld, &ld, r->M, &K, &one, out,
                     &rows);
    }
    return LMM_OK;
}
