/* Families by name. */

#include "families/rows.h"

#define ONES8 1, 1, 1, 1, 1, 1, 1, 1
#define ONES32 ONES8, ONES8, ONES8, ONES8
const double lmm_ones[CHUNK] = {ONES32, ONES32, ONES32, ONES32};

typedef int finder(const char *family, const char *link, lmm_family *out);

static const struct {
    const char *family;
    finder *find;
} FAMILIES[] = {
    {"binomial", find_binomial},
    {"poisson", find_count},
    {"negativebinomial", find_count},
    {"gamma", find_gamma},
    {"inversegaussian", find_inverse_gaussian},
    {"gaussian", find_gaussian},
    {"ordered", find_ordered},
    {"beta", find_shape},
    {"betabinomial", find_shape},
    {"nb1", find_shape},
    {"truncatedpoisson", find_truncated},
    {"truncatednegativebinomial", find_truncated},
};

int lmm_find_family(const char *family, const char *link, int32_t classes, lmm_family *out)
{
    *out = (lmm_family){.classes = classes};
    if ((classes != 0) != !strcmp(family, "ordered")) return 0;
    for (size_t i = 0; i < sizeof(FAMILIES) / sizeof(*FAMILIES); i++)
        if (!strcmp(family, FAMILIES[i].family)) return FAMILIES[i].find(family, link, out);
    return 0;
}
