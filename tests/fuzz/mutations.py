"""Broken input by the million: valid messages and source addresses, mutated, and what must hold of each.

    PYTHONPATH=tests python tests/fuzz/mutations.py --runs 1000000 --seed 1

Nothing but the declared error may be raised, and what the decoder accepts must go back on the wire and be read as the same.
"""

from __future__ import annotations

import argparse
import random
import time
import tracemalloc
from collections.abc import Callable

from mertd.capture.address import parse
from mertd.errors import UsageError, WireError
from mertd.wire import decode, encode
from messages import embedding, event, status

MESSAGES = [encode(embedding()), encode(event()), encode(status())]
URLS = [
    b"device:",
    b"file:/tmp/a.wav?mix=2",
    b"pipe:-?rate=48000&channels=2&format=s16le&name=radio",
    b"synth:chords?seconds=60",
]
HEADS = [
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\x91" * 2000,
    b"\xcb\x7f\xf8",
]
"""Claims of 2^32 entries or bytes, deep nesting, a NaN."""


def mutate(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to four bytes or stretches of it changed, removed, repeated or replaced by a greedy claim."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        to = min(len(out), at + chance.choice((1, 1, 2, 9)))
        match chance.randrange(5):
            case 0:
                out[at:to] = chance.randbytes(to - at)
            case 1:
                del out[at:to]
            case 2:
                out[at:at] = out[at:to]
            case 3:
                out[at:to] = chance.choice(HEADS)
            case 4:
                del out[at:]
    return bytes(out)


def try_decode(chance: random.Random) -> bool:
    """Whether a mutated message was accepted."""
    topic, payload = chance.choice(MESSAGES)
    try:
        message = decode([topic, mutate(payload, chance)])
    except WireError:
        return False
    again = encode(message)
    assert encode(decode(again)) == again  # bytes, since a vector may hold NaN
    return True


def try_address(chance: random.Random) -> bool:
    """Whether a mutated source address was accepted."""
    try:
        parse(mutate(chance.choice(URLS), chance).decode("utf-8", "surrogateescape"))
    except UsageError:
        return False
    return True


TARGETS: dict[str, Callable[[random.Random], bool]] = {"decode": try_decode, "address": try_address}


def fuzz(target: str, runs: int, seed: int) -> int:
    """How many of `runs` inputs were accepted. What fails is told apart by the number of its run."""
    accepted = 0
    for run in range(runs):
        try:
            accepted += TARGETS[target](random.Random(f"{seed} {run}"))
        except Exception as error:
            error.add_note(f"target {target}, seed {seed}, run {run}")
            raise
    return accepted


def peak_bytes(target: str, runs: int, seed: int) -> int:
    """Most memory that Python held at once during `runs` inputs."""
    tracemalloc.start()
    try:
        fuzz(target, runs, seed)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    chosen = options.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    for target in TARGETS:
        began = time.perf_counter()
        accepted = fuzz(target, chosen.runs, chosen.seed)
        print(
            f"{target}: {chosen.runs} inputs, {accepted} accepted, {chosen.runs / (time.perf_counter() - began):.0f}/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
