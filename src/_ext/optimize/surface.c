/* The chain rule from the entries of Sigma (whitened) to the parameters of structures:

     g_i = tr(S dSigma_i),   H_ij = <dSigma_i, B dSigma_j> + tr(S d2Sigma_ij)

   Whitened, dSigma is C^-1 dSigma C^-T: what a term's columns are scaled and mixed by. */

#include "optimize/surface.h"

#include "base/memory.h"
#include "base/large.h"
#include "evaluate/chain.h"

/* ------------------------------------------------------------------------------------------- what is where
 * -- */

static const factor *user_factor(const layout *lay, int user)
{
    for (int k = 0; k < lay->nfactor; k++)
        if (lay->f[k].user == user) return &lay->f[k];
    return NULL;
}

/* Structures and places of the terms of each factor, in the user's order */
static lmm_status assign(surface *s, const layout *lay, const lmm_structure *const *structure)
{
    int32_t number = 0, user = 0;
    for (int u = 0; u < lay->nfactor; u++) {
        const factor *f = user_factor(lay, u);
        for (int i = 0; i < s->nterm; i++) {
            piece *p = &s->piece[i];
            if (p->t.f != f) continue;
            p->of = structure ? structure[number] : NULL;
            number++;
            if (p->of && (p->of->p != p->t.k || p->of->nphi > p->t.nth)) return LMM_UNAVAILABLE;
            p->count = p->of ? p->of->nphi : p->t.nth;
            p->user = user;
            user += p->count;
            s->structured |= p->of != NULL;
        }
    }
    return LMM_OK;
}

static lmm_status grab_scratch(surface *s, const layout *lay)
{
    ptrdiff_t k = 1, blocks = 1, work = 1;
    for (int i = 0; i < s->nterm; i++) {
        const piece *p = &s->piece[i];
        if (p->t.k > k) k = p->t.k;
        if (!p->of) continue;
        if ((ptrdiff_t)p->count * p->t.k * p->t.k > blocks) blocks = (ptrdiff_t)p->count * p->t.k * p->t.k;
        if (p->of->work > work) work = p->of->work;
    }
    GRAB(s, s->root, k * k);
    GRAB(s, s->dSigma, blocks);
    GRAB(s, s->scratch, work + 3 * k * k);
    GRAB(s, s->unit, k);
    GRAB(s, s->half, chain_work(lay));
    if (!lay->moves) GRAB(s, s->X, (ptrdiff_t)lay->ntheta * s->nphi + 1);
    return LMM_OK;
}

lmm_status surface_open(surface *s, const lmm_model *m, const lmm_structure *const *structure)
{
    const layout *lay = &m->layout;
    memset(s, 0, sizeof(*s));
    for (term t = {0}; next_term(lay, &t);) s->nterm++;
    GRAB(s, s->piece, s->nterm + 1);
    int i = 0;
    for (term t = {0}; next_term(lay, &t); i++) s->piece[i].t = t;
    TRY(assign(s, lay, structure));
    for (i = 0; i < s->nterm; i++) {
        piece *p = &s->piece[i];
        p->first = s->nphi;
        s->nphi += p->count;
        if (p->of && !lay->moves) GRAB(s, p->J, (ptrdiff_t)p->t.nth * p->count);
    }
    return grab_scratch(s, lay);
}

void surface_close(surface *s)
{
    release(&s->memory, NULL);
}

/* Of an unstructured term the entries are in the order of its theta; lmm_arrange does not matter here. */
void surface_from_user(const surface *s, const double *user, double *phi)
{
    for (int i = 0; i < s->nterm; i++)
        memcpy(phi + s->piece[i].first, user + s->piece[i].user, sizeof(double) * (size_t)s->piece[i].count);
}

void surface_to_user(const surface *s, const double *phi, double *user)
{
    for (int i = 0; i < s->nterm; i++)
        memcpy(user + s->piece[i].user, phi + s->piece[i].first, sizeof(double) * (size_t)s->piece[i].count);
}

/* ---------------------------------------------------------------------------------------------------- theta
 * -- */

void surface_theta(const surface *s, const double *phi, double *theta)
{
    for (int i = 0; i < s->nterm; i++) {
        const piece *p = &s->piece[i];
        const int k = p->t.k;
        double *to = theta + p->t.th;
        if (!p->of) {
            memcpy(to, phi + p->first, sizeof(double) * (size_t)p->count);
            continue;
        }
        const int none = p->of->map(p->of, phi + p->first, s->root, NULL, s->scratch);
        triangularize(k, s->root, k);
        for (int c = 0; c < k; c++)
            for (int r = c; r < k; r++) *to++ = none ? NAN : s->root[r + c * k];
    }
}

void surface_nearest(const surface *s, const lmm_model *m, const double *theta, const double *T, double *phi)
{
    const layout *lay = &m->layout;
    for (int i = 0; i < s->nterm; i++) {
        const piece *p = &s->piece[i];
        const int k = p->t.k, ld = p->t.f->p, corner = p->t.first * (ld + 1);
        if (p->t.first == 0 && p->t.f->k > 0) T += lay->f[p->t.f->k - 1].p * lay->f[p->t.f->k - 1].p;
        if (!p->of) {
            memcpy(phi + p->first, theta + p->t.th, sizeof(double) * (size_t)p->count);
            continue;
        }
        double *root = s->scratch + p->of->work, *Sigma = root + k * k;
        product(&m->blas, 'N', 'N', k, k, k, 0, p->t.f->w.C + corner, ld, T + corner, ld, root, k);
        product(&m->blas, 'N', 'T', k, k, k, 0, root, k, root, k, Sigma, k);
        p->of->nearest(p->of, Sigma, phi + p->first, s->scratch);
    }
}

