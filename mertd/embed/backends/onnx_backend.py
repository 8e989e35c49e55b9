"""The ONNX Runtime backend: the fast path on a CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mertd.embed.backends.backend import Array, HostMemory
from mertd.embed.threads import current
from mertd.embed.weights.tensors import Weights
from mertd.errors import BackendError


class OnnxBackend(HostMemory):
    """ONNX Runtime on the CPU."""

    name = "onnx"
    precision = "float32"
    device = "cpu"
    max_batch = 1

    def __init__(self, weights: Weights, layers: Sequence[int], threads: int = 0) -> None:
        """`threads`: for the kernels; 0 for as many as this process may use. Raises `BackendError` if it is not installed."""
        self._runtime = import_onnx()
        self._weights = weights
        self._layers = layers
        self._threads = threads
        self._length = 0
        self._session: Any = None

    def prepare(self, length: int) -> None:
        if length == self._length:
            return
        from mertd.embed.backends.onnx_ops import build

        self._session = None
        model, parameters = build(self._weights.architecture, self._weights.tensors, length, self._layers)
        options = self._runtime.SessionOptions()
        # Left to itself, it would start a thread for each core of the machine and bind it there, also where it may not run.
        options.intra_op_num_threads = self._threads or current().count
        # A daemon waits far longer than it works: threads that spin while they wait would burn a core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Without the arena the feature maps' memory goes back to the system between windows: 0.8 GB stay instead of 2.1, and it
        # costs 5 % of the speed.
        options.enable_cpu_mem_arena = False
        # Parameters are passed in memory: inside the model they would be copied twice.
        values = [self._runtime.OrtValue.ortvalue_from_numpy(value) for value in parameters.values()]
        options.add_external_initializers(list(parameters), values)
        self._session = self._runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._length = length

    def check_size(self, length: int) -> Mapping[str, str]:
        """Return nothing: there is one formulation."""
        del length
        return {}

    def embed(self, windows: Array) -> Array:
        self.prepare(windows.shape[1])
        return np.concatenate([self._session.run(None, {"input_values": window[None]})[0] for window in windows])


def import_onnx() -> Any:
    """Return the onnxruntime module. Raises `BackendError` if it, or onnx, is not installed."""
    # Its official builds send usage data to Microsoft unless this is set before they are loaded (onnxruntime #27379).
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"onnx is not installed here ({error})") from error
    return onnxruntime
