"""All commands and their options, and the one gate where errors become exit codes. The work is in a file per command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
import typer.main

from mertd.cli.service_commands import service
from mertd.errors import MertdError

app = typer.Typer(
    name="mertd",
    help="Listen to a sound card and publish what the music is like, as MERT embeddings over ZeroMQ.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its help pages cost 0.2 s of imports
    context_settings={"help_option_names": ["-h", "--help"]},
)
model = typer.Typer(help="Make, check and describe the model's weights.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(model, name="model")
config_app = typer.Typer(help="Write, show and check the configuration.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
control_app = typer.Typer(help="Tell a running daemon to do something.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(control_app, name="control")
app.add_typer(service, name="service")
keys = typer.Typer(help="Who may connect to a daemon that runs with --curve.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys, name="keys")

Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="URL",
        help="device:[NAME], loopback:[NAME], file:PATH, pipe:PATH (- is stdin) or synth:NAME; repeatable.",
    ),
]
Config = Annotated[Path | None, typer.Option(help="TOML file with the same names as these options (the one of `config init`).")]
Window = Annotated[float | None, typer.Option(help="Seconds of audio in a window (30).")]
Hop = Annotated[float | None, typer.Option(help="Seconds between window starts (5).")]
Layers = Annotated[str | None, typer.Option(help="Hidden states to publish, as 6 or 0,6,12 (6).")]
Backend = Annotated[str | None, typer.Option(help="auto, mlx, coreml, onnx or numpy (auto).")]
Weights = Annotated[str | None, typer.Option(help="A safetensors file, or random:SEED to try without.")]
Gate = Annotated[float | None, typer.Option(metavar="DBFS", help="Windows quieter than this are not embedded (-70).")]
Control = Annotated[str, typer.Option(help="The daemon's control endpoint.")]
Stream = Annotated[str | None, typer.Option(help="Which stream, if there are several.")]
KeyFolder = Annotated[Path | None, typer.Option("--keys", metavar="DIR", help="The key folder (in the user's configuration).")]
Key = Annotated[str | None, typer.Option(metavar="NAME", help="Our key, for a daemon that runs with --curve (local).")]
ServerKey = Annotated[str | None, typer.Option(metavar="PUBLIC", help="The daemon's public key (as in our key's file).")]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON in place of text.")]
PUBLISH, CONTROL = "tcp://127.0.0.1:5590", "tcp://127.0.0.1:5591"


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        app(arguments)
    except MertdError as error:
        for line in str(error).splitlines():
            print(f"mertd: {line}", file=sys.stderr)
        return error.exit_code
    except SystemExit as done:  # typer's way to end: 0, 2 for wrong usage, 130 for Ctrl-C
        return done.code if isinstance(done.code, int) else 0
    return 0


def _version(asked: bool) -> None:
    if asked:
        from mertd import __version__

        print(f"mertd {__version__}")
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
    bind: Annotated[str | None, typer.Option(metavar="ENDPOINT", help=f"Where to publish ({PUBLISH}).")] = None,
    control: Annotated[str | None, typer.Option(metavar="ENDPOINT", help=f"Where to answer questions ({CONTROL}).")] = None,
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
    connect: Annotated[str, typer.Option(metavar="ENDPOINT", help="Where the daemon publishes.")] = PUBLISH,
    control: Control = CONTROL,
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
    control: Control = CONTROL,
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


@config_app.command("init")
def config_init(
    path: Annotated[Path | None, typer.Argument(help="The file to write; by default the one that `mertd run` reads.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a file with every setting, its unit and its default."""
    from mertd.cli.config import init

    init(path, force)


@config_app.command("show")
def config_show(config: Config = None, json: Json = False) -> None:
    """Print every setting as it holds, and whether default, file or environment says so."""
    from mertd.cli.config import show

    show(config, json)


@config_app.command("check")
def config_check(
    path: Annotated[Path | None, typer.Argument(help="The file; by default the one that `mertd run` reads.")] = None,
) -> None:
    """Report every mistake of a file and of MERTD_ variables."""
    from mertd.cli.config import check_file

    check_file(path)


