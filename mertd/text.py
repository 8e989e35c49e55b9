"""Text from outside, made safe to show: names of files, tensors, streams and devices, and what servers and libraries say.

Rules of this file: pure functions, no I/O. Text is made safe where it leaves the program, on a terminal or in a log, and only
there: in memory and on the wire it stays what it is. Length is limited where text comes in.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_LINE = 4_000
"""Characters of one line on a terminal or in the log."""

MAX_TEXT = 4_000
"""Characters of a text that is kept or published: an error with its traceback, a description, a name."""

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f"  # C0 and DEL: ESC, newlines, carriage returns, bell, backspace
    "\x80-\x9f"  # C1: the 8-bit forms of ESC sequences
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks, embeddings, overrides and isolates
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff"  # surrogates, which stand for bytes that are not UTF-8
    "]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(text: object, limit: int | None = MAX_LINE) -> str:
    """Return `text` as one line that a terminal shows and does not obey: what could act is escaped, as `\\x1b`.

    Beyond `limit` characters the middle is cut, and a mark says how much; None for no limit.
    """
    return _UNSAFE.sub(_escape, shorten(str(text), limit))


def shorten(text: str, limit: int | None = MAX_TEXT) -> str:
    """Return the beginning and the end of `text`, `limit` characters together, and between them how many were cut."""
    if limit is None or len(text) <= limit:
        return text
    tail = limit // 4  # of a traceback, what it was about
    return f"{text[: limit - tail]}… ({len(text) - limit} characters cut) …{text[len(text) - tail :]}"


def encodable(text: str) -> str:
    """Return `text` with lone surrogates escaped, so that it can be UTF-8."""
    return _SURROGATE.sub(_escape, text)


def json_text(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON that is safe on a terminal. What JSON does not have is its text; bytes are hexadecimal."""
    return json.dumps(value, default=_plain, indent=indent).replace("\x7f", "\\u007f")


def escaped(character: str) -> str:
    """Return a character as `\\x1b`, `\\u2013` or `\\U0001f3b5`; a tab, a newline and a return have names."""
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _escape(found: re.Match[str]) -> str:
    return escaped(found.group())
