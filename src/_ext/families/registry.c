/* Families by name. */

#include "families/rows.h"

#define ONES8 1, 1, 1, 1, 1, 1, 1, 1
#define ONES32 ONES8, ONES8, ONES8, ONES8
const double lmm_ones[CHUNK] = {ONES32, ONES32, ONES32, ONES32};

typedef int finder(const char *family, const char *link, lmm_family *out);

static const struct {
    const char *family;
    finder *find;
    int dispersion;
} FAMILIES[] = {
    {"binomial", find_binomial, 0},
    {"poisson", find_count, 0},
    {"negativebinomial", find_count, 0},
    {"gamma", find_gamma, 1},
    {"inversegaussian", find_inverse_gaussian, 1},
    {"gaussian", find_gaussian, 1},
    {"ordered", find_ordered, 0},
    {"beta", find_shape, 0},
    {"betabinomial", find_shape, 0},
    {"nb1", find_shape, 0},
    {"truncatedpoisson", find_truncated, 0},
    {"truncatednegativebinomial", find_truncated, 0},
};

int lmm_find_family(const char *family, const char *link, int32_t classes, lmm_family *out)
{
    *out = (lmm_family){.classes = classes};
    if ((classes != 0) != !strcmp(family, "ordered")) return 0;
    for (size_t i = 0; i < sizeof(FAMILIES) / sizeof(*FAMILIES); i++)
        if (!strcmp(family, FAMILIES[i].family)) {
            const int found = FAMILIES[i].find(family, link, out);
            out->dispersion = FAMILIES[i].dispersion;
            return found;
        }
    return 0;
}
