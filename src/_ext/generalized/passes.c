/* Passes over the rows: the linear predictor, densities, sums by level, weights into the cross-products,
   leverages. Blocks of rows stay in the cache between the steps of a pass. */

#include "generalized/block.h"

#define SLIGHT 0.1 /* of its expectation: an observed weight below it says nothing of a shift of its row */

void fixed_of_block(const glmm_model *g, int64_t block, double *eta)
{
    const int32_t n = kept_rows(&g->rows, block);
    const double *o = g->v.o ? g->v.o + block * KEPT : NULL;
    for (int32_t i = 0; i < n; i++) eta[i] = o ? o[i] : 0;
    add_fixed(g, block, g->gamma, eta);
}

/* ---------------------------------------------------------------------------------------- the passes -- */

#define TAKEN_AT_ONCE 16 /* blocks, by a thread */
#define MANY 64          /* blocks from which threads are called */

static void rows_body(void *arg, int64_t i, int worker)
{
    const pass *p = arg;
    const int64_t last = kept_blocks(&p->g->rows), end = (i + 1) * TAKEN_AT_ONCE;
    (void)worker;
    for (int64_t block = i * TAKEN_AT_ONCE; block < last && block < end; block++)
        p->rows(p, block, kept_rows(&p->g->rows, block));
}

static void sums_body(void *arg, int64_t i, int worker)
{
    const pass *p = arg;
    (void)worker;
    EACH(p->g, block, n) p->sums(p, block, n, (int)i);
}

static int goes_parallel(const glmm_model *g)
{
    return team_size(g->m->team) > 1 && kept_blocks(&g->rows) >= MANY &&
           !g->family.arg; /* Python's: one by one */
}

void run_pass(const pass *p)
{
    glmm_model *g = p->g;
    g->passes++;
    if (!goes_parallel(g)) {
        EACH(g, block, n)
        {
            if (p->rows) p->rows(p, block, n);
            if (p->sums) p->sums(p, block, n, WHOLE);
        }
        return;
    }
    const int64_t chunks = (kept_blocks(&g->rows) + TAKEN_AT_ONCE - 1) / TAKEN_AT_ONCE;
    if (p->rows) team_run(g->m->team, chunks, rows_body, (void *)p);
    if (p->sums) team_run(g->m->team, p->parts, sums_body, (void *)p);
}

/* The sum over blocks of what each left: minus the log-density (0), or the second number (1) */
static double total_of(const glmm_model *g, int which)
{
    double total = 0;
    for (int64_t block = 0; block < kept_blocks(&g->rows); block++) total += g->v.sum[2 * block + which];
    return total;
}

static double fall_of(const glmm_model *g)
{
    const double total = total_of(g, 0);
    return isnan(total) ? INFINITY : -total;
}

CLONES void pass_random(glmm_model *g, const double *b, double *zb)
{
    g->passes++;
    EACH(g, block, n)
    {
        memset(zb + block * KEPT, 0, sizeof(double) * (size_t)n);
        add_random(g, block, b, zb + block * KEPT);
    }
}

/* Densities of a block at eta = fixed + zb. Returns the sum of l. */
INLINE double density_of_block(glmm_model *g, int64_t block, int32_t n, const double *zb)
{
    const row_values *v = &g->v;
    const int64_t at = block * KEPT;
    double eta[KEPT], l[KEPT], sum = 0;
    const lmm_density out = {.l = l, .d1 = v->d1 + at, .d2 = v->w2 + at, .d3 = v->d3 + at};
    for (int32_t i = 0; i < n; i++) eta[i] = v->fixed[at + i] + zb[at + i];
    g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
    for (int32_t i = 0; i < n; i++) {
        sum += l[i];
        v->w2[at + i] = -v->w2[at + i];
    }
    return sum;
}

CLONES static void density_rows(const pass *p, int64_t block, int32_t n)
{
    p->g->v.sum[2 * block] = density_of_block(p->g, block, n, p->g->v.zb);
}

