"""The recorder with every fault of a source: what is in the ring, what is reported, and when."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from capture import hanging_source
from capture.scripted_source import CheckedRing, Reports, ScriptedSource, ScriptedTime, Step
from command_process import PATIENCE_S
from example_counts import examples
from mertd.capture import recorder
from mertd.capture.address import parse
from mertd.capture.clock import ClockReading
from mertd.capture.clock_pair import ClockPair
from mertd.capture.entry import open_source
from mertd.capture.mono import MonoConverter
from mertd.capture.recorder import CaptureControl, Recorder
from mertd.capture.reports import (
    MAX_UNREPORTED_SAMPLES,
    CaptureFailed,
    CaptureSettings,
    Committed,
    Discontinuity,
    Ended,
    FilledGap,
    Grant,
    NextDue,
    Stop,
)
from mertd.capture.source import Block
from mertd.capture.sources.file import FileSource
from mertd.capture.sources.pipe import PipeSource
from mertd.capture.sources.synth import SynthSource
from mertd.defaults import SAMPLE_RATE
from mertd.errors import SourceError
from mertd.ring import Ring

Array = NDArray[np.float32]
START = 1_234
ADDRESS = parse("synth:tone")
GENERATOR = np.random.Generator(np.random.PCG64(0))
NOISE = GENERATOR.uniform(-0.5, 0.5, (400_000, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> ScriptedTime:
    clock = ScriptedTime()
    monkeypatch.setattr(recorder, "time", clock)
    monkeypatch.setattr(recorder, "read_clocks", clock.now)
    return clock


def record(
    script: Iterable[Step], rate: int = 48_000, realtime: bool = True, control: CaptureControl | None = None
) -> tuple[CheckedRing, Reports]:
    ring = CheckedRing(START)
    reports = Reports(ring)
    settings_ = CaptureSettings(ADDRESS, realtime, START)
    Recorder(settings_, ScriptedSource(rate, 2, script), ring, reports.send, control or CaptureControl()).run()
    return ring, reports


def one_shot(frames: Array, rate: int) -> Array:
    pipeline = MonoConverter(rate, 2, "mean")
    return np.concatenate([pipeline.feed(frames), pipeline.flush()])


def blocks(*sizes: int, first: int = 0) -> list[Block]:
    """Return consecutive blocks of noise."""
    ends = [first, *(first + np.cumsum(sizes)).tolist()]
    return [Block(NOISE[a:b]) for a, b in pairwise(ends)]


def test_reports_are_rare_until_the_next_window_is_due(clock: ScriptedTime) -> None:
    """At 24 kHz, so that a block of 50 ms is 1,200 samples."""
    control = CaptureControl()
    control.on_message(NextDue(START + 20 * 1_200))

    def later() -> None:
        clock.monotonic += 50_000_000

    def all_of_it() -> list[Step]:
        control.on_message(NextDue(START + 20 * 1_200))  # the recorder forgets what was said of another epoch
        return []

    script: list[Step] = [all_of_it, *(step for block in blocks(*[1_200] * 25) for step in (later, block))]
    _, reports = record(script, 24_000, control=control)
    ends = sorted({(commit.end - START) // 1_200 for commit in reports.commits})
    assert ends[-6:] == [20, 21, 22, 23, 24, 25], "the window is told at once, and then every block"
    assert len(ends[:-6]) <= 5, "each 0.4 s"
    assert max(b - a for a, b in pairwise(ends)) <= 9, "and no later than 0.45 s"


def test_a_gap_is_told_at_once() -> None:
    control = CaptureControl()

    def quiet() -> None:
        control.on_message(NextDue(1 << 40))

    first, second, third, fourth = blocks(100, 100, 100, 100)
    _, reports = record([first, quiet, second, Block(third.frames, lost=7), fourth], 24_000, control=control)
    assert [commit.end - START for commit in reports.commits if commit.gaps] == [307]


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
@given(
    sizes=st.lists(st.integers(0, 5_000) | st.none(), max_size=8),
    lost=st.dictionaries(st.integers(1, 7), st.integers(1, 4_000)),
)
@settings(max_examples=examples(50))
def test_the_ring_holds_what_was_captured_with_zeros_for_what_was_lost(
    rate: int, sizes: list[int | None], lost: dict[int, int]
) -> None:
    script: list[Step] = []
    heard: list[Array] = []
    gaps: list[tuple[int, int]] = []
    at = 0
    for number, size in enumerate(sizes):
        if size is None:
            script.append(None)
            continue
        missing = lost.get(number, 0) if sum(map(len, heard)) else 0
        if missing:
            gaps.append((sum(map(len, heard)), sum(map(len, heard)) + missing))
        heard += [np.zeros((missing, 2), np.float32), NOISE[at : at + size]]
        script.append(Block(NOISE[at : at + size], lost=missing))
        at += size
    ring, reports = record(script, rate)
    expected = one_shot(np.concatenate(heard), rate) if heard else np.zeros(0, np.float32)
    assert np.array_equal(ring.samples, expected)
    assert reports.all[-1] == Ended(reopens=False)
    assert reports.commits[-1].end == START + len(expected)
    assert reports.gaps == [FilledGap(*(START + round(f * SAMPLE_RATE / rate) for f in gap)) for gap in gaps]
    ring.close()


def test_a_loss_does_not_move_what_follows() -> None:
    """An impulse 1.5 s after the start is at 1.5 s, although half a second before it was lost."""
    impulse = np.zeros((4_800, 2), np.float32)
    impulse[0] = 1
    ring, reports = record([Block(np.zeros((48_000, 2), np.float32)), Block(impulse, lost=24_000)])
    assert int(np.argmax(np.abs(ring.samples))) == 36_000
    assert reports.gaps == [FilledGap(START + 24_000, START + 36_000)]


@pytest.mark.parametrize("lost", [1, MAX_UNREPORTED_SAMPLES * 2 + 1, 300_000])
def test_a_loss_of_any_length_is_reported_before_its_samples_and_in_parts(lost: int) -> None:
    """`Reports` and `CheckedRing` check every report and write."""
    ring, reports = record([*blocks(9_600), Block(NOISE[9_600:19_200], lost=lost)])
    assert reports.gaps == [FilledGap(START + 4_800, START + 4_800 + round(lost / 2))]
    assert len(ring.samples) == pytest.approx(9_600 + lost / 2, abs=1)


def test_a_stall_still_sends_heartbeats() -> None:
    ring, reports = record([*blocks(4_800), None, None, None, *blocks(4_800, first=4_800)])
    ends = [commit.end for commit in reports.commits]
    assert ends[1:4] == [ends[0]] * 3, "a report each, though nothing is new"
    times = [commit.at_ns for commit in reports.commits]
    assert times == sorted(set(times))
    assert np.array_equal(ring.samples, one_shot(NOISE[:9_600], 48_000))


def test_a_burst_is_reported_in_parts() -> None:
    ring, reports = record(blocks(300_000))
    assert np.array_equal(ring.samples, one_shot(NOISE[:300_000], 48_000))
    assert len(reports.commits) >= 300_000 / 2 / MAX_UNREPORTED_SAMPLES


def test_readings_date_the_start_of_each_block(clock: ScriptedTime) -> None:
    began = ClockPair(clock.unix + 1_000_000, clock.monotonic + 1_000_000)  # the recorder's own look
    times = [ClockPair(second * 10**9 + 77, second * 10**9) for second in (1, 2, 3)]
    script = [
        Block(NOISE[:48_000], times[0], age_ns=5),
        Block(NOISE[:44_100], times[1], age_ns=6),
        Block(NOISE[:100], times[2], age_ns=7, lost=24_000),
    ]
    _, reports = record(script)
    readings = [reading for commit in reports.commits for reading in commit.readings]
    assert readings == [
        ClockReading(START, times[0], 5, before_epoch=began),
        ClockReading(START + 24_000, times[1], 6),
        ClockReading(START + 24_000 + (44_100 + 24_000) / 2, times[2], 7),
    ]


def test_a_source_without_a_clock_is_dated_once(clock: ScriptedTime) -> None:
    before = clock.unix
    _, reports = record(blocks(4_800, 4_800))
    (reading,) = [reading for commit in reports.commits for reading in commit.readings]
    assert reading.index == START
    passed_on = reading.captured_at.unix_ns + 100_000_000  # the first block, whose last sample is due then
    assert before < passed_on <= clock.unix
    assert reading.exact
    assert reports.commits[0].readings == (reading,), "before any sample can be asked for"


@pytest.mark.parametrize("seconds", [-7_200.0, -1.0, 1.0, 28_800.0])
def test_a_jump_of_wall_time_begins_an_epoch(clock: ScriptedTime, seconds: float) -> None:
    ring, reports = record([*blocks(9_601), lambda: clock.jump(seconds), *blocks(4_801, first=9_601)])
    before, after = one_shot(NOISE[:9_601], 48_000), one_shot(NOISE[9_601:14_402], 48_000)
    assert np.array_equal(ring.samples, np.concatenate([before, after])), "no filter rings across the seam"
    (epoch,) = reports.epochs
    assert epoch.start == START + len(before)
    assert epoch.jump_ns / 1e9 == pytest.approx(seconds, abs=0.01)
    position = reports.all.index(epoch)
    later = [m for m in reports.all[position:] if isinstance(m, Committed)]
    assert later[0].readings[0].index == epoch.start, "the new epoch has a clock of its own"


def test_samples_that_were_not_finite_are_reported_with_their_place() -> None:
    _, reports = record([*blocks(4_800), Block(NOISE[4_800:9_600], nonfinite=(480, 960))])
    assert reports.gaps == [FilledGap(START + 2_640, START + 2_880, "not finite")]


def test_what_was_captured_before_a_jump_and_delivered_after_it_is_dropped_and_counted() -> None:
    """After a sleep the driver first delivers what it had buffered before."""

    def block(first: int, steady: float, unix: float) -> Block:  # half a second of age
        heard = ClockPair(round(unix * 1e9), round(steady * 1e9))
        return Block(NOISE[first : first + 4_800], heard, age_ns=500_000_000)

    awake, slept = 1_000.0, 9_000.0
    late = [block(4_800 * (k + 1), 50.1 + k / 10, slept + 50.1 + k / 10) for k in range(10)]  # noticed at 50.6
    ring, reports = record([block(0, 50.0, awake + 50.0), *late])
    (epoch,) = reports.epochs
    assert (epoch.start, epoch.jump_ns, epoch.dropped) == (START + 2_400, 8_000_000_000_000, 8 * 2_400)
    assert np.array_equal(ring.samples[2_400:], one_shot(NOISE[43_200:52_800], 48_000))


def test_slewing_begins_no_epoch(clock: ScriptedTime) -> None:
    script: list[Step] = []
    for block in blocks(*[960] * 50):
        script += [block, lambda: clock.jump(0.2)]
    _, reports = record(script)
    assert not reports.epochs


def test_hours_of_sleep_are_not_filled_with_zeros(clock: ScriptedTime) -> None:
    """The driver reports the gap, too, but the first block of an epoch follows nothing that it must stay aligned with."""
    ring, reports = record([*blocks(9_600), lambda: clock.jump(20), Block(NOISE[9_600:14_400], lost=20 * 48_000)])
    assert len(reports.epochs) == 1
    assert not reports.gaps
    assert len(ring.samples) == 4_800 + 2_400


def test_a_stop_takes_effect_within_a_block_and_is_not_an_end() -> None:
    control = CaptureControl()
    _, reports = record([*blocks(4_800), lambda: control.on_message(Stop()), *blocks(4_800)], control=control)
    assert not [message for message in reports.all if isinstance(message, Ended | Discontinuity)]


def test_at_fast_pace_nothing_is_written_past_the_grant() -> None:
    """The supervisor here grants a little more whenever the last grant is used up."""
    control, ring = CaptureControl(), CheckedRing(START)
    reports, granted = Reports(ring), [START + 7_000]

    def hear(message: object) -> None:
        reports.send(message)
        assert ring.end <= granted[-1]
        if isinstance(message, Committed) and granted[-1] - message.end < MAX_UNREPORTED_SAMPLES:
            granted.append(message.end + MAX_UNREPORTED_SAMPLES + 100)
            control.on_message(Grant(granted[-1]))

    control.on_message(Grant(granted[0]))
    source = ScriptedSource(48_000, 2, blocks(100_000, 50_000))
    Recorder(CaptureSettings(ADDRESS, False, START), source, ring, hear, control).run()
    assert np.array_equal(ring.samples, one_shot(NOISE[:150_000], 48_000))
    assert len(granted) > 3
    assert isinstance(reports.all[-1], Ended)


def test_what_came_before_a_break_is_reported() -> None:
    def break_() -> None:
        raise SourceError("unplugged", retry=True)

    ring = CheckedRing(START)
    reports = Reports(ring)
    source = ScriptedSource(48_000, 2, [*blocks(9_600), break_])
    with pytest.raises(SourceError, match="unplugged"):
        Recorder(CaptureSettings(ADDRESS, True, START), source, ring, reports.send, CaptureControl()).run()
    assert reports.commits[-1].end == ring.end > START
    assert not isinstance(reports.all[-1], Ended)


def test_a_source_that_hangs_while_it_is_closed_delays_neither_report_nor_exit() -> None:
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    child = spawn.Process(target=hanging_source.main, args=(CaptureSettings(ADDRESS, True, START), Ring(1_000), theirs))
    child.start()
    theirs.close()
    messages = []
    with contextlib.suppress(EOFError):
        while pipe.poll(PATIENCE_S):
            messages.append(pipe.recv())
    assert messages[-1] == CaptureFailed("the device was lost", 3, retry=True)
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    pipe.close()
    child.close()


def test_each_address_opens_its_source(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(400))
    for url, kind in ((f"pipe:{raw}", PipeSource), ("synth:noise", SynthSource)):
        source = open_source(CaptureSettings(parse(url), False, 0))
        assert type(source) is kind
        source.close()
    with pytest.raises(SourceError, match="no file at"):
        open_source(CaptureSettings(parse(f"file:{tmp_path / 'none.wav'}"), False, 0))
    assert FileSource.reopens is False
