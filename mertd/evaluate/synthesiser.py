"""MIDI to sound: the program fluidsynth with a General MIDI soundfont, both from the system's packages."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.errors import MertdError

SOUNDFONTS = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
    "/usr/share/soundfonts/default.sf2",
    "/opt/homebrew/share/soundfonts/default.sf2",
    "/opt/homebrew/share/fluid-synth/sf2/default.sf2",
)
"""Where distributions and Homebrew put a soundfont, best first."""

TIMEOUT_S = 300.0
"""Seconds after which a rendering counts as hanging."""

GAIN = 0.6
"""Gain of the synthesiser: loud, without clipping the pieces that are made here."""


class SynthesiserError(MertdError):
    """FluidSynth or its soundfont is not installed, or it failed."""


def find_soundfont(given: Path | None = None) -> Path:
    """Return the soundfont to use. Raises `SynthesiserError` if there is none."""
    if given is not None:
        if not given.is_file():
            raise SynthesiserError(f"soundfont {given} does not exist")
        return given
    for place in map(Path, SOUNDFONTS):
        if place.is_file():
            return place
    raise SynthesiserError("no General MIDI soundfont found; `apt install fluid-soundfont-gm`, or name one with --soundfont")


def render(midi: bytes, seconds: float, soundfont: Path) -> NDArray[np.float32]:
    """Return the first `seconds` of a MIDI file as sound: mono at SAMPLE_RATE, (samples,).

    Raises `SynthesiserError` if fluidsynth is not installed, fails, or plays less than that.
    """
    import soundfile

    program = shutil.which("fluidsynth")
    if program is None:
        raise SynthesiserError("fluidsynth is not installed; `apt install fluidsynth`, or `brew install fluid-synth`")
    with tempfile.TemporaryDirectory(prefix="mertd-") as name:
        source, target = Path(name, "piece.mid"), Path(name, "piece.wav")
        source.write_bytes(midi)
        options = ["-n", "-i", "-q", "-g", str(GAIN), "-r", str(SAMPLE_RATE), "-T", "wav", "-O", "s16", "-F", str(target)]
        try:
            done = subprocess.run(
                [program, *options, str(soundfont), str(source)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SynthesiserError(f"fluidsynth did not finish within {TIMEOUT_S:g} s") from error
        if done.returncode or not target.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SynthesiserError(f"fluidsynth failed with exit code {done.returncode}: {last}")
        samples, _ = soundfile.read(target, dtype="float32", always_2d=True)
    wanted = round(seconds * SAMPLE_RATE)
    if len(samples) < wanted:
        raise SynthesiserError(f"fluidsynth played {len(samples) / SAMPLE_RATE:.1f} s of {seconds:g} s")
    mono: NDArray[np.float32] = samples[:wanted].mean(axis=1)
    return mono
