"""Reads settings of a unit as systemd does, by systemd.syntax(7) and extract-word.c; shares nothing with mertd's own code.

`tests/service/real_systemd.py` compares it with systemd itself.
"""

from __future__ import annotations

import re
from itertools import groupby

UNREPRESENTABLE = re.compile(
    "[\0\ufdd0-\ufdef" + "".join(chr((plane << 16) + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)) + "]"
)
"""What no unit can hold: zero bytes, and code points that are no characters."""

ONE_BYTE = {b"a": 7, b"b": 8, b"f": 12, b"n": 10, b"r": 13, b"t": 9, b"v": 11, b"s": 32, b"\\": 92, b'"': 34, b"'": 39}


def setting(unit: str, name: str) -> str:
    """The value of a setting that a unit holds once. Lines end as for systemd: with \\n, \\r or a zero byte."""
    (line,) = [line for line in re.split(r"[\n\r\0]", unit) if line.startswith(f"{name}=")]
    assert not line.endswith("\\"), "the next line would continue it"
    return line.partition("=")[2]


def read_words(value: str, c_escapes: bool) -> list[str]:
    """Words, without quotation marks and escapes. `c_escapes`: as in ExecStart=; elsewhere \\ keeps a character."""
    left, words = value.encode().strip(b" \t"), []
    while left:
        word, mark = b"", b""
        while left and (mark or left[:1] not in b" \t"):
            first, left = left[:1], left[1:]
            if first == b"\\":
                byte, left = escape(left) if c_escapes else (left[:1], left[1:])
                word += byte
            elif first == mark:
                mark = b""
            elif not mark and first in (b'"', b"'"):
                mark = first
            else:
                word += first
        assert not mark, "a quotation mark is not closed"
        words.append(word.decode())
        left = left.lstrip(b" \t")
    return words


def escape(left: bytes) -> tuple[bytes, bytes]:
    kind = left[:1]
    if kind in ONE_BYTE:
        return bytes([ONE_BYTE[kind]]), left[1:]
    assert kind == b"x", f"not an escape that is used here: {kind!r}"
    return bytes.fromhex(left[1:3].decode()), left[3:]


def specifiers(word: str) -> str:
    """`%%` is `%`; any other use of `%` would be replaced by something of the machine's."""
    assert all(len(list(run)) % 2 == 0 for sign, run in groupby(word) if sign == "%"), f"{word!r} has a specifier"
    return word.replace("%%", "%")


def variables(word: str) -> str:
    """`$$` is `$`; any other use of `$` may be a variable."""
    assert all(len(list(run)) % 2 == 0 for sign, run in groupby(word) if sign == "$"), f"{word!r} has a variable"
    return word.replace("$$", "$")


def read_command(value: str) -> list[str]:
    """The arguments that the program of ExecStart= gets, itself included."""
    assert ";" not in re.split("[ \t]", value), "an unquoted semicolon begins another command"
    program, *words = read_words(value, c_escapes=True)
    assert program.startswith("/")
    return [specifiers(program), *(variables(specifiers(word)) for word in words)]


def read_assignments(value: str) -> list[str]:
    """The variables of Environment=, as NAME=VALUE."""
    return [specifiers(word) for word in read_words(value, c_escapes=True)]


def read_paths(value: str) -> list[str]:
    """The paths of ReadWritePaths=, without the dash that allows them to be missing."""
    return [specifiers(word).removeprefix("-") for word in read_words(value, c_escapes=False)]
