"""The GPU kernels, run on the CPU within the whole network, against the reference."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mertd.embed.architecture import MERT_95M, TINY
from mertd.embed.audio import normalise
from mertd.embed.backends import mlx_kernels
from mertd.embed.backends.numpy_backend import NumpyBackend
from mertd.embed.backends.self_check import cosines
from mertd.embed.network import hidden_states
from mertd.embed.weights.loading import load
from mertd.embed.weights.tensors import Weights
from signals import chord_progression

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them

mx = pytest.importorskip("mlx.core")
STATES = tuple(range(TINY.states))
KERNELS = ("MOMENTS", "TAPS", "FIRST", "NEXT")


@pytest.fixture(scope="module", params=["random:0?size=tiny", "random:1?size=tiny&outliers=1"])
def weights(request: pytest.FixtureRequest) -> Weights:
    if shutil.which("g++") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs g++")
    return load(request.param)


def fused(weights: Weights, samples: np.ndarray) -> np.ndarray:
    from embed.backends.kernel_emulator import EmulatedOps

    ops = EmulatedOps(weights.tensors)
    return np.array(hidden_states(ops, TINY, mx.array(samples), samples.shape[1], STATES))


@pytest.mark.slow
# One frame; one row more and less of each convolution; tiles of the first one that end in the middle.
@pytest.mark.parametrize("length", [MERT_95M.shortest, 719, 720, 1_041, 4_001, 24_000])
def test_the_fused_network_is_the_references(weights: Weights, length: int) -> None:
    samples = np.stack([normalise(chord_progression(1.1, seed=seed)[:length]) for seed in (0, 1, 2)])
    reference = NumpyBackend(weights, STATES).embed(samples)
    states = fused(weights, samples)
    assert states.shape == reference.shape
    assert cosines(states, reference).min() > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(9_600),
        np.full(9_600, 0.7),
        np.eye(1, 9_600, 4_800)[0],
        np.clip(chord_progression(0.4) * 50, -1, 1),
        np.sin(np.arange(9_600) * (2 * np.pi * 7 / 24_000)) + 3e-3 * chord_progression(0.4),
    ],
    ids=["silence", "direct current", "impulse", "clipped", "rumble"],
)
def test_awkward_windows(weights: Weights, sound: np.ndarray) -> None:
    samples = normalise(sound.astype(np.float32))[None]
    states, reference = fused(weights, samples), NumpyBackend(weights, STATES).embed(samples)
    assert np.isfinite(states).all()
    assert cosines(states, reference).min() > 0.999


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dialect", [mlx_kernels.CUDA, mlx_kernels.METAL], ids=["cuda", "metal"])
def test_every_dialect_supplies_what_the_common_text_uses(kernel: str, dialect: mlx_kernels.Dialect) -> None:
    """No compiler for either is at hand here: at least nothing that the CPU's dialect defines may be missing."""
    from embed.backends.kernel_emulator import CPU

    def defined(prelude: str) -> set[str]:
        return set(re.findall(r"#define (\w+)|typedef .* (\w+);|struct .*(Half4)", prelude))

    assert defined(CPU.prelude) == defined(dialect.prelude)
    text = dialect.body(getattr(mlx_kernels, kernel), {"LENGTH": 10, "EPSILON": 1e-5})
    assert "THREAD" not in text
    assert "const int LENGTH = 10;" in text
    assert dialect.thread in text


METAL_RESERVED = set(
    re.findall(
        r"\w+",
        """
        kernel vertex fragment visible intersection mesh object_data object payload device constant threadgroup
        threadgroup_imageblock thread ray_data stage_in half bfloat uchar ushort uint ulong size_t ptrdiff_t
        packed_float2 sampler texture1d texture2d texture3d texturecube depth2d array matrix vec access buffer
        atomic_int atomic_uint atomic_bool metal imageblock patch_control alignas alignof and and_eq asm auto bitand
        bitor bool case catch char char16_t char32_t class compl constexpr const_cast decltype default delete do
        double dynamic_cast else enum explicit export extern friend goto inline long mutable namespace new noexcept
        not not_eq nullptr operator or or_eq private protected public register reinterpret_cast return short signed
        sizeof static static_assert static_cast struct switch template this thread_local throw try typedef typeid
        typename union using virtual volatile wchar_t while xor xor_eq
        """,
    )
)
"""Words that cannot name a variable or a parameter in Metal: its specification's qualifiers and types, and those of C++14."""

DECLARED = re.compile(r"(?:unsigned|int|float|HALF|Half4|ulong_t|void)\*?\s+(\w+)|,\s*(\w+)(?:\[\w*\])?\s*(?==|;)|\*\s*(\w+)")


@pytest.mark.parametrize("kernel", [*KERNELS, "_COMMON"])
def test_no_variable_has_a_name_that_metal_reserves(kernel: str) -> None:
    """A parameter called `kernel` compiles as C++ and as CUDA, and not as Metal, where nobody would see it before a user."""
    text = re.sub(r"//.*", "", getattr(mlx_kernels, kernel))
    names = {name for found in DECLARED.findall(text) for name in found if name}
    assert names, "the pattern finds declarations"
    assert not names & METAL_RESERVED
    assert not set(re.findall(r"\w+", text)) & {"kernel", "vertex", "fragment", "threadgroup", "constant", "visible", "thread"}


def test_the_names_of_arrays_are_not_reserved_either() -> None:
    """They become parameters of the function that MLX generates around a kernel."""
    from mertd.embed.backends import mlx_fused_ops

    source = Path(mlx_fused_ops.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'"(\w+)": (?:\(|sound\.|samples|partial|weight|gamma|beta|x)', source))
    assert {"samples", "moments", "weight", "map", "rows"} <= names
    assert not names & METAL_RESERVED
