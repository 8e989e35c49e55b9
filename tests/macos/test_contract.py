"""Every name and keyword that mertd uses of the libraries of macOS is in their wheels: the oldest allowed, and those of CI.

Nothing is imported: the wheels are for another system. Names and keywords come from mertd's own source, so a new use is checked
without a change here.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from macos.uses import ROOT, Use, imported, uses
from macos.wheels import Library, NoIndexError, Operations, unpacked

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("macos wheels")]  # they are read once

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
LIBRARIES = ("mlx", "coremltools", "sounddevice", "catap")

RECEIVERS = {
    "mlx": {"mx": "mlx.core", "self._mx": "mlx.core"},
    "coremltools": {"ct": "coremltools", "coremltools": "coremltools", "tools": "coremltools", "self._tools": "coremltools"},
    "sounddevice": {
        "sounddevice": "sounddevice",
        "self._stream": "sounddevice.RawInputStream",
        "stream": "sounddevice.RawInputStream",
    },
    "catap": {"catap": "catap", "self._session": "catap.RecordingSession"},
}
"""What stands for what in mertd's source."""

ONLY_IN = {
    "self._stream": "capture/sources/device.py",
    "stream": "service/microphone.py",
    "self._session": "capture/sources/tap.py",
    "tools": "embed/backends/coreml",
    "ct": "embed/backends/coreml",
    "sounddevice": "",
}
"""Part of the path of the files in which a name stands for that."""

DICTIONARIES = {
    "sounddevice": (
        "name",
        "hostapi",
        "max_input_channels",
        "default_samplerate",
        "inputBufferAdcTime",
        "currentTime",
        "input_overflow",
    ),
    "catap": (
        "sample_rate",
        "num_channels",
        "bits_per_sample",
        "is_float",
        "frame_count",
        "data",
        "capture_failed",
        "stream_format",
    ),
}
"""Keys and attributes of what these libraries return, by which mertd reads it."""


def versions() -> list[str]:
    """The oldest version that pyproject allows of each library, and the one of CI."""
    texts = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["tap"]]
    oldest = [f"{name}=={found[1]}" for name in LIBRARIES for text in texts if (found := re.match(rf"{name}>=([\d.]+)", text))]
    pinned = {text.split("==")[0]: text for text in PROJECT["tool"]["uv"]["constraint-dependencies"] if "==" in text}
    newest = [pinned.get(requirement.split("==")[0], requirement) for requirement in oldest]
    assert len(oldest) == len(LIBRARIES)
    return [" ".join(oldest), " ".join(newest)]


@cache
def library(requirements: str) -> Library:
    try:
        return Library(unpacked(*requirements.split()))
    except NoIndexError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the macOS wheels cannot be fetched: {error}")


def used(name: str) -> list[Use]:
    """What mertd uses of a library, without what only looks like it."""
    found = []
    for receiver, target in RECEIVERS[name].items():
        for use in uses({receiver: target}):
            if ONLY_IN.get(receiver, "") in use.place and not use.name.removeprefix(f"{target}.").startswith("_"):
                found.append(use)
    return found


def faults(of: Library, found: list[Use], root: str) -> list[str]:
    """What a library has not, one line each."""
    wrong = []
    for use in found:
        module, _, name = use.name.partition(".")
        meant = of.find(module, name) if name else []
        if meant is None:
            wrong.append(f"{use.place}: {root} has no {use.name}")
            continue
        known = of.keywords(module, meant)
        if known is not None and not known.any and (extra := set(use.keywords) - known.names):
            wrong.append(f"{use.place}: {use.name} takes no {', '.join(sorted(extra))}")
    return wrong


