"""A backend is used only if it agrees with the reference; the reason for rejecting a preferred one is kept."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mertd.embed.backends import choice
from mertd.embed.backends.backend import Backend
from mertd.embed.backends.choice import FACTORIES, candidates, choose
from mertd.embed.backends.mlx_backend import MlxBackend
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.onnx_backend import OnnxBackend
from mertd.embed.backends.self_check import MIN_COSINE, least_cosine
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them

Array = NDArray[np.float32]
LAYERS = (0, 2)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load("random:0?size=tiny")


class FaultyBackend(NumpyBackend):
    """The reference with a fault: a function of its states."""

    def __init__(self, weights: Weights, layers: Sequence[int], fault: Callable[[Array], Array]) -> None:
        super().__init__(weights, layers)
        self._fault = fault

    def embed(self, windows: Array) -> Array:
        return self._fault(super().embed(windows))


def raising(error: Exception) -> Callable[[Array], Array]:
    def fault(_: Array) -> Array:
        raise error

    return fault


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Array], Array]], None]:
    """Make a faulty backend the first candidate."""

    def put(fault: Callable[[Array], Array]) -> None:
        def make(weights: Weights, layers: Sequence[int], precision: str = "auto") -> Backend:
            del precision
            return FaultyBackend(weights, layers, fault)

        monkeypatch.setitem(FACTORIES, "broken", make)
        monkeypatch.setattr(choice, "candidates", lambda choice, _: ["broken", "numpy"] if choice == "auto" else [choice])

    return put


def one_layer_off(states: Array) -> Array:
    changed = states.copy()
    changed[:, -1] = np.roll(changed[:, -1], 1, axis=-1)
    return changed


FAULTS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "one layer of two is wrong": (one_layer_off, "disagrees with the reference: cosine"),
    "layers in the wrong order": (lambda states: states[:, ::-1], "disagrees with the reference"),
    "not a number": (lambda states: states * np.float32("nan"), "disagrees with the reference: cosine nan"),
    "all the same": (np.ones_like, "disagrees with the reference"),
    "the other sign": (lambda states: -states, "disagrees with the reference: cosine -1"),
    "a native error": (raising(RuntimeError("out of memory\nat 0x0")), "failed its self-check: out of memory$"),
    "a refusal": (raising(ValueError("no such op")), "failed its self-check: no such op$"),
    "a layer too few": (lambda states: states[:, :1], "shape|disagrees"),
    "too narrow": (lambda states: states[..., :8], "shape"),
    "dead": (np.zeros_like, "disagrees with the reference"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backend_that_does_not_agree_is_not_used(inject: Callable[..., None], weights: Weights, fault: str) -> None:
    """The law: a wrong vector is worse than a slow one."""
    function, reason = FAULTS[fault]
    inject(function)
    chosen = choose("auto", weights, LAYERS)
    assert chosen.backend.name == "numpy"
    assert type(chosen.backend) is NumpyBackend
    assert chosen.agreement == pytest.approx(1)
    assert list(chosen.rejected) == ["broken"]
    assert re.search(reason, chosen.rejected["broken"])


def test_every_backend_is_announced_before_it_can_do_harm(inject: Callable[..., None], weights: Weights) -> None:
    """If it ends the process, the next process can exclude it."""
    inject(one_layer_off)
    tried: list[tuple[str, tuple[str, ...]]] = []
    chosen = choose("auto", weights, LAYERS, trying=lambda name, others: tried.append((name, others)))
    assert tried == [("broken", ("numpy",)), ("numpy", ())]
    tried.clear()
    chosen = choose("auto", weights, LAYERS, {"broken": "it crashed"}, lambda name, others: tried.append((name, others)))
    assert tried == [("numpy", ())]
    assert chosen.rejected == {"broken": "it crashed"}


def test_a_backend_asked_for_by_name_is_not_replaced(inject: Callable[..., None], weights: Weights) -> None:
    inject(one_layer_off)
    with pytest.raises(BackendError, match=r"no backend can run: broken: disagrees with the reference: cosine -?0\.\d+"):
        choose("broken", weights, LAYERS)


def test_a_small_disagreement_is_allowed_and_reported(inject: Callable[..., None], weights: Weights) -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    inject(lambda states: (states + 0.01 * np.std(states) * generator.standard_normal(states.shape)).astype(np.float32))
    chosen = choose("auto", weights, LAYERS)
    assert chosen.backend.name == "numpy"  # the name of its class; it is the injected one
    assert not chosen.rejected
    assert MIN_COSINE < chosen.agreement < 1


@pytest.mark.parametrize("name", ["onnx", "openvino", "mlx", "numpy"])
def test_real_backends_pass_their_check(weights: Weights, name: str) -> None:
    if name == "mlx":
        pytest.importorskip("mlx.core")
    if name == "openvino":
        pytest.importorskip("openvino")
    chosen = choose(name, weights, LAYERS)
    assert chosen.backend.name == name
    assert chosen.agreement > 0.999999 or chosen.backend.precision in ("float16", "bfloat16")
    assert not chosen.rejected


def test_what_onnx_runtime_raises_rejects_the_backend(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exceptions are neither `RuntimeError` nor `ValueError`: a graph that it refuses must not end the process."""

    class Refused(OnnxBackend):
        def prepare(self, length: int) -> None:
            super().prepare(length)
            self._session.run(None, {"no such input": np.zeros((1, length), np.float32)})

    class Failing(OnnxBackend):
        def embed(self, windows: Array) -> Array:
            self.prepare(windows.shape[1])
            return np.asarray(self._session.run(None, {"input_values": windows[:, 1:]})[0])

    for broken in (Refused, Failing):
        monkeypatch.setitem(FACTORIES, "onnx", lambda weights, layers, _="", make=broken: make(weights, layers))
        monkeypatch.setattr(choice, "candidates", lambda *_: ["onnx", "numpy"])
        chosen = choose("auto", weights, LAYERS)
        assert chosen.backend.name == "numpy"
        assert chosen.rejected["onnx"].startswith("failed its self-check: ")


