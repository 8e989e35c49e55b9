"""`mertd config`, and a daemon that reads its configuration again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from command_process import mertd
from daemon_process import SHORT, TINY, Daemon, listening
from mertd.wire import Event


@pytest.mark.slow
def test_init_show_and_check(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mertd.toml"
    assert "every setting with its default" in mertd("config", "init", str(path)).stdout
    again = mertd("config", "init", str(path))
    assert (again.returncode, again.stderr) == (2, f"mertd: {path} exists; --force overwrites it\n")
    assert mertd("config", "init", str(path), "--force").returncode == 0
    assert mertd("config", "check", str(path)).stdout == f"{path}: no mistakes\n"

    path.write_text(path.read_text().replace("# hop = 5", "hop = 2.5"))
    shown = json.loads(mertd("config", "show", "--config", str(path), "--json").stdout)
    assert shown["hop"] == {"value": 2.5, "from": "file"}
    assert shown["window"] == {"value": 30.0, "from": "default"}
    assert "hop = 2.5  # file" in mertd("config", "show", "--config", str(path)).stdout

    path.write_text('hopp = 3\nwindow = "x"')
    wrong = mertd("config", "check", str(path))
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 2


@pytest.mark.slow
def test_a_daemon_reads_it_again(tmp_path: Path) -> None:
    """What can change does, what cannot is named, what is wrong changes nothing."""
    path = tmp_path / "mertd.toml"
    path.write_text('hop = 2\nlog_level = "info"')
    with Daemon(*TINY, "--window", "1", "--source", "synth:chords", "--config", path) as daemon:
        with listening(daemon, "event") as heard:
            daemon.until(lambda s: s.phase == "running")
            path.write_text("hop = 0.5\ngate = -60\nring = 50")
            daemon.process.send_signal(signal.SIGHUP)
            daemon.said(r"these settings need a restart: ring")
            due = daemon.status().streams["chords"]["due"]
            daemon.until(lambda s: s.streams["chords"]["due"] >= due + 4)
            path.write_text("hop = 0\nwindw = 3")
            daemon.process.send_signal(signal.SIGHUP)
            daemon.said(r"the configuration stays as it is: .*hop: should be greater")
            daemon.stop()
    events = [m for m in heard if isinstance(m, Event) and m.event in ("changed", "reloaded")]
    assert [event.event for event in events] == ["changed", "changed", "reloaded", "reloaded"]
    assert events[0].detail | events[1].detail == {"hop_s": 0.5, "gate_dbfs": -60.0}
    assert events[2].detail == {"changed": ["hop", "gate"], "restart": ["ring"], "error": ""}
    assert events[3].detail["changed"] == []
    assert "windw: unknown setting; did you mean 'window'" in events[3].detail["error"]


@pytest.mark.slow
def test_a_hop_of_the_command_line_is_not_changed_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mertd.toml"
    path.write_text("gate = -70")
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", "--config", path) as daemon:
        with listening(daemon, "event") as heard:
            daemon.until(lambda s: s.phase == "running")
            path.write_text("gate = -70\nhop = 9")
            daemon.process.send_signal(signal.SIGHUP)
            daemon.until(lambda s: s.streams["chords"]["events"] > 2 and s.streams["chords"]["embedded"] > 3)
            daemon.stop()
    (event,) = [m for m in heard if isinstance(m, Event) and m.event == "reloaded"]
    assert event.detail == {"changed": [], "restart": [], "error": ""}
