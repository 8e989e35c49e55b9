"""Settings from one TOML file, the environment and the command line, in this order, checked together.

All mistakes are reported together, each with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """Values before they are checked, and the origin of each.

    Attributes:
        path: the file that was read.
        origins: a value within a table has one of its own, as `relay.to`, if it is not the table's.
        flags: those whose names are not those of their settings, as `--connect` of `relay.to`.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]
    path: Path | None
    flags: Mapping[str, str] = field(default_factory=dict)

    def place(self, name: str) -> str:
        """Return where a user finds a setting: the flag, the variable, or the file and the name; the name of a default."""
        known = name if name in self.origins else name.partition(".")[0]
        match self.origins.get(known):
            case "flag":
                return self.flags.get(known) or f"--{known.rpartition('.')[2].replace('_', '-')}"
            case "environment":
                return f"{PREFIX}{known.upper()}"
            case "file":
                return f"{self.path}: {name}"
            case _:
                return name


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
    tables = {"": Settings.model_fields, "relay": RelaySettings.model_fields}
    lines = []
    for fault in error.errors():
        *above, last = map(str, fault["loc"] or ("",))
        name = ".".join((*above, last))
        if fault["type"] == "extra_forbidden":
            lines.append(f"{raw.place(name)}: unknown setting{did_you_mean(last, tables['.'.join(above)])}")
            continue
        for line in fault["msg"].removeprefix("Value error, ").removeprefix("Input ").strip().split("\n"):
            one, _, text = line.partition(": ")
            if one in tables.get(name, ()):  # what is wrong with several settings together begins with the name of one
                lines.append(f"{raw.place(f'{name}.{one}' if name else one)}: {text}")
            else:
                lines.append(f"{raw.place(name)}: {line}" if name else line)
    return lines
