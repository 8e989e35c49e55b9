"""Each law is broken in turn, and the breach is found: a judge that never condemns is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.laws import Laws
from mertd.wire import Embedding, Event, Message, Span, Status, Time
from messages import embedding, event, status

RATE = 24_000
WINDOW = 24_000
HOP = 12_000
S = 1_000_000_000


def heard_at(sample: int) -> int:
    return 1_000 * S + sample * S // RATE


def vector(seq: int, start: int, epoch: int = 0, **changes: Any) -> Embedding:
    moment = Time(heard_at(start), heard_at(start + WINDOW), 5_000_000, 0.0)
    return embedding(seq, epoch=epoch, window=Span(start, start + WINDOW, RATE), **{"time": moment, "skipped": 0, **changes})


def counted(**changes: int) -> Status:
    facts = {"due": 0, "embedded": 0, "silent": 0, "skipped": 0, "waiting": 0, "samples": 0, "epoch": 0, "restarts": 0}
    return status(streams={"room": facts | changes}, published=sum(changes.values()))


def told(seq: int, name: str, index: int, epoch: int = 0, **detail: Any) -> Event:
    return event(seq, event=name, index=index, epoch=epoch, detail=detail, time_ns=heard_at(index))


STORY: list[Message] = [
    told(0, "started", 0),
    vector(0, 0),
    told(1, "silent", HOP, end=HOP + WINDOW),
    told(2, "skipped", 2 * HOP, end=3 * HOP + WINDOW, windows=2, reason="late"),
    counted(due=5, embedded=1, silent=1, skipped=2, waiting=1),
    vector(1, 4 * HOP, skipped=2),
    told(3, "device_lost", 80_000),
    told(4, "epoch", 80_000, epoch=1, reason="restart"),
    told(5, "device_back", 80_000, epoch=1),
    vector(2, 80_000, epoch=1),
    vector(3, 80_000 + HOP, epoch=1),
    counted(due=7, embedded=4, silent=1, skipped=2, epoch=1, samples=120_000),
]
"""Windows embedded, silent and skipped, a device lost and back: nothing wrong with it."""


def judged(story: list[Message], **how: Any) -> Laws:
    """Every embedding comes a tenth of a second after its end."""
    laws = Laws(WINDOW, HOP, RATE, **how)
    for message in story:
        end_ns = heard_at(message.window.end) if isinstance(message, Embedding) else 0
        laws.heard(message, end_ns + 100_000_000)
    laws.over(0)
    return laws


def test_a_story_without_fault_is_found_without_fault() -> None:
    assert judged(STORY).violations == []


def at(place: int, /, **changes: Any) -> Callable[[list[Message]], None]:
    """The message at that place is different."""

    def change(story: list[Message]) -> None:
        story[place] = replace(story[place], **changes)

    return change


def moved(index: int, by_ns: int, error_ns: int = 5_000_000, stretched_ns: int = 0) -> Callable[[list[Message]], None]:
    """The window at that place is dated otherwise."""

    def change(story: list[Message]) -> None:
        message = story[index]
        assert isinstance(message, Embedding)
        time = message.time
        end_ns = time.end_ns + by_ns + stretched_ns
        story[index] = replace(message, time=Time(time.start_ns + by_ns, end_ns, error_ns, 0.0))

    return change


def without(index: int) -> Callable[[list[Message]], None]:
    def change(story: list[Message]) -> None:
        del story[index]

    return change


BREACHES: dict[str, tuple[Callable[[list[Message]], None], str]] = {
    "another boot": (at(5, boot=bytes(16)), "of another boot"),
    "a message is missing": (without(9), "embedding 3 came when 2 was due"),
    "a message comes twice": (at(10, seq=2), "embedding 2 came when 3 was due"),
    "an event is missing": (without(6), "event 4 came when 3 was due"),
    "a replay": (at(5, replay=True), "nobody asked for"),
    "an epoch that was not announced": (at(5, epoch=1), "has not begun"),
    "an epoch left out": (at(7, epoch=2), "epoch 2 after 0"),
    "an epoch without a loss": (at(6, event="noise"), "though nothing was lost"),
    "an epoch that begins within a window": (at(7, index=70_000), "within a window"),
    "a window of two epochs": (at(9, window=Span(74_000, 74_000 + WINDOW, RATE)), "is no start in an epoch"),
    "a late window that reaches into the next epoch": (
        at(9, epoch=0, window=Span(5 * HOP, 5 * HOP + WINDOW, RATE)),
        "reaches into the epoch",
    ),
    "a window of the wrong length": (at(5, window=Span(4 * HOP, 4 * HOP + WINDOW + 1, RATE)), "1 windows in"),
    "a window beside the grid": (at(5, window=Span(4 * HOP + 1, 4 * HOP + 1 + WINDOW, RATE)), "is no start"),
    "a window twice": (at(5, window=Span(HOP, HOP + WINDOW, RATE)), "came twice"),
    "a window vanishes": (at(2, index=HOP, event="noise"), "vanished"),
    "another rate": (at(5, window=Span(4 * HOP, 4 * HOP + WINDOW, 48_000)), "at 48000 Hz"),
    "windows run backwards": (at(10, window=Span(80_000 - HOP, 80_000 - HOP + WINDOW, RATE)), "not after the last"),
    "fewer skipped than announced": (at(5, skipped=1), "reports 1 skipped, and 2"),
    "heard in the future": (moved(5, 200_000_000), "in the future"),
    "dated too old": (moved(5, -7 * S), "before it was reported"),
    "older than the last": (moved(10, -40_000_000), "too early after the last"),
    "older than the last epoch": (moved(9, -600_000_000), "too early after the last"),
    "a window of too many seconds": (moved(9, -200_000_000, stretched_ns=50_000_000), "too long or short"),
    "a stream that failed": (at(8, event="failed", detail={"message": "gone"}), "failed: "),
    "accounts that do not add up": (at(4, streams=counted(due=6, embedded=1, silent=1, skipped=2).streams), "add up"),
    "accounts of what did not come": (
        at(4, streams=counted(due=5, embedded=2, silent=1, skipped=2).streams),
        "what came is",
    ),
    "counts backwards": (at(11, streams=counted(due=4, embedded=4, epoch=1).streams), "counts due backwards"),
    "fewer messages published": (at(11, published=1), "fewer messages"),
    "a status of another epoch": (
        at(4, streams=counted(due=4, embedded=1, silent=1, skipped=2, epoch=3).streams),
        "of epoch 3",
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_is_found(breach: str) -> None:
    change, words = BREACHES[breach]
    story = list(STORY)
    change(story)
    assert any(words in violation for violation in judged(story).violations), judged(story).violations


def test_a_device_that_is_lost_twice_without_a_return() -> None:
    story = [*STORY, told(6, "device_lost", 120_000, 1), told(7, "device_lost", 120_000, 1)]
    assert judged(story[:-1]).violations == []
    assert judged(story).violations == ["room: device_lost twice without a return"]


def test_what_is_waiting_at_the_end_has_not_vanished() -> None:
    laws = Laws(WINDOW, HOP, RATE)
    for message in (vector(0, 0), vector(1, 2 * HOP), counted(due=3, embedded=2, waiting=1)):
        laws.heard(message, heard_at(10 * HOP))
    laws.over(1)
    assert laws.violations == []
    laws.over(0)
    assert "1 windows of epoch 0 vanished, the first at 12000" in laws.violations[0]


def test_what_was_heard_before_a_fault_is_not_what_comes_after_it() -> None:
    def violations(fault_ns: int) -> list[str]:
        laws = Laws(WINDOW, HOP, RATE)
        for message in STORY:
            if isinstance(message, Event) and message.event == "device_lost":
                laws.struck("room", fault_ns)
            laws.heard(message, heard_at(120_000))
        return laws.violations

    begins = heard_at(80_000)
    assert violations(begins + 4_000_000) == []
    (found,) = violations(begins + 6_000_000)
    assert "before the fault" in found


@given(off_ms=st.integers(-500, 500), bound_ms=st.integers(0, 500), late=st.booleans())
def test_times_are_held_against_the_truth_at_both_ends(off_ms: int, bound_ms: int, late: bool) -> None:
    """The truth is `off_ms` away at one end, and as published at the other."""
    window = vector(0, 0, time=Time(heard_at(0), heard_at(WINDOW), bound_ms * 1_000_000, 0.0))
    ends = [heard_at(0), heard_at(WINDOW)]
    ends[late] += off_ms * 1_000_000
    laws = Laws(WINDOW, HOP, RATE, {"room": lambda _: (ends[0], ends[1])}, slack_ns=3_000_000)
    laws.heard(window, heard_at(WINDOW) + S)
    assert bool(laws.violations) == (abs(off_ms) > bound_ms + 3)
    assert all("is off by" in violation for violation in laws.violations)


@pytest.mark.parametrize("off_ms", [-700, -490, 0, 490, 700])
@pytest.mark.parametrize("silent", [False, True])
def test_zeros_of_a_mute_tell_when_it_was(off_ms: int, silent: bool) -> None:
    """A quarter of the window is silent, at its end or, if the mute is over, at its beginning."""
    edge_ns = heard_at(WINDOW * 3 // 4 if silent else WINDOW // 4) - off_ms * 1_000_000
    laws = Laws(WINDOW, HOP, RATE)
    laws.muted("room", edge_ns, silent)
    window = vector(0, 0)
    laws.heard(replace(window, audio=replace(window.audio, zeros=WINDOW // 4)), heard_at(WINDOW) + S)
    laws.heard(counted(due=1, embedded=1), heard_at(WINDOW) + S)
    laws.over(0)
    assert laws.edges_ns == [off_ms * 1_000_000]
    assert ["later than ordered" in violation for violation in laws.violations] == [True] * (abs(off_ms) > 505)


def test_zeros_of_another_origin_are_no_mute() -> None:
    laws = Laws(WINDOW, HOP, RATE)
    laws.muted("room", heard_at(WINDOW * 3 // 4), True)
    for window, zeros in ((vector(0, 0), WINDOW // 4), (vector(1, HOP), 3), (vector(2, 4 * HOP), 0)):
        laws.heard(replace(window, audio=replace(window.audio, zeros=zeros)), heard_at(4 * WINDOW))
    assert laws.edges_ns == [0]
    assert laws.violations == []


def test_sound_that_nobody_has_made_is_found() -> None:
    laws = judged(STORY, truths={"room": lambda _: None})
    assert laws.bounds_ns == []
    assert [violation.split("holds")[1] for violation in laws.violations] == [" sound that was never made"] * 4


def test_the_last_numbers() -> None:
    assert judged(STORY).numbers == {("embedding", "room"): 3, ("event", "room"): 5}
