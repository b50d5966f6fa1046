/* theta and T: floors, the user's coordinates and the whitened ones, unique triangular form. */

#include <float.h>

#include "model/model.h"
#include "base/large.h"

/* What a diagonal of T is measured in: whitened units, or the user's. */
static double unit_of(const factor *f, int i, int users)
{
    return users ? fabs(f->w.C[i + i * f->p]) : 1;
}

int is_pinned(const lmm_model *m, const factor *f, int i, double d)
{
    return fabs(d) <= floor_of(m) * unit_of(f, i, 1);
}

/* T of every factor from theta in elimination order; diagonals are kept floor away from zero (0: they are
   not). */
void set_theta(lmm_model *m, const double *theta, int users, double floor)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    ev->at.zeros = ANY;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        factor_state *fs = &m->evaluation.f[k];
        const int p = f->p;
        fs->W = users ? f->Cinv : NULL;
        memset(fs->Tp, 0, sizeof(double) * (size_t)(p * p));
        for (int t = 0; t < f->nth; t++) fs->Tp[f->thr[t] + f->thc[t] * p] = theta[f->th + t];
        for (int i = 0; i < p; i++) {
            const double unit = unit_of(f, i, users);
            double *d = &fs->Tp[i + i * p];
            if (fabs(*d) < floor_of(m) * unit) ev->at.zeros = floor > 0 ? FLOORED : EXACT;
            if (fabs(*d) < floor * unit) *d = floor * unit;
        }
        if (fs->W)
            product(&m->blas, 'N', 'N', p, p, p, 0, fs->W, p, fs->Tp, p, fs->T, p);
        else
            memcpy(fs->T, fs->Tp, sizeof(double) * (size_t)(p * p));
    }
}

/* place of each parameter (elimination order) in the user's theta */
int32_t user_place(const factor *f, int t)
{
    return f->place[t];
}

void lmm_arrange(lmm_model *m, const int32_t *place)
{
    const layout *lay = &m->layout;
    m->evaluation.at.state = NOWHERE;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int t = 0; t < f->nth; t++) f->place[t] = place ? place[f->userth + t] : f->userth + t;
    }
}

void from_user(const lmm_model *m, const double *user, double *theta)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++)
        for (int t = 0; t < lay->f[k].nth; t++) theta[lay->f[k].th + t] = user[user_place(&lay->f[k], t)];
}

/* A (k x k) = lower triangle with nonnegative diagonal times an orthogonal matrix, in place. A zero
   diagonal gets a zero column: the echelon form of a singular factor is unique. */
void triangularize(int k, double *A, int ld)
{
    for (int i = 0; i < k; i++) {
        for (int j = i + 1; j < k; j++) {
            const double a = A[i + i * ld], b = A[i + j * ld];
            if (b == 0) continue;
            const double h = hypot(a, b), c = a / h, s = b / h;
            for (int r = i; r < k; r++) {
                const double x = A[r + i * ld], y = A[r + j * ld];
                A[r + i * ld] = c * x + s * y;
                A[r + j * ld] = c * y - s * x;
            }
            A[i + j * ld] = 0;
        }
        if (A[i + i * ld] < 0)
            for (int r = i; r < k; r++) A[r + i * ld] = -A[r + i * ld];
        for (int j = k - 1; A[i + i * ld] == 0 && j > i; j--) { /* move a zero column here */
            int empty = 1;
            for (int r = 0; r < k; r++) empty &= A[r + j * ld] == 0;
            if (!empty) continue;
            for (int r = 0; r < k; r++) A[r + j * ld] = A[r + i * ld], A[r + i * ld] = 0;
            break;
        }
    }
}

/* Applies triangularize to the block of each term of T. */
static void triangularize_terms(const factor *f, double *T)
{
    for (int a = 0, b; a < f->p; a = b) {
        for (b = a + 1; b < f->p && f->term[b] == a;) b++;
        triangularize(b - a, T + a + a * f->p, f->p);
    }
}

/* D := lower triangle made of theta, in unique form: what rounding left of a zero is zero. (D and S are
   scratch between evaluations; T stays what it was for the last one.) */
