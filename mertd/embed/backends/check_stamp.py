"""The note that a backend has passed its self-check on this machine, so that a start need not run it again.

The note is that of one set of circumstances: weights, layers and window, mertd's code, the backend's libraries, processor,
device and driver, and the environment variables that these read. If any of them changes, there is no note, and the check runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mertd.embed.backends.backend import Backend
from mertd.embed.backends.self_check import least_cosine
from mertd.embed.private_cache import CacheUnusableError, keep, open_folder, read_kept
from mertd.embed.threads import current
from mertd.embed.weights.tensors import Weights

FOLDER = "self-checks"
"""Folder of the notes in the user's cache."""

LIBRARIES: Mapping[str, Sequence[str]] = {
    "mlx": ("mlx", "mlx-metal", "mlx-cpu", "mlx-cuda-13", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc"),
    "coreml": ("coremltools",),
    "openvino": ("openvino",),
    "onnx": ("onnxruntime", "onnx"),
    "numpy": ("numpy",),
}
"""Backend -> the packages that compute for it."""

VARIABLES = (
    "MLX_",
    "OPENVINO_",
    "OV_",
    "ORT_",
    "ONEDNN_",
    "DNNL_",
    "CUDA_",
    "CUBLAS",
    "CUDNN_",
    "NVIDIA_",
    "OPENBLAS_",
    "MKL_",
)
"""Beginnings of the environment variables that these packages read."""

NOT_ABOUT_RESULTS = ("MLX_PTX_CACHE_DIR", "NVIDIA_VISIBLE_DEVICES", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables among them that change nothing that is computed."""

DEVICE_FACTS = ("device_name", "architecture", "uuid", "total_memory", "memory_size")
"""What MLX says of a GPU that does not change while it is used."""

CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux says what a processor can do."""

MACHINE_ID = Path("/etc/machine-id")
"""Where Linux keeps a machine's identity."""

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
"""Where NVIDIA's driver says its version."""


@dataclass(frozen=True)
class Passed:
    """A check that was passed."""

    agreement: float  # lowest cosine with the reference, over all layers
    at: str  # date and time, UTC


class CheckStamp:
    """The note of one backend in the present circumstances."""

    def __init__(self, backend: Backend, weights: Weights, layers: Sequence[int], window: int) -> None:
        """Find out the circumstances; reads nothing of the note."""
        self._least = least_cosine(backend)
        self._facts = circumstances(backend, weights, layers, window)
        name = hashlib.sha256(json.dumps(self._facts, sort_keys=True).encode()).hexdigest()[:32]
        self._name = f"{backend.name}-{name}.json"

    def read(self) -> Passed | None:
        """Return what was noted; None if nothing was, or the note is damaged or not this user's own."""
        try:
            content = read_kept(open_folder(FOLDER) / self._name)
            found = json.loads(content) if content else {}
            agreement = float(found["agreement"])
            passed = Passed(agreement, datetime.fromisoformat(found["passed"]).strftime("%Y-%m-%d %H:%M UTC"))
            return passed if found["circumstances"] == self._facts and self._least < agreement <= 1 + 1e-6 else None
        except (CacheUnusableError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def write(self, agreement: float) -> None:
        """Note that the check was passed. Raises `CacheUnusableError`."""
        if not math.isfinite(agreement):
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        note = {"passed": now, "agreement": agreement, "circumstances": self._facts}
        keep(open_folder(FOLDER) / self._name, json.dumps(note, indent=1).encode())


def circumstances(backend: Backend, weights: Weights, layers: Sequence[int], window: int) -> dict[str, Any]:
    """Return everything that could change what a backend computes."""
    return {
        "weights": weights.digest,
        "layers": list(layers),
        "window": window,
        "backend": f"{backend.name}, {type(backend).__module__}.{type(backend).__qualname__} {getattr(backend, 'form', '')}",
        "precision": backend.precision,
        "device": backend.device,
        "mertd": _own_code(),
        "on": device_identity(backend.name, backend.device),
        "system": [platform.system(), platform.machine(), platform.mac_ver()[0], _text(MACHINE_ID)],
        "processor": _processor(),
        "threads": current().count,
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(VARIABLES) and name not in NOT_ABOUT_RESULTS
        },
    }


@cache
def _own_code() -> str:
    """Return a digest of the files that compute: a version number would not tell of a change in a checkout."""
    total = hashlib.sha256()
    folder = Path(__file__).parent.parent
    for path in sorted(folder.rglob("*.py")):
        total.update(str(path.relative_to(folder)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:32]


@cache
def _installed(name: str) -> str:
    """Return version and content of an installed package, by the digests of its files in RECORD; empty if it is absent."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return ""
    record = found.read_text("RECORD") or ""
    return f"{found.version} {hashlib.sha256(record.encode()).hexdigest()[:16]}"


def _processor() -> str:
    """Return model and abilities of the processor."""
    lines = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in _text(CPU_INFO).splitlines()}
    named = [lines.get(name, "") for name in ("model name", "flags", "Features", "CPU part")]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:16] if any(named) else platform.processor()


def device_identity(name: str, device: str) -> list[str]:
    """Return what is known of the libraries of backend `name`, of the GPU that it computes on, and of its driver."""
    facts = [f"{library} {identity}" for library in LIBRARIES.get(name, ()) if (identity := _installed(library))]
    if device != "gpu":
        return facts
    facts.append(_text(NVIDIA_DRIVER))
    mx = sys.modules.get("mlx.core")
    if name == "mlx" and mx is not None:
        info = mx.device_info()
        facts += [f"{name}={info[name]}" for name in DEVICE_FACTS if name in info]
    return facts


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
