"""Feature maps that are computed part by part: a CPU then holds one part of the largest maps at a time, and not all of them."""

from __future__ import annotations

from itertools import pairwise

from mertd.embed.architecture import Architecture

PART_FRAMES = 250
"""Frames of the last feature map that are computed at a time: 33 MB of the first map instead of 295."""


def spans(architecture: Architecture, length: int) -> list[tuple[int, int]]:
    """Return the frames [start, end) of convolution 0 that each part of the feature maps is computed from.

    The parts of the last map are about `PART_FRAMES` frames each; what they need of the maps before overlaps a little.
    """
    lengths = architecture.lengths(length)
    parts = max(1, round(lengths[-1] / PART_FRAMES))
    edges = [round(part * lengths[-1] / parts) for part in range(parts + 1)]
    spans = []
    for start, end in pairwise(edges):
        for kernel, stride in zip(reversed(architecture.kernels[1:]), reversed(architecture.strides[1:]), strict=True):
            start, end = start * stride, (end - 1) * stride + kernel
        spans.append((start, end))
    return spans
