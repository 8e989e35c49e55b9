"""Words in systemd's unit files, by systemd.syntax(7), systemd.service(5) and systemd.unit(5).

Rules of this file:
- Each kind of setting has its own function, because systemd reads them differently: only a command line expands `$`, and
  `ReadWritePaths=` knows no C escapes such as `\\n`.
- Characters that are not printable are written as escapes of their bytes, so a setting is one line and safe to print.
- What systemd cannot represent raises `UsageError`; it is never written and ignored.
"""

from __future__ import annotations

import re

from mertd.errors import UsageError

_PLAIN = re.compile(r"[\w@%+=:,./-]+")
"""Words that need no quotation marks once they are escaped."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39, "s": 32}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_SPACE = " \t"


def argument(word: str) -> str:
    """An argument in `ExecStart=`, so that the program receives exactly `word`."""
    return _quoted(_escaped(word).replace("$", "$$"))


def assignment(name: str, value: str) -> str:
    """A variable in `Environment=`. Nothing is expanded there but `%`."""
    return _quoted(_escaped(f"{name}={value}"))


def executable(path: str) -> str:
    """The program in `ExecStart=`, which may contain neither quotation marks nor backslashes nor variables."""
    _representable(path)
    if found := re.search(r"[\x00-\x1f\x7f\"'\\$]", path):
        raise UsageError(f"systemd cannot start {path!r}: its path contains {found[0]!r}; install mertd in another directory")
    return _quoted(path.replace("%", "%%"))


def directory(path: str) -> str:
    """A path in `ReadWritePaths=`, where a backslash keeps the next character and escapes nothing else."""
    _representable(path)
    if found := _CONTROL.search(path):
        raise UsageError(f"systemd cannot make {path!r} writable: its path contains {found[0]!r}; choose another directory")
    return _quoted(path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%"))


def split(line: str) -> list[str]:
    """The words of a command line written by `executable` and `argument`. Raises `ValueError` for other syntax."""
    words: list[str] = []
    word = bytearray()
    started = False  # so that "" counts as a word
    quote = ""
    position = 0
    while position < len(line):
        character = line[position]
        position += 1
        if character == "\\":
            value, position = _unescaped(line, position)
            word += value
            started = True
        elif character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
            started = True
        elif not quote and character in _SPACE:
            if started:
                words.append(word.decode())
            word.clear()
            started = False
        else:
            word += character.encode()
            started = True
    if quote:
        raise ValueError(f"unbalanced quotation mark {quote}")
    if started:
        words.append(word.decode())
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def _representable(word: str) -> None:
    try:
        encoded = word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"systemd cannot represent {word!r}: it is not valid UTF-8; rename it") from None
    if b"\0" in encoded:
        raise UsageError(f"systemd cannot represent {word!r}: it contains a zero byte")
    if any(0xFDD0 <= ord(character) <= 0xFDEF or ord(character) & 0xFFFE == 0xFFFE for character in word):
        raise UsageError(f"systemd cannot represent {word!r}: it contains a code point that is no character; rename it")


def _escaped(word: str) -> str:
    _representable(word)
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return "".join(c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in word)


def _quoted(word: str) -> str:
    return word if _PLAIN.fullmatch(word) else f'"{word}"'


def _unescaped(line: str, position: int) -> tuple[bytes, int]:
    """The bytes that an escape stands for, whose backslash ends at `position`, and the position behind it."""
    kind = line[position : position + 1]
    if kind in _HEX_DIGITS:
        end = position + 1 + _HEX_DIGITS[kind]
        if not re.fullmatch(f"[0-9a-fA-F]{{{_HEX_DIGITS[kind]}}}", line[position + 1 : end]):
            raise ValueError(f"expected {_HEX_DIGITS[kind]} hexadecimal digits after \\{kind}")
        value = int(line[position + 1 : end], 16)
        return (bytes([value]) if kind == "x" else chr(value).encode()), end
    if kind in _ESCAPES:
        return bytes([_ESCAPES[kind]]), position + 1
    raise ValueError(f"unknown escape \\{kind}")
