"""Kernels for an NVIDIA GPU: NVIDIA's own compiler takes each of them, for every architecture, and is asked once."""

from __future__ import annotations

import ctypes
from importlib import metadata
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mertd.embed.architecture import MERT_95M
from mertd.embed.backends import cuda_kernels, mlx_kernels
from mertd.embed.backends.cuda_kernels import Compiler, CudaKernels, find_compiler, usable_kernels
from mertd.embed.backends.kernel_store import KernelStore
from mertd.embed.backends.mlx_fused_ops import FusedMlxOps
from mertd.embed.network import features
from mertd.embed.weights.loading import load
from mertd.errors import BackendError

pytestmark = pytest.mark.linux


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def nvrtc() -> Any:
    found = [path for path in metadata.files("nvidia-cuda-nvrtc") or () if path.name == "libnvrtc.so.13"]
    return ctypes.CDLL(str(found[0].locate()))


class Called:
    """MLX without a GPU: notes how a kernel would be started, and returns arrays of the right shapes."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.fast = self

    def precompiled_cuda_kernel(self, **how: Any) -> list[mx.array]:
        self.calls.append(how)
        return [mx.zeros(shape, dtype) for shape, dtype in zip(how["output_shapes"], how["output_dtypes"], strict=True)]


def kernels_of_a_window(kernels: CudaKernels, called: Called, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How every kernel of the network is started for a short window at full width."""
    weights = load("random:0?size=tiny")
    run = kernels.run
    monkeypatch.setattr(kernels, "run", lambda _mx, *args: run(called, *args))
    ops = FusedMlxOps(weights.tensors, mlx_kernels.CUDA, kernels)
    features(ops, weights.architecture, mx.zeros((2, 4_000)), 4_000)
    return called.calls


@pytest.mark.slow
def test_each_kernel_is_compiled_once_and_kept(nvrtc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    class Noted(Compiler):
        def compile(self, text: str) -> bytes:
            compiled.append(text)
            return super().compile(text)

    store = KernelStore("x")
    calls = kernels_of_a_window(CudaKernels(Noted(nvrtc, "sm_90"), store), Called(), monkeypatch)
    assert len(calls) == len(compiled) == len({call["name"] for call in calls}) == 8
    for call in calls:
        assert call["compiled_source"].startswith(b"\x7fELF")
        assert call["name"].encode() in call["compiled_source"]
        assert call["scalars"] == [2]
        assert call["grid"][0] % call["threadgroup"][0] == 0
    store.save()
    again = kernels_of_a_window(CudaKernels(Noted(nvrtc, "sm_90"), KernelStore("x")), Called(), monkeypatch)
    assert len(compiled) == 8
    assert [call["compiled_source"] for call in again] == [call["compiled_source"] for call in calls]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_120"])
def test_other_gpus_get_their_own(nvrtc: Any, architecture: str) -> None:
    kernels = CudaKernels(Compiler(nvrtc, architecture), KernelStore("x"))
    name, code = kernels.machine_code("copy", 'extern "C" __global__ void MERTD_SYMBOL(float* x) { x[0] = x[1]; }')
    assert code.startswith(b"\x7fELF")
    assert kernels.machine_code("copy", 'extern "C" __global__ void MERTD_SYMBOL(float* x) { x[0] = x[2]; }')[0] != name


def test_a_kernel_that_does_not_compile_is_named(nvrtc: Any) -> None:
    with pytest.raises(BackendError, match=r"NVRTC cannot compile for sm_90: .*error"):
        Compiler(nvrtc, "sm_90").compile("no C")
    with pytest.raises(BackendError, match="NVRTC cannot compile for sm_1"):
        Compiler(nvrtc, "sm_1").compile("")


def test_without_a_gpu_there_is_no_compiler(nvrtc: Any) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is one")
    assert find_compiler() is None
    assert usable_kernels(mx, None, KernelStore("x")) is None
    assert usable_kernels(mx, Compiler(nvrtc, "sm_90"), KernelStore("x")) is None, "MLX is tried before it is relied on"


def test_the_architecture_of_the_whole_network_is_what_is_compiled() -> None:
    """`HALF` stands for CUDA's header: the kernels must ask no more of it."""
    assert "cuda_fp16" not in mlx_kernels.CUDA.header() + cuda_kernels.HALF
    assert MERT_95M.channels % 4 == 0
