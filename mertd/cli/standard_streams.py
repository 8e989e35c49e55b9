"""Standard input, output and error as a program may find them: closed, full, without a reader, or in an encoding that lacks our
characters.

What cannot be written never stops a command in the middle of its work: output is dropped from then on, and the gate in
`mertd.cli.app` says so at the end. Only a command that does nothing but print, as `mertd tail`, ends at once.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mertd.errors import MertdError
from mertd.text import escaped

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

SUBSTITUTES = {"–": "-", "—": "-", "…": "...", "±": "+/-", "×": "x", "≥": ">=", "≤": "<=", "’": "'", "━": "-", "•": "*"}
"""What stands for our own characters in an encoding that lacks them; all others are escaped."""

UNENCODABLE = "mertd.substitute"
"""Name of the error handler of our streams."""

STANDARD_INPUT = 0
"""Its descriptor."""

STANDARD_OUTPUT = 1
"""Its descriptor."""

STANDARD_ERROR = 2
"""Its descriptor."""


class OutputError(MertdError):
    """Standard output cannot be written."""


class InputError(MertdError):
    """Standard input cannot be read."""


class InputDescriptor(io.RawIOBase):
    """A descriptor to read from. Raises `InputError` if it is closed: then it is not open for reading."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes, and return how many; 0 at the end."""
        while True:
            try:
                return os.readv(self._descriptor, [buffer])
            except BlockingIOError:
                select.select([self._descriptor], [], [])
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                raise InputError("standard input is closed, and there was something to read") from error


class OutputDescriptor(io.RawIOBase):
    """A descriptor that is written until that fails; what comes then is dropped.

    Attributes:
        failure: why writing failed; None if it has not.
        raises: raise the failure, too, in place of dropping what could not be written.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self.raises = False
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of `data`, and return how many bytes; all of them once the failure is known."""
        while self.failure is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another program that shares the terminal or the pipe has set it not to block
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = error
                if self.raises:
                    raise
        return memoryview(data).nbytes


_output: OutputDescriptor | None = None  # of this program; None in a program that merely imports this module


def open_standard_streams() -> None:
    """Give this program, and those that it starts, three standard streams. Call once, before anything is opened or printed.

    A closed one gets the null device, so that no file or socket takes its number. Input and output get it the wrong way round:
    who reads or writes is told that it is closed.
    """
    global _output
    for descriptor, flags in (
        (STANDARD_INPUT, os.O_WRONLY),
        (STANDARD_OUTPUT, os.O_RDONLY),
        (STANDARD_ERROR, os.O_WRONLY),
    ):
        _fill(descriptor, flags)
    codecs.register_error(UNENCODABLE, _substitute)
    encoding = sys.stdin.encoding if sys.stdin else "utf-8"
    sys.stdin = io.TextIOWrapper(io.BufferedReader(InputDescriptor(STANDARD_INPUT)), encoding=encoding, errors="replace")
    _output = OutputDescriptor(STANDARD_OUTPUT)
    sys.stdout = _text_stream(_output, sys.stdout.encoding if sys.stdout else "utf-8", _output.isatty())
    sys.stderr = _text_stream(OutputDescriptor(STANDARD_ERROR), sys.stderr.encoding if sys.stderr else "utf-8", True)


@contextmanager
def raising_output() -> Iterator[None]:
    """Within, what cannot be written is an error at once. Raises `OutputError`, or `BrokenPipeError` if the reader has left."""
    if _output is not None:
        _output.raises = True
    try:
        yield
    except OSError as error:
        if _output is None or error is not _output.failure or error.errno == errno.EPIPE:
            raise
        raise output_error(error) from error
    finally:
        if _output is not None:
            _output.raises = False


def check_output() -> None:
    """Write what is buffered. Raises `OutputError` if something of the output is lost, unless its reader has left."""
    if _output is not None:
        sys.stdout.flush()
        if _output.failure is not None and _output.failure.errno != errno.EPIPE:
            raise output_error(_output.failure)


def output_error(error: OSError) -> OutputError:
    """Return what is to be said of standard output."""
    if error.errno == errno.EBADF:
        return OutputError("standard output is closed, and there was something to print")
    return OutputError(f"standard output cannot be written: {error.strerror}; part of what was to be printed is lost")


def _fill(descriptor: int, flags: int) -> None:
    """Open the null device as this descriptor if it is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)


def _text_stream(descriptor: OutputDescriptor, encoding: str, by_line: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(descriptor), encoding=encoding, errors=UNENCODABLE, line_buffering=by_line)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(SUBSTITUTES.get(c) or escaped(c) for c in error.object[error.start : error.end]), error.end
