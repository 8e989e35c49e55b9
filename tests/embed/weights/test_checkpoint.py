"""Whatever form a checkpoint comes in, the same weights come out, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from embed.weights.torch_file import NEW_NAMES, OLD_NAMES, as_checkpoint, write_state_dict
from example_counts import examples
from mertd.bench.pytorch import configuration
from mertd.embed.architecture import POSITIONAL, TINY
from mertd.embed.backends.numpy_ops import NumpyOps
from mertd.embed.network import hidden_states
from mertd.embed.weights import loading
from mertd.embed.weights.checkpoint import ORIGINAL, Fingerprint, fingerprint, import_checkpoint
from mertd.embed.weights.tensors import Weights
from mertd.errors import WeightsError
from signals import chord_progression

Array = NDArray[Any]
BIAS = "encoder.layer_norm.bias"
GAIN, DIRECTION = (f"{POSITIONAL}.{name}" for name in OLD_NAMES)


@pytest.fixture(scope="module")
def tiny() -> Weights:
    return loading.load("random:0?size=tiny")


@pytest.fixture
def state(tiny: Weights) -> dict[str, Array]:
    return as_checkpoint(tiny.tensors)


def write(path: Path, state: Mapping[str, Array]) -> Path:
    if path.suffix == ".bin":
        return write_state_dict(path, state)
    save_file({name: np.ascontiguousarray(values) for name, values in state.items()}, path)
    return path


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("names", [OLD_NAMES, NEW_NAMES])
@pytest.mark.parametrize("prefix", ["", "hubert.", "model.encoder."])
def test_every_form_gives_the_same_weights(
    tmp_path: Path, tiny: Weights, suffix: str, names: tuple[str, str], prefix: str
) -> None:
    source = write(tmp_path / f"x.{suffix}", as_checkpoint(tiny.tensors, names, prefix))
    got = import_checkpoint(source)
    assert got.digest == tiny.digest
    assert list(got.tensors) == list(TINY.tensors)
    assert got.architecture is TINY
    assert (got.trained, got.origin) == (True, f"x.{suffix}")


def test_the_content_tells_the_format_not_the_name(tmp_path: Path, tiny: Weights, state: dict[str, Array]) -> None:
    source = write(tmp_path / "x.bin", state).rename(tmp_path / "x.safetensors")
    assert import_checkpoint(source).digest == tiny.digest


def test_a_saved_import_loads_with_the_same_digest(tmp_path: Path, state: dict[str, Array]) -> None:
    got = import_checkpoint(write(tmp_path / "x.bin", state))
    loading.save(got, tmp_path / "mert.safetensors")
    loaded = loading.load(str(tmp_path / "mert.safetensors"))
    assert (loaded.digest, loaded.trained) == (got.digest, True)


def test_an_already_converted_file_goes_through_unchanged(tmp_path: Path, tiny: Weights) -> None:
    loading.save(tiny, tmp_path / "mert.safetensors")
    got = import_checkpoint(tmp_path / "mert.safetensors")
    assert (got.digest, got.trained) == (tiny.digest, False), "what says of itself that it is untrained stays so"


def test_weight_norm_is_per_kernel_tap(tmp_path: Path, state: dict[str, Array]) -> None:
    """Against the definition, one tap at a time, for gains and directions that have nothing to do with each other."""
    random = np.random.default_rng(1)
    v = random.normal(size=state[DIRECTION].shape).astype(np.float32)
    g = random.uniform(0.1, 4, state[GAIN].shape).astype(np.float32)
    source = write(tmp_path / "x.bin", {**state, GAIN: g, DIRECTION: v})
    got = import_checkpoint(source).tensors[f"{POSITIONAL}.weight"]  # (out, kernel, in)
    for tap in range(TINY.positional_kernel):
        expected = v[:, :, tap].astype(np.longdouble) * g[0, 0, tap] / np.linalg.norm(v[:, :, tap].astype(np.float64))
        np.testing.assert_allclose(got[:, tap], expected.astype(np.float64), rtol=2**-11 * 1.001, atol=2**-25)


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_half_and_double_precision(tmp_path: Path, tiny: Weights, state: dict[str, Array], suffix: str) -> None:
    double = {name: values.astype(np.float64) for name, values in state.items()}
    assert import_checkpoint(write(tmp_path / f"x.{suffix}", double)).digest == tiny.digest
    half = {name: values.astype(np.float16) for name, values in state.items() if name not in (GAIN, DIRECTION)}
    folded = np.ascontiguousarray(tiny.tensors[f"{POSITIONAL}.weight"].swapaxes(1, 2))
    assert import_checkpoint(write(tmp_path / f"y.{suffix}", {**half, f"{POSITIONAL}.weight": folded})).digest == tiny.digest


def test_names_what_is_missing_unexpected_and_misshapen(tmp_path: Path, state: dict[str, Array]) -> None:
    state["encoder.lasers.0.weight"] = np.zeros(3, np.float32)
    state["lm_head.steps"] = np.zeros(3, np.int64)
    del state[BIAS]
    state["feature_projection.layer_norm.bias"] = np.zeros((2, 2), np.float32)
    with pytest.raises(WeightsError) as caught:
        import_checkpoint(write(tmp_path / "x.bin", state))
    message = str(caught.value)
    assert "1 missing (encoder.layer_norm.bias)" in message
    assert "2 unexpected (encoder.lasers.0.weight, lm_head.steps" in message
    assert "feature_projection.layer_norm.bias has shape (2, 2), not (32,)" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({GAIN: np.ones(32, np.float32)}, r"gain \(32,\) and direction \(64, 16, 32\)"),
        ({GAIN: np.zeros((1, 1, 32), np.float32), DIRECTION: np.zeros((64, 16, 32), np.float32)}, "not finite"),
        (
            {BIAS: np.full(64, -7e4, np.float32)},
            f"64 values of {BIAS} are too large .* 7e",
        ),
        ({BIAS: np.full(64, 65520, np.float32)}, "too large"),
        (
            {BIAS: np.full(64, np.inf, np.float32)},
            f"{BIAS} has values that are not finite",
        ),
        ({BIAS: np.full(64, np.nan, np.float32)}, "not finite"),
        ({BIAS: np.zeros(64, np.int64)}, "int64 is not float16"),
        ({"model.encoder.layer_norm.bias": np.zeros(64, np.float32)}, "1 unexpected"),
        ({f"{POSITIONAL}.weight": np.zeros((64, 16, 32), np.float32)}, rf"2 unexpected \({GAIN}, {DIRECTION}"),
    ],
)
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_refuses_weights_it_cannot_carry(
    tmp_path: Path, state: dict[str, Array], suffix: str, change: dict[str, Array], reason: str
) -> None:
    with pytest.raises(WeightsError, match=reason):
        import_checkpoint(write(tmp_path / f"x.{suffix}", {**state, **change}))


def test_the_largest_float16_is_not_too_large(tmp_path: Path, state: dict[str, Array]) -> None:
    state[BIAS] = np.full(64, 65519.9, np.float32)
    got = import_checkpoint(write(tmp_path / "x.bin", state))
    assert (got.tensors[BIAS] == 65504).all()


def test_the_same_tensor_with_and_without_prefix_is_ambiguous(tmp_path: Path, tiny: Weights) -> None:
    state = as_checkpoint(tiny.tensors, prefix="hubert.")
    state[BIAS] = np.zeros(64, np.float32)
    with pytest.raises(WeightsError, match=r"there twice, with and without the prefix 'hubert\.'"):
        import_checkpoint(write(tmp_path / "x.bin", state))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "neither a PyTorch checkpoint nor a readable safetensors file"),
        (b"<html>404</html>", "neither"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "PyTorch before 1.6"),
        (b"PK\x03\x04", "not a readable PyTorch checkpoint"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes | None, reason: str) -> None:
    source = tmp_path / "pytorch_model.bin"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(WeightsError, match=reason):
        import_checkpoint(source)


def test_a_folder_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Is a directory"):
        import_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match="Is a directory"):
        fingerprint(tmp_path)


def test_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mert")
    assert fingerprint(tmp_path / "x") == Fingerprint(4, hashlib.sha256(b"mert").hexdigest()) != ORIGINAL


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_damaged_files_raise_only_weights_errors(tmp_path: Path, state: dict[str, Array], suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    content = write(tmp_path / f"healthy.{suffix}", state).read_bytes()

    @settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def damage(data: st.DataObject) -> None:
        damaged = bytearray(content)
        for _ in range(data.draw(st.integers(0, 3))):  # where the structure is: at either end
            at = data.draw(st.integers(0, 40_000)) % len(damaged)
            damaged[at if data.draw(st.booleans()) else -1 - at] = data.draw(st.integers(0, 255))
        path.write_bytes(damaged[: data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))])
        try:
            import_checkpoint(path)
        except WeightsError:
            return

    damage()


@pytest.fixture(scope="module")
def hubert() -> Any:
    """transformers' HubertModel in the tiny size, with torch's own random weights; its conv weights are parametrized."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.HubertModel(configuration(TINY)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # biases start as zeros, gains as ones
    return model


