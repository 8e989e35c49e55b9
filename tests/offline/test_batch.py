"""A batch whose process is killed continues where it was, and its result is that of an undisturbed run, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.errors import BackendError, MertdError
from mertd.offline import decoders
from mertd.offline.stored_batch import INTERRUPTED
from offline.batches import embed_batch, small_embedder
from signals import chord_progression

FILES = ["one.wav", "text.wav", "", "two.flac", "cut.wav", "gone.wav", "caf\udce9.wav", "one.wav", "quiet.wav"]
BAD = {"text.wav", "''", "cut.wav", "gone.wav"}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return small_embedder()


def fill(folder: Path) -> None:
    music = chord_progression(2.2)
    soundfile.write(folder / "one.wav", music, SAMPLE_RATE)
    soundfile.write(folder / "two.flac", np.concatenate([music, np.zeros(SAMPLE_RATE), music]), SAMPLE_RATE)
    (folder / "cut.wav").write_bytes((folder / "one.wav").read_bytes()[:-20_000])
    (folder / "caf\udce9.wav").write_bytes((folder / "one.wav").read_bytes())
    soundfile.write(folder / "quiet.wav", np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    (folder / "text.wav").write_text("no song")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[dict[str, bytes]]:
    """What a run that nothing disturbs writes, and the journal that it had just before: by suffix."""
    folder = tmp_path_factory.mktemp("undisturbed")
    fill(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        found = {}
        for suffix in (".npz", ".ndjson"):
            out = folder / f"x{suffix}"
            embed_batch(embedder, FILES, out, finish=False)
            found[f"{suffix}.partial"] = (folder / f"x{suffix}.partial").read_bytes()
            heard = embed_batch(embedder, FILES, out)
            assert set(heard.problems) == BAD
            found[suffix] = out.read_bytes()
        yield found
    finally:
        os.chdir(before)


@pytest.mark.slow
@given(share=st.floats(0, 1), suffix=st.sampled_from([".npz", ".ndjson"]))
@settings(max_examples=examples(2))
def test_a_batch_killed_anywhere_gives_the_same_bytes(
    undisturbed: dict[str, bytes], embedder: Embedder, tmp_path_factory: pytest.TempPathFactory, share: float, suffix: str
) -> None:
    out = tmp_path_factory.mktemp("killed") / f"x{suffix}"
    journal = undisturbed[f"{suffix}.partial"]
    out.with_name(out.name + ".partial").write_bytes(journal[: round(share * len(journal))])
    heard = embed_batch(embedder, FILES, out)
    assert out.read_bytes() == undisturbed[suffix]
    assert set(heard.problems) == BAD, "the last run names every bad input, whatever the runs before it have named"
    assert any("quiet.wav: 3 silent windows" in line for line in heard.lines)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.slow
def test_what_is_in_both_outputs(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(undisturbed[".npz"])
    lines = [json.loads(line) for line in undisturbed[".ndjson"].splitlines()]
    windows = [line for line in lines if "vector" in line]
    missing = [line for line in lines if "missing_s" in line]
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["source"].tolist() == [line["file"] for line in windows]
        np.testing.assert_array_equal(arrays["vector"], np.array([line["vector"]["data"] for line in windows], np.float32))
        assert arrays["start"].tolist() == [line["window"]["start"] for line in windows]
        assert arrays["rms_dbfs"].tolist() == [line["audio"]["rms_dbfs"] for line in windows]
        assert arrays["missing_source"].tolist() == [line["file"] for line in missing] == ["cut.wav"]
        assert arrays["missing_s"].tolist() == [line["missing_s"] for line in missing]
        first = arrays["vector"][arrays["source"] == "one.wav"]
        assert np.array_equal(first[:3], first[3:]), "the same file twice, as asked"
        assert np.array_equal(first[:3], arrays["vector"][arrays["source"] == "caf\udce9.wav"])


def stops_after(checks: int) -> Callable[[], bool]:
    """A stop that is asked for once it has been looked at so often."""
    looked = count()
    return lambda: next(looked) > checks


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_stop_interrupts_a_file_between_two_windows_and_nothing_is_embedded_twice(
    songs: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count()
    original = embedder.embed_prepared
    monkeypatch.setattr(embedder, "embed_prepared", lambda windows: (next(calls), original(windows))[1])
    out = songs / "x.npz"
    for _ in range(20):
        embed_batch(embedder, ["one.wav", "two.flac"], out, stopping=stops_after(9))
        if out.exists():
            break
    else:
        pytest.fail("it has never come to its end")
    with np.load(out) as arrays:
        windows = len(arrays["start"])
    assert next(calls) == windows == 12


@pytest.mark.slow
def test_a_file_that_has_changed_is_embedded_again(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.npz"
    embed_batch(embedder, ["one.wav", "two.flac"], out, finish=False)
    soundfile.write(songs / "one.wav", chord_progression(3.2, seed=1), SAMPLE_RATE)
    embed_batch(embedder, ["one.wav", "two.flac"], out)
    with np.load(out) as resumed:
        embed_batch(embedder, ["one.wav", "two.flac"], songs / "y.npz")
        assert out.read_bytes() == (songs / "y.npz").read_bytes()
        assert resumed["source"].tolist().count("one.wav") == 5


def test_what_was_done_of_a_file_that_is_gone_is_kept(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.npz"
    embed_batch(embedder, ["one.wav", "two.flac"], out, finish=False)
    (songs / "one.wav").unlink()
    assert not embed_batch(embedder, ["one.wav", "two.flac"], out).problems
    with np.load(out) as arrays:
        assert set(arrays["source"]) == {"one.wav", "two.flac"}


@pytest.mark.slow
def test_what_is_not_asked_for_any_more_is_kept_and_said(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.ndjson"
    embed_batch(embedder, ["one.wav", "two.flac"], out, finish=False)
    heard = embed_batch(embedder, ["caf\udce9.wav", "two.flac"], out)
    assert any("1 of them are not asked for now and stay in the result: one.wav" in line for line in heard.lines)
    names = [json.loads(line)["file"] for line in out.read_text().splitlines()]
    assert list(dict.fromkeys(names)) == ["caf\udce9.wav", "two.flac", "one.wav"]


@pytest.mark.slow
def test_a_file_that_failed_gets_another_chance(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.npz"
    assert embed_batch(embedder, ["text.wav", "one.wav"], out, finish=False).problems
    shutil.copy("one.wav", "text.wav")
    assert not embed_batch(embedder, ["text.wav", "one.wav"], out).problems
    with np.load(out) as arrays:
        assert arrays["source"].tolist() == ["text.wav"] * 3 + ["one.wav"] * 3


def test_other_settings_do_not_continue(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.npz"
    embed_batch(embedder, ["one.wav"], out, finish=False)
    with pytest.raises(MertdError, match=r"other settings \(hop: 0\.5 → 0\.25\); .* --no-resume"):
        embed_batch(embedder, ["one.wav"], out, hop=SAMPLE_RATE // 4)
    assert (songs / "x.npz.partial").exists(), "it is still there"
    embed_batch(embedder, ["one.wav"], out, hop=SAMPLE_RATE // 4, resume=False)
    with np.load(out) as arrays:
        assert len(arrays["start"]) == 5


def test_a_stop_ends_what_can_be_heard_only_once_in_order(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.npz"
    heard = embed_batch(embedder, ["synth:tone"], out, stopping=stops_after(9))
    assert not heard.problems
    with np.load(out) as arrays:
        assert len(arrays["start"]) > 3


@pytest.mark.slow
def test_a_source_whose_process_died_is_ended_when_the_batch_continues(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.ndjson"
    embed_batch(embedder, ["synth:tone"], out, stopping=stops_after(9), finish=False)
    journal = songs / "x.ndjson.partial"
    content = journal.read_bytes()
    end = content.rindex(b"ENDD")
    journal.write_bytes(content[:end])  # as if it had been killed while it listened
    heard = embed_batch(embedder, ["synth:tone", "one.wav"], out)
    assert INTERRUPTED in heard.problems["synth:tone"]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["file"] for line in lines if "vector" in line].count("synth:tone") > 3
    assert [line["reason"] for line in lines if "reason" in line] == [INTERRUPTED]


@pytest.fixture
def one_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows come in the order of the inputs: with several threads, the first one may be of any of them."""
    monkeypatch.setattr(decoders, "MAX_DECODERS", 1)


