"""The ONNX Runtime backend: what is not shared with the other backends."""

from __future__ import annotations

import numpy as np
import pytest

from mertd.embed.architecture import TINY
from mertd.embed.backends.onnx_backend import OnnxBackend
from mertd.embed.weights.loading import load

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them
LAYERS = (0, 2)


def test_onnx_builds_its_graph_once_per_length() -> None:
    backend = OnnxBackend(load("random:0?size=tiny"), LAYERS, threads=1)
    backend.prepare(800)
    first = backend._session
    backend.embed(np.zeros((2, 800), np.float32))
    assert backend._session is first
    assert backend.embed(np.zeros((1, 900), np.float32)).shape == (1, 2, TINY.hidden)
    assert backend._session is not first
