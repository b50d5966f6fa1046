/* Derivatives of the criterion in (Sigma, delta): its slope and average information (residual.h). */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "model/relation.h"
#include "residual/residual.h"
#include "trailing/trailing.h"

ptrdiff_t residual_size(const lmm_model *m)
{
    return m->layout.ntheta + m->residual->ndelta;
}

typedef residual_parts parts;

lmm_status residual_room(parts *a, const lmm_model *m)
{
    const layout *lay = &m->layout;
    const ptrdiff_t all = lay->q + lay->pb, D = m->residual->ndelta;
    GRAB(a, a->V, lay->pb * all);
    const ptrdiff_t N = (ptrdiff_t)lay->ntheta * lay->ntheta; /* of the information of theta, later */
    GRAB(a, a->M, lay->pb * all > N ? lay->pb * all : N + 1);
    GRAB(a, a->G, D * lay->pb * lay->pb + 1);
    GRAB(a, a->s, D * all + 1);
    GRAB(a, a->b, D * all + 1);
    GRAB(a, a->work, solve_work(m, (int)D) + D * (2 * all + D) + 4 * lay->pb + 1);
    return LMM_OK;
}

/* V_a := R^-1 V_a, C = R R', of each column; V: leading dimension pb */
static void solve_root(const lmm_model *m, ptrdiff_t columns, double *V)
{
    static char lower = 'L', left = 'L', none = 'N';
    const layout *lay = &m->layout;
    int p = lay->p, pb = lay->pb, n = (int)columns, ld = (int)m->trailing->lde;
    double one = 1;
    if (p)
        m->blas.trsm(&left, &lower, &none, &none, &p, &n, &one, m->trailing->Le + lay->q2 * m->trailing->lde,
                     &ld, V, &pb);
}

/* b of one level: T T'g into v, both with pb between numbers; g: of related levels K g */
static void mode_of(const lmm_model *m, const factor *f, const double *g, double *v)
{
    const factor_state *fs = &m->evaluation.f[f->k];
    const int p = f->p, pb = m->layout.pb;
    double *x = m->scratch.tmp, *u = x + p;
    for (int i = 0; i < p; i++) x[i] = g[i * pb];
    tmul(p, 1, p, 0, fs->T, p, x, p, u, p);
    mul(p, 1, p, 0, fs->T, p, u, p, x, p);
    for (int i = 0; i < p; i++) v[i * pb] = x[i];
}

/* Rows R^-1 N' and w'; after BORDERED */
void residual_vectors(lmm_model *m, parts *a)
{
    const layout *lay = &m->layout;
    const evaluation *ev = &m->evaluation;
    const ptrdiff_t pb = lay->pb, p = lay->p;
    for (ptrdiff_t c = 0; c < lay->q; c++)
        for (ptrdiff_t i = 0; i < p; i++) a->V[i + c * pb] = -ev->H[i + c * pb];
    for (ptrdiff_t c = 0; c < pb; c++)
        for (ptrdiff_t i = 0; i < p; i++) a->V[i + (lay->q + c) * pb] = i == c;
    solve_root(m, lay->q + pb, a->V);
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t l = 0; l < f->nlev; l++) {
            const ptrdiff_t at = lay->nodecol[f->node + l];
            mode_of(m, f, related_rows(m, k) + (at - f->col) * pb + p, a->V + at * pb + p);
        }
    }
    for (ptrdiff_t i = 0; i < p; i++) a->V[p + (lay->q + i) * pb] = ev->beta[i];
    a->V[p + (lay->q + p) * pb] = -1;
}

/* dA_j = weight times the sums that are returned */
const block_sums *residual_derivative(const residual *r, int j, double *weight)
{
    *weight = r->nstrata ? -2 * exp(-2 * r->delta[j]) : 1;
    return r->nstrata ? &r->stratum[j + 1] : &r->dA[j];
}

void residual_products(lmm_model *m, parts *a)
{
    const layout *lay = &m->layout;
    residual *r = m->residual;
    const ptrdiff_t pb = lay->pb, all = lay->q + pb;
    int n = lay->pb, columns = (int)all;
    static char none = 'N', trans = 'T';
    double zero = 0;
    if (!r->nstrata) differentiate_rows(m, r);
    for (int j = 0; j < r->ndelta; j++) {
        double weight;
        const block_sums *dA = residual_derivative(r, j, &weight);
        if (r->nstrata) r->logs[j] = 2 * (double)r->count[j + 1];
        times_sums(lay, dA, n, a->V, a->M);
        m->blas.gemm(&none, &trans, &n, &n, &columns, &weight, a->M, &n, a->V, &n, &zero, a->G + j * pb * pb,
                     &n);
        for (ptrdiff_t c = 0; c < all; c++) a->s[j + c * r->ndelta] = weight * a->M[lay->p + c * pb];
    }
}

/* ---------------------------------------------------------------------------------- the directions -- */