/* ---------------------------------------------------------------------------------------------- derivatives
 * -- */

/* J of a structured term at phi */
static void differentiate_piece(const surface *s, const piece *p, const double *phi)
{
    const int k = p->t.k, ld = p->t.f->p;
    const double *W = p->t.f->Cinv + p->t.first * (ld + 1);
    double *half = s->scratch + p->of->work, *whole = half + k * k, *J = p->J;
    p->of->map(p->of, phi + p->first, s->root, s->dSigma, s->scratch);
    for (int i = 0; i < p->count; i++) {
        mul(k, k, k, 0, W, ld, s->dSigma + (ptrdiff_t)i * k * k, k, half, k);
        mult(k, k, k, 0, half, k, W, ld, whole, k);
        for (int c = 0; c < k; c++)
            for (int r = c; r < k; r++) *J++ = whole[r + c * k];
    }
}

/* Columns of to (N x Q) := those of from (N x ntheta) times dSigma/dphi */
static void columns_to_phi(const surface *s, const lmm_model *m, const double *T, ptrdiff_t N,
                           const double *from, double *to)
{
    const layout *lay = &m->layout;
    for (int i = 0; i < s->nterm; i++) {
        const piece *p = &s->piece[i];
        const int ld = p->t.f->p, corner = p->t.first * (ld + 1);
        if (p->t.first == 0 && p->t.f->k > 0) T += lay->f[p->t.f->k - 1].p * lay->f[p->t.f->k - 1].p;
        const double *mine = from + p->t.th * N;
        double *out = to + p->first * N;
        if (!p->of) {
            pull_back(p->t.k, p->t.f->Cinv + corner, T + corner, ld, N, mine, out, s->half);
            for (ptrdiff_t e = 0; e < p->count * N; e++) out[e] *= 2;
            continue;
        }
        memset(out, 0, sizeof(double) * (size_t)(p->count * N));
        for (int j = 0; j < p->count; j++)
            for (int e = 0; e < p->t.nth; e++) {
                const double d = p->J[e + j * p->t.nth];
                if (d == 0) continue;
                for (ptrdiff_t r = 0; r < N; r++) out[r + j * N] += d * mine[r + e * N];
            }
    }
}

/* S in the user's coordinates, of a whitened slope in the entries of Sigma */
static void user_slope(const piece *p, const double *slope, double *S, double *work)
{
    const int k = p->t.k, ld = p->t.f->p;
    const double *W = p->t.f->Cinv + p->t.first * (ld + 1);
    unfold(k, slope + p->t.th, S, k);
    mul(k, k, k, 0, S, k, W, ld, work, k);
    tmul(k, k, k, 0, W, ld, work, k, S, k);
    symmetrize(k, S);
}

void surface_slope(const lmm_model *m, const piece *p, double *S, double *work)
{
    const int k = p->t.k, ld = p->t.f->p;
    const double *W = p->t.f->Cinv + p->t.first * (ld + 1),
                 *own = m->evaluation.f[p->t.f->k].S + p->t.first * (ld + 1);
    product(&m->blas, 'N', 'N', k, k, k, 0, own, ld, W, ld, work, k);
    product(&m->blas, 'T', 'N', k, k, k, 0, W, ld, work, k, S, k);
    symmetrize(k, S);
}

void surface_units(const piece *p, double *unit)
{
    const int k = p->t.k, ld = p->t.f->p;
    const double *C = p->t.f->w.C + p->t.first * (ld + 1);
    for (int r = 0; r < k; r++) {
        double square = 0;
        for (int c = 0; c < k; c++) square += C[r + c * ld] * C[r + c * ld];
        unit[r] = sqrt(square);
    }
}

/* H (Q x Q) += tr(S d2Sigma) */
static void add_bend(const surface *s, const double *phi, const double *slope, double *H)
{
    const ptrdiff_t Q = s->nphi;
    for (int i = 0; i < s->nterm; i++) {
        const piece *p = &s->piece[i];
        const int k = p->t.k, n = p->count;
        double *corner = H + p->first * (Q + 1), *room = s->scratch + (p->of ? p->of->work : 0),
               *S = p->of ? room : s->scratch, *own = s->dSigma;
        user_slope(p, slope, S, S + k * k);
        if (!p->of) {
            for (int c = 0; c < k; c++)
                for (int r = c; r < k; r++)
                    for (int e = c; e < k; e++)
                        corner[packed_place(k, r, c) + Q * packed_place(k, e, c)] += 2 * S[r + e * k];
            continue;
        }
        memset(own, 0, sizeof(double) * (size_t)(n * n));
        p->of->bend(p->of, phi + p->first, S, own, s->scratch);
        for (int b = 0; b < n; b++)
            for (int a = 0; a < n; a++) corner[a + b * Q] += own[a + b * n];
    }
}

void surface_pull(const surface *s, const lmm_model *m, const double *phi, const double *T,
                  const double *slope, double *B, double *g, double *H)
{
    const ptrdiff_t N = m->layout.ntheta, Q = s->nphi;
    for (int i = 0; i < s->nterm; i++)
        if (s->piece[i].of) differentiate_piece(s, &s->piece[i], phi);
    columns_to_phi(s, m, T, 1, slope, g);
    if (!H) return;
    columns_to_phi(s, m, T, N, B, s->X);
    for (ptrdiff_t j = 0; j < Q; j++)
        for (ptrdiff_t i = 0; i < N; i++) B[j + i * Q] = s->X[i + j * N];
    columns_to_phi(s, m, T, Q, B, H);
    symmetrize((int)Q, H);
    add_bend(s, phi, slope, H);
}
