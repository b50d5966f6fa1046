/* What makes rows independent within subjects: u = L^-1 g, C = L L', of rows g = D^-1 W^1/2 [Z X y].

     by time   u_i = kappa_i (g_i - phi_i g_(i-1)),  kappa_i = (1 - phi_i^2)^-1/2, phi_i: the correlation of
   two neighbours (a Markov chain: LMM_AR1, LMM_CAR1, LMM_ANTE) LMM_CS    u_i = kappa (g_i - mean) + phi mean:
   the symmetric root of C^-1, with its two eigenvalues

   Directions of the average information are L^-1 R_j L^-T e~ = (K + K') e~, K = L^-1 dL: K e~ = -(d L^-1) e
   and K'e~ by the same chain backwards. */

#include "residual/residual.h"

#include "base/small.h"

typedef struct { /* a sum of many numbers, often the same, and what rounding took of it (Kahan 1965) */
    double sum, lost;
} exact_sum;

INLINE void add_exact(exact_sum *s, double x)
{
    const double y = x - s->lost, t = s->sum + y;
    s->lost = (t - s->sum) - y;
    s->sum = t;
}

/* Correlation of neighbours so far apart, and its derivative: LMM_AR1 and LMM_CAR1 */
static double by_gap(const residual *r, double gap, double *slope)
{
    const double x = r->delta[r->ndeviation];
    if (r->kind == LMM_AR1) {
        *slope = gap * pow(sin(x), gap - 1) * cos(x);
        return pow(sin(x), gap);
    }
    const double decay = gap * exp(-x), phi = exp(-decay);
    *slope = phi * decay;
    return phi;
}

/* LMM_ANTE: of the visits from .. last */
static double by_visit(const residual *r, int32_t from, int32_t last)
{
    double phi = 1;
    for (int32_t t = from; t < last; t++) phi *= sin(r->delta[r->ndeviation + t]);
    return phi;
}

/* phi and (one parameter) its slope of every row, zero where a subject begins */
static void find_neighbours(residual *r)
{
    double gap = -1, phi = 0, slope = 0;
    for (int64_t i = 0; i < r->rows.n; i++) {
        r->phi[i] = 0;
        if (r->slope) r->slope[i] = 0;
        if (!(r->gap[i] > 0)) continue;
        if (r->kind == LMM_ANTE) {
            r->phi[i] = by_visit(r, r->visit[i] - (int32_t)r->gap[i], r->visit[i]);
            continue;
        }
        if (r->gap[i] != gap) phi = by_gap(r, gap = r->gap[i], &slope);
        r->phi[i] = phi;
        r->slope[i] = slope;
    }
}

INLINE double slope_here(const residual *r, int64_t i, int j)
{
    const double *x = r->delta + r->ndeviation;
    double slope = 1;
    if (r->slope) return r->slope[i];
    const int32_t last = r->visit[i], from = last - (int32_t)r->gap[i];
    if (j < from || j >= last) return 0;
    for (int32_t t = from; t < last; t++) slope *= t == j ? cos(x[t]) : sin(x[t]);
    return slope;
}

double neighbour_slope(const residual *r, int64_t i, int j)
{
    return slope_here(r, i, j);
}

double compound_correlation(const residual *r, double *slope)
{
    const double x = r->delta[r->ndeviation], share = r->most / (r->most - 1);
    *slope = 2 * share * cos(x) * sin(x);
    return 1 - share * cos(x) * cos(x);
}

static int place_subjects(residual *r, exact_sum *logdet)
{
    double slope;
    const double rho = compound_correlation(r, &slope);
    for (int64_t s = 0; s < r->rows.nsubject; s++) {
        const double n = (double)(r->rows.subject[s + 1] - r->rows.subject[s]), one = 1 + (n - 1) * rho;
        if (n > 1 && (!(1 - rho > 0) || !(one > 0))) return 1;
        r->kappa[s] = n > 1 ? 1 / sqrt(1 - rho) : 1;
        r->phi[s] = 1 / sqrt(one);
        if (n > 1) add_exact(logdet, (n - 1) * log(1 - rho) + log(one));
    }
    return 0;
}

typedef struct { /* numbers of which many that follow each other are the same, zeros aside */
    exact_sum sum;
    double last, count;
} run_sum;

INLINE void add_run(run_sum *s, double x)
{
    if (x == 0) return;
    if (x != s->last) {
        add_exact(&s->sum, s->count * s->last);
        s->last = x;
        s->count = 0;
    }
    s->count++;
}

INLINE double run_total(run_sum *s)
{
    add_exact(&s->sum, s->count * s->last);
    s->count = 0;
    return s->sum.sum;
}

