/* The generalized linear model without random effects, from which fits begin: Newton steps in (gamma, x)
   together, scores' outer products for x, halved where the likelihood falls. */

#include <stdlib.h>

#include "base/small.h"
#include "generalized/state.h"
#include "optimize/axes.h"
#include "optimize/start.h"

#define ENOUGH 1e-4 /* decrease of -2 log-likelihood that is worth a step, relative to its size */
#define STEPS 50
#define HALVINGS 40
#define FARTHEST 5 /* steps of x at most */
#define PART 200   /* blocks of rows that the first steps are made of, at least */
#define LOW 0.1    /* standard deviations begin between these, in units of eta */
#define HIGH 3.0
#define LEAST 0.05 /* of a dispersion that random effects leave */

/* Sums over rows at gamma and x: slopes of -l and curvature in both, lower (n x n); of every `stride`-th
   block of rows */
typedef struct {
    double value, *slope, *H;
    int64_t stride;
} totals;

static void add_block(glmm_model *g, int64_t block, int32_t rows, const double *d1, const double *w,
                      const double *lx, const double *d1x, totals *s)
{
    const int32_t first = g->rows.at[g->m->layout.nfactor];
    const ptrdiff_t p = g->m->layout.p, N = g->family.nextra, n = p + N;
    double wx[KEPT];
    for (ptrdiff_t a = 0; a < p; a++) {
        const double *x = kept_column(&g->rows, block, first + (int32_t)a);
        s->slope[a] -= dot(rows, x, d1);
        for (int32_t i = 0; i < rows; i++) wx[i] = x[i] * w[i];
        for (ptrdiff_t c = a; c < p; c++)
            s->H[c + a * n] += dot(rows, kept_column(&g->rows, block, first + (int32_t)c), wx);
        for (ptrdiff_t k = 0; k < N; k++) s->H[p + k + a * n] -= dot(rows, x, d1x + k * KEPT);
    }
    for (ptrdiff_t k = 0; k < N; k++) {
        for (int32_t i = 0; i < rows; i++) s->slope[p + k] -= lx[k * KEPT + i];
        const double *own = score_of_block(g, block * KEPT, rows, lx + k * KEPT, wx);
        for (ptrdiff_t f = k; f < N; f++) s->H[p + f + (p + k) * n] += dot(rows, lx + f * KEPT, own);
    }
}

/* At gamma and x, without random effects. derivatives 0: the value alone */
static double sum_rows(glmm_model *g, int derivatives, totals *s)
{
    const row_values *v = &g->v;
    const ptrdiff_t N = g->family.nextra, n = g->m->layout.p + N;
    double eta[KEPT], l[KEPT], d1[KEPT], w[KEPT], *lx = g->e.columns, *d1x = lx + N * KEPT, total = 0;
    g->passes += s->stride == 1;
    if (derivatives) {
        memset(s->slope, 0, sizeof(double) * (size_t)n);
        memset(s->H, 0, sizeof(double) * (size_t)(n * n));
    }
    for (int64_t block = 0; block < kept_blocks(&g->rows); block += s->stride) {
        const int32_t rows = kept_rows(&g->rows, block);
        const int64_t at = block * KEPT;
        const lmm_density value = {.l = l};
        const lmm_density all = {
            .l = l, .d1 = d1, .w = w, .lx = N ? lx : NULL, .d1x = N ? d1x : NULL, .ldx = KEPT};
        fixed_of_block(g, block, eta);
        g->family.density(&g->family, rows, v->y + at, v->w ? v->w + at : NULL, eta, g->x,
                          derivatives ? &all : &value);
        for (int32_t i = 0; i < rows; i++) total -= l[i];
        if (derivatives) add_block(g, block, rows, d1, w, lx, d1x, s);
    }
    return s->value = isnan(total) ? INFINITY : total;
}

/* step := -H^-1 slope; H gets a little on its diagonal until it is positive definite */
static int solve(const glmm_model *g, ptrdiff_t n, const double *H, double *L, const double *slope,
                 double *step)
{
    char lower = 'L';
    int order = (int)n, info = 1;
    double most = 0;
    for (ptrdiff_t i = 0; i < n; i++) most = fmax(most, fabs(H[i + i * n]));
    for (double ridge = 0; info && ridge < 1e3; ridge = ridge > 0 ? 100 * ridge : 1e-12) {
        memcpy(L, H, sizeof(double) * (size_t)(n * n));
        for (ptrdiff_t i = 0; i < n; i++) L[i + i * n] += ridge * most;
        g->m->blas.potrf(&lower, &order, L, &order, &info);
    }
    if (info) return 1;
    for (ptrdiff_t i = 0; i < n; i++) {
        step[i] = -slope[i];
        for (ptrdiff_t j = 0; j < i; j++) step[i] -= L[i + j * n] * step[j];
        step[i] /= L[i + i * n];
    }
    for (ptrdiff_t i = n - 1; i >= 0; i--) {
        for (ptrdiff_t j = i + 1; j < n; j++) step[i] -= L[j + i * n] * step[j];
        step[i] /= L[i + i * n];
    }
    return 0;
}

