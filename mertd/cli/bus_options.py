"""Options of commands that read from a bus, and what they name together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mertd.errors import UsageError

if TYPE_CHECKING:
    from mertd.bus.bus_access import BusAccess

BusConfig = Annotated[
    Path | None, typer.Option("--config", help="TOML file whose table [relay] has what is not given here of the bus.")
]
BusStream = Annotated[str | None, typer.Option("--bus-stream", metavar="NAME", help="Name of the JetStream stream (mertd).")]
BusCredentials = Annotated[str | None, typer.Option("--credentials", metavar="FILE", help="For a bus: JWT and seed (.creds).")]
BusNkey = Annotated[str | None, typer.Option("--nkey", metavar="FILE", help="For a bus: the seed of a user's nkey.")]
BusCa = Annotated[str | None, typer.Option("--ca", metavar="FILE", help="For a bus: who signed its certificate.")]
BusCertificate = Annotated[
    str | None, typer.Option("--certificate", metavar="FILE", help="For a bus: the client's own certificate.")
]
BusPrivateKey = Annotated[str | None, typer.Option("--private-key", metavar="FILE", help="For a bus: its private key.")]


OF_BUS = ("stream", "credentials", "nkey", "ca", "certificate", "private_key")
"""Settings of the table [relay] that these options give; `stream` is given as `bus_stream`."""


def of_bus(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given of a bus, by the names of the settings. `given`: the parameters of a command."""
    return {name: given["bus_stream" if name == "stream" else name] for name in OF_BUS}


def refuse_of_bus(config: Path | None, options: Mapping[str, Any], remedy: str) -> None:
    """Raise `UsageError` for options of a bus where none is named. `options`: of `of_bus`."""
    if config is not None or any(value is not None for value in options.values()):
        raise UsageError(f"this names how to get into a bus, but no bus is named; {remedy}")


def bus_access(flag: str, url: str, config: Path | None, options: Mapping[str, Any]) -> tuple[BusAccess, str]:
    """Return how to get into the bus that `flag` says is at `url`, and the name of its stream.

    `options`: by the names of the settings in the table [relay], of which those that are None come from the file.

    Raises `UsageError`, `BusError`.
    """
    from mertd.bus.nats_extra import check_nats_extra
    from mertd.cli.read_settings import relay_settings

    settings = relay_settings(config, {"to": url, **options}, {"to": flag, "stream": "--bus-stream"})
    check_nats_extra()
    return settings.access(), settings.stream
