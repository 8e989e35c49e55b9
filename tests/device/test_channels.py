"""Channels are those of the interface, and names are those that are listed, with a real sound server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from command_process import PATIENCE_S
from device import pulse
from mertd.capture import libpulse
from mertd.capture.address import parse
from mertd.capture.device_list import all_inputs, target_of
from mertd.capture.reports import CaptureSettings
from mertd.capture.server_source import ServerSource
from mertd.capture.sound_server import server_inputs
from mertd.capture.sources import loopback
from mertd.capture.sources.device import open_device
from mertd.errors import SourceError

pytestmark = [pytest.mark.slow, pytest.mark.device, pytest.mark.xdist_group("device")]

RATE = 48_000
MAPS = {
    "studio": "aux0,aux1,aux2,aux3,aux4,aux5,aux6,aux7",
    "cinema": "front-left,front-right,rear-left,rear-right,front-center,lfe,side-left,side-right",
    "odd": "lfe,front-center,aux7,rear-right,front-left",
    "mono": "mono",
}


OPEN = """
import sys
from mertd.capture import libpulse
from mertd.capture.address import parse
from mertd.capture.sources.device import open_device
source = open_device(parse(sys.argv[1]))
print(source.description)
source.close()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pulse.SoundServer]:
    pulse.require()
    folder = tmp_path_factory.mktemp("p")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch, pulse.SoundServer(folder / "server") as server:
        patch.setenv("XDG_RUNTIME_DIR", server.environment["XDG_RUNTIME_DIR"])
        patch.delenv("PULSE_SOURCE", raising=False)
        for name, positions in MAPS.items():
            server.add_sink(name, f"channels={positions.count(',') + 1}", f"channel_map={positions}")
        server.control("set-default-source", "studio.monitor")
        yield server


def play_on(server: pulse.SoundServer, sink: str, channel: int) -> subprocess.Popen[bytes]:
    """Play a tone on one channel of a sink, numbered from 1, until the process is killed."""
    count = MAPS[sink].count(",") + 1
    second = np.zeros((RATE, count), "<i2")
    second[:, channel - 1] = 10_000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    raw = Path(server.environment["XDG_RUNTIME_DIR"]) / f"{sink}-{channel}.raw"
    raw.write_bytes(second.tobytes() * 60)
    form = ["--raw", "--format=s16le", f"--rate={RATE}", f"--channels={count}", f"--channel-map={MAPS[sink]}"]
    return subprocess.Popen(["pacat", f"--device={sink}", "--latency-msec=50", *form, str(raw)], env=server.environment)


def peaks(source: ServerSource, enough: int) -> NDArray[np.float32]:
    """Return the peak of each channel since the tone was first heard on any, over `enough` frames."""
    heard: list[NDArray[np.float32]] = []
    deadline = time.monotonic() + PATIENCE_S
    for block in source.blocks():
        assert time.monotonic() < deadline, "nothing heard"
        if block is not None and (heard or block.frames.any()):
            heard.append(block.frames)
            if sum(map(len, heard)) > enough:
                break
    return np.abs(np.concatenate(heard)).max(axis=0)


