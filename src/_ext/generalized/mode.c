/* The mode of the random effects, by Newton steps whose factorization is kept while it contracts. With the
   weights W_f of the factorization, a step from b is a weighted least-squares fit to the working response:

     b_n = B Z'(l' + W_f Z b),   B = Lambda (Lambda'Z'W_f Z Lambda + I)^-1 Lambda',
     promise = (u_n - u)'(Lambda'c - u) = l''(Z b_n - Z b) - (u_n - u)'u,   c = Z'l'

   The last step is taken, too: the factorization is that of a point before it, which serves as well as one
   there as long as steps since then promised little beside what the minimizer expects (laplace.c corrects
   log|M|).

   At the mode u = Lambda'c. Where levels are related, b = Lambda u with u ~ N(0, K (x) I): u'(K^-1 (x) I) u
   is in place of u'u, and K c in that of c where effects are made of it. */

#include "base/small.h"
#include "generalized/state.h"
#include "model/relation.h"

#define UNSEEN 1e-6   /* promise below which rounding decides whether j falls: it is not asked       */
#define ROUNDED 1e-15 /* ... or below this share of j */
#define FAIR 10.0     /* ... below which a factorization is kept for a second step                   */
#define SLOWEST 0.3   /* share of its promise that a step with an old factorization may leave        */
#define STEPS 200     /* at most                                                                     */
#define HALVINGS 60
#define EDGE 1e-5  /* share of its promise below which a shortened step has met the edge of the domain */
#define WORSE 0.01 /* rise of j, relative, beyond which a prediction is compared with u = 0        */

/* -------------------------------------------------------------------------------------- b, u and T -- */

INLINE void spread_levels(const int p, const double *T, int32_t levels, const double *u, double *b)
{
    for (int32_t l = 0; l < levels; l++)
        mul(p, 1, p, 0, T, p, u + (ptrdiff_t)l * p, p, b + (ptrdiff_t)l * p, p);
}

INLINE void transpose_levels(const int p, const double *T, int32_t levels, const double *c, double *u)
{
    for (int32_t l = 0; l < levels; l++)
        tmul(p, 1, p, 0, T, p, c + (ptrdiff_t)l * p, p, u + (ptrdiff_t)l * p, p);
}

CLONES void spread(const lmm_model *m, const double *u, double *b)
{
    for (int k = 0; k < m->layout.nfactor; k++) {
        const factor *f = &m->layout.f[k];
        BY_WIDTH(f->p, spread_levels, m->evaluation.f[k].T, f->nlev, u + f->col, b + f->col)
    }
}

/* u := T'c */
static CLONES void transpose_spread(const lmm_model *m, const double *c, double *u)
{
    for (int k = 0; k < m->layout.nfactor; k++) {
        const factor *f = &m->layout.f[k];
        BY_WIDTH(f->p, transpose_levels, m->evaluation.f[k].T, f->nlev, c + f->col, u + f->col)
    }
}

/* u := T^-1 b,  T = W Tp: Tp is triangular or diagonal, W^-1 known */
CLONES void gather(const lmm_model *m, const double *b, double *u)
{
    double *v = m->scratch.tmp;
    for (int k = 0; k < m->layout.nfactor; k++) {
        const factor *f = &m->layout.f[k];
        const factor_state *fs = &m->evaluation.f[k];
        const int p = f->p;
        for (ptrdiff_t i = f->col; i < f->col + (ptrdiff_t)f->nlev * p; i += p) {
            if (fs->W == fs->axes)
                tmul(p, 1, p, 0, fs->axes, p, b + i, p, v, p);
            else if (fs->W)
                mul(p, 1, p, 0, f->w.C, p, b + i, p, v, p);
            else
                memcpy(v, b + i, sizeof(double) * (size_t)p);
            for (int r = 0; r < p; r++) {
                for (int c = 0; c < r; c++) v[r] -= fs->Tp[r + c * p] * u[i + c];
                u[i + r] = v[r] / fs->Tp[r + r * p];
            }
        }
    }
}

void solve_effects(glmm_model *g, double *z)
{
    solve_rows(g->m, 1, z, g->e.work);
}

/* -------------------------------------------------------------------------------------- factorization -- */

static int all_positive(ptrdiff_t n, const double *w)
{
    int positive = 1;
    for (ptrdiff_t i = 0; i < n; i++) positive &= w[i] >= 0;
    return positive;
}

lmm_status factorize_with(glmm_model *g, const double *w)
{
    if (w != g->v.wf) memcpy(g->v.wf, w, sizeof(double) * (size_t)g->rows.n);
    memcpy(g->e.at, g->e.b, sizeof(double) * (size_t)g->m->layout.q);
    g->strayed = 0;
    if (!g->begun) pass_weights(g);
    g->begun = 0;
    g->factorizations++;
    return factorize(g->m);
}

/* With the observed weights, or with expected ones where these make no positive definite matrix; *observed:
   which it was */
