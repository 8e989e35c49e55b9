"""What happens to a recording on its way: noise, another frequency response or level, MP3, a room, other music.

Rules of this file: no I/O; the same seed gives the same sound.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE

Samples = NDArray[np.float32]

NOISE_DB = 15.0
"""Level of the music above the noise, in dB."""

TILT_DB_AN_OCTAVE = 4.0
"""Slope of the changed frequency response around TILT_HZ, in dB an octave."""

TILT_HZ = 1_000.0
"""Frequency that the slope leaves as it is, in Hz."""

LEVEL_DB = -20.0
"""Change of level, in dB."""

MP3_BITS = 48_000
"""Bits a second of the MP3."""

REVERBERATION_S = 0.7
"""Seconds in which the reverberation of a room decays by 60 dB."""

REVERBERATION_LEVEL = 0.8
"""Level of the reverberation, relative to the direct sound."""


def with_noise(samples: Samples, seed: int, above_db: float = NOISE_DB) -> Samples:
    """Return the sound with pink noise, so many dB below it."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft(generator.standard_normal(len(samples)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, len(samples))
    wanted = float(np.sqrt(np.square(samples, dtype=np.float64).mean())) / 10 ** (above_db / 20)
    noisy: Samples = (samples + noise * (wanted / np.sqrt(np.square(noise).mean()))).astype(np.float32)
    return noisy


def equalised(samples: Samples, seed: int) -> Samples:
    """Return the sound darker or brighter: a slope over all frequencies, as of another loudspeaker or room."""
    sign = 1 if np.random.default_rng(seed).random() < 0.5 else -1
    spectrum = np.fft.rfft(samples)
    frequencies = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), 40.0)
    gain_db = np.clip(sign * TILT_DB_AN_OCTAVE * np.log2(frequencies / TILT_HZ), -24, 24)
    changed = np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(samples))
    return (changed / max(1.0, float(np.abs(changed).max()))).astype(np.float32)


def quieter(samples: Samples) -> Samples:
    """Return the sound at another level."""
    return (samples * np.float32(10 ** (LEVEL_DB / 20))).astype(np.float32)


def through_mp3(samples: Samples) -> Samples:
    """Return the sound after MP3 and back, of the same length and without the coder's delay."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        stream = out.add_stream("mp3", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = MP3_BITS
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    file.seek(0)
    with av.open(file, "r") as back:
        decoded = [frame.to_ndarray() for frame in back.decode(audio=0)]
    sound = np.concatenate(decoded, axis=-1).reshape(-1).astype(np.float32)
    sound = np.pad(sound, (0, max(0, 4_096 + len(samples) - len(sound))))
    lag = _lag(samples, sound)
    return sound[lag : lag + len(samples)]


def _lag(samples: Samples, later: Samples) -> int:
    """Return by how many samples, 0 to 4095, the second sound comes later, from the peak of their correlation."""
    size = 1 << (len(later) + len(samples)).bit_length()
    product = np.fft.irfft(np.fft.rfft(later, size) * np.conj(np.fft.rfft(samples, size)), size)
    return int(np.argmax(product[: min(4_096, len(later) - len(samples) + 1)]))


def in_a_room(samples: Samples, seed: int) -> Samples:
    """Return the sound with the reverberation of a room: noise that decays by 60 dB within REVERBERATION_S."""
    count = round(SAMPLE_RATE * REVERBERATION_S)
    decay = 10 ** (-3 * np.arange(count) / count)
    response = np.random.default_rng(seed).standard_normal(count) * decay
    response *= REVERBERATION_LEVEL / np.sqrt(np.square(response).sum())
    response[0] += 1
    size = 1 << (len(samples) + count).bit_length()
    heard = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    return (heard / max(1.0, float(np.abs(heard).max()))).astype(np.float32)


def mixed(samples: Samples, other: Samples, above_db: float) -> Samples:
    """Return the sound with another one of the same length, at a level so many dB below it."""
    ratio = np.sqrt(np.square(samples, dtype=np.float64).mean() / max(np.square(other, dtype=np.float64).mean(), 1e-12))
    both = samples + other * np.float32(ratio * 10 ** (-above_db / 20))
    return (both / max(1.0, float(np.abs(both).max()))).astype(np.float32)