/* e (n) := D^-1 W^1/2 (y - X beta - Z b), from rows; behind it e~ = L^-1 e */
CLONES static void find_residuals(const lmm_model *m, const residual *r, const double *V)
{
    const layout *lay = &m->layout;
    const ptrdiff_t width = r->rows.width, pb = lay->pb, n = r->rows.n;
    const double *w = V + lay->p, *row = r->rows.value;
    for (int64_t i = 0; i < n; i++, row += width) {
        const double *x = row;
        double sum = 0;
        for (int k = 0; k < lay->nfactor; x += lay->f[k++].p) {
            const double *b = w + (ptrdiff_t)lay->nodecol[r->rows.node[k * n + i]] * pb;
            for (int c = 0; c < lay->f[k].p; c++) sum += x[c] * b[c * pb];
        }
        for (ptrdiff_t c = 0; c < pb; c++) sum += x[c] * w[(lay->q + c) * pb];
        r->e[i] = -sum * r->scale[i];
    }
    if (r->rows.subject)
        whiten_block(r, 0, n, r->e, 1, r->e + n);
    else
        memcpy(r->e + n, r->e, sizeof(double) * (size_t)n);
}

/* c_j'R^-1 c_k of all directions; lower and upper */
static void direction_squares(lmm_model *m, const parts *a, double *square)
{
    residual *r = m->residual;
    const ptrdiff_t D = r->ndelta, n = r->rows.n, pb = m->layout.pb;
    memset(square, 0, sizeof(double) * (size_t)(D * D));
    if (r->nstrata) { /* t = 2 e~ within the stratum, nothing elsewhere */
        for (ptrdiff_t j = 0; j < D; j++) square[j * (D + 1)] = -2 * a->G[(j + 1) * pb * pb - 1];
        return;
    }
    find_residuals(m, r, a->V);
    for (ptrdiff_t j = 0; j < D; j++) {
        residual_direction(r, 0, n, (int)j, r->e, r->e + n, r->buffer, r->t + j * n);
        for (ptrdiff_t i = 0; i <= j; i++)
            square[i + j * D] = square[j + i * D] = dot(n, r->t + i * n, r->t + j * n);
    }
}

/* s := [Z X]'V^-1 c_j of all j, from [Z X]'R^-1 c_j;  square -= c_j'R^-1 Z B Z'R^-1 c_k */
static void project_directions(lmm_model *m, parts *a, double *square)
{
    const layout *lay = &m->layout;
    const ptrdiff_t D = m->residual->ndelta, all = lay->q + lay->pb, pb = lay->pb;
    const block_sums A = model_sums(m);
    double *moved = a->work, *work = moved + D * all;
    memset(a->b, 0, sizeof(double) * (size_t)(D * all));
    memcpy(a->b, a->s, sizeof(double) * (size_t)(D * lay->q));
    solve_rows(m, (int)D, a->b, work);
    for (ptrdiff_t j = 0; j < D; j++)
        for (ptrdiff_t i = 0; i < D; i++)
            for (ptrdiff_t c = 0; c < lay->q; c++) square[i + j * D] -= a->s[i + c * D] * a->b[j + c * D];
    times_sums(lay, &A, (int)D, a->b, moved);
    for (ptrdiff_t i = 0; i < D * all; i++) a->s[i] -= moved[i];
    for (ptrdiff_t j = 0; j < D; j++) { /* X'V^-1 c_j becomes R^-1 times it */
        double *x = work;
        for (ptrdiff_t i = 0; i < pb; i++) x[i] = a->s[j + (lay->q + i) * D];
        solve_root(m, 1, x);
        for (ptrdiff_t i = 0; i < pb; i++) a->s[j + (lay->q + i) * D] = x[i];
    }
}

/* Z'P c_j in place of Z'V^-1 c_j; square: now c_j'P c_k */
static void without_fixed(const lmm_model *m, parts *a, double *square)
{
    const layout *lay = &m->layout;
    const ptrdiff_t D = m->residual->ndelta, pb = lay->pb;
    const double *x = a->s + lay->q * D;
    for (ptrdiff_t c = 0; c < lay->q; c++)
        for (ptrdiff_t i = 0; i < lay->p; i++)
            for (ptrdiff_t j = 0; j < D; j++) a->s[j + c * D] -= m->evaluation.Y[i + c * pb] * x[j + i * D];
    for (ptrdiff_t j = 0; j < D; j++)
        for (ptrdiff_t k = 0; k < D; k++)
            for (ptrdiff_t i = 0; i < lay->p; i++) square[j + k * D] -= x[j + i * D] * x[k + i * D];
}

