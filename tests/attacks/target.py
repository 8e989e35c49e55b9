"""What an attack knows of its victim, what an attack is, and what it needs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attacks.zmtp import Peer
from mertd.stream.curve_keys import ClientKeys
from mertd.stream.keyring import Keyring

ONE_SOURCE = ("synth:chords",)
SIX_SOURCES = tuple(f"synth:chords?name=stream{number}" for number in range(6))
MANY_SOURCES = tuple(f"synth:chords?name=stream{number:02d}" for number in range(24))

INTRUDER = "intruder"
"""Name of the attacker's key, if it has one. It may only listen."""

RETRY_S = 0.002
"""Seconds before an attacker that was cut off comes back."""


@dataclass(frozen=True)
class Target:
    """A daemon to attack. `key_folder`: of the attacker's key; empty without encryption. `until`: monotonic seconds."""

    publish_port: int
    control_port: int
    key_folder: str = ""
    until: float = 0.0

    @property
    def publish(self) -> str:
        return f"tcp://127.0.0.1:{self.publish_port}"

    @property
    def control(self) -> str:
        return f"tcp://127.0.0.1:{self.control_port}"

    @property
    def keys(self) -> ClientKeys | None:
        return Keyring(self.key_folder).client(INTRUDER) if self.key_folder else None

    def going_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until

    def peers(self, port: int, kind: bytes, minor: int = 1, receive_buffer: int | None = None) -> Iterator[Peer]:
        """Yield one connection after the other while there is time; each is reset when the next is asked for."""
        while self.going_on():
            try:
                peer = Peer(port, kind, minor, receive_buffer)
            except OSError:
                time.sleep(RETRY_S)
                continue
            try:
                yield peer
            finally:
                peer.reset()

    def flood(self, port: int, kind: bytes, payload: Callable[[], bytes], minor: int = 1) -> None:
        """Send `payload()` again and again, on a new connection whenever one is cut off or takes nothing more."""
        for peer in self.peers(port, kind, minor):
            with contextlib.suppress(OSError):
                while self.going_on():
                    peer.send(payload())


@dataclass(frozen=True)
class Attack:
    """Each of `runs` attacks until `target.until`, in a process of its own.

    `curve`: the victim encrypts, and the attacker's key is revoked in the middle. `descriptors`: the victim's limit on
    open files. `in_ci`: whether it runs without `--all`.
    """

    name: str
    runs: tuple[Callable[[Target], None], ...]
    sources: tuple[str, ...] = ONE_SOURCE
    hop_s: float = 0.5
    curve: bool = False
    descriptors: int | None = None
    in_ci: bool = True
