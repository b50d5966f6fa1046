/* Makes and frees a generalized model; what is read off it. */

#include "base/small.h"
#include "generalized/state.h"
#include "setup/build.h"

void glmm_free(glmm_model *g)
{
    if (!g) return;
    keep_free(&g->rows);
    release(&g->memory, NULL);
    free(g);
}

int32_t glmm_size(const glmm_model *g)
{
    return g->m->layout.ntheta + g->m->layout.pfull + g->family.nextra;
}

void glmm_work(const glmm_model *g, int32_t *factorizations, int32_t *passes)
{
    *factorizations = g->factorizations;
    *passes = g->passes;
}

glmm_obstacle glmm_met(const glmm_model *g)
{
    return g->met;
}

void glmm_kept(const glmm_model *g, int64_t *n, double *elsewhere)
{
    *n = g->rows.n;
    *elsewhere = g->rows.nbytes;
}

/* Before the rows themselves: memory is for what is written rather than for what is only read. */
static lmm_status make_rows(glmm_model *g, const glmm_response *r)
{
    row_values *v = &g->v;
    kept *rows = &g->rows;
    const ptrdiff_t n = rows->n;
    double **arrays[] = {&v->y, &v->fixed, &v->zb, &v->d1, &v->w2, &v->d3, &v->zn, &v->wf, &v->h, &v->zt};
    for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++) TAKE(rows, *arrays[i], n);
    GRAB(g, v->sum, 2 * kept_blocks(rows));
    TAKE(rows, v->weights, n); /* a later response may have some */
    if (r->offset) TAKE(rows, v->o, n);
    if (g->family.nextra) TAKE(rows, v->d1x, n * g->family.nextra);
    if (is_merged(rows) && g->family.merging == LMM_COUNTED) TAKE(rows, v->count, n);
    for (int64_t i = 0; i < rows->nrow && v->o; i++) v->o[kept_place(rows, i)] = r->offset[i];
    for (int64_t i = 0; i < rows->nrow && v->count; i++) v->count[kept_place(rows, i)]++;
    return LMM_OK;
}

/* log|det A|, p x p, by elimination. work: p x p */
static double log_determinant(int p, const double *A, double *work)
{
    double sum = 0;
    memcpy(work, A, sizeof(double) * (size_t)(p * p));
    for (int c = 0; c < p; c++) {
        int r = c;
        for (int i = c + 1; i < p; i++)
            if (fabs(work[i + c * p]) > fabs(work[r + c * p])) r = i;
        for (int j = c; j < p && r != c; j++) {
            const double t = work[c + j * p];
            work[c + j * p] = work[r + j * p], work[r + j * p] = t;
        }
        sum += log(fabs(work[c + c * p]));
        for (int i = c + 1; i < p; i++)
            for (int j = c + 1; j < p; j++)
                work[i + j * p] -= work[i + c * p] / work[c + c * p] * work[c + j * p];
    }
    return sum;
}

/* Log of what turns the integral over u of a flat factor into that over the user's b = FLAT C u */
static double flat_constant(const glmm_model *g)
{
    if (g->flat < 0) return 0;
    const factor *f = &g->m->layout.f[g->flat];
    return f->p * (log(FLAT * g->unit) + log(6.283185307179586476925) / 2) +
           log_determinant(f->p, f->w.C, g->m->scratch.tmp);
}

/* Do rows of the data that are kept as one have the same response? v->y: room */
static int are_alike(const glmm_model *g, const glmm_response *r)
{
    const kept *rows = &g->rows;
    double *y = g->v.zt; /* what it holds is of an evaluation that does not stand any more */
    for (int64_t i = 0; i < rows->nrow; i++) y[kept_place(rows, i)] = r->y[i];
    for (int64_t i = 0; i < rows->nrow; i++)
        if (y[kept_place(rows, i)] != r->y[i]) return 0;
    return 1;
}

/* Response and weights of kept rows that are one of some rows each */
static void merge_response(const glmm_model *g, const glmm_response *r)
{
    const row_values *v = &g->v;
    const kept *rows = &g->rows;
    const int how = g->family.merging;
    memset(v->y, 0, sizeof(double) * (size_t)rows->n);
    memset(v->weights, 0, sizeof(double) * (size_t)rows->n);
    for (int64_t i = 0; i < rows->nrow; i++) {
        const int64_t at = kept_place(rows, i);
        const double w = r->w ? r->w[i] : 1;
        v->weights[at] += w;
        if (how == LMM_COUNTED)
            v->y[at] = r->y[i];
        else
            v->y[at] += how == LMM_AVERAGED ? w * r->y[i] : r->y[i];
    }
    for (int64_t i = 0; i < rows->n && how == LMM_AVERAGED; i++)
        if (v->weights[i] > 0) v->y[i] /= v->weights[i];
}

