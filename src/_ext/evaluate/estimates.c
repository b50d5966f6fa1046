/* Estimates where the model stands, in the user's units. */

#include <stdlib.h>

#include "base/memory.h"
#include "evaluate/readings.h"
#include "model/relation.h"
#include "trailing/trailing.h"
#include "base/small.h"

/* w (p) := R^-T w,  C = R R' */
void solve_fixed(const lmm_model *m, double *w)
{
    const layout *lay = &m->layout;
    const ptrdiff_t s = m->trailing->lde;
    const double *R = m->trailing->Le + lay->q2 * s;
    for (int a = lay->p - 1; a >= 0; a--) {
        for (int b = a + 1; b < lay->p; b++) w[a] -= R[b + a * s] * w[b];
        w[a] /= R[a + a * s];
    }
}

/* Coefficients of the whitened columns of X to those of the user's; zero for dropped ones */
void fixed_to_user(const lmm_model *m, const double *w, double *out)
{
    const layout *lay = &m->layout;
    const ptrdiff_t k = lay->pfull;
    for (int i = 0; i < k; i++) out[i] = 0;
    for (int a = 0; a < lay->p; a++)
        for (int i = 0; i < k; i++) out[i] += lay->x.C[i + lay->keep[a] * k] * w[a];
}

#define FEW 16   /* columns of X below which products are not worth a call of BLAS */
#define PANEL 64 /* columns of a product */

/* Rows of some columns (k rows each) down to the last that is not zero, at least so many. */
static int used_rows(ptrdiff_t k, int cols, const double *A, int least)
{
    for (int c = 0; c < cols; c++, A += k)
        for (int i = (int)k; i > least; i--)
            if (A[i - 1] != 0) least = i;
    return least;
}

/* E := C_X R^-T (pfull x p), so that vcov = E E' / sigma^2. C_X is upper triangular, or nearly:
   only so many rows of each panel are not zero. */
void fixed_root(const lmm_model *m, double *E)
{
    static char lower = 'L', right = 'R', none = 'N', trans = 'T';
    const layout *lay = &m->layout;
    const ptrdiff_t k = lay->pfull, s = m->trailing->lde;
    double *R = m->trailing->Le + lay->q2 * s, one = 1, minus = -1;
    int ld = lay->pfull, ldr = (int)s, rows = 1;
    for (ptrdiff_t a = 0; a < lay->p; a++)
        memcpy(E + a * k, lay->x.C + lay->keep[a] * k, sizeof(double) * (size_t)k);
    for (int a = 0; a < lay->p; a += PANEL) {
        int cols = lay->p - a < PANEL ? lay->p - a : PANEL;
        double *to = E + a * k;
        rows = used_rows(k, cols, to, rows);
        if (a) m->blas.gemm(&none, &trans, &rows, &cols, &a, &minus, E, &ld, R + a, &ldr, &one, to, &ld);
        m->blas.trsm(&right, &lower, &trans, &none, &rows, &cols, &one, R + a * (s + 1), &ldr, to, &ld);
    }
}

/* vcov (lower) := variance E E' */
static void add_squares(const lmm_model *m, double variance, const double *E, double *vcov)
{
    static char lower = 'L', none = 'N';
    const layout *lay = &m->layout;
    const ptrdiff_t k = lay->pfull;
    double one = 1;
    int ld = lay->pfull, rows = 1;
    for (int a = 0; a < lay->p; a += PANEL) {
        int cols = lay->p - a < PANEL ? lay->p - a : PANEL;
        rows = used_rows(k, cols, E + a * k, rows);
        m->blas.syrk(&lower, &none, &rows, &cols, &variance, (double *)E + a * k, &ld, &one, vcov, &ld);
    }
}

static void coefficients(lmm_model *m, double *beta)
{
    const layout *lay = &m->layout;
    double *w = m->scratch.tmp + lay->pfull;
    for (int a = 0; a < lay->p; a++) w[a] = m->sums.b0[lay->keep[a]] + m->sums.yscale * m->evaluation.beta[a];
    fixed_to_user(m, w, beta);
    if (lay->x.constant >= 0) beta[lay->x.constant] += m->sums.ymean / lay->xconstant;
    for (int i = 0; i < lay->pfull; i++) beta[i] += m->sums.beta0[i];
}

