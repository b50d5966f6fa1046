/* What Kenward and Roger's adjustment asks of the directions R_j, read off one evaluation. With rows U, K~_j
   = L^-1 R_j L^-T and v = [N R^-T, w] of residual.h, so that U v = L'V^-1 [X E, -(y - X beta)]:

     dA_j = -U'K~_j U,   S_jk = U'(K~_j K~_k + K~_k K~_j) U / 2
     Z'V^-1 R_j V^-1 X E  = -(I - A B) dA_j v                       rows of Z
     E'X'V^-1 R_j V^-1 R_k V^-1 X E  = v'S_jk v - v'dA_j B dA_k v
     tr V^-1 R_j V^-1 R_k  = tr K~_j K~_k - 2 <B, S_jk> + tr B dA_j B dA_k
     tr V^-1 R_j V^-1 G_r  = tr (I - A B) Z'R^-1 R_j R^-1 Z (I - B A) E_r

   What the last two have of the whole of B are derivatives along A + h dA_j, which moves R^-1 by
   -h R^-1 R_j R^-1:  d B = -B dA_j B,  d tr V^-1 G_r = -tr V^-1 R_j V^-1 G_r.  They are differences at four
   points of sums that every storage has. tr K~_j K~_k is twice the Fisher information of the rows of a
   subject, which of a chain is that of each row given the one before it. */

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/chain.h"
#include "evaluate/readings.h"
#include "residual/residual.h"
#include "trailing/trailing.h"

#define STEP 2e-3 /* h over 1 / |K~_j|: the differences are right to 4 STEP^4, rounding is 1e-14 / STEP */
#define POINTS 4

typedef struct {
    residual_parts a;
    ptrdiff_t width;           /* ndelta (p + 1): rows of M and b                               */
    double *M, *b;             /* width x (q + pb)  dA_j v, and B times its rows of Z, zeros behind */
    double *local;             /* ndelta x ndelta   tr K~_j K~_k                                 */
    double *size;              /* ndelta            |K~_j|, at most                              */
    double *contracted;        /* ndelta x ndelta   d <B, dA_k> along dA_j                       */
    double *slope, *A, *along; /* ntheta, its square, ntheta                                    */
    double *rows;              /* t of two directions, three vectors of a batch, work            */
    double *edge;              /* pb x (q + pb)     V S                                          */
    block_sums S;
    void *memory;
} moments;

static lmm_status room(moments *s, lmm_model *m)
{
    const layout *lay = &m->layout;
    residual *r = m->residual;
    const ptrdiff_t D = r->ndelta, all = lay->q + lay->pb, N = lay->ntheta;
    TRY(residual_room(&s->a, m));
    s->width = D * lay->pb;
    GRAB(s, s->M, s->width * all + 1);
    GRAB(s, s->b, s->width * all + solve_work(m, (int)s->width) + 1);
    GRAB(s, s->local, D * D + 1);
    GRAB(s, s->size, D + 1);
    GRAB(s, s->contracted, D * D + 1);
    GRAB(s, s->slope, 2 * N + N * N + 1);
    s->along = s->slope + N;
    s->A = s->along + N;
    GRAB(s, s->edge, lay->pb * all);
    if (r->nstrata) return LMM_OK;
    GRAB(s, s->rows, r->batch * (2 * r->rows.width + 5));
    GRAB(s, s->S.A, lay->nfactor);
    for (int k = 0; k < lay->nfactor; k++) {
        GRAB(s, s->S.A[k].diag, (ptrdiff_t)lay->f[k].nlev * lay->f[k].p * lay->f[k].p);
        GRAB(s, s->S.A[k].pan, panel_size(lay, k) + 1);
    }
    GRAB(s, s->S.border, (ptrdiff_t)lay->pb * lay->pb);
    return LMM_OK;
}

/* ------------------------------------------------------------------------------ within the subjects -- */

/* Fisher information of row i given the one before it, twice: of log standard deviation and mean */
static void chain_information(const residual *r, int64_t i, double *lsd, double *mean, double *sum)
{
    const int chained = r->rows.subject != NULL, D = r->ndelta;
    const double phi = chained ? r->phi[i] : 0, left = chained ? r->root[i] * r->root[i] : 1;
    for (int j = 0; j < D; j++) {
        lsd[j] = mean[j] = 0;
        if (j < r->ndeviation) {
            lsd[j] = residual_deviation(r, i, j);
            if (phi != 0) mean[j] = phi * (lsd[j] - residual_deviation(r, i - 1, j));
        } else if (chained && r->gap[i] > 0) {
            mean[j] = neighbour_slope(r, i, j - r->ndeviation);
            lsd[j] = -phi * mean[j] / left;
        }
    }
    for (int j = 0; j < D; j++)
        for (int k = 0; k < D; k++) sum[j + k * D] += 4 * lsd[j] * lsd[k] + 2 * mean[j] * mean[k] / left;
}

