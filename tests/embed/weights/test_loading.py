"""Weights: the same bits from a seed everywhere, whole files, and files that say what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mertd.embed.architecture import MERT_95M, TINY
from mertd.embed.weights.loading import from_file, load, save
from mertd.embed.weights.stored import StoredTensor, fit
from mertd.embed.weights.tensors import Weights, digest
from mertd.errors import UsageError, WeightsError

Array = NDArray[Any]
CONV = "feature_extractor.conv_layers.1.conv.weight"
BIAS = "encoder.layer_norm.bias"


@pytest.fixture(scope="module")
def tiny() -> Weights:
    return load("random:0?size=tiny")


@pytest.fixture
def tensors(tiny: Weights) -> dict[str, Array]:
    return dict(tiny.tensors)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("random:0?size=tiny", "cb811f063faa1614bff7a033a9726cdef13de474a1866d5a1d8e57c5fe2fa707"),
        pytest.param("random:0", "21f502ec8b568a15c48fe89839efbe237858377f181e35b95d3b7ed9b6f830c9", marks=pytest.mark.slow),
    ],
)
def test_a_seed_gives_the_same_bits_for_ever(spec: str, expected: str) -> None:
    """Recorded vectors name these digests: a change here makes every one of them incomparable."""
    weights = load(spec)
    assert weights.digest == expected
    assert not weights.trained
    assert weights.origin == spec
    assert {name: tensor.shape for name, tensor in weights.tensors.items()} == weights.architecture.tensors
    assert {tensor.dtype for tensor in weights.tensors.values()} == {np.dtype(np.float16)}


def test_seeds_differ_and_values_are_spread_as_they_should_be(tiny: Weights) -> None:
    specs = ("random:0?size=tiny", "random:1?size=tiny", "random:0?size=tiny&outliers=1")
    assert len({load(spec).digest for spec in specs}) == 3
    assert tiny.architecture is TINY
    gain = tiny.tensors["encoder.layer_norm.weight"].astype(float)
    assert abs(gain.mean() - 1) < 0.1
    linear = tiny.tensors["encoder.layers.0.feed_forward.output_dense.weight"].astype(float)
    assert linear.std() == pytest.approx(linear.shape[1] ** -0.5, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("random:", "the seed must be a whole number"),
        ("random:-1", "the seed must be a whole number"),
        ("random:x", "the seed must be a whole number"),
        ("random:²", "the seed must be a whole number"),
        ("random:0?size=big", "size is one of full, tiny"),
        ("random:0?outliers=yes", "outliers is 0 or 1"),
        ("random:0?sise=tiny", "unknown option 'sise'"),
    ],
)
def test_a_wrong_seed_is_explained(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load(spec)


def test_digest_covers_names_shapes_and_values_in_any_order(tensors: dict[str, Array]) -> None:
    whole = digest(tensors)
    assert digest(dict(reversed(tensors.items()))) == whole
    renamed = {name.replace(BIAS, "x"): tensor for name, tensor in tensors.items()}
    reshaped = {**tensors, CONV: tensors[CONV].reshape(-1)}
    changed = {**tensors, BIAS: np.nextafter(tensors[BIAS], np.float16(9))}
    strided = {**tensors, CONV: np.asfortranarray(tensors[CONV])}
    assert len({whole, digest(renamed), digest(reshaped), digest(changed)}) == 4
    assert digest(strided) == whole


@pytest.mark.parametrize("trained", [False, True])
def test_saved_weights_come_back(tmp_path: Path, tiny: Weights, trained: bool) -> None:
    path = tmp_path / "tiny.safetensors"
    save(Weights(TINY, tiny.tensors, tiny.digest, trained, "here"), path)
    again = load(str(path))
    assert (again.digest, again.trained, again.architecture) == (tiny.digest, trained, TINY)
    assert all(np.array_equal(again.tensors[name], tensor) for name, tensor in tiny.tensors.items())
    assert list(tmp_path.iterdir()) == [path], "nothing half-written is left"


@pytest.mark.slow
def test_a_file_of_the_full_size_comes_back(tmp_path: Path) -> None:
    full = load("random:0")
    save(full, tmp_path / "full.safetensors")
    again = from_file(tmp_path / "full.safetensors")
    assert again.architecture is MERT_95M
    assert again.digest == full.digest


def test_a_file_without_metadata_is_taken_for_trained(tmp_path: Path, tensors: dict[str, Array], tiny: Weights) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    weights = from_file(tmp_path / "x.safetensors")
    assert weights.trained
    assert weights.digest == tiny.digest


@pytest.mark.parametrize("prefix", ["hubert.", "model.encoder.", "encoder."])
def test_a_common_prefix_is_dropped(tmp_path: Path, tensors: dict[str, Array], tiny: Weights, prefix: str) -> None:
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "x.safetensors")
    assert from_file(tmp_path / "x.safetensors").digest == tiny.digest


def test_convolutions_stored_the_other_way_are_turned(tmp_path: Path, tensors: dict[str, Array], tiny: Weights) -> None:
    """PyTorch stores (out, in, kernel)."""
    turned = {n: np.ascontiguousarray(t.swapaxes(1, 2)) if t.ndim == 3 else t for n, t in tensors.items()}
    save_file(turned, tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")[CONV].shape == (32, 32, 3)
    assert from_file(tmp_path / "x.safetensors").digest == tiny.digest


def stored(tensors: dict[str, Array]) -> dict[str, StoredTensor]:
    return {name: StoredTensor(t.shape, t.dtype.name, t.copy, name, t.nbytes) for name, t in tensors.items()}


def without(tensors: dict[str, Array], *names: str) -> dict[str, Array]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


Damage = Callable[[dict[str, Array]], dict[str, Array]]
FAULTS: dict[str, tuple[Damage, str]] = {
    "missing": (lambda t: without(t, BIAS, CONV), rf"2 missing \({CONV}, {BIAS}\)$"),
    "unexpected": (lambda t: {**t, "extra.weight": t[BIAS]}, r"1 unexpected \(extra.weight\)$"),
    "misspelt": (
        lambda t: {**without(t, BIAS), "encoder.layernorm.bias": t[BIAS]},
        rf"1 missing \({BIAS}\); 1 unexpected \(encoder.layernorm.bias; did you mean '{BIAS}'\?\)$",
    ),
    "misshapen": (lambda t: {**t, BIAS: t[BIAS][:-1]}, rf"{BIAS} has shape \(63,\), not \(64,\)$"),
    "another dtype": (
        lambda t: {**t, BIAS: t[BIAS].astype(np.float32)},
        rf"{BIAS} is float32, not float16 \(mertd model import",
    ),
    "not finite": (lambda t: {**t, BIAS: np.full(64, np.inf, np.float16)}, rf"{BIAS} has values that are not finite$"),
    "much": (
        lambda t: {n: x.astype(np.float32) for n, x in t.items()},
        rf"is float32.*; and {len(TINY.tensors) - 6} more$",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(tensors: dict[str, Array], fault: str) -> None:
    damage, says = FAULTS[fault]
    with pytest.raises(WeightsError, match=r"^weights.x does not hold MERT-v1-95M: ") as refusal:
        fit(TINY, stored(damage(tensors)), "weights.x")
    refusal.match(says)


def test_everything_wrong_is_said_at_once(tensors: dict[str, Array]) -> None:
    tensors = {**without(tensors, CONV), "x": tensors[BIAS], BIAS: tensors[BIAS][:3]}
    with pytest.raises(WeightsError) as refusal:
        fit(TINY, stored(tensors), "weights.x")
    for part in (f"1 missing ({CONV})", "1 unexpected (x", f"{BIAS} has shape (3,)"):
        assert part in str(refusal.value)


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file at .*none\.safetensors; .*--weights random:0"):
        load(str(tmp_path / "none.safetensors"))
    with pytest.raises(WeightsError, match="no weights file"):
        load(str(tmp_path))
    with pytest.raises(WeightsError, match="no weights file at ~nobody-of-this-name/x"):
        load("~nobody-of-this-name/x")


@pytest.mark.parametrize("content", [b"", b"not safetensors", bytes(64), b"\xff" * 64])
def test_a_file_of_something_else_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a readable safetensors file"):
        load(str(path))


def test_half_a_file_is_unreadable(tmp_path: Path, tiny: Weights) -> None:
    path = tmp_path / "x.safetensors"
    save(tiny, path)
    path.write_bytes(path.read_bytes()[:-1_000])
    with pytest.raises(WeightsError, match="is not a readable safetensors file"):
        load(str(path))


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path, tiny: Weights) -> None:
    with pytest.raises(WeightsError, match="cannot write"):
        save(tiny, tmp_path / "absent" / "x.safetensors")
