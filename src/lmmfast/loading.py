"""Saved fits: files that hold a fit, read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from .fit import Fit
from .given import PathLike
from .glmm import GLMM
from .glmm_fit import GLMMFit
from .lmm import lmm_of
from .measures import MMRM
from .mmrm_fit import MMRMFit
from .results import LMMFit
from .saved import files as _files
from .saved.verification import Verification
from .saved.verification import verify as _verify
from .typing import Data

_KINDS = {
    "lmm": _files.Maker(LMMFit, lmm_of),
    "glmm": _files.Maker(GLMMFit, GLMM),
    "mmrm": _files.Maker(MMRMFit, MMRM),
}


def load(
    path: PathLike | BinaryIO, *, names: Mapping[str, object] | None = None
) -> LMMFit | GLMMFit | MMRMFit:
    """A fit that ``fit.save`` wrote, or ``lmmfast fit --json``.

    A file cannot do anything: nothing in it is executed, it has no pickle. What it says is checked
    before it is used.

    Parameters
    ----------
    path : str, path or file
        The file, or one that is open for bytes.
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
    LMMFit.save : Writes the file.
    verify : Whether it is that of some data.

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
    found: Any = _files.load(path, names, _KINDS)
    return found  # type: ignore[no-any-return]


def verify(
    saved: PathLike | Fit, data: Data, *, names: Mapping[str, object] | None = None
) -> Verification:
    """Whether a saved fit is that of some data, and an optimum there.

    The criterion, its slope and its curvature are computed at the stored estimates from these data.

    Parameters
    ----------
    saved : str, path or fit
        What ``fit.save`` wrote, or a fit.
    data : data frame, dict of arrays, path, or source
        As for `lmer`.
    names : dict, optional
        As for `load`.

    Returns
    -------
    Verification
        True where the optimum holds and the data are the same; prints as three lines.

    Raises
    ------
    DataError
        When the file is none, or the data cannot be read as the fit's formula asks.

    See Also
    --------
    load : The fit of a file.
    LMMFit.save : Writes the file.

    Examples
    --------
    >>> import lmmfast
    >>> data = lmmfast.datasets.load("sleepstudy")
    >>> fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", data).without_data()
    >>> bool(lmmfast.verify(fit, data)), bool(lmmfast.verify(fit, data[:170]))
    (True, False)
    """
    fit = saved if isinstance(saved, Fit) else load(saved, names=names)
    return _verify(fit, data, _KINDS[_files.kind_of(fit)].model)
