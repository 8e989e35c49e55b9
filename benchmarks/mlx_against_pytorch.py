"""MLX on a GPU against PyTorch on the same GPU: agreement with float32, then time per window, in turn.

Run on a machine with CUDA: python benchmarks/mlx_against_pytorch.py [--seconds 30] [--runs 20]
Needs mlx with a GPU, torch and transformers. `mertd bench --only backends` times what a user gets, with copies in and out; this
one tells that apart from the work on the device alone, and compares MLX's formulations of the convolutions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import numpy as np  # noqa: E402

from mertd.bench.pytorch import hubert, states  # noqa: E402
from mertd.embed.audio import normalise  # noqa: E402
from mertd.embed.backends.mlx_backend import FORMS, MlxBackend  # noqa: E402
from mertd.embed.backends.self_check import cosines  # noqa: E402
from mertd.embed.weights.loading import load  # noqa: E402
from signals import chord_progression, sounds  # noqa: E402

ALL = tuple(range(13))


def agreement(seconds: float) -> None:
    print(f"smallest cosine over 13 layers with PyTorch float32, {seconds:g} s; in brackets without outlier channels")
    for spec in ("random:0", "random:0?outliers=1"):
        weights = load(spec)
        model = hubert(weights).cuda()
        wanted = {name: states(model, normalise(sound)[None])[0] for name, sound in sounds(seconds).items()}
        for precision in ("float32", "float16"):
            for form in FORMS:
                if (precision, form) == ("float32", "fused"):
                    continue
                backend = MlxBackend(weights, ALL, precision, form)
                results = []
                for name, sound in sounds(seconds).items():
                    got = backend.embed(normalise(sound)[None])[0]
                    largest = np.abs(wanted[name]).max(axis=0)
                    kept = largest < 10 * np.median(largest)
                    inner = cosines(got[:, kept], wanted[name][:, kept]).min()
                    finite = "" if np.isfinite(got).all() else " NOT FINITE"
                    results.append(f"{name} {cosines(got, wanted[name]).min():.6f} [{inner:.6f}]{finite}")
                print(f"{spec:20s} {precision} {form:8s} {'  '.join(results)}", flush=True)


def batches(seconds: float) -> None:
    """A batch must be what its windows are alone, also when one follows another through the same memory."""
    weights = load("random:0")
    windows = np.stack([normalise(chord_progression(seconds, seed=seed)) for seed in range(16)])
    backend = MlxBackend(weights, (6,))
    alone = np.concatenate([backend.embed(window[None]) for window in windows])
    together = np.concatenate([backend.embed(windows[at : at + 8]) for at in (0, 8)])
    nearest = cosines(together[:, 0], alone[:, 0]).min()
    print(f"16 windows in two batches against one by one: smallest cosine {nearest:.6f}")
    assert nearest > 0.99999
    for window, vector in zip(together[:, 0], alone[:, 0], strict=True):
        assert cosines(window[None], together[:, 0]).argmax() == cosines(vector[None], alone[:, 0]).argmax()


def timings(seconds: float, runs: int) -> None:
    import mlx.core as mx
    import torch

    weights = load("random:0")
    window = normalise(chord_progression(seconds))
    models = {"float32 eager": (hubert(weights).cuda(), "eager"), "float16 SDPA": (hubert(weights).half().cuda(), "sdpa")}
    contenders: dict[str, tuple[Callable[[], Any], int]] = {}

    def pytorch_on_device(model: Any, attention: str, given: Any) -> None:
        model.config._attn_implementation = attention
        with torch.inference_mode():
            model(given, output_hidden_states=True)
        torch.cuda.synchronize()

    for batch in (1, 8):
        windows = np.repeat(window[None], batch, axis=0)
        for name, (model, attention) in models.items():
            if batch == 8 and "float32" in name:
                continue
            given = torch.from_numpy(windows).to(model.device, model.dtype)
            label = f"PyTorch {name}, 13 states, B={batch}"
            contenders[f"{label}, with copies"] = lambda m=model, a=attention, w=windows: states(m, w, a), batch
            contenders[f"{label}, on the device"] = lambda m=model, a=attention, g=given: pytorch_on_device(m, a, g), batch
        for layers in ((6,), ALL):
            for form in FORMS:
                backend = MlxBackend(weights, layers, "float16", form)
                given = mx.array(windows)
                mx.eval(given)
                label = f"MLX float16 {form}, {'13 states' if len(layers) > 1 else 'layer 6'}, B={batch}"
                contenders[f"{label}, with copies"] = lambda b=backend, w=windows: b.embed(w), batch
                contenders[f"{label}, on the device"] = lambda b=backend, g=given: mx.eval(b._run(g)), batch
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(runs + 3):
        for name, (call, batch) in contenders.items():
            start = time.perf_counter()
            call()
            if turn >= 3:  # the first ones compile
                times[name].append((time.perf_counter() - start) * 1e3 / batch)
    print(f"\nmilliseconds per window of {seconds:g} s, in turn: median and quartiles of {runs}")
    for name, found in times.items():
        low, middle, high = statistics.quantiles(found, n=4)
        print(f"{name:58s} {middle:6.2f}  {low:6.2f} {high:6.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    timings(options.seconds, options.runs)
    batches(options.seconds)
    agreement(options.seconds)


if __name__ == "__main__":
    main()
