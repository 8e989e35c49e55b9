"""Sources are addresses: `KIND:TARGET?OPTION=VALUE&...`. The kinds and their options are in `mertd.capture.source_kinds`.

What begins with `/`, `~/`, `./` or `../` is the path of a sound file, as if `file:` stood before it.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl

from mertd.capture.limits import MAX_RATE, MIN_RATE
from mertd.capture.source_kinds import KINDS, STDIN_PATHS, SourceKind, exists, forms
from mertd.errors import UsageError, did_you_mean

PCM_FORMATS = {"u8": "|u1", "s16le": "<i2", "s24le": "", "s32le": "<i4", "f32le": "<f4", "f64le": "<f8"}
"""Raw sample formats, by ffmpeg's names, and their numpy dtypes (numpy has none of 24 bits)."""

MAX_CHANNEL_NUMBER = 64
"""Highest number of channels, and of a channel to select, that an address can ask for."""

STREAM_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""What a stream may be called: the name is part of topics."""


PATH_BEGINNINGS = ("/", "~/", "./", "../")
"""What the path of a sound file begins with if no kind of source stands before it."""


@dataclass(frozen=True)
class Address:
    """One parsed source."""

    kind: str  # a key of KINDS
    target: str  # device name, path, program or synth
    name: str  # of the stream
    mix: str = "mean"  # mean, active, or a channel number from 1
    rate: int = 0  # Hz; 0: the source's own
    channels: int = 0  # 0: the source's own
    format: str = "s16le"  # of raw PCM
    seconds: float = 0.0  # length of a synth; 0: endless

    @property
    def is_stdin(self) -> bool:
        """Whether it reads standard input."""
        own = KINDS[self.kind].stdin
        return own != "" and self.target in (own, *STDIN_PATHS)

    @property
    def resumable(self) -> bool:
        """Whether a new process can continue: a file would begin again, and raw PCM on standard input within a frame."""
        return KINDS[self.kind].resumable and not self.is_stdin

    @property
    def may_share(self) -> bool:
        """Whether it may share a capture process: it needs no device, and goes on if a neighbour interrupts it."""
        return self.resumable and not KINDS[self.kind].needs_device

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"


def parse(url: str) -> Address:
    """Return the address in `url`. Raises `UsageError`, which says what is expected."""
    if url.startswith(PATH_BEGINNINGS):
        name, rest = "file", url
    else:
        name, rest = url.split(":", 1) if ":" in url else (url, "")
    kind = KINDS.get(name) if rest or ":" in url else None
    if kind is None:
        near = f"; for the file of this name write file:{url}" if exists(url) else did_you_mean(name, KINDS)
        raise UsageError(f"source {url!r}: unknown kind of source; expected {forms()}{near}")
    target, query = kind.split(rest)
    options = dict(parse_qsl(query, keep_blank_values=True))
    for option in options:
        if option not in kind.options:
            known = ", ".join(sorted(kind.options))
            raise UsageError(
                f"source {url!r}: {kind.name}: has no option {option!r}; its options are {known} "
                "(if the question mark is part of the name, write another one at the end)"
            )
    address = Address(
        kind=kind.name,
        target=target,
        name=options.get("name") or _stream_name(kind, target),
        mix=options.get("mix", "mean"),
        rate=_number(url, options, "rate", MIN_RATE, MAX_RATE) or kind.default_rate,
        channels=_number(url, options, "channels", 1, MAX_CHANNEL_NUMBER) or kind.default_channels,
        format=options.get("format", "s16le"),
        seconds=_seconds(url, options.get("seconds", "0")),
    )
    _check(url, kind, address)
    return address


def file_address(path: str) -> Address:
    """Return the address of a sound file whose name is not written as a URL: nothing in it is an option."""
    return Address("file", path, _stream_name(KINDS["file"], path))


def distinct(addresses: list[Address]) -> list[Address]:
    """Return the addresses, with numbers added to stream names that occur twice.

    Raises `UsageError` if two of them read standard input, or the same FIFO.
    """
    if sum(address.is_stdin for address in addresses) > 1:
        raise UsageError("standard input can feed only one source, but pipe:- is given twice")
    _check_fifos(addresses)
    names: set[str] = set()
    found = []
    for address in addresses:
        name, number = address.name, 2
        while name in names:
            name, number = f"{address.name}-{number}", number + 1
        names.add(name)
        found.append(replace(address, name=name))
    return found


def _check_fifos(addresses: list[Address]) -> None:
    """Raise `UsageError` if two addresses name the same FIFO, however they are written."""
    readers: dict[object, Address] = {}
    for address in addresses:
        if (fifo := _fifo(address)) is None:
            continue
        if other := readers.get(fifo):
            raise UsageError(
                f"source {address}: the same FIFO feeds {other}; each of them would hear only parts of the sound: "
                "keep one of them, or make a second FIFO and write to both (tee)"
            )
        readers[fifo] = address


def _fifo(address: Address) -> object | None:
    """Return what identifies the FIFO that an address reads, or will read once it is made; None for anything else."""
    if KINDS[address.kind].stdin == "":
        return None
    try:
        found = os.fstat(0) if address.is_stdin else Path(address.target).stat()
    except OSError:
        return os.path.realpath(address.target)
    return (found.st_dev, found.st_ino) if stat.S_ISFIFO(found.st_mode) else None


def _check(url: str, kind: SourceKind, address: Address) -> None:
    if kind.is_path and not address.target:
        raise UsageError(f"source {url!r}: a path is missing after {kind.name}:")
    if "\0" in address.target:
        raise UsageError(f"source {url!r}: a name cannot contain the character NUL")
    if kind.targets and address.target not in kind.targets:
        near = did_you_mean(address.target, kind.targets)
        raise UsageError(f"source {url!r}: {kind.name} is one of {', '.join(kind.targets)}{near}")
    if address.format not in PCM_FORMATS:
        near = did_you_mean(address.format, PCM_FORMATS)
        raise UsageError(f"source {url!r}: format is one of {', '.join(PCM_FORMATS)}{near}")
    if address.mix not in ("mean", "active") and _whole(address.mix, 1, MAX_CHANNEL_NUMBER) is None:
        raise UsageError(f"source {url!r}: mix is mean, active, or the number of a channel from 1, not {address.mix!r}")
    if not STREAM_NAME.fullmatch(address.name):
        raise UsageError(f"source {url!r}: a stream's name has small letters, digits, '.', '_' and '-', not {address.name!r}")


def _stream_name(kind: SourceKind, target: str) -> str:
    if target in ("", "-"):
        return kind.default_name or kind.name
    word = Path(target).stem if kind.is_path else target
    return re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("-._")[:63] or kind.name


def _number(url: str, options: dict[str, str], name: str, low: int, high: int) -> int:
    text = options.get(name)
    if text is None:
        return 0
    number = _whole(text, low, high)
    if number is None:
        raise UsageError(f"source {url!r}: {name} is a whole number from {low} to {high}, not {text!r}")
    return number


def _whole(text: str, low: int, high: int) -> int | None:
    """Return the number in `text`, or None if there is none in this range. `int` refuses more than 4,300 digits."""
    number = int(text) if text.isdecimal() and len(text) < 100 else -1
    return number if low <= number <= high else None


def _seconds(url: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"source {url!r}: seconds is a number from 0 up, not {text!r}")
    return value