/* The same of a subject with compound symmetry, from R_j = c R + R c and C's closed inverse */
static void even_information(const residual *r, int64_t s, double *sum)
{
    const int64_t first = r->rows.subject[s], end = r->rows.subject[s + 1];
    const int D = r->ndelta, last = D - 1;
    double slope;
    const double rho = compound_correlation(r, &slope), n = (double)(end - first);
    const double whole = 1 + (n - 1) * rho, scale = n > 1 ? 1 / ((1 - rho) * whole) : 1;
    const double on = n > 1 ? (1 + (n - 2) * rho) * scale : 1, off = n > 1 ? -rho * scale : 0;
    for (int j = 0; j < last; j++) {
        double total = 0;
        for (int64_t i = first; i < end; i++) total += residual_deviation(r, i, j);
        sum[j + last * D] += 2 * total * (n - 1) * off * slope;
        sum[last + j * D] += 2 * total * (n - 1) * off * slope;
        for (int k = 0; k < last; k++) {
            double other = 0, both = 0;
            for (int64_t i = first; i < end; i++) {
                other += residual_deviation(r, i, k);
                both += residual_deviation(r, i, j) * residual_deviation(r, i, k);
            }
            sum[j + k * D] += 2 * both + 2 * (on * both + off * rho * (total * other - both));
        }
    }
    if (n > 1)
        sum[last + last * D] +=
            slope * slope * (n - 1) * (1 / ((1 - rho) * (1 - rho)) + (n - 1) / (whole * whole));
}

/* local and size */
static lmm_status within_subjects(const residual *r, moments *s)
{
    const ptrdiff_t D = r->ndelta;
    if (r->nstrata) {
        for (ptrdiff_t j = 0; j < D; j++) {
            s->local[j * (D + 1)] = 4 * (double)r->count[j + 1];
            s->size[j] = 2;
        }
        return LMM_OK;
    }
    double *own = malloc(sizeof(double) * (size_t)(D * (D + 2) + 1)), *work = own + D * D;
    if (!own) return LMM_NOMEM;
    const int64_t count = r->rows.subject ? r->rows.nsubject : r->rows.n;
    for (int64_t g = 0; g < count; g++) {
        memset(own, 0, sizeof(double) * (size_t)(D * D));
        if (r->kind == LMM_CS)
            even_information(r, g, own);
        else if (r->rows.subject)
            for (int64_t i = r->rows.subject[g]; i < r->rows.subject[g + 1]; i++)
                chain_information(r, i, work, work + D, own);
        else
            chain_information(r, g, work, work + D, own);
        for (ptrdiff_t j = 0; j < D * D; j++) s->local[j] += own[j];
        for (ptrdiff_t j = 0; j < D; j++) s->size[j] = fmax(s->size[j], sqrt(own[j * (D + 1)]));
    }
    free(own);
    return LMM_OK;
}

/* ------------------------------------------------------------------------------------ S, row by row -- */

/* t (rows x width, row-major) := K~_j u of a block of whole subjects */
static void turn_rows(const residual *r, moments *s, int64_t first, int64_t end, int j, const double *g,
                      const double *u, double *t)
{
    const ptrdiff_t width = r->rows.width, n = end - first;
    double *e = s->rows + 2 * r->batch * width, *white = e + r->batch, *own = white + r->batch;
    for (ptrdiff_t c = 0; c < width; c++) {
        for (ptrdiff_t i = 0; i < n; i++) {
            e[i] = g[i * width + c];
            white[i] = u[i * width + c];
        }
        residual_direction(r, first, end, j, e, white, own + r->batch, own);
        for (ptrdiff_t i = 0; i < n; i++) t[i * width + c] = own[i];
    }
}

/* 2 S_jk into s->S; work of a direction is what follows its vector there */
static void fill_squares(const lmm_model *m, moments *s, int j, int k)
{
    const residual *r = m->residual;
    const int32_t width = r->rows.width;
    double *g0 = r->buffer, *u0 = g0 + r->batch * width, *t = s->rows, *v = t + r->batch * width;
    clear_block_sums(&m->layout, &s->S);
    for (int64_t first = 0, end, subject = 0; first < r->rows.n; first = end) {
        end = block_end(r, first, &subject);
        const double *g = scale_rows(r, first, end, g0), *u = g;
        if (r->rows.subject) {
            whiten_block(r, first, end, g, width, u0);
            u = u0;
        }
        turn_rows(r, s, first, end, j, g, u, t);
        if (k != j) turn_rows(r, s, first, end, k, g, u, v);
        add_both(m, r, &s->S, first, end, t, k != j ? v : t);
    }
}

