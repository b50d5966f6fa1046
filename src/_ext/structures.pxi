# Included by _core.pyx. Covariance structures: Sigma(phi), its derivatives, where fits begin.


KINDS = {LMM_DEVIATION: "deviation", LMM_ANGLE: "angle", LMM_LOGARITHM: "logarithm"}


cdef class _Structure:
    """Sigma(phi) of p columns, its derivatives and its root: what structures/structure.h says.

    Attributes
    ----------
    name : str
    p, nphi : int, the order of Sigma, and its parameters
    nbound : int, the first of them are >= 0
    kinds : tuple of str, "deviation", "angle" or "logarithm", of every parameter
    rows : tuple of int, the column in whose units a deviation is; None of other kinds
    """

    cdef lmm_structure *structure
    cdef readonly str name

    @property
    def p(self):
        return self.structure.p

    @property
    def nphi(self):
        return self.structure.nphi

    @property
    def nbound(self):
        return self.structure.nbound

    @property
    def kinds(self):
        return tuple(KINDS[self.structure.kind[i]] for i in range(self.structure.nphi))

    @property
    def rows(self):
        return tuple(self.structure.row[i] if self.structure.kind[i] == LMM_DEVIATION else None
                     for i in range(self.structure.nphi))

    cdef double[::1] scratch(self):
        return np.empty(max(self.structure.work, 1))

    cdef const double[::1] checked(self, phi):
        cdef const double[::1] values = np.ascontiguousarray(phi, np.float64)
        _check_theta(values, self.structure.nphi, "phi")
        return values

    cdef const double[::1, :] square(self, values, str name):
        """A symmetric matrix (p, p)."""
        found = np.asfortranarray(values, np.float64)
        if found.shape != (self.p, self.p):
            raise ValueError(f"{name} needs shape {(self.p, self.p)}, not {found.shape}")
        if not np.isfinite(found).all():
            raise ValueError(f"{name} has values that are not finite")
        return found

    cdef raised(self):
        """Raises what was raised inside of the core."""

    cdef mapped(self, phi, bint derivatives):
        """(root, dSigma or None)"""
        cdef const double[::1] at = self.checked(phi)
        cdef double[::1] work = self.scratch()
        cdef double[::1, :] root = np.empty((self.p, self.p), order="F")
        cdef double[:, :, ::1] slopes
        cdef double *out = NULL
        cdef int failed
        if derivatives:
            slopes = np.empty((self.nphi, self.p, self.p))  # symmetric blocks
            if self.nphi:
                out = &slopes[0, 0, 0]
        with nogil:
            failed = self.structure.map(self.structure, &at[0], &root[0, 0], out, &work[0])
        self.raised()
        if failed:
            raise NotPositiveDefinite(f"{self.name}: there is no covariance at these parameters")
        return np.asarray(root), np.asarray(slopes) if derivatives else None

    def root(self, phi):
        """(p, p) array L with L L' = Sigma."""
        return self.mapped(phi, False)[0]

    def sigma(self, phi):
        """Sigma (p, p)."""
        L = self.mapped(phi, False)[0]
        return L @ L.T

    def derivatives(self, phi):
        """dSigma / dphi_i, (nphi, p, p)."""
        return self.mapped(phi, True)[1]

    def bend(self, phi, S):
        """tr(S d2Sigma / dphi_i dphi_j), (nphi, nphi), S symmetric (p, p)."""
        cdef const double[::1] at = self.checked(phi)
        cdef const double[::1, :] weight = self.square(S, "S")
        cdef double[::1] work = self.scratch()
        cdef double[:, ::1] H = np.zeros((self.nphi, self.nphi))
        with nogil:
            self.structure.bend(self.structure, &at[0], &weight[0, 0], &H[0, 0], &work[0])
        self.raised()
        return np.asarray(H)

    def nearest(self, Sigma):
        """phi (nphi,) whose covariance is near Sigma (p, p), inside of all boundaries."""
        cdef const double[::1, :] target = self.square(Sigma, "Sigma")
        cdef double[::1] work = self.scratch()
        cdef double[::1] phi = np.empty(self.nphi)
        with nogil:
            self.structure.nearest(self.structure, &target[0, 0], &phi[0], &work[0])
        self.raised()
        return np.asarray(phi)

    def trials(self, phi, S, unit=None):
        """Other parameters that lower tr(S Sigma), where slopes say nothing: list of (nphi,).

        unit (p,): standard deviations of columns that are of a middling size; default ones.
        """
        cdef const double[::1] at = self.checked(phi), units
        cdef const double[::1, :] slope = self.square(S, "S")
        cdef double[::1] work = self.scratch(), to
        cdef const double *size = NULL
        cdef int which = 0, found = self.structure.trial != NULL
        if unit is not None:
            units = np.ascontiguousarray(unit, np.float64)
            _check_theta(units, self.p, "unit")
            size = &units[0]
        trials = []
        while found:
            to = np.empty(self.nphi)
            with nogil:
                found = self.structure.trial(self.structure, &at[0], &slope[0, 0], size, which, &to[0],
                                             &work[0])
            if found:
                trials.append(np.asarray(to))
            which += 1
        return trials


