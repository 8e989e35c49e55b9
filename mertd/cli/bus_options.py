"""Options of commands that read from a bus, and what they name together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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


def bus_access(url: str, config: Path | None, options: Mapping[str, Any]) -> tuple[BusAccess, str]:
    """Return how to get into the bus at `url`, and the name of its stream. Raises `UsageError`, `BusError`.

    `options`: by the names of the settings in the table [relay], of which those that are None come from the file.
    """
    from mertd.bus.nats_extra import check_nats_extra
    from mertd.cli.read_settings import relay_settings

    settings = relay_settings(config, {"to": url, **options})
    check_nats_extra()
    return settings.access(), settings.stream
