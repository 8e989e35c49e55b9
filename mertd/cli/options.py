"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mertd.capture.source_kinds import forms
from mertd.defaults import CONTROL_ENDPOINT, GATE_DBFS, HOP_S, LAYER, PUBLISH_ENDPOINT, WINDOW_S

Sources = Annotated[list[str] | None, typer.Option("--source", metavar="URL", help=f"{forms()}; repeatable.")]
Config = Annotated[
    Path | None, typer.Option(help="TOML file with settings of the same names (the one that `mertd config init` writes).")
]
Window = Annotated[float | None, typer.Option(help=f"Seconds of audio in a window ({WINDOW_S:g}).")]
Hop = Annotated[float | None, typer.Option(help=f"Seconds between window starts ({HOP_S:g}).")]
Layers = Annotated[str | None, typer.Option(help=f"Hidden states to publish, as 6 or 0,6,12 ({LAYER}).")]
Backend = Annotated[str | None, typer.Option(help="auto, mlx, coreml, openvino, onnx or numpy (auto).")]
Precision = Annotated[str | None, typer.Option(help="auto, float32 or bfloat16 (auto: what is fastest).")]
Check = Annotated[
    bool | None, typer.Option("--check", help="Run the self-check of the backend although it passed before on this machine.")
]
Weights = Annotated[str | None, typer.Option(help="A safetensors file, or random:SEED to try without.")]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="Threads that compute on the CPU (those that this process may use).")
]
Gate = Annotated[
    float | None, typer.Option(metavar="DBFS", help=f"Windows quieter than this are not embedded ({GATE_DBFS:g}).")
]
Connects = Annotated[
    list[str] | None,
    typer.Option("--connect", metavar="ENDPOINT", help=f"Where a daemon publishes ({PUBLISH_ENDPOINT}); repeatable."),
]
Controls = Annotated[
    list[str] | None,
    typer.Option("--control", metavar="ENDPOINT", help=f"Where it answers requests, for each daemon ({CONTROL_ENDPOINT})."),
]
Control = Annotated[str, typer.Option(help="The daemon's control endpoint.")]
Stream = Annotated[str | None, typer.Option(help="The stream, if there are several.")]
KeyFolder = Annotated[
    Path | None, typer.Option("--keys", metavar="DIR", help="Directory of the keys (in the user's configuration).")
]
Key = Annotated[str | None, typer.Option(metavar="NAME", help="Our key, for a daemon that runs with --curve (local).")]
ServerKey = Annotated[
    str | None, typer.Option(metavar="PUBLIC", help="The daemon's public key (the one in the file of our key).")
]
MemoryFolder = Annotated[
    Path | None, typer.Option("--memory", metavar="DIR", help="Directory of the memory (in the user's data).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TextTimes = Annotated[
    bool,
    typer.Option("--text-times", help="Print JSON in which times (keys in _ns) are text, for programs that round integers."),
]


def daemons_of(connect: list[str] | None, control: list[str] | None) -> tuple[list[str], list[str]]:
    """Return where daemons publish and answer, by the options of those names: without any, both of the one on this machine."""
    endpoints = connect or [PUBLISH_ENDPOINT]
    return endpoints, control or ([CONTROL_ENDPOINT] if endpoints == [PUBLISH_ENDPOINT] else [])
