"""Asking for the microphone: real Objective-C messages and a real block, on the runtime that Debian has."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_process import PATIENCE_S, wait_until
from mertd.capture import avfoundation
from mertd.capture.avfoundation import MicrophoneConsent, microphone_consent, request_microphone

SOURCE = Path(__file__).with_name("avcapture.m")
FLAGS = ["-shared", "-fPIC", "-fconstant-string-class=NSConstantString", "-fobjc-exceptions", "-D_NATIVE_OBJC_EXCEPTIONS"]
FLAGS += ["-D_REENTRANT", "-I/usr/include/GNUstep"]

PROGRAM = """
import sys
sys.path[:0] = {path!r}
from capture.test_avfoundation import loader
from mertd.capture import avfoundation
load = loader({library!r})
load("AVFoundation").set_consent({status}, {answer})
known = avfoundation.microphone_consent(load)
print(known, avfoundation.request_microphone(0.2 if {answer} == -2 else 30, load), avfoundation.microphone_consent(load))
"""


def loader(library: str) -> Callable[[str], Any]:
    """Return what opens the stand-in in place of AVFoundation and Objective-C, and Debian's runtime of blocks."""
    blocks = ctypes.CDLL("libBlocksRuntime.so.0", ctypes.RTLD_GLOBAL)
    ours = ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    return lambda path: blocks if "libSystem" in path else ours


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("objc") / "avcapture.so"
    command = [
        "gcc",
        *FLAGS,
        str(SOURCE),
        "-o",
        str(target),
        "-lgnustep-base",
        "-lobjc",
        "-l:libBlocksRuntime.so.0",
        "-lpthread",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        problem = done.stderr if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        text = f"needs gobjc, libgnustep-base-dev and libblocksruntime0: {problem}"
        pytest.fail(text) if os.environ.get("CI") and sys.platform == "linux" else pytest.skip(text)
    return str(target)


def ask(library: str, status: int, answer: int) -> subprocess.CompletedProcess[str]:
    """In a process of its own, because one that asks may be aborted."""
    path = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    program = PROGRAM.format(path=path, library=library, status=status, answer=answer)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (0, 1, "None True True"),
        (0, 0, "None False False"),
        (0, -2, "None None None"),
        (3, 0, "True True True"),
        (2, 1, "False False False"),
        (1, 1, "False False False"),
    ],
    ids=["allowed", "denied", "no answer", "allowed before", "denied before", "restricted"],
)
def test_the_user_is_asked_once(library: str, status: int, answer: int, said: str) -> None:
    done = ask(library, status, answer)
    assert done.stdout.split() == said.split(), done.stderr


@pytest.mark.slow
def test_an_app_that_declares_no_microphone_aborts_the_process_that_asks(library: str) -> None:
    assert ask(library, 0, -1).returncode == -6, "which is therefore not the one that captures"


def exits(code: int, count: Path) -> tuple[str, ...]:
    """A program that adds a line to a file, and ends with this code."""
    return ("/bin/sh", "-c", f"echo >> {count}; {'kill -6 $$' if code < 0 else f'exit {code}'}")


@pytest.mark.parametrize(
    ("code", "expected"), [(avfoundation.ALLOWED, True), (avfoundation.DENIED, False), (avfoundation.UNKNOWN, None), (-6, None)]
)
def test_another_process_asks_and_its_exit_code_is_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int, expected: bool | None
) -> None:
    count = tmp_path / "count"
    consent = MicrophoneConsent(lambda: None, exits(code, count))
    assert consent.read() is None
    wait_until(lambda: consent.read() is not None or consent._ask_at > 0, PATIENCE_S, lambda: "no answer")
    assert consent.read() is expected
    assert count.read_text() == "\n", "one at a time, and not again at once"
    assert ("a service" in caplog.text) == (code < 0)


def test_consent_that_is_given_later_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system keeps its first answer for the life of a process (damione1/souffle, 216)."""
    monkeypatch.setattr(avfoundation, "RECHECK_S", 0.0)
    allowed = tmp_path / "allowed"
    command = ("/bin/sh", "-c", f"test -e {allowed} || exit {avfoundation.DENIED}")
    consent = MicrophoneConsent(lambda: False, command)
    assert consent.read() is False, "this process was told so"
    wait_until(lambda: consent.read() is False and consent._answer is False, PATIENCE_S, lambda: str(consent.read()))
    assert consent.read() is False
    allowed.touch()
    wait_until(lambda: consent.read() is True, PATIENCE_S, lambda: "not noticed")
    assert consent._asking is None, "nothing is left to ask"


def test_where_it_is_allowed_already_nobody_is_asked(tmp_path: Path) -> None:
    count = tmp_path / "count"
    assert MicrophoneConsent(lambda: True, exits(0, count)).read() is True
    assert not count.exists()


def test_without_avfoundation_nothing_is_claimed() -> None:
    def absent(path: str) -> Any:
        raise OSError(f"no {path}")

    assert microphone_consent(absent) is None
    assert request_microphone(0.0, absent) is None
