"""Layer 6 of one window: ONNX Runtime against eager float32 `transformers.HubertModel`, on the same threads, in turn.

Run: uv run --group reference --with torch==2.13.0 python benchmarks/onnx_against_pytorch.py [--runs 5] [--threads 2]
Prints each pair of times and the median of their ratios; other programs slow both sides of a pair alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

LAYER = 6


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()

    import torch

    from mertd.embed.audio import normalise
    from mertd.embed.backends import OnnxBackend, cosines
    from mertd.embed.weights import load
    from reference.hubert import hubert, states
    from signals import chord_progression

    torch.set_num_threads(options.threads)
    weights = load("random:0")
    model = hubert(weights)
    backend = OnnxBackend(weights, (LAYER,), options.threads)
    window = normalise(chord_progression(options.seconds))
    backend.prepare(len(window))

    agreement = cosines(backend.embed(window[None])[0, 0], states(model, window)[LAYER])
    print(f"layer {LAYER} of {options.seconds:g} s, {options.threads} threads; cosine between the two {float(agreement):.7f}")
    ratios = []
    for _ in range(options.runs):
        pytorch = timed(lambda: states(model, window))
        onnx = timed(lambda: backend.embed(window[None]))
        ratios.append(pytorch / onnx)
        print(f"PyTorch eager {pytorch:6.2f} s   onnx {onnx:6.2f} s   ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
