"""The parts of a daemon, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mertd.daemon.change_reports import ChangeReports
from mertd.daemon.companion import Companion
from mertd.daemon.embed_worker import EmbedWorker
from mertd.daemon.instance import Instance
from mertd.daemon.reload import Reloader
from mertd.daemon.status import StatusReporter
from mertd.daemon.streams import Streams
from mertd.ring import Ring
from mertd.stream.server.authenticator import Authenticator
from mertd.stream.server.connections import Connections
from mertd.stream.server.control_server import ControlServer
from mertd.stream.server.publisher import Publisher


@dataclass(frozen=True)
class Sockets:
    """What clients can reach, and the lock that says so."""

    connections: Connections  # watches what clients of both sockets send and leave unread
    authenticator: Authenticator | None  # decides which keys are let in; None without CURVE
    publisher: Publisher
    control: ControlServer
    instance: Instance


@dataclass(frozen=True)
class Parts:
    """A daemon whose sockets are bound and whose processes are not yet started."""

    sockets: Sockets
    rings: Mapping[str, Ring]
    worker: EmbedWorker
    streams: Streams
    reporter: StatusReporter
    reloader: Reloader
    changes: ChangeReports
    companions: Sequence[Companion] = ()
