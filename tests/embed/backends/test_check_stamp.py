"""A check that was passed on this machine is not run again, unless anything has changed that could change its result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mertd.embed.backends import check_stamp, choice
from mertd.embed.backends.backend import Array, Backend
from mertd.embed.backends.choice import FACTORIES, Chosen, choose
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.private_cache import open_folder
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError

LAYERS = (0, 2)
LENGTH = 24_000


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load("random:0?size=tiny")


class Counted(NumpyBackend):
    """The reference, which counts how often it computes, and may be made to be wrong."""

    runs = 0
    sign = 1

    def embed(self, windows: Array) -> Array:
        type(self).runs += 1
        return self.sign * super().embed(windows)


Start = Callable[..., Chosen]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Weights) -> Start:
    """Choose a backend as a start does, in a cache of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Counted, "runs", 0)
    monkeypatch.setattr(Counted, "sign", 1)

    def make(weights: Weights, layers: Sequence[int], precision: str = "auto") -> Backend:
        del precision
        return Counted(weights, layers)

    monkeypatch.setitem(FACTORIES, "counted", make)

    def run(layers: Sequence[int] = LAYERS, window: int = LENGTH, check: bool = False, of: Weights = weights) -> Chosen:
        return choose("counted", of, layers, window=window, check=check)

    return run


def test_a_passed_check_is_not_run_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start()
    assert first.checked == "self-check passed with cosine 1.000000"
    assert Counted.runs == 1
    with monkeypatch.context() as patch:
        patch.setattr(choice, "NumpyBackend", None)  # the reference is not needed
        again = start()
    assert Counted.runs == 1
    assert again.agreement == first.agreement
    assert "self-check passed before on this machine, 20" in again.checked
    assert again.checked.endswith("with cosine 1.000000; --check repeats it")


def test_it_is_run_when_asked_for(start: Start) -> None:
    start()
    start(check=True)
    assert Counted.runs == 2
    Counted.sign = -1
    with pytest.raises(BackendError, match="disagrees with the reference"):
        start(check=True)


def test_a_failed_check_is_not_noted(start: Start) -> None:
    Counted.sign = -1
    for _ in range(2):
        with pytest.raises(BackendError, match="disagrees with the reference"):
            start()
    assert not list(open_folder(check_stamp.FOLDER).iterdir())


CHANGES: dict[str, Callable[[pytest.MonkeyPatch, Path], object]] = {
    "mertd's code": lambda patch, _: patch.setattr(check_stamp, "_own_code", lambda: "other"),
    "a library": lambda patch, _: patch.setattr(check_stamp, "_installed", lambda name: f"{name} 99"),
    "a variable": lambda patch, _: patch.setenv("MLX_ENABLE_TF32", "1"),
    "the threads": lambda patch, _: patch.setenv("OMP_NUM_THREADS", "7"),
    "the processor": lambda patch, path: patch.setattr(check_stamp, "CPU_INFO", path),
    "the machine": lambda patch, path: patch.setattr(check_stamp, "MACHINE_ID", path),
}


@pytest.mark.parametrize(
    "change", [name if name == "mertd's code" else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES]
)
def test_it_is_run_again_after_any_change(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str) -> None:
    monkeypatch.setattr("mertd.embed.threads._Process.limit", None)
    monkeypatch.setattr(check_stamp, "LIBRARIES", {"numpy": ("numpy",)})
    (tmp_path / "changed").write_text("model name : another\n")
    start()
    CHANGES[change](monkeypatch, tmp_path / "changed")
    start()
    start()
    assert Counted.runs == 2


@pytest.mark.slow
def test_it_is_run_again_for_other_weights_layers_and_windows(start: Start) -> None:
    start()
    start(of=load("random:1?size=tiny"))
    start(layers=(2,))
    start(window=LENGTH + 1)
    assert Counted.runs == 4


def damaged(note: Path, content: bytes) -> None:
    note.write_bytes(content)
    note.chmod(0o600)


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda _: b"",
    lambda content: content[: len(content) // 2],
    lambda content: b"\xff\xfe" + content,
    lambda _: b"[" * 100_000,
    lambda _: b"[]",
    lambda content: content.replace(b'"agreement": 1', b'"agreement": "high"').replace(b"0.99999", b'"'),
    lambda content: json.dumps({**json.loads(content), "agreement": 0.5}).encode(),
    lambda content: json.dumps({**json.loads(content), "agreement": float("nan")}).encode(),
    lambda content: json.dumps({**json.loads(content), "circumstances": {}}).encode(),
    lambda content: json.dumps({**json.loads(content), "passed": "yesterday"}).encode(),
]


@pytest.mark.parametrize(
    "damage", [DAMAGES[0], DAMAGES[1], *(pytest.param(damage, marks=pytest.mark.slow) for damage in DAMAGES[2:])]
)
def test_a_damaged_note_is_no_proof_and_is_replaced(start: Start, damage: Callable[[bytes], bytes]) -> None:
    start()
    (note,) = open_folder(check_stamp.FOLDER).iterdir()
    damaged(note, damage(note.read_bytes()))
    assert start().checked == "self-check passed with cosine 1.000000"
    assert "passed before" in start().checked
    assert Counted.runs == 2


@pytest.mark.slow
def test_another_users_note_is_no_proof(start: Start) -> None:
    start()
    (note,) = open_folder(check_stamp.FOLDER).iterdir()
    note.chmod(0o666)
    start()
    assert Counted.runs == 2


def test_where_nothing_can_be_kept_each_start_checks_and_says_why(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    for _ in range(2):
        assert "; the next start repeats it, because nothing can be kept: " in start().checked
    assert Counted.runs == 2


@pytest.mark.slow
def test_formulations_that_were_found_wrong_are_looked_at_each_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "check_size", lambda *_: {"counted fast": "wrong"})
    assert start().rejected == start().rejected == {"counted fast": "wrong"}


@pytest.mark.slow
def test_a_note_holds_for_one_kind_of_backend(weights: Weights, start: Start) -> None:
    start()
    assert choose("numpy", weights, LAYERS, window=LENGTH).checked.startswith("self-check passed with")


def test_the_installed_are_told_by_their_content() -> None:
    assert check_stamp._installed("numpy").startswith(f"{np.__version__} ")
    assert check_stamp._installed("not-installed-anywhere") == ""
