/* Adaptive Gauss-Hermite quadrature over the levels of one factor (Pinheiro & Bates 1995), its nodes at the
   mode and in units of the curvature there, M_l = L L':

     u_k = u + sqrt2 L^-T x_k,   L_l = pi^-p/2 |L|^-1 sum_k w_k exp(x_k'x_k - j_l(u_k)),   f = -2 sum_l log
   L_l

   Slopes by the same steps backwards. With pi_k the share of node k and u^_k = 2 pi_k (u_k - T'Z'l'(eta_k)),

     L^ = 2 diag(1/L) - sqrt2 sum_k (L^-T x_k)(L^-1 u^_k)',   M^ = L^-T sym(tril(L'L^, half diagonal)) L^-1

   takes the place of M^-1 in the leverages and in G = A T M^; s gets sum_k u^_k, and l', c u' and l_x are
   means over nodes. In several directions f depends on which T has T T' = Sigma: it is the triangular one of
   whitened columns, wherever it comes from. */

#include "base/small.h"
#include "generalized/state.h"

#define MOST 3 /* columns */

ptrdiff_t node_count(const glmm_model *g)
{
    ptrdiff_t count = 1;
    for (int i = 0; i < g->m->layout.f[0].p; i++) count *= g->nodes;
    return count;
}

/* x_k and log w_k + x_k'x_k */
static double node_at(const glmm_model *g, ptrdiff_t k, double *x)
{
    double log_weight = 0;
    for (int i = 0; i < g->m->layout.f[0].p; i++, k /= g->nodes) {
        const ptrdiff_t at = k % g->nodes;
        x[i] = g->node[at];
        log_weight += log(g->node[g->nodes + at]) + x[i] * x[i];
    }
    return log_weight;
}

/* out := L^-T x */
static void solve_transposed(int p, const double *L, const double *x, double *out)
{
    for (int i = p - 1; i >= 0; i--) {
        out[i] = x[i];
        for (int j = i + 1; j < p; j++) out[i] -= L[j + i * p] * out[j];
        out[i] /= L[i + i * p];
    }
}

/* out := L^-1 x */
static void solve_lower(int p, const double *L, const double *x, double *out)
{
    for (int i = 0; i < p; i++) {
        out[i] = x[i];
        for (int j = 0; j < i; j++) out[i] -= L[i + j * p] * out[j];
        out[i] /= L[i + i * p];
    }
}

/* u and b of node k, every level */
static void effects_at(const glmm_model *g, const double *x, double *u, double *b)
{
    const factor *f = &g->m->layout.f[0];
    const factor_state *fs = &g->m->evaluation.f[0];
    const int p = f->p;
    double step[MOST];
    for (int32_t l = 0; l < f->nlev; l++) {
        solve_transposed(p, fs->L + (ptrdiff_t)l * p * p, x, step);
        for (int i = 0; i < p; i++) u[l * p + i] = g->e.u[l * p + i] + sqrt(2) * step[i];
    }
    spread(g->m, u, b);
}

lmm_status node_sum(glmm_model *g)
{
    const factor *f = &g->m->layout.f[0];
    const ptrdiff_t count = node_count(g), levels = f->nlev;
    const int p = f->p;
    double x[MOST], total = 0;
    for (ptrdiff_t k = 0; k < count; k++) {
        const double log_weight = node_at(g, k, x);
        double *value = g->share + k * levels;
        effects_at(g, x, g->e.un, g->e.bn);
        pass_node(g, g->e.bn, value);
        for (ptrdiff_t l = 0; l < levels; l++)
            value[l] += log_weight - dot(p, g->e.un + l * p, g->e.un + l * p) / 2;
    }
    for (ptrdiff_t l = 0; l < levels; l++) {
        const double *L = g->m->evaluation.f[0].L + l * p * p;
        double most = -INFINITY, sum = 0;
        for (ptrdiff_t k = 0; k < count; k++) most = fmax(most, g->share[k * levels + l]);
        for (ptrdiff_t k = 0; k < count; k++) sum += exp(g->share[k * levels + l] - most);
        for (ptrdiff_t k = 0; k < count; k++)
            g->share[k * levels + l] = exp(g->share[k * levels + l] - most) / sum;
        total += most + log(sum) - p * log(3.14159265358979323846) / 2;
        for (int i = 0; i < p; i++) total -= log(L[i + i * p]);
    }
    g->f = -2 * (total + g->constant);
    return isfinite(g->f) ? LMM_OK : LMM_NOTPOSDEF;
}

/* L^ (p x p) -= sqrt2 (L^-T x_k)(L^-1 u^_k)' and sum_k u^_k of one node, every level; D += c u' by shares */
static void back_from_node(const glmm_model *g, const double *x, const double *share, const double *u,
                           const double *c, double *Lbar, double *ubar, double *D)
{
    const factor *f = &g->m->layout.f[0];
    const factor_state *fs = &g->m->evaluation.f[0];
    const int p = f->p;
    for (int32_t l = 0; l < f->nlev; l++, u += p, c += p) {
        const double *L = fs->L + (ptrdiff_t)l * p * p;
        double slope[MOST], step[MOST], half[MOST];
        if (!(share[l] > 0)) continue;
        tmul(p, 1, p, 0, fs->T, p, c, p, slope, p);
        for (int i = 0; i < p; i++) slope[i] = 2 * share[l] * (u[i] - slope[i]);
        solve_transposed(p, L, x, step);
        solve_lower(p, L, slope, half);
        for (int j = 0; j < p; j++) {
            ubar[l * p + j] += slope[j];
            for (int i = 0; i < p; i++) {
                Lbar[(ptrdiff_t)l * p * p + i + j * p] -= sqrt(2) * step[i] * half[j];
                D[i + j * p] -= share[l] * c[i] * u[j];
            }
        }
    }
}

