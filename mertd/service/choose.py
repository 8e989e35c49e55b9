"""Which service manager this machine has, what of a configuration a service cannot have, and how the service is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mertd import __version__
from mertd.capture.source_kinds import KINDS
from mertd.config import Settings, weights_spec
from mertd.errors import UsageError, WeightsError, did_you_mean
from mertd.service.execute import ServiceError, answering
from mertd.service.launchd import Launchd
from mertd.service.manager import Found, Manager, State, Wanted
from mertd.service.program import current
from mertd.service.systemd import PASSED_ON, Systemd

PLATFORMS = ("launchd", "systemd")


def native() -> str:
    """The service manager of this system. Raises `ServiceError` where there is none that we know."""
    if sys.platform == "darwin":
        return "launchd"
    if sys.platform == "linux":
        return "systemd"
    raise ServiceError(f"services are for macOS and Linux, not {sys.platform}; `mertd run` works under any supervisor")


def manager(platform: str | None = None) -> Manager:
    """That one, or the one asked for, of the user who runs this. Raises `UsageError` for one that we do not know."""
    home, program = Path.home(), current()
    match platform or native():
        case "launchd":
            return Launchd(home, os.getuid(), program)
        case "systemd":
            configuration = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
            passed_on = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
            return Systemd(configuration / "systemd" / "user", program, passed_on)
        case other:
            raise UsageError(f"--platform: launchd or systemd, not {other!r}{did_you_mean(other, PLATFORMS)}")


def state() -> State | None:
    """How the service of this machine is; None if it can have none."""
    try:
        return manager().state()
    except ServiceError:
        return None


def wanted(settings: Settings, options: Sequence[str]) -> Wanted:
    """The service that runs `mertd run OPTIONS`, which mean `settings`."""
    ipc = [
        Path(endpoint.removeprefix("ipc://")) for endpoint in (settings.bind, settings.control) if endpoint.startswith("ipc://")
    ]
    return Wanted(
        options=tuple(options),
        control=settings.control,
        version=__version__,
        listens=any(KINDS[address.kind].needs_device for address in settings.addresses),
        folders=tuple(dict.fromkeys(path.parent for path in ipc)),
    )


def find(service: Manager, wanted: Wanted, dry_run: bool = False) -> Found:
    """What is there already. Raises `ServiceError` if another daemon has the endpoint at which this one is to answer."""
    found = service.find(wanted, try_out=not dry_run)
    status = answering(wanted.control)
    if status is None:
        return found
    pid = int(status.processes.get("supervisor", {}).get("pid", 0))
    if pid == found.state.pid:
        return replace(found, version=status.version)
    if dry_run:
        return found
    raise ServiceError(
        f"another mertd, process {pid}, answers at {wanted.control}, where the service is to; `kill {pid}` stops it, or "
        "give the service other endpoints with --bind and --control"
    )


def problems(service: Manager, settings: Settings) -> list[str]:
    """What a service could not find or do, one line each."""
    out = ["a service belongs to who runs this, and that is root; do it without sudo"] if "SUDO_UID" in os.environ else []
    files = [(f"source {a}", Path(a.target)) for a in settings.addresses if a.kind in ("file", "pipe") and not a.is_stdin]
    try:
        weights = weights_spec(settings)
        files += [] if weights.startswith("random:") else [("weights", Path(weights))]
    except WeightsError as error:
        out.append(str(error))
    out += ["source pipe:-: a service has no standard input; name a FIFO" for a in settings.addresses if a.is_stdin]
    out += [
        f"{what}: {path} must be given in full: a service has no current folder"
        for what, path in files
        if not path.is_absolute()
    ]
    ipc = [(e, Path(e.removeprefix("ipc://"))) for e in (settings.bind, settings.control) if e.startswith("ipc://")]
    for what, path in [*files, *ipc, ("mertd itself", current().python)]:
        for folder in service.hidden:
            if path.is_relative_to(folder):
                out.append(
                    f"{what}: the service has a {folder} of its own (PrivateTmp), and would not see {path}; put it elsewhere"
                )
    return out
