/* Parameters that are held, tied or structured: derivatives and steps within a plane of phi.

   With phi = fixed + basis x the chain rule is g_x = basis'g, H_x = basis'H basis. The plane is one of the
   user's coordinates, so that these derivatives are too; x has the size of whitened parameters, for which the
   constants of the minimizer are meant. */

#include "optimize/plane.h"

#include "evaluate/chain.h"
#include "evaluate/evaluate.h"
#include "base/memory.h"
#include "base/large.h"
#include "trailing/trailing.h"

#define MOST                                                                                                \
    3e3       /* standard deviations of structures over sigma, whitened: f is within 1e-6 of what it is for \
                 sigma = 0, and rounding below that */
#define FEW 8 /* entries of Sigma for each parameter from which derivatives are taken in the latter alone */
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

/* The same of the parameters of a term, structured or not */
static void describe_piece(plane *p, const piece *e)
{
    const factor *f = e->t.f;
    int32_t head = e->first;
    for (int i = 0; i < e->count; i++) {
        const int at = e->first + i, entry = e->t.th - f->th + i;
        if (!e->of) {
            if (f->thr[entry] == f->thc[entry]) head = at;
            p->head[at] = head;
            p->scale[at] = size_of(f, entry);
            continue;
        }
        const int deviation = e->of->kind[i] == LMM_DEVIATION, row = e->of->row[i];
        p->head[at] = deviation ? at : -1;
        p->scale[at] = deviation ? size_of(f, e->t.th - f->th + (int)packed_place(e->t.k, row, row)) : 1;
    }
}

static lmm_status grab_arrays(plane *p, const layout *lay)
{
    const ptrdiff_t N = lay->ntheta, Q = p->nphi, n = p->n;
    ptrdiff_t blocks = 0;
    for (int k = 0; k < lay->nfactor; k++) blocks += (ptrdiff_t)lay->f[k].p * lay->f[k].p;
    GRAB(p, p->T, blocks);
    GRAB(p, p->work, chain_work(lay));
    GRAB(p, p->scale, Q);
    GRAB(p, p->unit, n + 1);
    GRAB(p, p->fixed, Q);
    GRAB(p, p->basis, Q * n + 1);
    GRAB(p, p->gram, n * n + 1);
    GRAB(p, p->control, Q);
    GRAB(p, p->head, Q);
    GRAB(p, p->bound, n + 1);
    GRAB(p, p->most, n + 1);
    GRAB(p, p->still, n + 1);
    GRAB(p, p->theta, N);
    p->phi = p->theta;
    if (p->s.structured) GRAB(p, p->phi, Q);
    GRAB(p, p->slope, Q);
    GRAB(p, p->H, lay->moves ? 1 : Q * Q);
    GRAB(p, p->HB, Q * n + 1);
    GRAB(p, p->flipped, Q);
    return LMM_OK;
}

