"""The sockets that clients reach, bound, with all that limits what clients take: of a daemon, and of a replay."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import zmq
import zmq.asyncio

from mertd.daemon.instance import Instance, explain
from mertd.daemon.parts import Sockets
from mertd.daemon.shutdown import Shutdown
from mertd.descriptors import raise_limit
from mertd.stream.endpoint import InUseError
from mertd.stream.keyring import Keyring
from mertd.stream.server.authenticator import Authenticator
from mertd.stream.server.connections import Connections
from mertd.stream.server.control_server import ControlServer, Handler
from mertd.stream.server.publisher import Publisher


@dataclass(frozen=True)
class Endpoints:
    """Where to publish and where to answer. `curve`: encrypt, with the `keys` of this directory (None: the user's)."""

    bind: str
    control: str
    curve: bool = False
    keys: str | None = None


def bind_sockets(endpoints: Endpoints, context: zmq.asyncio.Context, handler: Handler, undo: ExitStack) -> Sockets:
    """Bind the sockets. `handler`: answers requests, once they are served. `undo`: is given what closes them.

    Raises `EndpointError` if an endpoint is in use.
    """
    raise_limit()
    synchronous: zmq.Context[zmq.Socket[bytes]] = zmq.Context(context)  # the same one: keys are checked once per context
    authenticator = Authenticator(context, Keyring(endpoints.keys)) if endpoints.curve else None
    if authenticator is not None:
        undo.callback(authenticator.close)
    connections = Connections(synchronous, authenticator.handshake_failed if authenticator is not None else lambda *_: None)
    undo.callback(connections.close)
    try:
        publisher = Publisher(synchronous, endpoints.bind, authenticator, connections)
    except InUseError as error:
        raise explain(error, "--bind") from error
    undo.callback(publisher.close)
    try:
        control = ControlServer(synchronous, endpoints.control, handler, authenticator, connections)
    except InUseError as error:
        raise explain(error, "--control") from error
    undo.callback(control.close)
    instance = Instance(publisher.endpoint, control.endpoint, authenticator.folder if authenticator is not None else "")
    undo.callback(instance.close)
    connections.start()
    return Sockets(connections, authenticator, publisher, control, instance)


def add_closing(shutdown: Shutdown, sockets: Sockets, linger_s: float) -> None:
    """Add the steps that close all of this. `linger_s`: how long the last messages may take to leave."""
    shutdown.add("close the control socket", sockets.control.close)
    shutdown.add("close the publisher", partial(sockets.publisher.close, linger_s))
    shutdown.add("close the connections", sockets.connections.close)
    shutdown.add("release the lock", sockets.instance.close)
    if sockets.authenticator is not None:
        shutdown.add("close the authenticator", sockets.authenticator.close)