@pytest.mark.usefixtures("one_decoder")
def test_a_fault_of_a_decoder_is_that_of_one_file(songs: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    original = embedder.embed_prepared

    def fails_once(_: list[np.ndarray]) -> object:
        monkeypatch.setattr(embedder, "embed_prepared", original)
        raise RuntimeError("of a library")

    monkeypatch.setattr(embedder, "embed_prepared", fails_once)
    heard = embed_batch(embedder, ["one.wav", "two.flac"], songs / "x.npz")
    assert heard.problems == {"one.wav": "one.wav: cannot be embedded, RuntimeError: of a library"}
    with np.load(songs / "x.npz") as arrays:
        assert set(arrays["source"]) == {"two.flac"}


@pytest.mark.usefixtures("one_decoder")
def test_a_broken_model_ends_the_batch_and_what_is_done_is_kept(
    songs: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = embedder.embed_prepared, count()

    def breaks(windows: list[np.ndarray]) -> object:
        if next(calls) >= 4:
            raise BackendError("the model is broken")
        return original(windows)

    with monkeypatch.context() as patch:
        patch.setattr(embedder, "embed_prepared", breaks)
        with pytest.raises(BackendError):
            embed_batch(embedder, ["one.wav", "two.flac"], songs / "x.npz")
    heard = embed_batch(embedder, ["one.wav", "two.flac"], songs / "x.npz")
    assert any("in which 1 inputs were done" in line for line in heard.lines)
