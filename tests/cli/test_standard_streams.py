"""Standard streams as a program may find them. What every command makes of them is in test_conditions.py."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cli.conditions import open_full
from command_process import PATIENCE_S, complaints, mertd
from mertd.cli import standard_streams
from mertd.cli.standard_streams import OutputDescriptor, OutputError, output_error

OPEN = "import sys; sys.path.insert(0, {root!r}); from mertd.cli.standard_streams import *; open_standard_streams()\n"
ROOT = str(Path(standard_streams.__file__).parents[2])


def program(text: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run a program with our streams."""
    command = [sys.executable, "-c", OPEN.format(root=ROOT) + text]
    return subprocess.run(command, timeout=PATIENCE_S, check=False, **{"capture_output": True, **options})


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "12:00 – 12:05 ±3 ms … é 好".encode()),
        ("latin-1", "12:00 - 12:05 ±3 ms ... é \\u597d".encode("latin-1")),
        ("ascii", b"12:00 - 12:05 +/-3 ms ... \\xe9 \\u597d"),
        ("cp1252", "12:00 – 12:05 ±3 ms … é \\u597d".encode("cp1252")),
    ],
)
def test_characters_that_an_encoding_lacks(encoding: str, shown: bytes) -> None:
    done = program("print('12:00 – 12:05 ±3 ms … é 好')", env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stdout, done.stderr) == (0, shown + b"\n", b"")


def test_a_surrogate_is_escaped() -> None:
    assert program("print('a\\udcffb')").stdout == b"a\\udcffb\n"


def test_closed_streams_are_not_given_to_the_next_file() -> None:
    """And those who read or write are told."""
    text = (
        "import os; opened = os.open('/', os.O_RDONLY)\n"
        "faults = []\n"
        "for call in (lambda: os.read(0, 1), lambda: os.write(1, b'x')):\n"
        "    try: call()\n"
        "    except OSError as error: faults.append(error.errno)\n"
        "os.write(int(sys.argv[1]), repr([opened > 2, faults, [os.get_inheritable(n) for n in range(3)]]).encode())"
    )
    reader, writer = os.pipe()
    command = [sys.executable, "-c", OPEN.format(root=ROOT) + text, str(writer)]
    subprocess.run(command, pass_fds=[writer], preexec_fn=lambda: os.closerange(0, 3), check=True, timeout=PATIENCE_S)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "[True, [9, 9], [True, True, True]]"


def test_an_output_that_does_not_block_is_waited_for() -> None:
    """Another program that shares the pipe may have set it so; all arrives nevertheless."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(reader, "rb") as stream:
            received.append(stream.read())

    thread = threading.Thread(target=read)
    thread.start()
    done = program("print('x' * 1_000_000)", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    thread.join()
    assert (done.returncode, done.stderr) == (0, b"")
    assert received == [b"x" * 1_000_000 + b"\n"]


def test_what_cannot_be_written_is_dropped_and_remembered() -> None:
    with os.fdopen(open_full(), "wb", buffering=0) as full:
        output = OutputDescriptor(full.fileno())
        with io.TextIOWrapper(io.BufferedWriter(output)) as stream:
            stream.write("lost")
            stream.flush()
            stream.write("lost, too")
    assert output.failure is not None
    assert str(output_error(output.failure)).startswith("standard output ")
    full_disk = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(output_error(full_disk)).startswith("standard output cannot be written: No space left on device;")


def test_within_a_command_that_only_prints_it_ends_at_once() -> None:
    text = (
        "with open('/dev/null') as null:\n"
        "    try:\n"
        "        with raising_output():\n"
        "            while True: print('x' * 9000)\n"
        "    except OutputError as error: print(error, file=sys.stderr)\n"
        "print('dropped')"
    )
    with os.fdopen(open_full(), "wb", buffering=0) as full:
        done = program(text, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.startswith(b"standard output ")
    assert issubclass(OutputError, Exception)


def test_standard_input_of_any_kind() -> None:
    assert program("print(ascii(sys.stdin.read()))", input=b"a\xff\xc3\xa4").stdout == b"'a\\ufffd\\xe4'\n"
    text = "try: sys.stdin.read()\nexcept InputError as error: print(error)"
    done = program(text, preexec_fn=lambda: os.close(0))
    assert done.stdout == b"standard input is closed, and there was something to read\n"


@pytest.mark.slow
def test_pipe_from_a_closed_standard_input() -> None:
    """It is no end of the audio."""
    endpoints = ["--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
    weights = ["--weights", "random:0?size=tiny", "--layers", "1"]
    done = mertd("run", "--source", "pipe:-", *weights, *endpoints, first=lambda: os.close(0))
    assert done.returncode == 3
    (line,) = complaints(done.stderr)
    assert line.endswith("pipe:-: standard input is closed; pipe the samples into it, or name a FIFO")
