/* Second derivatives of Laplace's criterion in theta and beta. Along a direction (dSigma, dgamma) the mode,
   and with it everything of a row, moves by

     dc = Z' dl',  db = dSigma c - B Z'W (X dgamma + Z dSigma c),  deta = X dgamma + Z db
     dl' = -W deta,  dW = w' deta,  dw' = w'' deta

   and the slopes of laplace.c by

     ds = Z'(dh w' + h dw'),  dt = dSigma d + B (ds - Z'(dW z_t) - Z'W Z dSigma d)
     dr = dh w' + h dw' - dW z_t - W Z dt,  d(df/dgamma) = X'(dr - 2 dl'),  dd = Z'dr
     d(df/dSigma) = d sum_l (Z'V^-1 Z)_ll + sum_l d(-c c' + (d c' + c d')/2)

   What is not written out, dh and d(Z'V^-1 Z)_ll, is that of the factorization alone: a difference quotient
   of it and of its inverse at weights W + e dW and Theta + e dTheta. No mode is searched for, so that e can
   be small and one side is enough; it costs one factorization and its inverse for each parameter. */

#include <stdlib.h>

#include "generalized/block.h"
#include "generalized/joint.h"

/* Relative change of weights, or of Theta: the error is of this order, that of rounding less */
#define STEP 1e-7

typedef struct {
    glmm_model *g;
    double *theta, *moved; /* ntheta          whitened order, user's coordinates: here; a step away */
    double *T, *S, *S0;    /* factors_size    T; df/dSigma, of f and of log|M| alone                 */
    double *dT, *dSigma;   /* factors_size */
    double *gamma;         /* p               dgamma */
    double *w, *d4, *r;    /* n               W; l''''; leverages a step away, then dr */
    double *effects;       /* q x directions  db */
    double *slope, *H;     /* n, n x n        in (Theta, gamma): a column, all of them */
} second;

/* One of theta, or of gamma: factor k (-1: none) and what changes of it */
typedef struct {
    int k, row, column, a;
} direction;

static direction direction_of(const layout *lay, int32_t j)
{
    direction d = {-1, 0, 0, j - lay->ntheta};
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        if (j >= f->th && j < f->th + f->nth) d = (direction){k, f->thr[j - f->th], f->thc[j - f->th], -1};
    }
    return d;
}

/* Where factor k begins among blocks of all factors */
static ptrdiff_t corner_of(const layout *lay, int k)
{
    ptrdiff_t at = 0;
    for (int i = 0; i < k; i++) at += lay->f[i].p * lay->f[i].p;
    return at;
}

/* dT, dSigma and dgamma */
static void open_direction(second *s, const direction *d)
{
    const layout *lay = &s->g->m->layout;
    const size_t size = sizeof(double) * (size_t)factors_size(lay);
    memset(s->dT, 0, size), memset(s->dSigma, 0, size);
    for (int a = 0; a < lay->p; a++) s->gamma[a] = a == d->a;
    if (d->k < 0) return;
    const factor *f = &lay->f[d->k];
    const int p = f->p;
    double *dT = s->dT + corner_of(lay, d->k), *dSigma = s->dSigma + corner_of(lay, d->k);
    for (int i = 0; i < p; i++) dT[i + d->column * p] = f->Cinv[i + d->row * p];
    mult(p, p, p, 0, dT, p, s->T + corner_of(lay, d->k), p, dSigma, p);
    for (int j = 0; j < p; j++)
        for (int i = 0; i <= j; i++)
            dSigma[i + j * p] = dSigma[j + i * p] = dSigma[i + j * p] + dSigma[j + i * p];
}

/* to := dSigma z by levels */
static void times_change(const second *s, const double *z, double *to)
{
    const layout *lay = &s->g->m->layout;
    const double *G = s->dSigma;
    for (int k = 0; k < lay->nfactor; G += lay->f[k].p * lay->f[k].p, k++) {
        const factor *f = &lay->f[k];
        for (ptrdiff_t i = f->col; i < f->col + (ptrdiff_t)f->nlev * f->p; i += f->p)
            mul(f->p, 1, f->p, 0, G, f->p, z + i, f->p, to + i, f->p);
    }
}

