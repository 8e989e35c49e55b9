"""A formulation that is wrong by size alone is found when it starts, said, and replaced by plain products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mertd.embed.architecture import TINY
from mertd.embed.backends import choice, mlx_backend
from mertd.embed.backends.choice import choose
from mertd.embed.backends.mlx_backend import MIN_FRAME_COSINE, SAFE_FORM, MlxBackend
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.self_check import check, check_signal, cosines, size_check_signal
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them

mx = pytest.importorskip("mlx.core")
Convolution = Callable[..., Any]
LAYERS = (1, 2)
LENGTH = 60_000
"""2.5 s: the first convolution that MLX computes has 5,999 outputs."""
LIMIT = 4_096
"""Outputs up to which the faults below are right; one second has 2,399 at most."""


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load("random:0?size=tiny")


def early_frames_collapse(y: Any) -> Any:
    """mlx-swift #424: before the last 2**15 outputs, all are the same."""
    wrong = y.shape[1] - LIMIT
    return mx.concatenate([mx.broadcast_to(y[:, wrong : wrong + 1], (y.shape[0], wrong, y.shape[2])), y[:, wrong:]], axis=1)


def with_part(y: Any, where: Any, value: float) -> Any:
    array = np.array(y)
    array[where] = value
    return mx.array(array)


FAULTS: dict[str, Callable[[Any], Any]] = {
    "early frames collapse": early_frames_collapse,
    "all zeros (mlx #3979)": mx.zeros_like,
    "zeros at the end (mlx #3248)": lambda y: with_part(y, np.s_[:, LIMIT:], 0),
    "not a number": lambda y: with_part(y, np.s_[:, 5_000, 3], np.nan),
    "a block of outputs": lambda y: with_part(y, np.s_[:, 5_000:5_032], 1),
    "shifted by a block": lambda y: mx.concatenate([y[:, :LIMIT], y[:, LIMIT - 32 : -32]], axis=1),
}


@pytest.fixture
def break_conv1d(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """Let `mx.conv1d` be wrong beyond `LIMIT` outputs, and be the formulation that is taken by itself."""
    right = mx.conv1d

    def put(fault: Callable[[Any], Any]) -> None:
        def conv1d(x: Any, weight: Any, stride: int = 1) -> Any:
            y = right(x, weight, stride=stride)
            return fault(y) if y.shape[1] > LIMIT else y

        monkeypatch.setattr(mx, "conv1d", conv1d)

    monkeypatch.setattr(mlx_backend, "fastest_form", lambda _: "conv1d")
    return put


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=[] if name == "early frames collapse" else pytest.mark.slow) for name in FAULTS]
)
def test_a_wrong_formulation_makes_way_for_products(break_conv1d: Callable[..., None], weights: Weights, fault: str) -> None:
    break_conv1d(FAULTS[fault])
    backend = MlxBackend(weights, LAYERS)
    check(backend, NumpyBackend(weights, LAYERS).embed(check_signal()[None]))  # at one second it is right: nothing is noticed
    assert backend.form == "conv1d"
    (reason,) = backend.check_size(LENGTH).values()
    assert "its convolutions of 1 windows of 60,000 samples are not those of plain products" in reason
    assert "products are used instead" in reason
    assert backend.form == SAFE_FORM
    assert backend.check_size(LENGTH) == {}
    window = size_check_signal(LENGTH)[:1]
    expected = MlxBackend(weights, LAYERS, convolutions=SAFE_FORM).embed(window)
    np.testing.assert_array_equal(backend.embed(window), expected)


@pytest.mark.slow
def test_what_is_right_is_kept(break_conv1d: Callable[..., None], weights: Weights) -> None:
    """Also in float16, where the two round differently."""
    break_conv1d(lambda y: y)
    for precision in ("float32", "float16"):
        backend = MlxBackend(weights, LAYERS, precision)
        assert backend.check_size(LENGTH) == {}
        assert backend.form == "conv1d"


@pytest.mark.slow
def test_the_threshold_leaves_room_for_float16_and_none_for_a_fault(weights: Weights) -> None:
    outliers = load("random:1?size=tiny&outliers=1")
    for loaded in (weights, outliers):
        backend = MlxBackend(loaded, LAYERS, "float16", "conv1d")
        windows = size_check_signal(48_000)
        lowest = cosines(backend._features("conv1d", windows), backend._features(SAFE_FORM, windows)).min()
        assert lowest > 1 - (1 - MIN_FRAME_COSINE) / 10


