/* The Laplace approximation at the mode, its exact slopes, and the curvature of the trust region. With B =
   Lambda M^-1 Lambda', h_i = z_i'B z_i, w' = -l''' and the derivative of log|M| in u,

     s = Z'(h w'),  z_t = Z B s,  r = h w' - W z_t,  c = Z'l',  d = Z'r
     df/dgamma = X'(r - 2 l'),   df/dx = sum -2 l_x - h l''_x + z_t l'_x
     df/dSigma = sum_l (Z'V^-1 Z)_ll - c c' + (d c' + c d')/2,   V = Z Sigma Z' + W^-1

   Second derivatives: those of the same model linearized at the mode (average information; Gilmour, Thompson
   & Cullis 1995), of the working response, whose changes with x are l'_x/W. */

#include "base/small.h"
#include "generalized/state.h"

int32_t joint_size(const glmm_model *g)
{
    return g->m->layout.ntheta + g->m->layout.p + g->family.nextra;
}

/* Blocks of B of the pairs in one trailing factor's lists, laid out as its panels */
static void trailing_blocks(glmm_model *g, int k)
{
    const lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    double *block = m->scratch.tmp;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        double *to = g->first[k] + lay->pan[e];
        for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
            const int w = lay->width[lay->row[i]];
            m->trailing->steps->covariance(m->trailing, m, e, lay->row[i], block);
            for (int c = 0; c < f->p; c++)
                for (int r = 0; r < w; r++) to[r + (ptrdiff_t)c * lay->ld[e]] = block[r + c * w];
            to += w;
        }
    }
}

lmm_status find_leverages(glmm_model *g)
{
    lmm_model *m = g->m;
    g->elsewhere = 0;
    const layout *lay = &m->layout;
    invert_model(m);
    if (lay->nfactor > 1 && lay->nelim) {
        TRY(complete_first(m));
        g->first[0] = m->evaluation.first;
    }
    for (int k = 1; k < lay->nelim; k++) g->first[k] = m->evaluation.f[k].P;
    for (int k = lay->nelim; k < lay->nfactor; k++)
        if (g->first[k]) trailing_blocks(g, k);
    pass_leverages(g);
    return LMM_OK;
}

/* The same with expected weights in log|M|: first their factorization, for its inverse, then that of the mode
 */
static lmm_status expected_laplace(glmm_model *g)
{
    lmm_model *m = g->m;
    double *D = g->slope_of_log;
    pass_expected(g, g->v.zn, g->v.d3);
    TRY(factorize_with(g, g->v.zn));
    TRY(find_leverages(g));
    g->f = 2 * (g->j - g->constant) + m->evaluation.logdetM;
    for (int k = 0; k < m->layout.nfactor; D += m->layout.f[k].p * m->layout.f[k].p, k++)
        memcpy(D, m->evaluation.f[k].D, sizeof(double) * (size_t)(m->layout.f[k].p * m->layout.f[k].p));
    g->stepped = 0;
    TRY(factorize_with(g, g->v.w2));
    return isfinite(g->f) ? LMM_OK : LMM_NOTPOSDEF;
}

/* What the last step adds to log|M|, which is known where it began, is s'(b - b before). */
lmm_status laplace(glmm_model *g)
{
    const effects *e = &g->e;
    double towards = 0;
    if (g->expected) return expected_laplace(g);
    TRY(find_leverages(g));
    for (ptrdiff_t i = 0; i < g->m->layout.q && g->stepped; i++) towards += e->s[i] * (e->b[i] - e->at[i]);
    g->f = 2 * (g->j - g->constant) + g->m->evaluation.logdetM + towards;
    return isfinite(g->f) ? LMM_OK : LMM_NOTPOSDEF;
}

/* N := sum_l c a' - (d a' + a d')/2, a = K c, symmetric */
void mode_part(const glmm_model *g, const factor *f, double *N)
{
    const int p = f->p;
    const double *c = g->e.c + f->col, *a = g->e.kc + f->col, *d = g->e.d + f->col;
    memset(N, 0, sizeof(double) * (size_t)(p * p));
    for (int32_t l = 0; l < f->nlev; l++, c += p, a += p, d += p)
        for (int j = 0; j < p; j++)
            for (int i = j; i < p; i++)
                N[i + j * p] += (c[i] * a[j] + a[i] * c[j]) / 2 - (d[i] * a[j] + a[i] * d[j]) / 2;
    mirror(p, N, p);
}

void slopes(glmm_model *g)
{
    lmm_model *m = g->m;
    memcpy(g->e.un, g->e.s, sizeof(double) * (size_t)m->layout.q);
    solve_effects(g, g->e.un);
    pass_slopes(g, g->e.un, g->v.d1);
    memcpy(g->e.kc, g->e.c, sizeof(double) * (size_t)m->layout.q);
    relate_effects(g, g->e.kc);
    const double *D = g->slope_of_log;
    for (int k = 0; k < m->layout.nfactor; k++) {
        const factor *f = &m->layout.f[k];
        if (g->expected) memcpy(m->evaluation.f[k].D, D, sizeof(double) * (size_t)(f->p * f->p));
        if (g->expected) D += f->p * f->p;
        mode_part(g, f, m->scratch.tmp);
        finish_slope(m, f, m->scratch.tmp);
    }
    if (g->family.nextra) pass_extra(g);
    g->known = g->derived = 1;
}

/* ----------------------------------------------------------------------------------------- curvature -- */