static void unique_factor(lmm_model *m, const factor *f, const double *theta)
{
    const factor_state *fs = &m->evaluation.f[f->k];
    const int p = f->p;
    memset(fs->D, 0, sizeof(double) * (size_t)(p * p));
    for (int t = 0; t < f->nth; t++) fs->D[f->thr[t] + f->thc[t] * p] = theta[f->th + t];
    triangularize_terms(f, fs->D);
    for (int c = 0; c < p; c++) {
        double size = 0;
        for (int r = c; r < p; r++) size = fmax(size, fabs(fs->D[r + c * p]));
        for (int r = c; r < p && size < floor_of(m); r++) fs->D[r + c * p] = 0;
    }
}

/* theta (whitened) of any T, one p x p block per factor: T times rotations that make it triangular */
void theta_of_factors(lmm_model *m, const double *T, double *theta)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; T += lay->f[k].p * lay->f[k].p, k++) {
        const factor *f = &lay->f[k];
        double *D = m->evaluation.f[k].D; /* scratch between evaluations */
        memcpy(D, T, sizeof(double) * (size_t)(f->p * f->p));
        triangularize_terms(f, D);
        for (int t = 0; t < f->nth; t++) theta[f->th + t] = D[f->thr[t] + f->thc[t] * f->p];
    }
}

/* T of every factor, one p x p block after the other, from the user's theta */
void factors_of_theta(const lmm_model *m, const double *theta, double *T, double *work)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; T += lay->f[k].p * lay->f[k].p, k++) {
        const factor *f = &lay->f[k];
        memset(work, 0, sizeof(double) * (size_t)(f->p * f->p));
        for (int t = 0; t < f->nth; t++) work[f->thr[t] + f->thc[t] * f->p] = theta[f->th + t];
        product(&m->blas, 'N', 'N', f->p, f->p, f->p, 0, f->Cinv, f->p, work, f->p, T, f->p);
    }
}

/* T = U diag(s) of one term (U: k x k, orthogonal) */
void set_axes(lmm_model *m, const term *t, const double *U, const double *s)
{
    factor_state *fs = &m->evaluation.f[t->f->k];
    const int p = t->f->p, k = t->k, corner = t->first * (p + 1);
    if (t->first == 0) {
        const size_t size = sizeof(double) * (size_t)(p * p);
        fs->W = fs->axes;
        memset(fs->axes, 0, size), memset(fs->Tp, 0, size), memset(fs->T, 0, size);
        if (t->f->k == 0) m->evaluation.at.zeros = ANY;
    }
    for (int c = 0; c < k; c++) {
        fs->Tp[corner + c * (p + 1)] = s[c];
        if (s[c] <= floor_of(m)) m->evaluation.at.zeros = FLOORED;
        for (int r = 0; r < k; r++) {
            fs->axes[corner + r + c * p] = U[r + c * k];
            fs->T[corner + r + c * p] = U[r + c * k] * s[c];
        }
    }
}

/* AB (p x p) in X, where terms that cancel to their rounding error leave an exact zero */
static void product_with_zeros(int p, const double *A, const double *B, double *X)
{
    mul(p, p, p, 0, A, p, B, p, X, p);
    for (int c = 0; c < p; c++)
        for (int r = 0; r < p; r++) {
            double size = 0;
            for (int k = 0; k < p; k++) size += fabs(A[r + k * p] * B[k + c * p]);
            if (fabs(X[r + c * p]) < 4 * p * DBL_EPSILON * size) X[r + c * p] = 0;
        }
}

/* rows of the whitened factor that are below the floor: columns without variance */
static void clear_small_rows(const lmm_model *m, int p, double *T)
{
    for (int r = 0; r < p; r++) {
        double size = 0;
        for (int c = 0; c <= r; c++) size = fmax(size, fabs(T[r + c * p]));
        for (int c = 0; c <= r && size < floor_of(m); c++) T[r + c * p] = 0;
    }
}

/* theta in one set of coordinates to theta in the other: T = M T, again lower triangular */
void change_coordinates(lmm_model *m, double *theta, int to_user)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        factor_state *fs = &m->evaluation.f[k];
        const int p = f->p;
        unique_factor(m, f, theta);
        if (to_user) clear_small_rows(m, p, fs->D);
        product_with_zeros(p, to_user ? f->w.C : f->Cinv, fs->D, fs->S);
        triangularize_terms(f, fs->S);
        for (int t = 0; t < f->nth; t++) theta[f->th + t] = fs->S[f->thr[t] + f->thc[t] * p];
    }
}