/* root and kappa of rows in a chain, and log|C|; nonzero: there is no C */
static int place_chain(residual *r, exact_sum *logdet)
{
    run_sum logs = {0};
    double last = 0, root = 1, kappa = 1, own = 0; /* of the last phi that is not zero */
    for (int64_t i = 0; i < r->rows.n; i++) {
        const double phi = r->phi[i];
        if (phi == 0) {
            r->root[i] = r->kappa[i] = 1;
            continue;
        }
        if (phi != last) {
            const double left = (1 - phi) * (1 + phi);
            if (!(left > 0)) return 1;
            last = phi;
            root = sqrt(left);
            kappa = 1 / root;
            own = log(left);
        }
        r->root[i] = root;
        r->kappa[i] = kappa;
        add_run(&logs, own);
    }
    add_exact(logdet, run_total(&logs));
    return 0;
}

/* scale, and log|D|^2 */
static int place_deviations(residual *r, exact_sum *logdet)
{
    if (!r->ndeviation) {
        for (int64_t i = 0; i < r->rows.n && r->scale[i] != 1; i++) r->scale[i] = 1;
        return 0;
    }
    for (int64_t i = 0; i < r->rows.n; i++) {
        double v = r->own && r->own[i] >= 0 ? r->delta[r->own[i]] : 0;
        for (int j = 0; r->column && j < r->ndeviation; j++)
            v += r->column[i + (ptrdiff_t)j * r->rows.n] * r->delta[j];
        add_exact(logdet, 2 * v);
        r->scale[i] = exp(-v);
        if (!(r->scale[i] > 0) || !isfinite(r->scale[i])) return 1;
    }
    return 0;
}

CLONES int place_rows(residual *r, double *logdet)
{
    exact_sum total = {0, 0};
    if (place_deviations(r, &total)) return 1;
    if (r->kind == LMM_CS && place_subjects(r, &total)) return 1;
    if (r->rows.subject && r->kind != LMM_CS) {
        find_neighbours(r);
        if (place_chain(r, &total)) return 1;
    }
    *logdet = total.sum;
    return !isfinite(*logdet);
}

double log_slope(const residual *r, int j)
{
    double slope;
    if (r->kind == LMM_CS) {
        exact_sum sum = {0, 0};
        const double rho = compound_correlation(r, &slope);
        for (int64_t s = 0; s < r->rows.nsubject; s++) {
            const double n = (double)(r->rows.subject[s + 1] - r->rows.subject[s]);
            if (n > 1) add_exact(&sum, (n - 1) * slope * (1 / (1 + (n - 1) * rho) - 1 / (1 - rho)));
        }
        return sum.sum;
    }
    run_sum sum = {0};
    for (int64_t i = 0; i < r->rows.n; i++)
        add_run(&sum, -2 * r->phi[i] * slope_here(r, i, j) * r->kappa[i] * r->kappa[i]);
    return run_total(&sum);
}

/* ------------------------------------------------------------------------------------ blocks of rows -- */

/* First subject of a block that begins with this row */
static int64_t subject_of(const residual *r, int64_t first)
{
    int64_t low = 0, high = r->rows.nsubject;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (r->rows.subject[middle] <= first)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* u := kappa (g - mean) + phi mean of one subject's n rows */
static void even_out(int64_t n, double kappa, double phi, const double *g, int32_t width, double *u)
{
    for (int32_t c = 0; c < width; c++) {
        double mean = 0;
        for (int64_t i = 0; i < n; i++) mean += g[i * width + c];
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) u[i * width + c] = kappa * (g[i * width + c] - mean) + phi * mean;
    }
}

CLONES void whiten_block(const residual *r, int64_t first, int64_t end, const double *g, int32_t width,
                         double *u)
{
    if (r->kind == LMM_CS) {
        for (int64_t s = subject_of(r, first); s < r->rows.nsubject && r->rows.subject[s] < end; s++) {
            const int64_t at = r->rows.subject[s] - first;
            even_out(r->rows.subject[s + 1] - r->rows.subject[s], r->kappa[s], r->phi[s], g + at * width,
                     width, u + at * width);
        }
        return;
    }
    for (int64_t i = first; i < end; i++, g += width, u += width) {
        const double phi = r->phi[i], kappa = r->kappa[i];
        if (phi == 0)
            for (int32_t c = 0; c < width; c++) u[c] = kappa * g[c];
        else
            for (int32_t c = 0; c < width; c++) u[c] = kappa * (g[c] - phi * g[c - width]);
    }
}

/* d kappa and d phi of subject s (LMM_CS) */
static void subject_slopes(const residual *r, int64_t s, double *dkappa, double *dphi)
{
    const double n = (double)(r->rows.subject[s + 1] - r->rows.subject[s]);
    double slope;
    compound_correlation(r, &slope);
    *dkappa = n > 1 ? slope / 2 * pow(r->kappa[s], 3) : 0;
    *dphi = n > 1 ? -(n - 1) * slope / 2 * pow(r->phi[s], 3) : 0;
}

