"""The kinds of audio source: the one table from which addresses, help, errors, the service and the doctor take them.

To add a source, write `mertd/capture/sources/NAME.py` with `open_source(settings)` and add an entry to KINDS. This file imports
nothing else of capture, and no audio library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

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
    stdin: str = ""  # the target that means standard input; empty: none does
    default_rate: int = 0  # Hz; 0: the source's own
    default_channels: int = 0  # 0: the source's own
    default_name: str = ""  # of the stream if there is no target; empty: the kind's name
    resumable: bool = True  # a new process can continue; a file would begin again
    consent: Consent | None = None  # None: none is needed

    @property
    def needs_device(self) -> bool:
        """Whether it captures what a machine records or plays, which needs consent on macOS."""
        return self.consent is not None


def _split_query(rest: str) -> tuple[str, str]:
    target, query = rest.rsplit("?", 1) if "?" in rest else (rest, "")
    return target, query


def _split_path(rest: str) -> tuple[str, str]:
    """Split off the query, unless all of it is the name of a file: names may contain question marks."""
    return (rest, "") if _is_file(rest) else _split_query(rest)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # the name is too long, or the directory may not be entered; opening the file reports it
        return False


_COMMON = frozenset({"name", "mix"})
_FORMAT = frozenset({"rate", "channels"})

_ALL = (
    SourceKind(
        "device",
        form="device:[NAME]",
        summary="an input device, by default the system's default input (`mertd devices` lists them)",
        options=_COMMON | _FORMAT,
        module="device",
        split=_split_query,
        default_name="default",
        consent=Consent.MICROPHONE,
    ),
    SourceKind(
        "loopback",
        form="loopback:[NAME]",
        summary="what this machine plays: a PulseAudio or PipeWire monitor, or a virtual device on macOS",
        options=_COMMON | _FORMAT,
        module="loopback",
        split=_split_query,
        consent=Consent.MICROPHONE,
    ),
    SourceKind(
        "tap",
        form="tap:[PROGRAM]",
        summary="what a Mac plays, or one program, without a virtual device (macOS 14.2, extra `tap`)",
        options=_COMMON,
        module="tap",
        split=_split_query,
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
        split=_split_query,
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
        split=_split_query,
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
