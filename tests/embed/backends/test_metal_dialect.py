"""The GPU kernels compile in the dialect of Metal, in the function that MLX writes around them, at every size that is used."""

from __future__ import annotations

import dataclasses
import re

import pytest

from mertd.embed.architecture import MERT_95M, TINY
from mertd.embed.backends import mlx_kernels

pytestmark = pytest.mark.xdist_group("native")  # one worker imports the native libraries, not all of them

pytest.importorskip("mlx.core")

from embed.backends.metal_dialect import MAX_CONSTANT_SIZE, RESERVED, Call, calls, declared, faults, wrapped  # noqa: E402

LENGTH = 720_000


@pytest.fixture(scope="module")
def full() -> list[Call]:
    return calls(MERT_95M, LENGTH, 8)


def test_every_kernel_compiles_at_the_sizes_of_a_daemon(full: list[Call]) -> None:
    assert [call.name for call in full] == ["moments", "taps", "first", "next", "next", "next", "next", "next"]
    assert {call.source for call in full} == {getattr(mlx_kernels, name) for name in ("MOMENTS", "TAPS", "FIRST", "NEXT")}
    small = calls(TINY, MERT_95M.shortest, 1)
    for call in [*full[:4], *small[:4]]:
        assert faults(wrapped(call)) == []


def test_the_function_is_the_one_that_mlx_writes(full: list[Call]) -> None:
    """mlx/backend/common/metal_kernel.cpp, `write_signature`: address spaces, shapes that the body uses, then outputs."""
    text = wrapped(full[1])
    signature = re.search(r"\[\[kernel\]\] void (\w+)\(\n(.*?)\) \{", text, re.DOTALL)
    assert signature is not None
    assert [line.strip() for line in signature[2].split(",\n")] == [
        "const device float* moments [[buffer(0)]]",
        "const constant int* moments_shape [[buffer(1)]]",
        "const device float* weight [[buffer(2)]]",
        "const device float* gamma [[buffer(3)]]",
        "const device float* beta [[buffer(4)]]",
        "device float* taps [[buffer(5)]]",
        "device float* bias [[buffer(6)]]",
        "uint3 thread_position_in_grid [[thread_position_in_grid]]",
    ]
    assert {"moments", "moments_shape", "taps", "bias", "gram", "window", "gelu", "unfold", "Half4"} <= declared(text)


def test_no_array_is_so_small_that_it_gets_another_address_space(full: list[Call]) -> None:
    """MLX passes arrays of fewer than 8 values as `constant`, which a kernel's `device` pointer cannot take."""
    for call in [*full, *calls(TINY, MERT_95M.shortest, 1)]:
        assert "const constant float" not in wrapped(call)
    small = dataclasses.replace(full[0], inputs={"samples": ((1, MAX_CONSTANT_SIZE - 1), full[0].inputs["samples"][1])})
    assert any("__constant" in fault for fault in faults(wrapped(small)))


@pytest.mark.parametrize(
    "word", ["kernel", "vertex", "fragment", "device", "constant", "thread", "threadgroup", "half", "uint"]
)
def test_a_reserved_word_as_a_parameter_fails(full: list[Call], word: str) -> None:
    """As `kernel` did in 0.1.0, which compiles as C++ and as CUDA."""
    assert faults(re.sub(r"\bwidth\b", word, wrapped(full[3])))
    renamed = {word if name == "map" else name: shape for name, shape in full[3].inputs.items()}
    source = re.sub(r"\bmap(?=\b|_)", word, full[3].source)
    assert faults(wrapped(dataclasses.replace(full[3], inputs=renamed, source=source)))


@pytest.mark.slow
def test_every_reserved_word_fails(full: list[Call]) -> None:
    """Half of them as a parameter of a function, half of them as a variable."""
    text = wrapped(full[3])
    assert faults(text) == []
    for at, word in enumerate(sorted(RESERVED)):
        name = ("width", "lane")[at % 2]
        assert faults(re.sub(rf"\b{name}\b", word, text)), f"{word} in place of {name}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("GLOBAL const Half4*", "const Half4*"),  # an address space is lost
        ("gelu((float)y.v[c])", "gelu(y)"),
        ("EXP(-z * z)", "expf(-z * z)"),  # of C's library, which Metal has not
        ("Half4 y = ", "Half8 y = "),
        ("(unsigned)map_shape[0]", "(unsigned)map_shape[0]; new int"),
        ("if (row < count)", "if (row < counts)"),
    ],
)
def test_what_metal_would_refuse_is_found(full: list[Call], before: str, after: str) -> None:
    text = wrapped(full[3])
    assert before in text
    assert faults(text.replace(before, after))
