"""The settings of a daemon: their types, limits, defaults and descriptions."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mertd.capture.address import Address, distinct, parse
from mertd.capture.source_kinds import forms
from mertd.config.relay_settings import RelaySettings
from mertd.defaults import (
    CONTROL_ENDPOINT,
    GATE_DBFS,
    HOP_S,
    LAYER,
    MAX_HOP_S,
    MIN_HOP_S,
    PUBLISH_ENDPOINT,
    SAMPLE_RATE,
    VIEW_ADDRESS,
    WINDOW_S,
)
from mertd.embed.threads import MAX_THREADS
from mertd.errors import UsageError
from mertd.memory.amounts import parse_keep
from mertd.stream.endpoint import check_endpoint
from mertd.text import printable
from mertd.view.web_address import parse_address
from mertd.windows import Late

LIVE_SETTINGS = ("hop", "gate", "log_level")
"""Settings that a running daemon can change."""


def _whole_samples(seconds: float) -> float:
    """Round to whole samples. Numbers beyond any limit below stay as they are: the limits refuse them."""
    return round(seconds * SAMPLE_RATE) / SAMPLE_RATE if abs(seconds) < 1e9 else seconds


Seconds = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_whole_samples)]


class Settings(BaseModel):
    """The settings of a daemon. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expose_without_encryption: bool = Field(
        False, description="Let other machines connect without encryption, so that anyone there can listen: true or false."
    )
    curve: bool = Field(False, description="Encrypt, and let in only clients whose keys are allowed: true or false.")
    keys: str | None = Field(None, description="Directory of the keys, with curve; by default in the user's configuration.")
    source: tuple[str, ...] = Field(
        ("device:",),
        description=f"Audio sources, each of them a stream: {forms()}.",
    )
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Name of this daemon in its messages; by default a fingerprint of host and bind.",
    )
    bind: str = Field(PUBLISH_ENDPOINT, description="Where to publish: tcp://HOST:PORT or ipc:///PATH.")
    control: str = Field(CONTROL_ENDPOINT, description="Where to answer requests: tcp://HOST:PORT or ipc:///PATH.")
    window: Seconds = Field(WINDOW_S, ge=1, le=600, description="Seconds of audio in a window, 1 to 600.")
    hop: Seconds = Field(
        HOP_S,
        ge=MIN_HOP_S,
        le=MAX_HOP_S,
        description=f"Seconds between window starts, {MIN_HOP_S:g} to {MAX_HOP_S:g}. Can change live.",
    )
    layers: tuple[int, ...] = Field((LAYER,), description="Hidden states to publish, from 0 (the encoder's input) to 12.")
    backend: Literal["auto", "mlx", "coreml", "openvino", "onnx", "numpy"] = Field(
        "auto", description="What runs the network: auto, mlx, coreml, openvino, onnx or numpy."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="In what the network computes: auto (what is fastest and agrees), float32 or bfloat16."
    )
    check: bool = Field(
        False, description="Run the self-check of the backend although it passed before on this machine: true or false."
    )
    weights: str | None = Field(
        None,
        description="A safetensors file, or random:SEED to try without; by default the file that `mertd model pull` fetches.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=MAX_THREADS,
        description="Threads that compute on the CPU; by default OMP_NUM_THREADS, or what cores and CPU quota allow.",
    )
    pace: Literal["realtime", "fast"] = Field("realtime", description="realtime, or fast: files as fast as the model can.")
    late: Late | None = Field(
        None,
        description="A window that waits while a newer one is due: latest skips it, queue keeps it; by default "
        "latest, at pace fast queue.",
    )
    gate: float = Field(GATE_DBFS, le=0, description="Level in dBFS; quieter windows are not embedded. Can change live.")
    ring: Seconds | None = Field(
        None, gt=0, le=3600, description="Seconds of audio kept in memory; by default enough for window and hop."
    )
    remember: bool = Field(False, description="Keep what is published, in a process of its own: true or false.")
    memory: str | None = Field(None, description="Directory of the memory, with remember; by default in the user's data.")
    keep: str | None = Field(None, description="How much the memory keeps, as 2y, 30d or 50GB; by default everything.")
    view: bool = Field(False, description="Serve the page of `mertd view`, in a process of its own: true or false.")
    view_address: str | None = Field(None, description=f"Where to serve it, with view: HOST:PORT; by default {VIEW_ADDRESS}.")
    relay: RelaySettings | None = Field(
        None, description="Relay what is published to a bus, in a process of its own: its address, or a table (docs/bus.md)."
    )
    exit_at_end: bool = Field(False, description="Exit when all sources have ended: true or false.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error. Can change live."
    )
    log_format: Literal["text", "json"] = Field("text", description="text, or json: one map a line.")

    @field_validator("source")
    @classmethod
    def _sources(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        mistakes = []
        for url in urls:
            try:
                parse(url)
            except UsageError as error:
                mistakes.append(printable(error))
        if not urls:
            mistakes.append("at least one source is needed")
        if not mistakes:
            try:
                distinct([parse(url) for url in urls])
            except UsageError as error:
                mistakes.append(printable(error))
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return urls

    @field_validator("bind", "control")
    @classmethod
    def _endpoint(cls, endpoint: str, info: ValidationInfo) -> str:
        try:
            return check_endpoint(endpoint, bool(info.data.get("curve") or info.data.get("expose_without_encryption")))
        except UsageError as error:
            raise ValueError(str(error)) from error

    @field_validator("view_address")
    @classmethod
    def _view_address(cls, address: str | None) -> str | None:
        try:
            if address is not None:
                parse_address(address)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return address

    @field_validator("keep")
    @classmethod
    def _keep(cls, keep: str | None) -> str | None:
        try:
            parse_keep(keep)
        except UsageError as error:
            raise ValueError(str(error).removeprefix("keep: ")) from error
        return keep

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
            raise ValueError("keys: not used without curve = true; set it, or remove keys")
        if not self.remember and (unused := [name for name in ("memory", "keep") if getattr(self, name) is not None]):
            raise ValueError(f"{unused[0]}: not used without remember = true; set it, or remove {unused[0]}")
        if not self.view and self.view_address is not None:
            raise ValueError("view_address: not used without view = true; set it, or remove view_address")
        if self.bind == self.control and not self.bind.endswith(":*"):
            raise ValueError(f"control: {self.control} is also the endpoint to publish on; choose another one")
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
        """Samples kept in memory; by default a window can wait for half a minute, or its own length, before it is lost."""
        seconds = self.window + self.hop + max(30.0, self.window) if self.ring is None else self.ring
        return round(seconds * SAMPLE_RATE)

    @property
    def late_policy(self) -> Late:
        """What happens to late windows: skipped by default in real time, where new audio matters more; kept at fast pace."""
        return self.late or (Late.QUEUE if self.pace == "fast" else Late.LATEST)


def changes(old: Settings, new: Settings) -> tuple[dict[str, Any], list[str]]:
    """Return new values of settings that can change in a running daemon, and names of those that need a restart."""
    differ = [name for name in Settings.model_fields if getattr(old, name) != getattr(new, name)]
    return {n: getattr(new, n) for n in differ if n in LIVE_SETTINGS}, [n for n in differ if n not in LIVE_SETTINGS]


def template() -> str:
    """Return a configuration file in which every setting is described and commented out, with its default."""
    lines = ["# mertd: all settings, at their defaults. The environment (MERTD_HOP=2.5) and flags (--hop 2.5) win over it."]
    for name, field in Settings.model_fields.items():
        default = field.default
        text = f"{name}: not set" if default is None else f"{name} = {as_toml(default)}"
        lines += ["", f"# {field.description}", f"# {text}"]
    return "\n".join(lines) + "\n"


def as_toml(value: Any) -> str:
    """Return the value of a setting as it is written in a file."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, BaseModel):
        inner = value.model_dump(exclude_none=True, exclude_defaults=True)
        return f"{{{', '.join(f'{name} = {as_toml(one)}' for name, one in inner.items())}}}"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
