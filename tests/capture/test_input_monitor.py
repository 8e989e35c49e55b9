"""The status of an input, its monitor, and CoreAudio behind a stand-in; tests/device asks a real PulseAudio."""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from command_process import PATIENCE_S, wait_until
from mertd.capture.avfoundation import MicrophoneConsent, microphone_consent
from mertd.capture.coreaudio import CoreAudio, four_char_code, open_reader
from mertd.capture.input_monitor import InputMonitor
from mertd.capture.input_status import InputStatus, InputStatusUnavailable, describe_change, explain_zeros
from mertd.vocabulary import ZerosCause

A, B = InputStatus("a", "a", 48_000), InputStatus("b", "b", 48_000)


@pytest.mark.parametrize(
    ("before", "now", "follows", "words"),
    [
        (A, A, True, ""),
        (InputStatus(), A, True, ""),
        (A, InputStatus(), True, ""),
        (A, InputStatus("b", "a", 48_000), True, "the default input has changed from 'a' to 'b'"),
        (A, InputStatus("b", "a", 48_000), False, ""),
        (A, InputStatus("a", "b", 48_000), False, "the system has moved the stream from 'a' to 'b'"),
        (A, InputStatus("a", "a", 44_100), False, "the rate of 'a' has changed from 48000 to 44100 Hz"),
        (A, InputStatus("a", "a", 48_000, muted=True), True, ""),
        (replace(A, consent=False), replace(A, consent=True), False, "this program may use microphones now"),
        (replace(A, consent=None), replace(A, consent=True), False, "this program may use microphones now"),
        (replace(A, consent=True), replace(A, consent=None), False, ""),
        (replace(A, consent=True), replace(A, consent=False), False, ""),
        (replace(A, consent=True), replace(A, consent=True), False, ""),
    ],
)
def test_a_change_of_the_input_is_described(before: InputStatus, now: InputStatus, follows: bool, words: str) -> None:
    assert describe_change(before, now, follows) == words


@pytest.mark.parametrize(
    ("outlook", "expected"),
    [
        (InputStatus(consent=False, muted=True, idle=True), "no_consent"),
        (InputStatus(consent=True, muted=True, idle=True), "muted"),
        (InputStatus(muted=False, idle=True), "idle_monitor"),
        (InputStatus(consent=True, muted=False, idle=False), "unknown"),
        (InputStatus(), "unknown"),
    ],
)
def test_zeros_have_a_likeliest_cause(outlook: InputStatus, expected: str) -> None:
    found = explain_zeros(outlook)
    assert found.cause == expected
    assert expected in list(ZerosCause)
    assert found.hint


def looks(*outlooks: InputStatus | None) -> Callable[[], Callable[[], InputStatus]]:
    """Return a function that opens a reader of these statuses, of which the last repeats; None fails."""
    script = itertools.chain(outlooks, itertools.repeat(outlooks[-1]))

    def look() -> InputStatus:
        found = next(script)
        if found is None:
            raise InputStatusUnavailable("gone")
        return found

    return lambda: look


def test_the_monitor_compares_with_the_first_known_value_of_each_field() -> None:
    watch = InputMonitor(True, looks(InputStatus("a"), A, A, InputStatus("b", "a")), poll_s=0.001)
    wait_until(lambda: bool(watch.problem), PATIENCE_S, lambda: "nothing noticed")
    assert watch.problem == "the default input has changed from 'a' to 'b'"


@pytest.mark.parametrize("consent", [None, False])
def test_consent_that_is_given_later_reopens_the_device(consent: bool | None) -> None:
    """The answer known from the start does not, nor one that is never known."""
    given = replace(A, consent=True)
    watch = InputMonitor(False, looks(*[replace(A, consent=consent)] * 3, given), poll_s=0.001)
    wait_until(lambda: bool(watch.problem), PATIENCE_S, lambda: "nothing noticed")
    assert watch.problem == "this program may use microphones now"
    steady = InputMonitor(False, looks(given, given, given, replace(given, source="b")), poll_s=0.001)
    wait_until(lambda: bool(steady.problem), PATIENCE_S, lambda: "nothing noticed")
    assert "moved the stream" in steady.problem


