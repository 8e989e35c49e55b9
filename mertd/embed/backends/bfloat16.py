"""Numbers as sums of bfloat16 numbers, for products of more precision than one of them has.

bfloat16 is the upper half of float32: 8 bits of a number. The norm of the first convolution is folded into its weights, and
these may cancel out almost wholly, as on a signal that hardly changes; 8 bits then leave nothing of the result. Products of
bfloat16 numbers are summed in float32, so samples and weights in two parts each give that convolution 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mertd.embed.backends.backend import Array

Split = Callable[[Array], tuple[Array, Array]]
"""Float32 numbers -> two arrays whose sum they are, as nearly as can be said."""


def rounded(x: Array) -> Array:
    """Return the nearest bfloat16 numbers, ties to even, as float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return nearest.view(np.float32)


def split(x: Array) -> tuple[Array, Array]:
    """Return bfloat16 numbers and what they lack: their sum differs from x by at most 2**-16 of it, if that is normal."""
    high = rounded(x)
    return high, rounded(x - high)


def whole(x: Array) -> tuple[Array, Array]:
    """Return x and nothing: for products in float32."""
    return x, np.zeros_like(x)
