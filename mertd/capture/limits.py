"""Limits of sample rate, channels and block size, whatever an option or the header of a file claims."""

from __future__ import annotations

from mertd.errors import SourceError

BLOCK_S = 0.05
"""Seconds of audio in a block of a source that keeps pace with real time: 20 messages a second."""

UNPACED_BLOCK_S = 1.0
"""Seconds of audio in a block of a source that is read faster than real time."""

MAX_BLOCK_VALUES = 1 << 20
"""Samples of all channels together in a block: 4 MB, whatever rate and number of channels a header claims."""

MIN_RATE = 1_000
"""Hz: lowest sample rate of a source."""

MAX_RATE = 768_000
"""Hz: highest sample rate of a source, that of the fastest converters."""

MAX_CHANNELS = 1_024
"""Most channels of a source, as many as libsndfile allows."""

MAX_VALUES_PER_S = MAX_RATE * 64
"""Samples a second of all channels together: 64 channels at the highest rate, or 1,024 at 48 kHz."""


def check_format(rate: int, channels: int) -> None:
    """Raise `SourceError` for a sample rate (Hz) or number of channels that no audio has, as in a forged or damaged header."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise SourceError(
            f"a sample rate of {rate} Hz is not supported, only {MIN_RATE} to {MAX_RATE} Hz; is the header damaged? "
            "ffmpeg can resample it"
        )
    if not 1 <= channels <= MAX_CHANNELS or rate * channels > MAX_VALUES_PER_S:
        most = min(MAX_CHANNELS, MAX_VALUES_PER_S // rate)
        raise SourceError(
            f"{channels} channels at {rate} Hz are not supported, only 1 to {most}; is the header damaged? "
            "ffmpeg can mix them down"
        )


def block_frames(rate: int, channels: int, realtime: bool) -> int:
    """Return how many frames a source hands on at a time: bounded in seconds and in bytes."""
    return max(1, min(round(rate * (BLOCK_S if realtime else UNPACED_BLOCK_S)), MAX_BLOCK_VALUES // channels))
