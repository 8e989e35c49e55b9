"""Settings from one TOML file, the environment and the command line, in this order, checked together.

All mistakes are reported together, each with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mertd.config.relay_settings import RelaySettings, merged
from mertd.config.schema import Settings
from mertd.errors import UsageError, did_you_mean
from mertd.toml_file import read_toml

Origin = Literal["default", "file", "environment", "flag"]
PREFIX = "MERTD_"
"""Of environment variables: MERTD_HOP is `hop`; the entries of a list are separated by commas."""


@dataclass(frozen=True)
class RawSettings:
    """Values before they are checked, and the origin of each. `path`: the file that was read."""

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]
    path: Path | None


def collect(path: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> RawSettings:
    """Return the values from a file, the environment and flags; later ones replace earlier ones.

    A flag that is None or empty was not given. Raises `UsageError` if the file cannot be read.
    """
    layers: list[tuple[Origin, Mapping[str, Any]]] = [
        ("file", _read(path) if path else {}),
        ("environment", {key: _listed(key, text) for key, text in _variables(environment or {}).items()}),
        ("flag", {name: value for name, value in flags.items() if value is not None and value != () and value != []}),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for origin, found in layers:
        values |= {name: merged(values.get(name), value) for name, value in found.items()}
        origins |= dict.fromkeys(found, origin)
    return RawSettings(values, origins, path)


def validate(raw: RawSettings) -> Settings:
    """Return checked settings. Raises `UsageError` with one line for each mistake."""
    try:
        return Settings.model_validate(raw.values)
    except ValidationError as error:
        raise UsageError(*_explain(error, raw)) from error


def load(path: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Return settings from a TOML file, the environment and flags, each of which may be absent. Raises `UsageError`."""
    return validate(collect(path, flags, environment))


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path, UsageError)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are settings, by name of the setting."""
    return {key.removeprefix(PREFIX).lower(): text for key, text in environment.items() if key.startswith(PREFIX)}


def _listed(name: str, text: str) -> Any:
    """Return the text of a variable, split if the setting is a list."""
    field = Settings.model_fields.get(name)
    return [part.strip() for part in text.split(",")] if field and isinstance(field.default, tuple) else text


def _explain(error: ValidationError, raw: RawSettings) -> list[str]:
    lines = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        origin = raw.origins.get(str(fault["loc"][0]) if fault["loc"] else "")
        if fault["type"] == "extra_forbidden":
            fields = RelaySettings.model_fields if fault["loc"][0] == "relay" else Settings.model_fields
            known = [key for key in fields if key != fault["loc"][-1]]
            found = [f"{name}: unknown setting{did_you_mean(str(fault['loc'][-1]), known)}"]
        else:
            text = fault["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
            found = [f"{name}: {line}" if name else line for line in text.split("\n")]
        if origin == "environment":
            lines += [f"{PREFIX}{name.upper()}: {line.removeprefix(f'{name}: ')}" for line in found]
        else:
            lines += [f"{raw.path}: {line}" if raw.path else line for line in found]
    return lines