@pytest.fixture
def ignoring(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ignores what PipeWire may ignore."""
    if request.param:
        for flag in ("FIX_CHANNELS", "FIX_RATE"):
            monkeypatch.setattr(libpulse, flag, 0)


@pytest.mark.parametrize("ignoring", [False, True], indirect=True)
@pytest.mark.parametrize(("sink", "channel"), [("studio", 5), ("cinema", 5), ("cinema", 6), ("odd", 3), ("mono", 1)])
@pytest.mark.usefixtures("ignoring")
def test_each_channel_is_where_the_interface_has_it(server: pulse.SoundServer, sink: str, channel: int) -> None:
    """By position, PulseAudio would mix the fifth of eight channels into the first two, or drop it."""
    player = play_on(server, sink, channel)
    source = open_device(parse(f"device:{sink}.monitor"))
    try:
        assert isinstance(source, ServerSource)
        assert (source.rate, source.channels) == (RATE, MAPS[sink].count(",") + 1)
        found = peaks(source, RATE // 4)
    finally:
        source.close()
        player.kill()
        player.wait()
    assert found[channel - 1] == pytest.approx(10_000 / 32_768, rel=0.05)
    assert not np.delete(found, channel - 1).any(), "nothing was remixed"


@pytest.mark.parametrize("ignoring", [False, True], indirect=True)
@pytest.mark.usefixtures("server", "ignoring")
def test_a_default_that_changes_meanwhile_has_all_its_channels() -> None:
    listed = server_inputs()
    source = ServerSource(parse("device:"), replace(listed, default="mono.monitor"), None, follows_default=True)
    source.close()
    assert "(studio.monitor), 48000 Hz, 8 channels" in source.description


def test_fewer_channels_are_the_first_ones_at_another_rate(server: pulse.SoundServer) -> None:
    player = play_on(server, "studio", 2)
    source = open_device(parse("device:pulse?channels=3&rate=16000"))
    try:
        assert isinstance(source, ServerSource)
        assert (source.rate, source.channels) == (16_000, 3)
        assert "the first 3 of 8 channels" in source.description
        assert (peaks(source, 4_000) > 0.1).tolist() == [False, True, False]
    finally:
        source.close()
        player.kill()
        player.wait()


@pytest.mark.parametrize("address", ["device:", "device:pulse", "device:Studio.Monitor"])
@pytest.mark.usefixtures("server")
def test_the_default_source_is_heard_with_all_its_channels(address: str) -> None:
    source = open_device(parse(address))
    try:
        assert "(studio.monitor)" in source.description
        assert source.channels == 8
    finally:
        source.close()


def test_what_is_listed_can_be_pasted(server: pulse.SoundServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mertd", "devices", "--json"], env=server.environment, capture_output=True, text=True, check=True
    )
    listed = json.loads(done.stdout)
    assert {f"device:{sink}.monitor" for sink in MAPS} < {entry["address"] for entry in listed}
    assert [entry["address"] for entry in listed if entry["default"]] == ["device:studio.monitor"]
    text = subprocess.run([sys.executable, "-m", "mertd", "devices"], env=server.environment, capture_output=True, text=True)
    for entry, line in zip(listed, text.stdout.splitlines(), strict=True):
        assert line[2:].startswith(f"{entry['address']}  ("), line
        opened = subprocess.run(  # in a process of its own, as PortAudio's list is frozen
            [sys.executable, "-c", OPEN, entry["address"]], env=server.environment, capture_output=True, text=True
        )
        known = entry["name"] if entry["name"].endswith(".monitor") else "studio.monitor"
        assert f"({known})" in opened.stdout, (entry, opened.stderr)


def test_equals_are_listed_and_the_exact_name_wins(server: pulse.SoundServer) -> None:
    server.add_sink("studio.echo-cancel")
    try:
        monitor = loopback.open_source(CaptureSettings(parse("loopback:studio"), True, 0))
        monitor.close()
        assert "(studio.monitor)" in monitor.description
        with pytest.raises(SourceError, match=r"'stud' matches several outputs: loopback:studio, loopback:studio.echo-cancel"):
            loopback.open_source(CaptureSettings(parse("loopback:stud"), True, 0))
        with pytest.raises(SourceError, match=r"'Monitor of Null Output' matches several input devices: 'studio.monitor', "):
            open_device(parse("device:Monitor of Null Output"))
    finally:
        server.remove_sink("studio.echo-cancel")


@pytest.mark.usefixtures("server")
def test_each_input_has_an_address_of_its_own() -> None:
    found = all_inputs()
    assert len({target_of(device, found) for device in found}) == len(found) >= len(MAPS)
