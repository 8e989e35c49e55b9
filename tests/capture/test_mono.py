"""Mixing and resampling as exact streams: any chunking equals one shot, bit for bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from example_counts import examples
from mertd.capture.mono import ACTIVE_BLOCK_S, ACTIVE_BLOCKS, MonoConverter
from mertd.defaults import SAMPLE_RATE
from mertd.errors import SourceError
from signals import chord_progression

Array = NDArray[np.float32]
RATES = [8_000, 24_000, 44_100, 48_000, 96_000]
SIGNAL = chord_progression(1.0)


def frames(rate: int, channels: int, seconds: float = 0.5) -> Array:
    """Return channels that differ; the last one is silent for a while."""
    count = round(rate * seconds)
    mono = np.resize(SIGNAL, count)
    out = np.stack([np.roll(mono, 100 * c) * np.float32(1 + c / 3) for c in range(channels)], axis=1)
    out[count // 3 : count // 2, -1] = 0
    return out


def run(pipeline: MonoConverter, parts: list[Array]) -> Array:
    return np.concatenate([*(pipeline.feed(part) for part in parts), pipeline.flush()])


@pytest.mark.parametrize("mix", ["mean", "2", "active"])
@pytest.mark.parametrize("rate", RATES)
@given(cuts=st.lists(st.integers(0, 3) | st.integers(0, 4_000), max_size=12), channels=st.sampled_from([2, 3, 9]))
@settings(max_examples=examples(24))
def test_any_chunking_equals_one_shot(rate: int, mix: str, cuts: list[int], channels: int) -> None:
    signal = frames(rate, channels)
    ends = [0, *np.minimum(np.cumsum(cuts), len(signal)).tolist(), len(signal)]
    whole = run(MonoConverter(rate, channels, mix), [signal])
    pieces = run(MonoConverter(rate, channels, mix), [signal[a:b] for a, b in pairwise(ends)])
    assert whole.dtype == np.float32
    assert np.array_equal(whole, pieces)


@pytest.mark.parametrize("rate", RATES)
def test_the_output_has_the_duration_of_the_input(rate: int) -> None:
    out = run(MonoConverter(rate, 2, "mean"), [frames(rate, 2, 1.0)])
    assert abs(len(out) - SAMPLE_RATE) <= 1


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("second", [0.1, 0.5, 0.77])
def test_an_impulse_comes_out_at_its_time(rate: int, second: float) -> None:
    signal = np.zeros((rate, 1), np.float32)
    at = round(second * rate)
    signal[at] = 1
    pipeline = MonoConverter(rate, 1, "mean")
    out = run(pipeline, [signal])
    expected = pipeline.to_output(at)
    assert expected == pytest.approx(at / rate * SAMPLE_RATE)
    assert abs(int(np.argmax(np.abs(out))) - expected) <= 0.5 + 1e-9
    weight = out.astype(np.float64) ** 2
    centre = float((weight * np.arange(len(out))).sum() / weight.sum())
    assert centre == pytest.approx(expected, abs=0.05), "no delay, no drift"


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_a_tone_keeps_its_level_and_phase(rate: int) -> None:
    t_in, t_out = np.arange(rate) / rate, np.arange(SAMPLE_RATE) / SAMPLE_RATE
    out = run(MonoConverter(rate, 1, "mean"), [np.sin(2 * np.pi * 440 * t_in).astype(np.float32)[:, None]])
    middle = slice(SAMPLE_RATE // 10, SAMPLE_RATE - SAMPLE_RATE // 10)
    assert np.abs(out[:SAMPLE_RATE][middle] - np.sin(2 * np.pi * 440 * t_out)[middle]).max() < 1e-3


def test_what_24_khz_cannot_carry_is_filtered_out() -> None:
    tone = np.sin(2 * np.pi * 15_000 * np.arange(48_000) / 48_000).astype(np.float32)[:, None]
    assert np.abs(run(MonoConverter(48_000, 1, "mean"), [tone])[2_400:-2_400]).max() < 1e-4


def test_24_khz_passes_untouched() -> None:
    assert np.array_equal(run(MonoConverter(SAMPLE_RATE, 1, "mean"), [SIGNAL[:, None]]), SIGNAL)


@given(
    channels=st.integers(1, 4),
    samples=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40),
    pick=st.integers(0, 3),
)
def test_mean_is_the_mean_and_a_channel_is_that_channel(channels: int, samples: list[float], pick: int) -> None:
    signal = np.array(samples, np.float32)[:, None] * np.arange(1, channels + 1, dtype=np.float32)
    assert np.allclose(run(MonoConverter(SAMPLE_RATE, channels, "mean"), [signal]), signal.mean(axis=1), rtol=1e-6, atol=1e-6)
    pick = pick % channels + 1
    assert np.array_equal(run(MonoConverter(SAMPLE_RATE, channels, str(pick)), [signal]), signal[:, pick - 1])


def test_a_channel_that_does_not_exist_is_refused() -> None:
    MonoConverter(SAMPLE_RATE, 2, "2")
    with pytest.raises(SourceError, match=r"mix=3: the source has only 2 channels$"):
        MonoConverter(SAMPLE_RATE, 2, "3")
    with pytest.raises(SourceError, match=r"mix=2: the source has only 1 channel$"):
        MonoConverter(SAMPLE_RATE, 1, "2")


BLOCK = round(SAMPLE_RATE * ACTIVE_BLOCK_S)


def stereo(blocks: list[tuple[float, float]]) -> Array:
    """Return one block of 0.1 s per pair of amplitudes."""
    return np.concatenate([np.full((BLOCK, 2), 1, np.float32) * np.array(pair, np.float32) for pair in blocks])


def heard(blocks: list[tuple[float, float]]) -> list[float]:
    """Return the level of each block after `active` mixing."""
    out = run(MonoConverter(SAMPLE_RATE, 2, "active"), [stereo(blocks)])
    return [float(out[k * BLOCK + BLOCK // 2]) for k in range(len(blocks))]


def test_a_dead_channel_costs_nothing_after_the_first_block() -> None:
    assert heard([(0.5, 0)] * 4) == [0.25, 0.5, 0.5, 0.5]
    assert heard([(0.5, 1e-5)] * 4) == pytest.approx([0.25, 0.5, 0.5, 0.5], abs=1e-4), "noise of a dead input"


def test_two_active_channels_are_both_mixed() -> None:
    assert heard([(0.5, 0.1)] * 3) == pytest.approx([0.3] * 3)


def test_a_channel_that_becomes_active_is_mixed_from_the_next_block_on() -> None:
    assert heard([(0.5, 0), (0.5, 0), (0.5, 0.5), (0.5, 0.1)]) == pytest.approx([0.25, 0.5, 0.5, 0.3])


def test_a_channel_stays_active_for_three_seconds_after_its_signal() -> None:
    levels = heard([(0.5, 0.5), *[(0.5, 0.0)] * (ACTIVE_BLOCKS + 3)])
    assert levels[1 : ACTIVE_BLOCKS + 1] == [0.25] * ACTIVE_BLOCKS
    assert levels[ACTIVE_BLOCKS + 1 :] == [0.5] * 3


def test_when_all_channels_are_silent_all_are_mixed() -> None:
    assert heard([(0, 0)] * 3 + [(0.5, 0.5)]) == [0, 0, 0, 0.5]
    assert heard([(1e-5, 0)] * (ACTIVE_BLOCKS + 2))[-1] == pytest.approx(5e-6)
