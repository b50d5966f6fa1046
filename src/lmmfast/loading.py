"""Saved fits: files that hold a fit, read again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .glmm import GLMM
from .glmm_fit import GLMMFit
from .lmm import lmm_of
from .results import LMMFit
from .saved import files as _files

_KINDS = {"lmm": _files.Maker(LMMFit, lmm_of), "glmm": _files.Maker(GLMMFit, GLMM)}


def load(path: str | os.PathLike[str], *, names: Mapping[str, Any] | None = None) -> Any:
    """A fit that ``fit.save`` wrote, or ``lmmfast fit --json``.

    A file cannot do anything: nothing in it is executed, it has no pickle. What it says is checked
    before it is used.

    Parameters
    ----------
    path : str or path
    names : dict, optional
        Functions of the script that made the fit which its formula uses, and families and
        covariances of the user's own, by their names there: files hold no code.

    Returns
    -------
    LMMFit, GLMMFit or MMRMFit

    Raises
    ------
    DataError
        When it is no such file, is damaged, of a later version, or needs `names` that are not
        given.
    OSError
        When it cannot be read.

    See Also
    --------
    LMMFit.save, verify

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import lmmfast
    >>> fit = lmmfast.lmer("Yield ~ 1 + (1 | Batch)", lmmfast.datasets.load("Dyestuff"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit.save(Path(folder) / "dye.lmm")
    ...     lmmfast.load(Path(folder) / "dye.lmm").params.round(1).to_dict()
    {'Intercept': 1527.5}
    """
    return _files.load(path, names, _KINDS)
