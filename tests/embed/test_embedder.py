"""What the embed process and the offline command share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mertd.embed.audio import normalise
from mertd.embed.embedder import RECHECK_S, Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.errors import BackendError
from signals import chord_progression


def test_states_that_are_no_numbers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that fails, or float16 that overflows: never published, and a reason to start anew."""
    embedder = Embedder(ModelSettings("random:0?size=tiny", (1,), "numpy", 24_000))
    window = chord_progression(1.0)
    assert np.isfinite(embedder.embed([window])).all()
    whole = embedder.backend.embed

    def broken(windows: np.ndarray) -> np.ndarray:
        states = whole(windows)
        states[-1, 0, 5] = np.nan
        return states

    monkeypatch.setattr(embedder.backend, "embed", broken)
    with pytest.raises(BackendError, match="numpy gave hidden states that are not finite"):
        embedder.embed([window, window])


def embedder() -> Embedder:
    return Embedder(ModelSettings("random:0?size=tiny", (1,), "numpy", 24_000))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_window_that_is_not_finite_has_no_states_and_costs_the_others_nothing(value: float) -> None:
    model, good = embedder(), chord_progression(1.0)
    bad = good.copy()
    bad[7] = value
    first, none, last = model.embed([good, bad, good])
    assert none is None
    alone = model.embed([good])[0]
    assert first is not None
    assert last is not None
    assert alone is not None
    np.testing.assert_allclose(first, alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(first, last)
    assert model.embed([bad, bad]) == [None, None]


@pytest.mark.parametrize("scale", [3e38, 1e30, 1e-30, 1e-40])
def test_any_finite_loudness_can_be_embedded(scale: float) -> None:
    music = np.clip(chord_progression(1.0), -1, 1).astype(np.float64)
    (states,) = embedder().embed([(scale * music).astype(np.float32)])
    assert states is not None
    assert np.isfinite(states).all()


def test_a_backend_that_fails_for_one_window_alone_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is judged by a signal that is known to be good, and that not for every window: a check costs as much as a batch."""
    model, good = embedder(), chord_progression(1.0)
    odd = good[::-1].copy()
    whole, calls = model.backend.embed, []

    def fails_for_odd(windows: np.ndarray) -> np.ndarray:
        calls.append(len(windows))
        states = whole(windows)
        states[[np.array_equal(window, normalise(odd)) for window in windows]] = np.inf
        return states

    monkeypatch.setattr(model.backend, "embed", fails_for_odd)
    for _ in range(3):
        first, none = model.embed([good, odd])
        assert first is not None
        assert none is None
    assert calls == [2, 2, 2, 2], "three batches and one check, of the same size"


def test_a_backend_that_breaks_after_a_passed_check_is_found_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    model, good, now = embedder(), chord_progression(1.0), [1000.0]
    monkeypatch.setattr("mertd.embed.embedder.time.monotonic", lambda: now[0])
    whole, broken = model.backend.embed, [False]

    def flaky(windows: np.ndarray) -> np.ndarray:
        states = whole(windows)
        is_check = not np.array_equal(windows[0], normalise(good))
        return np.full_like(states, np.nan) if broken[0] or not is_check else states

    monkeypatch.setattr(model.backend, "embed", flaky)
    assert model.embed([good]) == [None], "the check passes"
    broken[0] = True
    assert model.embed([good]) == [None], "too early for another check"
    now[0] += RECHECK_S
    with pytest.raises(BackendError, match="not finite"):
        model.embed([good])


def test_the_description_is_that_of_the_loaded_model() -> None:
    model = embedder()
    info = model.info
    assert (info.model.name, info.model.weights, info.model.trained) == ("MERT-tiny", model.weights.digest, False)
    assert (info.model.layers, info.model.backend, info.model.precision, info.device) == ((1,), "numpy", "float32", "cpu")
    assert info.hidden == model.weights.architecture.hidden
    assert info.agreement == model.chosen.agreement
    facts = info.as_dict()
    assert facts["space"] == info.model.space
    assert facts["rejected"] == {}


def test_only_a_gpu_computes_beside_the_thread_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, window = embedder(), normalise(chord_progression(1.0))
    begun: list[int] = []

    def begin(windows: Sequence[np.ndarray]) -> Callable[[], np.ndarray]:
        begun.append(len(windows))
        return lambda: model.backend.embed(np.stack(windows))

    monkeypatch.setattr(model.backend, "begin", begin, raising=False)
    (alone,) = model.begin_prepared([window])()
    assert not begun
    monkeypatch.setattr(model.backend, "max_batch", 8, raising=False)
    first, none, last = model.begin_prepared([window, None, window])()
    assert begun == [2]
    assert none is None
    for states in (first, last):
        np.testing.assert_allclose(states, alone, rtol=1e-5, atol=1e-5)
