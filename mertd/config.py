"""Settings: one TOML file, then the command line over it, checked together. Every mistake is reported at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
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
from mertd.embed.architecture import SAMPLE_RATE
from mertd.errors import UsageError, WeightsError, did_you_mean
from mertd.stream.endpoint import check_endpoint
from mertd.windows import Late

PUBLISH, CONTROL = "tcp://127.0.0.1:5590", "tcp://127.0.0.1:5591"


def _whole_samples(seconds: float) -> float:
    """Round to whole samples, so that `window = 30.00001` means what it says."""
    return round(seconds * SAMPLE_RATE) / SAMPLE_RATE


Seconds = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_whole_samples)]


class Settings(BaseModel):
    """All that a daemon is told. Times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expose_without_encryption: bool = False
    curve: bool = False
    keys: str | None = None
    source: tuple[str, ...] = ("device:",)
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    bind: str = PUBLISH
    control: str = CONTROL
    window: Seconds = Field(30.0, ge=1, le=600)
    hop: Seconds = Field(5.0, ge=0.25, le=3600)
    layers: tuple[int, ...] = (6,)
    backend: Literal["auto", "mlx", "coreml", "onnx", "numpy"] = "auto"
    weights: str | None = None
    pace: Literal["realtime", "fast"] = "realtime"
    late: Late | None = None
    gate: float = Field(-70.0, le=0)
    ring: Seconds | None = Field(None, gt=0, le=3600)
    exit_at_end: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @field_validator("source")
    @classmethod
    def _sources(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        wrong = []
        for url in urls:
            try:
                parse(url)
            except UsageError as error:
                wrong.append(str(error))
        if not urls:
            wrong.append("at least one source is needed")
        if not wrong:
            try:
                distinct([parse(url) for url in urls])
            except UsageError as error:
                wrong.append(str(error))
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


def load(path: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Settings from a TOML file (or none) with `flags` over it; flags that are None or empty were not given.

    Raises `UsageError` with one line for each mistake.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not TOML: {error}") from error
    values |= {name: value for name, value in flags.items() if value is not None and value != () and value != []}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise UsageError("\n".join(_explain(error, path))) from error


def _explain(error: ValidationError, path: Path | None) -> list[str]:
    lines = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = [key for key in Settings.model_fields if key != name]
            lines.append(f"{name}: there is no such setting{did_you_mean(name, known)}")
            continue
        text = fault["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
        lines += [f"{name}: {line}" if name else line for line in text.splitlines()]
    return [f"{path}: {line}" if path else line for line in lines]


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
