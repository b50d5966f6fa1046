# Included by _core.pyx. Cross-products by levels: `Blocks`, which can be added, and `Cross`, a model's.


cdef class Coordinates:
    """Coordinates in which rows are added to blocks: new columns are (x - mean) B.

    Parameters
    ----------
    factors : list of (mean (k,), B (k, k)), upper triangular, zero between columns of different terms
    fixed : (mean (p,), B (p, p)), of X
    slope : (p,), center, yscale : float
        The new response is (y - center - (new columns of X) slope) / yscale.
    centred : bool, whether the centre is subtracted
    """

    cdef lmm_coordinates c
    cdef const double **mean
    cdef const double **B
    cdef list held, widths

    def __cinit__(self, list factors not None, tuple fixed not None, slope, double center, double yscale,
                  bint centred):
        cdef Py_ssize_t k
        cdef const double[::1] mean, along = np.append(np.asarray(slope, np.float64), 0.0)
        cdef const double[::1, :] B
        self.mean = <const double **>calloc(len(factors) + 1, sizeof(double *))
        self.B = <const double **>calloc(len(factors) + 1, sizeof(double *))
        if not self.mean or not self.B:
            raise MemoryError()
        self.held, self.widths = [along], []
        for k, (first, second) in enumerate([*factors, fixed]):
            size = len(first)
            if np.shape(first) != (size,) or np.shape(second) != (size, size):
                raise ValueError(f"coordinates {k}: a mean and a square matrix are needed")
            mean = np.append(np.asarray(first, np.float64), 0.0)
            B = np.array(second if size else [[0.0]], np.float64, order="F")
            if not (np.isfinite(mean).all() and np.isfinite(B).all()) or np.tril(B, -1).any():
                raise ValueError(f"coordinates {k}: they must be finite, B upper triangular")
            self.held.append((mean, B))
            self.widths.append(size)
            self.mean[k], self.B[k] = &mean[0], &B[0, 0]
        finite = np.isfinite(np.append(along, [center, yscale])).all()
        if along.shape[0] != size + 1 or not finite or yscale <= 0:
            raise ValueError("the response needs a slope for each column of X, finite, and a positive scale")
        self.c.mean, self.c.B, self.c.slope = self.mean, self.B, &along[0]
        self.c.xmean, self.c.BX = self.mean[len(factors)], self.B[len(factors)]
        self.c.center, self.c.yscale, self.c.uncentred = center, yscale, not centred

    cdef bint fits(self, list widths, int border):
        return self.widths == [*widths, border - 1]

    def __dealloc__(self):
        free(self.mean)
        free(self.B)