double pass_density(glmm_model *g)
{
    run_pass(&(pass){.g = g, .rows = density_rows});
    return fall_of(g);
}

CLONES static void first_rows(const pass *p, int64_t block, int32_t n)
{
    const row_values *v = &p->g->v;
    const int64_t at = block * KEPT;
    fixed_of_block(p->g, block, v->fixed + at);
    memset(v->zb + at, 0, sizeof(double) * (size_t)n);
    if (!p->zero) add_random(p->g, block, p->g->e.b, v->zb + at);
    v->sum[2 * block] = density_of_block(p->g, block, n, v->zb);
}

double pass_first(glmm_model *g, int zero)
{
    run_pass(&(pass){.g = g, .rows = first_rows, .zero = zero});
    return fall_of(g);
}

CLONES static void try_rows(const pass *p, int64_t block, int32_t n)
{
    const row_values *v = &p->g->v;
    const int64_t at = block * KEPT;
    double sum = 0;
    memset(v->zn + at, 0, sizeof(double) * (size_t)n);
    add_random(p->g, block, p->g->e.bn, v->zn + at);
    for (int32_t i = 0; i < n; i++) sum += v->d1[at + i] * (v->zn[at + i] - v->zb[at + i]);
    v->sum[2 * block + 1] = sum;
    v->sum[2 * block] = density_of_block(p->g, block, n, v->zn);
}

CLONES static void try_sums(const pass *p, int64_t block, int32_t n, int part)
{
    const row_values *v = &p->g->v;
    const int64_t at = block * KEPT;
    double r[KEPT];
    for (int32_t i = 0; i < n; i++) r[i] = v->d1[at + i] + v->wf[at + i] * v->zn[at + i];
    add_levels(p->g, block, r, part, p->g->e.r);
}

double pass_try(glmm_model *g, double *slope)
{
    memset(g->e.r, 0, effects_size(g));
    run_pass(&(pass){.g = g, .rows = try_rows, .sums = try_sums, .parts = g->rows.nparts});
    *slope = total_of(g, 1);
    return fall_of(g);
}

CLONES void pass_fourth(glmm_model *g, double *d4)
{
    const row_values *v = &g->v;
    double eta[KEPT];
    g->passes++;
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        const lmm_density out = {.d4 = d4 + at};
        for (int32_t i = 0; i < n; i++) eta[i] = v->fixed[at + i] + v->zb[at + i];
        g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
    }
}

CLONES void pass_expected(glmm_model *g, double *w, double *dw)
{
    const row_values *v = &g->v;
    double eta[KEPT];
    g->passes++;
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        const lmm_density out = {.w = w + at, .dw = dw ? dw + at : NULL};
        for (int32_t i = 0; i < n; i++) eta[i] = v->fixed[at + i] + v->zb[at + i];
        g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
        for (int32_t i = 0; dw && i < n; i++) dw[at + i] = -dw[at + i];
    }
}

/* b: r */
CLONES static void scatter_sums(const pass *p, int64_t block, int32_t n, int part)
{
    const glmm_model *g = p->g;
    const double *r = p->b + block * KEPT;
    (void)n;
    if (p->z) add_levels(g, block, r, part, p->z);
    if (p->zb && (part == WHOLE || part == g->rows.nparts)) add_columns(g, block, r, p->zb);
}

void pass_scatter(glmm_model *g, const double *r, double *z, double *x)
{
    if (z) memset(z, 0, effects_size(g));
    if (x) memset(x, 0, sizeof(double) * (size_t)g->m->layout.p);
    run_pass(&(pass){.g = g, .sums = scatter_sums, .parts = g->rows.nparts + 1, .b = r, .z = z, .zb = x});
}

CLONES static void product_rows(const pass *p, int64_t block, int32_t n)
{
    double *to = p->zb + block * KEPT;
    memset(to, 0, sizeof(double) * (size_t)n);
    if (p->b) add_random(p->g, block, p->b, to);
    if (p->gamma) add_fixed(p->g, block, p->gamma, to);
}

