"""Which streams of a memory heard the same, and which of them first: every pair of streams in one space is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from mertd.memory.across.lag_scores import compared
from mertd.memory.across.shared_sound import SharedSound, can_tell, shared_sounds
from mertd.memory.across.track import Track, differences, directions, track_of
from mertd.memory.across.track_reading import read_track
from mertd.memory.changes.stream_reading import StreamKey
from mertd.memory.similarity.vector_segment import Floats

SAMPLED_STREAMS = 8
"""Streams from which the directions are found in which vectors differ, at most."""

SAMPLED_WINDOWS = 4_096
"""Newest windows of each of them."""

Progress = Callable[[str], object]
"""Is told what is being done."""


@dataclass(frozen=True)
class HeardTwice:
    """What two streams heard, one after the other. `first`: the stream that heard it first, by the best estimate."""

    first: StreamKey
    second: StreamKey
    sound: SharedSound

    @property
    def order_known(self) -> bool:
        """Whether the order is beyond the bound of the lag."""
        return self.sound.lag_ns > self.sound.bound_ns


@dataclass(frozen=True)
class Comparisons:
    """What any two streams have in common, in order of time, and how much was compared."""

    found: list[HeardTwice]
    pairs: int  # of streams in one space
    too_short: int  # of them: so little time in common that nothing could be told from chance


def heard_twice(
    folder: Path,
    keys: Sequence[StreamKey],
    since_ns: int,
    until_ns: int,
    within_ns: int,
    progress: Progress = lambda _: None,
) -> Comparisons:
    """Compare any two of these streams. Raises `StoreError`."""
    groups: dict[tuple[str, int, int], list[StreamKey]] = {}
    for key in keys:
        groups.setdefault((key.space, key.size, key.length), []).append(key)
    pairs = sum(len(group) * (len(group) - 1) // 2 for group in groups.values())
    found: list[HeardTwice] = []
    done = told = 0
    for group in groups.values():
        if len(group) < 2:
            continue
        tracks = _tracks(folder, sorted(group), since_ns, until_ns, progress)
        for one, other in combinations(tracks, 2):
            done += 1
            progress(f"comparing {one.stream} with {other.stream}: {done} of {pairs}")
            of = compared(tracks[one], tracks[other], within_ns)
            if of is None or not can_tell(of, pairs):
                continue
            told += 1
            found += [_ordered(one, other, sound) for sound in shared_sounds(tracks[one], tracks[other], of, within_ns, pairs)]
    progress("")
    found.sort(key=lambda heard: (heard.sound.start_ns, heard.first, heard.second))
    return Comparisons(found, pairs, pairs - told)


def chosen_keys(known: Iterable[StreamKey], streams: Sequence[str], daemons: Sequence[str]) -> list[StreamKey]:
    """Return those of some names and daemons (none: all)."""
    return [key for key in known if (not streams or key.stream in streams) and (not daemons or key.daemon in daemons)]


def _tracks(
    folder: Path, keys: Sequence[StreamKey], since_ns: int, until_ns: int, progress: Progress
) -> dict[StreamKey, Track]:
    """Return what is compared of each stream that has windows in this time."""
    samples: list[Floats] = []
    for key in keys[:: -(-len(keys) // SAMPLED_STREAMS)]:
        progress(f"looking at {key.stream}")
        if (raw := read_track(folder, key, since_ns, until_ns, SAMPLED_WINDOWS)) is not None:
            samples.append(differences(raw))
    found: dict[StreamKey, Track] = {}
    if not samples:
        return found
    seen_in = directions(samples)
    for key in keys:
        progress(f"reading {key.stream}")
        if (raw := read_track(folder, key, since_ns, until_ns)) is not None:
            found[key] = track_of(raw, seen_in)
    return found


def _ordered(one: StreamKey, other: StreamKey, sound: SharedSound) -> HeardTwice:
    """Return what two streams have in common, seen from the one that heard it first."""
    if sound.lag_ns >= 0:
        return HeardTwice(one, other, sound)
    turned = replace(
        sound,
        start_ns=sound.start_ns + sound.lag_ns,
        end_ns=sound.end_ns + sound.lag_ns,
        lag_ns=-sound.lag_ns,
        drift_ppm=None if sound.drift_ppm is None else -sound.drift_ppm,
        also_ns=tuple(sorted(-lag for lag in sound.also_ns)),
    )
    return HeardTwice(other, one, turned)