def save_with_torch(model: Any, path: Path, names: tuple[str, str]) -> Path:
    import torch
    from safetensors.torch import save_file as save_torch_file

    state = model.state_dict()
    for new, expected in zip(NEW_NAMES, names, strict=True):
        state[f"{POSITIONAL}.{expected}"] = state.pop(f"{POSITIONAL}.{new}")
    if path.suffix == ".bin":
        torch.save(state, path)
    else:
        save_torch_file(state, path)
    return path


@pytest.mark.reference
def test_imports_what_torch_saves(tmp_path: Path, hubert: Any) -> None:
    """Both formats and both names give the same bytes, and those are torch's own values rounded to float16."""
    forms = [(suffix, names) for suffix in ("bin", "safetensors") for names in (OLD_NAMES, NEW_NAMES)]
    got = [import_checkpoint(save_with_torch(hubert, tmp_path / f"x.{suffix}", names)) for suffix, names in forms]
    assert len({one.digest for one in got}) == 1
    with_parameters = tmp_path / "parameters.bin"
    torch = pytest.importorskip("torch")
    torch.save(dict(hubert.named_parameters()), with_parameters)
    assert import_checkpoint(with_parameters).digest == got[0].digest

    expected = {name: values.detach().numpy() for name, values in hubert.state_dict().items()}
    expected[f"{POSITIONAL}.weight"] = hubert.encoder.pos_conv_embed.conv.weight.detach().numpy()
    for name, half in got[0].tensors.items():
        values = expected[name].swapaxes(1, 2) if half.ndim == 3 else expected[name]
        if name == f"{POSITIONAL}.weight":  # torch multiplies in another order: one value in a thousand may round the other way
            np.testing.assert_allclose(half, values, rtol=2**-11 * 1.001, atol=2**-25)
        else:
            np.testing.assert_array_equal(half, values.astype(np.float16), strict=True)


