/* The criterion at phi, its gradient and its exact Hessian; see repeated.h for the formulas. */

#include "repeated/state.h"

#include <stdlib.h>

#define SINGULAR 1e-13 /* share of a variance that other visits leave, below which r^2 is rounding */

/* Sigma_P's inverse W; returns log|Sigma_P|, infinity where Sigma_P is not positive definite. */
static double invert(const double *Sigma, ptrdiff_t m, const pattern *own, double *W, double *L)
{
    const int k = own->k;
    double logdet = 0;
    for (int s = 0; s < k; s++)
        for (int t = 0; t < k; t++) L[t + s * k] = Sigma[own->visit[t] + own->visit[s] * m];
    for (int j = 0; j < k; j++) W[j] = L[j + j * k];
    if (chol(k, L)) return INFINITY;
    for (int j = 0; j < k; j++)
        if (!(L[j + j * k] * L[j + j * k] > SINGULAR * W[j])) return INFINITY;
    for (int j = 0; j < k; j++) {
        logdet += 2 * log(L[j + j * k]);
        for (int i = 0; i < k; i++) W[i + j * k] = i == j;
    }
    solve_right_t(k, L, k, W, k); /* L^-T */
    solve_right(k, L, k, W, k);
    symmetrize(k, W);
    return logdet;
}

/* Sigma (p x p) of a structure at parameters of a group. Nonzero: there is none. */
static int spread(lmm_repeated *r, const lmm_structure *s, double shift, const double *phi, double *Sigma)
{
    double one = 1, zero = 0;
    int p = s->p;
    for (int i = 0; i < s->nphi; i++) {
        if (i < s->nbound && !(phi[i] > 0)) return 1;
        r->here[i] = phi[i] + (s->kind[i] == LMM_LOGARITHM ? shift : 0);
    }
    if (s->map(s, r->here, r->root, NULL, r->work)) return 1;
    r->blas.syrk("L", "N", &p, &p, &one, r->root, &p, &zero, Sigma, &p);
    mirror(p, Sigma, p);
    return 0;
}

/* g += tr(S Sigma_i), H += tr(S Sigma_ij), after repeated_slopes() of the same structure */
static void pull(lmm_repeated *r, const lmm_structure *s, int group, const double *S)
{
    const ptrdiff_t n = r->nphi, all = r->all, pp = (ptrdiff_t)s->p * s->p, at = group * n;
    for (ptrdiff_t i = 0; i < n; i++) r->g[at + i] += dot(pp, S, r->dSigma + i * pp);
    memset(r->bent, 0, sizeof(double) * (size_t)(n * n));
    s->bend(s, r->here, S, r->bent, r->work);
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t i = 0; i < n; i++) r->H[at + i + (at + j) * all] += r->bent[i + j * n];
}

/* f at phi */
lmm_status lmm_repeated_evaluate(lmm_repeated *r, int reml, const double *phi, double *f)
{
    const ptrdiff_t m = r->visits;
    int q = r->q, info;
    double logdet = 0;
    *f = INFINITY;
    r->stands = 0;
    if (r->traced == 2 || r->reml != reml) r->traced = r->reml == reml;
    r->reml = reml;
    memcpy(r->phi, phi, sizeof(double) * (size_t)r->all);
    for (int g = 0; g < r->groups && !r->local; g++)
        if (spread(r, r->structure, 0, phi + (ptrdiff_t)g * r->nphi, r->Sigma + g * m * m))
            return LMM_NOTPOSDEF;
    for (int i = 0; i < r->patterns; i++) {
        const pattern *own = &r->pattern[i];
        double *W = r->W + own->square, *to = r->weight + own->pair;
        const double *Sigma = r->local ? r->Sigma : r->Sigma + own->group * m * m;
        if (r->local &&
            spread(r, own->structure, own->shift, phi + (ptrdiff_t)own->group * r->nphi, r->Sigma))
            return LMM_NOTPOSDEF;
        logdet += (double)own->n * invert(Sigma, own->structure->p, own, W, r->small);
        if (!isfinite(logdet)) return LMM_NOTPOSDEF;
        for (int s = 0; s < own->k; s++)
            for (int t = 0; t <= s; t++) *to++ = W[t + s * own->k];
    }
    repeated_total(r, r->weight, r->Apacked);
    for (ptrdiff_t b = 0, at = 0; b < q; b++)
        for (ptrdiff_t a = 0; a <= b; a++) r->L[b + a * q] = r->Apacked[at++];
    r->blas.potrf("L", &q, r->L, &q, &info);
    if (info) return LMM_NOTPOSDEF;
    r->logdetC = 0;
    for (ptrdiff_t j = 0; j < r->p; j++) r->logdetC += 2 * log(r->L[j + j * q]);
    r->r2 = r->L[q * q - 1] * r->L[q * q - 1];
    *f = r->f = logdet + (reml ? r->logdetC : 0) + r->r2;
    if (!isfinite(*f)) return LMM_NOTPOSDEF;
    r->stands = 1;
    return LMM_OK;
}

