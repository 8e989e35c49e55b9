"""The result of a batch as lines of JSON: those on standard output are written as they come, in the order of the inputs."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from mertd.capture.source import EndReport
from mertd.errors import MertdError
from mertd.offline.inputs import Input
from mertd.offline.source_windows import NOTHING_DONE, SilentWindow, WindowsDone
from mertd.offline.stored_batch import Key, Outcome
from mertd.text import json_text
from mertd.wire import Embedding, as_json

MAX_HELD_BYTES = 1 << 20
"""Bytes of lines of an input that wait in memory for their turn; more wait in a temporary file without a name."""


class ResultError(MertdError):
    """The result cannot be written."""


class StreamOutput:
    """NDJSON on standard output, line by line."""

    def __init__(self, stream: IO[str]) -> None:
        """Raises `ResultError` if standard output is closed: then its descriptor can only be read."""
        try:
            is_closed = fcntl.fcntl(stream.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        except OSError:
            is_closed = True
        if is_closed:
            raise ResultError("standard output is closed; name a file with --out")
        self._stream = stream
        self._begun: dict[Key, IO[str] | None] = {}  # in order; lines that wait for those of inputs before them
        self._ended: set[Key] = set()  # inputs that have ended before one that was begun before them

    def begin_batch(self, settings: Mapping[str, Any], inputs: list[Input]) -> list[str]:  # noqa: ARG002
        """Do nothing: each line says it."""
        return []

    def finished(self, item: Input) -> Outcome | None:  # noqa: ARG002
        """Return None: nothing is kept."""
        return None

    def begin(self, item: Input) -> WindowsDone:
        """Return that nothing is done."""
        self._begun[item.key] = None
        return NOTHING_DONE

    def add(self, item: Input, window: Embedding | SilentWindow) -> None:
        """Write a line, once all inputs that were begun before have ended."""
        if isinstance(window, Embedding):
            self._write(item, window_line(item.label, window))

    def end(self, item: Input, outcome: Outcome) -> None:
        """Write a line about what is missing."""
        if outcome.report.reason and not outcome.failed:
            self._write(item, missing_line(item.label, outcome.report))
        self._ended.add(item.key)
        while self._begun and (first := next(iter(self._begun))) in self._ended:
            self._ended.remove(first)
            del self._begun[first]
            if self._begun:
                self._release(next(iter(self._begun)))

    def _write(self, item: Input, line: str) -> None:
        if item.key == next(iter(self._begun)):
            self._write_out(line)
            return
        try:
            held = self._begun[item.key]
            if held is None:
                held = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - it is closed when its turn comes, or with the process
                    MAX_HELD_BYTES, "w+", encoding="utf-8", errors="surrogatepass"
                )
                self._begun[item.key] = held
            held.write(line)
        except OSError as error:
            raise ResultError(f"{tempfile.gettempdir()} cannot hold lines until their turn: {error.strerror}") from error

    def _release(self, key: Key) -> None:
        """Write the lines of an input whose turn it is."""
        held = self._begun[key]
        if held is not None:
            self._begun[key] = None
            with held:
                held.seek(0)
                for line in held:
                    self._write_out(line)

    def _write_out(self, line: str) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ResultError(f"standard output cannot be written: {error.strerror}") from error

    def finish(self, inputs: list[Input], all_well: bool) -> list[str]:  # noqa: ARG002
        """Do nothing: it is written."""
        return []

    def close(self) -> None:
        """Do nothing: it is not ours."""


def window_line(name: str, message: Embedding) -> str:
    """Return the line of NDJSON for a window."""
    return json_text({"file": name, **as_json(message)}) + "\n"


def missing_line(name: str, report: EndReport) -> str:
    """Return the line of NDJSON that says what is missing."""
    return json_text({"file": name, "missing_s": report.missing_s, "reason": report.reason}) + "\n"
