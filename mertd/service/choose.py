"""Choose the service manager of this machine, and check whether a configuration can run as a service."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mertd import __version__, user_folders
from mertd.capture.source_kinds import KINDS, Consent
from mertd.config import Settings, weights_spec
from mertd.errors import UsageError, WeightsError, did_you_mean
from mertd.memory.default_folder import chosen_folder
from mertd.service.execute import ServiceError, daemon_status
from mertd.service.launchd import LaunchdManager
from mertd.service.manager import Inspection, ServiceManager, ServiceSpec, ServiceState
from mertd.service.program import current_installation
from mertd.service.systemd import SystemdManager

PLATFORMS = ("launchd", "systemd")

PASSED_ON = {
    "systemd": ("XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    "launchd": ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"),
}
"""Variables of the shell that the service gets, too: they locate configuration, weights and locks.

No service manager reads the shell's start-up files. systemd sets XDG_RUNTIME_DIR itself; on macOS platformdirs obeys them all.
"""


def native_platform() -> str:
    """Return the service manager of this system. Raises `ServiceError` if mertd supports none here."""
    if sys.platform == "darwin":
        return "launchd"
    elif sys.platform == "linux":  # noqa: RET505 - so that a type checker for one platform sees no unreachable code
        return "systemd"
    else:
        raise ServiceError(f"services are for macOS and Linux, not {sys.platform}; `mertd run` works under any supervisor")


def service_manager(platform: str | None = None) -> ServiceManager:
    """Return the manager of this system, or of `platform`, for the current user.

    Raises `UsageError` for an unknown name, `HomeUnknownError` if this user has no home directory.
    """
    home, installation = user_folders.home(), current_installation()
    match platform or native_platform():
        case "launchd":
            return LaunchdManager(home, os.getuid(), installation, _passed_on("launchd"))
        case "systemd":
            configuration = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
            return SystemdManager(configuration / "systemd" / "user", installation, _passed_on("systemd"))
        case other:
            hint = did_you_mean(other, PLATFORMS)
            raise UsageError(f"--platform: unknown service manager {other!r}; choose launchd or systemd{hint}")


def _passed_on(platform: str) -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON[platform] if os.environ.get(name)}


def service_problem() -> str:
    """Return why the installed service cannot start; empty if nothing is known to be wrong with it."""
    try:
        return service_manager().problem()
    except ServiceError:
        return ""


def service_state() -> ServiceState | None:
    """Return the state of the service on this machine; None if mertd supports no service manager here."""
    try:
        return service_manager().state()
    except ServiceError:
        return None


def service_spec(settings: Settings, options: Sequence[str]) -> ServiceSpec:
    """Return the service that runs `mertd run OPTIONS`. `settings`: what these options mean."""
    return ServiceSpec(
        options=tuple(options),
        control=settings.control,
        version=__version__,
        needs_microphone=_needs(settings, Consent.MICROPHONE),
        needs_system_audio=_needs(settings, Consent.SYSTEM_AUDIO),
        writable=tuple(dict.fromkeys([*(path.parent for path in _ipc_paths(settings).values()), *_memory(settings)])),
    )


def _needs(settings: Settings, consent: Consent) -> bool:
    return any(KINDS[address.kind].consent is consent for address in settings.addresses)


def inspect(service: ServiceManager, spec: ServiceSpec, dry_run: bool = False) -> Inspection:
    """Compare what is installed with `spec`. Raises `ServiceError` if another daemon answers at the service's endpoint."""
    found = service.inspect(spec, probe=not dry_run)
    status = daemon_status(spec.control)
    if status is None:
        return found
    pid = int(status.processes.get("supervisor", {}).get("pid", 0))
    if pid == found.state.pid:
        return replace(found, running_version=status.version)
    if dry_run:
        return found
    raise ServiceError(
        f"another mertd, process {pid}, already answers at {spec.control}; stop it with `kill {pid}`, or choose other "
        "endpoints for the service with --bind and --control"
    )


def unmet_requirements(service: ServiceManager, settings: Settings) -> list[str]:
    """Return what the service could not find or do, one line each."""
    problems = []
    if "SUDO_UID" in os.environ:
        problems.append("a service belongs to the user who installs it, here root; run this command without sudo")
    files = [(f"source {a}", Path(a.target)) for a in settings.addresses if KINDS[a.kind].is_path and not a.is_stdin]
    try:
        weights = weights_spec(settings)
        files += [] if weights.startswith("random:") else [("weights", Path(weights))]
    except WeightsError as error:
        problems.append(str(error))
    problems += ["source pipe:-: a service has no standard input; name a FIFO" for a in settings.addresses if a.is_stdin]
    problems += [
        f"{what}: {path} is a relative path, and a service has no current directory; give the full path"
        for what, path in files
        if not path.is_absolute()
    ]
    problems += [
        f"memory: {path} is a relative path, and a service has no current directory; give the full path"
        for path in _memory(settings)
        if not path.is_absolute()
    ]
    for what, path in [*files, *_ipc_paths(settings).items(), ("mertd itself", current_installation().python)]:
        for directory in service.private_directories:
            if path.is_relative_to(directory):
                problems.append(f"{what}: the service has its own {directory} (PrivateTmp) and cannot see {path}; move it")
    return problems


def _memory(settings: Settings) -> list[Path]:
    """Return the directory of the memory, if there is to be one."""
    if not settings.remember:
        return []
    return [chosen_folder(settings.memory)]


def _ipc_paths(settings: Settings) -> dict[str, Path]:
    """Return the paths of the ipc endpoints by endpoint."""
    endpoints = [endpoint for endpoint in (settings.bind, settings.control) if endpoint.startswith("ipc://")]
    return {endpoint: Path(endpoint.removeprefix("ipc://")) for endpoint in endpoints}