/* M^ in place of L^, then T M^ T' in `blocks`; D += A T M^ */
static void back_from_factor(const glmm_model *g, double *Lbar, double *blocks, double *D)
{
    const factor *f = &g->m->layout.f[0];
    const factor_state *fs = &g->m->evaluation.f[0];
    const int p = f->p;
    double X[MOST * MOST], Y[MOST * MOST];
    for (int32_t l = 0; l < f->nlev; l++) {
        const ptrdiff_t at = (ptrdiff_t)l * p * p;
        const double *L = fs->L + at;
        double *M = Lbar + at;
        for (int i = 0; i < p; i++) M[i + i * p] += 2 / L[i + i * p];
        tmul(p, p, p, 0, L, p, M, p, X, p);
        for (int j = 0; j < p; j++)
            for (int i = 0; i < p; i++) X[i + j * p] = i < j ? 0 : i == j ? X[i + j * p] / 2 : X[i + j * p];
        solve_right(p, L, p, X, p); /* X L^-1 */
        for (int j = 0; j < p; j++) solve_transposed(p, L, X + j * p, Y + j * p);
        for (int j = 0; j < p; j++)
            for (int i = 0; i < p; i++) M[i + j * p] = (Y[i + j * p] + Y[j + i * p]) / 2;
        mul(p, p, p, 0, fs->T, p, M, p, X, p);
        mult(p, p, p, 0, X, p, fs->T, p, blocks + at, p);
        mul(p, p, p, 1, fs->diag + at, p, X, p, D, p); /* A T M^ */
    }
}

/* S of each term from the slope F of f in a triangular T (2 D of the model); D is the user's slope then */
static void slope_in_sigma(lmm_model *m)
{
    const layout *lay = &m->layout;
    factor_state *fs = &m->evaluation.f[0];
    const int p = lay->f[0].p;
    memset(fs->S, 0, sizeof(double) * (size_t)(p * p));
    for (term t = {0}; next_term(lay, &t);) {
        const int k = t.k, corner = t.first * (p + 1);
        const double *T = fs->T + corner;
        double F[MOST * MOST], X[MOST * MOST], L[MOST * MOST], Y[MOST * MOST];
        for (int j = 0; j < k; j++)
            for (int i = 0; i < k; i++) {
                F[i + j * k] = i < j ? 0 : 2 * fs->D[corner + i + j * p];
                L[i + j * k] = T[i + j * p];
            }
        tmul(k, k, k, 0, L, k, F, k, X, k);
        for (int j = 0; j < k; j++)
            for (int i = 0; i < k; i++) X[i + j * k] = i < j ? 0 : i == j ? X[i + j * k] / 2 : X[i + j * k];
        solve_right(k, L, k, X, k);
        for (int j = 0; j < k; j++) solve_transposed(k, L, X + j * k, Y + j * k);
        for (int j = 0; j < k; j++)
            for (int i = 0; i < k; i++) fs->S[corner + i + j * p] = (Y[i + j * k] + Y[j + i * k]) / 2;
    }
}

void node_slopes(glmm_model *g)
{
    lmm_model *m = g->m;
    const factor *f = &m->layout.f[0];
    factor_state *fs = &m->evaluation.f[0];
    effects *e = &g->e;
    const ptrdiff_t q = m->layout.q, count = node_count(g), levels = f->nlev;
    const int p = f->p;
    double x[MOST], *Lbar = fs->B, *ubar = e->d, *mean = g->v.zn;
    memset(Lbar, 0, sizeof(double) * (size_t)(levels * p * p));
    memset(ubar, 0, sizeof(double) * (size_t)q);
    memset(mean, 0, sizeof(double) * (size_t)g->rows.n);
    memset(fs->D, 0, sizeof(double) * (size_t)(p * p));
    memset(g->fx, 0, sizeof(double) * (size_t)g->family.nextra);
    for (ptrdiff_t k = 0; k < count; k++) {
        node_at(g, k, x);
        effects_at(g, x, e->un, e->bn);
        pass_node_slopes(g, e->bn, g->share + k * levels, e->c, mean);
        back_from_node(g, x, g->share + k * levels, e->un, e->c, Lbar, ubar, fs->D);
    }
    back_from_factor(g, Lbar, Lbar, fs->D);
    pass_node_leverages(g, Lbar);
    /* t = M^-1 (T's + sum u^): T t = K (s + T^-T sum u^), level by level */
    for (ptrdiff_t l = 0; l < levels; l++) {
        const double *L = fs->L + l * p * p;
        double s[MOST], half[MOST];
        tmul(p, 1, p, 0, fs->T, p, e->s + l * p, p, s, p);
        for (int i = 0; i < p; i++) s[i] += ubar[l * p + i];
        solve_lower(p, L, s, half);
        solve_transposed(p, L, half, e->un + l * p); /* t */
    }
    spread(m, e->un, e->bn);
    pass_slopes(g, e->bn, mean);
    memcpy(e->kc, e->c, sizeof(double) * (size_t)q);
    for (ptrdiff_t l = 0; l < levels; l++)
        for (int j = 0; j < p; j++)
            for (int i = 0; i < p; i++)
                fs->D[i + j * p] +=
                    (e->d[l * p + i] * e->u[l * p + j] + e->c[l * p + i] * e->un[l * p + j]) / 2;
    slope_in_sigma(m);
    if (g->family.nextra) pass_extra(g);
    g->known = g->derived = 1;
}