cdef class Blocks:
    """Additive cross-products of rows [z_1 | ... | z_K | X y], by levels of the K factors.

    One thread at a time.

    Parameters
    ----------
    widths : list of int, columns of each factor
    border : int, columns of X and y
    """

    cdef lmm_blocks *b
    cdef object lock
    cdef readonly list widths
    cdef readonly int border
    cdef public bint spoiled  # an addition was begun and not ended: nothing is read any more

    def __cinit__(self, list widths not None, border):
        cdef int32_t[::1] width
        if not all(1 <= w <= MOST_COLUMNS for w in [*widths, border]):
            raise ValueError(f"blocks need 1 to {MOST_COLUMNS} columns, not {widths} and {border}")
        width = np.array([*widths, 0], np.int32)
        check(lmm_blocks_new(&self.b, <int>len(widths), &width[0], border))
        self.lock, self.widths, self.border = _Lock(), list(widths), border

    def __dealloc__(self):
        lmm_blocks_free(self.b)

    @property
    def nlev(self):
        """Levels of each factor."""
        return [(<blocks_struct *>self.b).nlev[k] for k in range(len(self.widths))]

    @property
    def nbytes(self):
        """Memory of the values and of the tables of pairs."""
        return int(lmm_blocks_bytes(self.b))

    @cython.wraparound(True)
    def add(self, Coordinates coordinates not None, y, X, list factors not None, weights=None):
        """Adds the cross-products of rows, given as to `Model`, in these coordinates.

        Returns
        -------
        columns : (p,) float64, sums of the new columns of X, without weights
        plain : (p p + sum of widths squared,) float64, X'X and then Z'Z of each factor without weights, with
            weights only; else empty
        response : tuple of two float, sums of the response less the centre and of the squares of that
        logs, low, high : float, sum of the logarithms of the weights, the lowest and the highest (0, 0, 0
            without)
        """
        cdef _Rows rows = _Rows(y, X, factors, weights)
        cdef lmm_totals totals
        cdef lmm_status status
        cdef double[::1] columns, plain
        if rows.d.ncoded or rows.d.p != self.border - 1 or not coordinates.fits(self.widths, self.border):
            raise ValueError("rows do not fit the blocks")
        if [rows.factor[k].ncol for k in range(rows.d.nfactor)] != self.widths:
            raise ValueError("the factors of the rows do not fit the blocks")
        columns = np.zeros(self.border)
        plain = np.zeros(1 + (rows.d.p**2 + sum([w * w for w in self.widths]) if weights is not None else 0))
        memset(&totals, 0, sizeof(totals))
        totals.low, totals.high = np.inf, -np.inf
        totals.columns, totals.plain = &columns[0], &plain[0] if weights is not None else NULL
        with self.lock, single_threaded_blas(), nogil:
            status = lmm_add_rows(self.b, &TABLE, &rows.d, &coordinates.c, &totals)
        self.spoiled |= status != LMM_OK
        check(status)
        given = (totals.sumlogw, totals.low, totals.high) if weights is not None else (0.0, 0.0, 0.0)
        return (np.asarray(columns)[:-1], np.asarray(plain)[:-1], (totals.response[0], totals.response[1]),
                *given)

    def merge(self, Blocks other not None, list maps not None, list nlev not None, double sign=1.0):
        """Adds sign times other, whose level l of factor k is level maps[k][l] here."""
        cdef _Codes levels = _Codes(maps, nlev, other.nlev)
        cdef Blocks first = self if id(self) < id(other) else other  # every thread takes locks in this order
        cdef Blocks second = other if first is self else self
        cdef lmm_status status
        if other.widths != self.widths or other.border != self.border or other is self:
            raise ValueError("blocks of different models")
        other.check()
        with first.lock, second.lock, nogil:
            status = lmm_blocks_merge(self.b, other.b, levels.at, levels.nlev, sign)
        self.spoiled |= status != LMM_OK
        check(status)

    def compact(self):
        """Gives back the memory that only later additions need; they make it anew."""
        with self.lock:
            lmm_blocks_compact(self.b)

    def diagonal(self, Py_ssize_t k):
        """Z'WZ by level, (m, p, p)."""
        cdef blocks_struct *b = <blocks_struct *>self.b
        self._is_factor(k)
        with self.lock:
            return _copy(b.diag[k], (b.nlev[k], b.width[k], b.width[k]))

    def edge(self, Py_ssize_t k):
        """Z'W[X y] by level, (m, p, border)."""
        cdef blocks_struct *b = <blocks_struct *>self.b
        self._is_factor(k)
        with self.lock:
            return _copy(b.edge[k], (b.nlev[k], b.width[k], b.border))

    @property
    def corner(self):
        """[X y]'W[X y], (border, border)."""
        self.check()
        with self.lock:
            return _copy((<blocks_struct *>self.b).corner, (self.border, self.border))

    def pairs(self, Py_ssize_t a, Py_ssize_t c):
        """Levels of factors a < c that occur together, and their blocks (P, p_a, p_c), sorted."""
        if not 0 <= a < c < len(self.widths):
            raise IndexError("factors a < c are needed")
        self.check()
        with self.lock:
            return self._pairs(a, c)

    cdef _pairs(self, Py_ssize_t a, Py_ssize_t c):
        cdef const lmm_pairs *p = lmm_pairs_of(self.b, <int>a, <int>c)
        cdef Py_ssize_t n = p.count, wa = self.widths[a], wc = self.widths[c]
        cdef int64_t[::1] order = np.empty(n + 1, np.int64)
        check(lmm_blocks_order(self.b, <int>a, <int>c, &order[0]))
        cdef object sorted = np.asarray(order)[:n]
        if n == 0:
            return np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, wa, wc))
        cdef object la = np.asarray(<int32_t[:n]>p.a)[sorted], lc = np.asarray(<int32_t[:n]>p.b)[sorted]
        cdef object values = np.asarray(<double[:n * wa * wc]>p.value).reshape(n, wa, wc)[sorted]
        return la, lc, values

    @staticmethod
    def of_arrays(list widths not None, int border, list nlev not None, list diagonals not None,
                  list edges not None, corner, dict pairs not None):
        """Blocks from what `diagonal`, `edge`, `corner` and `pairs` gave, by (a, c)."""
        cdef Blocks out = Blocks(widths, border)
        cdef Py_ssize_t k, K = len(widths)
        cdef double[::1] diag, edge, value
        cdef int32_t[::1] la, lc
        cdef object target = np.asarray(<double[:border, :border]>(<blocks_struct *>out.b).corner)
        if not len(nlev) == len(diagonals) == len(edges) == K:
            raise ValueError(f"levels and blocks of {K} factors are needed")
        if not all(0 <= m <= MOST_LEVELS for m in nlev):
            raise ValueError(f"numbers of levels must be 0 to {MOST_LEVELS}, not {nlev}")
        for k in range(K):
            diag = _flat(diagonals[k], (nlev[k], widths[k], widths[k]))
            edge = _flat(edges[k], (nlev[k], widths[k], border))
            if nlev[k]:
                check(lmm_blocks_set(out.b, <int>k, nlev[k], &diag[0], &edge[0]))
        for (a, c), (first, second, values) in pairs.items():
            if not 0 <= a < c < K:
                raise ValueError("factors a < c are needed")
            la, lc = _level_numbers(first, nlev[a]), _level_numbers(second, nlev[c])
            value = _flat(values, (len(la), widths[a], widths[c]))
            if len(la) != len(lc):
                raise ValueError(f"levels of factors {a} and {c} do not fit")
            if len(la):
                check(lmm_blocks_set_pairs(out.b, a, c, len(la), &la[0], &lc[0], &value[0]))
                if lmm_pairs_of(out.b, a, c).count != len(la):
                    raise ValueError(f"a pair of levels of factors {a} and {c} stands there twice")
        target[:] = _flat(corner, (border, border)).reshape(border, border)
        return out

    def _is_factor(self, k):
        if not 0 <= k < len(self.widths):
            raise IndexError(f"there is no factor {k}")
        self.check()

    def check(self):
        """Every addition that was begun has ended: memory may run out, or Ctrl-C come, halfway."""
        if self.spoiled:
            raise ValueError("an addition to these cross-products was broken off (by lack of memory or "
                             "Ctrl-C), so their sums are not whole: build them anew")


