"""`mertd run` from sound to subscriber, through real processes and sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from command_process import mertd, wait_until
from daemon_process import SHORT, TINY, Daemon, assert_conserved, embeddings, events, listening, music, write_wav
from mertd.wire import Embedding, Status

FAST = [*TINY, *SHORT, "--pace", "fast"]
WINDOW, HOP = 24_000, 12_000


def spans(messages: list[Embedding]) -> list[tuple[int, int]]:
    return [(m.window.start, m.window.end) for m in messages]


def expected_spans(seconds: float) -> list[tuple[int, int]]:
    return [(start, start + WINDOW) for start in range(0, round(seconds * 24_000) - WINDOW + 1, HOP)]


def feed(daemon: Daemon, data: bytes, portion: int = 10_007) -> threading.Thread:
    """Write to the daemon's standard input as a decoder would: in portions that respect no frame, then end."""
    pipe = daemon.process.stdin
    assert pipe is not None

    def write() -> None:
        for at in range(0, len(data), portion):
            pipe.write(data[at : at + portion])
            pipe.flush()
        pipe.close()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def offline(*files: Path) -> dict[str, list[dict]]:
    """What `mertd embed` says of files, by path."""
    done = mertd("embed", *files, *TINY, *SHORT)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {str(path): [line for line in lines if line["file"] == str(path)] for path in files}


def assert_same(live: list[Embedding], alone: list[dict]) -> None:
    assert spans(live) == [(m["window"]["start"], m["window"]["end"]) for m in alone]
    assert live
    for ours, theirs in zip(live, alone, strict=True):
        assert ours.model.space == theirs["model"]["space"]
        np.testing.assert_allclose(ours.vector, theirs["vector"]["data"], rtol=1e-5, atol=1e-6)
        assert ours.audio.rms_dbfs == pytest.approx(theirs["audio"]["rms_dbfs"], abs=1e-4)


@pytest.mark.slow
def test_several_sources_are_streams_of_their_own(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "Some Song.wav", music(4.2, 44_100, 2), 44_100)
    fifo = tmp_path / "radio"
    os.mkfifo(fifo, 0o600)
    sources = [f"file:{wav}", "synth:chords?seconds=3", "synth:chords?seconds=2.5", "synth:silence?seconds=2"]
    sources.append(f"pipe:{fifo}?rate=24000&channels=1&format=f32le&name=air")
    options = [word for source in sources for word in ("--source", source)]
    with Daemon(*FAST, *options, "--exit-at-end") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            fifo.write_bytes((music(3)[:, 0] / np.float32(32_768)).astype("<f4").tobytes())
            daemon.exits(0)
    seconds = {"some-song": 4.2, "chords": 3, "chords-2": 2.5, "air": 3}
    for stream, length in seconds.items():
        assert_conserved(heard, stream)
        assert spans(embeddings(heard, stream)) == expected_spans(length)
    assert_conserved(heard, "silence")
    assert [(e.index, e.detail["end"]) for e in events(heard, "silence", "silent")] == expected_spans(2)
    assert not embeddings(heard, "silence")
    for stream in [*seconds, "silence"]:
        (ended,) = events(heard, stream, "ended")
        assert ended.index == ended.detail["windows"] * HOP + HOP + (ended.index % HOP)
    assert {m.model.name for m in heard if isinstance(m, Embedding)} == {"MERT-tiny"}


@pytest.mark.slow
def test_offline_and_live_and_a_decoders_pipe_give_the_same_vectors(tmp_path: Path) -> None:
    pcm = music(4.3, 44_100, 2)
    wav = write_wav(tmp_path / "song.wav", pcm, 44_100)
    alone = offline(wav)[str(wav)]
    sources = ["--source", f"file:{wav}", "--source", "pipe:-?rate=44100&channels=2&format=s16le&name=decoded"]
    with Daemon(*FAST, *sources, "--exit-at-end", stdin=subprocess.PIPE) as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            writer = feed(daemon, pcm.tobytes())
            daemon.exits(0)
            writer.join()
    for stream in ("song", "decoded"):
        assert_same(embeddings(heard, stream), alone)
        assert_conserved(heard, stream)
    assert embeddings(heard, "song")[0].vector.std() > 0.01  # they are vectors of something


def test_silence_is_announced_and_not_embedded(tmp_path: Path) -> None:
    sound = np.concatenate([music(2), np.zeros((48_000, 1), np.int16), music(2)])
    wav = write_wav(tmp_path / "pause.wav", sound)
    with Daemon(*FAST, "--source", f"file:{wav}", "--exit-at-end") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.exits(0)
    silent = [e.index for e in events(heard, "pause", "silent")]
    assert silent == [48_000, 60_000, 72_000]
    assert [m.window.start for m in embeddings(heard, "pause")] == [s for s, _ in expected_spans(6) if s not in silent]
    assert all(e.detail["rms_dbfs"] < -70 and e.detail["zeros"] == WINDOW for e in events(heard, "pause", "silent"))
    assert_conserved(heard, "pause")


