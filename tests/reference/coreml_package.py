"""Compare a Core ML package of full size with PyTorch, without a Mac: export it, run the package in numpy, layer by layer.

Run: uv run --group reference --with torch==2.13.0 python tests/reference/coreml_package.py [--weights random:0?outliers=1]

Prints the export's time, memory and size, then for each sound (FILE's first --seconds, at 24 kHz; without files, chords) the
largest float16 result of each type of operation, and for each layer 1 - cosine, the same without the six largest channels, and
the relative error of the other channels. `--pieces N` takes N pieces from FluidSynth, and `--write FOLDER` only writes these.
Two cores take about two minutes for 30 s of sound and the GPU's package, five with --strict; the Neural Engine's takes longer.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
SAMPLE_RATE = 24_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--pieces", type=int, default=0)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--target", choices=["macos14", "macos15"], default="macos14")
    parser.add_argument("--processor", choices=["gpu", "neural-engine"], default="gpu")
    parser.add_argument("--strict", action="store_true", help="flush subnormal numbers, round inside operations too")
    options = parser.parse_args()

    if options.write:
        for number, sound in enumerate(pieces(options.pieces, options.seconds)):
            soundfile.write(options.write / f"piece-{number}.flac", sound, SAMPLE_RATE)
        return
    from signals import chord_progression

    sounds = [*pieces(options.pieces, options.seconds)] + [read(path, options.seconds) for path in options.files]
    sounds = sounds or [chord_progression(options.seconds)]

    from embed.backends.mil_evaluator import Package
    from mertd.embed.audio import normalise
    from mertd.embed.backends.coreml_package import export
    from mertd.embed.weights.loading import load

    weights, windows = load(options.weights), [normalise(sound) for sound in sounds]
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder, "MERT.mlpackage"), time.perf_counter()
        export(weights, path, range(weights.architecture.states), len(windows[0]), options.target, options.processor)
        took, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"export {took:.1f} s, peak memory {peak / 2**20:.2f} GiB, package {size / 2**20:.1f} MiB", flush=True)
        package = Package(path)

    from reference.hubert import hubert, states  # imports torch, which would count as memory of the export

    print(f"results needed at one time: {package.live_bytes() / 2**20:.0f} MiB at most", flush=True)
    reference = hubert(weights)
    for number, window in enumerate(windows):
        start = time.perf_counter()
        got = package.run(window, options.strict)
        print(f"sound {number}: evaluated in {time.perf_counter() - start:.0f} s; largest float16 results, of 65,504:")
        ranked = sorted(package.largest_of.items(), key=lambda item: -item[1])
        print("  " + ", ".join(f"{kind} {largest:.4g}" for kind, largest in ranked))
        compare(got, states(reference, window))


def pieces(count: int, seconds: float) -> Iterator[NDArray[np.float32]]:
    """Music that is made for `mertd model evaluate`, (samples,)."""
    from mertd.evaluate.made_pieces import make_piece
    from mertd.evaluate.synthesiser import find_soundfont, render

    for number in range(count):
        yield render(make_piece(number).midi(seconds), seconds, find_soundfont())


def read(path: Path, seconds: float) -> NDArray[np.float32]:
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True, frames=round(seconds * SAMPLE_RATE))
    assert rate == SAMPLE_RATE, f"{path} has {rate} Hz"
    mono: NDArray[np.float32] = sound.mean(axis=1)
    return mono


def compare(got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    from mertd.embed.backends.self_check import cosines

    rest = np.argsort(np.abs(expected).max(axis=0))[:-6]
    others = np.linalg.norm((got - expected)[:, rest], axis=1) / np.linalg.norm(expected[:, rest], axis=1)
    print("layer  1 - cosine  without 6 largest  relative error of the others")
    for layer, (everything, without) in enumerate(
        zip(1 - cosines(got, expected), 1 - cosines(got[:, rest], expected[:, rest]), strict=True)
    ):
        print(f"{layer:5}  {everything:10.1e}  {without:17.1e}  {others[layer]:28.1e}", flush=True)


if __name__ == "__main__":
    main()