static lmm_status factorize_here(glmm_model *g, int *observed)
{
    *observed = 1;
    const lmm_status status = factorize_with(g, g->v.w2);
    if (status != LMM_NOTPOSDEF || (g->family.concave && all_positive(g->rows.n, g->v.w2))) return status;
    *observed = 0;
    pass_expected(g, g->v.wf, NULL);
    return factorize_with(g, g->v.wf);
}

/* ---------------------------------------------------------------------------------------------- steps -- */

/* u'v, of related levels u'(K^-1 (x) I) v */
static double penalty(const glmm_model *g, const double *u, const double *v)
{
    const layout *lay = &g->m->layout;
    double sum = 0;
    if (!g->related) return dot(lay->q, u, v);
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        sum += f->relation ? related_product(f->relation, f->p, u + f->col, v + f->col)
                           : dot((ptrdiff_t)f->nlev * f->p, u + f->col, v + f->col);
    }
    return sum;
}

static double half_square(const glmm_model *g, const double *u)
{
    return penalty(g, u, u) / 2;
}

void relate_effects(const glmm_model *g, double *z)
{
    const layout *lay = &g->m->layout;
    for (int k = 0; k < lay->nfactor && g->related; k++)
        if (lay->f[k].relation) times_relation(lay->f[k].relation, lay->f[k].p, z + lay->f[k].col);
}

static void swap(double **a, double **b)
{
    double *t = *a;
    *a = *b, *b = t;
}

/* A whole step from b, or halves of it where j rises: r is known for it, and for the next one. Returns what
   it promised; INFINITY: nothing on the way is lower, or next to nothing. */
static double take_step(glmm_model *g)
{
    row_values *v = &g->v;
    effects *e = &g->e;
    const ptrdiff_t n = g->rows.n, q = g->m->layout.q;
    const double before = g->j;
    double slope, fall = 0;
    memcpy(e->bn, e->r, sizeof(double) * (size_t)q);
    solve_effects(g, e->bn);
    gather(g->m, e->bn, e->un);
    g->j = pass_try(g, &slope) + half_square(g, e->un);
    if (g->related)
        fall = penalty(g, e->un, e->u) - penalty(g, e->u, e->u);
    else
        for (ptrdiff_t i = 0; i < q; i++) fall += (e->un[i] - e->u[i]) * e->u[i];
    const double promise = slope - fall;
    swap(&e->b, &e->bn), swap(&e->u, &e->un), swap(&v->zb, &v->zn);
    if (isfinite(g->j) && (g->j <= before || promise < UNSEEN + ROUNDED * fabs(before))) return promise;
    if (!isfinite(promise)) return INFINITY;
    for (int halved = 0; halved < HALVINGS; halved++) {
        for (ptrdiff_t i = 0; i < q; i++)
            e->b[i] = (e->b[i] + e->bn[i]) / 2, e->u[i] = (e->u[i] + e->un[i]) / 2;
        for (ptrdiff_t i = 0; i < n; i++) v->zb[i] = (v->zb[i] + v->zn[i]) / 2;
        g->j = pass_density(g) + half_square(g, e->u);
        if (!isfinite(g->j) || g->j > before) continue;
        g->halved = 1;
        return before - g->j < EDGE * promise ? INFINITY : promise;
    }
    return INFINITY;
}

void start_mode(glmm_model *g)
{
    const size_t q = sizeof(double) * (size_t)g->m->layout.q;
    memset(g->e.b, 0, q), memset(g->e.u, 0, q), memset(g->e.c, 0, q);
    g->stands = g->known = 0;
}

/* j where the prediction is; or at u = 0, where that is better than a bad one */
static lmm_status first_point(glmm_model *g)
{
    const double before = g->j;
    const int predicted = g->stands;
    g->stands = g->known = g->derived = 0;
    if (g->begun) return LMM_OK; /* where start_random was */
    g->j = pass_first(g, 0) + half_square(g, g->e.u);
    if (isfinite(g->j) && !(predicted && g->j > before + WORSE * (1 + fabs(before)))) return LMM_OK;
    const double there = g->j;
    memcpy(g->e.un, g->e.u, sizeof(double) * (size_t)g->m->layout.q);
    start_mode(g);
    g->j = pass_first(g, 1);
    if (isfinite(there) && !(g->j < there)) { /* back */
        memcpy(g->e.u, g->e.un, sizeof(double) * (size_t)g->m->layout.q);
        spread(g->m, g->e.u, g->e.b);
        g->j = pass_first(g, 0) + half_square(g, g->e.u);
    }
    return isfinite(g->j) ? LMM_OK : LMM_NOTPOSDEF;
}

/* Is another step with the old factorization worth it? The last two promised `promise` and `before`: at that
   rate so many more are needed, against few with new factorizations. */
