"""From facts to findings: each fault is found, without others, and with its remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mertd.doctor.facts import (
    Audio,
    Configuration,
    DiskSpace,
    EndpointUse,
    Environment,
    Facts,
    Finding,
    InputDevice,
    ModelTrial,
    Package,
    RunningDaemon,
    StreamLimits,
    WallClock,
)
from mertd.doctor.findings import findings, is_problem

MICROPHONE = InputDevice("Microphone", True, 48_000, 1, -40.0, -12.0)
MODEL = ModelTrial("w.safetensors", True, "onnx", "cpu", "float32", 2.5)
WELL = Facts(
    environment=Environment(
        "3.12.1", "/usr/bin/python3", (Package("numpy", "2.4", "everything"),), (DiskSpace("logs", "/var", 1 << 40),)
    ),
    configuration=Configuration("mertd.toml", limits=StreamLimits(1, 70, 1_024, 6_240_000, 1 << 40)),
    model=MODEL,
    audio=Audio("", (MICROPHONE,), ("card.monitor",)),
    endpoints=(EndpointUse("--bind", "tcp://127.0.0.1:5590"),),
    clock=WallClock(synchronised=True),
)
DAEMON = RunningDaemon(7, "running", "1.0")


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
    "too few descriptors": (
        {"configuration": Configuration("x", limits=StreamLimits(1_000, 2_300, 1_024, 1, 2))},
        "problem",
        "1000 streams need 0.00 GB of memory for their rings, and about 2,300 file descriptors",
        "LimitNOFILE=",
    ),
    "too little memory": (
        {"configuration": Configuration("x", limits=StreamLimits(1_000, 2_300, 4_096, 6_240_000_000, 4_000_000_000))},
        "problem",
        "6.24 GB of memory",
        "--ring",
    ),
    "no weights": ({"model": ModelTrial(problem="there are no weights at x")}, "problem", "no weights", "mertd model pull"),
    "broken weights": ({"model": ModelTrial(problem="x: header is cut off")}, "problem", "cut off", "mertd model check"),
    "untrained": (
        {"model": replace(MODEL, trained=False)},
        "warning",
        "random",
        "mertd model pull",
    ),
    "a model that cannot run": ({"model": ModelTrial("w", problem="no backend can run")}, "problem", "no backend", "bench"),
    "slow": ({"model": replace(MODEL, seconds=9.0)}, "warning", "9.00 s a window", "--hop 14"),
    "no GPU": (
        {"model": replace(MODEL, rejected={"mlx": "old driver"})},
        "warning",
        "backend mlx cannot be used: old driver",
        "mertd model compare mlx numpy",
    ),
    "port taken": (
        {"endpoints": (EndpointUse("--bind", "e", problem="e is in use"),)},
        "problem",
        "e is in use",
        "mertd run --bind",
    ),
    "no device": ({"audio": replace(WELL.audio, inputs=())}, "problem", "no input device", "plug one in"),
    "a device that is gone": (
        {"audio": replace(WELL.audio, inputs=(InputDevice("Mic", True, problem="was lost"),))},
        "problem",
        "was lost",
        "mertd devices",
    ),
    "another device that is gone": (
        {"audio": replace(WELL.audio, inputs=(InputDevice("Mic", False, problem="x"),))},
        "warning",
        "x",
        "mertd devices",
    ),
    "muted": (
        {"audio": replace(WELL.audio, inputs=(replace(MICROPHONE, cause="muted", hint="m"),))},
        "problem",
        "muted; m",
        "pactl set-source-mute",
    ),
    "no consent": (
        {"audio": replace(WELL.audio, inputs=(replace(MICROPHONE, cause="no_consent"),))},
        "problem",
        "no consent",
        "Privacy & Security",
    ),
    "dead": (
        {"audio": replace(WELL.audio, inputs=(replace(MICROPHONE, cause="unknown"),))},
        "problem",
        "unknown",
        "device:NAME",
    ),
    "nothing plays": (
        {"audio": replace(WELL.audio, inputs=(replace(MICROPHONE, cause="idle_monitor"),))},
        "warning",
        "idle monitor",
        "play something",
    ),
    "quiet": ({"audio": replace(WELL.audio, inputs=(replace(MICROPHONE, rms_dbfs=-80.0),))}, "warning", "-80 dBFS", "--gate"),
    "clipped": ({"audio": replace(WELL.audio, inputs=(replace(MICROPHONE, peak_dbfs=0.0),))}, "warning", "clipped", "gain"),
    "wrong rate": (
        {"audio": replace(WELL.audio, inputs=(replace(MICROPHONE, rate=16_000),))},
        "warning",
        "16000 Hz",
        "device:NAME?rate=48000",
    ),
    "stale lock": ({"stale_locks": ("/run/x.lock",)}, "warning", "/run/x.lock is left over", "rm /run/x.lock"),
    "bad configuration": (
        {"configuration": Configuration("mertd.toml", ("hop: too small",))},
        "problem",
        "hop: too small",
        "mertd config check",
    ),
    "missing library": (
        {"environment": replace(WELL.environment, packages=(Package("soxr", "", "resampling"),))},
        "problem",
        "soxr is missing",
        "/usr/bin/python3 -m pip install soxr",
    ),
    "no PortAudio": ({"audio": Audio("PortAudio is not installed")}, "problem", "not installed", "install"),
    "full disk": (
        {"environment": replace(WELL.environment, disks=(DiskSpace("logs", "/var", 5 << 20),))},
        "problem",
        "0.0 GB free for logs (/var)",
        "du -xh /var",
    ),
    "little room": (
        {"environment": replace(WELL.environment, disks=(DiskSpace("logs", "/var", 500 << 20),))},
        "warning",
        "0.5 GB free",
        "du -xh /var",
    ),
    "clock step": ({"clock": WallClock(True, 3_600.0)}, "problem", "jumped by +3600.0 s", "ntp"),
    "clock stepped under a daemon": ({"daemon": replace(DAEMON, clock_steps=2)}, "problem", "jumped 2 times", "ntp"),
    "clock adrift": ({"clock": WallClock(synchronised=False)}, "warning", "not synchronised", "ntp"),
    "no loopback": ({"audio": replace(WELL.audio, loopbacks=())}, "warning", "no device captures what this machine plays", ""),
    "last fault": ({"daemon": replace(DAEMON, faults=("embed: killed",))}, "warning", "embed: killed", "mertd status"),
    "skipped": ({"daemon": replace(DAEMON, skipped=3)}, "warning", "3 windows were skipped", "--hop"),
    "slow subscriber": ({"daemon": replace(DAEMON, dropped=2)}, "warning", "was full 2 times", "newest=True"),
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
    quick = replace(WELL, model=None, audio=Audio("", (InputDevice("Mic", False),), None))
    assert {finding.level for finding in findings(quick)} == {"ok"}
