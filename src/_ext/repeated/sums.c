/* Sums by pattern of visits: set-up, rows added, and what is contracted with them. */

#include "repeated/state.h"

#include <stdint.h>
#include <stdlib.h>

#define MOST 40 /* visits whose covariances all have a place: their Hessian is of 820 entries */

static lmm_status lay_out(lmm_repeated *r, const lmm_repeated_spec *spec)
{
    const ptrdiff_t P = spec->patterns;
    ptrdiff_t squares = 0, m = r->visits, work = r->structure->work;
    int32_t *visit;
    GRAB(r, r->pattern, P + 1);
    GRAB(r, visit, spec->start[P] + 1);
    memcpy(visit, spec->visit, sizeof(int32_t) * (size_t)spec->start[P]);
    for (ptrdiff_t i = 0; i < P; i++) {
        pattern *own = &r->pattern[i];
        own->k = (int32_t)(spec->start[i + 1] - spec->start[i]);
        own->group = spec->group[i];
        own->visit = visit + spec->start[i];
        own->structure = spec->structure ? spec->structure : spec->local[i];
        own->shift = spec->structure ? 0 : spec->shift[i];
        if (own->structure->work > work) work = own->structure->work;
        if (r->local && own->structure->p > m) m = own->structure->p;
        own->pair = r->pairs;
        own->square = squares;
        r->pairs += triangle(own->k);
        squares += (ptrdiff_t)own->k * own->k;
        if (own->k > r->most) r->most = own->k;
    }
    const ptrdiff_t K = triangle(r->most), n = r->all, q = r->q, p = r->p;
    if (r->pairs && r->packed > PTRDIFF_MAX / 8 / r->pairs) return LMM_NOMEM;
    GRAB(r, r->D, r->packed * r->pairs + 1);
    GRAB(r, r->phi, n + 1);
    GRAB(r, r->Sigma, (r->local ? 1 : r->groups) * m * m);
    GRAB(r, r->W, squares + 1);
    GRAB(r, r->L, q * q);
    GRAB(r, r->beta, q);
    GRAB(r, r->Cinv, q * q);
    GRAB(r, r->g, n + 1);
    GRAB(r, r->H, n * n + 1);
    GRAB(r, r->trace, n * n + 1);
    GRAB(r, r->root, m * m);
    GRAB(r, r->dSigma, r->nphi * m * m + 1);
    GRAB(r, r->S, (r->local ? 1 : r->groups) * m * m);
    GRAB(r, r->bent, (ptrdiff_t)r->nphi * r->nphi + 1);
    GRAB(r, r->here, r->nphi + 1);
    GRAB(r, r->work, work + 1);
    GRAB(r, r->weight, r->pairs + 1);
    GRAB(r, r->form, r->pairs + 1);
    GRAB(r, r->A, q * q);
    GRAB(r, r->Apacked, r->packed);
    GRAB(r, r->Dw, p * r->pairs + 1);
    GRAB(r, r->b, p * n + 1);
    GRAB(r, r->small, 6 * (ptrdiff_t)r->most * r->most + 1);
    GRAB(r, r->entry, K + 1);
    if (r->entries) {
        GRAB(r, r->J, r->entries * r->nphi + 1);
        GRAB(r, r->UJ, r->entries * r->nphi + 1);
        GRAB(r, r->UH, r->entries * r->entries);
        GRAB(r, r->U, K * K + 1);
    } else {
        GRAB(r, r->along, 2 * r->nphi * (ptrdiff_t)r->most * r->most + 1);
        GRAB(r, r->product, (ptrdiff_t)r->most * r->most + 1);
        GRAB(r, r->M, K * r->nphi + 1);
    }
    return LMM_OK;
}

lmm_status lmm_repeated_new(lmm_repeated **out, const lmm_repeated_spec *spec, const lmm_blas *blas)
{
    lmm_repeated *r = calloc(1, sizeof(*r));
    *out = r;
    if (!r) return LMM_NOMEM;
    r->blas = *blas;
    r->local = !spec->structure;
    r->structure = r->local ? spec->local[0] : spec->structure;
    r->p = spec->p, r->q = spec->p + 1;
    r->visits = r->local ? 0 : spec->visits, r->groups = spec->groups, r->patterns = spec->patterns;
    r->nphi = r->structure->nphi, r->all = r->nphi * r->groups;
    r->packed = triangle(r->q);
    r->entries = r->local || r->visits > MOST ? 0 : triangle(r->visits);
    return lay_out(r, spec);
}

void lmm_repeated_free(lmm_repeated *r)
{
    if (!r) return;
    release(&r->memory, NULL);
    free(r);
}

ptrdiff_t lmm_repeated_pairs(const lmm_repeated *r)
{
    return r->pairs;
}

int32_t lmm_repeated_nphi(const lmm_repeated *r)
{
    return r->all;
}

