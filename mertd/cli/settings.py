"""From command-line words to settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mertd.config import Given, Settings, check, default_config, gather
from mertd.errors import UsageError


def settings(config: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Settings from a file and flags, in which layers are still text. Raises `UsageError`."""
    return check(gather(config, _with_layers(flags)))


def daemon_settings(config: Path | None, flags: Mapping[str, Any]) -> Settings:
    """The same for a daemon, which also reads the environment, and the file at home if none is named. Raises `UsageError`."""
    return check(given(config, flags))


def given(config: Path | None, flags: Mapping[str, Any]) -> Given:
    """What a daemon is told, unchecked. Raises `UsageError` if the file cannot be read."""
    return gather(config or home_config(), _with_layers(flags), os.environ)


def home_config() -> Path | None:
    """The file that a daemon reads if none is named, if it is there."""
    home = default_config()
    return home if home.exists() else None  # reading it refuses what is not a regular file


def _with_layers(flags: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(flags)
    if (text := values.get("layers")) is not None:
        words = str(text).split(",")
        if not all(word.strip().isdecimal() for word in words):
            raise UsageError(f"--layers: wanted numbers from 0 to 12 with commas between, as 6 or 0,6,12, not {text!r}")
        values["layers"] = tuple(int(word) for word in words)
    return values
