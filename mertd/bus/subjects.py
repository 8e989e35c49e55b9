"""Subjects on the bus: `mertd.DAEMON.STREAM.embedding` and `mertd.DAEMON.STREAM.event`.

Rules of this file: pure functions, no I/O. A name and its token belong to each other one to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from mertd.errors import BusError

PREFIX = "mertd"
"""First token of all subjects."""

ALL = f"{PREFIX}.>"
"""All subjects: what the JetStream stream has to take."""

KINDS = ("embedding", "event")
"""Last tokens. A hole is announced under `event`."""

MAX_SUBJECT = 1_024
"""Bytes of a subject. A server cuts off a client whose line is longer than 4,096 bytes, headers not counted."""

EMPTY = "%"
"""The token of an empty name, which no other name has."""


@dataclass(frozen=True)
class Subject:
    """Where the messages of one kind of one stream of a daemon are."""

    daemon: str
    stream: str
    kind: str

    def __str__(self) -> str:
        return f"{PREFIX}.{token(self.daemon)}.{token(self.stream)}.{self.kind}"


@lru_cache(maxsize=4_096)
def token(name: str) -> str:
    """Return a name as a token: everything but ASCII letters, digits, `_` and `-` is `%` and the UTF-8 bytes in hexadecimal."""
    quoted = quote(name, safe="", errors="surrogatepass")
    return quoted.replace(".", "%2E").replace("~", "%7E") or EMPTY


def name_of(text: str) -> str:
    """Return the name that a token stands for. Raises `BusError` if it is not the token of any name."""
    try:
        name = "" if text == EMPTY else unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:
        name = ""
    if token(name) != text:
        raise BusError(f"{text!r:.200} is not the token of a name on the bus")
    return name


def parse_subject(text: str) -> Subject:
    """Return the subject that is written so. Raises `BusError` if it is not one of ours."""
    parts = text.split(".")
    if len(parts) != 4 or parts[0] != PREFIX or parts[3] not in KINDS:
        raise BusError(f"{text!r:.200} is not a subject of mertd; expected {PREFIX}.DAEMON.STREAM.{'|'.join(KINDS)}")
    return Subject(name_of(parts[1]), name_of(parts[2]), parts[3])


def pattern(daemon: str | None = None, stream: str | None = None, kind: str | None = None) -> str:
    """Return what subscribes to these subjects; None stands for all."""
    tokens = ["*" if name is None else token(name) for name in (daemon, stream)]
    return f"{PREFIX}.{tokens[0]}.{tokens[1]}.{kind or '*'}"
