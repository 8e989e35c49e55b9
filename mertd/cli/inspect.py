"""`mertd devices` and `mertd status`."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict

from mertd.wire import as_json


def devices(json: bool) -> None:
    """Print the input devices, one a line."""
    from mertd.capture.device import devices as found

    listed = found()
    if json:
        print(jsonlib.dumps([asdict(device) for device in listed]))
        return
    for device in listed:
        mark = "*" if device.default else " "
        print(f"{mark} device:{device.name}  ({device.host}, {device.channels} channels, {device.rate} Hz)")
    if not listed:
        print("no input device; file:, pipe: and synth: sources need none")


def status(control: str, json: bool) -> None:
    """Print a daemon's status."""
    from mertd.stream.control import ask
    from mertd.wire import Status

    (message,) = ask(control, {"request": "status"})
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
    print(f"sent    {message.published} messages, a slow subscriber's queue ran full {message.dropped} times")
