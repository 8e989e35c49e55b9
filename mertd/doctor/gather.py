"""Gather the facts. What may hang runs in a process of its own, with a timeout; what cannot be examined is reported."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mertd.config import RawSettings, Settings, default_weights, validate
from mertd.daemon.instance import holder, local_keys, stale, taken
from mertd.doctor.facts import (
    Audio,
    Configuration,
    DiskSpace,
    EndpointUse,
    Environment,
    Facts,
    InputDevice,
    ModelTrial,
    Package,
    RunningDaemon,
    WallClock,
)
from mertd.doctor.stream_limits import stream_limits
from mertd.errors import EndpointError, MertdError, UsageError
from mertd.service.choose import service_problem, service_state
from mertd.stream.request import ask
from mertd.user_folders import config_folder, data_folder, log_folder
from mertd.wire import Event, Status

DEVICE_TIMEOUT_S = 20.0
"""Seconds that a device may take to answer."""

MODEL_TIMEOUT_S = 60.0
"""Seconds that the model may take to load and to embed two windows."""

QUERY_TIMEOUT_S = 5.0
"""Seconds that a sound server or timedatectl may take to answer."""

MAX_DEVICES = 8
"""Devices that are listened to, besides configured ones."""

MAX_PROBES = 4
"""Probe processes that run at the same time."""

OLDEST_MACOS = 14
"""Major version of the first macOS that MLX has builds for."""

HISTORY_EVENTS = 256
"""Events of a running daemon in which steps of the clock are counted."""

PURPOSES = {
    "numpy": "everything",
    "soxr": "resampling",
    "pyzmq": "the sockets",
    "msgpack": "the wire",
    "sounddevice": "devices",
    "soundfile": "files",
    "av": "files that soundfile cannot read, or not whole",
    "safetensors": "weights",
    "huggingface-hub": "fetching weights",
    "onnx": "the model on a processor",
    "onnxruntime": "the model on a processor",
    "pulsectl": "recognising muted sources and monitors",
    "mlx": "the model on the GPU",
    "coremltools": "the model without MLX",
}
"""Packages that mertd needs, and what for."""

PLATFORM_PACKAGES = {"linux": {"onnx", "onnxruntime", "pulsectl"}, "darwin": {"mlx", "coremltools"}}
"""Packages that mertd needs on one platform only."""


def gather(given: RawSettings, quick: bool, progress: Callable[[str], object] = lambda _: None) -> Facts:
    """Gather all facts. `quick`: neither run the model nor listen to devices. `progress`: called with the current topic."""
    offset = time.time() - time.monotonic()
    unknown: list[str] = []
    settings, mistakes = _settings(given)
    chosen = settings or Settings.model_validate({})
    progress("devices")
    listed = _run_probe(["devices"], DEVICE_TIMEOUT_S, unknown)
    names = listed.get("devices", [])
    model: ModelTrial | None = None
    inputs: tuple[InputDevice, ...] | None = None
    if not quick:
        with ThreadPoolExecutor(MAX_PROBES) as pool:
            progress("devices, two seconds each, and the model")
            trial = pool.submit(_try_model, chosen, unknown)
            inputs = _listen_to_inputs(chosen, names, pool, unknown)
            model = trial.result()
    elif "devices" in listed:
        inputs = tuple(InputDevice(name, configured=False) for name in names)
    progress("the rest")
    daemon = _query_daemon(chosen, unknown)
    source = str(given.path) if given.path else "defaults, no configuration file"
    return Facts(
        environment=environment(),
        configuration=Configuration(source, mistakes, chosen.hop, chosen.gate, stream_limits(chosen)),
        model=model,
        audio=Audio(listed.get("problem", ""), inputs, _loopbacks(names)),
        endpoints=(endpoint_use("--bind", chosen.bind), endpoint_use("--control", chosen.control)),
        stale_locks=tuple(map(str, stale())),
        service=_service(),
        service_problem=service_problem(),
        daemon=daemon,
        clock=WallClock(_synchronised(), time.time() - time.monotonic() - offset),
        unknown=tuple(unknown),
    )


def environment() -> Environment:
    """Return the Python installation and the machine."""
    version, machine = platform.mac_ver()[0], platform.machine()
    return Environment(
        python=platform.python_version(),
        executable=sys.executable,
        system=f"macOS {version}, {machine}" if version else f"{platform.system()}, {machine}",
        unsupported=unsupported(version, machine),
        packages=tuple(packages()),
        disks=tuple(disk_space()),
    )


def unsupported(macos: str, machine: str) -> str:
    """Return why mertd is not made for a Mac with this version of macOS and processor; empty if it is, or it is no Mac."""
    if macos and (machine != "arm64" or int(macos.split(".")[0]) < OLDEST_MACOS):
        return f"mertd needs a Mac with Apple silicon and macOS {OLDEST_MACOS} or later: MLX has no build for others"
    return ""


def packages() -> list[Package]:
    """Return the packages that mertd needs on this platform, with their installed versions."""
    other = set().union(*(names for system, names in PLATFORM_PACKAGES.items() if system != sys.platform))
    found = []
    for name, purpose in PURPOSES.items():
        if name in other:
            continue
        try:
            found.append(Package(name, importlib.metadata.version(name), purpose))
        except importlib.metadata.PackageNotFoundError:
            found.append(Package(name, "", purpose))
    return found


def endpoint_use(option: str, endpoint: str) -> EndpointUse:
    """Return whether an endpoint can be bound, and by which mertd it is bound."""
    if by := holder(endpoint):
        return EndpointUse(option, endpoint, by.pid)
    scheme, _, rest = endpoint.partition("://")
    host, _, number = rest.rpartition(":")
    if scheme != "tcp" or number == "*":
        return EndpointUse(option, endpoint)
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("0.0.0.0" if host == "*" else host, int(number)))
        except OSError:
            return EndpointUse(option, endpoint, problem=taken(endpoint, option, None))
    return EndpointUse(option, endpoint)


def disk_space() -> list[DiskSpace]:
    """Return the space in the directories that mertd writes to, or in those in which they would be created.

    Raises `HomeUnknownError`.
    """
    found = []
    for purpose, directory in (
        ("weights", data_folder()),
        ("configuration", config_folder()),
        ("logs", log_folder()),
    ):
        existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
        found.append(DiskSpace(purpose, str(existing), shutil.disk_usage(existing).free))
    return found


def _settings(given: RawSettings) -> tuple[Settings | None, tuple[str, ...]]:
    try:
        return validate(given), ()
    except UsageError as error:
        return None, error.args


def _run_probe(words: Sequence[str], timeout_s: float, unknown: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "mertd.doctor.probe", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"problem": f"no answer within {timeout_s:.0f} s"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last_line = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        unknown.append(f"{' '.join(words[:2])}: the process ended without an answer: {last_line}")
        return {}
    return answer


def _try_model(settings: Settings, unknown: list[str]) -> ModelTrial | None:
    weights = settings.weights or str(default_weights())
    plan = {"weights": weights, "layers": settings.layers, "backend": settings.backend, "window": settings.window_samples}
    plan |= {"precision": settings.precision, "threads": settings.threads}
    if settings.weights is None and not default_weights().is_file():
        return ModelTrial(problem=f"there are no weights at {weights}")
    answer = _run_probe(["model", json.dumps(plan)], MODEL_TIMEOUT_S, unknown)
    return ModelTrial(**answer) if answer else None


def _listen_to_inputs(
    settings: Settings, names: Sequence[str], pool: ThreadPoolExecutor, unknown: list[str]
) -> tuple[InputDevice, ...]:
    configured = [address for address in settings.addresses if address.kind == "device"]
    targets = {address.target + (f"?rate={address.rate}" if address.rate else "") for address in configured}
    chosen = list(dict.fromkeys([*(target for target in targets if target.split("?")[0]), *names[:MAX_DEVICES]]))
    is_configured = {name: name in targets or ("" in targets and name == next(iter(names), None)) for name in chosen}
    answers = pool.map(lambda name: _run_probe(["device", name], DEVICE_TIMEOUT_S, unknown), chosen)
    return tuple(InputDevice(name, is_configured[name], **answer) for name, answer in zip(chosen, answers, strict=True))


def _loopbacks(names: Sequence[str]) -> tuple[str, ...]:
    if sys.platform == "darwin":
        from mertd.capture.sources.loopback import virtual_devices

        return tuple(virtual_devices(list(names)))
    else:  # noqa: RET505 - so that a type checker for one platform sees no unreachable code
        from mertd.capture.sound_server import find_server

        server = find_server()
        return tuple(source.name for source in server.inputs if source.monitored) if server is not None else ()


def _service() -> str:
    state = service_state()
    if state is None:
        return "mertd supports no service manager of this system"
    if not state.installed:
        return "not installed as a service; `mertd service install` does that"
    return "installed as a service and running" if state.running else "installed as a service, not running: mertd service start"


def _query_daemon(settings: Settings, unknown: list[str]) -> RunningDaemon | None:
    if holder(settings.control) is None:
        return None
    try:
        keys = local_keys(settings.control)
        (status,) = ask(settings.control, {"request": "status"}, keys=keys)
        request = {"request": "history", "kind": "event", "stream": "", "last": HISTORY_EVENTS}
        events = ask(settings.control, request, keys=keys)
    except EndpointError as error:
        unknown.append(str(error))
        return None
    except MertdError as error:
        unknown.append(f"{settings.control}: {error}")
        return None
    assert isinstance(status, Status)
    faults = [f"{name}: {facts['last_error']}" for name, facts in status.processes.items() if facts.get("last_error")]
    faults += [f"{name}: {facts['problem']}" for name, facts in status.streams.items() if facts.get("problem")]
    return RunningDaemon(
        pid=int(status.processes["supervisor"]["pid"]),
        phase=status.phase,
        version=status.version,
        faults=tuple(faults),
        skipped=sum(_count(facts, "skipped") for facts in status.streams.values()),
        dropped=status.dropped,
        clock_steps=sum(
            isinstance(event, Event) and event.event == "epoch" and event.detail.get("reason") == "clock" for event in events
        ),
    )


def _count(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name, 0)
    return value if isinstance(value, int) else 0


def _synchronised() -> bool | None:
    if shutil.which("timedatectl") is None:
        return None
    command = ["timedatectl", "show", "--property", "NTPSynchronized", "--value"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=False).stdout.strip()
    except subprocess.TimeoutExpired:
        return None
    return {"yes": True, "no": False}.get(answer)
