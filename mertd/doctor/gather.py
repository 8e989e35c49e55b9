"""Gathers the facts. What may hang is asked in a process of its own, which is killed in time; what is not to be had is said."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import platformdirs

from mertd.config import Given, Settings, check, default_weights
from mertd.daemon.instance import holder, local_keys, stale, taken
from mertd.doctor.facts import Computing, Disk, Facts, Input, Package, Port, Running
from mertd.errors import EndpointError, MertdError, UsageError
from mertd.service.choose import service_state
from mertd.stream.request import ask
from mertd.wire import Event, Status

PATIENCE_S = 20.0
"""For a device that does not answer; a model has three times as long."""

MOST_DEVICES, AT_ONCE = 8, 4

USES = {
    "numpy": "everything",
    "soxr": "resampling",
    "pyzmq": "the sockets",
    "msgpack": "the wire",
    "sounddevice": "devices",
    "soundfile": "files",
    "safetensors": "weights",
    "huggingface-hub": "fetching weights",
    "onnx": "the model on a processor",
    "onnxruntime": "the model on a processor",
    "pulsectl": "knowing what is heard and whether it is muted",
    "mlx": "the model on the GPU",
    "coremltools": "the model without MLX",
}
"""Packages by what they are for. The last ones belong to one platform."""

OF_PLATFORM = {"linux": {"onnx", "onnxruntime", "pulsectl"}, "darwin": {"mlx", "coremltools"}}


def gather(given: Given, quick: bool, progress: Callable[[str], object] = lambda _: None) -> Facts:
    """Everything; `quick` leaves out the model and listening. `progress` is told what is being looked at."""
    offset = time.time() - time.monotonic()
    unknown: list[str] = []
    settings, mistakes = _settings(given)
    chosen = settings or Settings.model_validate({})
    progress("devices")
    names = _ask_probe(["devices"], PATIENCE_S, unknown)
    model: Computing | None = None
    inputs: tuple[Input, ...] | None = None
    if not quick:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            progress("devices, two seconds each, and the model")
            computing = pool.submit(_computing, chosen, unknown)
            inputs = _inputs(chosen, names.get("devices", []), pool, unknown)
            model = computing.result()
    elif "devices" in names:
        inputs = tuple(Input(name, wanted=False) for name in names["devices"])
    progress("the rest")
    running = _running(chosen, unknown)
    return Facts(
        python=platform.python_version(),
        executable=sys.executable,
        packages=tuple(packages()),
        portaudio=names.get("problem", ""),
        configuration=str(given.path) if given.path else "defaults: there is no file",
        mistakes=mistakes,
        computing=model,
        hop_s=chosen.hop,
        inputs=inputs,
        gate_dbfs=chosen.gate,
        loopbacks=_loopbacks(names.get("devices", [])),
        ports=tuple(port(option, endpoint) for option, endpoint in (("--bind", chosen.bind), ("--control", chosen.control))),
        service=_service(),
        running=running,
        synchronised=_synchronised(),
        stepped_s=time.time() - time.monotonic() - offset,
        disks=tuple(disks()),
        stale=tuple(map(str, stale())),
        unknown=tuple(unknown),
    )


def packages() -> list[Package]:
    """What is installed of what this platform needs."""
    other = set().union(*(names for system, names in OF_PLATFORM.items() if system != sys.platform))
    found = []
    for name, use in USES.items():
        if name in other:
            continue
        try:
            found.append(Package(name, importlib.metadata.version(name), use))
        except importlib.metadata.PackageNotFoundError:
            found.append(Package(name, "", use))
    return found


def port(option: str, endpoint: str) -> Port:
    """Whether an endpoint can be bound, or who has it."""
    if by := holder(endpoint):
        return Port(option, endpoint, by.pid)
    scheme, _, rest = endpoint.partition("://")
    host, _, number = rest.rpartition(":")
    if scheme != "tcp" or number == "*":
        return Port(option, endpoint)
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("0.0.0.0" if host == "*" else host, int(number)))
        except OSError:
            return Port(option, endpoint, taken=taken(endpoint, option, None))
    return Port(option, endpoint)


def disks() -> list[Disk]:
    """Room in the folders that mertd writes to, or in those in which they would be made."""
    found = []
    for what, folder in (
        ("weights", Path(platformdirs.user_data_dir("mertd"))),
        ("configuration", Path(platformdirs.user_config_dir("mertd"))),
        ("logs", Path(platformdirs.user_log_dir("mertd"))),
    ):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        found.append(Disk(what, str(there), shutil.disk_usage(there).free))
    return found


def _settings(given: Given) -> tuple[Settings | None, tuple[str, ...]]:
    try:
        return check(given), ()
    except UsageError as error:
        return None, tuple(str(error).splitlines())


def _ask_probe(words: Sequence[str], timeout_s: float, unknown: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "mertd.doctor.probe", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"problem": f"does not answer within {timeout_s:.0f} s"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        unknown.append(f"{' '.join(words[:2])}: its process ended without an answer: {last}")
        return {}
    return answer


def _computing(settings: Settings, unknown: list[str]) -> Computing | None:
    weights = settings.weights or str(default_weights())
    plan = {"weights": weights, "layers": settings.layers, "backend": settings.backend, "window": settings.window_samples}
    if settings.weights is None and not default_weights().is_file():
        return Computing(problem=f"there are no weights at {weights}")
    answer = _ask_probe(["model", json.dumps(plan)], 3 * PATIENCE_S, unknown)
    return Computing(**answer) if answer else None


def _inputs(settings: Settings, names: Sequence[str], pool: ThreadPoolExecutor, unknown: list[str]) -> tuple[Input, ...]:
    wanted = [address for address in settings.addresses if address.kind == "device"]
    targets = {address.target + (f"?rate={address.rate}" if address.rate else "") for address in wanted}
    asked = list(dict.fromkeys([*(target for target in targets if target.split("?")[0]), *names[:MOST_DEVICES]]))
    is_wanted = {name: name in targets or ("" in targets and name == next(iter(names), None)) for name in asked}
    answers = pool.map(lambda name: _ask_probe(["device", name], PATIENCE_S, unknown), asked)
    return tuple(Input(name, is_wanted[name], **answer) for name, answer in zip(asked, answers, strict=True))


def _loopbacks(names: Sequence[str]) -> tuple[str, ...] | None:
    if sys.platform == "darwin":
        from mertd.capture.sources.loopback import virtual_devices

        return tuple(virtual_devices(list(names)))
    try:
        import pulsectl

        with pulsectl.Pulse("mertd-doctor", connect=False) as server:
            server.connect(autospawn=False, timeout=5)
            return tuple(source.name for source in server.source_list() if source.monitor_of_sink_name)
    except Exception:  # noqa: BLE001 - no server, no library, or a class of its own: there is nothing to be heard
        return ()


def _service() -> str:
    found = service_state()
    if found is None:
        return "this system has no service manager that mertd knows"
    if not found.installed:
        return "not installed as a service; `mertd service install` does that"
    return "installed as a service and running" if found.running else "installed as a service, not running: mertd service start"


def _running(settings: Settings, unknown: list[str]) -> Running | None:
    if holder(settings.control) is None:
        return None
    try:
        keys = local_keys(settings.control)
        (status,) = ask(settings.control, {"request": "status"}, keys=keys)
        events = ask(settings.control, {"request": "history", "kind": "event", "stream": "", "last": 256}, keys=keys)
    except EndpointError as error:
        unknown.append(str(error))
        return None
    except MertdError as error:
        unknown.append(f"{settings.control}: {error}")
        return None
    assert isinstance(status, Status)
    faults = [f"{name}: {facts['last_error']}" for name, facts in status.processes.items() if facts.get("last_error")]
    faults += [f"{name}: {facts['problem']}" for name, facts in status.streams.items() if facts.get("problem")]
    return Running(
        pid=int(status.processes["supervisor"]["pid"]),
        phase=status.phase,
        version=status.version,
        faults=tuple(faults),
        skipped=sum(_count(facts, "skipped") for facts in status.streams.values()),
        dropped=status.dropped,
        steps=sum(isinstance(e, Event) and e.event == "epoch" and e.detail.get("reason") == "clock" for e in events),
    )


def _count(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name, 0)
    return value if isinstance(value, int) else 0


def _synchronised() -> bool | None:
    if shutil.which("timedatectl") is None:
        return None
    command = ["timedatectl", "show", "--property", "NTPSynchronized", "--value"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except subprocess.TimeoutExpired:
        return None
    return {"yes": True, "no": False}.get(answer)
