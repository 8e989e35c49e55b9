"""From facts to findings: pure functions, one for each thing that can be wrong.

A problem keeps mertd from its work; a warning is worth knowing; the rest is told so that one sees it was looked at.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator

from mertd.capture.source_kinds import without_device
from mertd.doctor.facts import Disk, Facts, Finding, Input

FULL, LOW = 100 << 20, 1 << 30
"""Bytes free: too few to write weights or logs; few."""

STEP_S = 0.25
NARROW_HZ = 24_000
"""MERT hears up to half of this."""

LOOPBACK = {
    "darwin": "brew install blackhole-2ch, then choose a Multi-Output Device with it in Audio MIDI Setup",
    "linux": "PulseAudio and PipeWire have a monitor of each output: see pactl list short sources",
}


def findings(facts: Facts) -> list[Finding]:
    """All verdicts, in the order in which one would look."""
    checks = (_python, _packages, _portaudio, _configuration, _computing, _inputs, _loopbacks, _ports, _locks)
    found = [finding for check in (*checks, _service, _running, _clock, _disks) for finding in check(facts)]
    return found + [Finding("doctor", "warning", text, "what it would have told is not known") for text in facts.unknown]


def is_problem(found: list[Finding]) -> bool:
    """Whether something keeps mertd from its work."""
    return any(finding.level == "problem" for finding in found)


def _python(facts: Facts) -> Iterator[Finding]:
    yield Finding("python", "ok", f"Python {facts.python}, {facts.executable}")


def _packages(facts: Facts) -> Iterator[Finding]:
    missing = [package for package in facts.packages if not package.version]
    for package in missing:
        fix = f"{shlex.quote(facts.executable)} -m pip install {package.name}"
        yield Finding("packages", "problem", f"{package.name} is missing", f"it is needed for {package.use}", fix)
    if not missing:
        yield Finding("packages", "ok", ", ".join(f"{p.name} {p.version}" for p in facts.packages))


def _portaudio(facts: Facts) -> Iterator[Finding]:
    if facts.portaudio:
        fix = "brew install portaudio" if sys.platform == "darwin" else "apt install libportaudio2 libasound2-plugins"
        yield Finding(
            "portaudio", "problem", facts.portaudio, "without it no device can be heard; file:, pipe: and synth: can", fix
        )


def _configuration(facts: Facts) -> Iterator[Finding]:
    for mistake in facts.mistakes:
        yield Finding("configuration", "problem", mistake, "`mertd run` refuses to start", "mertd config check")
    if not facts.mistakes:
        yield Finding("configuration", "ok", facts.configuration)


def _computing(facts: Facts) -> Iterator[Finding]:
    model = facts.computing
    if model is None:
        return
    if model.problem:
        weights = not model.weights
        fix = (
            "mertd model pull, or mertd model check FILE to see what is wrong with yours" if weights else "mertd bench --quick"
        )
        yield Finding(
            "weights" if weights else "model", "problem", model.problem, "without a model nothing can be embedded", fix
        )
        return
    if not model.trained:
        text = f"{model.weights} are random weights"
        yield Finding("weights", "warning", text, "the vectors move with the sound but mean nothing", "mertd model pull")
    else:
        yield Finding("weights", "ok", model.weights)
    for name, reason in model.rejected.items():
        fix = f"mertd model compare {name} numpy"
        yield Finding("model", "warning", f"backend {name} cannot be used: {reason}", "a better one would be faster", fix)
    text = f"{model.backend} on {model.device} ({model.precision}), {model.seconds:.2f} s a window"
    if model.seconds > facts.hop_s:
        why = f"windows come every {facts.hop_s:g} s: the others are skipped"
        yield Finding("model", "warning", text, why, f"mertd run --hop {model.seconds * 1.5:.0f}, or a shorter --window")
    else:
        yield Finding("model", "ok", text)


def _inputs(facts: Facts) -> Iterator[Finding]:
    if facts.inputs is None or facts.portaudio:
        return
    if not facts.inputs:
        why = f"device: sources have nothing to capture; {without_device()} need none"
        fix = "plug one in, or pactl load-module module-null-sink" if sys.platform == "linux" else "plug one in"
        yield Finding("devices", "problem", "there is no input device", why, fix)
    for device in facts.inputs:
        yield _input(device, facts.gate_dbfs)


def _input(device: Input, gate_dbfs: float) -> Finding:
    name, serious = f"device:{device.name}", "problem" if device.wanted else "warning"
    if device.problem:
        return Finding("devices", serious, f"{name}: {device.problem}", "it cannot be heard", "mertd devices")
    about = f"{name}, {device.rate} Hz, {device.channels} channels"
    if device.rms_dbfs is None:
        return Finding("devices", "ok", f"{about}, not listened to")
    if device.cause:
        level = "warning" if device.cause == "idle_monitor" else serious
        fixes = {
            "no_consent": "System Settings, Privacy & Security, Microphone",
            "muted": "pactl set-source-mute @DEFAULT_SOURCE@ 0; pactl set-source-volume @DEFAULT_SOURCE@ 100%",
            "idle_monitor": "play something",
        }
        fix = fixes.get(device.cause, "switch it on, or choose another: mertd devices, mertd run --source device:NAME")
        return Finding(
            "devices", level, f"{about}: {device.cause.replace('_', ' ')}; {device.hint}", "only zeros come from it", fix
        )
    about += f", {device.rms_dbfs:.0f} dBFS, peak {device.peak_dbfs or 0.0:.0f}"
    if 0 < device.rate < NARROW_HZ:
        why = f"MERT hears up to {NARROW_HZ // 2} Hz, this device up to {device.rate // 2}: a headset on Bluetooth, often"
        return Finding(
            "devices", "warning", about, why, "choose another: mertd devices, mertd run --source device:NAME?rate=48000"
        )
    if device.rms_dbfs < gate_dbfs:
        why = f"windows below {gate_dbfs:g} dBFS are not embedded: a quiet room, or the wrong device"
        return Finding("devices", "warning", f"{about}: quiet", why, "make a sound; mertd devices; or mertd run --gate -90")
    if device.peak_dbfs is not None and device.peak_dbfs >= 0:
        return Finding("devices", "warning", f"{about}: clipped", "distorted sound gives other vectors", "turn its gain down")
    return Finding("devices", "ok", about)


def _loopbacks(facts: Facts) -> Iterator[Finding]:
    if facts.loopbacks is None:
        return
    if facts.loopbacks:
        yield Finding("loopback", "ok", f"what this machine plays can be heard: {', '.join(facts.loopbacks)}")
    else:
        fix = LOOPBACK.get(sys.platform, "")
        yield Finding(
            "loopback", "warning", "nothing here hears what this machine plays", "only needed to listen to programs", fix
        )


def _ports(facts: Facts) -> Iterator[Finding]:
    for port in facts.ports:
        if port.pid:
            yield Finding("endpoints", "ok", f"{port.endpoint}: the mertd with process number {port.pid} has it")
        elif port.taken:
            yield Finding(
                "endpoints", "problem", port.taken, "mertd cannot start there", f"mertd run {port.option} tcp://127.0.0.1:5600"
            )
        else:
            yield Finding("endpoints", "ok", f"{port.endpoint} is free")


def _locks(facts: Facts) -> Iterator[Finding]:
    for path in facts.stale:
        why = "its daemon was killed; the next one clears it away, so this only matters if none can start"
        yield Finding("locks", "warning", f"{path} is left over", why, f"rm {shlex.quote(path)}")


def _service(facts: Facts) -> Iterator[Finding]:
    if facts.service:
        yield Finding("service", "ok", facts.service)


def _running(facts: Facts) -> Iterator[Finding]:
    daemon = facts.running
    if daemon is None:
        yield Finding("daemon", "ok", "none is running")
        return
    yield Finding("daemon", "ok", f"mertd {daemon.version} is {daemon.phase}, process {daemon.pid}")
    for fault in daemon.faults:
        yield Finding("daemon", "warning", fault, "the last thing that went wrong", "mertd tail --events; mertd status")
    if daemon.skipped:
        why = "the model is too slow for the hop, or was starting"
        yield Finding("daemon", "warning", f"{daemon.skipped} windows were skipped", why, "mertd control set --hop 10")
    if daemon.dropped:
        why = "a subscriber does not keep up"
        yield Finding(
            "daemon", "warning", f"a queue ran full {daemon.dropped} times", why, "read faster, or subscribe with newest=True"
        )


def _clock(facts: Facts) -> Iterator[Finding]:
    steps = facts.running.steps if facts.running else 0
    fix = "timedatectl set-ntp true" if sys.platform == "linux" else "sudo sntp -sS time.apple.com"
    if abs(facts.stepped_s) > STEP_S or steps:
        times = f"{steps} times while the daemon ran" if steps else f"by {facts.stepped_s:+.1f} s during this examination"
        yield Finding("clock", "problem", f"wall time jumped {times}", "each jump begins a new epoch: windows are lost", fix)
    elif facts.synchronised is False:
        yield Finding("clock", "warning", "the clock is not synchronised", "times of windows are as wrong as it is", fix)
    else:
        yield Finding(
            "clock", "ok", "synchronised" if facts.synchronised else "steady; whether it is synchronised is not known"
        )


def _disks(facts: Facts) -> Iterator[Finding]:
    for disk in facts.disks:
        yield _disk(disk)


def _disk(disk: Disk) -> Finding:
    text = f"{disk.free / 1e9:.1f} GB free for {disk.what} ({disk.folder})"
    if disk.free >= LOW:
        return Finding("disk", "ok", text)
    fix = f"du -xh {shlex.quote(disk.folder)} | sort -h | tail"
    return Finding(
        "disk", "problem" if disk.free < FULL else "warning", text, "weights take 190 MB; logs are lost when it is full", fix
    )