def test_a_rate_that_changes_because_the_device_was_opened_does_not_count() -> None:
    """As a headset does that goes from 48 to 24 kHz; what it is some seconds later is what is compared."""
    low, later = replace(A, rate=24_000), replace(A, rate=16_000)
    watch = InputMonitor(False, looks(A, low, low, low, replace(low, source="b")), poll_s=0.001, settle_s=PATIENCE_S)
    wait_until(lambda: bool(watch.problem), PATIENCE_S, lambda: "nothing noticed")
    assert "moved the stream" in watch.problem, "and not the rate"
    settled = InputMonitor(False, looks(low, low, later), poll_s=0.001, settle_s=0)
    wait_until(lambda: bool(settled.problem), PATIENCE_S, lambda: "nothing noticed")
    assert "from 24000 to 16000 Hz" in settled.problem


def test_a_monitor_that_hangs_or_fails_does_not_block() -> None:
    asked, release = threading.Event(), threading.Event()

    def hang() -> InputStatus:
        asked.set()
        release.wait(PATIENCE_S)
        return B

    watch = InputMonitor(True, lambda: hang, poll_s=0.001)
    assert asked.wait(PATIENCE_S)
    assert (watch.problem, watch.latest) == ("", InputStatus())
    watch.close()
    release.set()
    blind = InputMonitor(True, looks(A, None), poll_s=0.001)
    wait_until(lambda: blind.latest == A, PATIENCE_S, lambda: "never looked")
    assert not blind.problem
    blind.close()


class ScriptedCoreAudio:
    """The two functions of CoreAudio that mertd calls, over a table of properties."""

    def __init__(self, properties: dict[tuple[int, str], bytes]) -> None:
        self.properties = {(device, four_char_code(selector)): value for (device, selector), value in properties.items()}

    def AudioObjectGetPropertyDataSize(self, device: Any, address: Any, _size: Any, _data: Any, size: Any) -> int:  # noqa: N802
        found = self.properties.get((device.value, address._obj.selector))
        size._obj.value = len(found or b"")
        return 0 if found is not None else 2003332927  # kAudioHardwareUnknownPropertyError

    def AudioObjectGetPropertyData(self, device: Any, address: Any, _size: Any, _data: Any, size: Any, into: Any) -> int:  # noqa: N802
        found = self.properties.get((device.value, address._obj.selector))
        if found is None:
            return 2003332927
        assert size._obj.value >= len(found)
        ctypes.memmove(ctypes.addressof(into._obj), found, len(found))
        return 0


def test_coreaudio_is_called_as_its_header_declares() -> None:
    u32 = lambda *values: b"".join(value.to_bytes(4, "little") for value in values)  # noqa: E731
    names, released = {70: b"Built-in", 71: b"USB"}, []

    def to_text(text: Any, buffer: Any, _size: int, _encoding: int) -> int:
        buffer.value = names[text.value]
        return 1

    to_text.argtypes = None  # type: ignore[attr-defined]
    release = lambda text: released.append(text.value)  # noqa: E731
    audio = ScriptedCoreAudio(
        {
            (1, "dev#"): u32(7, 8),
            (1, "dIn "): u32(8),
            (7, "lnam"): (70).to_bytes(8, "little"),
            (8, "lnam"): (71).to_bytes(8, "little"),
            (7, "nsrt"): bytes(ctypes.c_double(44_100.0)),
            (8, "nsrt"): bytes(ctypes.c_double(96_000.0)),
            (8, "mute"): u32(1),
        }
    )
    strings = SimpleNamespace(CFStringGetCString=to_text, CFRelease=release)
    found = CoreAudio(lambda path: audio if "CoreAudio" in path else strings)
    assert found.devices() == [7, 8]
    assert (found.default_input(), found.name(8), found.rate(7)) == (8, "USB", 44_100)
    assert (found.muted(8), found.muted(7)) == (True, None)
    assert released == [71]
    volume = lambda value: bytes(ctypes.c_float(value))  # noqa: E731
    audio.properties |= {(7, four_char_code("volm")): volume(0.0)}
    assert found.muted(7) is True, "a volume of 0 is silence, too"
    audio.properties |= {(7, four_char_code("volm")): volume(0.3)}
    assert found.muted(7) is False
    with pytest.raises(InputStatusUnavailable, match="does not tell 'nsrt' of 9"):
        found.rate(9)


