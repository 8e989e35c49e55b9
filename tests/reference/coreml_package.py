"""Compare a Core ML package of full size with PyTorch, without a Mac: export it, run the package in numpy, layer by layer.

Run: uv run --group reference --with torch==2.13.0 python tests/reference/coreml_package.py [--weights random:0?outliers=1]
Prints the export's time, memory and size, then for each layer 1 - cosine, the same without the six largest channels, and the
relative error of the other channels. Two cores take about two minutes for 30 s of sound, five with --strict.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--target", choices=["macos14", "macos15"], default="macos14")
    parser.add_argument("--processor", choices=["gpu", "neural-engine"], default="gpu")
    parser.add_argument("--strict", action="store_true", help="flush subnormal numbers, round inside operations too")
    options = parser.parse_args()

    from embed.backends.mil_evaluator import Package
    from mertd.embed.audio import normalise
    from mertd.embed.backends.coreml_package import export
    from mertd.embed.backends.self_check import cosines
    from mertd.embed.weights.loading import load
    from signals import chord_progression

    weights, window = load(options.weights), normalise(chord_progression(options.seconds))
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder, "MERT.mlpackage"), time.perf_counter()
        export(weights, path, range(weights.architecture.states), len(window), options.target, options.processor)
        took, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"export {took:.1f} s, peak memory {peak / 2**20:.2f} GiB, package {size / 2**20:.1f} MiB", flush=True)
        package = Package(path)
        print(f"results needed at one time: {package.live_bytes() / 2**20:.0f} MiB at most", flush=True)
        start = time.perf_counter()
        got = package.run(window, options.strict)
        print(f"evaluated in {time.perf_counter() - start:.0f} s; largest float16 result {package.largest:.0f}", flush=True)

    from reference.hubert import hubert, states  # imports torch, which would count as memory of the export

    expected = states(hubert(weights), window)
    rest = np.argsort(np.abs(expected).max(axis=0))[:-6]
    others = np.linalg.norm((got - expected)[:, rest], axis=1) / np.linalg.norm(expected[:, rest], axis=1)
    print("layer  1 - cosine  without 6 largest  relative error of the others")
    for layer, (everything, without) in enumerate(
        zip(1 - cosines(got, expected), 1 - cosines(got[:, rest], expected[:, rest]), strict=True)
    ):
        print(f"{layer:5}  {everything:10.1e}  {without:17.1e}  {others[layer]:28.1e}")


if __name__ == "__main__":
    main()
