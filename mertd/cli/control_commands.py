"""The commands `mertd control …` and their options; the work is in `mertd.cli.control`."""

from __future__ import annotations

import typer

from mertd.cli.options import Control, Gate, Hop, Json, Key, KeyFolder, ServerKey, Stream
from mertd.defaults import CONTROL_ENDPOINT

control = typer.Typer(help="Tell a running daemon to do something.", no_args_is_help=True, rich_markup_mode=None)


@control.command("now")
def control_now(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Embed the newest window at once; everybody who is subscribed gets it, too."""
    from mertd.cli.control import NOW_S, tell
    from mertd.cli.keys import chosen

    tell(control, {"request": "now", "stream": stream}, json, chosen(control, key, server_key, folder), NOW_S)


@control.command("pause")
def control_pause(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Close a stream's device, so that nothing hears it."""
    from mertd.cli.control import tell
    from mertd.cli.keys import chosen

    tell(control, {"request": "pause", "stream": stream}, json, chosen(control, key, server_key, folder))


@control.command("resume")
def control_resume(
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Open a paused stream's device again."""
    from mertd.cli.control import tell
    from mertd.cli.keys import chosen

    tell(control, {"request": "resume", "stream": stream}, json, chosen(control, key, server_key, folder))


@control.command("set")
def control_set(
    hop: Hop = None,
    gate: Gate = None,
    stream: Stream = None,
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Change the hop or the gate of one stream or all, until the daemon stops."""
    from mertd.cli.control import tell
    from mertd.cli.keys import chosen

    tell(
        control, {"request": "set", "stream": stream, "hop": hop, "gate": gate}, json, chosen(control, key, server_key, folder)
    )


@control.command("shutdown")
def control_shutdown(
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Stop the daemon in order."""
    from mertd.cli.control import tell
    from mertd.cli.keys import chosen

    tell(control, {"request": "shutdown"}, json, chosen(control, key, server_key, folder))
