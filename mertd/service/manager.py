"""The interface over launchd and systemd, and the data that it works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mertd.service.plan import Plan


@dataclass(frozen=True)
class ServiceSpec:
    """The service to install.

    options             of `mertd run`
    control             the endpoint at which it will answer
    version             of mertd
    needs_microphone    whether a source captures a device, for which macOS asks the user's consent
    writable            directories that it writes to: those of its ipc endpoints, and of its memory
    needs_system_audio  whether a source captures what programs play, for which macOS asks another consent
    """

    options: tuple[str, ...]
    control: str
    version: str
    needs_microphone: bool
    writable: tuple[Path, ...] = ()
    needs_system_audio: bool = False


@dataclass(frozen=True)
class ServiceState:
    """The service as its manager reports it. `pid`: 0 if it is not running. `detail`: the rest of the report, in one line."""

    manager: str
    definition: Path
    installed: bool = False
    loaded: bool = False
    running: bool = False
    pid: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Inspection:
    """What a plan starts from.

    definition_current  whether the installed definition is the one that would be written
    running_version     version of the daemon that runs as this service; empty if it does not answer
    app_current         launchd: whether the installed app is the one that would be written
    refused_settings    systemd: settings, or prefixes of settings, that this system does not allow a service to have
    """

    state: ServiceState
    definition_current: bool = False
    running_version: str = ""
    app_current: bool = False
    refused_settings: tuple[str, ...] = ()

    def is_up_to_date(self, spec: ServiceSpec) -> bool:
        """Return whether the service runs as specified, in this version."""
        return self.definition_current and self.state.running and self.running_version == spec.version


class ServiceManager(Protocol):
    """A service manager. Only `state`, `inspect`, `options` and `problem` query the system; the other methods return plans."""

    @property
    def name(self) -> str: ...

    @property
    def private_directories(self) -> tuple[Path, ...]:
        """Directories of which the service has its own, so that it does not see the files that others see there."""

    def state(self) -> ServiceState:
        """Query the state of the service."""

    def inspect(self, spec: ServiceSpec, probe: bool) -> Inspection:
        """Compare the installed service with `spec`. `probe`: start short-lived test services to learn what is allowed."""

    def options(self) -> tuple[str, ...] | None:
        """Return the options of `mertd run` in the installed definition; None if there is none, or it is not mertd's."""

    def problem(self) -> str:
        """Return why what is installed cannot start; empty if nothing is known to be wrong with it."""

    def install(self, spec: ServiceSpec, found: Inspection) -> Plan: ...

    def uninstall(self, found: Inspection) -> Plan: ...

    def start(self, spec: ServiceSpec, found: Inspection) -> Plan: ...

    def stop(self, found: Inspection) -> Plan: ...

    def restart(self, spec: ServiceSpec, found: Inspection) -> Plan: ...

    def reload(self) -> Plan: ...

    def logs(self, count: int, follow: bool) -> Plan: ...
