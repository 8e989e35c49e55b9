"""Sound that breaks a model: what it does in one stream must not cost another stream a window."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from attacks.target import Attack
from attacks.trial import Row, judge
from attacks.victim import Victim
from attacks.witness import Witness
from mertd.wire import Status

NAME = "extreme samples in another stream"
RATE = 24_000
BLOCK_S = 0.1
HOP_S = 0.5

EXTREMES = [3e38, -3e38, np.inf, -np.inf, np.nan, 1e30, 1e-40, 1e-45]
"""Values of the samples, for one second each: the largest floats, no numbers, and numbers too small to be normal."""


class Writer:
    """Writes a quiet tone into a FIFO in real time, and from `attack` on extreme values. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._over = threading.Event()
        self.attack = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        os.mkfifo(self._path)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _write(self) -> None:
        samples = round(RATE * BLOCK_S)
        tone = (0.1 * np.sin(np.arange(samples) * 0.03)).astype("<f4")
        values = itertools.cycle(np.repeat(EXTREMES, round(1.0 / BLOCK_S)))
        fifo = None
        began = time.monotonic()
        for number in itertools.count(1):
            if self._over.wait(max(0.0, began + number * BLOCK_S - time.monotonic())):
                break
            with contextlib.suppress(OSError):  # no reader yet, or it takes no more
                fifo = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK) if fifo is None else fifo
                block = np.full(samples, next(values), dtype="<f4") if self.attack.is_set() else tone
                os.write(fifo, block.tobytes())
        if fifo is not None:
            os.close(fifo)


def extreme_samples(seconds: float) -> Row:
    """Extreme samples in one stream, beside a stream of music."""
    with tempfile.TemporaryDirectory() as folder:
        fifo = Path(folder) / "sound"
        source = f"pipe:{fifo}?format=f32le&channels=1&rate={RATE}&name=extreme"
        attack = Attack(NAME, (), sources=(source, "synth:chords"), hop_s=HOP_S)
        row = Row(attack.name)
        with Writer(fifo) as writer, Victim(attack) as victim:
            with Witness(victim) as witness:
                before = victim.status()
                witness.begin()
                writer.attack.set()
                time.sleep(max(seconds, len(EXTREMES) + 1.0))
                judge(row, witness.figures(), witness)
                after = victim.status()
                row.wrong += complaints(before, after)
            row.lives = victim.lives
            row.end_s = victim.terminate()
    return row


def complaints(before: Status, after: Status) -> list[str]:
    """Return what the stream of music, or the model, has suffered."""
    found: list[str] = []
    music = {key: after.streams["chords"][key] - before.streams["chords"][key] for key in ("due", "embedded", "skipped")}
    if music["skipped"] or music["embedded"] < music["due"] - 2:
        found.append(f"the other stream lost windows: {music}")
    restarts = after.processes["embed"]["restarts"] - before.processes["embed"]["restarts"]
    if restarts:
        found.append(f"the model was restarted {restarts} times")
    for name, counters in after.streams.items():
        if counters["due"] != sum(counters[key] for key in ("embedded", "silent", "skipped", "waiting")):
            found.append(f"the windows of {name} do not add up: {counters}")
    return found
