"""The check of a backend against the reference: its signal, and the cosine that decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mertd.embed.audio import measure_levels
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.self_check import check, check_signal, cosines
from mertd.embed.weights.loading import load
from mertd.errors import BackendError

LAYERS = (0, 2)


def test_the_check_signal_is_one_loud_second() -> None:
    signal = check_signal()
    assert signal.shape == (24_000,)
    assert signal.dtype == np.float32
    assert measure_levels(signal).rms_dbfs == pytest.approx(0, abs=0.01)
    assert np.array_equal(signal, check_signal())


def test_cosines_along_the_last_axis() -> None:
    a = np.array([[[3, 4], [1, 0]], [[0, 2], [1, 1]]], np.float32)
    b = np.array([[[3, 4], [0, 1]], [[0, -2], [1, 0]]], np.float32)
    assert np.allclose(cosines(a, b), [[1, 0], [-1, 0.5**0.5]])


def test_the_layer_that_differs_most_decides() -> None:
    weights = load("random:0?size=tiny")
    reference = NumpyBackend(weights, LAYERS).embed(check_signal()[None])
    assert check(NumpyBackend(weights, LAYERS), reference) == pytest.approx(1)
    one_layer_off = reference.copy()
    one_layer_off[:, -1] = np.roll(one_layer_off[:, -1], 1, axis=-1)
    with pytest.raises(BackendError, match="disagrees"):
        check(NumpyBackend(weights, LAYERS), one_layer_off)


def test_flags_that_a_library_raises_for_nothing_are_no_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate's products raise "divide by zero" and "invalid value" although their results are right (numpy #28687)."""
    from mertd.embed.backends.numpy_ops import NumpyOps

    weights = load("random:0?size=tiny")
    expected = NumpyBackend(weights, LAYERS).embed(check_signal()[None])
    for name in ("linear", "matmul", "conv"):
        right = getattr(NumpyOps, name)

        def raising_flags(self: NumpyOps, *args: object, right: Callable[..., object] = right) -> object:
            np.float32(1) / np.zeros(1, np.float32)  # as a warning this would be an error here
            np.zeros(1, np.float32) / np.zeros(1, np.float32)
            np.square(np.full(1, 1e30, np.float32))
            return right(self, *args)

        monkeypatch.setattr(NumpyOps, name, raising_flags)
    assert np.array_equal(NumpyBackend(weights, LAYERS).embed(check_signal()[None]), expected)
