"""The errors that a person sees.

Everything mertd raises on purpose is a `MertdError`: it says in one line what is wrong and what to do, and its `exit_code` is
what the command ends with. Several mistakes that are reported together are several arguments, one line each. Errors of foreign
libraries become one of these at one gate per library; any other exception is a bug, exits with 1 and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class MertdError(Exception):
    """Base of all expected failures. `exit_code` 3: could not start, or cannot go on."""

    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class UsageError(MertdError):
    """The command line or the configuration is wrong."""

    exit_code = 2


class SourceError(MertdError):
    """An audio source cannot be opened or has broken. `retry`: it may come back by itself, as a device does."""

    def __init__(self, message: str, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry

    def __reduce__(self) -> tuple[type[SourceError], tuple[str, bool]]:
        return type(self), (str(self), self.retry)


class WeightsError(MertdError):
    """A weights file is missing, unreadable or not MERT's."""


class BackendError(MertdError):
    """An inference backend is absent, cannot run here or disagrees with the reference."""


class EndpointError(MertdError):
    """A ZeroMQ endpoint cannot be bound or does not answer."""


class KeysError(MertdError):
    """Keys are missing, malformed or open to others, or a name is taken."""


class WireError(MertdError):
    """Bytes that are not a message of wire version 1."""


class SpaceError(MertdError):
    """Vectors of two models, layers or window lengths, which may not be compared."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or an empty string when nothing known is close to `word`."""
    near = difflib.get_close_matches(word.lower(), {k.lower(): k for k in known}, n=3, cutoff=0.5)
    originals = {k.lower(): k for k in known}
    return f"; did you mean {' or '.join(repr(originals[n]) for n in near)}?" if near else ""
