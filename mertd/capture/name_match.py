"""Find devices by name: the exact name before one that contains it, and never one of several equals.

Rules of this file: pure functions, no I/O.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def best_matches(word: str, items: Iterable[Item], names_of: Callable[[Item], Sequence[str]]) -> list[Item]:
    """Return the items that are called `word`; or else those in whose names it occurs. `names_of`: the most specific first."""
    items = list(items)
    return exact_matches(word, items, names_of) or [
        item for item in items if any(_folded(word) in _folded(name) for name in names_of(item))
    ]


def exact_matches(word: str, items: Iterable[Item], names_of: Callable[[Item], Sequence[str]]) -> list[Item]:
    """Return the items that are called `word`, by their first name if any is; or else those called so in another case."""
    items = list(items)
    tests: tuple[Callable[[Sequence[str]], bool], ...] = (
        lambda names: word == names[0],
        lambda names: word in names,
        lambda names: _folded(word) in map(_folded, names),
    )
    for test in tests:
        if found := [item for item in items if test(names_of(item))]:
            return found
    return []


def _folded(text: str) -> str:
    """Return `text` so that case and the way in which accents are encoded make no difference: macOS composes none."""
    return unicodedata.normalize("NFC", text).casefold()