@pytest.mark.reference
def test_imported_weights_hear_what_torch_hears(tmp_path: Path, hubert: Any) -> None:
    torch = pytest.importorskip("torch")
    got = import_checkpoint(save_with_torch(hubert, tmp_path / "x.bin", OLD_NAMES))
    samples = chord_progression(1)
    samples = ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)
    with torch.no_grad():
        states = hubert(torch.from_numpy(samples)[None], output_hidden_states=True).hidden_states
    expected = np.stack([one[0].mean(0).numpy() for one in states])
    ops = NumpyOps({name: half.astype(np.float32) for name, half in got.tensors.items()})
    ours = hidden_states(ops, got.architecture, samples[None], len(samples), range(got.architecture.states))[0]
    cosine = (ours * expected).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.9999


@pytest.mark.reference
def test_torchs_other_formats(tmp_path: Path, hubert: Any) -> None:
    torch = pytest.importorskip("torch")
    state = hubert.state_dict()
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"before 1\.6"):
        import_checkpoint(tmp_path / "legacy.bin")
    torch.save(hubert.feature_projection, tmp_path / "model.bin")  # a whole module, which names its own code
    with pytest.raises(WeightsError, match=r"'transformers\..*HubertFeatureProjection'.*refused"):
        import_checkpoint(tmp_path / "model.bin")
    for dtype, error in ((torch.float64, 2**-11), (torch.float16, 2**-10), (torch.bfloat16, 2**-7)):
        torch.save({name: values.to(dtype) for name, values in state.items()}, tmp_path / "x.bin", pickle_protocol=4)
        got = import_checkpoint(tmp_path / "x.bin").tensors["encoder.layers.1.feed_forward.output_dense.weight"]
        expected = state["encoder.layers.1.feed_forward.output_dense.weight"].numpy()
        np.testing.assert_allclose(got, expected, rtol=error, atol=2**-24)
