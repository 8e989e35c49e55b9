"""`mertd devices`: the input devices of this machine."""

from __future__ import annotations

from dataclasses import asdict

from mertd.capture.device_list import all_inputs, target_of
from mertd.capture.source_kinds import without_device
from mertd.cli.lazy_group import single_command
from mertd.cli.options import Json
from mertd.cli.output import say, say_json

commands = single_command()


@commands.command()
def devices(json: Json = False) -> None:
    """List the input devices, each with the address that opens it; * marks the default one."""
    found = all_inputs()
    addresses = [f"device:{target_of(device, found)}" for device in found]
    if json:
        say_json([{"address": address, **asdict(device)} for address, device in zip(addresses, found, strict=True)])
        return
    for address, device in zip(addresses, found, strict=True):
        mark = "*" if device.default else " "
        about = f"{device.description}, " if device.description else ""
        rate = f", {device.rate} Hz" if device.rate else ""
        say(f"{mark} {address}  ({about}{device.host}, {device.channels} channels{rate})")
    if not found:
        say(f"no input device; {without_device()} sources need none")