/* Nonzero: no step leads down. */
static int take_step(glmm_model *g, totals *s, double *step, double *from)
{
    const ptrdiff_t p = g->m->layout.p, N = g->family.nextra;
    const double before = s->value;
    memcpy(from, g->gamma, sizeof(double) * (size_t)p);
    memcpy(from + p, g->x, sizeof(double) * (size_t)N);
    double size = 1;
    for (ptrdiff_t k = 0; k < N; k++) size = fmax(size, fabs(step[p + k]) / FARTHEST);
    for (int halved = 0; halved < HALVINGS; halved++, size *= 2) {
        for (ptrdiff_t i = 0; i < p; i++) g->gamma[i] = from[i] + step[i] / size;
        for (ptrdiff_t k = 0; k < N; k++) g->x[k] = from[p + k] + step[p + k] / size;
        if (sum_rows(g, 0, s) < before) return 0;
    }
    memcpy(g->gamma, from, sizeof(double) * (size_t)p);
    memcpy(g->x, from + p, sizeof(double) * (size_t)N);
    s->value = before;
    return 1;
}

/* Centre in the coefficient of X's constant column */
static void begin_at_center(glmm_model *g)
{
    const layout *lay = &g->m->layout;
    memset(g->gamma, 0, sizeof(double) * (size_t)lay->p);
    memcpy(g->x, g->begin, sizeof(double) * (size_t)g->family.nextra);
    for (int a = 0; a < lay->p; a++)
        if (lay->keep[a] == lay->x.constant) {
            double column = 0;
            for (int32_t i = 0; i < kept_rows(&g->rows, 0); i++)
                column = kept_column(&g->rows, 0, g->rows.at[lay->nfactor] + a)[i];
            g->gamma[a] = g->center / column;
        }
}

/* Newton steps from gamma and x. work: n^2 + 2 n doubles */
static void climb(glmm_model *g, ptrdiff_t n, totals *s, double *work)
{
    double *L = work, *step = L + n * n, *from = step + n;
    sum_rows(g, 1, s);
    for (int i = 0; n && i < STEPS && isfinite(s->value); i++) {
        const double before = s->value;
        if (solve(g, n, s->H, L, s->slope, step) || take_step(g, s, step, from)) break;
        if (before - s->value < ENOUGH * (1 + fabs(s->value))) break;
        sum_rows(g, 1, s);
    }
}

/* Where rows are many, blocks from everywhere say where the steps of all of them begin: unless that is worse
   than the centre, as where they know nothing of a column. */
lmm_status start_fixed(glmm_model *g)
{
    const ptrdiff_t n = g->m->layout.p + g->family.nextra;
    double *memory = malloc(sizeof(double) * (size_t)(2 * n * n + 3 * n + 1));
    if (!memory) return LMM_NOMEM;
    totals s = {.slope = memory, .H = memory + n, .stride = 1}, part = s;
    part.stride = kept_blocks(&g->rows) / PART;
    begin_at_center(g);
    if (part.stride > 1) {
        const double center = sum_rows(g, 0, &s);
        climb(g, n, &part, s.H + n * n);
        if (!(sum_rows(g, 0, &s) < center)) begin_at_center(g);
    }
    climb(g, n, &s, s.H + n * n);
    free(memory);
    return isfinite(s.value) ? LMM_OK : LMM_NOTPOSDEF;
}

/* The response of the moment equations: working residuals l'/W at the fixed part, with weights W. Returns
   what is left of their sum of squares; 0: weights are no weights. */
static double set_response(glmm_model *g)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const row_values *v = &g->v;
    double total = 0;
    for (ptrdiff_t i = 0; i < g->rows.n; i++) {
        if (!(v->w2[i] >= 0)) return 0;
        if (v->w2[i] > 0) total += v->d1[i] * v->d1[i] / v->w2[i];
    }
    memcpy(v->wf, v->w2, sizeof(double) * (size_t)g->rows.n);
    pass_weights(g);
    pass_scatter(g, v->d1, g->e.c, g->gx);
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const double *c = g->e.c + f->col;
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            for (int i = 1; i <= f->p; i++)
                m->sums.A[k].pan[lay->pan[e] + i * (ptrdiff_t)lay->ld[e] - 1] = *c++;
    }
    for (int a = 0; a < lay->p; a++) m->sums.border[lay->p + a * (ptrdiff_t)lay->pb] = g->gx[a];
    m->sums.border[lay->p + lay->p * (ptrdiff_t)lay->pb] = total;
    return isfinite(total) ? total : 0;
}

void start_random(glmm_model *g, double *axes)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    double *memory =
        malloc(sizeof(double) * (size_t)(lay->ntheta + 1 + start_work(lay) + 36 * factors_size(lay)));
    if (!memory) return;
    double *sigma = memory, *work = sigma + lay->ntheta + 1;
    g->j = pass_first(g, 1);
    const double total = set_response(g);
    g->begun = total > 0 && isfinite(g->j) && !g->family.dispersion;
    if (total > 0 && moment_estimates(m, sigma, work) == LMM_OK) {
        const double residual =
            total / ((double)lay->n * sigma[lay->ntheta]); /* of sigma's, relative to it */
        double *E = work, *w;
        for (term s = {0}; next_term(lay, &s); axes += term_size(s.k)) {
            char vectors = 'V', lower = 'L';
            int k = s.k, lwork = 34 * k, info;
            w = E + k * k;
            for (int c = 0; c < k; c++)
                for (int r = c; r < k; r++) E[r + c * k] = residual * sigma[s.th + packed_place(k, r, c)];
            m->blas.syev(&vectors, &lower, &k, E, &k, w, w + k, &lwork, &info);
            for (int i = 0; i < k; i++) w[i] = fmin(fmax(sqrt(fmax(w[i], 0)), LOW * g->unit), HIGH * g->unit);
            if (!info) set_term(axes, k, E, w);
        }
        if (g->family.dispersion) g->x[0] += log(fmin(fmax(residual, LEAST), 1));
    }
    free(memory);
}
