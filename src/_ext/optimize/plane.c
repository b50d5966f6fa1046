/* Parameters that are held or tied: derivatives and steps within a plane of theta.

   With theta = fixed + basis x the chain rule is g_x = basis'g, H_x = basis'H basis. The plane is one of the
   user's coordinates, so that these derivatives are too; x has the size of whitened parameters, for which the
   constants of the minimizer are meant. */

#include "optimize/plane.h"

#include "evaluate/chain.h"
#include "base/memory.h"
#include "base/small.h"

#define SAME 1e-12 /* distance, over scale, at which a theta lies in the plane */

/* Norm of the row of C that a parameter of factor f stands in: the size of whitened theta = 1. */
static double size_of(const factor *f, int t)
{
    double s = 0;
    for (int j = 0; j < f->p; j++) s += f->w.C[f->thr[t] + j * f->p] * f->w.C[f->thr[t] + j * f->p];
    return sqrt(s);
}

/* Sizes of the parameters of a factor, and the diagonal of the column that each is in */
static void describe(plane *p, const factor *f)
{
    int32_t head = f->th;
    for (int t = 0; t < f->nth; t++) {
        if (f->thr[t] == f->thc[t]) head = f->th + t;
        p->head[f->th + t] = head;
        p->scale[f->th + t] = size_of(f, t);
    }
}

static lmm_status grab_arrays(plane *p, const layout *lay)
{
    const ptrdiff_t N = p->ntheta, n = p->n;
    ptrdiff_t blocks = 0;
    for (int k = 0; k < lay->nfactor; k++) blocks += (ptrdiff_t)lay->f[k].p * lay->f[k].p;
    GRAB(p, p->T, blocks);
    GRAB(p, p->work, chain_work(lay));
    GRAB(p, p->scale, N);
    GRAB(p, p->unit, n + 1);
    GRAB(p, p->fixed, N);
    GRAB(p, p->basis, N * n + 1);
    GRAB(p, p->gram, n * n + 1);
    GRAB(p, p->control, N);
    GRAB(p, p->head, N);
    GRAB(p, p->theta, N);
    GRAB(p, p->slope, N);
    GRAB(p, p->H, N * N);
    GRAB(p, p->HB, N * n + 1);
    GRAB(p, p->flipped, N);
    return LMM_OK;
}

/* basis := basis unit, unit columns over scale; their Gram matrix */
static int scale_columns(plane *p)
{
    const ptrdiff_t N = p->ntheta;
    for (int j = 0; j < p->n; j++) {
        double *b = p->basis + j * N, s = 0;
        for (ptrdiff_t i = 0; i < N; i++) s += b[i] * b[i] / (p->scale[i] * p->scale[i]);
        if (!(s > 0) || !isfinite(s)) return 1;
        p->unit[j] = 1 / sqrt(s);
        for (ptrdiff_t i = 0; i < N; i++) b[i] *= p->unit[j];
    }
    for (int j = 0; j < p->n; j++)
        for (int k = 0; k < p->n; k++) {
            double s = 0;
            for (ptrdiff_t i = 0; i < N; i++)
                s += p->basis[i + j * N] * p->basis[i + k * N] / (p->scale[i] * p->scale[i]);
            p->gram[j + k * p->n] = s;
        }
    return chol(p->n, p->gram);
}

/* The one x of which a parameter is a multiple */
static int32_t only_variable(const plane *p, ptrdiff_t i)
{
    int32_t found = -1;
    if (p->fixed[i] != 0) return -1;
    for (int j = 0; j < p->n; j++)
        if (p->basis[i + j * p->ntheta] != 0) {
            if (found >= 0) return -1;
            found = j;
        }
    return found;
}

lmm_status plane_open(plane *p, const lmm_model *m, const lmm_plane *given)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta;
    memset(p, 0, sizeof(*p));
    p->n = given->nz;
    p->ntheta = N;
    TRY(grab_arrays(p, lay));
    for (int k = 0; k < lay->nfactor; k++) describe(p, &lay->f[k]);
    from_user(m, given->fixed, p->fixed);
    for (int j = 0; j < p->n; j++) from_user(m, given->basis + j * N, p->basis + j * N);
    if (scale_columns(p)) return LMM_NOTPOSDEF;
    for (ptrdiff_t i = 0; i < N; i++) p->control[i] = only_variable(p, i);
    return LMM_OK;
}

void plane_close(plane *p)
{
    release(&p->memory, NULL);
}

const double *plane_theta(const plane *p, const double *x)
{
    memcpy(p->theta, p->fixed, sizeof(double) * (size_t)p->ntheta);
    for (int j = 0; j < p->n; j++)
        for (ptrdiff_t i = 0; i < p->ntheta; i++) p->theta[i] += p->basis[i + j * p->ntheta] * x[j];
    return p->theta;
}