/* beta and C^-1 from L */
static void estimate(lmm_repeated *r)
{
    const ptrdiff_t p = r->p, q = r->q;
    int n = r->p, info;
    for (ptrdiff_t j = p - 1; j >= 0; j--) {
        double s = r->L[p + j * q];
        for (ptrdiff_t i = j + 1; i < p; i++) s -= r->L[i + j * q] * r->beta[i];
        r->beta[j] = s / r->L[j + j * q];
    }
    r->beta[p] = -1; /* so that w = -beta */
    for (ptrdiff_t j = 0; j < p; j++) memcpy(r->Cinv + j * p, r->L + j * q, sizeof(double) * (size_t)p);
    if (n) r->blas.potri("L", &n, r->Cinv, &n, &info);
    mirror(n, r->Cinv, n);
}

/* out (p) := (D w)_x,  w = (-beta, 1), beta with -1 after it; D: upper triangle by columns */
static CLONES void times_w(ptrdiff_t p, const double *D, const double *beta, double *out)
{
    for (ptrdiff_t b = 0; b <= p; D += ++b) {
        const double w = -beta[b];
        double s = 0;
        for (ptrdiff_t a = 0; a < b; a++) {
            s -= D[a] * beta[a];
            out[a] += D[a] * w;
        }
        if (b < p) out[b] = s + D[b] * w;
    }
}

/* form[pair] := <F, D[pair]>, Dw := (D[pair] w)_x */
static CLONES void contract(lmm_repeated *r)
{
    const ptrdiff_t p = r->p, q = r->q;
    double *F = r->Apacked;
    for (ptrdiff_t b = 0, at = 0; b < q; b++)
        for (ptrdiff_t a = 0; a <= b; a++, at++) {
            F[at] = r->beta[a] * r->beta[b] + (r->reml && b < p ? r->Cinv[a + b * p] : 0);
            if (a < b) F[at] *= 2;
        }
    for (ptrdiff_t j = 0; j < r->pairs; j++) {
        r->form[j] = dot(r->packed, F, r->D + j * r->packed);
        times_w(p, r->D + j * r->packed, r->beta, r->Dw + j * p);
    }
}

/* S += n W - G; Q := 2 G - n W */
static void gather(lmm_repeated *r, const pattern *own, double *Q)
{
    const int k = own->k, kk = k * k;
    const ptrdiff_t m = own->structure->p;
    const double *W = r->W + own->square, *form = r->form + own->pair;
    double *E = r->small, *half = E + kk, *S = r->local ? r->S : r->S + own->group * m * m;
    for (int s = 0; s < k; s++)
        for (int t = 0; t <= s; t++) E[t + s * k] = E[s + t * k] = *form++ / (t < s ? 2 : 1);
    mul(k, k, k, 0, W, k, E, k, half, k);
    mul(k, k, k, 0, half, k, W, k, Q, k);
    symmetrize(k, Q);
    for (int s = 0; s < k; s++)
        for (int t = 0; t < k; t++) {
            const double n = (double)own->n * W[t + s * k], G = Q[t + s * k];
            S[own->visit[t] + own->visit[s] * m] += n - G;
            Q[t + s * k] = 2 * G - n;
        }
}

/* trace := tr(C^-1 A_i C^-1 A_j) */
static lmm_status repeated_trace(lmm_repeated *r)
{
    int p = r->p, n = r->nphi, all = r->all, x = (int)triangle(r->p), pp = p * p, ldL = r->q;
    double one = 1, zero = 0;
    void *const since = r->memory;
    double *sum, *square;
    if (r->traced == 2 || !r->reml || !p) return LMM_OK;
    GRAB(r, sum, (ptrdiff_t)x * n + 1);
    if (!(square = grab(&r->memory, (size_t)pp * (size_t)all + 1, sizeof(double)))) {
        release(&r->memory, since);
        return LMM_NOMEM;
    }
    lmm_status status = LMM_OK;
    for (int g = 0; g < r->groups && status == LMM_OK; g++) {
        status = repeated_changed(r, g, x, (int)r->packed, r->D, sum);
        for (ptrdiff_t i = 0; i < n; i++) {
            double *own = square + ((ptrdiff_t)g * n + i) * pp;
            for (ptrdiff_t b = 0, at = i * x; b < p; b++)
                for (ptrdiff_t a = 0; a <= b; a++, at++) own[a + b * p] = own[b + a * p] = sum[at];
            r->blas.trsm("L", "L", "N", "N", &p, &p, &one, r->L, &ldL, own, &p);
            r->blas.trsm("R", "L", "T", "N", &p, &p, &one, r->L, &ldL, own, &p);
        }
    }
    r->blas.syrk("L", "T", &all, &pp, &one, square, &pp, &zero, r->trace, &all);
    mirror(all, r->trace, all);
    release(&r->memory, since);
    if (status == LMM_OK) r->traced = 2;
    return status;
}