CLONES static void product_sums(const pass *p, int64_t block, int32_t n, int part)
{
    const double *from = p->zb + block * KEPT, *w = p->g->v.wf + block * KEPT;
    double r[KEPT];
    for (int32_t i = 0; i < n; i++) r[i] = from[i] * w[i];
    add_levels(p->g, block, r, part, p->z);
}

void pass_product(glmm_model *g, const double *b, const double *gamma, double *zb, double *z)
{
    if (z) memset(z, 0, effects_size(g));
    run_pass(&(pass){.g = g,
                     .rows = product_rows,
                     .sums = z ? product_sums : NULL,
                     .parts = g->rows.nparts,
                     .b = b,
                     .gamma = gamma,
                     .zb = zb,
                     .z = z});
}

CLONES static void slopes_rows(const pass *p, int64_t block, int32_t n)
{
    double *zt = p->g->v.zt + block * KEPT;
    memset(zt, 0, sizeof(double) * (size_t)n);
    add_random(p->g, block, p->b, zt);
}

CLONES static void slopes_sums(const pass *p, int64_t block, int32_t n, int part)
{
    const glmm_model *g = p->g;
    const row_values *v = &g->v;
    const int64_t at = block * KEPT;
    double r[KEPT];
    for (int32_t i = 0; i < n; i++) r[i] = -v->h[at + i] * v->d3[at + i] - v->wf[at + i] * v->zt[at + i];
    add_levels(g, block, v->d1 + at, part, g->e.c);
    add_levels(g, block, r, part, g->e.d);
    if (part != WHOLE && part != g->rows.nparts) return;
    for (int32_t i = 0; i < n; i++) r[i] -= 2 * p->d1[at + i];
    add_columns(g, block, r, g->gx);
}

void pass_slopes(glmm_model *g, const double *t, const double *d1)
{
    memset(g->e.c, 0, effects_size(g));
    memset(g->e.d, 0, effects_size(g));
    memset(g->gx, 0, sizeof(double) * (size_t)g->m->layout.p);
    run_pass(&(pass){
        .g = g, .rows = slopes_rows, .sums = slopes_sums, .parts = g->rows.nparts + 1, .b = t, .d1 = d1});
}

/* ---------------------------------------------------------------------------------------- quadrature -- */

CLONES void pass_node(glmm_model *g, const double *b, double *sums)
{
    const row_values *v = &g->v;
    double eta[KEPT], l[KEPT];
    g->passes++;
    memset(sums, 0, sizeof(double) * (size_t)g->m->layout.f[0].nlev);
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        const int32_t *level = g->rows.level[0] + at;
        const lmm_density out = {.l = l};
        memcpy(eta, v->fixed + at, sizeof(double) * (size_t)n);
        add_random(g, block, b, eta);
        g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
        for (int32_t i = 0; i < n; i++) sums[level[i]] += l[i];
    }
}

