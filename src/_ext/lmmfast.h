/* The C interface, for programs that are not linked with it: extension modules in C, C++ and Cython.

     #include <Python.h>
     #include "lmmfast.h"            in the folder lmmfast.get_include()

     if (lmmfast_import() < 0) return NULL;      once in every file that calls lmm_..., with the GIL
     lmm_setup(&m, &data, NULL, lmmfast_blas(), &options, keep, &report);      from now on lmm.h as it is

   lmm.h says what each function does; none of them needs Python or the GIL. They are called by a table in the
   capsule "lmmfast._core.c_api". Functions are added at its end only. LMMFAST_ABI changes when a function,
   the meaning of an argument or a struct does: lmmfast_import() compares it, and the sizes of all structs,
   with those of the lmmfast that is installed, and raises ImportError where they differ. */

#ifndef LMMFAST_H
#define LMMFAST_H

#include "lmm.h"
#include "structures/structure.h"

#define LMMFAST_ABI 1
#define LMMFAST_CAPSULE "lmmfast._core.c_api"

#ifdef __cplusplus
#define LMMFAST_POINTER(f) decltype(&f)
#else
#define LMMFAST_POINTER(f) __typeof__(&f)
#endif

/* One a line, in the order of the table, at whose end new ones go */
/* clang-format off */
#define LMMFAST_FUNCTIONS(X)   \
    X(lmm_defaults)            \
    X(lmm_words)               \
    X(lmm_setup)               \
    X(lmm_response)            \
    X(lmm_refill)              \
    X(lmm_without_fixed)       \
    X(lmm_free)                \
    X(lmm_ntheta)              \
    X(lmm_set_threads)         \
    X(lmm_evaluate)            \
    X(lmm_derivatives)         \
    X(lmm_estimates)           \
    X(lmm_projection)          \
    X(lmm_squares)             \
    X(lmm_contrasts)           \
    X(lmm_satterthwaite)       \
    X(lmm_solve)               \
    X(lmm_forms)               \
    X(lmm_traces)              \
    X(lmm_traces_price)        \
    X(lmm_hessian)             \
    X(lmm_pairs_of_levels)     \
    X(lmm_covariances)         \
    X(lmm_value)               \
    X(lmm_deviation)           \
    X(lmm_montecarlo)          \
    X(lmm_arrange)             \
    X(lmm_whitening)           \
    X(lmm_fit)                 \
    X(lmm_within)              \
    X(lmm_residual_setup)      \
    X(lmm_ndelta)              \
    X(lmm_residual_at)         \
    X(lmm_residual_slopes)     \
    X(lmm_residual_fit)        \
    X(lmm_many)                \
    X(lmm_structure_new)       \
    X(lmm_structure_free)      \
    X(lmm_semidefinite_root)   \
    X(lmm_residual_directions) \
    X(lmm_residual_strata)

#define LMMFAST_SIZES           \
    sizeof(lmm_blas),           \
    sizeof(lmm_part),           \
    sizeof(lmm_column),         \
    sizeof(lmm_precision),      \
    sizeof(lmm_members),        \
    sizeof(lmm_factor),         \
    sizeof(lmm_coded),          \
    sizeof(lmm_data),           \
    sizeof(lmm_cross),          \
    sizeof(lmm_options),        \
    sizeof(lmm_report),         \
    sizeof(lmm_trace),          \
    sizeof(lmm_settings),       \
    sizeof(lmm_plane),          \
    sizeof(lmm_info),           \
    sizeof(lmm_residual),       \
    sizeof(lmm_responses),      \
    sizeof(lmm_fits),           \
    sizeof(lmm_structure_spec), \
    sizeof(lmm_directions)

/* clang-format on */

typedef struct {
    int32_t abi;           /* LMMFAST_ABI of the lmmfast that is installed                         */
    int32_t nsizes;        /* structs that are compared, ...                                      */
    const uint32_t *sizes; /* ... their sizes in bytes: LMMFAST_SIZES                             */
    const lmm_blas *blas;  /* SciPy's BLAS and LAPACK                                             */
#define LMMFAST_FIELD(f) LMMFAST_POINTER(f) f##_;
    LMMFAST_FUNCTIONS(LMMFAST_FIELD)
#undef LMMFAST_FIELD
} lmmfast_api;

#if defined(Py_PYTHON_H) && !defined(LMMFAST_CORE)

static const lmmfast_api *lmmfast_functions = NULL;

