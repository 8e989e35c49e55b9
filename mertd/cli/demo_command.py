"""`mertd demo`: a real daemon and a real subscriber, with synthesised music."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mertd.cli.lazy_group import single_command
from mertd.cli.options import Backend, Threads, Weights
from mertd.cli.output import new_console, spinner_name
from mertd.errors import EndpointError
from mertd.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from mertd.stream.client.subscriber import Subscriber

WINDOW_S = 30
"""Seconds of audio in a window of the demo."""

HOP_S = 5
"""Seconds between the windows of the demo."""

PATIENCE_S = 180.0
"""Seconds to wait for the first embedding, and for each further one."""

commands = single_command()


@commands.command()
def demo(
    count: Annotated[int, typer.Option(min=1, help="Number of embeddings to wait for.")] = 4,
    weights: Weights = None,
    backend: Backend = None,
    threads: Threads = None,
) -> None:
    """See it work, with nothing: synthesised music, a real daemon, a real subscriber."""
    from mertd.stream.client.subscriber import Subscriber
    from mertd.stream.endpoint import socket_folder

    Path.cwd()  # raises if the directory was deleted: the daemon could not start its processes there
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the `finally` below runs
    weights = weights or _own_weights() or "random:0"
    console = new_console()
    with tempfile.TemporaryDirectory(prefix="mertd-", dir=socket_folder()) as folder:
        publish, control = f"ipc://{folder}/publish", f"ipc://{folder}/control"
        seconds = WINDOW_S + HOP_S * (count - 1)
        command = [sys.executable, "-P", "-m", "mertd", "run", "--source", f"synth:chords?seconds={seconds}", "--pace", "fast"]
        command += ["--bind", publish, "--control", control, "--weights", weights, "--exit-at-end"]
        command += ["--window", str(WINDOW_S), "--hop", str(HOP_S), "--backend", backend or "auto"]
        command += ["--threads", str(threads)] if threads is not None else []
        command += ["--layers", "2"] if "size=tiny" in weights else []  # the tiny network has no layer 6
        console.print(f"A daemon hears {seconds} s of synthesised chords; a subscriber shows what it says.")
        with closing(Subscriber(publish)) as subscriber:
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            try:
                _show_embeddings(subscriber, daemon, count, console)
            finally:
                daemon.terminate()
                daemon.wait()
    if not Path(weights).is_file():
        console.print("UNTRAINED: the weights are random, so the vectors move with the sound but mean nothing.")


def _own_weights() -> str | None:
    """Return the weights that `mertd run` would take; None if there are none."""
    from mertd.config import default_weights
    from mertd.user_folders import HomeUnknownError

    try:
        home = default_weights()
    except HomeUnknownError:
        return None
    return str(home) if home.is_file() else None


def _show_embeddings(subscriber: Subscriber, daemon: subprocess.Popen[bytes], count: int, console: Console) -> None:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from mertd.cli.message_format import MessageFormatter
    from mertd.wire import Embedding

    formatter = MessageFormatter()
    deadline = time.monotonic() + PATIENCE_S
    columns = (
        SpinnerColumn(spinner_name(console)),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("loading the model", total=count)
        while not progress.finished:
            received = subscriber.receive(0.2)
            if received is not None and isinstance(received.message, Embedding):
                progress.console.print(printable(formatter.embedding(received.message)), soft_wrap=True)
                progress.update(task, advance=1, description="embedding 30 s windows")
                deadline = time.monotonic() + PATIENCE_S
            elif received is None and daemon.poll() is not None:
                raise EndpointError("the daemon ended before the demo did; the lines above say why")
            elif time.monotonic() > deadline:
                raise EndpointError(f"no embedding in {PATIENCE_S:.0f} s; `mertd doctor` may say why")
