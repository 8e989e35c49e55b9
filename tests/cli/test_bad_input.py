"""Everything that a user can get wrong: one clear line for each mistake, the right exit code, and nothing left behind."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from command_process import complaints, mertd
from daemon_process import SHORT, TINY, Daemon, listening, music, write_wav

ANYWHERE = ["--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
BASE = [*TINY, *SHORT, *ANYWHERE, "--pace", "fast", "--exit-at-end"]
SYNTH = ["--source", "synth:chords?seconds=2"]

First = Callable[[], object] | None
CONFIG = """
wndow = 3
hop = "often"
layers = [44]
backend = "onxx"
source = ["synth:chrods", "files:x"]
bind = "tcp://0.0.0.0:5590"
"""

SOURCES = ["files:x.wav", "synth:chrods", "synth:tone?secs=3", "file:", "pipe:-?format=s16", "pipe:-?rate=fast"]

USAGE = {
    "sources": (
        [word for url in SOURCES for word in ("--source", url)],
        [
            "did you mean 'file'?",
            "did you mean 'chords'?",
            "has no option 'secs'",
            "a path is missing after file:",
            "did you mean 's16le'",
            "rate is a whole number from 1000 to 768000",
        ],
    ),
    "standard input twice": (["--source", "pipe:-", "--source", "pipe:-"], ["pipe:- is given twice"]),
    "layers that are no numbers": ([*SYNTH, "--layers", "six"], ["--layers 'six': expected numbers from 0 to 12"]),
    "bound to the world": ([*SYNTH, "--bind", "tcp://*:7001"], ["can be reached from other machines"]),
    "endpoints": (
        [*SYNTH, "--bind", "ipc://here", "--control", "tcp://127.0.0.1:99999"],
        ["'ipc://here' is not an endpoint", "'tcp://127.0.0.1:99999' is not an endpoint"],
    ),
    "a window longer than the ring": ([*SYNTH, "--window", "10", "--ring", "5"], ["ring: 5 s of audio are too few"]),
    "numbers out of range": (
        [*SYNTH, "--window", "inf", "--hop", "0", "--gate", "nan"],
        ["window: should be a finite number", "hop: should be greater than", "gate: should be less than"],
    ),
    "unknown backend": (
        [*SYNTH, "--backend", "onxx"],
        ["backend: should be 'auto', 'mlx', 'coreml', 'openvino'"],
    ),
    "layers that the network does not have": ([*SYNTH, "--layers", "1,3"], ["layers are 0 to 2, not 3"]),
    "random weights without a seed": ([*SYNTH, "--weights", "random:x"], ["the seed must be a whole number"]),
}

CONFIGURATIONS = {
    "mertd.toml": [
        "did you mean 'chords'?",
        "did you mean 'file'?",
        "bind: tcp://0.0.0.0:5590 can be reached from other machines",
        "hop: should be a valid number",
        "layers: layers are numbers from 0",
        "backend: should be 'auto'",
        "wndow: unknown setting; did you mean 'window'?",
    ],
    "text.wav": ["is not TOML"],
    "absent.toml": ["No such file"],
}

FAILURES = {
    "no such file": (["--source", "file:song.flac"], ["no file at song.flac; there is song.wav"]),
    "not audio": (["--source", "file:text.wav"], ["text.wav cannot be read as audio"]),
    "a folder": (["--source", "file:."], ["no file at ."]),
    "no such pipe": (["--source", "pipe:absent"], ["pipe:absent: No such file or directory; make one with mkfifo"]),
    "no such channel": ([*SYNTH, "--source", "file:song.wav?mix=2"], ["mix=2: the source has only 1 channel"]),
    "no such weights": ([*SYNTH, "--weights", "absent.st"], ["no weights file at absent.st"]),
    "weights that are none": ([*SYNTH, "--weights", "text.wav"], ["text.wav is not a readable safetensors file"]),
    "somebody else's weights": ([*SYNTH, "--weights", "broken.safetensors"], ["q_proj.weight"]),
    "weights that are not finite": (
        [*SYNTH, "--weights", "infinite.safetensors"],
        ["encoder.layer_norm.weight has values that are not finite"],
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a song, a text, a wrong configuration and wrong weights."""
    folder = tmp_path_factory.mktemp("place")
    write_wav(folder / "song.wav", music(2))
    (folder / "text.wav").write_text("no song, no weights: no = table\n")
    (folder / "mertd.toml").write_text(CONFIG)
    whole = folder / "whole.safetensors"
    assert mertd("model", "random", "--size", "tiny", "--out", whole).returncode == 0
    tensors = load_file(whole)
    norm = tensors["encoder.layer_norm.weight"]
    save_file({**tensors, "encoder.layer_norm.weight": norm * np.float16(np.nan)}, folder / "infinite.safetensors")
    query = "encoder.layers.0.attention.q_proj.weight"
    tensors[query.replace("q_proj", "q_prj")] = tensors.pop(query)
    tensors["encoder.layer_norm.bias"] = np.zeros(3, np.float16)
    save_file(tensors, folder / "broken.safetensors")
    return folder


