"""A device that delivers only zeros is reported once, with a cause; sources that may be silent are not."""

from __future__ import annotations

import numpy as np
import pytest

from capture.scripted_source import CheckedRing, Reports, ScriptedSource
from mertd.capture.address import parse
from mertd.capture.recorder import CaptureControl, Recorder
from mertd.capture.reports import CaptureSettings, Notice
from mertd.capture.source import Block, ZerosExplanation
from mertd.capture.zeros import MIN_ZEROS_S, ZerosDetector

RATE = 1_000
MUTED = ZerosExplanation("muted", "unmute it")


def notices(*seconds: float) -> list[Notice]:
    """Return the notices for runs of zeros and of signal in turn, zeros first, in blocks of 50 ms."""
    watch = ZerosDetector(RATE, lambda: MUTED)
    index, found = 0, []
    for turn, length in enumerate(seconds):
        for _ in range(round(length * 20)):
            block = np.full((50, 2), turn % 2, np.float32)
            found.append(watch.check(block, index))
            index += 50
    return [notice for notice in found if notice]


def test_long_zeros_are_reported_once_and_when_they_are_over() -> None:
    found = notices(3_600, 1, MIN_ZEROS_S)
    zeros, over = found[:2]
    (again,) = found[2:]
    assert zeros == Notice("zeros", 0, {"seconds": MIN_ZEROS_S, "cause": "muted", "hint": "unmute it"})
    assert over == Notice("zeros_over", 3_600 * RATE, {"seconds": 3_600.0})
    assert (again.event, again.index) == ("zeros", 3_601 * RATE)


def test_short_zeros_are_not_reported() -> None:
    assert not notices(MIN_ZEROS_S - 0.05, 0.05, MIN_ZEROS_S - 0.05, 1)


def test_one_channel_with_signal_is_enough() -> None:
    watch = ZerosDetector(RATE, lambda: MUTED)
    block = np.zeros((50, 2), np.float32)
    block[7, 1] = 1e-20
    assert not [notice for k in range(400) if (notice := watch.check(block, k * 50))]


@pytest.mark.parametrize("device", [True, False])
def test_the_recorder_reports_them_of_devices_only(device: bool) -> None:
    ring = CheckedRing(0)
    reports, silence = Reports(ring), [Block(np.zeros((24_000, 1), np.float32))] * 12
    source = ScriptedSource(24_000, 1, [*silence, Block(np.ones((24_000, 1), np.float32))], (lambda: MUTED) if device else None)
    Recorder(CaptureSettings(parse("synth:tone"), True, 0), source, ring, reports.send, CaptureControl()).run()
    assert [(n.event, n.index) for n in reports.notices] == ([("zeros", 0), ("zeros_over", 12 * 24_000)] if device else [])


@pytest.mark.parametrize("mix", ["mean", "active", "3"])
def test_a_channel_that_is_silent_beside_others_is_told_with_the_loudest(mix: str) -> None:
    detector = ZerosDetector(RATE, lambda: MUTED, mix)
    block = np.zeros((50, 4), np.float32)
    block[:, 0], block[:, 1] = 0.1, -0.2
    found = [notice for k in range(400) if (notice := detector.check(block, k * 50))]
    if mix != "3":
        assert not found, "these hear the others"
        return
    (zeros,) = found
    assert zeros.detail["cause"] == "other_channel"
    assert zeros.detail["hint"].startswith("channel 3 is silent, but channel 2 is not; hear it with ?mix=2")
    block[:, 2] = 0.5
    assert detector.check(block, 20_000) == Notice("zeros_over", 20_000, {"seconds": 20.0})
    none = np.zeros((50, 4), np.float32)
    again = [notice for k in range(400) if (notice := detector.check(none, 20_050 + k * 50))]
    assert [notice.detail["cause"] for notice in again] == ["muted"], "what sounded before the zeros does not count"


def test_the_recorder_tells_the_detector_which_channel_is_heard() -> None:
    ring = CheckedRing(0)
    reports, block = Reports(ring), np.zeros((24_000, 3), np.float32)
    block[:, 0] = 0.1
    source = ScriptedSource(24_000, 3, [Block(block)] * 12, lambda: MUTED)
    Recorder(CaptureSettings(parse("synth:tone?mix=2"), True, 0), source, ring, reports.send, CaptureControl()).run()
    assert [notice.detail["cause"] for notice in reports.notices] == ["other_channel"]