@pytest.mark.slow
def test_real_time_is_not_faster_than_sound() -> None:
    started_ns, source = time.time_ns(), "synth:tone?seconds=2.5"
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--late", "queue", "--source", source, "--exit-at-end") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.exits(0)
    found = embeddings(heard, "tone")
    assert [m.window.start for m in found] == list(range(0, 36_001, 6_000))
    assert_conserved(heard, "tone")
    (opened,), (ended,) = events(heard, "tone", "started"), events(heard, "tone", "ended")
    assert ended.time_ns - opened.time_ns >= 2.3e9
    for m in found:
        assert started_ns < m.time.start_ns < m.time.end_ns < time.time_ns()
        assert m.time.end_ns - m.time.start_ns == pytest.approx(1e9, rel=0.01)
        assert m.audio.rms_dbfs == pytest.approx(-15.05, abs=0.1)  # a sine of amplitude 1/4


@pytest.mark.slow
def test_latest_skips_what_a_stalled_model_missed_and_says_so() -> None:
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
            embed = daemon.pid("embed")
            os.kill(embed, signal.SIGSTOP)
            stalled = daemon.until(lambda s: s.streams["chords"]["waiting"] >= 5).streams["chords"]
            os.kill(embed, signal.SIGCONT)
            daemon.until(lambda s: s.streams["chords"]["embedded"] >= stalled["embedded"] + 3)
            daemon.stop()
    skips = events(heard, "chords", "skipped")
    assert skips
    assert all(e.detail["reason"] == "late" for e in skips)
    gone = {start for e in skips for start in range(e.index, e.detail["end"] - WINDOW + 1, 6_000)}
    assert len(gone) == sum(e.detail["windows"] for e in skips) >= 3
    found = embeddings(heard, "chords")
    starts = [m.window.start for m in found]
    assert sorted([*gone, *starts]) == list(range(0, starts[-1] + 1, 6_000))  # each window once: embedded or announced
    assert sum(m.skipped for m in found) == len(gone)


@pytest.mark.slow
def test_a_stalled_model_loses_nothing_at_fast_pace() -> None:
    with Daemon(*FAST, "--ring", "2", "--source", "synth:chords?seconds=20", "--exit-at-end") as daemon:
        with listening(daemon, "embedding", "event", "status") as heard:
            embed = daemon.pid("embed")
            os.kill(embed, signal.SIGSTOP)
            before = daemon.until(lambda s: s.streams["chords"]["waiting"] >= 2).streams["chords"]["samples"]
            wait_until(lambda: daemon.status().uptime_ns > 3e9, 30, lambda: "time stands still")
            assert daemon.status().streams["chords"]["samples"] <= before + 48_000  # a full ring holds the source up
            os.kill(embed, signal.SIGCONT)
            daemon.exits(0)
    assert spans(embeddings(heard, "chords")) == expected_spans(20)
    assert_conserved(heard, "chords")
    assert not events(heard, "chords", "skipped")


@pytest.mark.slow
def test_status_is_answered_and_published_every_second() -> None:
    with Daemon(*FAST, "--source", "synth:chords?seconds=3") as daemon:
        with listening(daemon, "status") as heard:
            answer = daemon.until(lambda s: s.streams["chords"]["state"] == "ended" and s.streams["chords"]["waiting"] == 0)
            daemon.until(lambda s: s.uptime_ns > 4e9)
            text = mertd("status", "--control", daemon.control)
            shown = mertd("status", "--control", daemon.control, "--json")
            daemon.stop()
    assert answer.phase == "running"
    assert answer.streams["chords"] | {"description": ""} == {
        "state": "ended", "source": "synth:chords", "description": "", "problem": "", "restarts": 0, "epoch": 0,
        "samples": 72_000, "due": 5, "embedded": 5, "silent": 0, "skipped": 0, "waiting": 0, "missing": 0,
        "events": 4, "skips": {"late": 0, "overwritten": 0, "failed": 0},
    }  # fmt: skip
    assert answer.model["name"] == "MERT-tiny"
    assert not answer.model["trained"]
    assert answer.processes["supervisor"]["pid"] == daemon.process.pid
    beats = [m for m in heard if isinstance(m, Status)]
    assert [m.phase for m in beats][-1] == "stopping"
    times = [m.time_ns for m in beats[:-1]]
    assert len(times) >= 3
    assert all(0.9e9 < later - sooner < 3e9 for sooner, later in pairwise(times))
    assert text.returncode == shown.returncode == 0
    assert "5 due, 5 embedded" in text.stdout
    assert json.loads(shown.stdout)["streams"]["chords"]["due"] == 5


@pytest.mark.slow
def test_those_who_come_late_get_a_replay() -> None:
    with Daemon(*FAST, "--source", "synth:chords?seconds=4", "--source", "synth:tone?seconds=2") as daemon:
        daemon.until(lambda s: all(x["state"] == "ended" and not x["waiting"] for x in s.streams.values()) and s.model != {})
        tail = ["tail", "--json", "--connect", daemon.publish, "--control", daemon.control]
        some = mertd(*tail, "--stream", "chords", "--last", "3", "--count", "3")
        every = mertd(*tail, "--last", "100", "--count", "10")
        wrong = mertd(*tail, "--stream", "violins", "--last", "3", "--count", "3")
    lines = [json.loads(line) for line in some.stdout.splitlines()]
    assert [(m["stream"], m["seq"], m["replay"]) for m in lines] == [("chords", n, True) for n in (4, 5, 6)]
    assert len(every.stdout.splitlines()) == 7 + 3
    assert (wrong.returncode, wrong.stderr.count("\n")) == (3, 1)
    assert "no stream 'violins', only chords, tone" in wrong.stderr
