"""What commands print, and to whom."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mertd.wire import Embedding, Event


class Lines:
    """Formats embeddings and events; remembers each stream's last vector, to show how much the music has changed."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], NDArray[np.float32]] = {}

    def embedding(self, m: Embedding) -> str:
        """When, where, how loud, what, how alike the one before, how late."""
        key, vector = (m.stream, m.model.space), m.vector.ravel()
        last, self._last[key] = self._last.get(key), vector
        alike = "" if last is None or last.shape != vector.shape else f"  cos {_cosine(vector, last):.4f}"
        some = " ".join(f"{x:+.3f}" for x in vector[:3])
        layers = ",".join(map(str, m.model.layers))
        shape = "x".join(map(str, m.vector.shape))
        lost = f"  {m.skipped} skipped" if m.skipped else ""
        missing = f"  {m.audio.missing / m.window.rate:.2f} s missing" if m.audio.missing and m.window.rate else ""
        untrained = "" if m.model.trained else "  UNTRAINED"
        return (
            f"{_clock(m.time.start_ns)} – {_clock(m.time.end_ns)} ±{m.time.error_ns / 1e6:.0f} ms  {m.stream}#{m.seq}"
            f"  layer {layers} [{some} …] {shape}{alike}  {m.audio.rms_dbfs:.1f} dBFS"
            f"  {m.latency_ns.total / 1e9:.1f} s late{lost}{missing}{untrained}"
        )

    def event(self, m: Event) -> str:
        """When, where, what."""
        detail = "  ".join(f"{name}={value}" for name, value in m.detail.items())
        return f"{_clock(m.time_ns)}  {m.stream}  {m.event}  {detail}"


def _clock(unix_ns: int) -> str:
    try:
        return datetime.fromtimestamp(unix_ns / 1e9).astimezone().strftime("%H:%M:%S.%f")[:-4]
    except (ValueError, OverflowError, OSError):  # no time of this era, from a server that lies
        return f"{unix_ns} ns"


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms else 0.0
