"""No process of mertd runs a Python file that lies in the working directory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import mertd
from command_process import PATIENCE_S, Traces
from daemon_process import TINY

NAMES = sorted(
    {"numpy", "zmq", "msgpack", "soxr", "soundfile", "safetensors", "onnxruntime", "onnx", "rich", "typer", "pydantic"}
)
"""Of the dependencies."""

BEFORE_US = {"warnings", "contextlib", "importlib", "types", "functools", "collections", "operator", "keyword", "reprlib"}
"""What Python's own `runpy` loads for `python -m`, before the first line of mertd: only `python -P -m` can keep that out."""

PROGRAM = [str(Path(sys.executable).with_name("mertd"))]
MODULE = [sys.executable, "-m", "mertd"]
SAFE_MODULE = [sys.executable, "-P", "-m", "mertd"]
RUN = ["run", *TINY, "--window", "1", "--hop", "0.5", "--source", "synth:chords?seconds=2", "--pace", "fast", "--exit-at-end"]
BIND = ["--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.assert_gone()
    traces.remove()


def plant(folder: Path, names: Sequence[str]) -> Path:
    """Put modules of these names there, which say that they ran and are of no use otherwise. Gives where they say it."""
    ran = folder.with_name("ran")
    folder.mkdir()
    for name in names:
        program = f"""
            import sys
            with open({str(ran)!r}, "a") as file:
                file.write("{name} in " + " ".join(sys.orig_argv)[:120] + "\\n")
            raise ImportError("another person's {name}")
        """
        (folder / f"{name}.py").write_text(textwrap.dedent(program))
    return ran


def standard_library() -> list[str]:
    return sorted(name for name in sys.stdlib_module_names if name not in ("sys", "builtins", "__main__", *BEFORE_US))


@pytest.mark.slow
@pytest.mark.parametrize("start", [PROGRAM, MODULE, SAFE_MODULE], ids=["program", "python -m", "python -P -m"])
@pytest.mark.parametrize("python_path", [None, os.pathsep + "/nowhere"], ids=["", "empty entry of PYTHONPATH"])
def test_the_daemon_and_its_children(start: list[str], python_path: str | None, tmp_path: Path, traces: Traces) -> None:
    names = [*NAMES, *standard_library()] if python_path is None else NAMES
    ran = plant(tmp_path / "here", names)
    environment = traces.environment | ({"PYTHONPATH": python_path} if python_path else {})
    done = subprocess.run(
        [*start, *RUN, *BIND],
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert not ran.exists(), ran.read_text()
    assert done.returncode == 0, done.stderr
    assert "embed is healthy" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--count", "1", "--weights", "random:0?size=tiny"],
        ["status"],
        ["--help"],
        ["devices"],
        ["bench", "--quick", "--only", "fanout"],
    ],
    ids=lambda w: w[0],
)
def test_commands_and_what_they_start(words: list[str], tmp_path: Path, traces: Traces) -> None:
    ran = plant(tmp_path / "here", [*NAMES, *standard_library()])
    done = subprocess.run(
        [*PROGRAM, *words],
        cwd=tmp_path / "here",
        env=traces.environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert not ran.exists(), ran.read_text()
    assert done.returncode == (3 if words[0] in ("status", "devices") else 0) or "no input device" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkout_can_be_run_where_it_lies(traces: Traces) -> None:
    """mertd itself may be in the working directory: it is found, behind everything else."""
    program = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' in p or 'python3' in p]\n"
        "sys.path.insert(0, sys.argv[1]); import mertd.safe_path; mertd.safe_path.leave_out_working_directory()\n"
        "import mertd.errors; print(sys.path[-1])"
    )
    checkout = Path(mertd.__file__).parents[1]
    command = [sys.executable, "-c", program, str(checkout)]
    done = subprocess.run(command, cwd=checkout, env=traces.environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(checkout)


def test_a_working_directory_that_is_gone(tmp_path: Path, traces: Traces) -> None:
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [*PROGRAM, "--version"],
        env=traces.environment,
        cwd=here,
        preexec_fn=here.rmdir,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("mertd ")
