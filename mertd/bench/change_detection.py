"""How many joins of a made programme the change detector finds, on the network's vectors and on a simple spectrum's.

Both are seen through the same windows by the same detector, so the difference is that of the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.evaluate.made_programme import MadeProgramme, make_programme
from mertd.evaluate.spectral_features import spectral_features
from mertd.evaluate.synthesiser import find_soundfont
from mertd.memory.changes.detector import Change, ChangeKind, StreamWindow, find_changes

HOPS = 6
"""Hops in a window."""

LENGTHS = (55 / 30, 85 / 30)
"""Shortest and longest piece, in windows."""


def measure_changes(
    weights: str, layer: int, pieces: int, window_s: float, progress: Callable[[str], object]
) -> dict[str, Any]:
    """Return precision and recall of both detectors on a programme of `pieces` pieces."""
    shortest, longest = (share * window_s for share in LENGTHS)
    programme = make_programme(pieces, shortest, longest, find_soundfont(), progress)
    embedder = Embedder(ModelSettings(weights, (layer,), "auto", round(window_s * SAMPLE_RATE)))
    windows = cut(programme.samples, window_s)
    described = {"network": [], "spectrum": []}  # type: dict[str, list[NDArray[np.float32]]]
    for number, (_, samples) in enumerate(windows):
        progress(f"window {number + 1} of {len(windows)}")
        vector = embedder.embed([samples])[0]
        described["network"].append(np.full(1, np.nan, np.float32) if vector is None else vector[0])
        described["spectrum"].append(spectral_features(samples))
    starts = [start for start, _ in windows]
    return {
        "pieces": pieces,
        "window_s": window_s,
        "windows": len(windows),
        "weights": weights,
        "trained": embedder.weights.trained,
        "cuts": len(programme.cuts),
        "fades": len(programme.fades),
        "detectors": {name: score(programme, starts, vectors, window_s) for name, vectors in described.items()},
    }


def cut(samples: NDArray[np.float32], window_s: float) -> list[tuple[float, NDArray[np.float32]]]:
    """Return start, in seconds, and samples of every window."""
    length = round(window_s * SAMPLE_RATE)
    hop = length // HOPS
    return [(at / SAMPLE_RATE, samples[at : at + length]) for at in range(0, len(samples) - length + 1, hop)]


def score(
    programme: MadeProgramme, starts: Sequence[float], vectors: Sequence[NDArray[np.float32]], window_s: float
) -> dict[str, Any]:
    """Return what the detector finds on the vectors of windows that begin at `starts`, in seconds."""
    stacked = np.stack(vectors)
    mean = stacked.mean(axis=0, dtype=np.float64).astype(np.float32)
    stream = [
        StreamWindow(round(start * 1e9), round((start + window_s) * 1e9), vector)
        for start, vector in zip(starts, stacked, strict=True)
    ]
    found = [change for change in find_changes(stream, mean) if change.kind is ChangeKind.CHANGE]
    hits = matched(programme.joins, found)
    delays = [(change.detected_ns - change.time_ns) / 1e9 for change in found]
    return {
        "found": len(found),
        "precision": len(hits) / len(found) if found else 1.0,
        "recall": len(hits) / len(programme.joins),
        "recall_cuts": len(hits & set(programme.cuts)) / max(1, len(programme.cuts)),
        "recall_fades": len(hits & set(programme.fades)) / max(1, len(programme.fades)),
        "bound_s": found[0].bound_ns / 1e9 if found else window_s / 2,
        "delay_s": max(delays, default=0.0),
    }


def matched(joins: Sequence[float], found: Sequence[Change]) -> set[float]:
    """Return the joins that lie within the bound of a change; a change counts for one join, the nearest."""
    left = set(joins)
    hits = set()
    for change in found:
        near = min(left, key=lambda join: abs(join - change.time_ns / 1e9), default=None)
        if near is not None and abs(near - change.time_ns / 1e9) <= change.bound_ns / 1e9:
            left.remove(near)
            hits.add(near)
    return hits
