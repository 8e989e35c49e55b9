"""mertd can be installed wherever it says so: for each promised Python and platform there is a wheel of every dependency."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
MAC = "aarch64-apple-darwin"
INTEL_MAC = "x86_64-apple-darwin"
LINUX = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")

pytestmark = pytest.mark.slow


def resolve(python: str, platform: str, macos: str = "14.0", extra: str = "") -> subprocess.CompletedProcess[str]:
    """Choose versions of all dependencies as an installation there would, from wheels alone."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--python-version", python, "--python-platform", platform, *(["--extra", extra] if extra else [])]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": macos}
    done = subprocess.run(
        [*command, "pyproject.toml"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode and re.search("(?i)failed to fetch|dns error|connect", done.stderr) and not os.environ.get("CI"):
        pytest.skip(f"there is no index here: {done.stderr}")
    return done


def test_the_promise_is_what_is_tested() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == f">={PYTHONS[0]},<3.{int(PYTHONS[-1].split('.')[1]) + 1}"


def missing_on(machine: tuple[str, str]) -> str:
    """What an installation on this Python and platform would lack; nothing if it is whole."""
    python, platform = machine
    done = resolve(python, platform, extra="tap" if platform == MAC else "")
    if done.returncode:
        return f"{machine}: {done.stderr}"
    fast = {"mlx", "mlx-metal", "coremltools", "catap"} if platform == MAC else {"onnx", "onnxruntime", "pulsectl"}
    wanted = {"numpy", "pyzmq", "soxr", "sounddevice", "av", *fast}
    missing = wanted - set(re.findall(r"^([\w-]+)==", done.stdout, re.MULTILINE))
    return f"{machine} gets no {missing}" if missing else ""


def test_every_promised_machine() -> None:
    """All at once: each takes half a minute of waiting for the index."""
    machines = [(python, platform) for python in PYTHONS for platform in (MAC, *LINUX)]
    with ThreadPoolExecutor(len(machines)) as pool:
        faults = [*filter(None, pool.map(missing_on, machines))]
    assert not faults, "\n".join(faults)


def test_an_intel_mac_gets_no_mlx_and_no_error() -> None:
    """The doctor then says what mertd is made for."""
    done = resolve("3.12", INTEL_MAC)
    assert done.returncode == 0, done.stderr
    assert "mlx" not in done.stdout


def test_macos_13_is_refused() -> None:
    done = resolve("3.12", MAC, macos="13.0")
    assert done.returncode != 0
    assert "no usable wheels" in done.stderr
