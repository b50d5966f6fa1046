"""Saving as methods of fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, Literal

from ..fit import Fit
from ..given import PathLike
from ..typing import Ddf

if TYPE_CHECKING:
    from typing_extensions import Self
else:
    from ..late import Self


class Saved(Fit):
    """The part of a fit that writes it to files."""

    def save(
        self,
        path: PathLike | BinaryIO,
        data: bool | Literal["cross-products"] = False,
        *,
        ddf: Ddf | Sequence[Ddf] | None = None,
    ) -> None:
        """Writes the fit to a file; `lmmfast.load` reads it again.

        The file has a header in JSON and plain arrays, nothing that is executed, and its format
        has a version (docs/saved-fits.md has every key). It is written whole or not at all.

        Parameters
        ----------
        path : str, path or file
            By custom it ends in ".lmm". An existing file is replaced. A file that is open for
            bytes, ``io.BytesIO()`` for instance, is written to as it is.
        data : {False, "cross-products", True}, default False
            What to keep of the data. False: nothing of single rows. The fit predicts new rows, has
            its tables, tests, means and Wald intervals, and simulates new rows. "cross-products"
            (of models for repeated measures: sums by pattern of visits): also refitting by another
            criterion, profiles, and every test. True: the rows used,
            so that the loaded fit can all that this one can, but for data that the formula does not
            name.
        ddf : str or sequence of str, optional
            Degrees of freedom to keep what they are made of, without data: "satterthwaite",
            "kenward-roger", ... Default: the usual ones of the fit, and those that were used.

        Raises
        ------
        DataError
            When something cannot be kept, as a level that is neither number, text, truth value nor
            date.
        OSError
            When the file cannot be written; nothing half-written is left.

        See Also
        --------
        lmmfast.load : The fit of a file.
        lmmfast.verify : Whether it is that of some data.
        without_data : The same in memory.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import lmmfast
        >>> data = lmmfast.datasets.load("sleepstudy")
        >>> fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", data)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fit.save(Path(folder) / "sleep.lmm")
        ...     same = lmmfast.load(Path(folder) / "sleep.lmm")
        >>> bool((same.predict(data[:3]) == fit.predict(data[:3])).all())
        True
        """
        from .files import save

        save(self, path, data, ddf)

    def without_data(self, *, ddf: Ddf | Sequence[Ddf] | None = None) -> Self:
        """The same fit without rows and model: what a file without data has, in memory.

        Parameters
        ----------
        ddf : str or sequence of str, optional
            As for `save`.

        Returns
        -------
        The same kind of fit
            What needs rows raises a `DataError` that says so.

        Examples
        --------
        >>> import lmmfast
        >>> data = lmmfast.datasets.load("sleepstudy")
        >>> fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", data).without_data()
        >>> float(fit.predict(data[:1]).iloc[0].round(3))
        253.664
        """
        from .files import forgotten

        return forgotten(self, ddf)
