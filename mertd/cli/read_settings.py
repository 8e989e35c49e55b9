"""Settings from the options of a command line.

Rules of this file: the settings' schema, which costs a tenth of a second, is loaded by functions that need it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mertd.errors import UsageError

if TYPE_CHECKING:
    from mertd.config import RawSettings, RelaySettings, Settings
    from mertd.config.reading import Origin


def settings_from_options(config: Path | None, options: Mapping[str, Any]) -> Settings:
    """Return settings from a file and options, in which layers are still text. Raises `UsageError`."""
    from mertd.config import collect, validate

    return validate(collect(config, _with_layers(options)))


def daemon_settings(config: Path | None, options: Mapping[str, Any]) -> Settings:
    """Return the settings of a daemon, which also reads the environment and the default file. Raises `UsageError`."""
    from mertd.config import validate

    return validate(raw_daemon_settings(config, options))


def raw_daemon_settings(config: Path | None, options: Mapping[str, Any]) -> RawSettings:
    """Return the settings of a daemon before they are checked. Raises `UsageError` if the file cannot be read."""
    from mertd.config import collect

    return collect(config or existing_default_config(), _with_layers(options), os.environ)


def relay_settings(config: Path | None, options: Mapping[str, Any], flags: Mapping[str, str] | None = None) -> RelaySettings:
    """Return the settings of a relay: the table `[relay]` of a file, MERTD_RELAY, and options.

    `flags`: those of options that have other names, as `--connect` of `to`. Raises `UsageError`.
    """
    from mertd.config import RawSettings, validate

    raw = raw_daemon_settings(config, {})
    given = {name: value for name, value in options.items() if value is not None}
    table = raw.values.get("relay", {})
    if isinstance(table, str):
        table = {"to": table}
    if isinstance(table, dict):
        table = table | given
        if "to" not in table:
            raise UsageError("no bus is named; give --to nats://HOST:4222, or a table [relay] in the configuration")
    origins: dict[str, Origin] = {**raw.origins, **{f"relay.{name}": "flag" for name in given}}
    named = {f"relay.{name}": flag for name, flag in (flags or {}).items()}
    relay = validate(RawSettings({"relay": table}, origins, raw.path, named)).relay
    assert relay is not None
    return relay


def existing_default_config() -> Path | None:
    """Return the file that a daemon reads if none is named; None if it does not exist, or if there is no home directory."""
    from mertd.config import default_config
    from mertd.user_folders import HomeUnknownError

    try:
        path = default_config()
    except HomeUnknownError:
        return None
    return path if path.exists() else None  # reading it refuses what is not a regular file


def _with_layers(options: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(options)
    if (text := values.get("layers")) is not None:
        words = str(text).split(",")
        if not all(word.strip().isdecimal() for word in words):
            raise UsageError(f"--layers {text!r}: expected numbers from 0 to 12 with commas between, as 6 or 0,6,12")
        values["layers"] = tuple(int(word) for word in words)
    return values
