"""Which device a name means, and what becomes of what a driver says and does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.scripted_portaudio import RATE, Card
from mertd.capture import device as module
from mertd.capture.address import parse
from mertd.capture.device import BLOCK_S, FIRST_BLOCK_S, STALL_S, Device, DeviceSource, devices, resolve
from mertd.capture.source import Block
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


def test_a_name_of_several_is_refused_for_good() -> None:
    with pytest.raises(
        SourceError, match="'blackhole' is the name of several input devices: 'BlackHole 2ch', 'BlackHole 16ch'"
    ) as no:
        resolve("blackhole", FOUND)
    assert not no.value.retry


def test_a_device_that_is_not_there_may_come() -> None:
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


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    monkeypatch.setattr(module, "portaudio", lambda: card)
    monkeypatch.setattr(module, "time", card)
    return card


def portion(card: Card, value: float = 0.5, **what: object) -> Callable[[], None]:
    return lambda: card.hears([value] * COUNT, **what)  # type: ignore[arg-type]


def heard(card: Card, *script: Callable[[], object], url: str = "device:") -> list[Block]:
    """The blocks of a script, at whose end the device dies."""
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
    card.listed = [*reversed(card.query_devices())]
    found = devices()
    assert [(d.name, d.default, d.channels, d.rate) for d in found] == [
        ("microphone", True, 2, 48_000),
        ("interface", False, 8, 96_000),
    ]


@pytest.mark.parametrize(
    ("url", "rate", "channels"),
    [
        ("device:", 48_000, 2),
        ("device:interface", 96_000, 2),
        ("device:interface?channels=6&rate=44100", 44_100, 6),
        ("device:interface?mix=5", 96_000, 5),
        ("device:interface?mix=1", 96_000, 2),
        ("device:microphone?channels=8", 48_000, 2),
    ],
)
def test_a_device_is_opened_as_it_is_asked_for(card: Card, url: str, rate: int, channels: int) -> None:
    source = DeviceSource(parse(url))
    assert (source.rate, source.channels) == (card.opened["samplerate"], card.opened["channels"]) == (rate, channels)
    assert card.active


def test_a_device_that_refuses_may_be_tried_again(card: Card) -> None:
    card.refuses = "Device unavailable\n[PaErrorCode -9985]"
    with pytest.raises(SourceError, match=r"device 'default': Device unavailable$") as no:
        DeviceSource(parse("device:"))
    assert no.value.retry


def test_what_the_driver_gives_is_handed_on_in_one_block(card: Card) -> None:
    def burst() -> None:
        for value in (0.1, 0.2, 0.3):
            card.hears([value] * 100, since_heard=0.01)

    (block,) = heard(card, burst)
    assert np.allclose(block.frames[:, 1], np.repeat([0.1, 0.2, 0.3], 100))
    assert block.lost == 0


def test_what_is_not_finite_becomes_silence(card: Card) -> None:
    (block,) = heard(card, lambda: card.hears([0.5, np.nan, np.inf, -np.inf, -0.5]))
    assert block.frames[:, 0].tolist() == [0.5, 0, 0, 0, -0.5]


@pytest.mark.parametrize(
    ("since_heard", "expected"),
    [(0.2, 0.2), (BLOCK_S, BLOCK_S), (0.0, BLOCK_S), (-3.0, BLOCK_S), (1e9, BLOCK_S), (float("nan"), BLOCK_S)],
)
def test_a_block_is_dated_by_the_driver_where_that_can_be(card: Card, since_heard: float, expected: float) -> None:
    """Some drivers say 0, some say nonsense; no frame was heard after it was handed over."""
    (block,) = heard(card, portion(card, since_heard=since_heard))
    at = 1_790_000_000 + BLOCK_S  # the reader had slept once
    assert block.unix_ns is not None
    assert block.unix_ns / 1e9 == pytest.approx(at - expected, abs=1e-5)


def test_one_late_callback_does_not_date_the_block(card: Card) -> None:
    def burst() -> None:
        for delay in (0.01, 0.4, 0.01):  # the middle one says that it was heard long before
            card.passes(0.01)
            card.hears([0.5] * 480, since_heard=delay)

    (block,) = heard(card, burst)
    assert block.unix_ns is not None
    assert block.unix_ns / 1e9 == pytest.approx(1_790_000_000 + BLOCK_S, abs=1e-4)


def pause(card: Card, seconds: float) -> Callable[[], None]:
    return lambda: card.passes(seconds)


@pytest.mark.parametrize(
    ("seconds", "overflow", "lost"),
    [
        (0.0, False, 0),
        (0.1, False, 0),
        (0.4, False, 0),
        (0.6, False, 0.6),
        (0.0, True, 0),
        (0.1, True, 0.1),
        (2.0, True, 2.0),
    ],
)
def test_lost_frames_are_estimated_from_the_time(card: Card, seconds: float, overflow: bool, lost: float) -> None:
    """Only if the driver says that frames were lost, or if the gap is too long to be anything else."""

    def late() -> None:
        card.passes(seconds)
        card.hears([0.5] * COUNT, overflow=overflow)

    blocks = heard(card, portion(card), late, portion(card))
    assert [len(block.frames) for block in blocks] == [COUNT] * 3
    assert [block.lost for block in blocks[::2]] == [0, 0]
    assert blocks[1].lost == pytest.approx(lost * RATE, abs=2)
    assert blocks[1].lost > 0 or not overflow, "at least one frame, if the driver says so"


def test_a_gap_within_one_reading_splits_it(card: Card) -> None:
    def burst() -> None:
        card.hears([0.1] * 100)
        card.passes(1 + 100 / RATE)
        card.hears([0.2] * 100)

    first, second = heard(card, burst)
    assert (first.lost, first.frames[0, 0]) == (0, np.float32(0.1))
    assert (second.lost, second.frames[0, 0]) == (pytest.approx(RATE, abs=2), np.float32(0.2))


def test_a_sleep_of_the_machine_is_no_loss(card: Card) -> None:
    """Wall time jumps, but nothing was to be heard meanwhile: the step begins an epoch, and hours of zeros help nobody."""
    blocks = heard(card, portion(card), lambda: card.sleeps(8 * 3_600), portion(card))
    assert [block.lost for block in blocks] == [0, 0]


@pytest.mark.parametrize(("script", "patience"), [(0, FIRST_BLOCK_S), (1, STALL_S)])
def test_a_device_that_gives_nothing_is_given_up(card: Card, script: int, patience: float) -> None:
    source = DeviceSource(parse("device:"))
    card.script = [portion(card)] * script
    began = card.running_s
    with pytest.raises(SourceError, match=f"has given nothing for {patience:.0f} s") as end:
        list(source.blocks())
    assert end.value.retry
    assert card.running_s - began == pytest.approx(patience, abs=0.2)
