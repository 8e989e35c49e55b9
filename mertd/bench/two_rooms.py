"""How well two streams with the same music are told from two with other music, and how exact the lag is.

Made music is heard by one stream as it is, and by others later, through noise, a room, MP3 and so on. The windows of the later
streams begin anywhere between those of the first, as those of two daemons do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.evaluate.made_programme import make_programme
from mertd.evaluate.sound_changes import equalised, in_a_room, mixed, quieter, through_mp3, with_noise
from mertd.evaluate.synthesiser import find_soundfont
from mertd.memory.across.lag_scores import compared
from mertd.memory.across.shared_sound import SharedSound, can_tell, shared_sounds
from mertd.memory.across.track import RawTrack, Track, differences, directions, track_of

Samples = NDArray[np.float32]

SHORTEST_S = 55.0
"""Length of the shortest piece, in seconds."""

LONGEST_S = 85.0
"""Length of the longest piece, in seconds."""

LONG_WINDOW_S = 15.0
"""Seconds of a window from which on there are six hops in it, and otherwise two."""

WITHIN_NS = 300_000_000_000
"""Largest lag that is looked for, in nanoseconds."""


@dataclass(frozen=True)
class Later:
    """A stream that hears what another one does. `change`: of the sound, given that of the other programme."""

    name: str
    lag_s: float
    change: Callable[[Samples, Samples], Samples]
    hears_both: bool = False  # the other programme, too


LATER = (
    Later("as it is", 0.0, lambda sound, _: sound),
    Later("as it is", 0.37, lambda sound, _: sound),
    Later("as it is", 1.204, lambda sound, _: sound),
    Later("as it is", 4.907, lambda sound, _: sound),
    Later("as it is", 31.411, lambda sound, _: sound),
    Later("20 dB quieter", 0.37, lambda sound, _: quieter(sound)),
    Later("another frequency response", 1.204, lambda sound, _: equalised(sound, 1)),
    Later("MP3, 48 kbit/s", 31.411, lambda sound, _: through_mp3(sound)),
    Later("noise 15 dB below", 4.907, lambda sound, _: with_noise(sound, 2)),
    Later("noise 5 dB below", 0.37, lambda sound, _: with_noise(sound, 3, 5.0)),
    Later("a room", 1.204, lambda sound, _: in_a_room(sound, 4)),
    Later("other music 6 dB below", 4.907, lambda sound, other: mixed(sound, other, 6.0), True),
    Later(
        "a room, noise 10 dB below, MP3",
        31.411,
        lambda sound, _: through_mp3(with_noise(in_a_room(sound, 5), 6, 10.0)),
    ),
)
"""What is measured. No lag but the first is a whole number of a network's frames, which lie 13.3 ms apart."""


def measure_rooms(
    weights: str, layer: int, pieces: int, window_s: float, progress: Callable[[str], object], later: tuple[Later, ...] = LATER
) -> dict[str, Any]:
    """Return what is found on streams with the same music, and on streams without, of two programmes of `pieces` pieces each.

    Raises `SynthesiserError` if FluidSynth or a soundfont is not installed.
    """
    whole = make_programme(2 * pieces, SHORTEST_S, LONGEST_S, find_soundfont(), progress).samples
    middle = len(whole) // 2
    programmes = (whole[:middle], whole[middle : 2 * middle])
    embedder = Embedder(ModelSettings(weights, (layer,), "auto", round(window_s * SAMPLE_RATE)))
    hop_s = window_s / (6 if window_s >= LONG_WINDOW_S else 2)
    first: list[RawTrack] = []
    changed: list[list[RawTrack]] = []
    for number, (sound, other) in enumerate((programmes, programmes[::-1])):
        said = f"programme {number + 1}"
        first.append(_embedded(embedder, sound, 0.0, window_s, hop_s, partial(_say, progress, said)))
        changed.append([])
        for one in later:
            heard = one.change(sound, other)
            said = f"programme {number + 1}, {one.name}, {one.lag_s:g} s later"
            changed[-1].append(_embedded(embedder, heard, one.lag_s, window_s, hop_s, partial(_say, progress, said)))
    seen_in = directions([differences(track) for track in first])
    tracks = [[track_of(raw, seen_in) for raw in (base, *others)] for base, others in zip(first, changed, strict=True)]
    progress("comparing")
    return {
        "pieces": pieces,
        "seconds": round(middle / SAMPLE_RATE),
        "window_s": window_s,
        "hop_s": hop_s,
        "weights": weights,
        "trained": embedder.weights.trained,
        "layer": layer,
        "rows": [row for own in tracks for row in _related(own, later)],
        "unrelated": _unrelated(*([own[0], *_alone(own, later)] for own in tracks)),
    }


