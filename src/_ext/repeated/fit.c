/* The fit: from covariances of residuals by Newton steps with the exact Hessian. */

#include "repeated/state.h"

#include "optimize/ended.h"
#include "optimize/newton.h"

#include <stdlib.h>

#define LEAST 0.05 /* eigenvalues of the correlations where a fit begins */
#define FLAT 1e-4  /* squared diagonal of the factor of a Hessian, scaled, that is next to nothing */
#define NEAREST                                                                                              \
    0.25              /* where ranges are looked at: these logarithms, in units of the largest distance, ... \
                       */
#define RANGES 9      /* ... and so many below them, */
#define APART 0.6     /* so far apart */
#define SETTLED 1e-13 /* what a last step must promise to be taken: it costs an evaluation */

typedef struct { /* a fit as newton.h sees it; points are phi and its anchor */
    lmm_repeated *r;
    const lmm_settings *s;
    newton_state *state;
} search;

/* ------------------------------------------------------------------------------------------- the start -- */

/* Least squares: f at Sigma = I */
static lmm_status least_squares(lmm_repeated *r)
{
    int q = r->q, info;
    double *to = r->weight;
    for (int i = 0; i < r->patterns; i++)
        for (int s = 0; s < r->pattern[i].k; s++)
            for (int t = 0; t <= s; t++) *to++ = t == s;
    repeated_total(r, r->weight, r->Apacked);
    for (ptrdiff_t b = 0, at = 0; b < q; b++)
        for (ptrdiff_t a = 0; a <= b; a++) r->L[b + a * q] = r->Apacked[at++];
    r->stands = 0;
    r->blas.potrf("L", &q, r->L, &q, &info);
    if (info) return info > r->p ? LMM_NOVARIANCE : LMM_DEPENDENT;
    for (ptrdiff_t j = r->p - 1; j >= 0; j--) {
        double s = r->L[r->p + j * q];
        for (ptrdiff_t i = j + 1; i < r->p; i++) s -= r->L[i + j * q] * r->beta[i];
        r->beta[j] = s / r->L[j + j * q];
    }
    r->beta[r->p] = -1;
    for (ptrdiff_t b = 0; b < q; b++)
        for (ptrdiff_t a = 0; a < q; a++) r->A[a + b * q] = r->beta[a] * r->beta[b];
    return lmm_repeated_forms(r, r->A, r->form);
}

/* Correlations R (m x m) with no eigenvalue below LEAST and ones on the diagonal */
static lmm_status strengthen(lmm_repeated *r, double *R)
{
    int m = r->visits, lwork = 34 * m, info;
    const ptrdiff_t mm = (ptrdiff_t)m * m;
    void *const since = r->memory;
    double *V, *w;
    GRAB(r, V, mm + 35 * (ptrdiff_t)m);
    memcpy(V, R, sizeof(double) * (size_t)mm);
    for (int i = 0; i < m; i++) V[i + i * m] -= LEAST;
    r->blas.potrf("L", &m, V, &m, &info);
    if (info) {
        w = V + mm;
        memcpy(V, R, sizeof(double) * (size_t)mm);
        r->blas.syev("V", "L", &m, V, &m, w, w + m, &lwork, &info);
        for (int j = 0; j < m && !info; j++)
            for (int i = 0; i < m; i++) V[i + j * m] *= sqrt(fmax(w[j], LEAST));
        if (!info) mult(m, m, m, 0, V, m, V, m, R, m);
        for (int i = 0; i < m; i++) V[i] = sqrt(R[i + i * m]);
        for (int j = 0; j < m; j++)
            for (int i = 0; i < m; i++) R[i + j * m] /= V[i] * V[j];
    }
    release(&r->memory, since);
    return LMM_OK;
}

/* Covariances of one group from sums of products of residuals (Sigma) and their numbers; over: n / (n - p).
   What no subject tells is taken to be as the mean of the others. */
static lmm_status averaged(lmm_repeated *r, double *Sigma, const double *count, double over, double *sd)
{
    const int m = r->visits;
    double mean = 0, correlation = 0, seen = 0, pairs = 0;
    for (int i = 0; i < m; i++)
        if (count[i + i * m] > 0) mean += Sigma[i + i * m], seen += count[i + i * m];
    mean = seen > 0 && mean > 0 ? mean / seen : 1;
    for (int i = 0; i < m; i++) {
        const double v = count[i + i * m] > 0 ? Sigma[i + i * m] / count[i + i * m] : mean;
        sd[i] = sqrt(fmax(v, 1e-6 * mean) * over);
    }
    for (int j = 0; j < m; j++)
        for (int i = 0; i < j; i++)
            if (count[i + j * m] > 0) {
                Sigma[i + j * m] = over * Sigma[i + j * m] / count[i + j * m] / (sd[i] * sd[j]);
                Sigma[i + j * m] = fmax(-0.99, fmin(0.99, Sigma[i + j * m]));
                correlation += count[i + j * m] * Sigma[i + j * m], pairs += count[i + j * m];
            }
    correlation = pairs > 0 ? fmax(0, correlation / pairs) : 0;
    for (int j = 0; j < m; j++) {
        for (int i = 0; i < j; i++) {
            if (!(count[i + j * m] > 0)) Sigma[i + j * m] = correlation;
            Sigma[j + i * m] = Sigma[i + j * m];
        }
        Sigma[j + j * m] = 1;
    }
    TRY(strengthen(r, Sigma));
    for (int j = 0; j < m; j++)
        for (int i = 0; i < m; i++) Sigma[i + j * m] *= sd[i] * sd[j];
    return LMM_OK;
}

