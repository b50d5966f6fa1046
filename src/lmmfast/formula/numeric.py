"""Functions of numbers: elementary ones, summaries that are remembered, rounding, choosing."""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coerce import aligned, as_factor, number, numbers, reals, texts, truths
from .column import Column, Text, objects
from .function import Function, State, Wrong, each, learns, of_all, once
from .operators import MOST_ENTRIES, among, sequence
from .values import Matrix, Named, flags, is_textual, length, plain

CONSTANTS: dict[str, Any] = {
    "T": True,
    "F": False,
    "pi": math.pi,
    "nan": math.nan,
    "inf": math.inf,
    "LETTERS": objects([*string.ascii_uppercase]),
    "letters": objects([*string.ascii_lowercase]),
}


def mapped(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """A function of numbers, entry by entry."""

    def apply(x: Any) -> Any:
        found = reals(x, what)
        if isinstance(found, Matrix):
            return Matrix(function(found.values), found.names)
        return function(found)

    return apply


def _log(x: Any, base: Any = None) -> Any:
    natural = mapped(np.log, "log()")(x)
    if base is None:
        return natural
    scale = mapped(np.log, "log()")(base)
    if isinstance(natural, Matrix):
        return Matrix(natural.values / number(scale, "the base of log()"), natural.names)
    return np.divide(*aligned(natural, scale))


def _round(x: Any, digits: Any = 0) -> Any:
    power = 10.0 ** np.clip(np.trunc(number(digits, "digits")), -300, 300)

    def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """To the nearer of the two decimals around it, the even one where both are as near."""
        scaled = values * power
        low, high = np.floor(scaled), np.ceil(scaled)
        below, above = abs(values - low / power), abs(high / power - values)
        up = (above < below) | ((above == below) & (low % 2 == 1))
        return np.where(np.isfinite(scaled), np.where(up, high, low) / power, values)

    return mapped(rounded, "round()")(x)


def _signif(x: Any, digits: Any = 6) -> Any:
    count = int(np.clip(number(digits, "digits"), 1, 22))

    def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
        power = 10.0 ** (count - 1 - np.floor(np.log10(abs(values))))
        made = np.rint(values * power) / power
        return np.where(np.isfinite(made), made, values)

    return mapped(rounded, "signif()")(x)


def _extreme(function: Any, present: Any) -> Callable[..., Any]:
    """pmin, pmax; `present` is used where missing values are to be passed over."""

    def apply(*values: Any, na_rm: Any = False) -> Any:
        if not values:
            raise Wrong("it needs values")
        result = reals(values[0])
        for value in values[1:]:
            result = (present if na_rm else function)(*aligned(result, reals(value)))
        return result

    return apply


def _ifelse(test: Any, yes: Any, no: Any) -> Any:
    """yes where the test is true, no where it is false, missing where it is missing."""
    condition = np.atleast_1d(truths(test, "the test of ifelse()"))
    missing = np.isnan(condition) if condition.dtype.kind == "f" else np.zeros(len(condition), bool)
    chosen = condition == 1
    if _is_text(yes) or _is_text(no):
        one, two = (_stretched(texts(v), len(condition)) for v in (yes, no))
        picked = np.where(chosen, one, two)
        picked[missing] = None
        return picked
    one, two = (_stretched(_codes(v), len(condition)) for v in (yes, no))
    logical = all(np.asarray(v).dtype.kind == "b" for v in (yes, no))
    picked = np.where(missing, np.nan, np.where(chosen, one, two))
    return flags(picked == 1, np.isnan(picked)) if logical else picked


def _replace(x: Any, list: Any, values: Any) -> Any:
    """replace(x, x < 0, 0): other values where a condition holds."""
    condition = np.asarray(truths(list, "the second argument of replace()"))
    if length(list) != length(x):
        raise Wrong("the second argument is a condition, one for each row, as in x < 0")
    return _ifelse(np.where(np.isnan(condition), False, condition) == 1, values, x)


def _is_text(value: Any) -> bool:
    return isinstance(value, Text) or (is_textual(value) and not isinstance(value, Column))


def _codes(value: Any) -> NDArray[np.float64]:
    """Numbers; of a factor the numbers of its levels, as R's ifelse() takes them."""
    if isinstance(value, Column):
        return np.where(value.codes < 0, np.nan, value.codes + 1.0)
    return numbers(value)


def _stretched(values: NDArray[Any], n: int) -> NDArray[Any]:
    if len(values) not in (1, n):
        raise Wrong(f"{len(values)} values do not fit a test of {n}")
    return np.broadcast_to(values, (n,))


def _is_na(x: Any) -> Any:
    if isinstance(x, Column):
        return x.codes < 0
    if is_textual(x):
        return np.array([entry is None for entry in texts(x).tolist()])
    array = np.asarray(x.values if isinstance(x, Matrix) else x)
    return np.isnat(array) if array.dtype.kind == "M" else np.isnan(reals(array))


# ---- summaries ----------------------------------------------------------------------------------


def _total(function: Callable[[NDArray[np.float64]], Any], what: str, x: Any, na_rm: Any) -> Any:
    """A number of all values at hand."""
    if not x:
        raise Wrong("it needs values")
    values = np.concatenate([numbers(value, what) for value in x])
    if na_rm:
        values = values[~np.isnan(values)]
    return np.float64(function(values)) if len(values) else np.float64(np.nan)


def _summary(function: Callable[[NDArray[np.float64]], Any], what: str) -> Function:
    def summary(*x: Any, na_rm: Any = False) -> Any:
        return _total(function, what, x, na_rm)

    return once(summary)


def _of_truths(function: Any) -> Function:
    """any(), all()."""

    def summary(*x: Any, na_rm: Any = False) -> Any:
        values = np.concatenate([numbers(value) for value in x]) if x else np.zeros(0)
        return bool(function(values[~np.isnan(values)] != 0))

    return once(summary)


def _mean(*x: Any, trim: Any = 0, na_rm: Any = False) -> Any:
    """The mean, or that of what is left when a share is cut off at both ends."""
    share = number(trim, "trim")

    def trimmed(values: NDArray[np.float64]) -> Any:
        cut = int(len(values) * min(max(share, 0), 0.5))
        if share >= 0.5:
            return np.median(values)
        return np.mean(np.sort(values)[cut : len(values) - cut] if cut else values)

    return _total(trimmed, "mean()", x, na_rm)


def _sample(function: Any) -> Callable[[NDArray[np.float64]], Any]:
    """sd(), var(): n - 1 divides."""
    return lambda x: function(x, ddof=1) if len(x) > 1 else np.nan


def _quantile(
    x: Any, probs: Any = None, na_rm: Any = False, names: Any = True, type: Any = 7
) -> Any:
    """R's quantile(), types 1 to 9 (Hyndman and Fan 1996)."""
    kind = int(number(type, "type"))
    if kind not in _QUANTILES:
        raise Wrong("the type of a quantile is 1 to 9")
    wanted = np.linspace(0, 1, 5) if probs is None else numbers(probs, "probs")
    if len(wanted) > 10_000 or not ((wanted >= 0) & (wanted <= 1)).all():
        raise Wrong("probs must be between 0 and 1")
    values = numbers(x, "quantile()")
    values = values[~np.isnan(values)] if na_rm else values
    return np.quantile(values, wanted, method=_QUANTILES[kind])


_METHODS = "inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf hazen"
_METHODS += " weibull linear median_unbiased normal_unbiased"
_QUANTILES: dict[int, Any] = dict(enumerate(_METHODS.split(), start=1))


# ---- vectors ------------------------------------------------------------------------------------


def _combine(*values: Any, **named: Any) -> Any:
    """c(): texts if any is text, else numbers; logicals stay so; c(a = 1, b = 2) has names."""
    if named:
        if values or any(length(value) != 1 for value in named.values()):
            raise Wrong("either all entries have a name, or none")
        vector = np.atleast_1d(_combine(*named.values())).view(Named)
        vector.names = tuple(named)
        return vector
    own = [value for value in (plain(v) for v in values) if value is not None]
    if not own:
        return None
    if len(own) == 1 and isinstance(own[0], Column):
        return own[0]
    if all(isinstance(value, Column) and not _is_text(value) for value in own):
        return as_factor(np.concatenate([texts(value) for value in own]))
    if any(is_textual(value) for value in own):
        return np.concatenate([texts(value) for value in own])
    arrays = [np.atleast_1d(np.asarray(v.values if isinstance(v, Matrix) else v)) for v in own]
    kinds = {array.dtype.kind for array in arrays}
    if kinds == {"b"} or "M" in kinds:
        return np.concatenate(arrays)
    return np.concatenate([numbers(value) for value in own])


def _vector(x: Any, mode: Any = "any") -> Any:
    """as.vector(): without dimensions; a factor as texts."""
    if isinstance(x, Matrix):
        return numbers(x)
    return texts(x) if isinstance(x, Column) and not _is_text(x) else x


def _rep(x: Any, times: Any = 1, each: Any = 1, length_out: Any = None) -> Any:
    values = np.atleast_1d(texts(x) if is_textual(x) else np.asarray(x))
    many, repeats = numbers(times, "times"), int(number(each, "each"))
    total = len(values) * repeats * (many.sum() if len(many) == 1 else 1)
    asked = 0 if length_out is None else number(length_out, "it")
    if not max(total, many.sum(), asked) < MOST_ENTRIES:
        raise Wrong(f"it would have more than {MOST_ENTRIES} entries")
    values = np.repeat(values, repeats)
    if length_out is not None:
        return np.resize(values, int(number(length_out, "length.out")))
    if len(many) == 1:
        return np.tile(values, int(many[0]))
    if len(many) != len(values):
        raise Wrong("times must be one number, or one for each entry")
    return np.repeat(values, many.astype(int))


def _seq(from_: Any = 1, to: Any = None, by: Any = None, length_out: Any = None) -> Any:
    begin = number(from_, "the start of seq()")
    if to is None:
        return sequence(1, begin)
    end = number(to, "the end of seq()")
    if length_out is not None:
        count = number(length_out, "length.out")
        if not 0 <= count < MOST_ENTRIES:
            raise Wrong(f"length.out must be between 0 and {MOST_ENTRIES}")
        return np.linspace(begin, end, int(count))
    step = 1.0 if by is None else number(by, "by")
    count = (end - begin) / step if step else math.inf
    if not 0 <= count < MOST_ENTRIES:
        raise Wrong("the step of seq() leads nowhere, or has too many entries")
    return begin + step * np.arange(int(count + 1e-10) + 1)


def _entries(x: Any) -> NDArray[Any]:
    if not isinstance(x, Matrix):
        raise Wrong("it needs a matrix, as of cbind()")
    return x.values


_TIES = {"average": "average", "min": "min", "max": "max", "first": "ordinal"}


def _rank(x: Any, ties_method: Any = "average") -> Any:
    """Ranks; missing values are last."""
    from scipy.stats import rankdata

    if ties_method not in _TIES:
        raise Wrong(f"ties.method is one of {', '.join(_TIES)}")
    values = numbers(x)
    missing = np.isnan(values)
    ranks = np.empty(len(values))
    ranks[~missing] = rankdata(values[~missing], method=_TIES[ties_method])
    ranks[missing] = np.arange((~missing).sum(), len(values)) + 1
    return ranks


def _average(x: Any, *groups: Any, FUN: Any = None, state: State) -> Any:
    """ave(): the mean of each group, as numbers for its rows; remembered by group."""
    if FUN is not None and getattr(FUN, "run", FUN) is not NUMERIC["mean"].run:
        raise Wrong("the function of ave() is the mean")
    values = numbers(x, "ave()")
    labels = [texts(group).tolist() for group in groups] or [[""] * len(values)]
    keys = list(zip(*labels, strict=True))
    if len(keys) != len(values):
        raise Wrong(f"{len(keys)} groups for {len(values)} values")
    if "means" not in state:
        sums: dict[Any, list[float]] = {}
        for key, value in zip(keys, values.tolist(), strict=True):
            sums.setdefault(key, []).append(value)
        state["means"] = {key: float(np.mean(own)) for key, own in sums.items()}
    known: dict[Any, float] = state["means"]
    return np.array([known.get(key, math.nan) for key in keys])


def _unique(x: Any) -> Any:
    own = texts(x) if is_textual(x) else numbers(x)
    return np.array(list(dict.fromkeys(own.tolist())))


def bound(parts: list[Any], names: list[str]) -> Matrix:
    """cbind(): columns side by side; one value fills its column."""
    arrays = [p.values if isinstance(p, Matrix) else numbers(p, "cbind()")[:, None] for p in parts]
    if not arrays:
        raise Wrong("cbind() needs columns")
    rows = max(len(array) for array in arrays)
    if any(len(array) not in (1, rows) for array in arrays):
        raise Wrong("its columns have different lengths")
    values = np.hstack([np.broadcast_to(array, (rows, array.shape[1])) for array in arrays])
    return Matrix(values, _bound_names(parts, names))


def _bound_names(parts: list[Any], names: list[str]) -> tuple[str, ...]:
    """Names of bound columns: given ones, those of matrices, else their number; each once."""
    found: list[str] = []
    for part, name in zip(parts, names, strict=True):
        if isinstance(part, Matrix):
            own = part.names or tuple("" for _ in range(part.values.shape[1]))
            found += [name + each if name and each else name or each for each in own]
        else:
            found.append(name)
    if not any(found):
        return ()
    named = [name or str(j + 1) for j, name in enumerate(found)]
    again = [name in named[:j] for j, name in enumerate(named)]  # columns are known by their names
    return tuple(
        f"{own}.{j + 1}" if twice else own
        for j, (own, twice) in enumerate(zip(named, again, strict=True))
    )


def _matrix(
    data: Any, nrow: Any = None, ncol: Any = None, byrow: Any = False, dimnames: Any = None
) -> Matrix:
    values = numbers(data, "matrix()")
    total = max(len(values), 1)
    rows = None if nrow is None else int(number(nrow, "nrow"))
    columns = None if ncol is None else int(number(ncol, "ncol"))
    if rows is None:
        rows = total if columns is None else -(-total // columns)
    if columns is None:
        columns = -(-total // rows)
    if not 0 < rows * columns <= MOST_ENTRIES or (rows * columns) % total:
        raise Wrong(f"{total} values do not fill {rows} rows and {columns} columns")
    filled = np.resize(values, rows * columns)
    return Matrix(filled.reshape((rows, columns), order="C" if byrow else "F"))


def _over_rows(function: Any) -> Callable[..., Any]:
    def apply(x: Any, na_rm: Any = False) -> Any:
        values = _entries(x)
        return function[1 if na_rm else 0](values, axis=1)

    return apply


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: function(numbers(x))


def _special(name: str) -> Callable[..., Any]:
    """A function of scipy.special."""

    def apply(*values: Any) -> Any:
        import scipy.special

        return getattr(scipy.special, name)(*map(numbers, values))

    return apply


def _normal(function: str) -> Callable[..., Any]:
    def apply(x: Any, mean: Any = 0, sd: Any = 1) -> Any:
        from scipy.stats import norm

        return getattr(norm, function)(numbers(x), number(mean, "mean"), number(sd, "sd"))

    return apply


def _rev(x: Any) -> Any:
    return (texts(x) if is_textual(x) else np.atleast_1d(np.asarray(x)))[::-1]


def _between(x: Any, left: Any, right: Any) -> Any:
    values = numbers(x)
    return flags((values >= numbers(left)) & (values <= numbers(right)), np.isnan(values))


_NUMPYS: dict[str, Callable[..., Any]] = {
    "ceiling": np.ceil, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sinpi": lambda x: np.sin(np.pi * x), "cospi": lambda x: np.cos(np.pi * x),
    "plogis": lambda x: 1 / (1 + np.exp(-x)), "qlogis": lambda x: np.log(x / (1 - x)),
}  # fmt: skip
_SUMMARIES: dict[str, Callable[..., Any]] = {
    "median": np.median, "min": np.min, "max": np.max, "sum": np.sum, "prod": np.prod,
    "sd": _sample(np.std), "var": _sample(np.var),
    "mad": lambda x: 1.4826 * np.median(np.abs(x - np.median(x))),
    "IQR": lambda x: np.subtract(*np.quantile(x, [0.75, 0.25])),
}  # fmt: skip
_CUMULATIVE: dict[str, Callable[..., Any]] = {
    "cumsum": np.cumsum, "cumprod": np.cumprod, "sort": np.sort, "diff": np.diff,
    "cummax": np.maximum.accumulate, "cummin": np.minimum.accumulate,
}  # fmt: skip
_SPECIAL = {"gamma": "gamma", "lgamma": "gammaln", "digamma": "digamma", "beta": "beta"}
_SPECIAL |= {"choose": "binom", "factorial": "factorial"}
_NORMAL = {"pnorm": "cdf", "qnorm": "ppf", "dnorm": "pdf"}
_SAME = ("sqrt exp expm1 log1p log10 log2 abs floor trunc sign sin cos tan sinh cosh tanh").split()  # noqa: SIM905

NUMERIC: dict[str, Function] = {
    **{name: each(mapped(getattr(np, name), f"{name}()")) for name in _SAME},
    **{name: each(mapped(function, f"{name}()")) for name, function in _NUMPYS.items()},
    "atan2": each(lambda y, x: np.arctan2(*aligned(reals(y), reals(x)))),
    "log": each(_log),
    "round": each(_round),
    "signif": each(_signif),
    "pmin": each(_extreme(np.minimum, np.fmin)),
    "pmax": each(_extreme(np.maximum, np.fmax)),
    "pow": each(lambda x, y: np.power(*aligned(reals(x), reals(y)))),
    **dict.fromkeys(("ifelse", "if_else"), each(_ifelse)),
    "replace": each(_replace),
    "between": each(_between),
    "xor": each(lambda x, y: truths(x, "xor()") != truths(y, "xor()")),
    "isTRUE": each(lambda x: bool(np.all(truths(x, "isTRUE()") == 1))),
    **dict.fromkeys(("is.na", "is.nan"), each(_is_na)),
    "is.finite": each(_of_numbers(np.isfinite)),
    "is.infinite": each(_of_numbers(np.isinf)),
    "c": each(_combine),
    "as.vector": each(_vector),
    "drop": each(lambda x: _vector(x) if isinstance(x, Matrix) and x.values.shape[1] == 1 else x),
    "rep": each(_rep),
    "seq": each(_seq),
    "seq_len": each(lambda n: sequence(1, n)),
    **dict.fromkeys(("I", "identity"), each(lambda x: x)),
    "mean": once(_mean),
    "unique": once(_unique),
    "ave": learns(_average),
    "matrix": each(_matrix),
    "rowSums": each(_over_rows((np.sum, np.nansum))),
    "rowMeans": each(_over_rows((np.mean, np.nanmean))),
    "is.element": each(among),
    **{name: each(_special(theirs)) for name, theirs in _SPECIAL.items()},
    "trigamma": each(lambda x: _special("polygamma")(1, x)),
    **{name: each(_normal(theirs)) for name, theirs in _NORMAL.items()},
    "unname": each(np.asarray),
    "nrow": once(lambda x: np.float64(len(_entries(x)))),
    "ncol": each(lambda x: np.float64(_entries(x).shape[1])),
    **{name: _summary(function, f"{name}()") for name, function in _SUMMARIES.items()},
    "any": _of_truths(np.any),
    "all": _of_truths(np.all),
    "quantile": once(_quantile),
    **dict.fromkeys(("length", "len"), once(lambda x: np.float64(length(plain(x))))),
    **{name: of_all(_of_numbers(function)) for name, function in _CUMULATIVE.items()},
    "rank": of_all(_rank),
    "rev": of_all(_rev),
    "order": of_all(lambda x: np.argsort(numbers(x), kind="stable") + 1.0),
    "seq_along": of_all(lambda x: np.arange(1.0, length(x) + 1)),
}