lmm_status glmm_again(glmm_model *g, const glmm_response *r)
{
    const row_values *v = &g->v;
    const kept *rows = &g->rows;
    if (v->count && !are_alike(g, r)) return LMM_UNAVAILABLE;
    if (is_merged(rows))
        merge_response(g, r);
    else
        for (int64_t i = 0; i < rows->n; i++) {
            v->y[kept_place(rows, i)] = r->y[i];
            if (r->w) v->weights[kept_place(rows, i)] = r->w[i];
        }
    memcpy(g->begin, r->x, sizeof(double) * (size_t)g->family.nextra);
    g->center = r->center;
    g->unit = r->unit;
    g->v.w = r->w || is_merged(rows) ? g->v.weights : NULL;
    g->stands = g->lasts = g->begun = 0;
    g->constant = g->family.constant(&g->family, rows->nrow, r->y, r->w) + flat_constant(g);
    return LMM_OK;
}

static lmm_status make_effects(glmm_model *g)
{
    const lmm_model *m = g->m;
    const ptrdiff_t q = m->layout.q, N = g->family.nextra;
    effects *e = &g->e;
    double **arrays[] = {&e->b, &e->u, &e->c, &e->bn, &e->un, &e->at, &e->r, &e->s, &e->d, &e->last, &e->kc};
    ptrdiff_t columns = 2 + 3 * N;
    if (g->rows.at[m->layout.nfactor] > columns) columns = g->rows.at[m->layout.nfactor];
    for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++) GRAB(g, *arrays[i], q + 1);
    GRAB(g, e->work, solve_work(m, 1) + 1);
    GRAB(g, e->columns, columns * KEPT);
    GRAB(g, e->blocks, m->layout.nfactor);
    for (int k = 0; k < m->layout.nfactor; k++) {
        const factor *f = &m->layout.f[k];
        if (k || f->p > 1) GRAB(g, e->blocks[k], (ptrdiff_t)f->nlev * f->p * (f->p + m->layout.p));
    }
    return LMM_OK;
}

static lmm_status make_parameters(glmm_model *g, const glmm_response *r)
{
    const layout *lay = &g->m->layout;
    const ptrdiff_t p = lay->p, N = g->family.nextra, q = lay->q;
    double *C, *work;
    GRAB(g, g->gamma, p + 1);
    GRAB(g, g->next, p + N + 1);
    GRAB(g, g->x, N + 1);
    GRAB(g, g->begin, N + 1);
    GRAB(g, g->gx, p + 1);
    GRAB(g, g->fx, N + 1);
    GRAB(g, g->xx, N * N + 1);
    GRAB(g, g->kk, 37 * N * N + 1);
    GRAB(g, g->zx, N * q + 1);
    GRAB(g, g->xk, N * p + 1);
    GRAB(g, g->along, lay->ntheta + 1);
    GRAB(g, g->flat_theta, lay->ntheta + 1);
    GRAB(g, g->Tnew, factors_size(lay));
    GRAB(g, g->Cinv, p * p + 1);
    GRAB(g, C, p * p + 1);
    GRAB(g, work, p * p + 1);
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i < p; i++)
            C[i + j * p] = lay->x.C[lay->keep[i] + lay->keep[j] * (ptrdiff_t)lay->pfull];
    invert((int)p, C, g->Cinv, work);
    if (!r->precision) return LMM_OK;
    GRAB(g, g->mean, p + 1);
    GRAB(g, g->precision, p + 1);
    for (ptrdiff_t i = 0; i < p; i++) {
        g->mean[i] = r->mean[lay->keep[i]];
        g->precision[i] = r->precision[lay->keep[i]];
    }
    return LMM_OK;
}

static lmm_status make_nodes(glmm_model *g, const glmm_response *r)
{
    const layout *lay = &g->m->layout;
    g->nodes = r->nodes;
    g->flat = r->flat < 0 ? -1 : factor_of_user(g->m, r->flat)->k;
    if (g->flat >= 0 && g->nodes) return LMM_UNAVAILABLE;
    g->expected = r->expected;
    if (g->expected) GRAB(g, g->slope_of_log, factors_size(lay));
    if (g->expected && g->nodes) return LMM_UNAVAILABLE;
    if (!g->nodes) return LMM_OK;
    if (lay->nfactor > 1 || lay->f[0].p > 3 || g->related) return LMM_UNAVAILABLE;
    GRAB(g, g->node, 2 * g->nodes);
    GRAB(g, g->share, node_count(g) * lay->f[0].nlev);
    memcpy(g->node, r->node, sizeof(double) * 2 * (size_t)g->nodes);
    return LMM_OK;
}

static lmm_status make_panels(glmm_model *g)
{
    const layout *lay = &g->m->layout;
    GRAB(g, g->first, lay->nfactor);
    for (int k = lay->nelim; k < lay->nfactor - 1; k++) GRAB(g, g->first[k], panel_size(lay, k) + 1);
    return LMM_OK;
}

