"""A shared capture process with a source, `synth:silence`, that hangs until the file that it is named after is there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from mertd.capture import entry, shared_entry
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import AudioSource, Block
from mertd.capture.sources.synth import SynthSource
from mertd.ring import Ring


class WakingSource(SynthSource):
    """A source that delivers one block, hangs, and delivers another one when it wakes."""

    def __init__(self, settings: CaptureSettings) -> None:
        super().__init__(settings)
        self._alarm = Path(settings.address.name)

    def blocks(self) -> Iterator[Block | None]:
        yield Block(np.full((100, 1), 0.5, np.float32))
        while not self._alarm.exists():
            time.sleep(0.01)
        yield Block(np.full((100, 1), 0.25, np.float32))

    def close(self) -> None:
        self._alarm.with_suffix(".closed").touch()


def open_source(settings: CaptureSettings) -> AudioSource:
    return WakingSource(settings) if settings.address.target == "silence" else SynthSource(settings)


def main(rings: Mapping[str, Ring], pipe: Connection) -> None:
    """Run `mertd.capture.shared_entry.main` with that source."""
    entry.open_source = open_source
    shared_entry.main(rings, pipe)
