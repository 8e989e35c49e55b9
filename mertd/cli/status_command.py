"""`mertd status`: what a running daemon says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mertd.cli.client_keys import client_keys
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Control, Json, Key, KeyFolder, ServerKey, TextTimes
from mertd.cli.output import say
from mertd.defaults import CONTROL_ENDPOINT, SAMPLE_RATE
from mertd.errors import WireError

if TYPE_CHECKING:
    from mertd.stream.curve_keys import ClientKeys
    from mertd.wire import Status

commands = single_command()


@commands.command()
def status(
    control: Control = CONTROL_ENDPOINT,
    json: Json = False,
    text_times: TextTimes = False,
    watch: Annotated[bool, typer.Option("--watch", help="Ask again every second, until Ctrl-C.")] = False,
    key: Key = None,
    server_key: ServerKey = None,
    key_folder: KeyFolder = None,
) -> None:
    """Ask a running daemon how it is."""
    from mertd.cli.message_printer import MessagePrinter

    keys = client_keys(control, key, server_key, key_folder)
    if watch:
        from mertd.cli.status_watch import watch_status

        watch_status(lambda: _ask(control, keys), lambda message: _lines(control, message), json, text_times)
        return
    message = _ask(control, keys)
    if json or text_times:
        MessagePrinter(json, text_times).show(message)
        return
    for line in _lines(control, message):
        say(line)


def _ask(control: str, keys: ClientKeys | None) -> Status:
    """Return the status of a daemon. Raises `EndpointError` and `WireError`."""
    from mertd.stream.request import ask
    from mertd.wire import Status

    answer = ask(control, {"request": "status"}, keys=keys)
    message = answer[0] if len(answer) == 1 else None
    if not isinstance(message, Status):
        kinds = ", ".join(message.kind for message in answer)
        raise WireError(f"{control} answered a request for its status with {kinds or 'nothing'}")
    return message


def _lines(control: str, message: Status) -> list[str]:
    """Return the lines that describe a status. Raises `WireError`."""
    try:
        return list(status_lines(message))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:  # a daemon may send anything
        raise WireError(f"{control} sent an invalid status: {type(error).__name__}: {error}") from error


def status_lines(message: Status) -> Iterator[str]:
    """Yield the lines that describe a status."""
    yield f"mertd {message.version}, {message.phase}, up {message.uptime_ns / 1e9:.0f} s"
    yield _model_line(message.model)
    for name, stream in message.streams.items():
        yield from _stream_lines(name, stream)
    for name, process in message.processes.items():
        yield from _process_lines(name, process)
    yield from _security_lines(message.processes["supervisor"])
    yield f"sent    {message.published} messages, a slow subscriber's queue ran full {message.dropped} times"


def _model_line(model: Mapping[str, Any]) -> str:
    if not model:
        return "model   not ready"
    untrained = "" if model["trained"] else ", UNTRAINED"
    runs_on = f"{model['backend']} {model['device']} ({model['precision']}{untrained})"
    return f"model   {model['name']} on {runs_on}, space {model['space']}"


def _stream_lines(name: str, stream: Mapping[str, Any]) -> Iterator[str]:
    problem = f" — {stream['problem']}" if stream["problem"] else ""
    yield f"stream  {name}: {stream['state']}, {stream['description'] or stream['source']}{problem}"
    captured, missing = stream["samples"] / SAMPLE_RATE, stream["missing"] / SAMPLE_RATE
    windows = ", ".join(f"{stream[count]} {count}" for count in ("due", "embedded", "silent", "skipped", "waiting"))
    yield f"        epoch {stream['epoch']}, {captured:.1f} s heard, {missing:.2f} s missing; windows: {windows}"


def _process_lines(name: str, process: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line, and one more for each further line of the process's last error, which may be a traceback."""
    parts = [f"{process['state']}, pid {process['pid']}" if process["pid"] else str(process["state"])]
    if process["restarts"]:
        parts.append(f"restarts: {process['restarts']}")
    for key, what in (("log_lost", "lost"), ("log_left_out", "left out as repetitions")):
        if process.get(key):
            parts.append(f"{process[key]} lines of the log {what}")
    more: list[str] = []
    if process.get("last_error"):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(process["last_error_ns"] / 1e9))
        first, *more = str(process["last_error"]).rstrip("\n").split("\n")
        parts.append(f"last error {when}: {first}")
    yield f"process {name}: {'; '.join(parts)}"
    for line in more:
        yield f"        {line}"


def _security_lines(supervisor: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a daemon that runs with --curve says of its clients."""
    if supervisor.get("curve"):
        rejected = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in supervisor["rejected"].items())
        allowed = f"{supervisor['clients_allowed']} clients allowed"
        yield f"curve   {supervisor['public_key']}, {allowed}; rejected: {rejected or 'none'}"
        if supervisor["keys_problem"]:
            yield f"        the list of clients is not read: {supervisor['keys_problem']}"
