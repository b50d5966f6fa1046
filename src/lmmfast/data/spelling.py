"""Levels that are spelt alike: one of them may be a typing mistake."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..errors import SimilarLevelsWarning, warn
from ..formula.column import Column

MOST = 50  # levels that are compared
SHORT = 5  # letters of words of which one may differ by chance
MOST_LABELS = 100_000  # labels of a grouping factor that are compared
RARE = 0.05  # rows of a mistyped level, over those of the right one, at most


def check_spelling(factor: Column) -> None:
    """A warning where two levels of a predictor are the same but for case and blanks; or where they
    differ by one letter, and one has hardly any rows beside the other."""
    levels = factor.levels
    if levels is None or not 1 < len(levels) <= MOST or levels.dtype != object:
        return
    texts = levels.tolist()
    if not all(isinstance(one, str) for one in texts):
        return
    plain = [seen(one).casefold() for one in texts]
    for i, j in combinations(range(len(texts)), 2):
        same = plain[i] == plain[j]
        if same or _is_slip(plain[i], plain[j]):
            counts = _counts(factor)
            if counts is None or (not same and not _is_rare(counts[i], counts[j])):
                continue
            often, seldom = (i, j) if counts[i] >= counts[j] else (j, i)
            _warn(factor.name, texts[often], texts[seldom], counts[often], counts[seldom])
            return


def check_labels(factor: Column) -> None:
    """A warning where two labels of a grouping factor differ by what nobody sees: blanks, forms of
    accented letters, characters without width."""
    levels = factor.levels
    if levels is None or not 1 < len(levels) <= MOST_LABELS or levels.dtype != object:
        return
    texts = levels.tolist()
    plain = _all_seen(texts)
    if plain is None or len({*plain}) == len(plain):
        return
    first: dict[str, int] = {}
    counts = _counts(factor)
    for i, own in enumerate(plain):
        j = first.setdefault(own, i)
        if i != j and counts is not None:
            often, seldom = (i, j) if counts[i] > counts[j] else (j, i)
            _warn(factor.name, texts[often], texts[seldom], counts[often], counts[seldom])
            return


def _all_seen(texts: Sequence[str]) -> list[str] | None:
    """`seen` of many labels at once; None where they are what they seem, or are no text."""
    try:
        joined = "\n".join(texts)
    except TypeError:
        return None
    if not _hides(joined):
        return None
    found = [" ".join(own.split()) for own in _shown(joined).split("\n")]
    return found if len(found) == len(texts) else None


def _hides(text: str) -> bool:
    """Whether lines of a text may be others than they seem to be."""
    ends = f"\n{text}\n"
    if any(odd in ends for odd in (" \n", "\n ", "  ", "\t", "\r")):
        return True
    if text.isascii():
        return False
    letters = {*text} - {" ", "\n"}
    odd = any(own.isspace() or unicodedata.category(own) == "Cf" for own in letters)
    return odd or not unicodedata.is_normalized("NFC", text)


def seen(text: str) -> str:
    """What is seen of a name: one form of accented letters, nothing invisible, single blanks."""
    return " ".join((text if text.isascii() else _shown(text)).split())


def _shown(text: str) -> str:
    plain = unicodedata.normalize("NFC", text)
    hidden = {ord(own): None for own in {*plain} if unicodedata.category(own) == "Cf"}
    return plain.translate(hidden)


def _warn(name: str, right: str, other: str, many: int, few: int) -> None:
    """The warning about two levels and their rows."""
    rows = [f"{count} row{'s' * (count != 1)}" for count in (many, few)]
    hidden = seen(right) == seen(other) and right.split() != other.split()
    first, second = map(ascii if hidden else repr, (right, other))
    warn(
        SimilarLevelsWarning(
            f"levels {first} ({rows[0]}) and {second} ({rows[1]}) of {name!r} are spelt alike: "
            f"if they are one, data[{name!r}] = data[{name!r}].replace({{{second}: {first}}}); "
            "if they are two, nothing is wrong",
            variable=name,
        )
    )


def _is_slip(one: str, other: str) -> bool:
    """Whether words differ by one letter that is another, missing or too many, or by two that
    changed places; numbers at the end of labels are no slips."""
    if min(len(one), len(other)) < SHORT or abs(len(one) - len(other)) > 1:
        return False
    first = _shared(one, other)
    a, b = one[first:], other[first:]
    last = _shared(a[::-1], b[::-1])
    a, b = a[: len(a) - last], b[: len(b) - last]
    if any(letter.isdigit() for letter in a + b):
        return False
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])


def _shared(one: str, other: str) -> int:
    """Letters that both begin with."""
    pairs = zip(one, other, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _counts(factor: Column) -> list[int] | None:
    """Rows of each level; None where the rows are not known."""
    if not isinstance(factor.codes, np.ndarray) or factor.levels is None:
        return None
    counts = np.bincount(factor.codes + 1, minlength=len(factor.levels) + 1)[1:]
    return [int(count) for count in counts]


def _is_rare(one: int, other: int) -> bool:
    return 0 < min(one, other) <= RARE * max(one, other)
