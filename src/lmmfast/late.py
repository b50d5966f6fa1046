"""Names that annotations need and `import lmmfast` does not: other packages' types, above all.

Annotations are text; `typing.get_type_hints` reads them with the names of their module. Importing
pandas for these alone would make every start of Python slower.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any, ForwardRef

if sys.version_info >= (3, 11):
    from typing import Self, Unpack
else:  # checkers read typing_extensions, which nobody needs to have
    Self = Any

    class Unpack:
        """``Unpack[Options]`` of Python 3.10: anything."""

        def __class_getitem__(cls, options: Any) -> Any:
            return Any


__all__ = ["Late", "Marginal", "Self", "TermTests", "Unpack", "axes", "name", "narwhals"]
__all__ += ["pandas", "polars", "pyarrow"]


class Late:
    """A module that is imported when something of it is asked for.

    >>> Late("decimal").Decimal
    <class 'decimal.Decimal'>
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        """What the module has; Any where it is not installed: there are no such objects then."""
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            module = importlib.import_module(self._name)
        except ImportError:
            return Any
        return getattr(module, name)


axes = Late("matplotlib.axes")
narwhals = Late("narwhals.stable.v2.typing")
pandas = Late("pandas")
polars = Late("polars")
pyarrow = Late("pyarrow")


def name(path: str) -> Any:
    """What stands for a class of one of these modules in the definition of another type."""
    return Annotated[ForwardRef(path, module=__name__), "late"]  # it can be in a union


# classes of this package whose modules take others
_marginal = Late("lmmfast.inference.means.marginal")
_termwise = Late("lmmfast.sm.termwise")
Marginal, TermTests = name("_marginal.Marginal"), name("_termwise.TermTests")
