"""Property lists, as launchd and macOS read them. Text that XML cannot carry is refused."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Iterator
from typing import Any

from mertd.errors import UsageError

_NOT_XML = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 forbids, and carriage returns: an XML reader turns them into line feeds."""


def dump(value: dict[str, Any]) -> bytes:
    """A property list as XML, keys in their order. Raises `UsageError` for text that would not come back unchanged."""
    for text in _texts(value):
        if found := _NOT_XML.search(text):
            raise UsageError(
                f"a property list cannot represent {text!r}: it contains {found[0]!r}; rename the file or directory"
            )
    return plistlib.dumps(value, sort_keys=False)


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield key
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
