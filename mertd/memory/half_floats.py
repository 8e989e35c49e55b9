"""Vectors as float16 with one exponent for each message, so that no float32 value is out of range.

A float16 alone ends at 65,504, and below 0.00006 it loses precision. So the values are divided by a power of two that puts the
largest of them between 2**14 and 2**15, which is exact. What rounding then costs: at most 2**-11 (0.05 %) of a value that is
larger than 2**-28 of the vector's largest, and at most 2**-39 of the largest for a smaller one.

Rules of this file: pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOP_BIT = 15
"""The largest value of a vector is stored as a number below 2**TOP_BIT."""

MAX_EXPONENT = 128 - TOP_BIT
"""The exponent of a vector with the largest values that float32 has."""

MAX_STORED = 32_752.0
"""The largest float16 below 2**TOP_BIT, where rounding up would leave float32's range."""


def pack(vector: NDArray[np.float32]) -> tuple[int, bytes]:
    """Return the exponent and the little-endian float16 values of a finite vector of any shape."""
    return pack_rows(vector.reshape(1, -1))[0]


def pack_rows(vectors: NDArray[np.float32]) -> list[tuple[int, bytes]]:
    """Do the same for finite vectors of one length, (n, values)."""
    peaks = np.abs(vectors).max(axis=1, initial=0.0)
    exponents = np.where(peaks > 0, np.frexp(peaks)[1] - TOP_BIT, 0).astype(np.int32)
    scaled = np.ldexp(vectors, -exponents[:, None])
    if (exponents == MAX_EXPONENT).any():
        np.clip(scaled, -MAX_STORED, MAX_STORED, out=scaled, where=exponents[:, None] == MAX_EXPONENT)
    data = scaled.astype("<f2").tobytes()
    size = 2 * vectors.shape[1]
    return [(exponent, data[at * size : (at + 1) * size]) for at, exponent in enumerate(exponents.tolist())]


def unpack(exponent: int, data: bytes) -> NDArray[np.float32]:
    """Return the values that `pack` was given, as far as float16 has them, in one dimension."""
    return np.ldexp(np.frombuffer(data, "<f2").astype(np.float32), exponent)


def unpack_rows(exponents: NDArray[np.int32], rows: list[bytes]) -> NDArray[np.float32]:
    """Do the same for messages of equal length. Returns (messages, values)."""
    values = np.frombuffer(b"".join(rows), "<f2").reshape(len(rows), -1).astype(np.float32)
    return np.ldexp(values, exponents[:, None], out=values)
