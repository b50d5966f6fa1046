"""The container of saved fits: an .npz archive of plain arrays with a header in JSON, no pickle.

It is that of `CrossProducts`, and a digest of all that is in it: what was changed by chance is
found before anything is made of it. The same header with arrays in text is the JSON of the command
line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import math
from typing import Any

import numpy as np

from ..errors import DataError
from ..sources.archive import FORMAT as CROSS
from ..sources.archive import bytes_of, check_sizes
from ..sources.records import Arrays
from ..sources.verify import Damage, fields, items, text, whole

FORMAT, VERSION = "lmmfast fit", 1
MOST_AXES = 4
KINDS = "biufmM"


def not_a_fit(name: str) -> DataError:
    """The error for what fit.save() did not write."""
    return DataError(f"{name} is no saved fit of lmmfast: use what fit.save() wrote")


def damaged(name: str, reason: str) -> DataError:
    """The error for what it wrote and is no more."""
    return DataError(f"{name}: the saved fit is damaged or cut short ({reason})")


def digest(header: dict[str, Any], arrays: Arrays) -> str:
    """Of all that a file holds."""
    plain = {key: value for key, value in header.items() if key != "digest"}
    found = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(arrays):
        own = arrays[name]
        order = "F" if own.flags.f_contiguous and not own.flags.c_contiguous else "C"
        found.update(f"{name} {own.dtype.str} {own.shape} {order}".encode())
        found.update(own.tobytes("A"))
    return found.hexdigest()


# ---- archives -----------------------------------------------------------------------------------


def packed(header: dict[str, Any], arrays: Arrays) -> bytes:
    """A file's bytes."""
    sealed = {**header, "digest": digest(header, arrays)}
    written = json.dumps(sealed, ensure_ascii=True, allow_nan=False).encode()
    return bytes_of({"header": np.frombuffer(written, dtype=np.uint8), **arrays})


def unpacked(data: bytes, name: str) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a file's bytes; messages call it `name`."""
    if data[:1] == b"{":
        return _of_json(data, name)
    if data[:4] != b"PK\x03\x04":
        raise not_a_fit(name)
    try:
        check_sizes(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except MemoryError:
        raise
    except Exception as error:  # zipfile and numpy have many, NotImplementedError among them
        raise damaged(name, f"{type(error).__name__}: {error}") from error
    try:
        header = json.loads(arrays.pop("header").tobytes())
    except (KeyError, ValueError, RecursionError):
        raise not_a_fit(name) from None
    return _checked(header, arrays, name), arrays


def _checked(header: Any, arrays: Arrays, name: str) -> dict[str, Any]:
    """A header of this format, of a version that is known, with its own digest."""
    if isinstance(header, dict) and header.get("format") == CROSS:
        raise DataError(
            f"{name} is no saved fit, it holds cross-products: use lmmfast.CrossProducts.load"
        )
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise not_a_fit(name)
    version = header.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        shown = version if isinstance(version, int) and abs(version) < 10**6 else "an unknown one"
        raise DataError(
            f"{name}: a saved fit of version {shown} of the format; this lmmfast reads up to "
            f"version {VERSION}: use the lmmfast that wrote it, or a newer one"
        )
    try:
        found = digest(header, arrays)
    except (RecursionError, ValueError) as error:
        raise damaged(name, str(error)) from None
    if header.get("digest") != found:
        raise damaged(name, "its digest is another one")
    return header


# ---- JSON ---------------------------------------------------------------------------------------


def inline(header: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """Header and arrays as one record that JSON can hold."""
    sealed = {**header, "digest": digest(header, arrays)}
    return {**sealed, "arrays": {name: _written(own) for name, own in arrays.items()}}


def _written(own: np.ndarray) -> dict[str, Any]:
    fortran = own.flags.f_contiguous and not own.flags.c_contiguous
    return {
        "dtype": own.dtype.str,
        "shape": list(own.shape),
        "order": "F" if fortran else "C",
        "base64": base64.b64encode(own.tobytes("A")).decode(),
    }


def _of_json(data: bytes, name: str) -> tuple[dict[str, Any], Arrays]:
    """Of what ``lmmfast fit --json`` wrote: its entry "saved"."""
    try:
        whole_record = json.loads(data)
    except (ValueError, RecursionError):
        raise not_a_fit(name) from None
    record = whole_record.get("saved")
    if not isinstance(record, dict) or not isinstance(record.get("arrays"), dict):
        raise not_a_fit(name)
    try:
        arrays = {key: _read(key, own) for key, own in record["arrays"].items()}
    except Damage as error:
        raise damaged(name, str(error)) from None
    header = {key: value for key, value in record.items() if key != "arrays"}
    return _checked(header, arrays, name), arrays


def _read(name: str, item: Any) -> np.ndarray:
    what = f"the array {name[:40]!r}"
    own = fields(item, ("dtype", "shape", "order", "base64"))
    try:
        dtype = np.dtype(text(own["dtype"], what))
        given = base64.b64decode(text(own["base64"], what), validate=True)
    except (TypeError, ValueError, binascii.Error, SyntaxError):
        raise Damage(f"{what} cannot be read") from None
    shape = tuple(whole(size, what) for size in items(own["shape"], what))
    if dtype.kind not in KINDS or len(shape) > MOST_AXES or own["order"] not in ("C", "F"):
        raise Damage(f"{what} is of no known kind")
    if math.prod(shape) * dtype.itemsize != len(given):
        raise Damage(f"{what} has another size than its shape")
    return np.frombuffer(given, dtype).reshape(shape, order=own["order"]).copy("A")