/* Nanoseconds, as measured: of a pass with a solve, of a factorization with its weights */
static void price(glmm_model *g)
{
    const layout *lay = &g->m->layout;
    double entries = 0, pairs = 0, blocks = 0;
    for (int k = 0; k < lay->nfactor; k++) {
        const double p = lay->f[k].p;
        if (k < lay->nelim) entries += (double)panel_size(lay, k);
        blocks += p * (p + lay->p);
        for (int j = k + 1; j < lay->nfactor; j++) pairs += p * lay->f[j].p;
    }
    g->passcost =
        (double)g->rows.n * (8 + 4. * g->rows.at[lay->nfactor]) + 2 * entries + 2. * lay->q2 * lay->q2;
    g->cost = (double)g->rows.n * (2 * blocks + 3 * pairs) + 0.1 * g->m->flops;
}

static lmm_status set_up(glmm_model *g, const lmm_data *d, const glmm_response *r)
{
    lmm_model *m = g->m;
    const keeping how = {.merge = r->merge && g->family.merging != LMM_APART,
                         .offset = r->offset,
                         .y = g->family.merging == LMM_COUNTED ? r->y : NULL,
                         .limit = r->limit,
                         .room = r->room,
                         .arg = r->arg};
    if (!m->trailing->exact) return LMM_UNAVAILABLE;
    TRY(m->trailing->steps->spare(m->trailing, m));
    TRY(arrange_rows(&g->rows, m, d, &how));
    TRY(make_rows(g, r));
    TRY(keep_rows(&g->rows, m, d));
    m->layout.wide = m->layout.summed = 0; /* weights change what its sums rely on */
    for (int k = 0; k < m->layout.nfactor; k++) g->related |= m->layout.f[k].relation != NULL;
    TRY(make_effects(g));
    TRY(make_parameters(g, r));
    TRY(make_panels(g));
    TRY(make_nodes(g, r));
    price(g);
    return glmm_again(g, r);
}

lmm_status glmm_setup(glmm_model **out, lmm_model *m, const lmm_data *d, const glmm_response *r)
{
    glmm_model *g = calloc(1, sizeof(*g));
    *out = NULL;
    if (!g) return LMM_NOMEM;
    g->m = m;
    g->family = r->family;
    const lmm_status status = set_up(g, d, r);
    if (status == LMM_OK)
        *out = g;
    else
        glmm_free(g);
    return status;
}

static void read_effects(const glmm_model *g, double *out)
{
    const layout *lay = &g->m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = factor_of_user(g->m, k);
        const int p = f->p;
        for (int32_t l = 0; l < f->nlev; l++, out += p)
            mul(p, 1, p, 0, f->w.C, p, g->e.b + f->col + (ptrdiff_t)(f->perm[l] - f->node) * p, p, out, p);
    }
}

static void read_variances(const glmm_model *g, double *out)
{
    const lmm_model *m = g->m;
    for (int k = 0; k < m->layout.nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        const int p = f->p;
        for (int32_t l = 0; l < f->nlev; l++, out += p * p) {
            const factor_state *fs = &m->evaluation.f[f->k];
            const double *B = (g->nodes ? fs->K : fs->B) + (ptrdiff_t)(f->perm[l] - f->node) * p * p;
            mul(p, p, p, 0, f->w.C, p, B, p, m->scratch.tmp, p);
            mult(p, p, p, 0, m->scratch.tmp, p, f->w.C, p, out, p);
        }
    }
}

lmm_status glmm_readings(glmm_model *g, double *b, double *eta, double *h, double *condvar)
{
    if (!g->stands) return LMM_NOTPOSDEF;
    if (condvar && g->elsewhere) TRY(find_leverages(g));
    if (b) read_effects(g, b);
    if (condvar) read_variances(g, condvar);
    if (h && g->nodes) pass_node_leverages(g, g->m->evaluation.f[0].K);
    for (int64_t i = 0; i < g->rows.nrow && (eta || h); i++) {
        const int64_t at = kept_place(&g->rows, i);
        if (eta) eta[i] = g->v.fixed[at] + g->v.zb[at];
        if (h) h[i] = g->v.h[at];
    }
    return LMM_OK;
}

lmm_status glmm_solve(glmm_model *g, int r, const double *V, double *X)
{
    lmm_model *m = g->m;
    const ptrdiff_t q = m->layout.q;
    const int most = r < TOGETHER ? r : TOGETHER;
    if (!g->stands) return LMM_NOTPOSDEF;
    double *rows = malloc(sizeof(double) * (size_t)(most * q + solve_work(m, most) + 1));
    if (!rows) return LMM_NOMEM;
    for (int first = 0; first < r; first += TOGETHER) {
        const int n = r - first < TOGETHER ? r - first : TOGETHER;
        take_rows(m, V, r, first, n, 0, rows);
        solve_rows(m, n, rows, rows + n * q);
        give_rows(m, rows, r, first, n, X);
    }
    free(rows);
    return LMM_OK;
}
