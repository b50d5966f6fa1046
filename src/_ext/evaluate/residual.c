/* The residual sum of squares where it is little. The factorization finds r^2 as what cancellation leaves of
   y'Wy, with rounding errors that may be many times r^2. It is also the least value of

     |W^1/2 (y - X beta - Z b)|^2 + |u|^2,    b = Lambda u

   near which errors of beta and u count only squared: the form is evaluated at the coefficients that
   solve_border found, exact products and sums being kept in pairs of doubles. (Compiled without contraction:
   the error of a sum must be that of the sum that was taken.) */

#include <math.h>

#include "evaluate/evaluate.h"
#include "model/relation.h"
#include "base/small.h"

typedef struct { /* high + low, |low| <= rounding of high */
    double high, low;
} pair;

INLINE void add(pair *s, double x)
{
    const double t = s->high + x, z = t - s->high;
    s->low += (s->high - (t - z)) + (x - z);
    s->high = t;
}

INLINE void add_product(pair *s, double x, double y)
{
    const double xy = x * y;
    s->low += fma(x, y, -xy);
    add(s, xy);
}

/* s += factor x (column of A)'v, v: a row of H, stride pb */
INLINE void add_column(pair *s, ptrdiff_t n, const double *A, const double *v, ptrdiff_t stride)
{
    for (ptrdiff_t i = 0; i < n; i++) add_product(s, A[i], v[i * stride]);
}

/* Coefficients of [Z X y] in the residual, Z's where H has those of y: v_Z = -(H_y - beta'H_X), v_X = -beta,
   v_y = 1. */
static void residual_coefficients(lmm_model *m, double *corner)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const ptrdiff_t pb = lay->pb;
    for (ptrdiff_t c = 0; c < lay->q; c++) {
        double *H = ev->H + c * pb, b = H[lay->p];
        for (int a = 0; a < lay->p; a++) b -= H[a] * ev->beta[a];
        H[lay->p] = -b;
    }
    for (int a = 0; a < lay->p; a++) corner[a] = -ev->beta[a];
    corner[lay->p] = 1;
}

/* u of one level from v = -b (stride pb): b = T u by forward substitution, b := T u where T has no variance.
   Nonzero: a direction of b without one on the diagonal. */
static int spherical(const lmm_model *m, const factor *f, double *v, double *u, double *b)
{
    const factor_state *fs = &m->evaluation.f[f->k];
    const int p = f->p, pb = m->layout.pb;
    for (int i = 0; i < p; i++) u[i] = -v[i * pb];
    if (fs->W) { /* T = W Tp */
        if (fs->W == fs->axes)
            tmul(p, 1, p, 0, fs->axes, p, u, p, b, p);
        else
            mul(p, 1, p, 0, f->w.C, p, u, p, b, p);
        memcpy(u, b, sizeof(double) * (size_t)p);
    }
    for (int i = 0; i < p; i++) {
        for (int j = 0; j < i; j++) u[i] -= fs->Tp[i + j * p] * u[j];
        if (fs->Tp[i + i * p] == 0) {
            for (int r = i; r < p; r++)
                if (fs->Tp[r + i * p] != 0) return 1;
            u[i] = 0;
        } else
            u[i] /= fs->Tp[i + i * p];
    }
    mul(p, 1, p, 0, fs->T, p, u, p, b, p);
    for (int i = 0; i < p; i++) v[i * pb] = -b[i];
    return 0;
}

/* total += u'(K^-1 (x) I) u of a factor, p numbers a level */
static void add_related(const relation *r, int p, const double *u, pair *total)
{
    for (ptrdiff_t j = 0; j < r->q; j++)
        for (ptrdiff_t z = r->ptr[j]; z < r->ptr[j + 1]; z++)
            for (int c = 0; c < p; c++) {
                const double x = r->row[z] == j ? r->x[z] : 2 * r->x[z];
                add_product(total, x * u[(ptrdiff_t)r->row[z] * p + c], u[j * p + c]);
            }
}

