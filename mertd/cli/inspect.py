"""`mertd devices` and `mertd status`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mertd.capture.source_kinds import without_device
from mertd.cli.output import say, say_json
from mertd.defaults import SAMPLE_RATE
from mertd.errors import WireError
from mertd.stream.curve_keys import ClientKeys
from mertd.wire import Status, as_json


def _process(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a status says of one process: a line, and one more for each further line of its last error."""
    more: list[str] = []
    parts = [f"{facts['state']}, pid {facts['pid']}" if facts["pid"] else str(facts["state"])]
    if facts["restarts"]:
        parts.append(f"restarts: {facts['restarts']}")
    for key, what in (("log_lost", "lost"), ("log_left_out", "left out as repetitions")):
        if facts.get(key):
            parts.append(f"{facts[key]} lines of the log {what}")
    if facts.get("last_error"):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["last_error_ns"] / 1e9))
        first, *more = str(facts["last_error"]).rstrip("\n").split("\n")
        parts.append(f"last error {when}: {first}")
    yield "; ".join(parts)
    yield from more


def _security(facts: Mapping[str, Any]) -> None:
    """What a daemon that runs with --curve tells of who knocks."""
    if facts.get("curve"):
        rejected = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in facts["rejected"].items())
        say(f"curve   {facts['public_key']}, {facts['clients_allowed']} clients allowed; rejected: {rejected or 'none'}")
        if facts["keys_problem"]:
            say(f"        the list of clients is not read: {facts['keys_problem']}")


def devices(json: bool) -> None:
    """Print the input devices, one a line."""
    from mertd.capture.sources.device import devices as found

    listed = found()
    if json:
        say_json([asdict(device) for device in listed])
        return
    for device in listed:
        mark = "*" if device.default else " "
        say(f"{mark} device:{device.name}  ({device.host}, {device.channels} channels, {device.rate} Hz)")
    if not listed:
        say(f"no input device; {without_device()} sources need none")


def status(control: str, json: bool, keys: ClientKeys | None) -> None:
    """Print a daemon's status."""
    from mertd.stream.request import ask

    (message,) = ask(control, {"request": "status"}, keys=keys)
    if not isinstance(message, Status):
        raise WireError(f"{control} answered with an {message.kind} in place of its status")
    if json:
        say_json(as_json(message))
        return
    try:
        _show(message)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:  # what a daemon says may be anything
        raise WireError(f"{control} sent an invalid status: {type(error).__name__}: {error}") from error


def _show(message: Status) -> None:
    model = message.model
    say(f"mertd {message.version}, {message.phase}, up {message.uptime_ns / 1e9:.0f} s")
    if model:
        trained = "" if model["trained"] else ", UNTRAINED"
        how = f"{model['backend']} {model['device']} ({model['precision']}{trained})"
        say(f"model   {model['name']} on {how}, space {model['space']}")
    else:
        say("model   not ready")
    for name, s in message.streams.items():
        say(f"stream  {name}: {s['state']}, {s['description'] or s['source']}{' — ' + s['problem'] if s['problem'] else ''}")
        heard, missing = s["samples"] / SAMPLE_RATE, s["missing"] / SAMPLE_RATE
        say(
            f"        epoch {s['epoch']}, {heard:.1f} s heard, {missing:.2f} s missing; windows: {s['due']} due, "
            f"{s['embedded']} embedded, {s['silent']} silent, {s['skipped']} skipped, {s['waiting']} waiting"
        )
    for name, p in message.processes.items():
        first, *more = _process(p)
        say(f"process {name}: {first}")
        for line in more:
            say(f"        {line}")
    _security(message.processes["supervisor"])
    say(f"sent    {message.published} messages, a slow subscriber's queue ran full {message.dropped} times")
