"""What is alive: the daemons and streams that were heard of, as the page shows them.

Rules of this file: no I/O, no clock. Everything that is returned can be JSON: times are milliseconds since 1970, which a
browser's numbers hold exactly, and what is not a finite number is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mertd.text import shorten
from mertd.view.plain_words import (
    PHASES,
    STATES,
    TONES,
    delay_words,
    event_words,
    level_words,
    skipped_words,
    state_words,
    word_of,
)
from mertd.vocabulary import EventName
from mertd.wire import REPLAY_MARK, Embedding, Event, Status

MAX_TEXT = 500
"""Characters of a text that others wrote."""

MAX_STREAMS = 1_000
"""Streams that are shown; a client of an unknown daemon must not grow without end."""

SILENT_MS = 4_000
"""Milliseconds without a message after which a daemon counts as silent; its status comes every second."""

NUMBERS = 3
"""Numbers of a vector that are shown."""


@dataclass
class StreamCard:
    """One stream."""

    daemon: str
    stream: str
    state: str = "unknown"
    tone: str = "plain"  # good, bad or plain
    words: str = "Heard of, but its daemon has not said yet what it is doing"
    source: str = ""
    level_dbfs: float | None = None
    level_words: str = ""
    window: dict[str, Any] | None = None  # the newest embedding
    latency_words: str = ""
    skipped_words: str = ""
    fault: dict[str, Any] | None = None  # the last one: time_ms and words


@dataclass
class DaemonCard:
    """One daemon."""

    daemon: str
    words: str = ""
    version: str = ""
    model: str = ""
    untrained: bool = False
    replay: bool = False
    silent: bool = False
    heard_ms: int = 0


@dataclass
class Board:
    """All of them, by name, and by (daemon, stream)."""

    daemons: dict[str, DaemonCard] = field(default_factory=dict)
    streams: dict[tuple[str, str], StreamCard] = field(default_factory=dict)
    _boots: dict[str, bytes] = field(default_factory=dict)
    _sent: dict[str, Any] = field(default_factory=dict)

    def note(self, message: Embedding | Event | Status, now_ms: int) -> None:
        """Note a message that came now."""
        if isinstance(message, Embedding | Event) and message.replay and not message.daemon.startswith(REPLAY_MARK):
            return  # of the past: what came since then says how it is now
        daemon = self.daemons.setdefault(message.daemon, DaemonCard(short(message.daemon)))
        daemon.heard_ms, daemon.silent = now_ms, False
        daemon.replay = message.daemon.startswith(REPLAY_MARK)
        if self._boots.get(message.daemon) != message.boot:
            self._boots[message.daemon] = message.boot
            self._forget(message.daemon, set())
        match message:
            case Status():
                self._note_status(daemon, message)
            case Embedding():
                self._note_embedding(daemon, message)
            case Event():
                self._note_event(message)

    def tick(self, now_ms: int) -> None:
        """Note that time goes by."""
        for daemon in self.daemons.values():
            daemon.silent = now_ms - daemon.heard_ms > SILENT_MS

    def whole(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "daemons": [asdict(one) for one in self.daemons.values()],
            "streams": [asdict(s) for s in self.streams.values()],
        }

    def news(self) -> dict[str, Any] | None:
        """Return what is different from the last time: cards that are new or changed, and names of those that are gone."""
        now = {
            **{f"d{name}": _shown(card) for name, card in self.daemons.items()},
            **{f"s{daemon}/{stream}": asdict(card) for (daemon, stream), card in self.streams.items()},
        }
        changed = {key: card for key, card in now.items() if self._sent.get(key) != card}
        gone = [{"daemon": card["daemon"], "stream": card.get("stream")} for key, card in self._sent.items() if key not in now]
        self._sent = now
        if not changed and not gone:
            return None
        return {
            "daemons": [card for key, card in changed.items() if key.startswith("d")],
            "streams": [card for key, card in changed.items() if key.startswith("s")],
            "gone": gone,
        }

    def _note_status(self, daemon: DaemonCard, message: Status) -> None:
        daemon.words = word_of(PHASES, message.phase, short(message.phase))
        daemon.version = short(message.version)
        if message.model:
            daemon.model = _model_words(message.model)
            daemon.untrained = message.model.get("trained", not daemon.untrained) is False
        self._forget(message.daemon, set(message.streams))
        for name, facts in message.streams.items():
            if isinstance(facts, Mapping) and (card := self._card(message.daemon, name)) is not None:
                _note_facts(card, facts)
        for name, process in message.processes.items():
            card = self.streams.get((message.daemon, str(name).removeprefix("capture-")))
            if card is not None and isinstance(process, Mapping):
                _note_process(card, process)

    def _note_embedding(self, daemon: DaemonCard, message: Embedding) -> None:
        if (card := self._card(message.daemon, message.stream)) is None:
            return
        daemon.untrained = daemon.untrained or not message.model.trained
        card.level_dbfs = finite(message.audio.rms_dbfs)
        card.level_words = level_words(message.audio.rms_dbfs, message.audio.peak_dbfs)
        card.latency_words = delay_words(message.latency_ns.total / 1e9)
        card.window = window_facts(message)

    def _note_event(self, message: Event) -> None:
        if (card := self._card(message.daemon, message.stream)) is None:
            return
        rms = message.detail.get("rms_dbfs")
        if message.event == EventName.SILENT and isinstance(rms, float):
            card.level_dbfs, card.level_words = finite(rms), level_words(rms)
        kind, words = event_words(message)
        if kind == "fault":
            card.fault = {"time_ms": ms(message.time_ns), "words": short(words)}

    def _card(self, daemon: str, stream: str) -> StreamCard | None:
        key = (daemon, stream)
        if key not in self.streams and len(self.streams) < MAX_STREAMS:
            self.streams[key] = StreamCard(short(daemon), short(stream))
        return self.streams.get(key)

    def _forget(self, daemon: str, kept: set[str]) -> None:
        for key in [key for key in self.streams if key[0] == daemon and key[1] not in kept]:
            del self.streams[key]


def window_facts(message: Embedding) -> dict[str, Any]:
    """Return what the page shows of an embedding."""
    return {
        "seq": message.seq,
        "start_ms": ms(message.time.start_ns),
        "end_ms": ms(message.time.end_ns),
        "numbers": [finite(float(number)) for number in message.vector.ravel()[:NUMBERS]],
        "size": int(message.vector.size),
    }


def short(text: object) -> str:
    """Return a text of others, cut if it is long, that JSON can hold."""
    return shorten(str(text), MAX_TEXT)


def ms(time_ns: int) -> int:
    """Return milliseconds."""
    return time_ns // 1_000_000


def finite(number: float) -> float | None:
    """Return a number with three decimals; None if JSON cannot hold it."""
    return round(number, 3) if math.isfinite(number) else None


def _shown(card: DaemonCard) -> dict[str, Any]:
    """Return a card without what changes with every message."""
    return asdict(card) | ({} if card.silent else {"heard_ms": 0})


def _model_words(model: Mapping[str, Any]) -> str:
    precision = f" in {model['precision']}" if model.get("precision") else ""
    device = f" ({model['device']})" if model.get("device") else ""
    return short(f"{model.get('name', 'unknown model')} on {model.get('backend', 'an unknown backend')}{device}{precision}")


def _note_facts(card: StreamCard, facts: Mapping[str, Any]) -> None:
    state = str(facts.get("state", "unknown"))
    card.state = state if state in STATES else "unknown"
    card.tone = word_of(TONES, state, "plain")
    card.words = short(state_words(state, str(facts.get("problem") or "")))
    card.source = short(facts.get("description") or facts.get("source") or "")
    skipped, due = facts.get("skipped"), facts.get("due")
    if isinstance(skipped, int) and isinstance(due, int):
        card.skipped_words = skipped_words(skipped, due)


def _note_process(card: StreamCard, process: Mapping[str, Any]) -> None:
    """Take the last error of a process for a fault, if it is later than what is known."""
    error, when = process.get("last_error"), process.get("last_error_ns")
    if not error or not isinstance(when, int) or not when:
        return
    if card.fault is None or card.fault["time_ms"] < ms(when):
        card.fault = {"time_ms": ms(when), "words": short((str(error).strip().splitlines() or [""])[-1])}