/* The place of the logarithm of a range among the parameters of a group; -1: there is none. */
static int range_of(const lmm_structure *s)
{
    for (int i = 0; i < s->nphi; i++)
        if (s->kind[i] == LMM_LOGARITHM) return i;
    return -1;
}

/* Few pairs of places are seen: residuals tell the variance alone, and the range is looked for. */
static lmm_status look_for_range(lmm_repeated *r, int reml, int at, double *Sigma, double *phi, int *neval)
{
    const ptrdiff_t m = r->structure->p, n = r->nphi;
    double sum = 0, rows = 0, least = INFINITY, best = 0, f;
    TRY(least_squares(r));
    for (int i = 0; i < r->patterns; i++) {
        const double *form = r->form + r->pattern[i].pair;
        for (int s = 0; s < r->pattern[i].k; s++) sum += form[triangle(s) + s];
        rows += (double)r->pattern[i].n * r->pattern[i].k;
    }
    memset(Sigma, 0, sizeof(double) * (size_t)(m * m));
    for (ptrdiff_t i = 0; i < m; i++) Sigma[i + i * m] = sum / rows;
    for (int g = 0; g < r->groups; g++) r->structure->nearest(r->structure, Sigma, phi + g * n, r->work);
    for (int k = 0; k < RANGES; k++) {
        for (int g = 0; g < r->groups; g++) phi[g * n + at] = NEAREST - APART * k;
        (*neval)++;
        if (lmm_repeated_evaluate(r, reml, phi, &f) == LMM_OK && f < least) least = f, best = phi[at];
    }
    for (int g = 0; g < r->groups; g++) phi[g * n + at] = best;
    return isfinite(least) ? LMM_OK : LMM_NOTPOSDEF;
}

/* Covariances of the residuals of least squares, groups x visits x visits, positive definite; the phi nearest
   to them */
static lmm_status from_residuals(lmm_repeated *r, double *Sigma, double *phi)
{
    const ptrdiff_t m = r->visits, mm = m * m;
    void *const since = r->memory;
    double *count, rows = 0;
    TRY(least_squares(r));
    GRAB(r, count, r->groups * mm + m);
    memset(Sigma, 0, sizeof(double) * (size_t)(r->groups * mm));
    for (int i = 0; i < r->patterns; i++) {
        const pattern *own = &r->pattern[i];
        const double *form = r->form + own->pair;
        for (int s = 0; s < own->k; s++)
            for (int t = 0; t <= s; t++) {
                const ptrdiff_t at = own->group * mm + own->visit[t] + own->visit[s] * m;
                Sigma[at] += *form++ / (t < s ? 2 : 1);
                count[at] += (double)own->n;
            }
        rows += (double)own->n * own->k;
    }
    const double over = rows > r->p ? rows / (rows - r->p) : 1;
    lmm_status status = LMM_OK;
    for (int g = 0; g < r->groups && status == LMM_OK; g++) {
        status = averaged(r, Sigma + g * mm, count + g * mm, over, count + r->groups * mm);
        if (status == LMM_OK)
            r->structure->nearest(r->structure, Sigma + g * mm, phi + (ptrdiff_t)g * r->nphi, r->work);
    }
    release(&r->memory, since);
    return status;
}

/* ------------------------------------------------------------------------------------------ the search -- */

static double value(void *arg, const double *x)
{
    search *t = arg;
    double f;
    return lmm_repeated_evaluate(t->r, t->s->reml, x, &f) == LMM_OK ? f : INFINITY;
}

/* Whether H, scaled to a unit diagonal, has no eigenvalue near zero or below; scratch: n x n */
static int is_definite(lmm_repeated *r, const double *H, double *scratch)
{
    const ptrdiff_t n = r->all;
    int order = r->all, info;
    for (ptrdiff_t i = 0; i < n; i++)
        if (!(H[i + i * n] > 0)) return 0;
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t i = 0; i < n; i++)
            scratch[i + j * n] = H[i + j * n] / sqrt(H[i + i * n] * H[j + j * n]);
    r->blas.potrf("L", &order, scratch, &order, &info);
    if (info) return 0;
    for (ptrdiff_t i = 0; i < n; i++)
        if (!(scratch[i + i * n] * scratch[i + i * n] > FLAT)) return 0;
    return 1;
}