def _embedded(
    embedder: Embedder, sound: Samples, lag_s: float, window_s: float, hop_s: float, progress: Callable[[str], object]
) -> RawTrack:
    """Return the windows of a stream whose clock starts a lag before the sound does."""
    length = round(window_s * SAMPLE_RATE)
    hop, lag = round(hop_s * SAMPLE_RATE), round(lag_s * SAMPLE_RATE)
    starts = [at for at in range(0, lag + len(sound) - length + 1, hop) if at >= lag]
    vectors = np.full((len(starts), embedder.info.hidden), np.nan, np.float32)
    for row, at in enumerate(starts):
        progress(f"window {row + 1} of {len(starts)}")
        if (vector := embedder.embed([sound[at - lag : at - lag + length]])[0]) is not None:
            vectors[row] = vector[0].astype(np.float16)  # as a memory keeps it
    middle_ns = (np.array(starts, np.int64) + length // 2) * 1_000_000_000 // SAMPLE_RATE
    return RawTrack(middle_ns, np.zeros(len(starts), np.int64), round(window_s * 1e9), vectors)


def _say(progress: Callable[[str], object], what: str, done: str) -> None:
    progress(f"{what}, {done}")


def _related(tracks: list[Track], later: tuple[Later, ...]) -> Iterator[dict[str, Any]]:
    """Yield what is found in the first track and each of the others. The lag that counts is that of the longest find."""
    for one, track in zip(later, tracks[1:], strict=True):
        found = _found(tracks[0], track)
        best = max(found, key=lambda sound: (sound.certain, sound.end_ns - sound.start_ns), default=None)
        wrong = [sound for sound in found if sound.certain and abs(sound.lag_ns / 1e9 - one.lag_s) > sound.bound_ns / 1e9]
        yield {
            "name": one.name,
            "lag_s": one.lag_s,
            "found_s": None if best is None else best.lag_ns / 1e9,
            "bound_s": None if best is None else best.bound_ns / 1e9,
            "certain": best is not None and best.certain,
            "by_chance": None if best is None else best.by_chance,
            "similarity": None if best is None else best.similarity,
            "wrong": len(wrong),
        }


def _alone(tracks: list[Track], later: tuple[Later, ...]) -> list[Track]:
    """Return the later streams that hear nothing of the other programme."""
    return [track for one, track in zip(later, tracks[1:], strict=True) if not one.hears_both]


def _unrelated(some: list[Track], others: list[Track]) -> dict[str, Any]:
    """Return how many pairs of streams with other music were compared, and how often something was found."""
    rarest = 1.0
    alarms = pairs = 0
    for one in some:
        for other in others:
            found = _found(one, other)
            pairs += 1
            alarms += bool(found)
            rarest = min([rarest, *(sound.by_chance for sound in found)])
    return {"pairs": pairs, "false_alarms": alarms, "rarest": rarest}


def _found(one: Track, other: Track) -> list[SharedSound]:
    of = compared(one, other, WITHIN_NS)
    return [] if of is None or not can_tell(of) else shared_sounds(one, other, of, WITHIN_NS)
