"""The OpenVINO backend: twice as fast as ONNX Runtime on an x86 processor that computes in bfloat16."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mertd.embed.architecture import conv_layer
from mertd.embed.backends.backend import Array, HostMemory
from mertd.embed.backends.bfloat16 import split, whole
from mertd.embed.threads import current
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError

PRECISIONS = {"bfloat16": "bf16", "float32": "f32"}
"""Precisions by mertd's names -> OpenVINO's."""


class OpenVinoBackend(HostMemory):
    """OpenVINO on the CPU."""

    name = "openvino"
    device = "cpu"
    max_batch = 1

    def __init__(self, weights: Weights, layers: Sequence[int], precision: str = "auto", threads: int = 0) -> None:
        """`precision`: bfloat16, float32, or auto: bfloat16 if the processor has it. `threads`: 0 for as many as this process
        may use. Raises `BackendError` if OpenVINO is not installed, or the processor has no such precision.
        """
        self._core = import_openvino().Core()
        has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = ("bfloat16" if has_bfloat16 else "float32") if precision == "auto" else precision
        if self.precision not in PRECISIONS:
            raise BackendError(f"openvino computes in {' or '.join(PRECISIONS)}, not {precision}")
        if self.precision == "bfloat16" and not has_bfloat16:
            raise BackendError("this processor does not compute in bfloat16")
        self._weights = weights
        self._layers = layers
        self._threads = threads
        first = conv_layer(0)
        self._first = {name: value.astype(np.float32) for name, value in weights.tensors.items() if name.startswith(first)}
        self._length = 0
        self._compiled: Any = None

    def prepare(self, length: int) -> None:
        if length == self._length:
            return
        from mertd.embed.backends.openvino_ops import build

        self._compiled = None
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.precision],
            "INFERENCE_NUM_THREADS": self._threads or current().count,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # other processes of the daemon need their cores too
        }
        model = build(self._weights.architecture, self._weights.tensors, length, self._layers)
        self._compiled = self._core.compile_model(model, "CPU", options)
        self._length = length

    def check_size(self, length: int) -> Mapping[str, str]:
        """Return nothing: there is one formulation."""
        del length
        return {}

    def embed(self, windows: Array) -> Array:
        from mertd.embed.backends.openvino_ops import first_inputs

        self.prepare(windows.shape[1])
        architecture, parts = self._weights.architecture, split if self.precision == "bfloat16" else whole
        try:
            inputs = (first_inputs(architecture, self._first, window, parts) for window in windows)
            return np.concatenate([self._compiled(window)[0] for window in inputs])
        finally:
            self._compiled.release_memory()  # a daemon waits far longer than it works: 0.2 GB, at no cost that can be measured


def import_openvino() -> Any:
    """Return the openvino module. Raises `BackendError` if it is not installed."""
    # What it sends to Intel, and the file that it writes into the home directory for that, are a module of its own, without
    # which it does (openvino/tools/ovc/telemetry_utils.py).
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"openvino is not installed here ({error}); `pip install 'mertd[openvino]'`") from error
    return openvino
