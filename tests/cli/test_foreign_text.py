"""Names of files, tensors and streams, and what a server says: shown by every command, obeyed by no terminal."""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from safetensors.numpy import save_file

import mertd.cli
from command_process import mertd as run_mertd
from daemon_process import SHORT, TINY, Daemon, music, write_wav
from mertd.capture.device_list import Device
from mertd.cli import app, output
from mertd.text import printable
from mertd.wire import encode
from messages import embedding, event, status

ESCAPES = "\x1b]0;pwned\x07\x1b[2J\x9b31m\r\u202e\u2028"
FORGED = "mertd: all is well"
EVIL = f"{ESCAPES}\n{FORGED}"
ACTING = set("\x1b\x07\x08\r\x9b\u202e\u2028\x7f")


def assert_harmless(text: str) -> None:
    assert not ACTING & set(text), repr(text)
    assert FORGED not in text.splitlines()


def lines_of(shown: str) -> list[str]:
    assert_harmless(shown)
    return shown.splitlines()


@contextmanager
def lying_daemon(**changes: Any) -> Iterator[tuple[str, str]]:
    """What publishes and answers as a daemon does, with foreign text in each place. Gives both endpoints."""
    over = threading.Event()
    facts = {"state": EVIL, "source": EVIL, "description": EVIL, "problem": EVIL, "epoch": 0, "samples": 0, "missing": 0}
    facts |= dict.fromkeys(("due", "embedded", "silent", "skipped", "waiting", "events"), 0)
    process = {"pid": 1, "state": EVIL, "restarts": 2, "last_error": EVIL, "last_error_ns": 1}
    model = {"name": EVIL, "backend": EVIL, "device": EVIL, "precision": EVIL, "space": EVIL, "trained": True}
    told = {"version": EVIL, "phase": EVIL, "model": model, "streams": {EVIL: facts}, "processes": {"supervisor": process}}
    lie = status(**{**told, **changes})
    with zmq.Context() as context, context.socket(zmq.PUB) as publishing, context.socket(zmq.REP) as answering:
        publishing.linger = answering.linger = 0
        ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (publishing, answering)]

        def serve() -> None:
            seq = 0
            while not over.is_set():
                if answering.poll(50):
                    asked = msgpack.unpackb(answering.recv())["request"]
                    refusal = {"schema": 1, "ok": False, "error": EVIL}
                    answer = {"schema": 1, "ok": True, "messages": [encode(lie)], "more": False}
                    answering.send(msgpack.packb(answer if asked == "status" else refusal))
                publishing.send_multipart(encode(event(seq, EVIL, event=EVIL, detail={EVIL: EVIL}, time_ns=2**63)))
                publishing.send_multipart(encode(embedding(2 * seq, EVIL, vector=np.zeros((1, 3 + seq % 2), np.float32))))
                seq += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}"
        finally:
            over.set()
            thread.join()


@pytest.mark.slow
def test_what_a_lying_daemon_says() -> None:
    with lying_daemon() as (publish, control):
        tail = run_mertd("tail", "--connect", publish, "--control", control, "--events", "--count", "3")
        told = run_mertd("tail", "--connect", publish, "--control", control, "--events", "--count", "2", "--json")
        asked = run_mertd("status", "--control", control)
        refused = run_mertd("control", "now", "--control", control)
    assert (tail.returncode, told.returncode, asked.returncode, refused.returncode) == (0, 0, 0, 3)
    assert all(printable(EVIL) in line for line in lines_of(tail.stdout))
    assert printable(EVIL) in asked.stdout
    assert lines_of(refused.stderr) == [f"mertd: {control} refuses: {printable(EVIL)}"]
    for done in (tail, told, asked):
        assert_harmless(done.stdout + done.stderr)
    assert all(json.loads(line)["stream"] == EVIL for line in told.stdout.splitlines())
    assert f"messages of embedding/{printable(EVIL)}" in tail.stderr, "what the client library logs is made harmless, too"


