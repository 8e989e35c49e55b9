"""Each measurement for real, only small: the figures are plausible and belong together."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest
import soundfile

from mertd.bench import capacity, daemon, energy, fanout, inference, pytorch, recordings, startup
from mertd.bench.sections import Plan
from mertd.embed.weights.loading import load, save
from mertd.wire import encode

TINY = "random:0?size=tiny"


def quiet(_: str) -> None:
    """No progress is shown."""


@pytest.mark.slow
def test_every_backend_here_is_timed_and_agrees_with_the_reference() -> None:
    found = inference.measure_backends(load(TINY), 1.0, 2, (1, 2), quiet)
    forms = {(row.contender.name, len(row.contender.states), row.contender.batch) for row in found.rows}
    assert {("mertd onnx", states, batch) for states in (1, 3) for batch in (1, 2)} <= forms
    assert all(row.ms.count == 2 and 0 < row.ms.low <= row.ms.median <= row.ms.high for row in found.rows)
    assert all(row.cosine > 0.999 for row in found.rows)
    assert list(found.parts) == ["convolutions, positional", "layers 1-2", "layers 3-2"]
    assert any("numpy is left out" in note for note in found.notes), "what is not measured is said"
    if not pytorch.is_installed():
        assert found.reference == "numpy float32"
        assert any("PyTorch is left out: torch and transformers" in note for note in found.notes)


@pytest.mark.slow
def test_a_backend_that_computes_something_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(inference.NumpyBackend):
        name = "onnx"

        def embed(self, windows: inference.Array) -> inference.Array:
            return np.roll(super().embed(windows), 1, axis=-1)

    monkeypatch.setitem(inference.FACTORIES, "onnx", lambda weights, layers, _="": Wrong(weights, layers))
    found = inference.measure_backends(load(TINY), 1.0, 1, (1,), quiet)
    assert [row.cosine < 0.9 for row in found.rows if row.contender.name == "mertd onnx"] == [True, True]


def test_fan_out_delivers_every_message_to_every_subscriber() -> None:
    (row,) = fanout.measure_fanout([3], 2, quiet)
    assert row.subscribers == 3
    assert row.mertd.median > 0
    assert row.pyzmq.median > 0
    assert row.packing.median > 0
    assert (row.ratio.count, row.packing_ratio.count) == (2, 2)


def test_what_the_bare_loop_packs_is_what_mertd_sends() -> None:
    message = fanout.example()
    assert msgpack.packb(fanout.packed_by_hand(message)) == encode(message)[1]


def test_a_message_takes_microseconds_to_write_and_to_read() -> None:
    found = daemon.wire_us(5)
    assert list(found) == ["encode", "decode"]
    assert all(0.1 < spread.median < 10_000 for spread in found.values())


@pytest.mark.slow
def test_a_silent_daemon_and_a_playing_one_are_measured_with_all_their_processes() -> None:
    found = energy.measure_energy(Plan(["energy"], seconds=1.0, quick=True), TINY, 1, quiet)
    assert [row["batch"] for row in found["windows"]] == [1]
    assert all(row["windows"] > 0 and row["cpu_s"] > 0 and row["ms"] > 0 for row in found["windows"])
    silent, playing = found["daemons"]
    assert min(silent["windows"], playing["windows"]) > 0
    for row in (silent, playing):
        assert {"supervisor", "embed"} < set(row["cpu_s_per_hour"]), "and a capture process"
    assert sum(silent["cpu_s_per_hour"].values()) > 0
    assert found["meters"] or found["absent"]
    assert set(found["idle_w"]) == set(found["meters"])


@pytest.mark.slow
def test_every_window_reaches_every_subscriber_and_its_stages_are_its_latency() -> None:
    settings = {**daemon.TINY, "window": 1.0, "hop": 0.25, "source": ("synth:chords",)}
    notes = daemon.watch(settings, 4, 2)
    assert set(notes.received) <= set(notes.sent) <= set(notes.ready)
    assert all(len(ats) == 2 for ats in notes.received.values())
    for key, ats in notes.received.items():
        message = notes.messages[key]
        # `total` ends when the message is made, somewhere between the last report that it waited for and its sending.
        earliest = notes.answered[key] - message.latency_ns.total
        assert earliest + message.latency_ns.wait + message.latency_ns.embed <= notes.ready[key]
        assert notes.ready[key] <= notes.answered[key] <= notes.sent[key] <= min(ats)


@pytest.mark.slow
def test_the_stages_of_an_embed_process() -> None:
    found = startup._stages(TINY, "1", 1.0)
    assert next(iter(found)) == "interpreter, imports"
    assert "weights: read, checked, digested" in found
    assert "self-check: numpy reference" in found
    assert all(seconds > 0 for seconds in found.values())


@pytest.mark.parametrize(
    ("limit", "most", "tried"),
    [(5, 64, [1, 2, 4, 5, 6, 8]), (0, 64, [1]), (1, 64, [1, 2]), (2, 64, [1, 2, 3, 4]), (99, 8, [1, 2, 4, 8])],
)
def test_the_search_for_the_number_of_streams_closes_the_gap(
    monkeypatch: pytest.MonkeyPatch, limit: int, most: int, tried: list[int]
) -> None:
    called: list[int] = []

    def trial(_options: list[str], count: int, _seconds: float, _source: str) -> capacity.Trial:
        called.append(count)
        skipped = int(count > limit)
        return capacity.Trial(count, 10 * count, 10 * count - skipped, skipped, ended_by="the model" if skipped else "")

    monkeypatch.setattr(capacity, "trial", trial)
    found = capacity.measure([], 1.0, 1, most, quiet)
    assert [t.streams for t in found] == sorted(called) == tried
    assert capacity.most_carried(found) == min(limit, most)


@pytest.mark.slow
def test_streams_are_counted_by_the_real_daemon() -> None:
    options = ["--weights", TINY, "--layers", "1", "--window", "1", "--hop", "0.25"]
    (found,) = capacity.measure(options, 0.5, 1, 1, quiet)
    assert (found.streams, found.skipped) == (1, 0)
    assert found.due >= found.embedded > 0


@pytest.mark.slow
def test_a_folder_is_embedded_from_nothing_kept_and_then_from_what_was_kept(tmp_path: Path) -> None:
    save(load(TINY), tmp_path / "tiny.safetensors")
    found = recordings.measure_recordings(str(tmp_path / "tiny.safetensors"), 1, 1.0, 1.0, 3, 3.0, 1, quiet)
    assert (found.files, found.windows) == (3, 9)
    assert list(found.parts) == ["decoding alone", "the model alone", "both, side by side"]
    assert all(seconds > 0 for seconds in found.parts.values())
    assert list(found.whole)[:2] == ["mertd embed, first start on this machine", "mertd embed, started before"]
    assert pytorch.is_installed() or "PyTorch is left out: torch and transformers are not installed" in found.notes
    assert found.as_json()["whole_s"].keys() == found.whole.keys()


def test_recordings_are_of_both_kinds_and_of_the_length_that_was_asked_for(tmp_path: Path) -> None:
    recordings.make_recordings(tmp_path / "x", 10, 0.5)
    paths = sorted((tmp_path / "x").iterdir())
    assert [path.suffix for path in paths] == [".flac", ".mp3"] * 5
    assert paths[0].read_bytes() == paths[8].read_bytes() != paths[2].read_bytes()
    for path in paths[:2]:
        about = soundfile.info(path)
        assert (about.samplerate, about.channels) == (44_100, 2)
        assert about.duration == pytest.approx(0.5, abs=0.1)