@control_app.command("now")
def control_now(
    stream: Stream = None,
    control: Control = CONTROL,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Embed the newest window at once; everybody who is subscribed gets it, too."""
    from mertd.cli.control import NOW_S, tell
    from mertd.cli.keys import chosen

    tell(control, {"request": "now", "stream": stream}, json, chosen(control, key, server_key, folder), NOW_S)


@control_app.command("pause")
def control_pause(
    stream: Stream = None,
    control: Control = CONTROL,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Close a stream's device, so that nothing hears it."""
    from mertd.cli.control import tell
    from mertd.cli.keys import chosen

    tell(control, {"request": "pause", "stream": stream}, json, chosen(control, key, server_key, folder))


@control_app.command("resume")
def control_resume(
    stream: Stream = None,
    control: Control = CONTROL,
    json: Json = False,
    key: Key = None,
    server_key: ServerKey = None,
    folder: KeyFolder = None,
) -> None:
    """Open a paused stream's device again."""
    from mertd.cli.control import tell
    from mertd.cli.keys import chosen

    tell(control, {"request": "resume", "stream": stream}, json, chosen(control, key, server_key, folder))


@control_app.command("set")
def control_set(
    hop: Hop = None,
    gate: Gate = None,
    stream: Stream = None,
    control: Control = CONTROL,
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


@control_app.command("shutdown")
def control_shutdown(
    control: Control = CONTROL, json: Json = False, key: Key = None, server_key: ServerKey = None, folder: KeyFolder = None
) -> None:
    """Stop the daemon in order."""
    from mertd.cli.control import tell
    from mertd.cli.keys import chosen

    tell(control, {"request": "shutdown"}, json, chosen(control, key, server_key, folder))


@app.command()
def man() -> None:
    """Print the manual page, for `man -l -`."""
    from mertd.cli.man import page

    print(page(typer.main.get_command(app)), end="")


@model.command("pull")
def model_pull(
    out: Annotated[Path | None, typer.Option(help="Where to put the weights; by default where `mertd run` looks.")] = None,
) -> None:
    """Fetch MERT's trained weights from the Hugging Face hub."""
    from mertd.cli.model import pull

    pull(out)


@model.command("import")
def model_import(
    source: Annotated[Path, typer.Argument(help="A PyTorch .bin, or a .safetensors.")],
    out: Annotated[Path | None, typer.Option(help="Where to put the weights; by default where `mertd run` looks.")] = None,
) -> None:
    """Convert a checkpoint to mertd's float16 safetensors."""
    from mertd.cli.model import import_

    import_(source, out)


@model.command("random")
def model_random(
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes on every machine.")] = 0,
    size: Annotated[str, typer.Option(help="full, or tiny for tests.")] = "full",
) -> None:
    """Write untrained weights of the true shapes: they exercise everything and mean nothing."""
    from mertd.cli.model import random

    random(out, seed, size)


@model.command("check")
def model_check(weights: Annotated[str, typer.Argument(help="A safetensors file, or random:SEED.")]) -> None:
    """Check names, shapes, types and values of weights."""
    from mertd.cli.model import check

    check(weights)


@model.command("info")
def model_info(
    weights: Annotated[str | None, typer.Argument(help="Weights; without, the architecture alone.")] = None,
    window: Window = None,
    layers: Layers = None,
    json: Json = False,
) -> None:
    """Describe the network: its size, its cost per window, the space its vectors lie in."""
    from mertd.cli.model import info

    info(weights, {"window": window, "layers": layers}, json)


@model.command("export-coreml")
def model_export_coreml(
    weights: Annotated[str, typer.Argument(help="A safetensors file, or random:SEED.")],
    out: Annotated[Path, typer.Option(help="The .mlpackage to write.")],
    layers: Annotated[str, typer.Option(help="Hidden states to give.")] = ",".join(map(str, range(13))),
    window: Window = None,
    target: Annotated[str, typer.Option(help="macos14 or macos15.")] = "macos14",
) -> None:
    """Write a Core ML package."""
    from mertd.cli.model import export_coreml

    export_coreml(weights, out, {"window": window, "layers": layers}, target)


@model.command("compare")
def model_compare(
    a: Annotated[str, typer.Argument(help="A backend, a .mlpackage, or a checkpoint.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    audio: Annotated[Path | None, typer.Option(help="A sound file, of which the first window is used.")] = None,
    weights: Annotated[str, typer.Option(help="For a side that is a backend.")] = "random:0",
    window: Window = None,
    least: Annotated[float, typer.Option(min=0, max=1, help="Exit 1 if a cosine is below this.")] = 0.999,
    json: Json = False,
) -> int:
    """Run two of {backend, package, checkpoint} on the same audio and compare every layer."""
    from mertd.cli.compare import compare

    raise typer.Exit(0 if compare(a, b, audio, weights, {"window": window}, least, json) else 1)


@keys.command("new")
def keys_new(
    name: Annotated[str | None, typer.Argument(help="What the client is called.")] = None,
    server: Annotated[bool, typer.Option("--server", help="The daemon's keys, and a client `local` for this machine.")] = False,
    server_key: Annotated[str | None, typer.Option(metavar="PUBLIC", help="The public key of the client's daemon.")] = None,
    folder: KeyFolder = None,
) -> None:
    """Make the keys of a client, or of the daemon. They stay on the machine; what is printed is public."""
    from mertd.cli.keys import new

    new(name, server, server_key, folder)


@keys.command("show")
def keys_show(folder: KeyFolder = None, json: Json = False) -> None:
    """Show the public keys that are here, and who is allowed."""
    from mertd.cli.keys import show

    show(folder, json)


@keys.command("allow")
def keys_allow(
    name: Annotated[str, typer.Argument(help="What the client is called.")],
    public: Annotated[str | None, typer.Argument(help="Its public key; not needed if its keys are here.")] = None,
    control: Annotated[bool, typer.Option("--control", help="It may command, too: pause, set, now, shutdown.")] = False,
    folder: KeyFolder = None,
) -> None:
    """Let a client in, to listen and to ask for status and history. Again with or without --control changes what it may."""
    from mertd.cli.keys import allow

    allow(name, public, control, folder)


@keys.command("revoke")
def keys_revoke(name: Annotated[str, typer.Argument(help="Who.")], folder: KeyFolder = None) -> None:
    """Let a client in no longer. A daemon that runs cuts it off."""
    from mertd.cli.keys import revoke

    revoke(name, folder)
