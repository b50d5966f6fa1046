"""The C interface: where its headers are. Cython programs take its names from ``lmmfast.capi``."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """Folder of the headers of the C interface, for the compiler's ``-I``.

    ``lmmfast.h`` is what extension modules in C, C++ and Cython include; ``lmm.h``, which it
    includes, says what every function does. Cython takes the same names by
    ``from lmmfast.capi cimport lmmfast_import, lmm_setup, lmm_fit``.

    Returns
    -------
    str

    See Also
    --------
    lmmfast.LMM : The same models from arrays of Python.

    Examples
    --------
    >>> from pathlib import Path
    >>> import lmmfast
    >>> (Path(lmmfast.get_include()) / "lmmfast.h").exists()
    True
    """
    here = Path(__file__).resolve().parent
    installed = here / "include"
    return str(installed if installed.is_dir() else here.parent / "_ext")  # else: a source tree
