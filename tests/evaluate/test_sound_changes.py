from __future__ import annotations

import numpy as np
import pytest

from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import measure_levels
from mertd.evaluate.sound_changes import LEVEL_DB, NOISE_DB, equalised, quieter, through_mp3, with_noise
from mertd.evaluate.spectral_features import BANDS, mel_bands, spectral_features


@pytest.fixture
def sound() -> np.ndarray:
    seconds = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    chirp = np.sin(2 * np.pi * (200 * seconds + 300 * seconds**2)) * np.hanning(len(seconds))
    hiss = np.random.default_rng(0).standard_normal(len(seconds))
    return (0.3 * chirp + 0.01 * hiss).astype(np.float32)


def db(ratio: float) -> float:
    return 20 * float(np.log10(ratio))


def test_noise_has_the_stated_level(sound: np.ndarray) -> None:
    noise = with_noise(sound, 1).astype(np.float64) - sound
    assert db(np.sqrt(np.square(sound).mean() / np.square(noise).mean())) == pytest.approx(NOISE_DB, abs=0.01)
    assert (with_noise(sound, 1) == with_noise(sound, 1)).all()


def test_level_and_spectrum_change_as_stated(sound: np.ndarray) -> None:
    change = measure_levels(quieter(sound)).rms_dbfs - measure_levels(sound).rms_dbfs
    assert change == pytest.approx(LEVEL_DB, abs=0.01)
    assert np.allclose(spectral_features(quieter(sound)), spectral_features(sound), atol=0.3), "it does not hear the level"
    assert np.abs(np.corrcoef(equalised(sound, 0), sound)[0, 1]) < 0.99
    assert np.abs(equalised(sound, 0)).max() <= 1


def test_mp3_keeps_length_and_place(sound: np.ndarray) -> None:
    heard = through_mp3(sound)
    assert heard.shape == sound.shape
    assert 0.97 < np.corrcoef(heard, sound)[0, 1] < 1


def test_the_bands_cover_the_spectrum() -> None:
    bands = mel_bands()
    assert bands.shape == (BANDS, 513)
    assert (bands.sum(axis=1) > 0).all()
    assert np.allclose(spectral_features(np.zeros(SAMPLE_RATE, np.float32)), 0, atol=1e-6)
