"""From command-line words to settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mertd.config import Settings, load
from mertd.errors import UsageError


def settings(config: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Settings from a file and flags, in which layers are still text. Raises `UsageError`."""
    values = dict(flags)
    if (text := values.get("layers")) is not None:
        words = str(text).split(",")
        if not all(word.strip().isdecimal() for word in words):
            raise UsageError(f"--layers: wanted numbers from 0 to 12 with commas between, as 6 or 0,6,12, not {text!r}")
        values["layers"] = tuple(int(word) for word in words)
    return load(config, values)