static int derivatives(void *arg, double *slope, double *A, double *E)
{
    search *t = arg;
    lmm_repeated *r = t->r;
    (void)E;
    lmm_status status = repeated_derivatives(r, 0);
    if (status == LMM_OK && r->traced == 1 && !is_definite(r, r->H, A)) /* a trace from elsewhere misleads */
        status = repeated_derivatives(r, 1);
    if (status != LMM_OK) {
        slope[0] = NAN;
        return 0;
    }
    memcpy(slope, r->g, sizeof(double) * (size_t)r->all);
    memcpy(A, r->H, sizeof(double) * (size_t)r->all * (size_t)r->all);
    return 0;
}

static void coordinates(void *arg, const double *x, double *c)
{
    const search *t = arg;
    memcpy(c, x, sizeof(double) * (size_t)t->r->all);
}

static void tangent(void *arg, const double *x, const double *slope, double *B, double *g, double *H)
{
    const search *t = arg;
    const size_t n = (size_t)t->r->all;
    (void)x;
    memcpy(g, slope, sizeof(double) * n);
    memcpy(H, B, sizeof(double) * n * n);
}

static void move(void *arg, const double *x, const double *step, double *to)
{
    const search *t = arg;
    const int n = t->r->all;
    for (int i = 0; i < n; i++) to[i] = x[i] + step[i], to[n + i] = x[n + i];
}

static void anchor(void *arg, double *x)
{
    const search *t = arg;
    memcpy(x + t->r->all, x, sizeof(double) * (size_t)t->r->all);
}

static double distance(void *arg, const double *x)
{
    const search *t = arg;
    const int n = t->r->all;
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (x[i] - x[n + i]) * (x[i] - x[n + i]);
    return sqrt(sum);
}

static double extent(void *arg, const double *x)
{
    const search *t = arg;
    double most = 0;
    for (int i = 0; i < t->r->all; i++) most = fmax(most, fabs(x[i]));
    return most;
}

static int poll(void *arg, const double *x, double f, double best, double radius, double predicted)
{
    const search *t = arg;
    (void)x;
    const lmm_trace trace = {
        .neval = t->state->neval, .objective = f, .best = best, .radius = radius, .predicted = predicted};
    return t->s->poll(t->s->arg, &trace);
}

/* From x, to the end; the model stands there. */
static lmm_status run(search *t, const newton_problem *p, double *x, double *work)
{
    newton_state *state = t->state;
    const lmm_status status = status_of(newton_minimize(p, x, state, work));
    if (status != LMM_OK && status != LMM_STOPPED && status != LMM_MAXEVAL) return status;
    if (status == LMM_OK && state->ahead && state->predicted > SETTLED) {
        const double f = value(t, state->ahead);
        state->neval++;
        state->moved = 1;
        if (f <= state->f + 10 * p->noise) {
            memcpy(x, state->ahead, sizeof(double) * (size_t)p->size);
            state->f = f;
            state->moved = 0;
        }
    }
    if (state->moved && !isfinite(value(t, x))) return LMM_NOTFINITE;
    return status;
}

lmm_status lmm_repeated_fit(lmm_repeated *r, const lmm_settings *s, const double *start, double *phi,
                            lmm_info *info)
{
    const ptrdiff_t n = r->all, size = 2 * n, m = r->structure->p;
    newton_state state = {.f = INFINITY, .radius = s->radius};
    search t = {r, s, &state};
    newton_problem p = {.n = r->all,
                        .nc = r->all,
                        .size = size,
                        .value = value,
                        .derivatives = derivatives,
                        .coordinates = coordinates,
                        .tangent = tangent,
                        .move = move,
                        .anchor = anchor,
                        .distance = distance,
                        .extent = extent,
                        .poll = s->poll ? poll : NULL,
                        .syev = r->blas.syev,
                        .potrf = r->blas.potrf,
                        .arg = &t,
                        .tolerance = s->tolerance,
                        .maxeval = s->maxeval};
    memset(info, 0, sizeof(*info));
    const ptrdiff_t newton = newton_workspace(r->all, r->all, size);
    double *x = malloc(sizeof(double) * (size_t)(size + newton + r->groups * m * m));
    if (!x) return LMM_NOMEM;
    double rows = 0;
    for (int i = 0; i < r->patterns; i++) rows += (double)r->pattern[i].n * r->pattern[i].k;
    p.noise = 1e-14 * rows; /* log|V| and r^2 are sums over the rows */
    lmm_status status = LMM_OK;
    if (start)
        memcpy(x, start, sizeof(double) * (size_t)n);
    else if (range_of(r->structure) >= 0)
        status = look_for_range(r, s->reml, range_of(r->structure), x + size + newton, x, &state.neval);
    else
        status = from_residuals(r, x + size + newton, x);
    r->traced = 0;
    if (status == LMM_OK) status = run(&t, &p, x, x + size);
    if (status == LMM_OK || status == LMM_STOPPED || status == LMM_MAXEVAL)
        memcpy(phi, x, sizeof(double) * (size_t)n);
    info->objective = state.f;
    info->certificate = state.predicted;
    info->noise = p.noise;
    info->neval = state.neval;
    free(x);
    return status;
}
