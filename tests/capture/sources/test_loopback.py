"""The choice of a virtual device on a Mac. tests/device/test_loopback.py captures monitors of a sound server."""

from __future__ import annotations

import pytest

from mertd.capture.sound_server import ServerInput, ServerInputs
from mertd.capture.sources.loopback import pick_monitor, pick_virtual_device
from mertd.errors import SourceError


@pytest.mark.parametrize(
    ("names", "words", "picked"),
    [
        (["MacBook Pro Microphone", "BlackHole 2ch"], "", "BlackHole 2ch"),
        (["Aggregate Device", "Soundflower (2ch)", "BlackHole 16ch"], "", "BlackHole 16ch"),
        (["BlackHole 2ch", "BlackHole 16ch"], "16", "BlackHole 16ch"),
        (["BlackHole 2ch", "Loopback Audio"], "loop", "Loopback Audio"),
        (["BlackHole 2ch (copy)", "BlackHole 2ch"], "blackhole 2CH", "BlackHole 2ch"),
    ],
)
def test_the_best_one_is_picked(names: list[str], words: str, picked: str) -> None:
    assert pick_virtual_device(names, words) == picked


@pytest.mark.parametrize("words", ["", "black"])
def test_equals_are_not_chosen_between(words: str) -> None:
    with pytest.raises(SourceError, match=r"several.*: loopback:BlackHole 2ch, loopback:BlackHole 16ch; name one") as refusal:
        pick_virtual_device(["BlackHole 2ch", "BlackHole 16ch", "Soundflower (2ch)"], words)
    assert not refusal.value.retry


OUTPUTS = {
    "speakers.echo-cancel": "Null Output",
    "speakers": "Null Output",
    "hdmi": "Speakers of the screen",
    "hdmi2": "speakers",
    "usb": "Café",
}
SERVER = ServerInputs(
    "PulseAudio (on PipeWire 1.4)",
    (
        ServerInput("mic", "speakers", (1, 2)),
        *(ServerInput(f"{name}.monitor", f"Monitor of {text}", (1, 2), name) for name, text in OUTPUTS.items()),
    ),
    "mic",
    "hdmi",
)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("", "hdmi"),
        ("speakers", "speakers"),
        ("SPEAKERS", "speakers"),
        ("speakers.monitor", "speakers"),
        ("Monitor of speakers", "hdmi2"),
        ("echo", "speakers.echo-cancel"),
        ("screen", "hdmi"),
        ("hdmi", "hdmi"),
        ("CAFE\u0301", "usb"),
    ],
)
def test_the_exact_name_of_an_output_wins(words: str, output: str) -> None:
    assert pick_monitor(SERVER, words).monitored == output


@pytest.mark.parametrize(
    ("words", "matches"), [("null output", "speakers.echo-cancel, loopback:speakers"), ("hdm", "hdmi, loopback:hdmi2")]
)
def test_equal_outputs_are_listed(words: str, matches: str) -> None:
    with pytest.raises(SourceError, match=f"{words!r} matches several outputs: loopback:{matches}; name one") as refusal:
        pick_monitor(SERVER, words)
    assert not refusal.value.retry


def test_an_output_that_is_not_there_is_retried() -> None:
    with pytest.raises(SourceError, match=r"no output like 'usb3'; there are 'speakers.echo-cancel', 'speakers', ") as refusal:
        pick_monitor(SERVER, "usb3")
    assert refusal.value.retry
    with pytest.raises(SourceError, match="no output is the default; there are none: pactl load-module"):
        pick_monitor(ServerInputs("pulseaudio", (), "", ""), "")


@pytest.mark.parametrize(
    ("names", "words", "says"),
    [
        ([], "", "no loopback device; brew install blackhole-2ch"),
        (["MacBook Pro Microphone"], "black", "no loopback device like 'black'; brew install"),
        (["BlackHole 2ch"], "64", "no loopback device like '64'; there are 'BlackHole 2ch'"),
    ],
)
def test_without_a_match_the_error_says_what_to_do(names: list[str], words: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as refusal:
        pick_virtual_device(names, words)
    assert refusal.value.retry