/* 0, or -1 with an exception: lmmfast is not installed, or is of another version than the headers. */
static inline int lmmfast_import(void)
{
    static const uint32_t sizes[] = {LMMFAST_SIZES};
    const int n = (int)(sizeof(sizes) / sizeof(*sizes));
    PyObject *module = PyImport_ImportModule("lmmfast._core"); /* a capsule's path imports one name only */
    if (!module) return -1;
    PyObject *capsule = PyObject_GetAttrString(module, "c_api");
    Py_DECREF(module);
    if (!capsule) return -1;
    const lmmfast_api *found = (const lmmfast_api *)PyCapsule_GetPointer(capsule, LMMFAST_CAPSULE);
    Py_DECREF(capsule); /* the module keeps it */
    if (!found) return -1;
    int same = found->abi == LMMFAST_ABI && found->nsizes == n;
    for (int i = 0; same && i < n; i++) same = found->sizes[i] == sizes[i];
    if (!same) {
        PyErr_Format(
            PyExc_ImportError,
            "this module was compiled with the headers of another lmmfast (C interface %d, installed is "
            "%d): compile it again with those of lmmfast.get_include()",
            LMMFAST_ABI, (int)found->abi);
        return -1;
    }
    lmmfast_functions = found;
    return 0;
}

static inline const lmm_blas *lmmfast_blas(void)
{
    return lmmfast_functions->blas;
}

#define lmm_defaults (lmmfast_functions->lmm_defaults_)
#define lmm_words (lmmfast_functions->lmm_words_)
#define lmm_setup (lmmfast_functions->lmm_setup_)
#define lmm_response (lmmfast_functions->lmm_response_)
#define lmm_refill (lmmfast_functions->lmm_refill_)
#define lmm_without_fixed (lmmfast_functions->lmm_without_fixed_)
#define lmm_free (lmmfast_functions->lmm_free_)
#define lmm_ntheta (lmmfast_functions->lmm_ntheta_)
#define lmm_set_threads (lmmfast_functions->lmm_set_threads_)
#define lmm_evaluate (lmmfast_functions->lmm_evaluate_)
#define lmm_derivatives (lmmfast_functions->lmm_derivatives_)
#define lmm_estimates (lmmfast_functions->lmm_estimates_)
#define lmm_projection (lmmfast_functions->lmm_projection_)
#define lmm_squares (lmmfast_functions->lmm_squares_)
#define lmm_contrasts (lmmfast_functions->lmm_contrasts_)
#define lmm_satterthwaite (lmmfast_functions->lmm_satterthwaite_)
#define lmm_solve (lmmfast_functions->lmm_solve_)
#define lmm_forms (lmmfast_functions->lmm_forms_)
#define lmm_traces (lmmfast_functions->lmm_traces_)
#define lmm_traces_price (lmmfast_functions->lmm_traces_price_)
#define lmm_hessian (lmmfast_functions->lmm_hessian_)
#define lmm_pairs_of_levels (lmmfast_functions->lmm_pairs_of_levels_)
#define lmm_covariances (lmmfast_functions->lmm_covariances_)
#define lmm_value (lmmfast_functions->lmm_value_)
#define lmm_deviation (lmmfast_functions->lmm_deviation_)
#define lmm_montecarlo (lmmfast_functions->lmm_montecarlo_)
#define lmm_arrange (lmmfast_functions->lmm_arrange_)
#define lmm_whitening (lmmfast_functions->lmm_whitening_)
#define lmm_fit (lmmfast_functions->lmm_fit_)
#define lmm_within (lmmfast_functions->lmm_within_)
#define lmm_residual_setup (lmmfast_functions->lmm_residual_setup_)
#define lmm_ndelta (lmmfast_functions->lmm_ndelta_)
#define lmm_residual_strata (lmmfast_functions->lmm_residual_strata_)
#define lmm_residual_at (lmmfast_functions->lmm_residual_at_)
#define lmm_residual_slopes (lmmfast_functions->lmm_residual_slopes_)
#define lmm_residual_directions (lmmfast_functions->lmm_residual_directions_)
#define lmm_residual_fit (lmmfast_functions->lmm_residual_fit_)
#define lmm_many (lmmfast_functions->lmm_many_)
#define lmm_structure_new (lmmfast_functions->lmm_structure_new_)
#define lmm_structure_free (lmmfast_functions->lmm_structure_free_)
#define lmm_semidefinite_root (lmmfast_functions->lmm_semidefinite_root_)

#endif

#endif
