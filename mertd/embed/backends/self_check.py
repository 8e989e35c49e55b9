"""The check that a backend computes what the numpy reference does, on one second of sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import normalise
from mertd.embed.backends.backend import Array, Backend
from mertd.errors import BackendError, UsageError

MIN_COSINE = 0.999
"""Cosine with the reference that every layer of a backend must exceed."""

MIN_COSINE_BFLOAT16 = 0.9995
"""The same in bfloat16, which has 8 bits: real errors would hide in looser bounds than its rounding needs."""


def check(backend: Backend, reference: Array) -> float:
    """Return the lowest cosine over the layers between `backend` and `reference`.

    `reference`: the states of `check_signal` by the reference, (1, layers, hidden). Raises `BackendError` when the
    result is not above `MIN_COSINE`, or when the backend fails.
    """
    return agreement(run_check(backend), reference, least_cosine(backend))


def run_check(backend: Backend) -> Array:
    """Return the states of `check_signal`. Raises `BackendError` for whatever the backend's library raises."""
    with foreign_errors("failed its self-check"):
        return backend.embed(check_signal()[None])


@contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Turn whatever a backend's library raises in the block into `BackendError`, which begins with `what`."""
    try:
        yield
    except (BackendError, UsageError, MemoryError):
        raise
    except Exception as error:  # ONNX Runtime, MLX and coremltools each have their own classes, derived from Exception alone
        raise BackendError(f"{what}: {next(iter(str(error).splitlines()), type(error).__name__)}") from error


def least_cosine(backend: Backend) -> float:
    """Return the cosine that every layer of a backend must exceed."""
    return MIN_COSINE_BFLOAT16 if backend.precision == "bfloat16" else MIN_COSINE


def agreement(states: Array, reference: Array, least: float = MIN_COSINE) -> float:
    """Return the lowest cosine over the layers. Raises `BackendError` if it is not above `least`."""
    if states.shape != reference.shape:
        raise BackendError(f"gives states of shape {states.shape}, the reference {reference.shape}")
    with np.errstate(invalid="ignore"):  # a vector of zeros or infinities has no cosine, and fails
        lowest = float(cosines(states, reference).min())
    if not lowest > least:
        raise BackendError(
            f"disagrees with the reference: cosine {lowest:.6f} on one second of sound; it must be above {least}"
        )
    return lowest


def cosines(a: Array, b: Array) -> NDArray[np.float64]:
    """Return the cosine similarity along the last axis."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=-1) * np.linalg.norm(b64, axis=-1)
    return np.asarray((a64 * b64).sum(axis=-1) / norms)


def size_check_signal(length: int) -> Array:
    """Return two windows of noise, normalised, (2, length): no part of one repeats, so that no frame can stand for another."""
    noise = np.random.Generator(np.random.PCG64(1)).standard_normal((2, length), np.float32)
    return np.stack([normalise(window) for window in noise])


def check_signal() -> Array:
    """Return one second of a rising tone with harmonics and a little noise, normalised, (24000,)."""
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    phase = 2 * np.pi * (110 * t + 600 * t * t)
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal(SAMPLE_RATE)
    return normalise((np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase) + 0.02 * noise).astype(np.float32))
