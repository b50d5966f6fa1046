/* Families by name. */

#include "families/rows.h"

#define ONES8 1, 1, 1, 1, 1, 1, 1, 1
#define ONES32 ONES8, ONES8, ONES8, ONES8
const double lmm_ones[CHUNK] = {ONES32, ONES32, ONES32, ONES32};

typedef int finder(const char *family, const char *link, lmm_family *out);

static const struct {
    const char *family;
    finder *find;
    int dispersion, merging;
} FAMILIES[] = {
    {"binomial", find_binomial, 0, LMM_SUMMED},
    {"poisson", find_count, 0, LMM_AVERAGED},
    {"negativebinomial", find_count, 0, LMM_COUNTED},
    {"gamma", find_gamma, 1, LMM_APART},
    {"inversegaussian", find_inverse_gaussian, 1, LMM_APART},
    {"gaussian", find_gaussian, 1, LMM_APART},
    {"ordered", find_ordered, 0, LMM_COUNTED},
    {"beta", find_shape, 0, LMM_APART},
    {"betabinomial", find_shape, 0, LMM_APART},
    {"nb1", find_shape, 0, LMM_COUNTED},
    {"truncatedpoisson", find_truncated, 0, LMM_AVERAGED},
    {"truncatednegativebinomial", find_truncated, 0, LMM_COUNTED},
};

int lmm_find_family(const char *family, const char *link, int32_t classes, lmm_family *out)
{
    *out = (lmm_family){.classes = classes};
    if ((classes != 0) != !strcmp(family, "ordered")) return 0;
    for (size_t i = 0; i < sizeof(FAMILIES) / sizeof(*FAMILIES); i++)
        if (!strcmp(family, FAMILIES[i].family)) {
            const int found = FAMILIES[i].find(family, link, out);
            out->dispersion = FAMILIES[i].dispersion;
            out->merging = FAMILIES[i].merging;
            return found;
        }
    return 0;
}