CLONES void pass_node_slopes(glmm_model *g, const double *b, const double *share, double *c, double *mean)
{
    const row_values *v = &g->v;
    const ptrdiff_t N = g->family.nextra;
    double eta[KEPT], *l = g->e.columns, *lx = l + KEPT, *d1x = lx + N * KEPT, d1[KEPT];
    g->passes++;
    memset(c, 0, effects_size(g));
    EACH(g, block, n)
    {
        const int64_t at = block * KEPT;
        const int32_t *level = g->rows.level[0] + at;
        const lmm_density out = {.l = l, .d1 = d1, .lx = N ? lx : NULL, .d1x = N ? d1x : NULL, .ldx = KEPT};
        memcpy(eta, v->fixed + at, sizeof(double) * (size_t)n);
        add_random(g, block, b, eta);
        g->family.density(&g->family, n, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
        add_levels(g, block, d1, WHOLE, c);
        for (int32_t i = 0; i < n; i++) mean[at + i] += share[level[i]] > 0 ? share[level[i]] * d1[i] : 0;
        for (ptrdiff_t k = 0; k < N; k++)
            for (int32_t i = 0; i < n; i++)
                g->fx[k] -= share[level[i]] > 0 ? 2 * share[level[i]] * lx[k * KEPT + i] : 0;
    }
}

CLONES void pass_node_leverages(glmm_model *g, const double *Mbar)
{
    const layout *lay = &g->m->layout;
    g->passes++;
    memset(g->e.s, 0, effects_size(g));
    EACH(g, block, n)
    {
        double *h = g->v.h + block * KEPT, r[KEPT];
        memset(h, 0, sizeof(double) * (size_t)n);
        own_leverages(lay->f[0].p, g, block, 0, Mbar, h);
        for (int32_t i = 0; i < n; i++) r[i] = -h[i] * g->v.d3[block * KEPT + i];
        add_levels(g, block, r, WHOLE, g->e.s);
    }
}

/* --------------------------------------------------------------------------- the family's parameters -- */

/* Scores of a block of rows, by which those of f are multiplied: of each of the rows of the data that are one
   here. room: KEPT */
const double *score_of_block(const glmm_model *g, int64_t at, int32_t n, const double *lx, double *room)
{
    if (!g->v.count) return lx;
    for (int32_t i = 0; i < n; i++) room[i] = lx[i] / g->v.count[at + i];
    return room;
}

CLONES void pass_extra(glmm_model *g)
{
    const row_values *v = &g->v;
    const ptrdiff_t N = g->family.nextra, q = g->m->layout.q, p = g->m->layout.p, n = g->rows.n;
    double eta[KEPT], *l = g->e.columns, *lx = l + KEPT, *d2x = lx + N * KEPT;
    g->passes++;
    if (!g->nodes) memset(g->fx, 0, sizeof(double) * (size_t)N); /* else it has that of the nodes */
    memset(g->xx, 0, sizeof(double) * (size_t)(N * N));
    memset(g->kk, 0, sizeof(double) * (size_t)(N * N));
    memset(g->zx, 0, sizeof(double) * (size_t)(N * q));
    memset(g->xk, 0, sizeof(double) * (size_t)(N * p));
    EACH(g, block, rows)
    {
        const int64_t at = block * KEPT;
        double one[KEPT], w[KEPT], score[KEPT];
        for (int32_t i = 0; i < rows; i++) eta[i] = v->fixed[at + i] + v->zb[at + i];
        const lmm_density out = {.l = l,
                                 .w = w,
                                 .lx = lx,
                                 .d2x = g->expected ? NULL : d2x,
                                 .wx = g->expected ? d2x : NULL,
                                 .d1x = l + (1 + 2 * N) * KEPT,
                                 .ldx = KEPT};
        g->family.density(&g->family, rows, v->y + at, v->w ? v->w + at : NULL, eta, g->x, &out);
        for (ptrdiff_t i = 0; g->expected && i < N * KEPT; i++) d2x[i] = -d2x[i];
        for (ptrdiff_t e = 0; e < N; e++) {
            const double *d1 = out.d1x + e * KEPT;
            double sum = 0;
            memcpy(v->d1x + e * n + at, d1, sizeof(double) * (size_t)rows);
            for (int32_t i = 0; i < rows; i++)
                sum += (g->nodes ? 0 : -2 * lx[e * KEPT + i]) - v->h[at + i] * d2x[e * KEPT + i] +
                       v->zt[at + i] * d1[i];
            g->fx[e] += sum;
            for (int32_t i = 0; i < rows; i++)
                one[i] = v->wf[at + i] > SLIGHT * w[i] ? d1[i] / v->wf[at + i] : 0;
            const double *own = score_of_block(g, at, rows, lx + e * KEPT, score);
            for (ptrdiff_t f = 0; f < N; f++) {
                g->xx[e + N * f] += dot(rows, own, lx + f * KEPT);
                g->kk[e + N * f] += dot(rows, one, out.d1x + f * KEPT);
            }
            memcpy(one, d1, sizeof(double) * (size_t)rows);
            add_levels(g, block, one, WHOLE, g->zx + e * q);
            add_columns(g, block, one, g->xk + e * p);
        }
    }
}
