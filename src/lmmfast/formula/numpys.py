"""NumPy's functions that formulas may call as `np.log(x)`: of arrays, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coerce import number, numbers, texts
from .column import Column
from .function import Function, Rows, Wrong
from .numeric import NUMERIC
from .operators import MOST_ENTRIES, among
from .values import Matrix, length, plain, whole

_ELEMENTWISE = (
    "abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh around asarray "
    "array cbrt ceil clip column_stack cos cosh deg2rad degrees divide equal exp exp2 "
    "expm1 fabs fix float_power floor floor_divide fmax fmin fmod full_like "
    "greater greater_equal heaviside hypot isclose isfinite isinf isnan less "
    "less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or "
    "logical_xor maximum minimum mod multiply nan_to_num negative not_equal ones_like "
    "positive power rad2deg radians reciprocal remainder rint round select sign sin sinc sinh "
    "sqrt square subtract tan tanh true_divide trunc where zeros_like float64 bool_ int64"
)
_BY_CONSTANTS = ("digitize", "interp", "isin")  # elementwise where all but the first are constants
_SUMMARIES = (
    "all amax amin any average count_nonzero max mean median min nanmax nanmean nanmedian nanmin "
    "nanpercentile nanprod nanquantile nanstd nansum nanvar percentile prod ptp quantile std sum "
    "unique var"
)
_OF_ALL_ROWS = (
    "argsort concatenate cumprod cumsum diff dot flip gradient nancumprod nancumsum roll "
    "searchsorted sort hstack"
)
_CONSTANTS = {"e": np.e, "inf": np.inf, "nan": np.nan, "pi": np.pi, "newaxis": None}


def _plain_argument(value: Any) -> Any:
    """An argument as NumPy takes it."""
    if isinstance(value, Column):
        return texts(value)
    if isinstance(value, Matrix):
        return value.values
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        return value.astype(np.float64)
    if isinstance(value, (list, tuple)):
        return [_plain_argument(entry) for entry in value]
    return plain(value)


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Any, **options: Any) -> Any:
        own = [_plain_argument(value) for value in values]
        named = {name: _plain_argument(value) for name, value in options.items()}
        try:
            return _found(function(*own, **named))
        except TypeError:
            named = {name: whole(value) for name, value in named.items()}
            return _found(function(*map(whole, own), **named))

    return call


def _found(value: Any) -> Any:
    """What NumPy gives, as a value of formulas."""
    if isinstance(value, tuple):
        raise Wrong("it gives several arrays")
    return Matrix(value) if isinstance(value, np.ndarray) and value.ndim == 2 else value


def joined_columns(values: list[Any]) -> Matrix:
    """np.c_[a, b]: columns side by side."""
    parts = [value.values if isinstance(value, Matrix) else numbers(value) for value in values]
    return Matrix(np.column_stack(parts), tuple(str(j) for j in range(len(parts))))


def _bounded(count: float) -> int:
    if not 0 <= count <= MOST_ENTRIES:
        raise Wrong(f"it would have more than {MOST_ENTRIES} entries")
    return int(count)


def _arange(start: Any, stop: Any = None, step: Any = 1) -> NDArray[np.float64]:
    first = 0.0 if stop is None else number(start, "start")
    last, by = number(start if stop is None else stop, "stop"), number(step, "step")
    count = np.ceil((last - first) / by) if by else np.inf
    return np.asarray(first + by * np.arange(_bounded(max(count, 0))), dtype=np.float64)


def _linspace(start: Any, stop: Any, num: Any = 50) -> NDArray[np.float64]:
    count = _bounded(number(num, "num"))
    return np.linspace(number(start, "start"), number(stop, "stop"), count)


def _filled(value: float) -> Callable[..., NDArray[np.float64]]:
    return lambda shape: np.full(_bounded(number(shape, "the number of entries")), value)


def _isin(x: Any, table: Any) -> Any:
    return among(x, table)


class _Numpys(Function):
    """A NumPy function: its arguments are its own, by their exact names."""

    def __call__(self, values: Any, named: dict[str, Any], state: Any = None) -> Any:
        try:
            return self.run(*values, **named)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise error if isinstance(error, Wrong) else Wrong(str(error)) from None


class _Summary(_Numpys):
    """A NumPy function of all training rows, remembered for new data: np.mean(x), np.quantile().

    What has a value for each row, as ``np.mean(M, axis=1)``, is computed anew.
    """

    def __call__(self, values: Any, named: dict[str, Any], state: Any = None) -> Any:
        state = {} if state is None else state
        if "value" in state:
            return state["value"]
        found = super().__call__(values, named)
        first = next(iter([*values, *named.values()]), 0)
        rows = len(first.values) if isinstance(first, Matrix) else length(first)
        if np.ndim(found) == 0 or length(found) != rows:
            state["value"] = found
        return found


def _table() -> dict[str, Function]:
    made: dict[str, Function] = {}
    kinds: tuple[tuple[str, Rows, type[_Numpys]], ...] = (
        (_ELEMENTWISE, "each", _Numpys),
        (_SUMMARIES, "learns", _Summary),
        (_OF_ALL_ROWS, "all", _Numpys),
    )
    for names, rows, function in kinds:
        for name in names.split():
            if hasattr(np, name):  # the oldest and newest versions have other sets
                made[name] = function(_called(getattr(np, name)), rows)
    for name in _BY_CONSTANTS:
        made[name] = _Numpys(_called(getattr(np, name)))
    made["isin"] = _Numpys(_isin)
    made["repeat"] = made["tile"] = _Numpys(NUMERIC["rep"].run, "all")
    made |= {"arange": _Numpys(_arange), "linspace": _Numpys(_linspace)}
    made |= {"ones": _Numpys(_filled(1.0)), "zeros": _Numpys(_filled(0.0))}
    return made


def _in_modules(table: dict[str, Any]) -> dict[str, Any]:
    return {f"{module}.{name}": own for name, own in table.items() for module in ("np", "numpy")}


NUMPYS: dict[str, Function] = _in_modules(_table())
NUMPY_CONSTANTS = _in_modules(_CONSTANTS)
