"""A stream and its capture process: what each report, and each way to end, means. No process, no socket, virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from daemon.scripted_daemon import HOP, WINDOW, ScriptedDaemon
from mertd.capture.reports import CaptureFailed, Discontinuity, Ended, FilledGap, Grant, Notice, Stop
from mertd.capture.source import EndReport
from mertd.daemon.run_state import StartError
from mertd.vocabulary import EventName
from mertd.wire import Event
from virtual_time import run

DEVICE = "device:x?name=room"
FILE = "file:/x.wav?name=room"


def play(story: Callable[[ScriptedDaemon], Coroutine[Any, Any, None]], *addresses: str, **options: Any) -> ScriptedDaemon:
    """Let a story happen to a daemon with one stream called `room`, whose model is ready."""

    async def all_of_it() -> ScriptedDaemon:
        daemon = ScriptedDaemon(*(addresses or (DEVICE,)), **options)
        await daemon.model_ready()
        daemon.published.clear()  # that the model is healthy
        await story(daemon)
        await daemon.close()
        return daemon

    return run(all_of_it())


def test_the_story_of_a_device_that_comes_and_goes() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        stream = daemon.streams["room"]
        assert stream.state == "opening"
        await daemon.opened("room")
        assert (stream.state, stream.description) == ("listening", "a source")
        daemon.wrote("room", WINDOW)
        daemon.capture("room").report(CaptureFailed("it was unplugged", 3, retry=True))
        await daemon.exits(stream.process, daemon.capture("room"))
        assert (stream.state, stream.problem) == ("lost", "it was unplugged")
        settings, _ = daemon.capture("room").args
        assert settings.start == WINDOW, "the numbering goes on"
        await daemon.opened("room")
        assert (stream.state, stream.problem, stream.process.restarts) == ("listening", "", 1)

    daemon = play(story)
    assert daemon.events("room") == ["started", "health", "device_lost", "health", "epoch", "device_back", "health"]
    assert daemon.detail("room", "epoch") == {"reason": "restart"}
    assert daemon.detail("room", "device_back") == {"source": "device:x", "description": "a source", "rate": 48_000}


def test_a_device_that_stays_away_is_lost_once() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        for _ in range(4):
            daemon.capture("room").report(CaptureFailed("no such device", 3, retry=True))
            daemon.capture("room").end("ended unexpectedly with status 0")
            await asyncio.sleep(10)

    daemon = play(story)
    assert daemon.events("room").count("device_lost") == 1
    assert daemon.state.failure is None


@pytest.mark.parametrize(
    ("address", "report", "state", "events"),
    [
        (DEVICE, None, "lost", ["device_lost", "health"]),
        (DEVICE, CaptureFailed("it is not a sound card", 3, retry=False), "failed", ["failed", "health"]),
        (FILE, None, "failed", ["failed", "health"]),
        (FILE, CaptureFailed("read error", 3, retry=True), "failed", ["failed", "health"]),
        (FILE, Ended(reopens=False), "ended", ["ended"]),
        ("pipe:/x?name=room", Ended(reopens=True), "lost", ["device_lost", "health"]),
    ],
)
def test_what_the_end_of_the_process_means(address: str, report: object, state: str, events: list[str]) -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        if report is not None:
            daemon.capture("room").report(report)
        await daemon.exits(daemon.streams["room"].process, daemon.capture("room"))
        assert daemon.streams["room"].state == state

    daemon = play(story, address)
    assert daemon.events("room")[2:] == events
    assert (daemon.state.failure is not None) == (state == "failed"), "a daemon whose last stream has failed stops"


def test_the_end_says_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        report = EndReport(4.25, "the file is cut", ("its channels cancel",))
        daemon.capture("room").report(Ended(reopens=False, report=report))
        await daemon.exits(daemon.streams["room"].process, daemon.capture("room"))

    daemon = play(story, FILE)
    assert daemon.detail("room", "ended") == {"windows": 0, "missing_s": 4.25, "reason": "the file is cut"}
    assert "room: at least 4.25 s of its audio are missing: the file is cut" in caplog.text
    assert "room: its channels cancel" in caplog.text


def test_a_fifo_is_over_at_its_end_if_the_daemon_is_to_exit_then() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        daemon.capture("room").report(Ended(reopens=True))
        await daemon.exits(daemon.streams["room"].process, daemon.capture("room"))
        assert daemon.state.stop_asked

    daemon = play(story, "pipe:/x?name=room", exit_at_end=True)
    assert daemon.state.failure is None
    assert daemon.state.reason == "all sources have ended"


@pytest.mark.parametrize("report", [CaptureFailed("no such file", 3, retry=True), None])
def test_a_source_that_never_was_open_stops_the_daemon(report: object) -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await asyncio.sleep(0)
        if report is not None:
            daemon.capture("room").report(report)
        await daemon.exits(daemon.streams["room"].process, daemon.capture("room"), "was ended by SIGSEGV")
        assert daemon.state.stop_asked

    failure = play(story).state.failure
    assert isinstance(failure, StartError)
    assert str(failure) == ("no such file" if report else "capture process was ended by SIGSEGV")
    assert failure.exit_code == 3


def test_the_daemon_goes_on_while_any_stream_does() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        for name in ("room", "hall"):
            await daemon.opened(name)
        daemon.capture("room").report(CaptureFailed("it is gone", 3, retry=False))
        await daemon.exits(daemon.streams["room"].process, daemon.capture("room"))
        assert not daemon.state.stop_asked
        daemon.capture("hall").report(Ended(reopens=False))
        await daemon.exits(daemon.streams["hall"].process, daemon.capture("hall"))
        assert daemon.state.stop_asked, "without exit_at_end, too, since one has failed"

    daemon = play(story, DEVICE, "file:/y.wav?name=hall")
    assert str(daemon.state.failure) == "room: it is gone"


def test_the_last_windows_are_embedded_before_the_end() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        daemon.wrote("room", WINDOW)
        daemon.capture("room").report(Ended(reopens=False))
        await daemon.exits(daemon.streams["room"].process, daemon.capture("room"))
        assert not daemon.state.stop_asked
        (batch,) = daemon.batches
        daemon.answer(batch)
        assert daemon.state.stop_asked

    daemon = play(story, FILE, exit_at_end=True)
    assert daemon.embedded("room") == [0]
    assert daemon.events("room") == ["started", "health", "ended"]


def test_a_jump_of_the_clock_and_notices_become_events() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        daemon.wrote("room", WINDOW)
        daemon.capture("room").report(Discontinuity(WINDOW, 5, 7))
        daemon.capture("room").report(Notice(EventName.ZEROS, 3, {"seconds": 10.0}))

    daemon = play(story)
    assert daemon.detail("room", "epoch") == {"reason": "clock", "jump_ns": 5, "dropped": 7}
    zeros = daemon.published[-1]
    assert isinstance(zeros, Event)
    assert (zeros.event, zeros.index, dict(zeros.detail)) == ("zeros", 3, {"seconds": 10.0})


def test_a_pause_is_a_rest_and_not_a_failure() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        stream = daemon.streams["room"]
        await daemon.opened("room")
        daemon.wrote("room", HOP)
        paused = daemon.capture("room")
        pausing = asyncio.create_task(stream.pause())
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="room is about to be paused"):
            stream.resume()
        await pausing
        assert paused.sent == [Stop()]
        assert stream.state == "paused"
        assert stream.process_status == {**stream.process_status, "pid": 0, "state": "paused"}
        with pytest.raises(ValueError, match="room is paused"):
            await stream.pause()
        stream.resume()
        assert stream.state == "opening"
        await daemon.opened("room")
        assert (stream.state, stream.process.restarts) == ("listening", 0)
        with pytest.raises(ValueError, match="room is listening"):
            stream.resume()

    daemon = play(story)
    assert daemon.events("room") == ["started", "health", "paused", "epoch", "resumed"]
    assert daemon.detail("room", "epoch") == {"reason": "resumed"}


def test_a_stream_that_was_paused_before_it_was_open_starts_when_it_is_resumed() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await asyncio.sleep(0)
        await daemon.streams["room"].pause()
        daemon.streams["room"].resume()
        await daemon.opened("room")

    assert play(story).events("room") == ["paused", "started", "health"]


def test_a_lost_stream_can_be_paused_and_is_not_started_then() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        for _ in range(3):
            daemon.capture("room").report(CaptureFailed("no such device", 3, retry=True))
            daemon.capture("room").end("ended unexpectedly with status 0")
            await asyncio.sleep(0.6)
        await daemon.streams["room"].pause()
        starts = len(daemon.captures["room"].starts_s)
        await asyncio.sleep(100)
        assert len(daemon.captures["room"].starts_s) == starts

    play(story)


@pytest.mark.parametrize("address", [FILE, "pipe:-?name=room"])
def test_what_cannot_go_on_cannot_be_paused(address: str) -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        with pytest.raises(ValueError, match="cannot be paused: it would start over"):
            await daemon.streams["room"].pause()
        assert daemon.streams["room"].state == "listening"

    play(story, address)


def granted(daemon: ScriptedDaemon) -> list[int]:
    return [message.limit for message in daemon.capture("room").sent if isinstance(message, Grant)]


def test_at_fast_pace_capture_may_write_as_far_as_no_window_is_lost() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        assert granted(daemon) == [4 * WINDOW], "the whole ring is free"
        daemon.wrote("room", 4 * WINDOW)
        assert granted(daemon) == [4 * WINDOW], "its first windows are being embedded"
        (batch,) = daemon.batches
        assert [request.start for request in batch] == [0, HOP, 2 * HOP, 3 * HOP]
        daemon.answer(batch)
        daemon.wrote("room", 0)  # so that they are known to have been whole
        assert granted(daemon) == [4 * WINDOW, 4 * HOP + 4 * WINDOW]
        assert daemon.embedded("room") == [0, HOP, 2 * HOP, 3 * HOP]

    play(story, FILE, realtime=False)


def test_in_real_time_nothing_is_granted() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        daemon.wrote("room", WINDOW)
        assert not granted(daemon)

    play(story)


def test_gaps_count_as_work() -> None:
    """A device from which everything is lost is still a device that delivers."""

    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        daemon.wrote("room", WINDOW)
        assert daemon.streams["room"].process.nth_crash == 1

    play(story)


def test_windows_of_a_dead_model_are_embedded_by_the_next_one() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        daemon.wrote("room", WINDOW)
        (batch,) = daemon.batches
        await daemon.exits(daemon.worker.process, daemon.model.run)
        await daemon.model_ready()
        assert daemon.batches == [batch]
        daemon.answer(batch)
        daemon.wrote("room", 1)

    daemon = play(story)
    assert daemon.embedded("room") == [0]
    assert daemon.worker.process.restarts == 1


def test_a_gap_is_published_on_its_stream_alone() -> None:
    async def story(daemon: ScriptedDaemon) -> None:
        await daemon.opened("room")
        await daemon.opened("hall")
        daemon.streams["room"].timeline._gaps.add([FilledGap(0, 5)])
        daemon.wrote("room", 10)

    daemon = play(story, DEVICE, "device:y?name=hall")
    assert "overflow" in daemon.events("room")
    assert "overflow" not in daemon.events("hall")
