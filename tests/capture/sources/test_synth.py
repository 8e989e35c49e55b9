"""Computed sound: every sample is a function of its index alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from capture.from_url import settings_for
from example_counts import examples
from mertd.capture.source_kinds import SYNTHS
from mertd.capture.sources.synth import VOICES, SynthSource, chords, noise, silence, tone
from mertd.embed.audio import measure_levels
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.self_check import cosines
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings

Array = NDArray[np.float64]
RATE = 24_000


def seconds(start: float, end: float, rate: int = RATE) -> Array:
    return np.arange(round(start * rate), round(end * rate)) / rate


def read(url: str) -> NDArray[np.float32]:
    source = SynthSource(settings_for(url))
    return np.concatenate([block.frames for block in source.blocks() if block is not None])


@pytest.mark.parametrize("name", SYNTHS)
@given(start=st.integers(0, 1_000_000), count=st.integers(1, 3_000), cut=st.integers(0, 3_000))
@settings(max_examples=examples(40))
def test_any_part_is_the_same_wherever_it_is_begun(name: str, start: int, count: int, cut: int) -> None:
    voice, cut = VOICES[name], min(cut, count)
    t = np.arange(start, start + count) / RATE
    assert np.array_equal(voice(t), np.concatenate([voice(t[:cut]), voice(t[cut:])]))
    assert np.isfinite(voice(t)).all()
    assert np.abs(voice(t)).max() <= 1


def test_every_synth_has_a_voice() -> None:
    assert set(VOICES) == set(SYNTHS)


@pytest.mark.parametrize("name", SYNTHS)
def test_a_source_plays_its_voice_on_every_channel(name: str) -> None:
    frames = read(f"synth:{name}?seconds=2.5&rate=8000&channels=3")
    assert frames.shape == (20_000, 3)
    assert np.array_equal(frames[:, 0], VOICES[name](seconds(0, 2.5, 8_000)).astype(np.float32))
    assert np.array_equal(frames[:, 0], frames[:, 2])


def test_without_a_length_it_is_endless() -> None:
    blocks = SynthSource(settings_for("synth:noise")).blocks()
    taken = [next(blocks) for _ in range(5)]
    assert all(block is not None and block.frames.shape == (48_000, 2) for block in taken)


def test_levels() -> None:
    def level(voice: Array) -> float:
        return measure_levels(voice.astype(np.float32)).rms_dbfs

    t = seconds(0, 8)
    assert level(tone(t)) == pytest.approx(-15.05, abs=0.1)
    assert measure_levels(tone(t).astype(np.float32)).peak_dbfs == pytest.approx(-12, abs=0.1)
    assert level(noise(t)) == pytest.approx(-20, abs=0.5)
    assert -26 < level(chords(t)) < -12
    assert measure_levels(silence(t).astype(np.float32)).zeros == len(t)


def test_the_tone_is_an_a() -> None:
    spectrum = np.abs(np.fft.rfft(tone(seconds(0, 1))))
    assert int(np.argmax(spectrum)) == 440


def test_noise_is_white_and_never_repeats() -> None:
    x = noise(seconds(0, 10))
    spectrum = np.abs(np.fft.rfft(x - x.mean())) ** 2
    bands = np.array([band.mean() for band in np.array_split(spectrum, 8)])
    assert bands.max() / bands.min() < 1.2
    again = np.fft.irfft(np.abs(np.fft.rfft(x - x.mean(), 2 * len(x))) ** 2)
    assert np.abs(again[1 : len(x)]).max() < 0.05 * again[0]
    assert np.array_equal(x[: RATE // 2], noise(np.arange(RATE // 2) * 2 / 48_000)), "a function of time, not of the rate"


def test_chords_change() -> None:
    """Every four seconds, eight of them, then again: the strongest low note identifies the chord."""

    def bass(second: float) -> float:
        x = chords(seconds(second, second + 4)) * np.hanning(4 * RATE)
        spectrum = np.abs(np.fft.rfft(x))[: 4 * 180]  # the bass is the strongest there
        return int(np.argmax(spectrum)) / 4

    notes = [bass(4.0 * chord) for chord in range(9)]
    roots = 440 * 2 ** (np.array([-12, -16, -9, -14, -12, -7, -5, -4]) / 12) / 2
    assert notes == pytest.approx([*roots, roots[0]], abs=0.5)


@pytest.mark.slow
def test_vectors_change_with_the_chords_and_come_back_with_them() -> None:
    embedder = Embedder(ModelSettings("random:0?size=tiny", (2,), "numpy", 2 * RATE))
    assert isinstance(embedder.backend, NumpyBackend)
    windows = [chords(seconds(at, at + 2)).astype(np.float32) for at in (0, 4, 8, 32)]
    vectors = [states[0] for states in embedder.embed(windows) if states is not None]
    a, b = vectors[:2]
    c, again = vectors[2:]
    assert cosines(a, again) > 0.99
    assert cosines(a, again) > max(cosines(a, b), cosines(a, c), cosines(b, c)) + 0.001