static int goes_on(const glmm_model *g, double promise, double before)
{
    const double rate = promise / before;
    if (g->halved || !isfinite(before) || !(rate < SLOWEST)) return 0;
    const double old = ceil(log(promise / g->enough) / -log(rate));
    const double anew = promise < 1e-7 ? 1 : promise < 1e-3 ? 2 : promise < 1 ? 3 : 4;
    return old * g->passcost < anew * g->passcost + (anew - 1) * g->cost;
}

lmm_status find_mode(glmm_model *g)
{
    double before = INFINITY;
    int observed, fresh = 1;
    const glmm_obstacle met = g->met;
    g->met = GLMM_EDGE; /* if it ends here */
    TRY(first_point(g));
    g->met = g->family.concave ? GLMM_NONE : GLMM_CURVATURE;
    TRY(factorize_here(g, &observed));
    for (int step = 0; step < STEPS; step++) {
        g->halved = 0;
        const double promise = g->promise = take_step(g);
        g->strayed += fmax(promise, 0);
        if (promise < g->enough) {
            /* quadrature stands at the mode itself */
            const int again = !(g->strayed < g->near) || g->halved || !observed || g->nodes;
            if (again) TRY(factorize_here(g, &observed));
            g->stepped = !again;
            g->stands = observed;
            if (observed) g->met = met;
            return observed ? LMM_OK : LMM_NOTPOSDEF;
        }
        if (fresh && !isfinite(promise)) {
            if (observed) g->met = GLMM_EDGE;
            return LMM_NOTPOSDEF;
        }
        fresh = !(fresh && !g->halved && observed && promise < FAIR) && !goes_on(g, promise, before);
        before = promise;
        if (!fresh) continue;
        TRY(factorize_here(g, &observed));
        before = INFINITY;
    }
    return LMM_NOTPOSDEF;
}

/* ----------------------------------------------------------------------------------------- prediction -- */

/* b := (T T' - T_0 T_0') c by levels */
static void change_of_effects(const glmm_model *g, const double *T, const double *effects, double *b,
                              double *work)
{
    const layout *lay = &g->m->layout;
    for (int k = 0; k < lay->nfactor; T += lay->f[k].p * lay->f[k].p, k++) {
        const factor *f = &lay->f[k];
        const double *old = g->m->evaluation.f[k].T;
        const int p = f->p;
        double *G = work;
        mult(p, p, p, 0, T, p, T, p, G, p);
        for (int c = 0; c < p; c++)
            for (int r = 0; r < p; r++)
                for (int x = 0; x < p; x++) G[r + c * p] -= old[r + x * p] * old[c + x * p];
        spread_levels(p, G, f->nlev, effects + f->col, b + f->col);
    }
}

/* With de = Z dG c + X dgamma, dG = T T' - T_0 T_0' and v = W de - l'_x dx, the new c is, to first order,
   c - Z'v + A B Z'v: B and W of the last factorization. What adopt_mode makes of it waits in c. */
void predict_mode(glmm_model *g, const double *T, const double *gamma, const double *x)
{
    const row_values *v = &g->v;
    effects *e = &g->e;
    const ptrdiff_t n = g->rows.n, q = g->m->layout.q, N = g->family.nextra;
    double *dgamma = g->gx; /* free between evaluations */
    if (!g->stands) return;
    if (!g->derived) pass_scatter(g, v->d1, e->c, NULL);
    for (int a = 0; a < g->m->layout.p; a++) dgamma[a] = gamma[a] - g->gamma[a];
    memcpy(e->un, e->c, sizeof(double) * (size_t)q);
    relate_effects(g, e->un);
    change_of_effects(g, T, e->un, e->bn, g->m->scratch.tmp);
    if (g->known && N) {
        pass_product(g, e->bn, dgamma, v->zn, NULL);
        for (ptrdiff_t i = 0; i < n; i++) v->zn[i] *= v->wf[i];
        for (ptrdiff_t k = 0; k < N; k++)
            for (ptrdiff_t i = 0; i < n; i++) v->zn[i] -= v->d1x[k * n + i] * (x[k] - g->x[k]);
        pass_scatter(g, v->zn, e->un, NULL);
    } else
        pass_product(g, e->bn, dgamma, v->zn, e->un);
    memcpy(e->bn, e->un, sizeof(double) * (size_t)q);
    solve_effects(g, e->bn);
    pass_product(g, e->bn, NULL, v->zn, e->d);
    for (ptrdiff_t i = 0; i < q; i++) e->c[i] += e->d[i] - e->un[i];
}

void adopt_mode(glmm_model *g)
{
    effects *e = &g->e;
    if (!g->stands && !g->lasts) {
        start_mode(g);
        return;
    }
    if (!g->stands) memcpy(e->c, e->last, sizeof(double) * (size_t)g->m->layout.q);
    transpose_spread(g->m, e->c, e->u);
    relate_effects(g, e->u);
    spread(g->m, e->u, e->b);
}

void keep_mode(glmm_model *g)
{
    memcpy(g->e.last, g->e.c, sizeof(double) * (size_t)g->m->layout.q);
    g->lasts = 1;
}
