"""Broken input by the million: all that reads a stranger's bytes, fed with valid input that was mutated.

    PYTHONPATH=tests python tests/fuzz/mutations.py --runs 1000000 --seed 1

`targets.py` and `control.py` say what must hold of each. atheris, guided by coverage, was given `wire.decode` for 41 s: 862,216
inputs, and nothing found; it was not tried on the others.
"""

from __future__ import annotations

import argparse
import random
import time
import tracemalloc

from control import fuzz_control
from targets import TARGETS

CONTROL_SHARE = 0.02


def fuzz(target: str, runs: int, seed: int) -> int:
    """How many of `runs` inputs were accepted. What fails is told apart by the number of its run."""
    accepted = 0
    for run in range(runs):
        try:
            accepted += TARGETS[target][0](random.Random(f"{seed} {run}"))
        except Exception as error:
            error.add_note(f"target {target}, seed {seed}, run {run}")
            raise
    return accepted


def peak_bytes(target: str, runs: int, seed: int) -> int:
    """Most memory that Python and numpy held at once during `runs` inputs."""
    tracemalloc.start()
    try:
        fuzz(target, runs, seed)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=1_000_000, help="for the fastest target; the others take their share")
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    chosen = options.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    for target in [*TARGETS, "control"]:
        began = time.perf_counter()
        runs = max(1, round(chosen.runs * (CONTROL_SHARE if target == "control" else TARGETS[target][1])))
        accepted = fuzz_control(runs, chosen.seed) if target == "control" else fuzz(target, runs, chosen.seed)
        print(f"{target}: {runs} inputs, {accepted} accepted, {runs / (time.perf_counter() - began):.0f}/s", flush=True)


if __name__ == "__main__":
    main()