cdef class Structure(_Structure):
    """A structure that the core has.

    Parameters
    ----------
    name : str
        us, diag, homdiag, cs, homcs, ar1, hetar1, toep, homtoep, ad, homad, exp, gau, mat32, mat52 or rr
    p : int
    coordinates : (p,) or (p, dimension) array, of exp, gau, mat32 and mat52
    rank : int, of rr: columns of its root
    """

    cdef object coordinates
    cdef int rank

    def __cinit__(self, str name not None, int p, coordinates=None, int rank=0):
        cdef lmm_structure_spec spec
        cdef int known = 0
        cdef const double[:, ::1] places
        cdef bytes encoded = name.encode()
        self.name, self.rank, self.coordinates = name, rank, None
        spec.name, spec.p, spec.rank = encoded, p, rank
        spec.dimension, spec.coordinates = 0, NULL
        if coordinates is not None:
            found = np.array(coordinates, np.float64, ndmin=1)
            found = np.ascontiguousarray(found.reshape(len(found), -1))
            if found.shape[0] != p or not found.shape[1] or not np.isfinite(found).all():
                raise ValueError(f"coordinates need {p} finite rows, not shape {found.shape}")
            self.coordinates = places = found
            spec.dimension, spec.coordinates = <int32_t>found.shape[1], &places[0, 0]
        self.structure = lmm_structure_new(&spec, &known)
        if not known:
            raise ValueError(f"there is no structure {name!r} of {p} columns, rank {rank} and "
                             f"coordinates in {spec.dimension} dimensions")
        if self.structure == NULL:
            raise MemoryError()

    def __dealloc__(self):
        lmm_structure_free(self.structure)

    def __reduce__(self):
        places = None if self.coordinates is None else np.asarray(self.coordinates)
        return Structure, (self.name, self.p, places, self.rank)


