# Included by _core.pyx. BLAS on one thread while the core runs.


@cython.no_gc_clear
cdef class OneThread:
    """A use of BLAS on one thread, `with OneThread(control()):`.

    Compiled, so that no interrupt falls between its own lines and no traceback keeps it alive: where
    one falls into what it calls, the use ends with this object.
    """

    cdef object control, mark, __weakref__
    cdef bint begun  # and not ended

    def __cinit__(self, counter):
        self.control, self.mark = counter, weakref.ref(self)

    def __enter__(self):
        if self.control is None:
            return
        self.begun = True
        lock = self.control.lock
        lock.acquire()
        try:
            self.control.begin(self.mark)
        finally:
            lock.release()

    def __exit__(self, *error):
        if not self.begun:
            return
        try:
            PyErr_CheckSignals()  # those that came during a long call
        finally:
            self.end()

    def __dealloc__(self):  # not __del__, which classes of the limited API do not have
        if self.begun:
            self.end()

    cdef end(self):
        lock = self.control.lock
        lock.acquire()
        try:
            self.control.end(self.mark)
            self.begun = False
        finally:
            lock.release()


cdef OneThread single_threaded_blas():
    return OneThread(CONTROL)
