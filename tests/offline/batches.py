"""Batches for tests: a few short files, the tests' small weights, run in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.offline.batch import Batch
from mertd.offline.decoders import WindowSettings
from mertd.offline.inputs import Input, find_inputs
from mertd.offline.outputs import FileOutput

WINDOW = SAMPLE_RATE
HOP = SAMPLE_RATE // 2
SETTINGS = {"space": "s", "hop": 0.5, "gate": -60.0, "layers": [1, 2], "hidden": 64, "trained": False}


def small_embedder() -> Embedder:
    return Embedder(ModelSettings("random:0?size=tiny", (1, 2), "numpy", WINDOW))


class Heard:
    """What a batch tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.problems: dict[str, str] = {}

    def began(self, item: Input) -> None:
        """Nothing is shown."""

    def progress(self, item: Input, seconds: float) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        self.lines.append(text)

    def ended(self, item: Input, problem: str) -> None:
        if problem:
            self.problems[item.label] = problem


def embed_batch(
    embedder: Embedder,
    words: list[str],
    out: Path,
    *,
    stopping: Callable[[], bool] = lambda: False,
    hop: int = HOP,
    resume: bool = True,
    finish: bool = True,
) -> Heard:
    """Embed `words` into `out` as the command does; without `finish` the result is not made, as if it were killed before."""
    heard = Heard()
    output = FileOutput(out, resume)
    try:
        inputs = find_inputs(words, heard.lines.append)
        heard.lines += output.begin_batch({**SETTINGS, "hop": hop / SAMPLE_RATE}, inputs)
        batch = Batch(embedder, WindowSettings(WINDOW, hop, -60.0), output, heard, stopping)
        if batch.run(inputs) and finish:
            heard.lines += output.finish(inputs, not batch.bad)
    finally:
        output.close()
    return heard
