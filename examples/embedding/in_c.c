/* An extension module in C that fits y ~ x + (x | g) by lmmfast's C interface, without its Python.

     cc -shared -fPIC in_c.c -o in_c.so $(python3-config --includes) -I$(python -c "import lmmfast;
   print(lmmfast.get_include())") python -c "import in_c; print(in_c.fit(y, x, g, levels))"
*/

#include <Python.h>
#include <math.h>
#include <stdlib.h>

#include "lmmfast.h"

typedef struct { /* what a fit of this model comes to */
    double theta[3], beta[2], sigma;
    lmm_info info;
} result;

/* Ctrl-C between two evaluations; the GIL is taken for a moment. */
static int stop(void *arg, const lmm_trace *trace)
{
    (void)arg, (void)trace;
    PyGILState_STATE held = PyGILState_Ensure();
    const int stopped = PyErr_CheckSignals();
    PyGILState_Release(held);
    return stopped;
}

/* No Python here. All arrays are borrowed: set-up reads them once, and the model keeps sums. */
static lmm_status fit_rows(int64_t n, const double *y, const double *x, const int32_t *g, int32_t nlev,
                           result *out)
{
    const lmm_part part = {LMM_FLOAT64, sizeof(double), x, NULL};
    const lmm_column columns[] = {{0, NULL}, {1, &part}}; /* ones, x: of X and of Z */
    const int32_t term[] = {0, 0};                        /* one term: the two are correlated */
    const lmm_factor factor = {.nlev = nlev, .ncol = 2, .level = g, .z = columns, .term = term};
    const lmm_data data = {
        .n = n, .p = 2, .pstored = 2, .nfactor = 1, .y = y, .X = columns, .factor = &factor};
    const lmm_options options = {.limit = INFINITY};
    lmm_settings settings = lmm_defaults();
    uint8_t keep[2];
    lmm_report report;
    lmm_model *m = NULL;
    settings.poll = stop;
    lmm_status status = lmm_setup(&m, &data, NULL, lmmfast_blas(), &options, keep, &report);
    if (!status) status = lmm_fit(m, &settings, NULL, NULL, out->theta, NULL, &out->info);
    if (!status) status = lmm_estimates(m, out->beta, NULL, &out->sigma, NULL, NULL);
    lmm_free(m);
    return status;
}

static PyObject *fit(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer y, x, g;
    int nlev;
    if (!PyArg_ParseTuple(args, "y*y*y*i", &y, &x, &g, &nlev)) return NULL;
    result r;
    const int64_t n = y.len / (int64_t)sizeof(double);
    int ok = x.len == y.len && g.len == n * (int64_t)sizeof(int32_t);
    for (int64_t i = 0; ok && i < n; i++) { /* what the core takes on trust */
        const int32_t level = ((const int32_t *)g.buf)[i];
        ok = level >= 0 && level < nlev;
    }
    lmm_status status = LMM_OK;
    if (ok) {
        Py_BEGIN_ALLOW_THREADS;
        status = fit_rows(n, y.buf, x.buf, g.buf, nlev, &r);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&y), PyBuffer_Release(&x), PyBuffer_Release(&g);
    if (!ok) return PyErr_Format(PyExc_ValueError, "y and x must be float64, g int32 from 0 to %d", nlev - 1);
    if (PyErr_Occurred()) return NULL; /* of stop() */
    if (status) return PyErr_Format(PyExc_ArithmeticError, "%s", lmm_words(status));
    return Py_BuildValue("{s:d,s:d,s:(ddd),s:(dd),s:d}", "objective", r.info.objective, "certificate",
                         r.info.certificate, "theta", r.theta[0], r.theta[1], r.theta[2], "beta", r.beta[0],
                         r.beta[1], "sigma", r.sigma);
}

static PyMethodDef methods[] = {{"fit", fit, METH_VARARGS, "fit(y, x, g, levels): y ~ x + (x | g) by REML."},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "in_c", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_in_c(void)
{
    if (lmmfast_import() < 0) return NULL;
    return PyModule_Create(&definition);
}