/* beta and its covariance in the user's coordinates: beta = C (b0 + yscale beta_w) (+ mean of y) */
lmm_status fixed_estimates(lmm_model *m, double variance, double *beta, double *vcov)
{
    const layout *lay = &m->layout;
    const ptrdiff_t k = lay->pfull;
    double *V = m->scratch.tmp, *w = V + k;
    if (beta) coefficients(m, beta);
    if (!vcov) return LMM_OK;
    memset(vcov, 0, sizeof(double) * (size_t)(k * k));
    for (int c = 0; lay->p <= FEW && c < lay->p; c++) { /* columns of C R^-T: vcov = sum of their squares */
        for (int a = 0; a < lay->p; a++) w[a] = a == c;
        solve_fixed(m, w);
        fixed_to_user(m, w, V);
        for (ptrdiff_t j = 0; j < k; j++)
            for (ptrdiff_t i = 0; i < k; i++) vcov[i + j * k] += variance * V[i] * V[j];
    }
    if (lay->p <= FEW) return LMM_OK;
    double *E = malloc(sizeof(double) * (size_t)(k * lay->p));
    if (!E) return LMM_NOMEM;
    fixed_root(m, E);
    add_squares(m, variance, E, vcov);
    mirror(lay->pfull, vcov, lay->pfull);
    free(E);
    return LMM_OK;
}

/* b = C T T' g yscale, of related levels K g for g; levels in the user's order */
static double *modes(const lmm_model *m, const factor *f, double *out)
{
    const layout *lay = &m->layout;
    const factor_state *fs = &m->evaluation.f[f->k];
    const int p = f->p, pb = lay->pb;
    double *g = m->scratch.tmp, *u = g + p;
    for (int32_t l = 0; l < f->nlev; l++, out += p) {
        const double *Y = related_rows(m, f->k) + (ptrdiff_t)(f->perm[l] - f->node) * p * pb + lay->p;
        for (int i = 0; i < p; i++) g[i] = Y[i * pb] * m->sums.yscale;
        tmul(p, 1, p, 0, fs->T, p, g, p, u, p);
        mul(p, 1, p, 0, fs->T, p, u, p, g, p);
        mul(p, 1, p, 0, f->w.C, p, g, p, out, p);
    }
    return out;
}

/* C B_ll C' */
static double *conditional_variances(const lmm_model *m, const factor *f, double *out)
{
    const factor_state *fs = &m->evaluation.f[f->k];
    const int p = f->p;
    for (int32_t l = 0; l < f->nlev; l++, out += p * p) {
        const double *B = fs->B + (ptrdiff_t)(f->perm[l] - f->node) * p * p;
        mul(p, p, p, 0, f->w.C, p, B, p, m->scratch.tmp, p);
        mult(p, p, p, 0, m->scratch.tmp, p, f->w.C, p, out, p);
    }
    return out;
}

const factor *factor_of_user(const lmm_model *m, int user)
{
    const factor *f = m->layout.f;
    while (f->user != user) f++;
    return f;
}

void lmm_whitening(const lmm_model *m, double *C)
{
    for (int k = 0; k < m->layout.nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        for (int i = 0; i < f->p; i++)
            for (int j = 0; j < f->p; j++) *C++ = f->w.C[i + j * f->p];
    }
}

lmm_status lmm_estimates(lmm_model *m, double *beta, double *vcov, double *sigma, double *b, double *condvar)
{
    const layout *lay = &m->layout;
    const evaluation *ev = &m->evaluation;
    if (condvar && !m->trailing->exact) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, condvar ? INVERTED : BORDERED, 0));
    const double variance = m->sums.yscale * m->sums.yscale * ev->r2 / degrees(m, ev->at.reml);
    TRY(fixed_estimates(m, variance, beta, vcov));
    if (sigma) *sigma = sqrt(variance);
    for (int k = 0; b && k < lay->nfactor; k++) b = modes(m, factor_of_user(m, k), b);
    for (int k = 0; condvar && k < lay->nfactor; k++)
        condvar = conditional_variances(m, factor_of_user(m, k), condvar);
    return LMM_OK;
}
