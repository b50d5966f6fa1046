/* Structures by name. */

#include <stdlib.h>

#include "base/memory.h"
#include "structures/correlation.h"

typedef enum { TRIANGLE, TRAPEZOID, HOMCS, NONE, CS, AR1, TOEP, AD, KERNEL } form;

static const struct {
    const char *name;
    form form;
    int common;
} STRUCTURES[] = {
    {"us", TRIANGLE, 0}, {"rr", TRAPEZOID, 0}, {"diag", NONE, 0},    {"homdiag", NONE, 1},
    {"cs", CS, 0},       {"homcs", HOMCS, 1},  {"hetar1", AR1, 0},   {"ar1", AR1, 1},
    {"toep", TOEP, 0},   {"homtoep", TOEP, 1}, {"ad", AD, 0},        {"homad", AD, 1},
    {"exp", KERNEL, 1},  {"gau", KERNEL, 1},   {"mat32", KERNEL, 1}, {"mat52", KERNEL, 1},
};

#define LARGEST 30000 /* columns: their pairs are counted in 32 bits */

int32_t *pairs(int p, void **memory)
{
    int32_t *place = grab(memory, (size_t)p * (size_t)p, sizeof(*place));
    for (ptrdiff_t j = 0; place && j < p; j++)
        for (ptrdiff_t i = 0; i < j; i++)
            place[i + j * p] = place[j + i * p] = (int32_t)(1 + j * (j - 1) / 2 + i);
    return place;
}

int32_t *lags(int p, void **memory)
{
    int32_t *place = grab(memory, (size_t)p * (size_t)p, sizeof(*place));
    for (ptrdiff_t j = 0; place && j < p; j++)
        for (ptrdiff_t i = 0; i < p; i++) place[i + j * p] = (int32_t)(i < j ? j - i : i - j);
    return place;
}

/* One column alone has no correlations. */
static int correlate(structure *s, form form, const lmm_structure_spec *spec)
{
    correlation *c = &s->c;
    if (form == NONE || spec->p == 1) return correlation_none(c, &s->memory);
    if (form == CS) return correlation_compound(c, &s->memory);
    if (form == AR1) return correlation_ar1(c, &s->memory);
    if (form == TOEP) return correlation_toeplitz(c, &s->memory);
    if (form == AD) return correlation_ad(c, &s->memory);
    return correlation_kernel(c, &s->memory, spec);
}

/* what parameters are measured in */
static int measures(structure *s)
{
    const int n = s->face.nphi, deviations = s->rank ? n : n - s->c.n;
    uint8_t *kind = grab(&s->memory, (size_t)n, sizeof(*kind));
    int32_t *row = grab(&s->memory, (size_t)n, sizeof(*row));
    if (!kind || !row) return 1;
    for (int i = 0; i < n; i++) kind[i] = i < deviations ? LMM_DEVIATION : s->c.kind;
    for (int i = 0; i < deviations && !s->common && !s->rank; i++) row[i] = i;
    for (int c = 0, i = 0; c < s->rank; c++)
        for (int r = c; r < s->face.p; r++) row[i++] = r;
    s->face.kind = kind, s->face.row = row;
    return 0;
}

static int build(structure *s, form form, const lmm_structure_spec *spec)
{
    s->c.p = s->face.p = spec->p, s->face.table = s;
    if (form == TRIANGLE || form == TRAPEZOID) {
        s->rank = form == TRIANGLE ? spec->p : spec->rank;
        structure_of_triangle(s);
    } else if (form == HOMCS && spec->p > 1)
        structure_of_compound(s);
    else {
        if (correlate(s, form, spec)) return 1;
        structure_of_deviations(s);
    }
    return measures(s);
}

lmm_structure *lmm_structure_new(const lmm_structure_spec *spec, int *known)
{
    const size_t n = sizeof(STRUCTURES) / sizeof(*STRUCTURES);
    size_t i = 0;
    while (i < n && strcmp(STRUCTURES[i].name, spec->name) != 0) i++;
    const form form = i < n ? STRUCTURES[i].form : NONE;
    *known = i < n && spec->p > 0 && spec->p <= LARGEST && (form != KERNEL || spec->dimension > 0) &&
             (form != TRAPEZOID || (spec->rank > 0 && spec->rank <= spec->p));
    structure *s = *known ? calloc(1, sizeof(*s)) : NULL;
    if (!s) return NULL;
    s->common = STRUCTURES[i].common;
    if (!build(s, form, spec)) return &s->face;
    lmm_structure_free(&s->face);
    return NULL;
}

void lmm_structure_free(lmm_structure *face)
{
    if (!face) return;
    structure *s = (structure *)face; /* face is its first field */
    release(&s->memory, NULL);
    free(s);
}