/* S_jk = weight times the sums that are returned; NULL: it is zero */
static const block_sums *squares(const lmm_model *m, moments *s, int j, int k, double *weight)
{
    const residual *r = m->residual;
    if (!r->nstrata) {
        fill_squares(m, s, j, k);
        *weight = 0.5;
        return &s->S;
    }
    *weight = 4 * exp(-2 * r->delta[j]);
    return j == k ? &r->stratum[j + 1] : NULL;
}

/* --------------------------------------------------------------------------------------- the readings -- */

/* M and b; Z := -(Z rows of M - A b), for y - X beta its negative */
static void moved_directions(lmm_model *m, moments *s)
{
    const layout *lay = &m->layout;
    const residual *r = m->residual;
    const ptrdiff_t pb = lay->pb, W = s->width, all = lay->q + pb;
    for (int j = 0; j < r->ndelta; j++) {
        double weight;
        const block_sums *dA = residual_derivative(r, j, &weight);
        times_sums(lay, dA, (int)pb, s->a.V, s->edge);
        for (ptrdiff_t c = 0; c < all; c++)
            for (ptrdiff_t i = 0; i < pb; i++) s->M[j * pb + i + c * W] = weight * s->edge[i + c * pb];
    }
    memcpy(s->b, s->M, sizeof(double) * (size_t)(W * lay->q));
    solve_rows(m, (int)W, s->b, s->b + W * all);
}

/* Rows of one level as lmm_projection gives them: row j of C^-T times those of the whitened columns */
static void give_level(const lmm_model *m, const factor *f, const double *rows, ptrdiff_t W, double *out)
{
    const ptrdiff_t pb = m->layout.pb;
    for (int j = 0; j < f->p; j++, out += W)
        for (ptrdiff_t i = 0; i < W; i++) {
            const double sign = i % pb == pb - 1 ? m->sums.yscale : -1;
            out[i] = 0;
            for (int x = 0; x < f->p; x++) out[i] += sign * rows[i + x * W] * f->Cinv[x + j * f->p];
        }
}

static lmm_status give_projected(lmm_model *m, const moments *s, double *Z)
{
    const layout *lay = &m->layout;
    const block_sums A = model_sums(m);
    const ptrdiff_t W = s->width, all = lay->q + lay->pb;
    double *left = malloc(sizeof(double) * (size_t)(W * all + 1));
    if (!left) return LMM_NOMEM;
    times_sums(lay, &A, (int)W, s->b, left);
    for (ptrdiff_t i = 0; i < W * lay->q; i++) left[i] = s->M[i] - left[i];
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = factor_of_user(m, k);
        for (int32_t l = 0; l < f->nlev; l++, Z += f->p * W)
            give_level(m, f, left + (ptrdiff_t)lay->nodecol[f->perm[l]] * W, W, Z);
    }
    free(left);
    return LMM_OK;
}

/* Q := v'S_jk v - v'dA_j B dA_k v of j and k, with y as the user has it; and S's part of their trace */
static lmm_status pair(lmm_model *m, moments *s, int j, int k, double *Q, double *trace)
{
    const layout *lay = &m->layout;
    const ptrdiff_t pb = lay->pb, W = s->width, all = lay->q + pb;
    const double y = m->sums.yscale;
    double weight, sum = 0;
    const block_sums *S = squares(m, s, j, k, &weight);
    if (S) {
        TRY(contract_sums(m, S, &sum));
        times_sums(lay, S, (int)pb, s->a.V, s->edge);
    }
    *trace = -2 * weight * sum;
    for (ptrdiff_t x = 0; x < pb; x++)
        for (ptrdiff_t z = 0; z < pb; z++) {
            double form = 0;
            for (ptrdiff_t c = 0; S && c < all; c++)
                form += weight * s->edge[x + c * pb] * s->a.V[z + c * pb];
            for (ptrdiff_t c = 0; c < lay->q; c++)
                form -= (s->M[j * pb + x + c * W] * s->b[k * pb + z + c * W] +
                         s->M[k * pb + x + c * W] * s->b[j * pb + z + c * W]) /
                        2;
            /* w is minus what belongs to y - X beta */
            form *= (x == pb - 1 ? -y : 1) * (z == pb - 1 ? -y : 1);
            Q[j * pb + x + (k * pb + z) * W] = Q[k * pb + x + (j * pb + z) * W] = form;
        }
    return LMM_OK;
}

