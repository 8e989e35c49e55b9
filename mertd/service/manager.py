"""What launchd and systemd have in common: the words in which services are asked for, found, and planned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mertd.service.plan import Plan


@dataclass(frozen=True)
class Wanted:
    """The service to install.

    options  of `mertd run`
    control  where it will answer
    version  of mertd
    listens  whether it hears a device, and so needs consent where that exists
    folders  which it writes to: those of its ipc endpoints
    """

    options: tuple[str, ...]
    control: str
    version: str
    listens: bool
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class State:
    """How the service is, by its manager. `pid`: 0 if it does not run; `detail`: what else the manager says, in a line."""

    manager: str
    definition: Path
    installed: bool = False
    loaded: bool = False
    running: bool = False
    pid: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Found:
    """What is there before a plan is made.

    same      whether the service is described as it is to be
    version   of the daemon that runs as this service; empty if it does not answer
    same_app  launchd: whether the app is as it is to be
    refused   systemd: settings, or how they begin, that this system does not let a service have
    """

    state: State
    same: bool = False
    version: str = ""
    same_app: bool = False
    refused: tuple[str, ...] = ()

    def is_all_of(self, wanted: Wanted) -> bool:
        """Whether nothing is left to do."""
        return self.same and self.state.running and self.version == wanted.version


class Manager(Protocol):
    """A service manager. But for `state`, `find` and `options`, its methods look at nothing and change nothing."""

    @property
    def name(self) -> str: ...

    @property
    def hidden(self) -> tuple[Path, ...]:
        """Folders that the service does not see as others do."""

    def state(self) -> State:
        """Ask the system."""

    def find(self, wanted: Wanted, try_out: bool) -> Found:
        """Ask the system, and compare with what is wanted. `try_out`: also start what does nothing, to see what is allowed."""

    def options(self) -> tuple[str, ...] | None:
        """Of `mertd run`, in the service that is installed; None if none is, or none of ours."""

    def install(self, wanted: Wanted, found: Found) -> Plan: ...

    def uninstall(self, found: Found) -> Plan: ...

    def start(self, wanted: Wanted, found: Found) -> Plan: ...

    def stop(self, found: Found) -> Plan: ...

    def restart(self, wanted: Wanted, found: Found) -> Plan: ...

    def reload(self) -> Plan: ...

    def logs(self, count: int, follow: bool) -> Plan: ...
