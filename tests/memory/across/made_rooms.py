"""Sound as frames of numbers, and windows of it as a model's vectors: means of frames, with a common direction and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mertd.memory.across.lag_scores import compared
from mertd.memory.across.shared_sound import SharedSound, shared_sounds
from mertd.memory.across.track import RawTrack, differences, directions, track_of

SIZE = 24
FRAME_S = 0.1
BEGIN_NS = 1_790_000_000 * 10**9

Frames = NDArray[np.float64]


def music(seconds: float, seed: int) -> Frames:
    """Pieces of a minute or two, each with a style, bars that vary, and frames that vary more."""
    random = np.random.default_rng(seed)
    count = round(seconds / FRAME_S)
    frames = random.standard_normal((count, SIZE))
    at = 0
    while at < count:
        end = at + int(random.uniform(60, 120) / FRAME_S)
        frames[at:end] += 2 * random.standard_normal(SIZE)
        at = end
    bars = np.repeat(random.standard_normal((count // 20 + 1, SIZE)), 20, axis=0)[:count]
    return frames + bars


@dataclass(frozen=True)
class Room:
    """How a room hears: windows, and what it does to the sound."""

    window_s: float = 5.0
    hop_s: float = 2.5
    lag_s: float = 0.0
    begin_s: float = 0.0  # of its windows, in time
    speed: float = 1.0  # of what plays there
    noise: float = 0.3
    colour: float = 1.0
    seed: int = 0
    error_ns: int = 1_000_000
    gaps: tuple[tuple[float, float], ...] = ()  # times without windows


def heard(frames: Frames, room: Room) -> RawTrack:
    """Return the windows of a room in which the sound begins at `lag_s`."""
    random = np.random.default_rng([room.seed, 7])
    sums = np.vstack([np.zeros((1, SIZE)), np.cumsum(frames, axis=0)])
    last_s = room.lag_s + len(frames) * FRAME_S / room.speed
    starts = np.arange(room.begin_s, last_s, room.hop_s)
    places = np.stack([starts - room.lag_s, starts + room.window_s - room.lag_s]) * room.speed / FRAME_S
    inside = (places[0] >= 0) & (places[1] <= len(frames))
    for begin, end in room.gaps:
        inside &= (starts + room.window_s <= begin) | (starts >= end)
    starts, places = starts[inside], places[:, inside]
    whole = np.minimum(places.astype(int), len(frames) - 1)
    ends = sums[whole] + (places - whole)[..., None] * frames[whole]
    means = (ends[1] - ends[0]) / (places[1] - places[0])[:, None]
    tint = room.colour * random.standard_normal(SIZE)
    noisy = means + tint + 20 + room.noise * random.standard_normal(means.shape)
    middle = np.round((starts + room.window_s / 2) * 1e9).astype(np.int64) + BEGIN_NS
    errors = np.full(len(middle), room.error_ns, np.int64)
    return RawTrack(middle, errors, round(room.window_s * 1e9), noisy.astype(np.float16).astype(np.float32))


def across(one: RawTrack, other: RawTrack, within_s: float = 300.0, comparisons: int = 1) -> list[SharedSound]:
    seen_in = directions([differences(one), differences(other)])
    tracks = track_of(one, seen_in), track_of(other, seen_in)
    of = compared(*tracks, round(within_s * 1e9))
    return [] if of is None else shared_sounds(*tracks, of, round(within_s * 1e9), comparisons)
