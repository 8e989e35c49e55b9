"""From facts to verdicts: each thing that can be wrong is found, alone, and with what mends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mertd.doctor.facts import Computing, Disk, Facts, Finding, Input, Package, Port, Running
from mertd.doctor.findings import findings, is_problem

MICROPHONE = Input("Microphone", True, 48_000, 1, -40.0, -12.0)
MODEL = Computing("w.safetensors", True, "onnx", "cpu", "float32", 2.5)
WELL = Facts(
    python="3.12.1",
    executable="/usr/bin/python3",
    packages=(Package("numpy", "2.4", "everything"),),
    configuration="mertd.toml",
    computing=MODEL,
    inputs=(MICROPHONE,),
    loopbacks=("card.monitor",),
    ports=(Port("--bind", "tcp://127.0.0.1:5590"),),
    synchronised=True,
    disks=(Disk("logs", "/var", 1 << 40),),
)
DAEMON = Running(7, "running", "1.0")


def test_a_machine_that_is_well() -> None:
    found = findings(WELL)
    assert {finding.level for finding in found} == {"ok"}
    assert not is_problem(found)
    assert not any(finding.why or finding.fix for finding in found)


def only(facts: Facts) -> Finding:
    """The one finding that is not ok."""
    (found,) = [finding for finding in findings(facts) if finding.level != "ok"]
    assert found.why
    return found


PLANTED = {
    "no weights": ({"computing": Computing(problem="there are no weights at x")}, "problem", "no weights", "mertd model pull"),
    "broken weights": ({"computing": Computing(problem="x: header is cut off")}, "problem", "cut off", "mertd model check"),
    "untrained": (
        {"computing": replace(MODEL, trained=False)},
        "warning",
        "random",
        "mertd model pull",
    ),
    "a model that cannot run": ({"computing": Computing("w", problem="no backend can run")}, "problem", "no backend", "bench"),
    "slow": ({"computing": replace(MODEL, seconds=9.0)}, "warning", "9.00 s a window", "--hop 14"),
    "no GPU": (
        {"computing": replace(MODEL, rejected={"mlx": "old driver"})},
        "warning",
        "backend mlx cannot be used: old driver",
        "mertd model compare mlx numpy",
    ),
    "port taken": ({"ports": (Port("--bind", "e", taken="e is in use"),)}, "problem", "e is in use", "mertd run --bind"),
    "no device": ({"inputs": ()}, "problem", "no input device", "plug one in"),
    "a device that is gone": ({"inputs": (Input("Mic", True, problem="was lost"),)}, "problem", "was lost", "mertd devices"),
    "another device that is gone": ({"inputs": (Input("Mic", False, problem="x"),)}, "warning", "x", "mertd devices"),
    "muted": ({"inputs": (replace(MICROPHONE, cause="muted", hint="m"),)}, "problem", "muted; m", "pactl set-source-mute"),
    "no consent": ({"inputs": (replace(MICROPHONE, cause="no_consent"),)}, "problem", "no consent", "Privacy & Security"),
    "dead": ({"inputs": (replace(MICROPHONE, cause="unknown"),)}, "problem", "unknown", "device:NAME"),
    "nothing plays": ({"inputs": (replace(MICROPHONE, cause="idle_monitor"),)}, "warning", "idle monitor", "play something"),
    "quiet": ({"inputs": (replace(MICROPHONE, rms_dbfs=-80.0),)}, "warning", "-80 dBFS", "--gate"),
    "clipped": ({"inputs": (replace(MICROPHONE, peak_dbfs=0.0),)}, "warning", "clipped", "gain"),
    "wrong rate": ({"inputs": (replace(MICROPHONE, rate=16_000),)}, "warning", "16000 Hz", "device:NAME?rate=48000"),
    "stale lock": ({"stale": ("/run/x.lock",)}, "warning", "/run/x.lock is left over", "rm /run/x.lock"),
    "bad configuration": ({"mistakes": ("hop: too small",)}, "problem", "hop: too small", "mertd config check"),
    "missing library": (
        {"packages": (Package("soxr", "", "resampling"),)},
        "problem",
        "soxr is missing",
        "/usr/bin/python3 -m pip install soxr",
    ),
    "no PortAudio": ({"portaudio": "PortAudio is not installed"}, "problem", "not installed", "install"),
    "full disk": ({"disks": (Disk("logs", "/var", 5 << 20),)}, "problem", "0.0 GB free for logs (/var)", "du -xh /var"),
    "little room": ({"disks": (Disk("logs", "/var", 500 << 20),)}, "warning", "0.5 GB free", "du -xh /var"),
    "clock step": ({"stepped_s": 3_600.0}, "problem", "jumped by +3600.0 s", "ntp"),
    "clock stepped under a daemon": ({"running": replace(DAEMON, steps=2)}, "problem", "jumped 2 times", "ntp"),
    "clock adrift": ({"synchronised": False}, "warning", "not synchronised", "ntp"),
    "no loopback": ({"loopbacks": ()}, "warning", "nothing here hears what this machine plays", ""),
    "last fault": ({"running": replace(DAEMON, faults=("embed: killed",))}, "warning", "embed: killed", "mertd status"),
    "skipped": ({"running": replace(DAEMON, skipped=3)}, "warning", "3 windows were skipped", "--hop"),
    "slow subscriber": ({"running": replace(DAEMON, dropped=2)}, "warning", "ran full 2 times", "newest=True"),
    "something unknown": ({"unknown": ("device X: crashed",)}, "warning", "device X: crashed", ""),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_fault_is_found_alone(name: str) -> None:
    change, level, text, fix = PLANTED[name]
    found = only(replace(WELL, **change))  # type: ignore[arg-type]
    assert found.level == level
    assert text in found.text
    assert fix.lower() in found.fix.lower()


def test_what_is_not_looked_at_is_not_judged() -> None:
    quick = replace(WELL, computing=None, inputs=(Input("Mic", False),), loopbacks=None)
    assert {finding.level for finding in findings(quick)} == {"ok"}
