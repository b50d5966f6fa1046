# Included by _core.pyx. Columns of X and Z, borrowed from whatever arrays hold them.

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer

# letters of the struct module -> kind; their sizes tell the rest
_TYPES = {("f", 8): LMM_FLOAT64, ("f", 4): LMM_FLOAT32,
          ("i", 8): LMM_INT64, ("i", 4): LMM_INT32, ("i", 2): LMM_INT16, ("i", 1): LMM_INT8,
          ("u", 8): LMM_UINT64, ("u", 4): LMM_UINT32, ("u", 2): LMM_UINT16, ("u", 1): LMM_UINT8}
_KINDS = {**dict.fromkeys("df", "f"), **dict.fromkeys("bhilq", "i"), **dict.fromkeys("?BHILQ", "u")}


cdef class _Columns:
    """Columns (n, k) as C reads them; holds their buffers.

    Given as an array of float64, by columns (Fortran order) or by rows; or as a list of columns, each a
    tuple of the parts whose product it is (none: ones). A part is an array (n,) of numbers, or a tuple of
    codes (n,) int32 and what each of them stands for, (m,) float64.
    """

    cdef lmm_column *column
    cdef lmm_part *part
    cdef Py_buffer *buffer
    cdef Py_ssize_t nbuffer, n, k
    cdef str what

    def __cinit__(self, given, Py_ssize_t n, bint by_columns, str what not None):
        cdef Py_ssize_t size
        self.n, self.what = n, what
        if isinstance(given, list):
            self.k = len(given)
            size = 2 * sum(map(len, given))
        else:
            self.k, size = 0, 1
        self.room(self.k, size)
        if isinstance(given, list):
            self.read_list(given)
        elif by_columns:
            self.read_columns(given)
        else:
            self.read_rows(given)

    cdef room(self, Py_ssize_t k, Py_ssize_t parts):
        """Room for columns, parts and their buffers."""
        self.column = <lmm_column *>calloc(k + 1, sizeof(lmm_column))
        self.part = <lmm_part *>calloc(parts + 1, sizeof(lmm_part))
        self.buffer = <Py_buffer *>calloc(parts + 1, sizeof(Py_buffer))
        if not self.column or not self.part or not self.buffer:
            raise MemoryError()

    cdef read_columns(self, const double[::1, :] array):
        if array is None:
            raise ValueError(f"{self.what}: columns are needed")
        self.read_array(array, array.shape[0], array.shape[1], 8, 8 * array.shape[0])

    cdef read_rows(self, const double[:, ::1] array):
        if array is None:
            raise ValueError(f"{self.what}: columns are needed")
        self.read_array(array, array.shape[0], array.shape[1], 8 * array.shape[1], 8)

    cdef read_array(self, array, Py_ssize_t n, Py_ssize_t k, Py_ssize_t down, Py_ssize_t across):
        cdef Py_ssize_t j
        if n != self.n:
            raise ValueError(f"{self.what} and y need the same number of rows")
        if k > MOST_COLUMNS:
            raise ValueError(f"{self.what}: more than {MOST_COLUMNS} columns")
        free(self.column)
        free(self.part)
        free(self.buffer)
        self.column, self.part, self.buffer = NULL, NULL, NULL
        self.room(k, k)
        self.k = k
        self.borrow(array)
        if n * k and not _is_finite(<const double *>self.buffer[0].buf, n * k, False):
            raise ValueError(f"{self.what} must be finite")
        for j in range(k):
            self.part[j].type, self.part[j].stride = LMM_FLOAT64, down
            self.part[j].at = <const char *>self.buffer[0].buf + j * across
            self.column[j].nparts, self.column[j].part = 1, self.part + j

    cdef read_list(self, list given):
        cdef Py_ssize_t j, parts = 0
        if self.k > MOST_COLUMNS:
            raise ValueError(f"{self.what}: more than {MOST_COLUMNS} columns")
        for j in range(self.k):
            self.column[j].part = self.part + parts
            self.column[j].nparts = <int32_t>len(given[j])
            for one in given[j]:
                self.read_part(one, &self.part[parts])
                parts += 1

    cdef Py_buffer *borrow(self, array) except NULL:
        cdef Py_buffer *view = &self.buffer[self.nbuffer]
        PyObject_GetBuffer(array, view, PyBUF_STRIDES | PyBUF_FORMAT)
        self.nbuffer += 1
        return view

    cdef read_part(self, given, lmm_part *part):
        cdef Py_buffer *view
        cdef Py_buffer *table
        cdef bint leveled = isinstance(given, tuple)
        view = self.borrow(given[0] if leveled else given)
        letter = view.format.decode()
        kind = _TYPES.get((_KINDS.get(letter, ""), view.itemsize))
        if view.ndim != 1 or view.shape[0] != self.n or kind is None:
            raise ValueError(f"{self.what}: parts of columns are {self.n} numbers in the machine's own byte "
                             f"order, not of format {letter!r} and shape "
                             f"{tuple([view.shape[i] for i in range(view.ndim)])}")
        part.type, part.stride, part.at = kind, view.strides[0], view.buf
        if not leveled:
            if kind in (LMM_FLOAT64, LMM_FLOAT32) and not _part_is_finite(part, self.n):
                raise ValueError(f"{self.what} must be finite")
            return
        table = self.borrow(given[1])
        if kind != LMM_INT32 or table.ndim != 1 or table.format.decode() != "d" or table.strides[0] != 8:
            raise ValueError(f"{self.what}: levels are int32 codes and a float64 for each of them")
        if not _part_is_below(part, self.n, table.shape[0]):
            raise ValueError(f"{self.what}: codes must be 0 .. {table.shape[0] - 1}")
        part.value = <const double *>table.buf

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.nbuffer):
            PyBuffer_Release(&self.buffer[i])
        free(self.column)
        free(self.part)
        free(self.buffer)


cdef bint _part_is_finite(const lmm_part *part, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double sum = 0
    cdef const char *x = <const char *>part.at
    if part.type == LMM_FLOAT64 and part.stride == 8:
        return _is_finite(<const double *>x, n, False)
    for i in range(n):  # 0 * x: NaN where x is not finite
        if part.type == LMM_FLOAT64:
            sum += 0 * (<const double *>(x + i * part.stride))[0]
        else:
            sum += 0 * (<const float *>(x + i * part.stride))[0]
    return sum == 0


cdef bint _part_is_below(const lmm_part *part, Py_ssize_t n, Py_ssize_t most) noexcept nogil:
    cdef Py_ssize_t i
    cdef int32_t code
    cdef bint valid = True
    for i in range(n):
        code = (<const int32_t *>(<const char *>part.at + i * part.stride))[0]
        valid &= 0 <= code < most
    return valid