/* db of every direction, while the factorization is that of the mode */
static void move_effects(second *s, int32_t count)
{
    glmm_model *g = s->g;
    const effects *e = &g->e;
    const ptrdiff_t q = g->m->layout.q;
    for (int32_t j = 0; j < count; j++) {
        const direction d = direction_of(&g->m->layout, j);
        double *db = s->effects + j * q;
        if (d.k >= 0 && d.k == g->flat) continue;
        open_direction(s, &d);
        times_change(s, e->c, db);
        pass_product(g, d.k < 0 ? NULL : db, d.k < 0 ? s->gamma : NULL, g->v.zn, e->un);
        solve_effects(g, e->un);
        for (ptrdiff_t i = 0; i < q; i++) db[i] -= e->un[i];
    }
}

/* The S that log|M| alone has, where the inverse is */
static void log_slope(lmm_model *m, double *S)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; S += lay->f[k].p * lay->f[k].p, k++) {
        const size_t size = (size_t)(lay->f[k].p * lay->f[k].p);
        memset(m->scratch.tmp, 0, sizeof(double) * size);
        finish_slope(m, &lay->f[k], m->scratch.tmp);
        memcpy(S, m->evaluation.f[k].S, sizeof(double) * size);
    }
}

/* The size of a step by which weights and T change by STEP; 0: nothing of them changes. deta: n */
static double step_size(const second *s, const direction *d, const double *deta)
{
    const glmm_model *g = s->g;
    const layout *lay = &g->m->layout;
    double change = 0, all = 0, size = 0, along = 0, A = 0;
    for (ptrdiff_t i = 0; i < g->rows.n; i++) {
        const double dw = g->v.d3[i] * deta[i];
        change += dw * dw;
        all += s->w[i] * s->w[i];
    }
    if (d->k >= 0) {
        const factor *f = &lay->f[d->k];
        const double *T = s->T + corner_of(lay, d->k), *dT = s->dT + corner_of(lay, d->k),
                     *diag = g->m->sums.A[d->k].diag;
        for (int i = 0; i < f->p * f->p; i++) size += T[i] * T[i], along += dT[i] * dT[i];
        for (ptrdiff_t i = 0; i < (ptrdiff_t)f->nlev * f->p; i++)
            A += fabs(diag[i / f->p * f->p * f->p + i % f->p * (f->p + 1)]);
        if (A > 0) size += (double)f->nlev * f->p / A;
    }
    const double relative = (all > 0 ? sqrt(change / all) : 0) + (along > 0 ? sqrt(along / size) : 0);
    return relative > 0 ? STEP / relative : 0;
}

/* r := leverages, and dS := df/dSigma of log|M|, a step away */
static lmm_status step_away(second *s, int32_t j, double step, const double *deta, double *S)
{
    glmm_model *g = s->g;
    lmm_model *m = g->m;
    double *h = g->v.h;
    memcpy(s->moved, s->theta, sizeof(double) * (size_t)m->layout.ntheta);
    if (j < m->layout.ntheta) s->moved[j] += step;
    set_theta(m, s->moved, 1, floor_of(m));
    for (ptrdiff_t i = 0; i < g->rows.n; i++) g->v.wf[i] = s->w[i] - step * g->v.d3[i] * deta[i];
    lmm_status status = factorize_with(g, g->v.wf);
    g->v.h = s->r;
    if (status == LMM_OK) status = find_leverages(g);
    g->v.h = h;
    memcpy(g->v.wf, s->w, sizeof(double) * (size_t)g->rows.n);
    if (status == LMM_OK) log_slope(m, S);
    return status;
}

/* r := dh w' + h dw' - dW z_t, from leverages a step away (none for step 0); z := Z'(r - W Z a) */
CLONES static void pass_rows(second *s, double step, const double *deta, const double *a, double *z)
{
    glmm_model *g = s->g;
    const row_values *v = &g->v;
    double y[KEPT];
    g->passes++;
    memset(z, 0, effects_size(g));
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        const double *h = v->h + at, *d3 = v->d3 + at, *d4 = s->d4 + at, *de = deta + at, *zt = v->zt + at;
        double *r = s->r + at;
        memset(y, 0, sizeof(y));
        add_random(g, block, a, y);
        for (int32_t i = 0; i < n; i++) {
            const double dh = step > 0 ? (r[i] - h[i]) / step : 0;
            r[i] = -dh * d3[i] - h[i] * d4[i] * de[i] + d3[i] * de[i] * zt[i];
            y[i] = r[i] - s->w[at + i] * y[i];
        }
        add_levels(g, block, y, WHOLE, z);
    }
}

