"""The errors that a person sees.

Everything mertd raises on purpose is a `MertdError`: it says in one line what is wrong and what to do, and its `exit_code` is
what the command ends with. Several mistakes that are reported together are several arguments, one line each. Errors of foreign
libraries become one of these at one gate per library, and what the system refuses at the gate of the commands if nothing
before knew better (`refused_by_system`); any other exception is a bug, exits with 1 and shows its traceback.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
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
    """An audio source cannot be opened or has failed. `retry`: it may become available again, as a device does."""

    def __init__(self, message: str, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry

    def __reduce__(self) -> tuple[type[SourceError], tuple[str, bool]]:
        return type(self), (str(self), self.retry)


class WeightsError(MertdError):
    """A weights file is missing, cannot be read or does not hold MERT's weights."""


class BackendError(MertdError):
    """An inference backend is not installed, cannot run here or disagrees with the reference."""


class EndpointError(MertdError):
    """A ZeroMQ endpoint cannot be bound or does not answer."""


class KeysError(MertdError):
    """Keys are missing, malformed or readable by others, or a name is already used."""


class WireError(MertdError):
    """Bytes or values that cannot be a message of wire version 1."""


class StoreError(MertdError):
    """The memory on disk cannot be opened, read or written, or holds what it cannot hold."""


class BusError(MertdError):
    """The bus cannot be reached, refuses this client or what it sends, or holds what is not mertd's."""


class SpaceError(MertdError):
    """Vectors of different models, layers or window lengths, which may not be compared."""


REFUSALS = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTEMPTY),  # a path
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # rights
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),  # room on a disk
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),  # descriptors, memory, processes
    *(errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EBUSY, errno.ETXTBSY),  # a device or a remote disk
}
"""Numbers of errors by which the system says that the machine is not as we need it. Any other one means a bug of ours."""


def refused_by_system(error: OSError | MemoryError) -> MertdError | None:
    """Return what to say of an error of the system that no other gate has turned into ours; None if it is a bug."""
    if isinstance(error, MemoryError):
        return MertdError("there is not enough memory; give it more, or fewer streams or shorter windows")
    if error.errno not in REFUSALS or isinstance(error, ConnectionError):
        return None
    if error.filename is None and error.errno == errno.ENOENT and not _working_directory_exists():
        return MertdError("the working directory was deleted; change to one that exists")
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes)]
    reason = error.strerror or str(error)
    return MertdError(f"{' -> '.join(paths)}: {reason}" if paths else reason)


def _working_directory_exists() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the known words that resemble `word`, or an empty string if none does."""
    near = difflib.get_close_matches(word.lower(), {k.lower(): k for k in known}, n=3, cutoff=0.5)
    originals = {k.lower(): k for k in known}
    return f"; did you mean {' or '.join(repr(originals[n]) for n in near)}?" if near else ""