/* ---------------------------------------------------------------------------------------- differences -- */

/* A := A + h dA_j, where the model stands from now on, until its rows are read again */
static void lean(lmm_model *m, int j, double h)
{
    const block_sums A = model_sums(m);
    double weight;
    const block_sums *dA = residual_derivative(m->residual, j, &weight);
    add_sums(&m->layout, h * weight, dA, &A);
    m->residual->at = 0;
    m->evaluation.at.state = NOWHERE;
    if (m->trailing->steps->begin) m->trailing->steps->begin(m->trailing, m);
}

static lmm_status back_to_delta(lmm_model *m)
{
    residual *r = m->residual;
    double *delta = malloc(sizeof(double) * (size_t)(r->ndelta + 1));
    if (!delta) return LMM_NOMEM;
    memcpy(delta, r->delta, sizeof(double) * (size_t)r->ndelta);
    r->at = 0;
    const lmm_status status = lmm_residual_at(m, delta);
    free(delta);
    return status;
}

/* weight times tr V^-1 G_r into cross (ntheta), in the user's order, and <B, dA_k> (ndelta) into contracted
 */
static lmm_status add_traces(lmm_model *m, moments *s, double weight, double *cross, double *contracted)
{
    const layout *lay = &m->layout;
    const double nu = degrees(m, 0);
    TRY(bring(m, FLOORED, BORDERED, 1));
    projections(m, s->along);
    derivatives(m, 0, s->slope, s->A, NULL);
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) {
            const int r = lay->f[k].th + t;
            cross[user_place(&lay->f[k], t)] += weight * (s->slope[r] + nu / m->evaluation.r2 * s->along[r]);
        }
    for (int k = 0; k < m->residual->ndelta; k++) {
        double own, sum;
        const block_sums *dA = residual_derivative(m->residual, k, &own);
        TRY(contract_sums(m, dA, &sum));
        contracted[k] += weight * own * sum;
    }
    return LMM_OK;
}

static lmm_status differences(lmm_model *m, moments *s, double *cross)
{
    static const double at[POINTS] = {-2, -1, 1, 2}, weight[POINTS] = {1. / 12, -8. / 12, 8. / 12, -1. / 12};
    const ptrdiff_t D = m->residual->ndelta, N = m->layout.ntheta;
    memset(cross, 0, sizeof(double) * (size_t)(N * D));
    for (ptrdiff_t j = 0; j < D; j++) {
        const double h = STEP / fmax(s->size[j], STEP);
        for (int i = 0; i < POINTS; i++) {
            lean(m, (int)j, h * (at[i] - (i ? at[i - 1] : 0)));
            TRY(add_traces(m, s, -weight[i] / h, cross + j * N, s->contracted + j * D));
        }
        lean(m, (int)j, -2 * h);
    }
    return LMM_OK;
}

static lmm_status moments_there(lmm_model *m, moments *s, lmm_directions *out)
{
    const ptrdiff_t D = m->residual->ndelta;
    double sum, weight;
    residual_vectors(m, &s->a);
    residual_products(m, &s->a);
    residual_give_products(m, s->a.G, out->G);
    TRY(within_subjects(m->residual, s));
    moved_directions(m, s);
    TRY(give_projected(m, s, out->Z));
    deepen(m, INVERTED);
    for (ptrdiff_t j = 0; j < D; j++) {
        const block_sums *dA = residual_derivative(m->residual, (int)j, &weight);
        TRY(contract_sums(m, dA, &sum));
        out->trace[j] = weight * sum + m->residual->logs[j];
        for (ptrdiff_t k = 0; k <= j; k++) {
            TRY(pair(m, s, (int)j, (int)k, out->Q, &sum));
            out->traces[j + k * D] = out->traces[k + j * D] = sum + s->local[j + k * D];
        }
    }
    TRY(differences(m, s, out->cross));
    for (ptrdiff_t j = 0; j < D; j++)
        for (ptrdiff_t k = 0; k < D; k++)
            out->traces[j + k * D] += (s->contracted[j + k * D] + s->contracted[k + j * D]) / 2;
    return LMM_OK;
}

lmm_status lmm_residual_directions(lmm_model *m, lmm_directions *out)
{
    if (!m->residual) return LMM_UNAVAILABLE;
    TRY(bring(m, FLOORED, BORDERED, 1));
    moments s = {0};
    lmm_status status = room(&s, m);
    if (status == LMM_OK) {
        status = moments_there(m, &s, out);
        const lmm_status again = back_to_delta(m);
        if (status == LMM_OK) status = again;
    }
    release(&s.a.memory, NULL);
    release(&s.memory, NULL);
    return status;
}