@pytest.mark.slow
def test_the_largest_batch_is_checked_too(break_conv1d: Callable[..., None], weights: Weights) -> None:
    """Sizes multiply: what is right for one window may be wrong for the last window of a batch (mlx #3248)."""
    break_conv1d(lambda y: with_part(y, np.s_[3:], 0) if y.shape[0] > 3 else y)
    backend = MlxBackend(weights, LAYERS)
    backend.max_batch = 4
    (reason,) = backend.check_size(LENGTH).values()
    assert "4 windows of 60,000 samples" in reason


@pytest.mark.slow
def test_rows_of_a_batch_that_change_places_are_found(break_conv1d: Callable[..., None], weights: Weights) -> None:
    break_conv1d(lambda y: y[::-1] if y.shape[0] > 1 else y)
    backend = MlxBackend(weights, LAYERS)
    backend.max_batch = 2
    assert list(backend.check_size(LENGTH)) == ["mlx conv1d"]


@pytest.mark.slow
def test_the_embedder_goes_on_with_products_and_says_so(break_conv1d: Callable[..., None]) -> None:
    break_conv1d(FAULTS["early frames collapse"])
    embedder = Embedder(ModelSettings("random:0?size=tiny", LAYERS, "mlx", LENGTH))
    assert embedder.info.model.backend == "mlx"
    assert list(embedder.info.rejected) == ["mlx conv1d"]
    window = size_check_signal(LENGTH)[0]
    (states,) = embedder.embed([window])
    assert states is not None
    assert cosines(states, NumpyBackend(embedder.weights, LAYERS).embed(window[None])[0]).min() > 0.9999


class Sized(NumpyBackend):
    """The reference, with formulations that are wrong at a size, or that cannot be prepared."""

    def __init__(self, weights: Weights, layers: Sequence[int], failure: Exception | None = None) -> None:
        super().__init__(weights, layers)
        self.failure = failure
        self.form = "fast"

    def check_size(self, length: int) -> dict[str, str]:
        if self.failure is not None:
            raise self.failure
        found = {"sized fast": f"wrong at {length}"} if self.form == "fast" else {}
        self.form = "safe"
        return found

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        states = super().embed(windows)
        return -states if self.form == "safe" and getattr(self, "safe_is_wrong", False) else states


def test_what_is_used_instead_is_checked_against_the_reference(monkeypatch: pytest.MonkeyPatch, weights: Weights) -> None:
    """Products that disagree with the reference are no way out: the next backend is."""
    monkeypatch.setattr(choice, "candidates", lambda *_: ["sized", "numpy"])
    monkeypatch.setitem(choice.FACTORIES, "sized", lambda weights, layers, _: Sized(weights, layers))
    chosen = choose("auto", weights, LAYERS, window=LENGTH)
    assert type(chosen.backend) is Sized
    assert chosen.rejected == {"sized fast": f"wrong at {LENGTH}"}
    monkeypatch.setattr(Sized, "safe_is_wrong", True, raising=False)
    chosen = choose("auto", weights, LAYERS, window=LENGTH)
    assert type(chosen.backend) is NumpyBackend
    assert list(chosen.rejected) == ["sized fast", "sized"]
    assert "disagrees with the reference" in chosen.rejected["sized"]


@pytest.mark.parametrize("failure", [RuntimeError("[metal::malloc] too large\nat 0"), BackendError("no")])
def test_a_backend_that_cannot_be_prepared_makes_way(
    monkeypatch: pytest.MonkeyPatch, weights: Weights, failure: Exception
) -> None:
    monkeypatch.setattr(choice, "candidates", lambda *_: ["sized", "numpy"])
    monkeypatch.setitem(choice.FACTORIES, "sized", lambda weights, layers, _: Sized(weights, layers, failure))
    chosen = choose("auto", weights, LAYERS, window=LENGTH)
    assert type(chosen.backend) is NumpyBackend
    assert chosen.rejected["sized"].endswith("too large" if isinstance(failure, RuntimeError) else "no")


def test_no_part_of_the_signal_stands_for_another() -> None:
    """A fault that copies frames would not be seen in a sound that repeats."""
    signal = size_check_signal(48_000)
    assert signal.shape == (2, 48_000)
    assert np.allclose(signal.std(axis=1), 1, atol=1e-3)
    spectrum = np.fft.rfft(signal, 96_000)
    correlation = np.fft.irfft(spectrum * spectrum.conj())[:, 320:-320] / 48_000
    assert np.abs(correlation).max() < 0.05


@pytest.mark.slow
def test_at_the_real_length_with_real_shapes_of_the_front(break_conv1d: Callable[..., None], weights: Weights) -> None:
    """30 s, the tiny network: 71,999 outputs, beyond the 32,768 of mlx-swift #424."""
    assert TINY.lengths(720_000)[1] == 71_999
    break_conv1d(FAULTS["early frames collapse"])
    backend = MlxBackend(weights, LAYERS)
    assert list(backend.check_size(720_000)) == ["mlx conv1d"]
