"""Small data sets that every mixed-model text uses, with factors as R has them.

The numbers are facts published in the sources below; they were taken from the R packages named.

==========  ====  =================================================================================
sleepstudy   180  Belenky et al. (2003), Journal of Sleep Research 12; lme4
kb07        1790  Kronmueller & Barr (2007), Journal of Memory and Language 56; RePsychLing
Penicillin   144  Davies & Goldsmith (1972), Statistical Methods in Research and Production; lme4
Dyestuff      30  Davies & Goldsmith (1972), Statistical Methods in Research and Production; lme4
Pastes        60  Davies & Goldsmith (1972), Statistical Methods in Research and Production; lme4
cake         270  Cook (1938), in Cochran & Cox (1957), Experimental Designs; lme4
Machines      54  Milliken & Johnson (1992), Analysis of Messy Data; nlme, MEMSS
cbpp          56  Lesnoff et al. (2004), Preventive Veterinary Medicine 64; lme4
VerbAgg     7584  Vansteelandt (2000), in De Boeck & Wilson (2004), Item Response Models; lme4
==========  ====  =================================================================================

Each is a ``NAME.csv.gz`` with a ``NAME.json`` that says what its columns are: "numeric", "integer",
or a factor with its levels in R's order.
"""

from __future__ import annotations

import io
import json
from gzip import decompress
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import pandas as pd
else:
    from ..late import pandas as pd

__all__ = ["about", "load", "names"]


def names() -> list[str]:
    """Names of the data sets, in alphabetical order.

    Returns
    -------
    list of str
        What `load` and `about` take.
    """
    found = [entry.name for entry in folder().iterdir() if entry.name.endswith(".csv.gz")]
    return sorted((name.removesuffix(".csv.gz") for name in found), key=str.lower)


def about(name: str) -> str:
    """What a data set is, and where it comes from, in one line.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    str
        Description, and source in brackets.

    Raises
    ------
    DataError
        If there is no data set of that name.
    """
    facts = sidecar(name)
    return f"{facts['about']} [{facts['source']}]"


def load(name: str) -> pd.DataFrame:
    """A bundled data set as a fresh data frame, factors as categoricals.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    pandas.DataFrame
        Changes of it are of no consequence for the next one.

    Raises
    ------
    DataError
        If there is no data set of that name; the message lists those there are.

    Examples
    --------
    >>> from lmmfast import datasets
    >>> datasets.load("sleepstudy").shape
    (180, 3)
    """
    import pandas as pd

    columns = sidecar(name)["columns"]
    text = decompress((folder() / f"{name}.csv.gz").read_bytes())
    frame = pd.read_csv(io.BytesIO(text), dtype=str, keep_default_na=False, na_values=[""])
    return frame.astype({column: dtype_of(kind) for column, kind in columns.items()})


def folder() -> Traversable:
    """Where the files are: beside this one, or in the archive that the package was loaded from."""
    from importlib.resources import files

    return files(__name__)


def sidecar(name: str) -> dict[str, Any]:
    """Facts on a data set: ``about``, ``source`` and the kinds of its ``columns``."""
    known = names()
    if name not in known:
        raise DataError(f"no bundled data set {name!r}; there are {', '.join(known)}")
    facts: dict[str, Any] = json.loads((folder() / f"{name}.json").read_text("utf-8"))
    return facts


def dtype_of(kind: Any) -> Any:
    """Pandas dtype of a column that the sidecar calls "numeric", "integer", or a factor."""
    import pandas as pd

    if isinstance(kind, str):
        return {"numeric": "float64", "integer": "int64"}[kind]
    return pd.CategoricalDtype(kind["levels"], ordered=kind["ordered"])