cdef class _Codes:
    """Arrays of codes as C wants them, checked; holds the buffers."""

    cdef const int32_t **at
    cdef int32_t *nlev
    cdef list held

    def __cinit__(self, list codes not None, list nlev not None, list length not None):
        cdef Py_ssize_t k, K = len(codes)
        cdef const int32_t[::1] level
        if not K == len(nlev) == len(length):
            raise ValueError(f"codes and numbers of levels of {len(length)} factors are needed")
        self.at = <const int32_t **>calloc(K + 1, sizeof(int32_t *))
        self.nlev = <int32_t *>calloc(K + 1, sizeof(int32_t))
        if not self.at or not self.nlev:
            raise MemoryError()
        self.held = []
        for k in range(K):
            level = codes[k]
            self.held.append(level)
            if level is None or not 0 <= nlev[k] <= MOST_LEVELS:
                raise ValueError(f"factor {k}: codes and a number of levels are needed")
            if level.shape[0] != length[k] or not _codes_are_valid(level, nlev[k]):
                raise ValueError(f"factor {k}: codes must be {length[k]} values in 0 .. {nlev[k] - 1}")
            self.nlev[k] = nlev[k]
            if level.shape[0]:
                self.at[k] = &level[0]

    def __dealloc__(self):
        free(self.at)
        free(self.nlev)