/* dd := Z'dr, dr = r - W Z t;  dc := Z'dl';  x := X'(dr - 2 dl') */
CLONES static void pass_changes(second *s, const double *deta, const double *t, double *dd, double *dc,
                                double *x)
{
    glmm_model *g = s->g;
    double zt[KEPT], r[KEPT], dl[KEPT];
    g->passes++;
    memset(dd, 0, effects_size(g)), memset(dc, 0, effects_size(g));
    memset(x, 0, sizeof(double) * (size_t)g->m->layout.p);
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        memset(zt, 0, sizeof(zt));
        add_random(g, block, t, zt);
        for (int32_t i = 0; i < n; i++) {
            dl[i] = -s->w[at + i] * deta[at + i];
            r[i] = s->r[at + i] - s->w[at + i] * zt[i];
        }
        add_levels(g, block, r, WHOLE, dd);
        add_levels(g, block, dl, WHOLE, dc);
        for (int32_t i = 0; i < n; i++) r[i] -= 2 * dl[i];
        add_columns(g, block, r, x);
    }
}

/* dS (p x p) += sum_l d(-c c' + (d c' + c d')/2), symmetric */
static void change_of_modes(const glmm_model *g, const factor *f, const double *dc, const double *dd,
                            double *dS)
{
    const int p = f->p;
    for (ptrdiff_t at = f->col; at < f->col + (ptrdiff_t)f->nlev * p; at += p) {
        const double *c = g->e.c + at, *d = g->e.d + at, *x = dc + at, *y = dd + at;
        for (int j = 0; j < p; j++)
            for (int i = 0; i < p; i++)
                dS[i + j * p] +=
                    (y[i] * c[j] + c[i] * y[j] + d[i] * x[j] + x[i] * d[j]) / 2 - x[i] * c[j] - c[i] * x[j];
    }
}

/* The user's df/dTheta = 2 Cinv'S T of every factor: its change, dS in place of S a step away */
static void change_in_theta(second *s, const double *dS)
{
    const layout *lay = &s->g->m->layout;
    ptrdiff_t at = 0;
    double *X = s->g->m->scratch.tmp;
    for (int k = 0; k < lay->nfactor; at += lay->f[k].p * lay->f[k].p, k++) {
        const factor *f = &lay->f[k];
        const int p = f->p;
        double *D = X + p * p;
        mul(p, p, p, 0, dS + at, p, s->T + at, p, X, p);
        mul(p, p, p, 1, s->S + at, p, s->dT + at, p, X, p);
        tmul(p, p, p, 0, f->Cinv, p, X, p, D, p);
        for (int t = 0; t < f->nth; t++) s->slope[f->th + t] = 2 * D[f->thr[t] + f->thc[t] * p];
    }
}

/* slope := the change of all slopes along direction j */
static lmm_status differentiate_along(second *s, int32_t j)
{
    glmm_model *g = s->g;
    const layout *lay = &g->m->layout;
    const effects *e = &g->e;
    const direction d = direction_of(lay, j);
    const ptrdiff_t size = factors_size(lay);
    double *deta = g->v.zn, *dS = g->Tnew, *a = e->bn, *dt = e->un, *dd = e->s, *dc = e->r;
    open_direction(s, &d);
    pass_product(g, s->effects + j * (ptrdiff_t)lay->q, d.k < 0 ? s->gamma : NULL, deta, NULL);
    const double step = step_size(s, &d, deta);
    if (step > 0) TRY(step_away(s, j, step, deta, dS));
    for (ptrdiff_t i = 0; i < size; i++) dS[i] = step > 0 ? (dS[i] - s->S0[i]) / step : 0;
    times_change(s, e->d, a);
    pass_rows(s, step, deta, a, dt);
    solve_effects(g, dt);
    for (ptrdiff_t i = 0; i < lay->q; i++) dt[i] += a[i];
    pass_changes(s, deta, dt, dd, dc, s->slope + lay->ntheta);
    double *to = dS;
    for (int k = 0; k < lay->nfactor; to += lay->f[k].p * lay->f[k].p, k++)
        change_of_modes(g, &lay->f[k], dc, dd, to);
    change_in_theta(s, dS);
    return LMM_OK;
}