/* a_e = sum_l v_e'z, v_e = dSigma/de K c; z: q, `apart` apart */
static void along_directions(const glmm_model *g, const double *z, ptrdiff_t apart, double *a)
{
    const layout *lay = &g->m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const int p = f->p;
        for (int t = 0; t < f->nth; t++) {
            const int r = f->thr[t], c = f->thc[t];
            const double *b = g->e.kc + f->col, *y = z + (ptrdiff_t)f->col * apart;
            double sum = 0;
            for (int32_t l = 0; l < f->nlev; l++, b += p, y += p * apart)
                sum += b[c] * y[r * apart] + (r == c ? 0 : b[r] * y[c * apart]);
            a[f->th + t] = sum;
        }
    }
}

/* xx := 2 K'W K + 2 (xx - K'W K), of which the second part has no negative curvature: the whole is then
   a square, as its rows beside theta and gamma are */
static void lift_outer_products(glmm_model *g)
{
    char vectors = 'V', lower = 'L';
    int N = g->family.nextra, lwork = 34 * N, info;
    double *D = g->kk + N * N, *w = D + N * N;
    for (int i = 0; i < N * N; i++) D[i] = g->xx[i] - g->kk[i];
    g->m->blas.syev(&vectors, &lower, &N, D, &N, w, w + N, &lwork, &info);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double sum = g->kk[i + j * N];
            for (int k = 0; k < N && !info; k++) sum += fmax(w[k], 0) * D[i + k * N] * D[j + k * N];
            g->xx[i + j * N] = 2 * sum;
        }
}

/* zx, xk := Z'V^-1 K, X'V^-1 K with W K = -l'_x, from Z'l'_x and X'l'_x; xx := the curvature in x */
static void extra_curvature(glmm_model *g)
{
    const row_values *v = &g->v;
    const ptrdiff_t N = g->family.nextra, q = g->m->layout.q, p = g->m->layout.p, n = g->rows.n;
    double *y = g->e.bn, *z = g->e.un, *x = g->gx; /* gx has been read */
    lift_outer_products(g);
    for (ptrdiff_t k = 0; k < N; k++) {
        memcpy(y, g->zx + k * q, sizeof(double) * (size_t)q);
        solve_effects(g, y);
        for (ptrdiff_t f = k; f < N; f++) {
            g->xx[f + N * k] -= 2 * dot(q, y, g->zx + f * q);
            g->xx[k + N * f] = g->xx[f + N * k];
        }
        pass_random(g, y, v->zn);
        for (ptrdiff_t i = 0; i < n; i++) v->zn[i] *= v->wf[i];
        pass_scatter(g, v->zn, z, x);
        for (ptrdiff_t i = 0; i < q; i++) z[i] -= g->zx[k * q + i];
        for (ptrdiff_t i = 0; i < p; i++) g->xk[k * p + i] = x[i] - g->xk[k * p + i];
        memcpy(g->zx + k * q, z, sizeof(double) * (size_t)q); /* later ones need only their own */
    }
}

static void set_both(double *H, ptrdiff_t n, ptrdiff_t i, ptrdiff_t j, double value)
{
    H[i + j * n] = H[j + i * n] = value;
}

void joint_derivatives(glmm_model *g, double *slope, double *H)
{
    lmm_model *m = g->m;
    const layout *lay = &m->layout;
    const ptrdiff_t T = lay->ntheta, p = lay->p, N = g->family.nextra, n = T + p + N, pb = lay->pb;
    double *a = g->along;
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) {
            const int r = lay->f[k].thr[t], c = lay->f[k].thc[t];
            slope[lay->f[k].th + t] = (r == c ? 1 : 2) * m->evaluation.f[k].S[r + c * lay->f[k].p];
        }
    memcpy(slope + T, g->gx, sizeof(double) * (size_t)p);
    memcpy(slope + T + p, g->fx, sizeof(double) * (size_t)N);
    if (N) extra_curvature(g);
    border_rows(m);
    double *Y = m->evaluation.Y;
    for (ptrdiff_t i = 0; i < lay->q; i++) Y[p + i * pb] = g->e.c[i];
    for (int k = 0; k < lay->nfactor; k++)
        for (ptrdiff_t i = 0; m->evaluation.f[k].related && i < (ptrdiff_t)lay->f[k].nlev * lay->f[k].p; i++)
            m->evaluation.f[k].related[p + i * pb] = g->e.kc[lay->f[k].col + i];
    for (ptrdiff_t i = 0; i < p; i++) {
        along_directions(g, Y + i, pb, a);
        for (ptrdiff_t t = 0; t < T; t++) set_both(H, n, t, T + i, 2 * a[t]);
        for (ptrdiff_t j = 0; j <= i; j++) {
            const double *R = m->trailing->Le + lay->q2 * m->trailing->lde;
            double sum = 0;
            for (ptrdiff_t c = 0; c <= j; c++)
                sum += R[i + c * m->trailing->lde] * R[j + c * m->trailing->lde];
            set_both(H, n, T + i, T + j, 2 * sum);
        }
    }
    add_prior_curvature(g, n, T, H);
    const double *Q = direction_forms(m, (int)p, 0);
    for (ptrdiff_t j = 0; j < T; j++)
        for (ptrdiff_t i = 0; i < T; i++) H[i + j * n] = (Q[i + j * T] + Q[j + i * T]) / 2;
    for (ptrdiff_t k = 0; k < N; k++) {
        along_directions(g, g->zx + k * lay->q, 1, a);
        for (ptrdiff_t t = 0; t < T; t++) set_both(H, n, t, T + p + k, 2 * a[t]);
        for (ptrdiff_t i = 0; i < p; i++) set_both(H, n, T + i, T + p + k, 2 * g->xk[k * p + i]);
        for (ptrdiff_t f = 0; f < N; f++) H[T + p + f + (T + p + k) * n] = g->xx[f + N * k];
    }
}
