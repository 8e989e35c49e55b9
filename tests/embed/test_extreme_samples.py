"""Samples that no sound has, infinite, NaN, enormous or subnormal, cost their own windows at most: in real processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon_process import SHORT, TINY, Daemon
from mertd.embed import process
from mertd.embed.messages import Alive, Answer, Answers, Copied, Ready, Request, Token, Trying
from mertd.embed.model_settings import ModelSettings
from mertd.ring import Ring
from mertd.wire import Status
from signals import chord_progression

RATE = 24_000
PATIENCE_S = 60.0
GOOD = chord_progression(1.0)
EXTREMES = {
    "inf": np.where(np.arange(RATE) == 5, np.float32(np.inf), GOOD),
    "nan": np.full(RATE, np.nan, np.float32),
    "both": np.tile(np.array([np.inf, -np.inf, np.nan, 0], np.float32), RATE // 4),
    "signalling": np.full(RATE, 0x7F800001, np.uint32).view(np.float32),
    "largest": np.tile(np.array([3.4e38, -3.4e38], np.float32), RATE // 2),
    "subnormal": (GOOD * np.float64(1e-40)).astype(np.float32),
    "silence": np.zeros(RATE, np.float32),
}
NOT_FINITE = {"inf", "nan", "both", "signalling"}


@pytest.fixture
def rings() -> Iterator[dict[str, Ring]]:
    made = {name: Ring(RATE) for name in ("good", *EXTREMES)}
    made["good"].write(0, GOOD)
    for name, samples in EXTREMES.items():
        made[name].write(0, samples)
    yield made
    for ring in made.values():
        ring.close()


def answers(pipe: Any) -> tuple[Answer, ...]:
    while True:
        assert pipe.poll(PATIENCE_S), "the process does not answer"
        match pipe.recv():
            case Answers() as message:
                return message.answers
            case Alive() | Trying() | Ready() | Copied():
                pass
            case other:
                raise AssertionError(f"the process sent {other}")


@pytest.mark.parametrize("backend", ["onnx", pytest.param("numpy", marks=pytest.mark.slow)])
def test_an_embed_process_goes_on_whatever_the_samples(rings: dict[str, Ring], backend: str) -> None:
    """Of a batch of all kinds, those that are not finite fail, each alone; vectors of the others are as without them."""
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    settings = ModelSettings("random:0?size=tiny", (1, 2), backend, RATE)
    child = spawn.Process(target=process.main, args=(settings, rings, theirs))
    child.start()
    theirs.close()
    try:
        names = ["good", *EXTREMES, "good"]
        requests = tuple(Request(Token(name, number), 0, RATE, -300.0) for number, name in enumerate(names))
        pipe.send((requests[0],))
        (alone,) = answers(pipe)
        pipe.send(requests)
        got = answers(pipe)
        assert [answer.token for answer in got] == [request.token for request in requests]
        assert {name for name, answer in zip(names, got, strict=True) if answer.failed} == NOT_FINITE
        for name, answer in zip(names, got, strict=True):
            assert (answer.vector is None) == (name in NOT_FINITE)
            assert answer.vector is None or (answer.vector.shape == (2, 64) and np.isfinite(answer.vector).all())
        for answer in (got[0], got[-1]):
            np.testing.assert_allclose(answer.vector, alone.vector, rtol=1e-4, atol=1e-5)
        pipe.send(tuple(Request(Token(name, number), 0, RATE, -60.0) for number, name in enumerate(names)))
        gated = dict(zip(names, answers(pipe), strict=True))
        assert not gated["silence"].failed, "a window below the gate is silent, not failed"
        assert gated["nan"].failed, "no gate can hear a NaN"
    finally:
        pipe.close()
        child.join(PATIENCE_S)
    assert child.exitcode is not None


def feed(fifo: Path, block: np.ndarray, over: threading.Event) -> None:
    """Write a second of frames again and again, as fast as they are read, until it is over; also to those who come later."""
    while not over.is_set():
        try:
            with fifo.open("wb", buffering=0) as file:
                while not over.is_set():
                    file.write(block.tobytes())
        except BrokenPipeError:
            over.wait(0.1)


@pytest.mark.slow
def test_no_stream_costs_another_a_window(tmp_path: Path) -> None:
    """A daemon hears music and, through pipes, the worst that float PCM can hold; only the music counts its windows whole."""
    stereo = np.repeat(np.sign(np.sin(np.arange(RATE) * 0.03))[:, None], 2, axis=1)
    blocks = {
        "enormous": ("channels=2&rate=24000", (3.4e38 * stereo).astype("<f4")),
        "resampled": ("channels=1&rate=48000", (3.4e38 * stereo[:, :1]).astype("<f4")),
        "infinite": ("channels=1&rate=24000", np.where(np.arange(RATE) == 12_000, np.inf, 0.1).astype("<f4")),
        "nan": ("channels=2&rate=24000", np.full((RATE, 2), np.nan, "<f4")),
        "subnormal": ("channels=2&rate=24000", (1e-41 * stereo).astype("<f4")),
    }
    sources, writers, over = ["--source", "synth:chords?name=music"], [], threading.Event()
    for name, (form, block) in blocks.items():
        fifo = tmp_path / name
        os.mkfifo(fifo)
        sources += ["--source", f"pipe:{fifo}?{form}&format=f32le"]
        writers.append(threading.Thread(target=feed, args=(fifo, block, over)))
    options = [*TINY, *SHORT, "--late", "queue", "--gate", "-200"]
    with Daemon(*options, *sources) as daemon:
        for writer in writers:
            writer.start()
        try:

            def has_heard_enough(status: Status) -> bool:
                streams = status.streams
                accounted = {name: stream["embedded"] + stream["skipped"] for name, stream in streams.items()}
                refused = all(streams[name]["problem"] or accounted[name] >= 6 for name in ("infinite", "nan"))
                return refused and all(accounted[name] >= 6 for name in ("music", "enormous", "resampled", "subnormal"))

            status = daemon.until(has_heard_enough)
        finally:
            over.set()
            for fifo in tmp_path.iterdir():  # wakes a writer that waits for a reader
                os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
            for writer in writers:
                writer.join(PATIENCE_S)
    music = status.streams["music"]
    assert (music["skipped"], music["silent"]) == (0, 0)
    assert music["embedded"] + music["waiting"] == music["due"]
    assert status.streams["subnormal"]["skipped"] == 0
    assert status.processes["embed"]["restarts"] == 0, "bad samples are not a bad backend"
    for name, stream in status.streams.items():
        counted = stream["embedded"] + stream["silent"] + stream["skipped"] + stream["waiting"]
        assert counted == stream["due"], name
