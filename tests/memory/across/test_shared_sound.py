from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.across.made_rooms import BEGIN_NS, Room, across, heard, music
from mertd.memory.across.lag_scores import Comparison, compared
from mertd.memory.across.shared_sound import can_tell
from mertd.memory.across.track import RawTrack, Track

HERE = Room(seed=1)


@pytest.mark.parametrize("lag_s", [0.0, 0.37, 1.2, 4.9, 31.4, -17.3, 240.0])
def test_a_lag_is_found_within_its_bound(lag_s: float) -> None:
    frames = music(600, 1)
    (sound,) = across(heard(frames, HERE), heard(frames, Room(seed=2, lag_s=lag_s)))
    assert abs(sound.lag_ns / 1e9 - lag_s) <= sound.bound_ns / 1e9
    assert sound.bound_ns < 2_600_000_000
    assert sound.certain
    assert sound.by_chance < 1e-9
    assert sound.drift_ppm is None
    assert abs(sound.start_ns - BEGIN_NS) < 16e9
    assert abs(sound.end_ns - BEGIN_NS - 600e9) < 16e9


@pytest.mark.slow
@given(lag_s=st.floats(-60, 60), begin_s=st.floats(0, 5), hop_s=st.sampled_from([1.0, 2.5, 4.0]), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_any_phase_and_any_hop(lag_s: float, begin_s: float, hop_s: float, seed: int) -> None:
    frames = music(400, seed)
    found = across(heard(frames, HERE), heard(frames, Room(seed=2, lag_s=lag_s, begin_s=begin_s, hop_s=hop_s)))
    assert found
    for sound in found:
        assert abs(sound.lag_ns / 1e9 - lag_s) <= sound.bound_ns / 1e9 or not sound.certain


def test_nothing_is_found_in_unrelated_music() -> None:
    rooms = [heard(music(400, 100 + n), Room(seed=n)) for n in range(5)]
    assert [across(one, other) for at, one in enumerate(rooms) for other in rooms[:at]] == [[]] * 10


@pytest.mark.slow
@pytest.mark.parametrize(("window_s", "hop_s"), [(5.0, 2.5), (5.0, 1.0), (30.0, 5.0), (2.0, 2.0)])
def test_nothing_is_found_in_much_unrelated_music(window_s: float, hop_s: float) -> None:
    room = Room(window_s=window_s, hop_s=hop_s)
    tracks = [heard(music(900, 200 + n), replace(room, seed=n, begin_s=n / 7)) for n in range(6)]
    assert not [sound for at, one in enumerate(tracks) for other in tracks[:at] for sound in across(one, other)]


def test_what_is_common_for_a_while_has_a_beginning_and_an_end() -> None:
    own, shared = music(1_500, 3), music(1_500, 4)
    one, other = own.copy(), shared.copy()
    one[6_000:9_000] = shared[6_000:9_000]
    (sound,) = across(heard(one, HERE), heard(other, Room(seed=2, lag_s=12.2)))
    assert abs(sound.lag_ns / 1e9 - 12.2) <= sound.bound_ns / 1e9
    assert abs(sound.start_ns - BEGIN_NS - 600e9) < 20e9
    assert abs(sound.end_ns - BEGIN_NS - 900e9) < 20e9


@pytest.mark.slow
def test_the_lag_may_jump() -> None:
    frames = music(1_200, 5)
    late = heard(frames, Room(seed=2, lag_s=3.2))
    later = heard(frames, Room(seed=2, lag_s=44.7))
    half = BEGIN_NS + 600 * 10**9
    first, second = late.middle_ns < half, later.middle_ns >= half
    jumped = RawTrack(
        np.concatenate([late.middle_ns[first], later.middle_ns[second]]),
        np.concatenate([late.error_ns[first], later.error_ns[second]]),
        late.window_ns,
        np.concatenate([late.vectors[first], later.vectors[second]]),
    )
    before, after = across(heard(frames, HERE), jumped)
    assert abs(before.lag_ns / 1e9 - 3.2) <= before.bound_ns / 1e9
    assert abs(after.lag_ns / 1e9 - 44.7) <= after.bound_ns / 1e9
    assert before.certain
    assert after.certain


@pytest.mark.slow
def test_a_player_that_is_too_fast_drifts() -> None:
    frames = music(7_200, 6)
    (sound,) = across(heard(frames, HERE), heard(frames, Room(seed=2, lag_s=20.0, speed=1.001)))
    assert sound.drift_ppm is not None
    assert abs(sound.drift_ppm + 1_000) < 100
    assert abs(sound.lag_ns / 1e9 - (20.0 - 3.6)) <= sound.bound_ns / 1e9
    assert sound.end_ns - sound.start_ns > 7_150e9


@pytest.mark.slow
def test_a_drift_over_many_lags_is_one_sound() -> None:
    frames = music(4_000, 16)
    (sound,) = across(heard(frames, HERE), heard(frames, Room(seed=2, lag_s=40.0, speed=1.005)))
    assert sound.drift_ppm is not None
    assert abs(sound.drift_ppm + 5_000) < 500
    assert sound.end_ns - sound.start_ns > 3_900e9


def test_it_does_not_matter_which_stream_is_the_first() -> None:
    frames = music(400, 17)
    one, other = heard(frames, HERE), heard(frames, Room(seed=2, lag_s=13.3))
    (there,), (back,) = across(one, other), across(other, one)
    assert abs(there.lag_ns + back.lag_ns) < 2e8
    assert abs(back.start_ns - there.start_ns - 13.3e9) < 16e9


@pytest.mark.slow
def test_what_else_is_heard_does_not_matter() -> None:
    """The same 400 s, in a stream of an hour and in one of ten minutes."""
    frames = music(400, 18)
    around = np.concatenate([music(1_500, 19), frames, music(1_500, 20)])
    later = heard(frames, Room(seed=2, lag_s=1_507.7))
    (whole,) = across(heard(around, HERE), later)
    near = heard(around, HERE)
    rows = np.abs(near.middle_ns - BEGIN_NS - 1_700 * 10**9) < 300 * 10**9
    (part,) = across(RawTrack(near.middle_ns[rows], near.error_ns[rows], near.window_ns, near.vectors[rows]), later)
    assert abs(whole.lag_ns - part.lag_ns) < 2e8
    assert max(whole.by_chance, part.by_chance) < 1e-20


@pytest.mark.slow
def test_jingles_and_news_at_the_same_time_are_not_the_same_sound() -> None:
    jingle = music(6, 21)
    talk = 6 * np.random.default_rng(22).standard_normal(jingle.shape[1])

    def station(seed: int) -> np.ndarray:
        frames = music(3_600, seed)
        for at in range(200, len(frames) - 60, 3_000):
            frames[at : at + 60] = jingle
        for at in range(1_000, len(frames) - 1_800, 6_000):
            frames[at : at + 1_800] = music(180, seed + at) + talk
        return frames

    assert across(heard(station(23), HERE), heard(station(24), Room(seed=2))) == []


def test_gaps_and_pauses() -> None:
    frames = music(900, 7)
    one = heard(frames, replace(HERE, gaps=((100, 130), (400, 402))))
    other = heard(frames, Room(seed=2, lag_s=7.7, gaps=((200, 260), (500, 501))))
    found = across(one, other)
    assert found
    assert all(abs(sound.lag_ns / 1e9 - 7.7) <= sound.bound_ns / 1e9 for sound in found)


def test_a_tone_a_loop_and_the_same_vectors_throughout_tell_no_lag() -> None:
    steady = np.tile(music(10, 8)[:1], (6_000, 1))
    loop = np.tile(music(7.3, 9), (83, 1))[:6_000]
    for frames in (steady, loop):
        for noise in (0.0, 0.1):
            found = across(heard(frames, replace(HERE, noise=noise)), heard(frames, Room(seed=2, lag_s=4.4, noise=noise)))
            assert not [sound for sound in found if sound.certain]


def test_a_song_that_is_played_twice_fits_two_lags() -> None:
    song = music(200, 10)
    there = np.concatenate([song, music(30, 11), song])
    found = across(heard(song, replace(HERE, noise=0.05)), heard(there, Room(seed=2, lag_s=5.1, noise=0.05)))
    assert found
    lags = {lag for sound in found for lag in (sound.lag_ns, *sound.also_ns)}
    for expected in (5.1, 235.1):
        assert any(abs(lag / 1e9 - expected) < 3 for lag in lags)
    assert not [sound for sound in found if sound.certain]


def test_the_bounds_of_the_clocks_are_in_the_bound() -> None:
    frames = music(600, 12)
    (exact,) = across(heard(frames, HERE), heard(frames, Room(seed=2, lag_s=1.2)))
    (rough,) = across(heard(frames, replace(HERE, error_ns=10**9)), heard(frames, Room(seed=2, lag_s=1.2, error_ns=3 * 10**9)))
    assert rough.lag_ns == exact.lag_ns
    assert rough.bound_ns - exact.bound_ns == 4 * 10**9 - 2 * HERE.error_ns


def test_vectors_that_are_not_finite_and_streams_too_short() -> None:
    frames = music(600, 13)
    one, other = heard(frames, HERE), heard(frames, Room(seed=2, lag_s=1.2))
    one.vectors[50:60] = np.nan
    other.vectors[100] = np.inf
    (sound,) = across(one, other)
    assert abs(sound.lag_ns / 1e9 - 1.2) <= sound.bound_ns / 1e9
    for count in (1, 2, 5):
        short = RawTrack(one.middle_ns[:count], one.error_ns[:count], one.window_ns, one.vectors[:count])
        assert across(short, other) == []
        assert across(other, short) == []
    assert across(one, RawTrack(other.middle_ns + 10**13, other.error_ns, other.window_ns, other.vectors)) == []


def test_more_comparisons_need_more_evidence() -> None:
    frames = music(600, 14)
    one, other = heard(frames, HERE), heard(frames, Room(seed=2, lag_s=1.2))
    assert across(one, other)[0].by_chance < across(one, other, comparisons=1_000)[0].by_chance


def test_whether_there_is_enough_to_tell() -> None:
    def streams(seconds: float, window_s: float) -> Comparison:
        track = heard(music(seconds, 1), Room(window_s=window_s, hop_s=window_s / 2))
        details = np.ones((len(track), 2), np.float32)
        same = Track(track.middle_ns, track.error_ns, track.window_ns, round(window_s * 5e8), details)
        found = compared(same, same, 300 * 10**9)
        assert found is not None
        return found

    assert can_tell(streams(120, 5))
    assert not can_tell(streams(15, 5))
    assert not can_tell(streams(120, 30))
    assert not can_tell(streams(120, 5), comparisons=10**30)
