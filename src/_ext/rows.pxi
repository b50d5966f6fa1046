# Included by _core.pyx. Rows in memory, checked: what a model is made of, besides `Cross`.


cdef class Fixed:
    """Columns of X of which some are coded: zero in most rows, x_j = v t_j(level).

    Parameters
    ----------
    n, p : int, number of rows and of columns
    X : s columns that are stored, see `_Columns`
    place : (s,) int32, their places among the p, ascending
    coded : list of (level int32 (n,), v float64 (n,) or None, start int32 (levels + 1,), column int32, value)
        column[start[l]:start[l + 1]] are the places of the columns that are not zero where the level is l,
        value (float64) what v is multiplied by there. Every column is stored or belongs to one of these.
    """

    cdef _Columns X
    cdef const int32_t[::1] place
    cdef lmm_coded *coded
    cdef int32_t p, ncoded
    cdef list held

    def __cinit__(self, Py_ssize_t n, Py_ssize_t p, X not None, const int32_t[::1] place not None,
                  list coded not None):
        cdef Py_ssize_t k
        cdef const int32_t[::1] level, start, column
        cdef const double[::1] v, value
        owner = np.full(p + 1, -1)
        self.X = _Columns(X, n, True, "X")
        if p > MOST_COLUMNS or place.shape[0] != self.X.k:
            raise ValueError(f"X has {self.X.k} columns and {place.shape[0]} places, {p} columns in all")
        self.place, self.held = place, []
        self.p, self.ncoded = <int32_t>p, <int32_t>len(coded)
        self.coded = <lmm_coded *>calloc(len(coded) + 1, sizeof(lmm_coded))
        if not self.coded:
            raise MemoryError()
        for k in range(self.ncoded):
            level, v, start, column, value = coded[k]
            if level is None or start is None or column is None or value is None or start.shape[0] < 1:
                raise ValueError(f"coded columns {k}: levels and what belongs to these are needed")
            if level.shape[0] != n or (v is not None and v.shape[0] != n):
                raise ValueError(f"coded columns {k} need as many rows as X")
            self._check(k, np.asarray(start), np.asarray(column), value, owner)
            if not _codes_are_valid(level, <int32_t>(start.shape[0] - 1)):
                raise ValueError(f"coded columns {k}: levels must be 0 .. {start.shape[0] - 2}")
            if n and v is not None and not _is_finite(&v[0], n, False):
                raise ValueError(f"coded columns {k} must be finite")
            self.held.append((level, v, start, column, value))
            self.coded[k].level = &level[0] if n else NULL
            self.coded[k].v = NULL if v is None or not n else &v[0]
            self.coded[k].nlev = <int32_t>(start.shape[0] - 1)
            self.coded[k].start = &start[0]
            self.coded[k].column = &column[0] if column.shape[0] else NULL
            self.coded[k].value = &value[0] if value.shape[0] else NULL
        stored = np.asarray(place)
        if (np.diff(stored) <= 0).any() or (stored < 0).any() or (stored >= p).any():
            raise ValueError("places must be ascending, 0 .. p - 1")
        if (owner[stored] >= 0).any():
            raise ValueError("a column is stored and coded too")

    @cython.wraparound(True)
    def _check(self, Py_ssize_t k, start, column, const double[::1] value, owner):
        """Are levels' lists in order, and does no other list have their columns?"""
        count = len(column)
        if start[0] != 0 or start[-1] != count or (np.diff(start) < 0).any() or value.shape[0] != count:
            raise ValueError(f"coded columns {k}: start must lead through columns and values")
        if not count:
            return
        if column.min() < 0 or column.max() >= self.p or not _is_finite(&value[0], count, False):
            raise ValueError(f"coded columns {k}: columns must be 0 .. {self.p - 1}, values finite")
        within = np.diff(column) <= 0
        within[start[1:-1][(start[1:-1] > 0) & (start[1:-1] < count)] - 1] = False
        if within.any():
            raise ValueError(f"coded columns {k}: the columns of a level must be ascending")
        if (owner[column] >= 0).any():
            raise ValueError(f"coded columns {k}: another list has one of these columns")
        owner[column] = k

    cdef void describe(self, lmm_data *d) noexcept:
        d.p = self.p
        d.ncoded = self.ncoded
        d.place = &self.place[0] if self.place.shape[0] else NULL
        d.coded = self.coded

    def __dealloc__(self):
        free(self.coded)


