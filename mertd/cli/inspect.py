"""`mertd devices` and `mertd status`."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mertd.stream.keys import ClientKeys
from mertd.wire import as_json


def _process(facts: Mapping[str, Any]) -> str:
    """What a status says of one process, in a line."""
    parts = [f"{facts['state']}, pid {facts['pid']}" if facts["pid"] else str(facts["state"])]
    if facts["restarts"]:
        parts.append(f"restarts: {facts['restarts']}")
    for key, what in (("log_lost", "lost"), ("log_left_out", "left out as repetitions")):
        if facts.get(key):
            parts.append(f"{facts[key]} lines of the log {what}")
    if facts.get("last_error"):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["last_error_ns"] / 1e9))
        parts.append("last error " + when + ": " + "\n        ".join(str(facts["last_error"]).splitlines()))
    return "; ".join(parts)


def _security(facts: Mapping[str, Any]) -> None:
    """What a daemon that runs with --curve tells of who knocks."""
    if facts.get("curve"):
        rejected = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in facts["rejected"].items())
        print(f"curve   {facts['public_key']}, {facts['clients_allowed']} clients allowed; rejected: {rejected or 'none'}")
        if facts["keys_problem"]:
            print(f"        the list of clients is not read: {facts['keys_problem']}")


def devices(json: bool) -> None:
    """Print the input devices, one a line."""
    from mertd.capture.sources.device import devices as found

    listed = found()
    if json:
        print(jsonlib.dumps([asdict(device) for device in listed]))
        return
    for device in listed:
        mark = "*" if device.default else " "
        print(f"{mark} device:{device.name}  ({device.host}, {device.channels} channels, {device.rate} Hz)")
    if not listed:
        print("no input device; file:, pipe: and synth: sources need none")


def status(control: str, json: bool, keys: ClientKeys | None) -> None:
    """Print a daemon's status."""
    from mertd.stream.request import ask
    from mertd.wire import Status

    (message,) = ask(control, {"request": "status"}, keys=keys)
    if json:
        print(jsonlib.dumps(as_json(message)))
        return
    assert isinstance(message, Status)
    model = message.model
    print(f"mertd {message.version}, {message.phase}, up {message.uptime_ns / 1e9:.0f} s")
    if model:
        trained = "" if model["trained"] else ", UNTRAINED"
        how = f"{model['backend']} {model['device']} ({model['precision']}{trained})"
        print(f"model   {model['name']} on {how}, space {model['space']}")
    else:
        print("model   not ready")
    for name, s in message.streams.items():
        print(f"stream  {name}: {s['state']}, {s['description'] or s['source']}{' — ' + s['problem'] if s['problem'] else ''}")
        print(
            f"        epoch {s['epoch']}, {s['samples'] / 24_000:.1f} s heard, {s['missing'] / 24_000:.2f} s missing; windows: "
            f"{s['due']} due, {s['embedded']} embedded, {s['silent']} silent, {s['skipped']} skipped, {s['waiting']} waiting"
        )
    for name, p in message.processes.items():
        print(f"process {name}: {_process(p)}")
    _security(message.processes["supervisor"])
    print(f"sent    {message.published} messages, a slow subscriber's queue ran full {message.dropped} times")