def check(place: Path, options: list[str], code: int, expected: list[str], *, stdin: bytes = b"", first: First = None) -> str:
    """Run the daemon: it must fail with `code` and print `expected`, one line each, in this order. Returns the last line."""
    done = mertd("run", *BASE, *options, stdin=stdin, folder=place, first=first)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    return said(done.stderr, expected)[-1]


def said(text: str, expected: list[str]) -> list[str]:
    """Return the complaints in standard error, which must contain what is expected, in this order."""
    lines = complaints(text)
    assert len(lines) == len(expected), text
    for line, fragment in zip(lines, expected, strict=True):
        assert fragment in line
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(place: Path, case: str) -> None:
    check(place, USAGE[case][0], 2, USAGE[case][1])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_wrong_configuration(place: Path, name: str) -> None:
    """Every mistake is told at once, each with the name of the file."""
    done = mertd("run", "--config", name, folder=place)
    assert done.returncode == 2
    assert all(line.startswith(f"mertd: {name}") for line in said(done.stderr, CONFIGURATIONS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("case", FAILURES)
def test_what_cannot_be_done(place: Path, case: str) -> None:
    line = check(place, FAILURES[case][0], 3, FAILURES[case][1])
    if "broken.safetensors" in line:
        for fault in (
            "1 missing (encoder.layers.0.attention.q_proj.weight)",
            "1 unexpected (encoder.layers.0.attention.q_prj.weight; did you mean 'encoder.layers.0.attention.q_proj.weight'?)",
            "encoder.layer_norm.bias has shape (3,), not (64,)",
        ):
            assert fault in line


def test_no_weights_at_home(place: Path) -> None:
    done = mertd("run", *SYNTH, *ANYWHERE, folder=place)
    assert done.returncode == 3
    said(done.stderr, ["run `mertd model pull`, name a file with --weights PATH, or try --weights random:0"])


def test_words_that_the_command_line_does_not_know() -> None:
    for words in (["run", "--window", "long"], ["run", "--widow", "3"], ["frobnicate"]):
        done = mertd(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert words[-2] in done.stderr if len(words) > 1 else words[0] in done.stderr


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(place: Path) -> None:
    secret = write_wav(place / "secret.wav", music(2))
    secret.chmod(0)
    check(place, ["--source", "file:secret.wav"], 3, ["secret.wav cannot be read as audio"], first=_give_up_roots_rights)


def _give_up_roots_rights() -> None:
    """Root without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH may read what its owner may."""
    if os.geteuid() == 0:
        libc, drop = ctypes.CDLL(None, use_errno=True), 24  # PR_CAPBSET_DROP
        for capability in (1, 2):
            if libc.prctl(drop, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")


@pytest.mark.slow
def test_a_device_that_is_not_there(place: Path) -> None:
    if ctypes.util.find_library("portaudio") is None and sys.platform == "linux":
        reason = "libportaudio2 is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    done = mertd("run", *BASE, "--source", "device:No Such Thing", folder=place)
    assert done.returncode == 3
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mertd: ")]  # ALSA may have much to say, too
    assert "no input device" in line
    assert "mertd devices" in line


@pytest.mark.slow
def test_a_pipe_with_samples_that_are_no_numbers(place: Path) -> None:
    samples = (music(2)[:, 0] / np.float32(32_768)).astype("<f4")
    samples[30_000] = np.nan
    options = ["--source", "pipe:-?rate=24000&channels=1&format=f32le"]
    check(place, options, 3, ["frame 30000 (1.25 s) is not a finite number; is it really f32le?"], stdin=samples.tobytes())


@pytest.mark.slow
def test_a_pipe_that_ends_in_the_middle_of_a_frame(place: Path) -> None:
    options = ["--source", "pipe:-?rate=24000&channels=2&format=s16le"]
    check(place, options, 3, ["ended within a frame: 3 bytes are left of 4"], stdin=music(1.7, channels=2).tobytes()[:-1])


@pytest.mark.parametrize("option", ["--bind", "--control"])
def test_a_port_in_use(place: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        check(place, [*SYNTH, option, endpoint], 3, [f"{endpoint} is in use by another program"])


@pytest.mark.slow
def test_sockets_of_another_daemon(place: Path) -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as first:
        with listening(first, "status", "embedding") as heard:
            first.until(lambda s: s.streams["chords"]["embedded"] > 0)
            for option, endpoint in (("--bind", first.publish), ("--control", first.control)):
                says = f"{endpoint} is in use by another mertd, process {first.process.pid};"
                check(place, [*SYNTH, option, endpoint], 3, [says])
            reached = first.status().streams["chords"]["embedded"]
            first.until(lambda s: s.streams["chords"]["embedded"] > reached)
            first.stop()
    assert sum(m.kind == "embedding" for m in heard) > reached  # its own subscriber noticed nothing


def test_a_folder_that_others_may_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    check(tmp_path, [*SYNTH, "--bind", f"ipc://{tmp_path}/p"], 3, ["can be entered by other users; chmod 700 it"])
    assert not list(tmp_path.iterdir())
