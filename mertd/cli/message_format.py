"""Messages as lines for people."""

from __future__ import annotations

from datetime import datetime

from mertd.vocabulary import EventName
from mertd.wire import REPLAY_MARK, Embedding, Event


class MessageFormatter:
    """Formats embeddings and events."""

    def embedding(self, message: Embedding) -> str:
        """Return a line: times, stream, beginning of the vector, level, latency."""
        vector = message.vector.ravel()
        numbers = " ".join(f"{x:+.3f}" for x in vector[:3])
        layers = ",".join(map(str, message.model.layers))
        shape = "x".join(map(str, message.vector.shape))
        skipped = f"  {message.skipped} skipped" if message.skipped else ""
        missing_s = message.audio.missing / message.window.rate if message.window.rate else 0.0
        missing = f"  {missing_s:.2f} s missing" if message.audio.missing else ""
        marks = ("" if message.model.trained else "  UNTRAINED") + _replay_mark(message)
        return (
            f"{_clock(message.time.start_ns)} – {_clock(message.time.end_ns)} ±{message.time.error_ns / 1e6:.0f} ms"
            f"  {message.stream}#{message.seq}  layer {layers} [{numbers} …] {shape}"
            f"  {message.audio.rms_dbfs:.1f} dBFS  {message.latency_ns.total / 1e9:.1f} s late{skipped}{missing}{marks}"
        )

    def event(self, message: Event) -> str:
        """Return a line with time, stream, event and its details."""
        detail = _change(message) or "  ".join(f"{name}={value}" for name, value in message.detail.items())
        return f"{_clock(message.time_ns)}  {message.stream}  {message.event}  {detail}{_replay_mark(message)}"


def _replay_mark(message: Embedding | Event) -> str:
    return "  REPLAY" if message.daemon.startswith(REPLAY_MARK) else ""


def _change(message: Event) -> str:
    """Return in words what the events `change` and `return` say; nothing for others, or if they say something else."""
    match message.event, message.detail:
        case EventName.CHANGE, {"strength": float() as strength, "bound_ns": int() as bound_ns, "delay_ns": int() as delay_ns}:
            return f"strength {strength:.2f}  ±{bound_ns / 1e9:g} s  known {delay_ns / 1e9:.1f} s later"
        case EventName.RETURN, {
            "similarity": float() as similarity,
            "like": {"start_ns": int() as start_ns, "end_ns": int() as end_ns},
        }:
            return f"like {_clock(start_ns)} – {_clock(end_ns)}  similarity {similarity:+.2f}"
    return ""


def _clock(unix_ns: int) -> str:
    """Return the local time of day, to a hundredth of a second."""
    try:
        return datetime.fromtimestamp(unix_ns / 1e9).astimezone().strftime("%H:%M:%S.%f")[:-4]
    except (ValueError, OverflowError, OSError):  # what a daemon sends need not be a time of this era
        return f"{unix_ns} ns"


def clock_minute(unix_ns: int) -> str:
    """Return the local time of day, to the minute."""
    return _clock(unix_ns)[:5]
