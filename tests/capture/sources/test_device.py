"""Devices by name, and every behaviour of a driver."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.scripted_portaudio import RATE, Card
from mertd.capture import device_list, live_blocks
from mertd.capture.address import parse
from mertd.capture.assembler import MAX_NONFINITE_S, RATE_WINDOW_S
from mertd.capture.device_list import Device, devices, resolve, target_of, with_server
from mertd.capture.input_status import InputStatus
from mertd.capture.limits import BLOCK_S
from mertd.capture.live_blocks import FIRST_BLOCK_S, STALL_S
from mertd.capture.sound_server import ServerInput, ServerInputs
from mertd.capture.source import Block
from mertd.capture.sources import device as module
from mertd.capture.sources.device import DeviceSource
from mertd.errors import SourceError

NAMES = ["MacBook Pro Microphone", "BlackHole 2ch", "BlackHole 16ch", "USB Audio", "usb audio", "alsa.monitor"]
FOUND = [Device(name, "ALSA", 2, 48_000, index == 0, index) for index, name in enumerate(NAMES)]
COUNT = round(RATE * BLOCK_S)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("", 0),
        ("BlackHole 2ch", 1),
        ("blackhole 16CH", 2),
        ("macbook", 0),
        ("16", 2),
        ("USB Audio", 3),
        ("usb audio", 4),
        ("monitor", 5),
    ],
)
def test_a_name_finds_its_device(name: str, index: int) -> None:
    assert resolve(name, FOUND).index == index


def test_an_ambiguous_name_is_refused_and_not_retried() -> None:
    with pytest.raises(
        SourceError,
        match="'blackhole' matches several input devices: 'BlackHole 2ch', 'BlackHole 16ch'; name one of them in full",
    ) as no:
        resolve("blackhole", FOUND)
    assert not no.value.retry


def test_a_missing_device_is_retried() -> None:
    with pytest.raises(SourceError, match="no input device 'BlackHoel 2ch'; did you mean 'BlackHole 2ch'") as near:
        resolve("BlackHoel 2ch", FOUND)
    with pytest.raises(SourceError, match="no input device 'xyzzy'; there are 'MacBook Pro Microphone', ") as far:
        resolve("xyzzy", FOUND)
    with pytest.raises(SourceError, match="no input device; ") as none:
        resolve("", [])
    assert near.value.retry
    assert far.value.retry
    assert none.value.retry


@given(st.text(max_size=8))
def test_any_name_finds_a_device_or_is_explained(name: str) -> None:
    try:
        assert resolve(name, FOUND) in FOUND
    except SourceError as error:
        assert repr(name) in str(error)  # noqa: PT017


TWINS = [
    Device("USB Mic", "Core Audio", 1, 48_000, False, 4),
    Device("Built-in", "Core Audio", 2, 48_000, True, 0),
    Device("USB Mic", "Core Audio", 2, 44_100, False, 2),
    Device("USB Mic (rear)", "Core Audio", 2, 44_100, False, 5),
]


def test_namesakes_are_listed_with_addresses_that_tell_them_apart() -> None:
    with pytest.raises(
        SourceError,
        match=r"'usb mic' matches several input devices of one name: device:USB Mic#2 \(Core Audio, 1 channels\), "
        r"device:USB Mic#1 \(Core Audio, 2 channels\); choose one",
    ) as no:
        resolve("usb mic", TWINS)
    assert not no.value.retry
    assert [resolve(f"USB Mic#{number}", TWINS).index for number in (1, 2)] == [2, 4]
    assert resolve("usb mic#2", TWINS).index == 4
    assert resolve("#5", TWINS).index == 5
    for missing in ("USB Mic#3", "USB Mic#0", "#1", "Mic#1"):
        with pytest.raises(SourceError, match="no input device") as none:
            resolve(missing, TWINS)
        assert none.value.retry


@given(
    st.lists(
        st.sampled_from(
            ["a", "A", "a#2", "#1", "#3", "", "a?", "a?mix=2", "b: c", "b (hw:1,0)", "b (hw:2,0)", " a", "é", "e\u0301"]
        )
        | st.text(st.characters(exclude_characters="\0"), max_size=4)
    )
)
def test_what_is_listed_can_be_pasted(names: list[str]) -> None:
    """Unless a device is called `#7` and another one, whose name is no address either, has the index 7."""
    found = [Device(name, "ALSA", 2, 48_000, index == 0, index) for index, name in enumerate(names)]
    for device in found:
        target = target_of(device, found)
        address = parse(f"device:{target}")
        if target.startswith("#") and address.target in names:
            continue
        assert resolve(address.target, found) == device


CARDS = [
    Device("default", "ALSA", 2, 48_000, True, 9),
    Device("USB Audio CODEC: Audio (hw:1,0)", "ALSA", 2, 48_000, False, 1),
    Device("USB Audio CODEC: Audio #2 (hw:1,1)", "ALSA", 2, 48_000, False, 2),
    Device("Webcam: Audio (hw:2,0)", "ALSA", 1, 48_000, False, 3),
    Device("Webcam: Audio (hw:4,0)", "ALSA", 1, 48_000, False, 4),
]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("USB Audio CODEC: Audio", 1),
        ("USB Audio CODEC: Audio (hw:1,0)", 1),
        ("USB Audio CODEC: Audio (hw:3,0)", 1),
        ("Webcam: Audio (hw:4,0)", 4),
        ("(hw:2,0)", 3),
        ("hw:1,1", 2),
    ],
)
def test_the_number_of_a_card_may_change(name: str, index: int) -> None:
    """It does when devices are plugged in or the machine boots."""
    assert resolve(name, CARDS).index == index


def test_the_number_of_a_card_is_written_only_where_it_makes_a_difference() -> None:
    assert [target_of(device, CARDS) for device in CARDS] == [
        *("default", "USB Audio CODEC: Audio", "USB Audio CODEC: Audio #2", "Webcam: Audio (hw:2,0)", "Webcam: Audio (hw:4,0)")
    ]
    with pytest.raises(SourceError, match=r"several input devices: 'Webcam: Audio \(hw:2,0\)', 'Webcam: Audio \(hw:4,0\)'"):
        resolve("Webcam: Audio (hw:5,0)", CARDS)


SERVER = ServerInputs(
    "pulseaudio 17.0",
    (
        ServerInput("alsa_input.usb", "Interface", tuple(range(12, 20))),
        ServerInput("hdmi.monitor", "Monitor of Null Output", (1, 2), "hdmi"),
        ServerInput("null.monitor", "Monitor of Null Output", (1, 2), "null"),
    ),
    "alsa_input.usb",
    "hdmi",
)
PLUGINS = [
    Device("default", "ALSA", 32, 44_100, True, 7),
    Device("pulse", "ALSA", 32, 44_100, False, 6),
    Device("Webcam (hw:2,0)", "ALSA", 1, 16_000, False, 2),
]


def test_inputs_of_the_sound_server_are_listed_with_those_of_portaudio() -> None:
    found = with_server(PLUGINS, SERVER)
    assert [target_of(device, found) for device in found] == [
        *("default", "pulse", "Webcam", "alsa_input.usb", "hdmi.monitor", "null.monitor")
    ]
    assert [device.name for device in found if device.default] == ["alsa_input.usb"], "what `device:` hears"
    assert resolve("interface", found).name == "alsa_input.usb"
    with pytest.raises(SourceError, match=r"several input devices: 'hdmi.monitor', 'null.monitor'; name one"):
        resolve("Monitor of Null Output", found)
    card = [Device("default", "ALSA", 2, 48_000, True, 7), *PLUGINS[1:]]
    assert [d.name for d in with_server(card, SERVER) if d.default] == ["default"], "a card, by the user's configuration"
    bare = [Device("Webcam (hw:2,0)", "ALSA", 1, 16_000, True, 2)]
    jack = [Device("system", "JACK Audio Connection Kit", 2, 48_000, True, 2)]
    for listed, expected in (([], "alsa_input.usb"), (bare, "alsa_input.usb"), (jack, "system")):
        assert [d.name for d in with_server(listed, SERVER) if d.default] == [expected]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    for where in (module, device_list):
        monkeypatch.setattr(where, "portaudio", lambda: card)
    monkeypatch.setattr(live_blocks, "time", card)
    monkeypatch.setattr(module, "read_clocks", card.now)
    monkeypatch.setattr(module, "monitor_input", card.monitor_input)
    return card


def buffer(card: Card, value: float = 0.5, **what: object) -> Callable[[], None]:
    return lambda: card.calls_back([value] * COUNT, **what)  # type: ignore[arg-type]


def blocks_of(card: Card, *script: Callable[[], object], url: str = "device:") -> list[Block]:
    """Return the blocks of a script, after which the device dies."""
    source = DeviceSource(parse(url))
    card.script = [*script, card.dies]
    blocks: list[Block | None] = []
    with pytest.raises(SourceError, match="was lost") as end:
        blocks.extend(source.blocks())
    assert end.value.retry
    source.close()
    assert card.closed
    return [block for block in blocks if block is not None]


def test_inputs_are_listed_the_default_first(card: Card) -> None:
    card.listed = [*reversed(card.query_devices()[:3])]
    found = devices()
    assert [(d.name, d.default, d.channels, d.rate) for d in found] == [
        ("microphone", True, 2, 48_000),
        ("interface", False, 8, 96_000),
    ]


@pytest.mark.parametrize(
    ("url", "rate", "channels"),
    [
        ("device:", 48_000, 2),
        ("device:interface", 96_000, 8),
        ("device:interface?mix=active", 96_000, 8),
        ("device:interface?channels=6&rate=44100", 44_100, 6),
        ("device:interface?mix=5", 96_000, 8),
        ("device:interface?channels=2&mix=2", 96_000, 2),
        ("device:plugin", 48_000, 2),
        ("device:plugin?mix=5", 48_000, 5),
        ("device:plugin?channels=8", 48_000, 8),
        ("device:microphone?channels=8", 48_000, 2),
    ],
)
def test_a_device_is_opened_as_it_is_asked_for(card: Card, url: str, rate: int, channels: int) -> None:
    source = DeviceSource(parse(url))
    assert (source.rate, source.channels) == (card.opened["samplerate"], card.opened["channels"]) == (rate, channels)
    assert card.active


@pytest.mark.parametrize(("url", "channels"), [("device:interface", 2), ("device:interface?mix=4", 4)])
def test_a_device_without_a_mode_of_all_channels_is_opened_with_fewer(card: Card, url: str, channels: int) -> None:
    card.most_channels = 4
    source = DeviceSource(parse(url))
    assert source.channels == card.opened["channels"] == channels
    assert f"{channels} of 8 channels" in source.description
    with pytest.raises(SourceError, match="Invalid number of channels"):
        DeviceSource(parse("device:interface?channels=6"))


def test_a_device_that_refuses_is_retried(card: Card) -> None:
    card.refuses = "Device unavailable\n[PaErrorCode -9985]"
    with pytest.raises(SourceError, match=r"device 'default': Device unavailable$") as no:
        DeviceSource(parse("device:"))
    assert no.value.retry


def test_buffers_without_a_gap_become_one_block(card: Card) -> None:
    def burst() -> None:
        for value in (0.1, 0.2, 0.3):
            card.calls_back([value] * 100, latency_s=0.01)

    (block,) = blocks_of(card, burst)
    assert np.allclose(block.frames[:, 1], np.repeat([0.1, 0.2, 0.3], 100))
    assert block.lost == 0


def test_frames_that_are_not_finite_become_zeros_and_are_reported(card: Card) -> None:
    whole, block = blocks_of(card, buffer(card), lambda: card.calls_back([0.5, np.nan, 0.1, -np.inf, -0.5]))
    assert block.frames[:, 0].tolist() == [0.5, 0, 0, 0, -0.5]
    assert block.nonfinite == (1, 4)
    assert whole.nonfinite is None


def test_a_device_that_is_not_finite_for_seconds_is_broken(card: Card) -> None:
    source = DeviceSource(parse("device:"))
    card.script = [buffer(card, np.nan), buffer(card)] + [buffer(card, np.nan)] * round(2 * MAX_NONFINITE_S / BLOCK_S)
    blocks = []
    with pytest.raises(SourceError, match="NaN or infinities for 2 s") as end:
        blocks += source.blocks()
    assert end.value.retry
    assert len(blocks) == pytest.approx(2 + MAX_NONFINITE_S / BLOCK_S, abs=2), "one good block in between counts"


def test_occasional_frames_that_are_not_finite_do_not_break_a_device(card: Card) -> None:
    nearly = [buffer(card, np.nan)] * round(0.7 * MAX_NONFINITE_S / BLOCK_S)
    assert len(blocks_of(card, *nearly, buffer(card), *nearly)) == 2 * len(nearly) + 1


def test_a_change_of_the_input_ends_the_stream(card: Card) -> None:
    source = DeviceSource(parse("device:"))

    def changes() -> None:
        card.monitor.problem = "the default input has changed from 'a' to 'b'"

    card.script = [buffer(card), changes, buffer(card)]
    blocks = []
    with pytest.raises(SourceError, match="device 'microphone': the default input has changed from 'a' to 'b'") as end:
        blocks += source.blocks()
    assert end.value.retry
    assert len(blocks) == 1
    source.close()
    assert card.monitor.closed


@pytest.mark.parametrize(
    ("url", "chosen", "follows"),
    [("device:", "", True), ("device:microphone", "", False), ("device:pulse", "", True), ("device:pulse", "a.monitor", False)],
)
def test_only_a_stream_of_the_default_input_follows_it(
    card: Card, monkeypatch: pytest.MonkeyPatch, url: str, chosen: str, follows: bool
) -> None:
    card.listed = card.query_devices()
    card.listed[2]["name"] = "pulse"
    monkeypatch.setenv("PULSE_SOURCE", chosen)
    DeviceSource(parse(url))
    assert card.monitor.follows == follows


def test_zeros_are_explained_by_the_status_of_the_input(card: Card) -> None:
    source = DeviceSource(parse("device:"))
    card.monitor.latest = InputStatus(source="mic", muted=True)
    assert source.explain_zeros().cause == "muted"


@pytest.mark.parametrize(
    ("latency_s", "expected"),
    [(0.2, 0.2), (BLOCK_S, BLOCK_S), (0.0, BLOCK_S), (-3.0, BLOCK_S), (1e9, BLOCK_S), (float("nan"), BLOCK_S)],
)
def test_a_block_is_dated_by_the_driver_if_its_latency_is_plausible(card: Card, latency_s: float, expected: float) -> None:
    """Some drivers report 0 and some nonsense; no frame is captured after it was delivered."""
    (block,) = blocks_of(card, buffer(card, latency_s=latency_s))
    at = 1_790_000_000 + BLOCK_S  # the reader had slept once
    assert block.captured_at is not None
    assert block.captured_at.unix_ns / 1e9 == pytest.approx(at - expected, abs=1e-5)
    assert block.age_ns == pytest.approx(expected * 1e9, abs=1)


def test_one_late_callback_does_not_move_the_date_of_the_block(card: Card) -> None:
    def burst() -> None:
        for delay in (0.01, 0.4, 0.01):  # the middle one says that it was heard long before
            card.passes(0.01)
            card.calls_back([0.5] * 480, latency_s=delay)

    (block,) = blocks_of(card, burst)
    assert block.captured_at is not None
    assert block.captured_at.unix_ns / 1e9 == pytest.approx(1_790_000_000 + BLOCK_S, abs=1e-4)


def pause(card: Card, seconds: float) -> Callable[[], None]:
    return lambda: card.passes(seconds)


@pytest.mark.parametrize(
    ("seconds", "overflow", "lost"),
    [
        (0.0, False, 0),
        (0.1, False, 0),
        (0.4, False, 0),
        (0.0, True, 0),
        (0.1, True, 0.1),
        (0.4, True, 0.4),
    ],
)
def test_lost_frames_are_estimated_from_the_time(card: Card, seconds: float, overflow: bool, lost: float) -> None:
    """Frames count as lost if the driver says so, or if the gap is too long for anything else."""

    def late() -> None:
        card.passes(seconds)
        card.calls_back([0.5] * COUNT, overflow=overflow)

    blocks = blocks_of(card, buffer(card), late, buffer(card))
    assert [len(block.frames) for block in blocks] == [COUNT] * 3
    assert [block.lost for block in blocks[::2]] == [0, 0]
    assert blocks[1].lost == pytest.approx(lost * RATE, abs=2)
    assert blocks[1].lost > 0 or not overflow, "at least one frame, if the driver says so"


def test_a_gap_within_one_reading_splits_it(card: Card) -> None:
    def burst() -> None:
        card.calls_back([0.1] * 100)
        card.passes(0.4 + 100 / RATE)
        card.calls_back([0.2] * 100, overflow=True)

    first, second = blocks_of(card, burst)
    assert (first.lost, first.frames[0, 0]) == (0, np.float32(0.1))
    assert (second.lost, second.frames[0, 0]) == (pytest.approx(0.4 * RATE, abs=2), np.float32(0.2))


@pytest.mark.parametrize("stopped_s", [0.6, 1.5, 30.0])
def test_audio_buffered_during_a_stall_is_dropped(card: Card, stopped_s: float) -> None:
    """The driver delivers a second of old audio at once with the age of new audio: it is dropped and counted."""

    def resumes() -> None:
        card.passes(stopped_s)
        for _ in range(20):
            card.calls_back([0.9] * COUNT)

    blocks = blocks_of(card, buffer(card, 0.1), resumes, buffer(card, 0.2), buffer(card, 0.3))
    assert [float(block.frames[0, 0]) for block in blocks] == pytest.approx([0.1, 0.2, 0.3])
    after, last = blocks[1:]
    assert after.lost == pytest.approx((stopped_s + BLOCK_S) * RATE, abs=3), "so that what follows is at its place"
    assert last.lost == 0


def test_buffered_audio_with_its_true_age_is_kept(card: Card) -> None:
    """Each buffer has the age of audio that continues where the last one ended."""

    def resumes() -> None:
        card.passes(1.0 - BLOCK_S)
        for number in range(20):
            card.calls_back([0.9] * COUNT, latency_s=1.0 - number * BLOCK_S)

    blocks = blocks_of(card, buffer(card), resumes, buffer(card))
    assert sum(len(block.frames) for block in blocks) == 22 * COUNT
    assert not any(block.lost for block in blocks)
    assert blocks[1].captured_at is not None
    assert blocks[1].captured_at.unix_ns / 1e9 == pytest.approx(card.unix_s - 2 * BLOCK_S - 1.0, abs=1e-3)


def test_a_jump_of_wall_time_between_two_callbacks_splits_the_block(card: Card) -> None:
    def burst() -> None:
        card.calls_back([0.1] * 100)
        card.sleeps(3_600)
        card.passes(100 / RATE)
        card.calls_back([0.2] * 100)

    first, second = blocks_of(card, burst)
    assert first.captured_at is not None
    assert second.captured_at is not None
    assert (second.captured_at.unix_ns - first.captured_at.unix_ns) / 1e9 == pytest.approx(3_600 + 100 / RATE, abs=1e-5)
    assert (second.captured_at.steady_ns - first.captured_at.steady_ns) / 1e9 == pytest.approx(100 / RATE, abs=1e-5)


@pytest.mark.parametrize("share", [44_100 / 48_000, 2.0])
def test_a_device_whose_rate_has_changed_is_opened_anew(card: Card, share: float) -> None:
    source = DeviceSource(parse("device:"))
    card.script = [buffer(card)] * 200 + [lambda: card.calls_back([0.5] * round(COUNT * share))] * 500
    with pytest.raises(SourceError, match=r"delivers \d+ frames a second, not 48000; has its rate changed") as end:
        list(source.blocks())
    assert end.value.retry
    assert card.running_s - 1_000 < 10 + 2 * RATE_WINDOW_S + 1


def test_jitter_and_losses_are_not_a_change_of_rate(card: Card) -> None:
    generator = np.random.Generator(np.random.PCG64(0))

    def late() -> None:
        card.passes(float(generator.exponential(0.003)))
        card.calls_back([0.5] * round(COUNT * 1.06))

    def stumbles() -> None:
        card.passes(0.4)
        card.calls_back([0.5] * COUNT, overflow=True)

    assert len(blocks_of(card, *([late] * 250 + [stumbles] * 5) * 3)) > 600


def test_a_sleep_of_the_machine_is_not_a_loss(card: Card) -> None:
    """Wall time jumps, but there was nothing to capture: the step begins an epoch, without hours of zeros."""
    blocks = blocks_of(card, buffer(card), lambda: card.sleeps(8 * 3_600), buffer(card))
    assert [block.lost for block in blocks] == [0, 0]


@pytest.mark.parametrize(("script", "patience"), [(0, FIRST_BLOCK_S), (1, STALL_S)])
def test_a_device_that_delivers_nothing_is_given_up(card: Card, script: int, patience: float) -> None:
    source = DeviceSource(parse("device:"))
    card.script = [buffer(card)] * script
    began = card.running_s
    with pytest.raises(SourceError, match=f"has delivered nothing for {patience:.0f} s") as end:
        list(source.blocks())
    assert end.value.retry
    assert card.running_s - began == pytest.approx(patience, abs=0.2)
