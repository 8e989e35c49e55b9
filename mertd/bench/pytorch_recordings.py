"""What a user of PyTorch would write to embed a folder: a pool of threads decodes, the model computes batches in float16."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.bench import pytorch
from mertd.defaults import SAMPLE_RATE
from mertd.embed.weights.loading import load

BATCH = 8
"""Windows at a time on a GPU; on a CPU one."""


def main(weights: str, layer: str, window_s: str, hop_s: str, threads: str, folder: str) -> None:
    """Embed a folder, and write what it took after its start to standard output, as JSON."""
    import torch

    is_gpu = torch.cuda.is_available()
    model = pytorch.hubert(load(weights))
    if is_gpu:
        model = model.half().cuda()
    window, hop = round(float(window_s) * SAMPLE_RATE), round(float(hop_s) * SAMPLE_RATE)
    size = BATCH if is_gpu else 1
    pytorch.states(model, np.zeros((size, window), np.float32), "sdpa")
    began = time.perf_counter()
    vectors: list[NDArray[np.float32]] = []
    batch: list[NDArray[np.float32]] = []
    for samples in _decoded(sorted(Path(folder).iterdir()), int(threads)):
        for start in range(0, len(samples) - window + 1, hop):
            cut = samples[start : start + window]
            batch.append((cut - cut.mean()) / np.sqrt(cut.var() + 1e-7))
            if len(batch) == size:
                vectors.append(pytorch.states(model, np.stack(batch), "sdpa")[:, int(layer)])
                batch = []
    if batch:
        vectors.append(pytorch.states(model, np.stack(batch), "sdpa")[:, int(layer)])
    seconds = time.perf_counter() - began
    about = {"device": "cuda" if is_gpu else "cpu", "precision": "float16" if is_gpu else "float32"}
    sys.stdout.write(json.dumps({"seconds": seconds, "windows": sum(map(len, vectors)), **about}) + "\n")


def _decoded(paths: list[Path], threads: int) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of each file, mono at SAMPLE_RATE, in order; twice as many as there are threads are decoded ahead."""
    waiting: deque[Future[NDArray[np.float32]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for path in paths:
            waiting.append(pool.submit(_decode, path))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _decode(path: Path) -> NDArray[np.float32]:
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE), np.float32)
