"""The memory as a user has it: beside a daemon, on another machine, and from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from command_process import PATIENCE_S, running, wait_until
from daemon_process import SHORT, TINY, Daemon
from memory.stored import small
from mertd.bus.subscribing import subscribe
from mertd.cli.app import run
from mertd.memory.checking import verify
from mertd.memory.memory import Memory
from mertd.memory.store import Store
from mertd.stream.request import ask_page
from mertd.wire import Embedding

CHORDS = ["--source", "synth:chords"]


def mertd(*words: object, answer: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mertd", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input=answer, check=False, timeout=PATIENCE_S)


def stored(folder: Path) -> list[int]:
    return [m.seq for m in Memory(folder).embeddings()] if list(folder.glob("*.sqlite")) else []


@pytest.mark.slow
def test_a_daemon_remembers_and_does_not_mind_when_its_memory_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    with Daemon(*TINY, *SHORT, *CHORDS, "--remember", "--memory", folder) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0 and s.processes["memory"]["state"] == "healthy")
        wait_until(lambda: bool(stored(folder)), PATIENCE_S, lambda: "nothing was stored")
        os.kill(daemon.pid("memory"), signal.SIGKILL)
        at = daemon.until(lambda s: s.processes["memory"]["restarts"] == 1 and s.processes["memory"]["state"] == "healthy")
        end = at.streams["chords"]["embedded"]
        wait_until(lambda: len(stored(folder)) > end, PATIENCE_S, lambda: "it does not go on")
        wait_until(lambda: mertd("remember", "--memory", folder).returncode == 3, PATIENCE_S, lambda: "a second writer")
    found = stored(folder)
    assert found == list(range(len(found)))
    assert [m.event for m in Memory(folder).events()][-1] == "stopping", "what a daemon says at its end is kept"
    assert Memory(folder).holes() == []
    assert verify(folder).faults == []


@pytest.mark.slow
def test_remember_on_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    with Daemon(*TINY, *SHORT, *CHORDS) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 2)
        words = ["remember", "--connect", daemon.publish, "--control", daemon.control, "--memory", str(folder), "--keep", "2y"]
        with running([sys.executable, "-m", "mertd", *words], stdout=subprocess.PIPE, text=True) as remembering:
            wait_until(lambda: len(stored(folder)) > 3, PATIENCE_S, lambda: "nothing was stored")
            remembering.send_signal(signal.SIGINT)
            said, _ = remembering.communicate(timeout=PATIENCE_S)
    assert remembering.returncode == 0
    assert "messages were stored" in said
    assert stored(folder)[:4] == [0, 1, 2, 3], "from the beginning, which the history had"


@pytest.mark.slow
def test_info_verify_and_forget(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([small(seq) for seq in (0, 1, 4)])
    shown = mertd("memory", "info", "--memory", tmp_path)
    assert "3 embeddings and 0 events" in shown.stdout
    assert "missing: embeddings 2 to 3 of room of studio (missed" in shown.stdout
    found = json.loads(mertd("memory", "info", "--memory", tmp_path, "--json").stdout)
    assert found["streams"][0]["embeddings"] == 3
    assert found["holes"][0]["reason"] == "missed"
    assert mertd("memory", "verify", "--memory", tmp_path).stdout.splitlines()[-1].startswith("whole: ")
    forget = ["memory", "forget", "--memory", tmp_path, "--stream", "room"]
    asked = mertd(*forget, answer="n\n")
    assert "3 embeddings and 0 events of 3 messages" in asked.stdout
    assert stored(tmp_path) == [0, 1, 4]
    assert mertd(*forget).returncode == 2, "nobody answers"
    assert stored(tmp_path) == [0, 1, 4]
    assert mertd(*forget, answer="y\n").returncode == 0
    assert stored(tmp_path) == []


def test_verify_says_what_is_wrong(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([small(0), small(1)])
        store.current.db.execute("UPDATE embeddings SET rms_dbfs = 0 WHERE seq = 1")
        store.current.db.execute("DELETE FROM embeddings WHERE seq = 0")
        store.append([small(2)])
        store.current.db.execute("DELETE FROM embeddings WHERE seq = 1")
        store.append([small(5)])
        store.current.db.execute("UPDATE embeddings SET rms_dbfs = 0 WHERE seq = 5")
        store.current.db.execute("DELETE FROM holes")
    found = mertd("memory", "verify", "--memory", tmp_path)
    assert found.returncode == 3
    assert "1 rows of kind embedding differ from what was written" in found.stderr
    assert "numbers 3 to 4 are missing, and no hole says so" in found.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["memory", "info", "--memory", "/nowhere"], "no memory in /nowhere; `mertd run --remember`"),
        (["memory", "forget"], "needs --before or --stream"),
        (["memory", "forget", "--before", "yesterday"], "'yesterday' is not a time; write it as 2h"),
        (["remember", "--keep", "much"], "keep: 'much' is neither a time nor a size"),
        (["remember", "--connect", "tcp://127.0.0.1:1"], "1 daemons but 0 control endpoints"),
        (["run", "--keep", "2y"], "keep: not used without remember = true"),
        (["run", "--remember", "--keep", "2"], "keep: '2' is neither a time nor a size"),
    ],
)
def test_mistakes(words: list[str], complaint: str) -> None:
    found = mertd(*words)
    assert found.returncode in (2, 3)
    assert complaint in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_tail_begins_with_the_memory_and_goes_on_with_the_daemon(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    options = [*TINY, *SHORT, *CHORDS, "--remember", "--memory", folder]
    with Daemon(*options) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        wait_until(lambda: len(stored(folder)) > 1, PATIENCE_S, lambda: "nothing was stored")
    before = len(stored(folder))
    with Daemon(*options, endpoints=(daemon.publish, daemon.control)) as again:
        again.until(lambda s: s.streams["chords"]["embedded"] > 3)
        found = mertd(
            *("tail", "--connect", again.publish, "--control", again.control, "--memory", folder),
            *("--since", "1h", "--json", "--count", before + 6),
        )
        old = next(Memory(folder).embeddings())
        asked = {"request": "history", "kind": "embedding", "stream": "chords", "boot": old.boot, "first": 0, "end": before}
        page = ask_page(again.control, asked)
        assert [m.seq for m in page.messages if isinstance(m, Embedding)] == list(range(before)), "of the run before, too"
        nothing = ask_page(again.control, {**asked, "boot": b"never heard of it"})
        assert nothing.messages == []
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    boots = list(dict.fromkeys(line["boot"] for line in lines))
    assert len(boots) == 2
    for boot, count in zip(boots, (before, 6), strict=True):
        assert [line["seq"] for line in lines if line["boot"] == boot] == list(range(count)), "each once, in order"


@pytest.mark.slow
def test_a_client_begins_with_what_the_daemon_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that was killed, and of this one; then with what comes, and, started again, where it was."""
    folder = tmp_path / "memory"
    options = [*TINY, *SHORT, *CHORDS, "--name", "studio", "--remember", "--memory", folder]
    with Daemon(*options) as daemon:
        wait_until(lambda: len(stored(folder)) > 3, PATIENCE_S, lambda: "nothing was stored")
    before = len(stored(folder))
    with Daemon(*options, endpoints=(daemon.publish, daemon.control)) as again:
        again.until(lambda s: s.streams["chords"]["embedded"] > 3)
        found: list[tuple[bytes, int]] = []
        for count in (before - 2, before + 3, before + 12):
            place = {"cursor": tmp_path / "cursor", "since": timedelta(hours=1)}
            with subscribe(again.publish, control=again.control, timeout=PATIENCE_S, **place) as client:  # type: ignore[arg-type]
                for message in client:
                    assert isinstance(message, Embedding)
                    found.append((message.boot, message.seq))
                    if len(found) >= count:
                        client.acknowledge()
                        break
                assert client.lost == 0
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing here"))
        words = ["--connect", again.publish, "--control", again.control, "--json", "--count", str(before + 3)]
        shown = mertd("tail", "--since", "1h", *words).stdout.splitlines()
        assert [(bytes.fromhex(line["boot"]), line["seq"]) for line in map(json.loads, shown)] == found[: before + 3]
        old, new = dict.fromkeys(boot for boot, _ in found)
    assert found == [*((old, seq) for seq in range(before)), *((new, seq) for seq in range(12))]


def test_tail_of_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path) as store:
        store.append([small(seq) for seq in range(20)])
    words = ["tail", "--memory", str(tmp_path), "--json"]
    assert run([*words, "--from", "1970-01-01T00:00:20+00:00", "--to", "1970-01-01T00:00:40+00:00"]) == 0
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [4, 5, 6, 7]
    assert run([*words, "--to", "now", "--count", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert run([*words, "--since", "2h", "--from", "3h"]) == 2
    assert run([*words, "--from", "2h", "--to", "3h"]) == 2
    assert "--to 3h is before --from 2h" in capsys.readouterr().err
