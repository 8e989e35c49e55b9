"""Settings of a capture process for a source address."""

from __future__ import annotations

from mertd.capture.address import parse
from mertd.capture.reports import CaptureSettings


def settings_for(url: str, realtime: bool = False) -> CaptureSettings:
    """Return the settings for the first capture process of a stream."""
    return CaptureSettings(parse(url), realtime, start=0)