cdef class Precision:
    """Inverse of the relationship matrix of a factor's levels: the lower triangle by columns.

    ptr : (m + 1,) intp; row : int32, of each column ascending, the diagonal first; x : float64
    root : (ptr, column, x) of G, K^-1 = G'G, lower triangular by rows, the diagonal last; None: it is found
    """

    cdef lmm_precision precision
    cdef readonly int32_t levels
    cdef readonly object ptr, row, x, root

    def __cinit__(self, const ptrdiff_t[::1] ptr not None, const int32_t[::1] row not None,
                  const double[::1] x not None, tuple root=None):
        cdef const ptrdiff_t[::1] rootptr
        cdef const int32_t[::1] rootcol
        cdef const double[::1] rootx
        _check_triangle(ptr, row, x, False)
        self.levels, self.ptr, self.row, self.x = <int32_t>(ptr.shape[0] - 1), ptr, row, x
        self.precision.ptr, self.precision.row, self.precision.x = &ptr[0], &row[0], &x[0]
        self.root = root
        if root is None:
            return
        rootptr, rootcol, rootx = root
        if rootptr is None or rootcol is None or rootx is None or rootptr.shape[0] != ptr.shape[0]:
            raise ValueError("the root of a precision needs a row for each level")
        _check_triangle(rootptr, rootcol, rootx, True)
        self.precision.rootptr, self.precision.rootcol = &rootptr[0], &rootcol[0]
        self.precision.rootx = &rootx[0]


cdef class Members:
    """Rows with several levels of a factor, or none, each with a weight.

    ptr : (n + 1,) int64, where those of each row begin; level : int32, ascending in a row; weight : float64
    """

    cdef lmm_members members
    cdef readonly Py_ssize_t n
    cdef readonly int32_t levels
    cdef readonly object ptr, level, weight

    def __cinit__(self, const int64_t[::1] ptr not None, const int32_t[::1] level not None,
                  const double[::1] weight not None, int32_t levels):
        if len(ptr) < 2 or not len(level) or not len(level) == len(weight) == ptr[len(ptr) - 1] or ptr[0]:
            raise ValueError("members need a place for each row, and a level and a weight each")
        if max(len(level), len(ptr)) > MOST_LEVELS:
            raise ValueError(f"{len(ptr) - 1} rows and their {len(level)} levels are too many")
        if not _members_are_valid(ptr, level, levels):
            raise ValueError(f"levels of rows must be 0 .. {levels - 1}, each once and ascending")
        if not _is_finite(&weight[0], len(weight), False):
            raise ValueError("weights of levels must be finite")
        self.ptr, self.level, self.weight = ptr, level, weight
        self.n, self.levels = len(ptr) - 1, levels
        self.members.ptr, self.members.level, self.members.weight = &ptr[0], &level[0], &weight[0]


@cython.boundscheck(False)
cdef bint _members_are_valid(const int64_t[::1] ptr, const int32_t[::1] level, int32_t levels) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t at
    cdef bint valid = True
    for i in range(ptr.shape[0] - 1):
        valid &= 0 <= ptr[i] <= ptr[i + 1] <= level.shape[0]
        for at in range(ptr[i], ptr[i + 1] if valid else ptr[i]):
            valid &= 0 <= level[at] < levels and (at == ptr[i] or level[at - 1] < level[at])
    return valid


cdef _check_triangle(const ptrdiff_t[::1] ptr, const int32_t[::1] row, const double[::1] x, bint last):
    """ValueError unless lists ascend and the diagonal is first, or last."""
    cdef Py_ssize_t m = ptr.shape[0] - 1, j, i
    cdef bint valid = True
    if not 1 <= m <= MOST_LEVELS or x.shape[0] != row.shape[0]:
        raise ValueError("a precision needs a column for each level, and a value for each row")
    check_graph(ptr, row, m)
    for j in range(m):
        valid &= ptr[j] < ptr[j + 1] and row[ptr[j + 1] - 1 if last else ptr[j]] == j
        for i in range(ptr[j] + 1, ptr[j + 1] if valid else 0):
            valid &= row[i - 1] < row[i]
    if not valid or not _is_finite(&x[0], x.shape[0], False):
        raise ValueError("a precision needs finite values, the diagonal first and ascending rows")