@pytest.mark.parametrize(("make", "module"), [(OnnxBackend, "onnxruntime"), (MlxBackend, "mlx.core")])
def test_a_library_that_is_not_installed_is_reported(
    make: Callable[[Weights, Sequence[int]], Backend], module: str, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match="is not installed here"):
        make(weights, LAYERS)


@pytest.mark.parametrize(
    ("gpu", "bfloat16", "platform", "order"),
    [
        (True, False, "darwin", ["mlx", "coreml", "onnx", "numpy"]),
        (False, False, "darwin", ["coreml", "onnx", "numpy"]),
        (True, True, "linux", ["mlx", "openvino", "onnx", "numpy"]),
        (False, True, "linux", ["openvino", "onnx", "numpy"]),
        (False, False, "linux", ["onnx", "numpy"]),
    ],
)
def test_order_of_choice(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, bfloat16: bool, platform: str, order: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx512f avx512_bf16 amx_tile\n" if bfloat16 else "flags : avx512f avx2\n")
    monkeypatch.setattr(choice, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(choice, "mlx_has_gpu", lambda: gpu)
    monkeypatch.setattr(sys, "platform", platform)
    assert candidates("auto") == order
    assert candidates("auto", "float32") == [name for name in order if name != "openvino"]
    assert candidates("mlx") == ["mlx"]


@pytest.mark.parametrize(
    ("name", "precision", "found"),
    [("onnx", "float32", "float32"), ("openvino", "float32", "float32"), ("auto", "float32", "float32")],
)
def test_a_precision_that_is_asked_for(weights: Weights, name: str, precision: str, found: str) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
    assert choose(name, weights, LAYERS, precision=precision).backend.precision == found


@pytest.mark.parametrize("name", ["onnx", "numpy", "mlx"])
def test_a_precision_that_a_backend_does_not_have(weights: Weights, name: str) -> None:
    with pytest.raises(BackendError, match=f"no backend can run: {name}: .*not bfloat16"):
        choose(name, weights, LAYERS, precision="bfloat16")


def test_bfloat16_must_agree_more_closely_than_its_bound_for_others() -> None:
    """At 0.9993 something is wrong that is not rounding."""

    class Poor(NumpyBackend):
        precision = "bfloat16"

    weights = load("random:0?size=tiny")
    assert least_cosine(Poor(weights, LAYERS)) > MIN_COSINE == least_cosine(NumpyBackend(weights, LAYERS))
