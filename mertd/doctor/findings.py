"""From facts to findings, by pure functions.

A problem keeps mertd from working; a warning limits it; "ok" shows that something was examined.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator

from mertd.capture.source_kinds import without_device
from mertd.doctor.facts import DiskSpace, Facts, Finding, InputDevice

FULL_BYTES = 100 << 20
"""Free space below which weights or logs cannot be written."""

LOW_BYTES = 1 << 30
"""Free space below which the doctor warns."""

CLOCK_STEP_S = 0.25
"""Seconds of difference between wall clock and monotonic clock that count as a step."""

NARROW_HZ = 24_000
"""Sample rate of MERT: a device with a lower one delivers less than it can use."""

LOOPBACK_FIXES = {
    "darwin": "brew install blackhole-2ch, then choose a Multi-Output Device with it in Audio MIDI Setup",
    "linux": "PulseAudio and PipeWire have a monitor of each output: see pactl list short sources",
}

CAUSE_FIXES = {
    "no_consent": "System Settings, Privacy & Security, Microphone",
    "muted": "pactl set-source-mute @DEFAULT_SOURCE@ 0; pactl set-source-volume @DEFAULT_SOURCE@ 100%",
    "idle_monitor": "play something",
}
"""Remedies by the cause of zeros."""

OTHER_DEVICE = "mertd devices, mertd run --source device:NAME"


def findings(facts: Facts) -> list[Finding]:
    """Return all findings, in the order in which one would examine a machine."""
    checks = (_python, _packages, _portaudio, _configuration, _model, _inputs, _loopbacks, _endpoints, _locks)
    found = [finding for check in (*checks, _service, _daemon, _clock, _disks, _streams) for finding in check(facts)]
    return found + [Finding("doctor", "warning", text, "this could not be examined") for text in facts.unknown]


def is_problem(found: list[Finding]) -> bool:
    """Return whether a finding keeps mertd from working."""
    return any(finding.level == "problem" for finding in found)


def _python(facts: Facts) -> Iterator[Finding]:
    machine = facts.environment
    yield Finding("python", "ok", f"Python {machine.python}, {machine.executable}")
    if machine.unsupported:
        fix = "on this Mac, only what needs no model works: tail, keys, status"
        yield Finding("system", "problem", machine.system, machine.unsupported, fix)


def _packages(facts: Facts) -> Iterator[Finding]:
    packages = facts.environment.packages
    missing = [package for package in packages if not package.version]
    for package in missing:
        fix = f"{shlex.quote(facts.environment.executable)} -m pip install {package.name}"
        yield Finding("packages", "problem", f"{package.name} is missing", f"mertd needs it for {package.purpose}", fix)
    if not missing:
        yield Finding("packages", "ok", ", ".join(f"{package.name} {package.version}" for package in packages))


def _portaudio(facts: Facts) -> Iterator[Finding]:
    if facts.audio.portaudio_problem:
        fix = "brew install portaudio" if sys.platform == "darwin" else "apt install libportaudio2 libasound2-plugins"
        why = f"devices cannot be captured without it; {without_device()} sources can"
        yield Finding("portaudio", "problem", facts.audio.portaudio_problem, why, fix)


def _configuration(facts: Facts) -> Iterator[Finding]:
    for mistake in facts.configuration.mistakes:
        yield Finding("configuration", "problem", mistake, "`mertd run` refuses to start", "mertd config check")
    if not facts.configuration.mistakes:
        yield Finding("configuration", "ok", facts.configuration.source)


def _model(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    if model is None:
        return
    if model.problem:
        why = "without a model nothing can be embedded"
        if model.weights:
            yield Finding("model", "problem", model.problem, why, "mertd bench --quick")
        else:
            fix = "mertd model pull, or mertd model check FILE to examine a file of yours"
            yield Finding("weights", "problem", model.problem, why, fix)
        return
    if not model.trained:
        text = f"{model.weights} are random weights"
        yield Finding("weights", "warning", text, "the vectors follow the sound but have no meaning", "mertd model pull")
    else:
        yield Finding("weights", "ok", model.weights)
    for name, reason in model.rejected.items():
        fix = f"mertd model compare {name} numpy"
        yield Finding("model", "warning", f"backend {name} cannot be used: {reason}", "it would be faster", fix)
    text = f"{model.backend} on {model.device} ({model.precision}), {model.seconds:.2f} s a window"
    if model.seconds > facts.configuration.hop_s:
        why = f"a window is due every {facts.configuration.hop_s:g} s; some are skipped"
        yield Finding("model", "warning", text, why, f"mertd run --hop {model.seconds * 1.5:.0f}, or a shorter --window")
    else:
        yield Finding("model", "ok", text)


def _inputs(facts: Facts) -> Iterator[Finding]:
    if facts.audio.inputs is None or facts.audio.portaudio_problem:
        return
    if not facts.audio.inputs:
        why = f"device: sources need one; {without_device()} sources do not"
        fix = "plug one in, or pactl load-module module-null-sink" if sys.platform == "linux" else "plug one in"
        yield Finding("devices", "problem", "there is no input device", why, fix)
    for device in facts.audio.inputs:
        yield _input(device, facts.configuration.gate_dbfs)


def _input(device: InputDevice, gate_dbfs: float) -> Finding:
    name, serious = f"device:{device.name}", "problem" if device.configured else "warning"
    if device.problem:
        return Finding("devices", serious, f"{name}: {device.problem}", "it cannot be captured", "mertd devices")
    text = f"{name}, {device.rate} Hz, {device.channels} channels"
    if device.rms_dbfs is None:
        return Finding("devices", "ok", f"{text}, signal not examined")
    if device.cause:
        level = "warning" if device.cause == "idle_monitor" else serious
        text += f": {device.cause.replace('_', ' ')}; {device.hint}"
        fix = CAUSE_FIXES.get(device.cause, f"switch it on, or choose another: {OTHER_DEVICE}")
        return Finding("devices", level, text, "it delivers only zeros", fix)
    text += f", {device.rms_dbfs:.0f} dBFS, peak {device.peak_dbfs or 0.0:.0f}"
    if 0 < device.rate < NARROW_HZ:
        limit = f"MERT uses sound up to {NARROW_HZ // 2} Hz, this device delivers up to {device.rate // 2}"
        why = f"{limit}; often it is a Bluetooth headset"
        return Finding("devices", "warning", text, why, f"choose another: {OTHER_DEVICE}?rate=48000")
    if device.rms_dbfs < gate_dbfs:
        why = f"windows below {gate_dbfs:g} dBFS are not embedded; the room is quiet, or it is the wrong device"
        return Finding("devices", "warning", f"{text}: quiet", why, "make a sound; mertd devices; or mertd run --gate -90")
    if device.peak_dbfs is not None and device.peak_dbfs >= 0:
        return Finding("devices", "warning", f"{text}: clipped", "distortion changes the vectors", "turn its gain down")
    return Finding("devices", "ok", text)


def _loopbacks(facts: Facts) -> Iterator[Finding]:
    if facts.audio.loopbacks is None:
        return
    if facts.audio.loopbacks:
        text = f"what this machine plays can be captured: {', '.join(facts.audio.loopbacks)}"
        yield Finding("loopback", "ok", text)
    else:
        fix, why = LOOPBACK_FIXES.get(sys.platform, ""), "only needed to listen to programs"
        yield Finding("loopback", "warning", "no device captures what this machine plays", why, fix)


def _endpoints(facts: Facts) -> Iterator[Finding]:
    for use in facts.endpoints:
        if use.pid:
            yield Finding("endpoints", "ok", f"{use.endpoint}: bound by mertd, process {use.pid}")
        elif use.problem:
            fix = f"mertd run {use.option} tcp://127.0.0.1:5600"
            yield Finding("endpoints", "problem", use.problem, "mertd cannot start there", fix)
        else:
            yield Finding("endpoints", "ok", f"{use.endpoint} is free")


def _locks(facts: Facts) -> Iterator[Finding]:
    for path in facts.stale_locks:
        why = "its daemon was killed; the next one removes it, so this matters only if none can start"
        yield Finding("locks", "warning", f"{path} is left over", why, f"rm {shlex.quote(path)}")


def _service(facts: Facts) -> Iterator[Finding]:
    if facts.service_problem:
        why = "the service does not start, or not as it was installed"
        yield Finding("service", "problem", facts.service_problem, why, "mertd service install")
    elif facts.service:
        yield Finding("service", "ok", facts.service)


def _daemon(facts: Facts) -> Iterator[Finding]:
    daemon = facts.daemon
    if daemon is None:
        yield Finding("daemon", "ok", "none is running")
        return
    yield Finding("daemon", "ok", f"mertd {daemon.version} is {daemon.phase}, process {daemon.pid}")
    for fault in daemon.faults:
        yield Finding("daemon", "warning", fault, "this is the last error", "mertd tail --events; mertd status")
    if daemon.skipped:
        why = "the model is too slow for the hop, or was starting"
        yield Finding("daemon", "warning", f"{daemon.skipped} windows were skipped", why, "mertd control set --hop 10")
    if daemon.dropped:
        text, why = f"a queue was full {daemon.dropped} times", "a subscriber reads too slowly"
        yield Finding("daemon", "warning", text, why, "read faster, or subscribe with newest=True")


def _clock(facts: Facts) -> Iterator[Finding]:
    steps, stepped_s = facts.daemon.clock_steps if facts.daemon else 0, facts.clock.stepped_s
    fix = "timedatectl set-ntp true" if sys.platform == "linux" else "sudo sntp -sS time.apple.com"
    if abs(stepped_s) > CLOCK_STEP_S or steps:
        times = f"{steps} times while the daemon ran" if steps else f"by {stepped_s:+.1f} s during this examination"
        yield Finding("clock", "problem", f"wall time jumped {times}", "each jump begins a new epoch and loses windows", fix)
    elif facts.clock.synchronised is False:
        yield Finding("clock", "warning", "the clock is not synchronised", "times of windows have the same error", fix)
    else:
        yield Finding("clock", "ok", "synchronised" if facts.clock.synchronised else "steady; synchronisation unknown")


def _disks(facts: Facts) -> Iterator[Finding]:
    for disk in facts.environment.disks:
        yield _disk(disk)


def _disk(disk: DiskSpace) -> Finding:
    text = f"{disk.free_bytes / 1e9:.1f} GB free for {disk.purpose} ({disk.directory})"
    if disk.free_bytes >= LOW_BYTES:
        return Finding("disk", "ok", text)
    level = "problem" if disk.free_bytes < FULL_BYTES else "warning"
    why, fix = "weights take 190 MB; logs are lost when it is full", f"du -xh {shlex.quote(disk.directory)} | sort -h | tail"
    return Finding("disk", level, text, why, fix)


def _streams(facts: Facts) -> Iterator[Finding]:
    limits = facts.configuration.limits
    if limits is None:
        return
    subject = f"{limits.streams} streams need" if limits.streams != 1 else "1 stream needs"
    rings = f"{subject} {limits.ring_bytes / 1e9:.2f} GB of memory for their rings"
    text = f"{rings}, and about {limits.descriptors:,} file descriptors"
    if limits.descriptors > limits.descriptors_allowed:
        fix = "raise the hard limit: ulimit -Hn, or LimitNOFILE= of the systemd unit"
        why = f"the system allows a process {limits.descriptors_allowed:,}, and the daemon will not start"
        yield Finding("streams", "problem", text, why, fix)
    elif limits.ring_bytes > limits.available_bytes:
        why = f"{limits.available_bytes / 1e9:.2f} GB are available; rings are allocated at the start"
        yield Finding("streams", "problem", text, why, "ask for shorter rings with --ring, or listen to fewer streams")
    else:
        yield Finding("streams", "ok", text)
