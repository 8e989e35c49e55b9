"""How many joins of a made programme the change detector finds, on the network's vectors and on a simple spectrum's.

Both are seen through the same windows by the same detector, so the difference is that of the vectors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.evaluate.made_programme import MadeProgramme, make_programme
from mertd.evaluate.spectral_features import BANDS, spectral_features
from mertd.evaluate.synthesiser import find_soundfont
from mertd.memory.changes.detector import find_changes
from mertd.memory.changes.stream_window import Change, ChangeKind, StreamWindow

HOPS = 6
"""Hops in a window."""

SHORTEST_S = 55.0
"""Length of the shortest piece, in seconds."""

LONGEST_S = 85.0
"""Length of the longest piece, in seconds."""


def measure_changes(
    weights: str, layer: int, pieces: int, window_s: float, progress: Callable[[str], object]
) -> dict[str, Any]:
    """Return precision and recall of both detectors on a programme of `pieces` pieces.

    Raises `SynthesiserError` if FluidSynth or a soundfont is not installed.
    """
    programme = make_programme(pieces, SHORTEST_S, LONGEST_S, find_soundfont(), progress)
    embedder = Embedder(ModelSettings(weights, (layer,), "auto", round(window_s * SAMPLE_RATE)))
    windows = cut(programme.samples, window_s)
    # Rows of one array: many small ones keep the heap from giving back what is freed between them, 13 MB a window.
    network = np.full((len(windows), embedder.info.hidden), np.nan, np.float32)
    spectrum = np.zeros((len(windows), 2 * BANDS), np.float32)
    for number, (_, samples) in enumerate(windows):
        progress(f"window {number + 1} of {len(windows)}")
        vector = embedder.embed([samples])[0]
        if vector is not None:
            network[number] = vector[0]
        spectrum[number] = spectral_features(samples)
    starts = [start for start, _ in windows]
    return {
        "pieces": pieces,
        "window_s": window_s,
        "windows": len(windows),
        "weights": weights,
        "trained": embedder.weights.trained,
        "layer": layer,
        "cuts": len(programme.cuts),
        "fades": len(programme.fades),
        "detectors": {
            "network": score(programme, starts, network, window_s),
            "spectrum": score(programme, starts, spectrum, window_s),
        },
    }


def cut(samples: NDArray[np.float32], window_s: float) -> list[tuple[int, NDArray[np.float32]]]:
    """Return the number of the first sample, and the samples, of every window."""
    length = round(window_s * SAMPLE_RATE)
    return [(at, samples[at : at + length]) for at in range(0, len(samples) - length + 1, length // HOPS)]


def score(
    programme: MadeProgramme, starts: Sequence[int], vectors: Iterable[NDArray[np.float32]], window_s: float
) -> dict[str, Any]:
    """Return what the detector finds on the vectors of windows that begin at these samples."""
    length = round(window_s * SAMPLE_RATE)
    stream = [
        StreamWindow(bytes(16), 0, number, start, length, _ns(start), _ns(start + length), vector)
        for number, (start, vector) in enumerate(zip(starts, vectors, strict=True))
    ]
    began_s = time.perf_counter()
    found = [one for one in find_changes(stream) if isinstance(one, Change)]
    took_s = time.perf_counter() - began_s
    changes = [change for change in found if change.kind is ChangeKind.CHANGE]
    hits = matched(programme.joins, changes)
    errors = list(hits.values())
    return {
        "found": len(changes),
        "returns": len(found) - len(changes),
        "precision": len(hits) / len(changes) if changes else 1.0,
        "recall": len(hits) / max(1, len(programme.joins)),
        "recall_cuts": len(hits.keys() & set(programme.cuts)) / max(1, len(programme.cuts)),
        "recall_fades": len(hits.keys() & set(programme.fades)) / max(1, len(programme.fades)),
        "bound_s": changes[0].bound_ns / 1e9 if changes else window_s / 2,
        "error_s": float(np.median(errors)) if errors else 0.0,
        "delay_s": max(((change.detected_ns - change.time_ns) / 1e9 for change in changes), default=0.0),
        "us_a_window": took_s / max(1, len(stream)) * 1e6,
    }


def matched(joins: Sequence[float], found: Sequence[Change]) -> dict[float, float]:
    """Return the joins that lie within the bound of a change, and how far from it, in seconds.

    A change counts for one join, the nearest that no earlier change counts for.
    """
    left = set(joins)
    hits: dict[float, float] = {}
    for change in found:
        near = min(left, key=lambda join: abs(join - change.time_ns / 1e9), default=None)
        if near is not None and (error := abs(near - change.time_ns / 1e9)) <= change.bound_ns / 1e9:
            left.remove(near)
            hits[near] = error
    return hits


def _ns(sample: int) -> int:
    return sample * 1_000_000_000 // SAMPLE_RATE
