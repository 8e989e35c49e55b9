"""A subscriber in a process of its own, to be frozen and woken: writes down what it gets, and what it knows that it has lost.

Run: python -m chaos.onlooker ENDPOINT, until it is killed. A line a message: kind, stream, seq, lost just before it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mertd.stream.client.subscriber import Subscriber
from mertd.wire import Embedding, Event

PATIENCE_S = 5.0


def main() -> None:
    subscriber = Subscriber(sys.argv[1], kinds=("embedding", "event"))
    while True:
        received = subscriber.receive(1.0)
        if received is not None and isinstance(received.message, Embedding | Event):
            message = received.message
            print(message.kind, message.stream, message.seq, received.lost, flush=True)


def complaints(record: Path, numbers: Mapping[tuple[str, str], int]) -> tuple[list[str], int, int]:
    """What is wrong with its record; messages that it got; messages that it knows it lost.

    `numbers`: last `seq` by kind and stream, up to which it must have come, after a moment.
    """
    deadline = time.monotonic() + PATIENCE_S
    while (found := _read(record))[1] != numbers and time.monotonic() < deadline:
        time.sleep(0.1)  # between looks
    wrong, last, got, lost = found
    wrong += [f"onlooker: {key} ended at {last.get(key)}, not {seq}" for key, seq in numbers.items() if last.get(key) != seq]
    return wrong, got, lost


def _read(record: Path) -> tuple[list[str], dict[tuple[str, str], int], int, int]:
    """Holes and repeats that it was not told of; last numbers; messages that it got, and lost."""
    wrong: list[str] = []
    last: dict[tuple[str, str], int] = {}
    got = lost = 0
    for line in record.read_text().splitlines():
        match line.split():
            case [kind, stream, seq, missed]:
                before = last.get((kind, stream))
                if before is not None and int(seq) != before + 1 + int(missed):
                    wrong.append(f"onlooker: {kind} {seq} of {stream} after {before}, with {missed} reported as lost")
                last[kind, stream] = int(seq)
                got, lost = got + 1, lost + int(missed)
    return wrong, last, got, lost


if __name__ == "__main__":
    main()