void plane_nearest(const plane *p, const double *theta, double *x)
{
    const ptrdiff_t N = p->ntheta;
    for (int j = 0; j < p->n; j++) {
        x[j] = 0;
        for (ptrdiff_t i = 0; i < N; i++)
            x[j] += p->basis[i + j * N] * (theta[i] - p->fixed[i]) / (p->scale[i] * p->scale[i]);
    }
    solve_right_t(p->n, p->gram, 1, x, 1);
    solve_right(p->n, p->gram, 1, x, 1);
}

void plane_start(const plane *p, const double *z, double least, double most, double *x)
{
    for (int j = 0; j < p->n; j++) x[j] = fmin(fmax(z[j] / p->unit[j], -most), most);
    for (ptrdiff_t i = 0; i < p->ntheta; i++) {
        const int32_t j = p->control[i];
        if (p->head[i] != i || j < 0) continue;
        const double whole = p->scale[i] / fabs(p->basis[i + j * p->ntheta]); /* x of theta = scale */
        if (fabs(x[j]) < least * whole) x[j] = x[j] < 0 ? -least * whole : least * whole;
    }
}

/* T of every factor at x; returns theta */
static const double *factors_at(const plane *p, const lmm_model *m, const double *x)
{
    const double *theta = plane_theta(p, x);
    factors_of_theta(m, theta, p->T, p->work);
    return theta;
}

void plane_coordinates(const plane *p, const lmm_model *m, const double *x, double *sigma)
{
    const layout *lay = &m->layout;
    const double *T = p->T;
    factors_at(p, m, x);
    for (int k = 0; k < lay->nfactor; T += lay->f[k].p * lay->f[k].p, k++) {
        const factor *f = &lay->f[k];
        for (int t = 0; t < f->nth; t++) {
            double v = 0;
            for (int j = 0; j < f->p; j++) v += T[f->thr[t] + j * f->p] * T[f->thc[t] + j * f->p];
            sigma[f->th + t] = v;
        }
    }
}

/* A diagonal at the floor promises nothing where the criterion rises with it. */
static void forget_pinned(const lmm_model *m, const double *theta, double *g)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int i = 0; i < f->nth; i++)
            if (f->thr[i] == f->thc[i] && g[f->th + i] > 0 && is_pinned(f, f->thr[i], theta[f->th + i]))
                g[f->th + i] = 0;
    }
}

void plane_tangent(const plane *p, const lmm_model *m, const double *x, const double *slope, double *B,
                   double *g, double *H)
{
    const int N = (int)p->ntheta, n = p->n;
    const double *theta = factors_at(p, m, x);
    to_theta(m, 1, p->T, slope, B, p->slope, p->H, p->work);
    forget_pinned(m, theta, p->slope);
    tmul(n, 1, N, 0, p->basis, N, p->slope, N, g, n);
    mul(N, n, N, 0, p->H, N, p->basis, N, p->HB, N);
    tmul(n, n, N, 0, p->basis, N, p->HB, N, H, n);
    symmetrize(n, H);
}

void plane_pull(const plane *p, const lmm_model *m, const double *x, const double *slope, double *g)
{
    const int N = (int)p->ntheta, n = p->n;
    factors_at(p, m, x);
    to_theta(m, 1, p->T, slope, NULL, p->slope, NULL, p->work);
    tmul(n, 1, N, 0, p->basis, N, p->slope, N, g, n);
}

int plane_round_to_zero(const plane *p, double limit, double *x)
{
    const double *theta = plane_theta(p, x);
    int changed = 0;
    for (ptrdiff_t i = 0; i < p->ntheta; i++) {
        if (p->head[i] != i || fabs(theta[i]) >= limit * p->scale[i]) continue;
        for (ptrdiff_t j = i; j < p->ntheta && p->head[j] == i; j++) {
            const int32_t of = p->control[j];
            if (of < 0 || x[of] == 0 || fabs(theta[j]) >= limit * p->scale[j]) continue;
            x[of] = 0;
            changed = 1;
        }
    }
    return changed;
}

void plane_signs(const plane *p, double *x)
{
    double *flipped = p->flipped, *there = p->HB;
    int negative = 0;
    memcpy(flipped, plane_theta(p, x), sizeof(double) * (size_t)p->ntheta);
    for (ptrdiff_t i = 0; i < p->ntheta; i++)
        if (p->theta[p->head[i]] < 0) {
            flipped[i] = -flipped[i];
            negative = 1;
        }
    if (!negative) return;
    plane_nearest(p, flipped, there);
    plane_theta(p, there);
    for (ptrdiff_t i = 0; i < p->ntheta; i++)
        if (fabs(p->theta[i] - flipped[i]) > SAME * (p->scale[i] + fabs(flipped[i]))) return;
    memcpy(x, there, sizeof(double) * (size_t)p->n);
}
