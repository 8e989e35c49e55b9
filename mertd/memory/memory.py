"""Reading the memory: `mertd.Memory`.

    import mertd

    memory = mertd.Memory()
    found = memory.arrays(memory.spaces()[-1])
    print(found.start_ns, found.vectors.shape)

It may be read while another process writes to it, and by several at once. Each call sees what was stored when it began, or
later. Only `similar` keeps files open between calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mertd.defaults import WITHIN_S
from mertd.errors import StoreError
from mertd.memory.default_folder import chosen_folder
from mertd.memory.holes import Hole
from mertd.memory.memory_folder import existing, opened
from mertd.memory.queries import FOREVER_NS, Block, Selection, blocks, cursor_of, holes, messages, newest, numbered
from mertd.memory.segment import Segment, explained
from mertd.wire import Embedding, Event

if TYPE_CHECKING:
    from mertd.memory.across.rooms import HeardTwice
    from mertd.memory.similar_search import SimilarSearch
    from mertd.memory.similarity.moments import Moment
    from mertd.memory.similarity.vector_segment import SpanFilter


class Memory:
    """A memory on disk. `folder`: where its files are."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """`folder`: by default the one of `mertd run --remember`. Raises `StoreError` if no memory is there."""
        self._searches: dict[str, SimilarSearch] = {}
        self.folder = existing(chosen_folder(folder))

    def spaces(self) -> list[str]:
        """Return the spaces of the vectors, in the order in which they came first. Raises `StoreError`."""
        found: dict[str, None] = {}
        for segment in self.segments():
            for form in segment.forms().values():
                found.setdefault(str(form[0]))
        return list(found)

    def streams(self) -> dict[int, tuple[str, str]]:
        """Return (daemon, stream) by the number that arrays have. Raises `StoreError`."""
        found: dict[int, tuple[str, str]] = {}
        for segment in self.segments():
            with explained(segment.path):
                rows = segment.db.execute("SELECT id, daemon, name FROM streams").fetchall()
            found |= {number: (daemon, name) for number, daemon, name in rows}
        return found

    def embeddings(
        self, since_ns: int = -FOREVER_NS, until_ns: int = FOREVER_NS, streams: tuple[str, ...] = ()
    ) -> Iterator[Embedding]:
        """Yield embeddings whose windows begin in this time, file by file and by time within each. Raises `StoreError`."""
        for message in self.messages(("embedding",), Selection(since_ns, until_ns, streams)):
            assert isinstance(message, Embedding)
            yield message

    def events(self, since_ns: int = -FOREVER_NS, until_ns: int = FOREVER_NS, streams: tuple[str, ...] = ()) -> Iterator[Event]:
        """Yield the events of a time, file by file and by time within each. Raises `StoreError`."""
        for message in self.messages(("event",), Selection(since_ns, until_ns, streams)):
            assert isinstance(message, Event)
            yield message

    def messages(self, kinds: tuple[str, ...], selection: Selection) -> Iterator[Embedding | Event]:
        """Yield messages of some kinds, file by file and by time within each. Raises `StoreError`."""
        for segment in self.segments():
            yield from messages(segment, kinds, selection)

    def arrays(
        self,
        space: str,
        since_ns: int = -FOREVER_NS,
        until_ns: int = FOREVER_NS,
        streams: tuple[str, ...] = (),
    ) -> Block:
        """Return all vectors of a space from this time, in the order in which they came. Raises `StoreError`."""
        selection = Selection(since_ns, until_ns, streams)
        found = [block for segment in self.segments() for block in blocks(segment, space, selection)]
        if not found:
            raise StoreError(f"no vectors of space {space} in {self.folder} from this time and these streams")
        return Block(*(np.concatenate([getattr(block, name) for block in found]) for name in Block.__dataclass_fields__))

    def between(self, boot: bytes, kind: str, stream: str, first: int, end: int, limit: int) -> list[Embedding | Event]:
        """Return messages with first <= `seq` < end of one run of a daemon, up to a limit, by `seq`. Raises `StoreError`."""
        found: list[Embedding | Event] = []
        for segment in self.segments():
            for number, source in segment.sources().items():
                if (source.boot, source.stream) == (boot, stream) and len(found) < limit:
                    found += numbered(segment, kind, number, first, end, limit - len(found))
        return sorted(found, key=lambda message: message.seq)

    def last(self, kind: str, streams: tuple[str, ...], limit: int) -> list[Embedding | Event]:
        """Return the messages of some streams (none: all) that were stored last, oldest first. Raises `StoreError`."""
        found: list[Embedding | Event] = []
        for segment in self.segments(newest_first=True):
            found += newest(segment, kind, streams, limit - len(found))
            if len(found) >= limit:
                break
        return found[::-1]

    def similar(
        self,
        vector: ArrayLike,
        space: str | None = None,
        count: int = 10,
        allowed: SpanFilter | None = None,
    ) -> list[Moment]:
        """Return the `count` moments that sound most like a vector, most similar first.

        `vector`: of the layers as the daemon publishes them, of any shape. `space`: by default that of the newest vectors.
        `allowed`: which windows may be found, by stream and time. Raises `SpaceError` for a vector of another size, and
        `StoreError` if the memory has no vectors.
        """
        from mertd.memory.similar_search import SimilarSearch
        from mertd.memory.similarity.similar import EVERYTHING

        if space is None:
            if not (known := self.spaces()):
                raise StoreError(f"no vectors in {self.folder} yet")
            space = known[-1]
        if space not in self._searches:
            self._searches[space] = SimilarSearch(self.folder, space)
        return self._searches[space].find(np.asarray(vector, np.float32).ravel(), count, allowed or EVERYTHING)

    def across(
        self,
        since_ns: int = -FOREVER_NS,
        until_ns: int = FOREVER_NS,
        streams: tuple[str, ...] = (),
        daemons: tuple[str, ...] = (),
        within_s: float = WITHIN_S,
    ) -> list[HeardTwice]:
        """Return what two streams heard, one up to `within_s` seconds after the other, in order of time.

        Every two streams of the same space are compared. `streams`, `daemons`: their names; none: all. Raises `StoreError`.
        """
        from mertd.memory.across.rooms import chosen_keys, heard_twice
        from mertd.memory.changes.stream_reading import stream_keys

        keys = chosen_keys(stream_keys(self.folder), streams, daemons)
        return heard_twice(self.folder, keys, since_ns, until_ns, round(within_s * 1e9)).found

    def cursor(self) -> dict[bytes, dict[tuple[str, str], int]]:
        """Return the `seq` of the next message by boot and (kind, stream), as `mertd.subscribe(resume=…)` takes it.

        Raises `StoreError`.
        """
        for segment in self.segments(newest_first=True):
            return cursor_of(segment)
        return {}

    def holes(self) -> list[Hole]:
        """Return what is missing, and why. Raises `StoreError`."""
        return [hole for segment in self.segments() for hole in holes(segment)]

    def segments(self, newest_first: bool = False) -> Iterator[Segment]:
        """Yield the files, each open until the next one. Raises `StoreError`."""
        return opened(self.folder, newest_first=newest_first)
