"""A batch of thousands of files, of which dozens are broken, that is killed at random moments and resumed.

    PYTHONPATH=tests uv run python tests/offline/killed_batch.py --files 3000 --kills 10

The result must equal that of a run that nothing disturbs, byte for byte; every good file must be in it, every bad one named
with a reason. Exits with 1 if that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mertd.text import printable
from offline.broken_files import make_broken, make_whole

OPTIONS = ["--layers", "2", "--window", "1", "--hop", "0.25"]
FOLDERS = 7


def make_folder(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Fill `folder` with `count` files in folders, good ones and about fifty bad ones; return both lists of paths."""
    bad_folder = folder / "m" / "bad"
    bad_folder.mkdir(parents=True)
    bad = [f"{folder}/m/bad/{name}" for name in make_broken(bad_folder)]
    good = []
    for number in range(count - len(bad)):
        path = folder / f"{'abcmnxyz'[number % FOLDERS]}" / f"{number:05d}{('.wav', '.flac', '.aiff')[number % 3]}"
        path.parent.mkdir(exist_ok=True)
        make_whole(path, number)
        good.append(str(path))
    (folder / "m" / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "m" / "notes.txt").write_text("no sound")
    os.mkfifo(folder / "m" / "idle.wav")
    return good, bad


def command(folder: Path, out: Path, weights: Path) -> list[str]:
    return [sys.executable, "-m", "mertd", "embed", str(folder), "--out", str(out), "--weights", str(weights), *OPTIONS]


def run(words: list[str]) -> tuple[str, float]:
    """Run it to its end; return standard error and the seconds that it took."""
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, check=False)
    errors = done.stderr.decode()
    assert done.returncode == 3, (done.returncode, errors)
    assert "Traceback" not in errors, errors
    return errors, time.monotonic() - began


def run_killed(words: list[str], kills: int, whole_s: float, seed: int) -> tuple[str, int]:
    """Run it, killing it at random moments `kills` times; return what the last run said, and how often it was in its work."""
    moments = random.Random(seed)
    in_work = 0
    partial = Path(words[words.index("--out") + 1] + ".partial")
    for _ in range(kills):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(moments.uniform(0, 1.5 * whole_s / kills) + 1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        in_work += partial.exists() and partial.stat().st_size > 0
    errors, _ = run(words)
    assert not partial.exists()
    assert not list(partial.parent.glob(".killed*")), "a result that was only half written is still there"
    return errors, in_work


def check_named(errors: str, bad: list[str]) -> None:
    """Every bad file has a line that says more than its name."""
    lines = errors.splitlines()
    for path in bad:
        shown = printable(path)
        assert any(shown in line and len(line) > len(shown) + len("mertd: ") + 5 for line in lines), (shown, errors)


def check_whole(out: Path, good: list[str]) -> None:
    """Every good file has its windows in the result."""
    if out.suffix == ".npz":
        with np.load(out) as arrays:
            sources, counts = np.unique(arrays["source"], return_counts=True)
    else:
        lines = [json.loads(line)["file"] for line in out.open() if '"kind": "embedding"' in line]
        sources, counts = np.unique(np.array(lines), return_counts=True)
    found = dict(zip(sources.tolist(), counts.tolist(), strict=True))
    assert not [path for path in good if found.get(path) != 2]


def main(folder: Path, files: int, kills: int, seed: int, kinds: list[str]) -> None:
    weights = folder / "tiny.safetensors"
    subprocess.run(
        [sys.executable, "-m", "mertd", "model", "random", "--size", "tiny", "--out", str(weights)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    songs = folder / "songs"
    good, bad = make_folder(songs, files)
    print(f"{len(good)} good files, {len(bad)} bad ones; seed {seed}")
    for kind in kinds:
        whole = folder / f"whole{kind}"
        errors, seconds = run(command(songs, whole, weights))
        check_named(errors, bad)
        check_whole(whole, good)
        assert "skipped as no audio" in errors
        print(f"{kind}: undisturbed in {seconds:.1f} s, {whole.stat().st_size} bytes, every bad file named")
        killed = folder / f"killed{kind}"
        errors, in_work = run_killed(command(songs, killed, weights), kills, seconds, seed)
        check_named(errors, bad)
        assert killed.read_bytes() == whole.read_bytes(), "the results differ"
        print(f"{kind}: killed {kills} times, {in_work} times with work done, and resumed: the same, byte for byte")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--files", type=int, default=3_000)
    options.add_argument("--kills", type=int, default=10)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    options.add_argument("--kinds", nargs="+", default=[".npz", ".ndjson"])
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="mertd-batch-") as temporary:
        main(Path(temporary), given.files, given.kills, given.seed, given.kinds)
