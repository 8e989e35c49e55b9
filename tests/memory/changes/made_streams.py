"""Windows of made streams, whose boundaries are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from mertd.memory.changes.stream_window import Change, ChangeKind, Found, StreamWindow

HOP = 5
WINDOW = 30
S = 1_000_000_000
RATE = 24_000
SIZE = 32
MEAN = np.full(SIZE, 3, np.float32)
BOOT = bytes(16)


def window(seq: int, start_s: float, vector: np.ndarray[Any, Any], length_s: float = WINDOW, **changes: Any) -> StreamWindow:
    """A window that begins at a second of its run."""
    facts: dict[str, Any] = {
        "boot": BOOT,
        "epoch": 0,
        "seq": seq,
        "first": round(start_s * RATE),
        "length": round(length_s * RATE),
        "start_ns": round(start_s * S),
        "end_ns": round((start_s + length_s) * S),
        "vector": vector,
    }
    return StreamWindow(**{**facts, **changes})


def sound(sections: list[tuple[int, int]], seed: int = 0) -> np.ndarray[Any, Any]:
    """What is heard in each second of sections (sound, seconds), with a slow drift."""
    generator = np.random.default_rng(seed)
    sounds = np.random.default_rng(99).standard_normal((16, SIZE)) / SIZE**0.5
    seconds = np.concatenate([np.tile(sounds[number], (length, 1)) for number, length in sections])
    return seconds + np.cumsum(generator.standard_normal(seconds.shape), axis=0) * (0.004 / SIZE**0.5)


def stream(
    sections: list[tuple[int, int]],
    seed: int = 0,
    noise: float = 0.15,
    gap_after: int | None = None,
    hop: float = HOP,
) -> list[StreamWindow]:
    """Windows of sections: each is the mean of the sounds that it hears, with noise, beside a far centre."""
    generator = np.random.default_rng(seed)
    seconds = sound(sections, seed)
    windows = []
    for seq, start in enumerate(np.arange(0, len(seconds) - WINDOW + 1e-9, hop)):
        heard = seconds[int(start) : int(start) + WINDOW].mean(axis=0)
        vector = heard + generator.standard_normal(SIZE) * (noise / SIZE**0.5)
        at = start + (10_000 if gap_after is not None and start >= gap_after else 0)
        windows.append(window(seq, float(at), (vector + MEAN).astype(np.float16)))
    return windows


def of(found: list[Found], kind: ChangeKind) -> list[Change]:
    return [one for one in found if isinstance(one, Change) and one.kind is kind]
