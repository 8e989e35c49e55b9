"""MLX on a GPU against PyTorch on the same GPU: agreement with float32, then time per window.

Run on a machine with CUDA (or, for MLX alone, a Mac): python benchmarks/mlx_against_pytorch.py [--seconds 30] [--runs 20]
Needs mlx with a GPU, torch and transformers. Times are medians, with data going in and vectors coming out; all in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("MLX_ENABLE_TF32", "0")  # float32 is to mean float32
REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import numpy as np  # noqa: E402

from mertd.embed.audio import normalise  # noqa: E402
from mertd.embed.backends import MlxBackend, cosines  # noqa: E402
from mertd.embed.weights import load  # noqa: E402
from reference.hubert import hubert  # noqa: E402
from signals import chord_progression, sounds  # noqa: E402

ALL = tuple(range(13))
FORMS = ("conv1d", "product")


def median_ms(function: Callable[[], object], runs: int) -> float:
    for _ in range(3):
        function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def pytorch_states(model: Any, windows: Any) -> Any:
    import torch

    with torch.inference_mode():
        hidden = model(torch.from_numpy(windows).to(model.device, model.dtype), output_hidden_states=True).hidden_states
        return torch.stack([state.float().mean(dim=1) for state in hidden], dim=1).cpu().numpy()


def agreement(seconds: float) -> None:
    print(f"smallest cosine over 13 layers with PyTorch float32, {seconds:g} s; in brackets without outlier channels")
    for spec in ("random:0", "random:0?outliers=1"):
        weights = load(spec)
        model = hubert(weights).cuda()
        for precision in ("float32", "float16"):
            for form in FORMS:
                backend = MlxBackend(weights, ALL, precision, form)
                results = []
                for name, sound in sounds(seconds).items():
                    window = normalise(sound)[None]
                    got, wanted = backend.embed(window)[0], pytorch_states(model, window)[0]
                    largest = np.abs(wanted).max(axis=0)
                    kept = largest < 10 * np.median(largest)
                    inner = cosines(got[:, kept], wanted[:, kept]).min()
                    finite = "" if np.isfinite(got).all() else " NOT FINITE"
                    results.append(f"{name} {cosines(got, wanted).min():.6f} [{inner:.6f}]{finite}")
                print(f"{spec:20s} {precision} {form:8s} {'  '.join(results)}", flush=True)


def timings(seconds: float, runs: int) -> None:
    weights = load("random:0")
    window = normalise(chord_progression(seconds))
    print(f"\nmilliseconds per window of {seconds:g} s, median of {runs}")
    plain = hubert(weights).cuda()
    print(f"PyTorch float32 eager, 13 states, B=1: {median_ms(lambda: pytorch_states(plain, window[None]), runs):.2f}")
    half = hubert(weights)
    half.config._attn_implementation = "sdpa"
    half = half.half().cuda()
    for batch in (1, 8):
        windows = np.repeat(window[None], batch, axis=0)
        took = median_ms(lambda w=windows: pytorch_states(half, w), runs) / batch  # type: ignore[misc]
        print(f"PyTorch float16 SDPA, 13 states, B={batch}: {took:.2f}", flush=True)
    for layers in (ALL, (6,)):
        for form in FORMS:
            backend = MlxBackend(weights, layers, "float16", form)
            for batch in (1, 2, 4, 8):
                windows = np.repeat(window[None], batch, axis=0)
                took = median_ms(lambda b=backend, w=windows: b.embed(w), runs) / batch  # type: ignore[misc]
                print(f"MLX float16 {form}, {len(layers)} states, B={batch}: {took:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    agreement(options.seconds)
    timings(options.seconds, options.runs)


if __name__ == "__main__":
    main()
