"""Headers and arrays of files, changed at random; for tests of what reads them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

VALUES = (None, -1, 0, 1, 7, 2**31, 10**30, 1e308, float("nan"), "", "x", "0x1p+0", "nan", "inf")
VALUES = (*VALUES, True, False, [], {}, [[]], {"a": 1}, "a0", "a1", "y ~ x", "(", "é\x00")
TYPES = ("i1", "i8", "u8", "f2", "f4", "f8", ">f8", ">i8", "c16", "?", "U3", "S0", "M8[D]", "m8")
NUMBERS = (-1.0, 0.0, 1e-300, 1e12, 1e308, -1e308, np.inf, np.nan, 2.0**31, 2.0**63, -(2.0**31))


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a header: a container and the key of one of its items."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(pairs):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from nodes(item)


def change_header(rng: np.random.Generator, header: dict, _: Arrays) -> None:
    places = list(nodes(header))
    holder, key = places[rng.integers(len(places))]
    other, there = places[rng.integers(len(places))]
    what = rng.integers(7)
    if what <= 2:
        holder[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    elif what == 3:
        del holder[key]
    elif what == 4:
        holder[key] = copy.deepcopy(other[there])
    elif what == 5:
        holder[key] = [holder[key]]
    elif isinstance(holder, dict):
        holder["more"] = 1
    else:
        holder.append(copy.deepcopy(holder[key]))


def change_array(rng: np.random.Generator, _: dict, arrays: Arrays) -> None:
    names = list(arrays)
    name = names[rng.integers(len(names))]
    own, what = arrays[name], rng.integers(11)
    if what == 0:
        del arrays[name]
    elif what == 1:
        arrays[name] = arrays[names[rng.integers(len(names))]]
    elif what == 2:
        arrays[name] = own[: rng.integers(max(len(own), 1))]
    elif what == 3:
        arrays[name] = np.concatenate([own, own[:1]])
    elif what == 4:
        kind = np.dtype(TYPES[rng.integers(len(TYPES))])
        with np.errstate(all="ignore"), warnings.catch_warnings(), suppress(RuntimeError):
            warnings.simplefilter("ignore")
            arrays[name] = own.astype(kind)  # RuntimeError: times as short text
    elif what == 5:
        arrays[name] = own.reshape(-1)
    elif what == 6:
        arrays[name] = own[None] if rng.random() < 0.5 else own.T
    elif what == 7:
        arrays["more"] = own
    elif own.size and own.dtype.kind in "iuf":
        arrays[name] = changed = own.copy()
        number = NUMBERS[rng.integers(len(NUMBERS))]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changed.reshape(-1)[rng.integers(own.size)] = np.float64(number).astype(own.dtype)