CLONES void turn_block(const residual *r, int64_t first, int64_t end, int j, const double *g, int32_t width,
                       double *u)
{
    if (r->kind == LMM_CS) {
        for (int64_t s = subject_of(r, first); s < r->rows.nsubject && r->rows.subject[s] < end; s++) {
            const int64_t at = r->rows.subject[s] - first;
            double dkappa, dphi;
            subject_slopes(r, s, &dkappa, &dphi);
            even_out(r->rows.subject[s + 1] - r->rows.subject[s], dkappa, dphi, g + at * width, width,
                     u + at * width);
        }
        return;
    }
    for (int64_t i = first; i < end; i++, g += width, u += width) {
        const double slope = slope_here(r, i, j), phi = r->phi[i], kappa = r->kappa[i];
        const double turn = slope * phi * kappa * kappa * kappa;
        if (slope == 0)
            for (int32_t c = 0; c < width; c++) u[c] = 0;
        else
            for (int32_t c = 0; c < width; c++)
                u[c] = turn * (g[c] - phi * g[c - width]) - slope * kappa * g[c - width];
    }
}

/* ------------------------------------------------------------------------------------- directions -- */

/* x := L'x of one chain of n rows from `first` on, where L^-1 is what whitens them */
static void solve_back(const residual *r, int64_t first, int64_t n, double *x)
{
    double after = 0; /* kappa phi x of the next row */
    for (int64_t i = n - 1; i >= 0; i--) {
        x[i] = (x[i] + after) * r->root[first + i];
        after = r->kappa[first + i] * r->phi[first + i] * x[i];
    }
}

/* t := (d L^-1)' e~ of one chain, the derivative in the j-th parameter */
static void turn_back(const residual *r, int64_t first, int64_t n, int j, const double *white, double *t)
{
    for (int64_t i = 0; i < n; i++) t[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        const double slope = slope_here(r, first + i, j);
        const double phi = r->phi[first + i], kappa = r->kappa[first + i];
        const double turn = slope * phi * kappa * kappa * kappa;
        if (slope == 0) continue;
        t[i] += turn * white[i];
        t[i - 1] -= (turn * phi + slope * kappa) * white[i];
    }
}

/* t := (K + K') e~ for a parameter of the correlation, of one subject */
static void correlation_direction(const residual *r, int64_t s, int j, const double *e, const double *white,
                                  double *t)
{
    const int64_t first = r->rows.subject[s], n = r->rows.subject[s + 1] - first;
    if (r->kind == LMM_CS) { /* L^-1 and its derivative are symmetric and commute */
        double dkappa, dphi;
        subject_slopes(r, s, &dkappa, &dphi);
        even_out(n, -2 * dkappa, -2 * dphi, e, 1, t);
        return;
    }
    turn_back(r, first, n, j, white, t);
    solve_back(r, first, n, t); /* -K'e~ */
    for (int64_t i = 0; i < n; i++) {
        const double slope = slope_here(r, first + i, j);
        const double phi = r->phi[first + i], kappa = r->kappa[first + i];
        t[i] = -t[i];
        if (slope == 0) continue;
        t[i] -= slope * phi * kappa * kappa * kappa * (e[i] - phi * e[i - 1]) - slope * kappa * e[i - 1];
    }
}

double residual_deviation(const residual *r, int64_t i, int j)
{
    return r->own ? r->own[i] == j : r->column[i + (ptrdiff_t)j * r->rows.n];
}

/* t := (K + K') e~ for a parameter of D: K = L_C^-1 diag(c) L_C. work: twice the subject's rows */
static void deviation_direction(const residual *r, int64_t s, int j, const double *e, const double *white,
                                double *work, double *t)
{
    const int64_t first = r->rows.subject[s], end = r->rows.subject[s + 1], n = end - first;
    double *own = work, *to = own + n;
    for (int64_t i = 0; i < n; i++) own[i] = residual_deviation(r, first + i, j) * e[i];
    whiten_block(r, first, end, own, 1, to);
    if (r->kind == LMM_CS) {
        whiten_block(r, first, end, white, 1, own);
        for (int64_t i = 0; i < n; i++) own[i] *= residual_deviation(r, first + i, j);
        even_out(n, 1 / r->kappa[s], 1 / r->phi[s], own, 1, t);
    } else {
        for (int64_t i = 0; i < n; i++) {
            const int64_t at = first + i;
            t[i] = r->kappa[at] * white[i];
            if (i + 1 < n) t[i] -= r->kappa[at + 1] * r->phi[at + 1] * white[i + 1];
            t[i] *= residual_deviation(r, at, j);
        }
        solve_back(r, first, n, t);
    }
    for (int64_t i = 0; i < n; i++) t[i] += to[i];
}

void residual_direction(const residual *r, int64_t first, int64_t end, int j, const double *e,
                        const double *white, double *work, double *t)
{
    if (!r->rows.subject) {
        for (int64_t i = first; i < end; i++)
            t[i - first] = 2 * residual_deviation(r, i, j) * white[i - first];
        return;
    }
    for (int64_t s = subject_of(r, first); s < r->rows.nsubject && r->rows.subject[s] < end; s++) {
        const int64_t at = r->rows.subject[s] - first;
        if (j < r->ndeviation)
            deviation_direction(r, s, j, e + at, white + at, work, t + at);
        else
            correlation_direction(r, s, j - r->ndeviation, e + at, white + at, t + at);
    }
}