cdef class _Rows:
    """Borrowed rows (y, X, factors, weights) as lmm_data; holds the buffers while C reads them.

    X: columns (see `_Columns`), or the other arguments of `Fixed`, columns of which some are coded.
    absent: whether rows may have weight zero.
    """

    cdef lmm_data d
    cdef lmm_factor *factor
    cdef list held

    def __cinit__(self, const double[::1] y, X, list factors, const double[::1] w=None, bint absent=False):
        cdef Py_ssize_t k, n
        cdef const int32_t[::1] level, term
        cdef _Columns columns
        cdef Precision precision
        cdef Members members
        cdef Fixed fixed
        if y is None or X is None or not factors:
            raise ValueError("y, X and at least one factor are needed")
        n = y.shape[0]
        self.factor = <lmm_factor *>calloc(len(factors), sizeof(lmm_factor))
        if not self.factor:
            raise MemoryError()
        if n == 0 or (w is not None and w.shape[0] != n):
            raise ValueError("y, X and weights need the same number of rows, at least one")
        if not _is_finite(&y[0], n, False) or (w is not None and not _are_weights(&w[0], n, absent)):
            raise ValueError("y must be finite, weights positive and finite")
        fixed = Fixed(n, *X) if isinstance(X, tuple) else None
        columns = _Columns(X, n, True, "X") if fixed is None else fixed.X
        self.held = [y, columns, w, fixed]
        self.d.X, self.d.p = columns.column, <int32_t>columns.k
        self.d.pstored = self.d.p
        if fixed is not None:
            fixed.describe(&self.d)
        for k in range(len(factors)):
            given, nlev, z, term, *related = factors[k]
            precision = related[0] if related else None
            members = given if isinstance(given, Members) else None
            level = None if members is not None else given
            if (level is None and members is None) or z is None or term is None:
                raise ValueError(f"factor {k}: codes, levels, columns and terms are needed")
            columns = _Columns(z, n, False, f"columns of factor {k}")
            if (level.shape[0] if members is None else members.n) != n or term.shape[0] != columns.k:
                raise ValueError(f"factor {k}: codes and columns need as many rows as y")
            if not columns.k or not 1 <= nlev <= MOST_LEVELS:
                raise ValueError(f"factor {k}: levels and columns are needed, and not too many")
            if not (_codes_are_valid(level, nlev) if members is None else members.levels == nlev):
                raise ValueError(f"factor {k}: codes must be 0 .. {nlev - 1}")
            if precision is not None and precision.levels != nlev:
                raise ValueError(f"factor {k}: the precision is of {precision.levels} levels, not {nlev}")
            self.held.append((given, columns, term, precision))
            self.factor[k].nlev = nlev
            self.factor[k].ncol = <int32_t>columns.k
            self.factor[k].level = &level[0] if members is None else NULL
            self.factor[k].members = NULL if members is None else &members.members
            self.factor[k].z = columns.column
            self.factor[k].term = &term[0]
            self.factor[k].precision = NULL if precision is None else &precision.precision
        self.d.n = n
        self.d.nfactor = <int32_t>len(factors)
        self.d.y = &y[0]
        self.d.w = NULL if w is None else &w[0]
        self.d.factor = self.factor

    def __dealloc__(self):
        free(self.factor)


@cython.boundscheck(False)
cdef bint _codes_are_valid(const int32_t[::1] level, int32_t nlev) noexcept nogil:
    cdef Py_ssize_t i
    cdef bint valid = True
    for i in range(level.shape[0]):
        valid &= 0 <= level[i] < nlev
    return valid


cdef bint _is_finite(const double *x, Py_ssize_t n, bint positive) noexcept nogil:
    cdef Py_ssize_t i
    cdef double a = 0, b = 0
    cdef bint valid = True
    for i in range(0, n - 1, 2):  # 0 * x: NaN where x is not finite
        a += 0 * x[i]
        b += 0 * x[i + 1]
    if n % 2:
        a += 0 * x[n - 1]
    if positive:
        for i in range(n):
            valid &= x[i] > 0
    return valid and a + b == 0


@cython.boundscheck(False)
cdef bint _are_weights(const double *w, Py_ssize_t n, bint absent) noexcept nogil:
    """Positive and finite; of rows that may be absent some are."""
    cdef Py_ssize_t i, count = 0
    if not absent:
        return _is_finite(w, n, True)
    for i in range(n):
        if w[i] < 0:
            return False
        count += w[i] > 0
    return count > 0 and _is_finite(w, n, False)
