"""Sound files of every kind, made by ffmpeg at run time, and what is heard of a file."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from capture.from_url import settings_for
from mertd.capture.source import EndReport
from mertd.capture.sources.file import FileSource
from signals import chord_progression

Array = NDArray[np.float32]
RATE = 44_100
SECONDS = 3.0


def music(seconds: float = SECONDS, rate: int = RATE, seed: int = 0) -> Array:
    """Return two different channels, (n, 2)."""
    return _music(seconds, rate, seed).copy()


@functools.cache
def _music(seconds: float, rate: int, seed: int) -> Array:
    left, right = chord_progression(seconds, rate, seed), 0.5 * chord_progression(seconds, rate, seed + 1)
    return np.stack([left, right], axis=1).astype(np.float32)


def write_wav(path: Path, samples: Array | None = None, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    """Write a WAV file; by default of `music`."""
    soundfile.write(path, music() if samples is None else samples, rate, subtype=subtype, format="WAV")
    return path


def encode(target: Path, *options: str, source: Path | None = None) -> Path:
    """Encode `source`, by default `music`, into `target` with ffmpeg, which takes the format from the name.

    What only options and the name decide is made once a run and copied.
    """
    if shutil.which("ffmpeg") is None:
        assert os.environ.get("CI") != "true", "ffmpeg is missing"
        pytest.skip("ffmpeg is missing")
    if source is not None or "-i" in options:
        return _encode(source or write_wav(target.with_suffix(".source.wav")), options, target)
    name = hashlib.sha256(repr((options, target.suffix)).encode()).hexdigest()[:16]
    made = Path(os.environ["XDG_CACHE_HOME"], f"sound-{name}{target.suffix}")  # of this run: see conftest.py
    if not made.exists():
        with tempfile.TemporaryDirectory() as folder:
            encoded = _encode(write_wav(Path(folder, "source.wav")), options, Path(folder, target.name))
            whole = shutil.copyfile(encoded, made.with_suffix(f".{os.getpid()}{target.suffix}"))
            whole.replace(made)  # another worker may want it meanwhile
    return shutil.copyfile(made, target)


def _encode(source: Path, options: tuple[str, ...], target: Path) -> Path:
    subprocess.run(["ffmpeg", "-y", "-v", "error", "-i", str(source), *options, str(target)], check=True, timeout=60)
    return target


def hear(path: Path, realtime: bool = False) -> tuple[Array, EndReport, FileSource]:
    """Return all frames of a file, (n, channels), and what is said at its end."""
    source = FileSource(settings_for(f"file:{path}", realtime))
    frames = [block.frames for block in source.blocks() if block is not None]
    report = source.end_report
    source.close()
    return (np.concatenate(frames) if frames else np.zeros((0, source.channels), np.float32)), report, source


def decode_at_once(path: Path) -> Array:
    """Return what libsndfile decodes in one read, without a seek, which `soundfile.read` would do."""

    class Sequential(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    with Sequential(path) as file:
        return np.asarray(file.read(int(file.frames), dtype="float32", always_2d=True), np.float32)
