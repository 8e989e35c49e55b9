"""Embedding of many inputs: whatever is wrong with one of them, the others are done.

Inputs that can be read again are embedded side by side. What can be heard only once, and pipes, come alone.
What is said about inputs, and what stands in the result, is in the order of the inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Protocol

from mertd.capture.address import Address
from mertd.capture.source import AudioSource, EndReport
from mertd.embed.embedder import Embedder
from mertd.errors import BackendError
from mertd.offline.decoders import WindowSettings
from mertd.offline.inputs import Input
from mertd.offline.journal import JournalError
from mertd.offline.lines import ResultError
from mertd.offline.outputs import Output
from mertd.offline.piped import open_piped
from mertd.offline.side_by_side import SideBySide, failure
from mertd.offline.source_windows import SilentWindow, WindowsDone, embed_source, open_address
from mertd.offline.stored_batch import Key, Outcome
from mertd.wire import Embedding


class Watcher(Protocol):
    """Is told how a batch goes."""

    def began(self, item: Input) -> None:
        """Take note that an input was begun."""

    def progress(self, item: Input, seconds: float) -> None:
        """Take the seconds of audio done of an input."""

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
        self._untold: deque[Input] = deque()
        self._outcomes: dict[Key, Outcome] = {}  # of inputs that are not told yet
        self.bad = 0  # inputs that failed or of which something is missing

    def run(self, inputs: list[Input]) -> bool:
        """Embed the inputs; return whether all of them were tried, and not stopped before.

        Raises `ResultError`, `JournalError` or `BackendError`, which no input could survive, and `OSError` of the output.
        """
        self._untold.extend(inputs)
        for may_share, group in groupby(inputs, lambda item: not (item.is_live or item.is_pipe)):
            run = self._side_by_side if may_share else self._one_by_one
            if self._stopping() or not run(list(group)):
                return False
        return True

    def _side_by_side(self, items: list[Input]) -> bool:
        parts = (self._embedder, self._settings, self._output, self._stopping, self._watcher.progress, self._ended)
        return SideBySide(*parts).run(items, self._begin)

    def _one_by_one(self, items: list[Input]) -> bool:
        for item in items:
            if self._stopping():
                return False
            if not self._begin(item):
                continue
            outcome = self._embed(item)
            if outcome is None:
                return False
            self._ended(item, outcome)
        return True

    def _begin(self, item: Input) -> bool:
        """Begin an input. Return False if there is nothing to do: it is done already, or known to be of no use."""
        self._watcher.began(item)
        outcome = self._output.finished(item)
        if outcome is None and item.problem:
            outcome = Outcome(EndReport(0.0, item.problem))
        if outcome is not None:
            self._ended(item, outcome)
        return outcome is None

    def _ended(self, item: Input, outcome: Outcome) -> None:
        """Tell how inputs ended, in their order, as far as that is known."""
        self._outcomes[item.key] = outcome
        while self._untold and (told := self._outcomes.pop(self._untold[0].key, None)):
            self._tell(self._untold.popleft(), told)

    def _embed(self, item: Input) -> Outcome | None:
        """Embed one input by itself; return how it ended, or None if it was interrupted."""
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
        except Exception as error:  # noqa: BLE001 - a fault of a decoder must not end the others
            report = failure(item, error)
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
            lambda seconds: self._watcher.progress(item, seconds),
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