@pytest.mark.parametrize("requirements", versions(), ids=["oldest", "of CI"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_all_that_is_used_is_there(requirements: str, name: str) -> None:
    found = [*used(name), *imported(name)]
    assert len(found) >= 3, "the source has been read"
    assert not faults(library(requirements), found, requirements)


@pytest.mark.parametrize("requirements", versions(), ids=["oldest", "of CI"])
def test_every_operation_of_core_ml_is_there(requirements: str) -> None:
    operations = Operations(library(requirements)).keywords
    found = [use for use in uses({"self._build": "mb", "build": "mb", "Builder": "mb"}) if "embed/backends/mil" in use.place]
    called = [use for use in found if use.keywords]
    assert len(called) >= 15
    for use in called:
        name = use.name.removeprefix("mb.")
        if name in ("program", "TensorSpec"):
            continue
        assert name in operations, f"{use.place}: there is no operation {name}"
        assert set(use.keywords) <= operations[name], f"{use.place}: {name} takes no {set(use.keywords) - operations[name]}"


@pytest.mark.parametrize("requirements", versions(), ids=["oldest", "of CI"])
def test_what_is_returned_has_the_keys_and_attributes_that_are_read(requirements: str) -> None:
    root = library(requirements).root
    for name, keys in DICTIONARIES.items():
        paths = [root / f"{name}.py"] if (root / f"{name}.py").exists() else sorted((root / name).rglob("*.py"))
        text = "".join(path.read_text(encoding="utf-8") for path in [*paths, *root.glob(f"_{name}.py")])
        assert not [key for key in keys if not re.search(rf"\b{key}\b", text)]


@pytest.mark.parametrize("requirements", versions(), ids=["oldest", "of CI"])
def test_arrays_have_the_methods_that_are_called(requirements: str) -> None:
    """Every attribute of what is no module and not `self`, in the files that run on MLX, is one of an array of MLX or numpy."""
    of = library(requirements)
    ours = {"dialect", "tensors", "items", "name", "source", "header", "samples", "rows", "length", "offset", "data"}
    ours |= {"weight", "append", "get", "values", "keys", "architecture", "map", "sums", "scale", "shift", "join", "lengths"}
    wrong = []
    seen = 0
    for path in (ROOT / "embed/backends/mlx_ops.py", ROOT / "embed/backends/mlx_fused_ops.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                chain = ast.unparse(node.func)
                if chain.startswith(("self.", "mx.", "np.", "super()", "mlx_kernels.", "dataclasses.")):
                    continue
                seen += 1
                method = node.func.attr
                if method not in ours and of.find("mlx.core", f"array.{method}") is None and not hasattr(np.ndarray, method):
                    wrong.append(f"{path.name}:{node.lineno}: an array has no {method}")
    assert seen > 10
    assert not wrong


def test_a_name_a_keyword_and_an_operation_that_do_not_exist_are_found() -> None:
    of = library(versions()[1])
    wrong = [
        Use("mlx.core.conv1dd", "here"),
        Use("mlx.core.fast.metal_kernels", "here"),
        Use("mlx.core.fast.metal_kernel", "here", ("kernel_name",)),
        Use("mlx.core.conv1d", "here", ("strides",)),
        Use("mlx.core.array.astyp", "here"),
        Use("sounddevice.RawInputStream", "here", ("sample_rate",)),
        Use("sounddevice.RawInputStream.abortt", "here"),
        Use("coremltools.target.iOS99", "here"),
        Use("coremltools.models.CompiledModel", "here"),
        Use("coremltools.convert", "here", ("minimum_target",)),
        Use("catap.record_program", "here"),
        Use("catap.record_system_audio", "here", ("buffer",)),
    ]
    assert len(faults(of, wrong, "it")) == len(wrong)
    right = [
        Use("mlx.core.fast.metal_kernel", "here", ("name", "input_names", "source")),
        Use("sounddevice.RawInputStream", "here", ("samplerate", "callback", "finished_callback")),
        Use("sounddevice.RawInputStream.abort", "here", ("ignore_errors",)),
        Use("coremltools.target.iOS17", "here"),
        Use("coremltools.models.CompiledMLModel", "here", ("compute_units",)),
        Use("catap.record_system_audio", "here", ("on_buffer",)),
    ]
    assert not faults(of, right, "it")
    assert "conv" in Operations(of).keywords
    assert "stride" not in Operations(of).keywords["conv"]


def test_uses_are_found_in_source() -> None:
    source = {
        "a.py": "def f(mx, y):\n    mx.fast.kernel(name=1, **y)\n    return mx.float16, other.mx.x, self._mx.gpu(z=mx.cpu)\n"
    }
    found = {(use.name, use.keywords) for use in uses({"mx": "m", "self._mx": "m"}, source)}
    assert found == {("m.fast.kernel", ("name",)), ("m.float16", ()), ("m.gpu", ("z",)), ("m.cpu", ())}
