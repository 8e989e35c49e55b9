"""What goes wrong while the daemon runs: it goes on, and says what was lost."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from command_process import PATIENCE_S, mertd
from daemon_process import SHORT, TINY, Daemon, assert_conserved, embeddings, events, listening, music, write_wav
from mertd.wire import Message, Status

FAST = [*TINY, *SHORT, "--pace", "fast"]
LIVE = [*TINY, "--window", "1", "--hop", "0.25"]
FORMAT = "rate=24000&channels=1&format=s16le&name=radio"


def assert_no_window_spans_epochs(heard: list[Message], stream: str) -> None:
    """Each epoch begins where its event says, and no window reaches over that."""
    begins = {0: 0} | {e.epoch: e.index for e in events(heard, stream, "epoch")}
    ends = {epoch: begins.get(epoch + 1, 1 << 62) for epoch in begins}
    for m in embeddings(heard, stream):
        assert begins[m.epoch] <= m.window.start < m.window.end <= ends[m.epoch], (m.window, begins)


def health(heard: list[Message], stream: str, process: str) -> list[str]:
    """The states that a process went through, as one stream told; each change must follow from the one before."""
    changes = [e.detail for e in events(heard, stream, "health") if e.detail["process"] == process]
    assert all(change["reason"] for change in changes)
    states = [change["state"] for change in changes]
    assert [change["previous"] for change in changes] == ["recovering", *states][: len(states)]
    return states


def write_all(path: Path, data: bytes) -> threading.Thread:
    """A writer that comes, writes and goes."""
    thread = threading.Thread(target=path.write_bytes, args=(data,))
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("pace", ["fast", "realtime"])
def test_a_killed_model_is_replaced_and_every_window_is_embedded(pace: str, tmp_path: Path) -> None:
    """The audio is in the ring, which outlives the process; the vectors are those of an undisturbed run."""
    seconds = 12 if pace == "fast" else 4
    sound, fifo = music(seconds), tmp_path / "radio"
    os.mkfifo(fifo)
    ring = 4 if pace == "fast" else 60  # at fast pace a full ring holds the writer up, in real time nothing does
    options = [*TINY, *SHORT, "--pace", pace, "--late", "queue", "--ring", ring, "--exit-at-end"]
    with Daemon(*options, "--source", f"pipe:{fifo}?{FORMAT}") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            first = daemon.until(lambda s: s.model != {}).processes["embed"]["pid"]
            os.kill(first, signal.SIGSTOP)  # so that it dies with a window in its hands
            writer = write_all(fifo, sound.tobytes())
            before = daemon.until(lambda s: s.streams["radio"]["waiting"] >= 2)
            os.kill(first, signal.SIGKILL)
            after = daemon.until(lambda s: s.processes["embed"]["pid"] not in (0, first))  # and not yet ready
            daemon.exits(0)
            writer.join(PATIENCE_S)
    assert after.processes["embed"]["restarts"] == 1
    assert after.boot == before.boot
    assert_conserved(heard, "radio")
    assert not events(heard, "radio", "skipped")
    found = embeddings(heard, "radio")
    assert {m.epoch for m in found} == {0}
    undisturbed = mertd("embed", write_wav(tmp_path / "radio.wav", sound), *TINY, *SHORT)
    expected = [json.loads(line) for line in undisturbed.stdout.splitlines()]
    assert [m.window.start for m in found] == [m["window"]["start"] for m in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.vector, theirs["vector"]["data"], rtol=1e-4, atol=1e-5)


def skipped(status: Status) -> bool:
    return status.streams["chords"]["skipped"] > 0


@pytest.mark.slow
def test_a_window_that_kills_the_model_is_given_up_and_announced() -> None:
    """Whichever window the model dies of twice is skipped; those behind it are embedded."""
    options = [*TINY, "--backend", "numpy", "--window", "30", "--hop", "1", "--pace", "fast"]
    with Daemon(*options, "--source", "synth:chords?seconds=31", "--exit-at-end") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            killed = 0
            while True:
                status = daemon.until(lambda s, k=killed: skipped(s) or (s.model and s.processes["embed"]["pid"] not in (0, k)))
                if skipped(status):
                    break
                killed = status.processes["embed"]["pid"]  # ready, and a second or more before it could answer
                os.kill(killed, signal.SIGKILL)
            daemon.exits(0)
    assert_conserved(heard, "chords")
    (event,) = events(heard, "chords", "skipped")
    assert (event.detail["reason"], event.detail["windows"]) == ("failed", 1)
    assert len(embeddings(heard, "chords")) == 1


@pytest.mark.slow
def test_a_killed_capture_process_is_replaced_in_a_new_epoch() -> None:
    with Daemon(*LIVE, "--source", "synth:chords", "--source", "synth:tone") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: s.streams["chords"]["embedded"] >= 2)
            os.kill(daemon.pid("capture-chords"), signal.SIGKILL)
            lost = daemon.until(lambda s: s.streams["chords"]["state"] == "lost").streams["chords"]
            daemon.until(lambda s: s.streams["chords"]["embedded"] >= lost["embedded"] + lost["waiting"] + 2)
            status = daemon.until(lambda s: s.streams["chords"]["waiting"] == 0)
            daemon.stop()
    assert "capture process was ended by SIGKILL" in lost["problem"]
    chords, tone = status.streams["chords"], status.streams["tone"]
    assert (chords["state"], chords["restarts"], chords["epoch"]) == ("listening", 1, 1)
    assert (tone["state"], tone["restarts"], tone["epoch"]) == ("listening", 0, 0)  # its neighbour never noticed
    story = [m.event for m in heard if m.kind == "event" and m.stream == "chords" and m.event != "skipped"]
    assert [name for name in story if name != "health"] == ["started", "device_lost", "epoch", "device_back", "stopping"]
    assert health(heard, "chords", "capture-chords") == ["healthy", "recovering", "healthy"]
    assert health(heard, "chords", "embed") == health(heard, "tone", "embed") == ["healthy"]
    assert health(heard, "tone", "capture-tone") == ["healthy"]
    assert {m.epoch for m in embeddings(heard, "chords")} == {0, 1}
    assert events(heard, "chords", "epoch")[0].detail["reason"] == "restart"
    assert_no_window_spans_epochs(heard, "chords")
    times = [m.time.start_ns for m in embeddings(heard, "chords")]
    assert times == sorted(times)


@pytest.mark.slow
def test_a_hanging_capture_process_is_replaced() -> None:
    with Daemon(*LIVE, "--source", "synth:chords") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: s.streams["chords"]["embedded"] >= 1)
            hung = daemon.pid("capture-chords")
            os.kill(hung, signal.SIGSTOP)
            back = daemon.until(lambda s: s.streams["chords"]["restarts"] == 1)
            daemon.until(lambda s: s.streams["chords"]["embedded"] > back.streams["chords"]["embedded"])
            daemon.stop()
    assert back.processes["capture-chords"]["pid"] != hung
    (lost,) = events(heard, "chords", "device_lost")
    assert "has hung" in lost.detail["message"]
    assert_no_window_spans_epochs(heard, "chords")


@pytest.mark.slow
def test_the_next_writer_of_a_fifo_begins_a_new_epoch(tmp_path: Path) -> None:
    fifo = tmp_path / "radio"
    os.mkfifo(fifo)
    with Daemon(*FAST, "--source", f"pipe:{fifo}?{FORMAT}") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: s.streams["radio"]["state"] == "listening")
            for number in range(1, 3):
                writer = write_all(fifo, music(2.2, seed=number).tobytes())
                daemon.until(lambda s, n=number: s.streams["radio"]["restarts"] == n)
                writer.join(PATIENCE_S)
            daemon.until(lambda s: s.streams["radio"]["waiting"] == 0 and s.model != {})
            daemon.stop()
    story = [m.event for m in heard if m.kind == "event" and m.stream == "radio" and m.event != "health"]
    assert story == ["started", *["device_lost", "epoch", "device_back"] * 2, "stopping"]
    assert [(m.epoch, m.window.start) for m in embeddings(heard, "radio")] == [
        (epoch, epoch * 52_800 + start) for epoch in range(2) for start in (0, 12_000, 24_000)
    ]  # 2.2 s each
    assert_no_window_spans_epochs(heard, "radio")


@pytest.mark.slow
def test_a_killed_reader_of_a_fifo_opens_it_again(tmp_path: Path) -> None:
    fifo = tmp_path / "radio"
    os.mkfifo(fifo)
    with Daemon(*FAST, "--source", f"pipe:{fifo}?{FORMAT}") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: s.streams["radio"]["state"] == "listening")
            os.kill(daemon.pid("capture-radio"), signal.SIGKILL)
            daemon.until(lambda s: s.streams["radio"]["restarts"] == 1)
            write_all(fifo, music(2.2).tobytes()).join(PATIENCE_S)
            daemon.until(lambda s: s.streams["radio"]["embedded"] == 3)
            daemon.stop()
    assert {m.epoch for m in embeddings(heard, "radio")} == {1}


@pytest.mark.slow
def test_a_capture_process_killed_at_fast_pace_loses_no_window_already_due() -> None:
    with Daemon(*FAST, "--ring", "3", "--source", "synth:chords?seconds=20", "--exit-at-end") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            embed = daemon.pid("embed")
            os.kill(embed, signal.SIGSTOP)
            due = daemon.until(lambda s: s.streams["chords"]["waiting"] >= 3).streams["chords"]["due"]
            os.kill(daemon.pid("capture-chords"), signal.SIGKILL)
            daemon.until(lambda s: s.streams["chords"]["epoch"] == 1)
            os.kill(embed, signal.SIGCONT)
            daemon.exits(0)
    assert_conserved(heard, "chords")
    assert_no_window_spans_epochs(heard, "chords")
    assert len([m for m in embeddings(heard, "chords") if m.epoch == 0]) >= due - 1  # one may be in doubt: then it is announced
