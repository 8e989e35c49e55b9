"""Sources are addresses: `device:`, `loopback:`, `tap:`, `file:`, `pipe:` and `synth:`, each with options after a `?`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl

from mertd.capture.limits import MAX_RATE, MIN_RATE
from mertd.errors import UsageError, did_you_mean

FORMATS = {"u8": "|u1", "s16le": "<i2", "s24le": "", "s32le": "<i4", "f32le": "<f4", "f64le": "<f8"}
"""Raw sample formats, by the names that ffmpeg gives them, and their numpy dtypes (which has none of 24 bits)."""

SYNTHS = ("chords", "tone", "noise", "silence")
_OPTIONS = {
    "device": {"name", "mix", "rate", "channels"},
    "loopback": {"name", "mix", "rate", "channels"},
    "tap": {"name", "mix"},
    "file": {"name", "mix"},
    "pipe": {"name", "mix", "rate", "channels", "format"},
    "synth": {"name", "mix", "rate", "channels", "seconds"},
}


@dataclass(frozen=True)
class Address:
    """One parsed source. `target`: device name, path or synth. `rate` (Hz) and `channels`: 0 where the source knows best."""

    kind: str
    target: str
    name: str  # of the stream
    mix: str = "mean"  # mean, active, or a channel number from 1
    rate: int = 0
    channels: int = 0
    format: str = "s16le"
    seconds: float = 0.0  # of a synth; 0 goes on for ever

    @property
    def is_stdin(self) -> bool:
        return self.kind == "pipe" and self.target == "-"

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"


def parse(url: str) -> Address:
    """The address in `url`. Raises `UsageError`, which says what would be right."""
    kind, colon, rest = url.partition(":")
    if not colon or kind not in _OPTIONS:
        raise UsageError(
            f"source {url!r}: wanted device:[NAME], loopback:[NAME], tap:[PROGRAM], file:PATH, "
            f"pipe:PATH or - with ?rate=&channels=&format=, or synth:NAME{did_you_mean(kind, _OPTIONS)}"
        )
    target, query = (rest, "") if kind == "file" and _is_file(rest) else _split(rest)
    options = dict(parse_qsl(query, keep_blank_values=True))
    for option in options:
        if option not in _OPTIONS[kind]:
            known = sorted(_OPTIONS[kind])
            raise UsageError(f"source {url!r}: {kind}: has no option {option!r}, only {', '.join(known)}")
    address = Address(
        kind=kind,
        target=target,
        name=options.get("name") or _stream_name(kind, target),
        mix=options.get("mix", "mean"),
        rate=_number(url, options, "rate", MIN_RATE, MAX_RATE),
        channels=_number(url, options, "channels", 1, 64),
        format=options.get("format", "s16le"),
        seconds=_seconds(url, options.get("seconds", "0")),
    )
    _check(url, address)
    if kind == "pipe":
        return replace(address, rate=address.rate or 48_000, channels=address.channels or 2)
    return address


def distinct(addresses: list[Address]) -> list[Address]:
    """The same addresses with stream names made distinct by a number. Raises `UsageError` if two read standard input."""
    if sum(a.is_stdin for a in addresses) > 1:
        raise UsageError("standard input can feed only one source: pipe:- is given twice")
    names: set[str] = set()
    out = []
    for address in addresses:
        name, number = address.name, 2
        while name in names:
            name, number = f"{address.name}-{number}", number + 1
        names.add(name)
        out.append(replace(address, name=name))
    return out


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # too long for a name, or in a folder that is closed to us: opening it says so
        return False


def _split(rest: str) -> tuple[str, str]:
    target, mark, query = rest.rpartition("?")
    return (target, query) if mark else (rest, "")


def _check(url: str, address: Address) -> None:
    if address.kind in ("file", "pipe") and not address.target:
        raise UsageError(f"source {url!r}: a path is missing after {address.kind}:")
    if address.kind == "synth" and address.target not in SYNTHS:
        raise UsageError(f"source {url!r}: synth is one of {', '.join(SYNTHS)}{did_you_mean(address.target, SYNTHS)}")
    if address.format not in FORMATS:
        raise UsageError(f"source {url!r}: format is one of {', '.join(FORMATS)}{did_you_mean(address.format, FORMATS)}")
    if address.mix not in ("mean", "active") and not (address.mix.isdecimal() and 1 <= int(address.mix) <= 64):
        raise UsageError(f"source {url!r}: mix is mean, active, or the number of a channel from 1, not {address.mix!r}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", address.name):
        raise UsageError(f"source {url!r}: a stream's name has small letters, digits, '.', '_' and '-', not {address.name!r}")


def _stream_name(kind: str, target: str) -> str:
    if target in ("", "-"):
        return {"device": "default"}.get(kind, kind)
    word = Path(target).stem if kind in ("file", "pipe") else target
    return re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("-._")[:63] or kind


def _number(url: str, options: dict[str, str], name: str, low: int, high: int) -> int:
    text = options.get(name)
    if text is None:
        return 0
    if not text.isdecimal() or not low <= int(text) <= high:
        raise UsageError(f"source {url!r}: {name} is a whole number from {low} to {high}, not {text!r}")
    return int(text)


def _seconds(url: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"source {url!r}: seconds is a number from 0 up, not {text!r}")
    return value
