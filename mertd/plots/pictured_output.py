"""The output of a batch, which also keeps what a picture of it needs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mertd.offline.inputs import Input
from mertd.offline.outputs import Output
from mertd.offline.source_windows import SilentWindow, WindowsDone
from mertd.offline.stored_batch import Key, Outcome
from mertd.plots.pictured_span import PicturedSpan, RecordedSpan
from mertd.wire import Embedding


class PicturedOutput:
    """Hands everything on to another output."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._spans: dict[Key, RecordedSpan] = {}
        self._partly: list[str] = []

    def spans(self, inputs: Sequence[Input]) -> list[PicturedSpan]:
        """Return what is to be drawn: of each input with a window, in the order of the inputs."""
        recorded = (self._spans[item.key] for item in inputs if item.key in self._spans)
        return [span for span in (one.picture() for one in recorded) if span is not None]

    @property
    def done_before(self) -> list[str]:
        """Inputs of which an earlier run has embedded some or all windows, which are not in the picture."""
        return self._partly

    def begin_batch(self, settings: Mapping[str, Any], inputs: list[Input]) -> list[str]:
        """Hand on."""
        return self._output.begin_batch(settings, inputs)

    def finished(self, item: Input) -> Outcome | None:
        """Hand on, and note that it was done before."""
        outcome = self._output.finished(item)
        if outcome is not None:
            self._partly.append(item.label)
        return outcome

    def begin(self, item: Input) -> WindowsDone:
        """Hand on, and note if some of it was done before."""
        done = self._output.begin(item)
        self._spans[item.key] = RecordedSpan(os.path.basename(item.label))  # noqa: PTH119 - the label need not be a path
        if done.embedded or done.silent:
            self._partly.append(item.label)
        return done

    def add(self, item: Input, window: Embedding | SilentWindow) -> None:
        """Hand on, and keep what a picture needs."""
        self._output.add(item, window)
        if isinstance(window, Embedding):
            self._spans[item.key].add(window)

    def end(self, item: Input, outcome: Outcome) -> None:
        """Hand on."""
        self._output.end(item, outcome)

    def finish(self, inputs: list[Input], all_well: bool) -> list[str]:
        """Hand on."""
        return self._output.finish(inputs, all_well)

    def close(self) -> None:
        """Hand on."""
        self._output.close()
