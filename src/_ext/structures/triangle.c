/* Sigma = T T', T lower triangular (us), or its first `rank` columns (rr). phi are the entries of T, column
   after column. */

#include "structures/correlation.h"

#define NOTHING 1e-7 /* of the largest singular value: zero                       */
#define LEAST 0.01   /* eigenvalues of correlations where a fit begins, of the largest */

static void fill(const structure *s, const double *phi, double *T)
{
    const int p = s->face.p;
    for (int c = 0; c < s->rank; c++) {
        memset(T + c * p, 0, sizeof(double) * (size_t)c);
        memcpy(T + c * p + c, phi, sizeof(double) * (size_t)(p - c));
        phi += p - c;
    }
}

/* phi of the root T (p x rank), which is made a trapezoid with no negative diagonal */
static void read(const structure *s, double *T, double *phi)
{
    const int p = s->face.p;
    trapezoid(p, s->rank, T);
    for (int c = 0; c < s->rank; c++) {
        const double sign = T[c + c * p] < 0 ? -1 : 1;
        for (int r = c; r < p; r++) *phi++ = sign * T[r + c * p];
    }
}

static int map(const lmm_structure *face, const double *phi, double *root, double *dSigma, double *work)
{
    (void)work;
    const structure *s = whole(face);
    const ptrdiff_t p = face->p;
    memset(root + s->rank * p, 0, sizeof(double) * (size_t)(p * (p - s->rank)));
    fill(s, phi, root);
    if (!dSigma) return 0;
    memset(dSigma, 0, sizeof(double) * (size_t)(face->nphi * p * p));
    for (ptrdiff_t c = 0; c < s->rank; c++)
        for (ptrdiff_t r = c; r < p; r++, dSigma += p * p)
            for (ptrdiff_t i = c; i < p; i++) {
                dSigma[i + r * p] += root[i + c * p];
                dSigma[r + i * p] += root[i + c * p];
            }
    return 0;
}

static void bend(const lmm_structure *face, const double *phi, const double *S, double *H, double *work)
{
    (void)phi, (void)work;
    const structure *s = whole(face);
    const ptrdiff_t p = face->p, n = face->nphi;
    for (ptrdiff_t c = 0, at = 0; c < s->rank; at += p - c, c++)
        for (ptrdiff_t q = c; q < p; q++)
            for (ptrdiff_t r = c; r < p; r++) H[at + r - c + (at + q - c) * n] += 2 * S[r + q * p];
}

/* columns of V in the order of the eigenvalues on A's diagonal, the largest first; those to work */
static void largest_first(int p, const double *A, double *V, double *values)
{
    for (int i = 0; i < p; i++) values[i] = A[i + i * p];
    for (int i = 0; i < p; i++) {
        int most = i;
        for (int j = i + 1; j < p; j++)
            if (values[j] > values[most]) most = j;
        for (int r = 0; r < p && most != i; r++) {
            const double keep = V[r + i * p];
            V[r + i * p] = V[r + most * p], V[r + most * p] = keep;
        }
        const double keep = values[i];
        values[i] = values[most], values[most] = keep;
    }
}

/* The largest principal axes of its correlations, none of them too small */
static void nearest(const lmm_structure *face, const double *Sigma, double *phi, double *work)
{
    const structure *s = whole(face);
    const int p = face->p;
    double *R = work, *V = R + p * p, *value = V + p * p, *sd = value + p;
    start_deviations(p, Sigma, sd);
    for (int j = 0; j < p; j++)
        for (int i = 0; i < p; i++) R[i + j * p] = i == j ? 1 : Sigma[i + j * p] / (sd[i] * sd[j]);
    eigenvectors(p, R, V);
    largest_first(p, R, V, value);
    for (int c = 0; c < s->rank; c++)
        for (int i = 0; i < p; i++) V[i + c * p] *= sd[i] * sqrt(fmax(value[c], LEAST * value[0]));
    read(s, V, phi);
}

/* A column more in the root, where it has one that is zero, or could have: along the eigenvector u of S with
   u'S u least, and negative. All in units. */
static int trial(const lmm_structure *face, const double *phi, const double *S, const double *unit, int which,
                 double *to, double *work)
{
    const structure *s = whole(face);
    const int p = face->p, d = s->rank;
    double *T = work, *V = T + p * p, *A = V + p * p, *value = A + p * p, *u = value + p;
    if (which >= SIZES) return 0;
    for (int i = 0; i < p; i++) u[i] = unit ? unit[i] : 1;
    fill(s, phi, T);
    for (int i = 0; i < p * d; i++) T[i] /= u[i % p];
    tmul(d, d, p, 0, T, p, T, p, A, d);
    eigenvectors(d, A, V);
    largest_first(d, A, V, value);
    if (value[d - 1] > NOTHING * NOTHING * value[0]) return 0;
    mul(p, d, d, 0, T, p, V, d, A, p);
    memcpy(T, A, sizeof(double) * (size_t)p * (size_t)d);
    for (int i = 0; i < p * p; i++) A[i] = S[i] * u[i % p] * u[i / p];
    eigenvectors(p, A, V);
    largest_first(p, A, V, value);
    if (!(value[p - 1] < -NOT_LOWER * fabs(value[0]))) return 0;
    for (int i = 0; i < p; i++) T[i + (d - 1) * p] = DEVIATIONS[which] * V[i + (p - 1) * p];
    for (int i = 0; i < p * d; i++) T[i] *= u[i % p];
    read(s, T, to);
    return 1;
}

void structure_of_triangle(structure *s)
{
    const ptrdiff_t p = s->face.p;
    s->face.nphi = (int32_t)(s->rank * p - s->rank * ((ptrdiff_t)s->rank - 1) / 2);
    s->face.map = map, s->face.bend = bend, s->face.nearest = nearest, s->face.trial = trial;
    s->face.work = 3 * p * p + 2 * p;
}
