"""What a stream sounded like, as a list of sections: computed from the memory, and the same as what was published live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mertd.memory.changes.detector import DEFAULT_REACH, ChangeDetector, NoveltyPoint, Reach
from mertd.memory.changes.stream_reading import StreamKey, back_from, first_since, windows
from mertd.memory.changes.stream_window import Change, ChangeKind, Found, Gap


class Beginning(StrEnum):
    """How a section begins."""

    START = "start"  # nothing is remembered before it
    EARLIER = "earlier"  # before what was read: it is very long
    GAP = "gap"  # nothing is known of the sound before it: silence, a pause, a restart
    CHANGE = "change"  # the sound changed


@dataclass(frozen=True)
class ProgrammeSection:
    """The sound between two boundaries or gaps. Times are Unix nanoseconds."""

    start_ns: int
    end_ns: int
    begins: Beginning
    change: Change | None = None  # the boundary with which it begins
    returned: Change | None = None  # the same, if the sound is like that of an earlier section
    goes_on: bool = False  # it may be longer than what was read


def programme(
    folder: Path,
    key: StreamKey,
    since_ns: int,
    until_ns: int,
    reach: Reach = DEFAULT_REACH,
    trace: Callable[[NoveltyPoint], object] = lambda _: None,
) -> Iterator[ProgrammeSection]:
    """Yield the sections of a stream that lie at least in part between two times, each as a whole. Raises `StoreError`.

    `trace` is given the novelty at each moment between them.
    """
    first = first_since(folder, key, since_ns)
    if first is None:
        return
    place, cut_off = back_from(folder, key, first, reach.past)
    detector = ChangeDetector(reach, cut_off)
    present: ProgrammeSection | None = None
    traced: NoveltyPoint | None = None
    following = 0  # windows that begin after the end
    for _, window in windows(folder, key, place):
        following += window.start_ns >= until_ns
        if following > reach.horizon or (present is not None and present.start_ns >= until_ns):
            break
        if present is None:
            begins = Beginning.EARLIER if cut_off else Beginning.START
            present = ProgrammeSection(window.start_ns, window.end_ns, begins)
        for found in detector.feed(window):
            ended, present = _next(present, found)
            if ended is not None and ended.end_ns > since_ns and ended.start_ns < until_ns:
                yield ended
        newest = detector.newest
        if newest is not None and newest != traced and since_ns <= newest.time_ns < until_ns:
            trace(newest)
        traced = newest
        present = replace(present, end_ns=max(present.end_ns, window.end_ns))
    if present is not None and present.end_ns > since_ns and present.start_ns < until_ns:
        yield replace(present, goes_on=True)


def _next(present: ProgrammeSection, found: Found) -> tuple[ProgrammeSection | None, ProgrammeSection]:
    """Return the section that has ended, if one has, and the present one."""
    if isinstance(found, Gap):
        return replace(present, end_ns=found.from_ns), ProgrammeSection(found.to_ns, found.to_ns, Beginning.GAP)
    if found.kind is ChangeKind.RETURN:
        return None, replace(present, returned=found)
    ended = replace(present, end_ns=found.time_ns)
    return ended, ProgrammeSection(found.time_ns, found.time_ns, Beginning.CHANGE, found)
