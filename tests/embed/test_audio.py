"""Levels and normalisation of a window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mertd.embed.audio import CLIP_LEVEL, FLOOR_DBFS, measure_levels, normalise, prepare
from signals import chord_progression

windows = npst.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e3, 1e3, width=32))


def test_a_full_scale_sine_is_at_minus_three() -> None:
    levels = measure_levels(np.sin(2 * np.pi * np.arange(24_000) / 24).astype(np.float32))
    assert levels.rms_dbfs == pytest.approx(-3.01, abs=0.01)
    assert levels.peak_dbfs == pytest.approx(0, abs=0.01)


def test_a_square_wave_of_a_tenth_is_at_minus_twenty() -> None:
    levels = measure_levels(np.tile(np.array([0.1, -0.1], np.float32), 100))
    assert (levels.rms_dbfs, levels.peak_dbfs) == (pytest.approx(-20, abs=1e-4), pytest.approx(-20, abs=1e-4))
    assert (levels.clipped, levels.zeros) == (0, 0)


def test_silence_has_a_floor() -> None:
    levels = measure_levels(np.zeros(100, np.float32))
    assert (levels.rms_dbfs, levels.peak_dbfs, levels.zeros) == (FLOOR_DBFS, FLOOR_DBFS, 100)
    faint = measure_levels(np.full(100, 1e-30, np.float32))
    assert (faint.rms_dbfs, faint.peak_dbfs, faint.zeros) == (FLOOR_DBFS, FLOOR_DBFS, 0)


def test_clipped_samples_are_those_at_a_16_bit_converters_end() -> None:
    samples = np.array([1.0, -1.0, 1.5, CLIP_LEVEL, -CLIP_LEVEL, 32766 / 32768, 0.5, 0, -0.0], np.float32)
    assert measure_levels(samples).clipped == 5
    assert measure_levels(samples).zeros == 2


@given(windows)
def test_levels_are_those_of_the_definition(samples: np.ndarray) -> None:
    levels = measure_levels(samples)
    assert np.isfinite([levels.rms_dbfs, levels.peak_dbfs]).all()
    assert FLOOR_DBFS <= levels.rms_dbfs <= levels.peak_dbfs + 1e-4
    exact = samples.astype(np.float64)
    if levels.rms_dbfs > FLOOR_DBFS:
        assert 10 ** (levels.rms_dbfs / 10) == pytest.approx(float((exact**2).mean()), rel=1e-6)
    assert levels.clipped == sum(abs(x) >= CLIP_LEVEL for x in exact)


@given(windows)
def test_normalised_windows_have_mean_zero_and_variance_one(samples: np.ndarray) -> None:
    out = normalise(samples)
    variance = float(samples.var(dtype=np.float64))
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert abs(float(out.mean(dtype=np.float64))) < 1e-3
    assert float(out.var(dtype=np.float64)) == pytest.approx(variance / (variance + 1e-7), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("gain", [0.25, 4.0])
def test_gain_and_offset_go(gain: float) -> None:
    music = chord_progression(0.5)
    plain = normalise(music)
    assert np.abs(normalise(music * np.float32(gain)) - plain).max() < 1e-4
    assert np.abs(normalise(music + np.float32(0.25)) - plain).max() < 1e-4


def test_silence_stays_silent() -> None:
    assert not normalise(np.zeros(100, np.float32)).any()
    assert np.abs(normalise(np.full(100, 0.7, np.float32))).max() < 1e-3, "direct current, too"


def test_the_epsilon_is_that_of_the_feature_extractor() -> None:
    samples = np.array([1e-4, -1e-4], np.float32)
    assert normalise(samples)[0] == pytest.approx(1e-4 / (1e-8 + 1e-7) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_levels_are_finite_only_if_all_samples_are(value: float) -> None:
    samples = chord_progression(0.1)
    assert np.isfinite(measure_levels(samples).rms_dbfs)
    samples[100] = value
    levels = measure_levels(samples)
    assert not np.isfinite(levels.rms_dbfs)
    assert not np.isfinite(levels.peak_dbfs)


LARGEST = np.finfo(np.float32).max


@pytest.mark.parametrize("samples", [[LARGEST, -LARGEST], [LARGEST, LARGEST], [LARGEST, 0.0], [3e38, 1e-40]])
def test_the_largest_floats_do_not_overflow(samples: list[float]) -> None:
    window = np.tile(np.array(samples, np.float32), 1000)
    levels = measure_levels(window)
    assert 760 < levels.rms_dbfs <= levels.peak_dbfs + 1e-6 < 771
    out = normalise(window)
    assert np.isfinite(out).all()
    assert float(out.var(dtype=np.float64)) == pytest.approx(1 if len(set(samples)) > 1 else 0, abs=1e-6)


def hostile(length: int) -> dict[str, np.ndarray]:
    """Windows that a sum in float32 gets wrong: offsets far above the sound, levels from tiny to huge, one loud moment."""
    noise = np.random.Generator(np.random.PCG64(1)).standard_normal(length)
    t = np.arange(length) / 24_000
    return {
        "noise": 0.1 * noise,
        "noise at -100 dB": 1e-5 * noise,
        "an offset of 0.9 and noise of 0.0001": 0.9 + 1e-4 * noise,
        "an offset of -1 and noise at the last bit": -1 + 1e-7 * noise,
        "an offset of a million": 1e6 + noise,
        "a rumble that is 1,000 times the sound": 1e-3 * noise + 0.9 * np.sin(2 * np.pi * 5 * t),
        "tiny": 1e-20 * noise,
        "large": 1e15 * noise,
        "squares that overflow": 1e25 * noise,
        "differences that overflow": np.where(noise > 0, 3.4e38, -3.4e38),
        "one loud moment": np.where(t < 0.01, 1e15, 1e-3) * noise,
        "an impulse": np.eye(1, length, 5)[0],
        "a ramp": np.linspace(-1, 1, length),
        "clipped": np.clip(20 * noise, -1, 1),
    }


@pytest.mark.parametrize("length", [999, 1_000, 24_001, pytest.param(720_000, marks=pytest.mark.slow)])
def test_sums_are_as_good_as_in_float64(length: int) -> None:
    for name, sound in hostile(length).items():
        samples = sound.astype(np.float32)
        exact = samples.astype(np.float64)
        power = float(np.square(exact).mean())
        centred = exact - exact.mean()
        expected = centred / np.sqrt(np.square(centred).mean() + 1e-7)
        found = normalise(samples)
        assert np.abs(found - expected).max() <= 3e-7 * np.abs(expected).max(), name
        assert abs(float(found.mean(dtype=np.float64))) <= 1e-7, name
        level = measure_levels(samples).rms_dbfs
        assert level == pytest.approx(max(10 * np.log10(power), FLOOR_DBFS), abs=1e-5), name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_window_is_prepared_if_it_is_loud_and_finite(bad: float) -> None:
    loud = np.sin(np.arange(3_000, dtype=np.float32))
    quiet, broken = 1e-5 * loud, loud.copy()
    broken[1_234] = bad
    prepared = prepare(loud, -70.0)
    assert (prepared.is_silent, prepared.levels) == (False, measure_levels(loud))
    assert prepared.samples is not None
    np.testing.assert_array_equal(prepared.samples, normalise(loud))
    silent = prepare(quiet, -70.0)
    assert (silent.is_silent, silent.samples) == (True, None)
    for gate in (-70.0, 1_000.0):
        refused = prepare(broken, gate)
        assert (refused.is_silent, refused.samples) == (False, None), "no gate applies"
