"""Whom the memory follows: daemons here, a bus in mertd/memory/bus_following.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, Self

from mertd.memory.amounts import Keep
from mertd.memory.store import MAX_FILE, Store
from mertd.stream.client.inbox import Received
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.curve_keys import ClientKeys


@dataclass(frozen=True)
class Following:
    """Whom to follow, and where to remember. `controls`, `keys`: one for each endpoint, or None."""

    folder: Path
    is_shared: ClassVar[bool] = False
    endpoints: tuple[str, ...]
    controls: tuple[str, ...] | None
    keys: tuple[ClientKeys | None, ...] | None = None
    keep: Keep = Keep()  # noqa: RUF009 - frozen
    max_file: int = MAX_FILE  # bytes after which another file begins

    def subscribe(self, store: Store) -> Source:
        """Connect, to continue behind what is stored. Raises `EndpointError`."""
        kinds = ("embedding", "event", "status")
        return _Daemons(
            self.endpoints, kinds=kinds, control=self.controls, resume=store.cursor(), mix_spaces=True, keys=self.keys
        )


class _Daemons(Subscriber):
    """Daemons have a place that the memory knows from their messages: no other is kept."""

    refetches = False

    def places(self) -> Mapping[str, str]:
        return {}


class Source(Protocol):
    """What messages come from. `refetches`: what a damaged file held comes again to who subscribes anew."""

    refetches: bool

    @property
    def recovered(self) -> int:
        """Messages that came from a history."""

    def receive(self, timeout_s: float | None = None) -> Received | None:
        """Return the next message, or None if none came within `timeout_s`."""

    def places(self) -> Mapping[str, str]:
        """Return what to store with the messages that were received: where to continue."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Followed(Protocol):
    """Whom to follow, and where to remember. `is_shared`: many daemons publish there."""

    @property
    def folder(self) -> Path: ...

    @property
    def endpoints(self) -> tuple[str, ...]: ...

    @property
    def controls(self) -> tuple[str, ...] | None: ...

    @property
    def keys(self) -> tuple[ClientKeys | None, ...] | None: ...

    @property
    def keep(self) -> Keep: ...

    @property
    def max_file(self) -> int: ...

    is_shared: ClassVar[bool]

    def subscribe(self, store: Store) -> Source:
        """Connect, to continue behind what is stored."""
