"""Core ML without a Mac: packages are written, read back and run in numpy, in float16 where they say float16."""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from embed.backends.mil_evaluator import OPERATIONS, Package, strict_half
from golden import clip, golden
from mertd.embed.architecture import MERT_95M, TINY
from mertd.embed.audio import normalise
from mertd.embed.backends import coreml_backend, mil_neural_ops
from mertd.embed.backends.coreml_backend import CoreMLBackend, compiled_cache_path, loaded_package
from mertd.embed.backends.coreml_package import MAX_PACKAGE_BYTES, MAX_PACKAGE_ITEMS, Target, check_package, export
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.self_check import check, check_signal, cosines
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError, UsageError
from signals import chord_progression

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them

Array = NDArray[np.float32]
SECOND = 24_000
Made: TypeAlias = Callable[[str, Target], tuple[Weights, Package]]
TARGETS: tuple[Target, ...] = ("macos14", "macos15")
SPECS = ("random:0?size=tiny", "random:0?size=tiny&outliers=1")
ALL = range(TINY.states)
HALF_RANGE = 65504


def reference(weights: Weights, window: Array, layers: Sequence[int]) -> Array:
    states: Array = NumpyBackend(weights, layers).embed(window[None])[0]
    return states


def disagreement(got: Array, expected: Array) -> float:
    """The worst 1 - cosine over layers, of all channels and of those that six large ones would otherwise drown."""
    rest = np.argsort(np.abs(expected).max(axis=0))[:-6]
    return float(1 - min(cosines(got, expected).min(), cosines(got[:, rest], expected[:, rest]).min()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Weights and their package for one second, all layers; each is written once."""
    made: dict[tuple[str, Target], tuple[Weights, Package]] = {}

    def get(spec: str, target: Target) -> tuple[Weights, Package]:
        if (spec, target) not in made:
            weights, path = load(spec), tmp_path_factory.mktemp("coreml") / "tiny.mlpackage"
            export(weights, path, ALL, SECOND, target)
            made[spec, target] = weights, Package(path)
        return made[spec, target]

    return get


def rumble() -> Array:
    """Music 50 dB below something at 7 Hz that shakes the microphone."""
    music = chord_progression(1)
    return np.asarray(np.sin(2 * np.pi * 7 * np.arange(SECOND) / SECOND) + 10 ** (-50 / 20) * music, np.float32)


SOUNDS = {
    "music": lambda: chord_progression(1),
    "quiet": lambda: chord_progression(1) * np.float32(1e-4),
    "barely audible": lambda: chord_progression(1) * np.float32(1e-7),
    "clipped": lambda: np.clip(chord_progression(1) * 50, -1, 1),
    "offset": lambda: chord_progression(1) * np.float32(0.01) + np.float32(0.9),
    "silent": lambda: np.zeros(SECOND, np.float32),
    "constant": lambda: np.full(SECOND, 0.5, np.float32),
    "impulse": lambda: np.eye(1, SECOND, SECOND // 2, dtype=np.float32)[0],
    "rumble": rumble,
}


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", SPECS)
def test_tiny_package_agrees(tiny: Made, spec: str, target: Target, sound: str, strict: bool) -> None:
    weights, package = tiny(spec, target)
    window = normalise(SOUNDS[sound]())
    got = package.run(window, strict)
    assert got.shape == (len(ALL), TINY.hidden)
    assert got.dtype == np.float32
    assert disagreement(got, reference(weights, window, ALL)) < (1e-5 if strict else 1e-6)
    assert package.largest < HALF_RANGE / 16


@pytest.mark.slow
def test_high_pass_filters_hear_music_under_rumble(tmp_path: Path) -> None:
    """With the first product in float16, the music drowns in the rounding of the rumble: 1 - cosine is 5e-3."""
    weights, name = load(SPECS[0]), "feature_extractor.conv_layers.0.conv.weight"
    taps = np.random.Generator(np.random.PCG64(0)).integers(-9, 10, (TINY.channels, 8))
    kernels = np.stack([np.convolve(row, [1, -2, 1]) for row in taps]) / 64  # exact in float16: no response to a slope
    weights = replace(weights, tensors={**weights.tensors, name: kernels[:, :, None].astype(np.float16)})
    export(weights, tmp_path / "tiny.mlpackage", ALL, SECOND)
    window = normalise(rumble())
    got = Package(tmp_path / "tiny.mlpackage").run(window, strict=True)
    assert disagreement(got, reference(weights, window, ALL)) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_precision_is_where_it_is_meant_to_be(tiny: Made, target: Target) -> None:
    _, package = tiny(SPECS[0], target)
    single, half = package.kinds("fp32"), package.kinds("fp16")
    fused = {"scaled_dot_product_attention"} if target == "macos15" else {"matmul", "softmax", "mul"}
    assert half == {"cast", "gelu", "conv", "transpose", "linear", "reshape", "add"} | fused
    assert single == {
        *("slice_by_size", "reshape", "concat", "reduce_mean", "sub", "matmul", "mul", "reduce_sum", "relu", "add", "rsqrt"),
        *("cast", "layer_norm", "squeeze"),
    }
    assert package.model.get_spec().specificationVersion == (9 if target == "macos15" else 8)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("spec", SPECS)
def test_the_package_for_the_neural_engine_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, rows: int
) -> None:
    """In one row and in several that overlap, the last of them filled up, for every sound, at the worst of float16."""
    if rows > 1:
        monkeypatch.setattr(mil_neural_ops, "MAX_DIMENSION", 1_000)
    weights = load(spec)
    export(weights, tmp_path / "x.mlpackage", ALL, SECOND, "macos14", "neural-engine")
    package = Package(tmp_path / "x.mlpackage")
    maps = [op for op in package.operations if op.op_type == "conv" and op.outputs[0].shape[2] == rows]
    assert len(maps) == 6 if rows > 1 else maps
    for name, sound in SOUNDS.items():
        window = normalise(sound())
        assert disagreement(package.run(window, strict=True), reference(weights, window, ALL)) < 1e-5, name
        assert package.largest < HALF_RANGE / 16, name


@pytest.mark.slow
def test_shapes_for_the_neural_engine() -> None:
    """At 30 s and full size: what is float16 has at most 4 dimensions, none longer than the Neural Engine can."""
    import coremltools as ct
    from coremltools.converters.mil.mil import types

    from mertd.embed.backends import mil_ops

    tensors = {name: np.broadcast_to(np.float16(0.5), shape) for name, shape in MERT_95M.tensors.items()}
    ops = mil_neural_ops.NeuralMilOps(MERT_95M, tensors, 30 * SECOND)
    program = mil_ops.build(MERT_95M, 30 * SECOND, (1,), ct.target.iOS17, ops)
    operations = [op for op in program.functions["main"].operations if op.op_type != "const"]
    halves = [var for op in operations for var in op.outputs if var.dtype is types.fp16]
    assert len(halves) > 100
    assert max(max(var.shape) for var in halves) <= mil_neural_ops.MAX_DIMENSION
    assert max(len(var.shape) for var in halves) <= 4
    kinds = {op.op_type for op in operations if op.outputs[0].dtype is types.fp16}
    assert "layer_norm" not in kinds, "its squares would overflow"
    assert "linear" not in kinds
    heads = [op for op in operations if op.op_type == "softmax"]
    assert [tuple(op.outputs[0].shape) for op in heads] == [(1, 2249, 1, 2249)] * MERT_95M.heads


def test_evaluator_shows_what_float16_would_break() -> None:
    loud = np.full((1, 64, 2), 2000, np.float32)
    assert np.isinf(OPERATIONS["reduce_mean"](strict_half, loud, axes=[1], keep_dims=True)).all()
    spread = np.array([[2000, -2000, 1, 2]], np.float32)
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    normal = OPERATIONS["layer_norm"](strict_half, spread, axes=[-1], gamma=one, beta=zero, epsilon=1e-5)
    assert not np.abs(normal).max() > 1  # it would be 1.4
    np.testing.assert_array_equal(strict_half(np.array([1e-5, 1 + 2**-12, 7e4], np.float32)), [0, 1, np.inf])


@pytest.mark.slow
def test_layers_past_the_last_are_left_out(tmp_path: Path) -> None:
    weights, window = load(SPECS[0]), check_signal()
    export(weights, tmp_path / "one.mlpackage", [1], SECOND)
    package = Package(tmp_path / "one.mlpackage")
    assert disagreement(package.run(window), reference(weights, window, [1])) < 1e-6
    assert sum(op.op_type == "softmax" for op in package.operations) == 1


@pytest.mark.slow
def test_package_says_what_it_is(tiny: Made, tmp_path: Path) -> None:
    weights, package = tiny(SPECS[0], "macos15")
    facts = {key: value for key, value in package.model.user_defined_metadata.items() if key.startswith("mertd.")}
    assert facts == {
        "mertd.weights": weights.digest,
        "mertd.trained": "false",
        "mertd.layers": "0,1,2",
        "mertd.window_samples": "24000",
        "mertd.target": "macos15",
        "mertd.processor": "gpu",
    }
    assert "2306.00107" in package.model.author
    assert "random weights" in package.model.license
    export(replace(weights, trained=True), tmp_path / "trained.mlpackage", [1], SECOND)
    assert "CC-BY-NC-4.0" in Package(tmp_path / "trained.mlpackage").model.license


@pytest.mark.parametrize(
    ("name", "layers", "length", "error", "words"),
    [
        ("a.mlmodel", [1], SECOND, UsageError, "named"),
        ("a.mlpackage", [], SECOND, UsageError, "layers"),
        ("a.mlpackage", [2, 1], SECOND, UsageError, "layers"),
        ("a.mlpackage", [3], SECOND, UsageError, "from 0 to 2"),
        ("a.mlpackage", [1], 399, UsageError, "too short"),
        ("no/a.mlpackage", [1], SECOND, BackendError, r"directory \S+/no does not exist"),
    ],
)
def test_export_refuses(tmp_path: Path, name: str, layers: list[int], length: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        export(load(SPECS[0]), tmp_path / name, layers, length)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_shortest_window(tmp_path: Path) -> None:
    weights, window = load(SPECS[0]), normalise(check_signal()[: TINY.shortest])
    export(weights, tmp_path / "a.mlpackage", ALL, TINY.shortest)
    assert disagreement(Package(tmp_path / "a.mlpackage").run(window), reference(weights, window, ALL)) < 1e-6


@pytest.mark.slow
def test_package_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    weights, path = load(SPECS[0]), tmp_path / "a.mlpackage"
    export(weights, path, [0], SECOND)
    last = "encoder.layers.1.feed_forward.output_dense.weight"
    broken = replace(weights, tensors={**weights.tensors, last: np.zeros((3, 5), np.float16)})
    with pytest.raises(BackendError, match="cannot convert"):
        export(broken, path, [2], SECOND)
    assert Package(path).run(check_signal()).shape == (1, TINY.hidden)
    export(weights, path, [0, 1], SECOND)
    assert Package(path).run(check_signal()).shape == (2, TINY.hidden)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_export_is_silent_and_imports_are_lazy(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from mertd.embed.backends.coreml_package import export
assert "coremltools" not in sys.modules
from mertd.embed.weights.loading import load
export(load({SPECS[0]!r}), Path({str(tmp_path)!r}, "a.mlpackage"), [1], {SECOND})
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("outliers", [0, 1])
def test_full_size_agrees(tmp_path: Path, outliers: int) -> None:
    """All 13 layers; against PyTorch's own numbers with plain random weights, against the numpy reference with outliers."""
    weights, window = load(f"random:0?outliers={outliers}"), clip(1)
    path = tmp_path / "full.mlpackage"
    export(weights, path, range(MERT_95M.states), len(window), TARGETS[outliers])
    package = Package(path)
    expected = reference(weights, window, range(MERT_95M.states)) if outliers else golden(1)
    assert disagreement(package.run(window), expected) < 1e-5
    assert package.largest < HALF_RANGE / 16
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) == pytest.approx(180 * 2**20, rel=0.02)


class EvaluatedCoreML(SimpleNamespace):
    """What `CoreMLBackend` uses of coremltools, where "compiled" means copied and "run" means evaluated in numpy."""

    def __init__(self) -> None:
        self.compiled: list[Path] = []
        super().__init__(
            __version__="9.0",
            ComputeUnit=enum.Enum("ComputeUnit", ["ALL", "CPU_AND_GPU", "CPU_AND_NE", "CPU_ONLY"]),
            models=SimpleNamespace(CompiledMLModel=self.load, utils=SimpleNamespace(compile_model=self.compile)),
        )

    def compile(self, package: str, destination: str) -> None:
        shutil.copytree(package, destination)
        self.compiled.append(Path(destination))

    def load(self, path: str, compute_units: Any) -> SimpleNamespace:
        assert compute_units.name == "CPU_AND_GPU"
        package = Package(Path(path))
        return SimpleNamespace(predict=lambda inputs: {"hidden_states": package.run(inputs["input_values"][0])})


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> EvaluatedCoreML:
    runtime = EvaluatedCoreML()
    monkeypatch.setattr(coreml_backend, "macos_release", lambda: 15)
    monkeypatch.setattr(coreml_backend, "os_build", lambda: "24D60")
    monkeypatch.setattr(coreml_backend, "_runtime", lambda: runtime)
    return runtime


@pytest.mark.slow
def test_backend_passes_its_self_check(mac: EvaluatedCoreML, tmp_path: Path) -> None:
    weights = load(SPECS[0])
    backend = CoreMLBackend(weights, [1, 2], cache=tmp_path)
    expected = NumpyBackend(weights, [1, 2]).embed(check_signal()[None])
    assert check(backend, expected) > 0.999999
    both = backend.embed(np.stack([check_signal(), normalise(chord_progression(1))]))
    assert both.shape == (2, 2, TINY.hidden)
    assert both.dtype == np.float32
    assert backend.embed(normalise(chord_progression(0.5))[None]).shape == (1, 2, TINY.hidden)
    assert len(mac.compiled) == 2  # one for each window length


@pytest.mark.slow
def test_backend_compiles_once_for_each_macos(mac: EvaluatedCoreML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load(SPECS[0])
    for _ in range(2):
        CoreMLBackend(weights, [1], cache=tmp_path).prepare(SECOND)
    assert len(mac.compiled) == 1
    monkeypatch.setattr(coreml_backend, "os_build", lambda: "25A1")
    CoreMLBackend(weights, [1], cache=tmp_path).prepare(SECOND)
    path = compiled_cache_path(weights.digest, [1], SECOND, "macos15", "25A1", "9.0", tmp_path)
    assert list(path.parent.iterdir()) == [path]
    shutil.rmtree(path / "Data")
    CoreMLBackend(weights, [1], cache=tmp_path).prepare(SECOND)
    assert len(mac.compiled) == 3


@pytest.mark.slow
def test_backend_leaves_nothing_of_a_failed_compilation(
    mac: EvaluatedCoreML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_package: str, destination: str) -> None:
        Path(destination).mkdir()
        raise RuntimeError("Error compiling model:\nno space")

    monkeypatch.setattr(mac.models.utils, "compile_model", fail)
    with pytest.raises(BackendError, match=r"cannot compile the package: Error compiling model:$"):
        CoreMLBackend(load(SPECS[0]), [1], cache=tmp_path).prepare(SECOND)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.usefixtures("mac")
def test_a_package_is_loaded_and_run(tmp_path: Path) -> None:
    weights, path = load(SPECS[0]), tmp_path / "a.mlpackage"
    with pytest.raises(UsageError, match="no Core ML package"), loaded_package(path):
        pass
    export(weights, path, ALL, SECOND)
    with loaded_package(path) as run:
        assert disagreement(run(check_signal()), reference(weights, check_signal(), ALL)) < 1e-6


def link_inside(package: Path) -> None:
    (package / "Data" / "weights").symlink_to("/etc")


def fifo_inside(package: Path) -> None:
    os.mkfifo(package / "Data" / "weights")


def many_inside(package: Path) -> None:
    for number in range(MAX_PACKAGE_ITEMS):
        (package / "Data" / str(number)).mkdir()


def large_inside(package: Path) -> None:
    with (package / "weight.bin").open("wb") as file:
        file.truncate(MAX_PACKAGE_BYTES + 1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (link_inside, "neither a file nor a folder"),
        (fifo_inside, "neither a file nor a folder"),
        (many_inside, "more than 64 files and folders"),
        (large_inside, "more than 2,147,483,648 bytes"),
    ],
)
def test_a_package_from_elsewhere_is_checked_before_core_ml_reads_it(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    package = tmp_path / "a.mlpackage"
    (package / "Data").mkdir(parents=True)
    check_package(package)
    damage(package)
    with pytest.raises(UsageError, match=reason):
        check_package(package)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there")
def test_backend_says_why_it_cannot_run_here() -> None:
    with pytest.raises(BackendError, match=r"^Core ML runs on macOS 14 or later, and this is \w+$"):
        CoreMLBackend(load(SPECS[0]), [1])


@pytest.mark.skipif(sys.platform != "darwin", reason="needs Core ML")
@pytest.mark.parametrize("spec", SPECS)
def test_core_ml_itself_agrees(spec: str, tmp_path: Path) -> None:
    weights = load(spec)
    got = CoreMLBackend(weights, ALL, cache=tmp_path).embed(check_signal()[None])[0]
    assert disagreement(got, reference(weights, check_signal(), ALL)) < 1e-3
