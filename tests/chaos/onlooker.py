"""A subscriber in a process of its own, to be frozen and woken: writes down what it gets, and what it knows that it has lost.

Run: python -m chaos.onlooker ENDPOINT, until it is killed. A line a message: kind, stream, seq, lost just before it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mertd.stream.client import Subscriber
from mertd.wire import Embedding, Event


def main() -> None:
    subscriber = Subscriber(sys.argv[1], kinds=("embedding", "event"))
    while True:
        received = subscriber.receive(1.0)
        if received is not None and isinstance(received.message, Embedding | Event):
            message = received.message
            print(message.kind, message.stream, message.seq, received.lost, flush=True)


def complaints(record: Path) -> tuple[list[str], int, int]:
    """What is wrong with its record; messages that it got; messages that it knows it lost."""
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
    return wrong, got, lost


if __name__ == "__main__":
    main()