/* basis := basis unit, unit columns over scale; their Gram matrix */
static int scale_columns(plane *p)
{
    const ptrdiff_t Q = p->nphi;
    for (int j = 0; j < p->n; j++) {
        double *b = p->basis + j * Q, s = 0;
        for (ptrdiff_t i = 0; i < Q; i++) s += b[i] * b[i] / (p->scale[i] * p->scale[i]);
        if (!(s > 0) || !isfinite(s)) return 1;
        p->unit[j] = 1 / sqrt(s);
        for (ptrdiff_t i = 0; i < Q; i++) b[i] *= p->unit[j];
    }
    for (int j = 0; j < p->n; j++)
        for (int k = 0; k < p->n; k++) {
            double s = 0;
            for (ptrdiff_t i = 0; i < Q; i++)
                s += p->basis[i + j * Q] * p->basis[i + k * Q] / (p->scale[i] * p->scale[i]);
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
        if (p->basis[i + j * p->nphi] != 0) {
            if (found >= 0) return -1;
            found = j;
        }
    return found;
}

/* Which x has to stay on one side of zero, that of a standard deviation of a heterogeneous structure; how far
   those of structures may go */
static void find_bounds(plane *p)
{
    for (int j = 0; j < p->n; j++) p->most[j] = INFINITY;
    for (int e = 0; e < p->s.nterm; e++) {
        const piece *own = &p->s.piece[e];
        for (int i = own->first; own->of && i < own->first + own->of->nbound; i++) {
            const int32_t j = p->control[i];
            if (j >= 0) p->bound[j] = p->basis[i + j * p->nphi] < 0 ? -1 : 1;
        }
        for (int i = own->first; own->of && i < own->first + own->count; i++) {
            const int32_t j = p->control[i];
            if (j >= 0 && p->head[i] == i)
                p->most[j] = fmin(p->most[j], MOST * p->scale[i] / fabs(p->basis[i + j * p->nphi]));
        }
    }
}

lmm_status plane_open(plane *p, const lmm_model *m, const lmm_plane *given)
{
    const layout *lay = &m->layout;
    memset(p, 0, sizeof(*p));
    p->n = given->nz;
    TRY(surface_open(&p->s, m, given->structure));
    p->nphi = p->s.nphi;
    if (p->nphi != given->nphi || p->n > p->nphi) return LMM_UNAVAILABLE;
    if (lay->moves && (!p->s.structured || p->nphi > lay->moves)) return LMM_UNAVAILABLE;
    p->few = p->s.structured && !lay->moves && !lay->generalized && m->trailing->exact &&
             FEW * p->nphi <= lay->ntheta;
    for (int k = 0; k < lay->nfactor; k++)
        if (is_coupled(&lay->f[k])) p->few = 0;
    if (lay->moves || p->few) TRY(direct_open(&p->direct, &p->s, m, &p->memory));
    TRY(grab_arrays(p, lay));
    for (int k = 0; k < lay->nfactor && !p->s.structured; k++) describe(p, &lay->f[k]);
    for (int i = 0; i < p->s.nterm && p->s.structured; i++) describe_piece(p, &p->s.piece[i]);
    for (int j = -1; j < p->n; j++) {
        const double *from = j < 0 ? given->fixed : given->basis + j * p->nphi;
        double *to = j < 0 ? p->fixed : p->basis + j * p->nphi;
        if (p->s.structured)
            surface_from_user(&p->s, from, to);
        else
            from_user(m, from, to);
    }
    if (scale_columns(p)) return LMM_NOTPOSDEF;
    for (ptrdiff_t i = 0; i < p->nphi; i++) p->control[i] = only_variable(p, i);
    find_bounds(p);
    return LMM_OK;
}

void plane_close(plane *p)
{
    surface_close(&p->s);
    release(&p->memory, NULL);
}

/* phi of x, in p->phi */
static void parameters_at(const plane *p, const double *x)
{
    memcpy(p->phi, p->fixed, sizeof(double) * (size_t)p->nphi);
    for (int j = 0; j < p->n; j++)
        for (ptrdiff_t i = 0; i < p->nphi; i++) p->phi[i] += p->basis[i + j * p->nphi] * x[j];
}

void plane_phi(const plane *p, const double *x, double *phi)
{
    parameters_at(p, x);
    memcpy(phi, p->phi, sizeof(double) * (size_t)p->nphi);
}

const double *plane_theta(const plane *p, const double *x)
{
    parameters_at(p, x);
    if (p->s.structured) surface_theta(&p->s, p->phi, p->theta);
    return p->theta;
}

void plane_nearest_phi(const plane *p, const double *phi, double *x)
{
    const ptrdiff_t Q = p->nphi;
    for (int j = 0; j < p->n; j++) {
        x[j] = 0;
        for (ptrdiff_t i = 0; i < Q; i++)
            x[j] += p->basis[i + j * Q] * (phi[i] - p->fixed[i]) / (p->scale[i] * p->scale[i]);
    }
    solve_right_t(p->n, p->gram, 1, x, 1);
    solve_right(p->n, p->gram, 1, x, 1);
}

void plane_nearest(const plane *p, const lmm_model *m, const double *theta, double *x)
{
    const double *phi = theta;
    if (p->s.structured) {
        factors_of_theta(m, theta, p->T, p->work);
        surface_nearest(&p->s, m, theta, p->T, p->phi);
        phi = p->phi;
    }
    plane_nearest_phi(p, phi, x);
}

/* Only terms without a structure are read in theta: of these alone it is made. */
void plane_typical(const plane *p, const lmm_model *m, double *x)
{
    double *T = p->T;
    for (int k = 0; k < m->layout.nfactor; k++) {
        const int width = m->layout.f[k].p;
        memset(T, 0, sizeof(double) * (size_t)(width * width));
        for (int i = 0; i < width; i++) T[i * (width + 1)] = TYPICAL;
        T += width * width;
    }
    for (int e = 0; e < p->s.nterm; e++) {
        const term *t = &p->s.piece[e].t;
        const int ld = t->f->p;
        double *root = p->work, *to = p->theta + t->th;
        if (p->s.piece[e].of) continue;
        for (int c = 0; c < t->k; c++)
            for (int r = 0; r < t->k; r++)
                root[r + c * t->k] = TYPICAL * t->f->w.C[t->first + r + (t->first + c) * ld];
        triangularize(t->k, root, t->k);
        for (int c = 0; c < t->k; c++)
            for (int r = c; r < t->k; r++) *to++ = root[r + c * t->k];
    }
    surface_nearest(&p->s, m, p->theta, p->T, p->phi);
    plane_nearest_phi(p, p->phi, x);
}

void plane_lift(const plane *p, double least, double most, double *x)
{
    for (int j = 0; j < p->n; j++) x[j] = fmin(fmax(x[j], -most), most);
    for (ptrdiff_t i = 0; i < p->nphi; i++) {
        const int32_t j = p->control[i];
        if (p->head[i] != i || j < 0) continue;
        const double whole = p->scale[i] / fabs(p->basis[i + j * p->nphi]); /* x of phi = scale */
        if (fabs(x[j]) < least * whole) x[j] = x[j] < 0 ? -least * whole : least * whole;
    }
    for (int j = 0; j < p->n; j++)
        if (p->bound[j]) x[j] = p->bound[j] * fabs(x[j]);
}

void plane_start(const plane *p, const double *z, double least, double most, double *x)
{
    for (int j = 0; j < p->n; j++) x[j] = z[j] / p->unit[j];
    plane_lift(p, least, most, x);
}

void plane_result(const plane *p, const double *x, double *z)
{
    for (int j = 0; j < p->n; j++) z[j] = x[j] * p->unit[j];
}

void plane_move(const plane *p, const double *x, const double *step, double *to)
{
    for (int j = 0; j < p->n; j++) {
        to[j] = x[j] + step[j];
        if (p->bound[j] * to[j] < 0) to[j] = 0;
        to[j] = fmin(fmax(to[j], -p->most[j]), p->most[j]);
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
static void forget_pinned(const plane *p, const lmm_model *m, double *g)
{
    const layout *lay = &m->layout;
    if (p->s.structured) { /* of structures a standard deviation; of others a diagonal */
        for (ptrdiff_t i = 0; i < p->nphi; i++)
            if (p->head[i] == i && g[i] * p->phi[i] > 0 && fabs(p->phi[i]) <= FLOOR * p->scale[i]) g[i] = 0;
        return;
    }
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int i = 0; i < f->nth; i++)
            if (f->thr[i] == f->thc[i] && g[f->th + i] > 0 && is_pinned(m, f, f->thr[i], p->theta[f->th + i]))
                g[f->th + i] = 0;
    }
}

/* Gradient in phi, and Hessian where H is asked for */
static void to_phi(const plane *p, const lmm_model *m, const double *slope, double *B, double *H)
{
    if (p->s.structured)
        surface_pull(&p->s, m, p->phi, p->T, slope, B, p->slope, H);
    else
        to_theta(m, 1, p->T, slope, B, p->slope, H, p->work);
}

/* Is x at a bound, beyond which the criterion falls? */
static int is_bounded(const plane *p, int j, double x, double g)
{
    const int lower = p->bound[j] && x * p->bound[j] <= 0 && g * p->bound[j] >= 0;
    return lower || (fabs(x) >= p->most[j] && g * x <= 0);
}

/* A variable at its bound, beyond which the criterion falls, does not move. */
static void hold_bounded(const plane *p, const double *x, double *g, double *H)
{
    const int n = p->n;
    for (int j = 0; j < n; j++) {
        p->still[j] = (uint8_t)is_bounded(p, j, x[j], g[j]);
        if (!p->still[j]) continue;
        for (int i = 0; i < n; i++) H[i + j * n] = H[j + i * n] = 0;
        H[j + j * n] = 1;
        g[j] = 0;
    }
}

/* g := basis'slope, H := basis'A basis */
static void to_variables(const plane *p, const double *slope, const double *A, double *g, double *H)
{
    const int Q = (int)p->nphi, n = p->n;
    tmul(n, 1, Q, 0, p->basis, Q, slope, Q, g, n);
    mul(Q, n, Q, 0, A, Q, p->basis, Q, p->HB, Q);
    tmul(n, n, Q, 0, p->basis, Q, p->HB, Q, H, n);
    symmetrize(n, H);
}

/* pinned: are diagonals at the floor to be forgotten? */
static void pull_all(const plane *p, const lmm_model *m, const double *x, const double *slope, double *B,
                     double *g, double *H, int pinned)
{
    factors_at(p, m, x);
    to_phi(p, m, slope, B, p->H);
    if (pinned) forget_pinned(p, m, p->slope);
    to_variables(p, p->slope, p->H, g, H);
}

void plane_tangent(const plane *p, const lmm_model *m, const double *x, const double *slope, double *B,
                   double *g, double *H)
{
    pull_all(p, m, x, slope, B, g, H, 1);
    hold_bounded(p, x, g, H);
}

void plane_direct_tangent(const plane *p, const lmm_model *m, const double *x, const double *slope,
                          const double *A, double *g, double *H)
{
    parameters_at(p, x);
    memcpy(p->slope, slope, sizeof(double) * (size_t)p->nphi);
    forget_pinned(p, m, p->slope);
    to_variables(p, p->slope, A, g, H);
    hold_bounded(p, x, g, H);
}

/* Derivatives in x to those in z */
static void to_z(const plane *p, double *g, double *H)
{
    const int n = p->n;
    for (int j = 0; j < n; j++) {
        g[j] /= p->unit[j];
        for (int i = 0; i < n; i++) H[i + j * n] /= p->unit[i] * p->unit[j];
    }
}

void plane_derivatives(const plane *p, const lmm_model *m, const double *x, const double *slope, double *B,
                       double *g, double *H)
{
    pull_all(p, m, x, slope, B, g, H, 0);
    to_z(p, g, H);
}

void plane_direct_derivatives(const plane *p, const double *slope, const double *A, double *g, double *H)
{
    to_variables(p, slope, A, g, H);
    to_z(p, g, H);
}

void plane_pull(const plane *p, const lmm_model *m, const double *x, const double *slope, double *g)
{
    const int Q = (int)p->nphi, n = p->n;
    factors_at(p, m, x);
    to_phi(p, m, slope, NULL, NULL);
    tmul(n, 1, Q, 0, p->basis, Q, p->slope, Q, g, n);
}

int plane_round_to_zero(const plane *p, double limit, double *x)
{
    parameters_at(p, x);
    int changed = 0;
    for (ptrdiff_t i = 0; i < p->nphi; i++) {
        if (p->head[i] != i || fabs(p->phi[i]) >= limit * p->scale[i]) continue;
        for (ptrdiff_t j = i; j < p->nphi && p->head[j] == i; j++) {
            const int32_t of = p->control[j];
            if (of < 0 || x[of] == 0 || fabs(p->phi[j]) >= limit * p->scale[j]) continue;
            x[of] = 0;
            changed = 1;
        }
    }
    return changed;
}

/* Does a parameter belong to a structure? Its sign is the structure's affair. */
static int of_structure(const plane *p, ptrdiff_t i)
{
    for (int e = 0; e < p->s.nterm; e++)
        if (p->s.piece[e].of && i >= p->s.piece[e].first && i < p->s.piece[e].first + p->s.piece[e].count)
            return 1;
    return 0;
}

void plane_signs(const plane *p, double *x)
{
    double *flipped = p->flipped, *there = p->HB;
    int negative = 0;
    parameters_at(p, x);
    memcpy(flipped, p->phi, sizeof(double) * (size_t)p->nphi);
    for (ptrdiff_t i = 0; i < p->nphi; i++)
        if (p->head[i] >= 0 && p->phi[p->head[i]] < 0 && !of_structure(p, i)) {
            flipped[i] = -flipped[i];
            negative = 1;
        }
    if (!negative) return;
    plane_nearest_phi(p, flipped, there);
    parameters_at(p, there);
    for (ptrdiff_t i = 0; i < p->nphi; i++)
        if (fabs(p->phi[i] - flipped[i]) > SAME * (p->scale[i] + fabs(flipped[i]))) return;
    memcpy(x, there, sizeof(double) * (size_t)p->n);
}
