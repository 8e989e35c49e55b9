"""Embedding of many inputs, one after the other: whatever is wrong with one of them, the others are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mertd.capture.address import Address
from mertd.capture.source import AudioSource, EndReport
from mertd.embed.embedder import Embedder
from mertd.errors import BackendError, MertdError
from mertd.offline.inputs import Input
from mertd.offline.journal import JournalError
from mertd.offline.outputs import Output, ResultError
from mertd.offline.piped import open_piped
from mertd.offline.source_windows import SilentWindow, WindowsDone, embed_source, open_address
from mertd.offline.stored_batch import Outcome
from mertd.wire import Embedding


@dataclass(frozen=True)
class WindowSettings:
    """How windows are made."""

    window: int  # samples
    hop: int  # samples
    gate_dbfs: float  # windows below it are not embedded


class Watcher(Protocol):
    """Is told how a batch goes."""

    def began(self, item: Input) -> None:
        """Take note that an input was begun."""

    def progress(self, seconds: float) -> None:
        """Take the seconds of audio read of the current input."""

    def say(self, text: str) -> None:
        """Take a line about an input that is worth knowing."""

    def ended(self, item: Input, problem: str) -> None:
        """Take note that an input has ended. `problem`: what was wrong with it, or empty."""


class Batch:
    """Embeds inputs into an output."""

    def __init__(
        self, embedder: Embedder, settings: WindowSettings, output: Output, watcher: Watcher, stopping: Callable[[], bool]
    ) -> None:
        """`stopping`: whether to stop; what can be heard only once ends with that, anything else is interrupted."""
        self._embedder = embedder
        self._settings = settings
        self._output = output
        self._watcher = watcher
        self._stopping = stopping
        self.bad = 0  # inputs that failed or of which something is missing

    def run(self, inputs: list[Input]) -> bool:
        """Embed the inputs; return whether all of them were tried, and not stopped before.

        Raises `ResultError`, `JournalError` or `BackendError`, which no input could survive, and `OSError` of the output.
        """
        for item in inputs:
            if self._stopping():
                return False
            self._watcher.began(item)
            outcome = self._output.finished(item)
            if outcome is None:
                outcome = Outcome(EndReport(0.0, item.problem)) if item.problem else self._embed(item)
                if outcome is None:
                    return False
            self._tell(item, outcome)
        return True

    def _embed(self, item: Input) -> Outcome | None:
        """Embed one input; return how it ended, or None if it was interrupted."""
        done = self._output.begin(item)
        embedded, silent = done.embedded, done.silent
        report = EndReport()
        try:
            for found in self._windows(item, done):
                if isinstance(found, EndReport):
                    report = found
                    continue
                self._output.add(item, found)
                embedded += isinstance(found, Embedding)
                silent += isinstance(found, SilentWindow)
                if self._stopping() and not item.is_live:
                    return None
        except (ResultError, JournalError, BackendError, BrokenPipeError):
            raise
        except MertdError as error:
            report = EndReport(0.0, str(error))
        except OSError as error:
            report = EndReport(0.0, f"{item.label}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - a fault of a decoder must not end the others
            report = EndReport(0.0, f"{item.label}: cannot be embedded, {type(error).__name__}: {error}")
        if self._stopping() and not item.is_live:
            return None
        outcome = Outcome(report, silent, embedded)
        self._output.end(item, outcome)
        return outcome

    def _windows(self, item: Input, done: WindowsDone) -> Iterator[Embedding | SilentWindow | EndReport]:
        settings = self._settings
        stopping = self._stopping

        def opened(address: Address) -> AudioSource:
            nonlocal stopping
            source = open_piped(item, self._stopping) if item.is_pipe else open_address(address)
            if item.is_pipe and self._stopping():
                stopping = never  # it ended the copying of a sound file: what has come is embedded
            return source

        return embed_source(
            item.address,
            self._embedder,
            settings.window,
            settings.hop,
            settings.gate_dbfs,
            self._watcher.progress,
            opened,
            lambda: stopping(),
            done,
        )

    def _tell(self, item: Input, outcome: Outcome) -> None:
        report = outcome.report
        for hint in report.hints:
            self._watcher.say(f"{item.label}: {hint}")
        if outcome.silent:
            gate = self._settings.gate_dbfs
            self._watcher.say(f"{item.label}: {outcome.silent} silent windows below {gate:g} dBFS are left out")
        problem = ""
        if report.reason:
            self.bad += 1
            problem = str(report) if report.missing_s else report.reason
            if not outcome.failed and not report.missing_s:
                problem = f"some of its audio is missing: {problem}"
            if item.label not in problem:
                problem = f"{item.label}: {problem}"
        self._watcher.ended(item, problem)


def never() -> bool:
    """Return False."""
    return False