/* total += |u|^2, of all levels; of related ones u'(K^-1 (x) I) u */
static int add_penalty(lmm_model *m, pair *total)
{
    const layout *lay = &m->layout;
    double *u = m->scratch.tmp;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        double *v = m->evaluation.H + (ptrdiff_t)f->col * lay->pb + lay->p;
        double *related = m->evaluation.f[k].root; /* solve_border comes again before it is read */
        for (int32_t l = 0; l < f->nlev; l++, v += (ptrdiff_t)f->p * lay->pb) {
            if (spherical(m, f, v, u, u + f->p)) return 1;
            if (related) memcpy(related + (ptrdiff_t)l * f->p, u, sizeof(double) * (size_t)f->p);
            for (int i = 0; !related && i < f->p; i++) add_product(total, u[i], u[i]);
        }
        if (related) add_related(f->relation, f->p, related, total);
    }
    return 0;
}

/* total += v_e'(A_ee v_e + 2 A_eR v_R), R: X, y and the later nodes that co-occur with
   node e of factor k */
static void add_node(const lmm_model *m, int k, int32_t e, const double *corner, pair *total)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const ptrdiff_t ld = lay->ld[e], pb = lay->pb;
    const double *v = m->evaluation.H + lay->p, *here = v + lay->nodecol[e] * pb;
    for (int c = 0; c < f->p; c++) {
        const double *A = m->sums.A[k].pan + lay->pan[e] + c * ld;
        pair s = {0, 0}, d = {0, 0};
        add_column(&d, f->p, m->sums.A[k].diag + ((ptrdiff_t)(e - f->node) * f->p + c) * f->p, here, pb);
        if (lay->full && k == 0) {
            add_column(&s, lay->q2, A, v + lay->q1 * pb, pb);
            A += lay->q2;
        }
        for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; A += lay->width[lay->row[i++]])
            add_column(&s, lay->width[lay->row[i]], A, v + lay->nodecol[lay->row[i]] * pb, pb);
        add_column(&s, pb, A, corner, 1);
        add_product(total, here[c * pb], d.high + 2 * s.high);
        add_product(total, here[c * pb], d.low + 2 * s.low);
        /* what the sum of the two lost */
        const double h = d.high + 2 * s.high, z = h - d.high;
        add_product(total, here[c * pb], (d.high - (h - z)) + (2 * s.high - z));
    }
}

/* v'[X y]'W[X y]v */
static void add_corner(const lmm_model *m, const double *corner, pair *total)
{
    const layout *lay = &m->layout;
    for (int c = 0; c < lay->pb; c++) {
        pair s = {0, 0};
        const double *A = m->sums.border + (ptrdiff_t)c * lay->pb;
        add_product(&s, A[c], corner[c]);
        for (int r = c + 1; r < lay->pb; r++) add_product(&s, 2 * A[r], corner[r]);
        add_product(total, corner[c], s.high);
        add_product(total, corner[c], s.low);
    }
}

/* The sizes of what was added to r^2, for its rounding error: y'Wy and the columns' shares */
static double magnitude(const lmm_model *m, const double *corner)
{
    const layout *lay = &m->layout;
    double size = 0;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t l = 0; l < f->nlev; l++)
            for (int c = 0; c < f->p; c++) {
                const double b = m->evaluation.H[(f->col + (ptrdiff_t)l * f->p + c) * lay->pb + lay->p];
                size += m->sums.A[k].diag[((ptrdiff_t)l * f->p + c) * f->p + c] * b * b;
            }
    }
    for (int c = 0; c < lay->pb; c++)
        size += m->sums.border[c + (ptrdiff_t)c * lay->pb] * corner[c] * corner[c];
    return size;
}

CLONES void refine_residual(lmm_model *m)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    pair total = {0, 0};
    double *corner = ev->beta + lay->pb;
    solve_border(m);
    residual_coefficients(m, corner);
    if (add_penalty(m, &total)) return;
    for (int k = 0; k < lay->nfactor; k++)
        for (int32_t e = lay->f[k].node; e < lay->f[k].node + lay->f[k].nlev; e++)
            add_node(m, k, e, corner, &total);
    add_corner(m, corner, &total);
    ev->r2 = total.high + total.low;
    ev->size = magnitude(m, corner);
}