/* D_P += what the lower triangle of sum_i z_i z_i' has, z_i the k rows of a subject side by side */
static void fold(const lmm_repeated *r, const pattern *own, const double *sum)
{
    const ptrdiff_t q = r->q, side = own->k * q;
    double *to = r->D + own->pair * r->packed;
    for (ptrdiff_t s = 0; s < own->k; s++)
        for (ptrdiff_t t = 0; t <= s; t++)
            for (ptrdiff_t b = 0; b < q; b++) {
                const double *one = sum + t * q * side + s * q + b; /* (s b, t a): a column apart */
                const double *two = sum + (t * q + b) * side + s * q;
                for (ptrdiff_t a = 0; a <= b; a++) *to++ += one[a * side] + (t < s ? two[a] : 0);
            }
}

lmm_status lmm_repeated_add(lmm_repeated *r, int32_t i, int64_t count, const double *z)
{
    pattern *own = &r->pattern[i];
    int side = own->k * r->q;
    double one = 1, zero = 0;
    double *sum = malloc(sizeof(double) * (size_t)side * (size_t)side);
    if (!sum) return LMM_NOMEM;
    for (int64_t at = 0; at < count;) { /* what BLAS counts fits an int */
        int some = count - at > 1 << 20 ? 1 << 20 : (int)(count - at);
        r->blas.syrk("L", "N", &side, &some, &one, (double *)z + at * side, &side, &zero, sum, &side);
        fold(r, own, sum);
        at += some;
    }
    free(sum);
    own->n += count;
    r->stands = r->traced = 0;
    return LMM_OK;
}

void lmm_repeated_add_sums(lmm_repeated *r, int32_t i, int64_t count, const double *sum)
{
    fold(r, &r->pattern[i], sum);
    r->pattern[i].n += count;
    r->stands = r->traced = 0;
}

void lmm_repeated_scale(lmm_repeated *r, double by)
{
    const ptrdiff_t rest = triangle(r->p);
    for (ptrdiff_t j = 0; j < r->pairs; j++) {
        double *own = r->D + j * r->packed;
        for (ptrdiff_t i = rest; i < r->packed; i++) own[i] /= by;
        own[r->packed - 1] /= by;
    }
    r->stands = r->traced = 0;
}

void lmm_repeated_forget(lmm_repeated *r)
{
    memset(r->D, 0, sizeof(double) * (size_t)(r->packed * r->pairs));
    for (int i = 0; i < r->patterns; i++) r->pattern[i].n = 0;
    r->stands = r->traced = 0;
}

void repeated_unpack(const lmm_repeated *r, const double *packed, double *A)
{
    for (ptrdiff_t b = 0; b < r->q; b++)
        for (ptrdiff_t a = 0; a <= b; a++) A[a + b * r->q] = A[b + a * r->q] = *packed++;
}

/* Four columns at a time: every entry of D is read once, and copied nowhere. */
CLONES void repeated_total(const lmm_repeated *r, const double *weight, double *packed)
{
    const ptrdiff_t n = r->packed;
    ptrdiff_t j = 0;
    memset(packed, 0, sizeof(double) * (size_t)n);
    for (; j + 4 <= r->pairs; j += 4) {
        const double *a = r->D + j * n, *b = a + n, *c = b + n, *d = c + n, *w = weight + j;
        for (ptrdiff_t i = 0; i < n; i++) packed[i] += w[0] * a[i] + w[1] * b[i] + w[2] * c[i] + w[3] * d[i];
    }
    for (; j < r->pairs; j++)
        for (ptrdiff_t i = 0; i < n; i++) packed[i] += weight[j] * r->D[j * n + i];
}

lmm_status lmm_repeated_weighted(const lmm_repeated *r, int nrhs, const double *V, double *out)
{
    int rows = (int)r->packed, inner = (int)r->pairs;
    double one = 1, zero = 0;
    double *sum = calloc((size_t)r->packed * (size_t)nrhs + 1, sizeof(double));
    if (!sum) return LMM_NOMEM;
    if (inner && nrhs)
        r->blas.gemm("N", "N", &rows, &nrhs, &inner, &one, r->D, &rows, (double *)V, &inner, &zero, sum,
                     &rows);
    for (ptrdiff_t l = 0; l < nrhs; l++)
        repeated_unpack(r, sum + l * r->packed, out + l * (ptrdiff_t)r->q * r->q);
    free(sum);
    return LMM_OK;
}

lmm_status lmm_repeated_forms(const lmm_repeated *r, const double *F, double *out)
{
    double *own = malloc(sizeof(double) * (size_t)r->packed);
    if (!own) return LMM_NOMEM;
    for (ptrdiff_t b = 0, at = 0; b < r->q; b++)
        for (ptrdiff_t a = 0; a <= b; a++, at++) own[at] = F[a + b * r->q] * (a == b ? 1 : 2);
    for (ptrdiff_t j = 0; j < r->pairs; j++) out[j] = dot(r->packed, own, r->D + j * r->packed);
    free(own);
    return LMM_OK;
}