/* All of it, symmetric, where the criterion and its slopes have been evaluated */
static lmm_status columns_of(second *s)
{
    glmm_model *g = s->g;
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const int32_t n = lay->ntheta + lay->p;
    double *T = s->T, *S = s->S, *S0 = s->S0;
    for (int k = 0; k < lay->nfactor; k++) {
        const size_t size = (size_t)(lay->f[k].p * lay->f[k].p);
        memcpy(T, m->evaluation.f[k].T, sizeof(double) * size), T += size;
        memcpy(S, m->evaluation.f[k].S, sizeof(double) * size), S += size;
        mode_part(g, &lay->f[k], S0);
        for (size_t i = 0; i < size; i++) S0[i] += m->evaluation.f[k].S[i];
        S0 += size;
    }
    memcpy(s->w, g->v.wf, sizeof(double) * (size_t)g->rows.n);
    pass_fourth(g, s->d4);
    move_effects(s, n);
    for (int32_t j = 0; j < n; j++) {
        const direction d = direction_of(lay, j);
        if (d.k >= 0 && d.k == g->flat) continue;
        TRY(differentiate_along(s, j));
        memcpy(s->H + j * (ptrdiff_t)n, s->slope, sizeof(double) * (size_t)n);
    }
    symmetrize(n, s->H);
    add_prior_curvature(g, n, lay->ntheta, s->H);
    return LMM_OK;
}

/* H (n x n) := that of the user's theta and beta, n = ntheta + pfull */
static void give_user(const second *s, double *H)
{
    const layout *lay = &s->g->m->layout;
    const ptrdiff_t N = lay->ntheta, p = lay->p, n = N + p, all = N + lay->pfull;
    double *J = s->effects; /* all x n: how (Theta, gamma) moves with the user's */
    memset(J, 0, sizeof(double) * (size_t)(all * n));
    memset(H, 0, sizeof(double) * (size_t)(all * all));
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) J[user_place(&lay->f[k], t) + (lay->f[k].th + t) * all] = 1;
    for (ptrdiff_t i = 0; i < p; i++)
        for (ptrdiff_t a = 0; a < p; a++) J[N + lay->keep[i] + (N + a) * all] = s->g->Cinv[a + i * p];
    double *half = J + all * n;
    mul((int)all, (int)n, (int)n, 0, J, (int)all, s->H, (int)n, half, (int)all);
    mult((int)all, (int)all, (int)n, 0, half, (int)all, J, (int)all, H, (int)all);
}

/* Back to the mode, for readings and the evaluations that follow */
static lmm_status come_back(second *s)
{
    glmm_model *g = s->g;
    set_theta(g->m, s->theta, 1, floor_of(g->m));
    g->elsewhere = 1;
    return factorize_with(g, s->w);
}

static lmm_status open_second(second *s, glmm_model *g)
{
    const layout *lay = &g->m->layout;
    const ptrdiff_t N = lay->ntheta, n = N + lay->p, all = N + lay->pfull + g->family.nextra,
                    factors = factors_size(lay), rows = g->rows.n;
    ptrdiff_t effects = n * lay->q;
    if (effects < 2 * all * n) effects = 2 * all * n; /* give_user's */
    s->g = g;
    double *at =
        malloc(sizeof(double) * (size_t)(2 * N + 5 * factors + lay->p + 3 * rows + effects + all + n * n));
    if (!at) return LMM_NOMEM;
    double **arrays[] = {&s->theta, &s->moved, &s->T,  &s->S, &s->S0,      &s->dT,    &s->dSigma,
                         &s->gamma, &s->w,     &s->d4, &s->r, &s->effects, &s->slope, &s->H};
    const ptrdiff_t sizes[] = {N,      N,    factors, factors, factors, factors, factors,
                               lay->p, rows, rows,    rows,    effects, all,     n * n};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); at += sizes[i++]) *arrays[i] = at;
    memset(s->H, 0, sizeof(double) * (size_t)(n * n));
    return LMM_OK;
}

lmm_status glmm_hessian(glmm_model *g, const double *psi, double *H)
{
    second s;
    double f;
    if (g->nodes || g->expected) return LMM_UNAVAILABLE;
    for (int k = 0; k < g->m->layout.nfactor; k++) /* the sums over levels take them as independent */
        if (g->m->layout.f[k].relation) return LMM_UNAVAILABLE;
    TRY(open_second(&s, g));
    theta_of_psi(g, psi, s.theta);
    lmm_status status = glmm_evaluate(g, psi, &f, s.slope);
    if (status == LMM_OK) {
        status = columns_of(&s);
    }
    if (status == LMM_OK) give_user(&s, H);
    if (status == LMM_OK) status = come_back(&s);
    if (status != LMM_OK) g->stands = 0;
    free(s.theta);
    return status;
}