/* v_e'Z'P c_j for the directions v_e = dSigma_e g of all entries of Sigma, into cross (ntheta x ndelta) */
static void cross_forms(const lmm_model *m, const parts *a, double *cross, ptrdiff_t ld)
{
    const layout *lay = &m->layout;
    const ptrdiff_t D = m->residual->ndelta, pb = lay->pb;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int t = 0; t < f->nth; t++)
            for (ptrdiff_t j = 0; j < D; j++) {
                const int x = f->thr[t], y = f->thc[t];
                double sum = 0;
                for (int32_t l = 0; l < f->nlev; l++) {
                    const ptrdiff_t c = f->col + (ptrdiff_t)l * f->p;
                    const double *g = related_rows(m, k) + (c - f->col) * pb + lay->p, *s = a->s + c * D + j;
                    sum += g[x * pb] * s[y * D] + (x == y ? 0 : g[y * pb] * s[x * D]);
                }
                cross[f->th + t + j * ld] = sum;
            }
    }
}

/* ----------------------------------------------------------------------------------------- the whole -- */

/* The slope in delta; after INVERTED */
static lmm_status delta_slope(lmm_model *m, const parts *a, int reml, double *slope)
{
    const layout *lay = &m->layout;
    const residual *r = m->residual;
    const ptrdiff_t pb = lay->pb;
    const double nu = degrees(m, reml);
    for (int j = 0; j < r->ndelta; j++) {
        const double *G = a->G + j * pb * pb;
        double weight, sum;
        const block_sums *dA = residual_derivative(r, j, &weight);
        TRY(contract_sums(m, dA, &sum));
        slope[j] = weight * sum + r->logs[j] + nu / m->evaluation.r2 * G[pb * pb - 1];
        for (ptrdiff_t i = 0; reml && i < lay->p; i++) slope[j] += G[i * (pb + 1)];
    }
    return LMM_OK;
}

/* Rows and columns of delta of the average information, n x n; theta's are there */
static void delta_information(lmm_model *m, parts *a, double nu, double *A, ptrdiff_t n)
{
    const layout *lay = &m->layout;
    const ptrdiff_t D = m->residual->ndelta, N = lay->ntheta, pb = lay->pb;
    const double r2 = m->evaluation.r2;
    double *own = m->scratch.tmp, *square = a->work + D * (lay->q + pb) + solve_work(m, (int)D) + 4 * pb;
    direction_squares(m, a, square);
    project_directions(m, a, square);
    without_fixed(m, a, square);
    cross_forms(m, a, A + N * n, n);
    projections(m, own);
    for (ptrdiff_t j = 0; j < D; j++) {
        const double along = -a->G[(j + 1) * pb * pb - 1]; /* y'P R_j P y */
        double *column = A + (N + j) * n;
        for (ptrdiff_t e = 0; e < N; e++)
            column[e] = A[N + j + e * n] = nu / r2 * column[e] - nu / (r2 * r2) * own[e] * along;
        for (ptrdiff_t k = 0; k < D; k++)
            column[N + k] = nu / r2 * (square[k + j * D] + square[j + k * D]) / 2 +
                            nu / (r2 * r2) * a->G[(k + 1) * pb * pb - 1] * along;
    }
}

lmm_status residual_derivatives(lmm_model *m, int reml, double *slope, double *A)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta, n = residual_size(m);
    const double nu = degrees(m, reml);
    parts a = {0};
    lmm_status status = residual_room(&a, m);
    if (status == LMM_OK) {
        deepen(m, BORDERED);
        residual_vectors(m, &a);
        residual_products(m, &a);
        delta_information(m, &a, nu, A, n); /* with the factor, which the inverse overwrites */
        derivatives(m, reml, slope, a.M, NULL);
        for (ptrdiff_t j = 0; j < N; j++) memcpy(A + j * n, a.M + j * N, sizeof(double) * (size_t)N);
        status = delta_slope(m, &a, reml, slope + N);
    }
    release(&a.memory, NULL);
    return status;
}

/* G with y in the user's units */
void residual_give_products(const lmm_model *m, const double *from, double *G)
{
    const ptrdiff_t pb = m->layout.pb;
    for (ptrdiff_t j = 0; j < m->residual->ndelta * pb * pb; j++) {
        const ptrdiff_t row = j % pb, column = j / pb % pb;
        G[j] = from[j] * (row == pb - 1 ? m->sums.yscale : 1) * (column == pb - 1 ? m->sums.yscale : 1);
    }
}

lmm_status lmm_residual_slopes(lmm_model *m, double *g, double *slope, double *G)
{
    if (!m->residual) return LMM_UNAVAILABLE;
    TRY(bring(m, FLOORED, BORDERED, 0));
    parts a = {0};
    lmm_status status = residual_room(&a, m);
    if (status == LMM_OK) {
        residual_vectors(m, &a);
        residual_products(m, &a);
        residual_give_products(m, a.G, G);
        deepen(m, INVERTED);
        status = delta_slope(m, &a, m->evaluation.at.reml, slope);
    }
    release(&a.memory, NULL);
    return status == LMM_OK ? lmm_derivatives(m, g, NULL) : status;
}