cdef class OwnStructure(_Structure):
    """A structure in Python.

    Parameters
    ----------
    p, nphi : int
    function : of phi (nphi,): Sigma (p, p), dSigma (nphi, p, p), d2Sigma (nphi, nphi, p, p); or, of each of
        them, a function without arguments that gives it when it is needed
    nbound : int
    kinds : sequence of str, default "angle" of all parameters, that is: without units
    rows : sequence of int, the column in whose units a deviation is; default the first
    start : (nphi,) array, where fits begin; default zeros
    """

    cdef lmm_structure own
    cdef object function, error, start
    cdef uint8_t[::1] kind
    cdef int32_t[::1] row

    def __cinit__(self, int p, int nphi, function, int nbound=0, kinds=None, rows=None, start=None):
        numbers = {name: number for number, name in KINDS.items()}
        kinds = ["angle"] * nphi if kinds is None else list(kinds)
        rows = [0] * nphi if rows is None else [0 if row is None else row for row in rows]
        start = np.zeros(nphi) if start is None else np.array(start, np.float64)
        if p < 1 or nphi < 1 or not 0 <= nbound <= nphi:
            raise ValueError("a structure needs columns, parameters, and bounds of parameters that it has")
        if len(kinds) != nphi or len(rows) != nphi or start.shape != (nphi,):
            raise ValueError(f"kinds, rows and start need {nphi} values")
        if not all(0 <= row < p for row in rows) or not set(kinds) <= set(numbers):
            raise ValueError(f"kinds are {', '.join(numbers)}, and rows are 0 .. {p - 1}")
        self.name, self.function, self.start = "own", function, start
        self.kind = np.array([numbers[name] for name in kinds], np.uint8)
        self.row = np.array(rows, np.int32)
        self.own.p, self.own.nphi, self.own.nbound = p, nphi, nbound
        self.own.kind, self.own.row = &self.kind[0], &self.row[0]
        self.own.work = 3 * <ptrdiff_t>p
        self.own.map, self.own.bend, self.own.nearest, self.own.trial = own_map, own_bend, own_nearest, NULL
        self.own.table = <void *>self
        self.structure = &self.own

    cdef raised(self):
        error, self.error = self.error, None
        if error is not None:
            raise error

    cdef jet(self, const double *phi, int order):
        """Sigma or one of its derivatives as an array, checked."""
        cdef int p = self.own.p, n = self.own.nphi
        given = self.function(_copied(phi, n))[order]
        found = np.ascontiguousarray(given() if callable(given) else given, np.float64)
        shape = (n,) * order + (p, p)
        if found.shape != shape:
            name = ("Sigma", "dSigma", "d2Sigma")[order]
            raise ValueError(f"{name} needs shape {shape}, not {found.shape}")
        return found

    cdef int fill(self, const double *phi, double *root, double *dSigma, double *work) except -1:
        cdef int p = self.own.p, n = self.own.nphi
        cdef const double[:, ::1] sigma
        cdef const double[:, :, ::1] slopes
        found = self.jet(phi, 0)
        sigma = (found + found.T) / 2
        if dSigma != NULL:
            found = self.jet(phi, 1)
            slopes = (found + found.swapaxes(1, 2)) / 2
            memcpy(dSigma, &slopes[0, 0, 0], sizeof(double) * <size_t>n * <size_t>p * <size_t>p)
        return lmm_semidefinite_root(p, &sigma[0, 0], root, work)

    cdef int add(self, const double *phi, const double *S, double *H) except -1:
        cdef int p = self.own.p, n = self.own.nphi, i
        cdef const double[::1] sums
        weight = np.asarray(<double[:p * p]><double *>S).reshape(p, p)
        sums = np.ascontiguousarray(np.einsum("ijab,ab->ij", self.jet(phi, 2), weight).ravel())
        for i in range(n * n):
            H[i] += sums[i]
        return 0

    def __reduce__(self):
        return OwnStructure, (self.p, self.nphi, self.function, self.nbound, list(self.kinds),
                              np.asarray(self.row).tolist(), self.start)


cdef int own_map(const lmm_structure *s, const double *phi, double *root, double *dSigma,
                 double *work) noexcept with gil:
    cdef OwnStructure own = <OwnStructure>s.table
    if own.error is None:
        try:
            return own.fill(phi, root, dSigma, work)
        except BaseException as error:
            own.error = error
    return 1


cdef void own_bend(const lmm_structure *s, const double *phi, const double *S, double *H,
                   double *work) noexcept with gil:
    cdef OwnStructure own = <OwnStructure>s.table
    if own.error is None:
        try:
            own.add(phi, S, H)
        except BaseException as error:
            own.error = error


cdef void own_nearest(const lmm_structure *s, const double *Sigma, double *phi,
                      double *work) noexcept with gil:
    cdef OwnStructure own = <OwnStructure>s.table
    for i in range(own.own.nphi):
        phi[i] = own.start[i]
