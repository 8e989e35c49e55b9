"""All commands and their options, and the one gate where errors become exit codes. The work is in a file per command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from mertd.cli.config_commands import config
from mertd.cli.control_commands import control
from mertd.cli.keys_commands import keys
from mertd.cli.model_commands import model
from mertd.cli.options import (
    Backend,
    Config,
    Control,
    Gate,
    Hop,
    Json,
    Key,
    KeyFolder,
    Layers,
    ServerKey,
    Sources,
    Weights,
    Window,
)
from mertd.cli.output import complain, say, say_page, show_bug
from mertd.cli.service_commands import service
from mertd.defaults import CONTROL_ENDPOINT, PUBLISH_ENDPOINT
from mertd.errors import MertdError
from mertd.text import printable

_WRONG_USAGE: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Of the command-line library inside typer, which hides it; raised for options and arguments that it cannot read."""

app = typer.Typer(
    name="mertd",
    help="Listen to a sound card and publish what the music is like, as MERT embeddings over ZeroMQ.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its help pages cost 0.2 s of imports
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(model, name="model")
app.add_typer(config, name="config")
app.add_typer(control, name="control")
app.add_typer(service, name="service")
app.add_typer(keys, name="keys")


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    sys.excepthook = show_bug
    try:
        code = app(arguments, standalone_mode=False)  # what `typer.Exit` says: 130 for Ctrl-C
    except MertdError as error:
        for line in error.args:
            complain(line)
        return error.exit_code
    except _WRONG_USAGE as error:
        if error.ctx is None or error.message != error.ctx.get_help():
            error.message = printable(error.message)
        error.show()
        return int(error.exit_code)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return code if isinstance(code, int) else 0


def _version(asked: bool) -> None:
    if asked:
        from mertd import __version__

        say(f"mertd {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """What the program itself is asked, before any command."""


@app.command("run")
def run_daemon(
    source: Sources = None,
    config: Config = None,
    bind: Annotated[str | None, typer.Option(metavar="ENDPOINT", help=f"Where to publish ({PUBLISH_ENDPOINT}).")] = None,
    control: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help=f"Where to answer questions ({CONTROL_ENDPOINT}).")
    ] = None,
    curve: Annotated[
        bool | None, typer.Option("--curve", help="Encrypt, and let in only clients that `mertd keys` allows.")
    ] = None,
    keys: Annotated[str | None, typer.Option(metavar="DIR", help="The key folder (in the user's configuration).")] = None,
    name: Annotated[str | None, typer.Option(help="What messages call this daemon (a fingerprint of host and --bind).")] = None,
    window: Window = None,
    hop: Hop = None,
    layers: Layers = None,
    backend: Backend = None,
    weights: Weights = None,
    pace: Annotated[str | None, typer.Option(help="realtime, or fast: as fast as the model can (realtime).")] = None,
    late: Annotated[str | None, typer.Option(help="latest or queue (realtime: latest, fast: queue).")] = None,
    gate: Gate = None,
    ring: Annotated[float | None, typer.Option(help="Seconds of audio kept in memory (enough).")] = None,
    exit_at_end: Annotated[bool | None, typer.Option("--exit-at-end", help="Exit when all sources have ended.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error (info).")] = None,
    log_format: Annotated[str | None, typer.Option(help="text, or json: one map a line (text).")] = None,
) -> None:
    """Run the daemon: listen, embed, publish. Ctrl-C or SIGTERM stops it."""
    from mertd.cli.run import run_daemon

    flags = {name: value for name, value in locals().items() if name not in ("config", "run_daemon")}
    run_daemon(config, flags)


@app.command()
def tail(
    connect: Annotated[str, typer.Option(metavar="ENDPOINT", help="Where the daemon publishes.")] = PUBLISH_ENDPOINT,
    control: Control = CONTROL_ENDPOINT,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    json: Json = False,
    events: Annotated[bool, typer.Option("--events", help="Events too.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many embeddings.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Give up after so many seconds without one.")] = None,
    last: Annotated[int, typer.Option(min=0, help="Begin with the last ones published.")] = 0,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Show embeddings as they come."""
    from mertd.cli.keys import chosen
    from mertd.cli.tail import tail

    keys = chosen(connect, key, server_key, key_folder)
    tail(connect, control, stream or [], json, events, count, timeout, last, keys)


@app.command()
def embed(
    files: Annotated[list[str], typer.Argument(help="Sound files.")],
    out: Annotated[Path | None, typer.Option(help="X.npz or X.ndjson; without, NDJSON on standard output.")] = None,
    window: Window = None,
    hop: Hop = None,
    layers: Layers = None,
    backend: Backend = None,
    weights: Weights = None,
    gate: Gate = None,
) -> None:
    """Embed sound files offline: the same windows and vectors as the daemon's."""
    from mertd.cli.embed import embed

    flags = {name: value for name, value in locals().items() if name not in ("files", "out", "embed")}
    embed(files, out, flags)


@app.command()
def demo(
    count: Annotated[int, typer.Option(min=1, help="Embeddings to wait for.")] = 4,
    weights: Weights = None,
    backend: Backend = None,
) -> None:
    """See it work, with nothing: synthesised music, a real daemon, a real subscriber."""
    from mertd.cli.demo import demo

    demo(count, weights, backend)


@app.command()
def devices(json: Json = False) -> None:
    """List the input devices."""
    from mertd.cli.inspect import devices

    devices(json)


@app.command()
def status(
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Ask a running daemon how it is."""
    from mertd.cli.inspect import status
    from mertd.cli.keys import chosen

    status(control, json, chosen(control, key, server_key, key_folder))


@app.command()
def bench(
    only: Annotated[
        list[str] | None, typer.Option(metavar="SECTION", help="backends, daemon, fanout, startup or streams; repeatable.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A safetensors file, or random:SEED (random:0).")] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Seconds of audio in a window (30).")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Times that each contender is measured (5).")] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Windows at once; repeatable (1, and 8 where there is a GPU).")
    ] = None,
    first_streams: Annotated[int, typer.Option(min=1, help="Where the search for streams per machine begins.")] = 1,
    most_streams: Annotated[int, typer.Option(min=1, help="Where the search for streams per machine ends.")] = 64,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny network and short rounds, to see that all works.")] = False,
    json: Annotated[str | None, typer.Option(metavar="FILE", help="Write the figures as JSON; - is standard output.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw them; needs matplotlib.")] = None,
) -> None:
    """Measure every part here: backends against PyTorch, the daemon, fan-out, start-up, streams per machine."""
    from mertd.bench.suite import SECTIONS, Plan
    from mertd.cli.bench import bench

    plan = Plan(
        sections=only or SECTIONS,
        weights=weights or ("random:0?size=tiny" if quick else "random:0"),
        seconds=seconds or (2.0 if quick else 30.0),
        runs=runs or (2 if quick else 5),
        batches=batch or (),
        first_streams=first_streams,
        most_streams=most_streams,
        quick=quick,
    )
    bench(plan, json, plot)


@app.command()
def doctor(
    config: Config = None,
    quick: Annotated[bool, typer.Option("--quick", help="Without listening to devices and trying the model.")] = False,
    json: Json = False,
) -> None:
    """Find what is wrong, why it matters and how to mend it. Exits with 3 if something keeps mertd from its work."""
    from mertd.cli.doctor import doctor

    raise typer.Exit(doctor(config, quick, json))


@app.command()
def man() -> None:
    """Print the manual page, for `man -l -`."""
    from mertd.cli.man import page

    say_page(page(typer.main.get_command(app)).rstrip("\n"))
