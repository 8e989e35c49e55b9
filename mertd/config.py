"""Settings: defaults, then one TOML file, then the environment, then the command line, checked together.

Every mistake is reported at once, with where it stands.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mertd.capture.address import Address, distinct, parse
from mertd.capture.source_kinds import forms
from mertd.defaults import (
    CONTROL_ENDPOINT,
    GATE_DBFS,
    HOP_S,
    LAYER,
    MAX_HOP_S,
    MIN_HOP_S,
    PUBLISH_ENDPOINT,
    SAMPLE_RATE,
    WINDOW_S,
)
from mertd.errors import UsageError, WeightsError, did_you_mean
from mertd.files import FileError, read_limited
from mertd.stream.endpoint import check_endpoint
from mertd.text import printable
from mertd.windows import Late

LIVE = ("hop", "gate", "log_level")
"""Settings that a running daemon can change."""


def _whole_samples(seconds: float) -> float:
    """Round to whole samples, so that `window = 30.00001` means what it says."""
    return round(seconds * SAMPLE_RATE) / SAMPLE_RATE if abs(seconds) < 1e9 else seconds  # which no limit below lets through


Seconds = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_whole_samples)]


class Settings(BaseModel):
    """All that a daemon is told. Times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expose_without_encryption: bool = Field(
        False, description="Let other machines connect although anyone there could then listen: true or false."
    )
    curve: bool = Field(False, description="Encrypt, and let in only clients whose keys are allowed: true or false.")
    keys: str | None = Field(None, description="Folder of the keys, with curve; by default in the user's configuration.")
    source: tuple[str, ...] = Field(
        ("device:",),
        description=f"Audio sources, each of them a stream: {forms()}.",
    )
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="What messages call this daemon; by default a fingerprint of host and bind.",
    )
    bind: str = Field(PUBLISH_ENDPOINT, description="Where to publish: tcp://HOST:PORT or ipc:///PATH.")
    control: str = Field(CONTROL_ENDPOINT, description="Where to answer questions.")
    window: Seconds = Field(WINDOW_S, ge=1, le=600, description="Seconds of audio in a window, 1 to 600.")
    hop: Seconds = Field(
        HOP_S,
        ge=MIN_HOP_S,
        le=MAX_HOP_S,
        description=f"Seconds between window starts, {MIN_HOP_S:g} to {MAX_HOP_S:g}. Can change live.",
    )
    layers: tuple[int, ...] = Field((LAYER,), description="Hidden states to publish, of 0 (the encoder's input) to 12.")
    backend: Literal["auto", "mlx", "coreml", "onnx", "numpy"] = Field(
        "auto", description="What computes: auto, mlx, coreml, onnx or numpy."
    )
    weights: str | None = Field(
        None, description="A safetensors file, or random:SEED to try without; by default what `mertd model pull` has fetched."
    )
    pace: Literal["realtime", "fast"] = Field("realtime", description="realtime, or fast: files as fast as the model can.")
    late: Late | None = Field(
        None, description="A window that waits while a newer one is due: latest skips it, queue keeps it; by default by pace."
    )
    gate: float = Field(GATE_DBFS, le=0, description="dBFS; quieter windows are not embedded. Can change live.")
    ring: Seconds | None = Field(None, gt=0, le=3600, description="Seconds of audio kept in memory; by default enough.")
    exit_at_end: bool = Field(False, description="Exit when all sources have ended: true or false.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error. Can change live."
    )
    log_format: Literal["text", "json"] = Field("text", description="text, or json: one map a line.")

    @field_validator("source")
    @classmethod
    def _sources(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        wrong = []
        for url in urls:
            try:
                parse(url)
            except UsageError as error:
                wrong.append(printable(error))
        if not urls:
            wrong.append("at least one source is needed")
        if not wrong:
            try:
                distinct([parse(url) for url in urls])
            except UsageError as error:
                wrong.append(printable(error))
        if wrong:
            raise ValueError("\n".join(wrong))
        return urls

    @field_validator("bind", "control")
    @classmethod
    def _endpoint(cls, endpoint: str, info: ValidationInfo) -> str:
        try:
            return check_endpoint(endpoint, bool(info.data.get("curve") or info.data.get("expose_without_encryption")))
        except UsageError as error:
            raise ValueError(str(error)) from error

    @field_validator("layers")
    @classmethod
    def _layers(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if not layers or not all(0 <= layer <= 12 for layer in layers):
            raise ValueError(f"layers are numbers from 0 (the encoder's input) to 12, not {list(layers)}")
        return tuple(sorted(set(layers)))

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.ring is not None and self.ring < self.window + self.hop:
            raise ValueError(
                f"ring: {self.ring:g} s of audio are too few for a window of {self.window:g} s and a hop of {self.hop:g} s; "
                f"make it at least {self.window + self.hop:g}, or leave it out"
            )
        if self.keys is not None and not self.curve:
            raise ValueError("keys: they are not used without curve = true")
        if self.bind == self.control and not self.bind.endswith(":*"):
            raise ValueError(f"control: {self.control} is also where to publish; give it an endpoint of its own")
        return self

    @property
    def addresses(self) -> list[Address]:
        return distinct([parse(url) for url in self.source])

    @property
    def window_samples(self) -> int:
        return round(self.window * SAMPLE_RATE)

    @property
    def hop_samples(self) -> int:
        return round(self.hop * SAMPLE_RATE)

    @property
    def ring_samples(self) -> int:
        """By default room for a window to age by half a minute, or by its own length, before it is overwritten."""
        seconds = self.window + self.hop + max(30.0, self.window) if self.ring is None else self.ring
        return round(seconds * SAMPLE_RATE)

    @property
    def late_policy(self) -> Late:
        """Live audio is best heard fresh; at fast pace nothing is lost by waiting."""
        return self.late or (Late.QUEUE if self.pace == "fast" else Late.LATEST)


Origin = Literal["default", "file", "environment", "flag"]
PREFIX = "MERTD_"
"""Of variables: MERTD_HOP is `hop`; lists have commas between."""


@dataclass(frozen=True)
class Given:
    """Values as they were given, before they are checked, and where the last word on each came from."""

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]
    path: Path | None


def gather(path: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Given:
    """What a file (or none), the environment (none: nothing of it) and flags say, each over the one before.

    Flags that are None or empty were not given. Raises `UsageError` if the file cannot be read.
    """
    layers: list[tuple[Origin, Mapping[str, Any]]] = [
        ("file", _read(path) if path else {}),
        ("environment", {key: _listed(key, text) for key, text in _variables(environment or {}).items()}),
        ("flag", {name: value for name, value in flags.items() if value is not None and value != () and value != []}),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for origin, found in layers:
        values |= found
        origins |= dict.fromkeys(found, origin)
    return Given(values, origins, path)


def check(given: Given) -> Settings:
    """The settings. Raises `UsageError` with one line for each mistake."""
    try:
        return Settings.model_validate(given.values)
    except ValidationError as error:
        raise UsageError(*_explain(error, given)) from error


def load(path: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from a TOML file (or none), the environment (or nothing of it) and flags. Raises `UsageError`."""
    return check(gather(path, flags, environment))


def changes(old: Settings, new: Settings) -> tuple[dict[str, Any], list[str]]:
    """What differs: new values of what can change in a running daemon, and the names of what takes a restart."""
    differ = [name for name in Settings.model_fields if getattr(old, name) != getattr(new, name)]
    return {n: getattr(new, n) for n in differ if n in LIVE}, [n for n in differ if n not in LIVE]


def default_config() -> Path:
    """The file that `mertd run` reads if it is there and none is named."""
    return Path(platformdirs.user_config_dir("mertd")) / "mertd.toml"


def template() -> str:
    """A configuration file with every setting, described, at its default."""
    lines = ["# mertd: all settings, at their defaults. The environment (MERTD_HOP=2.5) and flags (--hop 2.5) win over it."]
    for name, field in Settings.model_fields.items():
        default = field.default
        text = f"{name}: not set" if default is None else f"{name} = {as_toml(default)}"
        lines += ["", f"# {field.description}", f"# {text}"]
    return "\n".join(lines) + "\n"


def as_toml(value: Any) -> str:
    """A setting's value as it stands in a file."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(as_toml, value))}]"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_limited(path).decode("utf-8"))
    except FileError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is not TOML that can be read: it is nested too deeply") from error
    except ValueError as error:  # not TOML, not UTF-8, or a number of more digits than Python converts
        raise UsageError(f"{path} is not TOML: {error}") from error


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings among the variables, by their names in lower case."""
    return {key.removeprefix(PREFIX).lower(): text for key, text in environment.items() if key.startswith(PREFIX)}


def _listed(name: str, text: str) -> Any:
    """A variable's text, split where the setting is a list."""
    field = Settings.model_fields.get(name)
    return [part.strip() for part in text.split(",")] if field and isinstance(field.default, tuple) else text


def _explain(error: ValidationError, given: Given) -> list[str]:
    lines = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        origin = given.origins.get(str(fault["loc"][0]) if fault["loc"] else "")
        if fault["type"] == "extra_forbidden":
            known = [key for key in Settings.model_fields if key != name]
            found = [f"{name}: there is no such setting{did_you_mean(name, known)}"]
        else:
            text = fault["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
            found = [f"{name}: {line}" if name else line for line in text.split("\n")]
        if origin == "environment":
            lines += [f"{PREFIX}{name.upper()}: {line.removeprefix(f'{name}: ')}" for line in found]
        else:
            lines += [f"{given.path}: {line}" if given.path else line for line in found]
    return lines


def default_weights() -> Path:
    """Where trained weights are kept: in the user's data folder."""
    return Path(platformdirs.user_data_dir("mertd")) / "MERT-v1-95M.safetensors"


def weights_spec(settings: Settings) -> str:
    """The weights to load. Raises `WeightsError` if none were named and none are at home."""
    if settings.weights is not None:
        return settings.weights
    if (home := default_weights()).is_file():
        return str(home)
    raise WeightsError(f"no weights: none at {home}; name some with --weights PATH, or try --weights random:0 (untrained)")
