"""Run the property tests of the schedule and of the clock with many seeds: `uv run python tests/many_seeds.py --seeds 200`.

One run of a property test tries other examples than the next, and a fault that one run in three finds would reach a release.
The seeds are shared out to as many processes as there are cores, and each process imports the tests once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

PROFILE = "seeds"
"""Profile of hypothesis, see conftest.py: few examples a seed."""

FILES = (
    "tests/test_windows.py",
    "tests/capture/test_clock.py",
    "tests/capture/test_clock_steps.py",
    "tests/daemon/test_timeline_time.py",
)

OPTIONS = ("-n", "0", "-q", "-m", "hypothesis and not slow", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb", "short")

MAX_SEED = 2**31
"""Seeds are drawn below this number."""


def run_seed(seed: int, files: tuple[str, ...]) -> tuple[int, str]:
    """Return the exit code and the output of one run."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = pytest.main([*OPTIONS, f"--hypothesis-seed={seed}", *files])
    return int(code), output.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="number of seeds (200)")
    parser.add_argument("--first", type=int, default=random.randrange(MAX_SEED), help="the first one (drawn at random)")
    parser.add_argument("files", nargs="*", default=FILES, help="test files (those of schedule and clock)")
    chosen = parser.parse_args()
    os.chdir(Path(__file__).parent.parent)
    os.environ["HYPOTHESIS_PROFILE"] = PROFILE  # before the processes start
    began = time.monotonic()
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    print(f"seeds {seeds.start} to {seeds.stop - 1}", flush=True)
    failed: list[int] = []
    with (
        tempfile.TemporaryDirectory(prefix="mertd-cache-") as cache,
        ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as processes,
    ):
        os.environ["XDG_CACHE_HOME"] = cache  # one for all: conftest.py is imported anew by each run
        runs = [processes.submit(run_seed, seed, tuple(chosen.files)) for seed in seeds]
        for seed, run in zip(seeds, runs, strict=True):
            code, output = run.result()
            if code:
                failed.append(seed)
                print(f"\nseed {seed} fails:\n{output}", flush=True)
    print(f"{len(seeds)} seeds in {time.monotonic() - began:.0f} s; {len(failed)} fail", *failed)
    if failed:
        print(f"repeat one with: HYPOTHESIS_PROFILE={PROFILE} uv run pytest -n 0 -m hypothesis --hypothesis-seed=SEED FILE")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
