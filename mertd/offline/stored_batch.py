"""What a batch has done so far, kept in a journal: from which a later run continues, and of which the result is made.

Inputs are worked on side by side, so each record says by the position of its input's first record whose it is. Windows of one
input are in order.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from mertd.capture.source import EndReport
from mertd.errors import MertdError
from mertd.offline.inputs import Input
from mertd.offline.journal import Journal
from mertd.offline.source_windows import SilentWindow, WindowsDone
from mertd.wire import Embedding, decode, encode

SETTINGS = b"SETT"
BEGUN = b"BEGN"
WINDOW = b"WNDW"
SILENT = b"SLNT"
ENDED = b"ENDD"

Key = tuple[bytes, int]
"""What tells an input from others of the batch: label and number."""

INTERRUPTED = "mertd was ended while it listened to it"
"""Why the rest of a source that can be heard only once is missing."""


@dataclass(frozen=True)
class Outcome:
    """How an input ended."""

    report: EndReport  # what is missing, and advice
    silent: int = 0  # windows below the gate
    embedded: int = 0  # windows

    @property
    def failed(self) -> bool:
        """Whether nothing of it could be embedded."""
        return not self.embedded and not self.silent


@dataclass
class _Entry:
    """An input that was begun."""

    label: bytes
    position: int  # of its first record
    fingerprint: tuple[int, int] | None
    done: WindowsDone = field(default_factory=WindowsDone)
    outcome: Outcome | None = None
    windows: array[int] = field(default_factory=lambda: array("q"))  # positions of the records of windows


class StoredBatch:
    """The inputs of a batch that were begun or are done."""

    def __init__(self, journal: Journal) -> None:
        """Raises `JournalError` or `MertdError` for a journal that cannot be read."""
        self._journal = journal
        self._entries: dict[Key, _Entry] = {}
        self._begun: dict[int, _Entry] = {}  # by position
        self.settings: dict[str, Any] | None = None  # of the run that began it
        try:
            for kind, position, content in journal.records():
                self._take(kind, position, content)
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
            raise MertdError(f"{journal.path} holds something else or is damaged; move it away") from error
        self._end_what_is_gone()

    def _take(self, kind: bytes, position: int, content: bytes) -> None:
        if kind == SETTINGS:
            self.settings = _unpack(content)
        elif kind == BEGUN:
            label, number, fingerprint = _unpack(content)
            self._begun[position] = self._entries[label, number] = _Entry(label, position, fingerprint)
        elif kind in (WINDOW, SILENT, ENDED):
            whose, *rest = _unpack(content)
            entry = self._begun[whose]
            if kind == WINDOW:
                self._note_embedded(entry, position)
            elif kind == SILENT:
                entry.done = replace(entry.done, silent=entry.done.silent + 1)
            else:
                missing_s, reason, hints = rest
                entry.outcome = Outcome(EndReport(missing_s, reason, hints), entry.done.silent, entry.done.embedded)
        else:
            raise ValueError(kind)

    def _note_embedded(self, entry: _Entry, position: int) -> None:
        entry.windows.append(position)
        entry.done = replace(entry.done, embedded=entry.done.embedded + 1)

    def _end_what_is_gone(self) -> None:
        """End what an earlier run was interrupted in, if it cannot be heard again."""
        for key, entry in self._entries.items():
            if entry.outcome is None and entry.fingerprint is None:
                self.end(key, Outcome(EndReport(0.0, INTERRUPTED), entry.done.silent, entry.done.embedded))

    def begin_batch(self, settings: dict[str, Any]) -> None:
        """Keep what later runs must agree with."""
        self._journal.append(SETTINGS, _pack(settings))
        self.settings = settings

    def finished(self, item: Input) -> Outcome | None:
        """Return how `item` ended in an earlier run, if that holds: the file is the same one, or cannot be seen any more."""
        entry = self._entries.get(item.key)
        if entry is None or entry.outcome is None or entry.outcome.failed:
            return None
        now = item.fingerprint()
        return entry.outcome if now is None or now == entry.fingerprint else None

    def begin(self, item: Input) -> WindowsDone:
        """Begin `item`, or continue it: return what was done of it."""
        entry = self._entries.get(item.key)
        fingerprint = item.fingerprint()
        if entry is not None and entry.outcome is None and fingerprint is not None and entry.fingerprint == fingerprint:
            return entry.done
        label, number = item.key
        position = self._journal.append(BEGUN, _pack((label, number, fingerprint)))
        entry = self._begun[position] = self._entries[item.key] = _Entry(label, position, fingerprint)
        return entry.done

    def add(self, key: Key, window: Embedding | SilentWindow) -> None:
        """Keep the next window of an input that was begun."""
        entry = self._entries[key]
        if isinstance(window, SilentWindow):
            self._journal.append(SILENT, _pack((entry.position,)))
            entry.done = replace(entry.done, silent=entry.done.silent + 1)
        else:
            topic, body = encode(window)
            self._note_embedded(entry, self._journal.append(WINDOW, _pack((entry.position, topic, body))))

    def end(self, key: Key, outcome: Outcome) -> None:
        """Keep how an input ended that was begun."""
        entry, report = self._entries[key], outcome.report
        self._journal.append(ENDED, _pack((entry.position, report.missing_s, report.reason, report.hints)))
        entry.outcome = outcome

    @property
    def done(self) -> int:
        """Inputs of which something was embedded, or found silent."""
        return sum(entry.outcome is not None and not entry.outcome.failed for entry in self._entries.values())

    def others(self, inputs: list[Input]) -> list[bytes]:
        """Return the labels of inputs that were embedded and are not among `inputs`."""
        asked = {item.key for item in inputs}
        return [e.label for key, e in self._entries.items() if key not in asked and e.outcome and not e.outcome.failed]

    def results(self, inputs: list[Input]) -> Iterator[tuple[bytes, Outcome, Iterator[Embedding]]]:
        """Yield label, outcome and windows of everything that was embedded: first `inputs`, in order, then all others."""
        keys = [item.key for item in inputs]
        asked = set(keys)
        keys += [key for key in self._entries if key not in asked]
        for key in keys:
            entry = self._entries.get(key)
            if entry and entry.outcome and not entry.outcome.failed:
                yield entry.label, entry.outcome, self._windows(entry)

    def _windows(self, entry: _Entry) -> Iterator[Embedding]:
        for content in self._journal.contents(entry.windows):
            _, topic, body = _unpack(content)
            message = decode([topic, body])
            assert isinstance(message, Embedding)
            yield message


def _pack(value: Any) -> bytes:
    """Return `value` as msgpack, also with text that stands for bytes which are not UTF-8: names of files are in it."""
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return packed


def _unpack(content: bytes) -> Any:
    return msgpack.unpackb(content, use_list=False, unicode_errors="surrogatepass")
