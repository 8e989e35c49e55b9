"""The OpenVINO backend: what is not shared with the other backends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mertd.embed.architecture import TINY
from mertd.embed.backends.choice import cpu_has_bfloat16
from mertd.embed.backends.openvino_backend import OpenVinoBackend
from mertd.embed.weights.loading import load
from mertd.errors import BackendError

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them
pytest.importorskip("openvino")
LAYERS = (0, 2)


def test_it_compiles_once_per_length() -> None:
    backend = OpenVinoBackend(load("random:0?size=tiny"), LAYERS, threads=1)
    backend.prepare(800)
    first = backend._compiled
    backend.embed(np.zeros((2, 800), np.float32))
    assert backend._compiled is first
    assert backend.embed(np.zeros((1, 900), np.float32)).shape == (1, 2, TINY.hidden)
    assert backend._compiled is not first


def test_precisions() -> None:
    weights = load("random:0?size=tiny")
    assert OpenVinoBackend(weights, LAYERS, "float32").precision == "float32"
    assert OpenVinoBackend(weights, LAYERS).precision == ("bfloat16" if cpu_has_bfloat16() else "float32")
    with pytest.raises(BackendError, match="bfloat16 or float32, not int8"):
        OpenVinoBackend(weights, LAYERS, "int8")


def test_nothing_is_sent_nor_written(tmp_path: Path) -> None:
    """Left alone, it says to Intel that it was imported, and keeps a file about that in the home directory."""
    program = (
        "import sys; from mertd.embed.backends.openvino_backend import import_openvino as load; load().Core();"
        "print([name for name, module in sys.modules.items() if module and 'telemetry' in name])"
    )
    variables = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    assert "openvino_telemetry" not in done.stdout
    assert not list(tmp_path.iterdir())
