"""`mertd devices`: the input devices of this machine."""

from __future__ import annotations

from dataclasses import asdict

from mertd.capture.source_kinds import without_device
from mertd.capture.sources.device import devices as input_devices
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Json
from mertd.cli.output import say, say_json

commands = single_command()


@commands.command()
def devices(json: Json = False) -> None:
    """List the input devices."""
    found = input_devices()
    if json:
        say_json([asdict(device) for device in found])
        return
    for device in found:
        mark = "*" if device.default else " "
        say(f"{mark} device:{device.name}  ({device.host}, {device.channels} channels, {device.rate} Hz)")
    if not found:
        say(f"no input device; {without_device()} sources need none")
