"""What tests need that hear music: FluidSynth, and a General MIDI soundfont, which Debian has and Homebrew has not."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None and not (os.environ.get("CI") and sys.platform == "linux"),
    reason="fluidsynth is not installed",
)