/* What beta and log|C| add to the Hessian */
static lmm_status finish(lmm_repeated *r, int exact)
{
    const ptrdiff_t p = r->p, all = r->all, n = r->nphi;
    if (exact || !r->traced) TRY(repeated_trace(r));
    for (int g = 0; g < r->groups; g++) TRY(repeated_changed(r, g, r->p, r->p, r->Dw, r->b + g * n * p));
    for (ptrdiff_t j = 0; j < all; j++) /* L^-1 b */
        for (ptrdiff_t i = 0; i < p; i++) {
            double *b = r->b + j * p, s = b[i];
            for (ptrdiff_t l = 0; l < i; l++) s -= r->L[i + l * r->q] * b[l];
            b[i] = s / r->L[i + i * r->q];
        }
    for (ptrdiff_t j = 0; j < all; j++)
        for (ptrdiff_t i = 0; i < all; i++) {
            r->H[i + j * all] -= 2 * dot(p, r->b + i * p, r->b + j * p);
            if (r->reml) r->H[i + j * all] -= r->trace[i + j * all];
        }
    symmetrize((int)all, r->H);
    return LMM_OK;
}

/* exact: the trace of here, too; else one that was found once, which changes little */
static lmm_status differentiate(lmm_repeated *r, int exact)
{
    const ptrdiff_t m = r->visits, n = r->nphi, all = r->all;
    double *Q = r->small + 2 * (ptrdiff_t)r->most * r->most;
    int now = -1;
    estimate(r);
    contract(r);
    memset(r->S, 0, sizeof(double) * (size_t)(r->groups * m * m));
    memset(r->g, 0, sizeof(double) * (size_t)all);
    memset(r->H, 0, sizeof(double) * (size_t)(all * all));
    if (r->entries) memset(r->UH, 0, sizeof(double) * (size_t)(r->entries * r->entries));
    for (int i = 0; i < r->patterns; i++) {
        const pattern *own = &r->pattern[i];
        const ptrdiff_t p = own->structure->p;
        if (!r->entries && (own->group != now || r->local) &&
            repeated_slopes(r, own->structure, own->shift, r->phi + own->group * n))
            return LMM_NOTPOSDEF;
        now = own->group;
        if (r->local) memset(r->S, 0, sizeof(double) * (size_t)(p * p));
        gather(r, own, Q);
        repeated_curve(r, own, Q);
        if (r->local) pull(r, own->structure, own->group, r->S);
        if ((i + 1 == r->patterns || r->pattern[i + 1].group != now) && repeated_curved(r, now))
            return LMM_NOTPOSDEF;
    }
    for (int g = 0; g < r->groups && !r->local; g++) {
        if (repeated_slopes(r, r->structure, 0, r->phi + g * n)) return LMM_NOTPOSDEF;
        pull(r, r->structure, g, r->S + g * m * m);
    }
    TRY(finish(r, exact));
    r->stands = exact ? 3 : 2;
    return LMM_OK;
}

lmm_status repeated_derivatives(lmm_repeated *r, int exact)
{
    return r->stands >= (exact ? 3 : 2) ? LMM_OK : differentiate(r, exact);
}

lmm_status lmm_repeated_read(lmm_repeated *r, double *g, double *H, double *beta, double *vcov, double *Sigma)
{
    const size_t n = (size_t)r->all, p = (size_t)r->p, m = (size_t)r->visits;
    if (!r->stands) return LMM_NOTPOSDEF;
    if (r->stands == 1) estimate(r);
    if (g || H) TRY(repeated_derivatives(r, H != NULL));
    if (g) memcpy(g, r->g, sizeof(double) * n);
    if (H) memcpy(H, r->H, sizeof(double) * n * n);
    if (beta) memcpy(beta, r->beta, sizeof(double) * p);
    if (vcov) memcpy(vcov, r->Cinv, sizeof(double) * p * p);
    if (Sigma && !r->local) memcpy(Sigma, r->Sigma, sizeof(double) * (size_t)r->groups * m * m);
    return LMM_OK;
}

lmm_status lmm_repeated_slopes(lmm_repeated *r, double *out)
{
    const ptrdiff_t n = r->nphi, qq = (ptrdiff_t)r->q * r->q;
    if (!r->stands) return LMM_NOTPOSDEF;
    TRY(repeated_derivatives(r, 0));
    double *sum = calloc((size_t)r->packed * (size_t)n + 1, sizeof(double));
    if (!sum) return LMM_NOMEM;
    lmm_status status = LMM_OK;
    for (int g = 0; g < r->groups && status == LMM_OK; g++) {
        status = repeated_changed(r, g, (int)r->packed, (int)r->packed, r->D, sum);
        for (ptrdiff_t i = 0; i < n; i++) repeated_unpack(r, sum + i * r->packed, out + (g * n + i) * qq);
    }
    free(sum);
    return status;
}