class ScriptedMac:
    """A Mac with these devices: number, (name, has input streams, rate). The first input is the default one."""

    def __init__(self, devices: dict[int, tuple[str | None, bool, int]], default: int) -> None:
        u32 = lambda *values: b"".join(value.to_bytes(4, "little") for value in values)  # noqa: E731
        self.names = {100 + number: name.encode() for number, (name, _, _) in devices.items() if name}
        table: dict[tuple[int, str], bytes] = {(1, "dev#"): u32(*devices), (1, "dIn "): u32(default)}
        for number, (name, is_input, rate) in devices.items():
            table[number, "stm#"] = u32(9) if is_input else b""
            table[number, "nsrt"] = bytes(ctypes.c_double(rate))
            if name is not None:
                table[number, "lnam"] = (100 + number if name else 0).to_bytes(8, "little")
        self.audio = ScriptedCoreAudio(table)

    def load(self, path: str) -> Any:
        def to_text(text: Any, buffer: Any, _size: int, _encoding: int) -> int:
            buffer.value = self.names[text.value]
            return 1

        to_text.argtypes = None  # type: ignore[attr-defined]

        def release(text: Any) -> None:
            assert text.value, "CFRelease(NULL) crashes"

        return self.audio if "CoreAudio" in path else SimpleNamespace(CFStringGetCString=to_text, CFRelease=release)

    def status(self, name: str, follows: bool = True) -> InputStatus:
        consent = MicrophoneConsent(lambda: True)
        return open_reader(name, follows, self.load, consent)()


def test_among_namesakes_the_one_with_an_input_is_watched() -> None:
    """AirPods are two devices of one name."""
    mac = ScriptedMac({7: ("AirPods", False, 48_000), 8: ("AirPods", True, 24_000), 9: ("Built-in", True, 44_100)}, 9)
    assert mac.status("AirPods") == InputStatus("Built-in", "AirPods", 24_000, None, consent=True)
    assert mac.status("AirPods", follows=False).default == ""
    twins = ScriptedMac({7: ("USB", True, 48_000), 8: ("USB", True, 96_000)}, 7)
    assert twins.status("USB") == InputStatus("USB", "USB", 0, None, consent=True), "nothing is known of either"
    assert mac.status("gone").rate == 44_100, "the default one"


@pytest.mark.parametrize("nameless", [None, ""])
def test_a_device_without_a_name_does_not_blind_the_watch(nameless: str | None) -> None:
    mac = ScriptedMac({6: (nameless, True, 8_000), 7: ("USB", True, 48_000)}, 6)
    assert mac.status("USB") == InputStatus("", "USB", 48_000, None, consent=True)


def test_four_character_codes() -> None:
    assert four_char_code("dIn ") == 1682533920, "kAudioHardwarePropertyDefaultInputDevice"


def test_without_the_frameworks_nothing_is_claimed() -> None:
    """As on a machine that is not a Mac."""

    def absent(path: str) -> Any:
        raise OSError(f"no {path}")

    assert microphone_consent(absent) is None
    with pytest.raises(InputStatusUnavailable, match=r"no .*CoreAudio"):
        CoreAudio(absent)
    if sys.platform != "darwin":
        with pytest.raises(InputStatusUnavailable):
            open_reader("Built-in", True)
