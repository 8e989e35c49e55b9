"""Where the result of a batch goes; here a file that appears when it is complete.

Until a file is complete, what is done lies beside it in `NAME.partial`, a journal. The file is replaced in one step, through
links and with its permissions, and never by less than it holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np

from mertd.errors import MertdError
from mertd.files import replaceable, replacing
from mertd.offline.arrays import write_npz
from mertd.offline.inputs import Input
from mertd.offline.journal import Journal
from mertd.offline.lines import ResultError, missing_line, window_line
from mertd.offline.source_windows import SilentWindow, WindowsDone
from mertd.offline.stored_batch import Outcome, StoredBatch
from mertd.wire import Embedding

SUFFIXES = (".npz", ".ndjson")
"""Kinds of files that can be written."""


MAX_NAME_BYTES = 240
"""Bytes of the result's name that its journal's name begins with: file systems allow 255."""


class Output(Protocol):
    """Takes what a batch finds. All methods raise `ResultError` or another `MertdError` if it cannot be written."""

    def begin_batch(self, settings: Mapping[str, Any], inputs: list[Input]) -> list[str]:
        """Take what makes the vectors: `space`, `layers`, `hop` and others. Return lines for the user."""

    def finished(self, item: Input) -> Outcome | None:
        """Return how `item` ended if it need not be embedded again."""

    def begin(self, item: Input) -> WindowsDone:
        """Begin an input; return what is there of it already."""

    def add(self, item: Input, window: Embedding | SilentWindow) -> None:
        """Take a window of the input that was begun."""

    def end(self, item: Input, outcome: Outcome) -> None:
        """Take how the input ended that was begun."""

    def finish(self, inputs: list[Input], all_well: bool) -> list[str]:
        """Complete the result. Return lines for the user about what is not as asked."""

    def close(self) -> None:
        """Let go of it, complete or not."""


class FileOutput:
    """An npz or NDJSON file."""

    def __init__(self, path: Path, resume: bool) -> None:
        """Find out whether `path` can be written. Without `resume`, what an interrupted run has left is thrown away.

        Raises `ResultError` or another `MertdError` if it cannot.
        """
        self._path = path
        try:
            self._target = replaceable(path)
        except OSError as error:
            raise ResultError(f"--out {path} cannot be written: {error.strerror}") from error
        except MertdError as error:
            raise ResultError(f"--out {error}") from error
        self._journal = Journal(_journal_path(self._target), self._target)
        try:
            if not resume:
                self._journal.clear()
            self._batch = StoredBatch(self._journal)
        except BaseException as error:
            self._journal.close()
            if isinstance(error, OSError):
                raise ResultError(f"{self._journal.path} cannot be written: {error.strerror}") from error
            raise
        self._settings: Mapping[str, Any] = {}
        self._is_complete = False

    def begin_batch(self, settings: Mapping[str, Any], inputs: list[Input]) -> list[str]:
        """Begin or continue, if `settings` are those of the run before."""
        before = self._batch.settings
        if before is None:
            self._batch.begin_batch(dict(settings))
            self._settings = settings
            return []
        now = json.loads(json.dumps(settings))
        before = json.loads(json.dumps(before))
        if differ := [f"{n}: {before.get(n)} → {now.get(n)}" for n in {**before, **now} if before.get(n) != now.get(n)]:
            raise ResultError(
                f"{self._journal.path} holds what an interrupted run has done with other settings ({'; '.join(differ)}); "
                "finish it with those, or throw it away with --no-resume"
            )
        self._settings = settings
        lines = [f"{self._path}: continuing an interrupted run, in which {self._batch.done} inputs were done"]
        if others := self._batch.others(inputs):
            names = ", ".join(os.fsdecode(name) for name in others[:3])
            lines.append(f"{len(others)} of them are not asked for now and stay in the result: {names}")
        return lines

    def finished(self, item: Input) -> Outcome | None:
        """Return how `item` ended in the interrupted run."""
        return self._batch.finished(item)

    def begin(self, item: Input) -> WindowsDone:
        """Begin an input, or continue it."""
        return self._batch.begin(item)

    def add(self, item: Input, window: Embedding | SilentWindow) -> None:
        """Keep a window."""
        self._batch.add(item.key, window)

    def end(self, item: Input, outcome: Outcome) -> None:
        """Keep how it ended."""
        self._batch.end(item.key, outcome)

    def finish(self, inputs: list[Input], all_well: bool) -> list[str]:
        """Make the result from what is kept, and put it in its place."""
        lines = []
        rows = sum(outcome.embedded for _, outcome, _ in self._batch.results(inputs))
        try:
            before = windows_in(self._target, self._path.suffix)
            if before and not rows:
                self._is_complete = True
                return [f"nothing was embedded; {self._path} is left as it was"]
            if before and rows < before and not all_well:
                kept = _keep_copy(self._target)
                lines.append(
                    f"{self._path} held {before} windows and now holds {rows}; as not all went well, see {kept} for them"
                )
            with replacing(self._target, abandoned_s=0) as file:  # the journal's lock says that nobody else writes it
                self._write(file, inputs)
        except OSError as error:
            raise ResultError(
                f"--out {self._path} cannot be written: {error.strerror}; what was embedded is kept in {self._journal.path}, "
                "and the same command makes the result from it"
            ) from error
        self._is_complete = True
        return lines

    def _write(self, file: BinaryIO, inputs: list[Input]) -> None:
        if self._path.suffix == ".npz":
            write_npz(file, lambda: self._batch.results(inputs), self._settings)
            return
        for label, outcome, windows in self._batch.results(inputs):
            name = os.fsdecode(label)
            for message in windows:
                file.write(window_line(name, message).encode())
            if outcome.report.reason:
                file.write(missing_line(name, outcome.report).encode())

    @property
    def kept(self) -> str:
        """What an interrupted batch has kept, and where; empty if it has kept nothing."""
        if self._is_complete or not self._settings:
            return ""
        return f"what is done is kept in {self._journal.path} ({self._batch.done} inputs whole); the same command continues"

    def close(self) -> None:
        """Close the journal; delete it if the result is complete, or nothing was begun."""
        with contextlib.suppress(OSError):
            if self._is_complete or self._journal.is_empty:
                self._journal.remove()
            else:
                self._journal.sync()
        self._journal.close()


def windows_in(path: Path, suffix: str) -> int:
    """Return how many windows a result of this kind holds; 0 if there is none, or it is something else. Raises `OSError`."""
    if not path.exists() or not path.stat().st_size:
        return 0
    if suffix == ".npz":
        with contextlib.suppress(ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(path) as arrays:
            return len(arrays["start"])
        return 0
    with path.open("rb") as file:
        return sum(b'"kind": "embedding"' in line for line in file)


def _journal_path(target: Path) -> Path:
    """Return `X.npz.partial` for X.npz; a name that would be too long for a file is cut."""
    name = os.fsencode(target.name)
    return target.with_name(os.fsdecode(name[:MAX_NAME_BYTES]) + ".partial")


def _keep_copy(path: Path) -> Path:
    """Keep a file also under the name with `~` at its end, as editors do. Raises `OSError`."""
    kept = path.with_name(path.name + "~")
    with replacing(kept) as file, path.open("rb") as old:
        for block in _blocks(old):
            file.write(block)
    return kept


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    read: Callable[[], bytes] = lambda: file.read(1 << 20)  # noqa: E731
    return iter(read, b"")