@pytest.mark.parametrize(
    "changes",
    [{"streams": {"a": {}}}, {"processes": {}}, {"streams": {"a": 3}}, {"model": {"name": 1}}],
    ids=["no counters", "no processes", "a number for a stream", "half a model"],
)
def test_a_status_that_is_none(changes: dict[str, Any]) -> None:
    with lying_daemon(**changes) as (_, control):
        done = run_mertd("status", "--control", control)
    assert done.returncode == 3
    assert lines_of(done.stderr)[0].startswith(f"mertd: {control} sent an invalid status: ")


@pytest.mark.slow
def test_names_of_tensors(tmp_path: Path) -> None:
    path, long = tmp_path / "evil.safetensors", tmp_path / "long.safetensors"
    save_file({f"{EVIL}{number}": np.zeros(1, np.float16) for number in range(2)}, path)
    save_file({"a" * 900_000: np.zeros(1, np.float16)}, long)  # the longest header that is read has 1 MiB
    for words in (
        ["model", "check", path],
        ["model", "import", path, "--out", tmp_path / "out.safetensors"],
        ["run", "--weights", path, "--source", "synth:chords", "--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"],
    ):
        done = run_mertd(*words)
        assert done.returncode == 3
        assert printable(EVIL) in done.stderr
        assert_harmless(done.stderr)
    anywhere = ["--bind", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*"]
    for words in (["model", "check", long], ["run", "--weights", long, "--source", "synth:chords", *anywhere]):
        done = run_mertd(*words)
        assert done.returncode == 3
        assert len(done.stderr) < 20_000
        assert "900,000 characters" in done.stderr


@pytest.mark.slow
def test_names_of_files(tmp_path: Path) -> None:
    evil = tmp_path / f"[red]{ESCAPES}\n{FORGED}.wav"
    write_wav(evil, music(2))
    with Daemon(*TINY, *SHORT, "--source", f"file:{evil}", "--pace", "fast") as daemon:
        daemon.until(lambda s: all(stream["state"] == "ended" for stream in s.streams.values()))
        seen = run_mertd("status", "--control", daemon.control)
        past = run_mertd(
            "tail", "--connect", daemon.publish, "--control", daemon.control, "--events", "--last", 9, "--count", 1
        )
        daemon.stop()
    assert printable(evil.name) in seen.stdout
    for shown in (seen.stdout, seen.stderr, past.stdout, past.stderr, daemon.stderr):
        assert_harmless(shown)
    absent = run_mertd("embed", f"{evil}x", *TINY, *SHORT)
    assert absent.returncode == 3
    assert_harmless(absent.stderr)


@pytest.mark.slow
def test_settings_and_options(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"{json.dumps(EVIL)} = 1\nsource = [{json.dumps('files:' + EVIL)}]\n", encoding="utf-8")
    for words in (["config", "check", path], ["tail", f"--{EVIL}"], ["bench", "--only", EVIL], ["tail", "--connect", EVIL]):
        done = run_mertd(*words)
        assert done.returncode in (2, 3), done
        assert "pwned" in done.stderr
        assert_harmless(done.stderr)


def test_names_of_devices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = [Device(EVIL, EVIL, 2, 48_000, default=True, index=0)]
    monkeypatch.setattr("mertd.cli.devices_command.all_inputs", lambda: found)
    assert app.run(["devices"]) == 0
    (line,) = lines_of(capsys.readouterr().out)
    assert line == f"* device:{printable(EVIL)}  ({printable(EVIL)}, 2 channels, 48000 Hz)"
    assert app.run(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == EVIL


def test_a_bug_shows_its_traceback_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        output.show_bug(type(error), error, error.__traceback__)
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert not ACTING & set(shown)


def test_a_text_is_no_markup_of_the_library_that_draws(capsys: pytest.CaptureFixture[str]) -> None:
    console = output.new_console(width=80)
    console.print("[red]a[/red] [link=x]b[/link] 12:30 :smile:")
    assert capsys.readouterr().out == "[red]a[/red] [link=x]b[/link] 12:30 :smile:\n"
    with output.spinner("[/nothing] \x1b[2J"):
        pass


def test_only_one_place_prints() -> None:
    """Whatever else prints would have to make foreign text harmless itself."""
    folder = Path(mertd.cli.__file__).parent
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if path.name != "output.py":
            assert not called & {"print", "Console", "sys.stdout.write", "sys.stderr.write", "typer.echo", "json.dumps"}, path
