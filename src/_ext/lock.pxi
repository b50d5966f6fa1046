# Included by _core.pyx. One thread at a time.


class _Lock:
    """A lock that tells a callback which uses its own model, instead of waiting for ever."""

    def __init__(self):
        self.lock = threading.Lock()
        self.owner = None

    def __enter__(self):
        if self.owner == threading.get_ident():
            raise RuntimeError("the model is being fitted: its callback cannot use it")
        self.lock.acquire()
        self.owner = threading.get_ident()

    def __exit__(self, *error):
        self.owner = None
        self.lock.release()