cdef object _copy(double *values, tuple shape):
    cdef Py_ssize_t n = np.prod(shape, dtype=np.intp)
    return np.array(<double[:n]>values).reshape(shape) if n else np.empty(shape)


def _level_numbers(values, most):
    """Integers 0 .. most - 1 as int32."""
    found = np.asarray(values)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise ValueError("levels must be a vector of integers")
    if len(found) and not 0 <= found.min() <= found.max() < most:
        raise ValueError(f"levels must be 0 .. {most - 1}")
    return found.astype(np.int32)


def _flat(values, tuple shape):
    out = np.array(values, np.float64, order="C")
    if out.shape != shape:
        raise ValueError(f"blocks have shape {out.shape}, not {shape}")
    return out.reshape(-1)


cdef class Cross:
    """Blocks as a model: what their columns mean in the user's coordinates.

    Parameters
    ----------
    blocks : Blocks of columns = the user's columns times C (CX: of X)
    n : int, rows in them; sumlogw : float, sum of the logarithms of their weights
    terms : list of (k,) int32, as a factor's term
    C : list of (k, k) float64; CX : (p, p) float64
    beta0 : (p,) float64, yscale : float
        y = X beta0 + yscale times the y of the blocks, X the user's.
    """

    cdef lmm_cross x
    cdef const int32_t **term
    cdef const double **C
    cdef list held
    cdef readonly list sizes
    cdef readonly int p

    def __cinit__(self, Blocks blocks not None, int64_t n, double sumlogw, list terms not None,
                  list C not None, CX, beta0, double yscale):
        cdef Py_ssize_t k, K = len(blocks.widths)
        cdef const int32_t[::1] term
        cdef const double[::1, :] matrix
        cdef const double[::1] vector
        self.term = <const int32_t **>calloc(K + 1, sizeof(int32_t *))
        self.C = <const double **>calloc(K + 1, sizeof(double *))
        if not self.term or not self.C:
            raise MemoryError()
        if not K or not K == len(terms) == len(C):
            raise ValueError(f"terms and coordinates of {K} factors are needed, at least one")
        if not all(blocks.nlev):
            raise ValueError("every factor needs levels")
        if n < 1 or not np.isfinite([sumlogw, yscale]).all() or yscale <= 0:
            raise ValueError("rows, finite weights and a positive scale are needed")
        blocks.check()
        self.p = blocks.border - 1
        self.held = [blocks]
        for k in range(K):
            term, matrix = terms[k], np.asfortranarray(C[k], np.float64)
            if not term.shape[0] == matrix.shape[0] == matrix.shape[1] == blocks.widths[k]:
                raise ValueError(f"factor {k}: terms and coordinates do not fit its columns")
            if not np.isfinite(matrix).all():
                raise ValueError(f"factor {k}: coordinates must be finite")
            self.held.append((term, matrix))
            self.term[k], self.C[k] = &term[0], &matrix[0, 0]
        matrix, vector = np.asfortranarray(CX, np.float64), np.ascontiguousarray(beta0, np.float64)
        if not vector.shape[0] == matrix.shape[0] == matrix.shape[1] == self.p:
            raise ValueError("the coordinates of X do not fit the blocks")
        if not (np.isfinite(matrix).all() and np.isfinite(vector).all()):
            raise ValueError("the coordinates of X must be finite")
        self.held.append((matrix, vector))
        self.x.blocks, self.x.n, self.x.sumlogw, self.x.yscale = blocks.b, n, sumlogw, yscale
        self.x.term, self.x.C = self.term, self.C
        self.x.CX = &matrix[0, 0] if self.p else NULL
        self.x.beta0 = &vector[0] if self.p else NULL
        self.sizes = list(zip(blocks.nlev, blocks.widths))

    def __dealloc__(self):
        free(self.term)
        free(self.C)
