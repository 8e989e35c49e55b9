"""Inputs embedded side by side: the vectors, the order and the files are those of one after the other."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mertd.capture.address import file_address
from mertd.defaults import SAMPLE_RATE
from mertd.embed.backends.backend import Array
from mertd.embed.embedder import Embedder
from mertd.errors import BackendError
from mertd.offline import decoders as module
from mertd.offline.decoders import Decoders, Ended, Job, WindowSettings
from mertd.offline.inputs import find_inputs
from mertd.offline.side_by_side import SideBySide
from mertd.offline.source_windows import NOTHING_DONE, HeardWindow, embed_source
from mertd.offline.stored_batch import Outcome
from mertd.wire import Embedding
from offline.batches import HOP, WINDOW, embed_batch, small_embedder
from signals import chord_progression

BATCH = 4
SETTINGS = WindowSettings(WINDOW, HOP, -60.0)


@pytest.fixture(scope="module")
def alone() -> Embedder:
    return small_embedder()


@pytest.fixture
def embedder(alone: Embedder, monkeypatch: pytest.MonkeyPatch) -> Embedder:
    """One that takes four windows at a time, as a GPU does, and several threads that decode."""
    found = alone
    monkeypatch.setattr(found.backend, "max_batch", BATCH, raising=False)
    monkeypatch.setattr(found, "threads", type(found.threads)(3, "as asked"))
    return found


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files of different lengths, the longest first, so that they end in another order; one of them is silent inside."""
    monkeypatch.chdir(tmp_path)
    for number, seconds in enumerate((3.2, 1.2, 3.3, 1.1, 1.6)):
        music = chord_progression(seconds, seed=number)
        if number == 2:
            music[SAMPLE_RATE : 5 * SAMPLE_RATE // 2] = 0
        soundfile.write(f"{number}.wav", music, SAMPLE_RATE, subtype="FLOAT")
    Path("bad.wav").write_text("no song")
    return ["0.wav", "bad.wav", "1.wav", "2.wav", "gone.wav", "3.wav", "4.wav"]


def sizes_of(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every batch that the backend gets from now on."""
    sizes: list[int] = []
    original = embedder.backend.embed

    def embed(windows: Array) -> Array:
        sizes.append(len(windows))
        return original(windows)

    monkeypatch.setattr(embedder.backend, "embed", embed)
    return sizes


def overlap(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the backend compute only when its result is asked for, as a GPU computes meanwhile.

    Returns how many batches were begun and not asked for, whenever one was begun.
    """
    waiting: list[int] = [0]
    seen: list[int] = []

    def begin(windows: Sequence[Array]) -> Callable[[], Array]:
        copied = np.stack(windows)
        waiting[0] += 1
        seen.append(waiting[0])

        def wait() -> Array:
            waiting[0] -= 1
            return embedder.backend.embed(copied)

        return wait

    monkeypatch.setattr(embedder.backend, "begin", begin, raising=False)
    return seen


@pytest.mark.parametrize("overlaps", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_vectors_are_those_of_one_file_after_the_other(
    songs: list[str], embedder: Embedder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overlaps: bool
) -> None:
    expected = {
        name: [
            found
            for found in embed_source(file_address(name), embedder, WINDOW, HOP, -60.0, lambda _: None)
            if isinstance(found, Embedding)
        ]
        for name in songs
        if name[0].isdigit()
    }
    sizes = sizes_of(embedder, monkeypatch)
    begun = overlap(embedder, monkeypatch) if overlaps else []
    heard = embed_batch(embedder, songs, tmp_path / "x.npz")
    assert set(heard.problems) == {"bad.wav", "gone.wav"}
    assert list(heard.problems) == ["bad.wav", "gone.wav"], "said in the order of the inputs"
    windows = sum(map(len, expected.values()))
    assert sizes == [BATCH] * -(-windows // BATCH), "every batch is full, across files"
    assert not overlaps or max(begun) <= 2, "a batch is begun while one is computed, and no more"
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["source"].tolist() == [name for name in expected for _ in expected[name]]
        assert arrays["start"].tolist() == [m.window.start for name in expected for m in expected[name]]
        vectors = np.stack([m.vector for name in expected for m in expected[name]])
        np.testing.assert_allclose(arrays["vector"], vectors, rtol=0, atol=1e-5 * np.abs(vectors).max())


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_where_it_was_interrupted(
    songs: list[str], embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on which windows were computed together, or how many were left for the last batch."""
    embed_batch(embedder, songs, tmp_path / "whole.npz")
    original, computed = embedder.embed_prepared, itertools.count(1)
    batches = [0]  # computed in all

    def counted(windows: list[Array]) -> object:
        batches[0] = next(computed)
        return original(windows)

    monkeypatch.setattr(embedder, "embed_prepared", counted)
    runs = 0
    while not (tmp_path / "x.npz").exists():
        runs += 1
        before = batches[0]
        embed_batch(embedder, songs, tmp_path / "x.npz", stopping=lambda before=before: batches[0] > before)  # type: ignore[misc]
        assert runs < 100
    assert runs > 2
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.slow
def test_lines_on_standard_output_are_in_the_order_of_the_inputs(songs: list[str], embedder: Embedder) -> None:
    import io

    from mertd.offline.batch import Batch
    from mertd.offline.lines import StreamOutput
    from offline.batches import Heard

    class Written(io.StringIO):
        def fileno(self) -> int:
            return 1

    stream = Written()
    output = StreamOutput(stream)
    assert Batch(embedder, SETTINGS, output, Heard(), lambda: False).run(find_inputs(songs, lambda _: None))
    names = [json.loads(line)["file"] for line in stream.getvalue().splitlines()]
    assert list(dict.fromkeys(names)) == ["0.wav", "1.wav", "2.wav", "3.wav", "4.wav"]
    assert [json.loads(line)["seq"] for line in stream.getvalue().splitlines() if '"0.wav"' in line] == list(range(5))


@pytest.mark.slow
def test_one_window_at_fault_fails_its_file_alone(
    songs: list[str], embedder: Embedder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with soundfile.SoundFile("1.wav") as file:
        marked = file.read(WINDOW, dtype="float32")
    original = embedder.embed_prepared
    mark = float(np.float32(marked[1000]) - np.float32(marked[0]))

    def fails(windows: Sequence[Array | None]) -> list[Array | None]:
        if any(w is not None and np.isclose((w[1000] - w[0]) * marked.std(), mark, atol=1e-6) for w in windows):
            raise RuntimeError("of a library")
        return original(windows)

    monkeypatch.setattr(embedder, "embed_prepared", fails)
    heard = embed_batch(embedder, songs, tmp_path / "x.npz")
    assert heard.problems["1.wav"] == "1.wav: cannot be embedded, RuntimeError: of a library"
    assert set(heard.problems) == {"bad.wav", "gone.wav", "1.wav"}
    with np.load(tmp_path / "x.npz") as arrays:
        assert set(arrays["source"]) == {"0.wav", "2.wav", "3.wav", "4.wav"}


def test_a_broken_model_ends_it_and_no_thread_stays(
    songs: list[str], embedder: Embedder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(_: object) -> list[Array | None]:
        raise BackendError("the model is broken")

    monkeypatch.setattr(embedder, "embed_prepared", broken)
    with pytest.raises(BackendError):
        embed_batch(embedder, songs, tmp_path / "x.npz")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoder")]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.usefixtures("songs")
def test_what_is_decoded_and_not_taken_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_S", 6.0)
    made: list[HeardWindow] = []
    original = module.heard_windows

    def counted(*args: object, **more: object) -> object:
        for found in original(*args, **more):  # type: ignore[arg-type]
            if isinstance(found, HeardWindow):
                made.append(found)
            yield found

    monkeypatch.setattr(module, "heard_windows", counted)
    found = Decoders(SETTINGS, 16, 8)
    try:
        assert found.count == 3, "as many threads as can hold a window each, and leave as many waiting"
        # The short one comes last: its end would take a place among the first six, if its thread were the fastest.
        for item in find_inputs(["0.wav", "2.wav", "0.wav", "4.wav"], lambda _: None):
            found.give(Job(item, NOTHING_DONE))
        until(lambda: len(made) == 6)
        time.sleep(0.05)  # would it make more?
        assert len(made) == 6
        taken = 0
        while not found.is_idle:
            taken += isinstance((found.take(30.0) or (None, None))[1], HeardWindow)
            assert len(made) <= taken + 6
        assert taken == len(made) == 5 + 5 + 2 + 5
    finally:
        found.close()


def test_windows_of_one_input_come_in_order_and_its_end_last(songs: list[str]) -> None:
    found = Decoders(SETTINGS, 2, 1)
    try:
        for item in find_inputs(songs, lambda _: None):
            found.give(Job(item, NOTHING_DONE))
        seen: dict[str, list[int]] = {}
        ended: set[str] = set()
        while not found.is_idle:
            taken = found.take(30.0)
            if taken is None:
                continue
            job, what = taken
            assert job.item.label not in ended
            if isinstance(what, Ended):
                ended.add(job.item.label)
                assert (what.error is not None) == (job.item.label in ("bad.wav", "gone.wav"))
            else:
                seen.setdefault(job.item.label, []).append(what.window.start)
        assert ended == set(songs)
        assert all(starts == [HOP * n for n in range(len(starts))] for starts in seen.values())
        assert len(seen["0.wav"]) == 5
    finally:
        found.close()


def test_nothing_is_taken_from_nothing() -> None:
    found = Decoders(SETTINGS, 2, 1)
    assert found.is_idle
    assert found.take(30.0) is None, "at once, not after half a minute"
    found.close()


@pytest.mark.usefixtures("songs")
def test_a_stop_while_all_threads_wait_for_room(embedder: Embedder, tmp_path: Path) -> None:
    """Nothing is taken any more, and yet they end."""
    from mertd.offline.outputs import FileOutput

    output = FileOutput(tmp_path / "x.npz", resume=True)
    output.begin_batch({"space": "s"}, [])
    ended: list[Outcome] = []
    looks = iter([False, False, True])
    work = SideBySide(embedder, SETTINGS, output, lambda: next(looks), lambda *_: None, lambda _, how: ended.append(how))
    assert not work.run(find_inputs(["0.wav", "4.wav"], lambda _: None), lambda _: True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoder")]
    assert not ended
    output.close()
