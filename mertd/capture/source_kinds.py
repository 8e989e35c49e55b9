"""The kinds of audio source: the one table from which addresses, help, errors, the service and the doctor take them.

To add a source, write `mertd/capture/sources/NAME.py` with `open_source(settings)` and add an entry to KINDS. This file imports
nothing else of capture, and no audio library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote_to_bytes

STDIN_PATHS = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
"""Paths at which a system shows the standard input of the process that opens them."""

SYNTHS = ("chords", "tone", "noise", "silence")
"""Names of the synthesised pieces."""


class Consent(StrEnum):
    """What macOS asks the user to allow before a source delivers anything but zeros."""

    MICROPHONE = "microphone"
    SYSTEM_AUDIO = "system_audio"


@dataclass(frozen=True)
class SourceKind:
    """One kind of source, written `NAME:TARGET?OPTION=VALUE&...`."""

    name: str
    form: str  # how it is written, in help and errors
    summary: str  # one line of help
    options: frozenset[str]
    module: str  # in `mertd.capture.sources`, with `open_source(settings)`; imported when a source is opened
    split: Callable[[str], tuple[str, str]]  # what follows the colon, into target and query
    is_path: bool = False  # the target is a path: required, and the stream is named after its stem
    targets: tuple[str, ...] = ()  # the only targets allowed; empty: any
    stdin: str = ""  # the target that means standard input, as STDIN_PATHS then do; empty: none does
    default_rate: int = 0  # Hz; 0: the source's own
    default_channels: int = 0  # 0: the source's own
    default_name: str = ""  # of the stream if there is no target; empty: the kind's name
    resumable: bool = True  # a new process can continue; a file would begin again
    consent: Consent | None = None  # None: none is needed

    @property
    def needs_device(self) -> bool:
        """Whether it captures what a machine records or plays, which needs consent on macOS."""
        return self.consent is not None


_OPTION = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
"""An option and its value. What follows a question mark and is none belongs to the name, as in `What is love?.wav`."""


def _split_name(rest: str) -> tuple[str, str]:
    """Split off the options. A name that ends like options, or in a question mark, is written with one more at its end."""
    name, mark, tail = rest.rpartition("?")
    if mark and all(_OPTION.fullmatch(part) or part in _EVERY_OPTION or not tail for part in tail.split("&")):
        return name, tail
    return rest, ""


def _split_path(rest: str) -> tuple[str, str]:
    """Return the path, with its `~` replaced, and the options. A file of exactly this name has none.

    Only what begins with `//`, as URLs of files do, may be percent-encoded.
    """
    from mertd.user_folders import with_home

    if exists(rest):
        return rest, ""
    if exists(with_home(rest)):
        return with_home(rest), ""
    path, query = _split_name(rest)
    if path.startswith(("///", "//localhost/")) and not exists(path):
        path = os.fsdecode(unquote_to_bytes(os.fsencode(path.removeprefix("//").removeprefix("localhost"))))
    return path if exists(path) else with_home(path), query


def exists(path: str) -> bool:
    """Return whether there is a file of any type at `path`."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # the name is too long, or the directory may not be entered; opening the file reports it
        return False


_COMMON = frozenset({"name", "mix"})
_FORMAT = frozenset({"rate", "channels"})
_EVERY_OPTION = _COMMON | _FORMAT | {"format", "seconds"}

_ALL = (
    SourceKind(
        "device",
        form="device:[NAME]",
        summary="an input device, by default the system's default input (`mertd devices` lists them)",
        options=_COMMON | _FORMAT,
        module="device",
        split=_split_name,
        default_name="default",
        consent=Consent.MICROPHONE,
    ),
    SourceKind(
        "loopback",
        form="loopback:[NAME]",
        summary="what this machine plays: a PulseAudio or PipeWire monitor, or a virtual device on macOS",
        options=_COMMON | _FORMAT,
        module="loopback",
        split=_split_name,
        consent=Consent.MICROPHONE,
    ),
    SourceKind(
        "tap",
        form="tap:[PROGRAM]",
        summary="what a Mac plays, or one program, without a virtual device (macOS 14.2, extra `tap`)",
        options=_COMMON,
        module="tap",
        split=_split_name,
        consent=Consent.SYSTEM_AUDIO,
    ),
    SourceKind(
        "file",
        form="file:PATH",
        summary="a sound file: wav, flac, ogg, mp3, m4a, aiff, wma and others",
        options=_COMMON,
        module="file",
        split=_split_path,
        is_path=True,
        resumable=False,
    ),
    SourceKind(
        "pipe",
        form="pipe:PATH (- is stdin)",
        summary="raw PCM from a FIFO or standard input; ?rate=48000&channels=2&format=s16le are the defaults",
        options=_COMMON | _FORMAT | {"format"},
        module="pipe",
        split=_split_path,
        is_path=True,
        stdin="-",
        default_rate=48_000,
        default_channels=2,
    ),
    SourceKind(
        "synth",
        form="synth:NAME",
        summary=f"synthesised sound: {', '.join(SYNTHS)}",
        options=_COMMON | _FORMAT | {"seconds"},
        module="synth",
        split=_split_name,
        targets=SYNTHS,
    ),
)

KINDS = {kind.name: kind for kind in _ALL}
"""All kinds, by name, in the order in which help lists them."""


def forms() -> str:
    """Return how each kind is written, for help and errors."""
    *rest, last = (kind.form for kind in KINDS.values())
    return f"{', '.join(rest)} or {last}"


def without_device() -> str:
    """Return the kinds that need no input device, for advice where there is none."""
    *names, last = (f"{kind.name}:" for kind in KINDS.values() if not kind.needs_device)
    return f"{', '.join(names)} and {last}"
