/* Conjugate gradients for (I + E) y = u (iterative.c), the lanes of a block side by side, and u'log(I + E) u
   from their coefficients. */

#include <float.h>

#include "trailing/lanes.h"

#define LIMIT 1000 /* iterations */

/* dots of the lanes of x and y */
INLINE void lane_dots(const int nv, ptrdiff_t n, const double *x, const double *y, double *out)
{
    vec4 s[LANES / 4] = {{0}};
    const vec4 *a = (const vec4 *)x, *b = (const vec4 *)y;
    for (ptrdiff_t i = 0; i < n; i++)
        for (int v = 0; v < nv; v++) s[v] += a[i * nv + v] * b[i * nv + v];
    for (int v = 0; v < nv; v++)
        for (int i = 0; i < 4; i++) out[4 * v + i] = s[v][i];
}

/* y += a d, r -= a q, each lane its own a; out: r'r */
INLINE void lane_step(const int nv, ptrdiff_t n, const double *a, const double *d, const double *q, double *y,
                      double *r, double *out)
{
    vec4 s[LANES / 4] = {{0}}, by[LANES / 4];
    memcpy(by, a, sizeof(double) * 4 * (size_t)nv);
    for (ptrdiff_t i = 0; i < n * nv; i += nv)
        for (int v = 0; v < nv; v++) {
            const vec4 left = ((vec4 *)r)[i + v] - by[v] * ((const vec4 *)q)[i + v];
            ((vec4 *)y)[i + v] += by[v] * ((const vec4 *)d)[i + v];
            ((vec4 *)r)[i + v] = left;
            s[v] += left * left;
        }
    memcpy(out, s, sizeof(double) * 4 * (size_t)nv);
}

/* d := r + b d */
INLINE void lane_turn(const int nv, ptrdiff_t n, const double *b, const double *r, double *d)
{
    vec4 by[LANES / 4];
    memcpy(by, b, sizeof(double) * 4 * (size_t)nv);
    for (ptrdiff_t i = 0; i < n * nv; i += nv)
        for (int v = 0; v < nv; v++)
            ((vec4 *)d)[i + v] = ((const vec4 *)r)[i + v] + by[v] * ((vec4 *)d)[i + v];
}

/* q := (I + E) d; x: scratch; dq: d'q */
INLINE void multiply(const int nv, const iterative *it, const lmm_model *m, const double *d, double *x,
                     double *y, double *q, double *small, double *dq)
{
    const layout *lay = &m->layout;
    blocks_times(it, m, nv, it->F, 0, d, x);
    trailing_times(m, nv, x, y);
    eliminated(it, m, nv, x, y, small);
    blocks_times(it, m, nv, it->F, 1, y, q);
    blocks_times(it, m, nv, it->I, 0, d, x);
    for (ptrdiff_t i = 0; i < (ptrdiff_t)lay->q2 * nv; i++) ((vec4 *)q)[i] += ((vec4 *)x)[i];
    lane_dots(nv, lay->q2, d, q, dq);
}

/* y: (I + E) y = u, from y = 0. A lane stops when its own residual is small. */
INLINE void iterate(const int nv, const iterative *it, const lmm_model *m, block *b, double tolerance,
                    double *work, double *small)
{
    const ptrdiff_t n = m->layout.q2, size = vector_size(m);
    double *r = work, *d = r + size, *x = d + size, *y = x + size, *q = y + size;
    double rr[LANES], dq[LANES], alpha[LANES], beta[LANES], next[LANES];
    int active = 0;
    memset(b->y, 0, sizeof(double) * 4 * (size_t)(n * nv));
    memcpy(r, b->u, sizeof(double) * 4 * (size_t)(n * nv));
    memcpy(d, r, sizeof(double) * 4 * (size_t)(n * nv));
    lane_dots(nv, n, r, r, rr);
    for (int i = 0; i < 4 * nv; i++) {
        b->uu[i] = rr[i];
        b->ue[i] = 0;
        b->steps[i] = rr[i] > 0 ? -1 : 0; /* -1: under way */
        active += rr[i] > 0;
    }
    b->failed = 0;
    for (int step = 0; active; step++) {
        multiply(nv, it, m, d, x, y, q, small, dq);
        for (int i = 0; i < 4 * nv; i++) {
            if (step == 0) b->ue[i] = dq[i];
            if (b->steps[i] < 0 && (!(dq[i] > 0) || step == LIMIT)) {
                b->failed = 1;
                return;
            }
            alpha[i] = b->steps[i] < 0 ? rr[i] / dq[i] : 0;
        }
        lane_step(nv, n, alpha, d, q, b->y, r, next);
        for (int i = 0; i < 4 * nv; i++) {
            beta[i] = b->steps[i] < 0 ? next[i] / rr[i] : 0;
            if (b->alpha && b->steps[i] < 0 && step < NODES) {
                b->alpha[step * LANES + i] = alpha[i];
                b->beta[step * LANES + i] = beta[i];
            }
            rr[i] = next[i];
            if (b->steps[i] < 0 && rr[i] <= tolerance * tolerance * b->uu[i]) {
                b->steps[i] = step + 1;
                active--;
            }
        }
        lane_turn(nv, n, beta, r, d);
    }
}

CLONES void solve_block(const iterative *it, const lmm_model *m, block *b, double tolerance, int worker)
{
    double *small = it->small + worker * it->smallsize;
    if (b->nv == 1)
        iterate(1, it, m, b, tolerance, it->part[worker], small);
    else
        iterate(2, it, m, b, tolerance, it->part[worker], small);
}

/* e'log(T) e |u|^2, T the tridiagonal matrix of lane i's iterations */
double quadrature(const iterative *it, const lmm_model *m, const block *b, int i)
{
    char vectors = 'V', lower = 'L';
    int k = b->steps[i] < NODES ? b->steps[i] : NODES, lwork = 34 * NODES, info;
    double *T = it->nodes, *w = T + (ptrdiff_t)NODES * NODES, *scratch = w + NODES, sum = 0;
    if (!k) return 0;
    memset(T, 0, sizeof(double) * (size_t)k * (size_t)k);
    for (int j = 0; j < k; j++) {
        const double a = b->alpha[j * LANES + i];
        T[j + j * k] += 1 / a;
        if (j + 1 == k) break;
        T[j + 1 + j * k] = sqrt(b->beta[j * LANES + i]) / a;
        T[(j + 1) * (k + 1)] = b->beta[j * LANES + i] / a;
    }
    m->blas.syev(&vectors, &lower, &k, T, &k, w, scratch, &lwork, &info);
    for (int j = 0; j < k; j++) sum += T[j * k] * T[j * k] * log(fmax(w[j], DBL_MIN));
    return sum * b->uu[i];
}
